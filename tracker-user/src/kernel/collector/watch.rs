//! Watches a port for a while, for `tracker explain listen`: what is read at the begin and at the end.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use tracker_detect::explain::listen::{
    Elsewhere, FamilyObservation, InterfaceObservation, ListenObservation, WithoutListener, went_elsewhere,
};
use tracker_model::{
    counters::NamespaceCounters,
    explain::{DropCount, SocketObservation},
    listener::Listener,
};

use super::Collector;
use crate::kernel::{
    KernelError, ListenAsked, SocketsAsked,
    drops::{FamilyDrops, PortCounts, Watching},
    maps::{Mapped, Maps},
    netns_facts::{self, IpCounters},
    tcp_counters,
};

/// A watch that has begun.
pub struct BegunWatch {
    asked: ListenAsked,
    begun: Instant,
    watching: Watching,
    before: Moment,
}

/// What is known at one moment.
struct Moment {
    listeners: Vec<Listener>,
    tcp: Option<NamespaceCounters>,
    ip: [IpCounters; 2],
    conntrack_drops: u64,
    /// None where the kernel does not show what reaches TCP.
    closed_ports: Option<ClosedCounts>,
}

/// SYNs to ports where nothing listens.
struct ClosedCounts {
    /// Of the port that is watched: delivered there, and diverted from there.
    of_asked: [u64; 2],
    /// By port: how many more TCP looked up there than were sent there.
    surplus: Vec<i64>,
}

impl ClosedCounts {
    fn read(maps: &Maps, port: u16) -> Self {
        let of = |counts: &Mapped<u64>| counts.get(port.into()).unwrap_or_default();
        let both = maps.closed_delivered.read().zip(maps.closed_ports.read());
        let surplus = both.map(|(delivered, received)| delivered.wrapping_sub(received).cast_signed());
        Self { of_asked: [of(&maps.closed_delivered), of(&maps.closed_diverted)], surplus: surplus.collect() }
    }

    /// Ports without a listener where TCP looked for one more often than SYNs were sent there.
    fn taken_since(&self, before: &Self, asked: u16) -> Vec<Elsewhere> {
        let grown = (0..=u16::MAX).zip(self.surplus.iter().zip(&before.surplus)).filter(|(port, _)| *port != asked);
        let taken = grown.filter_map(|(port, (now, before))| {
            let count = u64::try_from(now.wrapping_sub(*before)).ok().filter(|count| *count > 0)?;
            Some(Elsewhere { address: None, port, process: None, count, handshakes: 0 })
        });
        taken.collect()
    }
}

impl BegunWatch {
    /// How long it is to last.
    pub fn lasts(&self) -> Duration {
        self.asked.lasts
    }
}

impl Collector {
    /// Begins to watch a port.
    ///
    /// # Errors
    /// Too many are being watched, or a map fails.
    pub fn begin_watch(&mut self, asked: ListenAsked) -> Result<BegunWatch, KernelError> {
        let before = self.moment(asked.port)?;
        let address = (!asked.address.is_unspecified()).then_some(asked.address);
        let watching = self.drops.start(&mut self.object, &mut self.maps, &[(address, asked.port)])?;
        let watching = watching.ok_or(KernelError::TooManyWatches)?;
        Ok(BegunWatch { asked, begun: Instant::now(), watching, before })
    }

    /// Ends it without an answer: nobody waits for one.
    pub fn abandon_watch(&mut self, watch: &BegunWatch) {
        if let Err(error) = self.drops.stop(&mut self.maps, &watch.watching) {
            tracing::warn!("end the watch of a port: {error}");
        }
    }

    /// What was seen.
    ///
    /// # Errors
    /// A map or the pass over the sockets fails.
    pub fn finish_watch(&mut self, watch: BegunWatch) -> Result<ListenObservation, KernelError> {
        let counts = self.drops.read(&self.maps, &watch.watching).pop().unwrap_or_default();
        let watched = watch.begun.elapsed();
        self.abandon_watch(&watch);
        let now = self.moment(watch.asked.port)?;
        let BegunWatch { asked, before, .. } = watch;
        let sockets = SocketsAsked {
            ports: Some(asked.port..=asked.port),
            destination: None,
            address: Some(asked.address),
            source: None,
        };
        let found = self.sockets(&sockets)?;
        let listeners = [before.listeners, now.listeners];
        let closed = before.closed_ports.as_ref().zip(now.closed_ports.as_ref());
        let closed = closed.map(|(before, now)| now.taken_since(before, asked.port)).unwrap_or_default();
        Ok(ListenObservation {
            watched,
            is_local: asked.address.is_unspecified() || self.local.contains(asked.address),
            on_interface: netns_facts::interface_of(asked.address)
                .map(|(name, up)| self.attachments.with_watched(name, up)),
            interfaces: self.interfaces_of_watch(&counts),
            unwatched: self.unwatched_interfaces(),
            families: families(&counts, [before.ip, now.ip]),
            drops_unknown: self.drops.why_unknown().map(str::to_owned),
            sockets: found.sockets.into_iter().filter(|socket| is_telling(socket, asked.address)).collect(),
            truncated: found.truncated,
            devices: self.links.values().map(|link| (link.index, link.name.clone())).collect(),
            without_listener: now.closed_ports.as_ref().zip(before.closed_ports.as_ref()).map(|(now, before)| {
                let [delivered, diverted] = [0, 1].map(|of| now.of_asked[of].saturating_sub(before.of_asked[of]));
                WithoutListener { delivered, diverted }
            }),
            elsewhere: went_elsewhere(&listeners, asked.port).into_iter().chain(closed).collect(),
            listeners,
            counters: before.tcp.zip(now.tcp).map(|(before, now)| [before, now]),
            settings: netns_facts::settings(now.conntrack_drops.saturating_sub(before.conntrack_drops)),
        })
    }

    /// Listeners with queues of this moment, and the counters of the namespace.
    fn moment(&mut self, port: u16) -> Result<Moment, KernelError> {
        self.census_on_request();
        let listeners = self.read()?.listeners;
        Ok(Moment {
            listeners,
            tcp: tcp_counters::read().ok(),
            ip: netns_facts::ip_counters(),
            conntrack_drops: netns_facts::conntrack_drops(),
            closed_ports: self.closed_ports.shows_delivery().then(|| ClosedCounts::read(&self.maps, port)),
        })
    }

    fn interfaces_of_watch(&self, counts: &PortCounts) -> Vec<InterfaceObservation> {
        let mut all = Vec::new();
        for (slot, (name, indices)) in self.attachments.by_slot() {
            let syns = counts.syns.get(&slot).copied().unwrap_or_default();
            let above = indices.iter().filter_map(|index| self.links.get(index)?.controller);
            let devices = indices.iter().copied().chain(above).collect();
            let rp_filter = netns_facts::rp_filter(&name);
            all.push(InterfaceObservation {
                devices,
                asked: syns.asked,
                other: syns.other,
                not_local: syns.not_local,
                rp_filter,
                other_xdp: self.attachments.has_other_xdp(&indices, &self.links),
                name,
            });
        }
        all
    }

    fn unwatched_interfaces(&self) -> Vec<String> {
        let watched: Vec<u32> = self.attachments.by_slot().into_values().flat_map(|(_, indices)| indices).collect();
        let others = self.links.values().filter(|link| link.up && !watched.contains(&link.index));
        others.map(|link| link.name.clone()).collect()
    }
}

fn families(counts: &PortCounts, ip: [[IpCounters; 2]; 2]) -> [FamilyObservation; 2] {
    let [before, now] = ip;
    [0, 1].map(|family| {
        let FamilyDrops { syns, answers, resets } = &counts.families[family];
        let (before, now) = (before[family], now[family]);
        FamilyObservation {
            dropped: most_first(syns),
            answers_dropped: most_first(answers),
            resets: *resets,
            forwarded: now.forwarded.saturating_sub(before.forwarded),
            unreachables: now.unreachables.saturating_sub(before.unreachables),
        }
    })
}

fn most_first(counts: &BTreeMap<String, u64>) -> Vec<DropCount> {
    let mut drops: Vec<_> =
        counts.iter().map(|(reason, count)| DropCount { reason: reason.clone(), count: *count }).collect();
    drops.sort_by_key(|drop| std::cmp::Reverse(drop.count));
    drops
}

/// Whether a socket says something about who takes SYNs to an address: it has no peer, or is a connection there.
fn is_telling(socket: &SocketObservation, address: IpAddr) -> bool {
    socket.remote.is_none() || address.is_unspecified() || socket.address == address.to_canonical()
}
