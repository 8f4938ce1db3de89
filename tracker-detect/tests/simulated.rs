//! The cases of docs/detection.md in a simulated world: floods are called in time, with the right class, once, and end;
//! legitimate load is never called one.

mod support;

use support::{From, Run, Server, To, Traffic, World, seconds};
use tracker_detect::alert::AlertStore;
use tracker_detect::syn::Sensitivity;
use tracker_detect::syn_flood::SynFlood;
use tracker_model::api::{AlertKind, AlertState, Class};

/// A flood of `rate` SYNs per second from second 30 to second 45.
fn flood(from: From, to: To, rate: f64) -> Traffic {
    Traffic::flood(from, to, move |t| if (30.0..45.0).contains(&t) { rate } else { 0.0 })
}

fn one(class: Class, run: &Run) {
    let floods = run.floods();
    assert_eq!(floods.len(), 1, "one incident: {floods:#?}");
    let flood = floods[0];
    assert_eq!(flood.class, Some(class), "{}", flood.summary);
    assert_eq!(flood.state, AlertState::Resolved, "{}", flood.summary);
}

/// Runs a case with several seeds: time to call it, class, rate, sources, end.
fn called(class: Class, rate: f64, world: impl Fn(u64) -> World) {
    let mut times = Vec::new();
    for seed in 0..11 {
        let run = world(seed).run(60.0);
        one(class, &run);
        let flood = run.floods()[0];
        times.push(run.called.unwrap() - 30.0);
        let over = run.over.unwrap() - 45.0;
        assert!((0.0..10.0).contains(&over), "end called after {over} s");
        let (since, until) = (seconds(flood.since) - 30.0, seconds(flood.until.unwrap()) - 45.0);
        assert!(since.abs() < 0.5, "since {since}");
        assert!(until.abs() < 1.05, "until {until}");
        let seen = flood.evidence.flood().unwrap().syn_rate;
        assert!((seen / rate - 1.0).abs() < 0.02, "rate {seen} of {rate}");
    }
    times.sort_by(f64::total_cmp);
    println!("{rate}/s called after {times:.2?} s");
    assert!(times[5] < 1.5, "median {}", times[5]);
    assert!(times[10] < 3.0, "worst {}", times[10]);
}

#[test]
fn spoofed_floods_of_any_rate() {
    for rate in [500.0, 5_000.0, 300_000.0] {
        called(Class::Spoofed, rate, |seed| World::new(seed).with(flood(From::Anywhere, To::Listener(0), rate)));
    }
}

#[test]
fn floods_of_a_listener_that_nothing_is_known_of() {
    called(Class::Spoofed, 500.0, |seed| {
        let mut world = World::new(seed).with(flood(From::Anywhere, To::Listener(0), 500.0));
        world.servers[0].handshake_p95_us = None;
        world
    });
}

#[test]
fn floods_beside_clients() {
    for clients in [50.0, 200.0] {
        called(Class::Spoofed, 500.0 + clients, |seed| {
            World::new(seed)
                .with(flood(From::Anywhere, To::Listener(0), 500.0))
                .with(Traffic::clients(move |_| clients))
        });
    }
}

#[test]
fn prefixes_and_single_sources() {
    for (class, from) in [
        (Class::SingleSource, From::One(0xc633_6401)),
        (Class::Prefix, From::Prefix(0xc633_6400, 24)),
        (Class::Prefix, From::Prefix(0xc633_0000, 16)),
        (Class::Prefix, From::Six),
    ] {
        called(class, 1_050.0, |seed| {
            World::new(seed).with(flood(from, To::Listener(0), 1_000.0)).with(Traffic::clients(|_| 50.0))
        });
    }
}

#[test]
fn distinct_sources_are_told() {
    for (from, expected, said) in [
        (From::Anywhere, 75_000.0, "addresses all over (forged or a botnet), 100 % unanswered"),
        (From::Prefix(0xc633_0000, 16), 44_700.0, "addresses in 198.51.0.0/16, 100 % unanswered"),
    ] {
        let run = World::new(3).with(flood(from, To::Listener(0), 5_000.0)).run(60.0);
        let flood = run.floods()[0];
        assert!(flood.summary.starts_with("SYN flood of 192.0.2.1:80: 5,000 SYN/s from about "), "{}", flood.summary);
        assert!(flood.summary.contains(said), "{}", flood.summary);
        assert!(flood.advice.contains("with them real clients still get through"), "{}", flood.advice);
        let evidence = flood.evidence.flood().unwrap();
        let off = evidence.distinct_sources / expected - 1.0;
        assert!(off.abs() < 0.05, "{} of {expected}", evidence.distinct_sources);
        assert!((75_000..75_100).contains(&evidence.syns), "{}", evidence.syns);
    }
}

#[test]
fn a_flood_without_cookies_starves_clients_and_is_called() {
    let mut world =
        World::new(1).with(flood(From::Anywhere, To::Listener(0), 1_000.0)).with(Traffic::clients(|_| 100.0));
    world.servers[0].cookies = false;
    let run = world.run(130.0);
    one(Class::Spoofed, &run);
    assert!(run.floods()[0].advice.contains(" SYNs dropped): sysctl net.ipv4.tcp_syncookies=1"));
    assert!(run.called.unwrap() < 32.0);
}

#[test]
fn a_pulse_train_is_one_incident() {
    let pulse = |t: f64| if t > 30.0 && t % 20.0 < 3.0 { 500.0 } else { 0.0 };
    let run = World::new(1)
        .with(Traffic::flood(From::Anywhere, To::Listener(0), pulse))
        .with(Traffic::clients(|_| 50.0))
        .run(135.0);
    one(Class::Spoofed, &run);
    assert_eq!(run.floods()[0].evidence.flood().unwrap().pulses, 4);
    assert!((seconds(run.floods()[0].since) - 40.0).abs() < 0.5);
}

#[test]
fn a_flood_that_rises_is_called_while_it_is_small() {
    let rate = |t: f64| if (30.0..150.0).contains(&t) { 10.0 * 1.05_f64.powf(t - 30.0) } else { 0.0 };
    let run = World::new(1)
        .with(Traffic::flood(From::Anywhere, To::Listener(0), rate))
        .with(Traffic::clients(|_| 50.0))
        .run(165.0);
    one(Class::Spoofed, &run);
    let called = run.called.unwrap();
    assert!(rate(called) < 100.0, "{}", rate(called));
}

#[test]
fn two_listeners_at_once_are_two_incidents() {
    let mut world = World::new(1).with(flood(From::Anywhere, To::Listener(0), 500.0)).with(flood(
        From::One(0xc633_6401),
        To::Listener(1),
        2_000.0,
    ));
    world.servers.push(Server::new(443));
    let run = world.run(60.0);
    let mut floods: Vec<_> = run.floods().iter().map(|alert| (alert.subject.port.unwrap(), alert.class)).collect();
    floods.sort_unstable();
    assert_eq!(floods, [(80, Some(Class::Spoofed)), (443, Some(Class::SingleSource))]);
}

#[test]
fn a_flood_of_a_port_without_a_listener() {
    for (class, from) in [(Class::Spoofed, From::Anywhere), (Class::SingleSource, From::One(0xc633_6401))] {
        for rate in [500.0, 50_000.0] {
            called(class, rate, |seed| World::new(seed).with(flood(from, To::Port(81), rate)));
        }
    }
}

#[test]
fn a_listener_that_vanishes_in_mid_flood_is_no_end() {
    let mut world = World::new(1).with(flood(From::Anywhere, To::Listener(0), 1_000.0));
    world.servers[0].open = Box::new(|t| !(35.0..40.0).contains(&t));
    let run = world.run(60.0);
    one(Class::Spoofed, &run);
    let flood = run.floods()[0];
    assert_eq!(flood.evidence.flood().unwrap().pulses, 0);
    assert!(flood.unknown[0].starts_with("the listener closed at 2026-03-04 02:13:35 UTC"), "{:?}", flood.unknown);
    assert!((seconds(flood.until.unwrap()) - 45.0).abs() < 1.0);
}

#[test]
fn syns_to_the_port_of_two_listeners_that_close_are_counted_once() {
    let mut world = World::new(1);
    world.servers.push(Server::at("::", 80));
    for (index, server) in world.servers.iter_mut().enumerate() {
        server.open = Box::new(|t| t < 35.0);
        world.traffic.push(flood(From::Anywhere, To::Listener(index), 1_000.0));
    }
    let run = world.run(60.0);
    let (counted, sent) = (run.floods().iter().map(|alert| alert.evidence.flood().unwrap().syns).sum::<u64>(), 30_000);
    assert_eq!(run.floods().len(), 2);
    assert!((sent * 9 / 10..=sent).contains(&counted), "{counted} of {sent}");
}

#[test]
fn a_census_that_fails_delays_no_alarm() {
    let mut world = World::new(1).with(flood(From::Anywhere, To::Listener(0), 500.0));
    world.census_fails = true;
    let run = world.run(60.0);
    one(Class::Spoofed, &run);
    assert!(run.called.unwrap() < 32.5);
    assert!(run.floods()[0].unknown.iter().any(|unknown| unknown.contains("permission denied")));
}

#[test]
fn a_slow_flood_that_keeps_the_syn_queue_full_is_called() {
    let mut world = World::new(1)
        .with(Traffic::flood(From::Anywhere, To::Listener(0), |t| if (30.0..90.0).contains(&t) { 8.0 } else { 0.0 }));
    (world.servers[0].backlog, world.servers[0].cookies) = (128, false);
    let run = world.run(120.0);
    one(Class::Spoofed, &run);
    assert!(run.called.unwrap() < 60.0, "{:?}", run.called);
    assert!(run.over.unwrap() < 100.0);
}

#[test]
fn gaps_clock_jumps_and_counters_that_fall_are_no_end() {
    let mut observations = World::new(1).with(flood(From::Anywhere, To::Listener(0), 1_000.0)).run(60.0).observations;
    let second = |observation: &tracker_detect::syn::SynObservation| observation.at.as_secs_f64();
    observations.retain(|observation| !(33.0..40.0).contains(&second(observation)));
    for observation in &mut observations {
        let at = second(observation);
        if at > 41.0 {
            observation.wall -= jiff::SignedDuration::from_hours(5);
        }
        if at > 42.0 {
            let seen = &mut observation.listeners[0];
            (seen.syns, seen.completed) = (seen.syns - 11_000, 0);
        }
    }
    let mut detector = SynFlood::new(Sensitivity::Medium, AlertStore::default());
    for observation in &observations {
        detector.step(observation);
        let (at, alerts) = (second(observation), detector.alerts());
        assert!(alerts.len() <= 1);
        if (31.8..45.0).contains(&at) {
            assert_eq!(alerts[0].state, AlertState::Firing, "at {at}");
        }
        assert!(at < 55.0 || alerts[0].state == AlertState::Resolved);
    }
    let alert = &detector.alerts()[0];
    assert_eq!((alert.class, alert.evidence.flood().unwrap().pulses), (Some(Class::Spoofed), 0));
    assert!(alert.until >= Some(alert.since));
    assert!(alert.unknown[0].starts_with("nothing was observed from 2026-03-04 02:13:3"), "{:?}", alert.unknown);
    assert!(alert.unknown[1].starts_with("the listener's counters began again"), "{:?}", alert.unknown);
}

/// Legitimate load for `seconds`.
fn legitimate(seconds: f64, may: &[Class], world: impl Fn(u64) -> World) -> Run {
    let mut last = None;
    for seed in 0..3 {
        let run = world(seed).run(seconds);
        assert!(run.floods().is_empty(), "{:#?}", run.floods());
        for class in run.classes.iter().chain(&run.refused_classes) {
            assert!(*class == Class::None || may.contains(class), "{class:?}");
        }
        last = Some(run);
    }
    last.unwrap()
}

#[test]
fn a_surge_is_a_surge() {
    let run = legitimate(90.0, &[Class::Surge], |seed| {
        World::new(seed).with(Traffic::clients(|t| if (20.0..60.0).contains(&t) { 10_000.0 } else { 0.0 }))
    });
    assert_eq!(run.classes, [Class::None, Class::Surge, Class::None]);
    assert!(run.alerts.is_empty());
}

#[test]
fn a_restart_under_load() {
    legitimate(120.0, &[Class::Surge, Class::SlowAccept], |seed| {
        let mut world = World::new(seed).with(Traffic::clients(|_| 2_000.0));
        world.servers[0].open = Box::new(|t| !(40.0..45.0).contains(&t));
        world
    });
}

#[test]
fn a_client_pool_that_opens_2000_connections_at_once() {
    for (backlog, accepts) in [(128, 1e9), (128, 300.0), (511, 2_000.0)] {
        legitimate(120.0, &[Class::Surge, Class::SlowAccept], |seed| {
            let mut world =
                World::new(seed).with(Traffic::clients(|t| if (40.0..40.02).contains(&t) { 100_000.0 } else { 10.0 }));
            world.servers[0].backlog = backlog;
            world.servers[0].accepts = Box::new(move |_| accepts);
            world
        });
    }
}

#[test]
fn a_slow_and_lossy_network() {
    for p95 in [None, Some(310_000), Some(1_310_000)] {
        legitimate(600.0, &[Class::Surge], |seed| {
            let mut clients = Traffic::clients(|t| if t > 10.0 { 300.0 } else { 0.0 });
            (clients.client, clients.loss) = (Some(0.3), 0.02);
            let mut world = World::new(seed).with(clients);
            world.servers[0].handshake_p95_us = p95;
            world
        });
    }
}

#[test]
fn health_checks_that_never_complete() {
    let run = legitimate(600.0, &[], |seed| {
        let mut checks = Traffic::flood(From::One(0x0a00_0001), To::Listener(0), |_| 20.0);
        checks.resets = true;
        World::new(seed).with(checks)
    });
    assert!(run.alerts.is_empty());
}

#[test]
fn a_port_scan_is_a_scan() {
    for rate in [20.0, 1_000.0, 20_000.0] {
        let run = legitimate(60.0, &[Class::Scan, Class::Surge], |seed| {
            World::new(seed)
                .with(flood(From::One(0xc633_6401), To::Ports(1_000), rate))
                .with(Traffic::clients(|_| 100.0))
        });
        assert_eq!(run.refused_classes, [Class::None, Class::Scan, Class::None]);
        let alert = &run.alerts[0];
        assert_eq!((alert.kind, alert.state, run.alerts.len()), (AlertKind::PortScan, AlertState::Resolved, 1));
        let said = "ports without a listener tried, mostly from 198.51.100.1, ";
        assert!(alert.summary.starts_with("Port scan: ") && alert.summary.contains(said), "{}", alert.summary);
    }
}

#[test]
fn a_dead_service_whose_clients_try_again_is_no_scan_and_no_flood() {
    legitimate(120.0, &[], |seed| {
        let mut world = World::new(seed).with(Traffic::clients(|t| if t < 60.0 { 100.0 } else { 0.0 }));
        world.servers[0].open = Box::new(|t| t < 30.0);
        world
    });
}

#[test]
fn an_application_that_stops_accepting_is_slow() {
    for rate in [10.0, 100.0, 1_000.0] {
        let run = legitimate(180.0, &[Class::Surge, Class::SlowAccept], |seed| {
            let mut world = World::new(seed).with(Traffic::clients(move |_| rate));
            world.servers[0].backlog = 128;
            world.servers[0].accepts = Box::new(|t| if (30.0..80.0).contains(&t) { 0.0 } else { 1e9 });
            world
        });
        assert!(run.classes.contains(&Class::SlowAccept), "{rate}/s");
        assert_eq!(run.alerts.len(), 1, "{:#?}", run.alerts);
        let alert = &run.alerts[0];
        assert_eq!((alert.kind, alert.state), (AlertKind::AcceptOverflow, AlertState::Resolved));
        let evidence = alert.evidence.flood().unwrap();
        assert_eq!((evidence.accept_queue, evidence.accept_queue_max), (Some(129), Some(128)));
        let said = "192.0.2.1:80 accepted too slowly: accept queue full (129, limit 128); ";
        assert!(alert.summary.starts_with(said) && alert.advice.contains("backlog of 128"), "{}", alert.summary);
    }
}
