//! One socket that holds a local port, as the passes that answer `tracker explain` write it.

use crate::{hash::AddrWords, layout::abi};

abi! {
    /// Which sockets are asked for. Value of [`crate::maps::SOCKET_QUERY`].
    pub struct SocketQuery {
        /// Destination whose connections are wanted, beside sockets on ports that `bind()` holds; see `all`.
        pub destination: AddrWords,
        /// Network namespace, for the pass over descriptors; the others are of one by themselves.
        pub netns: u32,
        /// Sockets that are written at most, by each pass.
        pub most: u32,
        /// Sockets that were written, or would have been: set to zero before each pass.
        pub met: u32,
        /// `net.ipv4.tcp_tw_reuse_delay`, milliseconds.
        pub reuse_delay_ms: u32,
        /// Lowest local port.
        pub low: u16,
        /// Highest local port.
        pub high: u16,
        /// Port of the destination.
        pub destination_port: u16,
        /// Not 0 when all sockets with these local ports are wanted, whatever the destination.
        pub all: u16,
    }
}

abi! {
    /// A socket.
    pub struct SocketRecord {
        /// Local address, an IPv4 one in mapped form.
        pub local: AddrWords,
        /// Remote address.
        pub remote: AddrWords,
        /// Inode of its file; 0 without one.
        pub inode: u64,
        /// Jiffies until it ends; [`u32::MAX`] for all but `TIME_WAIT` and orphans in `FIN_WAIT2`.
        pub left: u32,
        /// User.
        pub uid: u32,
        /// Interface that it is bound to; 0 for any.
        pub device: u32,
        /// Process, 0 where the pass does not tell.
        pub pid: u32,
        /// Of a listening socket: connections that wait for `accept()`.
        pub accept_queue: u32,
        /// Of a listening socket: limit of these.
        pub accept_queue_max: u32,
        /// Of a listening socket: half-open requests.
        pub syn_queue: u32,
        /// Of a listening socket: those of them whose SYN-ACK was not yet repeated.
        pub syn_queue_young: u32,
        /// Local port.
        pub local_port: u16,
        /// Remote port.
        pub remote_port: u16,
        /// `IPPROTO_TCP` or `IPPROTO_UDP`.
        pub protocol: u16,
        /// By the kernel's number.
        pub state: u8,
        /// 1 for `AF_INET6`.
        pub ipv6: u8,
        /// `SO_REUSEADDR`: 0, 1 (`SK_CAN_REUSE`) or 2.
        pub reuse_address: u8,
        /// `SO_REUSEPORT`.
        pub reuse_port: u8,
        /// `IPV6_V6ONLY`.
        pub ipv6_only: u8,
        /// `TIME_WAIT` that `connect()` may replace if `tcp_tw_reuse` lets it.
        pub recyclable: u8,
        /// `fastreuse` of the port's bucket, [`NO_BUCKET`] where it is not known.
        pub fastreuse: i8,
        /// `fastreuseport` of the port's bucket.
        pub fastreuseport: i8,
        /// `TIME_WAIT` with timestamps.
        pub stamped: u8,
        /// Unused.
        pub padding: u8,
        /// `IP_LOCAL_PORT_RANGE` of a full TCP socket, as in [`crate::own_ranges::own_range`]; 0 for nothing.
        pub range: u32,
        /// Unused.
        pub more_padding: u32,
        /// Name of the process.
        pub comm: [u8; 16],
    }
}

/// Stands for what is not known of a bucket; the kernel uses -1, 0, 1 and 2.
pub const NO_BUCKET: i8 = i8::MIN;
