//! What is asked and what is printed.

use clap::Parser as _;
use jiff::Timestamp;
use tracker_detect::explain::{BindRequest, explain_bind};
use tracker_fixtures as sample;

use super::*;
use crate::cli::{Cli, Command, Question};

#[test]
fn many_sockets_are_counted() {
    let request = BindRequest { privileged: true, ..BindRequest::new(Protocol::Tcp, [0, 0, 0, 0].into(), 80) };
    let mut answer = explain_bind(&request, &sample::sockets(), &sample::port_settings(), true);
    answer.holders = vec![answer.holders[0].clone(); 12];
    answer.holders_total = 40;
    let view = |wide| View { wide, now: Timestamp::UNIX_EPOCH, columns: None };
    let text = bind::render(&answer, view(false));
    assert!(text.contains("\nand 30 more\n") && text.matches("LISTEN  0.0.0.0:80").count() == 10, "{text}");
    let text = bind::render(&answer, view(true));
    assert!(text.contains("\nand 28 more\n") && text.matches("inet_bind_conflict").count() == 1, "{text}");
}

/// The path that a command line asks for.
fn asked(words: &[&str]) -> Result<String> {
    let words = ["tracker", "explain"].iter().chain(words);
    match Cli::try_parse_from(words)?.command {
        Command::Ask(Question::Explain { call: Explain::Bind(args) }) => Ok(bind_path(&args)?.path),
        Command::Ask(Question::Explain { call: Explain::Connect(args) }) => Ok(connect_path(&args)?.path),
        Command::Ask(Question::Explain { call: Explain::Listen(args) }) => Ok(listen_path(&args)?.path),
        _ => unreachable!("only explain is parsed"),
    }
}

#[test]
fn every_flag_is_a_parameter() {
    let connect = |words: &[&str]| asked(&[&["connect"], words].concat()).unwrap();
    assert_eq!(connect(&["192.0.2.1:80"]), "/v1/explain/connect?address=192.0.2.1&port=80");
    let from = ["[::1]:80", "--source", "::2"];
    assert_eq!(connect(&from), "/v1/explain/connect?address=%3A%3A1&port=80&source=%3A%3A2");
    let all = ["bind", "[::]:0", "--udp", "--reuse-address", "--reuse-port", "--ipv6-only", "--user", "1"];
    let expected = "/v1/explain/bind?address=%3A%3A&port=0&protocol=udp&reuse_address=true&reuse_port=true&\
                    ipv6_only=true&uid=1";
    assert_eq!(asked(&all).unwrap(), expected);
    assert!(asked(&["bind", ":80"]).unwrap().starts_with("/v1/explain/bind?address=%3A%3A&port=80&protocol=tcp&"));
    assert_eq!(asked(&["listen", ":80"]).unwrap(), "/v1/explain/listen?address=%3A%3A&port=80&seconds=3");
    let longer = ["listen", "192.0.2.1:80", "--for", "1m"];
    assert_eq!(asked(&longer).unwrap(), "/v1/explain/listen?address=192.0.2.1&port=80&seconds=60");
    assert!(asked(&["bind", "127.0.0.1:80", "--ipv6-only"]).unwrap_err().is::<UsageError>());
    assert!(asked(&["bind", ":80", "--user", "no such user"]).is_err());
}
