//! Sockets that are older than the daemon are in its figures at once.

use std::{
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::Result;
use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};
use tracker_tests::{
    Family,
    daemon::Daemon,
    packet_socket::PacketSocket,
    pair::Pair,
    segment::Route,
    serial,
    server::{ListenOptions, connected, listen},
    ss,
};

use crate::support::{assert_equal_to_ss, counted, eventually, stranger, wildcard};

const PORT: u16 = 1_000;
/// Every state that a socket can rest in. `closing` and `syn_recv` last for moments only.
const STATES: [&str; 9] =
    ["established", "syn_sent", "fin_wait1", "fin_wait2", "time_wait", "close_wait", "last_ack", "listen", "half_open"];

#[test]
fn sockets_in_every_state_that_are_older_than_the_daemon() -> Result<()> {
    let _alone = serial::alone();
    // A wire that can be cut, for the states in which a FIN is not acknowledged.
    let pair = Pair::delayed(Duration::ZERO)?;
    let here = &pair.server;
    here.sysctl("net.ipv4.tcp_syncookies", "0")?;
    let sockets = [Sockets::open(&pair, Family::Ipv4, 5, 6)?, Sockets::open(&pair, Family::Ipv6, 7, 2)?];
    pair.link.wire().expect("a wire joins them").cut(true);
    let _kept = sockets.map(Sockets::close_unacknowledged);

    let daemon = Daemon::start(here)?;
    assert_equal_to_ss(&daemon, here)?;
    for (family, established, half_open) in [(Family::Ipv4, 5, 6), (Family::Ipv6, 7, 2)] {
        let seen = daemon.counts(family)?;
        assert_eq!(seen.len(), STATES.len(), "{family:?}: {seen:?}");
        assert!(STATES.iter().all(|state| seen.contains_key(*state)), "{family:?}: {seen:?}");
        let listener = counted(&daemon, wildcard(family, PORT))?;
        assert_eq!(
            (listener.queues.map(|queues| queues.half_open), listener.queues.map(|queues| queues.syn_queue)),
            (Some(half_open), Some(half_open))
        );
        assert_eq!(listener.queues.map(|queues| queues.connected), Some(established));
        assert_eq!(listener.syns_received, 0, "they came before the daemon");
    }
    daemon.stop(Signal::SIGTERM)
}

/// Sockets of one family in every state.
struct Sockets {
    listener: TcpListener,
    calling: Socket,
    kept: Vec<TcpStream>,
    /// Closed once the wire is cut: one becomes `fin_wait1`, one `last_ack`.
    closed_later: [TcpStream; 2],
}

impl Sockets {
    fn open(pair: &Pair, family: Family, established: u32, half_open: u8) -> Result<Self> {
        let target = pair.link.right.socket(family, PORT);
        let listener = listen(&pair.server, wildcard(family, PORT), ListenOptions::default())?;
        let connect = || connected(&pair.client, target, &listener);
        let mut kept = Vec::new();
        for _ in 0..established {
            kept.extend(<[_; 2]>::from(connect()?));
        }
        // TIME_WAIT: closed here first, then there.
        let (there, here) = connect()?;
        drop(here);
        eventually("the FIN arrives", || Ok(there.peek(&mut [0])? == 0))?;
        drop(there);
        // FIN_WAIT2, with its socket, and as an orphan, of which the kernel keeps a minisocket.
        let (there, here) = connect()?;
        here.shutdown(Shutdown::Write)?;
        kept.extend([there, here]);
        let (there, here) = connect()?;
        drop(here);
        kept.push(there);
        // CLOSE_WAIT.
        let (there, here) = connect()?;
        drop(there);
        kept.push(here);
        // Two for later.
        let (there, becomes_fin_wait1) = connect()?;
        kept.push(there);
        let (there, becomes_last_ack) = connect()?;
        drop(there);

        half_open_requests(pair, family, target, half_open)?;
        let calling = pair.server.enter(|| call_a_stranger(family))?;
        eventually("everything has arrived", || {
            let counts = ss::count(&pair.server, family)?;
            let of = |state: &str| counts.get(state).copied().unwrap_or(0);
            let arrived = [of("half_open"), of("close_wait"), of("fin_wait2"), of("time_wait")];
            Ok(arrived == [u64::from(half_open), 2, 2, 1])
        })?;
        Ok(Self { listener, calling, kept, closed_later: [becomes_fin_wait1, becomes_last_ack] })
    }

    fn close_unacknowledged(self) -> (TcpListener, Socket, Vec<TcpStream>) {
        drop(self.closed_later);
        (self.listener, self.calling, self.kept)
    }
}

fn half_open_requests(pair: &Pair, family: Family, target: SocketAddr, count: u8) -> Result<()> {
    let socket = PacketSocket::sender(&pair.client, &pair.link.left.device)?;
    let route = Route { from: &pair.link.left, to: &pair.link.right };
    (1..=count).try_for_each(|host| socket.send(&route.syn((stranger(family, host.into()), 1_024).into(), target)))
}

/// A `connect()` that nobody answers, in the namespace of the calling thread.
fn call_a_stranger(family: Family) -> Result<Socket> {
    let address = SocketAddr::from((stranger(family, 99), 80));
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let error = socket.connect(&address.into()).expect_err("it only begins");
    anyhow::ensure!(error.raw_os_error() == Some(libc::EINPROGRESS), "connect: {error}");
    Ok(socket)
}
