//! A hundred thousand destinations: memory stays what it was, the worst are right, the others are summed up.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tracker_model::api::{PortHolder, PortUse};
use tracker_tests::{
    Family,
    api::Api,
    daemon::Daemon,
    detection::lab::{Memory, raise_limits},
    pair::Pair,
    peer::{Calls, Keep, Peer},
    serial,
    sink::{OnClose, Sink},
};

use crate::{
    ports_support::{keep_time_wait, of_state},
    support::{eventually, wildcard},
};

/// Destinations of each of the two processes that call one after the other, once each.
const LIGHT: u32 = 50_000;
/// Destinations with more connections, and how many the first of them has; each has one more than the one before.
const HEAVY: u8 = 32;
const LEAST: u32 = 40;
/// The daemon's own memory may grow by this, bytes: it keeps the rows of the worst 1,024 destinations.
const GROWTH: u64 = 10 << 20;
/// Resident memory of the daemon, bytes: its program, what it keeps, and nothing that loading has freed.
const RESIDENT: u64 = 22 << 20;

#[test]
fn a_hundred_thousand_destinations() -> Result<()> {
    let _alone = serial::alone();
    raise_limits()?;
    let pair = Pair::plain()?;
    let here = &pair.client;
    keep_time_wait(here)?;
    let daemon = Daemon::start(here)?;
    let api = Api::at(daemon.socket());
    let server = |port, on_close| Sink::start(here, wildcard(Family::Ipv4, port), on_close);
    let _servers = [server(80, OnClose::Follow)?, server(81, OnClose::Follow)?, server(90, OnClose::Hold)?];

    let heavy = Peer::start(here, "heavy")?;
    let counts: Vec<(SocketAddr, u32)> = (0..HEAVY)
        .map(|number| (SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 9, 0, number)), 90), LEAST + u32::from(number)))
        .collect();
    for (target, count) in &counts {
        let tally = heavy.call(&Calls::held(*target, *count))?;
        assert_eq!(tally.connected, *count, "{target}: {tally:?}");
    }
    let of_heavy: u64 = counts.iter().map(|(_, count)| u64::from(*count)).sum();
    assert_eq!(api.counted_ports()?.ports.len(), counts.len());
    let before = Memory::of(daemon.pid())?;

    let start = Instant::now();
    let callers = [(1, 80), (2, 81)]
        .map(|(network, port)| -> Result<Peer> {
            let peer = Peer::start(here, "light")?;
            let target = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, network, 0, 1)), port);
            let calls = Calls { spread: LIGHT, keep: Keep::Close, ..Calls::held(target, LIGHT) };
            peer.begin(&calls)?;
            Ok(peer)
        })
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    for caller in &callers {
        let tally = caller.finish(Duration::from_secs(45))?;
        assert_eq!(tally.connected, LIGHT, "{tally:?}");
    }
    println!("{} calls took {:.1?}", 2 * LIGHT, start.elapsed());
    let (total, tuples) = (u64::from(2 * LIGHT) + of_heavy, u64::from(2 * LIGHT) + u64::from(HEAVY));
    let ports = api.counted_ports()?;
    assert_eq!(here.counter("TcpExt", "TW")?, u64::from(2 * LIGHT), "what this is about: each call leaves a TIME_WAIT");
    // The first of them end a minute after they were closed.
    assert!(start.elapsed() < Duration::from_secs(55), "too slow: {:?}", start.elapsed());
    let census = api.fresh_status()?.census.context("a census")?;
    println!("a census of {} sockets took {:.1} ms", census.sockets, 1e3 * census.seconds);

    let rest = ports.namespaces[0].rest;
    println!("{} rows; the rest: {rest:?}", ports.ports.len());
    let listed: u64 = ports.ports.iter().map(|row| u64::from(row.in_use)).sum();
    assert_eq!(listed + rest.sockets, total, "{rest:?}");
    let unlisted = tuples - u64::try_from(ports.ports.len())?;
    assert_eq!(rest.sockets, unlisted, "each has one");
    assert!((unlisted / 4..=unlisted).contains(&rest.tuples_at_least), "{unlisted} tuples: {rest:?}");
    assert!((1..LEAST).contains(&rest.most), "each has one: {rest:?}");
    let is_wrong = |row: &&PortUse| row.states != of_state("time_wait", 1) || row.destination_port == 90;
    assert_eq!(ports.ports.iter().skip(counts.len()).find(is_wrong), None);
    let worst = || counts.iter().rev().map(|(target, count)| (target.ip(), target.port(), *count));
    let seen = ports.ports.iter().take(counts.len()).map(|row| (row.destination, row.destination_port, row.in_use));
    assert!(seen.eq(worst()), "{:#?}", &ports.ports[..counts.len()]);
    eventually("the holder of each is named", || {
        let ports = api.counted_ports()?.ports;
        let holder = |ports| PortHolder { pid: heavy.pid(), comm: "heavy".to_owned(), ports };
        Ok(ports.iter().take(counts.len()).all(|row| row.processes == [holder(row.in_use)]))
    })?;
    let (target, count) = counts[0];
    let answer = api.explain_connect(target, None)?;
    assert_eq!((answer.held - 1, answer.would_fail), (count, false), "the web server's port is held too: {answer:?}");
    assert!(api.alerts()?.answer.alerts.is_empty(), "nothing runs out");

    let after = Memory::of(daemon.pid())?;
    println!(
        "maps {} KiB; resident {} KiB, before {} KiB",
        after.maps >> 10,
        after.resident >> 10,
        before.resident >> 10
    );
    assert_eq!(after.maps, before.maps, "maps");
    assert!(before.resident <= RESIDENT, "resident at the start: {before:?}");
    assert!(after.resident <= before.resident + GROWTH, "resident: {before:?}, then {after:?}");
    drop((heavy, callers));
    daemon.stop(Signal::SIGTERM)
}
