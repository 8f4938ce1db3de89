//! A `bind()` that is refused is shown with who holds the port, TCP and UDP apart; and a port that a process chose
//! itself and that is taken is no sign that ports run out.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use tracker_model::{
    api::{Alert, AlertKind, AlertState, PortConflict},
    explain::Protocol,
    process::Process,
};
use tracker_tests::{
    Family,
    api::Api,
    daemon::{self, Daemon},
    pair::Pair,
    peer::{OK, Options, Peer},
    serial,
    sink::{OnClose, Sink},
};

use crate::{
    ports_support::{NO_PORT, failures},
    support::{counts, eventually, wildcard},
};

/// The error of a `bind()` to a port that is held.
const IN_USE: &str = "EADDRINUSE";
/// Mounts tracefs where it is not, for the command behind it alone.
pub(crate) const TRACEFS: [&str; 6] = [
    "unshare",
    "--mount",
    "sh",
    "-c",
    "test -e /sys/kernel/tracing/events || mount -t tracefs nodev /sys/kernel/tracing; exec \"$@\"",
    "sh",
];

/// How often each protocol is refused.
const REFUSED: [(Protocol, usize); 2] = [(Protocol::Tcp, 3), (Protocol::Udp, 2)];

#[test]
fn a_refused_bind_is_reported_with_who_holds_the_port() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let daemon = daemon::settings(&pair.client)?.arguments(&["--trace-bind"]).through(&TRACEFS).start()?;
    let api = Api::at(daemon.socket());
    for family in Family::BOTH {
        let (address, elsewhere) = (wildcard(family, 8_080), pair.link.left.socket(family, 8_081));
        let options = |protocol| Options {
            udp: protocol == Protocol::Udp,
            ipv6: family == Family::Ipv6,
            ipv6_only: family == Family::Ipv6,
            ..Options::default()
        };
        let holder = Peer::start(&pair.client, "holder")?;
        for (protocol, _) in REFUSED {
            let socket = holder.open(&options(protocol))?;
            ensure!(holder.bind(socket, address)? == OK);
            ensure!(protocol == Protocol::Udp || holder.listen(socket)? == OK);
        }
        let late = Peer::start(&pair.client, "late")?;
        // Its ports are those of TCP.
        let multipath = late.open(&Options { multipath: true, ..options(Protocol::Tcp) })?;
        ensure!(late.bind(multipath, address)? == IN_USE);
        for (protocol, count) in REFUSED {
            let socket = late.open(&options(protocol))?;
            for _ in usize::from(protocol == Protocol::Tcp)..count {
                let outcome = late.bind(socket, address)?;
                ensure!(outcome == IN_USE, "{protocol} {address}: {outcome}");
            }
            // Neither is an address that is held.
            let foreign: SocketAddr = (Ipv4Addr::new(203, 0, 113, 9), 8_080).into();
            ensure!(family == Family::Ipv6 || late.bind(socket, foreign)? == NO_PORT);
            ensure!(late.bind(socket, elsewhere)? == OK);
        }
        for (protocol, count) in REFUSED {
            let count = u64::try_from(count)?;
            eventually("the holder is named", || Ok(conflict(&api, protocol, address)?.holders.len() == 1))?;
            let seen = conflict(&api, protocol, address)?;
            let who = |peer: &Peer| Process { pid: peer.pid(), comm: peer.name().to_owned() };
            assert_eq!((seen.count, seen.process.clone(), seen.uid), (count, who(&late), 0), "{seen:?}");
            assert_eq!((seen.holders[0].pid, seen.holders[0].comm.as_str()), (holder.pid(), holder.name()));
            let alert = alert_of(&api, protocol, address)?;
            assert_eq!((alert.state, alert.subject.process.as_ref()), (AlertState::Firing, Some(&who(&late))));
            let calls = alert.evidence.ports().context("figures of ports")?;
            assert_eq!((calls.failures, calls.processes.as_slice()), (count, seen.holders.as_slice()));
            let (named, option) = if protocol == Protocol::Udp { (" (UDP)", " --udp") } else { ("", "") };
            let summary = format!("bind() to {address}{named} failed, the address is in use: {count} calls failed");
            assert!(alert.summary.starts_with(&summary), "{}", alert.summary);
            assert!(alert.advice.contains(&format!("`tracker explain bind {address}{option}`")), "{}", alert.advice);
            assert_eq!(counted(&daemon, protocol, address)?, count, "{protocol} {address}");
        }
    }
    assert_eq!(api.counted_ports()?.conflicts.len(), 4, "nothing else was refused");
    daemon.stop(Signal::SIGTERM)
}

fn conflict(api: &Api, protocol: Protocol, address: SocketAddr) -> Result<PortConflict> {
    let ports = api.counted_ports()?;
    let is_it = |conflict: &&PortConflict| {
        (conflict.address, conflict.port) == (address.ip(), address.port())
            && conflict.protocol.eq_ignore_ascii_case(&protocol.to_string())
    };
    let all: Vec<_> = ports.conflicts.iter().filter(is_it).collect();
    let [one] = all[..] else { anyhow::bail!("one of {protocol} {address}: {:?}", ports.conflicts) };
    Ok(one.clone())
}

fn alert_of(api: &Api, protocol: Protocol, address: SocketAddr) -> Result<Alert> {
    let alerts = api.alerts()?.answer.alerts;
    let subject = (Some(protocol), Some(address.ip()), Some(address.port()));
    let is_it = |alert: &&Alert| {
        alert.kind == AlertKind::BindConflict
            && (alert.subject.protocol, alert.subject.address, alert.subject.port) == subject
    };
    let all: Vec<_> = alerts.iter().filter(is_it).collect();
    let [one] = all[..] else { anyhow::bail!("one of {protocol} {address}: {alerts:#?}") };
    Ok(one.clone())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
fn counted(daemon: &Daemon<'_>, protocol: Protocol, address: SocketAddr) -> Result<u64> {
    let (protocol, ip, port) =
        (protocol.to_string().to_lowercase(), address.ip().to_string(), address.port().to_string());
    let labels = [("protocol", protocol.as_str()), ("address", &ip), ("port", &port)];
    Ok(daemon.metrics()?.sum("tracker_bind_conflicts_total", &labels) as u64)
}

#[test]
fn a_port_that_the_process_chose_and_that_is_taken_is_no_want_of_ports() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let daemon = Daemon::start(&pair.client)?;
    let api = Api::at(daemon.socket());
    for family in Family::BOTH {
        let _server = Sink::start(&pair.server, wildcard(family, 80), OnClose::Hold)?;
        let (target, own) = (pair.link.right.socket(family, 80), pair.link.left.socket(family, 5_555));
        let caller = Peer::start(&pair.client, "caller")?;
        let options = Options { ipv6: family == Family::Ipv6, reuse_address: true, ..Options::default() };
        let [first, second] = [caller.open(&options)?, caller.open(&options)?];
        for socket in [first, second] {
            ensure!(caller.bind(socket, own)? == OK);
        }
        ensure!(caller.connect(first, target)? == OK);
        let outcome = caller.connect(second, target)?;
        ensure!(outcome == NO_PORT, "{outcome}");
        let ports = api.counted_ports()?;
        let [failure] = failures(&ports, target)[..] else { panic!("one failure: {:?}", ports.failures) };
        assert_eq!((failure.count, failure.source_port), (1, Some(5_555)), "{failure:?}");
        assert_eq!((failure.process.pid, failure.process.comm.as_str()), (caller.pid(), caller.name()));
    }
    assert_eq!(daemon.states()?.connects.failed, counts([(NO_PORT, 2)]));
    let metrics = daemon.metrics()?;
    assert_eq!(metrics.sum("tracker_port_allocation_failures_total", &[]).to_bits(), 0.0_f64.to_bits());
    assert_eq!(api.alerts()?.answer.alerts, [], "ports are not short");
    daemon.stop(Signal::SIGTERM)
}
