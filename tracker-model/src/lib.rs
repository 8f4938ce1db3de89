//! tracker's pure model: plain values in, plain values out. No kernel, no clock, no runtime; time is an argument.
#![forbid(unsafe_code)]

pub mod api;
pub mod detect;
pub mod distinct;
pub mod errno;
pub mod ledger;
pub mod ports;
pub mod rate;
pub mod recent;
#[cfg(any(test, feature = "sample"))]
pub mod sample;
pub mod series;
pub mod snapshot;
mod text;
pub mod view;

pub use snapshot::Snapshot;
pub use text::grouped;
