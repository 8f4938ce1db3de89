//! The model of local ports: from one census after the other to how they stand and how they grow.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
};

use tracker_common::state;

use super::{
    capacity::{PortCapacity, held, may_reuse, ratio},
    failed_calls::CallCounter,
    forecast::History,
    observation::{PortsObservation, TupleObservation, UdpObservation},
    reading::PortsReading,
    subject::{Index, Target},
};
use crate::alert::ObservedAt;
use tracker_model::api::{BindPoolUse, PortRange, PortSpace, PortUse, Ports, UdpPorts};

/// Tuples of a network namespace whose growth is followed: the worst,
const FOLLOWED: usize = 1_024;
/// and of these the first, whatever they use,
const ALWAYS_FOLLOWED: usize = 64;
/// and those that use this share of their ports: below it neither a share nor a time is near any threshold.
const MATTERS: f64 = 0.02;
/// From this share of its ports on a destination is looked at often.
const HOT_RATIO: f64 = 0.2;

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
        worst_first(&mut ports.ports, |row| (row.used_ratio, row.in_use));
        worst_first(&mut ports.bind_pools, |pool| (pool.used_ratio, pool.in_use));
        ports.failures.sort_by_key(|failure| Reverse(failure.last));
        ports.conflicts.sort_by_key(|conflict| Reverse(conflict.last));
        ports
    }

    /// Whether a destination or a source may run out of ports soon, so that the next census should not wait.
    #[must_use]
    pub fn is_hot(&self) -> bool {
        let soon = |row: &PortUse| row.used_ratio >= HOT_RATIO || row.full_in_seconds.is_some();
        let is_hot = |reading: &PortsReading| {
            reading.rows.iter().any(soon) || reading.pools.iter().any(|pool| pool.used_ratio >= HOT_RATIO)
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
        let mut rows: Vec<_> = seen.tuples.iter().map(|tuple| (row(tuple, capacity, seen), tuple.recent)).collect();
        worst_first(&mut rows, |(row, _)| (row.used_ratio, row.in_use));
        let worst = rows.iter_mut().take(FOLLOWED).enumerate();
        for (_, (row, recent)) in worst.filter(|(at, (row, _))| *at < ALWAYS_FOLLOWED || row.used_ratio >= MATTERS) {
            let history = self.histories.entry(Target::of_row(row)).or_default();
            let forecast = history.update(seen.at, row, (*recent).into());
            (row.growth_per_second, row.full_in_seconds) = (forecast.growth, forecast.full_in);
        }
        self.histories.retain(|_, history| history.seen_at() == Some(seen.at));
        let mut rows: Vec<_> = rows.into_iter().map(|(row, _)| row).collect();
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

fn space(seen: &PortsObservation, capacity: &PortCapacity) -> PortSpace {
    let UdpObservation { sockets, ephemeral, ports, processes } = seen.udp.clone();
    let (in_use, of) = (ports.count_in(seen.settings.range()), seen.settings.range_len() - capacity.reserved);
    PortSpace {
        netns: seen.netns,
        name: seen.name.clone(),
        taken_at: seen.wall,
        range: PortRange { low: seen.settings.low, high: seen.settings.high },
        reserved: capacity.reserved,
        bound: capacity.bound,
        tw_reuse: seen.settings.tw_reuse.number(),
        rest: seen.rest,
        udp: UdpPorts { sockets, ephemeral, in_use, capacity: of, used_ratio: ratio(in_use, of), processes },
        sources_lost: seen.sources_lost,
    }
}

/// Sorts by the share that is used, and then by how many are in use.
fn worst_first<T>(rows: &mut [T], figures: impl Fn(&T) -> (f64, u32)) {
    rows.sort_by(|a, b| {
        let ((a_ratio, a), (b_ratio, b)) = (figures(a), figures(b));
        b_ratio.total_cmp(&a_ratio).then(b.cmp(&a))
    });
}

/// How many ports a tuple uses of those it could; how they grow is not known yet.
///
/// Ports of its own sockets that are bound count as used, and so also as part of the capacity; those that others bound
/// are not there for it. What is used is there: should it be more than the rules allow for (the range was narrowed, two
/// sockets on two interfaces share a port), the capacity is what is used.
fn row(tuple: &TupleObservation, available: &PortCapacity, seen: &PortsObservation) -> PortUse {
    let in_use = tuple.states.iter().copied().map(u32::from).sum();
    let time_wait = u32::from(tuple.states[usize::from(state::TIME_WAIT)]);
    let recyclable = u32::from(tuple.recyclable).min(time_wait);
    let reusable = if may_reuse(seen.settings.tw_reuse, tuple.source, tuple.destination) { recyclable } else { 0 };
    let capacity = (available.free_for_all + u32::from(tuple.bound)).max(in_use - reusable);
    let states = state::NAMES.iter().zip(tuple.states).filter(|(_, count)| *count > 0);
    PortUse {
        netns: seen.netns,
        source: tuple.source,
        destination: tuple.destination,
        destination_port: tuple.destination_port,
        in_use,
        time_wait,
        reusable,
        recyclable,
        bound: u32::from(tuple.bound).min(in_use),
        capacity,
        used_ratio: ratio(in_use - reusable, capacity),
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
    worst_first(&mut pools, |pool| (pool.used_ratio, pool.in_use));
    pools
}
