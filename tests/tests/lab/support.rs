//! What several cases need.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use etherparse::TcpHeader;
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};
use tracker_model::listener::Listener;
use tracker_tests::{
    Family,
    daemon::{Daemon, find},
    namespace::Namespace,
    packet_socket::PacketSocket,
    pair::Pair,
    segment::Route,
    ss,
};

/// Counts by name.
pub(crate) fn counts<const N: usize>(entries: [(&str, u64); N]) -> BTreeMap<String, u64> {
    entries.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

/// Asks until the answer is yes, for up to ten seconds.
pub(crate) fn eventually(what: &str, mut yes: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !yes()? {
        ensure!(Instant::now() < deadline, "not within ten seconds: {what}");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Waits until ss shows nothing of a family in `namespace` but the states in `resting`.
pub(crate) fn settled(namespace: &Namespace, resting: &[&str]) -> Result<()> {
    eventually("all connections have closed", || {
        let at_rest = |family| -> Result<bool> {
            Ok(ss::count(namespace, family)?.keys().all(|state| resting.contains(&state.as_str())))
        };
        Ok(at_rest(Family::Ipv4)? && at_rest(Family::Ipv6)?)
    })
}

/// Checks that the daemon counts the sockets of each state as `ss -tan` does, at one moment: ss is asked before and
/// after, and the comparison made once both agree.
pub(crate) fn assert_equal_to_ss(daemon: &Daemon<'_>, namespace: &Namespace) -> Result<()> {
    for family in Family::BOTH {
        eventually("the sockets rest for a moment", || {
            let before = ss::count(namespace, family)?;
            let seen = daemon.counts(family)?;
            let rested = ss::count(namespace, family)? == before;
            if rested {
                assert_eq!(seen, before, "{family:?}: tracker (left) and ss (right)");
            }
            Ok(rested)
        })?;
    }
    Ok(())
}

/// The wildcard address of a family with a port.
pub(crate) fn wildcard(family: Family, port: u16) -> SocketAddr {
    match family {
        Family::Ipv4 => SocketAddr::from(([0, 0, 0, 0], port)),
        Family::Ipv6 => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
    }
}

/// An address that is in no namespace of the lab; answers to it are dropped by the client's.
pub(crate) fn stranger(family: Family, host: u16) -> IpAddr {
    let [high, low] = host.to_be_bytes();
    match family {
        Family::Ipv4 => IpAddr::from([198, 18, high, low]),
        Family::Ipv6 => IpAddr::from([0xfd99, 0, 0, 0, 0, 0, 0, host]),
    }
}

/// Sends segments of our own from the client's end of a pair, wherever they say that they come from.
#[derive(Debug)]
pub(crate) struct Sender<'a> {
    socket: PacketSocket,
    route: Route<'a>,
}

impl<'a> Sender<'a> {
    pub(crate) fn of(pair: &'a Pair) -> Result<Self> {
        let socket = PacketSocket::flooder(&pair.client, &pair.link.left.device)?;
        Ok(Self { socket, route: Route { from: &pair.link.left, to: &pair.link.right } })
    }

    /// A SYN to a port of the server's. It is the same one each time.
    pub(crate) fn syn(&self, source: SocketAddr, port: u16) -> Result<()> {
        self.segment(source, port, |header| header.syn = true)
    }

    /// SYNs from this many strangers, one each.
    pub(crate) fn syns(&self, family: Family, count: u16, port: u16) -> Result<()> {
        (1..=count).try_for_each(|host| self.syn((stranger(family, host), 1_024).into(), port))
    }

    /// A segment to a port of the server's, whose header `adjust` completes.
    pub(crate) fn segment(&self, source: SocketAddr, port: u16, adjust: impl FnOnce(&mut TcpHeader)) -> Result<()> {
        let family = if source.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        self.socket.send(&self.route.segment(source, self.route.to.socket(family, port), adjust))
    }
}

/// Waits until there are this many half-open requests of a family, as ss counts them.
pub(crate) fn half_open(namespace: &Namespace, family: Family, count: u64) -> Result<()> {
    eventually(&format!("{count} half-open requests of {}", family.name()), || {
        Ok(ss::count(namespace, family)?.get("half_open").copied().unwrap_or(0) == count)
    })
}

/// A listener that must be known, with its queues and sockets of this moment.
pub(crate) fn counted(daemon: &Daemon<'_>, address: SocketAddr) -> Result<Listener> {
    find(daemon.counted_listeners()?, address).with_context(|| format!("tracker does not know the listener {address}"))
}

/// Whether a listener is known at once, by the events alone.
pub(crate) fn known(daemon: &Daemon<'_>, address: SocketAddr) -> Result<Option<Listener>> {
    Ok(find(daemon.listeners()?, address))
}

/// Sends SYNs to the server of a pair as from a host that answers nothing.
pub(crate) fn send_syns(pair: &Pair, family: Family, target: SocketAddr, count: u16) -> Result<()> {
    let socket = PacketSocket::sender(&pair.client, &pair.link.left.device)?;
    let route = Route { from: &pair.link.left, to: &pair.link.right };
    // From an address that does not answer the RST with anything.
    let frames: Vec<_> = (1..=count).map(|port| route.syn((stranger(family, 1), port).into(), target)).collect();
    socket.send_all(frames.iter().map(Vec::as_slice))
}

sockopt_impl!(
    /// `TCP_DEFER_ACCEPT`, seconds.
    DeferAccept,
    Both,
    libc::IPPROTO_TCP,
    libc::TCP_DEFER_ACCEPT,
    u32
);
