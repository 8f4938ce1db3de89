//! What was seen for one family: the facts that rules and texts ask for.

use std::{cmp::Reverse, collections::BTreeMap, net::IpAddr};

use tracker_model::{
    counters::{ByFamily, NamespaceCounters},
    explain::{DropCount, Protocol, SocketObservation, TcpState},
    listener::Listener,
};

use super::observation::{Elsewhere, FamilyObservation, InterfaceObservation, ListenObservation, WithoutListener};

/// Reasons that stop no SYN of this host's: a copy for a packet socket that was full, or a packet for another host.
const NO_LOSS: [&str; 2] = ["PACKET_SOCK_ERROR", "OTHERHOST"];

/// The reason of SYNs that repeat one whose request waits: they are answered again, and count as dropped
/// (`tcp_check_req`).
const REPEATED: &str = "NOT_SPECIFIED";

/// One family of what was seen.
pub(super) struct Case<'a> {
    /// 0 for IPv4, 1 for IPv6.
    pub(super) family: usize,
    /// The address asked about; none for all.
    pub(super) asked: Option<IpAddr>,
    /// The port asked about.
    pub(super) port: u16,
    /// Everything that was seen.
    pub(super) seen_all: &'a ListenObservation,
    /// SYNs that arrived at watched interfaces.
    pub(super) syns: u64,
    /// SYNs that there were: those that arrived, or more when others came by interfaces that are not watched.
    pub(super) seen: u64,
    /// SYNs that were dropped, by reason, most first.
    pub(super) dropped: Vec<DropCount>,
}

impl<'a> Case<'a> {
    pub(super) fn new(family: usize, asked: Option<IpAddr>, port: u16, seen_all: &'a ListenObservation) -> Self {
        let counts = &seen_all.families[family];
        let is_loss = |drop: &&DropCount| !NO_LOSS.contains(&drop.reason.as_str());
        let dropped: Vec<_> = counts.dropped.iter().filter(is_loss).cloned().collect();
        let syns = seen_all.interfaces.iter().map(|interface| interface.asked[family]).sum();
        let mut case = Self { family, asked, port, seen_all, syns, seen: 0, dropped };
        if case.half_open().0 > 0 || case.delivered().is_some_and(|delivered| delivered > 0) {
            case.dropped.retain(|drop| drop.reason != REPEATED);
        }
        case.seen = syns.max(case.lost()).max(case.handshakes());
        case
    }

    pub(super) fn counts(&self) -> &'a FamilyObservation {
        &self.seen_all.families[self.family]
    }

    pub(super) const fn family_name(&self) -> &'static str {
        if self.family == 0 { "IPv4" } else { "IPv6" }
    }

    /// What is asked about: an address and port, or the port of all addresses.
    pub(super) fn target(&self) -> String {
        match self.asked {
            Some(IpAddr::V6(address)) => format!("[{address}]:{}", self.port),
            Some(address) => format!("{address}:{}", self.port),
            None => format!("port {}", self.port),
        }
    }

    /// SYNs that were dropped.
    pub(super) fn lost(&self) -> u64 {
        self.dropped.iter().map(|drop| drop.count).sum()
    }

    /// SYNs that were dropped for a reason.
    pub(super) fn lost_by(&self, reason: &str) -> u64 {
        self.dropped.iter().filter(|drop| drop.reason == reason).map(|drop| drop.count).sum()
    }

    /// SYNs that were dropped for no reason but that no socket takes them.
    pub(super) fn lost_before_tcp(&self) -> u64 {
        self.lost() - self.lost_by("NO_SOCKET")
    }

    /// Interfaces by which SYNs came.
    pub(super) fn arrived_by(&self) -> impl Iterator<Item = &'a InterfaceObservation> {
        let family = self.family;
        self.seen_all.interfaces.iter().filter(move |interface| interface.asked[family] > 0)
    }

    /// TCP sockets that listen at the port, at whatever address.
    pub(super) fn listening(&self) -> impl Iterator<Item = &'a SocketObservation> {
        self.seen_all.sockets.iter().filter(|socket| socket.protocol == Protocol::Tcp && socket.listens())
    }

    /// Whether a listening socket takes SYNs of this family to this address, as far as its address says
    /// (`compute_score`, `net/ipv4/inet_hashtables.c`).
    pub(super) fn takes_address(&self, socket: &SocketObservation) -> bool {
        let takes_family = match socket.address {
            IpAddr::V4(_) => self.family == 0,
            IpAddr::V6(address) => self.family == 1 || (address.is_unspecified() && !socket.ipv6_only),
        };
        let is_its = socket.address.is_unspecified() || self.asked.is_none_or(|asked| asked == socket.address);
        socket.listens() && socket.protocol == Protocol::Tcp && takes_family && is_its
    }

    /// Whether it takes them by address, and by the device that they come by.
    pub(super) fn takes(&self, socket: &SocketObservation) -> bool {
        let mut arrived = self.arrived_by().peekable();
        let none_came = arrived.peek().is_none();
        let is_its = socket.device == 0 || none_came || arrived.any(|by| by.devices.contains(&socket.device));
        self.takes_address(socket) && is_its
    }

    /// Listening sockets that take these SYNs.
    pub(super) fn taking(&self) -> impl Iterator<Item = &'a SocketObservation> {
        self.listening().filter(|socket| self.takes(socket))
    }

    /// Whether sockets listen that take the other family and not this one.
    pub(super) fn has_listener_of_other_family(&self) -> bool {
        self.listening().next().is_some() && !self.listening().any(|socket| self.takes_address(socket))
    }

    /// Listeners whose sockets take these SYNs, as they were at the end, each with what it was at the begin.
    pub(super) fn listeners(&self) -> impl Iterator<Item = (Option<&'a Listener>, &'a Listener)> {
        let [before, after] = &self.seen_all.listeners;
        let is_it = |listener: &&Listener| {
            listener.port == self.port && self.taking().any(|socket| socket.address == listener.address)
        };
        let begun = |now: &Listener| before.iter().find(|then| then.is_same(now));
        after.iter().filter(is_it).map(move |now| (begun(now), now))
    }

    /// Handshakes that they completed. Those of a wildcard listener are not known by address: of one address there are
    /// no more than SYNs arrived, besides those by interfaces that are not watched.
    pub(super) fn handshakes(&self) -> u64 {
        let watched = self.completed(|listener| listener.completed);
        let of_asked = if self.asked.is_some() { watched.min(self.syns + self.diverted_here()) } else { watched };
        of_asked + self.handshakes_unwatched()
    }

    /// Those of them that came by interfaces that are not watched.
    pub(super) fn handshakes_unwatched(&self) -> u64 {
        self.completed(|listener| listener.completed_unwatched)
    }

    fn completed(&self, of: fn(&Listener) -> ByFamily) -> u64 {
        let grown = |(before, after): (Option<&Listener>, &Listener)| {
            let of = |listener| of(listener).to_array()[self.family];
            of(after).saturating_sub(before.map_or(0, of))
        };
        self.listeners().map(grown).sum()
    }

    /// SYNs that reached TCP at the port; none when that is not known. Repeats of one whose request waits are not
    /// looked up again, so that it may be less than arrived.
    pub(super) fn delivered(&self) -> Option<u64> {
        self.looked_up(|listener| Some(listener.delivery?.delivered), |of| of.delivered)
    }

    /// SYNs for which TCP looked elsewhere.
    pub(super) fn diverted(&self) -> u64 {
        self.looked_up(
            |listener| listener.delivery.map(|delivery| delivery.diverted.saturating_sub(delivery.elsewhere)),
            |of| of.diverted,
        )
        .unwrap_or_default()
    }

    /// SYNs that were sent to another address or port, and reached these listeners.
    pub(super) fn diverted_here(&self) -> u64 {
        let of = |listener: &Listener| listener.delivery.map_or(0, |delivery| delivery.diverted_here);
        self.listeners().map(|(before, now)| of(now).saturating_sub(before.map_or(0, of))).sum()
    }

    /// Where most of the SYNs went that TCP looked up elsewhere.
    pub(super) fn elsewhere(&self) -> Option<&'a Elsewhere> {
        self.seen_all.elsewhere.iter().max_by_key(|elsewhere| elsewhere.count)
    }

    /// Whether handshakes are completed there.
    pub(super) fn is_served_elsewhere(&self) -> bool {
        self.elsewhere().is_some_and(|elsewhere| elsewhere.handshakes > 0)
    }

    /// Whether more packets were forwarded than SYNs can be: answers and acknowledgements are.
    pub(super) fn is_forwarded_both_ways(&self) -> bool {
        self.counts().forwarded > 2 * self.syns.saturating_sub(self.lost())
    }

    /// What is known for a listener, or for the port while it has none: of both families and all addresses, so that no
    /// more are of these than arrived.
    fn looked_up(&self, of: fn(&Listener) -> Option<u64>, without: fn(&WithoutListener) -> u64) -> Option<u64> {
        let mut sum = self.seen_all.without_listener.as_ref().map(without);
        for (before, now) in self.listeners() {
            let Some(now) = of(now) else { continue };
            *sum.get_or_insert(0) += now.saturating_sub(before.and_then(of).unwrap_or(0));
        }
        sum.map(|sum| sum.min(self.syns))
    }

    /// Requests that wait for the first data (`TCP_DEFER_ACCEPT`): to their clients they are connected.
    pub(super) fn waiting_for_data(&self) -> u64 {
        self.listeners().filter_map(|(_, now)| now.queues).map(|queues| u64::from(queues.waiting_for_data)).sum()
    }

    /// Requests that their clients reset.
    pub(super) fn aborted(&self) -> u64 {
        let grown = |(before, now): (Option<&Listener>, &Listener)| {
            now.syns_aborted.saturating_sub(before.map_or(0, |before| before.syns_aborted))
        };
        self.listeners().map(grown).sum()
    }

    /// Requests that the listeners of the port dropped; none when that is not known.
    pub(super) fn requests_dropped(&self) -> Option<u64> {
        let mut sum = None;
        for (before, after) in self.listeners() {
            let drops = |listener: &Listener| listener.queues.map(|queues| queues.drops);
            if let Some(now) = drops(after) {
                *sum.get_or_insert(0) += now.saturating_sub(before.and_then(drops).unwrap_or(0));
            }
        }
        sum
    }

    /// Half-open requests at the end that wait for an acknowledgement, and how many of these are old: their SYN-ACK was
    /// repeated.
    pub(super) fn half_open(&self) -> (u64, u64) {
        let queues = self.taking().filter_map(|socket| socket.queues);
        let waiting = self.waiting_for_data();
        let (all, old) = queues.fold((0, 0), |(all, old), queues| {
            let of_one = u64::from(queues.syn_queue.saturating_sub(queues.syn_queue_young));
            (all + u64::from(queues.syn_queue), old + of_one)
        });
        (all.saturating_sub(waiting), old.saturating_sub(waiting))
    }

    /// How much a counter of the namespace grew; 0 when it is not known.
    pub(super) fn grown(&self, counter: fn(&NamespaceCounters) -> u64) -> u64 {
        self.seen_all.counters.map_or(0, |[before, after]| counter(&after).saturating_sub(counter(&before)))
    }

    /// Connections with this local port that belong to no listener of it: a transparent proxy has them.
    pub(super) fn foreign_connections(&self) -> usize {
        let is_connected = |socket: &&SocketObservation| {
            let is_family = socket.address.is_ipv4() == (self.family == 0);
            is_family && matches!(socket.state, TcpState::Established | TcpState::CloseWait | TcpState::FinWait2)
        };
        self.seen_all.sockets.iter().filter(is_connected).count()
    }
}

impl ListenObservation {
    /// Name of a device.
    pub(super) fn device(&self, index: u32) -> String {
        self.devices.get(&index).cloned().unwrap_or_else(|| format!("device {index}"))
    }
}

/// Counts by reason, added up, most first.
pub(super) fn merged<'a>(all: impl Iterator<Item = &'a Vec<DropCount>>) -> Vec<DropCount> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for drop in all.flatten() {
        *counts.entry(&drop.reason).or_default() += drop.count;
    }
    let mut drops: Vec<_> =
        counts.into_iter().map(|(reason, count)| DropCount { reason: reason.into(), count }).collect();
    drops.sort_by_key(|drop| Reverse(drop.count));
    drops
}
