//! Figures and states that operators read, in the simulated world: none is larger than the truth, older than its onset,
//! or stays when its cause is gone.

mod support;

use support::{From, Run, To, Traffic, World, seconds};
use tracker_model::{
    api::{Alert, AlertKind, AlertState, Class, FloodEvidence},
    text::grouped,
};

/// Traffic from one second to another.
fn between(from: f64, to: f64, rate: f64) -> impl Fn(f64) -> f64 {
    move |t| if (from..to).contains(&t) { rate } else { 0.0 }
}

/// The first alert of a kind as it was at a second.
fn at(run: &Run, second: f64, kind: AlertKind) -> Alert {
    let (_, alerts) = run.firing.iter().find(|(at, _)| *at >= second).expect("an observation");
    alerts.iter().find(|alert| alert.kind == kind).unwrap_or_else(|| panic!("no {kind:?}: {alerts:#?}")).clone()
}

fn evidence(alert: &Alert) -> &FloodEvidence {
    alert.evidence.flood().expect("evidence of a flood")
}

#[test]
fn a_surge_ends_when_its_listener_goes_idle() {
    // Four readings a second and one: a host that is busy elsewhere, and one that is quiet.
    for pace in [(0.25, 0.05, 0.01), (1.0, 0.02, 0.0)] {
        let mut world = World::new(1).with(Traffic::clients(between(20.0, 30.0, 1_000.0)));
        world.pace = pace;
        let run = world.run(60.0);
        assert_eq!(run.classes, [Class::None, Class::Surge, Class::None], "{pace:?}");
    }
}

#[test]
fn a_short_burst_on_an_idle_listener_is_no_surge() {
    let run = World::new(1).with(Traffic::clients(between(20.0, 20.2, 400.0))).run(60.0);
    assert_eq!(run.classes, [Class::None], "80 connections within 2 s are 40 a second");
}

/// A listener whose queue is full: nobody accepts, and nobody comes.
fn stuck(waiting: f64) -> World {
    let mut world = World::new(1);
    (world.servers[0].backlog, world.servers[0].accept_queue) = (16, waiting);
    world.servers[0].accepts = Box::new(|t| if t < 40.0 { 0.0 } else { 1e9 });
    world
}

#[test]
fn an_accept_queue_that_is_full_at_the_start_is_slow_though_no_syns_come() {
    let run = stuck(17.0).run(60.0);
    assert_eq!(run.classes, [Class::None, Class::SlowAccept, Class::None]);
    let alert = at(&run, 10.0, AlertKind::AcceptOverflow);
    let said = "192.0.2.1:80 does not accept: accept queue full (17, limit 16); no new connections now; since before \
                tracker started (2026-03-04 02:13:0";
    assert!(alert.summary.starts_with(said), "{}", alert.summary);
    assert!(alert.since_before);
    assert_eq!((run.alerts.len(), run.alerts[0].state), (1, AlertState::Resolved));
}

#[test]
fn an_accept_queue_at_its_limit_takes_one_more_and_is_no_alert() {
    let run = stuck(16.0).run(60.0);
    assert_eq!((run.classes, run.alerts.len()), (vec![Class::None, Class::SlowAccept, Class::None], 0));
}

#[test]
fn connections_that_are_turned_away_are_told_from_their_repeats() {
    let mut world = World::new(1).with(Traffic::clients(between(10.0, 60.0, 10.0)));
    world.servers[0].backlog = 16;
    world.servers[0].accepts = Box::new(|_| 0.0);
    let run = world.run(100.0);
    let alert = at(&run, 50.0, AlertKind::AcceptOverflow);
    let figures = evidence(&alert);
    let new = figures.new_connection_rate.expect("a sample");
    assert!((8.0..12.0).contains(&new) && figures.syn_rate > 2.0 * new, "{new} new of {}", figures.syn_rate);
    assert!(alert.summary.contains(" new connections/s, the rest repeats; since "), "{}", alert.summary);
    let later = at(&run, 95.0, AlertKind::AcceptOverflow);
    // The last clients repeat their SYNs for half a minute and more.
    assert!(evidence(&later).new_connection_rate.expect("a sample") < 0.5, "{}", later.summary);
}

#[test]
fn requests_turned_away_count_from_the_census_that_is_named() {
    let mut world = World::new(1).with(Traffic::clients(between(5.0, 60.0, 50.0)));
    world.servers[0].backlog = 16;
    // It drops some before the incident that counts.
    world.servers[0].accepts = Box::new(|t| if (10.0..12.0).contains(&t) || t > 30.0 { 0.0 } else { 1e9 });
    let run = world.run(50.0);
    let alert = run.alerts.iter().find(|alert| alert.state == AlertState::Firing).expect("it goes on");
    let figures = evidence(alert);
    let since = seconds(figures.dropped_since.expect("a census before the onset"));
    let onset = seconds(alert.since);
    assert!((onset - 6.0..onset + 1.0).contains(&since), "since {since}, onset {onset}");
    // Each SYN or ACK that was turned away is one: no more than what the clients sent since.
    assert!(figures.dropped.expect("known") > 0);
}

#[test]
fn a_scan_is_counted_exactly_and_is_one() {
    for (rate, ports) in [(1_000.0, 500), (20_000.0, 2_000), (20.0, 300)] {
        for seed in 0..5 {
            let to = 30.0 + f64::from(ports) / rate;
            let scan = Traffic::flood(From::One(0xc633_6401), To::Ports(1_000), between(30.0, to, rate));
            let run = World::new(seed).with(scan).run(90.0);
            let [alert] = &run.alerts[..] else { panic!("one alert: {:#?}", run.alerts) };
            let figures = evidence(alert);
            let counted = figures.ports.expect("ports");
            assert!(counted.abs_diff(ports) <= 1, "{counted} of {ports}");
            assert_eq!((figures.syns, figures.pulses), (counted.into(), 0), "each port got one");
            let said = format!(
                "Port scan: {} ports without a listener tried, mostly from 198.51.100.1, ",
                grouped(counted.into())
            );
            assert!(alert.summary.starts_with(&said) && !alert.summary.contains("pause"), "{}", alert.summary);
        }
    }
}

#[test]
fn a_scan_that_follows_a_flood_has_figures_of_its_own() {
    let run = World::new(2)
        .with(Traffic::flood(From::Prefix(0xc612_0000, 16), To::Port(7_777), between(20.0, 28.0, 1_000.0)))
        .with(Traffic::flood(From::One(0xc633_6401), To::Ports(1_000), between(29.0, 31.0, 1_000.0)))
        .run(80.0);
    let scan = run.alerts.iter().find(|alert| alert.kind == AlertKind::PortScan).expect("a scan");
    let figures = evidence(scan);
    assert!((28.0..29.5).contains(&seconds(scan.since)), "{}", scan.summary);
    assert!((1_990..=2_010).contains(&figures.syns), "{}", figures.syns);
    assert!((1_999..=2_001).contains(&figures.ports.expect("ports")), "{:?}", figures.ports);
    assert!(figures.top_sources[0].source == "198.51.100.1" && figures.top_sources[0].share > 0.99, "{figures:#?}");
    assert!(figures.top_prefixes.iter().all(|prefix| !prefix.source.starts_with("198.18.")), "{figures:#?}");
}

#[test]
fn a_scan_beside_a_flood_claims_no_sources() {
    let run = World::new(2)
        .with(Traffic::flood(From::Prefix(0xc612_0000, 16), To::Port(7_777), between(20.0, 50.0, 1_000.0)))
        .with(Traffic::flood(From::One(0xc633_6401), To::Ports(1_000), between(30.0, 34.0, 500.0)))
        .run(80.0);
    let scan = run.alerts.iter().find(|alert| alert.kind == AlertKind::PortScan).expect("a scan");
    let figures = evidence(scan);
    assert_eq!((figures.top_sources.len(), figures.top_prefixes.len()), (0, 0), "{figures:#?}");
    assert!(scan.unknown.iter().any(|unknown| unknown.contains("are counted together")), "{:?}", scan.unknown);
    assert!((1_990..=2_020).contains(&figures.syns), "{}", figures.syns);
}

#[test]
fn a_client_that_completes_handshakes_is_marked_among_the_sources_of_a_flood() {
    let mut client = Traffic::clients(|_| 125.0);
    client.from = From::One(0x0a5b_0001);
    let flood = Traffic::flood(From::Anywhere, To::Listener(0), between(30.0, 60.0, 3_000.0));
    let run = World::new(1).with(flood).with(client).run(50.0);
    let alert = at(&run, 45.0, AlertKind::SynFlood);
    let figures = evidence(&alert);
    let first = &figures.top_sources[0];
    assert!(first.source == "10.91.0.1" && first.completes, "{:#?}", figures.top_sources);
    for share in figures.top_sources.iter().chain(&figures.top_prefixes) {
        assert!(share.share > share.error, "{share}");
        assert!(share.completes == share.source.starts_with("10.91."), "{share}");
    }
    assert!(alert.facts.iter().any(|fact| fact.label == "sources"
        && format!("{:?}", fact.value).contains("10.91.0.1 ")
        && format!("{:?}", fact.value).contains("(completes handshakes)")));
}

#[test]
fn what_clients_complete_is_not_unanswered() {
    let flood = Traffic::flood(From::Anywhere, To::Listener(0), between(30.0, 60.0, 3_000.0));
    let run = World::new(1).with(flood).with(Traffic::clients(|_| 100.0)).run(80.0);
    for (second, alert) in run.firing.iter().filter_map(|(at, alerts)| Some((*at, alerts.first()?))) {
        let figures = evidence(alert);
        let not_completed = figures.syn_rate - figures.completed_rate;
        assert!(figures.unanswered_rate <= not_completed + 1e-6, "{second}: {figures:#?}");
        let said = ["96 % unanswered", "97 % unanswered"].iter().any(|said| alert.summary.contains(said));
        assert!(second < 33.0 || said, "{second}: {}", alert.summary);
    }
    let over = &run.alerts[0];
    assert_eq!(over.state, AlertState::Resolved);
    assert!(over.summary.contains("97 % unanswered"), "{}", over.summary);
}

#[test]
fn a_flood_that_is_on_when_the_daemon_starts_began_before() {
    for (from, before) in [(0.0, true), (5.0, false)] {
        let flood = Traffic::flood(From::Anywhere, To::Listener(0), move |t| if t >= from { 2_000.0 } else { 0.0 });
        let run = World::new(1).with(flood).run(20.0);
        let [alert] = &run.alerts[..] else { panic!("one alert: {:#?}", run.alerts) };
        assert_eq!(alert.since_before, before, "{}", alert.summary);
        assert_eq!(alert.summary.contains("since before tracker started ("), before, "{}", alert.summary);
    }
}

#[test]
fn verdict_and_alert_have_the_same_onset() {
    let flood = Traffic::flood(From::Anywhere, To::Listener(0), between(30.0, 60.0, 1_000.0));
    let run = World::new(1).with(flood).run(50.0);
    let verdict = run.verdict.expect("a verdict");
    assert_eq!((verdict.class, verdict.since), (Class::Spoofed, Some(run.alerts[0].since)));
}

#[test]
fn two_prefixes_that_hold_a_flood_are_named() {
    let halves = [0xc612_0000, 0xc613_0000];
    let mut world = World::new(1);
    for half in halves {
        world = world.with(Traffic::flood(From::Prefix(half, 16), To::Listener(0), between(30.0, 60.0, 1_500.0)));
    }
    let run = world.run(45.0);
    let alert = at(&run, 40.0, AlertKind::SynFlood);
    assert_eq!(alert.class, Some(Class::Spoofed));
    assert!(alert.summary.contains("all over (forged or a botnet)"), "{}", alert.summary);
    let advice = &alert.advice;
    assert!(advice.contains(" % of the SYNs come from ") && advice.contains(" tcp dport 80 drop"), "{advice}");
    assert!(advice.contains("198.18.0.0/16") && advice.contains("198.19.0.0/16"), "{advice}");
}
