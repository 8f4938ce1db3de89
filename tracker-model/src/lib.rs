//! tracker's pure model: plain values in, plain values out. No kernel, no clock, no runtime; time is an argument.
#![forbid(unsafe_code)]

pub mod api;
pub mod detect;
pub mod distinct;
pub mod errno;
pub mod rate;
pub mod recent;
#[cfg(any(test, feature = "sample"))]
pub mod sample;
pub mod series;
pub mod snapshot;
pub mod view;

pub use snapshot::Snapshot;

/// A count as people read it, its thousands apart: 12,345.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
