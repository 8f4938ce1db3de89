//! `cargo xtask lab`

use std::{
    ffi::OsString,
    path::{self, PathBuf},
};

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
  cargo xtask lab detection         measures the flood detector instead")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// Arguments of the lab
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

#[derive(clap::Subcommand)]
enum Part {
    Detection(Detection),
}

/// Measures the flood detector, as root: floods beside real clients, and loads that are none. Takes over an hour.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask lab detection                                         everything, with the table at the end
  cargo xtask lab detection --only spoofed_500 --runs 6             one attack, each setting once
  cargo xtask lab detection --only surge --legit-minutes 2          one load
  cargo xtask lab detection --record recordings                     what the detector is told, for replays
  cargo xtask lab detection --only help                             the names of all cases")]
struct Detection {
    /// Runs of each attack, at least; 12 when not given
    #[arg(long, value_name = "N")]
    runs: Option<usize>,
    /// Minutes of each load that is no flood; 10 when not given
    #[arg(long, value_name = "MINUTES")]
    legit_minutes: Option<f64>,
    /// Only these cases
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<String>,
    /// Runs each attack once, and writes what the detector was told to DIR/NAME.jsonl
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// Writes the table to this file too
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Attacks that run side by side; 3 when not given
    #[arg(long, value_name = "N")]
    lanes: Option<usize>,
}

impl Arguments {
    pub(crate) fn act(&self, host: &Host) -> Result<()> {
        setup::set_up(host, Scope::Lab)?;
        build::daemon(host)?;
        let runner = host.root_runner(&host.lab_variables())?;
        if let Some(Part::Detection(detection)) = &self.part {
            let arguments = detection.arguments()?;
            let words = ["--release", "--package", "tracker-tests", "--bin", "tracker-detection"];
            return Host::run(&cmd!(host.sh, "cargo run {runner...} {words...} -- {arguments...}"));
        }
        let arguments = &self.arguments;
        Host::run(&cmd!(host.sh, "cargo run {runner...} --package tracker-tests --bin tracker-lab -- {arguments...}"))
    }
}

impl Detection {
    fn arguments(&self) -> Result<Vec<OsString>> {
        let mut words: Vec<OsString> = Vec::new();
        let numbers = [
            ("--runs", self.runs.map(|runs| runs.to_string())),
            ("--legit-minutes", self.legit_minutes.map(|minutes| minutes.to_string())),
            ("--lanes", self.lanes.map(|lanes| lanes.to_string())),
        ];
        for (name, value) in numbers {
            words.extend(value.into_iter().flat_map(|value| [name.into(), value.into()]));
        }
        words.extend(self.only.iter().map(|name| format!("--only={name}").into()));
        for (name, path) in [("--record", &self.record), ("--table", &self.table)] {
            if let Some(path) = path {
                // It runs in the root of the repository, the user perhaps not.
                let path = path::absolute(path).with_context(|| format!("find {}", path.display()))?;
                words.extend([name.into(), path.into()]);
            }
        }
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn detection_is_a_part_of_its_own() {
        let line = Line::parse_from(["lab", "detection", "--runs", "6", "--only", "surge", "pulse", "--table", "/t"]);
        let Some(Part::Detection(detection)) = line.arguments.part else { panic!("no part") };
        let words = detection.arguments().unwrap();
        assert_eq!(words, ["--runs", "6", "--only=surge", "--only=pulse", "--table", "/t"]);
    }
}
