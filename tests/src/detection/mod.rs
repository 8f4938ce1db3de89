//! The flood detector, measured: floods beside real clients, and loads that are none, in namespaces of their own.
#![forbid(unsafe_code)]

mod attack;
pub mod benign;
mod evaluate;
pub mod lab;
mod loads;
pub mod many;
pub mod record;
pub mod suite;
pub mod table;
pub mod watch;

pub use attack::{ATTACKS, Attack, Expect, Run};
pub use evaluate::{Bounds, Outcome};
