//! Alerts: how many there have been of each kind.

use std::collections::HashSet;

use tracker_model::api::{Alert, AlertKind};

/// Counts alerts at their first sight.
///
/// An id is never used again and an alert that was forgotten does not come back, so one that was not in the list before
/// is new. Alerts that came and were forgotten between two looks are missed: as many as the daemon remembers would have
/// to come in that time.
#[derive(Debug, Default)]
pub struct AlertSeries {
    last: HashSet<u64>,
    counts: [u64; AlertKind::ALL.len()],
}

impl AlertSeries {
    /// Takes in the alerts of a snapshot. The answer has every kind, also at zero.
    pub fn update(&mut self, alerts: &[Alert]) -> [(AlertKind, u64); AlertKind::ALL.len()] {
        for alert in alerts.iter().filter(|alert| !self.last.contains(&alert.id)) {
            for (kind, count) in AlertKind::ALL.into_iter().zip(&mut self.counts) {
                *count += u64::from(kind == alert.kind);
            }
        }
        self.last = alerts.iter().map(|alert| alert.id).collect();
        let mut counts = self.counts.into_iter();
        AlertKind::ALL.map(|kind| (kind, counts.next().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracker_fixtures as sample;
    use tracker_model::api::AlertState;

    #[test]
    fn an_alert_counts_once_however_long_it_lasts_and_is_remembered() {
        let mut alerts = sample::under_flood().floods.alerts;
        let mut series = AlertSeries::default();
        let mut counts = |alerts: &[Alert]| -> Vec<u64> {
            let counts = series.update(alerts).map(|(_, count)| count);
            assert_eq!(counts[3..], [0; AlertKind::ALL.len() - 3]);
            counts[..3].to_vec()
        };
        assert_eq!(counts(&[]), [0, 0, 0]);
        assert_eq!([counts(&alerts), counts(&alerts)], [[1, 1, 1]; 2]);
        alerts[0].state = AlertState::Resolved;
        assert_eq!(counts(&alerts), [1, 1, 1]);
        alerts[0].id = 5;
        assert_eq!(counts(&alerts), [2, 1, 1]);
        alerts.truncate(1);
        assert_eq!([counts(&alerts), counts(&[])], [[2, 1, 1]; 2], "forgotten ones stay counted");
    }

    #[test]
    fn counts_have_the_kind_they_are_of() {
        let alerts = &sample::under_flood().floods.alerts[1..2];
        let counts = AlertSeries::default().update(alerts);
        assert_eq!(counts, AlertKind::ALL.map(|kind| (kind, u64::from(kind == AlertKind::PortScan))));
    }
}
