//! What the kernel programs count, as laid out in per-CPU maps.

use crate::{
    classify::{Family, Outcome},
    histogram::Histogram,
    state,
};

/// Where a SYN was addressed to.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SynTarget {
    /// A listening socket of this host.
    Listener = 0,
    /// A local address on which nothing listens at that port.
    NoListener = 1,
    /// An address of another host: the packet is forwarded, bridged or dropped.
    NotLocal = 2,
}

impl SynTarget {
    /// How many there are.
    pub const COUNT: usize = 3;
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [Self::Listener, Self::NoListener, Self::NotLocal];

    /// The name in metrics and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Listener => "listener",
            Self::NoListener => "no_listener",
            Self::NotLocal => "not_local",
        }
    }
}

/// Packets that one interface received. Value of [`crate::names::INTERFACE_COUNTERS`], by slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// Packets by [`Outcome`] and [`Family`].
    pub packets: [[u64; Family::COUNT]; Outcome::COUNT],
    /// Packets of outcome [`Outcome::TcpSyn`] by [`SynTarget`] and [`Family`].
    pub syns: [[u64; Family::COUNT]; SynTarget::COUNT],
}

const _: () = assert!(size_of::<InterfaceCounters>() == 8 * 3 * (17 + 3));

/// An entry of the direct-mapped table [`crate::names::INTERFACES`], at `index & (INTERFACE_TABLE - 1)`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Interface index; an entry of another index is not this interface's.
    pub index: u32,
    /// Its slot in [`crate::names::INTERFACE_COUNTERS`].
    pub slot: u16,
    /// [`Interface::RAW_IP`] or zero.
    pub flags: u16,
}

impl Interface {
    /// Packets begin with the IP header (tun, `WireGuard`, IP tunnels), not with an Ethernet header.
    pub const RAW_IP: u16 = 1;
}

const _: () = assert!(size_of::<Interface>() == 8);

/// How an established connection came to its end.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl CloseKind {
    /// How many there are.
    pub const COUNT: usize = 6;
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Local, Self::Peer, Self::ResetByPeer, Self::ResetLocally, Self::TimedOut, Self::Error];

    /// The name in metrics and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Peer => "peer",
            Self::ResetByPeer => "reset_by_peer",
            Self::ResetLocally => "reset_locally",
            Self::TimedOut => "timed_out",
            Self::Error => "error",
        }
    }
}

/// Socket families, IPv4 and IPv6. A dual-stack socket that carries IPv4 is IPv6 here, as it is for ss(8).
pub const SOCKET_FAMILIES: usize = 2;
/// Errno values of failed connects; index 0 is a connect that the process gave up.
pub const ERRNOS: usize = 134;

/// Socket events of one network namespace. Value of [`crate::names::SOCKET_COUNTERS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketCounters {
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

impl Default for SocketCounters {
    fn default() -> Self {
        Self {
            transitions: [[[0; state::COUNT]; state::COUNT]; SOCKET_FAMILIES],
            closes: [[0; CloseKind::COUNT]; SOCKET_FAMILIES],
            connect_failures: [[0; ERRNOS]; SOCKET_FAMILIES],
            connect_time: Histogram::default(),
            handshake_time: Histogram::default(),
            lifetime: Histogram::default(),
            timed: 0,
        }
    }
}

const _: () = assert!(size_of::<SocketCounters>() == 8 * 2 * (169 + 6 + 134) + 3 * 208 + 8);

/// What the kernel side could not count or keep: each makes a figure elsewhere a lower bound.
/// Index into [`crate::names::LOSSES`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A listener got no slot of its own because all were taken; its SYNs count in slot 0.
    ListenerTableFull = 0,
    /// A sampled connection could not be timed: the places that it may take in [`crate::names::TIMED`] were taken.
    LifetimeTableFull = 1,
    /// A completed handshake has no time, because the kernel keeps none (SYN cookies without timestamps).
    HandshakeUntimed = 2,
    /// A packet came by an interface that has no slot of its own; it counts in slot 0.
    InterfaceTableFull = 3,
    /// A socket event was not seen, because the program was already running on that CPU. Counted by the kernel itself.
    EventSkipped = 4,
    /// A connect that got no port counts in the sum, but not for its process and destination, of which there are too many.
    FailureTableFull = 5,
    /// A socket counts for no process, because there are too many of them.
    HolderTableFull = 6,
    /// A connect to a destination short of ports counts for no process, because there are too many of them.
    MakerTableFull = 7,
    /// A connection was made for a listener and no socket event told of it, for whatever reason: `PassiveOpens` less the
    /// events. Those of [`Self::EventSkipped`] that were of this kind are among them.
    EventUnseen = 8,
}

impl Loss {
    /// How many there are.
    pub const COUNT: usize = 9;
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::ListenerTableFull,
        Self::LifetimeTableFull,
        Self::HandshakeUntimed,
        Self::InterfaceTableFull,
        Self::EventSkipped,
        Self::FailureTableFull,
        Self::HolderTableFull,
        Self::MakerTableFull,
        Self::EventUnseen,
    ];

    /// The name in metrics and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ListenerTableFull => "listener_table_full",
            Self::LifetimeTableFull => "lifetime_table_full",
            Self::HandshakeUntimed => "handshake_untimed",
            Self::InterfaceTableFull => "interface_table_full",
            Self::EventSkipped => "event_skipped",
            Self::FailureTableFull => "failure_table_full",
            Self::HolderTableFull => "holder_table_full",
            Self::MakerTableFull => "maker_table_full",
            Self::EventUnseen => "event_unseen",
        }
    }
}

/// Result of one census: sockets by family and state. Value of [`crate::names::CENSUS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Sockets by socket family and state; the minisocket of an orphan in `FIN_WAIT2` is in `FIN_WAIT2`.
    pub states: [[u64; state::COUNT]; SOCKET_FAMILIES],
}

const _: () = assert!(size_of::<Census>() == 208);

#[cfg(feature = "user")]
mod pod {
    // SAFETY: each is #[repr(C)] of integers, has no padding (its size is asserted above as the sum of its
    // fields), and any bit pattern is a value.
    unsafe impl aya::Pod for super::InterfaceCounters {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Interface {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::SocketCounters {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Census {}
}
