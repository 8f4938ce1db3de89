//! When the frames of a flood, or the connections of load clients, are due: each at a moment of its own, counted from
//! the first.

use std::time::Duration;

/// How the times of frames follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// This many a second, evenly spaced.
    Steady(f64),
    /// As fast as one core sends.
    Fastest,
    /// More each second.
    Rising {
        /// A second, at the beginning.
        start: f64,
        /// Factor by which it rises each second, such as 1.05.
        growth: f64,
    },
    /// On and off.
    Pulse {
        /// A second, while it is on.
        rate: f64,
        /// How long it is on.
        on: Duration,
        /// From one beginning to the next.
        period: Duration,
    },
}

/// No two batches are closer than this: what is due meanwhile goes together.
const QUANTUM: Duration = Duration::from_millis(1);

impl Pace {
    /// When the frame of this number, from 0, is due.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "numbers far below 2^52")]
    pub fn when(&self, number: u64) -> Duration {
        let number = number as f64;
        let seconds = match *self {
            Self::Steady(rate) => number / rate,
            Self::Fastest => 0.0,
            Self::Rising { start, growth } => (number * growth.ln() / start).ln_1p() / growth.ln(),
            Self::Pulse { rate, on, period } => {
                let each = (rate * on.as_secs_f64()).round();
                (number / each).floor() * period.as_secs_f64() + number % each / rate
            }
        };
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// How many are due now that have not been sent, at most `limit`.
    #[must_use]
    pub fn due(&self, sent: u64, now: Duration, limit: usize) -> usize {
        (sent..).take(limit).take_while(|&number| self.when(number) <= now).count()
    }

    /// How long to wait when nothing is due.
    #[must_use]
    pub fn pause(&self, sent: u64, now: Duration) -> Duration {
        self.when(sent).saturating_sub(now).max(QUANTUM)
    }

    /// When a rising rate passes this one, from the first frame on; others begin with theirs.
    #[must_use]
    pub fn passes(&self, rate: f64) -> Duration {
        match *self {
            Self::Rising { start, growth } if rate > start => {
                Duration::from_secs_f64((rate / start).ln() / growth.ln())
            }
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_frame_has_its_time() {
        let steady = Pace::Steady(500.0);
        assert_eq!(steady.when(0), Duration::ZERO);
        assert_eq!(steady.when(500), Duration::from_secs(1));
        assert_eq!(steady.due(10, Duration::from_millis(30), 64), 6, "those of 20, 22 ... 30 ms");
        assert_eq!(Pace::Fastest.due(10, Duration::ZERO, 64), 64);
    }

    #[test]
    fn a_pulse_pauses() {
        let pulse = Pace::Pulse { rate: 100.0, on: Duration::from_secs(3), period: Duration::from_secs(20) };
        assert_eq!(pulse.when(299), Duration::from_secs_f64(2.99));
        assert_eq!(pulse.when(300), Duration::from_secs(20));
    }

    #[test]
    fn a_rise_is_of_five_percent_a_second() {
        let rising = Pace::Rising { start: 20.0, growth: 1.05 };
        let passes = rising.passes(100.0).as_secs_f64();
        assert!((passes - 32.99).abs() < 0.01, "{passes}");
        let sent = |at: f64| (20.0 / 1.05_f64.ln()) * (1.05_f64.powf(at) - 1.0);
        let when = rising.when(1_000).as_secs_f64();
        assert!((sent(when) - 1_000.0).abs() < 0.01, "{when}");
    }
}
