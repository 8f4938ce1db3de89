//! Names of programs, maps, globals and kernel fields; each is written once, here.

/// XDP program on physical and virtio interfaces.
pub const PROGRAM_XDP: &str = "tracker_xdp";
/// tcx or clsact classifier on all other interfaces.
pub const PROGRAM_TC: &str = "tracker_tc";
/// Socket events by the BTF-typed tracepoint `inet_sock_set_state`.
pub const PROGRAM_SOCK_BTF: &str = "tracker_sock_btf";
/// Socket events by the raw tracepoint of the same name, where the kernel has no BTF.
pub const PROGRAM_SOCK_RAW: &str = "tracker_sock_raw";
/// Census of all sockets by `bpf_iter/tcp`.
pub const PROGRAM_CENSUS: &str = "tracker_census";
/// Which process holds which socket, by `bpf_iter/task_file`.
pub const PROGRAM_HOLDERS: &str = "tracker_holders";
/// Ephemeral ports of UDP, by `bpf_iter/udp`.
pub const PROGRAM_UDP: &str = "tracker_udp";
/// TCP sockets that hold a port, by `bpf_iter/tcp`.
pub const PROGRAM_TCP_AT: &str = "tracker_tcp_at";
/// UDP sockets that hold a port, by `bpf_iter/udp`.
pub const PROGRAM_UDP_AT: &str = "tracker_udp_at";
/// Sockets of processes that hold a port, by `bpf_iter/task_file`.
pub const PROGRAM_FILES_AT: &str = "tracker_files_at";
/// The end of `bind()`, by fexit.
pub const PROGRAM_BIND: &str = "tracker_bind";
/// The begin of `bind()`, by the tracepoint of the system call.
pub const PROGRAM_BIND_IN: &str = "tracker_bind_in";
/// The end of `bind()`, by the tracepoint of the system call.
pub const PROGRAM_BIND_OUT: &str = "tracker_bind_out";
/// All programs of the object.
pub const PROGRAMS: [&str; 13] = [
    PROGRAM_XDP,
    PROGRAM_TC,
    PROGRAM_SOCK_BTF,
    PROGRAM_SOCK_RAW,
    PROGRAM_CENSUS,
    PROGRAM_HOLDERS,
    PROGRAM_UDP,
    PROGRAM_TCP_AT,
    PROGRAM_UDP_AT,
    PROGRAM_FILES_AT,
    PROGRAM_BIND,
    PROGRAM_BIND_IN,
    PROGRAM_BIND_OUT,
];

/// Direct-mapped table of [`crate::counters::Interface`].
pub const INTERFACES: &str = "INTERFACES";
/// Per CPU and slot: [`crate::counters::InterfaceCounters`].
pub const INTERFACE_COUNTERS: &str = "INTERFACE_CTRS";
/// Set of local host addresses, 16 bytes each.
pub const LOCAL_ADDRESSES: &str = "LOCAL_ADDRS";
/// Local addresses, each a [`crate::hash::Halves`], by [`crate::hash::place`]; of several at one place one.
pub const LOCAL_PLACES: &str = "LOCAL_PLACES";
/// Trie of local prefixes wider than a host, mapped form.
pub const LOCAL_PREFIXES: &str = "LOCAL_PREFIXES";
/// By port: [`crate::listener::Port`].
pub const PORTS: &str = "PORTS";
/// By slot: [`crate::listener::Slot`].
pub const SLOTS: &str = "SLOTS";
/// By port: SYNs to local addresses that met no listener. The daemon maps it into its memory.
pub const REFUSED_SYNS: &str = "REFUSED_SYNS";
/// [`crate::listener::Single`] by [`crate::listener::single`].
pub const SINGLES: &str = "SINGLES";
/// [`crate::listener::Listener`] by [`crate::listener::ListenerKey`].
pub const LISTENERS: &str = "LISTENERS";
/// Queue of free listener slots.
pub const FREE_SLOTS: &str = "FREE_SLOTS";
/// Per CPU and slot: [`crate::listener::ListenerCounters`].
pub const LISTENER_COUNTERS: &str = "LISTENER_CTRS";
/// By slot: [`crate::listener::ListenerCensus`].
pub const LISTENER_CENSUS: &str = "LISTENER_CENSUS";
/// By slot: [`crate::sources::Registers`].
pub const SOURCES: &str = "SOURCES";
/// By slot: [`crate::sources::SourceSample`].
pub const SOURCE_SAMPLES: &str = "SOURCE_SAMPLES";
/// Connections of the sample: [`crate::flows::Flow`] by [`crate::flows::index`].
pub const FLOWS: &str = "FLOWS";
/// One [`crate::flows::Sampling`].
pub const SAMPLING: &str = "SAMPLING";
/// [`crate::sources::HalfOpenSource`], by hash. The daemon maps it into its memory.
pub const HALF_OPEN_SOURCES: &str = "HALF_OPEN_SRCS";
/// Per CPU: one [`crate::counters::SocketCounters`].
pub const SOCKET_COUNTERS: &str = "SOCKET_CTRS";
/// Sampled connections: [`crate::lifetimes::Places`] by [`crate::lifetimes::index`].
pub const TIMED: &str = "TIMED";
/// One [`crate::counters::Census`].
pub const CENSUS: &str = "CENSUS";
/// Number of the census under way.
pub const CENSUS_GENERATION: &str = "CENSUS_GEN";
/// Not 0 when a listener was opened that only a census can tell more of; the daemon sets it back.
pub const CENSUS_WANTED: &str = "CENSUS_WANTED";
/// One [`crate::ports::PortPass`].
pub const PORT_PASS: &str = "PORT_PASS";
/// [`crate::ports::PortTuple`], by hash. The daemon maps it into its memory.
pub const PORT_TUPLES: &str = "PORT_TUPLES";
/// One [`crate::ports::PortTotals`].
pub const PORT_TOTALS: &str = "PORT_TOTALS";
/// One [`crate::ports::PortBuckets`].
pub const PORT_BUCKETS: &str = "PORT_BUCKETS";
/// [`crate::ports::PortSource`], by hash of the address.
pub const PORT_SOURCES: &str = "PORT_SOURCES";
/// [`crate::ports::Holder`] by [`crate::ports::HolderKey`].
pub const HOLDERS: &str = "HOLDERS";
/// The same of sockets that processes leak.
pub const LEAKS: &str = "LEAKS";
/// One entry: the socket and the process that the pass over descriptors met last.
pub const HOLDERS_LAST: &str = "HOLDERS_LAST";
/// Set of [`crate::ports::Watched`].
pub const WATCHED: &str = "WATCHED";
/// [`crate::ports::Maker`] by [`crate::ports::MakerKey`].
pub const MAKERS: &str = "MAKERS";
/// [`crate::ports::Failure`] by [`crate::ports::BindFailureKey`].
pub const BIND_FAILURES: &str = "BIND_FAILURES";
/// Calls of `bind()` under way, by thread: descriptor and where the address is.
pub const BIND_CALLS: &str = "BIND_CALLS";
/// One [`crate::socket::SocketQuery`].
pub const SOCKET_QUERY: &str = "SOCKET_QUERY";
/// [`crate::ports::Failure`] by [`crate::ports::FailureKey`].
pub const CONNECT_FAILURES: &str = "CONNECT_FAILURES";
/// Per CPU: a counter for each [`crate::counters::Loss`].
pub const LOSSES: &str = "LOSSES";
/// Ring buffer of the kernel side's log lines, as aya-log names it.
pub const LOG: &str = "AYA_LOGS";
/// All maps of the object, besides the sections of globals.
pub const MAPS: [&str; 39] = [
    INTERFACES,
    INTERFACE_COUNTERS,
    LOCAL_ADDRESSES,
    LOCAL_PLACES,
    LOCAL_PREFIXES,
    PORTS,
    SLOTS,
    SINGLES,
    REFUSED_SYNS,
    LISTENERS,
    FREE_SLOTS,
    LISTENER_COUNTERS,
    LISTENER_CENSUS,
    SOURCES,
    SOURCE_SAMPLES,
    FLOWS,
    SAMPLING,
    HALF_OPEN_SOURCES,
    SOCKET_COUNTERS,
    TIMED,
    CENSUS,
    CENSUS_GENERATION,
    CENSUS_WANTED,
    PORT_PASS,
    PORT_TUPLES,
    PORT_TOTALS,
    PORT_BUCKETS,
    PORT_SOURCES,
    HOLDERS,
    HOLDERS_LAST,
    LEAKS,
    WATCHED,
    MAKERS,
    BIND_FAILURES,
    BIND_CALLS,
    SOCKET_QUERY,
    CONNECT_FAILURES,
    LOSSES,
    LOG,
];

/// Global: inode number of the only network namespace whose sockets are counted.
pub const NETNS: &str = "NETNS";
/// Global: not 0 when connects that got no port are counted in all network namespaces.
pub const ALL_NETNS: &str = "ALL_NETNS";
/// Global: key of all hashes, 64 bits, drawn at random at each start.
pub const HASH_KEY: &str = "HASH_KEY";
/// Global: not 0 in benchmarks alone: each SYN is taken as from a random source. While it is 0 the verifier takes the branch
/// out of the program.
pub const SCATTER: &str = "SCATTER";
/// Global: a connection is timed when a random number and this mask are 0; a power of two less one.
pub const SAMPLE_MASK: &str = "SAMPLE_MASK";
/// Global: bit of `skc_ipv6only` in its byte.
pub const IPV6ONLY_BIT: &str = "IPV6ONLY_BIT";
/// Global: lowest bit of `skc_reuse` in its byte.
pub const REUSE_BIT: &str = "REUSE_BIT";
/// Global: bit of `skc_reuseport` in its byte.
pub const REUSEPORT_BIT: &str = "REUSEPORT_BIT";

/// A field of a kernel structure whose offset the daemon reads from the kernel's BTF and hands to the programs as
/// a frozen global. The offsets move between kernels, even in stable updates.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Name of the global.
    pub global: &'static str,
    /// Name of the structure.
    pub structure: &'static str,
    /// Members from the structure to the field.
    pub path: &'static [&'static str],
    /// Without a required field the daemon does not start; any other reads as [`ABSENT`].
    pub required: bool,
}

/// Offset of a field that the kernel does not have.
pub const ABSENT: u32 = 0xffff;

const fn field(global: &'static str, structure: &'static str, path: &'static [&'static str]) -> Field {
    Field { global, structure, path, required: true }
}

/// The field that holds the bit [`IPV6ONLY_BIT`].
pub const IPV6ONLY: Field = field("OFF_IPV6ONLY", "sock_common", &["skc_ipv6only"]);

/// The field that holds the four bits from [`REUSE_BIT`] on.
pub const REUSE: Field = field("OFF_REUSE", "sock_common", &["skc_reuse"]);
/// The field that holds the bit [`REUSEPORT_BIT`].
pub const REUSEPORT: Field = field("OFF_REUSEPORT", "sock_common", &["skc_reuseport"]);
/// Bit fields, each with the global that tells its lowest bit.
pub const BIT_FIELDS: [(&str, Field); 3] = [(IPV6ONLY_BIT, IPV6ONLY), (REUSE_BIT, REUSE), (REUSEPORT_BIT, REUSEPORT)];

/// All fields that the programs read.
pub const FIELDS: [Field; 51] = [
    field("OFF_FAMILY", "sock_common", &["skc_family"]),
    field("OFF_STATE", "sock_common", &["skc_state"]),
    field("OFF_SADDR", "sock_common", &["skc_rcv_saddr"]),
    field("OFF_DADDR", "sock_common", &["skc_daddr"]),
    field("OFF_NUM", "sock_common", &["skc_num"]),
    field("OFF_DPORT", "sock_common", &["skc_dport"]),
    field("OFF_SADDR6", "sock_common", &["skc_v6_rcv_saddr"]),
    field("OFF_DADDR6", "sock_common", &["skc_v6_daddr"]),
    field("OFF_NET", "sock_common", &["skc_net", "net"]),
    IPV6ONLY,
    REUSE,
    REUSEPORT,
    field("OFF_DEVICE", "sock_common", &["skc_bound_dev_if"]),
    field("OFF_INUM", "net", &["ns", "inum"]),
    field("OFF_PROTOCOL", "sock", &["sk_protocol"]),
    field("OFF_ERR", "sock", &["sk_err"]),
    field("OFF_UID", "sock", &["sk_uid"]),
    field("OFF_RX_IFINDEX", "sock", &["sk_rx_dst_ifindex"]),
    field("OFF_ACK_BACKLOG", "sock", &["sk_ack_backlog"]),
    field("OFF_MAX_ACK_BACKLOG", "sock", &["sk_max_ack_backlog"]),
    field("OFF_DROPS", "sock", &["sk_drops"]),
    field("OFF_SOCKET", "sock", &["sk_socket"]),
    field("OFF_CGROUP", "sock", &["sk_cgrp_data", "cgroup"]),
    field("OFF_CGROUP_KN", "cgroup", &["kn"]),
    field("OFF_KN_ID", "kernfs_node", &["id"]),
    field("OFF_SPORT", "inet_sock", &["inet_sport"]),
    field("OFF_QLEN", "inet_connection_sock", &["icsk_accept_queue", "qlen"]),
    field("OFF_YOUNG", "inet_connection_sock", &["icsk_accept_queue", "young"]),
    field("OFF_PACKETS_OUT", "tcp_sock", &["packets_out"]),
    field("OFF_SHUTDOWN", "sock", &["sk_shutdown"]),
    field("OFF_SRTT", "tcp_sock", &["srtt_us"]),
    field("OFF_TOTAL_RETRANS", "tcp_sock", &["total_retrans"]),
    field("OFF_TW_SUBSTATE", "inet_timewait_sock", &["tw_substate"]),
    field("OFF_BIND_BUCKET", "inet_connection_sock", &["icsk_bind_hash"]),
    field("OFF_FASTREUSE", "inet_bind_bucket", &["fastreuse"]),
    field("OFF_FASTREUSEPORT", "inet_bind_bucket", &["fastreuseport"]),
    field("OFF_RCV_TSTAMP", "tcp_sock", &["rcv_tstamp"]),
    field("OFF_TW_BUCKET", "inet_timewait_sock", &["tw_tb"]),
    field("OFF_TW_EXPIRES", "inet_timewait_sock", &["tw_timer", "expires"]),
    field("OFF_TW_STAMP", "tcp_timewait_sock", &["tw_ts_recent_stamp"]),
    // Since Linux 6.13 the age is counted in milliseconds from here (commit 19ce8cd30465); before it, in seconds from the
    // last timestamp.
    Field { global: "OFF_TW_ENTRY", structure: "inet_timewait_sock", path: &["tw_entry_stamp"], required: false },
    field("OFF_SOCKET_SK", "socket", &["sk"]),
    field("OFF_FILES", "task_struct", &["files"]),
    field("OFF_FDT", "files_struct", &["fdt"]),
    field("OFF_FD", "fdtable", &["fd"]),
    field("OFF_PRIVATE", "file", &["private_data"]),
    field("OFF_TGID", "task_struct", &["tgid"]),
    field("OFF_LEADER", "task_struct", &["group_leader"]),
    field("OFF_COMM", "task_struct", &["comm"]),
    // Since Linux 6.7 (commit 3868ab0f1925); before it the number of repeats gives a lower bound.
    Field { global: "OFF_RTO_STAMP", structure: "tcp_sock", path: &["rto_stamp"], required: false },
    Field { global: "OFF_RTO_TIME", structure: "tcp_sock", path: &["total_rto_time"], required: false },
];
// `socket_alloc.vfs_inode` and `inode.i_ino` stand apart: they are added up to one offset from `sk_socket`.

/// The two fields whose offsets add up to the global [`INODE`].
pub const INODE_FIELDS: [(&str, &[&str]); 2] = [("socket_alloc", &["vfs_inode"]), ("inode", &["i_ino"])];
/// Global: offset of the inode number from the `struct socket` of a socket.
pub const INODE: &str = "OFF_INODE";
