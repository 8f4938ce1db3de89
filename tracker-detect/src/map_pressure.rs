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
    let (beyond, relief) = map.beyond();
    // Nothing is lost before it is full.
    let (state, severity) =
        if entries >= capacity { ("full", Severity::Warning) } else { ("nearly full", Severity::Info) };
    let subject = AlertSubject { netns, object: Some(name.clone()), ..AlertSubject::default() };
    let facts = vec![
        Fact::new("entries", "entries", *entries, Unit::None).about("Entries in use, or wanted when it is full."),
        Fact::new("peak_entries", "at most", *entries, Unit::None).about("The most since the onset."),
        Fact::new("capacity", "capacity", *capacity, Unit::None).about("Most entries the map can hold."),
    ];
    Report {
        headline: format!("The kernel map {name} is {state}: {} of {} entries", grouped(*entries), grouped(*capacity)),
        advice: format!("When it is full, {beyond}. {relief}"),
        ..Report::of_facts(AlertKind::MapPressure, severity, subject, facts)
    }
}
