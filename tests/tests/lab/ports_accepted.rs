//! A service whose port lies in the range that `connect()` chooses from: its clients take no port of it.

use anyhow::Result;
use nix::sys::signal::Signal;
use tracker_tests::{
    Family,
    api::Api,
    daemon::Daemon,
    namespace::Namespace,
    pair::Pair,
    peer::{Calls, Keep, OK, Peer},
    serial,
    sink::{OnClose, Sink},
};

use crate::{
    ports_support::{LOW, narrow, row},
    support::wildcard,
};

/// Clients of each family.
const CLIENTS: u32 = 300;
/// Ports of the range.
const PORTS: u16 = 1_000;

/// A server of each family at a port.
fn servers(namespace: &Namespace, port: u16, on_close: OnClose) -> Result<Vec<Sink>> {
    Family::BOTH.into_iter().map(|family| Sink::start(namespace, wildcard(family, port), on_close)).collect()
}

#[test]
fn connections_accepted_on_an_ephemeral_port_take_none() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    narrow(&pair.server, PORTS)?;
    let daemon = Daemon::start(&pair.server)?;
    let api = Api::at(daemon.socket());
    let service = LOW + 500;
    let _servers = servers(&pair.server, service, OnClose::Hold)?;
    let closing = LOW + 501;
    // This one closes first: its connections are in TIME_WAIT on the service's port.
    let _closing = servers(&pair.server, closing, OnClose::Close)?;
    let clients = Peer::start(&pair.client, "clients")?;
    for family in Family::BOTH {
        let target = |port| pair.link.right.socket(family, port);
        assert_eq!(clients.call(&Calls::held(target(service), CLIENTS))?.connected, CLIENTS);
        let calls = Calls { keep: Keep::Close, ..Calls::held(target(closing), 50) };
        assert_eq!(clients.call(&calls)?.connected, 50);
    }
    let ports = api.counted_ports()?;
    assert_eq!(ports.ports, [], "no connection was made from here");
    let [space] = &ports.namespaces[..] else { panic!("one namespace: {ports:?}") };
    assert_eq!((space.bound, space.rest.sockets), (2, 0), "two ports of the range are held, by those who listen");
    for pool in &ports.bind_pools {
        assert_eq!((pool.in_use, pool.bound), (2, 2), "{pool:?}");
    }

    assert_free_for_others(&pair, &api)?;
    assert_eq!(api.alerts()?.answer.alerts, []);
    drop(clients);
    daemon.stop(Signal::SIGTERM)
}

/// Nor are they in the way of connections that are made from here.
fn assert_free_for_others(pair: &Pair, api: &Api) -> Result<()> {
    let caller = Peer::start(&pair.server, "caller")?;
    let _there = servers(&pair.client, 80, OnClose::Hold)?;
    for family in Family::BOTH {
        let target = pair.link.left.socket(family, 80);
        assert_eq!(caller.call_once(target)?, OK);
        let answer = api.explain_connect(target, None)?;
        assert_eq!((answer.capacity, answer.held, answer.free_ports), (1_000, 3, 997));
        let ports = api.counted_ports()?;
        let row = row(&ports, target)?;
        assert_eq!((row.in_use, row.capacity), (1, 998));
    }
    Ok(())
}
