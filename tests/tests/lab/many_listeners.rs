//! More listeners than are counted apart: those that receive SYNs are judged, however many others there are or come.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use tracker_model::api::{Alert, AlertKind, Class};
use tracker_tests::{
    Family,
    daemon::{Daemon, find},
    detection::lab::{self, Lab, api},
    flood::{Flood, Pace, Sources},
    namespace::Namespace,
    serial,
    server::{ListenOptions, listen_here},
};

use crate::support::{Sender, counted, eventually, stranger, wildcard};

/// The first port that many listen on.
const FIRST: u16 = 20_000;
/// A flood is called within this time.
const CALLED: Duration = Duration::from_secs(2);

/// Listens on this many ports, in turn on all of IPv4 and all of IPv6.
fn listen_on_many(server: &Namespace, count: u16) -> Result<Vec<TcpListener>> {
    let listen = |index| listen_here(address(index), ListenOptions { backlog: 128, ..ListenOptions::default() });
    server.enter(|| (0..count).map(listen).collect())
}

fn address(index: u16) -> SocketAddr {
    wildcard(if index.is_multiple_of(2) { Family::Ipv4 } else { Family::Ipv6 }, FIRST + index)
}

/// Floods these listeners at once, and returns how long it took until all were called. Nothing else is called.
fn flood(lab: &Lab, daemon: &Daemon<'_>, targets: &[SocketAddr]) -> Result<Duration> {
    let floods: Vec<_> = targets
        .iter()
        .map(|target| {
            let family = if target.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
            let sources = Sources::Everywhere(family);
            let to = lab.target(family, target.port());
            Flood::syns(to, sources, Pace::Steady(3_000.0), Duration::from_secs(20))
                .start(&lab.pair.client, lab.route())
        })
        .collect::<Result<_>>()?;
    let begun = Instant::now();
    let mut called: Vec<Alert> = Vec::new();
    while called.len() < targets.len() {
        ensure!(begun.elapsed() < Duration::from_secs(8), "{} called: {called:#?}\n{}", called.len(), daemon.log());
        thread::sleep(Duration::from_millis(20));
        let alerts = api(daemon).alerts()?.answer.alerts;
        called = alerts.into_iter().filter(|alert| alert.kind == AlertKind::SynFlood).collect();
    }
    let took = begun.elapsed();
    for flood in floods {
        flood.stop()?;
    }
    let mut named: Vec<_> =
        called.iter().filter_map(|alert| Some(SocketAddr::new(alert.subject.address?, alert.subject.port?))).collect();
    named.sort_by_key(SocketAddr::port);
    assert_eq!(named, targets, "{called:#?}");
    assert!(called.iter().all(|alert| alert.class == Some(Class::Spoofed)), "{called:#?}");
    Ok(took)
}

#[test]
fn the_last_of_2000_listeners_is_named_when_it_is_flooded() -> Result<()> {
    let _alone = serial::alone();
    lab::raise_limits()?;
    for last in [1_999, 1_998] {
        let lab = Lab::new(1, 0)?;
        let daemon = lab.daemon(None)?;
        let _many = listen_on_many(&lab.pair.server, 2_000)?;
        eventually("all are known", || Ok(daemon.listeners()?.listeners.len() >= 2_000))?;
        thread::sleep(Duration::from_secs(2));
        assert!(find(daemon.listeners()?, address(last)).context("it is known")?.shares_slot);
        let took = flood(&lab, &daemon, &[address(last)])?;
        println!("called after {took:?}");
        assert!(took <= CALLED, "{took:?}");
        let problems = daemon.status()?.problems.join("\n");
        assert!(!problems.contains("not judged"), "{problems}");
        daemon.stop(Signal::SIGTERM)?;
    }
    Ok(())
}

#[test]
fn a_flood_takes_the_counters_of_listeners_that_receive_little() -> Result<()> {
    let _alone = serial::alone();
    lab::raise_limits()?;
    let lab = Lab::new(1, 0)?;
    let daemon = lab.daemon(None)?;
    let _many = listen_on_many(&lab.pair.server, 2_000)?;
    eventually("all are known", || Ok(daemon.listeners()?.listeners.len() >= 2_000))?;
    let sender = Sender::of(&lab.pair)?;
    let with = || -> Result<usize> {
        Ok(daemon.listeners()?.listeners.iter().filter(|listener| !listener.shares_slot).count())
    };
    // Each receives a SYN, so that counters are taken by listeners that have just had one.
    for port in FIRST..FIRST + 2_000 {
        let family = if port.is_multiple_of(2) { Family::Ipv4 } else { Family::Ipv6 };
        sender.syn((stranger(family, port), 1_024).into(), port)?;
    }
    eventually("they get counters of the reserve", || Ok(with()? > 768))?;
    let without = daemon.listeners()?.listeners.into_iter().rfind(|listener| listener.shares_slot);
    let without = without.context("some have none")?;
    let took = flood(&lab, &daemon, &[(without.address, without.port).into()])?;
    println!("called after {took:?}");
    assert!(took <= CALLED, "{took:?}");
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn two_of_5000_listeners_are_named_when_they_are_flooded_at_once() -> Result<()> {
    let _alone = serial::alone();
    lab::raise_limits()?;
    let lab = Lab::new(1, 0)?;
    // Older than the daemon, so that the census finds them.
    let _many = listen_on_many(&lab.pair.server, 5_000)?;
    let daemon = lab.daemon(None)?;
    eventually("all are known", || Ok(daemon.listeners()?.listeners.len() >= 5_000))?;
    thread::sleep(Duration::from_secs(2));
    let took = flood(&lab, &daemon, &[address(4_998), address(4_999)])?;
    println!("called after {took:?}");
    assert!(took <= CALLED, "{took:?}");
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn listeners_that_come_and_go_hide_no_flood() -> Result<()> {
    let _alone = serial::alone();
    lab::raise_limits()?;
    let lab = Lab::new(1, 0)?;
    let daemon = lab.daemon(None)?;
    let (stop, opened) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (ends, count) = (Arc::clone(&stop), Arc::clone(&opened));
    let churn = lab.pair.server.on_thread("churn", move || churn(&ends, &count))?;
    thread::sleep(Duration::from_secs(4));
    // It comes while the others hold all slots that are given at once.
    let victim = lab.pair.server.enter(|| listen_here(address(9_999), ListenOptions::default()))?;
    thread::sleep(Duration::from_secs(1));
    let (before, began) = (opened.load(Ordering::Relaxed), Instant::now());
    let took = flood(&lab, &daemon, &[address(9_999)]);
    let rate = f64::from(u32::try_from(opened.load(Ordering::Relaxed) - before)?) / began.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    churn.join().expect("it does not panic");
    let took = took?;
    println!("called after {took:?}, beside {rate:.0} listeners opened and closed a second");
    assert!(took <= CALLED, "{took:?}");
    drop(victim);
    daemon.stop(Signal::SIGTERM)
}

/// Opens and closes 2,000 listeners a second, each on another port.
fn churn(ends: &AtomicBool, opened: &AtomicUsize) {
    let begun = Instant::now();
    while !ends.load(Ordering::Relaxed) && begun.elapsed() < Duration::from_mins(1) {
        let number = opened.fetch_add(1, Ordering::Relaxed);
        let port = 1_024 + u16::try_from(number % 18_000).unwrap_or_default();
        drop(listen_here(wildcard(Family::Ipv4, port), ListenOptions::default()));
        let due = Duration::from_micros(500 * u64::try_from(number).unwrap_or_default());
        thread::sleep(due.saturating_sub(begun.elapsed()));
    }
}

#[test]
fn a_listener_without_counters_has_them_after_its_first_syn() -> Result<()> {
    let _alone = serial::alone();
    lab::raise_limits()?;
    let lab = Lab::new(1, 0)?;
    let daemon = lab.daemon(None)?;
    let _many = listen_on_many(&lab.pair.server, 1_500)?;
    for (index, family) in [(1_498, Family::Ipv4), (1_499, Family::Ipv6)] {
        assert!(counted(&daemon, address(index))?.shares_slot);
        let target = lab.target(family, FIRST + index);
        let connect = |count| tracker_tests::client::connect(&lab.pair.client, target, count);
        assert_eq!(connect(1).streams.len(), 1);
        eventually("it has counters", || Ok(!counted(&daemon, address(index))?.shares_slot))?;
        assert_eq!(connect(5).streams.len(), 5);
        let seen = counted(&daemon, address(index))?;
        assert_eq!((seen.syns_received, seen.handshakes_completed), (5, 5));
        assert_eq!(seen.queues.map(|queues| queues.accept_queue), Some(6));
    }
    let losses = daemon.status()?.losses;
    // The SYN and the handshake of each.
    assert_eq!(losses["listener_uncounted"], 4, "{losses:?}");
    daemon.stop(Signal::SIGTERM)
}
