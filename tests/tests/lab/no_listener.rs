//! SYNs that meet no listener.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;
use nix::sys::signal::Signal;
use tracker_tests::{
    Family,
    daemon::{self, Daemon},
    pair::Pair,
    serial,
    server::{ListenOptions, listen},
};

use crate::support::{eventually, send_syns, stranger, wildcard};

#[test]
fn syns_to_no_listener_are_counted_with_their_top_ports_by_tc() -> Result<()> {
    syns_to_no_listener("tc")
}

#[test]
fn syns_to_no_listener_are_counted_with_their_top_ports_by_xdp() -> Result<()> {
    syns_to_no_listener("xdp")
}

fn syns_to_no_listener(hook: &str) -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let _listener = listen(&pair.server, wildcard(Family::Ipv4, 80), ListenOptions::default())?;
    let daemon = daemon::settings(&pair.server)?.arguments(&["--hook", hook]).start()?;
    // The listener is of IPv4 alone: at its port, IPv6 meets none.
    let sent =
        [(Family::Ipv4, 4_444, 30), (Family::Ipv6, 5_555, 20), (Family::Ipv6, 80, 10), (Family::Ipv4, 65_535, 5)];
    for (family, port, count) in sent {
        send_syns(&pair, family, pair.link.right.socket(family, port), count)?;
    }
    eventually("all have arrived", || Ok(daemon.listeners()?.no_listener.syns_received >= 65))?;
    let seen = daemon.listeners()?.no_listener;
    assert_eq!((seen.syns_received, seen.syns_by_family.ipv4, seen.syns_by_family.ipv6), (65, 35, 30));
    assert_eq!(seen.ports, 4);
    let top: Vec<_> = seen.top_ports.iter().map(|entry| (entry.port, entry.syns)).collect();
    assert_eq!(top, [(4_444, 30), (5_555, 20), (80, 10), (65_535, 5)]);
    assert!(seen.top_ports.iter().all(|entry| entry.syn_rate > 0.0), "just now: {:?}", seen.top_ports);
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn syns_to_other_hosts_are_no_syns_to_no_listener() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    // Whether the host routes or not: by an address that is not its own it is not asked.
    for forwards in ["0", "1"] {
        pair.server.sysctl("net.ipv4.ip_forward", forwards)?;
        pair.server.sysctl("net.ipv6.conf.all.forwarding", forwards)?;
        let daemon = Daemon::start(&pair.server)?;
        for (family, count) in [(Family::Ipv4, 7), (Family::Ipv6, 4)] {
            send_syns(&pair, family, (stranger(family, 200), 80).into(), count)?;
        }
        eventually("all have arrived", || Ok(daemon.status()?.interfaces[0].syns >= 11))?;
        assert_not_local(&daemon, [7, 4])?;
        daemon.stop(Signal::SIGTERM)?;
    }
    Ok(())
}

#[test]
fn addresses_that_come_and_go_decide_what_is_local() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let daemon = Daemon::start(&pair.server)?;
    let device = &pair.link.right.device;
    let new: [SocketAddr; 2] =
        [(Ipv4Addr::new(198, 51, 100, 7), 80).into(), (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7), 80).into()];
    let change = |verb: &str| -> Result<()> {
        pair.server.ip(&format!("addr {verb} {}/32 dev {device}", new[0].ip()))?;
        pair.server.ip(&format!("addr {verb} {}/128 dev {device}", new[1].ip()))
    };
    change("add")?;
    // The daemon hears of it by netlink, in its own time.
    let mut sent = 0;
    eventually("the new addresses are known as local", || {
        Family::BOTH.into_iter().zip(new).try_for_each(|(family, address)| send_syns(&pair, family, address, 1))?;
        sent += 2;
        eventually("all have arrived", || Ok(daemon.status()?.interfaces[0].syns >= sent))?;
        let seen = daemon.listeners()?.no_listener.syns_by_family;
        Ok(seen.ipv4 > 0 && seen.ipv6 > 0)
    })?;
    change("del")?;
    eventually("the old addresses are forgotten", || {
        let before = daemon.listeners()?.no_listener.syns_received;
        Family::BOTH.into_iter().zip(new).try_for_each(|(family, address)| send_syns(&pair, family, address, 1))?;
        sent += 2;
        eventually("all have arrived", || Ok(daemon.status()?.interfaces[0].syns >= sent))?;
        Ok(daemon.listeners()?.no_listener.syns_received == before)
    })?;
    daemon.stop(Signal::SIGTERM)
}

fn assert_not_local(daemon: &Daemon<'_>, counts: [u32; 2]) -> Result<()> {
    let seen = daemon.listeners()?.no_listener;
    assert_eq!((seen.syns_received, seen.ports, seen.top_ports.len()), (0, 0, 0));
    let metrics = daemon.metrics()?;
    for (family, count) in Family::BOTH.into_iter().zip(counts) {
        let of = |target| metrics.sum("tracker_syns_total", &[("target", target), ("family", family.name())]);
        assert_eq!((of("not_local"), of("no_listener")), (f64::from(count), 0.0), "{family:?}");
    }
    Ok(())
}
