//! Questions about ports that have no answer: one clear line, and the right status code.

use anyhow::Result;
use nix::sys::signal::Signal;
use tracker_tests::{api::Api, daemon::Daemon, pair::Pair, serial};

/// What is asked below `/v1/explain/`, the status code, and words of the reason.
const CASES: &[(&str, u16, &[&str])] = &[
    ("connect?address=10.77.1.2&port=0", 400, &["port 0"]),
    ("connect?address=10.77.1.2", 400, &["missing field", "port"]),
    ("connect?port=80", 400, &["missing field", "address"]),
    ("connect?address=10.77.1&port=80", 400, &["address", "IP address"]),
    ("connect?address=lab.example&port=80", 400, &["address", "IP address"]),
    ("connect?address=10.77.1.2&port=65536", 400, &["port"]),
    ("connect?address=10.77.1.2&port=-1", 400, &["port"]),
    ("connect?address=10.77.1.2&port=http", 400, &["port"]),
    ("connect?address=10.77.1.2&port=80&sauce=10.77.1.1", 400, &["unknown field", "sauce", "source"]),
    ("connect?address=10.77.1.2&port=80&source=10.77.1.99", 422, &["10.77.1.99", "no address of this host"]),
    ("connect?address=192.0.2.1&port=80", 422, &["no way to 192.0.2.1", "unreachable"]),
    ("connect?address=2001:db8::1&port=80", 422, &["no way to 2001:db8::1", "unreachable"]),
    ("connect?address=2001:db8::1&port=80&source=10.77.1.1", 400, &["both be IPv4 or both IPv6"]),
    ("connect?address=192.0.2.1&port=80&source=10.77.1.1", 422, &["no way from 10.77.1.1 to 192.0.2.1", "unreachable"]),
    ("bind?address=0.0.0.0", 400, &["missing field", "port"]),
    ("bind?address=0.0.0.0&port=99999", 400, &["port"]),
    ("bind?address=0.0.0&port=80", 400, &["address", "IP address"]),
    ("bind?address=0.0.0.0&port=80&protocol=sctp", 400, &["sctp", "tcp", "udp"]),
    ("bind?address=0.0.0.0&port=80&reuse_address=maybe", 400, &["reuse_address"]),
    ("bind?address=0.0.0.0&port=80&uid=root", 400, &["uid"]),
    ("bind?address=0.0.0.0&port=80&reuseaddr=true", 400, &["unknown field", "reuseaddr", "reuse_address"]),
    ("bind?address=0.0.0.0&port=80&port=81", 400, &["duplicate field", "port"]),
    ("listen?address=0.0.0.0", 400, &["missing field", "port"]),
    ("listen?address=0.0.0.0&port=0", 400, &["port 0"]),
    ("listen?address=0.0.0.0&port=80&seconds=0", 400, &["1 to 60 seconds"]),
    ("listen?address=0.0.0.0&port=80&seconds=61", 400, &["1 to 60 seconds"]),
    ("listen?address=0.0.0.0&port=80&for=3s", 400, &["unknown field", "seconds"]),
    ("accept?address=0.0.0.0&port=80", 404, &["/v1/explain/accept", "/v1/explain/listen"]),
];

#[test]
fn what_cannot_be_explained_is_refused_with_the_reason() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    for family in ["", "-6 "] {
        pair.client.ip(&format!("{family}route del default"))?;
    }
    let daemon = Daemon::start(&pair.client)?;
    let api = Api::at(daemon.socket());
    let mut wrong = Vec::new();
    for (question, code, words) in CASES {
        match api.refused(&format!("/v1/explain/{question}")) {
            Ok((status, reason)) => {
                println!("{status} {question}: {reason}");
                let is_clear = words.iter().all(|word| reason.contains(word)) && reason.lines().count() == 1;
                if status != *code || !is_clear {
                    wrong.push(format!("{question}: {status} {reason:?}, not {code} with {words:?}"));
                }
            }
            Err(error) => wrong.push(format!("{question}: {error:#}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // What is odd and has an answer.
    assert!(api.explain_bind("0.0.0.0:0".parse()?, "")?.succeeds, "any port");
    assert!(!api.explain_connect("0.0.0.0:80".parse()?, None)?.would_fail, "the host itself");
    assert!(!api.explain_connect("[::ffff:10.77.1.2]:80".parse()?, None)?.would_fail, "a mapped address");
    daemon.stop(Signal::SIGTERM)
}
