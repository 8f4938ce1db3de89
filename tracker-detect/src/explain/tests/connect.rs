//! `connect()` that leaves the port to the kernel. Where a test says what the kernel did, that was seen on 6.18.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use proptest::prelude::*;

use super::{process, socket};
use crate::{
    explain::explain_connect,
    ports::{PortSettings, TwReuse},
};
use tracker_model::explain::{Bucket, ConnectAnswer, ConnectRule, Protocol, SocketObservation, TcpState};

const LOW: u16 = 40_000;
const AUTO: Option<Bucket> = Some(Bucket { fastreuse: -1, fastreuseport: -1 });
const BOUND: Option<Bucket> = Some(Bucket { fastreuse: 0, fastreuseport: 0 });

fn source() -> IpAddr {
    [192, 0, 2, 1].into()
}

fn destination() -> SocketAddr {
    ([198, 51, 100, 1], 443).into()
}

/// A range of `ports` ports.
fn range(ports: u16) -> PortSettings {
    PortSettings { low: LOW, high: LOW + ports - 1, ..PortSettings::default() }
}

/// A connection to the destination that `connect()` gave its port.
fn connection(port: u16, state: TcpState) -> SocketObservation {
    let remote = Some((destination().ip(), destination().port()));
    SocketObservation { address: source(), port, remote, bucket: AUTO, ..socket(state) }
}

fn waiting(port: u16) -> SocketObservation {
    SocketObservation { timestamps: true, recyclable: true, ..connection(port, TcpState::TimeWait) }
}

fn ask(sockets: &[SocketObservation], settings: &PortSettings) -> ConnectAnswer {
    explain_connect(source(), destination(), sockets, settings)
}

/// A connection that has set a range for itself.
fn with_range(port: u16, low: u16, high: u16) -> SocketObservation {
    SocketObservation {
        range: u32::from(LOW + low) | u32::from(LOW + high) << 16,
        processes: process(7, "fetch"),
        ..connection(LOW + port, TcpState::Established)
    }
}

/// The range, counted from the lowest port, how many ports there are, how many are free, and whether it fails.
fn figures(answer: &ConnectAnswer) -> (Option<(u16, u16)>, u32, u32, bool) {
    let range = answer.local_port_range.map(|range| (range.low - LOW, range.high - LOW));
    (range, answer.capacity, answer.free_ports, answer.would_fail)
}

#[test]
fn a_range_that_all_connections_have_set_is_what_the_answer_is_for() {
    let mut sockets: Vec<_> = (10..14).map(|port| with_range(port, 10, 14)).collect();
    // A TIME_WAIT no longer has its range, and holds its port all the same.
    sockets.push(SocketObservation { recyclable: false, ..waiting(LOW + 14) });
    let answer = ask(&sockets, &range(100));
    assert_eq!(figures(&answer), (Some((10, 14)), 5, 0, true));
    assert_eq!(
        answer.summary,
        "connect() from 192.0.2.1 to 198.51.100.1:443 with IP_LOCAL_PORT_RANGE 40010-40014 fails (EADDRNOTAVAIL): none \
         of 5 ports is free (4 connected, 1 in TIME_WAIT)"
    );
    let advice = "Widen the range that the sockets set for themselves in fetch (pid 7)";
    assert!(answer.advice.iter().any(|line| line.starts_with(advice)), "{:?}", answer.advice);
    assert_eq!(
        answer.notes[0],
        "This is for a socket that sets IP_LOCAL_PORT_RANGE to 40010-40014, as all that are there have (4 open \
         connections); without it 95 of 100 ports are free."
    );
    // One without it is enough: then the answer is for a socket without.
    sockets.push(connection(LOW + 50, TcpState::Established));
    let answer = ask(&sockets, &range(100));
    assert_eq!(figures(&answer), (None, 100, 94, false));
    let note = "4 connections have set IP_LOCAL_PORT_RANGE to 40010-40014: there 0 of 5 ports are free.";
    assert_eq!(answer.notes, [note]);
}

#[test]
fn what_of_a_range_lies_outside_does_not_count() {
    assert_eq!(figures(&ask(&[with_range(3, 2, 2_000)], &range(100))), (Some((2, 99)), 98, 97, false));
    assert_eq!(figures(&ask(&[with_range(3, 0, 99)], &range(100))).0, None);
}

#[test]
fn a_port_is_free_until_all_are_taken() {
    let all: Vec<_> = (0..4).map(|port| connection(LOW + port, TcpState::Established)).collect();
    for taken in 0..=4 {
        let answer = ask(&all[..taken], &range(4));
        let taken = u32::try_from(taken).unwrap();
        assert_eq!((answer.capacity, answer.held, answer.free_ports), (4, taken, 4 - taken));
        assert_eq!(answer.would_fail, taken == 4);
        assert_eq!(answer.in_use.get(&TcpState::Established).copied().unwrap_or_default(), taken);
    }
    let answer = ask(&all, &range(4));
    assert_eq!(
        answer.causes.iter().map(|cause| (cause.rule, cause.ports)).collect::<Vec<_>>(),
        [(ConnectRule::Connected, 4)]
    );
    assert_eq!(answer.next_free_seconds, None);
}

#[test]
fn the_kernel_looks_at_an_even_number_of_ports() {
    // Ranges of 1 to 5 ports took 1, 2, 2, 4 connections, and of 5 ports 4 or 5.
    let capacity = |ports| ask(&[], &range(ports)).capacity;
    assert_eq!([1, 2, 3, 4, 5].map(capacity), [1, 2, 2, 4, 4]);
    let reserved = |port: u16, ports| {
        let settings = PortSettings { reserved: [port].into_iter().collect(), ..range(ports) };
        ask(&[], &settings).capacity
    };
    // 3, and 3 or 4.
    assert_eq!((reserved(LOW + 1, 4), reserved(LOW + 4, 5)), (3, 3));
    let taken: Vec<_> = (0..4).map(|port| connection(LOW + port, TcpState::Established)).collect();
    let answer = ask(&taken, &range(5));
    assert!((answer.free_ports, answer.would_fail) == (0, false) && answer.notes[0].contains("odd number"));
    let answer = ask(&[0, 1].map(|port| connection(LOW + port, TcpState::Established)), &range(3));
    assert!(answer.would_fail, "the third port is never reached");
}

#[test]
fn what_others_do_with_a_port() {
    // Whether connect() passed over the one port of the range.
    let other = |change: fn(&mut SocketObservation)| {
        let mut socket = connection(LOW, TcpState::Established);
        change(&mut socket);
        ask(&[socket], &range(1)).would_fail
    };
    let elsewhere = |socket: &mut SocketObservation| socket.remote = Some(([198, 51, 100, 2].into(), 443));
    assert!(!other(elsewhere), "connected to another destination");
    assert!(other(|socket| (socket.remote, socket.bucket) = (Some(([198, 51, 100, 2].into(), 443)), BOUND)));
    assert!(!other(|socket| socket.address = [192, 0, 2, 2].into()), "connected from another address");
    assert!(!other(|socket| socket.device = 2), "connected with SO_BINDTODEVICE");
    assert!(!other(|socket| (socket.protocol, socket.bucket) = (Protocol::Udp, None)), "UDP");
    let bound = |address: &str, bucket| {
        let address: IpAddr = address.parse().unwrap();
        let socket =
            SocketObservation { port: LOW, address, ipv6: address.is_ipv6(), bucket, ..socket(TcpState::Bound) };
        ask(&[socket], &range(1)).would_fail
    };
    assert!(bound("127.0.0.9", BOUND) && bound("::1", BOUND), "bound at another address, and with IPv6");
    assert!(bound("127.0.0.9", None), "bound, the bucket not read");
    assert!(other(|socket| socket.state = TcpState::HalfOpen), "a request has the tuple");
}

#[test]
fn time_wait_is_taken_with_timestamps_after_a_second_if_the_sysctl_allows_it() {
    // The kernel connected on loopback with 1 and 2, after 1.3 s, with timestamps, and never from FIN_WAIT2.
    let loopback: IpAddr = [127, 0, 0, 1].into();
    let cases = [(TwReuse::Off, false, false), (TwReuse::On, true, true), (TwReuse::Loopback, false, true)];
    for (tw_reuse, far, near) in cases {
        let settings = PortSettings { tw_reuse, ..range(1) };
        let fails = |socket: SocketObservation| {
            let local = SocketObservation { address: loopback, remote: Some((loopback, 443)), ..socket.clone() };
            let near = explain_connect(loopback, (loopback, 443).into(), &[local], &settings);
            (!ask(&[socket], &settings).would_fail, !near.would_fail)
        };
        assert_eq!(fails(waiting(LOW)), (far, near), "{tw_reuse:?}");
        let young = SocketObservation { recyclable: false, ..waiting(LOW) };
        let ended = SocketObservation { state: TcpState::FinWait2, ..waiting(LOW) };
        let bound = SocketObservation { bucket: BOUND, ..waiting(LOW) };
        for socket in [connection(LOW, TcpState::TimeWait), young, ended, bound] {
            assert_eq!(fails(socket), (false, false), "{tw_reuse:?}");
        }
    }
    let answer = ask(&[waiting(LOW), waiting(LOW + 1)], &PortSettings { tw_reuse: TwReuse::On, ..range(2) });
    assert_eq!((answer.free_ports, answer.held, answer.reusable), (2, 0, 2));
}

#[test]
fn the_next_port_is_that_of_the_time_wait_that_ends_first() {
    let ending = |port: u16, seconds| SocketObservation {
        remaining: Some(Duration::from_secs(seconds)),
        recyclable: false,
        ..waiting(LOW + port)
    };
    let sockets = [ending(0, 30), ending(1, 7), connection(LOW + 2, TcpState::Established), ending(3, 50)];
    assert_eq!(ask(&sockets, &range(4)).next_free_seconds, Some(7.0));
    let reused = ask(&sockets, &PortSettings { tw_reuse: TwReuse::On, ..range(4) });
    assert_eq!(reused.next_free_seconds, Some(1.0), "tcp_tw_reuse_delay");
    // A port that bind() took is free when all its sockets are gone.
    let bound = |seconds| SocketObservation { bucket: BOUND, ..ending(0, seconds) };
    let elsewhere = SocketObservation { remote: Some((source(), 1)), ..bound(20) };
    assert_eq!(ask(&[bound(10), elsewhere], &range(1)).next_free_seconds, Some(20.0));
}

#[test]
fn advice_is_only_what_would_help() {
    let advice = |sockets: &[SocketObservation], settings: &PortSettings| ask(sockets, settings).advice.join("\n");
    let full = PortSettings { low: 1_024, high: u16::MAX, ..PortSettings::default() };
    assert_eq!(advice(&[], &full), "", "nothing is wrong");

    let waits: Vec<_> = (0..2).map(|port| waiting(LOW + port)).collect();
    let words = advice(&waits, &range(2));
    assert!(words.starts_with("sysctl net.ipv4.tcp_tw_reuse=1 lets connect() take 2 of the ports in TIME_WAIT now."));
    assert!(words.contains("keep-alive") && words.contains("ip_local_port_range") && words.contains("source address"));

    let stampless: Vec<_> = (0..2).map(|port| connection(LOW + port, TcpState::TimeWait)).collect();
    let answer = ask(&stampless, &range(2));
    assert!(!answer.advice.join(" ").contains("tcp_tw_reuse"), "without timestamps it never helps");
    assert!(answer.notes[0].starts_with("2 connections in TIME_WAIT without timestamps"));

    let open: Vec<_> = (0..2).map(|port| connection(LOW + port, TcpState::Established)).collect();
    let words = advice(&open, &range(2));
    assert!(!words.contains("TIME_WAIT") && !words.contains("CLOSE_WAIT") && !words.contains("bind()"));

    let leak =
        |port| SocketObservation { processes: process(7, "curl"), ..connection(LOW + port, TcpState::CloseWait) };
    let words = advice(&[leak(0), leak(1)], &range(2));
    assert!(words.starts_with("2 connections are in CLOSE_WAIT: the peer has closed, and curl (pid 7) has not."));

    let bound = |port, state| SocketObservation {
        port: LOW + port,
        bucket: BOUND,
        processes: process(9, "redis"),
        ..socket(state)
    };
    let words = advice(&[bound(0, TcpState::Listen), bound(1, TcpState::Listen)], &range(2));
    assert!(words.contains("move services") && words.contains("they belong to redis (pid 9)"));
    assert!(!words.contains("source address"), "that would not help");
    let words = advice(&[bound(0, TcpState::Established), bound(1, TcpState::Listen)], &range(2));
    assert!(words.contains("IP_BIND_ADDRESS_NO_PORT"));
}

#[test]
fn an_operator_reads_one_line() {
    let answer = ask(&[waiting(LOW)], &range(4));
    assert_eq!(answer.summary, "connect() from 192.0.2.1 to 198.51.100.1:443 finds a port: 3 of 4 are free");
    let bound = SocketObservation { port: LOW + 1, bucket: BOUND, ..socket(TcpState::Listen) };
    let answer = ask(&[waiting(LOW), bound], &range(2));
    assert_eq!(
        answer.summary,
        "connect() from 192.0.2.1 to 198.51.100.1:443 fails (EADDRNOTAVAIL): none of 2 ports is free (1 in TIME_WAIT, \
         1 taken by bind())"
    );
    let reserved = PortSettings { reserved: [LOW].into_iter().collect(), ..range(1) };
    assert!(ask(&[], &reserved).summary.ends_with("net.ipv4.ip_local_reserved_ports leaves no port of the range"));
}

#[test]
fn the_answer_is_read_back_from_json() {
    let held = SocketObservation { processes: process(7, "curl"), ..waiting(LOW) };
    let answer = ask(&[held], &range(1));
    let json = serde_json::to_value(&answer).unwrap();
    assert_eq!(json["in_use"]["time_wait"], 1);
    assert_eq!(json["causes"][0]["rule"], "time_wait");
    assert_eq!(json["processes"][0]["comm"], "curl");
    assert_eq!(serde_json::from_value::<ConnectAnswer>(json).unwrap(), answer);
}

prop_compose! {
    fn any_socket()(
        port in LOW - 2..LOW + 14,
        bucket in prop::sample::select(vec![AUTO, BOUND, None]),
        state in prop::sample::select(
            vec![TcpState::Established, TcpState::TimeWait, TcpState::FinWait2, TcpState::Listen],
        ),
        (timestamps, recyclable, far) in any::<(bool, bool, bool)>(),
    ) -> SocketObservation {
        let seen = connection(port, state);
        let remote = if far { Some((source(), 1)) } else { seen.remote };
        SocketObservation { bucket, timestamps, recyclable: timestamps && recyclable, remote, ..seen }
    }
}

proptest! {
    #[test]
    fn free_ports_are_those_that_nothing_holds(
        sockets in prop::collection::vec(any_socket(), 0..20),
        pairs in 1_u16..6,
        reserved in prop::collection::btree_set(LOW..LOW + 12, 0..3),
        tw_reuse in prop::sample::select(vec![TwReuse::Off, TwReuse::On, TwReuse::Loopback]),
    ) {
        let settings = PortSettings { reserved: reserved.into_iter().collect(), tw_reuse, ..range(2 * pairs) };
        let holds = |socket: &&SocketObservation| {
            let here = socket.remote == Some((destination().ip(), destination().port()));
            let taken = socket.state == TcpState::TimeWait && socket.recyclable && tw_reuse == TwReuse::On;
            settings.may_choose(socket.port) && (socket.is_bound() || (here && !taken))
        };
        let held: BTreeSet<u16> = sockets.iter().filter(holds).map(|socket| socket.port).collect();
        let answer = ask(&sockets, &settings);
        prop_assert_eq!(answer.capacity, settings.range_len() - settings.reserved_in_range());
        prop_assert_eq!(answer.held as usize, held.len());
        prop_assert_eq!(answer.free_ports, answer.capacity - answer.held);
        prop_assert_eq!(answer.would_fail, answer.free_ports == 0);
        prop_assert_eq!(answer.causes.iter().map(|cause| cause.ports).sum::<u32>(), answer.held);
    }

    #[test]
    fn of_an_odd_range_one_port_less_counts(sockets in prop::collection::vec(any_socket(), 0..20), pairs in 1_u16..6) {
        let settings = range(2 * pairs + 1);
        let alone = |port: u16| PortSettings { low: port, high: port, ..settings.clone() };
        let free = |port: &u16| !ask(&sockets, &alone(*port)).would_fail;
        let free = settings.range().filter(free).count();
        let answer = ask(&sockets, &settings);
        prop_assert_eq!(answer.capacity, settings.range_len() - 1);
        prop_assert!((answer.free_ports as usize..=answer.free_ports as usize + 1).contains(&free));
        prop_assert!(!answer.would_fail || free <= usize::from(pairs == 1));
    }
}
