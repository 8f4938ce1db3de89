//! `cargo xtask build`

use std::fs;

use anyhow::{Context as _, Result, ensure};
use xshell::cmd;

use crate::{
    host::Host,
    setup::{self, Scope},
};

/// Sets up what is missing and builds the daemon, optimised, kernel programs included.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  cargo xtask build         leaves target/release/tracker, one file that needs nothing beside it; the line
                            numbers of its backtraces are in target/release/tracker.debug")]
pub(crate) struct Arguments {}

impl Arguments {
    #[expect(clippy::unused_self, reason = "each command has the same door")]
    pub(crate) fn act(&self, host: &Host) -> Result<()> {
        setup::set_up(host, Scope::Build)?;
        daemon(host)?;
        println!("built {}", host.shown(&host.daemon()).display());
        Ok(())
    }
}

/// The daemon is not to become larger, bytes.
const LARGEST: u64 = 16_000_000;

/// Builds the daemon, with its debug information in a file of its own.
pub(crate) fn daemon(host: &Host) -> Result<()> {
    Host::run(&cmd!(host.sh, "cargo build --release --package tracker-user --bin tracker"))?;
    split_debug(host)
}

/// Moves line tables out of the daemon. cargo does not: its `split-debuginfo` leaves line tables where they are.
/// Backtraces and debuggers find the file by the name that is left in the daemon (`.gnu_debuglink`), in the same
/// directory.
fn split_debug(host: &Host) -> Result<()> {
    let daemon = host.daemon();
    let (debug, stripped) = (daemon.with_extension("debug"), daemon.with_extension("stripped"));
    let link = format!("--add-gnu-debuglink={}", debug.display());
    let size = |path| -> Result<u64> { Ok(fs::metadata(path)?.len()) };
    if debug.exists() && size(&daemon)? < LARGEST {
        // cargo had nothing to do, and left it as it was.
        return Ok(());
    }
    let objcopy = host.find("objcopy").context("there is no objcopy here: install binutils")?;
    Host::run(&cmd!(host.sh, "{objcopy} --only-keep-debug {daemon} {debug}").quiet())?;
    Host::run(&cmd!(host.sh, "{objcopy} --strip-debug {link} {daemon} {stripped}").quiet())?;
    // cargo has another link to the file itself, which stays as it is.
    fs::rename(&stripped, &daemon).with_context(|| format!("write {}", daemon.display()))?;
    let (daemon, debug) = (size(&daemon)?, size(&debug)?);
    ensure!(daemon < LARGEST && daemon < debug, "{daemon} bytes of tracker, {debug} of debug information");
    Ok(())
}
