//! Alerts, and what they are about.

use std::net::IpAddr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ByName, Class, Fact, FactValue, FloodEvidence, PortEvidence, PortRange};
use crate::{
    explain::Protocol,
    process::Process,
    text::{address_port, listener_place, process},
};

/// Answer of `GET /v1/alerts`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Alerts {
    /// When the figures were read.
    pub taken_at: Timestamp,
    /// Firing alerts, the worst and newest first, then resolved ones, the last to end first. The daemon remembers 256
    /// of each kind.
    pub alerts: Vec<Alert>,
}

/// Something that an operator should know. An attack is one alert from its onset to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Alert {
    /// Stays the same as long as it is the same alert, and is never used again while the daemon runs.
    pub id: u64,
    /// Its kind.
    pub kind: AlertKind,
    /// How bad it is, and has been: it may rise while it goes on, and does not fall.
    pub severity: Severity,
    /// Whether it goes on.
    pub state: AlertState,
    /// Onset.
    pub since: Timestamp,
    /// Whether it was so already when the daemon looked first: `since` is then that moment, and the onset is not known.
    #[serde(default)]
    pub since_before: bool,
    /// End; null while it fires.
    pub until: Option<Timestamp>,
    /// What it is about.
    pub subject: AlertSubject,
    /// Class of the flood detector; null for other kinds.
    pub class: Option<Class>,
    /// One line for an operator.
    pub summary: String,
    /// The figures that it rests on; which they are depends on `kind`.
    pub evidence: Evidence,
    /// Figures in order, with all that is needed to print them without knowing the kind; for floods and ports, lines of
    /// text.
    #[serde(default)]
    pub facts: Vec<Fact>,
    /// What to do.
    pub advice: String,
    /// What is not known, and why: a listener that closed, a census that failed. Empty when everything is.
    pub unknown: Vec<String>,
}

/// The alerts that fire, in short: part of [`super::Status`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlertSummary {
    /// Identity of the alert, as in `GET /v1/alerts`.
    pub id: u64,
    /// What it is about.
    pub kind: AlertKind,
    /// How bad it is.
    pub severity: Severity,
    /// Class of the flood detector; null for other kinds.
    pub class: Option<Class>,
    /// Onset.
    pub since: Timestamp,
    /// Whether it was so already when the daemon looked first: `since` is then that moment, and the onset is not known.
    #[serde(default)]
    pub since_before: bool,
    /// One line for an operator.
    pub summary: String,
}

named! {
    /// The kind of an alert.
    pub enum AlertKind {
        /// SYNs that nobody completes.
        SynFlood,
        /// An application that accepts too slowly: its accept queue is full.
        AcceptOverflow,
        /// SYNs to many ports where nothing listens.
        PortScan,
        /// Local ports to a destination, of a source address, or of UDP run out.
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
        /// Interfaces that should be watched and are not.
        HookDetached,
    }

    /// How bad an alert is.
    pub enum Severity {
        /// Good to know.
        Info,
        /// Needs a look.
        Warning,
        /// Needs an operator now.
        Critical,
    }

    /// Whether an alert goes on.
    pub enum AlertState {
        /// It goes on.
        Firing,
        /// It is over.
        Resolved,
    }
}

/// What an alert is about. Source and destination are those of connections that are made here; alerts without them
/// leave them out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlertSubject {
    /// Network namespace.
    pub netns: u32,
    /// Local address of the listener, or that `bind()` was called for; null where there is none.
    pub address: Option<IpAddr>,
    /// Local port; null when many are concerned, 0 when `bind()` was called for any.
    pub port: Option<u16>,
    /// Device that the listener is bound to; left out where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Protocol that `bind()` was called for, or whose ports run out if it is not TCP; left out where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Local address that connections are made from, or whose ports `bind()` chooses; left out where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Address that connections are made to; left out where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<IpAddr>,
    /// Port that connections are made to; left out where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    /// The range of local ports that the sockets have set for themselves (`IP_LOCAL_PORT_RANGE`); left out where they
    /// have not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_port_range: Option<PortRange>,
    /// Name of the kernel map or interface; left out where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Process that listens, holds most of the ports, failed most often or leaks; null when there is none or it is not
    /// known.
    pub process: Option<Process>,
}

impl Alert {
    /// What it is about, in a few words: place and process.
    #[must_use]
    pub fn about(&self) -> String {
        let process = self.subject.process.as_ref().map(|of| process(of.pid, &of.comm));
        let parts: Vec<_> = self.subject.place(self.kind).into_iter().chain(process).collect();
        if parts.is_empty() { "process not known".to_owned() } else { parts.join(" ") }
    }
}

impl AlertSubject {
    /// The place: a listener, a connection, a call of `bind()`, or the object; none of an alert about a process. The
    /// kind of alert says what a subject without addresses is.
    fn place(&self, kind: AlertKind) -> Option<String> {
        use AlertKind::{AcceptOverflow, BindConflict, PortAllocationFailed, PortExhaustion, PortScan, SynFlood};
        match kind {
            SynFlood | AcceptOverflow | PortScan => Some(self.listener()),
            BindConflict => Some(self.bound()),
            PortExhaustion | PortAllocationFailed => Some(self.connection()),
            _ => self.object.clone(),
        }
    }

    fn listener(&self) -> String {
        match (self.address, self.port) {
            (Some(address), Some(port)) => listener_place(address, self.device.as_deref(), port),
            (Some(address), None) => address.to_string(),
            (None, Some(port)) => format!("port {port}, no listener"),
            (None, None) => "no listener".to_owned(),
        }
    }

    /// Source and destination, of which the source may not be known; without a destination the ports of `bind()`, and
    /// without both those of UDP.
    fn connection(&self) -> String {
        let source = self.source.map(|source| source.to_string());
        match (source, self.destination) {
            (Some(source), None) => format!("bind() on {source}"),
            (source, Some(destination)) => {
                let destination = address_port(&destination.to_string(), self.destination_port.unwrap_or_default());
                let range = self.local_port_range.map_or_else(String::new, |range| format!(" (ports {range})"));
                let source = source.map_or_else(String::new, |source| format!("{source} "));
                format!("{source}-> {destination}{range}")
            }
            (None, None) if self.protocol == Some(Protocol::Udp) => "UDP port 0".to_owned(),
            (None, None) => "any destination".to_owned(),
        }
    }

    fn bound(&self) -> String {
        let address = self.address.map_or_else(|| "any address".to_owned(), |address| address.to_string());
        let udp = if self.protocol == Some(Protocol::Udp) { " (UDP)" } else { "" };
        match self.port.filter(|port| *port != 0) {
            Some(port) => format!("bind() to {}{udp}", address_port(&address, port)),
            None => format!("bind() to {address}, any port{udp}"),
        }
    }
}

/// The figures that an alert rests on: which they are depends on its kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "a few hundred alerts at most")]
pub enum Evidence {
    /// Of [`AlertKind::SynFlood`], [`AlertKind::AcceptOverflow`] and [`AlertKind::PortScan`].
    Flood(FloodEvidence),
    /// Of [`AlertKind::PortExhaustion`], [`AlertKind::PortAllocationFailed`] and [`AlertKind::BindConflict`].
    Ports(PortEvidence),
    /// Of other kinds: the values of `facts`, by their names.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_that_of_its_kind_and_a_flood_is_not_wrapped() {
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
        assert_eq!(fields, ["netns", "address", "port", "process"]);
    }
}
