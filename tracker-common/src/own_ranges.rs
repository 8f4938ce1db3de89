//! Ranges of ports that sockets set for themselves (`IP_LOCAL_PORT_RANGE`).

#![allow(
    clippy::cast_possible_truncation,
    reason = "words are cut to the bits that are wanted; a checked conversion could panic, which no kernel program may"
)]

use crate::{hash::AddrWords, layout::abi, ports::TupleCounts};

/// Ranges of one tuple at most.
pub const RANGES_OF_TUPLE: u32 = 8;

/// The indexes of ranges in a word: a byte for each, one more than the index, and 0 behind the last.
pub fn slots(word: u64) -> impl Iterator<Item = u32> {
    let bytes = (0..RANGES_OF_TUPLE).map(move |byte| (word >> (8 * byte)) as u32 & 0xff);
    bytes.take_while(|byte| *byte != 0).map(|byte| byte - 1)
}

abi! {
    /// A tuple that ranges are known of. Key of [`crate::maps::RANGED`], whose value is as in [`slots`].
    #[derive(Hash)]
    pub struct RangedTuple {
        /// Local address, an IPv4 one in mapped form.
        pub source: AddrWords,
        /// Remote address.
        pub destination: AddrWords,
        /// Remote port.
        pub port: u32,
        /// Unused.
        pub padding: u32,
    }
}

abi! {
    /// A range of ports that sockets of a tuple have set for themselves (`IP_LOCAL_PORT_RANGE`), and all sockets of the
    /// tuple in it, whoever set what. Value of [`crate::maps::PORT_RANGES`].
    pub struct OwnRange {
        /// Local address of the tuple.
        pub source: AddrWords,
        /// Remote address.
        pub destination: AddrWords,
        /// Sockets of the tuple whose port lies in the range.
        pub counts: TupleCounts,
        /// Remote port.
        pub port: u16,
        /// Lowest port of the range, as far as that of the namespace goes.
        pub low: u16,
        /// Highest port.
        pub high: u16,
        /// Sockets that have set it.
        pub sockets: u16,
        /// Unused.
        pub padding: u32,
    }
}

/// The lowest and the highest port that a socket has set, each 0 when it has not.
#[inline(always)]
#[must_use]
pub const fn ends(set: u32) -> (u16, u16) {
    (set as u16, (set >> 16) as u16)
}

/// What a socket has set (`inet_sock.local_port_range`: the lowest port in the lower half, the highest in the upper
/// one) within the range of its namespace: an end that is 0 or lies outside does not count
/// (`inet_sk_get_local_port_range`, `net/ipv4/inet_connection_sock.c`). None when nothing of it counts.
#[inline(always)]
#[must_use]
pub const fn own_range(set: u32, low: u16, high: u16) -> Option<(u16, u16)> {
    let (from, to) = ends(set);
    let first = if low <= from && from <= high { from } else { low };
    let last = if low <= to && to <= high { to } else { high };
    if set == 0 || (first == low && last == high) { None } else { Some((first, last)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_holds_up_to_eight_indexes() {
        assert!(slots(0).eq([0_u32; 0]) && slots(0x20_01).eq([0_u32, 31]));
        assert_eq!(slots(u64::MAX).count(), 8);
    }

    #[test]
    fn an_end_that_is_not_set_or_outside_is_that_of_the_namespace() {
        let own = |from: u32, to: u32| own_range(from | to << 16, 40_000, 40_999);
        assert_eq!([own(0, 0), own(40_000, 40_999), own(1_024, 65_535), own(0, 40_999)], [None; 4]);
        assert_eq!(own(40_100, 40_199), Some((40_100, 40_199)));
        assert_eq!((own(40_100, 0), own(0, 40_199)), (Some((40_100, 40_999)), Some((40_000, 40_199))));
        assert_eq!((own(40_100, 50_000), own(30_000, 40_199)), (Some((40_100, 40_999)), Some((40_000, 40_199))));
        assert_eq!(own(41_000, 42_000), None);
    }
}
