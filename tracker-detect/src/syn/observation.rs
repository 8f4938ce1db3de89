//! What the detector is shown. Plain values, so that a series of them can be written to a file and replayed.

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use tracker_model::{
    counters::{HandshakeStats, ListenerQueues, NamespaceCounters},
    worst_socket::WorstSocket,
};

/// Which listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ListenerId {
    /// Network namespace.
    pub netns: u32,
    /// Local address.
    pub address: IpAddr,
    /// Local port.
    pub port: u16,
    /// Index of the device that it is bound to; 0 for any.
    #[serde(default)]
    pub device: u32,
}

/// Everything the detector is shown at one moment, up to four times a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SynObservation {
    /// Time since the daemon started, by the monotonic clock: all computation uses it.
    pub at: Duration,
    /// The time of day, only shown; it may jump.
    pub wall: Timestamp,
    /// Network namespace.
    #[serde(default)]
    pub netns: u32,
    /// Listeners that are open. One that is missing has closed.
    pub listeners: Vec<ListenerObservation>,
    /// SYNs that met no listener.
    #[serde(rename = "refused")]
    pub closed_ports: ClosedPortsObservation,
    /// TCP counters of the namespace; none when they could not be read.
    pub namespace: Option<NamespaceCounters>,
    /// Why the last census failed, if it did: queues are then old or none.
    pub census_error: Option<String>,
}

/// One listener at one moment. Counters only grow, unless the listener was closed and opened again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListenerObservation {
    /// Which.
    pub id: ListenerId,
    /// SYNs by watched interfaces that reached TCP, repeats included; where the kernel does not show what reaches TCP,
    /// all of them.
    pub syns: u64,
    /// SYNs sent to it that did not reach TCP here: translated, taken by a transparent proxy, or dropped before TCP.
    /// Those that repeat a request which waits for its answer are among them, for TCP need not look for the listener.
    #[serde(default)]
    pub undelivered: u64,
    /// Why the kernel drops them, while it does.
    #[serde(default)]
    pub drop_reasons: Vec<String>,
    /// Handshakes completed by watched interfaces.
    pub completed: u64,
    /// Requests that their client reset before the handshake was completed, an estimate from the sample.
    #[serde(default)]
    pub aborted: u64,
    /// Time that 95 % of the handshakes of the last minutes took at most, microseconds; none when there were too few.
    pub handshake_p95_us: Option<u64>,
    /// The sample of its SYNs.
    pub sample: HandshakeStats,
    /// Its queues when they were last read.
    pub queues: Option<QueuesObservation>,
    /// Name of the device that it is bound to.
    #[serde(default)]
    pub device: Option<String>,
    /// The socket of a group that is worst off.
    #[serde(default)]
    pub worst_socket: Option<WorstSocket>,
    /// Sources of its SYNs since the last observation that had them; null when they were not read this time.
    pub sources: Option<SourcesObservation>,
}

/// Queues of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueuesObservation {
    /// When they were read, on the clock of [`SynObservation::at`].
    pub at: Duration,
    /// What was seen. `drops` counts SYNs that the listener turned away (`sk_drops`); it only grows.
    pub queues: ListenerQueues,
    /// When the census was taken that counted its half-open requests and its connections; none: at the same time.
    #[serde(default)]
    pub census_at: Option<Duration>,
    /// Sockets of a group whose own accept queue is full, though that of the group may not be.
    #[serde(default)]
    pub full: u32,
    /// SYNs that sockets of a group turned away while their own accept queue was full; it only grows.
    #[serde(default)]
    pub dropped_full: u64,
}

/// Sources of SYNs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourcesObservation {
    /// SYNs that this covers.
    pub syns: u64,
    /// Distinct source addresses among them, an estimate (HyperLogLog of 8,192 registers: standard error 1.2 %).
    pub distinct: f64,
    /// Distinct source addresses since [`super::SubjectStatus::watched`] became true for this listener; equal to
    /// `distinct` before that.
    pub distinct_total: f64,
    /// SYNs that `distinct_total` covers: also those of a moment before the listener was watched.
    pub syns_total: u64,
    /// Sources of at most 256 of these SYNs, chosen at random: one that sent many is in it many times.
    pub sample: Vec<IpAddr>,
    /// Handshakes that were completed meanwhile.
    #[serde(default)]
    pub completed: u64,
    /// Sources of some of these handshakes, chosen at random.
    #[serde(default)]
    pub completed_sample: Vec<IpAddr>,
}

/// SYNs to local addresses at ports where nothing listens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClosedPortsObservation {
    /// All of them, since the daemon started.
    pub syns: u64,
    /// How many ports received one since the last observation.
    pub ports_touched: u32,
    /// How many ports received one since [`super::SubjectStatus::scan_from`] or, while that is none, since the last
    /// observation; none in recordings that are older than that figure.
    #[serde(default)]
    pub ports_of_scan: Option<u32>,
    /// The ports that received most since the last observation, at most 64: port and all its SYNs since the daemon
    /// started. Ports of listeners that have closed while the detector watched them are always in it.
    pub ports: Vec<(u16, u64)>,
    /// The count of each of `ports` at the last observation, in the same order.
    #[serde(default)]
    pub before: Vec<u64>,
    /// Ports of `ports` at which something has listened since the daemon started.
    pub served_before: Vec<u16>,
    /// Sources of them, of all ports together.
    pub sources: Option<SourcesObservation>,
}
