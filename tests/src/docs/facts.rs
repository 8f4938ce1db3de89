//! The facts of docs/api.md, from alerts that the detectors raise.

use std::time::Duration;

use anyhow::{Result, ensure};
use jiff::Timestamp;
use tracker_detect::{
    alert::{AlertStore, ObservedAt},
    detector::{HostObservation, LeakObservation, LeaksObservation, Observation},
    registry::Detectors,
    syn::Sensitivity,
};
use tracker_model::api::{Alert, AlertKind, Evidence, MapFill, Unwatched};

use super::tables::table;

/// Their evidence has fields, and these have rows of their own.
const WITH_FIELDS: [AlertKind; 6] = [
    AlertKind::SynFlood,
    AlertKind::AcceptOverflow,
    AlertKind::PortScan,
    AlertKind::PortExhaustion,
    AlertKind::PortAllocationFailed,
    AlertKind::BindConflict,
];

/// Each fact with the kinds of alert that have it.
pub(super) fn facts() -> Result<String> {
    let alerts = alerts();
    let mut rows: Vec<(String, Vec<String>, &str)> = Vec::new();
    for kind in AlertKind::ALL.iter().filter(|kind| !WITH_FIELDS.contains(kind)) {
        let name = kind.name();
        let alert = alerts.iter().find(|alert| alert.kind == *kind && matches!(alert.evidence, Evidence::Facts(_)));
        ensure!(alert.is_some(), "no alert {name} with facts was raised here: give the detectors what raises one");
        for fact in alert.into_iter().flat_map(|alert| &alert.facts) {
            ensure!(!fact.help.is_empty(), "the fact {} of {name} does not say what it is", fact.name);
            match rows.iter_mut().find(|(known, _, help)| *known == fact.name && *help == fact.help) {
                Some((_, kinds, _)) => kinds.push(format!("`{name}`")),
                None => rows.push((fact.name.clone(), vec![format!("`{name}`")], fact.help)),
            }
        }
    }
    let row = |(name, kinds, help): (String, Vec<String>, &str)| {
        [format!("`{name}`"), kinds.join(", "), help.trim_end_matches('.').to_owned()]
    };
    Ok(table(["fact", "kinds", "meaning"], rows.into_iter().map(row)))
}

/// An alert of each kind that has facts. The second look is late enough for all of them.
fn alerts() -> Vec<Alert> {
    let store = AlertStore::default();
    let mut detectors = Detectors::new(Sensitivity::default(), &store);
    for at in [0, 60].map(Duration::from_secs) {
        let wall = Timestamp::UNIX_EPOCH;
        detectors.observe(&Observation::Host(HostObservation {
            now: ObservedAt { at, wall },
            netns: 1,
            maps: vec![MapFill { name: "LIFETIMES".to_owned(), entries: 9, capacity: 10 }],
            missing: vec![Unwatched { name: "eth1".to_owned(), reason: "it is down".to_owned() }],
        }));
        let leak = LeakObservation { close_wait: 1_000, fin_wait2: 1_000, ..LeakObservation::default() };
        detectors.observe(&Observation::Leaks(LeaksObservation {
            at,
            wall,
            netns: 1,
            processes: vec![leak],
            complete: true,
        }));
    }
    store.alerts()
}
