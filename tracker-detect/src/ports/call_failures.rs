//! Calls that failed for want of a port, or since a port was held: alerts from the first one on.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    exhaustion::{Moment, alert, resolve},
    subject::Target,
    text,
};
use crate::alert::store::{AlertIds, Ledger};
use tracker_model::{
    api::{Alert, AlertKind, AlertSubject, Evidence, FailedCalls, PortEvidence, PortHolder, Severity},
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
    /// When the last one was, by a clock that never jumps,
    grown_at: Duration,
    /// and the time of day.
    last: Timestamp,
    /// Its alert.
    alert: Option<u64>,
    /// How many there were before it.
    before: u64,
}

/// The targets of a network namespace for which calls failed.
#[derive(Debug, Default)]
pub(super) struct Failing {
    /// When they were counted last.
    at: Option<Duration>,
    /// How many, and when they were seen.
    rows: HashMap<(Target, u32), (u64, Duration)>,
    tallies: BTreeMap<Target, Tally>,
}

impl Failing {
    /// Takes in the counts of a moment. The answer names those of which there are more than before, with the time of the first
    /// of the new ones, as far as it is known.
    pub(super) fn count(&mut self, rows: &[Row], moment: Moment) -> BTreeMap<Target, Timestamp> {
        let looked = self.at.replace(moment.at);
        let mut grown = BTreeMap::new();
        for (key, calls) in calls(rows) {
            let (new, since) = match self.rows.insert(key, (calls.count, moment.at)) {
                // Fewer than before: a process of the same number.
                Some((before, _)) => (calls.count.checked_sub(before).unwrap_or(calls.count), calls.last),
                // It may have been passed over for long, whatever failed before that.
                None if looked.is_none_or(|looked| moment.then(calls.last) + SLACK >= looked) => {
                    (calls.count, calls.first)
                }
                None => (0, calls.last),
            };
            if new > 0 {
                let target = key.0;
                let tally = self.tallies.entry(target).or_insert(Tally {
                    total: 0,
                    grown_at: Duration::ZERO,
                    last: calls.last,
                    alert: None,
                    before: 0,
                });
                tally.total += new;
                tally.grown_at = tally.grown_at.max(moment.then(calls.last));
                tally.last = tally.last.max(calls.last);
                grown.entry(target).and_modify(|first: &mut Timestamp| *first = since.min(*first)).or_insert(since);
            }
        }
        // A look may pass over a row that is there: the table changes meanwhile.
        self.rows.retain(|_, (_, seen_at)| moment.at.saturating_sub(*seen_at) < REMEMBERED);
        let failed: HashSet<Target> = self.rows.keys().map(|(target, _)| *target).collect();
        self.tallies.retain(|target, tally| tally.alert.is_some() || failed.contains(target));
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
        moment: Moment,
        figures: impl Fn(Target) -> (PortEvidence, Vec<String>),
        subject: impl Fn(Target, Option<Process>) -> AlertSubject,
        ledgers: &mut Ledgers,
    ) {
        let mut of_targets: HashMap<Target, Vec<&Row>> = HashMap::new();
        for row in rows.iter().filter(|row| grown.contains_key(&row.target)) {
            of_targets.entry(row.target).or_default().push(row);
        }
        for (target, tally) in &mut self.tallies {
            let ledger = ledgers.of(*target);
            if let Some(first) = grown.get(target) {
                let (mut evidence, unknown) = figures(*target);
                evidence.failed = failed(&of_targets.remove(target).unwrap_or_default());
                let process = evidence.failed.first().map(|by| Process { pid: by.pid, comm: by.comm.clone() });
                let subject = subject(*target, process);
                tally.follow(*target, *first, subject, evidence, unknown, ledger);
            } else if let Some(id) = tally.alert {
                if moment.at.saturating_sub(tally.grown_at) >= QUIET {
                    resolve(id, tally.last, ledger);
                    (tally.alert, tally.before) = (None, tally.total);
                } else if matches!(target, Target::Bind(..)) {
                    name_holders(id, figures(*target).0.processes, ledger);
                }
            }
        }
    }

    /// Ends all of them: the network namespace is gone.
    pub(super) fn end(&mut self, ledgers: &mut Ledgers) {
        for (target, tally) in std::mem::take(&mut self.tallies) {
            if let Some(id) = tally.alert {
                resolve(id, tally.last, ledgers.of(target));
            }
        }
    }
}

/// Who holds a port is looked for after the first call for it was refused.
fn name_holders(id: u64, holders: Vec<PortHolder>, ledger: &mut Ledger<Alert>) {
    let Some(alert) = ledger.get(id) else { return };
    if let Evidence::Ports(evidence) = &mut alert.evidence
        && evidence.processes != holders
        && !holders.is_empty()
    {
        evidence.processes = holders;
        text::tell(alert);
    }
}

/// Alerts, in two ledgers: any process can have as many `bind()` calls refused as it likes, and these are not to take the place of
/// what says that ports are gone.
#[derive(Debug, Default)]
pub(super) struct Ledgers {
    pub(super) ports: Ledger<Alert>,
    pub(super) binds: Ledger<Alert>,
}

impl Ledgers {
    pub(super) fn new(ids: AlertIds) -> Self {
        Self { ports: Ledger::new(ids.clone()), binds: Ledger::new(ids) }
    }

    fn of(&mut self, target: Target) -> &mut Ledger<Alert> {
        if matches!(target, Target::Bind(..)) { &mut self.binds } else { &mut self.ports }
    }
}

impl Tally {
    fn follow(
        &mut self,
        target: Target,
        first: Timestamp,
        subject: AlertSubject,
        mut evidence: PortEvidence,
        unknown: Vec<String>,
        ledger: &mut Ledger<Alert>,
    ) {
        evidence.failures = self.total - self.before;
        if let Some(id) = self.alert {
            if let Some(alert) = ledger.get(id) {
                if let Some(before) = alert.evidence.ports() {
                    let peaks = [before.peak_used_ratio, evidence.peak_used_ratio];
                    evidence.peak_used_ratio = peaks.into_iter().flatten().reduce(f64::max);
                    if matches!(target, Target::Bind(..)) && evidence.processes.is_empty() {
                        evidence.processes.clone_from(&before.processes);
                    }
                }
                (alert.subject, alert.unknown, alert.evidence) = (subject, unknown, Evidence::Ports(evidence));
                text::tell(alert);
            }
            return;
        }
        let (kind, severity) = match target {
            Target::Bind(..) => (AlertKind::BindConflict, Severity::Warning),
            Target::Tuple(..) | Target::Pool(_) => (AlertKind::PortAllocationFailed, Severity::Critical),
        };
        self.alert = Some(ledger.open(alert(kind, severity, first, subject, evidence, unknown)));
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
        let mut failing = Failing::default();
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
            let grown = failing.count(&rows, Moment { at: Duration::from_secs(at), wall: wall(10.0) });
            (grown.get(&target).copied(), failing.total(target))
        };
        assert_eq!(look(10, &all), (Some(wall(9.0)), 8));
        assert_eq!(look(11, &all), (None, 8), "nothing new");
        assert_eq!(look(12, &[failure(5, 9.0, 9.5), failure(4, 9.1, 11.5)]), (Some(wall(11.5)), 9));
    }
}
