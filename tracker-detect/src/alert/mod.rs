//! Alerts of all kinds: where they are kept, and how they begin, change and end.
//!
//! What an alert says of its kind belongs to the detector; when it is shown and to whom belongs to the views.

mod lifecycle;
mod store;

pub use lifecycle::{ActiveAlerts, ObservedAt};
pub use store::{AlertStore, MOST, Report};
