//! Local ports: how many are taken, by whom, and what that means.

use std::net::IpAddr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ByName;
use crate::process::Process;
pub use crate::{
    port_range::PortRange,
    process::{PortHolder, PortMaker},
};

/// Answer of `GET /v1/ports`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ports {
    /// When the last census of ports was taken; null before the first.
    pub taken_at: Option<Timestamp>,
    /// What holds for all destinations of a network namespace.
    pub namespaces: Vec<PortSpace>,
    /// Ports by source and destination, the worst first: by `used_ratio`, then by `in_use`.
    pub ports: Vec<PortUse>,
    /// Ports that `bind()` to an address with port 0 can choose from, the worst first. Each serves one connection then,
    /// whatever its destination, unless `IP_BIND_ADDRESS_NO_PORT` is set.
    pub bind_pools: Vec<BindPoolUse>,
    /// Calls of `connect()` that found no free port, by destination and process, the last first.
    pub failures: Vec<PortFailure>,
    /// Calls of `bind()` that failed with `EADDRINUSE`, by address and process, the last first.
    pub conflicts: Vec<PortConflict>,
    /// How calls of `bind()` that fail are seen: `fexit`, `tracepoints`, or `no` where the kernel refuses fexit and
    /// `--trace-bind` is not set. `conflicts` is empty then: `bind()` is not traced.
    pub conflicts_seen_by: String,
    /// Why some network namespaces could not be read (`--all-netns`); null when all were.
    pub unread: Option<String>,
}

/// What holds for all destinations of a network namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PortSpace {
    /// Network namespace.
    pub netns: u32,
    /// Its name in `/run/netns`, or a process that lives in it; null for that of the daemon.
    pub name: Option<String>,
    /// When its census was taken.
    pub taken_at: Timestamp,
    /// `net.ipv4.ip_local_port_range`.
    pub range: PortRange,
    /// Ports of the range that `net.ipv4.ip_local_reserved_ports` takes out.
    pub reserved: u32,
    /// Other ports of the range that `connect()` passes over, because they are bound by `bind()`.
    pub bound: u32,
    /// `net.ipv4.tcp_tw_reuse`: 0, 1 or 2.
    pub tw_reuse: u8,
    /// Connections whose source and destination are not listed.
    pub rest: PortRest,
    /// UDP, whose ports are apart from those of TCP.
    pub udp: UdpPorts,
    /// Sockets whose source address did not fit into `bind_pools`, whose figures are lower bounds then.
    pub sources_lost: u64,
    /// Sockets with a range of their own (`IP_LOCAL_PORT_RANGE`) that has no row: there is room for
    /// 24 of a namespace, and 8 of a pair of source and destination.
    pub ranges_lost: u64,
}

/// UDP sockets and the ports that they hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UdpPorts {
    /// Sockets with a local port.
    pub sockets: u64,
    /// Those of them whose port is in the range and not reserved.
    pub ephemeral: u64,
    /// Ports of the range that these hold: several sockets may share one.
    pub in_use: u32,
    /// Ports of the range that are not reserved.
    pub capacity: u32,
    /// `in_use / capacity`, 0 to 1. At 1 every `bind()` or `connect()` that leaves the port of an IPv6 socket to the
    /// kernel fails.
    pub used_ratio: f64,
    /// Those in use that an IPv4 socket cannot have: all but those of sockets with `IPV6_V6ONLY`.
    pub ipv4_in_use: u32,
    /// Growth of `in_use` over the last minute, ports per second, an estimate; null before there are three looks.
    pub growth_per_second: Option<f64>,
    /// Time until none is left if it goes on like this, seconds, an estimate; null when that is not within the hour.
    pub full_in_seconds: Option<f64>,
    /// Processes with the most of these sockets, at most ten.
    pub processes: Vec<PortHolder>,
}

/// Connections whose source and destination are not listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortRest {
    /// Sockets.
    pub sockets: u64,
    /// Pairs of source and destination that they belong to, at least.
    pub tuples_at_least: u64,
    /// Each of these holds at most this many ports.
    pub most: u32,
}

/// From this [`PortUse::used_ratio`] on a destination matters: it is shown and has series of its own.
pub const MATTERS: f64 = 0.01;

/// The local ports that are taken from one source address to one destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PortUse {
    /// Network namespace.
    pub netns: u32,
    /// Local address.
    pub source: IpAddr,
    /// Remote address.
    pub destination: IpAddr,
    /// Remote port.
    pub destination_port: u16,
    /// The range that sockets of these have set for themselves (`IP_LOCAL_PORT_RANGE`): then all figures are of its
    /// ports, whoever holds them, and they are part of those of the row without it, if there is one. Null for the range
    /// of the namespace.
    pub local_port_range: Option<PortRange>,
    /// How many sockets have set that range; 0 without one.
    pub range_sockets: u32,
    /// Ports of the range in use, those in `TIME_WAIT` included.
    pub in_use: u32,
    /// Those of them in `TIME_WAIT`.
    pub time_wait: u32,
    /// Those of them that a new connection may take, as `net.ipv4.tcp_tw_reuse` is set now.
    pub reusable: u32,
    /// Those that a new connection could take if `net.ipv4.tcp_tw_reuse` were 1.
    pub recyclable: u32,
    /// Those in use that are bound by `bind()`.
    pub bound: u32,
    /// Ports that one `connect()` can choose from, those in use included.
    pub capacity: u32,
    /// `(in_use - reusable) / capacity`, 0 to 1. At 1 every `connect()` fails; so it is 1 too when `capacity` is 0.
    pub used_ratio: f64,
    /// Growth of `in_use - reusable` over the last minute, ports per second: the median of the growth between any two
    /// looks; null before there are three.
    pub growth_per_second: Option<f64>,
    /// Time until none is left if it goes on like this, seconds, an estimate; null when that is not within the hour.
    pub full_in_seconds: Option<f64>,
    /// Time until the next of those in `TIME_WAIT` is free, seconds; null when not known.
    pub next_free_seconds: Option<f64>,
    /// Calls of `connect()` that found no free port, since the daemon started. Those whose source is not known count
    /// for the fullest source of the destination.
    pub failures: u64,
    /// Ports in use by state, those that are not zero; named as in `GET /v1/states`.
    pub states: ByName<u32>,
    /// Processes that hold most of them, at most ten; known for the largest destinations only. Nobody holds those in
    /// `TIME_WAIT`.
    pub processes: Vec<PortHolder>,
    /// Processes that called `connect()` most often for these connections, those in `TIME_WAIT` included, as far as
    /// seen.
    pub made_by: Vec<PortMaker>,
}

/// The ports that `bind()` to an address with port 0 can choose from, as it is called before `connect()` to set the
/// source address. Each port serves one connection then, whatever the destination, unless `IP_BIND_ADDRESS_NO_PORT` is
/// set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BindPoolUse {
    /// Network namespace.
    pub netns: u32,
    /// Local address.
    pub source: IpAddr,
    /// Ports of the range that some socket holds on this address or on all addresses.
    pub in_use: u32,
    /// Those of them that were chosen or named by `bind()`, and not by `connect()`.
    pub bound: u32,
    /// Ports to choose from, those in use included.
    pub capacity: u32,
    /// `in_use / capacity`, 0 to 1, and 1 when `capacity` is 0.
    pub used_ratio: f64,
    /// Growth of `in_use` over the last minute, ports per second, an estimate; null before there are three looks, and
    /// of a pool of which `bind()` took less than a tenth.
    pub growth_per_second: Option<f64>,
    /// Time until none is left if it goes on like this, seconds, an estimate; null when that is not within the hour.
    pub full_in_seconds: Option<f64>,
}

impl BindPoolUse {
    /// Whether a tenth of its ports or more is bound: the pool matters, to operators and to alerts.
    #[must_use]
    pub fn matters(&self) -> bool {
        self.bound > 0 && self.bound * 10 >= self.capacity
    }
}

/// Calls of `bind()` by one process for one address that failed with `EADDRINUSE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortConflict {
    /// Network namespace.
    pub netns: u32,
    /// Protocol: `tcp`, `udp` or a number.
    pub protocol: String,
    /// Address asked for.
    pub address: IpAddr,
    /// Port; 0 where the kernel was to choose one and found none.
    pub port: u16,
    /// Who called it.
    pub process: Process,
    /// Control group (v2) of the socket, by inode number; 0 without.
    pub cgroup: u64,
    /// User that owns the socket.
    pub uid: u32,
    /// How many, since the daemon started.
    pub count: u64,
    /// When the first was.
    pub first: Timestamp,
    /// When the last was.
    pub last: Timestamp,
    /// Who held the port when the daemon looked, a moment later; empty when no process did, as for `TIME_WAIT`.
    pub holders: Vec<PortHolder>,
}

/// Calls of `connect()` by one process to one destination that found no free local port (`EADDRNOTAVAIL`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortFailure {
    /// Network namespace.
    pub netns: u32,
    /// Local address; null when it is not known.
    pub source: Option<IpAddr>,
    /// The local port that the process had bound and that is taken for this destination (`__inet_check_established`):
    /// ports are not short then. Null when the kernel was to choose one and found none.
    pub source_port: Option<u16>,
    /// The range that the socket has set for itself (`IP_LOCAL_PORT_RANGE`); null for that of the namespace.
    pub local_port_range: Option<PortRange>,
    /// Remote address.
    pub destination: IpAddr,
    /// Remote port.
    pub destination_port: u16,
    /// Who called it.
    pub process: Process,
    /// Control group (v2) of the process, by inode number.
    pub cgroup: u64,
    /// User.
    pub uid: u32,
    /// How many, since the daemon started.
    pub count: u64,
    /// When the first was.
    pub first: Timestamp,
    /// When the last was.
    pub last: Timestamp,
}

/// Which ports an alert is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PortPool {
    /// Ports that `connect()` chooses from: each can serve one connection to every destination.
    #[default]
    Connect,
    /// Ports that `bind()` chooses from: each is used once on its address, for all destinations.
    Bind,
    /// Ports that the kernel chooses from for UDP sockets, by `bind()` with port 0 or `connect()`.
    Udp,
}

/// The figures that an alert about ports rests on; of one that is over, the last while it went on. Those of a tuple
/// that no census listed are null.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PortEvidence {
    /// Which ports these are.
    pub pool: PortPool,
    /// Ports in use, as in `GET /v1/ports`; null for a destination that no census listed, as are those that follow.
    pub in_use: Option<u32>,
    /// Ports in use by state.
    pub states: ByName<u32>,
    /// Those in `TIME_WAIT`.
    pub time_wait: Option<u32>,
    /// Those of them that a new connection may take.
    pub reusable: Option<u32>,
    /// Those of them that it could take if `net.ipv4.tcp_tw_reuse` were 1.
    pub recyclable: Option<u32>,
    /// Ports to choose from, those in use included.
    pub capacity: u32,
    /// Share of them that no new connection can have.
    pub used_ratio: Option<f64>,
    /// Highest `used_ratio` since the onset.
    pub peak_used_ratio: Option<f64>,
    /// Growth, ports per second, an estimate.
    pub growth_per_second: Option<f64>,
    /// Time until none is left, seconds, an estimate; null when that is not within the hour.
    pub full_in_seconds: Option<f64>,
    /// Calls that failed since the onset.
    pub failures: u64,
    /// Who called them, most failures first, at most ten: failures since the daemon started.
    pub failed: Vec<FailedCalls>,
    /// `net.ipv4.ip_local_port_range`.
    pub range: PortRange,
    /// The part of it that the sockets have set for themselves (`IP_LOCAL_PORT_RANGE`); null when they have not.
    pub local_port_range: Option<PortRange>,
    /// Of UDP, those in use that an IPv4 socket cannot have; null of TCP.
    pub ipv4_in_use: Option<u32>,
    /// Ports of the range that are reserved.
    pub reserved: u32,
    /// Other ports of the range that `bind()` took.
    pub bound: u32,
    /// `net.ipv4.tcp_tw_reuse`: 0, 1 or 2.
    pub tw_reuse: u8,
    /// Processes that hold most of the ports; of a conflict, who holds the address.
    pub processes: Vec<PortHolder>,
    /// Processes that called `connect()` most often.
    pub made_by: Vec<PortMaker>,
}

impl PortEvidence {
    /// Ports that no new connection can take.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.in_use.unwrap_or_default().saturating_sub(self.reusable.unwrap_or_default())
    }

    /// Those of them in `TIME_WAIT`.
    #[must_use]
    pub fn held_by_time_wait(&self) -> u32 {
        self.time_wait.unwrap_or_default().saturating_sub(self.reusable.unwrap_or_default())
    }
}

/// A process and its calls that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailedCalls {
    /// Process id, in the initial pid namespace.
    pub pid: u32,
    /// Name.
    pub comm: String,
    /// User.
    pub uid: u32,
    /// Control group (v2), by inode number.
    pub cgroup: u64,
    /// How many failed.
    pub failures: u64,
}
