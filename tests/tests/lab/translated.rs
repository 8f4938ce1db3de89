//! SYNs that do not reach the listener they were sent to: translated ports, transparent proxies, firewalls.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use socket2::SockRef;
use tracker_model::{
    api::{Alert, AlertKind, AlertState, Class},
    delivery::Delivery,
    listener::Listener,
};
use tracker_tests::{
    Family,
    daemon::Daemon,
    detection::lab::{Lab, api, clients},
    flood::{Flood, Pace, Sources},
    link::Link,
    load_clients::{Behaviour, Plan, Seen},
    namespace::Namespace,
    serial,
    server::{ListenOptions, listen},
    sink::{OnClose, Sink},
};

use crate::support::{counted, eventually, wildcard};

/// A flood must be called within this time.
const CALLED_WITHIN: Duration = Duration::from_secs(2);
/// For how long healthy traffic is watched.
const WATCHED: Duration = Duration::from_secs(6);

/// Clients that are all served, a second.
const RATE: u32 = 200;

/// Clients connect for a while, and no alert is raised. Returns what became of them.
fn healthy(lab: &Lab, daemon: &Daemon<'_>, target: SocketAddr, behaviour: Behaviour) -> Result<Seen> {
    let plan = Plan { behaviour, ..Plan::requests(vec![target], client_addresses(target), RATE.into()) };
    let running = plan.start(&lab.pair.client)?;
    thread::sleep(WATCHED);
    let seen = running.stop()?;
    let alerts = api(daemon).alerts()?.answer.alerts;
    ensure!(alerts.is_empty(), "an alarm on healthy traffic: {alerts:#?}");
    Ok(seen)
}

fn client_addresses(target: SocketAddr) -> Vec<std::net::IpAddr> {
    clients(if target.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }, 16)
}

fn served(seen: &Seen) -> Result<()> {
    ensure!(seen.attempted > 500 && seen.done == seen.attempted, "all are served: {seen:?}");
    Ok(())
}

fn delivery(daemon: &Daemon<'_>, address: SocketAddr) -> Result<(Listener, Delivery)> {
    let listener = counted(daemon, address)?;
    let delivery = listener.delivery.context("this kernel shows which SYNs reach TCP")?;
    Ok((listener, delivery))
}

/// The alert of a flood that begins now, which must be of this port.
fn called(daemon: &Daemon<'_>, port: u16) -> Result<Alert> {
    let begun = Instant::now();
    loop {
        let alerts = api(daemon).alerts()?.answer.alerts;
        if let [alert] = &alerts[..] {
            assert_eq!((alert.kind, alert.state), (AlertKind::SynFlood, AlertState::Firing), "{alert:#?}");
            assert_eq!(alert.class, Some(Class::Spoofed), "{alert:#?}");
            assert_eq!(alert.subject.port, Some(port), "{alert:#?}");
            return Ok(alert.clone());
        }
        ensure!(alerts.is_empty(), "{alerts:#?}");
        ensure!(begun.elapsed() < CALLED_WITHIN, "not within {CALLED_WITHIN:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn flood(lab: &Lab, target: SocketAddr, rate: f64) -> Result<tracker_tests::flood::Running> {
    let family = if target.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
    let flood = Flood::syns(target, Sources::Everywhere(family), Pace::Steady(rate), Duration::from_secs(20));
    flood.start(&lab.pair.client, lab.route())
}

#[test]
fn a_redirected_port_is_no_flood_of_a_closed_one() -> Result<()> {
    let _alone = serial::alone();
    for family in Family::BOTH {
        let lab = Lab::new(1, 0)?;
        let _server = Sink::start(&lab.pair.server, wildcard(family, 8_080), OnClose::Answer)?;
        lab.pair.server.nft(
            "table inet lab { chain in { type nat hook prerouting priority dstnat; tcp dport 80 redirect to \
             :8080\n}\n}",
        )?;
        let daemon = Daemon::start(&lab.pair.server)?;
        let seen = healthy(&lab, &daemon, lab.target(family, 80), Behaviour::Request)?;
        served(&seen)?;
        let (listener, delivery) = delivery(&daemon, wildcard(family, 8_080))?;
        assert_eq!((listener.syns_received, delivery.diverted_here), (0, seen.attempted), "{listener:#?}");
        assert_eq!((listener.handshakes_completed, listener.handshakes_unanswered), (seen.attempted, 0));
        assert_eq!(listener.diverted_from, Some(80));
        let closed = daemon.listeners()?.no_listener;
        assert_eq!((closed.syns_received, closed.ports), (seen.attempted, 0), "{closed:#?}");
        let undelivered = closed.undelivered.context("known")?;
        assert_eq!((undelivered.syns, undelivered.diverted), (seen.attempted, seen.attempted));

        let flood = flood(&lab, lab.target(family, 80), 1_000.0)?;
        called(&daemon, 8_080)?;
        flood.stop()?;
        daemon.stop(Signal::SIGTERM)?;
    }
    Ok(())
}

#[test]
fn a_transparent_proxy_takes_the_syns_of_another_port() -> Result<()> {
    let _alone = serial::alone();
    for family in Family::BOTH {
        let lab = Lab::new(1, 0)?;
        let server = &lab.pair.server;
        let listener = listen(server, wildcard(family, 15_001), ListenOptions::default())?;
        SockRef::from(&listener).set_ip_transparent_v4(true)?;
        let _proxy = Sink::on(server, listener, OnClose::Answer)?;
        for (option, all) in [("", "0.0.0.0/0"), ("-6 ", "::/0")] {
            server.ip(&format!("{option}rule add fwmark 1 lookup 100"))?;
            server.ip(&format!("{option}route add local {all} dev lo table 100"))?;
        }
        // As Envoy and Squid are set up: segments of known connections first, then what is new.
        server.nft(
            "table inet lab { chain in { type filter hook prerouting priority mangle;
                 meta l4proto tcp socket transparent 1 meta mark set 1 accept
                 tcp dport 80 tproxy to :15001 meta mark set 1 accept
             }
             }",
        )?;
        let daemon = Daemon::start(server)?;
        let seen = healthy(&lab, &daemon, lab.target(family, 80), Behaviour::Request)?;
        served(&seen)?;
        let (listener, delivery) = delivery(&daemon, wildcard(family, 15_001))?;
        assert!(listener.syns_received == 0 && delivery.diverted_here >= seen.attempted, "{listener:#?}");
        assert_eq!(listener.handshakes_completed, seen.attempted);
        let closed = daemon.listeners()?.no_listener;
        let diverted = closed.undelivered.as_ref().context("known")?.diverted;
        // A repeat that finds the connection may be looked up by the rule for known ones alone.
        let left: u64 = closed.top_ports.iter().map(|port| port.syns).sum();
        assert!(diverted >= seen.attempted && left * 100 <= seen.attempted, "{closed:#?}");

        let flood = flood(&lab, lab.target(family, 80), 1_000.0)?;
        called(&daemon, 15_001)?;
        flood.stop()?;
        daemon.stop(Signal::SIGTERM)?;
    }
    Ok(())
}

/// Beside clients of a translated port a flood of another listener is called, and the other way round.
#[test]
fn a_flood_beside_a_translated_port_is_called() -> Result<()> {
    let _alone = serial::alone();
    for family in Family::BOTH {
        let lab = Lab::new(1, 1)?;
        let (translated, other) = (lab.target(family, 80), lab.target(family, Lab::port(0)));
        let _server = Sink::start(&lab.pair.server, wildcard(family, 8_080), OnClose::Answer)?;
        lab.pair.server.nft(
            "table inet lab { chain in { type nat hook prerouting priority dstnat
                 tcp dport 80 redirect to :8080
             }
             }",
        )?;
        for (target, called_at) in [(other, other.port()), (translated, 8_080)] {
            let daemon = Daemon::start(&lab.pair.server)?;
            let start = |to| Plan::requests(vec![to], client_addresses(to), RATE.into()).start(&lab.pair.client);
            let clients = (start(translated)?, start(other)?);
            thread::sleep(Duration::from_secs(3));
            assert!(api(&daemon).alerts()?.answer.alerts.is_empty());
            let flood = flood(&lab, target, 500.0)?;
            called(&daemon, called_at)?;
            flood.stop()?;
            drop(clients);
            daemon.stop(Signal::SIGTERM)?;
        }
    }
    Ok(())
}

/// A container as Docker publishes its port: a proxy process listens on the host, and a rule sends clients past it.
#[expect(dead_code, reason = "they live as long as this")]
struct Published {
    // Dropped in this order.
    proxy: Sink,
    server: Sink,
    link: Link,
    container: Namespace,
}

impl Published {
    fn new(lab: &Lab, family: Family) -> Result<Self> {
        let (host, container) = (&lab.pair.server, Namespace::new()?);
        let link = Link::veth(host, &container, 2)?;
        host.sysctl("net.ipv4.ip_forward", "1")?;
        host.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        container.ip(&format!("route add default via {}", link.left.ipv4))?;
        container.ip(&format!("-6 route add default via {}", link.left.ipv6))?;
        host.nft(&format!(
            "table inet lab {{ chain in {{ type nat hook prerouting priority dstnat;
                 fib daddr type local meta nfproto ipv4 tcp dport 8080 dnat ip to {}:80
                 fib daddr type local meta nfproto ipv6 tcp dport 8080 dnat ip6 to [{}]:80
             }}
             }}",
            link.right.ipv4, link.right.ipv6,
        ))?;
        let proxy = Sink::start(host, wildcard(family, 8_080), OnClose::Close)?;
        let server = Sink::start(&container, wildcard(family, 80), OnClose::Answer)?;
        Ok(Self { proxy, server, link, container })
    }
}

#[test]
fn a_published_port_is_no_flood_of_the_proxy() -> Result<()> {
    let _alone = serial::alone();
    for family in Family::BOTH {
        let lab = Lab::new(1, 0)?;
        let _published = Published::new(&lab, family)?;
        let daemon = Daemon::start(&lab.pair.server)?;
        let seen = healthy(&lab, &daemon, lab.target(family, 8_080), Behaviour::Request)?;
        served(&seen)?;
        let (listener, delivery) = delivery(&daemon, wildcard(family, 8_080))?;
        let expected = Delivery { undelivered: seen.attempted - delivery.diverted, ..delivery };
        assert_eq!((listener.syns_received, delivery), (seen.attempted, expected), "{listener:#?}");
        assert_eq!((delivery.delivered, delivery.diverted_here, delivery.filtered), (0, 0, 0), "{listener:#?}");
        assert!(delivery.diverted > RATE.into(), "nothing is dropped, so they go elsewhere: {listener:#?}");
        assert_eq!(listener.handshakes_unanswered, 0);

        // What is sent to the published port under a flood is not the proxy's either.
        let flood = flood(&lab, lab.target(family, 8_080), 1_000.0)?;
        thread::sleep(Duration::from_secs(4));
        let alerts = api(&daemon).alerts()?.answer.alerts;
        assert!(alerts.is_empty(), "{alerts:#?}");
        flood.stop()?;
        daemon.stop(Signal::SIGTERM)?;
    }
    Ok(())
}

#[test]
fn what_a_firewall_drops_floods_no_listener() -> Result<()> {
    let _alone = serial::alone();
    for family in Family::BOTH {
        let lab = Lab::new(1, 1)?;
        let open = lab.target(family, Lab::port(0));
        let dropped = lab.target(family, Lab::port(0) - 1);
        lab.pair.server.nft(&format!(
            "table inet lab {{ chain in {{ type filter hook input priority filter;
                 tcp dport {{ {}, 83 }} iifname != lo drop
             }}
             }}",
            dropped.port()
        ))?;
        let daemon = Daemon::start(&lab.pair.server)?;
        // Clients that try again and again, where somebody listens and where nobody does.
        let retry = |target| {
            let plan = Plan::requests(vec![target], client_addresses(target), RATE.into());
            Plan { patience: Duration::from_secs(2), ..plan }.start(&lab.pair.client)
        };
        let (first, second) = (retry(dropped)?, retry(lab.target(family, 83))?);
        served(&healthy(&lab, &daemon, open, Behaviour::Request)?)?;
        let (listener, delivery) = delivery(&daemon, wildcard(family, dropped.port()))?;
        assert!(listener.syns_received > 1_000, "{listener:#?}");
        let expected = Delivery { undelivered: listener.syns_received - delivery.filtered, ..delivery };
        assert_eq!((delivery, listener.handshakes_unanswered), (expected, 0), "{listener:#?}");
        assert_eq!((delivery.delivered, delivery.diverted, delivery.diverted_here), (0, 0, 0), "{listener:#?}");
        assert!(delivery.filtered > RATE.into() && listener.drop_reasons == ["NETFILTER_DROP"], "{listener:#?}");
        let closed = daemon.listeners()?.no_listener;
        assert_eq!(closed.ports, 0, "{closed:#?}");

        // A flood that the firewall stops wholly, and one beside it that reaches a listener.
        let stopped = flood(&lab, dropped, 3_000.0)?;
        thread::sleep(Duration::from_secs(4));
        let alerts = api(&daemon).alerts()?.answer.alerts;
        assert!(alerts.is_empty(), "{alerts:#?}");
        let flood = flood(&lab, open, 500.0)?;
        called(&daemon, open.port())?;
        for running in [stopped, flood] {
            running.stop()?;
        }
        drop((first, second));
        daemon.stop(Signal::SIGTERM)?;
    }
    Ok(())
}

#[test]
fn a_flood_that_a_synproxy_answers_is_none_of_the_listener() -> Result<()> {
    let _alone = serial::alone();
    let lab = Lab::new(1, 1)?;
    let (server, target) = (&lab.pair.server, lab.target(Family::Ipv4, Lab::port(0)));
    server.sysctl("net.netfilter.nf_conntrack_tcp_loose", "0")?;
    server.nft(&format!(
        "table ip lab {{
             chain raw {{ type filter hook prerouting priority raw; iifname != lo tcp dport {0} tcp flags syn notrack
             }}
             chain in {{ type filter hook input priority filter;
                 iifname != lo tcp dport {0} ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp sack-perm
                 ct state invalid drop
             }}
         }}",
        target.port()
    ))?;
    let daemon = Daemon::start(server)?;
    let seen = healthy(&lab, &daemon, target, Behaviour::Request)?;
    // The kernel's SYNPROXY loses a client now and then, also without tracker.
    assert!(seen.attempted > 500 && seen.done * 100 >= seen.attempted * 98, "{seen:?}");
    let flood = flood(&lab, target, 3_000.0)?;
    thread::sleep(Duration::from_secs(4));
    let alerts = api(&daemon).alerts()?.answer.alerts;
    assert!(alerts.is_empty(), "{alerts:#?}");
    let (listener, _) = delivery(&daemon, wildcard(Family::Ipv4, target.port()))?;
    eventually("it is seen all the same", || {
        Ok(counted(&daemon, wildcard(Family::Ipv4, target.port()))?.syns_received > 8_000)
    })?;
    assert_eq!(listener.handshakes_unanswered, 0, "{listener:#?}");
    flood.stop()?;
    daemon.stop(Signal::SIGTERM)
}
