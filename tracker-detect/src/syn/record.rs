//! The alerts that are remembered.

use jiff::Timestamp;

use super::{ListenerId, sources::Whence, text};
use crate::alert::store::Entry;
use tracker_model::{
    api::{Alert, AlertKind, AlertState, AlertSubject, Evidence, FloodEvidence, Severity},
    process::Process,
};

/// Notes of what is not known, for each alert.
const NOTES: usize = 8;

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A listener.
    Listener(ListenerId),
    /// A port where nothing listens, in a network namespace.
    Port(u32, u16),
    /// All ports where nothing listens, in a network namespace.
    Ports(u32),
}

/// Something that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// The listener closed while it was flooded.
    Closed(Timestamp),
    /// It is open again, or its counters began anew.
    Restarted(Timestamp),
    /// There was no observation between the two.
    Gap(Timestamp, Timestamp),
    /// No queues were known when the alarm was called.
    Queues,
    /// No sources were known when the alarm was called.
    Sources,
    /// The last census failed.
    Census(String),
}

/// An alert as the detector keeps it.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Number.
    pub id: u64,
    /// What it is about.
    pub kind: AlertKind,
    /// Class and origin.
    pub whence: Whence,
    /// What it befalls.
    pub subject: Subject,
    /// Onset.
    pub since: Timestamp,
    /// End; none while it fires.
    pub until: Option<Timestamp>,
    /// Figures.
    pub evidence: FloodEvidence,
    /// What is not known.
    pub unknown: Vec<Unknown>,
}

impl Record {
    /// Notes what is not known, once.
    pub(super) fn note(&mut self, unknown: Unknown) {
        if !self.unknown.contains(&unknown) && self.unknown.len() < NOTES {
            self.unknown.push(unknown);
        }
    }

    /// Notes whether the last census failed.
    pub(super) fn note_census(&mut self, error: Option<&str>) {
        self.unknown.retain(|unknown| !matches!(unknown, Unknown::Census(_)));
        if let Some(error) = error {
            self.note(Unknown::Census(error.chars().take(200).collect()));
        }
    }

    fn severity(&self) -> Severity {
        match (self.kind, self.subject) {
            (AlertKind::SynFlood, Subject::Listener(_)) => Severity::Critical,
            (AlertKind::SynFlood | AlertKind::AcceptOverflow, _) => Severity::Warning,
            _ => Severity::Info,
        }
    }

    fn alert(&self, process: impl Fn(&ListenerId) -> Option<Process>) -> Alert {
        let mut subject = AlertSubject::default();
        match self.subject {
            Subject::Listener(id) => {
                (subject.netns, subject.address, subject.port) = (id.netns, Some(id.address), Some(id.port));
                subject.process = process(&id);
            }
            Subject::Port(netns, port) => (subject.netns, subject.port) = (netns, Some(port)),
            Subject::Ports(netns) => subject.netns = netns,
        }
        Alert {
            id: self.id,
            kind: self.kind,
            severity: self.severity(),
            state: if self.until.is_some() { AlertState::Resolved } else { AlertState::Firing },
            since: self.since,
            until: self.until,
            subject,
            class: Some(self.whence.class),
            summary: text::summary(self),
            evidence: Evidence::Flood(self.evidence.clone()),
            advice: text::advice(self),
            unknown: self.unknown.iter().map(text::unknown).collect(),
        }
    }
}

impl Entry for Record {
    fn id(&self) -> u64 {
        self.id
    }

    fn number(&mut self, id: u64) {
        self.id = id;
    }

    fn is_over(&self) -> bool {
        self.until.is_some()
    }
}

/// The detector's alerts.
pub(super) type Ledger = crate::alert::store::Ledger<Record>;

/// Firing ones first, then resolved ones, newest first.
pub(super) fn alerts(ledger: &Ledger, process: impl Fn(&ListenerId) -> Option<Process>) -> Vec<Alert> {
    ledger.iter().map(|record| record.alert(&process)).collect()
}
