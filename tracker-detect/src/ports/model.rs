//! The model of local ports: from one census after the other to how they stand and how they grow.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
};

use tracker_common::state;

use super::{
    capacity::{PortCapacity, Usage, held, ratio},
    failed_calls::CallCounter,
    forecast::History,
    observation::{PortsObservation, TupleObservation},
    reading::PortsReading,
    subject::{Index, Target},
};
use crate::alert::ObservedAt;
use tracker_model::api::{BindPoolUse, PortRange, PortSpace, PortUse, Ports, UdpPorts};

/// Tuples of a network namespace whose growth is followed: the worst,
const FOLLOWED: usize = 1_024;
/// and of these the first, whatever they use,
const WORST: usize = 64;
/// and those that use this share of their ports: below it neither a share nor a time is near any threshold.
const MATTERS: f64 = 0.02;
/// From this share of its ports on a destination is looked at often.
const HOT: f64 = 0.2;

/// The local ports of all network namespaces.
#[derive(Debug, Default)]
pub struct PortModel {
    netns: BTreeMap<u32, NetnsPorts>,
    /// How refused calls of `bind()` are seen.
    conflicts_seen_by: String,
    /// Why some network namespaces were not looked at.
    unread: Option<String>,
    /// The answer, until something changes.
    answer: OnceLock<Arc<Ports>>,
}

impl PortModel {
    /// A model without a census. It says how refused calls of `bind()` are seen ([`Ports::conflicts_seen_by`]).
    #[must_use]
    pub fn new(conflicts_seen_by: &str) -> Self {
        Self { conflicts_seen_by: conflicts_seen_by.to_owned(), ..Self::default() }
    }

    /// Why some network namespaces were not looked at ([`Ports::unread`]).
    pub fn set_unread(&mut self, unread: Option<String>) {
        if self.unread != unread {
            self.unread = unread;
            self.answer.take();
        }
    }

    /// Adds a census of a network namespace, and returns what the detectors are to be shown. One that is not later than
    /// the last is left out.
    pub fn update(&mut self, seen: &PortsObservation) -> Option<Arc<PortsReading>> {
        let space = self.netns.entry(seen.netns).or_default();
        if space.reading.as_ref().is_some_and(|reading| reading.now.at >= seen.at) {
            return None;
        }
        self.answer.take();
        Some(space.update(seen))
    }

    /// A network namespace is gone.
    pub fn forget(&mut self, netns: u32) {
        if self.netns.remove(&netns).is_some() {
            self.answer.take();
        }
    }

    /// How ports stand, the worst first. Between two updates it is the same: asking again copies nothing.
    #[must_use]
    pub fn ports(&self) -> Arc<Ports> {
        Arc::clone(self.answer.get_or_init(|| Arc::new(self.answer())))
    }

    fn readings(&self) -> impl Iterator<Item = &PortsReading> {
        self.netns.values().filter_map(|space| space.reading.as_deref())
    }

    fn answer(&self) -> Ports {
        let (conflicts_seen_by, unread) = (self.conflicts_seen_by.clone(), self.unread.clone());
        let mut ports = Ports { conflicts_seen_by, unread, ..Ports::default() };
        for reading in self.readings() {
            ports.taken_at = ports.taken_at.max(Some(reading.now.wall));
            ports.namespaces.push(reading.space.clone());
            ports.ports.extend_from_slice(&reading.rows);
            ports.bind_pools.extend_from_slice(&reading.pools);
            ports.failures.extend_from_slice(&reading.failures);
            ports.conflicts.extend_from_slice(&reading.conflicts);
        }
        ports.ports.sort_by(|a, b| b.used_ratio.total_cmp(&a.used_ratio).then(b.in_use.cmp(&a.in_use)));
        ports.bind_pools.sort_by(|a, b| b.used_ratio.total_cmp(&a.used_ratio).then(b.in_use.cmp(&a.in_use)));
        ports.failures.sort_by_key(|failure| Reverse(failure.last));
        ports.conflicts.sort_by_key(|conflict| Reverse(conflict.last));
        ports
    }

    /// Whether a destination or a source may run out of ports soon, so that the next census should not wait.
    #[must_use]
    pub fn is_hot(&self) -> bool {
        let soon = |row: &PortUse| row.used_ratio >= HOT || row.full_in_seconds.is_some();
        let is_hot = |reading: &PortsReading| {
            reading.rows.iter().any(soon) || reading.pools.iter().any(|pool| pool.used_ratio >= HOT)
        };
        self.readings().any(is_hot)
    }
}

/// The ports of a network namespace.
#[derive(Debug, Default)]
struct NetnsPorts {
    reading: Option<Arc<PortsReading>>,
    histories: HashMap<Target, History>,
    calls: CallCounter,
}

impl NetnsPorts {
    fn update(&mut self, seen: &PortsObservation) -> Arc<PortsReading> {
        let capacity = PortCapacity::new(&seen.settings, &seen.bound);
        let reading = Arc::new(PortsReading {
            now: ObservedAt { at: seen.at, wall: seen.wall },
            space: space(seen, &capacity),
            free_for_all: capacity.free_for_all,
            rows: self.rows(seen, &capacity),
            pools: pools(seen, &capacity),
            failures: seen.failures.clone(),
            conflicts: seen.conflicts.clone(),
            calls: self.calls.update(seen),
        });
        self.reading = Some(Arc::clone(&reading));
        reading
    }

    /// The rows, with the growth of the worst.
    fn rows(&mut self, seen: &PortsObservation, capacity: &PortCapacity) -> Vec<PortUse> {
        let usage = |tuple| (tuple, Usage::new(tuple, capacity, seen.settings.tw_reuse));
        let mut tuples: Vec<_> =
            seen.tuples.iter().map(usage).map(|(tuple, usage)| (tuple, usage, usage.ratio())).collect();
        tuples.sort_by(|(_, a, a_ratio), (_, b, b_ratio)| b_ratio.total_cmp(a_ratio).then(b.in_use.cmp(&a.in_use)));
        let mut rows: Vec<_> = tuples.iter().map(|(tuple, usage, _)| row(tuple, usage, seen)).collect();
        let worst = rows.iter_mut().zip(tuples).take(FOLLOWED).enumerate();
        for (_, (row, (tuple, usage, _))) in worst.filter(|(at, (row, _))| *at < WORST || row.used_ratio >= MATTERS) {
            let history = self.histories.entry(Target::of_row(row)).or_default();
            let forecast = history.update(seen.at, &usage, tuple.recent.into());
            (row.growth_per_second, row.full_in_seconds) = (forecast.growth, forecast.full_in);
        }
        self.histories.retain(|_, history| history.seen_at() == Some(seen.at));
        add_failures(&mut rows, seen);
        rows
    }
}

/// Adds the failed calls to their rows. Where the source is not known, they are the worst row's.
fn add_failures(rows: &mut [PortUse], seen: &PortsObservation) {
    if seen.failures.is_empty() {
        return;
    }
    let index = Index::new(rows);
    for failure in seen.failures.iter().filter(|failure| failure.source_port.is_none()) {
        if let Some(index) = index.find(Target::of_connect(failure)) {
            rows[index].failures += failure.count;
        }
    }
}

fn udp(seen: &PortsObservation) -> UdpPorts {
    let capacity = seen.settings.range_len() - seen.settings.reserved_in_range();
    let in_use = seen.udp.ports.count_in(seen.settings.range());
    UdpPorts {
        sockets: seen.udp.sockets,
        ephemeral: seen.udp.ephemeral,
        in_use,
        capacity,
        used_ratio: ratio(in_use, capacity),
        processes: seen.udp.processes.clone(),
    }
}

fn space(seen: &PortsObservation, capacity: &PortCapacity) -> PortSpace {
    PortSpace {
        netns: seen.netns,
        name: seen.name.clone(),
        taken_at: seen.wall,
        range: PortRange { low: seen.settings.low, high: seen.settings.high },
        reserved: capacity.reserved,
        bound: capacity.bound,
        tw_reuse: seen.settings.tw_reuse.number(),
        rest: seen.rest,
        udp: udp(seen),
        sources_lost: seen.sources_lost,
    }
}

fn row(tuple: &TupleObservation, usage: &Usage, seen: &PortsObservation) -> PortUse {
    let states = state::NAMES.iter().zip(tuple.states).filter(|(_, count)| *count > 0);
    PortUse {
        netns: seen.netns,
        source: tuple.source,
        destination: tuple.destination,
        destination_port: tuple.destination_port,
        in_use: usage.in_use,
        time_wait: usage.time_wait,
        reusable: usage.reusable,
        recyclable: u32::from(tuple.recyclable).min(usage.time_wait),
        bound: u32::from(tuple.bound).min(usage.in_use),
        capacity: usage.capacity,
        used_ratio: usage.ratio(),
        growth_per_second: None,
        full_in_seconds: None,
        next_free_seconds: tuple.next_free.map(|next| next.as_secs_f64()),
        failures: 0,
        states: states.map(|(name, count)| ((*name).to_owned(), count.into())).collect(),
        processes: tuple.processes.clone(),
        made_by: tuple.made_by.clone(),
    }
}

/// The ports that `bind()` can choose, by source address (`inet_csk_find_open_port`,
/// `net/ipv4/inet_connection_sock.c`): those of the range that are not reserved and that no socket holds on that
/// address or on all addresses. Sockets that set `SO_REUSEADDR` try one half of the range first and then the other, and
/// so the same ports; with `net.ipv4.ip_autobind_reuse` they may share them, which is not counted.
fn pools(seen: &PortsObservation, capacity: &PortCapacity) -> Vec<BindPoolUse> {
    let mut pools: Vec<_> = seen
        .sources
        .iter()
        .map(|source| {
            let (in_use, bound) = held(&source.ports, &seen.bound, &seen.settings);
            let capacity = capacity.bindable.max(in_use);
            let used_ratio = ratio(in_use, capacity);
            BindPoolUse { netns: seen.netns, source: source.address, in_use, bound, capacity, used_ratio }
        })
        .collect();
    pools.sort_by(|a, b| b.used_ratio.total_cmp(&a.used_ratio).then(b.in_use.cmp(&a.in_use)));
    pools
}
