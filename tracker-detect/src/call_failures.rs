//! Calls that found no free port, or a port that is held: alerts from the first one on.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    alert::{ActiveAlerts, AlertStore, Report},
    detector::{Detector, Observation},
    ports::{self, Index, PortsReading, Target},
};
use tracker_model::{
    api::{AlertKind, Evidence, PortEvidence, PortHolder, PortPool, Severity},
    process::Process,
};

/// It is over when no call has failed for this time.
const QUIET: Duration = Duration::from_mins(1);

/// A target in a network namespace.
type Key = (u32, Target);

/// The targets for which calls failed.
#[derive(Debug)]
struct CallFailures {
    alerts: ActiveAlerts<Key>,
    /// Calls before the alert of each target.
    before: BTreeMap<Key, u64>,
}

/// The detector, whose alerts go into `alerts`.
pub(crate) fn detector(alerts: AlertStore) -> Box<dyn Detector> {
    Box::new(CallFailures { alerts: ActiveAlerts::new(alerts), before: BTreeMap::new() })
}

impl Detector for CallFailures {
    fn observe(&mut self, observation: &Observation) {
        match observation {
            Observation::Ports(reading) => self.update(reading),
            Observation::NetnsGone { netns, .. } => {
                self.alerts.resolve_where(|key, last| (key.0 == *netns).then_some(last.wall));
            }
            _ => {}
        }
    }
}

impl CallFailures {
    /// Opens, follows and ends the alerts of a network namespace.
    fn update(&mut self, reading: &PortsReading) {
        let (netns, now) = (reading.space.netns, reading.now);
        let is_new = |target: &Target| reading.calls.get(target).is_some_and(|calls| calls.new > 0);
        // For nothing else is it needed where each row is.
        let index = if reading.calls.keys().any(is_new) { Index::new(&reading.rows) } else { Index::new(&[]) };
        for (target, calls) in &reading.calls {
            let key = (netns, *target);
            if let Some(since) = calls.since {
                let (mut evidence, unknown) = figures(*target, reading, &index);
                evidence.failed.clone_from(&calls.callers);
                let before = *self.before.entry(key).or_insert(calls.total - calls.new);
                evidence.failures = calls.total.saturating_sub(before);
                let process = evidence.failed.first().map(|by| Process { pid: by.pid, comm: by.comm.clone() });
                let (kind, severity) = match target {
                    Target::Bind(..) => (AlertKind::BindConflict, Severity::Warning),
                    _ => (AlertKind::PortAllocationFailed, Severity::Critical),
                };
                let report = ports::report(kind, severity, target.subject(netns, process), evidence, unknown);
                self.alerts.report(key, since, calls.last, report, keep_peak_and_holders);
            } else if matches!(target, Target::Bind(..)) && now.at.saturating_sub(calls.last.at) < QUIET {
                self.alerts.amend(&key, |report| name_holders(report, holders(*target, reading)));
            }
        }
        self.alerts.resolve_where(|(of, target), last| {
            let is_over = *of == netns && !is_new(target) && now.at.saturating_sub(last.at) >= QUIET;
            is_over.then_some(last.wall)
        });
        self.before.retain(|key, _| self.alerts.fires(key));
    }
}

/// What is known of a target for which calls failed, and what is not.
fn figures(target: Target, reading: &PortsReading, index: &Index) -> (PortEvidence, Vec<String>) {
    if matches!(target, Target::Bind(..)) {
        let (pool, processes) = (PortPool::Bind, holders(target, reading));
        return (PortEvidence { pool, processes, ..reading.unlisted() }, Vec::new());
    }
    let Some(row) = index.find(target).map(|index| &reading.rows[index]) else {
        let range = if let Target::Tuple(.., range) = target { range } else { None };
        let rest = reading.space.rest;
        let unknown = if rest.sockets == 0 {
            "the last census saw no connection to this destination".to_owned()
        } else {
            format!("no census lists this destination: it holds {} ports or less", rest.most)
        };
        return (reading.unlisted_in(range), vec![unknown]);
    };
    let unknown =
        (row.used_ratio < ports::MANY_FREE).then(|| "the last census saw ports free: it came too late".to_owned());
    (reading.listed(row), unknown.into_iter().collect())
}

/// Who holds the port. For the last of its callers the holders may not be known yet.
fn holders(target: Target, reading: &PortsReading) -> Vec<PortHolder> {
    let mut known = reading.conflicts.iter().filter(|conflict| !conflict.holders.is_empty());
    known
        .find(|conflict| Target::of_bind(conflict) == target)
        .map_or_else(Vec::new, |conflict| conflict.holders.clone())
}

/// Who holds a port is looked for after the first call for it was refused.
fn name_holders(report: &mut Report, holders: Vec<PortHolder>) {
    if let Evidence::Ports(evidence) = &mut report.evidence
        && evidence.processes != holders
        && !holders.is_empty()
    {
        evidence.processes = holders;
        ports::render(report);
    }
}

fn keep_peak_and_holders(report: &mut Report, before: &Evidence) {
    ports::keep_peak(report, before);
    if report.kind == AlertKind::BindConflict
        && let (Evidence::Ports(now), Evidence::Ports(before)) = (&report.evidence, before)
        && now.processes.is_empty()
    {
        name_holders(report, before.processes.clone());
    }
}
