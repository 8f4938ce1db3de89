//! One listener: from its counters, queues and sources to its verdict.

use std::time::Duration;

use tracker_model::{
    api::{AlertKind, Class},
    counters::FlowSample,
};

use super::{
    cusum::{Excursion, Gauge, Step},
    history::{Point, rate},
    incident::{Incident, firing, onset, quiet},
    observation::{ListenerId, ListenerSeen, SourcesSeen},
    queues::Queues,
    record::{Subject, Unknown},
    settings::{AGAIN, FRESH, LEAST_NORM, PATIENCE, Settings, WINDOW, lag},
    sources::{UsualSources, Whence},
    subject::{Moment, Sight, SubjectState, SubjectStatus},
    surge::Surge,
};
use crate::estimators::rate::float;

/// A slow accept queue is taken for the effect of a flood only after this long: clients would have repeated their SYNs
/// twice, after 1 s and 3 s (RFC 6298).
const SECOND_LOOK: Duration = Duration::from_millis(3_500);

/// A listener.
#[derive(Debug)]
pub struct Listener {
    id: ListenerId,
    gauge: Gauge,
    state: SubjectState,
    usual_sources: UsualSources,
    sources_at: Duration,
    queues: Queues,
    flow: FlowSample,
    flood: Option<Incident>,
    accept: Option<Incident>,
    surge: Surge,
    open: bool,
    /// When it was last in an observation.
    pub seen: Duration,
}

impl Listener {
    /// A listener that is first seen now.
    pub fn new(settings: Settings, seen: &ListenerSeen, at: Duration) -> Self {
        Self {
            id: seen.id,
            gauge: Gauge::new(settings, point(seen, at)),
            state: SubjectState::default(),
            usual_sources: UsualSources::default(),
            sources_at: at,
            queues: Queues::default(),
            flow: seen.sample,
            flood: None,
            accept: None,
            surge: Surge::default(),
            open: true,
            seen: at,
        }
    }

    /// Adds an observation. Of a listener that is not open it has the SYNs to its port.
    pub fn step(&mut self, seen: &ListenerSeen, open: bool, moment: &Moment) {
        self.seen = moment.at;
        let (before, point) = (*self.gauge.history.last(), point(seen, moment.at));
        let mut step = None;
        if open == self.open {
            let (gap, restarted) = self.gauge.breaks(&point);
            step = self.gauge.step(point, lag(seen.handshake_p95_us));
            if gap {
                self.note_gap(&before, &point, moment);
            }
            if restarted {
                self.note(&Unknown::Restarted(moment.wall));
            }
        } else {
            self.turn(open, point, moment);
        }
        if open {
            self.flow = seen.sample;
        }
        self.queues.see(seen.queues, *self.gauge.history.known());
        self.take_sources(seen.sources.as_ref(), moment.at);
        self.follow(step.as_ref(), moment);
        self.decide(step.as_ref(), moment);
        self.watch();
        self.judge(step.as_ref(), moment);
        for incident in self.incidents_firing() {
            incident.publish(moment);
        }
    }

    /// The listener has closed during a flood, and its port is followed; or it is open again.
    fn turn(&mut self, open: bool, point: Point, moment: &Moment) {
        self.open = open;
        self.gauge.rebase(point);
        self.queues = Queues::default();
        let note = if open { Unknown::Restarted(moment.wall) } else { Unknown::Closed(moment.wall) };
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
    fn note_gap(&mut self, before: &Point, now: &Point, moment: &Moment) {
        for incident in self.incidents_firing() {
            incident.pending = incident.pending.saturating_add(now.syns.saturating_sub(before.syns));
            incident.record.note(Unknown::Gap(moment.wall_of(before.at), moment.wall));
        }
    }

    fn take_sources(&mut self, sources: Option<&SourcesSeen>, at: Duration) {
        let Some(seen) = sources else { return };
        let seconds = at.saturating_sub(self.sources_at).as_secs_f64();
        self.sources_at = at;
        self.state.count_distinct(seen);
        if self.state.watched || self.gauge.suspicious() {
            self.usual_sources.suspect();
            self.state.sample.add(at, seen);
        } else {
            self.usual_sources.learn(seen, seconds);
        }
    }

    fn sight<'a>(&'a self, moment: &'a Moment) -> Sight<'a> {
        Sight { moment, gauge: &self.gauge, state: &self.state, flow: Some(self.flow), queues: self.queues.last() }
    }

    /// Lets incidents take in the step.
    fn follow(&mut self, step: Option<&Step>, moment: &Moment) {
        let (mut flood, mut accept) = (self.flood.take(), self.accept.take());
        let flooded = firing(flood.as_ref());
        let sight = self.sight(moment);
        if let Some(incident) = &mut flood {
            let slow = incident.slow && self.queues.filled();
            let on = step.is_some_and(|step| self.goes_on(step) || (slow && step.some));
            incident.follow(step, on, quiet(slow), &sight);
            if on && incident.is_strong(step) {
                incident.revise(self.whence(), moment);
            }
        }
        if let Some(incident) = &mut accept {
            // A full queue turns the next connection away, even if none comes.
            let on = step.is_some_and(|step| step.significant) || self.queues.stays_full(moment.at);
            incident.follow(step, on, quiet(false), &sight);
        }
        for incident in [&mut flood, &mut accept].into_iter().flatten().filter(|incident| incident.firing()) {
            incident.record.note_census(moment.census_error);
        }
        if flooded && !firing(flood.as_ref()) {
            self.gauge.end();
        }
        (self.flood, self.accept) = (flood, accept);
    }

    /// Whether a flood that is on goes on. Nobody answers at the port of a listener that closed, so that only more SYNs
    /// than its clients usually send, and send again, are its flood.
    fn goes_on(&self, step: &Step) -> bool {
        let clients = if self.open { 0.0 } else { 3.0 * self.gauge.usual.syns.get() * step.known.seconds() };
        step.significant && float(step.known.unanswered) > clients
    }

    /// Where the unanswered SYNs come from.
    fn whence(&self) -> Option<Whence> {
        let (from, to) = self.gauge.window();
        let span = self.gauge.history.span(from, to)?;
        let (syns, unanswered) = (rate(&span, |point| point.syns), rate(&span, |point| point.unanswered));
        if unanswered > 0.0 { self.state.sample.whence(syns, unanswered, &self.usual_sources) } else { None }
    }

    /// Calls an alarm, if there is one to be called.
    fn decide(&mut self, step: Option<&Step>, moment: &Moment) {
        if firing(self.flood.as_ref()) || !self.open || step.is_none() {
            return;
        }
        let slow = self.queues.slow_flood(self.gauge.share()) && self.unanswered_rate() >= 1.0;
        let Some(excursion) = self.gauge.excursion().copied().or_else(|| self.trickle(moment.at)) else { return };
        if firing(self.accept.as_ref()) {
            if self.flooded_behind(&excursion, moment) {
                self.open_flood(&excursion, moment);
            }
            return;
        }
        if self.queues.overflows(moment.at) {
            self.open_accept(&excursion, moment);
            return;
        }
        let ready = self.gauge.ready();
        if ready.is_none() && !slow {
            return;
        }
        let waited = ready.is_none_or(|ready| moment.at.saturating_sub(ready) >= PATIENCE);
        let fresh = self.queues.age(moment.at).is_some_and(|age| age <= FRESH);
        if self.explained(&excursion, moment) {
            self.open_accept(&excursion, moment);
        } else if waited || (fresh && self.whence().is_some()) {
            self.open_flood(&excursion, moment);
        }
    }

    /// An excursion for what is too slow to be one.
    fn trickle(&self, at: Duration) -> Option<Excursion> {
        let to = self.gauge.history.known();
        let (before, _) = self.gauge.history.span(at.saturating_sub(2 * WINDOW), to.at)?;
        let usual = &self.gauge.usual;
        let before = self.queues.since().filter(|since| since.at < before.at).unwrap_or(before);
        Some(Excursion::from_point(before, usual.syns.get(), usual.completed.get(), None))
    }

    /// Unanswered SYNs per second over the last two seconds.
    fn unanswered_rate(&self) -> f64 {
        let (history, to) = (&self.gauge.history, self.gauge.history.known().at);
        history.span(to.saturating_sub(WINDOW), to).map_or(0.0, |span| rate(&span, |point| point.unanswered))
    }

    /// Whether a full accept queue explains at least half of what went unanswered: seen full at a census, or by the
    /// namespace's count of overflows, of which no more are this listener's than it dropped.
    fn explained(&self, excursion: &Excursion, moment: &Moment) -> bool {
        if self.queues.full_now(moment.at) {
            return true;
        }
        let Some(overflows) = moment.namespace.overflows_since(excursion.before.at) else { return false };
        let dropped = match (self.queues.last(), excursion.before.drops) {
            (Some(now), Some(before)) => now.queues.drops.saturating_sub(before),
            _ => u64::MAX,
        };
        let unanswered = self.gauge.history.known().unanswered.saturating_sub(excursion.before.unanswered);
        unanswered > 0 && overflows.min(dropped).saturating_mul(2) >= unanswered
    }

    /// Whether an accept queue is full while SYNs come in a flood: each from another source and never again, where
    /// clients that are turned away repeat theirs.
    fn flooded_behind(&self, excursion: &Excursion, moment: &Moment) -> bool {
        let Some(accept) = &self.accept else { return false };
        let (distinct, covered) = self.state.distinct;
        let (now, Some(before)) = (self.flow, accept.before.flow) else { return false };
        let repeated = float(now.repeated.saturating_sub(before.repeated));
        let first = float(now.first.saturating_sub(before.first));
        moment.at.saturating_sub(accept.called) >= SECOND_LOOK
            && self.gauge.ready().is_some()
            && self.unanswered_rate() > 5.0 * excursion.usual_syns.max(LEAST_NORM)
            && repeated < 0.05 * (first + repeated)
            && covered >= 1_000
            && (self.whence().is_some_and(|whence| whence.class != Class::Spoofed) || distinct >= 0.8 * float(covered))
    }

    fn open_flood(&mut self, excursion: &Excursion, moment: &Moment) {
        if let Some(mut accept) = self.accept.take().filter(Incident::firing) {
            accept.resolve(moment);
        }
        let (previous, whence) = (self.flood.take(), self.whence());
        let mut incident =
            self.begin(previous, AlertKind::SynFlood, whence.unwrap_or(Whence::ALL_OVER), excursion, moment);
        incident.slow = self.gauge.ready().is_none();
        if whence.is_none() {
            incident.record.note(Unknown::Sources);
        }
        if self.queues.age(moment.at).is_none_or(|age| age > FRESH) {
            incident.record.note(Unknown::Queues);
        }
        self.flood = Some(incident);
    }

    fn open_accept(&mut self, excursion: &Excursion, moment: &Moment) {
        let (previous, whence) = (self.accept.take(), Whence { class: Class::SlowAccept, origin: None });
        self.accept = Some(self.begin(previous, AlertKind::AcceptOverflow, whence, excursion, moment));
    }

    fn begin(
        &self,
        previous: Option<Incident>,
        kind: AlertKind,
        whence: Whence,
        excursion: &Excursion,
        moment: &Moment,
    ) -> Incident {
        Incident::begin(previous, kind, Subject::Listener(self.id), whence, excursion, &self.sight(moment))
    }

    /// Decides whether its sources are to be read at every observation.
    fn watch(&mut self) {
        let returns = |incident: &Incident| incident.firing() || self.seen.saturating_sub(incident.last) <= AGAIN;
        let watched = self.gauge.suspicious()
            || self.queues.suspicious()
            || self.flood.as_ref().is_some_and(returns)
            || firing(self.accept.as_ref());
        if !watched {
            self.state.sample.clear();
        }
        self.state.set_watched(watched);
    }

    fn judge(&mut self, step: Option<&Step>, moment: &Moment) {
        let incident = [&self.flood, &self.accept].into_iter().flatten().find(|incident| incident.firing());
        let surges = self.surge.step(&self.gauge, step, incident.is_some());
        let calm = if surges { Class::Surge } else { Class::None };
        let class = incident.map_or(calm, |incident| incident.record.whence.class);
        self.state.set_verdict(class, incident.map(|incident| incident.alert), moment.wall);
    }

    /// What there is to say of it.
    pub fn status(&self) -> SubjectStatus {
        self.state.status(self.gauge.excursion().map(|excursion| onset(excursion, &self.gauge)))
    }

    /// The statistic (see [`Gauge::statistic`]).
    pub const fn statistic(&self) -> f64 {
        self.gauge.statistic()
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
        let most = match (self.fires(), self.gauge.suspicious() || self.queues.suspicious()) {
            (true, _) => Duration::from_secs(1),
            (false, true) => Duration::from_millis(250),
            (false, false) => return false,
        };
        self.open && self.queues.age(at).is_none_or(|age| age >= most)
    }

    /// It has closed with no flood going on: what is on ends, for nothing of it is left to be followed.
    pub fn close(&mut self, moment: &Moment) {
        for incident in self.incidents_firing() {
            incident.record.note(Unknown::Closed(moment.wall));
            incident.resolve(moment);
        }
        self.gauge.end();
        self.state.watched = false;
    }
}

fn point(seen: &ListenerSeen, at: Duration) -> Point {
    Point {
        at,
        syns: seen.syns,
        completed: seen.completed,
        unanswered: 0,
        repeated: seen.sample.repeated,
        drops: seen.queues.map(|seen| seen.queues.drops),
    }
}
