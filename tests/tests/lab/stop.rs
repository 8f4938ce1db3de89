//! Stopping: whatever ends it, nothing stays in the kernel. And what must not stop it, or keep it from stopping.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    fcntl::OFlag,
    sys::{signal::Signal, stat::Mode},
    unistd::mkfifo,
};
use tracker_tests::{
    bpf,
    daemon::{self, Daemon},
    namespace,
    pair::Pair,
    serial,
};

/// A daemon for each way to attach.
const ARGUMENTS: [&[&str]; 4] = [&[], &["--hook", "tc"], &["--hook", "xdp"], &["--socket-events", "raw_tp"]];

fn ends(how: impl Fn(Daemon<'_>) -> Result<()>) -> Result<()> {
    let _alone = serial::alone();
    for arguments in ARGUMENTS {
        let pair = Pair::plain()?;
        let daemon = daemon::settings(&pair.server)?.arguments(arguments).start()?;
        assert!(bpf::loaded()? >= 3, "packet, socket-event and census programs are there");
        how(daemon)?;
    }
    Ok(())
}

#[test]
fn sigterm_ends_it_well_and_leaves_nothing() -> Result<()> {
    ends(|daemon| daemon.stop(Signal::SIGTERM))
}

#[test]
fn sigint_ends_it_well_and_leaves_nothing() -> Result<()> {
    ends(|daemon| daemon.stop(Signal::SIGINT))
}

#[test]
fn sigquit_ends_it_well_and_leaves_nothing() -> Result<()> {
    ends(|daemon| daemon.stop(Signal::SIGQUIT))
}

#[test]
fn sighup_ends_nothing_and_says_so() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let daemon = Daemon::start(&pair.server)?;
    daemon.signal(Signal::SIGHUP)?;
    crate::support::eventually("it says so", || Ok(daemon.log().contains("SIGHUP changes nothing")))?;
    daemon.status()?;
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn a_log_that_nobody_reads_stops_neither_the_daemon_nor_its_end() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let directory = namespace::scratch("case")?;
    let fifo = directory.path().join("log");
    mkfifo(&fifo, Mode::S_IRWXU)?;
    let mut pipe = OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&fifo)?;
    let full = std::iter::repeat_with(|| pipe.write(&[b'x'; 4_096])).find_map(Result::err).context("never full")?;
    ensure!(full.kind() == ErrorKind::WouldBlock, "{full}");
    let into_fifo = format!("exec \"$0\" \"$@\" 2>{}", fifo.display());
    let daemon = daemon::settings(&pair.server)?.through(&["sh", "-c", &into_fifo]).start()?;
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn a_recording_that_cannot_be_one_is_refused_before_anything_is_attached() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let directory = namespace::scratch("case")?;
    let fifo = directory.path().join("recording");
    mkfifo(&fifo, Mode::S_IRWXU)?;
    let arguments = ["--detector.record", fifo.to_str().context("a path in UTF-8")?];
    let refusal = daemon::settings(&pair.server)?.arguments(&arguments).refused()?;
    ensure!(refusal.status.code() == Some(1) && refusal.output.lines().count() == 1, "{refusal:?}");
    ensure!(refusal.output.contains("(--detector.record)"), "{}", refusal.output);
    Ok(())
}

#[test]
fn only_the_kernel_thread_runs_before_others() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let daemon = Daemon::start(&pair.server)?;
    // Serving is what must not be raised: there are threads that serve now.
    daemon.metrics()?;
    let mut raised = Vec::new();
    for task in fs::read_dir(format!("/proc/{}/task", daemon.pid()))? {
        let stat = fs::read_to_string(task?.path().join("stat"))?;
        let (name, fields) = stat.rsplit_once(") ").context("no name")?;
        // Field 19 is the niceness; the state, field 3, comes first here.
        let nice: i32 = fields.split(' ').nth(16).context("no niceness")?.parse()?;
        if nice < 0 {
            raised.push(name.split_once('(').context("no name")?.1.to_owned());
        }
    }
    assert_eq!(raised, ["kernel"]);
    daemon.stop(Signal::SIGTERM)
}

#[test]
#[expect(clippy::redundant_closure_for_method_calls, reason = "the method is of one lifetime, the closure of any")]
fn sigkill_leaves_nothing_in_the_kernel() -> Result<()> {
    ends(|daemon| daemon.kill())
}

#[test]
fn a_daemon_after_a_killed_one_takes_its_socket() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let directory = namespace::scratch("case")?;
    let socket = directory.path().join("tracker.sock");
    daemon::settings(&pair.server)?.socket(&socket).start()?.kill()?;
    assert!(socket.exists(), "what this test is about: the killed one left its socket");
    daemon::settings(&pair.server)?.socket(&socket).start()?.stop(Signal::SIGTERM)
}

#[test]
fn a_signal_while_it_starts_ends_it_well() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    for milliseconds in [20, 60, 120, 200] {
        daemon::settings(&pair.server)?.stopped_after(std::time::Duration::from_millis(milliseconds))?;
    }
    Ok(())
}

#[test]
fn a_namespace_that_goes_takes_the_devices_from_under_it() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let daemon = Daemon::start(&pair.server)?;
    pair.server.ip(&format!("link del {}", pair.link.right.device))?;
    crate::support::eventually("the interface is no longer watched", || Ok(daemon.status()?.interfaces.is_empty()))?;
    daemon.stop(Signal::SIGTERM)
}
