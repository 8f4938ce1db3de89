//! Fields of kernel structures and other globals: a line in a list for each.
//!
//! The daemon reads the offset of each field from the kernel's BTF and hands it to the programs as a frozen global.
//! The offsets move between kernels, even in stable updates.

/// A field of a kernel structure.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Name of the global that holds its offset.
    pub global: &'static str,
    /// Name of the structure.
    pub structure: &'static str,
    /// Members from the structure to the field.
    pub path: &'static [&'static str],
}

/// Offset of a field that the kernel does not have.
pub const ABSENT: u32 = 0xffff;

/// Calls a macro with the list of all fields, as `global: structure.member.member;`.
///
/// Without a `required` field the daemon does not start. An `optional` one that is missing reads as [`ABSENT`]. Of a
/// bit field the global in `bits` is its lowest bit within its byte.
#[macro_export]
macro_rules! for_each_field {
    ($callback:ident) => {
        $callback! {
            required {
                OFF_FAMILY: sock_common.skc_family;
                OFF_STATE: sock_common.skc_state;
                OFF_SADDR: sock_common.skc_rcv_saddr;
                OFF_DADDR: sock_common.skc_daddr;
                OFF_NUM: sock_common.skc_num;
                OFF_DPORT: sock_common.skc_dport;
                OFF_SADDR6: sock_common.skc_v6_rcv_saddr;
                OFF_DADDR6: sock_common.skc_v6_daddr;
                OFF_NET: sock_common.skc_net.net;
                OFF_IPV6ONLY: sock_common.skc_ipv6only;
                OFF_REUSE: sock_common.skc_reuse;
                OFF_REUSEPORT: sock_common.skc_reuseport;
                OFF_DEVICE: sock_common.skc_bound_dev_if;
                OFF_INUM: net.ns.inum;
                OFF_PROTOCOL: sock.sk_protocol;
                OFF_ERR: sock.sk_err;
                OFF_UID: sock.sk_uid;
                OFF_RX_IFINDEX: sock.sk_rx_dst_ifindex;
                OFF_ACK_BACKLOG: sock.sk_ack_backlog;
                OFF_MAX_ACK_BACKLOG: sock.sk_max_ack_backlog;
                OFF_DROPS: sock.sk_drops;
                OFF_SOCKET: sock.sk_socket;
                OFF_CGROUP: sock.sk_cgrp_data.cgroup;
                OFF_CGROUP_KN: cgroup.kn;
                OFF_KN_ID: kernfs_node.id;
                OFF_SPORT: inet_sock.inet_sport;
                OFF_QLEN: inet_connection_sock.icsk_accept_queue.qlen;
                OFF_DEFER_ACCEPT: inet_connection_sock.icsk_accept_queue.rskq_defer_accept;
                OFF_YOUNG: inet_connection_sock.icsk_accept_queue.young;
                OFF_PACKETS_OUT: tcp_sock.packets_out;
                OFF_SHUTDOWN: sock.sk_shutdown;
                OFF_SRTT: tcp_sock.srtt_us;
                OFF_TOTAL_RETRANS: tcp_sock.total_retrans;
                OFF_REQUEST_ACKED: inet_request_sock.acked;
                OFF_TW_SUBSTATE: inet_timewait_sock.tw_substate;
                OFF_BIND_BUCKET: inet_connection_sock.icsk_bind_hash;
                OFF_FASTREUSE: inet_bind_bucket.fastreuse;
                OFF_FASTREUSEPORT: inet_bind_bucket.fastreuseport;
                OFF_RCV_TSTAMP: tcp_sock.rcv_tstamp;
                OFF_TW_BUCKET: inet_timewait_sock.tw_tb;
                OFF_TW_EXPIRES: inet_timewait_sock.tw_timer.expires;
                OFF_TW_STAMP: tcp_timewait_sock.tw_ts_recent_stamp;
                OFF_SOCKET_SK: socket.sk;
                OFF_FILES: task_struct.files;
                OFF_FDT: files_struct.fdt;
                OFF_FD: fdtable.fd;
                OFF_PRIVATE: file.private_data;
                OFF_TGID: task_struct.tgid;
                OFF_LEADER: task_struct.group_leader;
                OFF_COMM: task_struct.comm;
            }
            optional {
                // Since Linux 6.13 the age is counted in milliseconds from here (commit 19ce8cd30465); before it, in
                // seconds from the last timestamp.
                OFF_TW_ENTRY: inet_timewait_sock.tw_entry_stamp;
                // Since Linux 6.7 (commit 3868ab0f1925); before it the number of retransmissions gives a lower bound.
                OFF_RTO_STAMP: tcp_sock.rto_stamp;
                OFF_RTO_TIME: tcp_sock.total_rto_time;
                // Where one is missing, the kernel refuses the programs that see dropped packets, and no others.
                OFF_SKB_HEAD: sk_buff.head;
                OFF_SKB_NETWORK: sk_buff.network_header;
                OFF_SKB_DEVICE: sk_buff.dev;
                OFF_SKB_ROUTE: sk_buff._skb_refdst;
                OFF_SKB_SOCKET: sk_buff.sk;
                OFF_ROUTE_DEVICE: dst_entry.dev;
                OFF_DEVICE_NET: net_device.nd_net.net;
                // Since Linux 6.3 (commit 91d0b78c5177): two u16, since 6.8 one u32 with the same bytes.
                OFF_LOCAL_RANGE: inet_sock.local_port_range;
            }
            bits {
                IPV6ONLY_BIT: sock_common.skc_ipv6only;
                REUSE_BIT: sock_common.skc_reuse;
                REUSEPORT_BIT: sock_common.skc_reuseport;
                REQUEST_ACKED_BIT: inet_request_sock.acked;
            }
        }
    };
}

macro_rules! tables {
    (
        required { $( $required:ident: $required_in:ident $( . $required_member:ident )+; )* }
        optional { $( $optional:ident: $optional_in:ident $( . $optional_member:ident )+; )* }
        bits { $( $bit:ident: $bit_in:ident $( . $bit_member:ident )+; )* }
    ) => {
        /// Fields that every supported kernel has.
        pub const REQUIRED: &[Field] = &[$( Field {
            global: stringify!($required),
            structure: stringify!($required_in),
            path: &[$( stringify!($required_member) ),+],
        }, )*];
        /// Fields that only some kernels have.
        pub const OPTIONAL: &[Field] = &[$( Field {
            global: stringify!($optional),
            structure: stringify!($optional_in),
            path: &[$( stringify!($optional_member) ),+],
        }, )*];
        /// Bit fields.
        pub const BITS: &[Field] = &[$( Field {
            global: stringify!($bit),
            structure: stringify!($bit_in),
            path: &[$( stringify!($bit_member) ),+],
        }, )*];
    };
}
for_each_field!(tables);

/// The two fields whose offsets add up to the global [`INODE`].
pub const INODE_FIELDS: [(&str, &[&str]); 2] = [("socket_alloc", &["vfs_inode"]), ("inode", &["i_ino"])];
/// Global: offset of the inode number from the `struct socket` of a socket.
pub const INODE: &str = "OFF_INODE";

/// Global: inode number of the only network namespace whose sockets are counted.
pub const NETNS: &str = "NETNS";
/// Global: not 0 when connects that got no port are counted in all network namespaces.
pub const ALL_NETNS: &str = "ALL_NETNS";
/// Global: key of all hashes, 64 bits, drawn at random at each start.
pub const HASH_KEY: &str = "HASH_KEY";
/// Global: not 0 only in benchmarks: each SYN is counted as from a random source. While it is 0 the verifier removes
/// the branch from the program.
pub const SCATTER: &str = "SCATTER";
/// Global: a connection is timed when a random number and this mask are 0; a power of two less one.
pub const SAMPLE_MASK: &str = "SAMPLE_MASK";
