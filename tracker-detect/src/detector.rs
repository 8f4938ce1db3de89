//! A detector, and what it is shown.

use std::{any::Any, fmt::Debug, sync::Arc, time::Duration};

use jiff::Timestamp;
use tracker_model::api::{MapFill, Unwatched};

use crate::{alert::ObservedAt, ports::PortsReading, syn::SynObservation};

/// What a detector is shown.
#[derive(Clone, Debug)]
pub enum Observation {
    /// SYNs and handshakes, at each reading.
    Syns(Box<SynObservation>),
    /// The daemon itself, at each reading.
    Host(HostObservation),
    /// The processes of a network namespace that hold sockets whose peer is silent, about four times a minute.
    Leaks(LeaksObservation),
    /// The local ports of a network namespace, after each census.
    Ports(Arc<PortsReading>),
    /// A network namespace is gone.
    NetnsGone {
        /// Its number.
        netns: u32,
        /// The time of day.
        wall: Timestamp,
    },
}

/// How complete the daemon's view of the host is.
#[derive(Clone, Debug)]
pub struct HostObservation {
    /// When.
    pub now: ObservedAt,
    /// Network namespace of the daemon.
    pub netns: u32,
    /// Kernel maps that can fill up.
    pub maps: Vec<MapFill>,
    /// Interfaces that should be watched and are not.
    pub missing: Vec<Unwatched>,
}

/// Turns observations into alerts.
pub trait Detector: Any + Debug + Send {
    /// Adds an observation. Each detector ignores those that it does not look at.
    fn observe(&mut self, observation: &Observation);
}

/// What a look at all processes of a network namespace saw.
#[derive(Clone, Debug)]
pub struct LeaksObservation {
    /// When, by the monotonic clock.
    pub at: Duration,
    /// The time of day.
    pub wall: Timestamp,
    /// Network namespace.
    pub netns: u32,
    /// Processes that hold such sockets.
    pub processes: Vec<LeakObservation>,
    /// Whether a process that is missing holds none. There may be more processes than are counted.
    pub complete: bool,
}

/// The sockets of a process that have heard nothing of their peer for [`crate::leaks::SILENT`] or longer.
#[derive(Clone, Debug, Default)]
pub struct LeakObservation {
    /// Process id.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Those in `CLOSE_WAIT`: the peer has closed, the process has not.
    pub close_wait: u32,
    /// Time since the last segment from the peer of the oldest of them: it has been in `CLOSE_WAIT` for as long at
    /// least, since the peer's FIN was a segment too.
    pub close_wait_oldest: Duration,
    /// Those in `FIN_WAIT2`: the process has closed its side (`shutdown()`), the peer has not.
    pub fin_wait2: u32,
    /// The same time for those in `FIN_WAIT2`.
    pub fin_wait2_oldest: Duration,
}
