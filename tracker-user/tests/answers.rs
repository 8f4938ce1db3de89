//! The commands against an API that answers: what they print and how they exit.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tracker_fixtures as sample;
use tracker_model::Snapshot;
use tracker_user::{
    api::{self, ApiSocket, SocketFile},
    kernel::{KernelHandle, SocketsFound},
};

/// An API that answers as long as this lives.
struct Api {
    _runtime: tokio::runtime::Runtime,
    _file: SocketFile,
    directory: tempfile::TempDir,
}

impl Api {
    fn serve(snapshot: Snapshot) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let guard = runtime.enter();
        let (listener, file) = ApiSocket::bind(&socket(directory.path())).unwrap().into_parts();
        let (sockets, settings) = (sample::sockets(), sample::port_settings());
        let found =
            SocketsFound { sockets, truncated: true, settings, is_local: true, no_route: None, ipv6_only: false };
        let kernel = KernelHandle::fixed(Some(snapshot), Some(found));
        runtime.spawn(axum::serve(listener, api::router(kernel)).into_future());
        drop(guard);
        Self { _runtime: runtime, _file: file, directory }
    }

    /// Exit code and standard output.
    fn run(&self, words: &[&str]) -> (i32, String) {
        let (code, out, err) = self.all(words);
        assert!(err.is_empty(), "{err}");
        (code, out)
    }

    /// Exit code, standard output and standard error.
    fn all(&self, words: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tracker"));
        let output = command.args(words).env("TRACKER_API_SOCKET", socket(self.directory.path())).output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (output.status.code().unwrap(), out, err)
    }

    fn json(&self, words: &[&str]) -> Value {
        let (code, text) = self.run(words);
        assert_eq!((code, text.lines().count()), (0, 1), "{text}");
        serde_json::from_str(&text).unwrap()
    }
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("tracker.sock")
}

#[test]
fn alerts_are_told_to_people_and_to_programs() {
    let api = Api::serve(sample::under_flood());
    let (code, text) = api.run(&["alerts"]);
    assert!(code == 0 && text.contains("critical  firing") && text.contains("warning   resolved"), "{text}");
    let (_, firing) = api.run(&["alerts", "--firing", "-o", "wide"]);
    assert!(!firing.contains("resolved") && firing.contains("    advice "), "{firing}");
    let ids = |words: &[&str]| -> Vec<u64> {
        let answer = api.json(words);
        answer["alerts"].as_array().unwrap().iter().map(|alert| alert["id"].as_u64().unwrap()).collect()
    };
    assert_eq!(ids(&["alerts", "-o", "json"]), [3, 4, 1]);
    assert_eq!(ids(&["alerts", "-o", "json", "--firing"]), [3, 4]);
}

#[test]
fn without_alerts_it_is_fine() {
    let api = Api::serve(sample::snapshot());
    assert_eq!(api.run(&["alerts"]), (0, "no alerts\n".to_owned()));
    assert_eq!(api.json(&["alerts", "-o", "json"])["alerts"], Value::Array(Vec::new()));
}

#[test]
fn a_check_under_flood_is_critical() {
    let api = Api::serve(sample::under_flood());
    let (code, text) = api.run(&["status", "--check"]);
    assert!(code == 2 && text.lines().count() == 1, "{text}");
    assert!(text.starts_with("TRACKER CRITICAL: SYN flood of [::]:443: "), "{text}");
    let status = api.json(&["status", "-o", "json"]);
    assert_eq!((&status["alerts"]["firing"], &status["tcp_counters"]["ListenDrops"]), (&2.into(), &57_000.into()));
    let listeners = api.json(&["listeners", "-o", "json"]);
    assert_eq!(
        (&listeners["listeners"][1]["verdict"], &listeners["no_listener"]["verdict"]),
        (&"spoofed".into(), &"scan".into())
    );
}

#[test]
fn a_check_of_a_host_without_ports_is_critical_and_names_the_destination() {
    let api = Api::serve(sample::under_shortage());
    let (code, text) = api.run(&["status", "--check"]);
    let expected = "TRACKER CRITICAL: Local ports that bind() can choose on 192.0.2.10 are gone: 990 of 990 used \
                    (100 %); since 2027-01-15 07:59:30 UTC (and 5 more alerts)\n";
    assert_eq!((code, text.as_str()), (2, expected));
    let (_, text) = api.run(&["status"]);
    assert!(text.contains("\nAlerts        6 firing: 3 critical, 3 warning; 1 over (tracker alerts)\n"), "{text}");
    assert!(text.contains("\n              critical for"), "{text}");
}

#[test]
fn ports_are_those_of_the_filter() {
    let api = Api::serve(sample::under_shortage());
    let (code, text) = api.run(&["ports"]);
    assert!(code == 0 && text.starts_with("SOURCE ") && text.contains("198.51.100.7:443"), "{text}");
    let destinations = |words: &[&str]| -> Vec<u64> {
        let answer = api.json(&[&["ports", "-o", "json"], words].concat());
        answer["ports"].as_array().unwrap().iter().map(|row| row["destination_port"].as_u64().unwrap()).collect()
    };
    assert_eq!(destinations(&[]), [443, 5_432, 443, 853, 8_080]);
    assert_eq!(destinations(&["--process", "app"]), [443]);
    assert_eq!(destinations(&["--destination", "[2001:db8::53]:853"]), [853]);
    let (code, text) = api.run(&["ports", "--process", "no-such"]);
    assert!(code == 0 && text.starts_with("No local port is in use for a connection by no-such.\n"), "{text}");
}

#[test]
fn explain_answers_whatever_the_answer_is_and_a_check_tells_by_its_code() {
    let api = Api::serve(sample::under_shortage());
    let full = ["explain", "connect", "198.51.100.7:443", "--source", "192.0.2.10"];
    let (code, text) = api.run(&full);
    let summary = "connect() from 192.0.2.10 to 198.51.100.7:443 fails (EADDRNOTAVAIL): none of 990 ports is free \
                   (578 connected, 400 in TIME_WAIT, 12 taken by bind())";
    assert!(code == 0 && text.starts_with(&format!("{summary}\n")) && text.contains("lower bound"), "{text}");
    assert_eq!(api.json(&[&full[..], &["-o", "json"]].concat())["would_fail"], true);
    let check = |words: &[&str]| api.run(&[words, &["--check"]].concat());
    assert_eq!(check(&full), (1, format!("TRACKER WARNING: {summary}\n")));
    let (code, text) = check(&["explain", "connect", "198.51.100.8:443", "--source", "192.0.2.10"]);
    assert!(code == 0 && text.starts_with("TRACKER OK: connect() from 192.0.2.10 to 198.51.100.8:443 finds"), "{text}");
    assert_eq!(api.json(&["explain", "bind", "*:80", "-o", "json"])["error"], "EADDRINUSE");
    let (code, text) = check(&["explain", "bind", "127.0.0.1:81"]);
    assert_eq!((code, text.as_str()), (0, "TRACKER OK: TCP 127.0.0.1:81 can be bound now\n"));
    assert_eq!(check(&["explain", "bind", "127.0.0.1:80"]).0, 1);
}

#[test]
fn a_port_is_watched_and_a_check_tells_whether_something_is_in_the_way() {
    let api = Api::serve(sample::under_shortage());
    let quiet = ["explain", "listen", "192.0.2.10:80", "--for", "1s"];
    let (code, text) = api.run(&quiet);
    let summary = "No SYN to 192.0.2.10:80 arrived in 1 s, though something listens there";
    assert!(code == 0 && text.starts_with(&format!("{summary}\n\nWhat to do:\n")), "{text}");
    assert_eq!(api.run(&[&quiet[..], &["--check"]].concat()), (0, format!("TRACKER OK: {summary}\n")));
    let answer = api.json(&["explain", "listen", "*:8080", "-o", "json"]);
    assert_eq!((&answer["cause"], &answer["blocked"]), (&"nothing_listens".into(), &true.into()));
    let (code, text) = api.run(&["explain", "listen", ":8080", "--check"]);
    assert_eq!(code, 1);
    assert_eq!(text, "TRACKER WARNING: Nobody can connect to port 8080: nothing listens at that port\n");
}

#[test]
fn what_cannot_be_explained_is_one_line_with_the_reason() {
    let api = Api::serve(sample::under_shortage());
    let mixed = ["explain", "connect", "192.0.2.1:80", "--source", "::1"];
    let (code, _, err) = api.all(&mixed);
    assert_eq!((code, err.as_str()), (1, "tracker: source and destination must both be IPv4 or both IPv6\n"));
    let (code, out) = api.run(&[&mixed[..], &["--check"]].concat());
    assert_eq!((code, out.as_str()), (2, "TRACKER CRITICAL: source and destination must both be IPv4 or both IPv6\n"));
    let (code, _, err) = api.all(&["explain", "bind", "127.0.0.1:80", "--ipv6-only"]);
    assert!(code == 2 && err.starts_with("tracker: --ipv6-only is an option of IPv6 sockets"), "{err}");
}
