//! Where answers go: standard output, as tables or JSON.

use std::io::{self, ErrorKind, IsTerminal as _, Write as _};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use jiff::Timestamp;
use serde::Serialize;

/// How an answer is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Tables of what matters most.
    #[default]
    Table,
    /// Tables of everything.
    Wide,
    /// One JSON object, for programs.
    Json,
}

/// What a table depends on besides the answer.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Whether everything is shown.
    pub wide: bool,
    /// The moment that times are relative to.
    pub now: Timestamp,
    /// Columns of the terminal; none when the output is no terminal.
    pub columns: Option<u16>,
}

impl View {
    /// The view of the terminal that standard output is.
    #[must_use]
    pub fn of_terminal(output: Output, now: Timestamp) -> Self {
        let columns = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0.max(80));
        Self { wide: output == Output::Wide, now, columns }
    }
}

/// The answer as one JSON object, with line breaks where a person reads it.
pub fn json<T: Serialize>(answer: &T) -> Result<String> {
    let text =
        if io::stdout().is_terminal() { serde_json::to_string_pretty(answer) } else { serde_json::to_string(answer) };
    Ok(text.context("cannot write the answer as JSON")? + "\n")
}

/// Prints. A reader that went away, such as head(1), has what it wants.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}
