//! Errors as the user sees them: one line on standard error, with the way out.

use std::{fmt::Write as _, process::ExitCode};

use super::format::printable;
use crate::config::ConfigError;

const FAILED: u8 = 1;
pub(super) const USAGE: u8 = 2;

/// A command line that cannot be what was meant.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Reports what failed.
#[must_use]
pub fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("tracker: {}", chain(error));
    let usage = error.chain().any(|cause| cause.is::<ConfigError>() || cause.is::<UsageError>());
    ExitCode::from(if usage { USAGE } else { FAILED })
}

/// The whole chain of causes in one line, fit for a terminal. A cause that an error names itself is not repeated.
pub(super) fn chain(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = plain(&cause.to_string());
        if line.is_empty() {
            line = text;
        } else if !line.contains(&text) {
            let _ = write!(line, ": {text}");
        }
    }
    printable(&line)
}

/// On one line, and without the numbers that the standard library adds to the errors of the system.
fn plain(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    while let Some(start) = line.find(" (os error ") {
        let Some(length) = line[start..].find(')') else { break };
        line.replace_range(start..=start + length, "");
    }
    line
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn errors_of_the_system_are_words_without_numbers() {
        assert_eq!(plain("a: No such file (os error 2); do b (os error 13)"), "a: No such file; do b");
        assert_eq!(plain("a (os error"), "a (os error");
    }

    #[test]
    fn the_chain_of_causes_is_one_line_and_says_nothing_twice() {
        let cause = anyhow!("no such\n  device");
        let error = cause.context("attach x to y: no such device").context("start");
        assert_eq!(chain(&error), "start: attach x to y: no such device");
        let error = Err::<(), _>(anyhow!("b")).context("a").unwrap_err();
        assert_eq!(chain(&error), "a: b");
    }

    #[test]
    fn the_text_of_an_error_cannot_steer_the_terminal() {
        assert_eq!(chain(&anyhow!("\u{1b}[2Jowned\u{9b}\u{202e}")), "\\u{1b}[2Jowned\\u{9b}\\u{202e}");
    }
}
