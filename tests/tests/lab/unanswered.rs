//! What is unanswered, and what only looks so: late speakers, probes, real floods beside them.

use std::{
    net::{SocketAddr, TcpListener},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use nix::sys::{signal::Signal, socket::setsockopt};
use tracker_model::api::{AlertKind, AlertState, Class};
use tracker_tests::{
    Family,
    daemon::Daemon,
    detection::lab::{Lab, api, clients},
    flood::{Flood, Pace, Running, Sources},
    load_clients::{self, Behaviour, Plan},
    serial,
    server::{ListenOptions, listen},
    sink::{OnClose, Sink},
};

use crate::support::{DeferAccept, counted, wildcard};

/// A flood must be called within this time.
const CALLED_WITHIN: Duration = Duration::from_secs(2);

fn start(lab: &Lab, target: SocketAddr, rate: f64, behaviour: Behaviour) -> Result<load_clients::Running> {
    let family = if target.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
    Plan { behaviour, ..Plan::requests(vec![target], clients(family, 16), rate) }.start(&lab.pair.client)
}

/// Half-open health checks: SYNs from two addresses of the client's, whose kernel answers the SYN-ACKs with resets.
fn probes(lab: &Lab, family: Family, target: SocketAddr) -> Result<Running> {
    let sources = Sources::Each(clients(family, 2));
    Flood::syns(target, sources, Pace::Steady(60.0), Duration::from_secs(30)).start(&lab.pair.client, lab.route())
}

fn quiet(daemon: &Daemon<'_>, lasting: Duration) -> Result<()> {
    thread::sleep(lasting);
    let alerts = api(daemon).alerts()?.answer.alerts;
    ensure!(alerts.is_empty(), "an alarm on healthy traffic: {alerts:#?}");
    Ok(())
}

/// A flood of 500/s from everywhere is called in time, and as one of this port.
fn flood_is_called(lab: &Lab, daemon: &Daemon<'_>, target: SocketAddr) -> Result<()> {
    let family = if target.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
    let flood = Flood::syns(target, Sources::Everywhere(family), Pace::Steady(500.0), Duration::from_secs(20));
    let flood = flood.start(&lab.pair.client, lab.route())?;
    let begun = Instant::now();
    loop {
        let alerts = api(daemon).alerts()?.answer.alerts;
        if let [alert] = &alerts[..] {
            assert_eq!((alert.kind, alert.state), (AlertKind::SynFlood, AlertState::Firing), "{alert:#?}");
            assert_eq!(alert.class, Some(Class::Spoofed), "{alert:#?}");
            assert_eq!(alert.subject.port, Some(target.port()), "{alert:#?}");
            break;
        }
        ensure!(alerts.is_empty() && begun.elapsed() < CALLED_WITHIN, "not within {CALLED_WITHIN:?}: {alerts:#?}");
        thread::sleep(Duration::from_millis(20));
    }
    flood.stop().map(drop)
}

#[test]
fn clients_that_speak_late_are_no_flood() -> Result<()> {
    let _alone = serial::alone();
    for family in Family::BOTH {
        let lab = Lab::new(1, 0)?;
        let listener = listen(&lab.pair.server, wildcard(family, 80), ListenOptions::default())?;
        defer_accept(&listener)?;
        let _server = Sink::on(&lab.pair.server, listener, OnClose::Answer)?;
        let daemon = Daemon::start(&lab.pair.server)?;
        let target = lab.target(family, 80);
        let late = start(&lab, target, 150.0, Behaviour::Late(Duration::from_secs(2)))?;
        quiet(&daemon, Duration::from_secs(8))?;
        let seen = counted(&daemon, wildcard(family, 80))?;
        let waiting = seen.queues.map_or(0, |queues| queues.waiting_for_data);
        assert!((200..400).contains(&waiting), "150/s for 2 s: {seen:#?}");
        assert!(seen.handshakes_unanswered < 20, "{seen:#?}");
        flood_is_called(&lab, &daemon, target)?;
        let seen = late.stop()?;
        assert_eq!(seen.done, seen.attempted, "{seen:?}");
        daemon.stop(Signal::SIGTERM)?;
    }
    Ok(())
}

fn defer_accept(listener: &TcpListener) -> Result<()> {
    // Longer than the clients take to speak.
    Ok(setsockopt(listener, DeferAccept, &10)?)
}

#[test]
fn half_open_health_checks_are_no_flood() -> Result<()> {
    let _alone = serial::alone();
    for family in Family::BOTH {
        let lab = Lab::new(1, 1)?;
        let target = lab.target(family, Lab::port(0));
        let daemon = lab.daemon(None)?;
        let clients = start(&lab, target, 100.0, Behaviour::Request)?;
        let probes = probes(&lab, family, target)?;
        quiet(&daemon, Duration::from_secs(8))?;
        let seen = counted(&daemon, wildcard(family, target.port()))?;
        assert!(seen.syns_aborted > 400, "60/s for 8 s: {seen:#?}");
        assert!(seen.handshakes_unanswered < 20, "{seen:#?}");
        flood_is_called(&lab, &daemon, target)?;
        probes.stop()?;
        drop(clients);
        daemon.stop(Signal::SIGTERM)?;
    }
    Ok(())
}

#[test]
fn probes_by_ordinary_sockets_are_no_flood() -> Result<()> {
    let _alone = serial::alone();
    for family in Family::BOTH {
        let lab = Lab::new(1, 1)?;
        let target = lab.target(family, Lab::port(0));
        let daemon = lab.daemon(None)?;
        let probes = start(&lab, target, 60.0, Behaviour::Probe)?;
        quiet(&daemon, Duration::from_secs(8))?;
        let seen = counted(&daemon, wildcard(family, target.port()))?;
        let ended = seen.syns_aborted + seen.handshakes_completed;
        assert!(ended > 400 && seen.handshakes_unanswered < 20, "{seen:#?}");
        let resets = lab.pair.server.counter("TcpExt", "EmbryonicRsts")?;
        assert!(seen.syns_aborted <= resets && seen.syns_aborted + 5 >= resets, "of {resets}: {seen:#?}");
        flood_is_called(&lab, &daemon, target)?;
        drop(probes);
        daemon.stop(Signal::SIGTERM)?;
    }
    Ok(())
}

/// Resets that the kernel does not take, here for their sequence number, do not hide a flood.
#[test]
fn a_flood_with_resets_is_a_flood() -> Result<()> {
    let _alone = serial::alone();
    let lab = Lab::new(1, 1)?;
    let target = lab.target(Family::Ipv4, Lab::port(0));
    let daemon = lab.daemon(None)?;
    let sources = Sources::Everywhere(Family::Ipv4);
    let resets = Flood {
        kind: tracker_tests::flood::Kind::Rst,
        ..Flood::syns(target, sources, Pace::Steady(500.0), Duration::from_secs(20))
    };
    let resets = resets.start(&lab.pair.client, lab.route())?;
    flood_is_called(&lab, &daemon, target)?;
    resets.stop()?;
    daemon.stop(Signal::SIGTERM)
}

/// As a recursive fetch or a benchmark makes them: one after the other, all whole.
#[test]
fn many_connections_one_after_the_other_are_no_flood() -> Result<()> {
    let _alone = serial::alone();
    for family in Family::BOTH {
        let lab = Lab::new(1, 1)?;
        let target = lab.target(family, Lab::port(0));
        let daemon = lab.daemon(None)?;
        let plan = Plan::requests(vec![target], Vec::new(), 1.0);
        let running = Plan { pace: Pace::Fastest, at_once: 1, ..plan }.start(&lab.pair.client)?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while running.attempted() < 5_000 && Instant::now() < deadline {
            quiet(&daemon, Duration::from_millis(100))?;
        }
        let seen = running.stop()?;
        assert!(seen.attempted >= 5_000 && seen.done == seen.attempted, "{seen:?}");
        quiet(&daemon, Duration::from_secs(2))?;
        daemon.stop(Signal::SIGTERM)?;
    }
    Ok(())
}

#[test]
fn a_flood_during_a_surge_is_called() -> Result<()> {
    let _alone = serial::alone();
    for family in Family::BOTH {
        let lab = Lab::new(1, 1)?;
        let target = lab.target(family, Lab::port(0));
        let daemon = lab.daemon(None)?;
        let usual = start(&lab, target, 20.0, Behaviour::Request)?;
        quiet(&daemon, Duration::from_secs(4))?;
        let surge = start(&lab, target, 600.0, Behaviour::Request)?;
        quiet(&daemon, Duration::from_secs(4))?;
        flood_is_called(&lab, &daemon, target)?;
        drop((usual, surge));
        daemon.stop(Signal::SIGTERM)?;
    }
    Ok(())
}
