//! Ports that not all sockets can choose from: ranges that sockets set for themselves, UDP, and what `bind()` chooses.

use tracker_detect::ports::{
    PortSet, PortsObservation, RangeObservation, SourceObservation, TupleObservation, is_short,
};
use tracker_model::{
    api::{Alert, AlertKind, AlertState, PortFailure, PortHolder, PortPool, PortRange, PortUse, Severity},
    explain::Protocol,
};

use crate::support::{Watch, evidence, failure, seen, tuple, wall};

const OWN: PortRange = PortRange { low: 40_200, high: 40_299 };

/// A tuple with `open` connections, of which `inside` lie in [`OWN`], which `sockets` have set.
fn ranged(open: u16, inside: u16, sockets: u16) -> TupleObservation {
    let within = TupleObservation { processes: vec![holder(9, "fetch", inside.into())], ..tuple(inside, 0) };
    let ranges = vec![RangeObservation { range: OWN, sockets, within }];
    TupleObservation { ranges, all_ranged: open == sockets, ..tuple(open, 0) }
}

fn holder(pid: u32, comm: &str, ports: u32) -> PortHolder {
    PortHolder { pid, comm: comm.to_owned(), ports }
}

/// Range, ports in use, capacity, sockets that have set the range, failed calls.
fn figures(row: &PortUse) -> (Option<PortRange>, u32, u32, u32, u64) {
    (row.local_port_range, row.in_use, row.capacity, row.range_sockets, row.failures)
}

fn rows(change: impl FnOnce(&mut PortsObservation)) -> Vec<(Option<PortRange>, u32, u32, u32, u64)> {
    let (mut watch, mut seen) = (Watch::default(), seen(10.0, vec![ranged(500, 60, 40)]));
    change(&mut seen);
    watch.step(&seen);
    watch.ports().ports.iter().map(figures).collect()
}

#[test]
fn a_range_has_its_own_ports_and_they_are_part_of_all() {
    assert_eq!(rows(|_| {}), [(Some(OWN), 60, 100, 40, 0), (None, 500, 1_000, 0, 0)]);
    assert_eq!(rows(|seen| seen.tuples = vec![ranged(40, 40, 40)]), [(Some(OWN), 40, 100, 40, 0)]);
    // What is reserved or bound by others there is out of it; what these bound is theirs.
    let taken = |seen: &mut PortsObservation| {
        seen.settings.reserved = "40190-40209".parse().unwrap();
        seen.bound = "40220-40229,40500".parse().unwrap();
        seen.tuples[0].ranges[0].within.bound = 3;
    };
    assert_eq!(rows(taken)[0], (Some(OWN), 60, 83, 40, 0));
    // No socket of the tuple lies in it any more.
    assert_eq!(rows(|seen| seen.tuples = vec![ranged(500, 0, 0)]), [(None, 500, 1_000, 0, 0)]);
}

#[test]
fn failed_calls_are_those_of_the_range_that_the_socket_had() {
    let own = PortFailure { local_port_range: Some(OWN), ..failure(4, 9.0, 9.5) };
    let of_both = |seen: &mut PortsObservation| seen.failures = vec![own.clone(), failure(2, 9.0, 9.5)];
    assert_eq!(rows(of_both), [(Some(OWN), 60, 100, 40, 4), (None, 500, 1_000, 0, 2)]);
    // Of a range that no census lists, at least the capacity is known.
    let mut watch = Watch::default();
    let alerts = watch.step(&PortsObservation { failures: vec![own], ..seen(10.0, Vec::new()) });
    let [alert] = &alerts[..] else { panic!("one alert: {alerts:#?}") };
    assert_eq!((alert.kind, alert.subject.local_port_range), (AlertKind::PortAllocationFailed, Some(OWN)));
    assert_eq!((evidence(alert).capacity, evidence(alert).in_use), (100, None));
    let head = "connect() to 192.0.2.7:443 from 10.0.0.5 found no free local port among 40200-40299 \
                (IP_LOCAL_PORT_RANGE): 4 calls failed";
    assert!(alert.summary.starts_with(head), "{}", alert.summary);
}

#[test]
fn a_range_of_the_sockets_own_is_called_before_it_is_full() {
    // Seven a second beside 100 connections of others, which are no trouble.
    let (mut watch, mut onsets) = (Watch::default(), [None; 2]);
    let mut alerts: Vec<Alert> = Vec::new();
    for second in 0_u16..14 {
        let own = 7 * second;
        alerts = watch.step(&seen(second.into(), vec![ranged(100 + own, own, own)]));
        for (onset, severity) in onsets.iter_mut().zip([Severity::Warning, Severity::Critical]) {
            *onset = onset.or(alerts.iter().any(|alert| alert.severity >= severity).then_some(own));
        }
    }
    assert_eq!(onsets, [Some(28), Some(56)]);
    let [alert] = &alerts[..] else { panic!("one alert: {alerts:#?}") };
    assert_eq!((alert.kind, alert.subject.local_port_range), (AlertKind::PortExhaustion, Some(OWN)));
    assert_eq!(alert.subject.process.as_ref().map(|process| process.pid), Some(9));
    assert!((evidence(alert).growth_per_second.unwrap() - 7.0).abs() < 0.1);
    let head = "Local ports 40200-40299 (IP_LOCAL_PORT_RANGE) from 10.0.0.5 to 192.0.2.7:443 run out: 91 of 100 used";
    assert!(alert.summary.starts_with(head), "{}", alert.summary);
    assert_eq!(alert.about(), "10.0.0.5 -> 192.0.2.7:443 (ports 40200-40299) fetch(9)");
    let advice = "Widen the range that the sockets set for themselves in fetch (pid 9): IP_LOCAL_PORT_RANGE \
                  40200-40299 has 100 ports.";
    assert!(alert.advice.contains(advice) && !alert.advice.contains("sysctl"), "{}", alert.advice);
}

/// A look at UDP sockets on the first ports of the range, `ipv4` of which are in the way of IPv4.
fn udp(at: u16, ports: u16, ipv4: u16) -> PortsObservation {
    let mut seen = seen(at.into(), Vec::new());
    let all = |ports: u16| (40_000..40_000 + ports).chain([53]).collect::<PortSet>();
    (seen.udp.sockets, seen.udp.ephemeral) = (u64::from(ports) + 1, ports.into());
    (seen.udp.ports, seen.udp.ipv4_ports) = (all(ports), all(ipv4));
    seen.udp.processes = vec![holder(53, "unbound", ports.into())];
    seen
}

#[test]
fn udp_ports_that_run_out_are_called_with_the_process_and_the_time() {
    let (mut watch, mut onset) = (Watch::default(), None);
    let mut alerts = Vec::new();
    for second in 0..24 {
        alerts = watch.step(&udp(second, 40 * second, 40 * second));
        onset = onset.or((!alerts.is_empty()).then_some(second));
    }
    assert_eq!(onset, Some(7), "a quarter, with less than five minutes to go");
    let [alert] = &alerts[..] else { panic!("one alert: {alerts:#?}") };
    assert_eq!((alert.kind, alert.severity), (AlertKind::PortExhaustion, Severity::Critical));
    assert_eq!((alert.subject.protocol, alert.subject.source), (Some(Protocol::Udp), None));
    let figures = evidence(alert);
    assert_eq!((figures.pool, figures.in_use, figures.capacity), (PortPool::Udp, Some(920), 1_000));
    assert!((figures.growth_per_second.unwrap() - 40.0).abs() < 1e-6);
    assert!((figures.full_in_seconds.unwrap() - 2.0).abs() < 1e-6);
    let head = "UDP ports run out: 920 of 1,000 used (92 %), full in 2 s; most held by unbound (pid 53); since ";
    assert!(alert.summary.starts_with(head), "{}", alert.summary);
    assert_eq!(alert.about(), "UDP port 0 unbound(53)");
    assert!(alert.advice.starts_with("Close UDP sockets that are idle or leaked: unbound (pid 53) holds 920."));
    assert!(watch.model.is_hot());
    for second in 24..60 {
        alerts = watch.step(&udp(second, 10, 10));
    }
    assert_eq!((alerts[0].state, alerts[0].until), (AlertState::Resolved, Some(wall(23.0))));
    assert!(!watch.model.is_hot());
}

#[test]
fn udp_ports_of_ipv6_sockets_alone_are_called_so() {
    let alerts = Watch::default().step(&udp(1, 1_000, 20));
    let head = "UDP ports of IPv6 sockets are gone: 1,000 of 1,000 used (100 %); most held by unbound (pid 53)";
    assert!(alerts[0].summary.starts_with(head), "{}", alerts[0].summary);
    assert_eq!(evidence(&alerts[0]).ipv4_in_use, Some(20));
    assert_eq!(Watch::default().step(&udp(1, 300, 300)), [], "a third in one step is no growth");
    assert!(is_short(&udp(1, 200, 0)) && !is_short(&udp(1, 199, 199)));
    assert!(is_short(&seen(1.0, vec![ranged(100, 20, 20)])) && !is_short(&seen(1.0, vec![ranged(100, 19, 19)])));
    assert_eq!(Watch::default().step(&udp(1, 0, 0)), []);
}

#[test]
fn the_pool_of_bind_is_foreseen_when_bind_takes_it() {
    let mut watch = Watch::default();
    let mut look = |at: u16, bound: bool| {
        let ports: PortSet = (40_000..40_000 + 30 * at).collect();
        let mut seen = seen(at.into(), Vec::new());
        seen.bound = if bound { ports.clone() } else { PortSet::default() };
        seen.sources = vec![SourceObservation { address: "10.0.0.5".parse().unwrap(), ports }];
        let alerts = watch.step(&seen);
        (alerts.len(), watch.ports().bind_pools[0].full_in_seconds)
    };
    // What connect() takes is counted by destination.
    assert_eq!((0..6).map(|at| look(at, false)).last(), Some((0, None)));
    let (alerts, full) = (6..16).map(|at| look(at, true)).last().unwrap();
    assert_eq!(alerts, 1, "450 of 1,000, with 18 s to go");
    assert!((full.unwrap() - 550.0 / 30.0).abs() < 0.1, "{full:?}");
}
