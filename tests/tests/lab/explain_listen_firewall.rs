//! `tracker explain listen` says what drops or takes SYNs before TCP, with real rules of nft.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
use tracker_model::explain::ListenCause;
use tracker_tests::{
    Family,
    daemon::Daemon,
    link::Link,
    namespace::Namespace,
    packet_socket::PacketSocket,
    pair::Pair,
    segment::Route,
    serial,
    server::{ListenOptions, listen},
};

use crate::{
    explain_listen_support::{PORT, Scene, clients, dropped, nft, no_rules, rule},
    support::{Sender, stranger, wildcard},
};

#[test]
fn rules_that_drop_limit_or_reject_are_told_apart() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let listeners = Family::BOTH.map(|family| listen(&pair.server, wildcard(family, PORT), ListenOptions::default()));
    let _listeners = listeners.into_iter().collect::<Result<Vec<_>>>()?;
    let daemon = Daemon::start(&pair.server)?;
    let scene = Scene::new(&pair, &daemon);
    let server = &pair.server;

    for hook in ["prerouting", "input"] {
        rule(server, hook, "filter", "tcp dport 80 drop")?;
        for answer in scene.tried(PORT, ListenCause::Firewall)? {
            // Each client's SYN, and repeats of it.
            ensure!(answer.figures.syns >= 3, "{hook}: {answer:#?}");
            assert_eq!(dropped(&answer, "NETFILTER_DROP"), answer.figures.syns, "{hook}: {answer:#?}");
            assert_eq!((answer.figures.delivered, answer.figures.handshakes), (Some(0), 0), "{hook}: {answer:#?}");
        }
    }
    // Two clients of each family pass.
    let families = "meta nfproto ipv4 tcp dport 80 tcp flags syn limit rate over 1/hour burst 2 packets drop\n\
                    meta nfproto ipv6 tcp dport 80 tcp flags syn limit rate over 1/hour burst 2 packets drop";
    rule(server, "input", "filter", families)?;
    for answer in scene.tried(PORT, ListenCause::FirewallPartly)? {
        ensure!(answer.figures.handshakes > 0 && dropped(&answer, "NETFILTER_DROP") > 0, "{answer:#?}");
        ensure!(answer.summary.starts_with("Not everybody can"), "{answer:#?}");
    }
    rule(server, "input", "filter", "tcp dport 80 reject with tcp reset")?;
    for answer in scene.tried(PORT, ListenCause::Rejected)? {
        assert_eq!((answer.figures.syns, answer.figures.resets_sent), (3, 3), "refused at once: {answer:#?}");
    }
    rule(server, "input", "filter", "tcp dport 80 reject")?;
    scene.tried(PORT, ListenCause::Rejected)?;
    // Where nothing listens the firewall is still what stops them, and that nothing listens is noted.
    rule(server, "input", "filter", "tcp dport 81 drop")?;
    for answer in scene.tried(81, ListenCause::Firewall)? {
        ensure!(answer.notes.iter().any(|note| note.contains("Nothing listens")), "{answer:#?}");
    }
    // On the way out.
    rule(server, "output", "filter", "tcp sport 80 tcp flags & (syn | ack) == syn | ack drop")?;
    for answer in scene.tried(PORT, ListenCause::AnswersDropped)? {
        let drops = answer.figures.answers_dropped.iter().flatten().map(|drop| drop.count).sum::<u64>();
        ensure!(drops >= 3 && answer.figures.dropped == Some(Vec::new()), "{answer:#?}");
    }
    no_rules(server)?;
    scene.tried(PORT, ListenCause::Fine)?;
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn sources_without_a_way_back_and_bad_checksums_are_named() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let listeners = Family::BOTH.map(|family| listen(&pair.server, wildcard(family, PORT), ListenOptions::default()));
    let _listeners = listeners.into_iter().collect::<Result<Vec<_>>>()?;
    let daemon = Daemon::start(&pair.server)?;
    let scene = Scene::new(&pair, &daemon);

    let both = Family::BOTH.map(|family| scene.server(family, PORT));
    let answers = scene.checked(&both, ListenCause::BadChecksum, || {
        let socket = PacketSocket::flooder(&pair.client, &pair.link.left.device)?;
        let route = Route { from: &pair.link.left, to: &pair.link.right };
        for (family, header) in [(Family::Ipv4, 20), (Family::Ipv6, 40)] {
            for port in 2_000..2_005 {
                let mut frame = route.syn_between(family, port, PORT);
                frame[14 + header + 16] ^= 0x55;
                socket.send(&frame)?;
            }
        }
        Ok(())
    })?;
    for answer in answers {
        assert_eq!((answer.figures.syns, dropped(&answer, "TCP_CSUM")), (5, 5), "{answer:#?}");
    }

    pair.server.ip("route del default")?;
    pair.server.sysctl(&format!("net.ipv4.conf.{}.rp_filter", pair.link.right.device), "1")?;
    let sender = Sender::of(&pair)?;
    let answers = scene.checked(&both[..1], ListenCause::ReversePath, || {
        (1..=7).try_for_each(|host| sender.syn((stranger(Family::Ipv4, host), 1_024).into(), PORT))
    })?;
    assert_eq!(dropped(&answers[0], "IP_RPFILTER"), 7, "{answers:#?}");
    ensure!(answers[0].advice[0].contains("net.ipv4.conf.lan1.rp_filter"), "{answers:#?}");
    // Those with a way back are served.
    scene.tried(PORT, ListenCause::Fine)?;
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn syns_that_are_translated_are_followed() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let container = Namespace::new()?;
    let inner = Link::veth(&container, &pair.server, 2)?;
    for family in ["", "-6 "] {
        let way = if family.is_empty() { inner.right.ipv4.to_string() } else { inner.right.ipv6.to_string() };
        container.ip(&format!("{family}route add default via {way}"))?;
    }
    pair.server.sysctl("net.ipv4.ip_forward", "1")?;
    pair.server.sysctl("net.ipv6.conf.all.forwarding", "1")?;
    let options = ListenOptions::default();
    let mut listeners = Vec::new();
    for family in Family::BOTH {
        listeners.push(listen(&pair.server, wildcard(family, 8_080), options)?);
        // A proxy listens at the published port, as Docker's does, and gets nothing.
        listeners.push(listen(&pair.server, wildcard(family, 8_000), options)?);
        listeners.push(listen(&container, wildcard(family, PORT), options)?);
    }
    let daemon = Daemon::start(&pair.server)?;
    let scene = Scene::new(&pair, &daemon);

    rule(&pair.server, "prerouting", "nat", "tcp dport 80 redirect to :8080\ntcp dport 81 redirect to :8081")?;
    for port in [80, 81] {
        for answer in scene.tried(port, ListenCause::Redirected)? {
            ensure!(answer.summary.contains(&format!(" port 80{port}")), "{answer:#?}");
            assert_eq!(answer.figures.delivered, Some(0), "{answer:#?}");
            assert_eq!(answer.blocked, port == 81, "at 8080 they are served: {answer:#?}");
        }
    }
    // Where they went to, all is well.
    let to = Family::BOTH.map(|family| scene.server(family, 8_080));
    scene.checked(&to, ListenCause::Fine, || {
        drop(clients(&pair.client, &Family::BOTH.map(|family| scene.server(family, 80)), 3));
        Ok(())
    })?;

    let ports = "tcp dport { 82, 8000 }";
    let translated = format!(
        "meta nfproto ipv4 {ports} dnat ip to {}:80\nmeta nfproto ipv6 {ports} dnat ip6 to [{}]:80",
        inner.left.ipv4, inner.left.ipv6
    );
    rule(&pair.server, "prerouting", "nat", &translated)?;
    for port in [82, 8_000] {
        for answer in scene.tried(port, ListenCause::Forwarded)? {
            ensure!(answer.summary.ends_with("and packets come back too"), "{answer:#?}");
        }
    }
    drop(listeners);
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn a_transparent_proxy_is_named() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let mut proxies = Vec::new();
    for (family, words) in [(Family::Ipv4, ["", "0.0.0.0/0"]), (Family::Ipv6, ["-6 ", "::/0"])] {
        let [option, all] = words;
        pair.server.ip(&format!("{option}rule add fwmark 1 lookup 100"))?;
        pair.server.ip(&format!("{option}route add local {all} dev lo table 100"))?;
        proxies.push(pair.server.enter(|| transparent(wildcard(family, 15_001)))?);
    }
    nft(
        &pair.server,
        "table inet lab {\nchain prerouting {\ntype filter hook prerouting priority mangle\n\
         meta nfproto ipv4 tcp dport 80 tproxy ip to :15001 meta mark set 1 accept\n\
         meta nfproto ipv6 tcp dport 80 tproxy ip6 to :15001 meta mark set 1 accept\n}\n}\n",
    )?;
    let daemon = Daemon::start(&pair.server)?;
    let scene = Scene::new(&pair, &daemon);
    let both = Family::BOTH.map(|family| scene.server(family, PORT));
    let mut held = Vec::new();
    let answers = scene.checked(&both, ListenCause::TransparentProxy, || {
        held.extend(clients(&pair.client, &both, 3));
        Ok(())
    })?;
    assert_eq!(held.len(), 6, "the proxy takes them");
    for answer in answers {
        ensure!(answer.summary.contains("port 15001"), "{answer:#?}");
        assert_eq!(answer.figures.delivered, Some(0), "{answer:#?}");
    }
    daemon.stop(Signal::SIGTERM)
}

/// A listening socket that takes connections to other addresses and ports, in the namespace of the calling thread.
fn transparent(address: SocketAddr) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::IpTransparent, &true)?;
    SockRef::from(&socket).set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(64)?;
    Ok(socket)
}

#[test]
fn a_filter_of_the_socket_and_a_syn_proxy_are_told_apart() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let listeners = Family::BOTH.map(|family| listen(&pair.server, wildcard(family, PORT), ListenOptions::default()));
    let listeners = listeners.into_iter().collect::<Result<Vec<_>>>()?;
    let daemon = Daemon::start(&pair.server)?;
    let scene = Scene::new(&pair, &daemon);

    // A SYN proxy takes SYNs until their clients have answered it; these never do.
    nft(
        &pair.server,
        "table inet lab {\nchain prerouting {\ntype filter hook prerouting priority raw\n\
         tcp dport 80 tcp flags syn notrack\n}\nchain input {\ntype filter hook input priority 0\n\
         tcp dport 80 ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp sack-perm\n}\n}\n",
    )?;
    // Of IPv6 the kernel gives those that its SYN proxy takes as dropped by the firewall.
    let ipv4 = [scene.server(Family::Ipv4, PORT)];
    let sender = Sender::of(&pair)?;
    scene.checked(&ipv4, ListenCause::TakenBeforeTcp, || sender.syns(Family::Ipv4, 9, PORT))?;
    no_rules(&pair.server)?;

    // A filter that keeps nothing: a reason that has no rule of its own.
    for listener in &listeners {
        SockRef::from(listener).attach_filter(&[SockFilter::new(0x06, 0, 0, 0)])?;
    }
    for answer in scene.tried(PORT, ListenCause::Dropped)? {
        ensure!(answer.summary.contains("for the reason SOCKET_FILTER"), "{answer:#?}");
        assert_eq!(dropped(&answer, "SOCKET_FILTER"), answer.figures.syns, "{answer:#?}");
    }
    daemon.stop(Signal::SIGTERM)
}
