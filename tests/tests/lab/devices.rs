//! Listeners on one address and port that are bound to different devices.

use std::{net::SocketAddr, process::Command, time::Duration};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tracker_model::{
    api::{AlertKind, Class},
    listener::Listener,
};
use tracker_tests::{
    Family, client, command,
    daemon::{self, Daemon},
    detection::lab::api,
    flood::{Flood, Pace, Sources},
    link::Link,
    namespace::Namespace,
    pair::Pair,
    peer::{OK, Options, Peer, SocketId},
    segment::Route,
    serial,
};

use crate::support::{eventually, wildcard};

/// A server on two networks, each with a client.
struct Site {
    // Dropped first: it leads to the server of the pair.
    other: Link,
    other_client: Namespace,
    pair: Pair,
}

impl Site {
    fn new() -> Result<Self> {
        let (pair, other_client) = (Pair::plain()?, Namespace::new()?);
        let other = Link::veth(&other_client, &pair.server, 2)?;
        for scope in ["all", "default", &pair.link.right.device, &other.right.device] {
            pair.server.sysctl(&format!("net.ipv4.conf.{scope}.rp_filter"), "0")?;
        }
        Ok(Self { other, other_client, pair })
    }

    /// Connects by the first network and by the other.
    fn connect(&self, family: Family, port: u16, counts: [usize; 2]) -> Result<Vec<client::Connects>> {
        let first = client::connect(&self.pair.client, self.pair.link.right.socket(family, port), counts[0]);
        let other = client::connect(&self.other_client, self.other.right.socket(family, port), counts[1]);
        for (calls, count) in [&first, &other].into_iter().zip(counts) {
            anyhow::ensure!(calls.streams.len() == count, "{:?}", calls.failed);
        }
        Ok(vec![first, other])
    }
}

/// Listens with a socket that is bound to a device, or to none.
fn listen(server: &Peer, address: SocketAddr, device: Option<&str>) -> Result<SocketId> {
    let options = Options {
        ipv6: address.is_ipv6(),
        ipv6_only: true,
        reuse_port: true,
        device: device.map(str::to_owned),
        ..Options::default()
    };
    let socket = server.open(&options)?;
    assert_eq!(server.bind(socket, address)?, OK);
    assert_eq!(server.listen(socket)?, OK);
    Ok(socket)
}

/// The listener of an address and device, with figures of this moment.
fn seen(daemon: &Daemon<'_>, address: SocketAddr, device: Option<&str>) -> Result<Option<Listener>> {
    let is_it =
        |one: &Listener| (one.address, one.port, one.device.as_deref()) == (address.ip(), address.port(), device);
    Ok(daemon.counted_listeners()?.listeners.into_iter().find(is_it))
}

fn counts(daemon: &Daemon<'_>, address: SocketAddr, device: Option<&str>) -> Result<[u64; 4]> {
    let one = seen(daemon, address, device)?.with_context(|| format!("{address} on {device:?} is known"))?;
    let queues = one.queues.context("its queues are known")?;
    Ok([one.syns_received, one.handshakes_completed, queues.accept_queue.into(), queues.connected.into()])
}

#[test]
fn listeners_bound_to_two_devices_are_counted_apart() -> Result<()> {
    let _alone = serial::alone();
    let site = Site::new()?;
    let [first, second] = [&site.pair.link, &site.other].map(|link| link.right.device.as_str());
    for older in [true, false] {
        for family in Family::BOTH {
            let (server, address) = (Peer::start(&site.pair.server, "server")?, wildcard(family, 8_080));
            let open = || -> Result<_> {
                Ok([listen(&server, address, Some(first))?, listen(&server, address, Some(second))?])
            };
            let early = older.then(open).transpose()?;
            let daemon = Daemon::start(&site.pair.server)?;
            let sockets = early.map_or_else(open, Ok)?;
            let calls = site.connect(family, 8_080, [3, 5])?;
            assert_eq!(counts(&daemon, address, Some(first))?, [3; 4]);
            assert_eq!(counts(&daemon, address, Some(second))?, [5; 4]);
            assert_eq!(daemon.listeners()?.no_listener.syns_received, 0);

            let mut tracker = Command::new(daemon::binary()?);
            tracker.env("TRACKER_API_SOCKET", daemon.socket()).arg("listeners");
            let table = command::stdout_of(&mut tracker)?;
            let place = |device| match family {
                Family::Ipv4 => format!("0.0.0.0%{device}:8080"),
                Family::Ipv6 => format!("[::]%{device}:8080"),
            };
            assert!(table.contains(&place(first)) && table.contains(&place(second)), "{table}");
            let scrape = daemon.metrics()?;
            let label = format!("{}%{second}", address.ip());
            let labels = [("address", label.as_str()), ("port", "8080"), ("family", family.name())];
            assert!((scrape.sum("tracker_listener_syns_total", &labels) - 5.0).abs() < 0.1);

            server.close(sockets[0])?;
            eventually("it is gone", || Ok(seen(&daemon, address, Some(first))?.is_none()))?;
            let refused = client::connect(&site.pair.client, site.pair.link.right.socket(family, 8_080), 1);
            assert_eq!(refused.failed["ECONNREFUSED"], 1);
            assert_eq!(daemon.listeners()?.no_listener.syns_received, 1);
            assert_eq!(counts(&daemon, address, Some(second))?, [5; 4]);
            drop(calls);
            daemon.stop(Signal::SIGTERM)?;
        }
    }
    Ok(())
}

#[test]
fn a_listener_bound_to_the_device_comes_before_one_that_is_bound_to_none() -> Result<()> {
    let _alone = serial::alone();
    let site = Site::new()?;
    let first = site.pair.link.right.device.as_str();
    for family in Family::BOTH {
        let (server, any) = (Peer::start(&site.pair.server, "server")?, wildcard(family, 8_080));
        let single = site.pair.link.right.socket(family, 8_081);
        let any_single = wildcard(family, 8_081);
        let daemon = Daemon::start(&site.pair.server)?;
        // Overlapping sockets need SO_REUSEPORT, with which the kernel takes the first in its list: of IPv4 the one
        // that listened last, of IPv6 the one that listened first (`inet_hash`).
        let order = if family == Family::Ipv4 { [None, Some(first)] } else { [Some(first), None] };
        let overlapping = order.map(|device| (any, device));
        for (address, device) in overlapping.into_iter().chain([(single, Some(first)), (any_single, None)]) {
            listen(&server, address, device)?;
        }
        let calls = [site.connect(family, 8_080, [3, 5])?, site.connect(family, 8_081, [2, 4])?];
        assert_eq!(counts(&daemon, any, Some(first))?, [3; 4]);
        assert_eq!(counts(&daemon, any, None)?, [5; 4]);
        assert_eq!(counts(&daemon, single, Some(first))?, [2; 4]);
        assert_eq!(counts(&daemon, any_single, None)?, [4; 4]);
        drop(calls);
        daemon.stop(Signal::SIGTERM)?;
    }
    Ok(())
}

#[test]
fn a_flood_of_a_listener_bound_to_a_device_names_the_device() -> Result<()> {
    let _alone = serial::alone();
    let site = Site::new()?;
    let [first, second] = [&site.pair.link, &site.other].map(|link| link.right.device.as_str());
    for family in Family::BOTH {
        let (server, address) = (Peer::start(&site.pair.server, "server")?, wildcard(family, 8_080));
        let daemon = Daemon::start(&site.pair.server)?;
        listen(&server, address, Some(first))?;
        listen(&server, address, Some(second))?;
        let route = Route { from: &site.pair.link.left, to: &site.pair.link.right };
        let target = site.pair.link.right.socket(family, 8_080);
        let steady = Pace::Steady(2_000.0);
        let flood = Flood::syns(target, Sources::Everywhere(family), steady, Duration::from_secs(20));
        let flood = flood.start(&site.pair.client, route)?;
        let mut alerts = Vec::new();
        eventually("it is called", || {
            alerts = api(&daemon).alerts()?.answer.alerts;
            Ok(!alerts.is_empty())
        })?;
        flood.stop()?;
        let [alert] = &alerts[..] else { panic!("one: {alerts:#?}") };
        assert_eq!((alert.kind, alert.class), (AlertKind::SynFlood, Some(Class::Spoofed)));
        assert_eq!((alert.subject.device.as_deref(), alert.subject.port), (Some(first), Some(8_080)));
        assert_eq!(alert.subject.process.as_ref().map(|process| process.pid), Some(server.pid()));
        assert!(alert.summary.contains(&format!("%{first}:8080")), "{}", alert.summary);
        assert_eq!(seen(&daemon, address, Some(second))?.map(|one| one.syns_received), Some(0));
        daemon.stop(Signal::SIGTERM)?;
    }
    Ok(())
}
