//! How many distinct sources there were, from the registers that the kernel programs keep.

use tracker_common::sources::{REGISTER_BITS, REGISTERS, Registers};

/// Relative standard error of an estimate: 1.04 / sqrt(registers) (Flajolet, Fusy, Gandouet and Meunier, 2007).
pub const ERROR: f64 = 0.011_49;

/// Highest rank that a register can hold.
const HIGHEST: usize = 64 - REGISTER_BITS as usize + 1;

/// Adds what `from` has counted to `into`.
pub fn merge(into: &mut Registers, from: &Registers) {
    for (mine, theirs) in into.ranks.iter_mut().zip(&from.ranks) {
        *mine = (*mine).max(*theirs);
    }
}

/// The number of distinct sources that set these registers, by the improved estimator of Ertl ("New cardinality
/// estimation algorithms for `HyperLogLog` sketches", 2017, algorithm 6): unbiased from none to billions, without the
/// thresholds and tables of earlier ones.
#[must_use]
pub fn estimate(registers: &Registers) -> f64 {
    let mut counts = [0u32; HIGHEST + 1];
    for rank in registers.ranks {
        counts[usize::from(rank).min(HIGHEST)] += 1;
    }
    #[expect(clippy::cast_precision_loss, reason = "a power of two")]
    let all = REGISTERS as f64;
    let mut sum = all * tau(1.0 - f64::from(counts[HIGHEST]) / all);
    for count in counts[1..HIGHEST].iter().rev() {
        sum = 0.5 * (sum + f64::from(*count));
    }
    sum += all * sigma(f64::from(counts[0]) / all);
    all * all / (2.0 * core::f64::consts::LN_2 * sum)
}

/// x + sum of x^(2^k) * 2^(k-1) for k from 1 on: what the registers that are still empty add.
fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut factor, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * factor;
        factor += factor;
        if sum.total_cmp(&before).is_eq() {
            return sum;
        }
    }
}

/// What the registers that are full add.
fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut factor, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = sum;
        factor *= 0.5;
        sum -= (1.0 - x).powi(2) * factor;
        if sum.total_cmp(&before).is_eq() {
            return sum / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use tracker_common::hash;

    use super::*;

    fn of(sources: impl Iterator<Item = u32>, key: u64) -> Registers {
        let mut registers = Registers::default();
        for source in sources {
            registers.insert(hash::source(key, hash::mapped(source.to_be())));
        }
        registers
    }

    /// The errors of many keys are spread as the theory says, whatever the addresses have in common: their mean square
    /// is that of [`ERROR`], or less for few.
    #[test]
    fn the_error_is_what_is_stated() {
        let patterns: [fn(u32) -> u32; 4] =
            [|i| i, |i| i << 8, |i| i.wrapping_mul(0x9e37_79b9), |i| 0xc612_0000 | (i & 0xffff)];
        for (pattern, of_index) in patterns.into_iter().enumerate() {
            for count in [1_u32, 10, 250, 2_500, 10_000, 60_000] {
                let keys = 60;
                let squares = (1..=keys).map(|key: u64| {
                    let key = key.wrapping_mul(0x2545_f491_4f6c_dd1d);
                    (estimate(&of((0..count).map(of_index), key)) / f64::from(count) - 1.0).powi(2)
                });
                let error = (squares.sum::<f64>() / 60.0).sqrt();
                assert!(error < ERROR * 1.35, "pattern {pattern}, {count}: {error}");
            }
        }
    }

    #[test]
    fn none_are_none_and_what_is_seen_twice_counts_once() {
        assert!(estimate(&Registers::default()).abs() < f64::EPSILON);
        let mut one = of(0..5_000, 1);
        let before = estimate(&one);
        merge(&mut one, &of(0..5_000, 1));
        assert!((estimate(&one) - before).abs() < f64::EPSILON);
        merge(&mut one, &of(5_000..10_000, 1));
        assert!((estimate(&one) / 10_000.0 - 1.0).abs() < 0.05);
    }
}
