//! Calls that failed for want of a port, or since a port was held: alerts from the first one on.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    exhaustion::keep_peak,
    subject::Target,
    text::{render, report},
};
use crate::alert::{ActiveAlerts, AlertStore, ObservedAt, Report};
use tracker_model::{
    api::{AlertKind, AlertSubject, Evidence, FailedCalls, PortEvidence, PortHolder, Severity},
    process::Process,
};

/// It is over when no call has failed for so long.
const QUIET: Duration = Duration::from_mins(1);
/// So far may the time of a call be off: it is reckoned from two clocks.
const SLACK: Duration = Duration::from_secs(1);
/// So long is remembered how many calls of a process had failed.
const REMEMBERED: Duration = Duration::from_mins(2);
/// Processes that are named.
const NAMED: usize = 10;

/// The failed calls of one process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    /// What for.
    pub target: Target,
    /// Who.
    pub process: &'a Process,
    /// User.
    pub uid: u32,
    /// Control group.
    pub cgroup: u64,
    /// How many, since the daemon started.
    pub count: u64,
    /// When the first was.
    pub first: Timestamp,
    /// When the last was.
    pub last: Timestamp,
}

/// The failed calls of a target.
#[derive(Clone, Copy, Debug)]
struct Tally {
    /// How many since they are followed.
    total: u64,
    /// When the last one was.
    last: ObservedAt,
    /// How many there were before its alert.
    before: u64,
}

/// The targets of a network namespace for which calls failed.
#[derive(Debug)]
pub(super) struct Failing {
    alerts: ActiveAlerts<Target>,
    /// When they were counted last.
    at: Option<Duration>,
    /// How many, and when they were seen.
    rows: HashMap<(Target, u32), (u64, Duration)>,
    tallies: BTreeMap<Target, Tally>,
}

impl Failing {
    /// No call yet; alerts go into `store`.
    pub(super) fn new(store: AlertStore) -> Self {
        Self { alerts: ActiveAlerts::new(store), at: None, rows: HashMap::new(), tallies: BTreeMap::new() }
    }

    /// Takes in the counts of a moment. The answer names those of which there are more than before, with the time of the first
    /// of the new ones, as far as it is known.
    pub(super) fn count(&mut self, rows: &[Row], moment: ObservedAt) -> BTreeMap<Target, Timestamp> {
        let looked = self.at.replace(moment.at);
        let mut grown = BTreeMap::new();
        for (key, calls) in calls(rows) {
            let (new, since) = match self.rows.insert(key, (calls.count, moment.at)) {
                // Fewer than before: a process of the same number.
                Some((before, _)) => (calls.count.checked_sub(before).unwrap_or(calls.count), calls.last),
                // It may have been passed over for long, whatever failed before that.
                None if looked.is_none_or(|looked| moment.earlier(calls.last) + SLACK >= looked) => {
                    (calls.count, calls.first)
                }
                None => (0, calls.last),
            };
            if new > 0 {
                let target = key.0;
                let tally = self.tallies.entry(target).or_insert(Tally {
                    total: 0,
                    last: ObservedAt { at: Duration::ZERO, wall: calls.last },
                    before: 0,
                });
                tally.total += new;
                tally.last.at = tally.last.at.max(moment.earlier(calls.last));
                tally.last.wall = tally.last.wall.max(calls.last);
                grown.entry(target).and_modify(|first: &mut Timestamp| *first = since.min(*first)).or_insert(since);
            }
        }
        // A look may pass over a row that is there: the table changes meanwhile.
        self.rows.retain(|_, (_, seen_at)| moment.at.saturating_sub(*seen_at) < REMEMBERED);
        let failed: HashSet<Target> = self.rows.keys().map(|(target, _)| *target).collect();
        self.tallies.retain(|target, _| self.alerts.fires(target) || failed.contains(target));
        grown
    }

    /// How many calls for a target have failed since they are followed.
    pub(super) fn total(&self, target: Target) -> u64 {
        self.tallies.get(&target).map_or(0, |tally| tally.total)
    }

    /// Calls, follows and ends alerts. `figures` tells what is known of a target.
    pub(super) fn step(
        &mut self,
        rows: &[Row],
        grown: &BTreeMap<Target, Timestamp>,
        moment: ObservedAt,
        figures: impl Fn(Target) -> (PortEvidence, Vec<String>),
        subject: impl Fn(Target, Option<Process>) -> AlertSubject,
    ) {
        let mut of_targets: HashMap<Target, Vec<&Row>> = HashMap::new();
        for row in rows.iter().filter(|row| grown.contains_key(&row.target)) {
            of_targets.entry(row.target).or_default().push(row);
        }
        for (target, tally) in &self.tallies {
            if let Some(first) = grown.get(target) {
                let (mut evidence, unknown) = figures(*target);
                evidence.failed = failed(&of_targets.remove(target).unwrap_or_default());
                evidence.failures = tally.total - tally.before;
                let process = evidence.failed.first().map(|by| Process { pid: by.pid, comm: by.comm.clone() });
                let report = report(kind(*target), severity(*target), subject(*target, process), evidence, unknown);
                self.alerts.report(*target, *first, tally.last, report, keep_peak_and_holders);
            } else if matches!(target, Target::Bind(..)) && moment.at.saturating_sub(tally.last.at) < QUIET {
                let holders = figures(*target).0.processes;
                self.alerts.amend(target, |report| name_holders(report, holders));
            }
        }
        self.alerts.resolve_where(|target, last| {
            let is_over = !grown.contains_key(target) && moment.at.saturating_sub(last.at) >= QUIET;
            is_over.then_some(last.wall)
        });
        for (_, tally) in self.tallies.iter_mut().filter(|(target, _)| !self.alerts.fires(target)) {
            tally.before = tally.total;
        }
    }

    /// Ends all of them: the network namespace is gone.
    pub(super) fn end(&mut self) {
        self.alerts.resolve_where(|_, last| Some(last.wall));
    }
}

const fn kind(target: Target) -> AlertKind {
    match target {
        Target::Bind(..) => AlertKind::BindConflict,
        Target::Tuple(..) | Target::Pool(_) => AlertKind::PortAllocationFailed,
    }
}

const fn severity(target: Target) -> Severity {
    match target {
        Target::Bind(..) => Severity::Warning,
        Target::Tuple(..) | Target::Pool(_) => Severity::Critical,
    }
}

/// Who holds a port is looked for after the first call for it was refused.
fn name_holders(report: &mut Report, holders: Vec<PortHolder>) {
    if let Evidence::Ports(evidence) = &mut report.evidence
        && evidence.processes != holders
        && !holders.is_empty()
    {
        evidence.processes = holders;
        render(report);
    }
}

fn keep_peak_and_holders(report: &mut Report, before: &Evidence) {
    keep_peak(report, before);
    if report.kind == AlertKind::BindConflict
        && let (Evidence::Ports(now), Evidence::Ports(before)) = (&report.evidence, before)
        && now.processes.is_empty()
    {
        name_holders(report, before.processes.clone());
    }
}

/// How often calls failed, and when.
#[derive(Clone, Copy, Debug)]
struct Calls {
    count: u64,
    first: Timestamp,
    last: Timestamp,
}

/// The calls by target and process, which may have several rows: one for each family of its sockets.
fn calls(rows: &[Row]) -> HashMap<(Target, u32), Calls> {
    let mut all: HashMap<_, Calls> = HashMap::with_capacity(rows.len());
    for row in rows {
        let calls = Calls { count: row.count, first: row.first, last: row.last };
        let add = |sum: &mut Calls| {
            sum.count += calls.count;
            (sum.first, sum.last) = (sum.first.min(calls.first), sum.last.max(calls.last));
        };
        all.entry((row.target, row.process.pid)).and_modify(add).or_insert(calls);
    }
    all
}

/// Who called, most failures first.
fn failed(rows: &[&Row]) -> Vec<FailedCalls> {
    let mut failed: Vec<_> = rows
        .iter()
        .map(|row| FailedCalls {
            pid: row.process.pid,
            comm: row.process.comm.clone(),
            uid: row.uid,
            cgroup: row.cgroup,
            failures: row.count,
        })
        .collect();
    failed.sort_by_key(|by| (Reverse(by.failures), by.pid));
    failed.truncate(NAMED);
    failed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::testing::{failure, wall};

    #[test]
    fn a_process_may_fail_on_sockets_of_both_families() {
        let all = [failure(5, 9.0, 9.5), failure(3, 9.1, 9.4)];
        let target = Target::Tuple(all[0].source, all[0].destination, all[0].destination_port);
        let mut failing = Failing::new(AlertStore::default());
        let mut look = |at: u64, all: &[crate::ports::FailureSeen]| {
            let rows: Vec<_> = all
                .iter()
                .map(|failure| Row {
                    target,
                    process: &failure.process,
                    uid: 0,
                    cgroup: 0,
                    count: failure.count,
                    first: failure.first,
                    last: failure.last,
                })
                .collect();
            let grown = failing.count(&rows, ObservedAt { at: Duration::from_secs(at), wall: wall(10.0) });
            (grown.get(&target).copied(), failing.total(target))
        };
        assert_eq!(look(10, &all), (Some(wall(9.0)), 8));
        assert_eq!(look(11, &all), (None, 8), "nothing new");
        assert_eq!(look(12, &[failure(5, 9.0, 9.5), failure(4, 9.1, 11.5)]), (Some(wall(11.5)), 9));
    }
}
