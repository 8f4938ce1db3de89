//! Which ports there are to choose from: as the kernel has it, in each of its cases.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    thread,
    time::Duration,
};

use anyhow::Result;
use nix::sys::signal::Signal;
use tracker_model::{
    api::{AlertKind, PortPool, PortRange},
    explain::{BindError, ConnectRule},
};
use tracker_tests::{
    Family,
    api::Api,
    daemon::Daemon,
    pair::Pair,
    peer::{Calls, Keep, OK, Options, Peer, Source},
    serial,
    server::{ListenOptions, connected, listen},
    sink::{OnClose, Sink},
};

use crate::{
    ports_support::{
        BEYOND, LOW, NO_PORT, agrees, alerts, assert_full, failures, fill, keep_time_wait, narrow, row, rows,
    },
    support::{counts, eventually, wildcard},
};

/// A client's namespace with few ports, the daemon in it, a process that calls, and servers that take everything.
struct Few<'a> {
    pair: &'a Pair,
    daemon: Daemon<'a>,
    api: Api,
    caller: Peer,
    _servers: Vec<Sink>,
}

impl<'a> Few<'a> {
    fn new(pair: &'a Pair, ports: u16, servers: &[u16]) -> Result<Self> {
        narrow(&pair.client, ports)?;
        let daemon = Daemon::start(&pair.client)?;
        let addresses = servers.iter().flat_map(|port| Family::BOTH.map(|family| wildcard(family, *port)));
        let servers =
            addresses.map(|address| Sink::start(&pair.server, address, OnClose::Hold)).collect::<Result<_>>()?;
        let (api, caller) = (Api::at(daemon.socket()), Peer::start(&pair.client, "caller")?);
        Ok(Self { pair, daemon, api, caller, _servers: servers })
    }

    fn target(&self, family: Family, port: u16) -> SocketAddr {
        self.pair.link.right.socket(family, port)
    }

    /// Fills a destination, and checks that this many ports were found and are shown.
    fn assert_fills(&self, calls: &Calls, count: u32) -> Result<()> {
        assert_eq!(fill(&self.api, &self.caller, calls)?, count, "{}", calls.target);
        assert_full(&self.api, &self.caller, calls, count).map(drop)
    }

    fn stop(self) -> Result<()> {
        drop(self.caller);
        self.daemon.stop(Signal::SIGTERM)
    }
}

fn held(target: SocketAddr) -> Calls {
    Calls::held(target, 1)
}

#[test]
fn a_destination_of_each_family_has_the_whole_range() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let few = Few::new(&pair, 20, &[80, 81])?;
    for family in Family::BOTH {
        for port in [80, 81] {
            few.assert_fills(&held(few.target(family, port)), 20)?;
        }
    }
    few.stop()
}

#[test]
fn a_mapped_address_is_that_of_ipv4() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let few = Few::new(&pair, 20, &[80])?;
    let calls = held(few.target(Family::Ipv4, 80));
    let mapped = SocketAddr::new(pair.link.right.ipv4.to_ipv6_mapped().into(), 80);
    assert_eq!(few.caller.call(&Calls::held(mapped, 8))?.connected, 8);
    assert_eq!(fill(&few.api, &few.caller, &calls)?, 12);
    assert!(!agrees(&few.api, &few.caller, &held(mapped))?.1);
    let failed = BEYOND + 1;
    let ports = few.api.counted_ports()?;
    let found = row(&ports, calls.target)?;
    assert_eq!((found.in_use, found.capacity, found.failures), (20, 20, failed));
    for _ in 0..3 {
        few.api.counted_ports()?;
    }
    let alerts = alerts(&few.api, AlertKind::PortAllocationFailed, calls.target)?;
    let reported: Vec<_> = alerts.iter().filter_map(|alert| Some(alert.evidence.ports()?.failures)).collect();
    assert_eq!(reported, [failed], "{alerts:?}");
    let counts: Vec<u64> = failures(&ports, calls.target).iter().map(|failure| failure.count).collect();
    assert_eq!(counts, [failed], "one process, one destination: {:?}", ports.failures);
    few.stop()
}

#[test]
fn reserved_ports_are_not_chosen() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let few = Few::new(&pair, 20, &[80])?;
    pair.client.sysctl("net.ipv4.ip_local_reserved_ports", "80,40003,40010-40014,50000")?;
    for family in Family::BOTH {
        few.assert_fills(&held(few.target(family, 80)), 14)?;
    }
    let ports = few.api.counted_ports()?;
    let [space] = &ports.namespaces[..] else { panic!("one namespace: {ports:?}") };
    assert_eq!((space.netns, space.reserved, space.bound), (pair.client.inode(), 6, 0));
    assert_eq!(space.range, PortRange { low: LOW, high: LOW + 19 });
    few.stop()
}

#[test]
fn ports_of_listeners_are_not_chosen() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let few = Few::new(&pair, 20, &[80])?;
    let inside = |address: &str| listen(&pair.client, address.parse()?, ListenOptions::default());
    let listener = inside("0.0.0.0:40005")?;
    let _others = [inside("[::]:40007")?, inside("127.0.0.1:40009")?];
    let to_listener = SocketAddr::new(pair.link.left.ipv4.into(), 40_005);
    let _accepted =
        [(); 2].map(|()| connected(&pair.server, to_listener, &listener)).into_iter().collect::<Result<Vec<_>>>()?;
    for family in Family::BOTH {
        few.assert_fills(&held(few.target(family, 80)), 17)?;
    }
    let ports = few.api.counted_ports()?;
    assert_eq!(ports.namespaces[0].bound, 3);
    assert_eq!(ports.ports.len(), 2, "connections that were accepted hold no port: {:?}", ports.ports);
    let answer = few.api.explain_connect(few.target(Family::Ipv4, 80), None)?;
    let causes: Vec<_> = answer.causes.iter().map(|cause| (cause.rule, cause.ports)).collect();
    assert_eq!(causes, [(ConnectRule::Connected, 17), (ConnectRule::Bound, 3)]);
    few.stop()
}

#[test]
fn each_source_address_has_ports_of_its_own() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    pair.client.ip("addr add 10.77.1.3/24 dev lan1")?;
    let few = Few::new(&pair, 20, &[80])?;
    let first = held(few.target(Family::Ipv4, 80));
    let second: IpAddr = Ipv4Addr::new(10, 77, 1, 3).into();
    let second = Calls { source: Some(Source { address: second, without_port: true }), ..first.clone() };
    few.assert_fills(&first, 20)?;
    few.assert_fills(&second, 20)?;
    let ports = few.api.counted_ports()?;
    let mut sources: Vec<_> =
        rows(&ports, first.target).map(|row| (row.source, row.in_use, row.bound, row.failures)).collect();
    sources.sort_unstable();
    let expected = [pair.link.left.ipv4, Ipv4Addr::new(10, 77, 1, 3)].map(|source| (source.into(), 20, 0, BEYOND));
    assert_eq!(sources, expected);
    few.stop()
}

#[test]
fn a_connect_that_does_not_wait_is_counted_when_it_finds_no_port() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let few = Few::new(&pair, 20, &[80])?;
    for family in Family::BOTH {
        few.assert_fills(&Calls { nonblocking: true, ..held(few.target(family, 80)) }, 20)?;
    }
    few.stop()
}

#[test]
fn ports_that_bind_chose_serve_one_connection() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let few = Few::new(&pair, 20, &[80, 81, 82])?;
    let (source, caller) = (pair.link.left.ip(Family::Ipv4), &few.caller);
    let any = SocketAddr::new(source, 0);
    // Two destinations in turn: they share the ports.
    for number in 0..23 {
        let answer = few.api.explain_bind(any, "")?;
        let socket = caller.open(&Options::default())?;
        let bound = caller.bind(socket, any)?;
        assert_eq!(answer.error.map_or(OK, BindError::name), bound, "the {number}th");
        assert_eq!(bound == OK, number < 20, "the {number}th: {bound}");
        if bound == OK {
            assert_eq!(caller.connect(socket, few.target(Family::Ipv4, 80 + number % 2))?, OK);
        }
        assert!(few.api.explain_bind("127.0.0.1:0".parse()?, "")?.succeeds, "another address has its own");
    }
    let ports = few.api.counted_ports()?;
    for port in [80, 81] {
        let row = row(&ports, few.target(Family::Ipv4, port))?;
        assert_eq!((row.in_use, row.bound, row.capacity, row.used_ratio), (10, 10, 10, 1.0));
        assert_eq!(row.failures, 0, "connect() did not fail");
    }
    let pools: Vec<_> = ports.bind_pools.iter().filter(|pool| pool.source == source).collect();
    let [pool] = pools[..] else { panic!("one pool of {source}: {ports:?}") };
    assert_eq!((pool.in_use, pool.bound, pool.capacity, pool.used_ratio), (20, 20, 20, 1.0));
    assert_eq!(ports.namespaces[0].bound, 20);

    // What was bound is passed over by every connect().
    let (answer, found) = agrees(&few.api, caller, &held(few.target(Family::Ipv4, 82)))?;
    let causes: Vec<_> = answer.causes.iter().map(|cause| (cause.rule, cause.ports)).collect();
    assert_eq!((found, causes, answer.capacity), (false, vec![(ConnectRule::Bound, 20)], 20));
    let other = caller.open(&Options::default())?;
    assert_eq!(caller.bind(other, "127.0.0.1:0".parse()?)?, OK);
    eventually("the pool is alarming", || {
        let is_it = |alert: &tracker_model::api::Alert| {
            alert.kind == AlertKind::PortExhaustion
                && alert.subject.source == Some(source)
                && alert.evidence.ports().is_some_and(|evidence| evidence.pool == PortPool::Bind)
        };
        Ok(few.api.alerts()?.answer.alerts.iter().any(is_it))
    })?;
    few.stop()
}

#[test]
fn a_source_that_is_bound_without_a_port_leaves_it_to_connect() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let few = Few::new(&pair, 20, &[80, 81])?;
    let source = pair.link.left.ip(Family::Ipv4);
    for port in [80, 81] {
        let calls = held(few.target(Family::Ipv4, port));
        few.assert_fills(&Calls { source: Some(Source { address: source, without_port: true }), ..calls }, 20)?;
    }
    let ports = few.api.counted_ports()?;
    let pools: Vec<_> = ports.bind_pools.iter().filter(|pool| pool.source == source).collect();
    let [pool] = pools[..] else { panic!("one pool of {source}: {ports:?}") };
    assert_eq!((pool.in_use, pool.bound, pool.capacity), (20, 0, 20));
    assert_eq!(ports.namespaces[0].bound, 0);
    // They are no trouble for connect(), and in the way of bind() all the same.
    let any = SocketAddr::new(source, 0);
    let socket = few.caller.open(&Options::default())?;
    let bound = few.caller.bind(socket, any)?;
    assert_eq!(few.api.explain_bind(any, "")?.error.map_or(OK, BindError::name), bound);
    assert_eq!(bound, "EADDRINUSE");
    few.stop()
}

#[test]
fn a_time_wait_keeps_what_bind_chose() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    pair.client.sysctl("net.ipv4.tcp_tw_reuse", "1")?;
    keep_time_wait(&pair.client)?;
    let few = Few::new(&pair, 20, &[80])?;
    let _closing = Sink::start(&pair.server, wildcard(Family::Ipv4, 81), OnClose::Follow)?;
    let source = Some(Source { address: pair.link.left.ip(Family::Ipv4), without_port: false });
    let closed = Calls { source, keep: Keep::Close, ..Calls::held(few.target(Family::Ipv4, 81), 8) };
    assert_eq!(few.caller.call(&closed)?.connected, 8);
    // Old enough to be taken, were it not for bind().
    thread::sleep(Duration::from_millis(1_300));
    few.assert_fills(&held(few.target(Family::Ipv4, 80)), 12)?;
    let ports = few.api.counted_ports()?;
    let row = row(&ports, closed.target)?;
    assert_eq!((row.time_wait, row.bound, row.recyclable, row.reusable), (8, 8, 0, 0));
    assert_eq!(ports.namespaces[0].bound, 8);
    few.stop()
}

#[test]
fn a_namespace_has_a_range_of_its_own() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    narrow(&pair.client, 20)?;
    pair.server.sysctl("net.ipv4.ip_local_port_range", "50000 50009")?;
    pair.server.sysctl("net.ipv4.ip_local_reserved_ports", "50009")?;
    let daemon = Daemon::start(&pair.server)?;
    let api = Api::at(daemon.socket());
    let _servers = [&pair.client, &pair.server]
        .map(|namespace| Sink::start(namespace, wildcard(Family::Ipv4, 80), OnClose::Hold))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let (inside, outside) = (Peer::start(&pair.server, "inside")?, Peer::start(&pair.client, "outside")?);
    let calls = held(pair.link.left.socket(Family::Ipv4, 80));
    assert_eq!(fill(&api, &inside, &calls)?, 9, "fifty thousand and up, one of ten reserved");
    assert_full(&api, &inside, &calls, 9)?;
    let there = pair.link.right.socket(Family::Ipv4, 80);
    assert_eq!(outside.call(&Calls::held(there, 25))?.failed, counts([(NO_PORT, 5)]));
    let ports = api.counted_ports()?;
    assert_eq!(ports.ports.len(), 1, "what happens elsewhere is not counted: {:?}", ports.ports);
    assert!(failures(&ports, there).is_empty(), "{:?}", ports.failures);
    let [space] = &ports.namespaces[..] else { panic!("one namespace: {ports:?}") };
    assert_eq!((space.netns, space.reserved), (pair.server.inode(), 1));
    assert_eq!(space.range, PortRange { low: 50_000, high: 50_009 });
    drop((inside, outside));
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn one_port_of_an_odd_range_is_mostly_passed_over() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let few = Few::new(&pair, 21, &[80, 81, 82])?;
    let calls = held(few.target(Family::Ipv4, 80));
    let (mut connected, mut failed) = (0, 0);
    // The lowest is found by the attempts alone that begin with it, and these do not find the highest: the two count as
    // one.
    while failed < 60 {
        let answer = few.api.explain_connect(calls.target, None)?;
        assert_eq!(answer.capacity, 20);
        assert!(matches!(answer.free_ports + connected, 20 | 21), "{connected} ports: {answer:#?}");
        let found = few.caller.once(&calls)? == OK;
        let is_certain = answer.free_ports > 0 || answer.would_fail;
        assert!(!is_certain || found != answer.would_fail, "{connected} ports: {found}, {answer:#?}");
        assert_eq!(answer.would_fail, connected == 21, "{connected} ports: {answer:#?}");
        if found { connected += 1 } else { failed += 1 }
    }
    assert!((20..=21).contains(&connected), "{connected} ports");
    let ports = few.api.counted_ports()?;
    let found = row(&ports, calls.target)?;
    assert_eq!((found.in_use, found.capacity, found.used_ratio, found.failures), (connected, connected, 1.0, 60));
    for (size, port, count) in [(3, 81, 2), (1, 82, 1)] {
        narrow(&pair.client, size)?;
        few.assert_fills(&held(few.target(Family::Ipv4, port)), count)?;
    }
    few.stop()
}
