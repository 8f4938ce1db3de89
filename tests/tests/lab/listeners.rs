//! Listeners: known from the first moment, each counted by itself, and forgotten when closed.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::Result;
use nix::sys::{signal::Signal, socket::setsockopt};
use socket2::{Domain, Socket, Type};
use tracker_model::process::Process;
use tracker_tests::{
    Family, client,
    daemon::Daemon,
    namespace::Namespace,
    nginx::Nginx,
    packet_socket::PacketSocket,
    pair::Pair,
    segment::Route,
    serial,
    server::{ListenOptions, connected, listen},
};

use crate::support::{DeferAccept, counted, eventually, known, wildcard};

/// Rounds of `listen()` and a SYN right behind it.
const ROUNDS: u16 = 150;

#[test]
fn a_listener_is_known_to_a_connection_that_comes_at_once() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let daemon = Daemon::start(&pair.server)?;
    let mut kept = Vec::new();
    let mut slowest = Duration::ZERO;
    for (address, target) in rounds(&pair) {
        let listening = bound(&pair.server, address)?;
        let calling = pair.client.enter(|| Socket::new(Domain::for_address(target), Type::STREAM, None))?;
        let target = target.into();
        let start = Instant::now();
        listening.listen(16)?;
        // On a veth the SYN has passed the other end when connect() returns.
        calling.connect(&target)?;
        slowest = slowest.max(start.elapsed());
        kept.push((address, listening, calling));
    }
    println!("listen() to connected: at most {slowest:?}");
    assert_each_had_one_syn(&daemon, kept.iter().map(|(address, ..)| *address), 1)?;
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn a_listener_is_known_to_a_syn_that_comes_at_once() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let daemon = Daemon::start(&pair.server)?;
    let socket = PacketSocket::sender(&pair.client, &pair.link.left.device)?;
    let route = Route { from: &pair.link.left, to: &pair.link.right };
    let mut kept = Vec::new();
    for (address, target) in rounds(&pair) {
        let family = if target.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        let frame = route.syn(route.from.socket(family, 1_024), target);
        let listening = bound(&pair.server, address)?;
        listening.listen(16)?;
        socket.send(&frame)?;
        kept.push((address, listening));
    }
    // The client's kernel answers each SYN-ACK, which it did not ask for, with a reset.
    assert_each_had_one_syn(&daemon, kept.iter().map(|(address, _)| *address), 0)?;
    daemon.stop(Signal::SIGTERM)
}

/// An address of its own for each round, in turn wildcard and single, IPv4, IPv6 and both; with the target that leads
/// there.
fn rounds(pair: &Pair) -> impl Iterator<Item = (SocketAddr, SocketAddr)> {
    (0..ROUNDS).map(|round| {
        let port = 2_000 + round;
        let to = &pair.link.right;
        let (v4, v6) = (to.socket(Family::Ipv4, port), to.socket(Family::Ipv6, port));
        match round % 5 {
            0 => (wildcard(Family::Ipv4, port), v4),
            1 => (wildcard(Family::Ipv6, port), v6),
            2 => (wildcard(Family::Ipv6, port), v4),
            3 => (v4, v4),
            _ => (v6, v6),
        }
    })
}

fn bound(namespace: &Namespace, address: SocketAddr) -> Result<Socket> {
    let socket = namespace.enter(|| Socket::new(Domain::for_address(address), Type::STREAM, None))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn assert_each_had_one_syn(
    daemon: &Daemon<'_>,
    addresses: impl Iterator<Item = SocketAddr> + Clone,
    handshakes: u64,
) -> Result<()> {
    eventually("all have arrived", || Ok(daemon.status()?.interfaces[0].syns >= u64::from(ROUNDS)))?;
    let answer = daemon.listeners()?;
    assert_eq!(answer.no_listener.syns_received, 0, "{:?}", answer.no_listener);
    for address in addresses {
        let found = answer.listeners.iter().find(|one| one.port == address.port() && one.address == address.ip());
        let found = found.unwrap_or_else(|| panic!("{address} is not known"));
        assert_eq!((found.syns_received, found.handshakes_completed), (1, handshakes), "{address}");
    }
    Ok(())
}

#[test]
fn a_listener_that_closed_is_gone() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    // One older than the daemon, one younger.
    let address = |port| pair.link.right.socket(Family::Ipv4, port);
    let older = listen(&pair.server, address(80), ListenOptions::default())?;
    let daemon = Daemon::start(&pair.server)?;
    let younger = listen(&pair.server, address(81), ListenOptions::default())?;
    for (listening, port) in [(older, 80), (younger, 81)] {
        assert!(known(&daemon, address(port))?.is_some());
        drop(listening);
        assert_eq!(known(&daemon, address(port))?, None, "{port}");
        let failed = client::connect(&pair.client, address(port), 1).failed;
        assert_eq!(failed["ECONNREFUSED"], 1);
    }
    let seen = daemon.listeners()?;
    assert_eq!(seen.no_listener.syns_received, 2);
    assert_eq!(seen.listeners.iter().filter(|one| one.address != Ipv4Addr::LOCALHOST).count(), 0);
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn listeners_that_wait_for_data_are_counted() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let address = wildcard(Family::Ipv4, 80);
    let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
    let (waits, hurries) = (listen(&pair.server, address, options)?, listen(&pair.server, address, options)?);
    setsockopt(&waits, DeferAccept, &1)?;
    let daemon = Daemon::start(&pair.server)?;
    let seen = || -> Result<_> { Ok(counted(&daemon, address)?.queues.map(|queues| queues.defer_accept)) };
    assert_eq!(seen()?, Some(1), "one of the group");
    setsockopt(&hurries, DeferAccept, &1)?;
    assert_eq!(seen()?, Some(2));
    setsockopt(&waits, DeferAccept, &0)?;
    setsockopt(&hurries, DeferAccept, &0)?;
    assert_eq!(seen()?, Some(0));
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn a_reuseport_group_is_one_listener() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let address = wildcard(Family::Ipv4, 80);
    let member = || listen(&pair.server, address, ListenOptions { reuse_port: true, ..ListenOptions::default() });
    // Two older than the daemon, two younger.
    let mut group = vec![member()?, member()?];
    let daemon = Daemon::start(&pair.server)?;
    assert_eq!(counted(&daemon, address)?.sockets, 2);
    group.extend([member()?, member()?]);
    assert_eq!(counted(&daemon, address)?.sockets, 4);
    let calls = client::connect(&pair.client, pair.link.right.socket(Family::Ipv4, 80), 40);
    assert_eq!(calls.streams.len(), 40);
    let seen = counted(&daemon, address)?;
    assert_eq!((seen.syns_received, seen.handshakes_completed), (40, 40));
    assert_eq!(
        (seen.queues.map(|queues| queues.connected), seen.queues.map(|queues| queues.accept_queue)),
        (Some(40), Some(40)),
        "the group's queues are summed"
    );
    drop(group.split_off(1));
    assert_eq!(counted(&daemon, address)?.sockets, 1);
    drop(group);
    assert_eq!(known(&daemon, address)?, None);
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn one_address_and_the_wildcard_are_two_listeners() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    pair.server.ip(&format!("addr add 10.77.1.3/24 dev {}", pair.link.right.device))?;
    let daemon = Daemon::start(&pair.server)?;
    for family in Family::BOTH {
        // Two sockets on overlapping addresses of one port need SO_REUSEPORT, or different ports; here, the former.
        let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
        let single = pair.link.right.socket(family, 80);
        let one = listen(&pair.server, single, options)?;
        let all = listen(&pair.server, wildcard(family, 80), options)?;
        for _ in 0..3 {
            connected(&pair.client, single, &one)?;
        }
        if family == Family::Ipv4 {
            connected(&pair.client, "10.77.1.3:80".parse()?, &all)?;
        }
        let seen = [counted(&daemon, single)?.syns_received, counted(&daemon, wildcard(family, 80))?.syns_received];
        assert_eq!(seen, [3, u64::from(family == Family::Ipv4)]);
    }
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn a_dual_stack_listener_is_reached_by_both_families() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let address = wildcard(Family::Ipv6, 80);
    for older in [true, false] {
        let open = || listen(&pair.server, address, ListenOptions { dual_stack: true, ..ListenOptions::default() });
        let early = older.then(open).transpose()?;
        let daemon = Daemon::start(&pair.server)?;
        let listening = early.map_or_else(open, Ok)?;
        let mut kept = Vec::new();
        for (family, count) in [(Family::Ipv4, 4), (Family::Ipv6, 3)] {
            for _ in 0..count {
                kept.push(connected(&pair.client, pair.link.right.socket(family, 80), &listening)?);
            }
        }
        let seen = counted(&daemon, address)?;
        assert!(seen.dual_stack);
        assert_eq!((seen.syns_by_family.ipv4, seen.syns_by_family.ipv6), (4, 3));
        assert_eq!((seen.handshakes_by_family.ipv4, seen.handshakes_by_family.ipv6), (4, 3));
        assert_eq!(seen.queues.map(|queues| queues.connected), Some(7));
        let states = daemon.counts(Family::Ipv6)?;
        assert_eq!(states["established"], 7, "the sockets are of IPv6, as for ss");
        daemon.stop(Signal::SIGTERM)?;
    }
    Ok(())
}

#[test]
fn the_process_is_named_for_listeners_older_and_younger_than_the_daemon() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let older = Nginx::start(&pair.server, 80)?;
    let daemon = Daemon::start(&pair.server)?;
    let younger = Nginx::start(&pair.server, 81)?;
    for nginx in [&older, &younger] {
        for family in Family::BOTH {
            let seen = counted(&daemon, wildcard(family, nginx.port()))?.process;
            assert_eq!(seen, Some(Process { pid: nginx.pid(), comm: "nginx".to_owned() }));
        }
    }
    let own = counted(&daemon, daemon.web())?.process.map(|process| process.pid);
    assert_eq!(own, Some(daemon.pid()), "the daemon's own listener");
    daemon.stop(Signal::SIGTERM)
}
