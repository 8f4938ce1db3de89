//! Benchmarks on the real kernel, beside their budgets: one file a part. Whether a count is right belongs to the lab.
#![forbid(unsafe_code)]

pub mod census;
pub mod ingress;
pub mod report;
pub mod socket_events;
