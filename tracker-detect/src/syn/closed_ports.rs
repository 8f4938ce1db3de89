//! SYNs to ports where nothing listens: a flood of one port, a scan of many, or clients of a service that is gone.

use std::{collections::BTreeMap, time::Duration};

use super::{
    RefusedSeen,
    cusum::{Gauge, Step},
    history::{Point, rate},
    incident::{Incident, onset, quiet},
    record::{Subject, Unknown},
    scan::Scan,
    settings::{AGAIN, PATIENCE, Settings, WINDOW},
    sources::{Sample, UsualSources, Whence},
    subject::{Moment, Sight},
};
use crate::alert::AlertStore;
use tracker_model::api::{AlertKind, Class, SourceShare, Verdict};

/// Ports that are followed. What is not among the busiest is no flood.
const PORTS: usize = 128;
/// Ports handed over at an observation, at most.
const LISTED: usize = 64;
/// A port is forgotten when it was not among the busiest for so long.
const FORGET: Duration = Duration::from_secs(30);
/// SYNs to a port that was served are taken for its clients, unless so many came, nearly each from another source, for so long.
const FORGED: u64 = 2_000;
const FORGED_SHARE: f64 = 0.9;
const FORGED_TIME: Duration = Duration::from_secs(2);

/// A port.
#[derive(Debug)]
struct Port {
    gauge: Gauge,
    incident: Option<Incident>,
    /// Whether something has listened there: told only when the port is among the busiest.
    served: bool,
    /// When it was last among the busiest.
    listed: Duration,
}

impl Port {
    fn fires(&self) -> bool {
        self.incident.as_ref().is_some_and(|incident| incident.firing)
    }

    fn matters(&self, at: Duration) -> bool {
        self.fires() || self.incident.as_ref().is_some_and(|incident| at.saturating_sub(incident.last) <= AGAIN)
    }
}

/// All SYNs that meet no listener.
#[derive(Debug)]
pub(super) struct Refused {
    settings: Settings,
    netns: u32,
    /// All ports together.
    all: Gauge,
    ports: BTreeMap<u16, Port>,
    scan: Scan,
    sample: Sample,
    /// Distinct sources since they are watched, and the SYNs that this covers.
    distinct: (f64, u64),
    watched: bool,
    /// The last verdict; none before the second observation.
    pub verdict: Option<Verdict>,
}

impl Refused {
    /// What is first seen now.
    pub(super) fn new(settings: Settings, seen: &RefusedSeen, at: Duration) -> Self {
        let mut refused = Self {
            settings,
            netns: 0,
            all: Gauge::new(settings, point(seen.syns, at)),
            ports: BTreeMap::new(),
            scan: Scan::default(),
            sample: Sample::default(),
            distinct: (0.0, 0),
            watched: false,
            verdict: None,
        };
        refused.list(seen, &[], at, at);
        refused
    }

    /// Takes in an observation. Ports in `followed` are those of flooded listeners that have closed: their SYNs belong to
    /// those floods.
    pub(super) fn step(
        &mut self,
        seen: &RefusedSeen,
        followed: &[u16],
        netns: Option<u32>,
        moment: &Moment,
        alerts: &AlertStore,
    ) {
        self.netns = netns.unwrap_or(self.netns);
        let before = self.all.history.last().at;
        let all = self.all.step(point(seen.syns, moment.at), Duration::ZERO);
        if let Some(sources) = &seen.sources {
            if self.watched {
                self.distinct = (sources.distinct_total, sources.syns_total);
            }
            self.sample.add(moment.at, sources);
        }
        let fresh =
            self.list(seen, followed, before, moment.at).max(seen.ports_touched.saturating_sub(self.known(seen)));
        self.forget(followed, moment.at);
        self.step_ports(seen, moment, alerts);
        self.step_scan(all.as_ref(), fresh, moment, alerts);
        self.watch();
        self.judge(moment);
    }

    /// Takes up ports that are new. The answer is their number.
    fn list(&mut self, seen: &RefusedSeen, followed: &[u16], before: Duration, at: Duration) -> u32 {
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
            let gauge = Gauge::new(self.settings, first);
            self.ports.insert(number, Port { gauge, incident: None, served: false, listed: at });
        }
        new
    }

    /// How many of the listed ports are known, after all have been taken up.
    fn known(&self, seen: &RefusedSeen) -> u32 {
        let listed = seen.ports.iter().take(LISTED).filter(|(port, _)| self.ports.contains_key(port)).count();
        u32::try_from(listed).unwrap_or(u32::MAX)
    }

    fn forget(&mut self, followed: &[u16], at: Duration) {
        self.ports.retain(|number, port| {
            !followed.contains(number) && (port.matters(at) || at.saturating_sub(port.listed) <= FORGET)
        });
    }

    fn step_ports(&mut self, seen: &RefusedSeen, moment: &Moment, alerts: &AlertStore) {
        let mut ports = std::mem::take(&mut self.ports);
        for (number, port) in &mut ports {
            let counted = seen.ports.iter().take(LISTED).find(|(listed, _)| listed == number);
            // One that is not listed has received none, or few beside others.
            let syns = counted.map_or(port.gauge.history.last().syns, |(_, syns)| *syns);
            if port.gauge.history.last().at == moment.at {
                continue;
            }
            port.served |= seen.served_before.contains(number);
            let step = port.gauge.step(point(syns, moment.at), Duration::ZERO);
            self.follow(port, step.as_ref(), moment, alerts);
            if !port.fires() && step.is_some() {
                self.decide(*number, port, moment, alerts);
            }
        }
        self.ports = ports;
    }

    fn sight<'a>(&'a self, gauge: &'a Gauge, moment: &'a Moment) -> Sight<'a> {
        Sight { moment, gauge, sample: &self.sample, distinct: self.distinct, flow: None, queues: None }
    }

    fn follow(&self, port: &mut Port, step: Option<&Step>, moment: &Moment, alerts: &AlertStore) {
        let whence = self.whence(&port.gauge);
        let Some(incident) = &mut port.incident else { return };
        let before = incident.firing;
        let on = step.is_some_and(|step| step.significant);
        incident.follow(step, on, quiet(false), &self.sight(&port.gauge, moment), alerts);
        if on && incident.is_strong(step) {
            incident.revise(whence, moment);
        } else if before && !incident.firing {
            port.gauge.end();
        }
        incident.publish(alerts);
    }

    fn whence(&self, gauge: &Gauge) -> Option<Whence> {
        let to = gauge.history.known().at;
        let from = gauge.excursion().map_or(Duration::ZERO, |excursion| excursion.first.at);
        let from = from.max(to.saturating_sub(WINDOW));
        let span = |gauge: &Gauge| gauge.history.span(from, to).map(|span| rate(&span, |point| point.syns));
        let (port, all) = (span(gauge)?, span(&self.all)?);
        if port > 0.0 { self.sample.whence(all.max(port), port, &UsualSources::default()) } else { None }
    }

    fn decide(&self, number: u16, port: &mut Port, moment: &Moment, alerts: &AlertStore) {
        let (Some(excursion), Some(ready)) = (port.gauge.excursion().copied(), port.gauge.ready()) else { return };
        let whence = self.whence(&port.gauge);
        let waited = moment.at.saturating_sub(ready);
        if port.served && !(waited >= FORGED_TIME && self.forged(whence)) {
            return;
        }
        if whence.is_none() && waited < PATIENCE {
            return;
        }
        let sight = self.sight(&port.gauge, moment);
        let class = whence.unwrap_or(Whence::ALL_OVER);
        let returning = port.incident.take().filter(|incident| incident.may_return(moment.at));
        let mut incident = if let Some(mut incident) = returning {
            incident.reopen(class, &excursion, &sight, alerts);
            incident
        } else {
            let subject = Subject::Port(self.netns, number);
            Incident::open(AlertKind::SynFlood, subject, class, &excursion, &sight, alerts)
        };
        if whence.is_none() {
            incident.record.note(Unknown::Sources);
            incident.publish(alerts);
        }
        port.incident = Some(incident);
    }

    /// Whether sources are plainly forged: clients of a service that is gone try again, from the same addresses.
    #[expect(clippy::cast_precision_loss, reason = "a threshold")]
    fn forged(&self, whence: Option<Whence>) -> bool {
        let (distinct, covered) = self.distinct;
        whence.is_some_and(|whence| whence.class != Class::SingleSource)
            && covered >= FORGED
            && distinct >= FORGED_SHARE * covered as f64
    }

    fn step_scan(&mut self, step: Option<&Step>, fresh: u32, moment: &Moment, alerts: &AlertStore) {
        let mut scan = std::mem::take(&mut self.scan);
        scan.step(step, fresh, self.netns, &self.sight(&self.all, moment), alerts);
        self.scan = scan;
    }

    fn watch(&mut self) {
        let watched =
            self.scan.firing().is_some() || self.ports.values().any(|port| port.gauge.suspicious() || port.fires());
        // Not beyond the end, as that of a listener is: the next flood may be of another port, and has sources of its own.
        if !watched || !self.watched {
            self.distinct = (0.0, 0);
        }
        self.watched = watched;
    }

    /// Brings the verdict up to date: a flood before a scan, the older flood before the younger.
    fn judge(&mut self, moment: &Moment) {
        let floods = self.ports.values().filter_map(|port| port.incident.as_ref()).filter(|incident| incident.firing);
        let incident = floods.min_by_key(|incident| incident.alert).or(self.scan.firing());
        let (class, alert) = incident.map_or((Class::None, None), |it| (it.record.whence.class, Some(it.alert)));
        let before = self.verdict.unwrap_or_default();
        let since = if before.class == class { before.since } else { Some(moment.wall) };
        self.verdict = Some(Verdict { class, since, alert });
    }

    /// When that began for which they are watched.
    pub(super) fn onset(&self) -> Option<Duration> {
        let suspected = self.ports.values().filter(|port| port.gauge.suspicious());
        suspected.filter_map(|port| Some(onset(port.gauge.excursion()?, &port.gauge))).min()
    }

    /// Whether sources are to be read at every observation.
    pub(super) const fn watched(&self) -> bool {
        self.watched
    }

    /// Sources with the largest shares.
    pub(super) fn sources(&self) -> Vec<SourceShare> {
        self.sample.top().0
    }
}

const fn point(syns: u64, at: Duration) -> Point {
    Point { at, syns, completed: 0, unanswered: 0, repeated: 0, drops: None }
}
