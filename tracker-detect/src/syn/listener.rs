//! One listener: from its counters, queues and sources to its verdict.

use std::time::Duration;

use tracker_model::{api::Class, counters::HandshakeStats, worst_socket::WorstSocket};

use super::{
    counters::{Counters, handshake_time},
    cusum::{Cusum, Excursion, Step},
    history::{Point, rate},
    incident::{Incident, firing, onset, quiet},
    observation::{ListenerId, ListenerObservation, SourcesObservation},
    queues::Queues,
    record::{Subject, Unknown},
    settings::{AGAIN, FRESH, FRESH_TIMEOUT, LEAST_NORM, Settings, WINDOW, lag},
    sources::Attribution,
    subject::{ObservationContext, SubjectState, SubjectStatus, SubjectView},
    surge::Surge,
    usual_sources::UsualSources,
};
use crate::estimators::rate::float;

/// A slow accept queue is taken for the effect of a flood only after this long: clients would have repeated their SYNs
/// twice, after 1 s and 3 s (RFC 6298).
const SECOND_LOOK: Duration = Duration::from_millis(3_500);

/// A listener.
#[derive(Debug)]
pub struct Listener {
    id: ListenerId,
    device: Option<String>,
    pub cusum: Cusum,
    counters: Counters,
    state: SubjectState,
    usual_sources: UsualSources,
    sources_at: Duration,
    queues: Queues,
    worst_socket: Option<WorstSocket>,
    drop_reasons: Vec<String>,
    flow: HandshakeStats,
    flood: Option<Incident>,
    accept: Option<Incident>,
    surge: Surge,
    open: bool,
    /// When it was last in an observation.
    pub seen: Duration,
}

impl Listener {
    /// A listener that is first seen now.
    pub fn new(settings: Settings, seen: &ListenerObservation, at: Duration) -> Self {
        let (mut counters, mut queues) = (Counters::default(), Queues::default());
        let first = counters.point(seen, at);
        queues.see(seen.queues, first, seen.sample);
        Self {
            counters,
            id: seen.id,
            device: seen.device.clone(),
            cusum: Cusum::new(settings, first),
            state: SubjectState::default(),
            usual_sources: UsualSources::default(),
            sources_at: at,
            queues,
            worst_socket: None,
            drop_reasons: Vec::new(),
            flow: seen.sample,
            flood: None,
            accept: None,
            surge: Surge::default(),
            open: true,
            seen: at,
        }
    }

    /// Adds an observation. Of a listener that is not open it has the SYNs to its port.
    pub fn step(&mut self, seen: &ListenerObservation, open: bool, context: &ObservationContext) {
        self.seen = context.at;
        let before = *self.cusum.history.last();
        if open != self.open {
            self.counters = Counters::default();
        }
        let point = self.counters.point(seen, context.at);
        let mut step = None;
        if open == self.open {
            let (gap, restarted) = self.cusum.breaks(&point);
            step = self.cusum.step(point, lag(handshake_time(seen)));
            if gap {
                self.note_gap(&before, &point, context);
            }
            if restarted {
                self.note(&Unknown::Restarted(context.wall));
            }
        } else {
            self.on_reopened(open, point, context);
        }
        if open {
            self.flow = seen.sample;
        }
        self.queues.see(seen.queues, *self.cusum.history.known(), self.flow);
        self.worst_socket.clone_from(&seen.worst_socket);
        self.drop_reasons.clone_from(&seen.drop_reasons);
        self.take_sources(seen.sources.as_ref(), context.at);
        self.advance(step.as_ref(), context);
        self.maybe_open(step.as_ref(), context);
        self.watch();
        self.update_verdict(step.as_ref(), context);
        for incident in self.incidents_firing() {
            incident.publish(context);
        }
    }

    /// The listener has closed during a flood, and its port is followed; or it is open again.
    fn on_reopened(&mut self, open: bool, point: Point, context: &ObservationContext) {
        self.open = open;
        self.cusum.rebase(point);
        self.queues = Queues::default();
        let note = if open { Unknown::Restarted(context.wall) } else { Unknown::Closed(context.wall) };
        self.note(&note);
    }

    /// Notes with each incident that goes on what is not known of it.
    fn note(&mut self, unknown: &Unknown) {
        for incident in self.incidents_firing() {
            incident.record.note(unknown.clone());
        }
    }

    fn incidents_firing(&mut self) -> impl Iterator<Item = &mut Incident> {
        [&mut self.flood, &mut self.accept].into_iter().flatten().filter(|incident| incident.firing())
    }

    /// Nothing was observed for a while. Its SYNs were counted, if not when.
    fn note_gap(&mut self, before: &Point, now: &Point, context: &ObservationContext) {
        for incident in self.incidents_firing() {
            incident.add(before, now);
            incident.record.note(Unknown::Gap(context.wall_of(before.at), context.wall));
        }
    }

    fn take_sources(&mut self, sources: Option<&SourcesObservation>, at: Duration) {
        let Some(seen) = sources else { return };
        let seconds = at.saturating_sub(self.sources_at).as_secs_f64();
        self.sources_at = at;
        self.state.count_distinct(seen);
        if self.state.watched || self.cusum.suspicious() {
            self.usual_sources.suspect();
            self.state.add_sources(at, seen);
        } else {
            self.usual_sources.learn(seen, seconds);
        }
    }

    fn view<'a>(&'a self, context: &'a ObservationContext) -> SubjectView<'a> {
        SubjectView {
            context,
            cusum: &self.cusum,
            state: &self.state,
            flow: Some(self.flow),
            queues: self.queues.last(),
            waiting: self.queues.waiting(self.flow),
            device: self.device.as_deref(),
            worst_socket: self.worst_socket.as_ref(),
            drop_reasons: &self.drop_reasons,
        }
    }

    /// Lets incidents take in the step.
    fn advance(&mut self, step: Option<&Step>, context: &ObservationContext) {
        let (mut flood, mut accept) = (self.flood.take(), self.accept.take());
        let flooded = firing(flood.as_ref());
        let view = self.view(context);
        if let Some(incident) = &mut flood {
            let slow = incident.slow && self.queues.filled();
            let on = step.is_some_and(|step| self.goes_on(step) || (slow && step.some));
            incident.advance(step, on, quiet(slow), &view);
            if on && incident.is_strong(step) {
                incident.revise(self.attribute(), context);
            }
        }
        if let Some(incident) = &mut accept {
            // A full queue turns the next connection away, even if none comes.
            let on = step.is_some_and(|step| step.significant) || self.queues.stays_full(context.at);
            incident.advance(step, on, quiet(false), &view);
        }
        for incident in [&mut flood, &mut accept].into_iter().flatten().filter(|incident| incident.firing()) {
            incident.record.note_census(context.census_error);
        }
        if flooded && !firing(flood.as_ref()) {
            self.cusum.end();
        }
        (self.flood, self.accept) = (flood, accept);
    }

    /// Whether a flood that is on goes on. Nobody answers at the port of a listener that closed, so that only more SYNs
    /// than its clients usually send, and send again, are its flood.
    fn goes_on(&self, step: &Step) -> bool {
        let clients = if self.open { 0.0 } else { 3.0 * self.cusum.baseline.syns.get() * step.interval.seconds() };
        step.significant && float(step.interval.unanswered) > clients
    }

    /// Where the unanswered SYNs come from.
    fn attribute(&self) -> Option<Attribution> {
        let (from, to) = self.cusum.window();
        let span = self.cusum.history.span(from, to)?;
        let (syns, unanswered) = (rate(&span, |point| point.syns), rate(&span, |point| point.unanswered));
        let SubjectState { sample, completed, .. } = &self.state;
        if unanswered > 0.0 { sample.attribute(syns, unanswered, &self.usual_sources, completed) } else { None }
    }

    /// Calls an alarm, if there is one to be called.
    fn maybe_open(&mut self, step: Option<&Step>, context: &ObservationContext) {
        if firing(self.flood.as_ref()) || !self.open || step.is_none() {
            return;
        }
        let slow = self.queues.slow_flood(self.cusum.share()) && self.unanswered_rate() >= 1.0;
        let burst = self.burst_excursion(context);
        let excursion = self.cusum.excursion().copied().or(burst).or_else(|| self.slow_excursion(context.at));
        let Some(excursion) = excursion else { return };
        let accepting = firing(self.accept.as_ref());
        let stays = self.queues.stays_full(context.at) || self.cusum.ready().is_none();
        if accepting && stays && self.queues.explain() {
            if self.flooded_behind(&excursion, context) {
                self.open_flood(&excursion, context);
            }
            return;
        }
        let overflows = self.queues.overflows(context.at) && self.queues.explain();
        if !accepting && (overflows || self.queues.turns_away(context.at)) {
            self.open_accept(&self.stuck_excursion(&excursion), context);
            return;
        }
        let ready = self.cusum.ready();
        if burst.is_some() && !accepting {
            self.open_accept(&excursion, context);
            return;
        }
        if ready.is_none() && !slow {
            return;
        }
        let waited = ready.is_none_or(|ready| context.at.saturating_sub(ready) >= FRESH_TIMEOUT);
        let fresh = self.queues.age(context.at).is_some_and(|age| age <= FRESH);
        if self.explained(&excursion, context) {
            if !accepting {
                self.open_accept(&excursion, context);
            }
        } else if waited || (fresh && self.attribute().is_some()) {
            self.open_flood(&excursion, context);
        }
    }

    /// An excursion for a burst that is over before it is one: a short accept queue turned connections away.
    fn burst_excursion(&self, context: &ObservationContext) -> Option<Excursion> {
        let (since, count) = self.queues.burst().filter(|_| self.cusum.ready().is_none())?;
        let overflows = context.namespace.overflows_since(since)?;
        let (before, _) = self.cusum.history.span(since, context.at)?;
        let usual = &self.cusum.baseline;
        (overflows.saturating_mul(2) >= count)
            .then(|| Excursion::from_point(before, usual.syns.get(), usual.completed.get(), None))
    }

    /// An excursion for what is too slow to be one.
    fn slow_excursion(&self, at: Duration) -> Option<Excursion> {
        let to = self.cusum.history.known();
        let (before, _) = self.cusum.history.span(at.saturating_sub(2 * WINDOW), to.at)?;
        let usual = &self.cusum.baseline;
        let before = self.queues.since().filter(|since| since.at < before.at).unwrap_or(before);
        Some(Excursion::from_point(before, usual.syns.get(), usual.completed.get(), None))
    }

    /// The excursion of an accept queue that is stuck: where nothing went unanswered, it begins when that was seen.
    fn stuck_excursion(&self, excursion: &Excursion) -> Excursion {
        match self.queues.since().filter(|_| self.cusum.excursion().is_none()) {
            Some(since) => Excursion::from_point(since, excursion.usual_syns, excursion.usual_completed, None),
            None => *excursion,
        }
    }

    /// Unanswered SYNs per second over the last two seconds.
    fn unanswered_rate(&self) -> f64 {
        let (history, to) = (&self.cusum.history, self.cusum.history.known().at);
        history.span(to.saturating_sub(WINDOW), to).map_or(0.0, |span| rate(&span, |point| point.unanswered))
    }

    /// Whether a full accept queue explains at least half of what went unanswered: seen full at a census, or by the
    /// namespace's count of overflows, of which no more are this listener's than it dropped.
    fn explained(&self, excursion: &Excursion, context: &ObservationContext) -> bool {
        if self.queues.full_now(context.at) && self.queues.explain() {
            return true;
        }
        let Some(overflows) = context.namespace.overflows_since(excursion.before.at) else { return false };
        let dropped = match (self.queues.last(), excursion.before.drops) {
            (Some(now), Some(before)) => now.queues.drops.saturating_sub(before),
            _ => u64::MAX,
        };
        let unanswered = self.cusum.history.known().unanswered.saturating_sub(excursion.before.unanswered);
        unanswered > 0 && overflows.min(dropped).saturating_mul(2) >= unanswered
    }

    /// Whether an accept queue is full while SYNs come in a flood: each from another source and never again, where
    /// clients that are turned away repeat theirs.
    fn flooded_behind(&self, excursion: &Excursion, context: &ObservationContext) -> bool {
        let Some(accept) = &self.accept else { return false };
        let (distinct, covered) = self.state.distinct;
        let (now, Some(before)) = (self.flow, accept.before.flow) else { return false };
        let repeated = float(now.repeated.saturating_sub(before.repeated));
        let first = float(now.first.saturating_sub(before.first));
        context.at.saturating_sub(accept.called) >= SECOND_LOOK
            && self.cusum.ready().is_some()
            && self.unanswered_rate() > 5.0 * excursion.usual_syns.max(LEAST_NORM)
            && repeated < 0.05 * (first + repeated)
            && covered >= 1_000
            && (self.attribute().is_some_and(|attribution| attribution.class != Class::Spoofed)
                || distinct >= 0.8 * float(covered))
    }

    fn open_flood(&mut self, excursion: &Excursion, context: &ObservationContext) {
        if let Some(mut accept) = self.accept.take().filter(Incident::firing) {
            accept.resolve(context);
        }
        let (previous, attribution) = (self.flood.take(), self.attribute());
        let (subject, origin) = (Subject::Listener(self.id), attribution.unwrap_or(Attribution::ALL_OVER));
        let mut incident = Incident::begin(previous, subject, origin, excursion, &self.view(context));
        incident.slow = self.cusum.ready().is_none();
        if attribution.is_none() {
            incident.record.note(Unknown::Sources);
        }
        if self.queues.age(context.at).is_none_or(|age| age > FRESH) {
            incident.record.note(Unknown::Queues);
        }
        self.flood = Some(incident);
    }

    fn open_accept(&mut self, excursion: &Excursion, context: &ObservationContext) {
        let (previous, attribution) = (self.accept.take(), Attribution { class: Class::SlowAccept, origin: None });
        let subject = Subject::Listener(self.id);
        self.accept = Some(Incident::begin(previous, subject, attribution, excursion, &self.view(context)));
    }

    /// Decides whether its sources are to be read at every observation.
    fn watch(&mut self) {
        let returns = |incident: &Incident| incident.firing() || self.seen.saturating_sub(incident.last) <= AGAIN;
        let watched = self.cusum.suspicious()
            || self.queues.suspicious()
            || self.flood.as_ref().is_some_and(returns)
            || firing(self.accept.as_ref());
        if !watched {
            self.state.sample.clear();
            self.state.completed.clear();
        }
        self.state.set_watched(watched);
    }

    fn update_verdict(&mut self, step: Option<&Step>, context: &ObservationContext) {
        let incident = [&self.flood, &self.accept].into_iter().flatten().find(|incident| incident.firing());
        let surges = self.surge.step(&self.cusum, step, incident.is_some());
        let calm = match (surges, self.queues.is_stuck(context.at)) {
            (_, true) => Class::SlowAccept,
            (true, false) => Class::Surge,
            (false, false) => Class::None,
        };
        let class = incident.map_or(calm, |incident| incident.record.attribution.class);
        self.state.set_verdict(class, incident.map(Incident::identity), context.wall);
    }

    /// What there is to say of it.
    pub fn status(&self) -> SubjectStatus {
        self.state.status(self.cusum.excursion().map(|excursion| onset(excursion, &self.cusum)))
    }

    /// Whether a flood of it goes on.
    pub fn flooded(&self) -> bool {
        firing(self.flood.as_ref())
    }

    /// Whether an incident goes on.
    pub fn fires(&self) -> bool {
        self.flooded() || firing(self.accept.as_ref())
    }

    /// Whether queues of now would help.
    pub fn wants_queues(&self, at: Duration) -> bool {
        let most = match (self.fires(), self.cusum.suspicious() || self.queues.suspicious()) {
            (true, _) => Duration::from_secs(1),
            (false, true) => Duration::from_millis(250),
            (false, false) => return false,
        };
        self.open && self.queues.census_age(at).is_none_or(|age| age >= most)
    }

    /// It has closed with no flood going on: what is on ends, for nothing of it is left to be followed.
    pub fn close(&mut self, context: &ObservationContext) {
        for incident in self.incidents_firing() {
            incident.record.note(Unknown::Closed(context.wall));
            incident.resolve(context);
        }
        self.cusum.end();
        self.state.watched = false;
    }
}
