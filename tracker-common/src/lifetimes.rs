//! Connections whose life is timed.
//!
//! The kernel hands out a socket's memory to one connection at a time, so its address names the connection. The table is
//! mapped directly, a few places for each address: every connection that ends is looked for in it, and that must cost less
//! than a hash table does.

/// Places for one address.
pub const PLACES: usize = 4;

/// A connection whose life is timed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timed {
    /// Address of its socket; zero: free.
    pub socket: u64,
    /// When it was established, `CLOCK_MONOTONIC` nanoseconds.
    pub since: u64,
}

/// Those that [`index`] sends to one entry of [`crate::names::TIMED`].
pub type Places = [Timed; PLACES];

const _: () = assert!(size_of::<Places>() == 64);

/// Entry of a socket, by the lower half of its address.
#[inline(always)]
#[must_use]
pub const fn index(socket: u32) -> u32 {
    // Multiplication by the golden ratio spreads addresses that differ by multiples of one size (Knuth, TAOCP 3, 6.4).
    const SHIFT: u32 = (crate::limits::TIMED_CONNECTIONS / PLACES as u32).leading_zeros() + 1;
    socket.wrapping_mul(0x9e37_79b9) >> SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    #[test]
    fn sockets_of_a_slab_fill_the_table() {
        const SOCKETS: usize = limits::TIMED_CONNECTIONS as usize / 2;
        const ENTRIES: usize = limits::TIMED_CONNECTIONS as usize / PLACES;
        // Sizes of a `tcp_sock` and a `tcp6_sock`, as slabs hold them.
        for size in [2304, 2432, 2496, 2560] {
            let mut counts = [0usize; ENTRIES];
            for socket in (0..u32::MAX).take(SOCKETS) {
                counts[index(socket.wrapping_mul(size)) as usize] += 1;
            }
            let lost: usize = counts.iter().map(|count| count.saturating_sub(PLACES)).sum();
            assert!(lost * 10 < SOCKETS, "{size}: {lost} of {SOCKETS} find no place, of which there are twice as many");
        }
    }
}

#[cfg(feature = "user")]
mod pod {
    // SAFETY: #[repr(C)] of integers without padding (its size is asserted above), and any bit pattern is a value.
    unsafe impl aya::Pod for super::Timed {}
}
