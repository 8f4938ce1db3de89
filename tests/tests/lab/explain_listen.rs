//! `tracker explain listen` says who listens where, and whether SYNs come at all.

use std::{
    io::Write as _,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::net::UnixStream,
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use tracker_model::explain::ListenCause;
use tracker_tests::{
    Family, bpf, command,
    daemon::{self, Daemon},
    link::Link,
    namespace::Namespace,
    pair::Pair,
    peer::{OK, Options, Peer},
    serial,
    server::{ListenOptions, listen},
};

use crate::{
    explain_listen_support::{PORT, Scene, clients, rule},
    support::{eventually, wildcard},
};

#[test]
fn who_listens_elsewhere_is_named() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let (other4, other6) = (Ipv4Addr::new(10, 77, 1, 50), Ipv6Addr::new(0xfd77, 0, 0, 1, 0, 0, 0, 0x50));
    pair.server.ip(&format!("addr add {other4}/24 dev {}", pair.link.right.device))?;
    pair.server.ip(&format!("addr add {other6}/64 dev {} nodad", pair.link.right.device))?;
    let daemon = Daemon::start(&pair.server)?;
    let scene = Scene::new(&pair, &daemon);

    let answers = scene.tried(PORT, ListenCause::NothingListens)?;
    ensure!(answers.iter().all(|answer| answer.figures.sockets.is_empty()), "{answers:#?}");

    let options = ListenOptions::default();
    let addresses = [SocketAddr::from((other4, PORT)), SocketAddr::from((other6, PORT))];
    let listeners =
        addresses.map(|other| listen(&pair.server, other, options)).into_iter().collect::<Result<Vec<_>>>()?;
    for answer in scene.tried(PORT, ListenCause::OtherAddress)? {
        ensure!(answer.figures.sockets.iter().all(|socket| !socket.takes), "{answer:#?}");
        ensure!(answer.summary.contains(&format!("(pid {})", std::process::id())), "{answer:#?}");
    }
    // Where it does listen, all is well.
    scene.checked(&addresses, ListenCause::Fine, || {
        drop(clients(&pair.client, &addresses, 3));
        Ok(())
    })?;
    drop(listeners);

    let loopback = [SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)), SocketAddr::from((Ipv6Addr::LOCALHOST, PORT))];
    let listeners = loopback.map(|at| listen(&pair.server, at, options)).into_iter().collect::<Result<Vec<_>>>()?;
    scene.tried(PORT, ListenCause::LoopbackOnly)?;
    let everywhere = [wildcard(Family::Ipv4, PORT), wildcard(Family::Ipv6, PORT)];
    scene.checked(&everywhere, ListenCause::LoopbackOnly, || {
        drop(clients(&pair.client, &Family::BOTH.map(|family| scene.server(family, PORT)), 3));
        Ok(())
    })?;
    // From this host it is reached, by an interface that is not watched.
    scene.checked(&loopback, ListenCause::Fine, || {
        drop(clients(&pair.server, &loopback, 2));
        Ok(())
    })?;
    drop(listeners);
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn families_devices_and_protocols_are_told_apart() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let third = Namespace::new()?;
    let _second = Link::veth(&third, &pair.server, 2)?;
    let daemon = Daemon::start(&pair.server)?;
    let scene = Scene::new(&pair, &daemon);
    let any = |family, port| wildcard(family, port);

    let only6 = listen(&pair.server, any(Family::Ipv6, PORT), ListenOptions::default())?;
    scene.tried_by(&[Family::Ipv4], PORT, ListenCause::Ipv6Only)?;
    scene.tried_by(&[Family::Ipv6], PORT, ListenCause::Fine)?;
    drop(only6);
    let only4 = listen(&pair.server, any(Family::Ipv4, PORT), ListenOptions::default())?;
    scene.tried_by(&[Family::Ipv6], PORT, ListenCause::Ipv4Only)?;
    // Asked for both, IPv4 is served and nobody comes by IPv6.
    let both = any(Family::Ipv6, PORT);
    scene.checked(&[both], ListenCause::Fine, || {
        drop(clients(&pair.client, &[scene.server(Family::Ipv4, PORT)], 3));
        Ok(())
    })?;
    drop(only4);

    let peer = Peer::start(&pair.server, "elsewhere")?;
    for family in Family::BOTH {
        let (ipv6, device) = (family == Family::Ipv6, Some("lan2".to_owned()));
        let socket = peer.open(&Options { ipv6, ipv6_only: ipv6, device, ..Options::default() })?;
        ensure!(peer.bind(socket, any(family, 81))? == OK && peer.listen(socket)? == OK);
        let udp = peer.open(&Options { ipv6, ipv6_only: ipv6, udp: true, ..Options::default() })?;
        ensure!(peer.bind(udp, any(family, 82))? == OK);
        let bound = peer.open(&Options { ipv6, ipv6_only: ipv6, ..Options::default() })?;
        ensure!(peer.bind(bound, any(family, 83))? == OK);
    }
    for answer in scene.tried(81, ListenCause::OtherDevice)? {
        ensure!(answer.summary.contains("bound to lan2, and SYNs come by lan1"), "{answer:#?}");
    }
    for (port, words) in [(82, "has the port for UDP"), (83, "has bound the port and not called listen()")] {
        for answer in scene.tried(port, ListenCause::NothingListens)? {
            ensure!(answer.summary.contains(&format!("elsewhere (pid {}) {words}", peer.pid())), "{answer:#?}");
        }
    }
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn whether_syns_come_at_all_is_said() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let third = Namespace::new()?;
    let second = Link::veth(&third, &pair.server, 2)?;
    let listeners = Family::BOTH.map(|family| listen(&pair.server, wildcard(family, PORT), ListenOptions::default()));
    let _listeners = listeners.into_iter().collect::<Result<Vec<_>>>()?;
    let daemon = daemon::settings(&pair.server)?.arguments(&["--interface", "lan1"]).start()?;
    let scene = Scene::new(&pair, &daemon);

    for answer in scene.tried(PORT, ListenCause::Fine)? {
        assert_eq!((answer.figures.syns, answer.figures.handshakes), (3, 3), "{answer:#?}");
        assert_eq!(answer.figures.delivered, Some(3), "{answer:#?}");
        assert_eq!(answer.figures.interfaces.iter().map(|of| of.interface.as_str()).collect::<Vec<_>>(), ["lan1"]);
        assert_eq!(answer.figures.dropped, Some(Vec::new()), "{answer:#?}");
    }
    // The client's own firewall.
    rule(&pair.client, "output", "filter", "tcp dport 80 drop")?;
    scene.tried(PORT, ListenCause::NoSyns)?;
    let nowhere: [SocketAddr; 2] = ["10.77.1.99:80".parse()?, "[fd77:0:0:1::99]:80".parse()?];
    scene.checked(&nowhere, ListenCause::AddressNotLocal, || Ok(()))?;
    // lan2 is not watched, and nobody comes.
    let unwatched = Family::BOTH.map(|family| second.right.socket(family, PORT));
    scene.checked(&unwatched, ListenCause::InterfaceNotWatched, || Ok(()))?;
    // Somebody does: that handshakes are completed is known all the same.
    scene.checked(&unwatched, ListenCause::Fine, || {
        drop(clients(&third, &unwatched, 2));
        Ok(())
    })?;
    pair.server.ip("link set lan2 down")?;
    scene.checked(&unwatched[..1], ListenCause::InterfaceDown, || Ok(()))?;
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn a_watch_goes_when_nobody_waits_for_it_and_few_are_at_once() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let _listener = listen(&pair.server, wildcard(Family::Ipv4, PORT), ListenOptions::default())?;
    let daemon = Daemon::start(&pair.server)?;
    let scene = Scene::new(&pair, &daemon);
    let ask = || -> Result<UnixStream> {
        let mut stream = UnixStream::connect(daemon.socket())?;
        stream.write_all(b"GET /v1/explain/listen?address=::&port=80&seconds=60 HTTP/1.1\r\nhost: x\r\n\r\n")?;
        Ok(stream)
    };
    let asking = (0..4).map(|_| ask()).collect::<Result<Vec<_>>>()?;
    let attached = || -> Result<bool> { Ok(command::output("bpftool", ["link"])?.contains("kfree_skb")) };
    eventually("the programs are attached", attached)?;
    // The fifth is refused at once.
    let refused = || scene.api.refused("/v1/explain/listen?address=::&port=81&seconds=1");
    eventually("a fifth watch is refused", || Ok(refused().is_ok_and(|(status, _)| status == 503)))?;
    assert!(refused()?.1.contains("too many"), "{:?}", refused()?);
    // Other answers do not wait for them.
    let begun = std::time::Instant::now();
    scene.api.fresh_listeners()?;
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(asking);
    eventually("the programs are gone", || Ok(!attached()?))?;
    thread::sleep(Duration::from_millis(200));
    scene.tried_by(&[Family::Ipv4], PORT, ListenCause::Fine)?;
    assert!(!attached()?, "they stay no longer than the watch");
    assert!(bpf::orphans()?.is_empty());
    daemon.stop(Signal::SIGTERM)
}
