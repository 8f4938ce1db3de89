//! Figures and states that operators read, and that only a kernel can show to be right.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tracker_model::api::{Alert, AlertKind, AlertState, Class, FloodEvidence};
use tracker_tests::{
    Family, client,
    daemon::Daemon,
    detection::lab::{self, Lab, api},
    flood::{Flood, Pace, Sources},
    load_clients::Plan,
    pair::Pair,
    segment::Route,
    serial,
    server::{ListenOptions, listen},
};

use crate::support::{eventually, known, stranger, wildcard};

/// The alerts of a kind.
fn alerts(daemon: &Daemon<'_>, kind: AlertKind) -> Result<Vec<Alert>> {
    Ok(api(daemon).alerts()?.answer.alerts.into_iter().filter(|alert| alert.kind == kind).collect())
}

fn evidence(alert: &Alert) -> &FloodEvidence {
    alert.evidence.flood().expect("of a flood")
}

#[test]
fn distinct_sources_do_not_depend_on_when_they_are_read() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    for family in Family::BOTH {
        let _listener = listen(&pair.server, wildcard(family, 80), ListenOptions::default())?;
        let daemon = Daemon::start(&pair.server)?;
        let target = pair.link.right.socket(family, 80);
        let flood = Flood::syns(target, Sources::Everywhere(family), Pace::Steady(1_000.0), Duration::from_secs(20));
        let flood = flood.start(&pair.client, Route { from: &pair.link.left, to: &pair.link.right })?;
        eventually("it is called", || Ok(!alerts(&daemon, AlertKind::SynFlood)?.is_empty()))?;
        thread::sleep(Duration::from_secs(2));
        let (begun, mut seen) = (Instant::now(), Vec::new());
        while begun.elapsed() < Duration::from_secs(6) {
            let listener = known(&daemon, wildcard(family, 80))?.context("the listener")?;
            seen.push(listener.distinct_sources.context("sources")?);
            thread::sleep(Duration::from_millis(130));
        }
        flood.stop()?;
        // Each SYN has a source of its own: a second of them, or a reading more.
        assert!(seen.iter().all(|distinct| (900.0..1_700.0).contains(distinct)), "{family:?}: {seen:?}");
        assert!(seen.iter().all(|distinct| distinct.fract() == 0.0), "{seen:?}");
        daemon.stop(Signal::SIGTERM)?;
    }
    Ok(())
}

#[test]
fn an_accept_queue_that_was_full_before_the_daemon_is_slow_though_nobody_comes() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let backlog = ListenOptions { backlog: 4, ..ListenOptions::default() };
    let _listeners = Family::BOTH
        .map(|family| listen(&pair.server, wildcard(family, 80), backlog))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    // The kernel takes one more than the backlog.
    let _taken = Family::BOTH.map(|family| client::connect(&pair.client, pair.link.right.socket(family, 80), 5));
    let daemon = Daemon::start(&pair.server)?;
    let of = |alert: &Alert, family: Family| alert.subject.address == Some(wildcard(family, 80).ip());
    for family in Family::BOTH {
        eventually("it is called slow", || {
            let verdict = known(&daemon, wildcard(family, 80))?.and_then(|listener| listener.verdict);
            Ok(verdict.is_some_and(|verdict| verdict.class == Class::SlowAccept && verdict.alert.is_some()))
        })?;
        let alert = alerts(&daemon, AlertKind::AcceptOverflow)?.into_iter().find(|alert| of(alert, family));
        let alert = alert.context("an alert")?;
        let said =
            "does not accept: accept queue full (5, limit 4); no new connections now; since before tracker started (";
        assert!(alert.summary.contains(said) && alert.since_before, "{}", alert.summary);
        let verdict =
            known(&daemon, wildcard(family, 80))?.and_then(|listener| listener.verdict).context("a verdict")?;
        assert_eq!((verdict.alert, verdict.since), (Some(alert.id), Some(alert.since)), "verdict and alert");
    }
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn a_scan_is_counted_to_the_port_and_is_one() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    for family in Family::BOTH {
        let daemon = Daemon::start(&pair.server)?;
        thread::sleep(Duration::from_secs(2));
        let (ports, rate) = (500, 2_000.0);
        let sources = Sources::One(stranger(family, 7));
        let syns =
            Flood::syns(pair.link.right.socket(family, 1_000), sources, Pace::Steady(rate), Duration::from_mins(1));
        let scan = Flood { ports, frames: ports.into(), ..syns };
        let sent = scan.start(&pair.client, Route { from: &pair.link.left, to: &pair.link.right })?;
        thread::sleep(Duration::from_secs(1));
        sent.stop()?;
        eventually("it is called", || Ok(!alerts(&daemon, AlertKind::PortScan)?.is_empty()))?;
        let over = || Ok(alerts(&daemon, AlertKind::PortScan)?.iter().all(|alert| alert.state == AlertState::Resolved));
        eventually("its end is called", over)?;
        // Ten seconds after its first port it would have begun again.
        thread::sleep(Duration::from_secs(5));
        let [alert] = &alerts(&daemon, AlertKind::PortScan)?[..] else { panic!("one scan") };
        let (figures, known) = (evidence(alert), daemon.listeners()?.no_listener.ports);
        assert_eq!((figures.ports, known, figures.syns), (Some(500), 500, 500), "{family:?}: {}", alert.summary);
        assert_eq!((alert.state, figures.pulses), (AlertState::Resolved, 0), "{}", alert.summary);
        assert!(alert.summary.starts_with("Port scan: 500 ports without a listener tried, mostly from "));
        daemon.stop(Signal::SIGTERM)?;
    }
    Ok(())
}

#[test]
fn clients_are_marked_among_the_sources_of_a_flood() -> Result<()> {
    let _alone = serial::alone();
    for family in Family::BOTH {
        let lab = Lab::new(1, 1)?;
        let target = lab.target(family, Lab::port(0));
        let addresses = lab::clients(family, 1);
        let client = addresses.first().context("a client")?.to_string();
        let clients = Plan::requests(vec![target], addresses, 100.0).start(&lab.pair.client)?;
        let daemon = lab.daemon(None)?;
        thread::sleep(Duration::from_secs(2));
        let sources = Sources::Everywhere(family);
        let flood = Flood::syns(target, sources, Pace::Steady(1_000.0), Duration::from_secs(30));
        let flood = flood.start(&lab.pair.client, lab.route())?;
        let of_client = || -> Result<Option<bool>> {
            let alerts = alerts(&daemon, AlertKind::SynFlood)?;
            let shares = alerts.first().map(|alert| evidence(alert).top_sources.clone()).unwrap_or_default();
            assert!(shares.iter().all(|share| share.share > share.error), "{shares:?}");
            let marked = shares.iter().filter(|share| share.completes).all(|share| share.source == client);
            assert!(marked, "none but {client}: {shares:?}");
            Ok(shares.iter().find(|share| share.source == client).map(|share| share.completes))
        };
        eventually("the client is among the sources, marked", || Ok(of_client()? == Some(true)))?;
        flood.stop()?;
        drop(clients);
        daemon.stop(Signal::SIGTERM)?;
    }
    Ok(())
}

#[test]
fn syns_of_an_interface_that_is_not_watched_are_not_shown_as_none() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let loopback = |family| match family {
        Family::Ipv4 => ([127, 0, 0, 1], 8_080).into(),
        Family::Ipv6 => (std::net::Ipv6Addr::LOCALHOST, 8_080).into(),
    };
    let daemon = Daemon::start(&pair.server)?;
    for family in Family::BOTH {
        let _listeners = [
            listen(&pair.server, loopback(family), ListenOptions::default())?,
            listen(&pair.server, wildcard(family, 80), ListenOptions::default())?,
        ];
        let local = client::connect(&pair.server, loopback(family), 3);
        let remote = client::connect(&pair.client, pair.link.right.socket(family, 80), 3);
        assert_eq!((local.streams.len(), remote.streams.len()), (3, 3));
        eventually("all are counted", || {
            let seen = [known(&daemon, loopback(family))?, known(&daemon, wildcard(family, 80))?];
            Ok(seen.iter().flatten().filter(|listener| listener.handshakes_completed == 3).count() == 2)
        })?;
        let unseen = |address| -> Result<bool> { Ok(known(&daemon, address)?.context("a listener")?.syns_unseen) };
        assert!(unseen(loopback(family))? && !unseen(wildcard(family, 80))?, "{family:?}");
    }
    daemon.stop(Signal::SIGTERM)
}
