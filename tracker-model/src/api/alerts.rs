//! Alerts, and the verdicts and figures of the flood detector.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

use super::{ByName, PortEvidence};
use crate::{explain::Protocol, process::Process};

/// Answer of `GET /v1/alerts`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alerts {
    /// When the figures were read.
    pub taken_at: Timestamp,
    /// Firing ones first, the worst and newest of them first, then those that are resolved, newest first; the daemon
    /// remembers the last 256.
    pub alerts: Vec<Alert>,
}

/// Something that an operator should know. An attack is one alert from its onset to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Stays the same as long as it is the same alert, and is never used again while the daemon runs.
    pub id: u64,
    /// What it is about.
    pub kind: AlertKind,
    /// How bad it is, and has been: it may rise while it goes on, and does not fall.
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
    /// The figures that it rests on, by name.
    pub evidence: Evidence,
    /// Figures with all that is needed to print them; empty for kinds whose `evidence` has types of its own.
    #[serde(default)]
    pub facts: Vec<Fact>,
    /// What to do.
    pub advice: String,
    /// What is not known, and why: a listener that closed, a census that failed. Empty when everything is.
    pub unknown: Vec<String>,
}

/// The alerts that fire, in short: part of [`super::Status`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FiringAlerts {
    /// How many fire.
    pub firing: usize,
    /// How many of them are critical.
    pub critical: usize,
    /// How many of them are warnings.
    pub warning: usize,
    /// How many of them are for information.
    pub info: usize,
    /// How many that are over the daemon remembers.
    pub resolved: usize,
    /// Those that fire, at most ten, the worst and newest first.
    pub worst: Vec<AlertSummary>,
}

/// An alert in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertSummary {
    /// As [`Alert::id`].
    pub id: u64,
    /// As [`Alert::kind`].
    pub kind: AlertKind,
    /// As [`Alert::severity`].
    pub severity: Severity,
    /// As [`Alert::class`].
    pub class: Option<Class>,
    /// Onset.
    pub since: Timestamp,
    /// One line for an operator.
    pub summary: String,
}

/// What an alert is about.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, IntoStaticStr, VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum AlertKind {
    /// SYNs that nobody completes.
    SynFlood,
    /// An application that accepts too slowly: its accept queue is full.
    AcceptOverflow,
    /// SYNs to many ports where nothing listens.
    PortScan,
    /// Local ports to a destination, or of a source address, run out.
    PortExhaustion,
    /// Calls of `connect()` that found no free local port.
    PortAllocationFailed,
    /// Calls of `bind()` to an address that is held.
    BindConflict,
    /// A process that does not close connections which its peers have closed.
    CloseWaitLeak,
    /// A process whose peers do not close connections which it has closed.
    FinWaitLeak,
    /// A kernel map of the daemon that is nearly full.
    MapPressure,
    /// An interface that should be watched and is not.
    HookDetached,
}

impl AlertKind {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name in metrics and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// How bad an alert is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, IntoStaticStr, VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Needs a look.
    Warning,
    /// Needs an operator now.
    Critical,
}

impl Severity {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name in metrics and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Whether an alert goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum AlertState {
    /// It goes on.
    Firing,
    /// It is over.
    Resolved,
}

impl AlertState {
    /// The name in metrics and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// What an alert befalls. Source and destination are those of connections that are made here, and are left out of alerts
/// that know none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertSubject {
    /// Network namespace.
    pub netns: u32,
    /// Local address of the listener, or that `bind()` was called for; null where there is none.
    pub address: Option<IpAddr>,
    /// Local port of it; null when many are concerned.
    pub port: Option<u16>,
    /// Protocol that `bind()` was called for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Local address that connections are made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Address that they are made to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<IpAddr>,
    /// Port that they are made to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    /// What it is about when that is none of these: a kernel map, an interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Process that listens, holds most of the ports, failed most often or leaks; null when it is not known.
    pub process: Option<Process>,
}

/// The figures that an alert rests on: which they are depends on its kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Evidence {
    /// Of [`AlertKind::SynFlood`], [`AlertKind::AcceptOverflow`] and [`AlertKind::PortScan`].
    Flood(FloodEvidence),
    /// Of [`AlertKind::PortExhaustion`], [`AlertKind::PortAllocationFailed`] and [`AlertKind::BindConflict`].
    Ports(PortEvidence),
    /// Of all other kinds: the values of [`Alert::facts`].
    Facts(ByName<FactValue>),
}

impl Evidence {
    /// The flood detector's figures, if it is of its kinds.
    #[must_use]
    pub const fn flood(&self) -> Option<&FloodEvidence> {
        if let Self::Flood(evidence) = self { Some(evidence) } else { None }
    }

    /// The figures of local ports, if it is of these kinds.
    #[must_use]
    pub const fn ports(&self) -> Option<&PortEvidence> {
        if let Self::Ports(evidence) = self { Some(evidence) } else { None }
    }
}

/// A figure that an alert rests on. Any view can print it without knowing the kind of the alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// Name in `evidence`.
    pub name: String,
    /// What a person reads before the value.
    pub label: String,
    /// The value.
    pub value: FactValue,
    /// Unit of the value.
    pub unit: Unit,
}

impl Fact {
    /// A figure.
    #[must_use]
    pub fn new(name: &str, label: &str, value: impl Into<FactValue>, unit: Unit) -> Self {
        Self { name: name.to_owned(), label: label.to_owned(), value: value.into(), unit }
    }
}

/// The value of a fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FactValue {
    /// A count.
    Count(u64),
    /// A measure.
    Number(f64),
    /// A name, a reason.
    Text(String),
}

impl From<u64> for FactValue {
    fn from(value: u64) -> Self {
        Self::Count(value)
    }
}

impl From<f64> for FactValue {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<&str> for FactValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

/// Unit of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A plain number, or text.
    None,
    /// Seconds; a lower bound.
    SecondsAtLeast,
}

/// What the flood detector says of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
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
    /// All of them that the SYNs to no listener can have.
    pub const OF_NO_LISTENER: [Self; 5] = [Self::None, Self::Spoofed, Self::SingleSource, Self::Prefix, Self::Scan];

    /// The name in metrics and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether it is a SYN flood.
    #[must_use]
    pub const fn is_flood(self) -> bool {
        matches!(self, Self::Spoofed | Self::SingleSource | Self::Prefix)
    }
}

/// What the flood detector says of one subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The class.
    #[serde(rename = "verdict")]
    pub class: Class,
    /// When it last changed; null while it never did.
    #[serde(rename = "verdict_since")]
    pub since: Option<Timestamp>,
    /// The alert that it belongs to, if it is one for an alarm.
    pub alert: Option<u64>,
}

/// The figures that a verdict rests on. Those of a rate are over the last two seconds or, of an alert that is over, the
/// last two seconds in which it went on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FloodEvidence {
    /// SYNs since the onset, repeats and those of legitimate clients included. Exact.
    pub syns: u64,
    /// When the time ends that the rates are over: a moment ago, or the end of the flood; null before there are any.
    pub rates_until: Option<Timestamp>,
    /// How long it is, seconds: two, or less just after the onset.
    pub rates_seconds: f64,
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
    /// Relative standard error of `distinct_sources`, such as 0.012.
    pub distinct_sources_error: f64,
    /// Sources with the largest shares of the last SYNs, at most ten.
    pub top_sources: Vec<SourceShare>,
    /// Prefixes (IPv4 /24 and /16, IPv6 /64 and /48) with the largest shares, at most ten. A wider one is left out when it
    /// holds hardly more than a narrower one in it.
    pub top_prefixes: Vec<SourceShare>,
    /// Share of SYNs that repeat an earlier one, an estimate; null when nothing was sampled.
    pub repeated_share: Option<f64>,
    /// Share of sampled connections, begun since the onset, that were completed, an estimate; null when nothing was sampled.
    /// Unlike the rates it goes by connection: an ACK completes the one of its own SYN or none.
    pub completed_share: Option<f64>,
    /// Half-open requests at the last census; null before it, as all that follow.
    pub half_open: Option<u32>,
    /// Requests in the SYN queue.
    pub syn_queue: Option<u32>,
    /// Those of them whose SYN-ACK was not yet repeated.
    pub syn_queue_young: Option<u32>,
    /// Limit of the SYN queue.
    pub syn_queue_max: Option<u32>,
    /// Connections that wait for `accept()`.
    pub accept_queue: Option<u32>,
    /// Limit of the accept queue.
    pub accept_queue_max: Option<u32>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_that_of_its_kind_and_a_flood_is_told_as_before() {
        let flood = Evidence::Flood(FloodEvidence { syns: 7, ..FloodEvidence::default() });
        let json = serde_json::to_value(&flood).unwrap();
        assert_eq!(json, serde_json::to_value(flood.flood().unwrap()).unwrap());
        let all = [
            flood,
            Evidence::Ports(PortEvidence::default()),
            Evidence::Facts([("leaked".to_owned(), 7.into())].into()),
        ];
        for evidence in all {
            let json = serde_json::to_string(&evidence).unwrap();
            assert_eq!(serde_json::from_str::<Evidence>(&json).unwrap(), evidence);
        }
        let subject = serde_json::to_value(AlertSubject::default()).unwrap();
        let fields: Vec<_> = subject.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, ["address", "netns", "port", "process"]);
    }

    #[test]
    fn names_are_those_of_json() {
        let json = |value: serde_json::Value| value.as_str().map(str::to_owned).unwrap();
        for kind in AlertKind::ALL.iter().copied() {
            assert_eq!(json(serde_json::to_value(kind).unwrap()), kind.name());
        }
        for severity in Severity::ALL.iter().copied() {
            assert_eq!(json(serde_json::to_value(severity).unwrap()), severity.name());
        }
        for state in [AlertState::Firing, AlertState::Resolved] {
            assert_eq!(json(serde_json::to_value(state).unwrap()), state.name());
        }
        for class in Class::OF_LISTENERS.into_iter().chain(Class::OF_NO_LISTENER) {
            assert_eq!(json(serde_json::to_value(class).unwrap()), class.name());
        }
    }
}
