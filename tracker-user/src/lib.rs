//! The tracker daemon and its command line: how it all runs. `command` puts the parts together; only `kernel` knows
//! aya. What the figures are belongs to tracker-model, what they mean to tracker-detect.
#![deny(unsafe_code)]

pub mod api;
pub mod cli;
pub mod client;
pub mod command;
pub mod config;
pub mod daemon;
pub mod descriptors;
#[allow(unsafe_code, reason = "the border to the kernel: each place proves why it is sound")]
pub mod kernel;
pub mod logging;
pub mod metrics;
pub mod serve;
pub mod view;
pub mod web;
