//! Connections whose life is timed.
//!
//! The kernel hands out a socket's memory to one connection at a time, so its address names the connection. The table
//! is mapped directly, a few places for each address: every connection that ends is looked for in it, and that must
//! cost less than a hash table does.

use crate::layout::abi;

/// Bucket for one address.
pub const BUCKET_SIZE: u32 = 8;
/// Entries of [`crate::maps::LIFETIMES`].
pub const ENTRIES: u32 = crate::limits::MEASURED_LIFETIMES / BUCKET_SIZE;

abi! {
    /// A connection whose life is timed.
    pub struct Timed {
        /// Address of its socket; zero: free.
        pub socket: u64,
        /// When it was established, `CLOCK_MONOTONIC` nanoseconds.
        pub since: u64,
    }
}

/// Those that [`index`] sends to one entry of [`crate::maps::LIFETIMES`].
pub type Bucket = [Timed; BUCKET_SIZE as usize];

/// Entry of a socket, by the lower half of its address.
#[inline(always)]
#[must_use]
pub const fn index(socket: u32) -> u32 {
    // Multiplication by the golden ratio spreads addresses that differ by multiples of one size (Knuth, TAOCP 3, 6.4).
    socket.wrapping_mul(0x9e37_79b9) >> (u32::BITS - ENTRIES.ilog2())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slabs hold sockets of one size side by side. Half of all places are enough for all but a few hundredths of them,
    /// as if they lay at random (Erlang's loss formula: 3 % of those that come last).
    #[test]
    fn sockets_of_a_slab_are_spread() {
        const SOCKETS: u32 = crate::limits::MEASURED_LIFETIMES / 2;
        // Sizes of a `tcp_sock` and a `tcp6_sock`.
        for size in [2304, 2432, 2496, 2560] {
            let mut counts = [0u8; ENTRIES as usize];
            for socket in 0..SOCKETS {
                counts[index(socket.wrapping_mul(size)) as usize] += 1;
            }
            let lost: u32 = counts.iter().map(|count| u32::from(*count).saturating_sub(BUCKET_SIZE)).sum();
            assert!(lost * 33 < SOCKETS, "{size}: {lost} of {SOCKETS} find no place");
        }
    }
}
