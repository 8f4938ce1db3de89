//! What is seen of a socket that holds a local port.

use std::{
    fmt::{self, Display, Formatter},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
pub use tracker_common::state::TcpState;

use crate::process::Process;

/// Protocols with ports. Their ports are apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Display for Protocol {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// What the kernel keeps for a TCP port as a whole (`struct inet_bind_bucket`, `include/net/inet_hashtables.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// -1 while only `connect()` took the port; 0 or 1 once `bind()` did.
    pub fastreuse: i8,
    /// -1 while only `connect()` took the port; 0, 1 or 2 once `bind()` did.
    pub fastreuseport: i8,
}

impl Bucket {
    /// Whether `bind()` has taken the port; then no `connect()` chooses it (`__inet_hash_connect`). Since 6.18 that
    /// ends with the sockets that were bound (`inet_bind_bucket_destroy`), before with the last socket of the port.
    #[must_use]
    pub const fn is_bound(self) -> bool {
        self.fastreuse >= 0 || self.fastreuseport >= 0
    }
}

/// A socket that holds a local port of the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the kernel's own")]
pub struct SocketObservation {
    /// Protocol.
    pub protocol: Protocol,
    /// Whether it is an `AF_INET6` socket.
    pub ipv6: bool,
    /// `sk_ipv6only`: set by `IPV6_V6ONLY`, and by `bind()` to an IPv6 address that is not the wildcard
    /// (`__inet6_bind`).
    pub ipv6_only: bool,
    /// Local address; an IPv6 socket with a mapped address has the IPv4 address here.
    pub address: IpAddr,
    /// Local port.
    pub port: u16,
    /// The other end, if there is one; an IPv6 socket with a mapped address has the IPv4 address here.
    pub remote: Option<(IpAddr, u16)>,
    /// State.
    pub state: TcpState,
    /// `SO_REUSEADDR` (`sk_reuse`; `TIME_WAIT` and accepted sockets inherit it).
    pub reuse_address: bool,
    /// `SO_REUSEPORT` (`sk_reuseport`; `TIME_WAIT` and accepted sockets inherit it).
    pub reuse_port: bool,
    /// User that opened it; 0 for `TIME_WAIT`, where it counts for nothing.
    pub uid: u32,
    /// Index of the device of `SO_BINDTODEVICE`, or 0.
    pub device: u32,
    /// Inode number, or 0.
    pub inode: u64,
    /// What the kernel keeps for the port; none when it could not be read, and for UDP.
    pub bucket: Option<Bucket>,
    /// How long a `TIME_WAIT` minisocket still lasts; also one whose state is `FIN_WAIT2`. None for other sockets.
    pub remaining: Option<Duration>,
    /// Whether a `TIME_WAIT` has seen timestamps of its peer (`tw_ts_recent_stamp`).
    pub timestamps: bool,
    /// Whether it has, and is older than `tcp_tw_reuse_delay`: `connect()` may take its port if `tcp_tw_reuse` lets it
    /// (`tcp_twsk_unique`, `net/ipv4/tcp_ipv4.c`).
    pub recyclable: bool,
    /// Its queues, of a listening TCP socket.
    pub queues: Option<SocketQueues>,
    /// What it has set by `IP_LOCAL_PORT_RANGE`, as in [`tracker_common::own_ranges::own_range`]; 0 for nothing, and
    /// for minisockets, which do not have it any more.
    pub range: u32,
    /// Who holds it, as far as known.
    pub processes: Vec<Process>,
}

/// The queues of one listening socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SocketQueues {
    /// Connections that wait for `accept()` (`sk_ack_backlog`).
    pub accept_queue: u32,
    /// Limit of these (`sk_max_ack_backlog`); the kernel takes one more.
    pub accept_queue_max: u32,
    /// Half-open requests (`icsk_accept_queue.qlen`).
    pub syn_queue: u32,
    /// Those of them whose SYN-ACK was not yet repeated (`icsk_accept_queue.young`).
    pub syn_queue_young: u32,
}

impl SocketQueues {
    /// Whether no further connection can be queued (`sk_acceptq_is_full`).
    #[must_use]
    pub const fn is_full(self) -> bool {
        self.accept_queue > self.accept_queue_max
    }
}

impl SocketObservation {
    /// Whether it is a minisocket that outlives its socket: of `TIME_WAIT`, or of a `FIN_WAIT2` that no process holds.
    /// The kernel's `sk_state` is `TCP_TIME_WAIT` for both (`tcp_time_wait`, `net/ipv4/tcp_minisocks.c`).
    #[must_use]
    pub const fn is_minisocket(&self) -> bool {
        matches!(self.state, TcpState::TimeWait)
            || (matches!(self.state, TcpState::FinWait2) && self.remaining.is_some())
    }

    /// Whether it waits for connections.
    #[must_use]
    pub const fn listens(&self) -> bool {
        matches!(self.state, TcpState::Listen)
    }

    /// Whether `bind()` has taken the port: by the bucket, or where that is not known by the state.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.bucket.map_or(matches!(self.state, TcpState::Listen | TcpState::Bound), Bucket::is_bound)
    }

    /// Local address and port.
    #[must_use]
    pub const fn local(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}
