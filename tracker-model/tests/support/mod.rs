//! A small world of clients, floods and listeners that makes series of observations as a host would.
#![allow(dead_code, reason = "each test uses a part")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a simulation rounds"
)]

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tracker_model::{
    api::{Alert, Class},
    detect::{
        Detector, FlowSample, ListenerId, ListenerSeen, Observation, QueuesSeen, RefusedSeen, Sensitivity, SourcesSeen,
    },
    snapshot::{ListenerQueues, NamespaceCounters},
};

/// The simulation's own step, seconds.
const TICK: f64 = 0.01;
/// Addresses in a sample of sources, at most.
const SAMPLE: usize = 256;

/// `SplitMix64`: the same series for the same seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Where SYNs come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum From {
    One(u32),
    /// A prefix of so many bits.
    Prefix(u32, u8),
    /// An IPv6 /64.
    Six,
    Anywhere,
}

impl From {
    fn draw(self, random: &mut Random) -> IpAddr {
        let bits = random.next();
        match self {
            Self::One(address) => std::net::Ipv4Addr::from_bits(address).into(),
            Self::Prefix(network, length) => std::net::Ipv4Addr::from_bits(network | (bits as u32 >> length)).into(),
            Self::Six => std::net::Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) | u128::from(bits)).into(),
            Self::Anywhere => std::net::Ipv4Addr::from_bits(bits as u32).into(),
        }
    }

    fn distinct(self, syns: u64) -> f64 {
        let pool = match self {
            Self::One(_) => 1.0,
            Self::Prefix(_, length) => 2_f64.powi(32 - i32::from(length)),
            Self::Anywhere => 2_f64.powi(32),
            Self::Six => return syns as f64,
        };
        pool * -(-(syns as f64) / pool).exp_m1()
    }
}

/// Where SYNs go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    Listener(usize),
    Port(u16),
    /// Another port each time, from this on.
    Ports(u16),
}

/// SYNs that are sent.
pub struct Traffic {
    pub from: From,
    pub to: To,
    /// SYNs per second at a second.
    pub rate: Box<dyn Fn(f64) -> f64>,
    /// Round trip time of clients that complete, seconds; none of a flood.
    pub client: Option<f64>,
    /// Share of segments lost.
    pub loss: f64,
    /// Whether the SYN-ACK is answered with a reset.
    pub resets: bool,
    due: f64,
    unread: u64,
    watched: u64,
    ports: u16,
}

impl Traffic {
    pub fn flood(from: From, to: To, rate: impl Fn(f64) -> f64 + 'static) -> Self {
        let rate = Box::new(rate);
        Self { from, to, rate, client: None, loss: 0.0, resets: false, due: 0.0, unread: 0, watched: 0, ports: 0 }
    }

    pub fn clients(rate: impl Fn(f64) -> f64 + 'static) -> Self {
        Self { client: Some(0.001), ..Self::flood(From::Prefix(0x0a09_0000, 22), To::Listener(0), rate) }
    }
}

/// A listener of the world.
pub struct Server {
    pub port: u16,
    pub backlog: u32,
    pub cookies: bool,
    /// Connections accepted per second, at a second.
    pub accepts: Box<dyn Fn(f64) -> f64>,
    /// Whether it is open at a second.
    pub open: Box<dyn Fn(f64) -> bool>,
    pub handshake_p95_us: Option<u64>,
    seen: ListenerSeen,
    accept_queue: f64,
    syn_queue: f64,
    was_open: bool,
    accept_due: f64,
}

impl Server {
    pub fn new(port: u16) -> Self {
        let id = ListenerId { netns: 1, address: "192.0.2.1".parse().unwrap(), port };
        Self {
            port,
            backlog: 511,
            cookies: true,
            accepts: Box::new(|_| 1e9),
            open: Box::new(|_| true),
            handshake_p95_us: Some(1_000),
            seen: ListenerSeen {
                id,
                syns: 0,
                completed: 0,
                handshake_p95_us: None,
                sample: FlowSample::default(),
                queues: None,
                sources: None,
            },
            accept_queue: 0.0,
            syn_queue: 0.0,
            was_open: true,
            accept_due: 0.0,
        }
    }

    fn drops(&self) -> u64 {
        self.seen.queues.map_or(0, |seen| seen.queues.drops)
    }
}

/// A client's next deed.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// SYN number so many of traffic number so many.
    Syn(usize, u32),
    /// The ACK of it.
    Ack(usize, u32),
}

/// The world.
pub struct World {
    pub traffic: Vec<Traffic>,
    pub servers: Vec<Server>,
    pub random: Random,
    /// Seconds between observations, their jitter, and the share of stalls of a second.
    pub pace: (f64, f64, f64),
    pub census_fails: bool,
    deeds: BTreeMap<(u64, u64), Deed>,
    deed: u64,
    namespace: NamespaceCounters,
    refused: BTreeMap<u16, u64>,
    touched: BTreeMap<u16, u64>,
    now: f64,
    drops: Vec<u64>,
}

/// What came out of a run.
pub struct Run {
    pub observations: Vec<Observation>,
    /// Seconds at which the first flood was called, and at which each alert's state was first seen resolved.
    pub called: Option<f64>,
    pub over: Option<f64>,
    /// Verdicts of the first listener and of no listener.
    pub classes: Vec<Class>,
    pub refused_classes: Vec<Class>,
    /// All alerts at the end.
    pub alerts: Vec<Alert>,
    /// Alerts at each observation, by second.
    pub firing: Vec<(f64, Vec<Alert>)>,
}

impl Run {
    pub fn floods(&self) -> Vec<&Alert> {
        self.alerts.iter().filter(|alert| alert.kind == tracker_model::api::AlertKind::SynFlood).collect()
    }
}

pub fn start() -> Timestamp {
    "2026-03-04T02:13:00Z".parse().unwrap()
}

/// Seconds since the world began.
pub fn seconds(time: Timestamp) -> f64 {
    time.duration_since(start()).as_secs_f64()
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self {
            traffic: Vec::new(),
            servers: vec![Server::new(80)],
            random: Random(seed),
            pace: (0.25, 0.05, 0.01),
            census_fails: false,
            deeds: BTreeMap::new(),
            deed: 0,
            namespace: NamespaceCounters::default(),
            refused: BTreeMap::new(),
            touched: BTreeMap::new(),
            now: 0.0,
            drops: Vec::new(),
        }
    }

    pub fn with(mut self, traffic: Traffic) -> Self {
        self.traffic.push(traffic);
        self
    }

    /// Runs for so many seconds, observed as the daemon would.
    pub fn run(mut self, seconds: f64) -> Run {
        let mut detector = Detector::new(Sensitivity::Medium);
        let mut run = Run {
            observations: Vec::new(),
            called: None,
            over: None,
            classes: Vec::new(),
            refused_classes: Vec::new(),
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
        run.alerts = detector.alerts(|_| None);
        run
    }

    fn note(&self, run: &mut Run, detector: &Detector) {
        let alerts = detector.alerts(|_| None);
        let flood = alerts.iter().find(|alert| alert.kind == tracker_model::api::AlertKind::SynFlood);
        if let Some(flood) = flood {
            run.called = run.called.or(Some(self.now));
            run.over = if flood.until.is_some() { run.over.or(Some(self.now)) } else { None };
        }
        run.firing.push((self.now, alerts));
        let verdict = |verdict: Option<tracker_model::snapshot::Verdict>| verdict.unwrap_or_default().class;
        for (classes, class) in [
            (&mut run.classes, verdict(detector.verdict(&self.servers[0].seen.id))),
            (&mut run.refused_classes, verdict(detector.no_listener())),
        ] {
            if classes.last() != Some(&class) {
                classes.push(class);
            }
        }
    }

    fn tick(&mut self) {
        self.now += TICK;
        for server in &mut self.servers {
            let open = (server.open)(self.now);
            if open && !server.was_open {
                (server.accept_queue, server.syn_queue) = (0.0, 0.0);
            }
            server.was_open = open;
            server.accept_due = (server.accept_due + (server.accepts)(self.now) * TICK).min(1e6);
            let accepted = server.accept_due.floor().min(server.accept_queue);
            server.accept_queue -= accepted;
            server.accept_due = if server.accept_queue > 0.0 { server.accept_due.fract() } else { 0.0 };
            // Half-open requests expire after 63 s.
            server.syn_queue *= 1.0 - TICK / 63.0;
        }
        for index in 0..self.traffic.len() {
            let traffic = &mut self.traffic[index];
            traffic.due += (traffic.rate)(self.now) * TICK;
            let syns = traffic.due.floor() as u64;
            traffic.due -= syns as f64;
            if traffic.client.is_some() {
                (0..syns).for_each(|_| self.syn(index, 0));
            } else {
                self.flood(index, syns);
            }
        }
        let now = (self.now * 1e6) as u64;
        while let Some(entry) = self.deeds.first_entry().filter(|entry| entry.key().0 <= now) {
            match entry.remove() {
                Deed::Syn(index, number) => self.syn(index, number),
                Deed::Ack(index, number) => self.ack(index, number),
            }
        }
    }

    fn after(&mut self, seconds: f64, deed: Deed) {
        self.deed += 1;
        self.deeds.insert((((self.now + seconds) * 1e6) as u64, self.deed), deed);
    }

    fn seen(&mut self, index: usize, syns: u64) {
        self.traffic[index].unread += syns;
        self.traffic[index].watched += syns;
    }

    fn flood(&mut self, index: usize, syns: u64) {
        if syns == 0 {
            return;
        }
        self.seen(index, syns);
        match self.traffic[index].to {
            To::Listener(server) if self.servers[server].was_open => {
                let full = f64::from(self.servers[server].backlog);
                let server = &mut self.servers[server];
                server.seen.syns += syns;
                server.seen.sample.first += syns;
                if self.traffic[index].resets {
                    return;
                }
                let room = (full - server.syn_queue).max(0.0).min(syns as f64);
                server.syn_queue += room;
                let rest = syns - room as u64;
                if server.accept_queue > full {
                    self.namespace.listen_overflows += syns;
                } else if server.cookies {
                    self.namespace.syncookies_sent += rest;
                } else {
                    self.namespace.syn_queue_full_drops += rest;
                }
            }
            To::Listener(server) => self.refuse(self.servers[server].port, syns),
            To::Port(port) => self.refuse(port, syns),
            To::Ports(first) => {
                for _ in 0..syns {
                    self.traffic[index].ports = self.traffic[index].ports.wrapping_add(1);
                    self.refuse(first.wrapping_add(self.traffic[index].ports), 1);
                }
            }
        }
    }

    fn refuse(&mut self, port: u16, syns: u64) {
        *self.refused.entry(port).or_default() += syns;
        *self.touched.entry(port).or_default() += syns;
    }

    /// A client's SYN.
    fn syn(&mut self, index: usize, number: u32) {
        let (loss, rtt) = (self.traffic[index].loss, self.traffic[index].client.unwrap());
        let again = f64::from(1_u32 << number.min(6));
        if self.random.unit() < loss {
            return self.again(again, index, number);
        }
        let To::Listener(server) = self.traffic[index].to else { return };
        self.seen(index, 1);
        if !self.servers[server].was_open {
            // A reset; the client tries again soon.
            self.refuse(self.servers[server].port, 1);
            return self.after(0.05, Deed::Syn(index, 0));
        }
        let seen = &mut self.servers[server].seen;
        seen.syns += 1;
        if number == 0 {
            seen.sample.first += 1;
        } else {
            seen.sample.repeated += 1;
        }
        let full = self.servers[server].accept_queue > f64::from(self.servers[server].backlog);
        let starved = !self.servers[server].cookies
            && self.servers[server].syn_queue + 1.0 > f64::from(self.servers[server].backlog);
        if full {
            self.namespace.listen_overflows += 1;
            self.drops[server] += 1;
        }
        if full || starved || self.random.unit() < loss {
            return self.again(again, index, number);
        }
        self.after(rtt, Deed::Ack(index, number));
    }

    fn again(&mut self, seconds: f64, index: usize, number: u32) {
        if number < 6 {
            self.after(seconds, Deed::Syn(index, number + 1));
        }
    }

    fn ack(&mut self, index: usize, number: u32) {
        let To::Listener(server) = self.traffic[index].to else { return };
        if self.random.unit() < self.traffic[index].loss {
            // The SYN-ACK is sent again after a second, and answered.
            return self.after(1.0, Deed::Ack(index, number));
        }
        let server_now = &mut self.servers[server];
        if !server_now.was_open {
            return;
        }
        if server_now.accept_queue > f64::from(server_now.backlog) {
            self.namespace.listen_overflows += 1;
            self.drops[server] += 1;
            if number < 6 {
                self.after(1.0, Deed::Ack(index, number + 1));
            }
            return;
        }
        server_now.accept_queue += 1.0;
        server_now.seen.completed += 1;
        server_now.seen.sample.completed += 1;
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
            server.seen.queues = Some(QueuesSeen { at, queues });
        }
    }

    fn sources(&mut self, pick: impl Fn(&Traffic) -> bool, watched: bool) -> SourcesSeen {
        let syns: u64 = self.traffic.iter().filter(|t| pick(t)).map(|t| t.unread).sum();
        let mut seen = SourcesSeen { syns, ..SourcesSeen::default() };
        for traffic in self.traffic.iter_mut().filter(|t| pick(t)) {
            seen.distinct += traffic.from.distinct(traffic.unread);
            if !watched {
                traffic.watched = traffic.unread;
            }
            seen.syns_total += traffic.watched;
            seen.distinct_total += traffic.from.distinct(traffic.watched);
        }
        for _ in 0..syns.min(SAMPLE as u64) {
            let mut choice = (self.random.unit() * syns as f64) as u64;
            let chosen = self.traffic.iter().filter(|t| pick(t)).find(|t| {
                let found = choice < t.unread;
                choice = choice.saturating_sub(t.unread);
                found
            });
            if let Some(from) = chosen.map(|t| t.from) {
                seen.sample.push(from.draw(&mut self.random));
            }
        }
        self.traffic.iter_mut().filter(|t| pick(t)).for_each(|t| {
            t.unread = 0;
            t.watched *= u64::from(watched);
        });
        seen
    }

    fn observe(&mut self, detector: &Detector, regular: bool) -> Observation {
        let mut listeners = Vec::new();
        for index in 0..self.servers.len() {
            if !self.servers[index].was_open {
                continue;
            }
            let watched = detector.watches(&self.servers[index].seen.id);
            let sources =
                (watched || regular).then(|| self.sources(|traffic| traffic.to == To::Listener(index), watched));
            let server = &self.servers[index];
            listeners.push(ListenerSeen { handshake_p95_us: server.handshake_p95_us, sources, ..server.seen.clone() });
        }
        let watched = detector.watches_no_listener();
        let closed: Vec<bool> = self.servers.iter().map(|server| !server.was_open).collect();
        let none = |traffic: &Traffic| match traffic.to {
            To::Listener(index) => closed[index],
            To::Port(_) | To::Ports(_) => true,
        };
        let sources = (watched || regular).then(|| self.sources(none, watched));
        Observation {
            netns: 1,
            at: Duration::from_secs_f64(self.now),
            wall: start() + SignedDuration::from_secs_f64(self.now),
            listeners,
            refused: self.refused(sources),
            namespace: Some(self.namespace),
            census_error: self.census_fails.then(|| "bpf_iter: permission denied".to_owned()),
        }
    }

    fn refused(&mut self, sources: Option<SourcesSeen>) -> RefusedSeen {
        let touched = std::mem::take(&mut self.touched);
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
        RefusedSeen {
            before,
            syns: self.refused.values().sum(),
            ports_touched: touched.len() as u32,
            ports,
            served_before: self.servers.iter().map(|server| server.port).collect(),
            sources,
        }
    }
}
