//! What the cases of local ports need.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::{Context as _, Result, ensure};
use tracker_model::{
    api::{Alert, AlertKind, PortFailure, PortHolder, PortUse, Ports},
    explain::ConnectAnswer,
};
use tracker_tests::{
    api::Api,
    namespace::Namespace,
    peer::{Calls, OK, Peer},
};

use crate::support::eventually;

/// The error of a `connect()` that finds no port.
pub(crate) const NO_PORT: &str = "EADDRNOTAVAIL";
/// Lowest port of the ranges here.
pub(crate) const LOW: u16 = 40_000;

/// Narrows the ports that the kernel chooses from to this many.
pub(crate) fn narrow(namespace: &Namespace, ports: u16) -> Result<()> {
    namespace.sysctl("net.ipv4.ip_local_port_range", &format!("{LOW} {}", LOW + ports - 1))
}

/// Keeps each `TIME_WAIT` for its minute, whatever comes. On a busy machine the ACK of a FIN may come twice; the second
/// one meets no connection any more, and the RST that answers it would end the `TIME_WAIT` (RFC 1337).
pub(crate) fn keep_time_wait(namespace: &Namespace) -> Result<()> {
    namespace.sysctl("net.ipv4.tcp_rfc1337", "1")
}

/// The row of a destination; there must be one alone.
pub(crate) fn row(ports: &Ports, target: SocketAddr) -> Result<&PortUse> {
    let rows: Vec<_> = rows(ports, target).collect();
    let [row] = rows[..] else { anyhow::bail!("one row of {target}: {rows:?}") };
    Ok(row)
}

/// The rows of a destination.
pub(crate) fn rows(ports: &Ports, target: SocketAddr) -> impl Iterator<Item = &PortUse> {
    ports.ports.iter().filter(move |row| (row.destination, row.destination_port) == (target.ip(), target.port()))
}

/// The failed calls of a destination, by process and name.
pub(crate) fn failures(ports: &Ports, target: SocketAddr) -> Vec<&PortFailure> {
    let is_it =
        |failure: &&PortFailure| (failure.destination, failure.destination_port) == (target.ip(), target.port());
    ports.failures.iter().filter(is_it).collect()
}

/// The alerts of a kind about a destination.
pub(crate) fn alerts(api: &Api, kind: AlertKind, target: SocketAddr) -> Result<Vec<Alert>> {
    let subject = (Some(target.ip()), Some(target.port()));
    let is_it =
        |alert: &Alert| alert.kind == kind && (alert.subject.destination, alert.subject.destination_port) == subject;
    Ok(api.alerts()?.answer.alerts.into_iter().filter(is_it).collect())
}

/// Asks whether a call would find a port, makes it, and checks that it was so: what was answered, and whether it did.
pub(crate) fn agrees(api: &Api, caller: &Peer, calls: &Calls) -> Result<(ConnectAnswer, bool)> {
    let source = calls.source.map(|source| source.address);
    let answer = api.explain_connect(calls.target, source)?;
    let outcome = caller.once(calls)?;
    ensure!(outcome == OK || outcome == NO_PORT, "connect() to {}: {outcome}", calls.target);
    let predicted = if answer.would_fail { NO_PORT } else { OK };
    ensure!(
        predicted == outcome,
        "connect() to {}: tracker says {predicted}, the kernel {outcome}: {answer:#?}",
        calls.target
    );
    Ok((answer, outcome == OK))
}

/// Makes calls that are held until no port is left, and two more. Tracker is asked before each, and must have known how
/// many were left. The answer is how many succeeded.
pub(crate) fn fill(api: &Api, caller: &Peer, calls: &Calls) -> Result<u32> {
    let mut free = Vec::new();
    loop {
        let (answer, found) = agrees(api, caller, calls)?;
        if !found {
            ensure!(answer.free_ports == 0, "none is left: {answer:#?}");
            break;
        }
        free.push(answer.free_ports);
    }
    let count = u32::try_from(free.len())?;
    let left: Vec<u32> = (1..=count).rev().collect();
    ensure!(free == left, "{count} ports were left at first: {free:?}");
    for _ in 0..2 {
        ensure!(!agrees(api, caller, calls)?.1, "a port was free after all");
    }
    Ok(count)
}

/// Calls of [`fill`] that fail.
pub(crate) const BEYOND: u64 = 3;

/// Checks what the census says of a destination that one process has [`fill`]ed: all exact.
pub(crate) fn assert_full(api: &Api, caller: &Peer, calls: &Calls, count: u32) -> Result<PortUse> {
    let target = calls.target;
    let ports = api.counted_ports()?;
    let is_it = |row: &&PortUse| calls.source.is_none_or(|source| source.address == row.source);
    let row = rows(&ports, target).find(is_it).with_context(|| format!("no row of {target}: {ports:#?}"))?;
    assert_eq!((row.in_use, row.time_wait, row.reusable), (count, 0, 0), "{target}");
    assert_eq!((row.capacity, row.used_ratio), (count, 1.0), "{target}");
    assert_eq!(row.states, of_state("established", count));
    assert_eq!((row.failures, row.full_in_seconds), (BEYOND, Some(0.0)), "{target}");
    let failures: Vec<_> =
        failures(&ports, target).into_iter().filter(|failure| failure.source == Some(row.source)).collect();
    let [failure] = failures[..] else { panic!("one process failed to reach {target}: {failures:?}") };
    assert_eq!((failure.process.pid, failure.process.comm.as_str()), (caller.pid(), caller.name()));
    assert_eq!((failure.count, failure.uid), (BEYOND, 0));
    let holder = PortHolder { pid: caller.pid(), comm: caller.name().to_owned(), ports: count };
    eventually("the holder is named", || {
        let ports = api.counted_ports()?;
        let row = rows(&ports, target).find(is_it).context("no row")?;
        Ok(row.processes == [holder.clone()])
    })?;
    Ok(row.clone())
}

/// This many ports in one state: what is zero is left out.
pub(crate) fn of_state(state: &str, count: u32) -> BTreeMap<String, u32> {
    (count > 0).then(|| (state.to_owned(), count)).into_iter().collect()
}
