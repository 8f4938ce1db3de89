//! Views: what the API answers, made of a [`tracker_model::Snapshot`] alone.

mod alerts;
mod health;
mod listeners;
mod states;
mod status;

pub use alerts::alerts;
pub use listeners::listeners;
pub use states::{connects_attempted, connects_established, states};
pub use status::{Daemon, status};
