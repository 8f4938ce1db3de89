//! Rates from two readings of a counter.

use std::time::Duration;

/// Increase per second between two readings, `elapsed` apart. Zero when time did not advance or the counter went back
/// (it was reset), for then no rate is known.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "a rate is rounded anyway; 2^53 events between two readings do not happen"
)]
pub fn per_second(elapsed: Duration, before: u64, now: u64) -> f64 {
    match now.checked_sub(before) {
        Some(events) if !elapsed.is_zero() => events as f64 / elapsed.as_secs_f64(),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_increase_over_the_time() {
        assert!((per_second(Duration::from_millis(500), 100, 150) - 100.0).abs() < 1e-9);
    }

    #[test]
    fn no_rate_is_known_when_the_clock_stood_or_the_counter_went_back() {
        assert!(per_second(Duration::from_millis(500), 150, 100).abs() < f64::EPSILON);
        assert!(per_second(Duration::ZERO, 1, 2).abs() < f64::EPSILON);
    }
}
