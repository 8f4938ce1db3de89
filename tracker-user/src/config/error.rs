//! What can be wrong with a configuration file, each with its place and what would be right.

use std::{io, path::PathBuf};

/// What is wrong with the configuration file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}; correct --config or TRACKER_CONFIG, or leave it out to use the defaults", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no TOML.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// There is no such setting.
    #[error("{}:{line}: unknown key `{key}` (= {value}); {hint}", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// The key.
        key: String,
        /// Its value as written.
        value: String,
        /// What would be right.
        hint: String,
    },
    /// The setting cannot have this value.
    #[error("{}:{line}: {key} = {value}: {expected}", path.display())]
    BadValue {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// The key.
        key: &'static str,
        /// Its value as written.
        value: String,
        /// What would be right.
        expected: String,
    },
}
