//! Estimators: rates, fading means, distinct counts. Plain values in and out; none of them knows what it counts.
//! What a figure means belongs to the detectors.

pub mod decay;
pub mod hll;
pub mod rate;
