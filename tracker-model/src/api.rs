//! Answers of the local API: their field names are a contract, and their comments are the tables of docs/api.md.
//! Only what is sent belongs here, a file for each subject in `api/`; the snapshot that most answers are made of is in
//! `snapshot`, what `tracker explain` asks and answers in `explain`.

/// An enum whose variants have one name each, in metrics and JSON.
macro_rules! named {
    ($($(#[$about:meta])* pub enum $name:ident { $($variants:tt)* })*) => {$(
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema, strum::IntoStaticStr, strum::VariantArray)]
        #[serde(rename_all = "snake_case")]
        #[strum(serialize_all = "snake_case")]
        pub enum $name { $($variants)* }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

            /// The name in metrics and JSON.
            #[must_use]
            pub fn name(self) -> &'static str {
                self.into()
            }
        }
    )*};
}

mod alert;
mod fact;
mod flood;
pub mod paths;
mod ports;

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_common::{
    classify::{Family, Outcome},
    counters::{Census, InterfaceCounters},
    names,
};

pub use alert::*;
pub use fact::*;
pub use flood::*;
pub use ports::*;

use crate::{
    counters::{ByFamily, PortSyns},
    nullable::fields_or_nulls,
};

/// Something for each stable name.
pub type ByName<T> = BTreeMap<String, T>;
/// Something for each network namespace, by inode number.
pub type ByNamespace<T> = BTreeMap<u32, T>;

/// Answer with any other status than 200.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApiError {
    /// Why there is no answer, in one line.
    pub error: String,
}

/// Answer of `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Process id of the daemon.
    pub pid: u32,
    /// When it began to count.
    pub started_at: Timestamp,
    /// When the figures were read.
    pub taken_at: Timestamp,
    /// Inode number of the network namespace that is watched.
    pub netns: u32,
    /// How well the daemon sees.
    pub health: Health,
    /// What is wrong, worst first; empty when `health` is `ok`.
    pub problems: Vec<String>,
    /// What this kernel or the settings of the daemon do not allow, a line each: alerts that cannot be raised.
    #[serde(default)]
    pub unavailable: Vec<String>,
    /// Alerts that fire. They leave `health` as it is, which is the daemon's own.
    pub alerts: FiringAlerts,
    /// TCP counters of all listeners of the network namespace together, by their name in TcpExt, since the namespace
    /// was made and not since the daemon started. `tcp_counters` is null when they could not be read.
    pub tcp_counters: Option<ByName<u64>>,
    /// Interfaces that are watched.
    pub interfaces: Vec<Interface>,
    /// Interfaces that are not watched: first those that should be, which are among the `problems` too.
    pub unwatched: Vec<Unwatched>,
    /// How socket events are seen: `tp_btf`, `raw_tp` or `none`.
    pub socket_events: String,
    /// The last census that succeeded; null before the first.
    pub census: Option<CensusReport>,
    /// What could not be counted or kept, by name (see metrics.md).
    pub losses: ByName<u64>,
    /// Kernel programs.
    pub programs: Vec<Program>,
    /// Kernel maps that can fill up.
    pub maps: Vec<MapFill>,
}

/// How well the daemon can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Everything is seen and counted.
    Ok,
    /// An interface that should be watched is not, a kernel map is full, or some figure is a lower bound or stale.
    Warning,
    /// A whole source of figures is missing.
    Critical,
}

/// A watched interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interface {
    /// Name; `other` stands for those beyond the limit.
    pub name: String,
    /// Index; 0 for `other`.
    pub index: u32,
    /// `xdp`, `tcx`, `clsact`, or `lower` for an interface that is seen through one below it.
    pub hook: String,
    /// Why this hook.
    pub reason: String,
    /// Packets received; 0 for `lower`, whose packets count on the interface below.
    pub packets: u64,
    /// SYNs received.
    pub syns: u64,
    /// Packets by outcome and family (`ipv4`, `ipv6`, `none`), those that are not zero.
    pub outcomes: ByName<ByName<u64>>,
    /// What these figures are taken from.
    #[serde(skip)]
    pub counters: InterfaceCounters,
}

impl Interface {
    /// With the figures that follow from its counters.
    #[must_use]
    pub fn new(name: String, index: u32, hook: &str, reason: String, counters: InterfaceCounters) -> Self {
        let by_family = |outcome: Outcome| {
            let packets = counters.packets[outcome as usize];
            let named = Family::ALL.into_iter().map(|family| (family.name().to_owned(), packets[family as usize]));
            (outcome.name().to_owned(), named.filter(|(_, packets)| *packets > 0).collect::<BTreeMap<_, _>>())
        };
        Self {
            name,
            index,
            hook: hook.to_owned(),
            reason,
            packets: counters.packets.as_flattened().iter().sum(),
            syns: counters.packets[Outcome::TcpSyn as usize].iter().sum(),
            outcomes: Outcome::ALL.into_iter().map(by_family).filter(|(_, packets)| !packets.is_empty()).collect(),
            counters,
        }
    }
}

/// The last census.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CensusReport {
    /// When it was taken.
    pub taken_at: Timestamp,
    /// How long it took, seconds.
    pub seconds: f64,
    /// Time to the next one, seconds.
    pub interval_seconds: f64,
    /// Sockets it found.
    pub sockets: u64,
    /// These sockets by family and state.
    #[serde(skip)]
    pub counts: Census,
}

/// A source address and its half-open requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceCount {
    /// Address.
    pub source: IpAddr,
    /// Its half-open requests.
    pub count: u32,
}

/// SYNs that met no listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NoListener {
    /// SYNs to local addresses at ports where nothing listens, repeats included; those that are translated or dropped
    /// before TCP are among them, and are counted apart in `undelivered`.
    pub syns_received: u64,
    /// These SYNs by family.
    pub syns_by_family: ByFamily,
    /// How many ports received at least one that reached TCP.
    pub ports: u32,
    /// The ten most active ports, by `syn_rate`, then by `syns`: those of SYNs that reached TCP.
    pub top_ports: Vec<PortSyns>,
    /// SYNs per second that reached TCP, to all ports, a mean that fades with a time constant of a minute.
    pub syn_rate: f64,
    /// Those of these SYNs that did not reach TCP at their port; null where the kernel does not show that: all others
    /// are then taken for SYNs that did.
    pub undelivered: Option<UndeliveredSyns>,
    /// Sources with the largest shares of the last SYNs, at most ten.
    pub top_sources: Vec<SourceShare>,
    /// What the flood detector says; all fields are null before its first look.
    #[serde(flatten, serialize_with = "fields_or_nulls")]
    pub verdict: Option<Verdict>,
}

impl NoListener {
    /// Those of this many `received` that reached TCP at their port.
    #[must_use]
    pub fn delivered(&self, received: u64) -> u64 {
        received.saturating_sub(self.undelivered.as_ref().map_or(0, |undelivered| undelivered.syns))
    }
}

/// SYNs to ports where nothing listens that TCP did not look up there: they were translated (published ports of
/// containers, `NodePort`, `REDIRECT`), taken by a transparent proxy, or dropped before TCP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UndeliveredSyns {
    /// All of them.
    pub syns: u64,
    /// Those of them that TCP looked up at another address or port of this network namespace.
    pub diverted: u64,
    /// How many ports received at least one.
    pub ports: u32,
    /// SYNs per second, a mean that fades with a time constant of a minute.
    pub syn_rate: f64,
    /// The ten most active ports, by `syn_rate`, then by `syns`.
    pub top_ports: Vec<PortSyns>,
}

/// Answer of `GET /v1/states`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct States {
    /// When the event counters were read.
    pub taken_at: Timestamp,
    /// When `states` was counted; null before the first census.
    pub census_at: Option<Timestamp>,
    /// Sockets by network namespace, family and state, every state also at zero. `states` is null before the first
    /// census.
    pub states: Option<ByNamespace<ByName<ByName<u64>>>>,
    /// Transitions by network namespace, family and `OLD->NEW`, those that are not zero.
    pub transitions: ByNamespace<ByName<ByName<u64>>>,
    /// Ends of established connections by family and kind (see metrics.md).
    pub closes: ByName<ByName<u64>>,
    /// Calls of `connect()`; those under way are among the attempted ones alone.
    pub connects: Connects,
    /// Handshakes completed as a server.
    pub handshakes_completed: u64,
}

/// Calls of `connect()`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Connects {
    /// Calls for which a SYN was to be sent; a call that found no route is not counted.
    pub attempted: u64,
    /// Calls that were answered.
    pub established: u64,
    /// Calls that failed, by name of the error. `ECANCELED`: the process gave up; `EADDRNOTAVAIL`: no local port was
    /// free, or the bound port was taken for this destination.
    pub failed: ByName<u64>,
}

/// An interface that is not watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unwatched {
    /// Name.
    pub name: String,
    /// Why not.
    pub reason: String,
}

/// A kernel program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Program {
    /// Name in the kernel.
    pub name: String,
    /// `xdp`, `tc`, `tp_btf`, `raw_tp` or `iter`.
    pub kind: String,
    /// The kernel's id.
    pub id: u32,
    /// How often it ran; counted by the kernel only while `kernel.bpf_stats_enabled` is 1.
    pub run_count: u64,
    /// Time it ran, seconds; counted by the kernel only while `kernel.bpf_stats_enabled` is 1.
    pub run_seconds: f64,
}

/// How full a kernel map is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MapFill {
    /// Name.
    pub name: String,
    /// Entries in use.
    pub entries: u64,
    /// Most entries it can hold; more `entries` than that say how many were wanted.
    pub capacity: u64,
}

impl MapFill {
    /// What becomes of that which finds no place in it, and what leaves more room.
    #[must_use]
    pub fn beyond(&self) -> (&'static str, &'static str) {
        let fewer = "Close listeners that nobody needs; one on 0.0.0.0 or [::] stands for many on single addresses.";
        match self.name.as_str() {
            names::LISTENERS => ("listeners beyond are not known: SYNs to them count as meeting none", fewer),
            names::LISTENER_COUNTERS => {
                ("listeners beyond are counted from their first SYN on, in place of one that is idle", fewer)
            }
            names::INTERFACE_COUNTERS => (
                "interfaces beyond share one slot: they count in the interface `other`",
                "Name the interfaces that matter with --interface.",
            ),
            names::LOCAL_ADDRESSES | names::LOCAL_PREFIXES => (
                "SYNs to addresses beyond count as not_local",
                "Remove addresses that nobody needs (`ip address`, `ip route show table local`).",
            ),
            names::LIFETIMES => (
                "lifetimes of connections beyond are not measured",
                "Measure fewer connections: raise --lifetime-sample.",
            ),
            _ => ("what is beyond is not kept", "Its size is fixed."),
        }
    }
}
