//! From one census after the other to what an operator is told of local ports.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use jiff::Timestamp;
use tracker_common::state;

use super::{
    exhaustion::{Case, Exhaustion, Moment, Strain},
    failing::{Failing, Row},
    seen::{ConflictSeen, PortsSeen, TupleSeen},
    target::{self, Target},
    trend::History,
    usage::{Room, Usage, held, ratio},
};
use crate::{
    api::{
        Alert, BindPoolUse, PortConflict, PortEvidence, PortFailure, PortHolder, PortPool, PortRange, PortSpace,
        PortUse, Ports, UdpPorts,
    },
    ledger::{AlertIds, Ledger},
};

/// Tuples of a network namespace whose growth is followed: the worst.
const FOLLOWED: usize = 1_024;
/// From this share of its ports on a destination is looked at often.
const HOT: f64 = 0.2;
/// The pool of `bind()` matters when so much of its ports, in percent, are bound: others are no trouble for `connect()`.
const BOUND: u32 = 10;

/// Watches the local ports of all network namespaces.
#[derive(Debug, Default)]
pub struct PortWatch {
    spaces: BTreeMap<u32, Space>,
    ledger: Ledger<Alert>,
}

impl PortWatch {
    /// One that has seen nothing, whose alerts take their numbers from `ids`.
    #[must_use]
    pub fn new(ids: AlertIds) -> Self {
        Self { spaces: BTreeMap::new(), ledger: Ledger::new(ids) }
    }

    /// Takes in a census of a network namespace. Those that are not later than its last are left out.
    pub fn step(&mut self, seen: &PortsSeen) {
        let space = self.spaces.entry(seen.netns).or_default();
        if space.at.is_none_or(|at| at < seen.at) {
            space.step(seen, &mut self.ledger);
        }
    }

    /// A network namespace is gone: its alerts end.
    pub fn forget(&mut self, netns: u32, wall: Timestamp) {
        if let Some(mut space) = self.spaces.remove(&netns) {
            space.exhaustion.end(wall, &mut self.ledger);
            space.failing.end(&mut self.ledger);
        }
    }

    /// How ports stand, the worst first.
    #[must_use]
    pub fn ports(&self) -> Ports {
        let mut ports = Ports::default();
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

    /// Alerts: firing ones first, then resolved ones, newest first.
    #[must_use]
    pub fn alerts(&self) -> Vec<Alert> {
        self.ledger.iter().cloned().collect()
    }
}

/// The local ports of a network namespace.
#[derive(Debug, Default)]
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
    fn step(&mut self, seen: &PortsSeen, ledger: &mut Ledger<Alert>) {
        self.at = Some(seen.at);
        let room = Room::new(&seen.settings, &seen.bound);
        let moment = Moment { at: seen.at, wall: seen.wall };
        self.facts = Some(facts(seen, &room));
        self.failures.clone_from(&seen.failures);
        self.conflicts.clone_from(&seen.conflicts);
        self.look(seen, &room);
        self.pools = pools(seen, &room);
        let failed = failed(seen);
        let grown = self.failing.count(&failed, moment);
        let unlisted = if seen.rest.sockets == 0 { 0.0 } else { ratio(seen.rest.most, room.free_for_all) };
        self.exhaustion.step(self.cases(seen, &room), unlisted, moment, ledger);
        let rows = &self.rows;
        let figures = |target: Target| figures(target, rows, seen, &room);
        let subject = |target: Target, process| target.subject(seen.netns, process);
        self.failing.step(&failed, &grown, moment, figures, subject, ledger);
    }

    /// The rows, with the growth of the worst.
    fn look(&mut self, seen: &PortsSeen, room: &Room) {
        let usage = |tuple: &TupleSeen| Usage::new(tuple, room, seen.settings.tw_reuse);
        let mut tuples: Vec<_> = seen.tuples.iter().map(|tuple| (tuple, usage(tuple))).collect();
        tuples.sort_by(|(_, a), (_, b)| b.ratio().total_cmp(&a.ratio()).then(b.in_use.cmp(&a.in_use)));
        let mut before = std::mem::take(&mut self.histories);
        self.rows.clear();
        for (index, (tuple, usage)) in tuples.into_iter().enumerate() {
            let mut row = row(tuple, &usage, seen);
            if index < FOLLOWED {
                let target = Target::of(&row);
                let mut history = before.remove(&target).unwrap_or_default();
                let forecast = history.look(seen.at, &usage, tuple.recent.into());
                (row.growth_per_second, row.full_in_seconds) = (forecast.growth, forecast.full_in);
                self.histories.insert(target, history);
            }
            self.rows.push(row);
        }
        for failure in &seen.failures {
            let target = Target::Tuple(failure.source, failure.destination, failure.destination_port);
            // Where the source is not known, the failures are the worst row's.
            if let Some(index) = target.index_in(&self.rows) {
                self.rows[index].failures += failure.count;
            }
        }
    }

    /// What may run out.
    fn cases(&self, seen: &PortsSeen, room: &Room) -> Vec<Case> {
        let tuples = self.rows.iter().map(|row| {
            let target = Target::of(row);
            let strain = Strain { ratio: row.used_ratio, full_in: row.full_in_seconds };
            let failures = self.failing.total(target);
            let evidence = PortEvidence { failures, ..target::listed(row, seen, room) };
            let subject = target.subject(seen.netns, target::foremost(&evidence));
            Case { target, subject, strain, evidence, unknown: Vec::new() }
        });
        let is_used = |pool: &&BindPoolUse| pool.bound > 0 && pool.bound * 100 >= pool.capacity * BOUND;
        let pools = self.pools.iter().filter(is_used).map(|pool| {
            let target = Target::Pool(pool.source);
            let strain = Strain { ratio: pool.used_ratio, full_in: None };
            let evidence = target::of_pool(pool, seen, room);
            let lost = (seen.sources_lost > 0)
                .then(|| format!("{} sockets could not be counted by address: it may be fuller", seen.sources_lost));
            let subject = target.subject(seen.netns, None);
            Case { target, subject, strain, evidence, unknown: lost.into_iter().collect() }
        });
        tuples.chain(pools).collect()
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
        target: Target::Bind(conflict.address, conflict.port),
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
fn figures(target: Target, rows: &[PortUse], seen: &PortsSeen, room: &Room) -> (PortEvidence, Vec<String>) {
    if let Target::Bind(address, port) = target {
        let is_it = |conflict: &&ConflictSeen| (conflict.address, conflict.port) == (address, port);
        let processes = seen.conflicts.iter().find(is_it).map(|conflict| conflict.holders.clone());
        let pool = PortPool::Bind;
        let processes: Vec<PortHolder> = processes.unwrap_or_default();
        return (PortEvidence { pool, processes, ..target::unlisted(seen, room) }, Vec::new());
    }
    let Some(row) = target.index_in(rows).map(|index| &rows[index]) else {
        let most = seen.rest.most;
        let unknown = if seen.rest.sockets == 0 {
            "the last census saw no connection to this destination".to_owned()
        } else {
            format!("no census lists this destination: it holds {most} ports or less")
        };
        return (target::unlisted(seen, room), vec![unknown]);
    };
    let unknown = (row.used_ratio < 0.5).then(|| {
        "the last census saw ports free: it came too late, or the process narrows the range itself (IP_LOCAL_PORT_RANGE)"
            .to_owned()
    });
    (target::listed(row, seen, room), unknown.into_iter().collect())
}

#[cfg(test)]
mod tests;
