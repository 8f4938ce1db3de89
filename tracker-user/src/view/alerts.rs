//! The answer of `tracker alerts`.

use std::cmp::Reverse;

use tracker_model::{
    api::{Alert, AlertState, AlertSummary, Alerts, FiringAlerts, Severity},
    snapshot::Snapshot,
};

/// Alerts that the status names.
const MAX_NAMED: usize = 10;

/// The answer of `GET /v1/alerts`.
#[must_use]
pub fn alerts(snapshot: &Snapshot) -> Alerts {
    Alerts { taken_at: snapshot.taken_at, alerts: sorted(&snapshot.alerts).into_iter().cloned().collect() }
}

/// The alerts that fire, in short.
pub(super) fn firing(alerts: &[Alert]) -> FiringAlerts {
    let all = sorted(alerts);
    let firing = all.partition_point(|alert| alert.state == AlertState::Firing);
    let (firing, resolved) = all.split_at(firing);
    let of = |severity: Severity| firing.iter().filter(|alert| alert.severity == severity).count();
    FiringAlerts {
        firing: firing.len(),
        critical: of(Severity::Critical),
        warning: of(Severity::Warning),
        info: of(Severity::Info),
        resolved: resolved.len(),
        worst: firing.iter().take(MAX_NAMED).map(|alert| summary(alert)).collect(),
    }
}

/// Firing ones first, the worst and newest of them first; then resolved ones, those that ended last first.
fn sorted(alerts: &[Alert]) -> Vec<&Alert> {
    let mut all: Vec<_> = alerts.iter().collect();
    all.sort_by_key(|alert| match alert.state {
        AlertState::Firing => (alert.state, Reverse(Some(alert.severity)), Reverse(alert.since)),
        AlertState::Resolved => (alert.state, Reverse(None), Reverse(alert.until.unwrap_or(alert.since))),
    });
    all
}

fn summary(alert: &Alert) -> AlertSummary {
    AlertSummary {
        id: alert.id,
        kind: alert.kind,
        severity: alert.severity,
        class: alert.class,
        since: alert.since,
        since_before: alert.since_before,
        summary: alert.summary.clone(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use tracker_fixtures as sample;

    #[test]
    fn the_worst_that_fire_come_first_and_the_last_that_ended_after_them() {
        let mut snapshot = sample::under_flood();
        let all = &mut snapshot.alerts;
        let mut older = all[2].clone();
        (older.id, older.until) = (9, older.until.map(|until| until - SignedDuration::from_hours(1)));
        all.insert(0, older);
        all.reverse();
        let answer = alerts(&snapshot);
        let seen: Vec<_> = answer.alerts.iter().map(|alert| (alert.state, alert.severity, alert.id)).collect();
        let expected = [
            (AlertState::Firing, Severity::Critical, 3),
            (AlertState::Firing, Severity::Info, 4),
            (AlertState::Resolved, Severity::Warning, 1),
            (AlertState::Resolved, Severity::Warning, 9),
        ];
        assert_eq!((answer.taken_at, seen.as_slice()), (snapshot.taken_at, expected.as_slice()));
    }

    #[test]
    fn those_that_fire_are_counted_by_severity() {
        let mut snapshot = sample::under_flood();
        let shown = firing(&snapshot.alerts);
        assert_eq!((shown.firing, shown.critical, shown.warning, shown.info, shown.resolved), (2, 1, 0, 1, 1));
        let ids: Vec<_> = shown.worst.iter().map(|alert| alert.id).collect();
        assert_eq!(ids, [3, 4]);
        let flood = snapshot.alerts[0].clone();
        snapshot.alerts.extend(std::iter::repeat_n(flood, 20));
        let shown = firing(&snapshot.alerts);
        assert_eq!((shown.firing, shown.critical, shown.worst.len()), (22, 21, 10));
    }
}
