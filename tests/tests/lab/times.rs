//! Times: of `connect()`, of handshakes, and of whole connections.

use std::{
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

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
    // 2^15 µs to 2^17 µs: the bucket of 50 ms, and the next one for a machine that has other things to do.
    let (from, to) = (0.032_768, 0.131_072);
    let total = 2 * COUNT;
    let metrics = calling.metrics()?;
    assert_between(&metrics, "tracker_connect_seconds", &[], from, to, total);
    assert!(metrics.sum("tracker_connect_seconds_sum", &[]) >= f64::from(total) * 0.05, "none takes less than it must");
    let (metrics, labels) = (serving.metrics()?, [("port", "80")]);
    assert_between(&metrics, "tracker_listener_handshake_seconds", &labels, from, to, total);
    let sum = metrics.sum("tracker_listener_handshake_seconds_sum", &labels);
    assert!(sum >= f64::from(total) * 0.05, "none takes less than it must");
    calling.stop(Signal::SIGTERM)?;
    serving.stop(Signal::SIGTERM)
}

#[test]
fn a_repeated_syn_is_part_of_the_time_to_connect() -> Result<()> {
    let _alone = serial::alone();
    // The first SYN is lost; the kernel sends the second after a second. For the server, the handshake begins with
    // that.
    repeated(Duration::ZERO, Duration::ZERO, (0.0, 0.262_144))
}

#[test]
fn a_repeated_syn_ack_is_part_of_the_time_of_the_handshake() -> Result<()> {
    let _alone = serial::alone();
    // The first SYN-ACK is lost, on its way of 200 ms.
    repeated(Duration::from_millis(200), Duration::from_millis(100), (0.524_288, 2.097_152))
}

/// Loses what is on the wire from `cut_after` `connect()` for 300 ms.
fn repeated(delay: Duration, cut_after: Duration, handshake: (f64, f64)) -> Result<()> {
    let pair = Pair::delayed(delay)?;
    let (calling, serving) = (Daemon::start(&pair.client)?, Daemon::start(&pair.server)?);
    let wire = pair.link.wire().expect("a wire joins them");
    let mut kept = Vec::new();
    for family in Family::BOTH {
        let target = pair.link.right.socket(family, 80);
        let listener = listen(&pair.server, wildcard(family, 80), ListenOptions::default())?;
        wire.cut(cut_after.is_zero());
        thread::sleep(Duration::from_millis(50));
        let ends = thread::scope(|scope| {
            let connecting = scope.spawn(|| connected(&pair.client, target, &listener));
            thread::sleep(cut_after);
            wire.cut(true);
            thread::sleep(Duration::from_millis(300));
            wire.cut(false);
            connecting.join().expect("connect does not panic")
        })?;
        kept.push((listener, ends));
    }
    let (from, to) = handshake;
    assert_between(&serving.metrics()?, "tracker_listener_handshake_seconds", &[("port", "80")], from, to, 2);
    // 2^19 µs to 2^21 µs.
    assert_between(&calling.metrics()?, "tracker_connect_seconds", &[], 0.524_288, 2.097_152, 2);
    calling.stop(Signal::SIGTERM)?;
    serving.stop(Signal::SIGTERM)
}

#[test]
fn lifetimes_are_from_established_to_closed() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let daemon = daemon::settings(&pair.server)?.arguments(&["--lifetime-sample", "1"]).start()?;
    let (_listeners, ends) = connect(&pair)?;
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
    // 2^18 µs to 2^21 µs: on a busy machine they live longer.
    assert_between(&daemon.metrics()?, "tracker_connection_lifetime_seconds", &[], 0.262_144, 2.097_152, total);
    daemon.stop(Signal::SIGTERM)
}

/// Both ends of a connection.
type Ends = (TcpStream, TcpStream);

/// Ten connections of each family, each with both its ends, and their listeners.
fn connect(pair: &Pair) -> Result<(Vec<TcpListener>, Vec<Ends>)> {
    let (mut listeners, mut ends) = (Vec::new(), Vec::new());
    for family in Family::BOTH {
        let listener = listen(&pair.server, wildcard(family, 80), ListenOptions::default())?;
        for _ in 0..COUNT {
            ends.push(connected(&pair.client, pair.link.right.socket(family, 80), &listener)?);
        }
        listeners.push(listener);
    }
    Ok((listeners, ends))
}

/// What scrapes themselves add to the histograms of the namespace: connections over loopback, shorter than this.
const SCRAPE: f64 = 0.016;

/// Checks that all `count` of a histogram are more than `from` and at most `to`, scrapes apart.
fn assert_between(metrics: &Scrape, histogram: &str, labels: &[(&str, &str)], from: f64, to: f64, count: u16) {
    let buckets = metrics.buckets(histogram, labels);
    let sum = |which: &dyn Fn(f64) -> bool| -> f64 {
        buckets.iter().filter(|(edge, _)| which(*edge)).map(|(_, count)| count).sum()
    };
    let inside = |edge: f64| edge > from && edge <= to;
    let filled: Vec<_> = buckets.iter().filter(|(_, count)| *count > 0.0).collect();
    let outside = sum(&|edge| !inside(edge) && edge > SCRAPE);
    let seconds = metrics.sum(&format!("{histogram}_sum"), labels);
    assert_eq!((sum(&inside), outside), (f64::from(count), 0.0), "{histogram}: {filled:?}, sum {seconds}");
    let scrapes = (sum(&|_| true) - f64::from(count)) * SCRAPE;
    let (least, most) = (f64::from(count) * from, f64::from(count) * to + scrapes);
    assert!((least..=most).contains(&seconds), "{histogram}: sum {seconds}");
}
