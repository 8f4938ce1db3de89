//! What the program does: it runs the daemon, checks the host, or asks the daemon. Here the kernel side and the command
//! line meet; neither uses the other.

mod doctor;

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    cli::{self, Cli, Command, Output, RunArgs, UsageError},
    config::{self, Loaded},
    daemon,
};

/// Parses the command line and does what it asks.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { api, output, command } = match cli::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let done = match command {
        Command::Run(args) => run(&args, output),
        Command::Doctor(args) => doctor::run(args.btf.as_deref(), output.unwrap_or_default()),
        Command::Ask(question) => cli::ask(question, &api.socket, output.unwrap_or_default()),
    };
    done.unwrap_or_else(|error| cli::report(&error))
}

/// Starts the daemon, or checks its settings.
fn run(args: &RunArgs, output: Option<Output>) -> Result<ExitCode> {
    if output.or(args.ignored_output).is_some() {
        return Err(UsageError("`tracker run` prints no answer; leave -o out".to_owned()).into());
    }
    let Loaded { settings, toml, file } = config::load(&args.settings, args.config.as_deref())?;
    if args.check_config {
        let origin = file.map_or_else(|| "no configuration file".to_owned(), |path| path.display().to_string());
        cli::print(&format!("# The settings that hold, from flags, environment, {origin} and defaults.\n{toml}"))?;
    } else {
        daemon::run(&settings)?;
    }
    Ok(ExitCode::SUCCESS)
}
