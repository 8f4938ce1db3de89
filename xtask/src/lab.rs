//! `cargo xtask lab`

use anyhow::Result;
use xshell::cmd;

use crate::{
    build,
    host::Host,
    setup::{self, Scope},
};

/// Builds, then leaves a lab standing for hands-on work: namespaces, nginx, and the daemon, as root.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask lab                   prints what stands, how to use it, and how to take it down
  cargo xtask lab -- --help         what the lab understands")]
pub(crate) struct Arguments {
    /// Arguments of the lab
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl Arguments {
    pub(crate) fn act(&self, host: &Host) -> Result<()> {
        setup::set_up(host, Scope::Lab)?;
        build::daemon(host)?;
        let runner = host.root_runner(&host.lab_variables())?;
        let arguments = &self.arguments;
        Host::run(&cmd!(host.sh, "cargo run {runner...} --package tracker-tests --bin tracker-lab -- {arguments...}"))
    }
}
