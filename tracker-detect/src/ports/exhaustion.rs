//! Alerts that ports run out: when they begin, rise and end.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{subject::Target, text::report};
use crate::alert::{ActiveAlerts, AlertStore, ObservedAt, Report};
use tracker_model::api::{AlertKind, AlertSubject, Evidence, PortEvidence, Severity};

/// It is over when it has been well below the thresholds for so long.
const CALM: Duration = Duration::from_secs(30);
/// Well below: so much of them.
const WELL_BELOW: f64 = 0.9;

/// From this share of the ports on, and when the end is so near, seconds: how bad it is.
const THRESHOLDS: [(f64, Option<f64>, Severity); 4] = [
    (0.9, None, Severity::Critical),
    (0.5, Some(60.0), Severity::Critical),
    (0.75, None, Severity::Warning),
    (0.25, Some(300.0), Severity::Warning),
];

/// A share of the ports that is used, and the time until none is left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strain {
    /// 0 to 1.
    pub ratio: f64,
    /// Seconds.
    pub full_in: Option<f64>,
}

impl Strain {
    /// How bad it is, with thresholds that are this much of what they are.
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

/// How a target stands at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// What.
    pub target: Target,
    /// How.
    pub strain: Strain,
    /// Where the figures are.
    pub place: Place,
}

/// Where the figures of a target are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// Among the rows.
    Row(usize),
    /// Among the pools of `bind()`.
    Pool(usize),
}

/// What is known of a target at a moment.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// The target for the API.
    pub subject: AlertSubject,
    /// The figures; `failures` since the daemon began to follow it.
    pub evidence: PortEvidence,
    /// What is not known.
    pub unknown: Vec<String>,
}

/// The targets of a network namespace whose ports run out.
#[derive(Debug)]
pub(super) struct Exhaustion {
    alerts: ActiveAlerts<Target>,
    /// Failures before the alert of each target.
    failures: BTreeMap<Target, u64>,
}

impl Exhaustion {
    /// No target yet; alerts go into `store`.
    pub(super) const fn new(store: AlertStore) -> Self {
        Self { alerts: ActiveAlerts::new(store), failures: BTreeMap::new() }
    }

    /// Takes in a census. `unlisted` is the highest share that a target which is not among the candidates can have. `known` is
    /// asked only about what is alarming: of a thousand targets most are not.
    pub(super) fn step(&mut self, cases: &[Case], unlisted: f64, now: ObservedAt, known: impl Fn(Place) -> Known) {
        for case in cases.iter().filter(|case| case.strain.is_alarming()) {
            let severity = case.strain.severity(1.0);
            if severity.is_none() && !self.alerts.fires(&case.target) {
                continue;
            }
            let Known { subject, mut evidence, unknown } = known(case.place);
            evidence.failures -= *self.failures.entry(case.target).or_insert(evidence.failures);
            let severity = severity.unwrap_or(Severity::Warning);
            let report = report(AlertKind::PortExhaustion, severity, subject, evidence, unknown);
            self.alerts.report(case.target, now.wall, now, report, keep_peak);
        }
        if (Strain { ratio: unlisted, full_in: None }).is_alarming() {
            // What is no longer listed may be as full as what is listed least.
            let is_listed = |target: &Target| cases.iter().any(|case| case.target == *target);
            self.alerts.hold(now, |target| matches!(target, Target::Tuple(..)) && !is_listed(target));
        }
        self.alerts.resolve_where(|_, last| (now.at.saturating_sub(last.at) >= CALM).then_some(last.wall));
        self.failures.retain(|target, _| self.alerts.fires(target));
    }

    /// Ends all of them: the network namespace is gone.
    pub(super) fn end(&mut self, wall: Timestamp) {
        self.alerts.resolve_where(|_, _| Some(wall));
    }
}

/// The highest share so far stays.
pub(super) fn keep_peak(report: &mut Report, before: &Evidence) {
    if let (Evidence::Ports(now), Evidence::Ports(before)) = (&mut report.evidence, before) {
        now.peak_used_ratio = [now.peak_used_ratio, before.peak_used_ratio].into_iter().flatten().reduce(f64::max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn severity(ratio: f64, full_in: Option<f64>) -> Option<Severity> {
        Strain { ratio, full_in }.severity(1.0)
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
        let alarming = |ratio, full_in| Strain { ratio, full_in }.is_alarming();
        assert!(alarming(0.68, None) && !alarming(0.67, None));
        assert!(alarming(0.23, Some(330.0)) && !alarming(0.22, Some(1.0)) && !alarming(0.6, Some(340.0)));
    }
}
