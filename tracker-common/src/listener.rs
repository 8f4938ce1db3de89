//! Listening addresses: how the kernel side finds the listener of a SYN, and what it counts for it.
//!
//! A *listener* is a local address and port on which at least one socket listens; the sockets of a
//! `SO_REUSEPORT` group are one listener. The wildcard addresses 0.0.0.0 and :: are addresses like any other.

use crate::{
    classify::Family,
    flows::FlowCounters,
    hash::{self, Halves},
    histogram::Histogram,
};

/// An IPv4 address as the IPv6 address that maps it (RFC 4291, 2.5.5.2), so that one key holds both.
#[inline(always)]
#[must_use]
pub const fn mapped(address: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = address;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// Whether the address is an IPv4 address in mapped form.
#[inline(always)]
#[must_use]
pub fn is_mapped(address: &[u8; 16]) -> bool {
    matches!(address, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ..])
}

/// The IPv4 wildcard, 0.0.0.0, in mapped form.
pub const ANY_V4: [u8; 16] = mapped([0; 4]);
/// The IPv6 wildcard, ::.
pub const ANY_V6: [u8; 16] = [0; 16];

/// Key of [`crate::names::LISTENERS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerKey {
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Port in host byte order.
    pub port: u32,
    /// IPv6 address, or IPv4 address in mapped form.
    pub address: [u8; 16],
}

const _: () = assert!(size_of::<ListenerKey>() == 24);

/// Value of [`crate::names::LISTENERS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    /// Listening sockets at this address. Zero: closed, and the daemon will free the slot.
    pub sockets: u64,
    /// Those of them that are IPv6 and take IPv4 too (no `IPV6_V6ONLY`).
    pub dual: u64,
    /// Changes of `sockets` by events; lets the daemon see that a census raced with one.
    pub version: u64,
    /// When the first socket began to listen, nanoseconds of `CLOCK_BOOTTIME`; 0 when before the daemon.
    pub opened_ns: u64,
    /// Cgroup (v2) of the first socket.
    pub cgroup: u64,
    /// Index into [`crate::names::LISTENER_COUNTERS`] and [`crate::names::LISTENER_CENSUS`]; 0 when all were taken.
    pub slot: u32,
    /// Process (thread group) that called `listen()`; 0 when before the daemon.
    pub pid: u32,
    /// User of that socket.
    pub uid: u32,
    /// Keeps what follows aligned.
    pub padding: u32,
    /// Name of the thread that called `listen()`.
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<Listener>() == 72);

/// Who may listen at a port. Entry of [`crate::names::PORTS`], by port.
///
/// It only says where to look: whether anybody listens is told by the [`Slot`] or the [`Listener`] it leads to. It is
/// written when a listener is entered and never taken back, so there is no order of events in which it is wrong.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// Slot plus one of the last listener on 0.0.0.0; 0 for none.
    pub any_v4: u32,
    /// Slot plus one of the last listener on ::; 0 for none.
    pub any_v6: u32,
    /// Not 0 when some socket has listened on a single address at this port: [`Single`] is to be asked.
    pub specific: u32,
    /// Rounds the size up.
    pub padding: u32,
}

const _: () = assert!(size_of::<Port>() == 16);

/// The last listener on a single address that [`single`] sends to an entry of [`crate::names::SINGLES`]: its slot plus one, or 0 for
/// none. With [`SINGLE_SHARED`] it is not the only one: if it is another that is wanted, the hash map is to be asked. As with [`Port`],
/// it only says where to look.
pub type Single = u64;

/// See [`Single`].
pub const SINGLE_SHARED: Single = 1 << 32;

/// Entry of a single address and port, given as in [`ListenerKey`].
#[inline(always)]
#[must_use]
pub const fn single(address: Halves, port: u32) -> u32 {
    hash::place(address, port, crate::limits::SINGLES.ilog2())
}

/// A listener as the packet programs see it. Entry of [`crate::names::SLOTS`], by slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// As [`Listener::sockets`].
    pub sockets: u64,
    /// As [`Listener::dual`].
    pub dual: u64,
    /// Its port; another port: the slot has been given to another listener.
    pub port: u32,
    /// [`Slot::ANY_V4`], [`Slot::ANY_V6`] or zero.
    pub wildcard: u32,
    /// Its address.
    pub address: Halves,
}

impl Slot {
    /// It listens on 0.0.0.0.
    pub const ANY_V4: u32 = 4;
    /// It listens on ::.
    pub const ANY_V6: u32 = 6;
}

const _: () = assert!(size_of::<Slot>() == 40);

/// Events of one listener. Value of [`crate::names::LISTENER_COUNTERS`], by slot, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerCounters {
    /// SYNs that came by a watched interface, repeats included, by [`Family`] of the packet.
    pub syns: [u64; Family::COUNT],
    /// Handshakes completed whose last ACK came by a watched interface.
    pub completed: [u64; Family::COUNT],
    /// Handshakes completed by way of any other interface, such as loopback.
    pub completed_unwatched: [u64; Family::COUNT],
    /// What became of the sample of its SYNs.
    pub flows: FlowCounters,
    /// Time from the first SYN-ACK to ESTABLISHED.
    pub handshake_time: Histogram,
}

const _: () = assert!(size_of::<ListenerCounters>() == 9 * 8 + 40 + 208);

/// What the census saw of one listener. Value of [`crate::names::LISTENER_CENSUS`], by slot.
///
/// The figures are sums over the sockets of a `SO_REUSEPORT` group.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerCensus {
    /// Number of the census that wrote this; another number: nothing was seen.
    pub generation: u32,
    /// Listening sockets.
    pub sockets: u32,
    /// Those of them that are IPv6 and take IPv4 too.
    pub dual: u32,
    /// Requests in the SYN queue (`icsk_accept_queue.qlen`).
    pub syn_queue: u32,
    /// Those of them whose SYN-ACK was not yet repeated (`icsk_accept_queue.young`).
    pub syn_queue_young: u32,
    /// Connections that wait for `accept()` (`sk_ack_backlog`).
    pub accept_queue: u32,
    /// Limit of the accept queue (`sk_max_ack_backlog`), which is also that of the SYN queue.
    pub accept_queue_max: u32,
    /// Half-open request sockets found at this address.
    pub half_open: u32,
    /// Established sockets at this address.
    pub connected: u32,
    /// Those half-open requests whose source found no place in [`crate::names::HALF_OPEN_SOURCES`].
    pub half_open_unnamed: u32,
    /// Requests that these sockets dropped since they began to listen (`sk_drops`, of which the namespace's
    /// TcpExt `ListenDrops` is the sum).
    pub drops: u64,
    /// Inode number of the first listening socket, to find its process by `/proc/PID/fd`.
    pub inode: u64,
}

const _: () = assert!(size_of::<ListenerCensus>() == 56);

#[cfg(feature = "user")]
mod pod {
    // SAFETY: each is #[repr(C)] of integers, has no padding (its size is asserted above as the sum of its
    // fields), and any bit pattern is a value.
    unsafe impl aya::Pod for super::ListenerKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Listener {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Port {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Slot {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::ListenerCounters {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::ListenerCensus {}
}
