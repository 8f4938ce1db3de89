//! `cargo xtask lab`

use std::{env, ffi::OsString};

use anyhow::{Context as _, Result};
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
  cargo xtask lab -- --help         what the lab understands
  cargo xtask lab detection         measures the flood detector instead, which takes over an hour
  cargo xtask lab detection --help  what that understands, and all its cases")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// Arguments of the lab
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

#[derive(clap::Subcommand)]
enum Part {
    /// Measures the flood detector; `detection --help` shows its arguments and the names of all cases
    // Its help is that of the program which measures: the arguments stand there, once.
    #[command(disable_help_flag = true)]
    Detection {
        /// Arguments of the measurement
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

impl Arguments {
    pub(crate) fn act(&self, host: &Host) -> Result<()> {
        setup::set_up(host, Scope::Lab)?;
        build::daemon(host)?;
        let runner = host.root_runner(&host.lab_variables())?;
        let package = ["--package", "tracker-tests", "--bin"];
        if let Some(Part::Detection { arguments }) = &self.part {
            // Its arguments may be paths as the user sees them.
            let here = env::current_dir().context("find the current directory")?;
            let _directory = host.sh.push_dir(here);
            let measure = cmd!(host.sh, "cargo run --release {runner...} {package...} tracker-detection");
            let by_hand = cmd!(host.sh, "cargo xtask lab detection {arguments...}").to_string();
            return Host::run_as(measure.arg("--").args(arguments), &by_hand);
        }
        let arguments = &self.arguments;
        let by_hand = cmd!(host.sh, "cargo xtask lab -- {arguments...}").to_string();
        let lab = cmd!(host.sh, "cargo run {runner...} {package...} tracker-lab -- {arguments...}");
        Host::run_as(lab, &by_hand)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::Parser;

    use super::{Arguments, Part};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn arguments_of_the_lab_go_to_the_lab() {
        let line = Line::parse_from(["lab", "--", "--delay", "50", "--", "--hook", "xdp"]).arguments;
        assert!(line.part.is_none());
        assert_eq!(line.arguments, ["--delay", "50", "--", "--hook", "xdp"]);
    }

    /// What goes to the measurement of the detector.
    fn measured(words: &[&str]) -> Vec<OsString> {
        let line = Line::parse_from(["lab", "detection"].iter().chain(words));
        let Some(Part::Detection { arguments }) = line.arguments.part else { panic!("no part") };
        arguments
    }

    #[test]
    fn arguments_of_the_measurement_go_to_it() {
        let all = ["--runs", "6", "--only", "surge", "pulse", "--table=t.md", "--lanes", "1"];
        assert_eq!(measured(&all), all);
        assert_eq!(measured(&["--help"]), ["--help"]);
        assert_eq!(measured(&["-h"]), ["-h"]);
        assert!(measured(&[]).is_empty());
    }
}
