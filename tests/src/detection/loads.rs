//! What drives each load until its time is over.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::lab::{self, Lab};
use crate::{
    Family,
    flood::{Flood, Pace, Sources},
    load_clients::{Behaviour, Plan, Running, Seen},
    nginx::Nginx,
    pair::Pair,
    server::{ListenOptions, listen},
    wire::WireOptions,
};

fn sleep_until(moment: Instant) {
    thread::sleep(moment.saturating_duration_since(Instant::now()));
}

/// Sleeps for this long, but not beyond the end.
fn rest(time: Duration, end: Instant) {
    sleep_until((Instant::now() + time).min(end));
}

/// Ends clients and sums up what they saw.
fn sum(clients: impl IntoIterator<Item = Running>) -> Result<Seen> {
    let mut seen = Seen::default();
    for clients in clients {
        seen.add(&clients.stop()?);
    }
    Ok(seen)
}

/// Load clients of each family against one port.
fn both(lab: &Lab, port: u16, sources: u16, plan: impl Fn(Plan) -> Plan) -> Result<Vec<Running>> {
    let start = |family| {
        let requests = Plan::requests(vec![lab.target(family, port)], lab::clients(family, sources), 50.0);
        plan(requests).start(&lab.pair.client)
    };
    Family::BOTH.into_iter().map(start).collect()
}

/// From nothing to as many as the machine makes, 20 s on and 10 s off, over each family in turn.
pub(super) fn surge(lab: &Lab, end: Instant) -> Result<Seen> {
    let mut seen = Seen::default();
    for family in Family::BOTH.into_iter().cycle().take_while(|_| Instant::now() < end) {
        let requests = Plan::requests(vec![lab.target(family, Lab::port(0))], lab::clients(family, 20_000), 1.0);
        let pace = Pace::Rising { start: 50.0, growth: 3.0 };
        let clients = Plan { pace, at_once: 1_000, ..requests }.start(&lab.pair.client)?;
        rest(Duration::from_secs(20), end);
        seen.add(&clients.stop()?);
        rest(Duration::from_secs(10), end);
    }
    Ok(seen)
}

/// nginx stops and starts again under load; each second time it stays away for a moment.
pub(super) fn restart(lab: &Lab, end: Instant) -> Result<Seen> {
    let port = Lab::port(0);
    let mut nginx = Nginx::start(&lab.pair.server, port)?;
    let clients = both(lab, port, 200, |plan| Plan { pace: Pace::Steady(250.0), ..plan })?;
    for away in [Duration::ZERO, Duration::from_secs(2)].into_iter().cycle() {
        rest(Duration::from_secs(20), end);
        nginx.stop()?;
        if Instant::now() >= end {
            break;
        }
        thread::sleep(away);
        nginx = Nginx::start(&lab.pair.server, port)?;
    }
    sum(clients)
}

/// 2,000 connections at once, kept for some seconds: with room for each, and with room for a quarter.
pub(super) fn client_pool(lab: &Lab, end: Instant) -> Result<Seen> {
    let ports = [Lab::port(0), Lab::port(1)];
    let _nginx = Nginx::start_on(&lab.pair.server, &[(ports[0], 511), (ports[1], 4_096)])?;
    let turns = Family::BOTH.into_iter().flat_map(|family| ports.map(|port| (family, port))).collect::<Vec<_>>();
    let mut seen = Seen::default();
    for (family, port) in turns.into_iter().cycle().take_while(|_| Instant::now() < end) {
        let next = Instant::now() + Duration::from_secs(15);
        let requests = Plan::requests(vec![lab.target(family, port)], lab::clients(family, 4), 1.0);
        let pace = Pace::Pulse { rate: 1e6, on: Duration::from_millis(2), period: Duration::from_hours(1) };
        let behaviour = Behaviour::Hold(Duration::from_secs(8));
        let clients = Plan { pace, behaviour, ..requests }.start(&lab.pair.client)?;
        thread::sleep(Duration::from_secs(5));
        seen.add(&clients.stop()?);
        sleep_until(next.min(end));
    }
    Ok(seen)
}

/// A link that takes 150 ms and loses one frame of fifty, each way.
pub(super) fn slow_pair() -> Result<Pair> {
    let delay = Duration::from_millis(150);
    let pair = Pair::wired(&WireOptions { delay, delay_there: delay, loss: 0.02, ..WireOptions::default() })?;
    for namespace in [&pair.client, &pair.server] {
        // As hosts are outside the lab, where what is lost is repeated.
        namespace.sysctl("net.ipv4.tcp_early_retrans", "3")?;
        let _absent_before = namespace.sysctl("net.ipv4.tcp_rto_min_us", "200000");
    }
    Ok(pair)
}

/// Clients behind such a link.
pub(super) fn slow_network(lab: &Lab, end: Instant) -> Result<Seen> {
    let patience = Duration::from_secs(20);
    let clients = both(lab, Lab::port(0), 50, |plan| Plan { pace: Pace::Steady(100.0), patience, ..plan })?;
    sleep_until(end);
    sum(clients)
}

/// Connects that are reset at once, and SYNs whose SYN-ACK is answered by a reset.
pub(super) fn health_checks(lab: &Lab, end: Instant) -> Result<Seen> {
    let port = Lab::port(0);
    let clients = both(lab, port, 2, |plan| Plan { behaviour: Behaviour::Reset, ..plan })?;
    let mut half_open = Vec::new();
    for family in Family::BOTH {
        // An address that the client's kernel holds: it knows of no connection, and resets.
        let sources = Sources::One(lab::clients(family, 3)[2]);
        let left = end.saturating_duration_since(Instant::now());
        let flood = Flood::syns(lab.target(family, port), sources, Pace::Steady(5.0), left);
        half_open.push(flood.start(&lab.pair.client, lab.route())?);
    }
    sleep_until(end);
    half_open.into_iter().try_for_each(|flood| flood.wait().map(drop))?;
    sum(clients)
}

/// One source tries all ports below those of nginx, where real clients are.
pub(super) fn port_scan(lab: &Lab, end: Instant) -> Result<Seen> {
    let clients = both(lab, Lab::port(0), 8, |plan| plan)?;
    for family in Family::BOTH.into_iter().cycle().take_while(|_| Instant::now() < end) {
        let sources = Sources::One(lab::clients(family, 20)[19]);
        let left = end.saturating_duration_since(Instant::now()).min(Duration::from_secs(40));
        let scan = Flood::syns(lab.target(family, 1), sources, Pace::Steady(300.0), left);
        Flood { ports: 7_999, frames: 7_999, ..scan }.start(&lab.pair.client, lab.route())?.wait()?;
        rest(Duration::from_secs(20), end);
    }
    sum(clients)
}

/// An application of our own that serves, but does not accept for 20 s of each minute.
pub(super) fn slow_accept(lab: &Lab, end: Instant) -> Result<Seen> {
    let port = Lab::port(0);
    let backlog = ListenOptions { backlog: 128, ..ListenOptions::default() };
    let address = |family| (lab::wildcard(family), port).into();
    let listeners = Family::BOTH.map(|family| listen(&lab.pair.server, address(family), backlog));
    let listeners = listeners.into_iter().collect::<Result<Vec<_>>>()?;
    let done = AtomicBool::new(false);
    let start = Instant::now();
    // It begins to be slow early enough for a short run to see it.
    let accepts = || !(20..40).contains(&(start.elapsed().as_secs() % 60));
    thread::scope(|scope| {
        for listener in &listeners {
            listener.set_nonblocking(true)?;
            scope.spawn(|| serve(listener, &done, &accepts));
        }
        let seen = both(lab, port, 50, |plan| plan).and_then(|clients| {
            sleep_until(end);
            sum(clients)
        });
        done.store(true, Ordering::Relaxed);
        seen
    })
}

fn serve(listener: &TcpListener, done: &AtomicBool, accepts: &impl Fn() -> bool) {
    while !done.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((mut stream, _)) if accepts() => {
                // The server does not care about a client that has gone.
                let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
                let _ = stream.read(&mut [0; 512]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
            _ => thread::sleep(Duration::from_millis(1)),
        }
        while !accepts() && !done.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(10));
        }
    }
}
