//! Everything the daemon knows at one moment. Metrics, API and alerts are views of it.
//!
//! Counters run since the daemon started.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tracker_common::classify::Family;
use tracker_common::counters::{InterfaceCounters, Loss, SocketCounters, SynTarget};

use crate::{
    api::{Alert, AlertKind, CensusReport, Interface, MapFill, NoListener, Ports, Program, Unwatched},
    counters::{ByFamily, NamespaceCounters},
    listener::Listener,
};

/// Everything the daemon knows at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When the kernel's maps were read.
    pub taken_at: Timestamp,
    /// The same moment by the monotonic clock.
    pub read_at: Instant,
    /// When the daemon began to count.
    pub started_at: Timestamp,
    /// From then to `taken_at`, by the monotonic clock.
    pub uptime: Duration,
    /// Inode number of the network namespace, as in `readlink /proc/self/ns/net`.
    pub netns: u32,
    /// Watched interfaces, by name; the counts of those that have no slot of their own are in one called `other`.
    pub interfaces: Vec<Interface>,
    /// What interfaces received that are gone or no longer watched; without it sums over interfaces would go back.
    pub departed: InterfaceCounters,
    /// Interfaces that exist and are not watched, with the reason.
    pub unwatched: Vec<Unwatched>,
    /// Interfaces that should be watched and are not: named by `--interface` and gone, down or refused by the kernel,
    /// or refused under the default set; with the reason.
    pub missing: Vec<Unwatched>,
    /// What is wrong with the daemon itself, a line each.
    pub warnings: Vec<String>,
    /// Listening addresses, by port and address.
    pub listeners: Vec<Listener>,
    /// SYNs to local addresses at ports where nothing listens; how many there are is in [`Snapshot::syns`].
    pub no_listener: NoListener,
    /// How socket events are seen: `tp_btf` or `raw_tp`.
    pub socket_events: String,
    /// Socket events.
    pub sockets: SocketCounters,
    /// One in this many connections has its lifetime measured.
    pub lifetime_sample: u32,
    /// Socket states of the last census, if one has succeeded.
    pub census: Option<CensusReport>,
    /// Why the last census failed, if it did.
    pub census_error: Option<String>,
    /// TCP counters of the namespace; none when they could not be read.
    pub tcp_counters: Option<NamespaceCounters>,
    /// Alerts: firing ones first, then resolved ones, newest first.
    pub alerts: Vec<Alert>,
    /// Alerts of each kind since the daemon started; kinds without one are left out.
    pub alerts_opened: BTreeMap<AlertKind, u64>,
    /// Local ports, as the last census found them.
    pub ports: Arc<Ports>,
    /// What could not be counted or kept, by [`Loss`].
    pub losses: [u64; Loss::COUNT],
    /// Kernel programs.
    pub programs: Vec<Program>,
    /// Kernel maps that can fill up.
    pub maps: Vec<MapFill>,
    /// How long it took to read the kernel's maps, seconds.
    pub read_seconds: f64,
}

impl Snapshot {
    /// How socket events are seen: `tp_btf`, `raw_tp` or `none`.
    #[must_use]
    pub fn socket_events_hook(&self) -> &str {
        if self.socket_events.is_empty() { "none" } else { &self.socket_events }
    }

    /// SYNs for `target` that watched interfaces received, those that are gone included.
    #[must_use]
    pub fn syns(&self, target: SynTarget) -> ByFamily {
        let counters = || self.interfaces.iter().map(|interface| &interface.counters).chain([&self.departed]);
        let sum = |family: Family| counters().map(|counters| counters.syns[target as usize][family as usize]).sum();
        ByFamily { ipv4: sum(Family::Ipv4), ipv6: sum(Family::Ipv6) }
    }
}
