//! Benchmarks on the real kernel, beside their budgets.
#![forbid(unsafe_code)]

pub mod census;
pub mod ingress;
pub mod report;
pub mod socket_events;
