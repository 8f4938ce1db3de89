//! One incident: from its onset, through pauses and pulses, to its end.

use std::time::Duration;

use jiff::Timestamp;
use tracker_model::{
    api::{Class, FloodEvidence},
    counters::NamespaceCounters,
};

use super::{
    cusum::{Cusum, Excursion, Step},
    evidence,
    history::Point,
    record::{Record, Subject, Unknown},
    settings::{AGAIN, AGREEMENT, QUIET},
    sources::Attribution,
    subject::{Before, ObservationContext, SubjectView},
    text,
};
use crate::estimators::rate::float;

/// What began this shortly after the first observation was there before it: an onset is not known better.
const FIRST_LOOK: Duration = Duration::from_millis(100);
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
    /// SYNs, completed handshakes and answered SYNs in that time.
    pending: [u64; 3],
    /// Its onset: that of its alert.
    pub since: Timestamp,
    /// Another class than the alert's, and since when the sources speak for it.
    candidate: Option<(Attribution, Duration)>,
}

impl Incident {
    /// Calls an alarm. The alert of `previous` fires again if that ended less than a minute ago; otherwise one is
    /// opened.
    pub fn begin(
        previous: Option<Self>,
        subject: Subject,
        attribution: Attribution,
        excursion: &Excursion,
        view: &SubjectView,
    ) -> Self {
        let context = view.context;
        let recent = |incident: &Self| !incident.record.firing && context.at.saturating_sub(incident.last) <= AGAIN;
        let returning = previous.filter(recent);
        let returns = returning.is_some();
        let mut incident = returning.unwrap_or_else(|| Self::new(subject, attribution, excursion, view));
        let known = view.cusum.history.known().at;
        (incident.called, incident.window_from, incident.rates_to) = (context.at, excursion.first.at, known);
        (incident.last, incident.quiet, incident.candidate) = (known, Duration::ZERO, None);
        (incident.record.firing, incident.record.attribution) = (true, attribution);
        incident.record.evidence.pulses += u32::from(returns);
        incident.update_figures(known, view);
        evidence::sources(&mut incident.record.evidence, view);
        if returns {
            context.alerts.reopen(incident.alert);
            incident.publish(context);
        } else {
            incident.record.note_census(context.census_error);
            incident.alert = context.alerts.open(text::render(&incident.record), incident.since);
        }
        incident
    }

    /// One that no alert was opened for yet.
    fn new(subject: Subject, attribution: Attribution, excursion: &Excursion, view: &SubjectView) -> Self {
        let evidence = FloodEvidence { usual_completed_rate: excursion.usual_completed, ..FloodEvidence::default() };
        let (before, begun) = (excursion.before, onset(excursion, view.cusum));
        Self {
            alert: 0,
            record: Record {
                kind: attribution.kind(),
                attribution,
                subject,
                device: view.device.map(str::to_owned),
                firing: true,
                since_before: begun <= view.context.first + FIRST_LOOK && attribution.class != Class::Scan,
                evidence,
                answered: 0,
                namespace: NamespaceCounters::default(),
                unknown: Vec::new(),
            },
            called: Duration::ZERO,
            slow: false,
            before: Before { point: before, flow: view.flow, namespace: view.context.namespace.before(before.at) },
            window_from: Duration::ZERO,
            rates_to: Duration::ZERO,
            last: Duration::ZERO,
            quiet: Duration::ZERO,
            pending: counted(&before, view.cusum.history.known()),
            since: view.context.wall_of(begun.max(view.context.first)),
            candidate: None,
        }
    }

    /// Whether it goes on.
    pub const fn firing(&self) -> bool {
        self.record.firing
    }

    /// Brings the figures up to date, with rates over the time before `to`.
    fn update_figures(&mut self, to: Duration, view: &SubjectView) {
        let [syns, completed, answered] = std::mem::take(&mut self.pending);
        let evidence = &mut self.record.evidence;
        evidence.completed = evidence.completed.saturating_add(completed);
        self.record.answered = self.record.answered.saturating_add(answered);
        evidence::update(&mut self.record.evidence, syns, &self.before, self.window_from, to, view);
        if let (Some(now), Some(before)) = (view.context.namespace.last(), self.before.namespace) {
            self.record.namespace = now.since(&before);
        }
    }

    /// Shows what is known now.
    pub fn publish(&self, context: &ObservationContext) {
        context.alerts.update(self.alert, |report| *report = text::render(&self.record));
    }

    /// Adds what was counted between two points.
    pub fn add(&mut self, from: &Point, to: &Point) {
        for (pending, more) in self.pending.iter_mut().zip(counted(from, to)) {
            *pending = pending.saturating_add(more);
        }
    }

    /// Its alert and onset.
    pub const fn identity(&self) -> (u64, Timestamp) {
        (self.alert, self.since)
    }

    /// Adds a step. `goes_on` says whether it was one of the incident. It ends when there was none for as long as
    /// `quiet`.
    pub fn advance(&mut self, step: Option<&Step>, goes_on: bool, quiet: Duration, view: &SubjectView) {
        let Some(step) = step else { return };
        let interval = &step.interval;
        self.add(&interval.from, &interval.to);
        if !self.firing() {
            return;
        }
        if goes_on {
            (self.last, self.quiet) = (interval.to.at, Duration::ZERO);
            let strong = self.is_strong(Some(step));
            let to = std::mem::replace(&mut self.rates_to, interval.from.at);
            self.update_figures(to, view);
            if strong {
                evidence::sources(&mut self.record.evidence, view);
            }
            return;
        }
        self.quiet += interval.to.at.saturating_sub(interval.from.at);
        if self.quiet >= quiet {
            self.resolve(view.context);
        }
    }

    /// It is over, since the last interval with unanswered SYNs.
    pub fn resolve(&mut self, context: &ObservationContext) {
        self.record.firing = false;
        self.publish(context);
        context.alerts.resolve(self.alert, context.wall_of(self.last));
    }

    /// Whether a step has a good part of what went unanswered at the incident's height. After a flood its requests fill
    /// the SYN queue for a while, and what is then unanswered are the listener's own clients: they are part of the
    /// incident, but not what it came from.
    pub fn is_strong(&self, step: Option<&Step>) -> bool {
        let Some(step) = step else { return false };
        let rate = float(step.interval.unanswered) / step.interval.seconds().max(f64::EPSILON);
        rate >= STRONG * self.record.evidence.peak_syn_rate
    }

    /// Considers what the sources say now, while it goes on: the class is revised when they agree for a while.
    pub fn revise(&mut self, attribution: Option<Attribution>, context: &ObservationContext) {
        let (Some(attribution), true) = (attribution, self.firing()) else { return };
        let record = &mut self.record;
        record.unknown.retain(|unknown| *unknown != Unknown::Sources);
        if attribution == record.attribution {
            self.candidate = None;
            return;
        }
        let since = match self.candidate {
            Some((candidate, since)) if candidate == attribution => since,
            _ => context.at,
        };
        self.candidate = Some((attribution, since));
        if context.at.saturating_sub(since) >= AGREEMENT {
            record.attribution = attribution;
            self.candidate = None;
        }
    }
}

/// SYNs, completed handshakes and answered SYNs between two points.
const fn counted(from: &Point, to: &Point) -> [u64; 3] {
    let (syns, completed) = (to.syns.saturating_sub(from.syns), to.completed.saturating_sub(from.completed));
    [syns, completed, to.answered.saturating_sub(from.answered)]
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
pub fn onset(excursion: &Excursion, cusum: &Cusum) -> Duration {
    let first = excursion.first.at;
    let interval = first.saturating_sub(excursion.before.at);
    let known = cusum.history.known();
    let seconds = known.at.saturating_sub(first).as_secs_f64();
    let later = float(known.unanswered.saturating_sub(excursion.first.unanswered));
    if seconds <= 0.0 || later <= 0.0 {
        return excursion.before.at;
    }
    let begun = float(excursion.first.unanswered - excursion.before.unanswered) * seconds / later;
    first.saturating_sub(Duration::try_from_secs_f64(begun).unwrap_or(interval).min(interval))
}
