//! What an operator reads of a `bind()`.

use std::time::Duration;

use super::{PORT, process, request, socket};
use crate::{
    explain::{BindRequest, explain_bind},
    ports::PortSettings,
};
use tracker_model::explain::{BindAnswer, Bucket, Overlap, Protocol, Rule, SocketObservation, TcpState};

fn ask(request: &BindRequest, sockets: &[SocketObservation]) -> BindAnswer {
    explain_bind(request, sockets, &PortSettings::default(), true)
}

fn listener() -> SocketObservation {
    SocketObservation { processes: process(812, "nginx"), inode: 5, ..socket(TcpState::Listen) }
}

/// A server whose port is not one that `connect()` may take.
fn served() -> (BindRequest, PortSettings) {
    (BindRequest { port: 443, ..request() }, PortSettings::default())
}

#[test]
fn a_listener_is_named_and_to_be_stopped() {
    let answer = ask(&request(), &[socket(TcpState::TimeWait), listener()]);
    assert_eq!(
        answer.summary,
        "TCP 0.0.0.0:20000 cannot be bound (EADDRINUSE): held by LISTEN 0.0.0.0:20000 of nginx (pid 812) and 1 more"
    );
    let first = &answer.holders[0];
    assert_eq!((first.overlap, first.rule, first.inode), (Overlap::SameAddress, Rule::Listens, Some(5)));
    assert_eq!(
        first.why,
        "it has the same address; it listens, and beside a listener only SO_REUSEPORT on both sides counts"
    );
    assert_eq!(first.kernel, "inet_bind_conflict");
    assert_eq!(
        answer.advice[0],
        "Stop nginx (pid 812), or give one of the two another port. To share it, both must set SO_REUSEPORT before \
         bind() and run as one user."
    );
}

#[test]
fn time_wait_needs_the_option_on_both_sides() {
    let waits = SocketObservation { reuse_address: true, ..socket(TcpState::TimeWait) };
    let answer = ask(&request(), std::slice::from_ref(&waits));
    assert_eq!(answer.advice[0], "Set SO_REUSEADDR before bind(): TIME_WAIT does not stop it then.");
    assert!(answer.variants.reuse_address.is_none() && answer.variants.plain.is_some());

    let without = [10, 42].map(|seconds| SocketObservation {
        reuse_address: false,
        remaining: Some(Duration::from_millis(seconds * 1_000 - 1)),
        ..waits.clone()
    });
    let answer = ask(&BindRequest { reuse_address: true, ..request() }, &without);
    assert_eq!(
        answer.advice,
        ["2 connections in TIME_WAIT were opened without SO_REUSEADDR, so setting it now does not help there: the \
             last ends in 42 s. A server that sets it before every bind() can restart at once."]
    );
    assert_eq!(
        answer.summary,
        "TCP 0.0.0.0:20000 cannot be bound (EADDRINUSE): held by TIME_WAIT 0.0.0.0:20000 to 192.0.2.9:40009 (42 s \
         left) and 1 more"
    );
}

#[test]
fn a_port_that_connect_took_is_to_be_reserved() {
    let bucket = Some(Bucket { fastreuse: -1, fastreuseport: -1 });
    let port = 40_000;
    let client = SocketObservation { port, bucket, processes: process(9, "curl"), ..socket(TcpState::Established) };
    let request = BindRequest { port, ..request() };
    let answer = ask(&request, std::slice::from_ref(&client));
    assert!(answer.advice[0].starts_with("Stop curl (pid 9)"));
    assert!(answer.advice[1].contains("net.ipv4.ip_local_reserved_ports=40000"), "{:?}", answer.advice);
    let guessed = ask(&request, &[SocketObservation { bucket: None, ..client.clone() }]);
    assert_eq!(guessed.advice, answer.advice, "nothing else is there that bound it");
    let bound =
        ask(&request, &[SocketObservation { bucket: Some(Bucket { fastreuse: 0, fastreuseport: 0 }), ..client }]);
    assert_eq!(bound.advice.len(), 1);
    let free = ask(&request, &[]);
    assert!(
        free.summary == "TCP 0.0.0.0:40000 can be bound now" && free.notes[0].contains("any connect() may take it")
    );
}

#[test]
fn users_and_families_are_named() {
    let other = SocketObservation { reuse_port: true, uid: 33, ..listener() };
    let answer = ask(&BindRequest { reuse_port: true, ..request() }, &[other]);
    assert!(
        answer.advice.contains(
            &"SO_REUSEPORT is shared within one user: this socket is of uid 0, the other of uid 33.".to_owned()
        )
    );

    let dual = BindRequest { ipv6: true, address: "::".parse().unwrap(), ..request() };
    let answer = ask(&dual, &[listener()]);
    assert!(answer.advice.contains(&"Set IPV6_V6ONLY before bind(): only IPv4 sockets are in the way.".to_owned()));
    let held = SocketObservation { ipv6: true, address: "::".parse().unwrap(), ..listener() };
    let answer = ask(&request(), &[held]);
    assert_eq!(answer.holders[0].overlap, Overlap::DualStack);
    assert!(answer.advice.iter().any(|line| line.starts_with("Or set IPV6_V6ONLY on the IPv6 socket")));
    assert!(answer.summary.contains("LISTEN [::]:20000 of nginx"));

    let one = SocketObservation { address: [192, 0, 2, 1].into(), ..listener() };
    assert!(ask(&request(), &[one]).advice.iter().any(|line| line.starts_with("Or bind one address")));
}

#[test]
fn who_may_listen_first_is_named() {
    let rival = SocketObservation { state: TcpState::Bound, reuse_address: true, ..listener() };
    let answer = ask(&BindRequest { reuse_address: true, ..request() }, &[rival]);
    assert!(answer.succeeds);
    assert_eq!(
        (answer.rivals[0].rule, answer.rivals[0].kernel.as_str()),
        (Rule::FirstToListen, "inet_csk_listen_start")
    );
    assert_eq!(
        answer.notes[0],
        "bound 0.0.0.0:20000 of nginx (pid 812) shares the port and does not listen yet: the first to call listen() \
         has it, the other gets EADDRINUSE."
    );
}

#[test]
fn other_errors_have_words_of_their_own() {
    let (request, settings) = served();
    let answer = explain_bind(&BindRequest { privileged: false, ..request }, &[], &settings, true);
    assert_eq!(answer.summary, "TCP 0.0.0.0:443 cannot be bound (EACCES): ports below 1024 need CAP_NET_BIND_SERVICE");
    assert!(answer.advice[0].contains("net.ipv4.ip_unprivileged_port_start=443"));
    let away = BindRequest { address: [198, 51, 100, 9].into(), ..request };
    let answer = explain_bind(&away, &[], &settings, false);
    assert!(answer.summary.ends_with("(EADDRNOTAVAIL): no interface of this network namespace has the address"));
    assert!(answer.advice[1].contains("net.ipv4.ip_nonlocal_bind=1"));
    let udp = ask(&BindRequest { protocol: Protocol::Udp, port: PORT, ..request }, &[listener()]);
    assert!(udp.succeeds && udp.notes[0].starts_with("TCP sockets have the same port"));
}

#[test]
fn any_port_fails_when_all_are_held() {
    let settings = PortSettings { low: PORT, high: PORT, ..PortSettings::default() };
    let any = BindRequest { port: 0, reuse_address: true, ..request() };
    let held = SocketObservation { reuse_address: true, ..socket(TcpState::TimeWait) };
    // The kernel shares no port that it chooses itself, whatever the options.
    let answer = explain_bind(&any, std::slice::from_ref(&held), &settings, true);
    assert_eq!(
        answer.summary,
        "TCP 0.0.0.0, any port, cannot be bound (EADDRINUSE): every port of net.ipv4.ip_local_port_range is held"
    );
    assert!(answer.advice[1].contains("instead of 1 (20000 to 20000)"));
    let at_other = SocketObservation { address: [192, 0, 2, 2].into(), ..held.clone() };
    let here = BindRequest { address: [192, 0, 2, 1].into(), ..any };
    assert!(explain_bind(&here, &[at_other], &settings, true).succeeds);
    let udp = BindRequest { protocol: Protocol::Udp, ..any };
    let held = SocketObservation { protocol: Protocol::Udp, state: TcpState::Bound, ..held };
    assert!(explain_bind(&udp, &[held], &settings, true).succeeds, "UDP does share it");
}

#[test]
fn the_answer_is_read_back_from_json() {
    let answer = ask(&request(), &[listener(), socket(TcpState::TimeWait)]);
    let json = serde_json::to_value(&answer).unwrap();
    assert_eq!((&json["error"], &json["protocol"]), (&"EADDRINUSE".into(), &"tcp".into()));
    assert_eq!((&json["holders"][0]["rule"], &json["holders"][1]["state"]), (&"listens".into(), &"time_wait".into()));
    assert_eq!(serde_json::from_value::<BindAnswer>(json).unwrap(), answer);
}
