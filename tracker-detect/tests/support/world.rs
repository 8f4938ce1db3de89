//! What happens: to listeners and their queues, to clients and their SYNs.

use std::collections::BTreeMap;

use tracker_detect::syn::{ListenerId, ListenerObservation};
use tracker_model::counters::{HandshakeStats, NamespaceCounters};

use super::{Random, To, Traffic};

/// The simulation's own step, seconds.
const TICK: f64 = 0.01;

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
    pub(super) seen: ListenerObservation,
    /// Connections that wait to be accepted.
    pub accept_queue: f64,
    pub(super) syn_queue: f64,
    pub(super) was_open: bool,
    accept_due: f64,
}

impl Server {
    pub fn new(port: u16) -> Self {
        Self::at("192.0.2.1", port)
    }

    pub fn at(address: &str, port: u16) -> Self {
        let id = ListenerId { netns: 1, address: address.parse().unwrap(), port, device: 0 };
        Self {
            port,
            backlog: 511,
            cookies: true,
            accepts: Box::new(|_| 1e9),
            open: Box::new(|_| true),
            handshake_p95_us: Some(1_000),
            seen: ListenerObservation {
                id,
                syns: 0,
                undelivered: 0,
                drop_reasons: Vec::new(),
                completed: 0,
                aborted: 0,
                handshake_p95_us: None,
                sample: HandshakeStats::default(),
                queues: None,
                device: None,
                worst_socket: None,
                sources: None,
            },
            accept_queue: 0.0,
            syn_queue: 0.0,
            was_open: true,
            accept_due: 0.0,
        }
    }
}

/// What a client does next.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// A SYN: which traffic it is of, and its number.
    Syn(usize, u32),
    /// Its ACK.
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
    pub(super) namespace: NamespaceCounters,
    pub(super) refused: BTreeMap<u16, u64>,
    pub(super) touched: BTreeMap<u16, u64>,
    /// When each port was last tried, as of the observation that showed it.
    pub(super) tried: BTreeMap<u16, f64>,
    pub(super) now: f64,
    pub(super) drops: Vec<u64>,
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
            tried: BTreeMap::new(),
            now: 0.0,
            drops: Vec::new(),
        }
    }

    pub fn with(mut self, traffic: Traffic) -> Self {
        self.traffic.push(traffic);
        self
    }

    pub(super) fn tick(&mut self) {
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
                let drops = &mut self.drops[server];
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
                    *drops += rest;
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
        self.traffic[index].completed += 1;
    }
}
