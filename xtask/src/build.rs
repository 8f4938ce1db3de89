//! `cargo xtask build`

use anyhow::Result;
use xshell::cmd;

use crate::{
    host::Host,
    setup::{self, Scope},
};

/// Sets up what is missing and builds the daemon, optimised, kernel programs included.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  cargo xtask build         leaves target/release/tracker, one file that needs nothing beside it")]
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

/// Builds the daemon.
pub(crate) fn daemon(host: &Host) -> Result<()> {
    Host::run(&cmd!(host.sh, "cargo build --release --package tracker-user --bin tracker"))
}
