//! `tracker run`.

use std::process::ExitCode;

use anyhow::Result;

use super::{
    args::RunArgs,
    errors::UsageError,
    output::{self, Output},
};
use crate::{
    config::{self, Loaded},
    daemon,
};

/// Starts the daemon, or checks its settings.
pub(super) fn run(args: &RunArgs, output: Option<Output>) -> Result<ExitCode> {
    if output.or(args.ignored_output).is_some() {
        return Err(UsageError("`tracker run` prints no answer; leave -o out".to_owned()).into());
    }
    let Loaded { settings, toml, file } = config::load(&args.settings, args.config.as_deref())?;
    if args.check_config {
        let origin = file.map_or_else(|| "no configuration file".to_owned(), |path| path.display().to_string());
        output::print(&format!("# The settings that hold, from flags, environment, {origin} and defaults.\n{toml}"))?;
    } else {
        daemon::run(&settings)?;
    }
    Ok(ExitCode::SUCCESS)
}
