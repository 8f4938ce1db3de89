//! A command line or a variable that is wrong, as the user sees it: one line with what would be right.

use std::{
    any::TypeId,
    env,
    ffi::{OsStr, OsString},
    fmt::Write as _,
    path::PathBuf,
    process::{ExitCode, Termination as _},
};

use clap::{
    Arg, Command, CommandFactory as _,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{args::Cli, errors::USAGE, format::printable};
use crate::config::{expected, shortened};

/// Reports what does not parse, or prints the help that was asked for.
pub(super) fn report(error: &clap::Error) -> ExitCode {
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
            let words: Vec<_> = env::args_os().collect();
            eprintln!(
                "tracker: {}; see `tracker --help` or the help of the command",
                printable(&one_line(error, &words))
            );
            ExitCode::from(USAGE)
        }
    }
}

/// What is wrong with these words or the environment.
fn one_line(error: &clap::Error, words: &[OsString]) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let value = text(ContextKind::InvalidArg).zip(text(ContextKind::InvalidValue)).zip(expected(error));
    match value {
        Some(((flag, value), expected)) => {
            let place =
                variable_behind(flag, words).map_or_else(|| format!("'{flag}'"), |name| format!("the variable {name}"));
            format!("invalid value '{}' for {place}: {expected}", shortened(value))
        }
        None if error.kind() == ErrorKind::InvalidUtf8 => not_text(words),
        None => paragraphs(&error.render().to_string()),
    }
}

/// clap says what is wrong in its first paragraph; tips, usage and a hint follow in others.
fn paragraphs(text: &str) -> String {
    let mut paragraphs = text.split("\n\n");
    let first = paragraphs.next().unwrap_or_default().trim_start_matches("error: ");
    let mut line = first.split_whitespace().map(shortened).collect::<Vec<_>>().join(" ");
    for tip in paragraphs.flat_map(str::lines).filter_map(|line| line.trim().strip_prefix("tip: ")) {
        let _ = write!(line, "; {tip}");
    }
    line
}

/// The flags that have a variable.
fn with_variable() -> Vec<Arg> {
    let mut root = Cli::command();
    root.build();
    let all = root.get_subcommands().chain([&root]).flat_map(Command::get_arguments);
    all.filter(|flag| flag.get_env().is_some()).cloned().collect()
}

/// The variable that gave a flag its value, unless one of the words did.
fn variable_behind(flag: &str, words: &[OsString]) -> Option<String> {
    let flag = with_variable().into_iter().find(|known| known.to_string() == flag)?;
    let name = format!("--{}", flag.get_long()?);
    let is_flag = |word: &OsString| word.to_string_lossy().split('=').next() == Some(name.as_str());
    if words.iter().any(is_flag) { None } else { Some(flag.get_env()?.to_string_lossy().into_owned()) }
}

/// Which word or variable is not UTF-8. Paths need not be.
fn not_text(words: &[OsString]) -> String {
    if let Some(word) = words.iter().find(|word| word.to_str().is_none()) {
        return format!("the argument '{}' is not valid UTF-8", shortened(&word.to_string_lossy()));
    }
    let all = with_variable();
    let mut texts = all.iter().filter(|flag| flag.get_value_parser().type_id() != TypeId::of::<PathBuf>());
    let is_bad = |name: &&OsStr| env::var_os(name).is_some_and(|value| value.to_str().is_none());
    let name = texts.find_map(|flag| flag.get_env().filter(is_bad)).unwrap_or_default();
    format!("the variable {} is not valid UTF-8", name.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn refused(words: &[&str]) -> String {
        let error = Cli::try_parse_from(words).unwrap_err();
        one_line(&error, &words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn an_unknown_flag_is_one_line_with_the_one_that_was_meant() {
        let words = ["tracker", "run", "--interfaces", "x"];
        let expected = "unexpected argument '--interfaces' found; a similar argument exists: '--interface'";
        assert_eq!(refused(&words), expected);
    }

    #[test]
    fn a_bad_value_is_one_line_with_what_would_be_right() {
        for (words, expected) in [
            (
                &["run", "--hook", "foo"][..],
                "invalid value 'foo' for '--hook <auto|xdp|tc>': must be one of auto, xdp, tc",
            ),
            (
                &["status", "-o", "xml"],
                "invalid value 'xml' for '--output <table|wide|json>': must be one of table, wide, json",
            ),
            (&["run", "--btf="], "invalid value '' for '--btf <FILE>': must not be empty"),
            (
                &["run", "--log-level=0"],
                "invalid value '0' for '--log-level <error|warn|info|debug|trace>': must be one of error, warn",
            ),
            (
                &["run", "--web.listen-address", "x"],
                "invalid value 'x' for '--web.listen-address <ADDRESS:PORT>': must be an IP",
            ),
        ] {
            let words = [&["tracker"], words].concat();
            let line = refused(&words);
            assert!(line.starts_with(expected) && !line.contains('\n'), "{line}");
        }
        let long = "x".repeat(1_000_000);
        for words in [["tracker", "run", "--hook", &long], ["tracker", "run", &long, ""]] {
            assert!(refused(&words).len() < 250);
        }
    }
}
