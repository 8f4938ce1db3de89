//! Which tuples are counted one by one when there are more of them than places.
//!
//! A pass counts sockets by a hash of their tuple in 65,536 buckets. A bucket counts at least what each of its tuples
//! does: when those with the highest counts are admitted, no tuple that is left out holds more than the highest of the
//! others.

use tracker_common::{
    limits::PORT_TUPLES,
    ports::{BUCKETS, Bits},
};

/// Tuples that the table is filled with at most, so that each finds a place.
const FULL: u64 = PORT_TUPLES as u64 / 2;

/// All of them.
pub fn all() -> Bits {
    Bits { words: [u64::MAX; BUCKETS / 64] }
}

/// Tuples whose bucket is not admitted: how many there are at least, and the most sockets that one of them can have.
pub fn left_out(admitted: &Bits, counts: &[u16]) -> (u64, u16) {
    (0..=u16::MAX)
        .zip(counts)
        .filter(|(bucket, count)| **count > 0 && !admitted.contains(*bucket))
        .fold((0, 0), |(tuples, most), (_, count)| (tuples + 1, most.max(*count)))
}

/// The buckets whose tuples fit into the table, whatever they are. All when the sockets are so few that each may have a
/// tuple of its own.
pub fn admit(counts: &[u16]) -> Bits {
    let sockets: u64 = counts.iter().map(|count| u64::from(*count)).sum();
    if sockets <= FULL {
        return all();
    }
    let least = least(counts);
    let mut admitted = Bits::default();
    for (bucket, count) in (0..=u16::MAX).zip(counts) {
        if *count >= least {
            admitted.insert(bucket);
        }
    }
    admitted
}

/// The least count of a bucket that is admitted. How many tuples a bucket has is not known; those in it that hold
/// little are as many as in any other bucket: about the mean.
fn least(counts: &[u16]) -> u16 {
    let mut sorted = counts.to_vec();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    let light: u64 = sorted.iter().skip(BUCKETS / 4).map(|count| u64::from(*count)).sum();
    let of_each = 1 + light.div_ceil((BUCKETS - BUCKETS / 4) as u64);
    let buckets = usize::try_from(FULL / of_each).unwrap_or(BUCKETS).clamp(64, BUCKETS - 1);
    // One more than what the first that is left out has: not all that have as many as it would fit.
    sorted[buckets].saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_sockets_are_all_admitted() {
        let mut counts = vec![0; BUCKETS];
        counts[7] = 8000;
        assert_eq!(admit(&counts), all());
        assert_eq!(left_out(&all(), &counts), (0, 0));
    }

    #[test]
    fn the_largest_are_admitted_and_what_is_left_out_is_bounded() {
        let mut counts: Vec<u16> = (0..BUCKETS).map(|bucket| 1 + u16::from(bucket % 3 == 0)).collect();
        for bucket in (100..32_100).step_by(1000) {
            counts[bucket] = 500;
        }
        let admitted = admit(&counts);
        assert!((100..32_100).step_by(1000).all(|bucket| admitted.contains(bucket)));
        assert_eq!(left_out(&admitted, &counts), (65_536 - 32, 2));
        let number: u32 = admitted.words.iter().map(|word| word.count_ones()).sum();
        assert_eq!(number, 32);
    }
}
