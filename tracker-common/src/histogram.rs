//! Histograms with power-of-two edges, filled in the kernel and read by the daemon.

use crate::layout::abi;

/// Buckets of a histogram; the last one has no upper edge.
pub const BUCKETS: usize = 25;

/// First edge of connect and handshake times: 2^4 = 16 µs; the last is 2^27 µs = 134 s, above the 127 s that
/// the kernel's six SYN repeats take (`tcp_syn_retries`).
pub const HANDSHAKE_SHIFT: u32 = 4;
/// First edge of lifetimes: 2^10 µs, about a millisecond; the last is 2^33 µs, about 2.4 hours.
pub const LIFETIME_SHIFT: u32 = 10;

abi! {
    /// Counts by duration, and their sum in microseconds.
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    pub struct Histogram: Sum {
        /// Durations at most [`edge_us`] of the same index and more than the edge before.
        pub buckets: [u64; BUCKETS],
        /// Sum of all durations, microseconds.
        pub sum_us: u64,
    }
}

impl Histogram {
    /// Counts a duration of `us` microseconds; `shift` as for [`bucket`].
    #[inline(always)]
    pub fn count(&mut self, us: u64, shift: u32) {
        // Always in bounds; checked so that the kernel's verifier sees it too.
        if let Some(count) = self.buckets.get_mut(bucket(us, shift)) {
            *count += 1;
        }
        self.sum_us += us;
    }
}

/// Bucket of a duration of `us` microseconds in a histogram whose first edge is `2^shift` µs.
#[inline(always)]
#[must_use]
pub fn bucket(us: u64, shift: u32) -> usize {
    if us <= 1 << shift {
        return 0;
    }
    // Edges are inclusive (Prometheus `le`), so this is the logarithm rounded up.
    let index = (64 - (us - 1).leading_zeros() - shift) as usize;
    if index < BUCKETS { index } else { BUCKETS - 1 }
}

/// Upper edge of a bucket in microseconds, inclusive; none for the last.
#[must_use]
pub fn edge_us(index: usize, shift: u32) -> Option<u64> {
    (index + 1 < BUCKETS).then(|| 1 << (shift as usize + index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_at_most_its_edge_and_more_than_the_one_before() {
        for shift in [HANDSHAKE_SHIFT, LIFETIME_SHIFT] {
            for us in (0..40).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1]) {
                let index = bucket(us, shift);
                assert!(edge_us(index, shift).is_none_or(|edge| us <= edge), "{us} in {index}");
                assert!(index == 0 || us > edge_us(index - 1, shift).unwrap(), "{us} in {index}");
            }
        }
    }
}
