//! 10,000 connections by a real client through nginx, half IPv4, half IPv6: every figure is exact.

use anyhow::Result;
use nix::sys::signal::Signal;
use tracker_tests::{
    Family,
    client::{self, Closer, Load},
    daemon::{self, Daemon},
    link::{self, Tag},
    nginx::Nginx,
    pair::Pair,
    serial,
};

use crate::support::{assert_equal_to_ss, counted, counts, settled, wildcard};

/// Connections of a family by who closes first.
const EACH: u32 = 2_500;
const PER_FAMILY: u64 = 5_000;
const TOTAL: u64 = 10_000;
/// Connections per family that are open all the time, older than the daemon.
const HELD: usize = 20;
const PORT: u16 = 80;

/// A priority tag, which every kernel takes without a VLAN device.
const CUSTOMER: Tag = Tag { kind: Tag::CUSTOMER, vlan: 0 };
const SERVICE: Tag = Tag { kind: Tag::SERVICE, vlan: 0 };

#[test]
fn ten_thousand_connections_on_a_veth_by_default() -> Result<()> {
    let _alone = serial::alone();
    ten_thousand(&Pair::plain()?, &[], "tcx")
}

#[test]
fn ten_thousand_connections_on_a_veth_by_tc() -> Result<()> {
    let _alone = serial::alone();
    ten_thousand(&Pair::plain()?, &["--hook", "tc"], "tcx")
}

#[test]
fn ten_thousand_connections_on_a_veth_by_xdp() -> Result<()> {
    let _alone = serial::alone();
    ten_thousand(&Pair::plain()?, &["--hook", "xdp"], "xdp")
}

#[test]
fn ten_thousand_connections_on_a_veth_by_raw_tp() -> Result<()> {
    let _alone = serial::alone();
    ten_thousand(&Pair::plain()?, &["--socket-events", "raw_tp"], "tcx")
}

#[test]
fn ten_thousand_connections_behind_a_vlan_tag_by_tc() -> Result<()> {
    let _alone = serial::alone();
    ten_thousand(&Pair::tagged(&[CUSTOMER])?, &["--hook", "tc"], "tcx")
}

#[test]
fn ten_thousand_connections_behind_a_vlan_tag_by_xdp() -> Result<()> {
    let _alone = serial::alone();
    ten_thousand(&Pair::tagged(&[CUSTOMER])?, &["--hook", "xdp"], "xdp")
}

#[test]
fn ten_thousand_connections_behind_qinq_by_tc() -> Result<()> {
    let _alone = serial::alone();
    ten_thousand(&Pair::tagged(&[SERVICE, CUSTOMER])?, &["--hook", "tc"], "tcx")
}

#[test]
fn ten_thousand_connections_behind_qinq_by_xdp() -> Result<()> {
    let _alone = serial::alone();
    ten_thousand(&Pair::tagged(&[SERVICE, CUSTOMER])?, &["--hook", "xdp"], "xdp")
}

#[test]
fn ten_thousand_connections_through_vlan_devices() -> Result<()> {
    let _alone = serial::alone();
    let (service, customer) = (Tag { vlan: 20, ..SERVICE }, Tag { vlan: 10, ..CUSTOMER });
    if !link::has_vlan_devices()? {
        eprintln!("skipped: this kernel has no VLAN devices (CONFIG_VLAN_8021Q); Debian's kernels have");
        return Ok(());
    }
    ten_thousand(&Pair::vlan(&[customer])?, &[], "tcx")?;
    ten_thousand(&Pair::vlan(&[service, customer])?, &[], "tcx")
}

fn ten_thousand(pair: &Pair, arguments: &[&str], hook: &str) -> Result<()> {
    let server = &pair.server;
    let nginx = Nginx::start(server, PORT)?;
    let _held = Family::BOTH.map(|family| client::connect(&pair.client, pair.link.right.socket(family, PORT), HELD));
    let daemon = daemon::settings(server)?.arguments(arguments).start()?;

    for family in Family::BOTH {
        let target = pair.link.right.socket(family, nginx.port());
        for closer in [Closer::Server, Closer::Client] {
            client::run(&pair.client, &Load { target, connections: EACH, threads: 4, closer })?;
        }
    }
    settled(server, &["listen", "established", "time_wait"])?;
    assert_nothing_was_repeated(pair)?;

    assert_equal_to_ss(&daemon, server)?;
    assert_listeners(&daemon)?;
    assert_events(&daemon)?;
    assert_packets(&daemon, hook)?;
    assert_metrics(&daemon)?;
    daemon.stop(Signal::SIGTERM)
}

/// What makes exactness meaningful: each SYN was sent once, and none was dropped.
fn assert_nothing_was_repeated(pair: &Pair) -> Result<()> {
    for namespace in [&pair.client, &pair.server] {
        for (group, name) in [("Tcp", "RetransSegs"), ("TcpExt", "TCPSynRetrans"), ("TcpExt", "ListenDrops")] {
            assert_eq!(namespace.counter(group, name)?, 0, "{group} {name}");
        }
    }
    Ok(())
}

fn assert_listeners(daemon: &Daemon<'_>) -> Result<()> {
    for family in Family::BOTH {
        let listener = counted(daemon, wildcard(family, PORT))?;
        assert_eq!(listener.syns_received, PER_FAMILY);
        assert_eq!(listener.handshakes_completed, PER_FAMILY);
        assert_eq!(listener.handshakes_unanswered, 0);
        let (syns, handshakes) = (listener.syns_by_family, listener.handshakes_by_family);
        let (own, other) = match family {
            Family::Ipv4 => ([syns.ipv4, handshakes.ipv4], [syns.ipv6, handshakes.ipv6]),
            Family::Ipv6 => ([syns.ipv6, handshakes.ipv6], [syns.ipv4, handshakes.ipv4]),
        };
        assert_eq!((own, other), ([PER_FAMILY; 2], [0; 2]));
        assert_eq!(listener.queues.map(|queues| queues.connected), Some(u32::try_from(HELD)?));
        assert_eq!(
            (
                listener.queues.map(|queues| queues.half_open),
                listener.queues.map(|queues| queues.syn_queue),
                listener.queues.map(|queues| queues.accept_queue)
            ),
            (Some(0), Some(0), Some(0))
        );
        assert_eq!(listener.queues.map(|queues| queues.accept_queue_max), Some(4_096));
        assert_eq!((listener.queues.map(|queues| queues.drops), listener.sockets), (Some(0), 1));
    }
    assert_eq!(daemon.listeners()?.no_listener.syns_received, 0);
    Ok(())
}

/// Every transition of the namespace is one of these connections': nothing else ran in it.
fn assert_events(daemon: &Daemon<'_>) -> Result<()> {
    let states = daemon.states()?;
    assert_eq!(states.handshakes_completed, TOTAL);
    assert_eq!(states.connects, tracker_model::api::Connects::default());
    for family in Family::BOTH {
        let each = u64::from(EACH);
        let expected = counts([
            ("listen->syn_recv", PER_FAMILY),
            ("syn_recv->established", PER_FAMILY),
            ("established->fin_wait1", each),
            ("fin_wait1->fin_wait2", each),
            ("fin_wait2->close", each),
            ("established->close_wait", each),
            ("close_wait->last_ack", each),
            ("last_ack->close", each),
        ]);
        assert_eq!(daemon.transitions(family)?, expected, "{family:?}");
        let closes = &states.closes[family.name()];
        let (known, rest): (Vec<_>, Vec<_>) =
            closes.iter().partition(|(kind, _)| ["local", "peer"].contains(&kind.as_str()));
        assert_eq!(known.into_iter().map(|(_, count)| *count).collect::<Vec<_>>(), [each, each], "{family:?}");
        assert!(rest.iter().all(|(_, count)| **count == 0), "{family:?}: {rest:?}");
    }
    Ok(())
}

fn assert_packets(daemon: &Daemon<'_>, hook: &str) -> Result<()> {
    let status = daemon.status()?;
    let [interface] = &status.interfaces[..] else { panic!("one interface is watched: {:?}", status.interfaces) };
    assert_eq!(interface.hook, hook, "{}", interface.reason);
    assert_eq!(interface.syns, TOTAL);
    for family in Family::BOTH {
        // One SYN and one FIN of the client for each connection, and nothing that is no TCP of a real client.
        for outcome in ["tcp_syn", "tcp_fin"] {
            assert_eq!(interface.outcomes[outcome][family.name()], PER_FAMILY, "{outcome} {family:?}");
        }
        let odd =
            ["truncated", "unparsed", "fragment", "tcp_rst", "tcp_other", "malformed_length", "malformed_no_flags"];
        for outcome in odd {
            let count = interface.outcomes.get(outcome).and_then(|families| families.get(family.name()));
            assert_eq!(count.copied().unwrap_or(0), 0, "{outcome} {family:?}");
        }
    }
    let losses: u64 = status.losses.values().sum();
    assert_eq!(losses, 0, "{:?}", status.losses);
    Ok(())
}

#[expect(clippy::cast_precision_loss, clippy::float_cmp, reason = "small integers, which are exact")]
fn assert_metrics(daemon: &Daemon<'_>) -> Result<()> {
    let metrics = daemon.metrics()?;
    assert_eq!(metrics.sum("tracker_syns_total", &[("target", "listener")]), TOTAL as f64);
    let port = PORT.to_string();
    let labels = [("port", port.as_str())];
    assert_eq!(metrics.sum("tracker_listener_syns_total", &labels), TOTAL as f64);
    assert_eq!(metrics.sum("tracker_listener_handshakes_total", &labels), TOTAL as f64);
    assert_eq!(metrics.sum("tracker_listener_handshake_seconds_count", &labels), TOTAL as f64);
    Ok(())
}
