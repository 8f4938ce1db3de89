//! The flood detector, measured: floods beside real clients, and benign loads, in namespaces of their own.
//! It measures and makes the table of docs/detection.md; short cases that pass or fail belong to the lab (`tests/lab`).
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
