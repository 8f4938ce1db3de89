#![expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small figures")]

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::ports::{
    SourceObservation,
    settings::PortSet,
    testing::{self, Chance, Load, Watch, failure, seen, tuple, wall},
};
use tracker_model::{
    api::{Alert, AlertKind, AlertState, PortConflict, PortEvidence, PortFailure, PortHolder, PortRest, Severity},
    explain::Protocol,
    process::Process,
};

mod binds;
mod cost;

/// Looks at a load, one a second.
fn watch(load: &Load, seconds: u32) -> (Watch, Vec<(u32, Vec<Alert>)>) {
    let mut watch = Watch::default();
    let mut alerts = Vec::new();
    for second in 0..seconds {
        let at = f64::from(second);
        watch.step(&seen(at, vec![load.at(at)]));
        alerts.push((second, watch.alerts()));
    }
    (watch, alerts)
}

fn steady(rate: f64, from: f64, to: f64) -> Vec<f64> {
    (0..((to - from) * rate) as u32).map(|index| from + f64::from(index) / rate).collect()
}

/// The second of the first alert that is as bad.
fn first(alerts: &[(u32, Vec<Alert>)], severity: Severity) -> Option<u32> {
    alerts.iter().find(|(_, alerts)| alerts.iter().any(|alert| alert.severity >= severity)).map(|(second, _)| *second)
}

fn evidence(alert: &Alert) -> &PortEvidence {
    alert.evidence.ports().unwrap()
}

#[test]
fn a_leak_of_ports_is_a_warning_first_and_then_critical_under_one_number() {
    let load = Load { open: steady(10.0, 0.0, 100.0), closed: Vec::new() };
    let (watch, alerts) = watch(&load, 100);
    // A quarter at 25 s, half of them at 50 s with 50 s to go.
    assert_eq!([Severity::Warning, Severity::Critical].map(|it| first(&alerts, it)), [Some(25), Some(50)]);
    let [alert] = &watch.alerts()[..] else { panic!("one alert: {:#?}", watch.alerts()) };
    assert_eq!((alert.id, alert.kind, alert.state), (1, AlertKind::PortExhaustion, AlertState::Firing));
    assert_eq!((alert.severity, alert.since, alert.class), (Severity::Critical, wall(25.0), None));
    let subject = &alert.subject;
    assert_eq!((subject.source, subject.destination, subject.destination_port), {
        let of = tuple(0, 0);
        (Some(of.source), Some(of.destination), Some(443))
    });
    assert_eq!(
        alert.summary,
        "Local ports from 10.0.0.5 to 192.0.2.7:443 run out: 991 of 1,000 used (99 %), full in 0 s; since 2027-01-15 08:00:25 UTC"
    );
    let evidence = evidence(alert);
    assert_eq!(
        (evidence.in_use, evidence.time_wait, evidence.capacity, evidence.tw_reuse),
        (Some(991), Some(0), 1_000, 0)
    );
    assert!((evidence.growth_per_second.unwrap() - 10.0).abs() < 0.1);
    assert_eq!(evidence.states, [("established".to_owned(), 991)].into());
}

#[test]
fn ports_in_time_wait_are_foreseen_too_and_what_settles_is_no_alert() {
    let fast = Load { open: Vec::new(), closed: steady(30.0, 0.0, 40.0) };
    let (watch, alerts) = self::watch(&fast, 20);
    assert_eq!(first(&alerts, Severity::Critical), Some(17), "half of them, with 17 s to go");
    assert!(watch.alerts()[0].summary.contains("of them in TIME_WAIT, full in"), "{}", watch.alerts()[0].summary);
    let slow = Load { open: Vec::new(), closed: steady(10.0, 0.0, 300.0) };
    let (watch, _) = self::watch(&slow, 300);
    assert_eq!(watch.alerts(), []);
    assert_eq!(watch.ports().ports[0].in_use, 600);
}

#[test]
fn a_jump_is_no_alert_unless_it_fills_the_range() {
    let load = |jump: u32| {
        let jump = (0..jump).map(|_| 30.0);
        Load { open: steady(50.0, -2.0, 0.0).into_iter().chain(jump).collect(), closed: Vec::new() }
    };
    assert_eq!(watch(&load(600), 120).0.alerts(), []);
    assert_eq!(watch(&load(700), 120).0.alerts()[0].severity, Severity::Warning);
    assert_eq!(watch(&load(820), 120).0.alerts()[0].severity, Severity::Critical);
}

#[test]
fn an_alert_ends_after_half_a_minute_well_below_and_the_next_has_another_number() {
    let mut watch = Watch::default();
    let mut look = |at: u32, open: u16| {
        watch.step(&seen(at.into(), vec![tuple(open, 0)]));
        watch.alerts().into_iter().map(|alert| (alert.id, alert.state, alert.until)).collect::<Vec<_>>()
    };
    for at in 0_u32..100 {
        let open = if at.is_multiple_of(2) { 760 } else { 680 };
        assert_eq!(look(at, open), [(1, AlertState::Firing, None)], "it is not well below");
    }
    for at in 100..129 {
        assert_eq!(look(at, 670), [(1, AlertState::Firing, None)]);
    }
    assert_eq!(look(129, 670), [(1, AlertState::Resolved, Some(wall(99.0)))]);
    assert_eq!(look(130, 740), [(1, AlertState::Resolved, Some(wall(99.0)))]);
    assert_eq!(look(131, 760)[0], (2, AlertState::Firing, None));
    assert!(watch.alerts()[1].summary.ends_with("680 of 1,000 used (68 %); from 2027-01-15 08:00:00 to 08:01:39 UTC"));
    assert!((evidence(&watch.alerts()[1]).peak_used_ratio.unwrap() - 0.76).abs() < 1e-9);
}

#[test]
fn a_tuple_that_is_no_longer_listed_is_calm_if_the_others_are() {
    let end = |most: u32| {
        let mut watch = Watch::default();
        watch.step(&seen(0.0, vec![tuple(800, 0)]));
        for at in 1..=40 {
            let mut seen = seen(at.into(), Vec::new());
            seen.rest = PortRest { sockets: 5_000, tuples_at_least: 10, most };
            watch.step(&seen);
        }
        watch.alerts()[0].until
    };
    assert_eq!(end(600), Some(wall(0.0)));
    assert_eq!(end(700), None);
}

#[test]
fn one_failure_is_critical_and_over_a_minute_after_the_last() {
    let mut watch = Watch::default();
    let mut look = |at: u32, failed: Option<(u64, f64, f64)>| {
        let mut seen = seen(at.into(), Vec::new());
        seen.failures = failed.into_iter().map(|(count, first, last)| failure(count, first, last)).collect();
        watch.step(&seen);
        watch.alerts()
    };
    assert_eq!(look(5, None), []);
    let alert = look(10, Some((1, 9.0, 9.0))).remove(0);
    assert_eq!(
        (alert.kind, alert.severity, alert.since),
        (AlertKind::PortAllocationFailed, Severity::Critical, wall(9.0))
    );
    assert_eq!(alert.subject.process, Some(Process { pid: 77, comm: "curl".to_owned() }));
    assert_eq!(alert.unknown, ["the last census saw no connection to this destination"]);
    assert_eq!(
        alert.summary,
        "connect() to 192.0.2.7:443 from 10.0.0.5 found no free local port: 1 call failed, all of curl (pid 77); since \
         2027-01-15 08:00:09 UTC"
    );
    assert_eq!((evidence(&alert).in_use, evidence(&alert).capacity), (None, 1_000));
    assert_eq!(evidence(&look(20, Some((5, 9.0, 19.0)))[0]).failures, 5);
    assert_eq!(look(78, Some((5, 9.0, 19.0)))[0].state, AlertState::Firing);
    let over = look(79, Some((5, 9.0, 19.0))).remove(0);
    assert_eq!((over.state, over.until), (AlertState::Resolved, Some(wall(19.0))));
    let again = look(100, Some((7, 9.0, 99.0)));
    assert_eq!((again.len(), again[0].id, again[0].since, evidence(&again[0]).failures), (2, 2, wall(99.0), 2));
    assert_eq!(look(200, None)[0].until, Some(wall(99.0)));
}

#[test]
fn failures_of_a_namespace_that_was_long_not_looked_at_are_reported() {
    let mut watch = Watch::default();
    let look = |at, failures| PortsObservation { failures, ..seen(at, vec![tuple(10, 0)]) };
    watch.step(&look(1_000.0, vec![failure(3, 800.0, 900.0)]));
    let alert = watch.alerts().remove(0);
    assert_eq!((alert.state, alert.since, evidence(&alert).failures), (AlertState::Firing, wall(800.0), 3));
    let ports = watch.ports();
    assert_eq!((ports.ports[0].failures, ports.failures[0].count), (3, 3));
    watch.step(&look(1_001.0, vec![failure(3, 800.0, 900.0)]));
    assert_eq!(watch.alerts()[0].until, Some(wall(900.0)));
}

#[test]
fn failures_that_a_look_missed_are_not_reported_twice() {
    let mut watch = Watch::default();
    let rows = [(10.0, 3), (10.4, 0), (10.8, 3), (11.0, 0), (12.0, 4), (40.0, 4), (300.0, 0), (301.0, 4)];
    for (at, count) in rows {
        let failures =
            if count == 0 { Vec::new() } else { vec![failure(count, 9.0, if count == 3 { 9.9 } else { 11.5 })] };
        watch.step(&PortsObservation { failures, ..seen(at, vec![tuple(10, 0)]) });
        let expected = if at < 12.0 { 3 } else { 4 };
        assert_eq!((watch.alerts().len(), evidence(&watch.alerts()[0]).failures), (1, expected), "{at}");
    }
}

#[test]
fn failures_of_a_listed_tuple_have_its_figures() {
    let mut watch = Watch::default();
    let mut seen = seen(10.0, vec![tuple(400, 600)]);
    seen.failures = vec![failure(2, 9.0, 9.5), PortFailure { process: process("ab", 5), ..failure(10, 9.0, 9.9) }];
    watch.step(&seen);
    let alerts = watch.alerts();
    let kinds: Vec<_> = alerts.iter().map(|alert| alert.kind).collect();
    assert_eq!(kinds, [AlertKind::PortAllocationFailed, AlertKind::PortExhaustion]);
    assert!(alerts[0].summary.contains(
        "no free local port: 12 calls failed, most of ab (pid 5); 1,000 of 1,000 used (100 %), 600 of them in TIME_WAIT; since"
    ));
    assert_eq!(alerts[0].unknown, [""; 0]);
    assert!(alerts[1].summary.contains("192.0.2.7:443 are gone: 1,000 of 1,000 used (100 %)"), "{}", alerts[1].summary);
    let failed: Vec<_> = evidence(&alerts[0]).failed.iter().map(|by| (by.pid, by.failures)).collect();
    assert_eq!(failed, [(5, 10), (77, 2)]);
}

fn process(comm: &str, pid: u32) -> Process {
    Process { pid, comm: comm.to_owned() }
}

#[test]
fn ports_were_free_at_the_census_is_said() {
    let mut watch = Watch::default();
    let mut seen = seen(10.0, vec![tuple(40, 0)]);
    seen.failures = vec![PortFailure { source: None, ..failure(2, 9.0, 9.5) }];
    watch.step(&seen);
    assert!(
        watch.alerts()[0].unknown[0].starts_with("the last census saw ports free"),
        "{:?}",
        watch.alerts()[0].unknown
    );
    assert_eq!(watch.ports().ports[0].failures, 2);
}

/// Ports that begin at 40,000.
fn ports(count: u16) -> PortSet {
    (40_000..40_000 + count).collect()
}

#[test]
fn the_pool_of_bind_matters_when_ports_are_bound() {
    let alerts = |in_use, bound| {
        let mut watch = Watch::default();
        let mut seen = seen(0.0, Vec::new());
        let address = "10.0.0.5".parse().unwrap();
        seen.sources = vec![SourceObservation { address, ports: ports(in_use) }];
        seen.bound = ports(bound);
        watch.step(&seen);
        let pool = watch.ports().bind_pools[0].clone();
        assert_eq!((pool.in_use, pool.bound, pool.capacity), (in_use.into(), bound.min(in_use).into(), 1_000));
        watch.alerts()
    };
    assert_eq!(alerts(1_000, 99), []);
    assert_eq!(alerts(700, 700), []);
    let alert = alerts(950, 900).remove(0);
    assert_eq!((alert.kind, alert.severity), (AlertKind::PortExhaustion, Severity::Critical));
    assert_eq!((alert.subject.source, alert.subject.destination), ("10.0.0.5".parse().ok(), None));
    assert!(
        alert
            .summary
            .starts_with("Local ports that bind() can choose on 10.0.0.5 run out: 950 of 1,000 used (95 %); since")
    );
    assert!(alert.advice.starts_with("Set IP_BIND_ADDRESS_NO_PORT"), "{}", alert.advice);
}

#[test]
fn the_worst_come_first_with_all_figures() {
    let mut watch = Watch::default();
    let mut other = tuple(500, 100);
    (other.destination_port, other.bound) = (80, 10);
    other.next_free = Some(Duration::from_millis(2_500));
    other.made_by = vec![PortHolder { pid: 9, comm: "wrk".to_owned(), ports: 600 }];
    let mut seen = seen(0.0, vec![tuple(20, 0), other, TupleObservation { destination_port: 90, ..tuple(30, 0) }]);
    seen.rest = PortRest { sockets: 7, tuples_at_least: 3, most: 4 };
    watch.step(&seen);
    let ports = watch.ports();
    let order: Vec<_> = ports.ports.iter().map(|row| row.destination_port).collect();
    assert_eq!((order, ports.taken_at), (vec![80, 90, 443], Some(wall(0.0))));
    assert_eq!((ports.namespaces[0].range.low, ports.namespaces[0].rest.most), (40_000, 4));
    let row = serde_json::to_value(&ports.ports[0]).unwrap();
    assert_eq!(
        (&row["in_use"], &row["next_free_seconds"], &row["made_by"][0]["comm"]),
        (&600.into(), &2.5.into(), &"wrk".into())
    );
}

#[test]
fn a_namespace_that_is_gone_takes_its_rows_and_alerts_along() {
    let mut watch = Watch::default();
    let mut full = seen(10.0, vec![tuple(990, 0)]);
    full.failures = vec![failure(1, 9.0, 9.0)];
    watch.step(&full);
    let mut other = seen(3.0, vec![tuple(10, 0)]);
    other.netns = 5;
    watch.step(&other);
    assert_eq!((watch.ports().ports.len(), watch.ports().namespaces.len()), (2, 2));
    watch.forget(testing::NETNS, wall(20.0));
    assert_eq!(watch.ports().ports.len(), 1);
    assert!(watch.alerts().iter().all(|alert| alert.state == AlertState::Resolved));
    assert_eq!(watch.alerts().len(), 2);
}

#[test]
fn a_look_that_is_not_later_is_left_out() {
    let mut watch = Watch::default();
    watch.step(&seen(10.0, vec![tuple(10, 0)]));
    watch.step(&seen(10.0, vec![tuple(990, 0)]));
    watch.step(&seen(9.0, vec![tuple(990, 0)]));
    assert_eq!((watch.ports().ports[0].in_use, watch.alerts().len()), (10, 0));
}

#[test]
fn thousands_of_tuples_are_listed_and_the_worst_are_followed() {
    let mut watch = Watch::default();
    for at in 0..4 {
        let tuples =
            (0..3_000).map(|port| TupleObservation { destination_port: port, ..tuple(port / 30 + at, 0) }).collect();
        watch.step(&seen(at.into(), tuples));
    }
    let ports = &watch.ports().ports;
    let followed = ports.iter().filter(|row| row.growth_per_second.is_some()).count();
    assert_eq!((ports.len(), watch.model.netns[&testing::NETNS].histories.len()), (3_000, FOLLOWED));
    assert!(followed > 900 && ports[0].growth_per_second.is_some(), "{followed}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_happens_alerts_rise_and_end_and_are_reported_once(seed: u64, looks in 1_u32..120) {
        let mut chance = Chance::new(seed);
        let mut watch = Watch::default();
        let mut before: BTreeMap<u64, Alert> = BTreeMap::new();
        let (mut at, mut failures) = (0.0, 0);
        for _ in 0..looks {
            at += 0.5 + 5.0 * chance.share();
            let mut tuples = Vec::new();
            for port in 0..3 {
                if chance.share() < 0.9 {
                    let (open, held) = ((700.0 * chance.share()) as u16, (700.0 * chance.share()) as u16);
                    let recyclable = (700.0 * chance.share()) as u16;
                    tuples.push(TupleObservation { destination_port: port, recyclable, recent: held / 2, ..tuple(open, held) });
                }
            }
            let mut seen = seen(at, tuples);
            if chance.share() < 0.1 {
                failures += 1;
            }
            if failures > 0 {
                seen.failures = vec![failure(failures, at - 0.4, at - 0.2)];
            }
            watch.step(&seen);
            let alerts = watch.alerts();
            for alert in &alerts {
                prop_assert!(!alert.summary.is_empty() && !alert.advice.is_empty());
                prop_assert_eq!(alert.until.is_some(), alert.state == AlertState::Resolved);
                prop_assert!(alert.until.is_none_or(|until| until >= alert.since));
                let figures = evidence(alert);
                prop_assert!(figures.used_ratio.is_none_or(|ratio| (0.0..=1.0).contains(&ratio)));
                prop_assert!(figures.used_ratio <= figures.peak_used_ratio);
                if let Some(old) = before.get(&alert.id) {
                    prop_assert!(alert.severity >= old.severity && alert.since == old.since);
                    prop_assert!(old.state == AlertState::Firing || old == alert, "what is over stays as it was");
                }
            }
            let firing = |kind| alerts.iter().filter(|alert| alert.state == AlertState::Firing && alert.kind == kind).count();
            prop_assert!(firing(AlertKind::PortExhaustion) <= 3 && firing(AlertKind::PortAllocationFailed) <= 1);
            before.extend(alerts.into_iter().map(|alert| (alert.id, alert)));
        }
    }
}
