//! Calls that failed, by target: how many, and how many of them are new.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{observation::PortsObservation, subject::Target};
use crate::alert::ObservedAt;
use tracker_model::{
    api::{FailedCalls, PortConflict, PortFailure},
    process::Process,
};

/// The time of a call may be off by this much: it is computed from two clocks.
const SLACK: Duration = Duration::from_secs(1);
/// How long the count of a process is remembered that is no longer seen.
const REMEMBERED: Duration = Duration::from_mins(2);
/// Processes that are named.
const NAMED: usize = 10;

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
#[derive(Clone, Copy)]
struct Row<'a> {
    target: Target,
    process: &'a Process,
    uid: u32,
    cgroup: u64,
    count: u64,
    first: Timestamp,
    last: Timestamp,
}

impl<'a> From<&'a PortFailure> for Row<'a> {
    fn from(failure: &'a PortFailure) -> Self {
        let PortFailure { process, uid, cgroup, count, first, last, .. } = failure;
        let (uid, cgroup, count, first, last) = (*uid, *cgroup, *count, *first, *last);
        Self { target: Target::of_connect(failure), process, uid, cgroup, count, first, last }
    }
}

impl<'a> From<&'a PortConflict> for Row<'a> {
    fn from(conflict: &'a PortConflict) -> Self {
        let PortConflict { process, uid, cgroup, count, first, last, .. } = conflict;
        let (uid, cgroup, count, first, last) = (*uid, *cgroup, *count, *first, *last);
        Self { target: Target::of_bind(conflict), process, uid, cgroup, count, first, last }
    }
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
        for (key, calls) in &rows {
            let (new, since) = match self.seen.insert(*key, (calls.count, now.at)) {
                // Fewer than before: another process with the same number.
                Some((known, _)) => (calls.count.checked_sub(known).unwrap_or(calls.count), calls.last),
                // They failed since the last look, or this is the first one.
                None if before.is_none_or(|before| now.earlier(calls.last) + SLACK >= before) => {
                    (calls.count, calls.first)
                }
                // The last look missed the row.
                None => (0, calls.last),
            };
            if new > 0 {
                self.add(key.0, new, since, ObservedAt { at: now.earlier(calls.last), wall: calls.last });
            }
        }
        // A look may miss a row that is there: the table changes meanwhile.
        self.seen.retain(|_, (_, seen_at)| now.at.saturating_sub(*seen_at) < REMEMBERED);
        let known: HashSet<Target> = self.seen.keys().map(|(target, _)| *target).collect();
        self.counts.retain(|target, _| known.contains(target));
        for row in rows.values() {
            if let Some(count) = self.counts.get_mut(&row.target).filter(|count| count.new > 0) {
                count.callers.push(row.into());
            }
        }
        for count in self.counts.values_mut() {
            count.callers.sort_by_key(|by| (Reverse(by.failures), by.pid));
            count.callers.truncate(NAMED);
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

impl From<&Row<'_>> for FailedCalls {
    fn from(row: &Row<'_>) -> Self {
        let Process { pid, comm } = row.process.clone();
        Self { pid, comm, uid: row.uid, cgroup: row.cgroup, failures: row.count }
    }
}

/// The calls by target and process, which may have several rows: one for each family of its sockets.
fn by_process(seen: &PortsObservation) -> HashMap<(Target, u32), Row<'_>> {
    // A port that the process chose itself, and that is taken, says nothing of free ports.
    let connects = seen.failures.iter().filter(|failure| failure.source_port.is_none()).map(Row::from);
    let mut all = HashMap::new();
    for row in connects.chain(seen.conflicts.iter().map(Row::from)) {
        let add = |sum: &mut Row<'_>| {
            sum.count += row.count;
            (sum.first, sum.last) = (sum.first.min(row.first), sum.last.max(row.last));
        };
        all.entry((row.target, row.process.pid)).and_modify(add).or_insert(row);
    }
    all
}
