//! Ephemeral ports: what a census counts of each tuple of source address, destination address and destination port,
//! which process holds what, and the connects that got no port.
//!
//! Tuples are counted exactly as long as they fit into a table of fixed size. When they do not, those whose bucket of
//! [`PortBuckets`] counted too few in the pass before are left out ([`PortPass::admitted`]), and the pass is repeated:
//! a bucket counts at least what each of its tuples does, so that the largest tuples are never among them.

#![allow(
    clippy::cast_possible_truncation,
    reason = "hashes are cut to the bits that are wanted; a checked conversion could panic, which no kernel program may"
)]

use crate::{hash::AddrWords, layout::abi, state};

/// Ports.
pub const PORTS: usize = 1 << 16;
/// Buckets of [`PortBuckets`], a power of two.
pub const BUCKETS: usize = 1 << 16;

abi! {
    /// A set of ports or of buckets: a bit for each.
    pub struct Bits {
        /// Bit `n % 64` of word `n / 64` is that of `n`.
        pub words: [u64; PORTS / 64],
    }
}

impl Bits {
    /// Puts a number in.
    #[inline(always)]
    pub fn insert(&mut self, number: u16) {
        // Always in bounds; checked so that the kernel's verifier sees it too.
        if let Some(word) = self.words.get_mut(usize::from(number >> 6)) {
            *word |= 1 << (number & 63);
        }
    }

    /// Whether a number is in.
    #[inline(always)]
    #[must_use]
    pub fn contains(&self, number: u16) -> bool {
        match self.words.get(usize::from(number >> 6)) {
            Some(word) => *word >> (number & 63) & 1 != 0,
            None => false,
        }
    }
}

abi! {
    /// The instructions for a pass of the census. Value of [`crate::maps::PORT_PASS`].
    pub struct PortPass {
        /// Number of the pass; entries of tables with another number are empty.
        pub generation: u32,
        /// Jiffies in ten seconds, 0 while not known: a `TIME_WAIT` is recent when it was entered since.
        pub recent: u32,
        /// Jiffies that a `TIME_WAIT` lasts (`TCP_TIMEWAIT_LEN`), 0 while not known.
        pub time_wait: u32,
        /// `net.ipv4.tcp_tw_reuse_delay`, milliseconds.
        pub reuse_delay_ms: u32,
        /// Processes are looked up only for tuples with at least this many sockets.
        pub holders_from: u32,
        /// A socket counts as leaked when its peer was silent for this many jiffies; 0 while not known.
        pub quiet: u32,
        /// Network namespace.
        pub netns: u32,
        /// 1 for that of the daemon, whose states and listeners are counted too.
        pub own: u32,
        /// Destinations in [`crate::maps::WATCHED`].
        pub watching: u32,
        /// Entries of [`crate::maps::PORT_RANGES`] that the pass begins with.
        pub ranges: u32,
        /// Lowest port of `ip_local_port_range`.
        pub low: u16,
        /// Highest port of it.
        pub high: u16,
        /// Unused.
        pub padding: u32,
        /// Ephemeral ports: in `ip_local_port_range` and not in `ip_local_reserved_ports`.
        pub eligible: Bits,
        /// Buckets whose tuples are counted apart.
        pub admitted: Bits,
    }
}

abi! {
    /// Sockets of a tuple. A port is held by one socket of a tuple at most, so there are never more than [`u16::MAX`].
    pub struct TupleCounts {
        /// Jiffies until the first of the `TIME_WAIT` sockets ends; [`u32::MAX`] without any.
        pub next_free: u32,
        /// On ports that `bind()` holds.
        pub bound: u16,
        /// `TIME_WAIT` sockets that `connect()` may replace if `tcp_tw_reuse` lets it.
        pub recyclable: u16,
        /// `TIME_WAIT` sockets that were entered in the last ten seconds.
        pub recent: u16,
        /// By state.
        pub states: [u16; state::COUNT],
    }
}

impl TupleCounts {
    /// How many are counted.
    #[inline(always)]
    #[must_use]
    pub fn sockets(&self) -> u32 {
        self.states.iter().map(|count| u32::from(*count)).sum()
    }
}

abi! {
    /// The sockets of one tuple whose local port is ephemeral. Value of [`crate::maps::PORT_TUPLES`].
    pub struct PortTuple {
        /// Local address, an IPv4 one in mapped form.
        pub source: AddrWords,
        /// Remote address.
        pub destination: AddrWords,
        /// Its entries of [`crate::maps::PORT_RANGES`], as in [`crate::own_ranges::slots`].
        pub ranges: u64,
        /// How many.
        pub counts: TupleCounts,
        /// The pass that counted it.
        pub generation: u32,
        /// Remote port.
        pub port: u16,
        /// Sockets that have a range of their own (`IP_LOCAL_PORT_RANGE`), and minisockets whose port lies in one.
        pub ranged: u16,
        /// 1 when `ranges` has all entries that the pass began with.
        pub looked: u16,
        /// Unused.
        pub padding: u16,
    }
}

abi! {
    /// What a pass counted besides the tuples. Value of [`crate::maps::PORT_TOTALS`].
    pub struct PortTotals {
        /// The kernel's `jiffies`.
        pub jiffies: u64,
        /// `CLOCK_MONOTONIC`, nanoseconds, at that moment.
        pub monotonic: u64,
        /// Sockets of tuples that are not counted apart, because their bucket is not admitted.
        pub rest: u64,
        /// Sockets whose tuple did not fit into the table.
        pub unplaced: u64,
        /// Sockets whose source address did not fit among [`PortSource`].
        pub unsourced: u64,
        /// Entries of [`crate::maps::PORT_RANGES`] in use; the daemon begins with [`PortPass::ranges`].
        pub ranges: u64,
        /// Sockets whose own range did not fit into [`crate::maps::PORT_RANGES`].
        pub unranged: u64,
        /// Sockets of accepted connections whose listening port is ephemeral: clients choose their tuples, so they are
        /// counted in sum alone.
        pub accepted: u64,
        /// UDP sockets that are bound.
        pub udp_sockets: u64,
        /// Those of them with an ephemeral port.
        pub udp_ephemeral: u64,
        /// Ephemeral ports that `connect()` passes over because somebody bound them.
        pub bound: Bits,
        /// Ephemeral ports on which somebody listens.
        pub listening: Bits,
        /// Ephemeral ports of UDP sockets.
        pub udp: Bits,
        /// Those of them that an IPv4 socket cannot have: of IPv4 sockets, and of IPv6 ones without `IPV6_V6ONLY`.
        pub udp_ipv4: Bits,
        /// Ephemeral ports of TCP sockets that are bound and neither listen nor connect: only the pass over descriptors
        /// finds them.
        pub idle: Bits,
    }
}

abi! {
    /// Sockets with an ephemeral port by hash of their tuple. Value of [`crate::maps::PORT_BUCKETS`].
    pub struct PortBuckets {
        /// Counts, which stop at the highest.
        pub counts: [u16; BUCKETS],
    }
}

abi! {
    /// Ephemeral ports in use on one local address, by any socket. Value of [`crate::maps::PORT_SOURCES`].
    pub struct PortSource {
        /// Local address, an IPv4 one in mapped form.
        pub address: AddrWords,
        /// Not 0 when the entry is in use.
        pub used: u64,
        /// The ports.
        pub ports: Bits,
        /// Those of them on which somebody listens at this very address.
        pub listening: Bits,
    }
}

abi! {
    /// What a process holds. Key of [`crate::maps::HOLDERS`] and [`crate::maps::LEAKS`].
    #[derive(Hash)]
    pub struct HolderKey {
        /// Index of a [`PortTuple`], [`HELD_RANGES`] and the index of an [`crate::own_ranges::OwnRange`],
        /// [`HELD_CLOSE_WAIT`], [`HELD_FIN_WAIT2`] or [`HELD_UDP`].
        pub what: u32,
        /// Process id, in the initial pid namespace.
        pub pid: u32,
    }
}

/// Sockets in `CLOSE_WAIT` whose peer was silent for [`PortPass::quiet`].
pub const HELD_CLOSE_WAIT: u32 = u32::MAX;
/// Sockets in `FIN_WAIT2` whose peer was silent as long.
pub const HELD_FIN_WAIT2: u32 = u32::MAX - 1;
/// UDP sockets with an ephemeral port.
pub const HELD_UDP: u32 = u32::MAX - 2;

/// From here on: sockets whose port lies in an [`crate::own_ranges::OwnRange`] of their tuple, by its index.
pub const HELD_RANGES: u32 = 1 << 31;

abi! {
    /// How much of it. Value of [`crate::maps::HOLDERS`] and [`crate::maps::LEAKS`].
    pub struct Holder {
        /// Name of the process.
        pub comm: [u8; 16],
        /// Descriptors of such sockets. One that a process holds twice, not side by side, counts twice.
        pub sockets: u32,
        /// Jiffies for which the peer was silent, of the socket where that is longest.
        pub quietest: u32,
    }
}

abi! {
    /// A destination whose connects are attributed to processes. Key of [`crate::maps::WATCHED`].
    #[derive(Hash)]
    pub struct Watched {
        /// Address, an IPv4 one in mapped form.
        pub destination: AddrWords,
        /// Port.
        pub port: u32,
        /// Unused.
        pub padding: u32,
    }
}

abi! {
    /// A process that connects to it. Key of [`crate::maps::CONNECTORS`].
    #[derive(Hash)]
    pub struct ConnectorKey {
        /// Address.
        pub destination: AddrWords,
        /// Port.
        pub port: u32,
        /// Process.
        pub pid: u32,
    }
}

abi! {
    /// How often. Value of [`crate::maps::CONNECTORS`].
    pub struct Connector {
        /// Name of the thread that called `connect()` first.
        pub comm: [u8; 16],
        /// Calls of `connect()`.
        pub connects: u64,
        /// `IP_LOCAL_PORT_RANGE` of the last, as in [`crate::own_ranges::own_range`].
        pub range: u32,
        /// Unused.
        pub padding: u32,
    }
}

abi! {
    /// Connects that got no port. Key of [`crate::maps::CONNECT_FAILURES`].
    #[derive(Hash)]
    pub struct FailureKey {
        /// Destination address, an IPv4 one in mapped form.
        pub destination: AddrWords,
        /// Source address that the kernel had chosen, or the process bound.
        pub source: AddrWords,
        /// Network namespace.
        pub netns: u32,
        /// Process.
        pub pid: u32,
        /// Destination port.
        pub port: u16,
        /// 0 when no port was free, 1 when the port that the socket is bound to is taken for this destination.
        pub bound: u16,
        /// `IP_LOCAL_PORT_RANGE` of the socket, as in [`crate::own_ranges::own_range`]. There is no family: an IPv6
        /// socket that calls a mapped address takes its port from those of IPv4.
        pub range: u32,
    }
}

abi! {
    /// Calls of `bind()` that were refused because the port is held. Key of [`crate::maps::BIND_FAILURES`].
    #[derive(Hash)]
    pub struct BindFailureKey {
        /// Address asked for, an IPv4 one in mapped form.
        pub address: AddrWords,
        /// Network namespace.
        pub netns: u32,
        /// Process.
        pub pid: u32,
        /// Port asked for; 0 for any.
        pub port: u16,
        /// `IPPROTO_TCP`, `IPPROTO_UDP` or another.
        pub protocol: u16,
        /// Socket family: 0 is IPv4.
        pub family: u32,
    }
}

abi! {
    /// How many, and by whom. Value of [`crate::maps::BIND_FAILURES`] and of [`crate::maps::CONNECT_FAILURES`].
    pub struct Failure {
        /// How many.
        pub count: u64,
        /// The first, `CLOCK_MONOTONIC` nanoseconds.
        pub first: u64,
        /// The last.
        pub last: u64,
        /// Cgroup (v2) of the socket, 0 without.
        pub cgroup: u64,
        /// User that owns the socket.
        pub uid: u32,
        /// Source port of the first, if the process bound one.
        pub source_port: u32,
        /// Name of the thread that called `connect()`.
        pub comm: [u8; 16],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        let mut set = Bits::default();
        for port in [0, 63, 64, 32_768, u16::MAX] {
            set.insert(port);
            assert!(set.contains(port));
        }
        assert_eq!(set.words.iter().map(|word| word.count_ones()).sum::<u32>(), 5);
        assert!(!set.contains(1) && !set.contains(65_534));
    }
}
