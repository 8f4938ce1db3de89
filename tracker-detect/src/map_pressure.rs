//! A kernel map that is nearly full: what does not fit into it is not counted, or not apart.

use tracker_model::{
    api::{AlertKind, AlertSubject, Fact, MapFill, Severity, Unit},
    text::grouped,
};

use crate::{
    alert::{ActiveAlerts, AlertStore, ObservedAt, Report},
    detector::{Detector, HostObservation, Observation},
};

/// Used from here on, in percent, a map is an alert,
const OPENS: u64 = 90;
/// and below this it is over.
const ENDS: u64 = 80;

/// The maps that are nearly full, by name.
#[derive(Debug)]
struct MapPressure {
    alerts: ActiveAlerts<String>,
}

/// The detector, whose alerts go into `alerts`.
pub fn detector(alerts: AlertStore) -> Box<dyn Detector> {
    Box::new(MapPressure { alerts: ActiveAlerts::new(alerts) })
}

impl Detector for MapPressure {
    fn kinds(&self) -> &'static [AlertKind] {
        &[AlertKind::MapPressure]
    }

    fn observe(&mut self, observation: &Observation) {
        let Observation::Host(HostObservation { now, netns, maps, .. }) = observation else { return };
        for map in maps {
            self.step(map, *netns, *now);
        }
    }
}

impl MapPressure {
    fn step(&mut self, map: &MapFill, netns: u32, now: ObservedAt) {
        let threshold = if self.alerts.fires(&map.name) { ENDS } else { OPENS };
        if map.entries.saturating_mul(100) < map.capacity.saturating_mul(threshold) {
            self.alerts.resolve(&map.name, now.wall);
            return;
        }
        self.alerts.report(map.name.clone(), now.wall, now, report(map, netns), |report, before| {
            report.keep_peak("peak_entries", before);
        });
    }
}

fn report(map: &MapFill, netns: u32) -> Report {
    let MapFill { name, entries, capacity } = map;
    // Nothing is lost before it is full.
    let (state, severity) =
        if entries >= capacity { ("full", Severity::Warning) } else { ("nearly full", Severity::Info) };
    let subject = AlertSubject { netns, object: Some(name.clone()), ..AlertSubject::default() };
    let facts = vec![
        Fact::new("entries", "entries", *entries, Unit::None),
        Fact::new("peak_entries", "at most", *entries, Unit::None),
        Fact::new("capacity", "capacity", *capacity, Unit::None),
    ];
    Report {
        headline: format!("The kernel map {name} is {state}: {} of {} entries", grouped(*entries), grouped(*capacity)),
        advice: format!("When it is full, {}. {}", map.beyond(), map.relief()),
        ..Report::of_facts(AlertKind::MapPressure, severity, subject, facts)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use tracker_common::names;
    use tracker_model::api::{Alert, AlertState};

    use super::*;

    fn look(detector: &mut dyn Detector, store: &AlertStore, second: u32, entries: u64) -> Vec<Alert> {
        let wall = Timestamp::from_second(1_800_000_000 + i64::from(second)).unwrap();
        let maps = vec![MapFill { name: names::LISTENER_COUNTERS.to_owned(), entries, capacity: 1_000 }];
        let now = ObservedAt { at: Duration::from_secs(second.into()), wall };
        detector.observe(&Observation::Host(HostObservation { now, netns: 1, maps, missing: Vec::new() }));
        store.alerts()
    }

    #[test]
    fn it_begins_at_nine_tenths_and_ends_below_eight() {
        let store = AlertStore::default();
        let mut detector = detector(store.clone());
        let mut look = |second, entries| look(detector.as_mut(), &store, second, entries);
        assert_eq!(look(0, 899), []);
        let alert = look(1, 900).remove(0);
        assert_eq!((alert.kind, alert.severity), (AlertKind::MapPressure, Severity::Info));
        let summary =
            "The kernel map LISTENER_CTRS is nearly full: 900 of 1,000 entries; since 2027-01-15 08:00:01 UTC";
        assert_eq!((alert.summary.as_str(), alert.subject.object.as_deref()), (summary, Some("LISTENER_CTRS")));
        assert!(alert.advice.starts_with("When it is full, listeners beyond share one slot"), "{}", alert.advice);
        assert_eq!(look(2, 1_000)[0].severity, Severity::Warning, "full");
        let alert = look(3, 800).remove(0);
        assert_eq!((alert.id, alert.state), (1, AlertState::Firing));
        let evidence = serde_json::to_value(&alert.evidence).unwrap();
        assert_eq!(evidence, serde_json::json!({"entries": 800, "peak_entries": 1000, "capacity": 1000}));
        assert_eq!(look(4, 799)[0].state, AlertState::Resolved);
        assert_eq!((look(5, 899).len(), look(6, 950)[0].id), (1, 2));
    }
}
