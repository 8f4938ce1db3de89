//! `cargo xtask bench`: measures tracker on the running kernel.
#![forbid(unsafe_code)]

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use tracker_tests::bench::{census, ingress, report, socket_events};

/// Measures tracker on the running kernel. Needs root.
#[derive(Parser)]
struct Arguments {
    /// Parts to measure; all when none is named.
    parts: Vec<Part>,
    /// Writes the results to this file too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Part {
    /// Nanoseconds per packet and per socket event.
    Ingress,
    /// Milliseconds for all sockets, up to a million of them; takes gigabytes of memory.
    Census,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("bench: over budget");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything was within its budget.
fn run(arguments: &Arguments) -> Result<bool> {
    let mut parts: BTreeSet<_> = arguments.parts.iter().copied().collect();
    if parts.is_empty() {
        parts.extend(Part::value_variants());
    }
    let mut report = report::Report::default();
    for part in parts {
        let results = match part {
            Part::Ingress => [ingress::run()?, socket_events::run()?].concat(),
            Part::Census => census::run()?,
        };
        for result in results {
            println!("{}", result.line());
            report.results.push(result);
        }
    }
    if let Some(path) = &arguments.json {
        let json = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, json).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(report.results.iter().all(|result| result.within_budget != Some(false)))
}
