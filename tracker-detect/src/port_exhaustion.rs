//! Local ports that run out: to a destination, for `bind()` on an address, or for UDP.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    alert::{ActiveAlerts, AlertStore, ObservedAt, Report},
    detector::{Detector, Observation},
    ports::{self, PortsReading, Target, ratio},
};
use tracker_model::{
    api::{AlertKind, PortEvidence, Severity},
    process::{PortHolder, PortMaker, Process},
};

/// It is over when it has been well below the thresholds for this time.
const RESOLVED_AFTER: Duration = Duration::from_secs(30);
/// Well below: this part of them.
const WELL_BELOW: f64 = 0.9;

/// From this share of the ports on, and when the end is that near, seconds: how bad it is.
const THRESHOLDS: [(f64, Option<f64>, Severity); 4] = [
    (0.9, None, Severity::Critical),
    (0.5, Some(60.0), Severity::Critical),
    (0.75, None, Severity::Warning),
    (0.25, Some(300.0), Severity::Warning),
];

/// A share of the ports that is used, and the time until none is left.
#[derive(Clone, Copy, Debug)]
struct Utilization {
    /// 0 to 1.
    ratio: f64,
    /// Seconds.
    full_in: Option<f64>,
}

impl Utilization {
    /// How bad it is, with this part of the thresholds.
    fn severity(self, part: f64) -> Option<Severity> {
        let is_over = |(ratio, within, _): &&(f64, Option<f64>, Severity)| {
            let is_near = within.is_none_or(|within| self.full_in.is_some_and(|seconds| seconds <= within / part));
            self.ratio >= ratio * part && is_near
        };
        THRESHOLDS.iter().find(is_over).map(|(.., severity)| *severity)
    }

    /// Whether an alert goes on.
    fn is_alarming(self) -> bool {
        self.severity(WELL_BELOW).is_some()
    }
}

/// A target in a network namespace.
type Key = (u32, Target);

/// The targets whose ports run out.
#[derive(Debug)]
struct PortExhaustion {
    alerts: ActiveAlerts<Key>,
    /// Failed calls before the alert of each target.
    failures: BTreeMap<Key, u64>,
}

/// The detector, whose alerts go into `alerts`.
pub(crate) fn detector(alerts: AlertStore) -> Box<dyn Detector> {
    Box::new(PortExhaustion { alerts: ActiveAlerts::new(alerts), failures: BTreeMap::new() })
}

impl Detector for PortExhaustion {
    fn observe(&mut self, observation: &Observation) {
        match observation {
            Observation::Ports(reading) => self.update(reading),
            Observation::NetnsGone { netns, wall } => {
                self.alerts.resolve_where(|key, _| (key.0 == *netns).then_some(*wall));
            }
            _ => {}
        }
    }
}

impl PortExhaustion {
    fn update(&mut self, reading: &PortsReading) {
        let (netns, now) = (reading.space.netns, (reading.now, reading.first));
        for row in &reading.rows {
            let target = Target::of_row(row);
            let utilization = Utilization { ratio: row.used_ratio, full_in: row.full_in_seconds };
            let figures = || {
                let failures = reading.calls.get(&target).map_or(0, |calls| calls.total);
                PortEvidence { failures, ..reading.listed(row) }
            };
            self.follow((netns, target), utilization, now, figures, Vec::new());
        }
        let now = reading.now;
        let lost = reading.space.sources_lost;
        let unknown = (lost > 0).then(|| format!("{lost} sockets could not be counted by address: it may be fuller"));
        for pool in reading.pools.iter().filter(|pool| pool.matters()) {
            let utilization = Utilization { ratio: pool.used_ratio, full_in: pool.full_in_seconds };
            let unknown = unknown.iter().cloned().collect();
            let figures = || reading.of_pool(pool);
            self.follow((netns, Target::Pool(pool.source)), utilization, (now, reading.first), figures, unknown);
        }
        let udp = &reading.space.udp;
        if udp.in_use > 0 {
            let utilization = Utilization { ratio: udp.used_ratio, full_in: udp.full_in_seconds };
            self.follow((netns, Target::Udp), utilization, (now, reading.first), || reading.of_udp(), Vec::new());
        }
        self.hold_unlisted(reading);
        self.alerts.resolve_where(|key, last| {
            (key.0 == netns && now.at.saturating_sub(last.at) >= RESOLVED_AFTER).then_some(last.wall)
        });
        self.failures.retain(|key, _| self.alerts.fires(key));
    }

    /// What is no longer listed may be as full as what is listed least: its alert goes on.
    fn hold_unlisted(&mut self, reading: &PortsReading) {
        let (netns, now) = (reading.space.netns, reading.now);
        let rest = reading.space.rest;
        let unlisted = if rest.sockets == 0 { 0.0 } else { ratio(rest.most, reading.free_for_all) };
        if (Utilization { ratio: unlisted, full_in: None }).is_alarming() {
            let is_listed = |target: &Target| reading.rows.iter().any(|row| Target::of_row(row) == *target);
            let is_tuple = |target: &Target| matches!(target, Target::Tuple(..));
            self.alerts.hold(now, |(of, target)| *of == netns && is_tuple(target) && !is_listed(target));
        }
    }

    /// Opens or updates the alert of a target; `first` is whether it was so already at the first look. The figures are
    /// made only for what is alarming: of a thousand targets
    /// most are not.
    fn follow(
        &mut self,
        key: Key,
        utilization: Utilization,
        (now, first): (ObservedAt, bool),
        figures: impl FnOnce() -> PortEvidence,
        unknown: Vec<String>,
    ) {
        let severity = utilization.severity(1.0);
        if !utilization.is_alarming() || severity.is_none() && !self.alerts.fires(&key) {
            return;
        }
        let mut evidence = figures();
        let before = *self.failures.entry(key).or_insert(evidence.failures);
        evidence.failures = evidence.failures.saturating_sub(before);
        let subject = key.1.subject(key.0, top_process(&evidence));
        let severity = severity.unwrap_or(Severity::Warning);
        let report = ports::report(AlertKind::PortExhaustion, severity, subject, evidence, unknown);
        let report = Report { since_before: first, ..report };
        self.alerts.report(key, now.wall, now, report, ports::keep_peak);
    }
}

/// The process that most of the ports belong to.
fn top_process(evidence: &PortEvidence) -> Option<Process> {
    let holder = evidence.processes.first().map(PortHolder::process);
    holder.or_else(|| evidence.made_by.first().map(PortMaker::process))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn severity(ratio: f64, full_in: Option<f64>) -> Option<Severity> {
        Utilization { ratio, full_in }.severity(1.0)
    }

    #[test]
    fn it_is_as_bad_as_the_share_and_the_time_that_is_left_say() {
        assert_eq!([severity(0.74, None), severity(0.24, Some(1.0)), severity(0.5, Some(301.0))], [None; 3]);
        let warnings = [severity(0.75, None), severity(0.25, Some(300.0)), severity(0.49, Some(1.0))];
        assert_eq!(warnings, [Some(Severity::Warning); 3]);
        assert_eq!([severity(0.9, None), severity(0.5, Some(60.0))], [Some(Severity::Critical); 2]);
    }

    #[test]
    fn it_goes_on_until_it_is_well_below() {
        let alarming = |ratio, full_in| Utilization { ratio, full_in }.is_alarming();
        assert!(alarming(0.68, None) && !alarming(0.67, None));
        assert!(alarming(0.23, Some(330.0)) && !alarming(0.22, Some(1.0)) && !alarming(0.6, Some(340.0)));
    }
}
