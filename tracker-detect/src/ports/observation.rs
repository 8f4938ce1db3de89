//! What the model sees at one moment. Plain values.

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;
use tracker_common::state;

use super::settings::{PortSet, PortSettings};
use tracker_model::api::{PortConflict, PortFailure, PortHolder, PortMaker, PortRange, PortRest};

/// What a census of one network namespace saw of local ports.
#[derive(Clone, Debug)]
pub struct PortsObservation {
    /// When, by the monotonic clock: all times are computed with it.
    pub at: Duration,
    /// The time of day.
    pub wall: Timestamp,
    /// Network namespace.
    pub netns: u32,
    /// What it is called, if it is not that of the daemon.
    pub name: Option<String>,
    /// What it is set to.
    pub settings: PortSettings,
    /// Ports that `connect()` passes over because someone bound them by `bind()`: those whose bucket has `fastreuse >=
    /// 0` or `fastreuseport >= 0` (`__inet_hash_connect`, `net/ipv4/inet_hashtables.c`).
    pub bound: PortSet,
    /// UDP, which has ports of its own.
    pub udp: UdpObservation,
    /// Ports by source and destination: those that hold most.
    pub tuples: Vec<TupleObservation>,
    /// All others.
    pub rest: PortRest,
    /// Ports by source address, of all destinations together.
    pub sources: Vec<SourceObservation>,
    /// Sockets whose source address could not be kept.
    pub sources_lost: u64,
    /// Sockets with a range of their own that is in no [`TupleObservation::ranges`].
    pub ranges_lost: u64,
    /// Calls of `connect()` that found no port.
    pub failures: Vec<PortFailure>,
    /// Calls of `bind()` that failed with `EADDRINUSE`; empty where they are not traced.
    pub conflicts: Vec<PortConflict>,
}

/// The connections from one source address to one destination, as far as their local port is in the range and not
/// reserved.
#[derive(Clone, Debug)]
pub struct TupleObservation {
    /// Local address.
    pub source: IpAddr,
    /// Remote address.
    pub destination: IpAddr,
    /// Remote port.
    pub destination_port: u16,
    /// Sockets by the kernel's number of their state.
    pub states: [u16; state::COUNT],
    /// Those of them whose port is in [`PortsObservation::bound`].
    pub bound: u16,
    /// Those in `TIME_WAIT` whose port `connect()` may take if `tcp_tw_reuse` allows it: with timestamps, older than
    /// the delay, not in sub-state `FIN_WAIT2`, port not bound.
    pub recyclable: u16,
    /// Those in `TIME_WAIT` that entered it in the last [`super::forecast::RECENT`].
    pub recent: u16,
    /// Time until the first of those in `TIME_WAIT` ends.
    pub next_free: Option<Duration>,
    /// Processes that hold them, most first.
    pub processes: Vec<PortHolder>,
    /// Processes that called `connect()` for them, most calls first; empty where that was not seen.
    pub made_by: Vec<PortMaker>,
    /// Ranges that sockets of these have set for themselves.
    pub ranges: Vec<RangeObservation>,
    /// Whether all sockets have set one, those in `TIME_WAIT` as far as their port lies in one.
    pub all_ranged: bool,
}

/// A range that sockets of a tuple have set for themselves (`IP_LOCAL_PORT_RANGE`).
#[derive(Clone, Debug)]
pub struct RangeObservation {
    /// The range, as far as that of the namespace goes.
    pub range: PortRange,
    /// Sockets that have set it.
    pub sockets: u16,
    /// The sockets of the tuple whose port lies in it, whoever set what.
    pub within: TupleObservation,
}

/// UDP sockets that hold a local port.
#[derive(Clone, Debug, Default)]
pub struct UdpObservation {
    /// All of them.
    pub sockets: u64,
    /// Those of them whose port the kernel may have chosen: in the range and not reserved.
    pub ephemeral: u64,
    /// Their ports.
    pub ports: PortSet,
    /// Those that an IPv4 socket cannot have: all but those of sockets with `IPV6_V6ONLY`.
    pub ipv4_ports: PortSet,
    /// Processes that hold them, most first.
    pub processes: Vec<PortHolder>,
}

/// Local ports of one address.
#[derive(Clone, Debug)]
pub struct SourceObservation {
    /// Local address.
    pub address: IpAddr,
    /// Local ports that any socket holds on that address or on the wildcard.
    pub ports: PortSet,
}
