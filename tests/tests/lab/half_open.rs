//! Half-open requests, queues and drops: as the kernel has them.

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tracker_tests::{
    Family, client,
    daemon::Daemon,
    packet_socket::PacketSocket,
    pair::Pair,
    segment::Route,
    serial,
    server::{ListenOptions, listen},
    ss,
};

use crate::support::{assert_equal_to_ss, counted, eventually, stranger, wildcard};

const PORT: u16 = 80;

#[test]
fn syns_that_are_never_answered_are_half_open() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    pair.server.sysctl("net.ipv4.tcp_syncookies", "0")?;
    let _listeners = Family::BOTH
        .map(|family| listen(&pair.server, wildcard(family, PORT), ListenOptions::default()))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let daemon = Daemon::start(&pair.server)?;
    for (family, count) in [(Family::Ipv4, 100), (Family::Ipv6, 40)] {
        send_syns(&pair, family, count)?;
        eventually(
            "all have arrived",
            || Ok(ss::count(&pair.server, family)?.get("half_open") == Some(&count.into())),
        )?;
        let listener = counted(&daemon, wildcard(family, PORT))?;
        let count = u32::from(count);
        assert_eq!((listener.half_open, listener.syn_queue), (Some(count), Some(count)));
        assert_eq!(listener.syns_received, u64::from(count));
        assert_eq!((listener.handshakes_completed, listener.handshakes_unanswered), (0, 0), "they may still complete");
        assert_eq!(listener.connected, Some(0));
    }
    assert_equal_to_ss(&daemon, &pair.server)?;
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn requests_that_expire_are_unanswered() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    pair.server.sysctl("net.ipv4.tcp_syncookies", "0")?;
    // The SYN-ACK is never repeated: a request lives for a second.
    pair.server.sysctl("net.ipv4.tcp_synack_retries", "0")?;
    let _listener = listen(&pair.server, wildcard(Family::Ipv4, PORT), ListenOptions::default())?;
    let daemon = Daemon::start(&pair.server)?;
    send_syns(&pair, Family::Ipv4, 25)?;
    eventually("they have come and gone", || {
        let seen = counted(&daemon, wildcard(Family::Ipv4, PORT))?;
        Ok(seen.syns_received == 25 && seen.half_open == Some(0))
    })?;
    let seen = counted(&daemon, wildcard(Family::Ipv4, PORT))?;
    assert_eq!((seen.handshakes_completed, seen.handshakes_unanswered), (0, 25));
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn an_application_that_does_not_accept_fills_its_queue() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let backlog = ListenOptions { backlog: 4, ..ListenOptions::default() };
    let _listeners = Family::BOTH
        .map(|family| listen(&pair.server, wildcard(family, PORT), backlog))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let daemon = Daemon::start(&pair.server)?;
    for family in Family::BOTH {
        // The kernel takes one more than the backlog (sk_acceptq_is_full).
        let taken = client::connect(&pair.client, pair.link.right.socket(family, PORT), 5);
        assert_eq!(taken.streams.len(), 5);
        let before = pair.server.counter("TcpExt", "ListenDrops")?;
        send_syns(&pair, family, 3)?;
        eventually("they are dropped", || Ok(pair.server.counter("TcpExt", "ListenDrops")? == before + 3))?;
        let seen = counted(&daemon, wildcard(family, PORT))?;
        let kernel = ss::listeners(&pair.server, family)?.into_iter().find(|queue| queue.local.ends_with(":80"));
        let kernel = kernel.context("ss shows the listener")?;
        assert_eq!((kernel.accept_queue, kernel.accept_queue_max), (5, 4), "what this test is about: {kernel:?}");
        assert_eq!((seen.accept_queue, seen.accept_queue_max), (Some(5), Some(4)));
        assert_eq!((seen.overflows, seen.half_open), (Some(3), Some(0)));
        assert_eq!((seen.syns_received, seen.handshakes_completed, seen.handshakes_unanswered), (8, 5, 3));
        assert_eq!(seen.connected, Some(5));
    }
    daemon.stop(Signal::SIGTERM)
}

fn send_syns(pair: &Pair, family: Family, count: u8) -> Result<()> {
    let socket = PacketSocket::sender(&pair.client, &pair.link.left.device)?;
    let route = Route { from: &pair.link.left, to: &pair.link.right };
    let target = pair.link.right.socket(family, PORT);
    (1..=count).try_for_each(|host| socket.send(&route.syn((stranger(family, host), 1_024).into(), target)))
}
