//! Accept queues that are full: of one socket of a group, of a listener that nobody accepts on, and of one whose
//! backlog is too small for a burst.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};
use tracker_model::api::{Alert, AlertKind, AlertState, FloodEvidence};
use tracker_tests::{
    Family,
    daemon::{self, Daemon},
    detection::lab::api,
    namespace::Namespace,
    pair::Pair,
    serial,
    server::{ListenOptions, listen_here},
};

use crate::support::{eventually, known, wildcard};

/// Workers of a group.
const WORKERS: usize = 4;
/// The one that never accepts.
const STUCK: usize = 2;

/// Begins this many connections at once, none of which waits for the answer.
fn calls(client: &Namespace, target: SocketAddr, count: usize) -> Result<Vec<Socket>> {
    let call = |_| {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&target.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error.into()),
            _ => Ok(socket),
        }
    };
    client.enter(|| (0..count).map(call).collect())
}

/// A thread of this process, with a listening socket of its own.
struct Worker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start(server: &Namespace, name: &str, address: SocketAddr, backlog: i32, accepts: bool) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&stop);
        let (ready, listens) = std::sync::mpsc::channel();
        let options = ListenOptions { backlog, reuse_port: true, ..ListenOptions::default() };
        let thread = server.on_thread(name, move || {
            let listener = listen_here(address, options).expect("listen");
            ready.send(()).expect("the case waits for it");
            serve(&listener, accepts, &ends);
        })?;
        listens.recv().context("the worker listens")?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Takes connections, and holds them, until it is to end.
fn serve(listener: &TcpListener, accepts: bool, ends: &AtomicBool) {
    listener.set_nonblocking(true).expect("a socket of our own");
    let mut held: Vec<TcpStream> = Vec::new();
    while !ends.load(Ordering::Relaxed) {
        if accepts && let Ok((stream, _)) = listener.accept() {
            held.push(stream);
        } else {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn alerts(daemon: &Daemon<'_>, kind: AlertKind) -> Result<Vec<Alert>> {
    Ok(api(daemon).alerts()?.answer.alerts.into_iter().filter(|alert| alert.kind == kind).collect())
}

/// The evidence of the one alert of a full accept queue, once it has been raised.
fn overflow(daemon: &Daemon<'_>, yes: impl Fn(&Alert, &FloodEvidence) -> bool) -> Result<Alert> {
    let mut found = None;
    eventually("the full accept queue is called", || {
        let alerts = alerts(daemon, AlertKind::AcceptOverflow)?;
        found = alerts.into_iter().find(|alert| alert.evidence.flood().is_some_and(|evidence| yes(alert, evidence)));
        Ok(found.is_some())
    })
    .with_context(|| format!("{:#?}", alerts(daemon, AlertKind::AcceptOverflow)))?;
    found.context("it was found")
}

#[test]
fn one_stuck_socket_of_a_group_is_named_with_its_thread() -> Result<()> {
    let _alone = serial::alone();
    for family in Family::BOTH {
        let pair = Pair::plain()?;
        let daemon = Daemon::start(&pair.server)?;
        let address = wildcard(family, 80);
        let workers: Vec<_> = (0..WORKERS)
            .map(|index| Worker::start(&pair.server, &format!("worker-{index}"), address, 8, index != STUCK))
            .collect::<Result<_>>()?;
        let target = pair.link.right.socket(family, 80);
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.extend(calls(&pair.client, target, 6)?);
            thread::sleep(Duration::from_millis(20));
        }
        let alert =
            overflow(&daemon, |_, evidence| evidence.worst_socket.as_ref().is_some_and(|worst| worst.full > 0))?;
        let evidence = alert.evidence.flood().context("its figures")?;
        assert!(evidence.accept_queue < evidence.accept_queue_max, "the sum hides it: {evidence:#?}");
        let worst = evidence.worst_socket.as_ref().context("it is named")?;
        assert_eq!((worst.accept_queue, worst.accept_queue_max), (9, 8));
        assert_eq!((worst.full, worst.sockets), (1, u32::try_from(WORKERS)?));
        assert_eq!(worst.process.as_ref().map(|process| process.pid), Some(process::id()));
        let thread = worst.thread.as_ref().context("with its thread")?;
        assert_eq!(thread.name, format!("worker-{STUCK}"));
        assert!(alert.summary.contains("1 of its 4 sockets full (9 of 8)"), "{}", alert.summary);
        assert!(alert.summary.contains(&format!("thread worker-{STUCK}")), "{}", alert.summary);
        assert_eq!(alerts(&daemon, AlertKind::SynFlood)?, []);
        let seen = known(&daemon, address)?.context("it is known")?;
        assert_eq!(seen.worst_socket.as_ref(), Some(worst));
        drop((workers, clients));
        daemon.stop(Signal::SIGTERM)?;
    }
    Ok(())
}

#[test]
fn sockets_without_an_event_of_their_own_are_seen_each_by_itself() -> Result<()> {
    let _alone = serial::alone();
    let address = wildcard(Family::Ipv6, 80);
    // Older than the daemon; and by raw_tp, which cannot mark a socket when it begins to listen.
    for (older, arguments) in [(true, &[][..]), (false, &["--socket-events", "raw_tp"])] {
        let pair = Pair::plain()?;
        let group = || -> Result<Vec<_>> {
            let worker = |index| Worker::start(&pair.server, &format!("worker-{index}"), address, 8, index != STUCK);
            (0..WORKERS).map(worker).collect()
        };
        let early = older.then(group).transpose()?;
        let daemon = daemon::settings(&pair.server)?.arguments(arguments).start()?;
        let workers = early.map_or_else(group, Ok)?;
        let clients = calls(&pair.client, pair.link.right.socket(Family::Ipv6, 80), 100)?;
        let mut worst = None;
        eventually("the full one is seen", || {
            worst = known(&daemon, address)?.and_then(|listener| listener.worst_socket);
            // Who holds it is searched for when the daemon starts, and then now and then.
            Ok(worst.as_ref().is_some_and(|worst| worst.full == 1 && (!older || worst.process.is_some())))
        })
        .with_context(|| format!("{worst:?}"))?;
        let worst = worst.context("it was seen")?;
        if older {
            assert_eq!(worst.process.as_ref().map(|process| process.pid), Some(process::id()));
        }
        assert_eq!(worst.thread, None, "which thread called listen() is not known");
        drop((workers, clients));
        daemon.stop(Signal::SIGTERM)?;
    }
    Ok(())
}

#[test]
fn clients_that_wait_are_counted_beside_their_repeats() -> Result<()> {
    let _alone = serial::alone();
    for family in Family::BOTH {
        let pair = Pair::plain()?;
        let daemon = Daemon::start(&pair.server)?;
        let address = wildcard(family, 80);
        let worker = Worker::start(&pair.server, "server", address, 2, false)?;
        let clients = calls(&pair.client, pair.link.right.socket(family, 80), 10)?;
        // The seven that wait repeat their SYNs after 1 s, 3 s and 7 s.
        let alert = overflow(&daemon, |_, evidence| evidence.dropped.is_some_and(|dropped| dropped >= 14))?;
        let evidence = alert.evidence.flood().context("its figures")?;
        assert_eq!((evidence.accept_queue, evidence.accept_queue_max), (Some(3), Some(2)));
        assert_eq!(evidence.waiting_clients, Some(7), "{evidence:#?}");
        assert!(alert.summary.contains("about 7 clients wait"), "{}", alert.summary);
        assert_eq!(evidence.worst_socket, None, "there is but one");
        assert_eq!(alerts(&daemon, AlertKind::SynFlood)?, []);
        drop((worker, clients));
        daemon.stop(Signal::SIGTERM)?;
    }
    Ok(())
}

#[test]
fn a_burst_that_is_too_much_for_a_short_backlog_is_no_flood() -> Result<()> {
    let _alone = serial::alone();
    for family in Family::BOTH {
        let pair = Pair::plain()?;
        let daemon = Daemon::start(&pair.server)?;
        let worker = Worker::start(&pair.server, "server", wildcard(family, 80), 8, true)?;
        thread::sleep(Duration::from_secs(2));
        let clients = calls(&pair.client, pair.link.right.socket(family, 80), 300)?;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(12) {
            let floods = alerts(&daemon, AlertKind::SynFlood)?;
            assert_eq!(floods, [], "{:#?}", known(&daemon, wildcard(family, 80))?);
            thread::sleep(Duration::from_millis(200));
        }
        let [alert] = &alerts(&daemon, AlertKind::AcceptOverflow)?[..] else { panic!("one burst, one alert") };
        assert!(alert.summary.contains("its backlog of 8 is too small"), "{}", alert.summary);
        assert!(alert.advice.contains("raise its backlog of 8"), "{}", alert.advice);
        assert_eq!(alert.state, AlertState::Resolved);
        assert!(alert.evidence.flood().and_then(|evidence| evidence.dropped) >= Some(100), "{alert:#?}");
        drop((worker, clients));
        daemon.stop(Signal::SIGTERM)?;
    }
    Ok(())
}
