//! The command line: what is asked, and how the answer is shown. Exit codes: 0 fine, 1 failed, 2 wrong usage.
//! It knows the daemon by the answers of its API alone, so nothing of the kernel side or the servers belongs here.

mod alerts;
mod args;
mod check;
mod counters;
mod errors;
mod evidence;
mod examples;
mod explain;
mod format;
mod listeners;
mod output;
mod ports;
mod states;
mod status;
mod table;
mod usage;
mod value;

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::Parser as _;
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use tracker_model::{
    api::{States, Status, paths},
    listener::Listeners,
};

pub use args::{Cli, Command, DoctorArgs, Question, RunArgs};
pub use errors::{UsageError, report};
pub use output::{Output, View, json, print};

use self::ports::{Filter, Shown};
use crate::client;

/// Parses the command line; what does not parse is reported, and so is the help that was asked for.
pub fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| usage::report(&error))
}

/// Asks the daemon at `socket`, and prints its answer.
pub fn ask(question: Question, socket: &Path, output: Output) -> Result<ExitCode> {
    match question {
        Question::Status(args) if args.check => Ok(check::check(get(socket, paths::STATUS))),
        Question::Status(_) => show::<Status>(socket, paths::STATUS, output, status::render),
        Question::Alerts(args) => {
            print_answer(&alerts::selected(get(socket, paths::ALERTS)?, args.firing), output, alerts::render)
        }
        Question::Listeners => show::<Listeners>(socket, paths::LISTENERS, output, listeners::render),
        Question::Ports(args) => {
            let filter = Filter { destination: args.destination, process: args.process };
            let shown = Shown { filter, all: args.all };
            let answer = shown.filter.apply(get(socket, paths::PORTS)?);
            print_answer(&answer, output, |answer, view| ports::render(answer, &shown, view))
        }
        Question::Explain { call } => explain::run(&call, socket, output),
        Question::States => show::<States>(socket, paths::STATES, output, states::render),
    }
}

/// Asks the daemon and prints its answer.
fn show<T: DeserializeOwned + Serialize>(
    socket: &Path,
    path: &str,
    output: Output,
    render: fn(&T, View) -> String,
) -> Result<ExitCode> {
    print_answer(&get(socket, path)?, output, render)
}

fn print_answer<T: Serialize>(answer: &T, output: Output, render: impl FnOnce(&T, View) -> String) -> Result<ExitCode> {
    let text = match output {
        Output::Json => output::json(answer)?,
        Output::Table | Output::Wide => render(answer, View::of_terminal(output, Timestamp::now())),
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Asks for an answer that takes no time of its own.
fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T> {
    get_after(socket, path, Duration::ZERO)
}

/// Asks for an answer that comes after this time.
fn get_after<T: DeserializeOwned>(socket: &Path, path: &str, takes: Duration) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start a runtime")?.block_on(client::get_after(socket, path, takes))
}

#[cfg(test)]
mod tests;
