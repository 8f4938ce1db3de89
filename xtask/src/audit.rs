//! `cargo xtask audit`

use anyhow::Result;
use xshell::cmd;

use crate::{
    host::Host,
    setup::{self, Scope},
};

/// Looks up every dependency in the RustSec advisory database; needs the network.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  cargo xtask audit         apart from `test`, whose outcome must depend on nothing but the commit")]
pub(crate) struct Arguments {}

impl Arguments {
    #[expect(clippy::unused_self, reason = "each command has the same door")]
    pub(crate) fn act(&self, host: &Host) -> Result<()> {
        setup::set_up(host, Scope::Lint)?;
        Host::run(&cmd!(host.sh, "cargo deny check advisories"))
    }
}
