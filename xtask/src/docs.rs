//! `cargo xtask docs`

use anyhow::Result;
use xshell::cmd;

use crate::{
    host::Host,
    setup::{self, Scope},
};

/// Writes the generated parts of docs/*.md from the code.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask docs             fills each part between `<!-- generated: NAME -->` and `<!-- end -->`
  cargo xtask docs --check     changes nothing; fails when a part is not what the code says")]
pub(crate) struct Arguments {
    /// Only say what differs
    #[arg(long)]
    check: bool,
}

impl Arguments {
    pub(crate) fn act(&self, host: &Host) -> Result<()> {
        setup::set_up(host, Scope::Build)?;
        generate(host, self.check)
    }
}

/// Runs the program that has the generators, so that this one needs nothing of tracker's.
pub(crate) fn generate(host: &Host, check: bool) -> Result<()> {
    let check = check.then_some("--check");
    Host::run(&cmd!(host.sh, "cargo run --quiet --package tracker-tests --bin tracker-docs -- {check...}"))
}
