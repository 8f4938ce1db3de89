//! The model of local ports: from one census after the other to how they stand and how they grow.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::{
    capacity::PortCapacity,
    failed_calls::CallCounter,
    forecast::{Forecast, History, Look},
    observation::PortsObservation,
    pools::{pools, udp},
    reading::PortsReading,
    rows::{add_failures, of_tuple},
    subject::Target,
};
use crate::alert::ObservedAt;
use tracker_model::api::{BindPoolUse, PortRange, PortSpace, PortUse, Ports, UdpPorts};

/// Tuples of a network namespace whose growth is followed: the worst,
const FOLLOWED: usize = 1_024;
/// and of these the first, whatever they use,
const ALWAYS_FOLLOWED: usize = 64;
/// and those that use this share of their ports: below it neither a share nor a time is near any threshold.
const MATTERS: f64 = 0.02;
/// What is seen first this soon after the first census of all was there when the daemon started.
const FIRST_LOOKS: Duration = Duration::from_secs(30);
/// From this share of its ports on a destination is looked at often.
const HOT_RATIO: f64 = 0.2;

/// Whether a look by itself shows ports that run short, before the model has it: then whoever holds them should be
/// looked for at once.
#[must_use]
pub fn is_short(seen: &PortsObservation) -> bool {
    let capacity = PortCapacity::new(&seen.settings, &seen.bound);
    let rows = || seen.tuples.iter().flat_map(|tuple| of_tuple(tuple, &capacity, seen));
    udp(seen, &capacity).used_ratio >= HOT_RATIO || rows().any(|(row, _)| row.used_ratio >= HOT_RATIO)
}

/// The local ports of all network namespaces.
#[derive(Debug, Default)]
pub struct PortModel {
    /// When the first census was.
    first: Option<Duration>,
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
        let is_early = seen.at.saturating_sub(*self.first.get_or_insert(seen.at)) <= FIRST_LOOKS;
        let space = self.netns.entry(seen.netns).or_default();
        if space.reading.as_ref().is_some_and(|reading| reading.now.at >= seen.at) {
            return None;
        }
        self.answer.take();
        Some(space.update(seen, is_early))
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
            let udp = &reading.space.udp;
            reading.rows.iter().any(soon)
                || reading.pools.iter().any(|pool| pool.used_ratio >= HOT_RATIO)
                || udp.used_ratio >= HOT_RATIO
                || udp.full_in_seconds.is_some()
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
    /// Adds a census; `is_early` is whether the daemon has just started.
    fn update(&mut self, seen: &PortsObservation, is_early: bool) -> Arc<PortsReading> {
        let capacity = PortCapacity::new(&seen.settings, &seen.bound);
        let free_in = |range| (range, PortCapacity::free_in(range, &seen.settings, &seen.bound));
        let reading = Arc::new(PortsReading {
            now: ObservedAt { at: seen.at, wall: seen.wall },
            first: is_early && self.reading.is_none(),
            space: space(seen, &capacity, self.udp(seen, &capacity)),
            free_for_all: capacity.free_for_all,
            free_in: seen.failures.iter().filter_map(|failure| failure.local_port_range).map(free_in).collect(),
            rows: self.rows(seen, &capacity),
            pools: self.pools(seen, &capacity),
            failures: seen.failures.clone(),
            conflicts: seen.conflicts.clone(),
            calls: self.calls.update(seen),
        });
        self.histories.retain(|_, history| history.seen_at() == Some(seen.at));
        self.reading = Some(Arc::clone(&reading));
        reading
    }

    /// Adds a look at what belongs to a target, and returns how it grows.
    fn follow(&mut self, seen: &PortsObservation, target: Target, look: &Look) -> Forecast {
        self.histories.entry(target).or_default().update(seen.at, look)
    }

    /// The rows, with the growth of the worst.
    fn rows(&mut self, seen: &PortsObservation, capacity: &PortCapacity) -> Vec<PortUse> {
        let mut rows: Vec<_> = seen.tuples.iter().flat_map(|tuple| of_tuple(tuple, capacity, seen)).collect();
        worst_first(&mut rows, |(row, _)| (row.used_ratio, row.in_use));
        let worst = rows.iter_mut().take(FOLLOWED).enumerate();
        for (_, (row, recent)) in worst.filter(|(at, (row, _))| *at < ALWAYS_FOLLOWED || row.used_ratio >= MATTERS) {
            let PortUse { in_use, time_wait, reusable, capacity, .. } = *row;
            let look = Look { in_use, time_wait, reusable, capacity, recent: (*recent).into() };
            let forecast = self.follow(seen, Target::of_row(row), &look);
            (row.growth_per_second, row.full_in_seconds) = (forecast.growth, forecast.full_in);
        }
        let mut rows: Vec<_> = rows.into_iter().map(|(row, _)| row).collect();
        add_failures(&mut rows, seen);
        rows
    }

    /// What `bind()` can choose from, with the growth of what matters.
    fn pools(&mut self, seen: &PortsObservation, capacity: &PortCapacity) -> Vec<BindPoolUse> {
        let mut pools = pools(seen, capacity);
        worst_first(&mut pools, |pool| (pool.used_ratio, pool.in_use));
        for pool in pools.iter_mut().filter(|pool| pool.matters()) {
            let forecast = self.follow(seen, Target::Pool(pool.source), &Look::open(pool.in_use, pool.capacity));
            (pool.growth_per_second, pool.full_in_seconds) = (forecast.growth, forecast.full_in);
        }
        pools
    }

    /// The ports of UDP, with their growth.
    fn udp(&mut self, seen: &PortsObservation, capacity: &PortCapacity) -> UdpPorts {
        let mut ports = udp(seen, capacity);
        let forecast = self.follow(seen, Target::Udp, &Look::open(ports.in_use, ports.capacity));
        (ports.growth_per_second, ports.full_in_seconds) = (forecast.growth, forecast.full_in);
        ports
    }
}

fn space(seen: &PortsObservation, capacity: &PortCapacity, udp: UdpPorts) -> PortSpace {
    PortSpace {
        netns: seen.netns,
        name: seen.name.clone(),
        taken_at: seen.wall,
        range: PortRange { low: seen.settings.low, high: seen.settings.high },
        reserved: capacity.reserved,
        bound: capacity.bound,
        tw_reuse: seen.settings.tw_reuse.number(),
        rest: seen.rest,
        udp,
        sources_lost: seen.sources_lost,
        ranges_lost: seen.ranges_lost,
    }
}

/// Sorts by the share that is used, and then by how many are in use.
fn worst_first<T>(rows: &mut [T], figures: impl Fn(&T) -> (f64, u32)) {
    rows.sort_by(|a, b| {
        let ((a_ratio, a), (b_ratio, b)) = (figures(a), figures(b));
        b_ratio.total_cmp(&a_ratio).then(b.cmp(&a))
    });
}
