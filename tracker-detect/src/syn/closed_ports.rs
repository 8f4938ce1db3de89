//! SYNs to ports where nothing listens: a flood of one port, a scan of many, or clients of a service that is gone.

use std::{collections::BTreeMap, time::Duration};

use tracker_model::api::{Class, SourceShare};

use super::{
    cusum::{Cusum, Step},
    history::{Point, rate},
    incident::{Incident, firing, onset, quiet},
    observation::ClosedPortsObservation,
    record::{Subject, Unknown},
    scan::{Ports, Scan},
    settings::{AGAIN, FRESH_TIMEOUT, Settings},
    sources::Attribution,
    subject::{ObservationContext, SubjectState, SubjectStatus, SubjectView},
    usual_sources::UsualSources,
};
use crate::estimators::rate::float;

/// Ports that are followed. What is not among the busiest is no flood.
const PORTS: usize = 128;
/// Ports handed over at an observation, at most.
const LISTED: usize = 64;
/// A port is forgotten when it was not among the busiest for this long.
const FORGET: Duration = Duration::from_secs(30);
/// SYNs to a port that was served are taken for its clients, unless at least this many came, this share of them from
/// different sources, for at least this long.
const FORGED: u64 = 2_000;
const FORGED_SHARE: f64 = 0.9;
const FORGED_TIME: Duration = Duration::from_secs(2);

/// A port.
#[derive(Debug)]
struct Port {
    cusum: Cusum,
    incident: Option<Incident>,
    /// Whether something has listened there: known only when the port was among the busiest.
    served: bool,
    /// When it was last among the busiest.
    listed: Duration,
}

impl Port {
    fn fires(&self) -> bool {
        firing(self.incident.as_ref())
    }

    /// Whether a flood of it goes on, or may be beginning.
    fn is_flooded(&self) -> bool {
        self.fires() || self.cusum.suspicious()
    }

    fn matters(&self, at: Duration) -> bool {
        self.fires() || self.incident.as_ref().is_some_and(|incident| at.saturating_sub(incident.last) <= AGAIN)
    }
}

/// All SYNs that meet no listener.
#[derive(Debug)]
pub struct ClosedPorts {
    settings: Settings,
    netns: u32,
    /// All ports together.
    all: Cusum,
    /// All but those that are flooded: what a scan may be made of.
    scanned: Cusum,
    /// SYNs to flooded ports.
    flooding: u64,
    ports: BTreeMap<u16, Port>,
    scan: Scan,
    state: SubjectState,
}

impl ClosedPorts {
    /// What is first seen now.
    pub fn new(settings: Settings, seen: &ClosedPortsObservation, at: Duration) -> Self {
        let mut ports = Self {
            settings,
            netns: 0,
            all: Cusum::new(settings, point(seen.syns, at)),
            scanned: Cusum::new(settings, point(seen.syns, at)),
            flooding: 0,
            ports: BTreeMap::new(),
            scan: Scan::default(),
            state: SubjectState::default(),
        };
        ports.list(seen, &[], at, at);
        ports
    }

    /// Adds an observation. Ports in `followed` are those of flooded listeners that have closed: their SYNs belong to
    /// those floods.
    pub fn step(
        &mut self,
        seen: &ClosedPortsObservation,
        followed: &[u16],
        netns: Option<u32>,
        context: &ObservationContext,
    ) {
        self.netns = netns.unwrap_or(self.netns);
        let before = self.all.history.last().at;
        self.all.step(point(seen.syns, context.at), Duration::ZERO);
        if let Some(sources) = &seen.sources {
            self.state.count_distinct(sources);
            self.state.add_sources(context.at, sources);
        }
        let fresh =
            self.list(seen, followed, before, context.at).max(seen.ports_touched.saturating_sub(self.known(seen)));
        self.forget(followed, context.at);
        self.step_ports(seen, context);
        self.step_scan(seen, fresh, context);
        self.watch();
        self.update_verdict(context);
    }

    /// Adds ports that are new, and returns their number.
    fn list(&mut self, seen: &ClosedPortsObservation, followed: &[u16], before: Duration, at: Duration) -> u32 {
        let mut new = 0;
        let listed = seen.ports.iter().enumerate().take(LISTED);
        for (index, &(number, syns)) in listed.filter(|(_, (port, _))| !followed.contains(port)) {
            if let Some(port) = self.ports.get_mut(&number) {
                port.listed = at;
                continue;
            }
            new += 1;
            if self.ports.len() == PORTS {
                let oldest =
                    self.ports.iter().filter(|(_, port)| !port.matters(at)).min_by_key(|(_, port)| port.listed);
                let Some(oldest) = oldest.map(|(port, _)| *port) else { continue };
                self.ports.remove(&oldest);
            }
            // What it had received before the last observation is known, unless a recording is older than that figure.
            let known = seen.before.get(index).filter(|_| before < at);
            let first = known.map_or(point(syns, at), |count| point((*count).min(syns), before));
            let cusum = Cusum::new(self.settings, first);
            self.ports.insert(number, Port { cusum, incident: None, served: false, listed: at });
        }
        new
    }

    /// How many of the listed ports are known, after all have been taken up.
    fn known(&self, seen: &ClosedPortsObservation) -> u32 {
        let listed = seen.ports.iter().take(LISTED).filter(|(port, _)| self.ports.contains_key(port)).count();
        u32::try_from(listed).unwrap_or(u32::MAX)
    }

    fn forget(&mut self, followed: &[u16], at: Duration) {
        self.ports.retain(|number, port| {
            !followed.contains(number) && (port.matters(at) || at.saturating_sub(port.listed) <= FORGET)
        });
    }

    fn step_ports(&mut self, seen: &ClosedPortsObservation, context: &ObservationContext) {
        let mut ports = std::mem::take(&mut self.ports);
        for (number, port) in &mut ports {
            let counted = seen.ports.iter().take(LISTED).find(|(listed, _)| listed == number);
            // One that is not listed has received none, or few beside others.
            let syns = counted.map_or(port.cusum.history.last().syns, |(_, syns)| *syns);
            if port.cusum.history.last().at == context.at {
                continue;
            }
            port.served |= seen.served_before.contains(number);
            let step = port.cusum.step(point(syns, context.at), Duration::ZERO);
            if port.is_flooded() {
                let syns = step.map_or(0, |step| step.interval.to.syns - step.interval.from.syns);
                self.flooding = self.flooding.saturating_add(syns);
            }
            self.advance(port, step.as_ref(), context);
            if !port.fires() && step.is_some() {
                self.maybe_open(*number, port, context);
            }
        }
        self.ports = ports;
    }

    fn view<'a>(&'a self, cusum: &'a Cusum, context: &'a ObservationContext) -> SubjectView<'a> {
        SubjectView {
            context,
            cusum,
            state: &self.state,
            flow: None,
            queues: None,
            waiting: None,
            device: None,
            worst_socket: None,
            drop_reasons: &[],
        }
    }

    fn advance(&self, port: &mut Port, step: Option<&Step>, context: &ObservationContext) {
        let attribution = self.attribute(&port.cusum);
        let Some(incident) = &mut port.incident else { return };
        let before = incident.firing();
        let on = step.is_some_and(|step| step.significant);
        incident.advance(step, on, quiet(false), &self.view(&port.cusum, context));
        if on && incident.is_strong(step) {
            incident.revise(attribution, context);
        } else if before && !incident.firing() {
            port.cusum.end();
        }
        incident.publish(context);
    }

    fn attribute(&self, cusum: &Cusum) -> Option<Attribution> {
        let (from, to) = cusum.window();
        let span = |cusum: &Cusum| cusum.history.span(from, to).map(|span| rate(&span, |point| point.syns));
        let (port, all) = (span(cusum)?, span(&self.all)?);
        let SubjectState { sample, completed, .. } = &self.state;
        if port > 0.0 { sample.attribute(all.max(port), port, &UsualSources::default(), completed) } else { None }
    }

    fn maybe_open(&self, number: u16, port: &mut Port, context: &ObservationContext) {
        let (Some(excursion), Some(ready)) = (port.cusum.excursion().copied(), port.cusum.ready()) else { return };
        let attribution = self.attribute(&port.cusum);
        let waited = context.at.saturating_sub(ready);
        if port.served && !(waited >= FORGED_TIME && self.forged(attribution)) {
            return;
        }
        if attribution.is_none() && waited < FRESH_TIMEOUT {
            return;
        }
        let (subject, class) = (Subject::Port(self.netns, number), attribution.unwrap_or(Attribution::ALL_OVER));
        let (previous, view) = (port.incident.take(), self.view(&port.cusum, context));
        let mut incident = Incident::begin(previous, subject, class, &excursion, &view);
        if attribution.is_none() {
            incident.record.note(Unknown::Sources);
            incident.publish(context);
        }
        port.incident = Some(incident);
    }

    /// Whether sources are plainly forged: clients of a service that is gone try again, from the same addresses.
    fn forged(&self, attribution: Option<Attribution>) -> bool {
        let (distinct, covered) = self.state.distinct;
        attribution.is_some_and(|attribution| attribution.class != Class::SingleSource)
            && covered >= FORGED
            && distinct >= FORGED_SHARE * float(covered)
    }

    fn step_scan(&mut self, seen: &ClosedPortsObservation, fresh: u32, context: &ObservationContext) {
        let syns = seen.syns.saturating_sub(self.flooding).max(self.scanned.history.last().syns);
        let step = self.scanned.step(point(syns, context.at), Duration::ZERO);
        let flooded = self.flooded_until();
        let mixed = flooded >= Some(context.at);
        if let (Some(flooded), false) = (flooded, mixed) {
            // What was drawn before is the flood's.
            self.state.sample.forget_until(flooded);
        }
        let mut scan = std::mem::take(&mut self.scan);
        let unknown = SubjectState::default();
        let state = if mixed { &unknown } else { &self.state };
        let view = SubjectView { state, ..self.view(&self.scanned, context) };
        let ports = Ports { fresh, since: seen.ports_of_scan, mixed };
        scan.step(step.as_ref(), ports, self.netns, &view);
        self.scan = scan;
    }

    /// When the last SYNs of a flood came, while one goes on or may be beginning.
    fn flooded_until(&self) -> Option<Duration> {
        let flooded = self.ports.values().filter(|port| port.is_flooded());
        flooded
            .map(|port| match &port.incident {
                Some(incident) if incident.firing() => incident.last,
                _ => port.cusum.history.known().at,
            })
            .max()
    }

    fn watch(&mut self) {
        let watched =
            self.scan.firing().is_some() || self.ports.values().any(|port| port.cusum.suspicious() || port.fires());
        // Not beyond the end, as that of a listener is: the next flood may be of another port, and has sources of its
        // own.
        self.state.set_watched(watched);
    }

    /// Brings the verdict up to date: a flood before a scan, the older flood before the younger.
    fn update_verdict(&mut self, context: &ObservationContext) {
        let floods = self.ports.values().filter_map(|port| port.incident.as_ref()).filter(|incident| incident.firing());
        let incident = floods.min_by_key(|incident| incident.alert).or(self.scan.firing());
        let class = incident.map_or(Class::None, |incident| incident.record.attribution.class);
        self.state.set_verdict(class, incident.map(Incident::identity), context.wall);
    }

    /// What there is to say of them.
    pub fn status(&self) -> SubjectStatus {
        let suspected = self.ports.values().filter(|port| port.cusum.suspicious());
        let flood = suspected.filter_map(|port| Some(onset(port.cusum.excursion()?, &port.cusum))).min();
        let scan_from = self.scan.from();
        // Its sources are summed up from its own onset, whatever was watched before.
        let anew_from = scan_from.filter(|_| self.scan.firing().is_some());
        SubjectStatus { scan_from, anew_from, ..self.state.status(anew_from.or(flood)) }
    }

    /// Sources with the largest shares.
    pub fn sources(&self) -> Vec<SourceShare> {
        self.state.sample.top(&self.state.completed).0
    }
}

const fn point(syns: u64, at: Duration) -> Point {
    let none = Duration::ZERO;
    Point {
        at,
        syns,
        completed: 0,
        answered: 0,
        unanswered: 0,
        repeated: 0,
        undelivered: 0,
        drops: None,
        drops_at: none,
    }
}
