//! Alerts that ports run out: when they begin, rise and end.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{subject::Target, text};
use crate::alert::store::Ledger;
use tracker_model::api::{Alert, AlertKind, AlertState, AlertSubject, Evidence, PortEvidence, Severity};

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

/// The moment of a look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// By a clock that never jumps.
    pub at: Duration,
    /// The time of day.
    pub wall: Timestamp,
}

impl Moment {
    /// A time of day before it, by the clock that never jumps.
    pub(super) fn then(self, wall: Timestamp) -> Duration {
        let ago = Duration::try_from(self.wall.duration_since(wall)).unwrap_or_default();
        self.at.saturating_sub(ago)
    }
}

/// An alert that goes on.
#[derive(Debug)]
struct Going {
    alert: u64,
    /// The last look at which it was not calm.
    last: Moment,
    /// Failures before it.
    failures: u64,
}

/// The targets of a network namespace whose ports run out.
#[derive(Debug, Default)]
pub(super) struct Exhaustion {
    going: BTreeMap<Target, Going>,
}

impl Exhaustion {
    /// Takes in a look. `unlisted` is the highest share that a target which is not among the cases can have. `known` is asked
    /// only of what is alarming: of a thousand targets most are not.
    pub(super) fn step(
        &mut self,
        cases: &[Case],
        unlisted: f64,
        moment: Moment,
        known: impl Fn(Place) -> Known,
        ledger: &mut Ledger<Alert>,
    ) {
        for case in cases.iter().filter(|case| case.strain.is_alarming()) {
            let severity = case.strain.severity(1.0);
            if let Some(going) = self.going.get_mut(&case.target) {
                going.last = moment;
                going.follow(known(case.place), severity, ledger);
            } else if let Some(severity) = severity {
                self.going.insert(case.target, Going::open(known(case.place), severity, moment, ledger));
            }
        }
        let held = Strain { ratio: unlisted, full_in: None }.is_alarming();
        let is_listed = |target: &Target| cases.iter().any(|case| case.target == *target);
        self.going.retain(|target, going| {
            // What is no longer listed may be as full as what is listed least.
            if held && matches!(target, Target::Tuple(..)) && !is_listed(target) {
                going.last = moment;
            }
            let is_over = moment.at.saturating_sub(going.last.at) >= CALM;
            if is_over {
                resolve(going.alert, going.last.wall, ledger);
            }
            !is_over
        });
    }

    /// Ends all of them: the network namespace is gone.
    pub(super) fn end(&mut self, wall: Timestamp, ledger: &mut Ledger<Alert>) {
        for going in std::mem::take(&mut self.going).into_values() {
            resolve(going.alert, wall, ledger);
        }
    }
}

impl Going {
    fn open(known: Known, severity: Severity, moment: Moment, ledger: &mut Ledger<Alert>) -> Self {
        let failures = known.evidence.failures;
        let evidence = PortEvidence { failures: 0, ..known.evidence };
        let alert = alert(AlertKind::PortExhaustion, severity, moment.wall, known.subject, evidence, known.unknown);
        Self { alert: ledger.open(alert), last: moment, failures }
    }

    fn follow(&self, known: Known, severity: Option<Severity>, ledger: &mut Ledger<Alert>) {
        let Some(alert) = ledger.get(self.alert) else { return };
        let peak = alert.evidence.ports().and_then(|before| before.peak_used_ratio);
        let evidence = PortEvidence {
            failures: known.evidence.failures.saturating_sub(self.failures),
            peak_used_ratio: higher(peak, known.evidence.used_ratio),
            ..known.evidence
        };
        alert.severity = alert.severity.max(severity.unwrap_or(alert.severity));
        (alert.subject, alert.unknown, alert.evidence) = (known.subject, known.unknown, Evidence::Ports(evidence));
        text::tell(alert);
    }
}

/// The higher of two shares that may not be known.
fn higher(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    [one, other].into_iter().flatten().reduce(f64::max)
}

/// A new alert that fires.
pub(super) fn alert(
    kind: AlertKind,
    severity: Severity,
    since: Timestamp,
    subject: AlertSubject,
    evidence: PortEvidence,
    unknown: Vec<String>,
) -> Alert {
    let mut alert = Alert {
        id: 0,
        kind,
        severity,
        state: AlertState::Firing,
        since,
        until: None,
        subject,
        class: None,
        summary: String::new(),
        evidence: Evidence::Ports(evidence),
        advice: String::new(),
        unknown,
    };
    text::tell(&mut alert);
    alert
}

/// An alert is over.
pub(super) fn resolve(id: u64, until: Timestamp, ledger: &mut Ledger<Alert>) {
    if let Some(alert) = ledger.get(id) {
        (alert.state, alert.until) = (AlertState::Resolved, Some(until.max(alert.since)));
        text::tell(alert);
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
