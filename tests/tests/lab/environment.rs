//! Where it runs: without tracefs, without its own mount of anything, and without root.

use std::fs;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tracker_model::api::Health;
use tracker_tests::{
    Family, client, command,
    daemon::{self, Daemon, Settings},
    namespace::{self, Namespace},
    pair::Pair,
    serial,
    server::{ListenOptions, listen},
};

use crate::support::{assert_equal_to_ss, counted, known, wildcard};

/// User and group `nobody`.
const NOBODY: u32 = 65_534;
/// Takes tracefs, debugfs and bpffs away, then becomes the command behind it.
const UNMOUNT: &str = "for path in /sys/kernel/tracing /sys/kernel/debug/tracing /sys/kernel/debug /sys/fs/bpf; do
    while umount -l $path 2>/dev/null; do :; done
done
exec \"$@\"";

/// Checks that a daemon that was started in an odd way sees packets, events and sockets all the same.
fn assert_sees(pair: &Pair, daemon: &Daemon<'_>) -> Result<()> {
    for family in Family::BOTH {
        let listening = listen(&pair.server, wildcard(family, 80), ListenOptions::default())?;
        let calls = client::connect(&pair.client, pair.link.right.socket(family, 80), 10);
        assert_eq!(calls.streams.len(), 10);
        let seen = counted(daemon, wildcard(family, 80))?;
        assert_eq!(
            (seen.syns_received, seen.handshakes_completed, seen.queues.map(|queues| queues.connected)),
            (10, 10, Some(10))
        );
        assert_equal_to_ss(daemon, &pair.server)?;
        drop(listening);
    }
    Ok(())
}

fn runs(pair: &Pair, settings: Settings<'_>) -> Result<()> {
    let daemon = settings.start()?;
    assert_sees(pair, &daemon)?;
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn it_runs_under_ip_netns_exec_where_tracefs_is_hidden() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let wrapper = ["ip", "netns", "exec", pair.server.name()];
    let inside =
        command::stdout_of(pair.server.command(wrapper[0]).args(&wrapper[1..]).args(["ls", "/sys/kernel/tracing"]))?;
    assert_eq!(inside, "", "what this test is about: `ip netns exec` hides tracefs");
    runs(&pair, daemon::settings(&pair.server)?.through(&wrapper))
}

#[test]
fn it_runs_where_tracefs_is_not_mounted_at_all() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let wrapper = ["unshare", "--mount", "sh", "-c", UNMOUNT, "sh"];
    let mounts = command::stdout_of(pair.server.command(wrapper[0]).args(&wrapper[1..]).args(["cat", "/proc/mounts"]))?;
    let kinds: Vec<_> = mounts.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    assert!(!kinds.iter().any(|kind| ["tracefs", "debugfs", "bpf"].contains(kind)), "{kinds:?}");
    runs(&pair, daemon::settings(&pair.server)?.through(&wrapper))
}

#[test]
fn it_runs_without_kernel_btf_and_without_a_census_when_a_file_has_the_types() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let directory = namespace::scratch("case")?;
    let copy = directory.path().join("vmlinux.btf");
    fs::copy("/sys/kernel/btf/vmlinux", &copy).context("copy the kernel's BTF")?;
    let settings = daemon::settings(&pair.server)?.through(&without_btf()).without_census();
    let daemon = settings.arguments(&["--btf", copy.to_str().context("a plain path")?]).start()?;
    for family in Family::BOTH {
        let _listening = listen(&pair.server, wildcard(family, 80), ListenOptions::default())?;
        let calls = client::connect(&pair.client, pair.link.right.socket(family, 80), 10);
        assert_eq!(calls.streams.len(), 10);
        let seen = known(&daemon, wildcard(family, 80))?.context("tracker knows the listener")?;
        assert_eq!(
            (seen.syns_received, seen.handshakes_completed, seen.queues.map(|queues| queues.connected)),
            (10, 10, None)
        );
    }
    let status = daemon.status()?;
    assert_eq!(status.socket_events, "raw_tp");
    assert!(status.census.is_none() && daemon.states()?.states.is_none());
    assert!(status.health > Health::Ok, "{:?}", status.health);
    assert!(status.problems.iter().any(|problem| problem.contains("census")), "{:?}", status.problems);
    daemon.stop(Signal::SIGTERM)
}

/// A wrapper that hides the kernel's BTF from the command behind it.
pub(crate) fn without_btf() -> [&'static str; 6] {
    ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /sys/kernel/btf && exec \"$@\"", "sh"]
}

/// A wrapper that becomes `nobody` with these capabilities alone, such as `+bpf,+perfmon`; empty for none.
pub(crate) fn as_nobody(capabilities: &str) -> Vec<String> {
    let all = if capabilities.is_empty() { "-all".to_owned() } else { format!("-all,{capabilities}") };
    vec![
        "setpriv".to_owned(),
        format!("--reuid={NOBODY}"),
        format!("--regid={NOBODY}"),
        "--clear-groups".to_owned(),
        format!("--inh-caps={all}"),
        format!("--ambient-caps={all}"),
        format!("--bounding-set={all}"),
    ]
}

/// Settings of a daemon that runs as `nobody` with these capabilities alone.
pub(crate) fn settings_as_nobody<'a>(namespace: &'a Namespace, capabilities: &str) -> Result<Settings<'a>> {
    let wrapper = as_nobody(capabilities);
    let words: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    daemon::settings(namespace)?.through(&words).owned_by(NOBODY)
}

#[test]
fn it_runs_as_nobody_with_three_capabilities() -> Result<()> {
    let _alone = serial::alone();
    for arguments in [&["--hook", "tc"], &["--hook", "xdp"], &["--socket-events", "raw_tp"]] {
        let pair = Pair::plain()?;
        let settings = settings_as_nobody(&pair.server, "+bpf,+perfmon,+net_admin")?;
        let daemon = settings.arguments(arguments).start()?;
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid()))?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        assert_eq!(field("Uid:"), Some("65534\t65534\t65534\t65534"));
        // CAP_NET_ADMIN 12, CAP_PERFMON 38, CAP_BPF 39.
        let held = u64::from_str_radix(field("CapEff:").context("capabilities")?, 16)?;
        assert_eq!(held & !(1 << 12 | 1 << 38 | 1 << 39), 0, "no more than the three: {held:#x}");
        assert_sees(&pair, &daemon)?;
        daemon.stop(Signal::SIGTERM)?;
    }
    Ok(())
}
