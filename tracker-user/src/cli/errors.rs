//! Errors as the user sees them: one line on standard error, with the way out.

use std::{
    env,
    fmt::Write as _,
    process::{ExitCode, Termination as _},
};

use clap::{
    CommandFactory as _,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{args::Cli, format::printable};
use crate::config::ConfigError;

const FAILED: u8 = 1;
const USAGE: u8 = 2;

/// A command line that cannot be what was meant.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct UsageError(pub(super) String);

/// Reports what failed.
pub(super) fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("tracker: {}", chain(error));
    let usage = error.chain().any(|cause| cause.is::<ConfigError>() || cause.is::<UsageError>());
    ExitCode::from(if usage { USAGE } else { FAILED })
}

/// The whole chain of causes in one line, fit for a terminal. Errors that tell their cause themselves do not tell it twice.
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

/// Reports a command line that does not parse, or prints the help that was asked for.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ().report()
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(USAGE)
        }
        _ => {
            eprintln!("tracker: {}", printable(&one_line(error, |name| env::var(name).ok())));
            ExitCode::from(USAGE)
        }
    }
}

/// clap tells what is wrong in its first paragraph, then tips, usage and a hint in further ones.
fn one_line(error: &clap::Error, variable: impl Fn(&str) -> Option<String>) -> String {
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut line = words(paragraphs.next().unwrap_or_default().trim_start_matches("error: "));
    if let Some((flag, name)) = source_variable(error, variable) {
        line = line.replace(&format!("'{flag}'"), &format!("the variable {name}"));
    }
    for tip in paragraphs.flat_map(str::lines).filter_map(|line| line.trim().strip_prefix("tip: ")) {
        let _ = write!(line, "; {tip}");
    }
    line + "; see `tracker --help` or the help of the command"
}

/// The flag as clap names it and the variable of the environment, when the bad value came from there.
fn source_variable(error: &clap::Error, variable: impl Fn(&str) -> Option<String>) -> Option<(String, String)> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let (flag, value) = (text(ContextKind::InvalidArg)?, text(ContextKind::InvalidValue)?);
    let long = flag.trim_start_matches("--").split([' ', '=']).next()?.to_owned();
    if env::args().any(|word| word.trim_start_matches("--").split('=').next() == Some(long.as_str())) {
        return None;
    }
    let root = Cli::command();
    let all = root.get_subcommands().chain([&root]).flat_map(clap::Command::get_arguments);
    let name = all.filter(|argument| argument.get_long() == Some(long.as_str())).find_map(clap::Arg::get_env)?;
    let name = name.to_str()?.to_owned();
    let set = variable(&name)?;
    set.split(',').any(|part| part == value).then_some((flag, name))
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};
    use clap::Parser as _;

    use super::*;

    fn refused(words: &[&str]) -> String {
        one_line(&Cli::try_parse_from(words).unwrap_err(), |_| None)
    }

    #[test]
    fn an_unknown_flag_is_one_line_with_the_one_that_was_meant() {
        let line = refused(&["tracker", "run", "--interfaces", "x"]);
        assert!(line.starts_with("unexpected argument '--interfaces' found; a similar argument exists: '--interface'"));
        assert!(!line.contains('\n') && line.ends_with("the help of the command"), "{line}");
    }

    #[test]
    fn a_bad_value_is_one_line_with_what_would_be_right() {
        let line = refused(&["tracker", "run", "--hook", "foo"]);
        assert!(
            line.starts_with("invalid value 'foo' for '--hook <auto|xdp|tc>': must be one of auto, xdp, tc"),
            "{line}"
        );
        let line = refused(&["tracker", "status", "-o", "xml"]);
        assert!(line.contains("possible values: table, wide, json") && !line.contains('\n'), "{line}");
        assert!(refused(&["tracker", "run", "--web.listen-address", "x"]).contains("such as 127.0.0.1:10046"));
    }

    #[test]
    fn a_bad_value_of_a_variable_names_the_variable() {
        let error = Cli::try_parse_from(["tracker", "run", "--hook", "foo"]).unwrap_err();
        let line = one_line(&error, |name| (name == "TRACKER_HOOK").then(|| "foo".to_owned()));
        assert!(line.starts_with("invalid value 'foo' for the variable TRACKER_HOOK: must be one of"), "{line}");
    }

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
