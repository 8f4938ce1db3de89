//! Alerts of all kinds: where they are kept, and how they begin, change and end. What an alert says of its kind belongs
//! to its detector; when and to whom it is shown belongs to the views.

mod lifecycle;
mod store;

pub use lifecycle::{ActiveAlerts, ObservedAt};
pub use store::{AlertStore, MAX_OF_KIND, Report};
