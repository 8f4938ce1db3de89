//! What is asked and what is printed.

use std::net::SocketAddr;

use clap::Parser as _;
use jiff::Timestamp;
use tracker_detect::explain::{BindRequest, explain_bind, explain_connect};
use tracker_fixtures as sample;
use tracker_model::explain::Protocol;

use super::*;
use crate::cli::{Cli, Command, Question};

fn view(wide: bool) -> View {
    View { wide, now: Timestamp::UNIX_EPOCH, columns: None }
}

fn connected(destination: &str) -> ConnectAnswer {
    let destination: SocketAddr = destination.parse().unwrap();
    explain_connect([192, 0, 2, 10].into(), destination, &sample::sockets(), &sample::port_settings())
}

fn bound(address: &str, change: impl FnOnce(&mut BindRequest)) -> BindAnswer {
    let address: SocketAddr = address.parse().unwrap();
    let request = BindRequest::new(Protocol::Tcp, address.ip(), address.port());
    let mut request = BindRequest { privileged: true, ..request };
    change(&mut request);
    explain_bind(&request, &sample::sockets(), &sample::port_settings(), true)
}

#[test]
fn a_connect_without_a_port_shows_what_holds_them() {
    let expected = "\
connect() from 192.0.2.10 to 198.51.100.7:443 fails (EADDRNOTAVAIL): none of 990 ports is free (578 connected, 400 in TIME_WAIT, 12 taken by bind())

Ports       990 to choose from, 990 held, 0 free
Next free   in 0.4s
In use      ESTABLISHED 570, TIME_WAIT 400, CLOSE_WAIT 8
Processes   app(4711) 500, cron-job(99) 78

PORTS  HELD BECAUSE                                                    KERNEL
  578  a connection to this destination has the port                   __inet_check_established
  400  a connection to this destination is in TIME_WAIT with the port  tcp_twsk_unique
   12  bind() took the port, at whatever address                       __inet_hash_connect

What to do:
  - sysctl net.ipv4.tcp_tw_reuse=1 lets connect() take 350 of the ports in TIME_WAIT now, and 50 more shortly.
  - 8 connections are in CLOSE_WAIT: the peer has closed, and cron-job (pid 99) has not. It must call close().
  - Keep connections and use them again (HTTP keep-alive, a connection pool), or let the peer close first: each of the 400 ports in TIME_WAIT is taken for 60 s, because this side closed first.
  - 12 ports of the range are taken by bind(), for all destinations at once: connect without bind(), or set IP_BIND_ADDRESS_NO_PORT before bind() to an address with port 0; they belong to proxy (pid 512).
  - Widen the range: sysctl net.ipv4.ip_local_port_range=\"1024 65535\" has 64,512 ports instead of 1,000 (40000 to 40999); first reserve the ports of your own services (net.ipv4.ip_local_reserved_ports).
  - Free reserved ports: net.ipv4.ip_local_reserved_ports takes 10 out of the range.
  - Each further source address, destination address or destination port has as many ports again: add a source address, or spread over more destinations.
";
    assert_eq!(connect::render(&connected("198.51.100.7:443"), view(false)), expected);
}

#[test]
fn a_bind_shows_the_sockets_in_the_way() {
    let expected = "\
TCP 0.0.0.0:80 cannot be bound (EADDRINUSE): held by LISTEN 0.0.0.0:80 of nginx (pid 815)

In the way:
STATE   LOCAL       REMOTE  PROCESS     UID ENDS-IN  OPTIONS
LISTEN  0.0.0.0:80  -       nginx(815)    0       -  SO_REUSEADDR
    it has the same address; it listens, and beside a listener only SO_REUSEPORT on both sides counts (inet_bind_conflict)

Without options: EADDRINUSE; with SO_REUSEADDR: EADDRINUSE; with SO_REUSEPORT: EADDRINUSE

What to do:
  - Stop nginx (pid 815), or give one of the two another port. To share it, both must set SO_REUSEPORT before bind() and run as one user.

Note:
  - UDP sockets have the same port and are not in the way: TCP and UDP ports are apart.
";
    assert_eq!(bind::render(&bound("0.0.0.0:80", |_| {}), view(false)), expected);
}

#[test]
fn a_reason_that_holds_for_several_sockets_is_shown_once() {
    let expected = "\
TCP [::]:8080 cannot be bound (EADDRINUSE): held by TIME_WAIT 192.0.2.10:8080 to 203.0.113.9:51000 (42 s left)

In the way:
STATE      LOCAL            REMOTE             PROCESS  UID ENDS-IN  OPTIONS  INODE
TIME_WAIT  192.0.2.10:8080  203.0.113.9:51000  -          -     42s  -            -
    an IPv6 wildcard without IPV6_V6ONLY takes IPv4 too; it was opened without SO_REUSEADDR (inet_bind_conflict)

Without options: EADDRINUSE; with SO_REUSEADDR: EADDRINUSE; with SO_REUSEPORT: EADDRINUSE

What to do:
  - 1 connection in TIME_WAIT was opened without SO_REUSEADDR, so setting it now does not help there: the last ends in 42 s. A server that sets it before every bind() can restart at once.
  - Set IPV6_V6ONLY before bind(): only IPv4 sockets are in the way.
";
    assert_eq!(bind::render(&bound("[::]:8080", |request| request.reuse_address = true), view(true)), expected);
}

#[test]
fn many_sockets_are_counted() {
    let rival = bind::render(&bound("127.0.0.1:9000", |request| request.reuse_address = true), view(false));
    assert!(rival.contains("\nShares the port until one of the two listens:\nSTATE  LOCAL "), "{rival}");
    let mut answer = bound("0.0.0.0:80", |_| {});
    answer.holders = vec![answer.holders[0].clone(); 12];
    answer.holders_total = 40;
    let text = bind::render(&answer, view(false));
    assert!(text.contains("\nand 30 more\n") && text.matches("LISTEN  0.0.0.0:80").count() == 10, "{text}");
    let text = bind::render(&answer, view(true));
    assert!(text.contains("\nand 28 more\n") && text.matches("inet_bind_conflict").count() == 1, "{text}");
}

#[test]
fn a_process_name_cannot_steer_the_terminal() {
    let mut answer = bound("0.0.0.0:80", |_| {});
    let evil = || "a\u{1b}b\n".to_owned();
    (answer.summary, answer.advice, answer.notes) = (evil(), vec![evil()], vec![evil()]);
    (answer.holders[0].processes[0].comm, answer.holders[0].why) = (evil(), evil());
    let text = bind::render(&answer, view(true));
    assert!(!text.contains('\u{1b}') && text.matches("a\\u{1b}b\\n").count() == 5, "{text}");
    let mut answer = connected("198.51.100.7:443");
    (answer.summary, answer.processes[0].comm) = (evil(), evil());
    let text = connect::render(&answer, view(true));
    assert!(!text.contains('\u{1b}') && text.matches("a\\u{1b}b\\n").count() == 2, "{text}");
}

/// The path that a command line asks for.
fn path(words: &[&str]) -> Result<String> {
    let words = ["tracker", "explain"].iter().chain(words);
    match Cli::try_parse_from(words)?.command {
        Command::Ask(Question::Explain { call: Explain::Bind(args) }) => Ok(bind_path(&args)?.0),
        Command::Ask(Question::Explain { call: Explain::Connect(args) }) => Ok(connect_path(&args)?.0),
        _ => unreachable!("only explain is parsed"),
    }
}

#[test]
fn every_flag_is_a_parameter() {
    assert_eq!(path(&["connect", "192.0.2.1:80"]).unwrap(), "/v1/explain/connect?address=192.0.2.1&port=80");
    assert_eq!(
        path(&["connect", "[::1]:80", "--source", "::2"]).unwrap(),
        "/v1/explain/connect?address=::1&port=80&source=::2"
    );
    assert_eq!(path(&["bind", ":80"]).unwrap(), "/v1/explain/bind?address=::&port=80");
    let all = ["bind", "[::]:0", "--udp", "--reuse-address", "--reuse-port", "--ipv6-only", "--user", "root"];
    let expected =
        "/v1/explain/bind?address=::&port=0&protocol=udp&ipv6_only=true&reuse_address=true&reuse_port=true&uid=0";
    assert_eq!(path(&all).unwrap(), expected);
    assert!(path(&["bind", "127.0.0.1:80", "--ipv6-only"]).unwrap_err().is::<UsageError>());
    assert!(path(&["bind", ":80", "--user", "no such user"]).is_err());
}
