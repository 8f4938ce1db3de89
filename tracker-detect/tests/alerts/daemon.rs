//! What the daemon says of itself: maps that are nearly full, interfaces that are not watched.

use std::time::Duration;

use tracker_common::names;
use tracker_detect::{
    alert::ObservedAt,
    detector::{HostObservation, Observation},
};
use tracker_model::api::{Alert, AlertState, MapFill, Severity, Unwatched};

use crate::support::{Watch, wall};

fn look(watch: &mut Watch, second: u32, entries: u64, missing: &[(&str, &str)]) -> Vec<Alert> {
    let now = ObservedAt { at: Duration::from_secs(second.into()), wall: wall(second.into()) };
    let maps = vec![MapFill { name: names::LISTENER_COUNTERS.to_owned(), entries, capacity: 1_000 }];
    let missing = missing.iter().map(|(name, reason)| Unwatched { name: (*name).into(), reason: (*reason).into() });
    watch.show(&Observation::Host(HostObservation { now, netns: 1, maps, missing: missing.collect() }))
}

#[test]
fn a_map_is_an_alert_from_nine_tenths_until_it_is_below_eight() {
    let mut watch = Watch::default();
    let (firing, resolved) = (AlertState::Firing, AlertState::Resolved);
    let series = [
        (899, None),
        (900, Some((1, firing, Severity::Info))),
        (1_000, Some((1, firing, Severity::Warning))),
        (800, Some((1, firing, Severity::Warning))),
        (799, Some((1, resolved, Severity::Warning))),
        (899, Some((1, resolved, Severity::Warning))),
        (950, Some((2, firing, Severity::Info))),
    ];
    let mut alerts = Vec::new();
    for (second, (entries, expected)) in (0..).zip(series) {
        alerts = look(&mut watch, second, entries, &[]);
        let first = alerts.first().map(|alert| (alert.id, alert.state, alert.severity));
        assert_eq!(first, expected, "{entries} entries");
    }
    let summary = "The kernel map LISTENER_CTRS is nearly full: 950 of 1,000 entries; since 2027-01-15 08:00:06 UTC";
    assert_eq!((alerts[0].summary.as_str(), alerts[0].subject.object.as_deref()), (summary, Some("LISTENER_CTRS")));
    assert!(
        alerts[0].advice.starts_with("When it is full, listeners beyond are counted from their first SYN on"),
        "{}",
        alerts[0].advice
    );
    let evidence = serde_json::to_value(&alerts[1].evidence).unwrap();
    assert_eq!(evidence, serde_json::json!({"entries": 800, "peak_entries": 1000, "capacity": 1000}));
}

#[test]
fn each_reason_has_an_alert_until_its_interfaces_are_watched_again() {
    let mut watch = Watch::default();
    let (gone, down) = ([("eth1", "it is gone"), ("eth2", "it is down")], [("eth1", "it is down")]);
    assert_eq!(look(&mut watch, 0, 0, &[("veth1", "it is gone")]), [], "gone for a moment");
    for second in 1..6 {
        assert_eq!(look(&mut watch, second, 0, &gone), []);
    }
    assert_eq!(look(&mut watch, 6, 0, &gone).len(), 2);
    let alerts = look(&mut watch, 7, 0, &down);
    let states: Vec<_> = alerts.iter().map(|alert| (alert.subject.object.as_deref(), alert.state)).collect();
    assert_eq!(states, [(Some("eth1"), AlertState::Firing), (Some("eth1"), AlertState::Resolved)]);
    assert_eq!(alerts[0].summary, "The interface eth1 is not watched: it is down; since 2027-01-15 08:00:01 UTC");
    assert_eq!(serde_json::to_value(&alerts[0].evidence).unwrap(), serde_json::json!({"reason": "it is down"}));
    let names: Vec<_> = (1..=300).map(|number| format!("eth{number}")).collect();
    let all: Vec<_> = names.iter().map(|name| (name.as_str(), "it is down")).collect();
    look(&mut watch, 8, 0, &all);
    let alerts = look(&mut watch, 13, 0, &all);
    let start =
        "The interfaces eth1, eth2, eth3, eth4, eth5, eth6, eth7, eth8 and 292 more are not watched: it is down";
    assert!(alerts.len() == 2 && alerts[0].summary.starts_with(start), "one for all of them: {alerts:?}");
    assert!(look(&mut watch, 14, 0, &[]).iter().all(|alert| alert.state == AlertState::Resolved));
}
