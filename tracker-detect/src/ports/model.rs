//! From one census after the other to what an operator is told of local ports.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
    time::Duration,
};

use jiff::Timestamp;
use tracker_common::state;

use super::{
    advice::MANY_FREE,
    call_failures::{Failing, Row},
    capacity::{Room, Usage, held, ratio},
    exhaustion::{Case, Exhaustion, Known, Place, Strain},
    forecast::History,
    observation::{ConflictSeen, PortsSeen, TupleSeen},
    subject::{self, Index, Target},
};
use crate::alert::{AlertStore, ObservedAt};
use tracker_model::api::{
    Alert, BindPoolUse, PortConflict, PortEvidence, PortFailure, PortHolder, PortPool, PortRange, PortSpace, PortUse,
    Ports, UdpPorts,
};

/// Tuples of a network namespace whose growth is followed: the worst,
const FOLLOWED: usize = 1_024;
/// and of these the first so many, whatever they use,
const WORST: usize = 64;
/// and those that use this share of their ports: below it neither a share nor a time is near any threshold.
const MATTERS: f64 = 0.02;
/// Pairs of looks that the growth of all but the worst is told from in one step: those of 32 tuples that were followed for a
/// minute. The others wait for their turn.
const PAIRS: usize = 32 * 496;
/// From this share of its ports on a destination is looked at often.
const HOT: f64 = 0.2;
/// The pool of `bind()` matters when so much of its ports, in percent, are bound: others are no trouble for `connect()`.
const BOUND: u32 = 10;

/// Watches the local ports of all network namespaces.
#[derive(Debug, Default)]
pub struct PortWatch {
    spaces: BTreeMap<u32, Space>,
    alerts: AlertStore,
    /// How refused calls of `bind()` are seen.
    conflicts_seen_by: String,
    /// Why some network namespaces were not looked at.
    unread: Option<String>,
    /// How ports stand, until something changes.
    told: OnceLock<Arc<Ports>>,
}

impl PortWatch {
    /// One that has seen nothing, whose alerts go into `alerts`.
    #[must_use]
    pub fn new(alerts: AlertStore) -> Self {
        Self { alerts, ..Self::default() }
    }

    /// The same, which tells how refused calls of `bind()` are seen ([`Ports::conflicts_seen_by`]).
    #[must_use]
    pub fn with_conflicts_seen_by(self, how: &str) -> Self {
        Self { conflicts_seen_by: how.to_owned(), ..self }
    }

    /// Why some network namespaces were not looked at ([`Ports::unread`]).
    pub fn set_unread(&mut self, unread: Option<String>) {
        if self.unread != unread {
            self.unread = unread;
            self.told.take();
        }
    }

    /// Takes in a census of a network namespace. Those that are not later than its last are left out.
    pub fn step(&mut self, seen: &PortsSeen) {
        let space = self.spaces.entry(seen.netns).or_insert_with(|| Space::new(&self.alerts));
        if space.at.is_none_or(|at| at < seen.at) {
            space.step(seen);
            self.told.take();
        }
    }

    /// A network namespace is gone: its alerts end.
    pub fn forget(&mut self, netns: u32, wall: Timestamp) {
        if let Some(mut space) = self.spaces.remove(&netns) {
            self.told.take();
            space.exhaustion.end(wall);
            space.failing.end();
        }
    }

    /// How ports stand, the worst first. Between two steps it is the same: asking again copies nothing.
    #[must_use]
    pub fn ports(&self) -> Arc<Ports> {
        Arc::clone(self.told.get_or_init(|| Arc::new(self.tell())))
    }

    fn tell(&self) -> Ports {
        let (conflicts_seen_by, unread) = (self.conflicts_seen_by.clone(), self.unread.clone());
        let mut ports = Ports { conflicts_seen_by, unread, ..Ports::default() };
        for space in self.spaces.values() {
            ports.taken_at = ports.taken_at.max(space.facts.as_ref().map(|facts| facts.taken_at));
            ports.namespaces.extend(space.facts.clone());
            ports.ports.extend_from_slice(&space.rows);
            ports.bind_pools.extend_from_slice(&space.pools);
            ports.failures.extend_from_slice(&space.failures);
            ports.conflicts.extend_from_slice(&space.conflicts);
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
        self.spaces
            .values()
            .any(|space| space.rows.iter().any(soon) || space.pools.iter().any(|pool| pool.used_ratio >= HOT))
    }

    /// All alerts of the store that this model writes to: firing ones first, then resolved ones, newest first.
    #[must_use]
    pub fn alerts(&self) -> Vec<Alert> {
        self.alerts.alerts()
    }
}

/// The local ports of a network namespace.
#[derive(Debug)]
struct Space {
    at: Option<Duration>,
    facts: Option<PortSpace>,
    histories: HashMap<Target, History>,
    /// The worst first.
    rows: Vec<PortUse>,
    pools: Vec<BindPoolUse>,
    failures: Vec<PortFailure>,
    conflicts: Vec<PortConflict>,
    exhaustion: Exhaustion,
    failing: Failing,
}

impl Space {
    fn new(alerts: &AlertStore) -> Self {
        Self {
            at: None,
            facts: None,
            histories: HashMap::new(),
            rows: Vec::new(),
            pools: Vec::new(),
            failures: Vec::new(),
            conflicts: Vec::new(),
            exhaustion: Exhaustion::new(alerts.clone()),
            failing: Failing::new(alerts.clone()),
        }
    }

    fn step(&mut self, seen: &PortsSeen) {
        self.at = Some(seen.at);
        let room = Room::new(&seen.settings, &seen.bound);
        let moment = ObservedAt { at: seen.at, wall: seen.wall };
        self.facts = Some(facts(seen, &room));
        self.failures.clone_from(&seen.failures);
        self.conflicts.clone_from(&seen.conflicts);
        self.look(seen, &room);
        self.pools = pools(seen, &room);
        let failed = failed(seen);
        let grown = self.failing.count(&failed, moment);
        let unlisted = if seen.rest.sockets == 0 { 0.0 } else { ratio(seen.rest.most, room.free_for_all) };
        let (rows, pools, failing) = (&self.rows, &self.pools, &self.failing);
        let known = |place| match place {
            Place::Row(index) => of_row(&rows[index], failing, seen, &room),
            Place::Pool(index) => of_pool(&pools[index], seen, &room),
        };
        self.exhaustion.step(&cases(rows, pools), unlisted, moment, known);
        // For nothing else is it needed where each row is.
        let index = if grown.is_empty() { Index::new(&[]) } else { Index::new(rows) };
        let figures = |target: Target| figures(target, rows, &index, seen, &room);
        let subject = |target: Target, process| target.subject(seen.netns, process);
        self.failing.step(&failed, &grown, moment, figures, subject);
    }

    /// The rows, with the growth of the worst.
    fn look(&mut self, seen: &PortsSeen, room: &Room) {
        let usage = |tuple| (tuple, Usage::new(tuple, room, seen.settings.tw_reuse));
        let mut tuples: Vec<_> =
            seen.tuples.iter().map(usage).map(|(tuple, usage)| (tuple, usage, usage.ratio())).collect();
        tuples.sort_by(|(_, a, a_ratio), (_, b, b_ratio)| b_ratio.total_cmp(a_ratio).then(b.in_use.cmp(&a.in_use)));
        self.rows = tuples.iter().map(|(tuple, usage, _)| row(tuple, usage, seen)).collect();
        self.follow(seen.at, &tuples);
        if seen.failures.is_empty() {
            return;
        }
        let index = Index::new(&self.rows);
        for failure in seen.failures.iter().filter(|failure| failure.source_port.is_none()) {
            let target = Target::Tuple(failure.source, failure.destination, failure.destination_port);
            // Where the source is not known, the failures are the worst row's.
            if let Some(index) = index.of(target) {
                self.rows[index].failures += failure.count;
            }
        }
    }

    /// Tells how the worst grow. What it costs is bounded: beyond the first of them those come first whose turn was longest ago.
    fn follow(&mut self, at: Duration, tuples: &[(&TupleSeen, Usage, f64)]) {
        let mut followed: Vec<_> = self
            .rows
            .iter_mut()
            .zip(tuples)
            .take(FOLLOWED)
            .enumerate()
            .filter(|(index, (_, (.., ratio)))| *index < WORST || *ratio >= MATTERS)
            .map(|(index, (row, (tuple, usage, _)))| {
                let told_at = self.histories.get(&Target::of(row)).and_then(History::told_at);
                ((index >= WORST).then_some(told_at), row, tuple, usage)
            })
            .collect();
        followed.sort_by_key(|(turn, ..)| *turn);
        let mut pairs = PAIRS;
        for (turn, row, tuple, usage) in followed {
            let history = self.histories.entry(Target::of(row)).or_default();
            let is_worst = turn.is_none();
            let forecast = if is_worst || history.pairs() <= pairs {
                let forecast = history.look(at, usage, tuple.recent.into());
                pairs = pairs.saturating_sub(if is_worst { 0 } else { history.pairs() });
                forecast
            } else {
                history.glance(at, usage)
            };
            (row.growth_per_second, row.full_in_seconds) = (forecast.growth, forecast.full_in);
        }
        self.histories.retain(|_, history| history.seen_at() == Some(at));
    }
}

/// What may run out.
fn cases(rows: &[PortUse], pools: &[BindPoolUse]) -> Vec<Case> {
    let rows = rows.iter().enumerate().map(|(index, row)| Case {
        target: Target::of(row),
        strain: Strain { ratio: row.used_ratio, full_in: row.full_in_seconds },
        place: Place::Row(index),
    });
    let is_used = |(_, pool): &(_, &BindPoolUse)| pool.bound > 0 && pool.bound * 100 >= pool.capacity * BOUND;
    let pools = pools.iter().enumerate().filter(is_used).map(|(index, pool)| Case {
        target: Target::Pool(pool.source),
        strain: Strain { ratio: pool.used_ratio, full_in: None },
        place: Place::Pool(index),
    });
    rows.chain(pools).collect()
}

fn of_row(row: &PortUse, failing: &Failing, seen: &PortsSeen, room: &Room) -> Known {
    let target = Target::of(row);
    let evidence = PortEvidence { failures: failing.total(target), ..subject::listed(row, seen, room) };
    Known { subject: target.subject(seen.netns, subject::foremost(&evidence)), evidence, unknown: Vec::new() }
}

fn of_pool(pool: &BindPoolUse, seen: &PortsSeen, room: &Room) -> Known {
    let lost = (seen.sources_lost > 0)
        .then(|| format!("{} sockets could not be counted by address: it may be fuller", seen.sources_lost));
    Known {
        subject: Target::Pool(pool.source).subject(seen.netns, None),
        evidence: subject::of_pool(pool, seen, room),
        unknown: lost.into_iter().collect(),
    }
}

fn udp(seen: &PortsSeen) -> UdpPorts {
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

fn facts(seen: &PortsSeen, room: &Room) -> PortSpace {
    PortSpace {
        netns: seen.netns,
        name: seen.name.clone(),
        taken_at: seen.wall,
        range: PortRange { low: seen.settings.low, high: seen.settings.high },
        reserved: room.reserved,
        bound: room.bound,
        tw_reuse: seen.settings.tw_reuse.number(),
        rest: seen.rest,
        udp: udp(seen),
        sources_lost: seen.sources_lost,
    }
}

fn row(tuple: &TupleSeen, usage: &Usage, seen: &PortsSeen) -> PortUse {
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

/// The ports that `bind()` can choose, by source address (`inet_csk_find_open_port`, `net/ipv4/inet_connection_sock.c`): those
/// of the range that are not reserved and that no socket holds on that address or on all addresses. Sockets that set
/// `SO_REUSEADDR` try one half of the range first and then the other, and so the same ports; with `net.ipv4.ip_autobind_reuse`
/// they may share them, which is not counted.
fn pools(seen: &PortsSeen, room: &Room) -> Vec<BindPoolUse> {
    let mut pools: Vec<_> = seen
        .sources
        .iter()
        .map(|source| {
            let (in_use, bound) = held(&source.ports, &seen.bound, &seen.settings);
            let capacity = room.bindable.max(in_use);
            let used_ratio = ratio(in_use, capacity);
            BindPoolUse { netns: seen.netns, source: source.address, in_use, bound, capacity, used_ratio }
        })
        .collect();
    pools.sort_by(|a, b| b.used_ratio.total_cmp(&a.used_ratio).then(b.in_use.cmp(&a.in_use)));
    pools
}

fn failed(seen: &PortsSeen) -> Vec<Row<'_>> {
    // A port that the process chose itself, and that is taken, is no want of ports.
    let connects = seen.failures.iter().filter(|failure| failure.source_port.is_none()).map(|failure| Row {
        target: Target::Tuple(failure.source, failure.destination, failure.destination_port),
        process: &failure.process,
        uid: failure.uid,
        cgroup: failure.cgroup,
        count: failure.count,
        first: failure.first,
        last: failure.last,
    });
    let binds = seen.conflicts.iter().map(|conflict| Row {
        target: Target::of_bind(conflict),
        process: &conflict.process,
        uid: conflict.uid,
        cgroup: conflict.cgroup,
        count: conflict.count,
        first: conflict.first,
        last: conflict.last,
    });
    connects.chain(binds).collect()
}

/// What is known of a target for which calls failed, and what is not.
fn figures(
    target: Target,
    rows: &[PortUse],
    index: &Index,
    seen: &PortsSeen,
    room: &Room,
) -> (PortEvidence, Vec<String>) {
    if matches!(target, Target::Bind(..)) {
        // For the last of its callers nobody may have been looked for yet.
        let is_it = |conflict: &&ConflictSeen| Target::of_bind(conflict) == target && !conflict.holders.is_empty();
        let processes = seen.conflicts.iter().find(is_it).map(|conflict| conflict.holders.clone());
        let pool = PortPool::Bind;
        let processes: Vec<PortHolder> = processes.unwrap_or_default();
        return (PortEvidence { pool, processes, ..subject::unlisted(seen, room) }, Vec::new());
    }
    let Some(row) = index.of(target).map(|index| &rows[index]) else {
        let most = seen.rest.most;
        let unknown = if seen.rest.sockets == 0 {
            "the last census saw no connection to this destination".to_owned()
        } else {
            format!("no census lists this destination: it holds {most} ports or less")
        };
        return (subject::unlisted(seen, room), vec![unknown]);
    };
    let unknown = (row.used_ratio < MANY_FREE).then(|| {
        "the last census saw ports free: it came too late, or the process narrows the range itself (IP_LOCAL_PORT_RANGE)"
            .to_owned()
    });
    (subject::listed(row, seen, room), unknown.into_iter().collect())
}

#[cfg(test)]
mod tests;
