//! Every command of the README and of CI: `cargo xtask COMMAND`. One file a command. What a command runs in namespaces
//! or measures belongs to tests/.
#![forbid(unsafe_code)]

mod audit;
mod bench;
mod build;
mod docs;
mod host;
mod lab;
mod run;
mod setup;
mod stages;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::host::Host;

/// Sets up, builds, runs and tests tracker.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
enum Command {
    Setup(setup::Arguments),
    Build(build::Arguments),
    Run(run::Arguments),
    Test(test::Arguments),
    Lab(lab::Arguments),
    Bench(bench::Arguments),
    Docs(docs::Arguments),
    Audit(audit::Arguments),
}

fn main() -> ExitCode {
    match act(&Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(command: &Command) -> Result<()> {
    let host = Host::new()?;
    match command {
        Command::Setup(arguments) => arguments.act(&host),
        Command::Build(arguments) => arguments.act(&host),
        Command::Run(arguments) => arguments.act(&host),
        Command::Test(arguments) => arguments.act(&host),
        Command::Lab(arguments) => arguments.act(&host),
        Command::Bench(arguments) => arguments.act(&host),
        Command::Docs(arguments) => arguments.act(&host),
        Command::Audit(arguments) => arguments.act(&host),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Command::command().debug_assert();
    }
}
