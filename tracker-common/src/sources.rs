//! Where the SYNs of a listener come from: how many sources there are, and a sample of them.
//!
//! Both are of fixed size whatever is sent. The sample answers for sources and for prefixes of every length at once,
//! and the error of each share is that of a binomial sample.

#![allow(
    clippy::cast_possible_truncation,
    reason = "hashes are cut to the bits that are wanted; a checked conversion could panic, which no kernel program may"
)]

use crate::{
    hash::AddrWords,
    layout::abi,
    limits::{COMPLETED_SAMPLE, SOURCE_SAMPLE},
};

/// Bits of a hash that choose a register.
pub const REGISTER_BITS: u32 = 13;
/// Registers of a [`Registers`]. The standard error of the estimate is 1.04 / sqrt(8192) = 1.15 %.
pub const REGISTERS: usize = 1 << REGISTER_BITS;

abi! {
    /// A `HyperLogLog` (Flajolet, Fusy, Gandouet and Meunier, 2007): each register holds the highest rank of the hashes
    /// that fell to it. Value of [`crate::maps::SOURCES`], by slot. The daemon reads it and sets it back to zero.
    pub struct Registers {
        /// By the lowest bits of the hash.
        pub ranks: [u8; REGISTERS],
    }
}

impl Registers {
    /// Adds a hash.
    pub fn insert(&mut self, hash: u64) {
        let (index, rank) = register(hash);
        self.ranks[index] = self.ranks[index].max(rank);
    }
}

/// Index of the register that a hash falls to, always in bounds, and its rank there.
#[inline(always)]
#[must_use]
pub fn register(hash: u64) -> (usize, u8) {
    ((hash & (REGISTERS as u64 - 1)) as usize, rank(hash))
}

/// Position of the lowest bit that is set in the part of the hash that does not choose the register, from 1 to
/// 64 - [`REGISTER_BITS`] + 1.
#[inline(always)]
#[must_use]
pub fn rank(hash: u64) -> u8 {
    // A set bit above all others ends the count.
    let rest = (hash >> REGISTER_BITS) | 1 << (64 - REGISTER_BITS);
    rest.trailing_zeros() as u8 + 1
}

abi! {
    /// Sources of recent SYNs of a listener: each SYN overwrites an entry chosen at random. All zero: none. Value of
    /// [`crate::maps::SOURCE_SAMPLES`], by slot. The daemon reads it and sets it back to zero.
    pub struct SourceSample {
        /// Addresses, IPv4 ones in mapped form.
        pub sources: [AddrWords; SOURCE_SAMPLE],
    }
}

abi! {
    /// Sources of recent handshakes that were completed at a listener: each overwrites an entry chosen at random. All
    /// zero: none. Who is in it is a client, whatever else its address sends. Value of
    /// [`crate::maps::COMPLETED_SAMPLES`], by slot. The daemon reads it and sets it back to zero.
    pub struct CompletedSample {
        /// Addresses, IPv4 ones in mapped form.
        pub sources: [AddrWords; COMPLETED_SAMPLE],
    }
}

abi! {
    /// Half-open requests from one source to one listener, as the census found them. Entry of
    /// [`crate::maps::HALF_OPEN_SOURCES`].
    pub struct HalfOpenSource {
        /// Source, an IPv4 one in mapped form.
        pub address: [u8; 16],
        /// Number of the census that wrote this; another number: the entry is free.
        pub generation: u32,
        /// Slot of the listener.
        pub slot: u32,
        /// Requests.
        pub count: u32,
        /// Rounds the size up.
        pub padding: u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_is_the_place_of_the_lowest_set_bit() {
        assert_eq!(rank(0), 52, "no bit is set");
        assert_eq!(rank(REGISTERS as u64 - 1), 52, "the lowest bits choose the register");
        for bit in 0..51 {
            assert_eq!(u32::from(rank(1 << (bit + REGISTER_BITS))), bit + 1);
            assert_eq!(u32::from(rank(u64::MAX << (bit + REGISTER_BITS))), bit + 1);
        }
    }

    #[test]
    fn a_register_keeps_the_highest_rank() {
        let mut registers = Registers::default();
        for hash in [0x1000_0005, 0x2005, 0x40_0005] {
            registers.insert(hash);
        }
        assert_eq!(registers.ranks[5], 16);
        assert_eq!(registers.ranks.iter().filter(|rank| **rank != 0).count(), 1);
    }
}
