//! A sample of connections: which SYNs are retransmissions, and which handshakes were completed.
//!
//! A connection is in the sample by its hash, so all of its SYNs and its handshake are or none. The table is mapped
//! directly: a newer connection takes the place of an older one, and that is counted.

#![allow(
    clippy::cast_possible_truncation,
    reason = "hashes are cut to the bits that are wanted; a checked conversion could panic, which no kernel program may"
)]

abi! {
    /// How the sample is taken. The one value of [`crate::maps::SAMPLING`]; the daemon sets it each second.
    pub struct Sampling {
        /// A connection is in the sample when these bits of [`choice`] are 0: a power of two less one.
        pub mask: u32,
        /// Seconds since the daemon started.
        pub epoch: u32,
        /// Not 0 when it is seen which SYNs reach TCP: their sources are noted there, and not where they are received.
        pub sources_at_lookup: u32,
        /// Rounds the size up.
        pub padding: u32,
    }
}

abi! {
    /// A connection of the sample. Entry of [`crate::maps::FLOWS`], by [`index`].
    pub struct Flow {
        /// [`tag`] of its hash; zero with `epoch` zero: free.
        pub tag: u32,
        /// Sequence number of its SYN, as in the packet. A retransmission has the same one, a new connection of
        /// the same ports hardly ever.
        pub sequence: u32,
        /// Lower bits of the [`Sampling::epoch`] of its first SYN, made odd so that it is never 0.
        pub epoch: u16,
        /// Slot of its listener.
        pub slot: u16,
        /// How many SYNs one in the sample stood for.
        pub weight: u16,
        /// [`Flow::PENDING`], [`Flow::COMPLETED`] or [`Flow::ABORTED`].
        pub state: u16,
    }
}

impl Flow {
    /// No handshake yet.
    pub const PENDING: u16 = 1;
    /// The handshake was completed.
    pub const COMPLETED: u16 = 2;
    /// The client reset it before that.
    pub const ABORTED: u16 = 3;
}

use crate::layout::abi;

/// The bits of a hash that choose the sample.
#[inline(always)]
#[must_use]
pub const fn choice(hash: u64) -> u32 {
    (hash >> 16) as u32 & 0xffff
}

/// The bits of a hash that tell connections of one entry apart.
#[inline(always)]
#[must_use]
pub const fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// Entry of a connection.
#[inline(always)]
#[must_use]
pub const fn index(hash: u64) -> u32 {
    hash as u32 & (crate::limits::FLOWS - 1)
}

abi! {
    /// What became of the sample, of one listener. Each counts weights: a SYN of a one-in-n sample counts n.
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    pub struct FlowCounters: Sum {
        /// First SYNs of a connection.
        pub first: u64,
        /// Retransmissions.
        pub repeated: u64,
        /// Sum of weight * (weight - 1) over the retransmissions.
        pub repeated_variance: u64,
        /// Handshakes completed.
        pub completed: u64,
        /// Connections that the client reset before the handshake was completed, with the sequence number that ends the
        /// request (`tcp_check_req`).
        pub aborted: u64,
        /// Sum of weight * (weight - 1) over these.
        pub aborted_variance: u64,
        /// Connections that made room for others within [`KEEP`] seconds, before they were completed.
        pub evicted: u64,
    }
}

/// A connection that is older than this many seconds and not completed may be dropped from the sample: a client
/// retransmits its SYN after 1, 3, 7 and 15 seconds (RFC 6298, 5.5).
pub const KEEP: u16 = 16;
