//! Listening addresses: how the kernel side finds the listener of a SYN, and what it counts for it.
//!
//! A *listener* is a local address and port on which at least one socket listens, of one device if it is bound to one;
//! the sockets of a `SO_REUSEPORT` group are one listener. The wildcard addresses 0.0.0.0 and :: are addresses like any
//! other.

use crate::{
    classify::Family,
    flows::FlowCounters,
    hash::{self, AddrWords},
    histogram::Histogram,
    layout::abi,
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

abi! {
    /// Key of [`crate::maps::LISTENERS`].
    #[derive(Hash, PartialOrd, Ord)]
    pub struct ListenerKey {
        /// Inode number of the network namespace.
        pub netns: u32,
        /// Port in host byte order.
        pub port: u32,
        /// IPv6 address, or IPv4 address in mapped form.
        pub address: [u8; 16],
        /// Index of the device that it is bound to (`SO_BINDTODEVICE`); 0 for any.
        pub device: u32,
    }
}

abi! {
    /// Value of [`crate::maps::LISTENERS`].
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
        /// Index into [`crate::maps::LISTENER_COUNTERS`] and [`crate::maps::LISTENER_CENSUS`]; 0 while it has none of
        /// its own.
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
}

abi! {
    /// Who may listen at a port. Entry of [`crate::maps::PORTS`], by port.
    ///
    /// It only says where to look: the [`Slot`] or [`Listener`] that it leads to says whether anybody listens. It is
    /// written when a listener is entered, and cleared only of the shared slot 0, which does not say that.
    pub struct Port {
        /// Slot plus one of the last listener on 0.0.0.0; 0 for none.
        pub any_v4: u32,
        /// Slot plus one of the last listener on ::; 0 for none.
        pub any_v6: u32,
        /// Not 0 when some socket has listened on a single address at this port: [`ExactListener`] leads to it.
        pub specific: u32,
        /// Not 0 when some socket bound to a device has listened at this port, at whatever address: the last such
        /// device. Only the hash map leads to those.
        pub bound: u32,
    }
}

/// The last listener on a single address that [`exact_index`] leads to an entry of [`crate::maps::EXACT_LISTENERS`]:
/// its slot plus one, or 0. With [`EXACT_SHARED`] there are others too, and only the hash map has them all. As with
/// [`Port`], it only says where to look.
pub type ExactListener = u64;

/// See [`ExactListener`].
pub const EXACT_SHARED: ExactListener = 1 << 32;

/// Entry of a single address and port, given as in [`ListenerKey`].
#[inline(always)]
#[must_use]
pub const fn exact_index(address: AddrWords, port: u32) -> u32 {
    hash::bucket_index(address, port, crate::limits::EXACT_LISTENERS.ilog2())
}

/// Entry of a listener without a slot of its own in [`crate::maps::SHARED_SYNS`], given as in [`ListenerKey`].
#[inline(always)]
#[must_use]
pub const fn shared_index(address: AddrWords, port: u32) -> u32 {
    hash::bucket_index(address, port, crate::limits::SHARED_SYNS.ilog2())
}

/// What the daemon wants done with slots, by a walk over the listening sockets. Entry of
/// [`crate::maps::SLOT_ORDERS`]: not 0 when it is to be done. The first entry says whether there is any; the slot of a
/// listener that is to lose it is its own index; then come those that are to get one, by [`grant_index`].
pub type SlotOrder = u32;

/// Size of [`crate::maps::SLOT_ORDERS`].
pub const SLOT_ORDERS: u32 = crate::limits::LISTENERS + 1 + crate::limits::SHARED_SYNS;

/// Entry of the listeners of this [`shared_index`] in [`crate::maps::SLOT_ORDERS`].
#[inline(always)]
#[must_use]
pub const fn grant_index(shared: u32) -> u32 {
    crate::limits::LISTENERS + 1 + shared
}

abi! {
    /// A listener as the packet programs see it. Entry of [`crate::maps::SLOTS`], by slot.
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
        pub address: AddrWords,
    }
}

impl Slot {
    /// It listens on 0.0.0.0.
    pub const ANY_V4: u32 = 4;
    /// It listens on ::.
    pub const ANY_V6: u32 = 6;
}

abi! {
    /// Events of one listener. Value of [`crate::maps::LISTENER_COUNTERS`], by slot, per CPU.
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    pub struct ListenerCounters: Sum {
        /// SYNs that came by a watched interface, repeats included, by [`Family`] of the packet.
        pub syns: [u64; Family::COUNT],
        /// Handshakes completed whose last ACK came by a watched interface.
        pub completed: [u64; Family::COUNT],
        /// Handshakes completed by way of any other interface, such as loopback.
        pub completed_unwatched: [u64; Family::COUNT],
        /// SYNs of these for which TCP looked for a listener here.
        pub delivered: u64,
        /// SYNs of these for which TCP looked elsewhere: their destination was translated, or a transparent proxy took
        /// them.
        pub diverted: u64,
        /// SYNs to another address or port for which TCP looked here.
        pub diverted_here: u64,
        /// What became of the sample of its SYNs.
        pub flows: FlowCounters,
        /// Time from the first SYN-ACK to ESTABLISHED.
        pub handshake_time: Histogram,
    }
}

abi! {
    /// The queues and sockets of a listener, added up over its `SO_REUSEPORT` group. The names are those of the API.
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema), serde(default))]
    pub struct ListenerQueues: Sum {
        /// Listening sockets.
        #[cfg_attr(feature = "serde", serde(skip))]
        pub sockets: u64,
        /// Requests in the SYN queue (`icsk_accept_queue.qlen`).
        pub syn_queue: u32,
        /// Those of them whose SYN-ACK was not yet repeated (`icsk_accept_queue.young`).
        pub syn_queue_young: u32,
        /// Limit of the SYN queue: beyond it the kernel answers with cookies or drops
        /// (`inet_csk_reqsk_queue_is_full`).
        pub syn_queue_max: u32,
        /// Connections that wait for `accept()` (`sk_ack_backlog`).
        pub accept_queue: u32,
        /// Limit of the accept queue (`sk_max_ack_backlog`).
        pub accept_queue_max: u32,
        /// Half-open request sockets at this address.
        pub half_open: u32,
        /// Those of them whose handshake is complete, and which wait for the first data (`TCP_DEFER_ACCEPT`, tcp(7)).
        pub waiting_for_data: u32,
        /// Connections by TCP Fast Open (RFC 7413) whose handshake is not complete, though the process may have them
        /// already. Not among `half_open`.
        pub fast_open: u32,
        /// Half-open requests whose source could not be kept. A source that is not listed has at most this many, or as
        /// many as the last one listed.
        pub half_open_unnamed: u32,
        /// Established sockets at this address.
        pub connected: u32,
        /// Requests that these sockets dropped since they began to listen (`sk_drops`): SYNs, those that repeat one
        /// whose request is there included, and while the accept queue is full also ACKs that would have completed a
        /// handshake. The namespace's `ListenDrops` is the sum over its listeners.
        #[cfg_attr(feature = "serde", serde(rename = "overflows", alias = "drops"))]
        pub drops: u64,
        /// Listening sockets that wait for the first data before they hand over a connection (`TCP_DEFER_ACCEPT`,
        /// tcp(7)).
        pub defer_accept: u64,
    }
}

abi! {
    /// What the census saw of one listener. Value of [`crate::maps::LISTENER_CENSUS`], by slot.
    pub struct ListenerCensus {
        /// Number of the census that wrote this; another number: nothing was seen.
        pub generation: u32,
        /// Listening sockets that are IPv6 and take IPv4 too.
        pub dual: u32,
        /// Inode number of the first listening socket, to find its process by `/proc/PID/fd`.
        pub inode: u64,
        /// The figures.
        pub queues: ListenerQueues,
    }
}

abi! {
    /// Who made a socket listen. Value of [`crate::maps::LISTENING`], which the kernel keeps with the socket and frees
    /// with it. All zero: the socket is older than the daemon.
    pub struct ListeningMark {
        /// Process (thread group) that called `listen()`.
        pub pid: u32,
        /// Thread that called it.
        pub tid: u32,
        /// Name of that thread.
        pub comm: [u8; 16],
    }
}

abi! {
    /// One listening socket, as the walk over all of them writes it.
    pub struct ListeningSocket {
        /// Inode number of its file.
        pub inode: u64,
        /// Its listener.
        pub key: ListenerKey,
        /// 1 when it is IPv6 and takes IPv4 too.
        pub dual: u32,
        /// As [`ListenerQueues::syn_queue`].
        pub syn_queue: u32,
        /// As [`ListenerQueues::syn_queue_young`].
        pub syn_queue_young: u32,
        /// As [`ListenerQueues::accept_queue`].
        pub accept_queue: u32,
        /// As [`ListenerQueues::accept_queue_max`].
        pub accept_queue_max: u32,
        /// As [`ListenerQueues::drops`].
        pub drops: u32,
        /// 1 when it waits for data, as [`ListenerQueues::defer_accept`] counts.
        pub defer_accept: u32,
        /// Who made it listen.
        pub mark: ListeningMark,
    }
}
