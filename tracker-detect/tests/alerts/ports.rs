//! Local ports that run out, and the rows of all destinations.

#![expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small figures")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proptest::prelude::*;
use tracker_detect::ports::{PortSet, SourceObservation, TupleObservation};
use tracker_model::api::{Alert, AlertKind, AlertState, PortMaker, PortRest, Severity};

use crate::support::{Chance, Load, NETNS, Watch, evidence, failure, seen, tuple, wall};

/// Looks at a load, one a second: how it stands at the end, and the seconds at which it was a warning and critical.
fn watch(load: &Load, seconds: u32) -> (Watch, Vec<Alert>, [Option<u32>; 2]) {
    let (mut watch, mut alerts, mut onsets) = (Watch::default(), Vec::new(), [None; 2]);
    for second in 0..seconds {
        let at = f64::from(second);
        alerts = watch.step(&seen(at, vec![load.at(at)]));
        for (onset, severity) in onsets.iter_mut().zip([Severity::Warning, Severity::Critical]) {
            let is_reached = alerts.iter().any(|alert| alert.severity >= severity);
            *onset = onset.or(is_reached.then_some(second));
        }
    }
    (watch, alerts, onsets)
}

fn steady(rate: f64, from: f64, to: f64) -> Vec<f64> {
    (0..((to - from) * rate) as u32).map(|index| from + f64::from(index) / rate).collect()
}

#[test]
fn a_load_is_as_bad_as_its_share_and_the_time_that_is_left() {
    let jump = |ports: u16| {
        let jump = vec![30.0; ports.into()];
        Load { open: [steady(50.0, -2.0, 0.0), jump].concat(), closed: Vec::new() }
    };
    let closed = |rate, to| Load { open: Vec::new(), closed: steady(rate, 0.0, to) };
    let cases = [
        ("half of the ports, with 17 s to go", closed(30.0, 40.0), 20, [Some(9), Some(17)]),
        ("TIME_WAIT that settles", closed(10.0, 300.0), 300, [None, None]),
        ("a jump that leaves ports", jump(600), 120, [None, None]),
        ("a jump to three quarters", jump(700), 120, [Some(30), None]),
        ("a jump to nine tenths", jump(820), 120, [Some(30), Some(30)]),
    ];
    for (case, load, seconds, expected) in cases {
        let (watch, alerts, onsets) = self::watch(&load, seconds);
        assert_eq!(onsets, expected, "{case}: {alerts:#?}");
        assert_eq!(usize::from(expected[0].is_some()), alerts.len(), "{case}");
        let used = load.at(f64::from(seconds - 1)).states.iter().sum::<u16>();
        assert_eq!(watch.row().in_use, u32::from(used), "{case}");
    }
}

#[test]
fn a_leak_of_ports_is_a_warning_first_and_then_critical_under_one_number() {
    let load = Load { open: steady(10.0, 0.0, 100.0), closed: Vec::new() };
    let (_, alerts, onsets) = watch(&load, 100);
    // A quarter at 25 s, half of them at 50 s with 50 s to go.
    assert_eq!(onsets, [Some(25), Some(50)]);
    let [alert] = &alerts[..] else { panic!("one alert: {alerts:#?}") };
    assert_eq!((alert.id, alert.kind, alert.state), (1, AlertKind::PortExhaustion, AlertState::Firing));
    assert_eq!((alert.since, alert.class), (wall(25.0), None));
    let (subject, of) = (&alert.subject, tuple(0, 0));
    assert_eq!((subject.source, subject.destination), (Some(of.source), Some(of.destination)));
    assert_eq!(
        alert.summary,
        "Local ports from 10.0.0.5 to 192.0.2.7:443 run out: 991 of 1,000 used (99 %), full in 0 s; since 2027-01-15 \
         08:00:25 UTC"
    );
    assert!((evidence(alert).growth_per_second.unwrap() - 10.0).abs() < 0.1);
    assert_eq!(evidence(alert).states, [("established".to_owned(), 991)].into());
}

#[test]
fn an_alert_ends_after_half_a_minute_well_below_and_the_next_has_another_number() {
    let mut watch = Watch::default();
    let mut look = |at: u32, open: u16| watch.step(&seen(at.into(), vec![tuple(open, 0)]));
    let shown = |alert: &Alert| (alert.id, alert.state, alert.until);
    // It is not well below at 68 %, and at 67 % not for long enough.
    for (at, open) in (0..100).map(|at| (at, if at % 2 == 0 { 760 } else { 680 })).chain((100..129).map(|at| (at, 670)))
    {
        assert_eq!(look(at, open).iter().map(shown).collect::<Vec<_>>(), [(1, AlertState::Firing, None)]);
    }
    for (at, open) in [(129, 670), (130, 740)] {
        assert_eq!(shown(&look(at, open)[0]), (1, AlertState::Resolved, Some(wall(99.0))));
    }
    let alerts = look(131, 760);
    assert_eq!(shown(&alerts[0]), (2, AlertState::Firing, None));
    let said = "680 of 1,000 used (68 %); from before tracker started (2027-01-15 08:00:00) to 08:01:39 UTC";
    assert!(alerts[1].summary.ends_with(said), "{}", alerts[1].summary);
    assert!(alerts[0].summary.ends_with("; since 2027-01-15 08:02:11 UTC"), "{}", alerts[0].summary);
    assert!((evidence(&alerts[1]).peak_used_ratio.unwrap() - 0.76).abs() < 1e-9);
}

#[test]
fn a_tuple_that_is_no_longer_listed_is_calm_if_the_others_are() {
    for (most, until) in [(600, Some(wall(0.0))), (700, None)] {
        let mut watch = Watch::default();
        let mut alerts = watch.step(&seen(0.0, vec![tuple(800, 0)]));
        for at in 1..=40 {
            let mut seen = seen(at.into(), Vec::new());
            seen.rest = PortRest { sockets: 5_000, tuples_at_least: 10, most };
            alerts = watch.step(&seen);
        }
        assert_eq!(alerts[0].until, until, "the others use {most}");
    }
}

#[test]
fn the_pool_of_bind_matters_when_ports_are_bound() {
    let ports = |count: u16| (40_000..40_000 + count).collect::<PortSet>();
    for (in_use, bound, expected) in [(1_000, 99, None), (700, 700, None), (950, 900, Some(Severity::Critical))] {
        let (mut watch, mut seen) = (Watch::default(), seen(0.0, Vec::new()));
        let address = "10.0.0.5".parse().unwrap();
        seen.sources = vec![SourceObservation { address, ports: ports(in_use) }];
        seen.bound = ports(bound);
        let alerts = watch.step(&seen);
        let pool = watch.ports().bind_pools[0].clone();
        assert_eq!((pool.in_use, pool.bound, pool.capacity), (in_use.into(), bound.into(), 1_000));
        assert_eq!(alerts.first().map(|alert| alert.severity), expected, "{in_use}, {bound} bound");
        if let Some(alert) = alerts.first() {
            assert_eq!((alert.subject.source, alert.subject.destination), (Some(address), None));
            let head = "Local ports that bind() can choose on 10.0.0.5 run out: 950 of 1,000 used (95 %); since";
            assert!(alert.summary.starts_with(head), "{}", alert.summary);
        }
    }
}

#[test]
fn the_worst_come_first_and_a_namespace_that_is_gone_takes_its_rows_and_alerts_along() {
    let mut watch = Watch::default();
    let mut full = tuple(890, 100);
    full.next_free = Some(Duration::from_millis(2_500));
    full.made_by = vec![PortMaker { pid: 9, comm: "wrk".to_owned(), connects: 600 }];
    let others = [80, 90].map(|port| TupleObservation { destination_port: port, ..tuple(port - 70, 0) });
    let mut here = seen(10.0, [others.to_vec(), vec![full]].concat());
    here.rest = PortRest { sockets: 7, tuples_at_least: 3, most: 4 };
    here.failures = vec![failure(1, 9.0, 9.0)];
    watch.step(&here);
    let mut elsewhere = seen(3.0, vec![tuple(5, 0)]);
    elsewhere.netns = 5;
    watch.step(&elsewhere);
    let ports = watch.ports();
    let order: Vec<_> = ports.ports.iter().map(|row| (row.destination_port, row.in_use)).collect();
    assert_eq!((order, ports.taken_at), (vec![(443, 990), (90, 20), (80, 10), (443, 5)], Some(wall(10.0))));
    assert_eq!((watch.row().next_free_seconds, watch.row().made_by[0].connects), (Some(2.5), 600));
    let rests: Vec<_> = ports.namespaces.iter().map(|space| space.rest.most).collect();
    assert_eq!(rests, [0, 4]);
    let alerts = watch.forget(NETNS, wall(20.0));
    assert_eq!((watch.ports().ports.len(), alerts.len()), (1, 2));
    assert!(alerts.iter().all(|alert| alert.state == AlertState::Resolved));
}

#[test]
fn a_look_that_is_not_later_is_left_out_and_between_looks_nothing_is_copied() {
    let mut watch = Watch::default();
    let mut first = None;
    for (at, open) in [(10.0, 10), (10.0, 990), (9.0, 990)] {
        assert_eq!(watch.step(&seen(at, vec![tuple(open, 0)])), []);
        assert_eq!(watch.row().in_use, 10);
        assert!(Arc::ptr_eq(first.get_or_insert_with(|| watch.ports()), &watch.ports()));
    }
    watch.step(&seen(11.0, vec![tuple(11, 0)]));
    assert_eq!((first.unwrap().ports[0].in_use, watch.row().in_use), (10, 11));
}

/// Of 200 destinations with few ports 64 are followed, of 3,000 with some ports 1,024 at most, and of those that are
/// short all.
#[test]
fn of_many_tuples_the_worst_are_followed() {
    // Destinations, how many of them have as many connections, and the fewest that one has.
    let cases = [(200, 20, 0, 64..=64), (3_000, 30, 0, 900..=1_024), (1_024, 1_024, 500, 1_024..=1_024)];
    for (destinations, step, least, expected) in cases {
        let mut watch = Watch::default();
        for at in 0..10_u16 {
            // Each takes one more a second.
            let tuple = |port| TupleObservation { destination_port: port, ..tuple(least + port / step + at, 0) };
            watch.step(&seen(at.into(), (0..destinations).map(tuple).collect()));
        }
        let growths: Vec<_> = watch.ports().ports.iter().filter_map(|row| row.growth_per_second).collect();
        assert!(expected.contains(&growths.len()), "{} of {destinations}", growths.len());
        assert!(growths.iter().all(|growth| (growth - 1.0).abs() < 1e-9) && watch.row().growth_per_second.is_some());
    }
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
                    let [open, held, recyclable] = [(); 3].map(|()| (700.0 * chance.share()) as u16);
                    let row = tuple(open, held);
                tuples.push(TupleObservation { destination_port: port, recyclable, recent: held / 2, ..row });
                }
            }
            let mut seen = seen(at, tuples);
            failures += u64::from(chance.share() < 0.1);
            if failures > 0 {
                seen.failures = vec![failure(failures, at - 0.4, at - 0.2)];
            }
            let alerts = watch.step(&seen);
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
            let fires = |alert: &&Alert| alert.state == AlertState::Firing;
            let firing = |kind| alerts.iter().filter(fires).filter(|alert| alert.kind == kind).count();
            prop_assert!(firing(AlertKind::PortExhaustion) <= 3 && firing(AlertKind::PortAllocationFailed) <= 1);
            before.extend(alerts.into_iter().map(|alert| (alert.id, alert)));
        }
    }
}
