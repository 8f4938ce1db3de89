//! Rates from two readings of a counter.

use jiff::Timestamp;

/// Increase per second between two readings. Zero when time did not advance or the counter went back
/// (it was reset), for then no rate is known.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "a rate is rounded anyway; 2^53 events between two readings do not happen"
)]
pub fn per_second(before: (Timestamp, u64), now: (Timestamp, u64)) -> f64 {
    let seconds = now.0.duration_since(before.0).as_secs_f64();
    match now.1.checked_sub(before.1) {
        Some(events) if seconds > 0.0 => events as f64 / seconds,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millisecond: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + millisecond).unwrap()
    }

    #[test]
    fn a_rate_is_the_increase_over_the_time() {
        assert!((per_second((at(0), 100), (at(500), 150)) - 100.0).abs() < 1e-9);
    }

    #[test]
    fn no_rate_is_known_when_the_clock_or_the_counter_went_back() {
        assert!(per_second((at(500), 100), (at(0), 150)).abs() < f64::EPSILON);
        assert!(per_second((at(0), 150), (at(500), 100)).abs() < f64::EPSILON);
        assert!(per_second((at(0), 1), (at(0), 2)).abs() < f64::EPSILON);
    }
}
