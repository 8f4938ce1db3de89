//! What is observed: the world as the daemon shows it to the detector, and what the detector says.

use std::{net::IpAddr, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tracker_detect::alert::AlertStore;
use tracker_detect::syn::{
    ClosedPortsObservation, ListenerObservation, QueuesObservation, Sensitivity, SourcesObservation, SynObservation,
};
use tracker_detect::syn_flood::SynFlood;
use tracker_model::{
    api::{Alert, AlertKind, Class, Verdict},
    counters::ListenerQueues,
};

use super::{To, Traffic, World};

/// Addresses in a sample of sources, at most.
const SAMPLE: usize = 256;
/// The same of completed handshakes.
const COMPLETED: u64 = 32;

/// What came out of a run.
pub struct Run {
    pub observations: Vec<SynObservation>,
    /// Seconds at which the first flood was called, and at which each alert's state was first seen resolved.
    pub called: Option<f64>,
    pub over: Option<f64>,
    /// Verdicts of the first listener and of no listener.
    pub classes: Vec<Class>,
    pub refused_classes: Vec<Class>,
    /// Verdict on the first listener at the end.
    pub verdict: Option<Verdict>,
    /// All alerts at the end.
    pub alerts: Vec<Alert>,
    /// Alerts at each observation, by second.
    pub firing: Vec<(f64, Vec<Alert>)>,
}

impl Run {
    pub fn floods(&self) -> Vec<&Alert> {
        self.alerts.iter().filter(|alert| alert.kind == AlertKind::SynFlood).collect()
    }
}

fn start() -> Timestamp {
    "2026-03-04T02:13:00Z".parse().unwrap()
}

/// Seconds since the world began.
pub fn seconds(time: Timestamp) -> f64 {
    time.duration_since(start()).as_secs_f64()
}

impl World {
    /// Runs for `seconds`, observed as the daemon would.
    pub fn run(mut self, seconds: f64) -> Run {
        let mut detector = SynFlood::new(Sensitivity::Medium, AlertStore::default());
        let mut run = Run {
            observations: Vec::new(),
            called: None,
            over: None,
            classes: Vec::new(),
            refused_classes: Vec::new(),
            verdict: None,
            alerts: Vec::new(),
            firing: Vec::new(),
        };
        let (mut next, mut census, mut count) = (0.0, 0.0, 0);
        self.drops = vec![0; self.servers.len()];
        while self.now < seconds {
            self.tick();
            if self.now < next {
                continue;
            }
            next = self.now + self.pace.0 + self.pace.1 * (2.0 * self.random.unit() - 1.0);
            if self.random.unit() < self.pace.2 {
                next += 0.75;
            }
            if (self.now >= census || detector.wants_census()) && !self.census_fails {
                self.census();
                census = self.now + 5.0;
            }
            count += 1;
            let observation = self.observe(&detector, count % 4 == 0);
            detector.step(&observation);
            self.note(&mut run, &detector);
            run.observations.push(observation);
        }
        run.alerts = detector.alerts();
        run
    }

    fn note(&self, run: &mut Run, detector: &SynFlood) {
        let alerts = detector.alerts();
        let flood = alerts.iter().find(|alert| alert.kind == AlertKind::SynFlood);
        if let Some(flood) = flood {
            run.called = run.called.or(Some(self.now));
            run.over = if flood.until.is_some() { run.over.or(Some(self.now)) } else { None };
        }
        run.firing.push((self.now, alerts));
        run.verdict = detector.listener(&self.servers[0].seen.id).verdict;
        let verdict = |verdict: Option<Verdict>| verdict.unwrap_or_default().class;
        for (classes, class) in [
            (&mut run.classes, verdict(detector.listener(&self.servers[0].seen.id).verdict)),
            (&mut run.refused_classes, verdict(detector.no_listener().verdict)),
        ] {
            if classes.last() != Some(&class) {
                classes.push(class);
            }
        }
    }

    fn census(&mut self) {
        let at = Duration::from_secs_f64(self.now);
        for (server, drops) in self.servers.iter_mut().zip(&self.drops) {
            let syn_queue = server.syn_queue as u32;
            let queues = ListenerQueues {
                syn_queue,
                syn_queue_young: syn_queue / 10,
                accept_queue: server.accept_queue as u32,
                accept_queue_max: server.backlog,
                half_open: syn_queue,
                drops: *drops,
                ..ListenerQueues::default()
            };
            server.seen.queues = Some(QueuesObservation { at, queues, ..QueuesObservation::default() });
        }
    }

    fn sources(&mut self, pick: impl Fn(&Traffic) -> bool, watched: bool) -> SourcesObservation {
        let syns: u64 = self.traffic.iter().filter(|t| pick(t)).map(|t| t.unread).sum();
        let mut seen = SourcesObservation { syns, ..SourcesObservation::default() };
        for traffic in self.traffic.iter_mut().filter(|t| pick(t)) {
            seen.distinct += traffic.from.distinct(traffic.unread);
            if !watched {
                traffic.watched = traffic.unread;
            }
            seen.syns_total += traffic.watched;
            seen.distinct_total += traffic.from.distinct(traffic.watched);
        }
        seen.sample = self.draw(syns.min(SAMPLE as u64), |t| if pick(t) { t.unread } else { 0 });
        let completed = |t: &Traffic| if pick(t) { t.completed } else { 0 };
        seen.completed = self.traffic.iter().map(completed).sum();
        seen.completed_sample = self.draw(seen.completed.min(COMPLETED), completed);
        self.traffic.iter_mut().filter(|t| pick(t)).for_each(|t| {
            (t.unread, t.completed) = (0, 0);
            t.watched *= u64::from(watched);
        });
        seen
    }

    /// Sources of some of the packets that `count` counts.
    fn draw(&mut self, addresses: u64, count: impl Fn(&Traffic) -> u64) -> Vec<IpAddr> {
        let all: u64 = self.traffic.iter().map(&count).sum();
        let mut drawn = Vec::new();
        for _ in 0..addresses {
            let mut choice = (self.random.unit() * all as f64) as u64;
            let chosen = self.traffic.iter().find(|t| {
                let found = choice < count(t);
                choice = choice.saturating_sub(count(t));
                found
            });
            if let Some(from) = chosen.map(|t| t.from) {
                drawn.push(from.draw(&mut self.random));
            }
        }
        drawn
    }

    fn observe(&mut self, detector: &SynFlood, regular: bool) -> SynObservation {
        let mut listeners = Vec::new();
        for index in 0..self.servers.len() {
            if !self.servers[index].was_open {
                continue;
            }
            let watched = detector.listener(&self.servers[index].seen.id).watched;
            let sources =
                (watched || regular).then(|| self.sources(|traffic| traffic.to == To::Listener(index), watched));
            let server = &self.servers[index];
            listeners.push(ListenerObservation {
                handshake_p95_us: server.handshake_p95_us,
                sources,
                ..server.seen.clone()
            });
        }
        let watched = detector.no_listener().watched;
        let closed: Vec<bool> = self.servers.iter().map(|server| !server.was_open).collect();
        let none = |traffic: &Traffic| match traffic.to {
            To::Listener(index) => closed[index],
            To::Port(_) | To::Ports(_) => true,
        };
        let sources = (watched || regular).then(|| self.sources(none, watched));
        SynObservation {
            netns: 1,
            at: Duration::from_secs_f64(self.now),
            wall: start() + SignedDuration::from_secs_f64(self.now),
            listeners,
            closed_ports: self.refused(sources, detector.no_listener().scan_from),
            namespace: Some(self.namespace),
            census_error: self.census_fails.then(|| "bpf_iter: permission denied".to_owned()),
        }
    }

    fn refused(&mut self, sources: Option<SourcesObservation>, scan_from: Option<Duration>) -> ClosedPortsObservation {
        let touched = std::mem::take(&mut self.touched);
        self.tried.extend(touched.keys().map(|port| (*port, self.now)));
        let of_scan = |from: Duration| self.tried.values().filter(|at| **at > from.as_secs_f64() + 1e-6).count();
        let ports_of_scan = Some(scan_from.map_or(touched.len(), of_scan) as u32);
        let mut ports: Vec<_> = touched.iter().map(|(port, syns)| (*syns, *port)).collect();
        ports.sort_unstable_by(|a, b| b.cmp(a));
        ports.truncate(64);
        let mut ports: Vec<_> = ports.into_iter().map(|(_, port)| (port, self.refused[&port])).collect();
        for server in self.servers.iter().filter(|server| !server.was_open) {
            if !ports.iter().any(|(port, _)| *port == server.port) {
                ports.push((server.port, self.refused.get(&server.port).copied().unwrap_or(0)));
            }
        }
        let new = |port: &u16| touched.get(port).copied().unwrap_or(0);
        let before = ports.iter().map(|(port, syns)| syns - new(port)).collect();
        ClosedPortsObservation {
            before,
            syns: self.refused.values().sum(),
            ports_touched: touched.len() as u32,
            ports_of_scan,
            ports,
            served_before: self.servers.iter().map(|server| server.port).collect(),
            sources,
        }
    }
}
