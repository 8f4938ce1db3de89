//! The tracker daemon and its command line.

pub mod kernel;
