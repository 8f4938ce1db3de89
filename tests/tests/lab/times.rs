//! Times: of connect(), of handshakes, and of whole connections.

use std::{net::TcpStream, thread, time::Duration};

use anyhow::Result;
use nix::sys::signal::Signal;
use tracker_tests::{
    Family,
    daemon::{self, Daemon},
    metrics::Scrape,
    pair::Pair,
    serial,
    server::{ListenOptions, connected, listen},
};

use crate::support::{eventually, wildcard};

const COUNT: u16 = 10;

#[test]
fn connects_and_handshakes_take_a_round_trip_of_fifty_milliseconds() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::delayed(Duration::from_millis(50))?;
    let (calling, serving) = (Daemon::start(&pair.client)?, Daemon::start(&pair.server)?);
    let _ends = connect(&pair)?;
    // 2^15 µs to 2^16 µs.
    let (from, to) = (0.032_768, 0.065_536);
    let total = 2 * COUNT;
    assert_between(&calling.metrics()?, "tracker_connect_seconds", &[], from, to, total);
    let metrics = serving.metrics()?;
    // The scrape itself was a connection, and a handshake, over loopback: it is in the namespace's histogram, not here.
    assert_between(&metrics, "tracker_listener_handshake_seconds", &[("port", "80")], from, to, total);
    calling.stop(Signal::SIGTERM)?;
    serving.stop(Signal::SIGTERM)
}

#[test]
fn a_repeated_syn_is_part_of_the_time() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::delayed(Duration::ZERO)?;
    let (calling, serving) = (Daemon::start(&pair.client)?, Daemon::start(&pair.server)?);
    let wire = pair.link.wire().expect("a wire joins them");
    for family in Family::BOTH {
        let target = pair.link.right.socket(family, 80);
        let listener = listen(&pair.server, wildcard(family, 80), ListenOptions::default())?;
        // The first SYN is lost; the kernel sends the second after a second.
        wire.cut(true);
        let ends = thread::scope(|scope| {
            let connecting = scope.spawn(|| connected(&pair.client, target, &listener));
            thread::sleep(Duration::from_millis(300));
            wire.cut(false);
            connecting.join().expect("connect does not panic")
        })?;
        drop(ends);
    }
    // 2^19 µs to 2^21 µs; the handshake began with the SYN that arrived.
    assert_between(&calling.metrics()?, "tracker_connect_seconds", &[], 0.524_288, 2.097_152, 2);
    let metrics = serving.metrics()?;
    assert_between(&metrics, "tracker_listener_handshake_seconds", &[("port", "80")], 0.0, 0.262_144, 2);
    calling.stop(Signal::SIGTERM)?;
    serving.stop(Signal::SIGTERM)
}

#[test]
fn lifetimes_are_from_established_to_closed() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let daemon = daemon::settings(&pair.server)?.arguments(&["--lifetime-sample", "1"]).start()?;
    let ends = connect(&pair)?;
    thread::sleep(Duration::from_millis(380));
    // The client closes first, so that the server's sockets close at once when it does.
    for (there, here) in ends {
        drop(there);
        drop(here);
    }
    let total = 2 * COUNT;
    eventually("all are closed", || {
        let closes = daemon.states()?.closes;
        Ok(closes.values().flat_map(|kinds| kinds.values()).sum::<u64>() >= u64::from(total))
    })?;
    // 2^18 µs to 2^19 µs.
    assert_between(&daemon.metrics()?, "tracker_connection_lifetime_seconds", &[], 0.262_144, 0.524_288, total);
    daemon.stop(Signal::SIGTERM)
}

/// Ten connections of each family, each with both its ends.
fn connect(pair: &Pair) -> Result<Vec<(TcpStream, TcpStream)>> {
    let mut ends = Vec::new();
    for family in Family::BOTH {
        let listener = listen(&pair.server, wildcard(family, 80), ListenOptions::default())?;
        for _ in 0..COUNT {
            ends.push(connected(&pair.client, pair.link.right.socket(family, 80), &listener)?);
        }
    }
    Ok(ends)
}

/// Checks that all `count` of a histogram are more than `from` and at most `to`, and that the sum agrees.
fn assert_between(metrics: &Scrape, histogram: &str, labels: &[(&str, &str)], from: f64, to: f64, count: u16) {
    let inside = |edge: f64| edge > from && edge <= to;
    let buckets = metrics.buckets(histogram, labels);
    let (within, outside): (Vec<_>, Vec<_>) = buckets.iter().partition(|(edge, _)| inside(*edge));
    let total = |buckets: Vec<&(f64, f64)>| buckets.iter().map(|(_, count)| count).sum::<f64>();
    let filled: Vec<_> = buckets.iter().filter(|(_, count)| *count > 0.0).collect();
    assert_eq!((total(within), total(outside)), (f64::from(count), 0.0), "{histogram}: {filled:?}");
    let sum = metrics.sum(&format!("{histogram}_sum"), labels);
    assert!((f64::from(count) * from..=f64::from(count) * to).contains(&sum), "{histogram}: sum {sum}");
}
