//! What the detector is set to. Only [`Sensitivity`] may be tuned; each figure stands here with its reason.

use std::time::Duration;

/// How readily the detector calls a flood: the one thing an operator may tune.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sensitivity {
    /// Later, and only for large floods.
    Low,
    /// As tested.
    #[default]
    Medium,
    /// Sooner, and for small ones too.
    High,
}

/// The time that a legitimate handshake is allowed when nothing is known of the listener's own: beyond most
/// round trip times of the Internet, below the first repeat of a SYN after 1 s (RFC 6298 2.1).
pub const UNKNOWN_LAG: Duration = Duration::from_millis(400);
/// The least when the listener's own handshakes are known to be fast: the sooner a SYN counts, the fewer of a flood are
/// hidden behind clients that are answered early. A stall must last for three observations more to look like a flood.
pub const LEAST_LAG: Duration = Duration::from_millis(250);
/// The most, so that a flood is called in time on a slow network too.
pub const MOST_LAG: Duration = Duration::from_secs(3);
/// Time constant of a subject's usual rates, seconds: what happened this long ago weighs a third (1/e) of what happens
/// now.
pub const USUAL: f64 = 60.0;
/// Time constant of its usual unanswered rate, seconds: slow, so that a flood that rises by 5 % a second stays far
/// ahead.
pub const BACKGROUND: f64 = 300.0;
/// Unanswered SYNs enter the usual rate in blocks of this many seconds, one block late: what a flood begins with never
/// does.
pub const BLOCK: f64 = 15.0;
/// Addresses kept of a sample: 95 % of the shares are then within 3 % of the truth.
pub const ADDRESSES: usize = 1_024;
/// Rates of an alert are over this time.
pub const WINDOW: Duration = Duration::from_secs(2);
/// A flood is over after this long without: a pause of a second does not end it, and the end is called within 10 s even
/// at [`MOST_LAG`].
pub const QUIET: Duration = Duration::from_secs(3);
/// A flood that begins again within this time is the same incident.
pub const AGAIN: Duration = Duration::from_mins(1);
/// Two observations further apart than this say nothing of the time between them.
pub const GAP: Duration = Duration::from_secs(5);
/// Queues that are not older say whether the accept queue is what turns SYNs away.
pub const FRESH: Duration = Duration::from_millis(1_500);
/// An alarm waits no longer for fresh queues or sources.
pub const FRESH_TIMEOUT: Duration = Duration::from_millis(500);
/// A class is revised only after agreement for this long.
pub const AGREEMENT: Duration = Duration::from_secs(1);
/// Fewer completions per second than this count as this many: a share of next to nothing means nothing.
pub const LEAST_NORM: f64 = 100.0;
/// The statistic is kept below this many thresholds, so that suspicion ends soon after its cause.
pub const MOST_STATISTIC: f64 = 10.0;
/// Suspicion begins at this part of the threshold.
pub const SUSPICION: f64 = 0.25;

/// Thresholds.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Threshold of the statistic: seconds of the subject's usual completions that went unanswered.
    pub alarm: f64,
    /// Unanswered SYNs per second that are harmless: strays of the Internet, half-open health checks.
    pub floor: f64,
    /// Unanswered SYNs for each completion that are harmless: loss and repeats.
    pub share: f64,
}

impl Settings {
    /// For listeners.
    pub const fn listener(sensitivity: Sensitivity) -> Self {
        match sensitivity {
            Sensitivity::Low => Self { alarm: 2.0, floor: 120.0, share: 0.5 },
            Sensitivity::Medium => Self { alarm: 0.5, floor: 30.0, share: 0.2 },
            Sensitivity::High => Self { alarm: 0.1, floor: 8.0, share: 0.1 },
        }
    }

    /// For ports without a listener: no SYN is answered there, so that only the rate counts; a client that tries again
    /// and again makes some ten a second.
    pub const fn port(sensitivity: Sensitivity) -> Self {
        let Self { alarm, floor, share } = Self::listener(sensitivity);
        Self { alarm, floor: floor * 3.3, share }
    }
}

/// The lag of a listener whose handshakes took this long at most in 95 of 100 cases, microseconds. That figure is the
/// edge of a histogram's bucket, up to twice the time itself: enough of an allowance, and more would hide what is
/// unanswered while clients are answered early, and bring it to light all at once when they stop.
pub fn lag(handshake_p95_us: Option<u64>) -> Duration {
    handshake_p95_us.map_or(UNKNOWN_LAG, |p95| Duration::from_micros(p95).clamp(LEAST_LAG, MOST_LAG))
}
