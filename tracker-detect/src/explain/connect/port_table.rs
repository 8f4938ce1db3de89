//! The local ports of a network namespace as one `connect()` meets them.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::ports::{PortSettings, may_reuse};
use tracker_model::{
    api::PortRange,
    explain::{ConnectRule, Protocol, SocketObservation, TcpState},
};

/// The connections that are asked about.
#[derive(Clone, Copy)]
pub(super) struct Tuple {
    pub(super) source: IpAddr,
    pub(super) destination: SocketAddr,
}

impl Tuple {
    /// Whether a socket has this source and destination (`inet_match`, `include/net/inet_hashtables.h`, which leaves
    /// out those of a device if the new socket has none).
    pub(super) fn has(self, socket: &SocketObservation) -> bool {
        socket.address == self.source
            && socket.device == 0
            && socket.remote == Some((self.destination.ip(), self.destination.port()))
    }

    /// Whether source or destination is a loopback address.
    pub(super) fn is_loopback(self) -> bool {
        self.source.is_loopback() || self.destination.ip().is_loopback()
    }
}

/// What is known of one port.
#[derive(Default)]
pub(super) struct UsedPort<'a> {
    /// The sockets that have it.
    all: Vec<&'a SocketObservation>,
    /// Those of them that have it to the destination.
    tuple: Vec<&'a SocketObservation>,
    /// Whether `bind()` took it.
    bound: bool,
}

/// The ports that the kernel may choose and that something has.
pub(super) struct PortTable<'a> {
    pub(super) tuple: Tuple,
    used: HashMap<u16, UsedPort<'a>>,
    reuse_on: bool,
    /// With the range that the socket has set for itself, if it has.
    pub(super) settings: PortSettings,
    is_own: bool,
}

/// How many there are of what.
#[derive(Default)]
pub(super) struct PortCounts {
    /// Ports that the kernel may choose.
    pub(super) capacity: u32,
    /// Those that `connect()` would find.
    pub(super) free: u32,
    /// Those in `TIME_WAIT` that `connect()` may take now.
    pub(super) reusable: u32,
    /// When the next one becomes free.
    pub(super) next_free: Option<Duration>,
    /// Ports held, by rule.
    pub(super) held: BTreeMap<ConnectRule, u32>,
    /// One end of a range with an odd number of ports is free: `connect()` may find it or not.
    pub(super) one_end_free: bool,
}

impl PortCounts {
    /// Ports held by a rule.
    pub(super) fn held_by(&self, rule: ConnectRule) -> u32 {
        self.held.get(&rule).copied().unwrap_or_default()
    }
}

impl<'a> PortTable<'a> {
    /// For a socket that has set a range for itself, or `None` of its own.
    pub(super) fn new(
        tuple: Tuple,
        sockets: &'a [SocketObservation],
        settings: &PortSettings,
        own: Option<PortRange>,
    ) -> Self {
        let settings = own.map_or_else(|| settings.clone(), |range| settings.within(range));
        let mut used: HashMap<u16, UsedPort<'a>> = HashMap::new();
        let chosen = |socket: &&SocketObservation| socket.protocol == Protocol::Tcp && settings.may_choose(socket.port);
        for socket in sockets.iter().filter(chosen) {
            let port = used.entry(socket.port).or_default();
            port.all.push(socket);
            port.bound |= socket.is_bound();
            if tuple.has(socket) {
                port.tuple.push(socket);
            }
        }
        Self {
            tuple,
            used,
            reuse_on: may_reuse(settings.tw_reuse, tuple.source, tuple.destination.ip()),
            settings,
            is_own: own.is_some(),
        }
    }

    /// The range that the socket has set for itself.
    pub(super) fn own(&self) -> Option<PortRange> {
        self.is_own.then_some(PortRange { low: self.settings.low, high: self.settings.high })
    }

    /// Why a port cannot be taken; none if it can.
    fn held(&self, port: u16) -> Option<ConnectRule> {
        let used = self.used.get(&port)?;
        if used.bound {
            return Some(ConnectRule::Bound);
        }
        let waits = |socket: &SocketObservation| socket.state == TcpState::TimeWait;
        // The port of a `TIME_WAIT` may be taken; that of a `FIN_WAIT2` may not (since 6.12).
        let blocks = |socket: &&&SocketObservation| !(waits(socket) && socket.recyclable && self.reuse_on);
        let rule =
            |socket: &&SocketObservation| if waits(socket) { ConnectRule::TimeWait } else { ConnectRule::Connected };
        used.tuple.iter().find(blocks).map(rule)
    }

    /// Whether a `TIME_WAIT` has a port that can be taken.
    fn is_reusable(&self, port: u16) -> bool {
        self.held(port).is_none() && self.used.get(&port).is_some_and(|used| !used.tuple.is_empty())
    }

    /// When a port that is held is freed by itself.
    fn freed_in(&self, port: u16) -> Option<Duration> {
        let used = self.used.get(&port)?;
        let in_the_way = if used.bound { &used.all } else { &used.tuple };
        in_the_way.iter().map(|socket| self.ends_in(socket)).try_fold(Duration::ZERO, |last, end| Some(last.max(end?)))
    }

    /// When a socket ends, or may be taken.
    fn ends_in(&self, socket: &SocketObservation) -> Option<Duration> {
        let remaining = socket.remaining?;
        let soon = self.reuse_on && socket.timestamps && socket.state == TcpState::TimeWait;
        Some(if soon { remaining.min(self.settings.tw_reuse_delay) } else { remaining })
    }

    /// Counts the ports that `connect()` looks at.
    ///
    /// Of a range with an odd number of ports `__inet_hash_connect` looks at all but one (`remaining &= ~1U`): of three
    /// it never reaches the last, of more it passes over the first, or the last if it happens to begin with the first.
    /// The two ends count as one port here. Of a range of the socket's own it looks at all (since Linux 6.8).
    pub(super) fn counts(&self) -> PortCounts {
        let settings = &self.settings;
        let mut counts = PortCounts::default();
        let (low, high) = (settings.low, settings.high);
        let last = if settings.range_len() == 3 && !self.is_own { high - 1 } else { high };
        let odd = settings.range_len() % 2 == 1 && settings.range_len() > 3 && !self.is_own;
        let middle = (low..=last).filter(|port| !odd || (*port != low && *port != high));
        for port in middle.filter(|port| settings.may_choose(*port)) {
            self.count(&mut counts, &[port]);
        }
        if odd {
            let ends: Vec<u16> = [low, high].into_iter().filter(|end| settings.may_choose(*end)).collect();
            if ends.contains(&high) {
                self.count(&mut counts, &ends);
            }
            counts.one_end_free = ends.iter().filter(|end| self.held(**end).is_none()).count() == 1 && ends != [high];
        }
        counts
    }

    /// Counts ports that stand for one.
    fn count(&self, counts: &mut PortCounts, ports: &[u16]) {
        counts.capacity += 1;
        counts.free += 1;
        counts.reusable += u32::from(ports.iter().any(|port| self.is_reusable(*port)));
        let Some((port, rule)) = ports.iter().find_map(|port| Some((*port, self.held(*port)?))) else {
            return;
        };
        counts.free -= 1;
        *counts.held.entry(rule).or_default() += 1;
        counts.next_free = match (counts.next_free, self.freed_in(port)) {
            (Some(first), Some(second)) => Some(first.min(second)),
            (first, second) => first.or(second),
        };
    }

    /// The sockets to the destination.
    pub(super) fn of_tuple(&self) -> impl Iterator<Item = &'a SocketObservation> {
        self.used.values().flat_map(|port| port.tuple.iter().copied())
    }

    /// The sockets of ports that `bind()` took.
    pub(super) fn of_bound(&self) -> impl Iterator<Item = &'a SocketObservation> {
        self.used.values().filter(|port| port.bound).flat_map(|port| port.all.iter().copied())
    }

    /// `TIME_WAIT` sockets to the destination whose ports `tcp_tw_reuse` would free and does not.
    pub(super) fn would_recycle(&self) -> impl Iterator<Item = &'a SocketObservation> {
        let waiting = |port: &&UsedPort<'a>| !port.bound && !self.reuse_on;
        let sockets = self.used.values().filter(waiting).flat_map(|port| port.tuple.iter().copied());
        sockets.filter(|socket| socket.state == TcpState::TimeWait && socket.timestamps)
    }

    pub(super) fn in_use(&self) -> BTreeMap<TcpState, u32> {
        let mut states = BTreeMap::new();
        for socket in self.of_tuple() {
            *states.entry(socket.state).or_default() += 1;
        }
        states
    }
}
