//! Settings of the daemon: flags over environment over file over defaults. [`Settings`] defines them all: a new one is
//! a field there, from which its default, flag, variable, key, errors and row in docs/ follow. What the settings do
//! belongs to the parts that have them.

mod error;
mod file;
mod settings;
mod value;

use std::{
    ffi::{OsStr, OsString},
    io::ErrorKind,
    path::{Path, PathBuf},
};

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, parser::ValueSource};
use tracing::level_filters::LevelFilter;

pub use error::{ConfigError, expected, shortened};
pub use file::Kind;
pub(crate) use settings::derive_names;
pub use settings::{ApiSettings, Hook, KernelSettings, LogFormat, LogSettings, Settings, SocketEvents, WebSettings};

/// The configuration file that is read when none is named; it need not exist.
const DEFAULT_FILE: &str = "/etc/tracker/tracker.toml";

/// What flags and environment say of the settings, to be laid over the file.
#[derive(Clone, Debug)]
pub struct Flags(ArgMatches);

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(matches.clone()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0 = matches.clone();
        Ok(())
    }
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        Settings::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Settings::augment_args_for_update(command)
    }
}

/// The settings as flags.
#[must_use]
pub fn definition() -> Command {
    Settings::augment_args(Command::new("settings").no_binary_name(true))
}

/// The settings that hold.
#[derive(Debug)]
pub struct Loaded {
    /// All of them.
    pub settings: Settings,
    /// The same as a configuration file.
    pub toml: String,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
}

/// Reads the file and lays flags and environment over it. `named` is the file that the user asked for; it must exist.
pub fn load(flags: &Flags, named: Option<&Path>) -> Result<Loaded, ConfigError> {
    // Variables are among the flags already.
    let definition = definition().mut_args(|flag| flag.env(None::<&str>));
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    let text = match file::read(path) {
        Ok(text) => Some(text),
        Err(error) if named.is_none() && error.kind() == ErrorKind::NotFound => None,
        Err(source) => return Err(ConfigError::Unreadable { path: path.to_owned(), source }),
    };
    let said_by_file = text.as_ref().map(|text| file::words(text, path, &definition)).transpose()?.unwrap_or_default();
    let mut words = Vec::new();
    for argument in definition.get_arguments() {
        let (id, name) = (argument.get_id().as_str(), argument.get_long().unwrap_or_default());
        if matches!(flags.0.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable)) {
            words.extend(flags.0.get_raw(id).into_iter().flatten().map(|value| flag(name, value)));
        } else {
            let values = said_by_file.iter().filter(|(key, _)| key == name);
            words.extend(values.map(|(_, value)| flag(name, value.as_ref())));
        }
    }
    let matches = definition.clone().try_get_matches_from(words);
    let matches = matches.expect("flags, variables and keys were checked when they were read");
    let mut settings = Settings::from_arg_matches(&matches).expect("what clap takes fits its fields");
    settings.kernel.kernel_log = settings.log.level >= LevelFilter::DEBUG;
    Ok(Loaded { settings, toml: toml(&definition, &matches), file: text.map(|_| path.to_owned()) })
}

fn flag(name: &str, value: &OsStr) -> OsString {
    let mut flag = OsString::from(format!("--{name}="));
    flag.push(value);
    flag
}

/// The settings as a configuration file.
fn toml(definition: &Command, matches: &ArgMatches) -> String {
    let line = |argument: &Arg| {
        let values = matches.get_raw(argument.get_id().as_str()).into_iter().flatten();
        let value =
            Kind::of_flag(argument).value(values.map(|value| value.to_string_lossy().into_owned()).collect())?;
        Some(format!("{} = {value}\n", argument.get_long()?))
    };
    definition.get_arguments().filter_map(line).collect()
}

#[cfg(test)]
mod tests;
