//! Half-open requests, queues and drops: as the kernel has them.

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tracker_tests::{
    Family, client,
    daemon::Daemon,
    pair::Pair,
    serial,
    server::{ListenOptions, listen},
    ss,
};

use crate::support::{Sender, assert_equal_to_ss, counted, eventually, half_open, wildcard};

const PORT: u16 = 80;

#[test]
fn syns_that_are_never_answered_are_half_open() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let sender = Sender::of(&pair)?;
    pair.server.sysctl("net.ipv4.tcp_syncookies", "0")?;
    let _listeners = Family::BOTH
        .map(|family| listen(&pair.server, wildcard(family, PORT), ListenOptions::default()))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let daemon = Daemon::start(&pair.server)?;
    for (family, count) in [(Family::Ipv4, 100), (Family::Ipv6, 40)] {
        sender.syns(family, count, PORT)?;
        half_open(&pair.server, family, count.into())?;
        let listener = counted(&daemon, wildcard(family, PORT))?;
        let count = u32::from(count);
        assert_eq!(listener.queues.map(|queues| (queues.half_open, queues.syn_queue)), Some((count, count)));
        assert_eq!(listener.syns_received, u64::from(count));
        assert_eq!((listener.handshakes_completed, listener.handshakes_unanswered), (0, 0), "they may still complete");
        assert_eq!(listener.queues.map(|queues| queues.connected), Some(0));
    }
    assert_equal_to_ss(&daemon, &pair.server)?;
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn requests_that_expire_are_unanswered() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let sender = Sender::of(&pair)?;
    pair.server.sysctl("net.ipv4.tcp_syncookies", "0")?;
    // The SYN-ACK is never repeated: a request lives for a second.
    pair.server.sysctl("net.ipv4.tcp_synack_retries", "0")?;
    let _listener = listen(&pair.server, wildcard(Family::Ipv4, PORT), ListenOptions::default())?;
    let daemon = Daemon::start(&pair.server)?;
    sender.syns(Family::Ipv4, 25, PORT)?;
    eventually("they have come and gone", || {
        let seen = counted(&daemon, wildcard(Family::Ipv4, PORT))?;
        Ok(seen.syns_received == 25 && seen.queues.map(|queues| queues.half_open) == Some(0))
    })?;
    let seen = counted(&daemon, wildcard(Family::Ipv4, PORT))?;
    assert_eq!((seen.handshakes_completed, seen.handshakes_unanswered), (0, 25));
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn an_application_that_does_not_accept_fills_its_queue() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let sender = Sender::of(&pair)?;
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
        sender.syns(family, 3, PORT)?;
        eventually("they are dropped", || Ok(pair.server.counter("TcpExt", "ListenDrops")? == before + 3))?;
        let seen = counted(&daemon, wildcard(family, PORT))?;
        let kernel = ss::listeners(&pair.server, family)?.into_iter().find(|queue| queue.local.ends_with(":80"));
        let kernel = kernel.context("ss shows the listener")?;
        assert_eq!((kernel.accept_queue, kernel.accept_queue_max), (5, 4), "what this test is about: {kernel:?}");
        assert_eq!(
            (seen.queues.map(|queues| queues.accept_queue), seen.queues.map(|queues| queues.accept_queue_max)),
            (Some(5), Some(4))
        );
        assert_eq!(
            (seen.queues.map(|queues| queues.drops), seen.queues.map(|queues| queues.half_open)),
            (Some(3), Some(0))
        );
        assert_eq!((seen.syns_received, seen.handshakes_completed, seen.handshakes_unanswered), (8, 5, 3));
        assert_eq!(seen.queues.map(|queues| queues.connected), Some(5));
    }
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn requests_whose_time_is_up_are_expired_and_completed_ones_are_not() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let sender = Sender::of(&pair)?;
    pair.server.sysctl("net.ipv4.tcp_syncookies", "0")?;
    // A SYN-ACK is repeated once: a request lives for three seconds.
    pair.server.sysctl("net.ipv4.tcp_synack_retries", "1")?;
    let listening = |family| listen(&pair.server, wildcard(family, PORT), ListenOptions::default());
    // Of a listener that is older than the daemon the repeats are known from the sample alone; of others the kernel's
    // drops have them too.
    let _older = listening(Family::Ipv4)?;
    let daemon = Daemon::start(&pair.server)?;
    let _younger = listening(Family::Ipv6)?;
    for family in Family::BOTH {
        let address = wildcard(family, PORT);
        let taken = client::connect(&pair.client, pair.link.right.socket(family, PORT), 30);
        assert_eq!(taken.streams.len(), 30);
        sender.syns(family, 25, PORT)?;
        // Ten of them once more: these belong to requests that are there.
        sender.syns(family, 10, PORT)?;
        half_open(&pair.server, family, 25)?;
        let seen = counted(&daemon, address)?;
        assert_eq!(
            (seen.queues.map(|queues| queues.half_open), seen.handshakes_expired),
            (Some(25), Some(0)),
            "they may still complete"
        );
        half_open(&pair.server, family, 0)?;
        let seen = counted(&daemon, address)?;
        assert_eq!(
            (seen.syns_received, seen.syns_repeated, seen.queues.map(|queues| queues.drops)),
            (65, 10, Some(10))
        );
        assert_eq!((seen.uid.is_none(), seen.handshakes_completed), (family == Family::Ipv4, 30));
        // The repeats found their requests: TCP looked for no listener.
        assert_eq!(seen.delivery.map(|delivery| (delivery.delivered, delivery.undelivered)), Some((55, 10)));
        assert_eq!((seen.handshakes_unanswered, seen.handshakes_expired), (25, Some(25)), "without the repeats");
    }
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn what_was_turned_away_is_not_expired() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let sender = Sender::of(&pair)?;
    let one = ListenOptions { backlog: 1, ..ListenOptions::default() };
    let older = listen(&pair.server, wildcard(Family::Ipv4, PORT), one)?;
    let daemon = Daemon::start(&pair.server)?;
    let younger = listen(&pair.server, wildcard(Family::Ipv4, PORT + 1), one)?;
    for (port, expired) in [(PORT, 7), (PORT + 1, 0)] {
        let taken = client::connect(&pair.client, pair.link.right.socket(Family::Ipv4, port), 2);
        assert_eq!(taken.streams.len(), 2);
        sender.syns(Family::Ipv4, 7, port)?;
        let seen = counted(&daemon, wildcard(Family::Ipv4, port))?;
        assert_eq!(
            (seen.syns_received, seen.handshakes_completed, seen.queues.map(|queues| queues.drops)),
            (9, 2, Some(7)),
            "{port}"
        );
        // How many an older listener had turned away before is not known, so of it the bound is not as close.
        assert_eq!((seen.handshakes_unanswered, seen.handshakes_expired), (7, Some(expired)), "{port}");
    }
    drop((older, younger));
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn cookies_that_are_not_returned_are_expired() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let sender = Sender::of(&pair)?;
    pair.server.sysctl("net.ipv4.tcp_syncookies", "2")?;
    let daemon = Daemon::start(&pair.server)?;
    for family in Family::BOTH {
        let address = wildcard(family, PORT);
        let _listener = listen(&pair.server, address, ListenOptions::default())?;
        let taken = client::connect(&pair.client, pair.link.right.socket(family, PORT), 12);
        assert_eq!(taken.streams.len(), 12);
        sender.syns(family, 20, PORT)?;
        let seen = counted(&daemon, address)?;
        assert_eq!((seen.handshakes_completed, seen.queues.map(|queues| queues.half_open)), (12, Some(0)));
        assert_eq!((seen.handshakes_unanswered, seen.handshakes_expired), (20, Some(20)));
    }
    daemon.stop(Signal::SIGTERM)
}
