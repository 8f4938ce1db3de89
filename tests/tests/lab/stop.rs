//! Stopping: whatever ends it, nothing stays in the kernel.

use anyhow::Result;
use nix::sys::signal::Signal;
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
