//! One incident: from its onset, through pauses and pulses, to its end.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{
    QueuesSeen,
    cusum::{Excursion, Gauge, Step},
    evidence,
    history::Point,
    record::{Ledger, Record, Subject, Unknown},
    settings::{AGAIN, AGREEMENT, QUIET},
    sources::{Sample, Whence},
    tcp_ext::NamespaceHistory,
};
use tracker_model::counters::FlowSample;
use tracker_model::{
    api::{AlertKind, FloodEvidence},
    counters::NamespaceCounters,
};

/// The moment of an observation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment<'a> {
    /// On the detector's clock.
    pub at: Duration,
    /// The time of day.
    pub wall: Timestamp,
    /// The namespace's counters of late.
    pub namespace: &'a NamespaceHistory,
    /// Why the last census failed.
    pub census_error: Option<&'a str>,
}

impl Moment<'_> {
    /// The time of day at an earlier moment, as the clock of today tells it.
    pub(super) fn wall_of(&self, at: Duration) -> Timestamp {
        let ago = SignedDuration::try_from(self.at.saturating_sub(at)).unwrap_or_default();
        self.wall.checked_sub(ago).unwrap_or(self.wall)
    }
}

/// All that is known of a subject at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight<'a> {
    /// The moment.
    pub moment: &'a Moment<'a>,
    /// Its counters.
    pub gauge: &'a Gauge,
    /// Its sources.
    pub sample: &'a Sample,
    /// Distinct sources since it is watched, and the SYNs that this covers.
    pub distinct: (f64, u64),
    /// The sample of its SYNs, while it has one.
    pub flow: Option<FlowSample>,
    /// Its queues.
    pub queues: Option<QueuesSeen>,
}

/// Part of the highest rate of SYNs that must go unanswered for the sources to say what an incident comes from.
const STRONG: f64 = 0.3;

/// What was before the onset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    /// The subject's counters.
    pub point: Point,
    /// The sample of its SYNs.
    pub flow: Option<FlowSample>,
    /// The namespace's counters.
    pub namespace: Option<NamespaceCounters>,
}

/// An incident that goes on, or is over and may begin again.
#[derive(Debug)]
pub(super) struct Incident {
    /// Its alert.
    pub alert: u64,
    /// Whether it goes on.
    pub firing: bool,
    /// When it was called, the last time.
    pub called: Duration,
    /// Whether it was called for a SYN queue full of old requests, and not for its rate.
    pub slow: bool,
    /// What was before it.
    pub before: Before,
    /// Rates are not over a time before this: it had not begun.
    pub window_from: Duration,
    /// Rates end here: where the flood was surely still on. It may have ended in the last interval or, since clients that are
    /// answered early hide some of it for a moment, in the one before.
    rates_to: Duration,
    /// The end of the last interval with a significant number of unanswered SYNs.
    pub last: Duration,
    /// How long it is known that there were none since.
    quiet: Duration,
    /// SYNs in that time.
    pub pending: u64,
    /// Another class than the alert's, and since when the sources speak for it.
    candidate: Option<(Whence, Duration)>,
}

impl Incident {
    /// Calls an alarm: opens an alert.
    pub(super) fn open(
        kind: AlertKind,
        subject: Subject,
        whence: Whence,
        excursion: &Excursion,
        sight: &Sight,
        ledger: &mut Ledger,
    ) -> Self {
        let moment = sight.moment;
        let known = *sight.gauge.history.known();
        let mut incident = Self {
            alert: 0,
            firing: true,
            called: moment.at,
            slow: false,
            before: Before {
                point: excursion.before,
                flow: sight.flow,
                namespace: moment.namespace.before(excursion.before.at),
            },
            window_from: excursion.first.at,
            rates_to: known.at,
            last: known.at,
            quiet: Duration::ZERO,
            pending: known.syns.saturating_sub(excursion.before.syns),
            candidate: None,
        };
        let mut record = Record {
            id: 0,
            kind,
            whence,
            subject,
            since: moment.wall_of(onset(excursion, sight.gauge)),
            until: None,
            evidence: FloodEvidence { usual_completed_rate: excursion.usual_completed, ..FloodEvidence::default() },
            unknown: Vec::new(),
        };
        evidence::update(&mut record.evidence, &mut incident, known.at, sight);
        evidence::sources(&mut record.evidence, sight);
        record.note_census(moment.census_error);
        incident.alert = ledger.open(record);
        incident
    }

    /// Whether a flood that begins now is this one again.
    pub(super) fn may_return(&self, at: Duration) -> bool {
        !self.firing && at.saturating_sub(self.last) <= AGAIN
    }

    /// Goes on after a pause.
    pub(super) fn reopen(&mut self, whence: Whence, excursion: &Excursion, sight: &Sight, ledger: &mut Ledger) {
        (self.firing, self.called) = (true, sight.moment.at);
        (self.window_from, self.rates_to) = (excursion.first.at, sight.gauge.history.known().at);
        (self.last, self.quiet, self.candidate) = (sight.gauge.history.known().at, Duration::ZERO, None);
        if let Some(record) = ledger.get(self.alert) {
            record.until = None;
            record.whence = whence;
            record.evidence.pulses += 1;
            evidence::update(&mut record.evidence, self, self.last, sight);
            evidence::sources(&mut record.evidence, sight);
        }
    }

    /// Takes in a step. `goes_on` says whether it was one of the incident. It ends when there was none for as long as `quiet`.
    pub(super) fn follow(
        &mut self,
        step: Option<&Step>,
        goes_on: bool,
        quiet: Duration,
        sight: &Sight,
        ledger: &mut Ledger,
    ) {
        let Some(step) = step else { return };
        let known = &step.known;
        self.pending = self.pending.saturating_add(known.to.syns - known.from.syns);
        if !self.firing {
            return;
        }
        if goes_on {
            (self.last, self.quiet) = (known.to.at, Duration::ZERO);
            let strong = self.is_strong(Some(step), ledger);
            if let Some(record) = ledger.get(self.alert) {
                let to = std::mem::replace(&mut self.rates_to, known.from.at);
                evidence::update(&mut record.evidence, self, to, sight);
                if strong {
                    evidence::sources(&mut record.evidence, sight);
                }
            }
            return;
        }
        self.quiet += known.to.at.saturating_sub(known.from.at);
        if self.quiet >= quiet {
            self.resolve(sight.moment, ledger);
        }
    }

    /// It is over, since the last interval with unanswered SYNs.
    pub(super) fn resolve(&mut self, moment: &Moment, ledger: &mut Ledger) {
        self.firing = false;
        if let Some(record) = ledger.get(self.alert) {
            record.until = Some(moment.wall_of(self.last).max(record.since));
        }
    }

    /// Whether a step has a good part of what went unanswered at the incident's height. After a flood its requests fill the SYN
    /// queue for a while, and what is then unanswered are the listener's own clients: they are part of the incident, but
    /// not what it came from.
    #[expect(clippy::cast_precision_loss, reason = "a rate is rounded anyway")]
    pub(super) fn is_strong(&self, step: Option<&Step>, ledger: &mut Ledger) -> bool {
        let (Some(step), Some(record)) = (step, ledger.get(self.alert)) else { return false };
        let rate = step.known.unanswered as f64 / step.known.seconds().max(f64::EPSILON);
        rate >= STRONG * record.evidence.peak_syn_rate
    }

    /// Takes in what the sources say now, while it goes on: the class is revised when they agree for a while.
    pub(super) fn revise(&mut self, whence: Option<Whence>, moment: &Moment, ledger: &mut Ledger) {
        let (Some(whence), Some(record), true) = (whence, ledger.get(self.alert), self.firing) else { return };
        record.unknown.retain(|unknown| *unknown != Unknown::Sources);
        if whence == record.whence {
            self.candidate = None;
            return;
        }
        let since = match self.candidate {
            Some((candidate, since)) if candidate == whence => since,
            _ => moment.at,
        };
        self.candidate = Some((whence, since));
        if moment.at.saturating_sub(since) >= AGREEMENT {
            record.whence = whence;
            self.candidate = None;
        }
    }
}

/// The quiet time after which a flood is over.
pub(super) const fn quiet(slow: bool) -> Duration {
    // A slow flood may pause by chance: few SYNs a second.
    if slow { Duration::from_secs(5) } else { QUIET }
}

/// When the excursion began: within its first interval, as far before its end as its SYNs tell.
#[expect(clippy::cast_precision_loss, reason = "a rate is rounded anyway")]
pub(super) fn onset(excursion: &Excursion, gauge: &Gauge) -> Duration {
    let first = excursion.first.at;
    let interval = first.saturating_sub(excursion.before.at);
    let known = gauge.history.known();
    let seconds = known.at.saturating_sub(first).as_secs_f64();
    let later = known.unanswered.saturating_sub(excursion.first.unanswered) as f64;
    if seconds <= 0.0 || later <= 0.0 {
        return excursion.before.at;
    }
    let begun = (excursion.first.unanswered - excursion.before.unanswered) as f64 * seconds / later;
    first.saturating_sub(Duration::try_from_secs_f64(begun).unwrap_or(interval).min(interval))
}
