//! `cargo xtask bench`

use std::path::{self, PathBuf};

use anyhow::{Context as _, Result};
use xshell::cmd;

use crate::{
    build,
    host::Host,
    setup::{self, Scope},
};

/// Measures what tracker costs, as root, beside the budgets it must keep.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench                             every part
  cargo xtask bench ingress                     nanoseconds per packet and per socket event
  cargo xtask bench census                      milliseconds for all sockets, up to a million
  cargo xtask bench ingress --json result.json  also as JSON")]
pub(crate) struct Arguments {
    /// What to measure; everything when none is named
    parts: Vec<String>,
    /// Also write the results to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Arguments {
    pub(crate) fn act(&self, host: &Host) -> Result<()> {
        setup::set_up(host, Scope::Lab)?;
        build::daemon(host)?;
        let runner = host.root_runner(&host.lab_variables())?;
        let mut arguments: Vec<_> = self.parts.iter().map(PathBuf::from).collect();
        if let Some(file) = &self.json {
            // The benchmark runs in the root of the repository, the user perhaps not.
            let file = path::absolute(file).with_context(|| format!("find {}", file.display()))?;
            arguments.extend(["--json".into(), file]);
        }
        // The processes of its cases are another program, which it looks for beside itself.
        Host::run(&cmd!(host.sh, "cargo build --release --package tracker-tests --bin tracker-peer"))?;
        let by_hand = cmd!(host.sh, "cargo xtask bench").args(&arguments).to_string();
        let bench = cmd!(host.sh, "cargo run --release {runner...} --package tracker-tests --bin tracker-bench");
        Host::run_as(bench.arg("--").args(arguments), &by_hand)
    }
}
