//! tracker's pure model: plain values in, plain values out. No kernel, no clock, no runtime; time is an argument.
#![forbid(unsafe_code)]

pub mod api;
pub mod rate;
pub mod snapshot;

pub use snapshot::Snapshot;
