//! Bad input and missing rights: one clear line with the way out, the right exit code, and nothing left.

use std::{fs, net::Ipv4Addr, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tracker_tests::{
    bpf,
    daemon::{self, Refusal, Settings},
    namespace::{self, Namespace},
    pair::Pair,
    serial,
    server::{ListenOptions, listen},
};

use crate::environment::{settings_as_nobody, without_btf};

const FAILED: i32 = 1;
const USAGE: i32 = 2;

/// Checks that a daemon does not start: its exit code, one line on standard error that has all of `words`, and that it
/// leaves nothing.
fn assert_refused(namespace: &Namespace, settings: Settings<'_>, code: i32, words: &[&str]) -> Result<()> {
    let Refusal { status, output } = settings.refused()?;
    // What it logged on its way is not the message.
    let is_log = |line: &&str| line.contains(" INFO ") || line.contains(" WARN ");
    let lines: Vec<_> = output.lines().filter(|line| !is_log(line)).collect();
    let [line] = lines[..] else { panic!("not one line:\n{output}") };
    println!("{line}");
    assert_eq!(status.code(), Some(code), "{line}");
    for word in words {
        assert!(line.contains(word), "no {word:?} in: {line}");
    }
    bpf::ensure_nothing_left(namespace)
}

/// One case of arguments alone, in a namespace with a link.
fn refused(arguments: &[&str], code: i32, words: &[&str]) -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    assert_refused(&pair.server, daemon::settings(&pair.server)?.arguments(arguments), code, words)
}

#[test]
fn no_such_interface() -> Result<()> {
    refused(&["--interface", "nosuch0"], FAILED, &["nosuch0", "no such interface", "lan1"])
}

#[test]
fn no_such_interface_beside_one_that_exists() -> Result<()> {
    refused(&["--interface", "lan1", "--interface", "nosuch0"], FAILED, &["nosuch0", "no such interface", "lan1"])
}

#[test]
fn interface_down() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    pair.server.ip("link set lan1 down")?;
    let settings = daemon::settings(&pair.server)?.arguments(&["--interface", "lan1"]);
    assert_refused(&pair.server, settings, FAILED, &["lan1", "down", "ip link set lan1 up"])
}

#[test]
fn no_rights() -> Result<()> {
    let _alone = serial::alone();
    // None, and each of the three missing in turn.
    for capabilities in ["", "+perfmon,+net_admin", "+bpf,+net_admin", "+bpf,+perfmon"] {
        let pair = Pair::plain()?;
        let settings = settings_as_nobody(&pair.server, capabilities)?;
        assert_refused(&pair.server, settings, FAILED, &["right", "root", "CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"])
            .with_context(|| format!("with capabilities {capabilities:?}"))?;
    }
    Ok(())
}

#[test]
fn no_such_btf_file() -> Result<()> {
    refused(&["--btf", "/nonexistent"], FAILED, &["/nonexistent", "BTF", "--btf"])
}

#[test]
fn a_btf_file_that_is_none() -> Result<()> {
    refused(&["--btf", "/etc/passwd"], FAILED, &["/etc/passwd", "BTF"])
}

#[test]
fn a_kernel_without_btf() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let settings = daemon::settings(&pair.server)?.through(&without_btf());
    let words = ["/sys/kernel/btf/vmlinux", "BTF", "CONFIG_DEBUG_INFO_BTF", "--btf"];
    assert_refused(&pair.server, settings, FAILED, &words)
}

#[test]
fn tp_btf_demanded_of_a_kernel_without_btf() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let directory = namespace::scratch("case")?;
    let copy = directory.path().join("vmlinux.btf");
    fs::copy("/sys/kernel/btf/vmlinux", &copy)?;
    let arguments = ["--btf", copy.to_str().context("a plain path")?, "--socket-events", "tp_btf"];
    let settings = daemon::settings(&pair.server)?.through(&without_btf()).arguments(&arguments);
    assert_refused(&pair.server, settings, FAILED, &["BTF", "raw_tp"])
}

#[test]
fn port_taken() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let _taken = listen(&pair.server, (Ipv4Addr::LOCALHOST, 10_046).into(), ListenOptions::default())?;
    let words = ["127.0.0.1:10046", "in use", "--web.listen-address"];
    assert_refused(&pair.server, daemon::settings(&pair.server)?, FAILED, &words)
}

#[test]
fn an_address_of_another_host() -> Result<()> {
    let words = ["192.0.2.1:10046", "--web.listen-address"];
    refused(&["--web.listen-address", "192.0.2.1:10046"], FAILED, &words)
}

#[test]
fn socket_path_not_writable() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    // Neither below a file nor in /proc can even root make one.
    for path in ["/etc/passwd/tracker.sock", "/proc/tracker.sock"] {
        let settings = daemon::settings(&pair.server)?.socket(Path::new(path));
        assert_refused(
            &pair.server,
            settings,
            FAILED,
            &["cannot create", path.trim_end_matches("/tracker.sock"), "--api.socket"],
        )?;
    }
    // Nor may nobody where nobody may write.
    let directory = namespace::scratch("case")?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    let path = directory.path().join("tracker.sock");
    let settings = settings_as_nobody(&pair.server, "+bpf,+perfmon,+net_admin")?.socket(&path);
    assert_refused(&pair.server, settings, FAILED, &["cannot create", "ermission denied", "--api.socket"])
}

#[test]
fn socket_path_of_a_file() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let directory = namespace::scratch("case")?;
    let file = directory.path().join("file");
    fs::write(&file, "precious")?;
    let settings = daemon::settings(&pair.server)?.socket(&file);
    assert_refused(&pair.server, settings, FAILED, &["is no socket", "--api.socket"])?;
    assert_eq!(fs::read_to_string(&file)?, "precious");
    Ok(())
}

#[test]
fn a_second_daemon_on_the_socket_of_a_first() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let first = daemon::settings(&pair.server)?.start()?;
    let settings =
        daemon::settings(&pair.server)?.socket(first.socket()).arguments(&["--web.listen-address", "127.0.0.1:10047"]);
    assert_refused(&pair.server, settings, FAILED, &["another daemon", "--api.socket"]).or_else(|error| {
        // The first one's programs are attached, of course.
        anyhow::ensure!(error.to_string().contains("left on a device"), error);
        Ok(())
    })?;
    assert!(first.status().is_ok(), "the first one serves on");
    first.stop(Signal::SIGTERM)
}

#[test]
fn unknown_flag() -> Result<()> {
    refused(&["--interfaces", "lan1"], USAGE, &["--interfaces", "--interface"])
}

#[test]
fn bad_value_of_a_flag() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let cases: [(&[&str], &[&str]); 6] = [
        (&["--hook", "quick"], &["--hook", "quick", "auto", "xdp", "tc"]),
        (&["--socket-events", "fentry"], &["--socket-events", "fentry", "tp_btf", "raw_tp"]),
        (&["--lifetime-sample", "3"], &["--lifetime-sample", "3", "power of two"]),
        (&["--census-interval", "5"], &["--census-interval", "5", "5s"]),
        (&["--web.listen-address", "localhost"], &["--web.listen-address", "localhost", "127.0.0.1:10046"]),
        (&["--log-level", "loud"], &["--log-level", "loud", "info"]),
    ];
    for (arguments, words) in cases {
        assert_refused(&pair.server, daemon::settings(&pair.server)?.arguments(arguments), USAGE, words)?;
    }
    Ok(())
}

#[test]
fn unknown_key_of_the_configuration() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let settings = daemon::settings(&pair.server)?.configuration("hook = \"tc\"\ninterfaces = [\"lan1\"]\n")?;
    let words = ["tracker.toml:2", "interfaces", "lan1", "`interface`"];
    assert_refused(&pair.server, settings, USAGE, &words)
}

#[test]
fn bad_value_in_the_configuration() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let cases: [(&str, &[&str]); 4] = [
        ("hook = \"quick\"\n", &["tracker.toml:1", "hook", "quick", "auto", "xdp", "tc"]),
        ("\nlifetime-sample = 3\n", &["tracker.toml:2", "lifetime-sample", "3", "power of two"]),
        ("lifetime-sample = \"8\"\n", &["tracker.toml:1", "lifetime-sample", "\"8\"", "without quotes"]),
        ("hook = \n", &["tracker.toml:1"]),
    ];
    for (text, words) in cases {
        assert_refused(&pair.server, daemon::settings(&pair.server)?.configuration(text)?, USAGE, words)?;
    }
    Ok(())
}

#[test]
fn no_such_configuration() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let settings = daemon::settings(&pair.server)?;
    fs::remove_file(settings.configuration_path())?;
    assert_refused(&pair.server, settings, USAGE, &["tracker.toml", "--config"])
}
