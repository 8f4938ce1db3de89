//! Which ports in `TIME_WAIT` a new connection may take: as the kernel has it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
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
    ports_support::{agrees, keep_time_wait, narrow, of_state, row},
    support::wildcard,
};

/// Ports in the range.
const PORTS: u32 = 20;
/// A port in `TIME_WAIT` for so long may not be taken yet, and after the other time it may (`tcp_tw_reuse_delay`, 1 s).
const YOUNG: Duration = Duration::from_millis(850);
const OLD: Duration = Duration::from_millis(1_300);
/// Ports of the servers: connections with timestamps, without, and those that the server does not close.
const STAMPED: u16 = 80;
const UNSTAMPED: u16 = 81;
const HALF: u16 = 82;

/// A namespace with few ports, and a process that calls from it.
struct Lab<'a> {
    pair: &'a Pair,
    api: Api,
    caller: Peer,
    /// Connections that were made in place of a `TIME_WAIT`, by destination.
    taken: BTreeMap<SocketAddr, u32>,
}

impl Lab<'_> {
    /// Both families, on and off loopback.
    fn targets(&self, port: u16) -> Vec<SocketAddr> {
        let loopback =
            [SocketAddr::new([127, 0, 0, 1].into(), port), SocketAddr::new([0, 0, 0, 0, 0, 0, 0, 1].into(), port)];
        Family::BOTH.map(|family| self.pair.link.right.socket(family, port)).into_iter().chain(loopback).collect()
    }

    /// Fills the destinations with `TIME_WAIT`.
    fn fill(&self, port: u16) -> Result<()> {
        for target in self.targets(port) {
            let tally = self.caller.call(&Calls { keep: Keep::Close, ..Calls::held(target, PORTS) })?;
            ensure!(tally.connected == PORTS, "{target}: {tally:?}");
        }
        Ok(())
    }

    fn reuse(&self, value: &str) -> Result<()> {
        self.pair.client.sysctl("net.ipv4.tcp_tw_reuse", value)
    }

    /// Calls a destination some times, and checks that each call finds a port as predicted and as intended.
    fn assert_finds(&mut self, target: SocketAddr, is_meant: bool) -> Result<()> {
        for _ in 0..2 {
            let left = PORTS - self.taken(target);
            let (answer, found) = agrees(&self.api, &self.caller, &Calls::held(target, 1))?;
            assert_eq!(found, is_meant, "{target}: {answer:#?}");
            let reusable = if is_meant { left } else { 0 };
            assert_eq!((answer.capacity, answer.reusable, answer.free_ports), (PORTS, reusable, reusable), "{target}");
            if found {
                self.take(target);
            }
        }
        self.assert_census(target, is_meant)
    }

    /// The census says so too.
    fn assert_census(&self, target: SocketAddr, is_meant: bool) -> Result<()> {
        let (ports, taken) = (self.api.counted_ports()?, self.taken(target));
        let row = row(&ports, target)?;
        let waiting = PORTS - taken;
        assert_eq!((row.in_use, row.time_wait, row.capacity), (PORTS, waiting, PORTS), "{target}");
        let mut states = of_state("time_wait", waiting);
        states.extend(of_state("established", taken));
        assert_eq!(row.states, states, "{target}");
        assert_eq!(row.reusable, if is_meant { waiting } else { 0 }, "{target}");
        let used = f64::from(PORTS - row.reusable) / f64::from(PORTS);
        assert!((row.used_ratio - used).abs() < 1e-9, "{target}: {row:?}");
        let next = row.next_free_seconds.unwrap_or_default();
        assert!((50.0..60.0).contains(&next), "{target}: {row:?}");
        Ok(())
    }

    fn taken(&self, target: SocketAddr) -> u32 {
        self.taken.get(&target).copied().unwrap_or(0)
    }

    fn take(&mut self, target: SocketAddr) {
        *self.taken.entry(target).or_default() += 1;
    }
}

#[test]
fn ports_in_time_wait_are_taken_again_as_tracker_says() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    narrow(&pair.client, u16::try_from(PORTS)?)?;
    keep_time_wait(&pair.client)?;
    let daemon = Daemon::start(&pair.client)?;
    let _servers = [&pair.client, &pair.server]
        .into_iter()
        .flat_map(|namespace| {
            let each = move |family| [STAMPED, UNSTAMPED].map(|port| (namespace, wildcard(family, port)));
            Family::BOTH.into_iter().flat_map(each)
        })
        .map(|(namespace, address)| Sink::start(namespace, address, OnClose::Follow))
        .collect::<Result<Vec<_>>>()?;
    let (api, caller) = (Api::at(daemon.socket()), Peer::start(&pair.client, "caller")?);
    let mut lab = Lab { pair: &pair, api, caller, taken: BTreeMap::new() };

    pair.client.sysctl("net.ipv4.tcp_timestamps", "0")?;
    lab.fill(UNSTAMPED)?;
    pair.client.sysctl("net.ipv4.tcp_timestamps", "1")?;
    // The daemon knows by its second census how long things last.
    thread::sleep(Duration::from_secs(2));
    let start = Instant::now();
    lab.fill(STAMPED)?;
    let filled = Instant::now();
    let mut asked = 0;
    for (reuse, target) in
        ["1", "2", "0"].into_iter().flat_map(|reuse| lab.targets(STAMPED).into_iter().map(move |to| (reuse, to)))
    {
        lab.reuse(reuse)?;
        if start.elapsed() < YOUNG {
            let (answer, found) = agrees(&lab.api, &lab.caller, &Calls::held(target, 1))?;
            assert!(!found && answer.reusable == 0, "tcp_tw_reuse={reuse}, {target}: {answer:#?}");
            asked += 1;
        }
    }
    assert!(asked >= 4, "{asked} questions while they were young: the machine is too slow");
    thread::sleep(OLD.saturating_sub(filled.elapsed()));
    // Loopback first, as with 1 all may be taken.
    for (reuse, anywhere, on_loopback) in [("0", false, false), ("2", false, true), ("1", true, true)] {
        lab.reuse(reuse)?;
        for target in lab.targets(STAMPED) {
            let is_meant = if target.ip().is_loopback() { on_loopback } else { anywhere };
            lab.assert_finds(target, is_meant)?;
        }
        for target in lab.targets(UNSTAMPED) {
            lab.assert_finds(target, false)?;
        }
    }
    // The server holds its side open: FIN_WAIT2, which is kept like TIME_WAIT and is another state.
    let _holding = Sink::start(&pair.server, wildcard(Family::Ipv4, HALF), OnClose::Hold)?;
    let target = pair.link.right.socket(Family::Ipv4, HALF);
    for _ in 0..PORTS {
        let socket = lab.caller.open(&Options::default())?;
        assert_eq!(lab.caller.connect(socket, target)?, OK);
        lab.caller.close(socket)?;
    }
    thread::sleep(OLD);
    assert!(!agrees(&lab.api, &lab.caller, &Calls::held(target, 1))?.1, "FIN_WAIT2 is not taken");
    let ports = lab.api.counted_ports()?;
    let row = row(&ports, target)?;
    assert_eq!((&row.states, row.time_wait, row.recyclable), (&of_state("fin_wait2", PORTS), 0, 0));
    // To the last one.
    let target = pair.link.right.socket(Family::Ipv4, STAMPED);
    while lab.taken(target) < PORTS {
        assert!(agrees(&lab.api, &lab.caller, &Calls::held(target, 1))?.1);
        lab.take(target);
    }
    assert!(!agrees(&lab.api, &lab.caller, &Calls::held(target, 1))?.1, "all are taken");
    drop(lab);
    daemon.stop(Signal::SIGTERM)
}
