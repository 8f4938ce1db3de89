//! Sockets that are older than the daemon are in its figures at once.

use std::{
    net::{Ipv4Addr, Shutdown, TcpStream},
    time::Duration,
};

use anyhow::Result;
use nix::sys::signal::Signal;
use tracker_tests::{
    Family, client,
    daemon::Daemon,
    packet_socket::PacketSocket,
    pair::Pair,
    segment::Route,
    serial,
    server::{self, ListenOptions, connected, listen},
    ss,
};

use crate::support::{assert_equal_to_ss, eventually, listener, stranger, wildcard};

#[test]
fn sockets_in_every_state_that_are_older_than_the_daemon() -> Result<()> {
    let _alone = serial::alone();
    // A wire that can be cut, for the states in which a FIN is not acknowledged.
    let pair = Pair::delayed(Duration::ZERO)?;
    let here = &pair.server;
    here.sysctl("net.ipv4.tcp_syncookies", "0")?;
    let mut kept: Vec<TcpStream> = Vec::new();
    let mut listeners = Vec::new();
    for (family, established, half_open) in [(Family::Ipv4, 5, 6), (Family::Ipv6, 7, 2)] {
        let target = pair.link.right.socket(family, 1_000);
        let listening = listen(here, wildcard(family, 1_000), ListenOptions::default())?;
        for _ in 0..established {
            kept.extend(<[_; 2]>::from(connected(&pair.client, target, &listening)?));
        }
        // Closed here first: TIME_WAIT.
        let (client, server) = connected(&pair.client, target, &listening)?;
        drop(server);
        eventually("the FIN arrives", || Ok(client.peek(&mut [0])? == 0))?;
        drop(client);
        // Half closed here: FIN_WAIT2, with its socket and as an orphan.
        let (client, server) = connected(&pair.client, target, &listening)?;
        server.shutdown(Shutdown::Write)?;
        kept.extend([client, server]);
        let (client, server) = connected(&pair.client, target, &listening)?;
        drop(server);
        kept.push(client);
        // Half closed there: CLOSE_WAIT.
        let (client, server) = connected(&pair.client, target, &listening)?;
        drop(client);
        kept.push(server);
        // Asked for and never answered: half-open.
        let socket = PacketSocket::sender(&pair.client, &pair.link.left.device)?;
        let route = Route { from: &pair.link.left, to: &pair.link.right };
        for host in 1..=half_open {
            socket.send(&route.syn((stranger(family, host), 1_024).into(), target))?;
        }
        listeners.push(listening);
    }
    let cut_later = [Family::Ipv4, Family::Ipv6].map(|family| unacknowledged(&pair, family));
    let pending = cut_later.into_iter().flat_map(|ends| ends.expect("two connections")).collect::<Vec<_>>();
    for family in Family::BOTH {
        eventually("everything has arrived", || {
            let counts = ss::count(here, family)?;
            let has = |state| counts.contains_key(state);
            Ok(["established", "time_wait", "fin_wait2", "close_wait", "half_open"].into_iter().all(has))
        })?;
    }
    pair.link.wire().expect("a wire joins them").cut(true);
    drop(pending);

    let daemon = Daemon::start(here)?;
    for family in Family::BOTH {
        let seen = daemon.counts(family)?;
        for state in
            ["established", "syn_sent", "fin_wait1", "fin_wait2", "time_wait", "close_wait", "last_ack", "listen", "half_open"]
        {
            assert!(seen.contains_key(state), "{family:?}: no {state} in {seen:?}");
        }
    }
    assert_equal_to_ss(&daemon, here)?;
    for (family, half_open) in [(Family::Ipv4, 6), (Family::Ipv6, 2)] {
        let listener = listener(&daemon, wildcard(family, 1_000))?;
        let connected = ss::count(here, family)?["established"];
        assert_eq!((listener.half_open, listener.syn_queue), (Some(half_open), Some(half_open)));
        assert_eq!(listener.connected.map(u64::from), Some(connected));
        assert_eq!(listener.syns_received, 0, "they came before the daemon");
    }
    daemon.stop(Signal::SIGTERM)
}
