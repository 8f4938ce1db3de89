//! Which interfaces are watched, by which hook, and that each packet counts once.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use tracker_model::api::Interface;
use tracker_tests::{
    Family, client, command,
    daemon::{self, Daemon},
    link::Link,
    metrics::Scrape,
    namespace,
    pair::Pair,
    serial,
    server::{ListenOptions, listen},
};

use crate::support::{counted, eventually, wildcard};

fn interface(daemon: &Daemon<'_>, name: &str) -> Result<Option<Interface>> {
    Ok(daemon.status()?.interfaces.into_iter().find(|interface| interface.name == name))
}

#[test]
fn an_interface_that_appears_later_is_watched() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let _listener = listen(&pair.server, wildcard(Family::Ipv4, 80), ListenOptions::default())?;
    let daemon = Daemon::start(&pair.server)?;
    let later = Link::veth(&pair.client, &pair.server, 2)?;
    eventually("it is watched", || Ok(interface(&daemon, "lan2")?.is_some()))?;
    let calls = client::connect(&pair.client, later.right.socket(Family::Ipv4, 80), 6);
    assert_eq!(calls.streams.len(), 6);
    let seen = counted(&daemon, wildcard(Family::Ipv4, 80))?;
    assert_eq!((seen.syns_received, seen.handshakes_completed), (6, 6));
    assert_eq!(interface(&daemon, "lan2")?.map(|interface| interface.syns), Some(6));
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn many_interfaces_at_once_do_not_stop_the_readings() -> Result<()> {
    const PAIRS: usize = 200;
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let directory = namespace::scratch("case")?;
    let batch = directory.path().join("batch");
    let links = |number| format!("link add m{number} up type veth peer name n{number}\nlink set n{number} up\n");
    fs::write(&batch, (0..PAIRS).map(links).collect::<String>())?;
    let daemon = Daemon::start(&pair.server)?;
    // It sees all of them at one moment.
    daemon.signal(Signal::SIGSTOP)?;
    let made = pair.server.ip(&format!("-batch {}", batch.display()));
    daemon.signal(Signal::SIGCONT)?;
    made?;
    let mut readings = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(90);
    let mut end = None;
    while end.is_none_or(|end| Instant::now() < end) {
        ensure!(Instant::now() < deadline, "not all are watched:\n{}", daemon.log());
        readings.push(Scrape::parse(daemon.get("/metrics")?.body)?.sum("tracker_snapshot_timestamp_seconds", &[]));
        if end.is_none() && daemon.log().matches("watching").count() > 2 * PAIRS {
            // One more reading follows.
            end = Some(Instant::now() + Duration::from_millis(1_500));
        }
        thread::sleep(Duration::from_millis(20));
    }
    readings.dedup();
    // The first is from before the stop.
    let longest = readings[1..].windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    ensure!(longest < 2.0, "{longest} s between two of {} readings", readings.len());
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn names_and_globs_choose_interfaces() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let _others = [2, 3].map(|subnet| Link::veth(&pair.client, &pair.server, subnet).expect("one more link"));
    let cases: [(&[&str], &[&str]); 4] = [
        (&[], &["lan1", "lan2", "lan3"]),
        (&["--interface", "lan2"], &["lan2"]),
        (&["--interface", "lan[13]"], &["lan1", "lan3"]),
        (&["--interface", "lo", "--interface", "lan3"], &["lan3", "lo"]),
    ];
    for (arguments, expected) in cases {
        let daemon = daemon::settings(&pair.server)?.arguments(arguments).start()?;
        let status = daemon.status()?;
        let mut watched: Vec<_> = status.interfaces.iter().map(|interface| interface.name.as_str()).collect();
        watched.sort_unstable();
        assert_eq!(watched, expected, "{arguments:?}");
        assert_eq!(status.unwatched.len(), 4 - expected.len(), "each of the rest has its reason");
        assert!(status.unwatched.iter().all(|unwatched| !unwatched.reason.is_empty()));
        daemon.stop(Signal::SIGTERM)?;
    }
    Ok(())
}

#[test]
fn an_xdp_program_of_another_is_left_alone() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let _listener = listen(&pair.server, wildcard(Family::Ipv4, 80), ListenOptions::default())?;
    let first = daemon::settings(&pair.server)?.arguments(&["--hook", "xdp"]).start()?;
    let attached = || command::output("ip", ["-n", pair.server.name(), "-details", "link", "show", "lan1"]);
    let before = attached()?;
    assert!(before.contains("prog/xdp"), "what this test is about: {before}");
    let arguments = ["--hook", "xdp", "--web.listen-address", "127.0.0.1:10047"];
    let second = daemon::settings(&pair.server)?.arguments(&arguments).start()?;
    let chosen = interface(&second, "lan1")?.context("it is watched")?;
    assert_eq!(chosen.hook, "tcx");
    assert!(chosen.reason.to_lowercase().contains("xdp"), "the reason says why: {}", chosen.reason);
    assert_eq!(attached()?, before, "the first one's program is still there");

    let calls = client::connect(&pair.client, pair.link.right.socket(Family::Ipv4, 80), 7);
    assert_eq!(calls.streams.len(), 7);
    for daemon in [&first, &second] {
        assert_eq!(counted(daemon, wildcard(Family::Ipv4, 80))?.syns_received, 7);
    }
    second.kill().or_else(|error| {
        // The first one's program is attached, of course.
        anyhow::ensure!(error.to_string().contains("left on a device"), error);
        Ok(())
    })?;
    first.stop(Signal::SIGTERM)
}

#[test]
fn a_packet_through_a_stacked_device_counts_once() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    pair.server.ip("link add link lan1 name stacked type macvlan mode bridge")?;
    pair.server.ip("link set stacked up")?;
    pair.server.ip("addr add 10.77.1.9/24 dev stacked")?;
    let daemon = Daemon::start(&pair.server)?;
    let stacked = interface(&daemon, "stacked")?;
    assert!(stacked.is_none_or(|interface| interface.hook == "lower"), "it is seen through lan1");
    connect_six(&pair, "10.77.1.9:80")?;
    assert_six_syns(&daemon)?;
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn a_packet_through_a_bridge_counts_once() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let device = &pair.link.right.device;
    pair.server.ip("link add bridge type bridge")?;
    pair.server.ip(&format!("link set {device} master bridge"))?;
    pair.server.ip("link set bridge up")?;
    pair.server.ip("addr add 10.77.1.9/24 dev bridge")?;
    let daemon = Daemon::start(&pair.server)?;
    let bridge = interface(&daemon, "bridge")?;
    assert!(bridge.is_none_or(|interface| interface.hook == "lower"), "it is seen through {device}");
    connect_six(&pair, "10.77.1.9:80")?;
    assert_six_syns(&daemon)?;
    daemon.stop(Signal::SIGTERM)
}

/// Makes six connections to a listener that is opened for them and left to the kernel to close.
fn connect_six(pair: &Pair, target: &str) -> Result<()> {
    let _listener = listen(&pair.server, wildcard(Family::Ipv4, 80), ListenOptions::default())?;
    // A second device with addresses in the subnet: the client must learn where this one is.
    assert_eq!(client::connect(&pair.client, target.parse()?, 6).streams.len(), 6);
    Ok(())
}

/// The six SYNs, and no more, have been counted, wherever the devices pass them on.
#[expect(clippy::float_cmp, reason = "small integers, which are exact")]
fn assert_six_syns(daemon: &Daemon<'_>) -> Result<()> {
    let status = daemon.status()?;
    assert_eq!(status.interfaces.iter().map(|interface| interface.syns).sum::<u64>(), 6, "{:?}", status.interfaces);
    let metrics = daemon.metrics()?;
    assert_eq!(metrics.sum("tracker_syns_total", &[("target", "listener")]), 6.0);
    assert_eq!(metrics.sum("tracker_syns_total", &[]), 6.0);
    Ok(())
}
