//! What tracker's figures mean: detectors and their alerts, the model of local ports, and the rules of `tracker
//! explain`. Plain values in, plain values out. No kernel, no clock, no runtime; time is an argument.
#![forbid(unsafe_code)]

mod advice;
pub mod alert;
mod call_failures;
pub mod detector;
pub mod estimators;
pub mod explain;
mod hook_detached;
pub mod leaks;
mod map_pressure;
mod port_exhaustion;
pub mod ports;
pub mod registry;
pub mod syn;
pub mod syn_flood;
