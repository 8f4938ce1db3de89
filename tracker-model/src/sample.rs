//! Snapshots made by hand, for tests.

mod flood;
mod ports;
mod sockets;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tracker_common::{
    classify::{Family, Outcome},
    counters::{Census, CloseKind, InterfaceCounters, Loss, SocketCounters, SynTarget},
    histogram::Histogram,
    names, state,
};

pub use flood::under_flood;
pub use ports::under_shortage;
pub use sockets::{port_settings, sockets};

use crate::{
    api::Ports,
    detect::FlowSample,
    snapshot::{
        ByFamily, CensusReport, Floods, Interface, Listener, ListenerQueues, MapFill, NamespaceCounters, NoListener,
        PortSyns, Process, Program, Snapshot, Unwatched,
    },
};

/// A host with one interface and two listeners, of which the first was opened after the census.
#[must_use]
pub fn snapshot() -> Snapshot {
    let taken_at = Timestamp::from_second(1_800_000_000).unwrap_or_default();
    Snapshot {
        taken_at,
        started_at: taken_at - SignedDuration::from_hours(2),
        uptime: Duration::from_hours(2),
        netns: 4_026_531_840,
        interfaces: vec![interface()],
        departed: InterfaceCounters::default(),
        unwatched: vec![Unwatched { name: "lo".to_owned(), reason: "loopback".to_owned() }],
        missing: Vec::new(),
        warnings: Vec::new(),
        listeners: vec![listener("192.0.2.1", 22), web_listener()],
        unjudged: 0,
        no_listener: NoListener {
            top_ports: vec![
                PortSyns { port: 23, syns: 30, syn_rate: 0.25 },
                PortSyns { port: 8080, syns: 10, syn_rate: 0.0 },
            ],
            ports: 2,
            syn_rate: 0.25,
        },
        socket_events: "tp_btf".to_owned(),
        sockets: socket_counters(),
        lifetime_sample: 8,
        census: Some(census(taken_at - SignedDuration::from_secs(1))),
        census_error: None,
        tcp_counters: Some(NamespaceCounters {
            syncookies_sent: 9,
            listen_overflows: 2,
            ..NamespaceCounters::default()
        }),
        floods: Floods::default(),
        ports: Ports::default().into(),
        losses: [0; Loss::COUNT],
        programs: vec![program(names::PROGRAM_XDP, "xdp", 41), program(names::PROGRAM_SOCK_BTF, "tp_btf", 42)],
        maps: vec![MapFill { name: names::LISTENERS.to_owned(), entries: 2, capacity: 1024 }],
        read_seconds: 0.000_75,
    }
}

/// A listener that nothing was counted for yet.
///
/// # Panics
///
/// When `address` is none.
#[must_use]
pub fn listener(address: &str, port: u16) -> Listener {
    Listener {
        netns: 4_026_531_840,
        address: address.parse().expect("an IP address"),
        port,
        dual_stack: false,
        process: None,
        uid: None,
        sockets: 1,
        syns: ByFamily::default(),
        syn_rate: 0.0,
        completed: ByFamily::default(),
        completed_unwatched: ByFamily::default(),
        handshake_time: Histogram::default(),
        census: None,
        half_open_sources: Vec::new(),
        sample: FlowSample::default(),
        distinct_sources: None,
        verdict: None,
    }
}

fn web_listener() -> Listener {
    Listener {
        dual_stack: true,
        process: Some(Process { pid: 815, comm: "nginx".to_owned() }),
        uid: Some(0),
        sockets: 2,
        syns: ByFamily { ipv4: 100, ipv6: 50 },
        syn_rate: 12.5,
        completed: ByFamily { ipv4: 90, ipv6: 40 },
        completed_unwatched: ByFamily { ipv4: 2, ipv6: 1 },
        handshake_time: histogram(&[(3, 100), (5, 33)], 12_345),
        census: Some(ListenerQueues {
            syn_queue: 4,
            syn_queue_young: 3,
            syn_queue_max: 511,
            accept_queue: 1,
            accept_queue_max: 511,
            half_open: 5,
            connected: 40,
            drops: 2,
            half_open_unnamed: 0,
        }),
        ..listener("::", 443)
    }
}

fn interface() -> Interface {
    let mut counters = InterfaceCounters::default();
    let [ipv4, ipv6] = [Family::Ipv4 as usize, Family::Ipv6 as usize];
    counters.packets[Outcome::TcpSyn as usize][ipv4] = 120;
    counters.packets[Outcome::TcpSyn as usize][ipv6] = 80;
    counters.packets[Outcome::NonIp as usize][Family::None as usize] = 9;
    counters.packets[Outcome::Truncated as usize][Family::None as usize] = 3;
    counters.syns[SynTarget::Listener as usize][ipv4] = 100;
    counters.syns[SynTarget::Listener as usize][ipv6] = 50;
    counters.syns[SynTarget::NoListener as usize][ipv4] = 10;
    counters.syns[SynTarget::NoListener as usize][ipv6] = 30;
    counters.syns[SynTarget::NotLocal as usize][ipv4] = 10;
    Interface {
        name: "eth0".to_owned(),
        index: 2,
        hook: "xdp",
        reason: "virtio_net has native XDP".to_owned(),
        counters,
    }
}

fn socket_counters() -> SocketCounters {
    let mut sockets = SocketCounters::default();
    for (from, to, count) in [
        (state::CLOSE, state::SYN_SENT, 25),
        (state::SYN_SENT, state::ESTABLISHED, 20),
        (state::SYN_SENT, state::CLOSE, 5),
        (state::SYN_RECV, state::ESTABLISHED, 133),
        (state::ESTABLISHED, state::FIN_WAIT1, 60),
    ] {
        sockets.transitions[0][usize::from(from)][usize::from(to)] = count;
    }
    sockets.closes[0][CloseKind::Local as usize] = 60;
    for (errno, count) in [(0, 2), (99, 1), (111, 2)] {
        sockets.connect_failures[0][errno] = count;
    }
    sockets.connect_time = histogram(&[(2, 15), (6, 5)], 9_000);
    sockets.handshake_time = histogram(&[(3, 100), (5, 33)], 12_345);
    sockets.lifetime = histogram(&[(0, 1), (24, 2)], 40_000_000_000);
    sockets
}

fn histogram(buckets: &[(usize, u64)], sum_us: u64) -> Histogram {
    let mut histogram = Histogram { sum_us, ..Histogram::default() };
    for (bucket, count) in buckets {
        histogram.buckets[*bucket] = *count;
    }
    histogram
}

fn census(taken_at: Timestamp) -> CensusReport {
    let mut counts = Census::default();
    counts.states[0][usize::from(state::LISTEN)] = 3;
    counts.states[0][usize::from(state::ESTABLISHED)] = 40;
    counts.states[0][usize::from(state::NEW_SYN_RECV)] = 5;
    counts.states[1][usize::from(state::TIME_WAIT)] = 7;
    CensusReport { taken_at, seconds: 0.002, interval_seconds: 5.0, counts }
}

fn program(name: &str, kind: &str, id: u32) -> Program {
    Program { name: name.to_owned(), kind: kind.to_owned(), id, run_count: 1_000, run_seconds: 0.000_5 }
}
