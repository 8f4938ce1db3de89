//! Hard limits of the kernel side. They bound its memory whatever an attacker sends.

/// Interfaces that are counted apart; slot 0 counts for all that come after.
pub const INTERFACES: u32 = 256;
/// Size of the direct-mapped table from interface index to slot, a power of two.
pub const INTERFACE_TABLE: u32 = 4096;
/// Listening addresses that are counted apart; slot 0 counts for all that come after.
pub const LISTENERS: u32 = 1024;
/// Listening addresses that are known, with counters of their own or without.
pub const KNOWN_LISTENERS: u32 = 16_384;
/// Of [`LISTENERS`] those slots that no listener gets when it opens: the daemon gives them to listeners that receive
/// SYNs, however many others have opened.
pub const RESERVED_SLOTS: u32 = 256;
/// Size of the table that says which listeners without a slot receive SYNs, a power of two.
pub const SHARED_SYNS: u32 = 16_384;
/// Size of the table of listeners on single addresses by hash, a power of two.
pub const EXACT_LISTENERS: u32 = 4096;
/// Slot of the SYNs that meet no listener, behind those of the listeners.
pub const NO_LISTENER_SLOT: u32 = LISTENERS + 1;
/// Slots in all: the shared one, those of the listeners, and that of the SYNs that meet none.
pub const SLOTS: u32 = LISTENERS + 2;
/// Sources of a listener's SYNs that are kept in its sample, a power of two.
pub const SOURCE_SAMPLE: usize = 256;
/// Sources of handshakes that a listener's clients completed, of which that many are kept, a power of two.
pub const COMPLETED_SAMPLE: usize = 32;
/// Connections in the sample from which repeats and handshakes are estimated, a power of two.
pub const FLOWS: u32 = 16_384;
/// Places for SYNs on their way from a packet program to TCP, a power of two. A packet gets there before the
/// next batch of its interface is taken in, or waits in the backlog of another CPU (`net.core.netdev_max_backlog`, 1000
/// packets): of as many, 3 in 100 lose one of
/// their two places to a later one.
pub const SYN_ORIGINS: u32 = 65_536;
/// Sources of half-open requests that a census keeps, a power of two.
pub const HALF_OPEN_SOURCES: u32 = 4096;
/// Entries that are tried for one of them.
pub const HALF_OPEN_TRIES: u32 = 8;
/// Tuples of source address, destination and port whose ephemeral ports are counted apart, a power of two.
pub const PORT_TUPLES: u32 = 16_384;
/// Entries that are tried for one of them.
pub const PORT_TUPLE_TRIES: u32 = 32;
/// Local addresses whose ephemeral ports are counted separately, a power of two.
pub const PORT_SOURCES: u32 = 64;
/// Entries that are tried for one of them.
pub const PORT_SOURCE_TRIES: u32 = 8;
/// Ranges that sockets set for themselves, in entries of tuple and range.
pub const PORT_RANGES: u32 = 32;
/// What processes hold, in entries of process and tuple.
pub const HOLDERS: u32 = 4096;
/// What processes leak, in entries of process and state. Apart from [`HOLDERS`], which one process with many
/// destinations fills.
pub const LEAKS: u32 = 1024;
/// Destinations whose connects are attributed to processes.
pub const WATCHED: u32 = 128;
/// Processes that connect to them, in entries of process and destination.
pub const CONNECTORS: u32 = 4096;
/// Connects that got no port, in entries of process and destination.
pub const CONNECT_FAILURES: u32 = 1024;
/// Calls of `bind()` that were refused, in entries of process and address.
pub const BIND_FAILURES: u32 = 1024;
/// Calls of `bind()` that are under way at one moment and followed.
pub const BIND_CALLS: u32 = 1024;
/// Local addresses of single hosts (/32, /128).
pub const LOCAL_ADDRESSES: u32 = 4096;
/// Size of the table of them by hash, which is asked first, a power of two.
pub const LOCAL_PLACES: u32 = 4096;
/// Local prefixes wider than a host, such as 127.0.0.0/8.
pub const LOCAL_PREFIXES: u32 = 256;
/// Places for connections whose life is timed at one moment, see [`crate::fields::SAMPLE_MASK`]. A connection has eight
/// of them to choose from: when half of all are taken, 3 in 100 find none, when a fifth is taken, 2 in 10,000.
pub const MEASURED_LIFETIMES: u32 = 131_072;
/// VLAN tags that are walked in a frame.
pub const VLAN_TAGS: usize = 2;
/// IPv6 extension headers that are walked in a packet.
pub const IPV6_EXTENSION_HEADERS: usize = 8;
/// A socket is in `TIME_WAIT` for this many seconds (`TCP_TIMEWAIT_LEN`, `include/net/tcp.h`).
pub const TIME_WAIT_SECONDS: u32 = 60;
/// A `TIME_WAIT` is recent when the socket entered it in the last this many seconds.
pub const RECENT_SECONDS: u32 = 10;
/// A socket that only its process can end counts as leaked when its peer was silent for this many seconds.
pub const SILENT_SECONDS: u32 = 60;
/// Tuples of local ports that are shown one by one where there are many.
pub const TUPLES_SHOWN: usize = 32;
