//! Ranges of ports that processes set for their own sockets (`IP_LOCAL_PORT_RANGE`).

use std::{collections::BTreeSet, net::SocketAddr, thread, time::Duration};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use nix::sys::signal::Signal;
use tracker_model::{
    api::{Alert, AlertKind, PortHolder, PortRange, PortUse, Severity},
    explain::ConnectRule,
};
use tracker_tests::{
    Family,
    api::Api,
    daemon::Daemon,
    pair::Pair,
    peer::{Calls, Keep, OK, Options, Peer},
    serial,
    sink::{OnClose, Sink},
};

use crate::{
    ports_support::{LOW, NO_PORT, alerts, failures, keep_time_wait, narrow, row, rows},
    support::{counts, eventually, wildcard},
};

/// Whether sockets can have such a range. Where they cannot, there is nothing to see.
fn can_be_set(peer: &Peer, kernel: &str) -> bool {
    let with = Options { range: Some((LOW, LOW)), ..Options::default() };
    let can = peer.open(&with).is_ok();
    let mut numbers = kernel.split('.').map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    assert!(can || version < (6, 3), "Linux {kernel} has IP_LOCAL_PORT_RANGE");
    if !can {
        eprintln!("skipped: this kernel has no IP_LOCAL_PORT_RANGE; Linux 6.3 has");
    }
    can
}

fn kernel() -> Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/osrelease")?)
}

/// The range `low` to `high`, counted from the lowest port of the namespace.
const fn range(low: u16, high: u16) -> PortRange {
    PortRange { low: LOW + low, high: LOW + high }
}

/// Calls with the range `low` to `high`, counted from the lowest port of the namespace.
fn within(target: SocketAddr, count: u32, (low, high): (u16, u16)) -> Calls {
    Calls { range: Some((LOW + low, LOW + high)), ..Calls::held(target, count) }
}

#[test]
fn a_range_of_the_sockets_own_is_what_runs_out() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    narrow(&pair.client, 10_000)?;
    let daemon = Daemon::start(&pair.client)?;
    let api = Api::at(daemon.socket());
    let callers = [Peer::start(&pair.client, "caller-4")?, Peer::start(&pair.client, "caller-6")?];
    if !can_be_set(&callers[0], &kernel()?) {
        return daemon.stop(Signal::SIGTERM);
    }
    let _servers = Family::BOTH
        .into_iter()
        .map(|family| Sink::start(&pair.server, wildcard(family, 80), OnClose::Hold))
        .collect::<Result<Vec<_>>>()?;
    let targets = Family::BOTH.map(|family| pair.link.right.socket(family, 80));
    for (caller, target) in callers.iter().zip(targets) {
        caller.begin(&Calls { rate: Some(7.0), ..within(target, 110, (200, 299)) })?;
    }
    let seen = watch(&api, &callers)?;
    for (caller, target) in callers.iter().zip(targets) {
        let failed: Vec<_> = caller.log()?.into_iter().filter(|call| call.error.is_some()).collect();
        assert!(failed.iter().all(|call| call.error.as_deref() == Some(NO_PORT)), "{target}: {failed:?}");
        assert_eq!(failed.len(), 10, "{target}");
        assert_foreseen(&seen, target, failed[0].begun)?;
        assert_is_shown(&api, caller, target)?;
    }
    assert_open_for_others(&pair, &api, targets)?;
    drop(callers);
    daemon.stop(Signal::SIGTERM)
}

/// To others the range of the namespace is open.
fn assert_open_for_others(pair: &Pair, api: &Api, targets: [SocketAddr; 2]) -> Result<()> {
    let bystander = Peer::start(&pair.client, "bystander")?;
    for target in targets {
        assert_eq!(bystander.call_once(target)?, OK);
        let ports = api.counted_ports()?;
        let mut both: Vec<_> = rows(&ports, target).collect();
        both.sort_by_key(|row| row.local_port_range);
        let figures = |row: &&PortUse| (row.local_port_range, row.in_use, row.capacity, row.failures);
        let expected = [(None, 101, 10_000, 0), (Some(range(200, 299)), 100, 100, 10)];
        assert_eq!(both.iter().map(figures).collect::<Vec<_>>(), expected);
        let answer = api.explain_connect(target, None)?;
        assert_eq!((answer.local_port_range, answer.capacity, answer.would_fail), (None, 10_000, false));
        assert!(
            answer.notes[0].contains("100 connections have set IP_LOCAL_PORT_RANGE to 40200-40299: there 0 of 100")
        );
    }
    Ok(())
}

/// Asks for the alerts alone until all have called: nobody makes the daemon look more often than it does by itself.
fn watch(api: &Api, callers: &[Peer]) -> Result<Vec<(Timestamp, Vec<Alert>)>> {
    let mut seen = Vec::new();
    while !callers.iter().map(Peer::progress).collect::<Result<Vec<_>>>()?.iter().all(|tally| tally.done) {
        seen.push((Timestamp::now(), api.alerts()?.answer.alerts));
        thread::sleep(Duration::from_millis(100));
    }
    Ok(seen)
}

/// A warning came before the first failure, about the range.
fn assert_foreseen(seen: &[(Timestamp, Vec<Alert>)], target: SocketAddr, failed: u64) -> Result<()> {
    let failed = Timestamp::from_nanosecond(failed.into())?;
    for severity in [Severity::Warning, Severity::Critical] {
        let about = |alert: &Alert| {
            alert.kind == AlertKind::PortExhaustion
                && alert.severity >= severity
                && alert.subject.destination == Some(target.ip())
        };
        let mut when = seen.iter().filter_map(|(at, alerts)| Some((at, alerts.iter().find(|alert| about(alert))?)));
        let (at, alert) = when.next().with_context(|| format!("{target}: never a {severity:?}"))?;
        let ahead = failed.duration_since(*at).as_secs_f64();
        println!("{target}: {severity:?} {ahead:.1} s ahead: {}", alert.summary);
        assert!(ahead > 0.0, "{target}: {severity:?} after the first failure");
        let evidence = alert.evidence.ports().context("evidence of ports")?;
        assert_eq!((alert.subject.local_port_range, evidence.capacity), (Some(range(200, 299)), 100));
        assert!(alert.summary.contains(" 40200-40299 (IP_LOCAL_PORT_RANGE) "), "{}", alert.summary);
    }
    Ok(())
}

/// The only row of the destination, its failures, its alerts and its explanation are of the range.
fn assert_is_shown(api: &Api, caller: &Peer, target: SocketAddr) -> Result<()> {
    let ports = api.counted_ports()?;
    let found = row(&ports, target)?;
    assert_eq!((found.local_port_range, found.range_sockets), (Some(range(200, 299)), 100));
    assert_eq!((found.in_use, found.capacity, found.failures, found.full_in_seconds), (100, 100, 10, Some(0.0)));
    let holder = PortHolder { pid: caller.pid(), comm: caller.name().to_owned(), ports: 100 };
    assert_eq!(found.processes, [holder]);
    let [failure] = failures(&ports, target)[..] else { panic!("one process failed: {:?}", ports.failures) };
    assert_eq!((failure.local_port_range, failure.count), (Some(range(200, 299)), 10));
    let failed = alerts(api, AlertKind::PortAllocationFailed, target)?;
    let [failed] = &failed[..] else { panic!("one alert of failures: {failed:?}") };
    assert_eq!(failed.subject.local_port_range, Some(range(200, 299)));
    let answer = api.explain_connect(target, None)?;
    assert_eq!((answer.local_port_range, answer.capacity, answer.would_fail), (Some(range(200, 299)), 100, true));
    assert!(
        answer.notes[0].ends_with("without it 9900 of 10,000 ports are free.") || answer.notes[0].contains("9,900")
    );
    Ok(())
}

#[test]
fn a_range_is_counted_whole_whoever_holds_its_ports() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    narrow(&pair.client, 20)?;
    keep_time_wait(&pair.client)?;
    let daemon = Daemon::start(&pair.client)?;
    let api = Api::at(daemon.socket());
    let [first, second] = [Peer::start(&pair.client, "first")?, Peer::start(&pair.client, "second")?];
    if !can_be_set(&first, &kernel()?) {
        return daemon.stop(Signal::SIGTERM);
    }
    let mut servers = Vec::new();
    for (port, on_close) in [(80, OnClose::Hold), (81, OnClose::Hold), (82, OnClose::Follow)] {
        for family in Family::BOTH {
            servers.push(Sink::start(&pair.server, wildcard(family, port), on_close)?);
        }
    }
    for family in Family::BOTH {
        let target = |port| pair.link.right.socket(family, port);
        shared(&api, target(80), &first, &second)?;
        alone(&api, [target(81), target(82)], &first, &second)?;
    }
    drop((first, second));
    daemon.stop(Signal::SIGTERM)
}

/// Two of four ports by the process with the range, the other two by one without.
fn shared(api: &Api, target: SocketAddr, first: &Peer, second: &Peer) -> Result<()> {
    assert_eq!(first.call(&within(target, 2, (0, 3)))?.connected, 2);
    assert_eq!(second.call(&Calls::held(target, 20))?.failed, counts([(NO_PORT, 2)]));
    assert_eq!(figures(api, target)?, [(None, 20, 20, 0), (Some(range(0, 3)), 4, 4, 2)]);
    eventually("both hold ports of the range", || {
        let ports = api.counted_ports()?;
        let found = rows(&ports, target).find(|row| row.local_port_range.is_some()).context("no row")?;
        let mut holders: Vec<_> = found.processes.iter().map(|holder| (holder.comm.as_str(), holder.ports)).collect();
        holders.sort_unstable();
        Ok(holders == [("first", 2), ("second", 2)])
    })
}

/// Every socket has a range: there is no row of the namespace's.
fn alone(api: &Api, [held, closed]: [SocketAddr; 2], first: &Peer, second: &Peer) -> Result<()> {
    assert_eq!(first.call(&within(held, 2, (0, 3)))?.connected, 2);
    assert_eq!(second.call(&within(held, 6, (10, 14)))?.failed, counts([(NO_PORT, 1)]));
    assert_eq!(figures(api, held)?, [(Some(range(0, 3)), 2, 4, 2), (Some(range(10, 14)), 5, 5, 5)]);
    // What is in TIME_WAIT is of the range still.
    let closing = Calls { keep: Keep::Milliseconds(600), ..within(closed, 3, (0, 3)) };
    first.begin(&closing)?;
    eventually("the range is seen", || Ok(figures(api, closed)? == [(Some(range(0, 3)), 3, 4, 3)]))?;
    first.finish(Duration::from_secs(5))?;
    eventually("all are closed", || Ok(figures(api, closed)? == [(Some(range(0, 3)), 3, 4, 0)]))?;
    let ports = api.counted_ports()?;
    assert_eq!(row(&ports, closed)?.time_wait, 3);
    Ok(())
}

/// Range, ports in use, capacity, sockets that have set it.
type Figures = (Option<PortRange>, u32, u32, u32);

/// The rows of a destination.
fn figures(api: &Api, target: SocketAddr) -> Result<Vec<Figures>> {
    let ports = api.counted_ports()?;
    let mut all: Vec<_> =
        rows(&ports, target).map(|row| (row.local_port_range, row.in_use, row.capacity, row.range_sockets)).collect();
    all.sort_unstable();
    Ok(all)
}

#[test]
fn the_range_of_connections_that_no_census_meets_is_known_from_their_calls() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    narrow(&pair.client, 1_000)?;
    keep_time_wait(&pair.client)?;
    let daemon = Daemon::start(&pair.client)?;
    let api = Api::at(daemon.socket());
    let caller = Peer::start(&pair.client, "brief")?;
    if !can_be_set(&caller, &kernel()?) {
        return daemon.stop(Signal::SIGTERM);
    }
    for family in Family::BOTH {
        let _server = Sink::start(&pair.server, wildcard(family, 80), OnClose::Follow)?;
        let target = pair.link.right.socket(family, 80);
        let closed = |count| Calls { keep: Keep::Close, ..within(target, count, (0, 39)) };
        assert_eq!(caller.call(&closed(20))?.connected, 20);
        // Connects to it are attributed from the second of these on.
        for _ in 0..2 {
            assert_eq!(figures(&api, target)?, [(None, 20, 1_000, 0)]);
        }
        assert_eq!(caller.call(&closed(10))?.connected, 10);
        eventually("the range is known", || Ok(figures(&api, target)? == [(Some(range(0, 39)), 30, 40, 0)]))?;
        let ports = api.counted_ports()?;
        let made: BTreeSet<_> = row(&ports, target)?.made_by.iter().map(|by| (by.pid, by.connects)).collect();
        assert_eq!(made, [(caller.pid(), 10)].into());
        assert_eq!(caller.call(&closed(12))?.failed, counts([(NO_PORT, 2)]));
        let ports = api.counted_ports()?;
        assert_eq!(row(&ports, target)?.failures, 2);
        let answer = api.explain_connect(target, None)?;
        assert_eq!(
            answer.causes.iter().map(|cause| (cause.rule, cause.ports)).collect::<Vec<_>>(),
            [(ConnectRule::TimeWait, 40)]
        );
    }
    drop(caller);
    daemon.stop(Signal::SIGTERM)
}
