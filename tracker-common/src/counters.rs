//! What the kernel programs count, as laid out in per-CPU maps.

use crate::{
    classify::{Family, Outcome},
    histogram::Histogram,
    layout::abi,
    state,
};

named! {
    /// Where a SYN was addressed to.
    pub enum SynTarget {
        /// A listening socket of this host.
        Listener = 0,
        /// A local address on which nothing listens at that port.
        NoListener = 1,
        /// An address of another host: the packet is forwarded, bridged or dropped.
        NotLocal = 2,
    }
}

abi! {
    /// Packets that one interface received. Value of [`crate::maps::INTERFACE_COUNTERS`], by slot.
    pub struct InterfaceCounters: Sum {
        /// Packets by [`Outcome`] and [`Family`].
        pub packets: [[u64; Family::COUNT]; Outcome::COUNT],
        /// Packets of outcome [`Outcome::TcpSyn`] by [`SynTarget`] and [`Family`].
        pub syns: [[u64; Family::COUNT]; SynTarget::COUNT],
    }
}

abi! {
    /// An entry of the direct-mapped table [`crate::maps::INTERFACES`], at `index & (INTERFACE_TABLE - 1)`.
    pub struct Interface {
        /// Interface index; an entry of another index is not this interface's.
        pub index: u32,
        /// Its slot in [`crate::maps::INTERFACE_COUNTERS`].
        pub slot: u16,
        /// [`Interface::RAW_IP`] or zero.
        pub flags: u16,
    }
}

impl Interface {
    /// Packets begin with the IP header (tun, `WireGuard`, IP tunnels), not with an Ethernet header.
    pub const RAW_IP: u16 = 1;
}

named! {
    /// How an established connection came to its end.
    pub enum CloseKind {
        /// The local process closed first (ESTABLISHED to `FIN_WAIT1`).
        Local = 0,
        /// The peer closed first (ESTABLISHED to `CLOSE_WAIT`).
        Peer = 1,
        /// The peer sent a reset.
        ResetByPeer = 2,
        /// The local side sent a reset: unread data, `SO_LINGER` of 0, or a process that was killed so.
        ResetLocally = 3,
        /// The peer did not acknowledge in time.
        TimedOut = 4,
        /// Any other error, such as an unreachable network or `ss --kill`.
        Error = 5,
    }
}

/// Socket families, IPv4 and IPv6. A dual-stack socket that carries IPv4 is IPv6 here, as it is for ss(8).
pub const SOCKET_FAMILIES: usize = 2;
/// Errno values of failed connects; index 0 is a connect that the process gave up.
pub const ERRNOS: usize = 134;

abi! {
    /// Socket events of one network namespace. Value of [`crate::maps::SOCKET_COUNTERS`].
    pub struct SocketCounters: Sum {
        /// State transitions by socket family, old and new state.
        pub transitions: [[[u64; state::COUNT]; state::COUNT]; SOCKET_FAMILIES],
        /// Ends of established connections by socket family and [`CloseKind`].
        pub closes: [[u64; CloseKind::COUNT]; SOCKET_FAMILIES],
        /// Connects that failed, by socket family and errno. `EADDRNOTAVAIL` (99) is a connect that got no port.
        pub connect_failures: [[u64; ERRNOS]; SOCKET_FAMILIES],
        /// Time from `connect()` to ESTABLISHED, repeats of the SYN included.
        pub connect_time: Histogram,
        /// Time from the first SYN-ACK to ESTABLISHED, repeats included.
        pub handshake_time: Histogram,
        /// Time from ESTABLISHED to CLOSE of a sample of the connections.
        pub lifetime: Histogram,
        /// Connections that are being timed: the sum over all CPUs, each of which may have wrapped below zero.
        pub timed: u64,
    }
}

named! {
    /// What the kernel side could not count or keep: each makes a figure elsewhere a lower bound. Index into
    /// [`crate::maps::LOSSES`]. The message says what a loss means for the figures, after its number.
    #[derive(strum::EnumMessage)]
    pub enum Loss {
        /// A listener is not known because there are too many.
        #[strum(message = "listeners are not known, because there are too many: SYNs to them count as meeting none")]
        ListenerTableFull = 0,
        /// A sampled connection was not timed: its places in [`crate::maps::LIFETIMES`] were taken.
        #[strum(
            message = "sampled connections were not timed: the histogram of lifetimes is a lower bound"
        )]
        LifetimeTableFull = 1,
        /// A completed handshake has no time, because the kernel keeps none (SYN cookies without timestamps).
        #[strum(
            message = "handshakes have no time (SYN cookies without timestamps): the histograms of handshake time are \
                       lower bounds, the counts of handshakes are exact"
        )]
        HandshakeUntimed = 2,
        /// A packet came by an interface that has no slot of its own; it counts in slot 0.
        #[strum(
            message = "packets came by interfaces without a slot of their own: they count in the interface `other`"
        )]
        InterfaceTableFull = 3,
        /// The kernel did not run the program for a socket event, because it was already running on that CPU. The
        /// kernel itself counts these.
        #[strum(
            message = "socket events were not seen because the program was already running on that CPU: transitions, \
                       and what follows from them, are lower bounds"
        )]
        EventSkipped = 4,
        /// A connect that got no port, or a `bind()` that was refused, counts in the sum, but not for its process and
        /// destination or address: there are too many.
        #[strum(
            message = "connects without a port, or refused calls of bind(), are counted in the sum alone: those of \
                       the destinations and addresses shown are lower bounds"
        )]
        FailureTableFull = 5,
        /// A socket counts for no process, because there are too many of them.
        #[strum(
            message = "sockets were counted for no process: the ports and leaks of the processes shown are lower \
                       bounds"
        )]
        HolderTableFull = 6,
        /// A connect to a destination short of ports counts for no process, because there are too many of them.
        #[strum(
            serialize = "maker_table_full",
            message = "connects were counted for no process: who made connections is shown with lower bounds"
        )]
        ConnectorTableFull = 7,
        /// A connection was made for a listener without a socket event, for whatever reason: `PassiveOpens` less the
        /// events. Those of [`Self::EventSkipped`] that were of this kind are among them.
        #[strum(
            message = "connections were accepted without a socket event: handshakes, transitions, and what follows \
                       from them, are lower bounds"
        )]
        EventUnseen = 8,
        /// A SYN or a handshake of a listener that had no counters of its own at that moment.
        #[strum(
            message = "SYNs and handshakes came to listeners before they had counters of their own, which they get by \
                       them within a second: the counts of these listeners are lower bounds"
        )]
        ListenerUncounted = 9,
    }
}

impl Loss {
    /// What it means for the figures.
    #[must_use]
    pub fn consequence(self) -> &'static str {
        strum::EnumMessage::get_message(&self).unwrap_or_default()
    }
}

abi! {
    /// Result of one census: sockets by family and state. Value of [`crate::maps::CENSUS`].
    pub struct Census {
        /// Sockets by socket family and state; the minisocket of an orphan in `FIN_WAIT2` is in `FIN_WAIT2`.
        pub states: [[u64; state::COUNT]; SOCKET_FAMILIES],
    }
}
