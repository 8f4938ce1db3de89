//! The commands: what they answer, and how they end.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use serde_json::Value;
use tracker_tests::{
    daemon::{self, Daemon},
    namespace::Namespace,
    pair::Pair,
    serial,
};

use crate::environment::as_nobody;

const COMMANDS: [&str; 3] = ["status", "listeners", "states"];

fn tracker(socket: &Path, words: &[&str]) -> Result<Output> {
    let mut command = Command::new(daemon::binary()?);
    command.env("TRACKER_API_SOCKET", socket).args(words).output().context("start tracker")
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("tracker writes UTF-8")
}

#[test]
fn without_a_daemon_they_fail_with_one_line() -> Result<()> {
    let _alone = serial::alone();
    for command in COMMANDS {
        let output = tracker(Path::new("/nonexistent/tracker.sock"), &[command])?;
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count(), text(&output.stdout)), (Some(1), 1, ""), "{said}");
        for word in ["/nonexistent/tracker.sock", "tracker run", "--api.socket"] {
            assert!(said.contains(word), "no {word:?} in: {said}");
        }
    }
    let check = tracker(Path::new("/nonexistent/tracker.sock"), &["status", "--check"])?;
    assert_eq!(check.status.code(), Some(2), "critical, as monitoring plugins say it: {}", text(&check.stdout));
    Ok(())
}

#[test]
fn with_a_daemon_they_answer_as_tables_and_as_one_json_object() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let daemon = Daemon::start(&pair.server)?;
    for command in COMMANDS {
        for format in ["table", "wide", "json"] {
            let output = tracker(daemon.socket(), &[command, "-o", format])?;
            assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""), "{command} -o {format}");
            if format == "json" {
                assert!(serde_json::from_slice::<Value>(&output.stdout)?.is_object());
            } else {
                assert!(text(&output.stdout).lines().count() > 2, "{}", text(&output.stdout));
            }
        }
    }
    let check = tracker(daemon.socket(), &["status", "--check"])?;
    assert_eq!((check.status.code(), text(&check.stdout).lines().count()), (Some(0), 1), "{}", text(&check.stdout));
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn the_socket_is_for_owner_and_group() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let daemon = Daemon::start(&pair.server)?;
    assert_eq!(daemon.socket().metadata()?.permissions().mode() & 0o777, 0o660);
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn doctor_says_what_root_can_do() -> Result<()> {
    let _alone = serial::alone();
    let checks = doctor(&[], 0)?;
    for name in ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "tracker_xdp", "tracker_tc", "tracker_sock_raw"] {
        assert_eq!(verdict(&checks, name), Some("ok"), "{name} in {checks}");
    }
    // Whether this kernel has fexit or not: doctor and daemon agree on it.
    let pair = Pair::plain()?;
    let daemon = Daemon::start(&pair.server)?;
    let status = daemon.status()?;
    let sees_bind = verdict(&checks, "tracker_bind") == Some("ok");
    assert_eq!(status.unavailable.is_empty(), sees_bind, "{:?} and {checks}", status.unavailable);
    assert!(sees_bind || checks["verdict"] == "limited", "{checks}");
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn doctor_says_what_is_missing_and_what_follows() -> Result<()> {
    let _alone = serial::alone();
    let all = ["bpf", "perfmon", "net_admin"];
    for missing in all {
        let held: Vec<String> = all.iter().filter(|name| **name != missing).map(|name| format!("+{name}")).collect();
        let checks = doctor(&as_nobody(&held.join(",")), 1)?;
        for name in all {
            let expected = if name == missing { "failed" } else { "ok" };
            let capability = format!("CAP_{}", name.to_uppercase());
            assert_eq!(verdict(&checks, &capability), Some(expected), "{capability} in {checks}");
        }
    }
    doctor(&as_nobody("+bpf,+perfmon,+net_admin"), 0).map(drop)
}

/// Runs `tracker doctor` behind a wrapper and returns its checks.
fn doctor(wrapper: &[String], code: i32) -> Result<Value> {
    let namespace = Namespace::new()?;
    let binary = daemon::readable_binary()?;
    let mut words = wrapper.iter().map(String::as_str).chain([binary.path.to_str().context("a plain path")?]);
    let mut command = namespace.command(words.next().context("no word")?);
    let output = command.args(words).args(["doctor", "-o", "json"]).output()?;
    assert_eq!(output.status.code(), Some(code), "{}{}", text(&output.stdout), text(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn verdict<'a>(checks: &'a Value, name: &str) -> Option<&'a str> {
    checks["checks"].as_array()?.iter().find(|check| check["name"] == name)?["verdict"].as_str()
}
