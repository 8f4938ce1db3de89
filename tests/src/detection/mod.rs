//! The flood detector, measured: floods beside real clients, and loads that are none, in namespaces of their own.
#![forbid(unsafe_code)]

mod attack;
mod judge;
pub mod lab;
pub mod legit;
mod loads;
pub mod many;
pub mod record;
pub mod suite;
pub mod table;
pub mod watch;

pub use attack::{ATTACKS, Attack, Expect, Run};
pub use judge::{Bounds, Outcome};
