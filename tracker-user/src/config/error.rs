//! What can be wrong with a configuration file, each with its place and what would be right.

use std::{error::Error as _, io, path::PathBuf};

use clap::error::{ContextKind, ContextValue};

/// A longer value is cut where it is shown.
const SHOWN: usize = 100;

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
    /// What the file says is not TOML, no key or no value of its key.
    #[error("{}:{line}: {what}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What is wrong, and what would be right.
        what: String,
    },
}

/// What a value that clap refuses must be.
#[must_use]
pub fn expected(error: &clap::Error) -> Option<String> {
    match (error.source(), error.get(ContextKind::ValidValue)) {
        (Some(source), _) => Some(source.to_string()),
        (None, Some(ContextValue::Strings(all))) if all.is_empty() => Some("must not be empty".to_owned()),
        (None, Some(ContextValue::Strings(all))) => Some(format!("must be one of {}", all.join(", "))),
        _ => None,
    }
}

/// The text on one line, and no more of it than is of use in an error.
#[must_use]
pub fn shortened(text: &str) -> String {
    let end = text.char_indices().nth(SHOWN).map_or(text.len(), |(index, _)| index);
    let line = text[..end].split_whitespace().collect::<Vec<_>>().join(" ");
    if end < text.len() { line + "…" } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_begin_of_a_long_value_is_shown() {
        assert_eq!(shortened("a\n  b"), "a b");
        assert_eq!(shortened(&"ä".repeat(SHOWN)), "ä".repeat(SHOWN));
        assert_eq!(shortened(&"ä".repeat(SHOWN + 1)), "ä".repeat(SHOWN) + "…");
    }
}
