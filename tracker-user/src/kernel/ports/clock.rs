//! The kernel's jiffies: how many there are in a second is known from two readings.

use tracker_common::ports::PortTotals;

/// What `CONFIG_HZ` can be on the architectures that Linux runs on.
const RATES: [u32; 10] = [24, 32, 64, 100, 128, 250, 256, 300, 1000, 1024];
/// Nanoseconds between two readings that distinguish these rates.
const APART: u64 = 900_000_000;

/// Learns the rate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Jiffies {
    first: Option<(u64, u64)>,
    per_second: Option<u32>,
}

impl Jiffies {
    /// Adds the reading of a pass.
    pub fn learn(&mut self, totals: &PortTotals) {
        let now = (totals.monotonic, totals.jiffies);
        let first = *self.first.get_or_insert(now);
        let elapsed = now.0.saturating_sub(first.0);
        if self.per_second.is_some() || elapsed < APART {
            return;
        }
        let rate = u128::from(now.1.wrapping_sub(first.1)) * 1_000_000_000 / u128::from(elapsed);
        self.per_second = RATES.into_iter().min_by_key(|known| u128::from(*known).abs_diff(rate));
    }

    /// Whether their length is known.
    pub fn is_known(&self) -> bool {
        self.per_second.is_some()
    }

    /// Jiffies in this many seconds; 0 until their length is known.
    pub fn in_seconds(&self, seconds: u32) -> u32 {
        self.per_second.map_or(0, |per_second| per_second * seconds)
    }

    /// Length of this many jiffies, once known.
    pub fn duration(&self, jiffies: u32) -> Option<std::time::Duration> {
        Some(std::time::Duration::from_secs(jiffies.into()) / self.per_second?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_nearest_that_there_is() {
        let at = |monotonic, jiffies| PortTotals { monotonic, jiffies, ..PortTotals::default() };
        for (ticks, expected) in [(101, 100), (252, 250), (301, 300), (998, 1000)] {
            let mut jiffies = Jiffies::default();
            jiffies.learn(&at(5_000_000_000, u64::MAX - 50));
            assert_eq!(jiffies.in_seconds(60), 0);
            jiffies.learn(&at(6_004_000_000, (u64::MAX - 50).wrapping_add(ticks)));
            assert_eq!(jiffies.in_seconds(1), expected);
            assert_eq!(jiffies.duration(expected * 3), Some(std::time::Duration::from_secs(3)));
        }
    }
}
