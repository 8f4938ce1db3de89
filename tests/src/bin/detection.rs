//! `cargo xtask lab detection`: measures the flood detector.
#![forbid(unsafe_code)]

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use tracker_tests::{
    detection::suite::{self, Plan},
    serial,
};

/// Measures the flood detector: floods beside real clients, benign loads, and ten million sources. Writes a
/// table, and fails when something misses its bound. Needs root, and over an hour for everything.
#[derive(Parser)]
#[command(name = "cargo xtask lab detection", bin_name = "cargo xtask lab detection", after_help = after_help())]
struct Arguments {
    /// Runs of each attack, at least
    #[arg(long, value_name = "N", default_value_t = 12)]
    runs: usize,
    /// Minutes of each load that is no flood; 10, or 1.3 with --record
    #[arg(long, value_name = "MINUTES")]
    legit_minutes: Option<f64>,
    /// Only these cases
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<String>,
    /// Runs each attack once, and writes what the detector saw to DIR/NAME.jsonl
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// Writes the table to this file too
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Attacks that run side by side
    #[arg(long, value_name = "N", default_value_t = 3)]
    lanes: usize,
}

fn after_help() -> String {
    format!(
        "\
Examples:
  cargo xtask lab detection                                    everything, with the table at the end
  cargo xtask lab detection --only spoofed_500 --runs 6        one attack, each setting once
  cargo xtask lab detection --only surge --legit-minutes 2     one load
  cargo xtask lab detection --record recordings                what the detector observes

Cases: {}",
        suite::names().join(", ")
    )
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("detection: a bound was missed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("detection: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything was within its bounds.
fn run(arguments: Arguments) -> Result<bool> {
    ensure!(arguments.runs > 0 && arguments.lanes > 0, "--runs and --lanes are at least 1");
    let _alone = serial::alone();
    let minutes = arguments.legit_minutes.unwrap_or(if arguments.record.is_some() { 1.3 } else { 10.0 });
    let lasting = Duration::try_from_secs_f64(minutes * 60.0).context("--legit-minutes")?;
    let Arguments { runs, only, record, lanes, .. } = arguments;
    let results = Plan { runs, lasting, only, lanes, record }.run()?;
    let table = results.markdown();
    println!("{table}");
    if let Some(path) = &arguments.table {
        fs::write(path, &table).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(results.hold())
}
