//! The answers.

use std::{collections::BTreeMap, net::IpAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr};

use super::{Protocol, TcpState};
use crate::{
    port_range::PortRange,
    process::{PortHolder, Process},
};

/// Whether a `bind()` would fail now, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BindAnswer {
    /// Protocol.
    pub protocol: Protocol,
    /// Address asked for.
    pub address: IpAddr,
    /// Port asked for; 0 for any.
    pub port: u16,
    /// Whether it would succeed. `listen()` would then succeed too, unless one of `rivals` listens first.
    pub succeeds: bool,
    /// How it would fail; null if it would not.
    pub error: Option<BindError>,
    /// How the same `bind()` would fail with other options.
    pub variants: Variants,
    /// The sockets in the way, listeners first, at most 32. Empty for port 0: then every port has some.
    pub holders: Vec<Holder>,
    /// How many sockets are in the way.
    pub holders_total: usize,
    /// Sockets that share the port only until somebody listens, at most 32: the first to call `listen()` has the port,
    /// for the others `listen()` fails with EADDRINUSE.
    pub rivals: Vec<Holder>,
    /// One line for an operator.
    pub summary: String,
    /// What to do: only what would help here.
    pub advice: Vec<String>,
    /// What else is good to know, and what is not known.
    pub notes: Vec<String>,
}

/// How `bind()` fails.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, IntoStaticStr,
)]
pub enum BindError {
    /// The port is held, or none is free (`inet_csk_get_port`, `udp_lib_get_port`).
    #[serde(rename = "EADDRINUSE")]
    #[strum(to_string = "EADDRINUSE")]
    InUse,
    /// No interface has the address (`__inet_bind`, `__inet6_bind`).
    #[serde(rename = "EADDRNOTAVAIL")]
    #[strum(to_string = "EADDRNOTAVAIL")]
    NotAvailable,
    /// The port is below `net.ipv4.ip_unprivileged_port_start` (`inet_port_requires_bind_service`).
    #[serde(rename = "EACCES")]
    #[strum(to_string = "EACCES")]
    Access,
    /// The address does not go with the socket (`__inet6_bind`).
    #[serde(rename = "EINVAL")]
    #[strum(to_string = "EINVAL")]
    Invalid,
}

impl BindError {
    /// Name of the error.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// How the same `bind()` fails with each set of options; null where it succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Variants {
    /// With none.
    pub plain: Option<BindError>,
    /// With `SO_REUSEADDR`.
    pub reuse_address: Option<BindError>,
    /// With `SO_REUSEPORT`.
    pub reuse_port: Option<BindError>,
}

/// Why a socket whose address is in the way does not share its port (`inet_bind_conflict`,
/// `net/ipv4/inet_connection_sock.c`; `udp_lib_lport_inuse`, `net/ipv4/udp.c`).
///
/// There are two ways to share: both sides have `SO_REUSEADDR` and the other does not listen; or both have
/// `SO_REUSEPORT` and are of one user, which of `TIME_WAIT` is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, Display)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// It listens.
    #[strum(to_string = "it listens, and beside a listener only SO_REUSEPORT on both sides counts")]
    Listens,
    /// It was opened without `SO_REUSEADDR`.
    #[strum(to_string = "it was opened without SO_REUSEADDR")]
    NotOffered,
    /// It has `SO_REUSEADDR`, and the new socket has not.
    #[strum(to_string = "it has SO_REUSEADDR, and the new socket has not")]
    NotAsked,
    /// Both have `SO_REUSEPORT` and belong to different users.
    #[strum(to_string = "both have SO_REUSEPORT, and it belongs to another user")]
    OtherUser,
    /// It shares the port until one of the two listens (`inet_csk_listen_start`).
    #[strum(to_string = "it shares the port until one of the two listens")]
    FirstToListen,
}

impl Rule {
    /// The kernel's function that decides it.
    #[must_use]
    pub const fn kernel(self, protocol: Protocol) -> &'static str {
        match (self, protocol) {
            (Self::FirstToListen, _) => "inet_csk_listen_start",
            (_, Protocol::Tcp) => "inet_bind_conflict",
            (_, Protocol::Udp) => "udp_lib_lport_inuse",
        }
    }
}

/// A socket in the way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Holder {
    /// State.
    pub state: TcpState,
    /// Local address.
    pub address: IpAddr,
    /// Local port.
    pub port: u16,
    /// Address of the other end; null if there is none.
    pub remote_address: Option<IpAddr>,
    /// Port of the other end; null if there is none.
    pub remote_port: Option<u16>,
    /// User that opened it; null for `TIME_WAIT`.
    pub uid: Option<u32>,
    /// Inode number; null if it has none.
    pub inode: Option<u64>,
    /// Whether it has `SO_REUSEADDR`.
    pub reuse_address: bool,
    /// Whether it has `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// When `TIME_WAIT` ends, in seconds; null for other states.
    pub ends_in_seconds: Option<f64>,
    /// Who holds it, as far as known.
    pub processes: Vec<Process>,
    /// How its address is in the way.
    pub overlap: Overlap,
    /// Why it does not share the port.
    pub rule: Rule,
    /// Both in words.
    pub why: String,
    /// The kernel's function that decides it.
    pub kernel: String,
}

/// Whether a `connect()` that leaves the port to the kernel would find one now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectAnswer {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Destination port.
    pub destination_port: u16,
    /// The range that every open connection from this source to this destination has set for itself
    /// (`IP_LOCAL_PORT_RANGE`): the answer is for a socket that sets it too. Null when they have not, or not all the
    /// same: the answer is for a socket that leaves it.
    pub local_port_range: Option<PortRange>,
    /// Ports that the kernel looks at: the range less the reserved ones; of a range with an odd number of ports it
    /// passes over one end, unless it is a range of the socket's own.
    pub capacity: u32,
    /// Connections from this source to this destination with a port of the range, by state.
    pub in_use: BTreeMap<TcpState, u32>,
    /// Ports that cannot be taken.
    pub held: u32,
    /// Ports of `TIME_WAIT` connections that `connect()` can take; they count as free.
    pub reusable: u32,
    /// Ports that `connect()` would find: capacity less those held.
    pub free_ports: u32,
    /// Whether it would fail with EADDRNOTAVAIL.
    pub would_fail: bool,
    /// When the next port is freed if nobody does anything, in seconds; null if that is not known.
    pub next_free_seconds: Option<f64>,
    /// What holds the ports, most first.
    pub causes: Vec<Cause>,
    /// Processes with the most connections to this destination, at most five.
    pub processes: Vec<PortHolder>,
    /// One line for an operator.
    pub summary: String,
    /// What to do: only what would help here.
    pub advice: Vec<String>,
    /// What else is good to know, and what is not known.
    pub notes: Vec<String>,
}

/// A rule by which ports are held, and how many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    /// The rule.
    pub rule: ConnectRule,
    /// Ports.
    pub ports: u32,
    /// The rule in words.
    pub why: String,
    /// The kernel's function that decides it.
    pub kernel: String,
}

/// Why `connect()` passes over a port (`__inet_hash_connect`, `net/ipv4/inet_hashtables.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, Display)]
#[serde(rename_all = "snake_case")]
pub enum ConnectRule {
    /// A connection to the same destination has it (`__inet_check_established`).
    #[strum(to_string = "a connection to this destination has the port")]
    Connected,
    /// `TIME_WAIT` to the same destination has it and may not be taken (`tcp_twsk_unique`).
    #[strum(to_string = "a connection to this destination is in TIME_WAIT with the port")]
    TimeWait,
    /// `bind()` has taken it, at whatever address (`fastreuse` or `fastreuseport` of its bucket is not negative).
    #[strum(to_string = "bind() took the port, at whatever address")]
    Bound,
}

impl ConnectRule {
    /// The kernel's function that decides it.
    #[must_use]
    pub const fn kernel(self) -> &'static str {
        match self {
            Self::Connected => "__inet_check_established",
            Self::TimeWait => "tcp_twsk_unique",
            Self::Bound => "__inet_hash_connect",
        }
    }
}

/// Why two local addresses are in each other's way (`inet_rcv_saddr_equal`, `net/ipv4/inet_connection_sock.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, Display)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// They are the same.
    #[strum(to_string = "it has the same address")]
    SameAddress,
    /// The socket has the wildcard, which takes all addresses.
    #[strum(to_string = "it has the wildcard, which takes all addresses")]
    HeldWildcard,
    /// The wildcard is asked for, and the socket has one address.
    #[strum(to_string = "the wildcard takes its address too")]
    AskedWildcard,
    /// One is an IPv6 wildcard without `IPV6_V6ONLY`, which takes IPv4 addresses too (`ipv6_rcv_saddr_equal`).
    #[strum(to_string = "an IPv6 wildcard without IPV6_V6ONLY takes IPv4 too")]
    DualStack,
    /// IPv4 is asked for, mostly the wildcard, and the socket is an IPv6 connection without `IPV6_V6ONLY`: its IPv4
    /// address is 127.0.0.6 to the kernel (`ipv4_rcv_saddr_equal`).
    #[strum(to_string = "an IPv6 connection without IPV6_V6ONLY is in the way of IPv4 too")]
    Ipv6Connection,
}
