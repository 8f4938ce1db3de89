//! Addresses and listeners that share a place in the tables that are asked before the hash maps.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tracker_common::{
    hash, limits,
    listener::{exact_index, mapped},
};
use tracker_tests::{
    Family,
    daemon::Daemon,
    pair::Pair,
    serial,
    server::{ListenOptions, listen},
};

use crate::support::{eventually, known, send_syns};

/// Addresses that are searched for those that share a place.
const HOSTS: u16 = 20_000;

fn candidates(family: Family) -> impl Iterator<Item = IpAddr> {
    (1..HOSTS).map(move |host| match family {
        Family::Ipv4 => IpAddr::V4(Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 99, 0, 0)) + u32::from(host))),
        Family::Ipv6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, host)),
    })
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => mapped(address.octets()),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The first three addresses for which `place` is the same.
fn together(family: Family, place: impl Fn(hash::AddrWords) -> u32) -> Result<[IpAddr; 3]> {
    let place = |address| place(hash::to_words(&octets(address)));
    let first = candidates(family).next().context("no candidates")?;
    let mut found = candidates(family).filter(|address| place(*address) == place(first));
    let mut next = || found.next().context("too few addresses share a place");
    Ok([next()?, next()?, next()?])
}

fn change(pair: &Pair, verb: &str, address: IpAddr) -> Result<()> {
    let rest = if address.is_ipv4() { "/32" } else { "/128 nodad" };
    let rest = if verb == "del" { rest.trim_end_matches(" nodad") } else { rest };
    pair.server.ip(&format!("addr {verb} {address}{rest} dev {}", pair.link.right.device))
}

/// How many of three SYNs to a closed port of each address were to an address of the host.
fn local(daemon: &Daemon<'_>, pair: &Pair, family: Family, addresses: &[IpAddr]) -> Result<Vec<u64>> {
    let ask = |address: &IpAddr| -> Result<u64> {
        let before = (daemon.listeners()?.no_listener.syns_received, daemon.status()?.interfaces[0].syns);
        send_syns(pair, family, (*address, 9).into(), 3)?;
        eventually("all have arrived", || Ok(daemon.status()?.interfaces[0].syns == before.1 + 3))?;
        Ok(daemon.listeners()?.no_listener.syns_received - before.0)
    };
    addresses.iter().map(ask).collect()
}

#[test]
fn local_addresses_that_share_a_place_are_each_local() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let daemon = Daemon::start(&pair.server)?;
    for family in Family::BOTH {
        let addresses = together(family, |address| hash::bucket_index(address, 0, limits::LOCAL_PLACES.ilog2()))?;
        assert_eq!(local(&daemon, &pair, family, &addresses)?, [0; 3], "{addresses:?}: none is there yet");
        for address in &addresses[..2] {
            change(&pair, "add", *address)?;
        }
        let are = |expected: [u64; 3]| {
            // The daemon hears of it by netlink, in its own time.
            eventually("addresses are known as they are", || Ok(local(&daemon, &pair, family, &addresses)? == expected))
        };
        are([3, 3, 0])?;
        // The last of them has the place; without it the other is found as before.
        change(&pair, "del", addresses[1])?;
        are([3, 0, 0])?;
        change(&pair, "add", addresses[2])?;
        are([3, 0, 3])?;
        // The one that had lost the place goes, and leaves it to the other.
        change(&pair, "del", addresses[0])?;
        are([0, 0, 3])?;
        change(&pair, "del", addresses[2])?;
        are([0; 3])?;
    }
    daemon.stop(Signal::SIGTERM)
}

/// SYNs that each listener counts of three that are sent to it; none where it is not known.
fn counts(daemon: &Daemon<'_>, pair: &Pair, family: Family, listeners: &[SocketAddr]) -> Result<Vec<Option<u64>>> {
    let syns = |address| -> Result<Option<u64>> { Ok(known(daemon, address)?.map(|listener| listener.syns_received)) };
    let ask = |address: &SocketAddr| -> Result<Option<u64>> {
        let before = (syns(*address)?, daemon.status()?.interfaces[0].syns);
        send_syns(pair, family, *address, 3)?;
        eventually("all have arrived", || Ok(daemon.status()?.interfaces[0].syns == before.1 + 3))?;
        Ok(syns(*address)?.map(|now| now - before.0.unwrap_or(0)))
    };
    listeners.iter().map(ask).collect()
}

#[test]
fn listeners_that_share_a_place_are_distinguished() -> Result<()> {
    const PORT: u16 = 80;
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let daemon = Daemon::start(&pair.server)?;
    for family in Family::BOTH {
        let addresses = together(family, |address| exact_index(address, PORT.into()))?;
        for address in addresses {
            change(&pair, "add", address)?;
        }
        eventually("the addresses are known as local", || Ok(local(&daemon, &pair, family, &addresses)? == [3; 3]))?;
        let listeners = addresses.map(|address| SocketAddr::new(address, PORT));
        let open =
            |index: usize| -> Result<TcpListener> { listen(&pair.server, listeners[index], ListenOptions::default()) };
        let refused = || -> Result<u64> { Ok(daemon.listeners()?.no_listener.syns_received) };
        let (first, second) = (open(0)?, open(1)?);
        let before = refused()?;
        assert_eq!(counts(&daemon, &pair, family, &listeners)?, [Some(3), Some(3), None]);
        assert_eq!(refused()? - before, 3, "those to the third met nobody");
        // The second was entered last and has the place.
        drop(second);
        assert_eq!(counts(&daemon, &pair, family, &listeners)?, [Some(3), None, None]);
        let third = open(2)?;
        assert_eq!(counts(&daemon, &pair, family, &listeners)?, [Some(3), None, Some(3)]);
        drop(first);
        let second = open(1)?;
        assert_eq!(counts(&daemon, &pair, family, &listeners)?, [None, Some(3), Some(3)]);
        drop((second, third));
        assert_eq!(counts(&daemon, &pair, family, &listeners)?, [None; 3]);
    }
    daemon.stop(Signal::SIGTERM)
}
