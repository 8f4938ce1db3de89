//! Alerts: where they are kept, and the numbers that they have.

pub mod store;
