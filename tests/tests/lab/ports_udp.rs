//! UDP sockets that take every port the kernel chooses from.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use nix::sys::signal::Signal;
use tracker_model::{
    api::{Alert, AlertKind, PortHolder, PortPool, Severity},
    explain::Protocol,
};
use tracker_tests::{
    Family,
    api::Api,
    daemon::Daemon,
    pair::Pair,
    peer::{Calls, OK, Options, Peer},
    serial,
};

use crate::{
    ports_support::{LOW, narrow},
    support::{counts, eventually},
};

/// Ports in the range.
const PORTS: u16 = 1_000;
/// Sockets a second.
const RATE: f64 = 60.0;
/// The error of a UDP `connect()` that finds no port (`inet_autobind`).
const NONE_LEFT: &str = "EAGAIN";

/// A resolver that takes a port for each question, and closes none; the daemon is in its namespace.
fn leaks_until_none_is_left(family: Family) -> Result<()> {
    let pair = Pair::plain()?;
    narrow(&pair.client, PORTS)?;
    let daemon = Daemon::start(&pair.client)?;
    let api = Api::at(daemon.socket());
    let [resolver, other] = [Peer::start(&pair.client, "resolver")?, Peer::start(&pair.client, "other")?];
    let to = |family| Calls { udp: true, ..Calls::held(pair.link.right.socket(family, 53), 1) };
    assert_eq!(other.call(&Calls { count: 5, ..to(family) })?.connected, 5);
    resolver.begin(&Calls { count: u32::from(PORTS) + 20, rate: Some(RATE), ..to(family) })?;
    let mut seen = Vec::new();
    while !resolver.progress()?.done {
        seen.push((Timestamp::now(), about_udp(&api)?));
        thread::sleep(Duration::from_millis(100));
    }
    assert_foreseen(&seen, &resolver, family)?;
    assert_none_is_left(&api, &resolver, family)?;
    // What the one family holds is in the way of the other only as far as the kernel says.
    let other_family = if family == Family::Ipv4 { Family::Ipv6 } else { Family::Ipv4 };
    assert_eq!(other.once(&to(family))?, NONE_LEFT);
    assert_eq!(other.once(&to(other_family))?, OK, "its sockets have IPV6_V6ONLY");
    let dual = other.open(&Options { udp: true, ipv6: true, ..Options::default() })?;
    assert_eq!(other.bind(dual, "[::]:0".parse()?)?, "EADDRINUSE");
    drop((resolver, other));
    eventually("the ports are free", || Ok(api.counted_ports()?.namespaces[0].udp.in_use == 0))?;
    daemon.stop(Signal::SIGTERM)
}

/// The alert came and rose before the first failure, with the process and the time that was left.
fn assert_foreseen(seen: &[(Timestamp, Option<Alert>)], resolver: &Peer, family: Family) -> Result<()> {
    let log = resolver.log()?;
    let failed = log.iter().find(|call| call.error.is_some()).context("it never failed")?;
    assert_eq!(failed.error.as_deref(), Some(NONE_LEFT));
    for severity in [Severity::Warning, Severity::Critical] {
        let is_it = |alert: &&Alert| alert.severity >= severity;
        let first = seen.iter().find_map(|(at, alert)| Some((at, alert.as_ref().filter(is_it)?)));
        let (at, alert) = first.with_context(|| format!("{family:?}: never a {severity:?}"))?;
        let ahead = Timestamp::from_nanosecond(failed.begun.into())?.duration_since(*at).as_secs_f64();
        println!("{family:?}: {severity:?} {ahead:.1} s ahead: {}", alert.summary);
        assert!(ahead > 0.0, "{family:?}: {severity:?} after the first failure");
        let evidence = alert.evidence.ports().context("evidence of ports")?;
        assert_eq!((evidence.pool, evidence.capacity), (PortPool::Udp, u32::from(PORTS)));
        let full = evidence.full_in_seconds.context("no time to full")?;
        // The alert is of the last census, a second old at most, or five at first.
        assert!((ahead * 0.7 - 0.5..ahead * 1.3 + 6.0).contains(&full), "{family:?}: {full} s, and it took {ahead}");
        assert_eq!(alert.subject.process.as_ref().map(|process| process.pid), Some(resolver.pid()), "{alert:?}");
    }
    Ok(())
}

/// The alert about UDP ports; there must be no other about ports.
fn about_udp(api: &Api) -> Result<Option<Alert>> {
    let mut alerts: Vec<_> = api.alerts()?.answer.alerts;
    alerts.retain(|alert| alert.kind == AlertKind::PortExhaustion);
    assert!(alerts.len() < 2, "{alerts:?}");
    let alert = alerts.pop();
    assert!(alert.as_ref().is_none_or(|alert| alert.subject.protocol == Some(Protocol::Udp)), "{alert:?}");
    Ok(alert)
}

fn assert_none_is_left(api: &Api, resolver: &Peer, family: Family) -> Result<()> {
    let ports = api.counted_ports()?;
    let udp = &ports.namespaces[0].udp;
    let all = u32::from(PORTS);
    assert_eq!((udp.in_use, udp.capacity, udp.full_in_seconds), (all, all, Some(0.0)));
    assert_eq!(udp.ipv4_in_use, if family == Family::Ipv4 { all } else { 0 });
    let holder = PortHolder { pid: resolver.pid(), comm: "resolver".to_owned(), ports: all - 5 };
    assert_eq!(udp.processes[0], holder);
    let alert = about_udp(api)?.context("the alert is gone")?;
    let whose = if family == Family::Ipv4 { "UDP ports are gone" } else { "UDP ports of IPv6 sockets are gone" };
    let is_so =
        alert.summary.starts_with(&format!("{whose}: 1,000 of 1,000 used (100 %); most held by resolver (pid "));
    assert!(is_so, "{}", alert.summary);
    let any = |text: &str| -> Result<bool> { Ok(api.explain_bind(text.parse()?, "&protocol=udp")?.succeeds) };
    assert_eq!((any("0.0.0.0:0")?, any("[::]:0")?), (family == Family::Ipv6, false));
    assert_eq!(resolver.progress()?.failed, counts([(NONE_LEFT, 25)]), "the other has five");
    Ok(())
}

#[test]
fn udp_ports_run_out_for_ipv4_sockets() -> Result<()> {
    let _alone = serial::alone();
    leaks_until_none_is_left(Family::Ipv4)
}

#[test]
fn udp_ports_run_out_for_ipv6_sockets() -> Result<()> {
    let _alone = serial::alone();
    leaks_until_none_is_left(Family::Ipv6)
}

#[test]
fn a_port_that_sockets_share_counts_once_and_a_server_outside_the_range_not_at_all() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    narrow(&pair.client, 20)?;
    let daemon = Daemon::start(&pair.client)?;
    let api = Api::at(daemon.socket());
    let peer = Peer::start(&pair.client, "server")?;
    for (address, ipv6_only, shared) in [
        (format!("0.0.0.0:{LOW}"), false, true),
        (format!("0.0.0.0:{LOW}"), false, true),
        (format!("[::]:{}", LOW + 1), true, false),
        (format!("[::]:{}", LOW + 2), false, false),
        ("0.0.0.0:53".to_owned(), false, false),
    ] {
        let ipv6 = address.starts_with('[');
        let options = Options { udp: true, ipv6, ipv6_only, reuse_port: shared, ..Options::default() };
        let socket = peer.open(&options)?;
        assert_eq!(peer.bind(socket, address.parse()?)?, OK, "{address}");
    }
    let ports = api.counted_ports()?;
    let udp = &ports.namespaces[0].udp;
    assert_eq!((udp.sockets, udp.ephemeral, udp.in_use, udp.ipv4_in_use, udp.capacity), (5, 4, 3, 2, 20));
    drop(peer);
    daemon.stop(Signal::SIGTERM)
}
