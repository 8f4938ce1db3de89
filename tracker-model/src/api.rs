//! Answers of the local API: their field names are a contract (docs/api.md).

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::snapshot::{ByFamily, MapFill, PortSyns, Process, Program, Unwatched};

/// Something for each stable name.
pub type ByName<T> = BTreeMap<String, T>;
/// Something for each network namespace, by inode number.
pub type ByNamespace<T> = BTreeMap<u32, T>;

/// Answer of `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Process id of the daemon.
    pub pid: u32,
    /// When it began to count.
    pub started_at: Timestamp,
    /// When the figures were read.
    pub taken_at: Timestamp,
    /// Network namespace.
    pub netns: u32,
    /// `ok`, `warning` or `critical`.
    pub health: Health,
    /// What is wrong, empty when `health` is `ok`.
    pub problems: Vec<String>,
    /// Watched interfaces.
    pub interfaces: Vec<InterfaceStatus>,
    /// Interfaces that are not watched, with the reason.
    pub unwatched: Vec<Unwatched>,
    /// How socket events are read: `tp_btf` or `raw_tp`.
    pub socket_events: String,
    /// The last census, if one has succeeded.
    pub census: Option<CensusStatus>,
    /// What could not be counted or kept: name to count.
    pub losses: ByName<u64>,
    /// Kernel programs.
    pub programs: Vec<Program>,
    /// Kernel maps that can fill up.
    pub maps: Vec<MapFill>,
}

/// How well the daemon can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Everything is seen and counted.
    Ok,
    /// Some figure is a lower bound or stale.
    Warning,
    /// A whole source of figures is missing.
    Critical,
}

/// A watched interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Name.
    pub name: String,
    /// Index; 0 for `other`.
    pub index: u32,
    /// `xdp`, `tcx`, `clsact` or `lower`.
    pub hook: String,
    /// Why this hook.
    pub reason: String,
    /// Packets received since the daemon started.
    pub packets: u64,
    /// SYNs received.
    pub syns: u64,
    /// Packets received by outcome and family, those that are not zero: outcome to family to count.
    pub outcomes: ByName<ByName<u64>>,
}

/// The last census.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CensusStatus {
    /// When it was taken.
    pub taken_at: Timestamp,
    /// How long it took, seconds.
    pub seconds: f64,
    /// Time to the next one, seconds.
    pub interval_seconds: f64,
    /// Sockets it found.
    pub sockets: u64,
}

/// Answer of `GET /v1/listeners`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listeners {
    /// When the counters were read.
    pub taken_at: Timestamp,
    /// When queues, `half_open` and `connected` were read; null before the first census.
    pub census_at: Option<Timestamp>,
    /// Listening addresses, by port and address.
    pub listeners: Vec<Listener>,
    /// SYNs to local addresses at ports where nothing listens.
    pub no_listener: NoListener,
}

/// One listening address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    /// Network namespace.
    pub netns: u32,
    /// Local address.
    pub address: String,
    /// Local port.
    pub port: u16,
    /// Whether an IPv6 listener takes IPv4 too.
    pub dual_stack: bool,
    /// The process; null when it may not be read.
    pub process: Option<Process>,
    /// Owner of the socket; null when it is older than the daemon.
    pub uid: Option<u32>,
    /// Listening sockets (`SO_REUSEPORT` group).
    pub sockets: u32,
    /// SYNs by watched interfaces since the daemon started, repeats included.
    pub syns_received: u64,
    /// The same by family.
    pub syns_by_family: ByFamily,
    /// SYNs per second.
    pub syn_rate: f64,
    /// Handshakes completed, by all interfaces.
    pub handshakes_completed: u64,
    /// The same by family.
    pub handshakes_by_family: ByFamily,
    /// SYNs by watched interfaces that neither completed a handshake nor are half-open now. An upper bound: a
    /// repeated SYN counts again.
    pub handshakes_unanswered: u64,
    /// Half-open request sockets; null before the first census that saw this listener, as all that follow.
    pub half_open: Option<u32>,
    /// Requests in the SYN queue.
    pub syn_queue: Option<u32>,
    /// Those of them whose SYN-ACK was not yet repeated.
    pub syn_queue_young: Option<u32>,
    /// Limit of the SYN queue: the listener's backlog, beyond which the kernel answers with cookies or drops
    /// (`inet_csk_reqsk_queue_is_full`).
    pub syn_queue_max: Option<u32>,
    /// Connections that wait for `accept()`.
    pub accept_queue: Option<u32>,
    /// Limit of the accept queue.
    pub accept_queue_max: Option<u32>,
    /// Requests dropped by these sockets since they began to listen.
    pub overflows: Option<u64>,
    /// Established sockets.
    pub connected: Option<u32>,
    /// Verdict of the flood detector; null before its first look, and for listeners beyond those that are counted apart.
    pub verdict: Option<Class>,
    /// When the verdict last changed; null while it never did.
    pub verdict_since: Option<Timestamp>,
    /// Alert that the verdict belongs to, if it is one for an alarm.
    pub alert: Option<u64>,
    /// SYNs that repeat an earlier one, an estimate from a sample; exact while `syns_repeated_error` is 0.
    pub syns_repeated: u64,
    /// Half of the 95 % confidence interval of `syns_repeated`.
    pub syns_repeated_error: u64,
    /// Distinct sources of SYNs in the last second or so in which there were any, an estimate (standard error 1.6 %);
    /// null while there were none.
    pub distinct_sources: Option<f64>,
    /// Half-open requests by source at the last census, at most ten, most first. Exact.
    pub half_open_sources: Vec<SourceCount>,
    /// Half-open requests whose source could not be kept: no source beyond those listed has more than this in all.
    pub half_open_unnamed: u32,
}

/// A source address and a count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceCount {
    /// Address.
    pub source: IpAddr,
    /// Count.
    pub count: u32,
}

/// SYNs that met no listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoListener {
    /// SYNs since the daemon started.
    pub syns_received: u64,
    /// The same by family.
    pub syns_by_family: ByFamily,
    /// How many ports received at least one.
    pub ports: u32,
    /// The most active ports: by `syn_rate`, then by `syns`.
    pub top_ports: Vec<PortSyns>,
    /// SYNs per second to all ports.
    pub syn_rate: f64,
    /// Sources with the largest shares of the last SYNs, at most ten.
    pub top_sources: Vec<SourceShare>,
    /// Verdict of the flood detector: `none`, `scan`, or that of a flood; null before its first look.
    pub verdict: Option<Class>,
    /// When the verdict last changed; null while it never did.
    pub verdict_since: Option<Timestamp>,
    /// Alert that the verdict belongs to.
    pub alert: Option<u64>,
}

/// Answer of `GET /v1/states`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct States {
    /// When the event counters were read.
    pub taken_at: Timestamp,
    /// When `states` was counted; null before the first census.
    pub census_at: Option<Timestamp>,
    /// Network namespace to family to state to sockets. Null before the first census.
    pub states: Option<ByNamespace<ByName<ByName<u64>>>>,
    /// Network namespace to family to `OLD->NEW` to events since the daemon started, those that are not zero.
    pub transitions: ByNamespace<ByName<ByName<u64>>>,
    /// Ends of established connections: family to kind to count.
    pub closes: ByName<ByName<u64>>,
    /// Connects.
    pub connects: Connects,
    /// Handshakes completed as a server.
    pub handshakes_completed: u64,
}

/// Calls of `connect()` that ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Connects {
    /// Begun.
    pub attempted: u64,
    /// Established.
    pub established: u64,
    /// Failed, by name of the error: `ECONNREFUSED` and so on; `ECANCELED` is a connect that the process gave up.
    pub failed: ByName<u64>,
}

/// Answer of `GET /v1/alerts`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alerts {
    /// When the figures were read.
    pub taken_at: Timestamp,
    /// Firing ones first, then those that are resolved, newest first; the daemon remembers the last 256.
    pub alerts: Vec<Alert>,
}

/// Something that an operator should know. An attack is one alert from its onset to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Stays the same as long as it is the same alert, and is never used again while the daemon runs.
    pub id: u64,
    /// What it is about.
    pub kind: AlertKind,
    /// How bad it is.
    pub severity: Severity,
    /// Whether it goes on.
    pub state: AlertState,
    /// Onset.
    pub since: Timestamp,
    /// End; null while it fires.
    pub until: Option<Timestamp>,
    /// What it befalls.
    pub subject: AlertSubject,
    /// Class of the flood detector; null for other kinds.
    pub class: Option<Class>,
    /// One line for an operator.
    pub summary: String,
    /// The figures that it rests on.
    pub evidence: FloodEvidence,
    /// What to do.
    pub advice: String,
    /// What is not known, and why: a listener that closed, a census that failed. Empty when everything is.
    pub unknown: Vec<String>,
}

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// SYNs that nobody completes.
    SynFlood,
    /// An application that accepts too slowly: its accept queue is full.
    AcceptOverflow,
    /// SYNs to many ports where nothing listens.
    PortScan,
}

/// How bad an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Needs a look.
    Warning,
    /// Needs an operator now.
    Critical,
}

/// Whether an alert goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// It goes on.
    Firing,
    /// It is over.
    Resolved,
}

/// What an alert befalls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertSubject {
    /// Network namespace.
    pub netns: u32,
    /// Local address of the listener; null where nothing listens.
    pub address: Option<IpAddr>,
    /// Local port; null when many are concerned.
    pub port: Option<u16>,
    /// Process that listens, if it is known.
    pub process: Option<Process>,
}

/// What the flood detector says of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Nothing unusual.
    #[default]
    None,
    /// A SYN flood from sources all over.
    Spoofed,
    /// A SYN flood from one source.
    SingleSource,
    /// A SYN flood from one prefix.
    Prefix,
    /// Much more than usual, and answered: legitimate, no alarm.
    Surge,
    /// The application does not accept as fast as connections come.
    SlowAccept,
    /// SYNs to many ports where nothing listens. Never of a listener.
    Scan,
}

impl Class {
    /// All of them that a listener can have.
    pub const OF_LISTENERS: [Self; 6] =
        [Self::None, Self::Spoofed, Self::SingleSource, Self::Prefix, Self::Surge, Self::SlowAccept];

    /// The name in metrics and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Spoofed => "spoofed",
            Self::SingleSource => "single_source",
            Self::Prefix => "prefix",
            Self::Surge => "surge",
            Self::SlowAccept => "slow_accept",
            Self::Scan => "scan",
        }
    }

    /// Whether it is a SYN flood.
    #[must_use]
    pub const fn is_flood(self) -> bool {
        matches!(self, Self::Spoofed | Self::SingleSource | Self::Prefix)
    }
}

/// The figures that a verdict rests on. Those of a rate are over the last two seconds or, of an alert that is over, the
/// last two seconds in which it went on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FloodEvidence {
    /// SYNs since the onset, repeats and those of legitimate clients included. Exact.
    pub syns: u64,
    /// SYNs per second.
    pub syn_rate: f64,
    /// Highest `syn_rate` since the onset.
    pub peak_syn_rate: f64,
    /// SYNs per second that no handshake followed, not even after the usual time.
    pub unanswered_rate: f64,
    /// Handshakes completed per second.
    pub completed_rate: f64,
    /// Handshakes completed per second before the onset.
    pub usual_completed_rate: f64,
    /// Distinct sources since the onset, an estimate with a standard error of `distinct_sources_error`.
    pub distinct_sources: f64,
    /// Relative standard error of `distinct_sources`, such as 0.016.
    pub distinct_sources_error: f64,
    /// Sources with the largest shares of the last SYNs, at most ten.
    pub top_sources: Vec<SourceShare>,
    /// Prefixes (IPv4 /24 and /16, IPv6 /64 and /48) with the largest shares, at most ten. A wider one is left out when it
    /// holds hardly more than a narrower one in it.
    pub top_prefixes: Vec<SourceShare>,
    /// Share of SYNs that repeat an earlier one, an estimate; null when nothing was sampled.
    pub repeated_share: Option<f64>,
    /// Half-open requests at the last census; null before it, as all that follow.
    pub half_open: Option<u32>,
    /// Requests in the SYN queue.
    pub syn_queue: Option<u32>,
    /// Those of them whose SYN-ACK was not yet repeated.
    pub syn_queue_young: Option<u32>,
    /// Connections that wait for `accept()`.
    pub accept_queue: Option<u32>,
    /// Limit of both queues.
    pub queue_max: Option<u32>,
    /// SYNs that the listener turned away since the onset.
    pub dropped: Option<u64>,
    /// Counters of the whole namespace since the onset, by their name in TcpExt: cookies and overflows of all listeners.
    pub namespace: ByName<u64>,
    /// Ports without a listener that were tried since the onset, at most so many: only of a scan.
    pub ports: Option<u32>,
    /// Times that it began anew after a pause of less than a minute, as pulsed floods do.
    pub pulses: u32,
}

/// A source address or prefix and its share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceShare {
    /// `192.0.2.1`, `192.0.2.0/24`, `2001:db8::/64`.
    pub source: String,
    /// Share of the SYNs, 0 to 1, an estimate from a random sample.
    pub share: f64,
    /// Half of the 95 % confidence interval of `share`.
    pub error: f64,
}
