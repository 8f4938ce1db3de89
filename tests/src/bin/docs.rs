//! `cargo xtask docs`: the generated parts of docs/*.md.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use tracker_tests::docs;

/// Fills the generated parts of docs/*.md.
#[derive(Parser)]
struct Arguments {
    /// Changes nothing, and fails when a part is not what the code says.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    match docs::fill(Arguments::parse().check) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("docs: {error:#}");
            ExitCode::FAILURE
        }
    }
}
