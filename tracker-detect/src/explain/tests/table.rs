//! `situations.txt`: what the kernel did with each `bind()`.

use std::{net::IpAddr, time::Duration};

use proptest::prelude::*;

use super::{PORT, request, socket};
use crate::{
    explain::{BindRequest, explain_bind},
    ports::PortSettings,
};
use tracker_model::explain::{BindError, Bucket, Protocol, SocketObservation, TcpState};

const TABLE: &str = include_str!("../situations.txt");

/// A socket or a request in the words of the table.
struct Words<'a> {
    protocol: Protocol,
    ipv6: bool,
    address: IpAddr,
    rest: Vec<&'a str>,
}

impl<'a> Words<'a> {
    fn new(text: &'a str) -> Self {
        let mut words = text.split_whitespace();
        let (protocol, family) = words.next().unwrap().split_at(3);
        let protocol = if protocol == "tcp" { Protocol::Tcp } else { Protocol::Udp };
        let address = words.next().unwrap().parse().unwrap();
        Self { protocol, ipv6: family == "6", address, rest: words.collect() }
    }

    fn has(&self, word: &str) -> bool {
        self.rest.contains(&word)
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.rest.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    }
}

fn seen(text: &str) -> SocketObservation {
    let words = Words::new(text);
    let state: TcpState = serde_json::from_value(words.rest[0].into()).unwrap();
    let taken = if words.has("auto") { -1 } else { 0 };
    SocketObservation {
        protocol: words.protocol,
        ipv6: words.ipv6,
        ipv6_only: words.has("v6only"),
        address: words.address,
        reuse_address: words.has("ra"),
        reuse_port: words.has("rp"),
        uid: words.number("uid").unwrap_or_default(),
        device: words.number("dev").unwrap_or_default(),
        bucket: Some(Bucket { fastreuse: taken, fastreuseport: taken }),
        remaining: (words.has("mini") || state == TcpState::TimeWait).then_some(Duration::from_mins(1)),
        ..socket(state)
    }
}

fn asked(words: &Words<'_>) -> BindRequest {
    BindRequest {
        protocol: words.protocol,
        address: words.address,
        port: words.number("port").map_or(PORT, |port| port.try_into().unwrap()),
        ipv6: words.ipv6,
        ipv6_only: words.has("v6only"),
        reuse_address: words.has("ra"),
        reuse_port: words.has("rp"),
        uid: words.number("uid").unwrap_or_default(),
        device: words.number("dev").unwrap_or_default(),
        privileged: !words.has("unprivileged"),
    }
}

/// What is expected of a line's `bind()`, in its words.
fn answer(sockets: &str, question: &str) -> String {
    let sockets: Vec<SocketObservation> = match sockets {
        "nobody" => Vec::new(),
        sockets => sockets.split(';').map(seen).collect(),
    };
    let words = Words::new(question);
    let answer = explain_bind(&asked(&words), &sockets, &PortSettings::default(), !words.has("not_local"));
    assert_eq!(answer.succeeds, answer.error.is_none());
    assert_eq!(answer.error == Some(BindError::InUse), !answer.holders.is_empty());
    assert_eq!(answer.succeeds, answer.advice.is_empty(), "{:?}", answer.advice);
    let bind = answer.error.map_or("ok", |error| error.name());
    let listen = if !answer.succeeds || words.protocol == Protocol::Udp {
        "-"
    } else if words.has("rival_listens") && !answer.rivals.is_empty() {
        "EADDRINUSE"
    } else {
        "ok"
    };
    format!("{bind} {listen}")
}

#[test]
fn every_situation_ends_as_in_the_kernel() {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for line in lines {
        let [title, sockets, question, kernel] = line.split(" | ").collect::<Vec<_>>()[..] else {
            panic!("four parts: {line}");
        };
        assert_eq!(answer(sockets, question), kernel, "{title}: {sockets} | {question}");
        count += 1;
    }
    assert!(count >= 90, "{count}");
}

fn addresses() -> impl Strategy<Value = (bool, IpAddr)> {
    let known = [(false, "0.0.0.0"), (false, "127.0.0.1"), (false, "192.0.2.1"), (true, "::"), (true, "::1")];
    let mapped = [(true, "127.0.0.1"), (true, "0.0.0.0"), (false, "127.0.0.6")];
    let all: Vec<(bool, IpAddr)> =
        known.into_iter().chain(mapped).map(|(ipv6, address)| (ipv6, address.parse().unwrap())).collect();
    prop::sample::select(all)
}

prop_compose! {
    fn any_socket()(
        (ipv6, address) in addresses(),
        protocol in prop::sample::select(vec![Protocol::Tcp, Protocol::Udp]),
        port in PORT..PORT + 3,
        state in prop::sample::select(
            vec![TcpState::Listen, TcpState::Bound, TcpState::TimeWait, TcpState::Established],
        ),
        (ipv6_only, reuse_address, reuse_port) in any::<(bool, bool, bool)>(),
        (uid, device) in (0_u32..2, 0_u32..3),
    ) -> SocketObservation {
        let ipv6_only = ipv6 && ipv6_only;
        let socket = socket(state);
        SocketObservation { protocol, ipv6, ipv6_only, address, port, reuse_address, reuse_port, uid, device, ..socket }
    }
}

prop_compose! {
    fn any_request()(
        (ipv6, address) in addresses(),
        protocol in prop::sample::select(vec![Protocol::Tcp, Protocol::Udp]),
        port in prop::sample::select(vec![0, PORT, PORT + 1]),
        (ipv6_only, reuse_address, reuse_port) in any::<(bool, bool, bool)>(),
        (uid, device) in (0_u32..2, 0_u32..3),
    ) -> BindRequest {
        let ipv6_only = ipv6_only && ipv6 && address.is_ipv6();
        BindRequest { protocol, address, port, ipv6, ipv6_only, reuse_address, reuse_port, uid, device, ..request() }
    }
}

fn few_ports() -> PortSettings {
    PortSettings { low: PORT, high: PORT + 1, ..PortSettings::default() }
}

proptest! {
    #[test]
    fn a_port_without_a_socket_is_bound(
        request in any_request(),
        sockets in prop::collection::vec(any_socket(), 0..12),
    ) {
        let elsewhere = |socket: &SocketObservation| SocketObservation { port: socket.port + 100, ..socket.clone() };
        let sockets: Vec<SocketObservation> = sockets.iter().map(elsewhere).collect();
        prop_assert!(explain_bind(&request, &sockets, &few_ports(), true).succeeds);
    }

    #[test]
    fn one_socket_more_never_helps(
        request in any_request(),
        sockets in prop::collection::vec(any_socket(), 1..12),
    ) {
        let answer = |sockets: &[SocketObservation]| explain_bind(&request, sockets, &few_ports(), true);
        let (fewer, all) = (answer(&sockets[1..]), answer(&sockets));
        prop_assert!(fewer.succeeds || !all.succeeds);
        prop_assert!(fewer.holders_total <= all.holders_total);
    }

    #[test]
    fn what_is_advised_helps(
        request in any_request(),
        sockets in prop::collection::vec(any_socket(), 0..4),
    ) {
        let answer = explain_bind(&request, &sockets, &few_ports(), true);
        let advised = |what: &str| answer.advice.iter().any(|line| line.starts_with(what));
        let succeeds = |request: &BindRequest| explain_bind(request, &sockets, &few_ports(), true).succeeds;
        prop_assert_eq!(answer.succeeds, answer.advice.is_empty());
        let helps = [
            ("Set SO_REUSEADDR before", BindRequest { reuse_address: true, ..request }),
            ("Set SO_REUSEPORT before", BindRequest { reuse_port: true, ..request }),
            ("Set SO_REUSEADDR and", BindRequest { reuse_address: true, reuse_port: true, ..request }),
            ("Set IPV6_V6ONLY before", BindRequest { ipv6_only: true, ..request }),
        ];
        for (advice, request) in helps {
            prop_assert!(!advised(advice) || succeeds(&request), "{}", advice);
        }
        let with = |reuse_address, reuse_port| succeeds(&BindRequest { reuse_address, reuse_port, ..request });
        prop_assert_eq!(answer.variants.plain.is_none(), with(false, false));
        prop_assert_eq!(answer.variants.reuse_address.is_none(), with(true, false));
        prop_assert_eq!(answer.variants.reuse_port.is_none(), with(false, true));
    }
}
