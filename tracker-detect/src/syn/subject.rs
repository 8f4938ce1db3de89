//! All that is known at one moment of a listener, or of the ports without one.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tracker_model::{
    api::{Class, Verdict},
    counters::{HandshakeStats, NamespaceCounters},
    worst_socket::WorstSocket,
};

use super::{
    cusum::Cusum,
    history::Point,
    observation::{QueuesObservation, SourcesObservation},
    sources::SourceSample,
    tcp_ext::NamespaceHistory,
};
use crate::alert::AlertStore;

/// An observation's moment, and what is known besides its subjects.
#[derive(Clone, Copy, Debug)]
pub struct ObservationContext<'a> {
    /// On the detector's clock.
    pub at: Duration,
    /// When the first observation was.
    pub first: Duration,
    /// The time of day.
    pub wall: Timestamp,
    /// The namespace's recent counters.
    pub namespace: &'a NamespaceHistory,
    /// Why the last census failed.
    pub census_error: Option<&'a str>,
    /// Where alerts go.
    pub alerts: &'a AlertStore,
}

impl ObservationContext<'_> {
    /// The time of day at an earlier moment, by today's clock.
    pub fn wall_of(&self, at: Duration) -> Timestamp {
        let ago = SignedDuration::try_from(self.at.saturating_sub(at)).unwrap_or_default();
        self.wall.checked_sub(ago).unwrap_or(self.wall)
    }
}

/// All that is known of a subject at one moment.
#[derive(Clone, Copy, Debug)]
pub struct SubjectView<'a> {
    pub context: &'a ObservationContext<'a>,
    pub cusum: &'a Cusum,
    pub state: &'a SubjectState,
    /// The sample of its SYNs, while it has one.
    pub flow: Option<HandshakeStats>,
    pub queues: Option<QueuesObservation>,
    /// Clients that a full accept queue keeps waiting.
    pub waiting: Option<u64>,
    /// Name of the device that it is bound to.
    pub device: Option<&'a str>,
    /// The socket of a group that is worst off.
    pub worst_socket: Option<&'a WorstSocket>,
    /// Why the kernel drops SYNs to it before TCP, while it does.
    pub drop_reasons: &'a [String],
}

/// What was before the onset.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    /// The subject's counters.
    pub point: Point,
    /// The sample of its SYNs.
    pub flow: Option<HandshakeStats>,
    /// The namespace's counters.
    pub namespace: Option<NamespaceCounters>,
}

/// What the detector says of a subject after an observation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SubjectStatus {
    /// The verdict; none before the second observation.
    pub verdict: Option<Verdict>,
    /// Whether it is under suspicion or alarm, or was a minute ago: its sources are then to be read at every
    /// observation.
    pub watched: bool,
    /// When that began for which it is watched, on the clock of [`super::SynObservation::at`], as far as it is known.
    pub onset: Option<Duration>,
    /// When the scan began that goes on or may be one, if any: since then ports are to be counted.
    pub scan_from: Option<Duration>,
    /// Since when distinct sources are to be summed up, even if they were watched before: the onset of a scan.
    pub anew_from: Option<Duration>,
}

impl SubjectStatus {
    /// If it is watched: since when its distinct sources are to be summed up. `now` stands for an onset that is not
    /// known.
    #[must_use]
    pub fn watched_from(&self, now: Duration) -> Option<Duration> {
        self.watched.then(|| self.onset.unwrap_or(now))
    }
}

/// What a listener and the ports without one both keep: their sources and the verdict.
#[derive(Debug, Default)]
pub struct SubjectState {
    pub sample: SourceSample,
    /// Sources of handshakes that were completed.
    pub completed: SourceSample,
    /// Distinct sources since it is watched, and the SYNs that this covers.
    pub distinct: (f64, u64),
    pub watched: bool,
    verdict: Option<Verdict>,
}

impl SubjectState {
    /// Adds sources of SYNs and of completed handshakes.
    pub fn add_sources(&mut self, at: Duration, seen: &SourcesObservation) {
        self.sample.add(at, seen.syns, &seen.sample);
        self.completed.add(at, seen.completed, &seen.completed_sample);
    }

    /// Takes over the distinct sources since it is watched.
    pub fn count_distinct(&mut self, seen: &SourcesObservation) {
        if self.watched {
            self.distinct = (seen.distinct_total, seen.syns_total);
        }
    }

    /// Says whether its sources are to be read at every observation.
    pub fn set_watched(&mut self, watched: bool) {
        if !watched || !self.watched {
            self.distinct = (0.0, 0);
        }
        self.watched = watched;
    }

    /// Brings the verdict up to date: that of an alert, with its onset, or another.
    pub fn set_verdict(&mut self, class: Class, alert: Option<(u64, Timestamp)>, wall: Timestamp) {
        let before = self.verdict.unwrap_or_default();
        let since = match alert {
            Some((_, onset)) => Some(onset),
            None if before.class == class => before.since,
            None => Some(wall),
        };
        self.verdict = Some(Verdict { class, since, alert: alert.map(|(id, _)| id) });
    }

    /// What there is to say of it; `onset` is when its excursion began.
    pub const fn status(&self, onset: Option<Duration>) -> SubjectStatus {
        let (verdict, watched) = (self.verdict, self.watched);
        SubjectStatus { verdict, watched, onset, scan_from: None, anew_from: None }
    }
}
