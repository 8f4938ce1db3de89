//! Rates from two readings of a counter.

use std::time::Duration;

/// Increase per second between two readings, `elapsed` apart. Zero when time did not advance or the counter went back
/// (it was reset), for then no rate is known.
#[must_use]
pub fn per_second(elapsed: Duration, before: u64, now: u64) -> f64 {
    match now.checked_sub(before) {
        Some(events) if !elapsed.is_zero() => float(events) / elapsed.as_secs_f64(),
        _ => 0.0,
    }
}

/// A count as a number to compute with.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "what is computed is rounded anyway; counts of 2^53 do not happen")]
pub const fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_increase_over_the_time_if_both_are_known() {
        let half = Duration::from_millis(500);
        for (elapsed, before, now, rate) in
            [(half, 100, 150, 100.0), (half, 150, 100, 0.0), (Duration::ZERO, 1, 2, 0.0)]
        {
            assert!((per_second(elapsed, before, now) - rate).abs() < 1e-9, "{before} to {now} in {elapsed:?}");
        }
    }
}
