//! `tracker explain listen` says which queue is full, whose socket is stuck, and whether answers come back.

use std::{net::TcpListener, sync::atomic::AtomicBool, sync::atomic::Ordering, thread, time::Duration};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use tracker_model::explain::{ListenCause, SocketQueues};
use tracker_tests::{
    Family,
    daemon::Daemon,
    packet_socket::PacketSocket,
    pair::Pair,
    segment::Route,
    serial,
    server::{ListenOptions, listen},
    ss,
};

use crate::{
    explain_listen_support::{PORT, Scene, clients, no_rules, rule},
    support::{Sender, eventually, wildcard},
};

/// Listens on both families.
fn listeners(pair: &Pair, port: u16, options: ListenOptions) -> Result<Vec<TcpListener>> {
    Family::BOTH.into_iter().map(|family| listen(&pair.server, wildcard(family, port), options)).collect()
}

#[test]
fn a_process_that_does_not_accept_is_named() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let small = ListenOptions { backlog: 2, ..ListenOptions::default() };
    let _listeners = listeners(&pair, PORT, small)?;
    let daemon = Daemon::start(&pair.server)?;
    let scene = Scene::new(&pair, &daemon);
    let held = clients(&pair.client, &Family::BOTH.map(|family| scene.server(family, PORT)), 3);
    assert_eq!(held.len(), 6, "the kernel takes one more than the backlog");
    for answer in scene.tried(PORT, ListenCause::AcceptQueueFull)? {
        ensure!(answer.summary.contains("3 of 2"), "{answer:#?}");
        ensure!(answer.summary.contains(&format!("(pid {})", std::process::id())), "{answer:#?}");
        ensure!(answer.figures.requests_dropped.is_some_and(|drops| drops >= 3), "{answer:#?}");
    }
    // It is seen without anybody who tries, too.
    let both = Family::BOTH.map(|family| scene.server(family, PORT));
    scene.checked(&both, ListenCause::AcceptQueueFull, || Ok(()))?;
    drop(held);
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn one_stuck_socket_of_a_group_is_found() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let options = ListenOptions { backlog: 1, reuse_port: true, dual_stack: false };
    let (stuck, working) = (listeners(&pair, PORT, options)?, listeners(&pair, PORT, options)?);
    let daemon = Daemon::start(&pair.server)?;
    let scene = Scene::new(&pair, &daemon);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for listener in &working {
            listener.set_nonblocking(true)?;
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    while listener.accept().is_ok() {}
                    thread::sleep(Duration::from_millis(5));
                }
            });
        }
        let both = Family::BOTH.map(|family| scene.server(family, PORT));
        let mut held = Vec::new();
        let result = scene.checked(&both, ListenCause::StuckSocket, || {
            // Half of them fall to the one that does not accept.
            held.extend(clients(&pair.client, &both, 16));
            Ok(())
        });
        done.store(true, Ordering::Relaxed);
        for answer in result? {
            ensure!(answer.summary.contains("1 of 2 sockets"), "{answer:#?}");
            let taking = || answer.figures.sockets.iter().filter(|of| of.takes);
            let full = taking().filter(|of| of.queues.is_some_and(SocketQueues::is_full));
            assert_eq!((full.count(), taking().count()), (1, 2), "{answer:#?}");
            assert_eq!(answer.figures.sockets.len(), 4, "both families are listed: {answer:#?}");
        }
        Ok::<_, anyhow::Error>(())
    })?;
    drop(stuck);
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn a_full_syn_queue_without_cookies_is_the_cause() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    pair.server.sysctl("net.ipv4.tcp_syncookies", "0")?;
    let small = ListenOptions { backlog: 16, ..ListenOptions::default() };
    let _listeners = listeners(&pair, PORT, small)?;
    let daemon = Daemon::start(&pair.server)?;
    let scene = Scene::new(&pair, &daemon);
    let sender = Sender::of(&pair)?;
    for family in Family::BOTH {
        sender.syns(family, 40, PORT)?;
    }
    eventually("the SYN queues are full", || {
        let half_open = |family| Ok::<_, anyhow::Error>(ss::count(&pair.server, family)?.get("half_open").copied());
        Ok(half_open(Family::Ipv4)? >= Some(16) && half_open(Family::Ipv6)? >= Some(16))
    })?;
    for answer in scene.tried(PORT, ListenCause::SynQueueFull)? {
        ensure!(answer.advice[0].contains("tcp_syncookies=1"), "{answer:#?}");
    }
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn answers_that_nobody_acknowledges_are_lost_on_the_way() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let _listeners = listeners(&pair, PORT, ListenOptions::default())?;
    let daemon = Daemon::start(&pair.server)?;
    let scene = Scene::new(&pair, &daemon);
    // Without cookies, and with nothing but cookies.
    for cookies in ["1", "2"] {
        pair.server.sysctl("net.ipv4.tcp_syncookies", cookies)?;
        rule(&pair.client, "input", "filter", "tcp sport 80 drop")?;
        for answer in scene.tried(PORT, ListenCause::AnswersLost)? {
            assert_eq!(answer.figures.handshakes, 0, "{answer:#?}");
            ensure!(answer.figures.delivered.is_some_and(|delivered| delivered >= 3), "{answer:#?}");
        }
        no_rules(&pair.client)?;
    }
    pair.server.sysctl("net.ipv4.tcp_syncookies", "1")?;
    // A client without a socket resets each answer, as half-open health checks do.
    let both = Family::BOTH.map(|family| scene.server(family, PORT));
    scene.checked(&both, ListenCause::ClientsReset, || {
        let socket = PacketSocket::flooder(&pair.client, &pair.link.left.device)?;
        let route = Route { from: &pair.link.left, to: &pair.link.right };
        for family in Family::BOTH {
            for port in 3_000..3_006 {
                socket.send(&route.syn_between(family, port, PORT))?;
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    })?;
    scene.tried(PORT, ListenCause::Fine)?;
    daemon.stop(Signal::SIGTERM)
}
