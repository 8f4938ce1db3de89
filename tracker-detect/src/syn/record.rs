//! What the flood detector knows of an alert.

use jiff::Timestamp;

use super::{observation::ListenerId, sources::Attribution};
use tracker_model::{
    api::{AlertKind, AlertSubject, FloodEvidence, Severity},
    counters::NamespaceCounters,
};

/// Notes of what is not known, for each alert.
const NOTES: usize = 8;

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A listener.
    Listener(ListenerId),
    /// A port where nothing listens, in a network namespace.
    Port(u32, u16),
    /// All ports where nothing listens, in a network namespace.
    Ports(u32),
}

/// Something that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// The listener closed while it was flooded.
    Closed(Timestamp),
    /// It is open again, or its counters started again.
    Restarted(Timestamp),
    /// There was no observation between the two.
    Gap(Timestamp, Timestamp),
    /// No queues were known when the alarm was called.
    Queues,
    /// No sources were known when the alarm was called.
    Sources,
    /// The last census failed.
    Census(String),
    /// SYNs to a flooded port came from the same sketch of sources.
    SharedSources,
}

/// What is known of an alert.
#[derive(Debug)]
pub struct Record {
    pub kind: AlertKind,
    /// Class and origin.
    pub attribution: Attribution,
    pub subject: Subject,
    /// Name of the device that the listener is bound to.
    pub device: Option<String>,
    /// Whether it goes on.
    pub firing: bool,
    /// Whether it was so already at the first observation.
    pub since_before: bool,
    pub evidence: FloodEvidence,
    /// SYNs that were answered since the onset: completed, waiting for the first data, or reset by their client.
    pub answered: u64,
    /// Counters of the namespace since the onset. They are of all its listeners together: they say how the kernel is
    /// set, and are no figures of this one.
    pub namespace: NamespaceCounters,
    pub unknown: Vec<Unknown>,
}

impl Record {
    /// Notes what is not known, once.
    pub fn note(&mut self, unknown: Unknown) {
        if !self.unknown.contains(&unknown) && self.unknown.len() < NOTES {
            self.unknown.push(unknown);
        }
    }

    /// Notes whether the last census failed.
    pub fn note_census(&mut self, error: Option<&str>) {
        self.unknown.retain(|unknown| !matches!(unknown, Unknown::Census(_)));
        if let Some(error) = error {
            self.note(Unknown::Census(error.chars().take(200).collect()));
        }
    }

    /// The subject as the API has it.
    pub fn subject_for_api(&self) -> AlertSubject {
        AlertSubject { device: self.device.clone(), ..self.subject.for_api() }
    }

    /// How bad it is.
    pub const fn severity(&self) -> Severity {
        match (self.kind, self.subject) {
            (AlertKind::SynFlood, Subject::Listener(_)) => Severity::Critical,
            (AlertKind::SynFlood | AlertKind::AcceptOverflow, _) => Severity::Warning,
            _ => Severity::Info,
        }
    }
}

impl Subject {
    /// As the API has it.
    pub fn for_api(self) -> AlertSubject {
        let (netns, address, port) = match self {
            Self::Listener(id) => (id.netns, Some(id.address), Some(id.port)),
            Self::Port(netns, port) => (netns, None, Some(port)),
            Self::Ports(netns) => (netns, None, None),
        };
        AlertSubject { netns, address, port, ..AlertSubject::default() }
    }
}
