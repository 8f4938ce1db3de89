//! The command line: what is asked, and how the answer is shown. Exit codes: 0 fine, 1 failed, 2 wrong usage.

mod alerts;
mod args;
mod check;
pub mod client;
mod counters;
mod doctor;
mod errors;
mod evidence;
mod examples;
mod explain;
mod format;
mod listeners;
mod output;
mod ports;
mod run;
mod states;
mod status;
mod table;
mod usage;
mod value;

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Parser as _;
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use tracker_model::api::{States, Status};
use tracker_model::listener::Listeners;

pub use args::{Cli, Command};
pub use output::{Output, View};

use self::ports::{Filter, Shown};
use crate::api;

/// Parses the command line and does what it asks.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error),
    };
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) => errors::report(&error),
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode> {
    let output = cli.output.unwrap_or_default();
    let at = cli.api.socket.as_path();
    match cli.command {
        Command::Run(args) => run::run(&args, cli.output),
        Command::Status(args) if args.check => Ok(check::check(ask(at, api::STATUS))),
        Command::Status(_) => show::<Status>(at, api::STATUS, output, status::render),
        Command::Alerts(args) => print(&alerts::selected(ask(at, api::ALERTS)?, args.firing), output, alerts::render),
        Command::Listeners => show::<Listeners>(at, api::LISTENERS, output, listeners::render),
        Command::Doctor(args) => doctor::run(args.btf.as_deref(), output),
        Command::Ports(args) => {
            let filter = Filter { destination: args.destination, process: args.process };
            let shown = Shown { filter, all: args.all };
            let answer = shown.filter.apply(ask(at, api::PORTS)?);
            print(&answer, output, |answer, view| ports::render(answer, &shown, view))
        }
        Command::Explain { call } => explain::run(&call, at, output),
        Command::States => show::<States>(at, api::STATES, output, states::render),
    }
}

/// Asks the daemon and prints its answer.
fn show<T: DeserializeOwned + Serialize>(
    socket: &Path,
    path: &str,
    output: Output,
    render: fn(&T, View) -> String,
) -> Result<ExitCode> {
    print(&ask(socket, path)?, output, render)
}

fn print<T: Serialize>(answer: &T, output: Output, render: impl FnOnce(&T, View) -> String) -> Result<ExitCode> {
    let text = match output {
        Output::Json => output::json(answer)?,
        Output::Table | Output::Wide => render(answer, View::of_terminal(output, Timestamp::now())),
    };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn ask<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start a runtime")?.block_on(client::get(socket, path))
}
