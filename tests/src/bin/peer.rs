//! A process of the lab's with a name and a user of its own, whose every socket a case decides: see
//! [`tracker_tests::peer`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use tracker_tests::peer;

/// Follows the orders on standard input, a line of JSON at a time, and answers on standard output. It ends when nobody
/// is left to ask.
#[derive(Parser)]
struct Arguments {
    /// What the process calls itself, as ps(1) shows it
    name: String,
    /// User that it becomes
    #[arg(long)]
    user: Option<u32>,
}

fn main() -> ExitCode {
    let Arguments { name, user } = Arguments::parse();
    match peer::serve(&name, user) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peer {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
