//! Listeners that come and go in ways that are easy to miscount.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};
use tracker_model::listener::Listeners;
use tracker_tests::{daemon::Daemon, pair::Pair, serial};

use crate::support::eventually;

fn ports(listeners: &Listeners) -> Vec<u16> {
    listeners.listeners.iter().map(|listener| listener.port).collect()
}

/// The kernel takes the port of a socket that it has bound itself back before it reports the end.
#[test]
fn a_listener_on_a_port_of_the_kernels_choice_is_closed() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let daemon = Daemon::start(&pair.server)?;
    for address in [SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))] {
        let listener = pair.server.enter(|| TcpListener::bind(address))?;
        let port = listener.local_addr()?.port();
        ensure!(ports(&daemon.listeners()?).contains(&port), "{address}: port {port} is not known");
        drop(listener);
        ensure!(!ports(&daemon.listeners()?).contains(&port), "{address}: port {port} is still there");
    }
    daemon.stop(Signal::SIGTERM)
}

/// More than there are slots, and then one that matters.
#[test]
fn listeners_on_ever_new_ports_do_not_crowd_out_others() -> Result<()> {
    const CYCLES: usize = 5_000;
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let daemon = Daemon::start(&pair.server)?;
    let address = pair.link.right.socket(tracker_tests::Family::Ipv4, 0);
    pair.server.enter(|| -> Result<()> {
        for _ in 0..CYCLES / 500 {
            for _ in 0..500 {
                drop(TcpListener::bind(address)?);
            }
            thread::sleep(Duration::from_millis(1100));
        }
        Ok(())
    })?;
    let target = pair.link.right.socket(tracker_tests::Family::Ipv4, 8080);
    let listener = pair.server.enter(|| TcpListener::bind(target))?;
    let _ends = pair.client.enter(|| TcpStream::connect(target))?;
    let answer = daemon.listeners()?;
    let row = answer.listeners.iter().find(|listener| listener.port == 8080).context("8080 is not known")?;
    assert_eq!((row.syns_received, row.handshakes_completed, answer.no_listener.syns_received), (1, 1, 0));
    assert_eq!(answer.listeners.iter().filter(|listener| listener.address == row.address).count(), 1);
    drop(listener);
    daemon.stop(Signal::SIGTERM)
}

/// The kernel chooses the port only after it reports the new state; a census has to find it.
#[test]
fn a_listener_that_was_never_bound_is_known_soon_and_closed() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let daemon = Daemon::start(&pair.server)?;
    let socket = pair.server.enter(|| Socket::new(Domain::IPV4, Type::STREAM, None))?;
    socket.listen(16)?;
    let port = socket.local_addr()?.as_socket().context("an address")?.port();
    eventually("it is known", || Ok(ports(&daemon.listeners()?).contains(&port)))?;
    ensure!(!ports(&daemon.listeners()?).contains(&0), "port 0 is listed");
    drop(socket);
    ensure!(!ports(&daemon.listeners()?).contains(&port), "port {port} is still there");
    daemon.stop(Signal::SIGTERM)
}

/// The new process listens while the old one closes, as in a restart without a gap: whoever comes last, the port is
/// open.
#[test]
fn a_handover_between_two_sockets_leaves_the_listener_open() -> Result<()> {
    const ROUNDS: u16 = 300;
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let daemon = Daemon::start(&pair.server)?;
    let group = |port: u16| -> Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_port(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
        Ok(socket)
    };
    let open = pair.server.enter(|| -> Result<Vec<Socket>> {
        let mut open = Vec::new();
        for port in 20_000..20_000 + ROUNDS {
            let (old, new) = (group(port)?, group(port)?);
            old.listen(16)?;
            let closing = thread::spawn(move || drop(old));
            new.listen(16)?;
            closing.join().expect("closing does not panic");
            open.push(new);
        }
        Ok(open)
    })?;
    pair.client.enter(|| -> Result<()> {
        for port in 20_000..20_000 + ROUNDS {
            TcpStream::connect(pair.link.right.socket(tracker_tests::Family::Ipv4, port))?;
        }
        Ok(())
    })?;
    let answer = daemon.listeners()?;
    assert_eq!(answer.no_listener.syns_received, 0);
    for port in 20_000..20_000 + ROUNDS {
        let row = answer.listeners.iter().find(|listener| listener.port == port).context("not known")?;
        assert_eq!((row.sockets, row.syns_received, row.handshakes_completed), (1, 1, 1), "port {port}");
    }
    drop(open);
    assert_eq!(daemon.listeners()?.listeners.iter().filter(|row| row.port >= 20_000).count(), 0);
    daemon.stop(Signal::SIGTERM)
}

/// A group of which one socket takes IPv6 alone and one takes IPv4 too, in both orders.
#[test]
fn a_group_of_v6only_and_dual_stack_sockets_takes_ipv4_while_the_latter_lives() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let daemon = Daemon::start(&pair.server)?;
    for (port, v6only_first) in [(8001, true), (8002, false)] {
        let listen = |only_v6: bool| -> Result<Socket> {
            let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
            socket.set_reuse_port(true)?;
            socket.set_only_v6(only_v6)?;
            socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
            socket.listen(16)?;
            Ok(socket)
        };
        let (first, second) =
            pair.server.enter(|| Ok::<_, anyhow::Error>((listen(v6only_first)?, listen(!v6only_first)?)))?;
        let target = pair.link.right.socket(tracker_tests::Family::Ipv4, port);
        pair.client.enter(|| TcpStream::connect(target))?;
        let answer = daemon.listeners()?;
        let row = answer.listeners.iter().find(|listener| listener.port == port).context("not known")?;
        assert_eq!((row.sockets, row.dual_stack, row.syns_by_family.ipv4), (2, true, 1), "port {port}");
        let before = answer.no_listener.syns_received;
        let (dual, only_v6) = if v6only_first { (second, first) } else { (first, second) };
        drop(dual);
        ensure!(pair.client.enter(|| TcpStream::connect(target)).is_err(), "nothing takes IPv4 any more");
        assert_eq!(daemon.listeners()?.no_listener.syns_received, before + 1, "port {port}");
        drop(only_v6);
    }
    daemon.stop(Signal::SIGTERM)
}
