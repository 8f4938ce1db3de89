//! Calls that failed, by target: how many, and how many of them are new.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{observation::PortsObservation, subject::Target};
use crate::alert::ObservedAt;
use tracker_model::{api::FailedCalls, process::Process};

/// The time of a call may be off by this much: it is computed from two clocks.
const SLACK: Duration = Duration::from_secs(1);
/// How long the count of a process is remembered that is no longer seen.
const REMEMBERED: Duration = Duration::from_mins(2);
/// Processes that are named.
const MAX_PROCESSES: usize = 10;

/// The failed calls for a target.
#[derive(Clone, Debug)]
pub(crate) struct CallCount {
    /// How many since they are counted.
    pub total: u64,
    /// How many of them the last census found.
    pub new: u64,
    /// When the first of the new ones was, as far as it is known; none without a new one.
    pub since: Option<Timestamp>,
    /// When the last one was.
    pub last: ObservedAt,
    /// Who called, most failures first: only when there are new ones.
    pub callers: Vec<FailedCalls>,
}

/// Counts failed calls in one network namespace.
#[derive(Debug, Default)]
pub(super) struct CallCounter {
    /// When they were counted last.
    at: Option<Duration>,
    /// How many by target and process, and when that was seen.
    seen: HashMap<(Target, u32), (u64, Duration)>,
    counts: BTreeMap<Target, CallCount>,
}

/// The failed calls of one process for one target.
struct Row {
    calls: FailedCalls,
    first: Timestamp,
    last: Timestamp,
}

impl CallCounter {
    /// Adds the counts of a census, and returns those of all targets.
    pub(super) fn update(&mut self, seen: &PortsObservation) -> BTreeMap<Target, CallCount> {
        let now = ObservedAt { at: seen.at, wall: seen.wall };
        let before = self.at.replace(now.at);
        for count in self.counts.values_mut() {
            (count.new, count.since) = (0, None);
            count.callers.clear();
        }
        let rows = by_process(seen);
        for (key, row) in &rows {
            let (count, last) = (row.calls.failures, ObservedAt { at: now.earlier(row.last), wall: row.last });
            let (new, since) = match self.seen.insert(*key, (count, now.at)) {
                // Fewer than before: another process with the same number.
                Some((known, _)) => (count.checked_sub(known).unwrap_or(count), row.last),
                // They failed since the last look, or this is the first one.
                None if before.is_none_or(|before| last.at + SLACK >= before) => (count, row.first),
                // The last look missed the row.
                None => (0, row.last),
            };
            if new > 0 {
                self.add(key.0, new, since, last);
            }
        }
        // A look may miss a row that is there: the table changes meanwhile.
        self.seen.retain(|_, (_, seen_at)| now.at.saturating_sub(*seen_at) < REMEMBERED);
        let known: HashSet<Target> = self.seen.keys().map(|(target, _)| *target).collect();
        self.counts.retain(|target, _| known.contains(target));
        for ((target, _), row) in rows {
            if let Some(count) = self.counts.get_mut(&target).filter(|count| count.new > 0) {
                count.callers.push(row.calls);
            }
        }
        for count in self.counts.values_mut() {
            count.callers.sort_by_key(|by| (Reverse(by.failures), by.pid));
            count.callers.truncate(MAX_PROCESSES);
        }
        self.counts.clone()
    }

    fn add(&mut self, target: Target, new: u64, since: Timestamp, last: ObservedAt) {
        let none = || CallCount { total: 0, new: 0, since: None, last, callers: Vec::new() };
        let count = self.counts.entry(target).or_insert_with(none);
        count.total += new;
        count.new += new;
        count.since = Some(count.since.map_or(since, |first| first.min(since)));
        count.last.at = count.last.at.max(last.at);
        count.last.wall = count.last.wall.max(last.wall);
    }
}

/// The calls by target and process, which may have several rows: one for each family of its sockets.
fn by_process(seen: &PortsObservation) -> HashMap<(Target, u32), Row> {
    // A port that the process chose itself, and that is taken, says nothing of free ports.
    let connects = seen.failures.iter().filter(|failure| failure.source_port.is_none());
    let connects =
        connects.map(|it| (Target::of_connect(it), &it.process, it.uid, it.cgroup, it.count, it.first, it.last));
    let binds = seen.conflicts.iter();
    let binds = binds.map(|it| (Target::of_bind(it), &it.process, it.uid, it.cgroup, it.count, it.first, it.last));
    let mut rows = HashMap::new();
    for (target, process, uid, cgroup, count, first, last) in connects.chain(binds) {
        let Process { pid, comm } = process.clone();
        let calls = FailedCalls { pid, comm, uid, cgroup, failures: 0 };
        let row = rows.entry((target, pid)).or_insert(Row { calls, first, last });
        row.calls.failures += count;
        (row.first, row.last) = (row.first.min(first), row.last.max(last));
    }
    rows
}
