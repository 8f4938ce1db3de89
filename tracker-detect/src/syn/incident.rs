//! One incident: from its onset, through pauses and pulses, to its end.

use std::time::Duration;

use tracker_model::api::{AlertKind, FloodEvidence};

use super::{
    cusum::{Excursion, Gauge, Step},
    evidence,
    record::{Record, Subject, Unknown},
    settings::{AGAIN, AGREEMENT, QUIET},
    sources::Whence,
    subject::{Before, Moment, Sight},
    text,
};
use crate::estimators::rate::float;

/// Part of the highest rate of SYNs that must go unanswered for the sources to say what an incident comes from.
const STRONG: f64 = 0.3;

/// An incident that goes on, or is over and may begin again.
#[derive(Debug)]
pub struct Incident {
    /// Its alert,
    pub alert: u64,
    /// and what is known of it.
    pub record: Record,
    /// When it was called, the last time.
    pub called: Duration,
    /// Whether it was called for a SYN queue full of old requests, and not for its rate.
    pub slow: bool,
    pub before: Before,
    /// Rates are not over a time before this: it had not begun.
    window_from: Duration,
    /// Rates end here: where the flood was surely still on. It may have ended in the last interval or, since clients
    /// that are answered early hide some of it for a moment, in the one before.
    rates_to: Duration,
    /// The end of the last interval with a significant number of unanswered SYNs.
    pub last: Duration,
    /// For how long it is known that there were none since.
    quiet: Duration,
    /// SYNs in that time.
    pub pending: u64,
    /// Another class than the alert's, and since when the sources speak for it.
    candidate: Option<(Whence, Duration)>,
}

impl Incident {
    /// Calls an alarm. The alert of `previous` fires again if that ended less than a minute ago; otherwise one is
    /// opened.
    pub fn begin(
        previous: Option<Self>,
        kind: AlertKind,
        subject: Subject,
        whence: Whence,
        excursion: &Excursion,
        sight: &Sight,
    ) -> Self {
        let moment = sight.moment;
        let recent = |incident: &Self| !incident.record.firing && moment.at.saturating_sub(incident.last) <= AGAIN;
        let returning = previous.filter(recent);
        let returns = returning.is_some();
        let mut incident = returning.unwrap_or_else(|| Self::new(kind, subject, whence, excursion, sight));
        let known = sight.gauge.history.known().at;
        (incident.called, incident.window_from, incident.rates_to) = (moment.at, excursion.first.at, known);
        (incident.last, incident.quiet, incident.candidate) = (known, Duration::ZERO, None);
        (incident.record.firing, incident.record.whence) = (true, whence);
        incident.record.evidence.pulses += u32::from(returns);
        incident.update_figures(known, sight);
        evidence::sources(&mut incident.record.evidence, sight);
        if returns {
            moment.alerts.reopen(incident.alert);
            incident.publish(moment);
        } else {
            incident.record.note_census(moment.census_error);
            let since = moment.wall_of(onset(excursion, sight.gauge));
            incident.alert = moment.alerts.open(text::render(&incident.record), since);
        }
        incident
    }

    /// One that no alert was opened for yet.
    fn new(kind: AlertKind, subject: Subject, whence: Whence, excursion: &Excursion, sight: &Sight) -> Self {
        let evidence = FloodEvidence { usual_completed_rate: excursion.usual_completed, ..FloodEvidence::default() };
        let before = excursion.before;
        Self {
            alert: 0,
            record: Record { kind, whence, subject, firing: true, evidence, unknown: Vec::new() },
            called: Duration::ZERO,
            slow: false,
            before: Before { point: before, flow: sight.flow, namespace: sight.moment.namespace.before(before.at) },
            window_from: Duration::ZERO,
            rates_to: Duration::ZERO,
            last: Duration::ZERO,
            quiet: Duration::ZERO,
            pending: sight.gauge.history.known().syns.saturating_sub(before.syns),
            candidate: None,
        }
    }

    /// Whether it goes on.
    pub const fn firing(&self) -> bool {
        self.record.firing
    }

    /// Brings the figures up to date, with rates over the time before `to`.
    fn update_figures(&mut self, to: Duration, sight: &Sight) {
        let syns = std::mem::take(&mut self.pending);
        evidence::update(&mut self.record.evidence, syns, &self.before, self.window_from, to, sight);
    }

    /// Shows what is known now.
    pub fn publish(&self, moment: &Moment) {
        moment.alerts.update(self.alert, |report| *report = text::render(&self.record));
    }

    /// Adds a step. `goes_on` says whether it was one of the incident. It ends when there was none for as long as
    /// `quiet`.
    pub fn follow(&mut self, step: Option<&Step>, goes_on: bool, quiet: Duration, sight: &Sight) {
        let Some(step) = step else { return };
        let known = &step.known;
        self.pending = self.pending.saturating_add(known.to.syns - known.from.syns);
        if !self.firing() {
            return;
        }
        if goes_on {
            (self.last, self.quiet) = (known.to.at, Duration::ZERO);
            let strong = self.is_strong(Some(step));
            let to = std::mem::replace(&mut self.rates_to, known.from.at);
            self.update_figures(to, sight);
            if strong {
                evidence::sources(&mut self.record.evidence, sight);
            }
            return;
        }
        self.quiet += known.to.at.saturating_sub(known.from.at);
        if self.quiet >= quiet {
            self.resolve(sight.moment);
        }
    }

    /// It is over, since the last interval with unanswered SYNs.
    pub fn resolve(&mut self, moment: &Moment) {
        self.record.firing = false;
        self.publish(moment);
        moment.alerts.resolve(self.alert, moment.wall_of(self.last));
    }

    /// Whether a step has a good part of what went unanswered at the incident's height. After a flood its requests fill
    /// the SYN queue for a while, and what is then unanswered are the listener's own clients: they are part of the
    /// incident, but not what it came from.
    pub fn is_strong(&self, step: Option<&Step>) -> bool {
        let Some(step) = step else { return false };
        let rate = float(step.known.unanswered) / step.known.seconds().max(f64::EPSILON);
        rate >= STRONG * self.record.evidence.peak_syn_rate
    }

    /// Considers what the sources say now, while it goes on: the class is revised when they agree for a while.
    pub fn revise(&mut self, whence: Option<Whence>, moment: &Moment) {
        let (Some(whence), true) = (whence, self.firing()) else { return };
        let record = &mut self.record;
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

/// Whether there is an incident and it goes on.
pub fn firing(incident: Option<&Incident>) -> bool {
    incident.is_some_and(Incident::firing)
}

/// The quiet time after which a flood is over.
pub const fn quiet(slow: bool) -> Duration {
    // A slow flood may pause by chance: few SYNs a second.
    if slow { Duration::from_secs(5) } else { QUIET }
}

/// When the excursion began: within its first interval, as far before its end as its SYNs say.
pub fn onset(excursion: &Excursion, gauge: &Gauge) -> Duration {
    let first = excursion.first.at;
    let interval = first.saturating_sub(excursion.before.at);
    let known = gauge.history.known();
    let seconds = known.at.saturating_sub(first).as_secs_f64();
    let later = float(known.unanswered.saturating_sub(excursion.first.unanswered));
    if seconds <= 0.0 || later <= 0.0 {
        return excursion.before.at;
    }
    let begun = float(excursion.first.unanswered - excursion.before.unanswered) * seconds / later;
    first.saturating_sub(Duration::try_from_secs_f64(begun).unwrap_or(interval).min(interval))
}
