//! A `connect()` that fails for any other reason than a lack of ports is not counted as a failure to get one.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};
use tracker_model::api::AlertKind;
use tracker_tests::{
    Family,
    api::Api,
    daemon,
    namespace::Namespace,
    pair::Pair,
    peer::{Calls, Keep, Peer},
    serial,
    sink::{OnClose, Sink},
};

use crate::support::{counts, eventually, stranger, wildcard};

/// Ways to see socket events. Each counts alike.
const SOCKET_EVENTS: [&str; 2] = ["tp_btf", "raw_tp"];

#[test]
fn other_failures_of_connect_are_no_exhaustion() -> Result<()> {
    let _alone = serial::alone();
    for events in SOCKET_EVENTS {
        let pair = Pair::plain()?;
        pair.client.sysctl("net.ipv4.tcp_syn_retries", "1")?;
        let daemon = daemon::settings(&pair.client)?.arguments(&["--socket-events", events]).start()?;
        let api = Api::at(daemon.socket());
        let caller = Peer::start(&pair.client, "caller")?;
        let silent = [stranger(Family::Ipv4, 1), stranger(Family::Ipv6, 1)].map(|ip| SocketAddr::new(ip, 80));
        // Calls that time out, from processes of their own, while the others go on.
        let waiting = silent.map(|_| Peer::start(&pair.client, "waiting")).into_iter().collect::<Result<Vec<_>>>()?;
        for (peer, target) in waiting.iter().zip(silent) {
            peer.begin(&Calls::held(target, 1))?;
        }
        for family in Family::BOTH {
            let _server = Sink::start(&pair.server, wildcard(family, 80), OnClose::Reset)?;
            let refused = caller.call(&Calls::held(pair.link.right.socket(family, 81), 20))?;
            ensure!(refused.failed == counts([("ECONNREFUSED", 20)]), "{refused:?}");
            let reset = caller
                .call(&Calls { keep: Keep::Milliseconds(50), ..Calls::held(pair.link.right.socket(family, 80), 20) })?;
            // The reset may come before connect() has returned.
            let is_reset = reset.failed.keys().all(|error| error == "ECONNRESET");
            ensure!(reset.attempted == 20 && is_reset, "{reset:?}");
            given_up(&pair.client, (stranger(family, 2), 80).into())?;
        }
        for peer in &waiting {
            let tally = peer.finish(Duration::from_secs(20))?;
            ensure!(tally.failed == counts([("ETIMEDOUT", 1)]), "{tally:?}");
        }
        let expected = counts([("ECANCELED", 2), ("ECONNREFUSED", 40), ("ETIMEDOUT", 2)]);
        eventually("all are counted", || Ok(daemon.states()?.connects.failed == expected))?;
        let ports = api.counted_ports()?;
        assert!(ports.failures.is_empty(), "{:?}", ports.failures);
        assert!(ports.ports.iter().all(|row| row.failures == 0), "{:?}", ports.ports);
        let kinds: Vec<AlertKind> = api.alerts()?.answer.alerts.iter().map(|alert| alert.kind).collect();
        assert!(kinds.is_empty(), "{kinds:?}");
        drop((caller, waiting));
        daemon.stop(Signal::SIGTERM)?;
    }
    Ok(())
}

/// A call that its process gives up.
fn given_up(namespace: &Namespace, target: SocketAddr) -> Result<()> {
    let socket = namespace.enter(|| Socket::new(Domain::for_address(target), Type::STREAM, None))?;
    let result = socket.connect_timeout(&target.into(), Duration::from_millis(50));
    ensure!(result.is_err(), "nobody answers");
    Ok(())
}
