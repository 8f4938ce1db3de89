//! Local ports of other network namespaces than the daemon's.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};
use tracker_model::api::{AlertKind, PortRange, PortSpace, PortUse, Ports};
use tracker_tests::{
    Family,
    api::Api,
    daemon,
    namespace::Namespace,
    pair::Pair,
    peer::{Calls, Peer},
    serial,
    sink::{OnClose, Sink},
};

use crate::{
    ports_support::{LOW, alerts, failures, narrow, of_state, rows},
    support::{eventually, wildcard},
};

/// Ports of the narrowed range.
const FEW: u16 = 100;

fn space<'a>(ports: &'a Ports, namespace: &Namespace) -> Option<&'a PortSpace> {
    ports.namespaces.iter().find(|space| space.netns == namespace.inode())
}

fn own_row(ports: &Ports, target: SocketAddr, namespace: &Namespace) -> Option<PortUse> {
    rows(ports, target).find(|row| row.netns == namespace.inode()).cloned()
}

#[test]
fn other_namespaces_are_looked_at_with_their_own_settings_until_they_are_gone() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    narrow(&pair.client, FEW)?;
    let daemon = daemon::settings(&pair.server)?.arguments(&["--all-netns"]).start()?;
    let api = Api::at(daemon.socket());
    let caller = Peer::start(&pair.client, "caller")?;
    for family in Family::BOTH {
        let _server = Sink::start(&pair.server, wildcard(family, 80), OnClose::Hold)?;
        let target = pair.link.right.socket(family, 80);
        let tally = caller.call(&Calls::held(target, u32::from(FEW) + 7))?;
        ensure!(tally.connected == u32::from(FEW), "{tally:?}");
        eventually("the other namespace is counted", || {
            let ports = api.counted_ports()?;
            let Some(row) = own_row(&ports, target, &pair.client) else { return Ok(false) };
            let [failure] = failures(&ports, target)[..] else { return Ok(false) };
            let seen = (row.in_use, row.capacity, row.failures, failure.count, failure.netns);
            let named = row.processes.iter().any(|holder| (holder.pid, holder.ports) == (caller.pid(), FEW.into()));
            ensure!(row.in_use <= u32::from(FEW) && failure.count <= 7, "{seen:?}");
            Ok(seen == (FEW.into(), FEW.into(), 7, 7, pair.client.inode())
                && named
                && row.states == of_state("established", FEW.into())
                && failure.process.pid == caller.pid())
        })?;
        let failed = alerts(&api, AlertKind::PortAllocationFailed, target)?;
        let [alert] = &failed[..] else { panic!("one alert: {failed:?}") };
        assert_eq!(alert.subject.netns, pair.client.inode());
    }
    let ports = api.counted_ports()?;
    let space = space(&ports, &pair.client).context("the client's namespace is not listed")?;
    assert_eq!(space.range, PortRange { low: LOW, high: LOW + FEW - 1 });
    assert_eq!((space.name.as_deref(), &ports.unread), (Some(pair.client.name()), &None));
    a_namespace_that_dies_is_forgotten(&api)?;
    daemon.stop(Signal::SIGTERM)
}

fn a_namespace_that_dies_is_forgotten(api: &Api) -> Result<()> {
    let brief = Namespace::new()?;
    let inode = brief.inode();
    let is_listed = || Ok::<_, anyhow::Error>(api.counted_ports()?.namespaces.iter().any(|space| space.netns == inode));
    eventually("it is listed", is_listed)?;
    drop(brief);
    eventually("it is forgotten", || Ok(!is_listed()?))
}

#[test]
fn a_connect_on_a_socket_that_was_refused_before_wants_a_port_too() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    narrow(&pair.client, FEW)?;
    let daemon = daemon::settings(&pair.client)?.start()?;
    let api = Api::at(daemon.socket());
    for family in Family::BOTH {
        let _server = Sink::start(&pair.server, wildcard(family, 80), OnClose::Hold)?;
        let [target, closed] = [80, 81].map(|port| pair.link.right.socket(family, port));
        let socket = pair.client.enter(|| Socket::new(Domain::for_address(target), Type::STREAM, None))?;
        let refused = socket.connect(&closed.into()).map_err(|error| error.raw_os_error());
        ensure!(refused == Err(Some(nix::libc::ECONNREFUSED)), "{refused:?}");
        let caller = Peer::start(&pair.client, "caller")?;
        let tally = caller.call(&Calls::held(target, FEW.into()))?;
        ensure!(tally.connected == u32::from(FEW), "{tally:?}");
        let failed = socket.connect(&target.into()).map_err(|error| error.raw_os_error());
        ensure!(failed == Err(Some(nix::libc::EADDRNOTAVAIL)), "{failed:?}");
        let ports = api.counted_ports()?;
        let [failure] = failures(&ports, target)[..] else { panic!("one failure: {:?}", ports.failures) };
        assert_eq!((failure.count, failure.source_port, failure.process.pid), (1, None, std::process::id()));
        assert_eq!(rows(&ports, target).map(|row| row.failures).sum::<u64>(), 1);
    }
    daemon.stop(Signal::SIGTERM)
}
