//! The alerts that are remembered.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::{ListenerId, sources::Whence, words};
use crate::{
    api::{Alert, AlertKind, AlertState, AlertSubject, FloodEvidence, Severity},
    snapshot::Process,
};

/// Alerts that are remembered.
const MOST: usize = 256;
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
            (AlertKind::PortScan, _) => Severity::Info,
        }
    }

    fn alert(&self, process: impl Fn(&ListenerId) -> Option<Process>) -> Alert {
        let subject = match self.subject {
            Subject::Listener(id) => {
                AlertSubject { netns: id.netns, address: Some(id.address), port: Some(id.port), process: process(&id) }
            }
            Subject::Port(netns, port) => AlertSubject { netns, address: None, port: Some(port), process: None },
            Subject::Ports(netns) => AlertSubject { netns, address: None, port: None, process: None },
        };
        Alert {
            id: self.id,
            kind: self.kind,
            severity: self.severity(),
            state: if self.until.is_some() { AlertState::Resolved } else { AlertState::Firing },
            since: self.since,
            until: self.until,
            subject,
            class: Some(self.whence.class),
            summary: words::summary(self),
            evidence: self.evidence.clone(),
            advice: words::advice(self),
            unknown: self.unknown.iter().map(words::unknown).collect(),
        }
    }
}

/// Alerts in the order in which they were called.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    records: VecDeque<Record>,
    last: u64,
}

impl Ledger {
    /// Puts down a new alert and gives it its number. When there is no room the oldest that is over is forgotten; when all
    /// fire, the new one is not kept: those before it are no less urgent.
    pub(super) fn open(&mut self, record: Record) -> u64 {
        self.last += 1;
        if self.records.len() == MOST
            && let Some(index) = self.records.iter().position(|record| record.until.is_some())
        {
            self.records.remove(index);
        }
        if self.records.len() < MOST {
            self.records.push_back(Record { id: self.last, ..record });
        }
        self.last
    }

    /// An alert, unless it is forgotten.
    pub(super) fn get(&mut self, id: u64) -> Option<&mut Record> {
        self.records.iter_mut().rev().find(|record| record.id == id)
    }

    /// Firing ones first, then resolved ones, newest first.
    pub(super) fn alerts(&self, process: impl Fn(&ListenerId) -> Option<Process>) -> Vec<Alert> {
        let firing = self.records.iter().rev().filter(|record| record.until.is_none());
        let resolved = self.records.iter().rev().filter(|record| record.until.is_some());
        firing.chain(resolved).map(|record| record.alert(&process)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(until: Option<Timestamp>) -> Record {
        Record {
            id: 0,
            kind: AlertKind::SynFlood,
            whence: Whence::ALL_OVER,
            subject: Subject::Port(1, 80),
            since: Timestamp::UNIX_EPOCH,
            until,
            evidence: FloodEvidence::default(),
            unknown: Vec::new(),
        }
    }

    #[test]
    fn the_oldest_that_is_over_makes_room() {
        let mut ledger = Ledger::default();
        let first = ledger.open(record(None));
        for _ in 0..300 {
            ledger.open(record(Some(Timestamp::UNIX_EPOCH)));
        }
        let alerts = ledger.alerts(|_| None);
        assert_eq!((alerts.len(), alerts[0].id, alerts[1].id), (MOST, first, 301));
        for _ in 0..300 {
            ledger.open(record(None));
        }
        let alerts = ledger.alerts(|_| None);
        assert_eq!(alerts.len(), MOST);
        assert!(alerts.iter().all(|alert| alert.state == AlertState::Firing));
    }
}
