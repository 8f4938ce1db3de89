//! Tables of commands, their columns, settings and metrics, from the definitions that the program runs by.

use clap::{Arg, Command, CommandFactory as _};
use tracker_common::counters::Loss;
use tracker_model::{
    counters::NamespaceCounters,
    field::{Field, Metric},
    listener_fields, port_fields,
};

use tracker_user::{
    cli::Cli,
    config::{self, Kind},
    metrics,
};

/// All tables, each with its name.
#[must_use]
pub fn tables() -> Vec<(String, String)> {
    let mut root = Cli::command();
    root.build();
    let mut tables = vec![("settings".to_owned(), settings()), ("commands".to_owned(), commands())];
    tables.extend([("losses".to_owned(), losses()), ("tcp counters".to_owned(), tcp_counters())]);
    tables.extend([
        ("columns of listeners".to_owned(), columns(listener_fields::FIELDS)),
        ("columns of ports".to_owned(), columns(port_fields::TUPLE)),
        ("columns of bind pools".to_owned(), columns(port_fields::POOL)),
    ]);
    for (name, command) in every(&root) {
        let shown = |argument: &&Arg| {
            let is_helped = matches!(argument.get_id().as_str(), "help" | "version");
            !argument.is_hide_set() && (name == "tracker" || !(is_helped || argument.is_global_set()))
        };
        if command.get_arguments().any(|argument| shown(&argument)) {
            tables.push((name.clone(), flags(command.get_arguments().filter(shown))));
        }
    }
    tables.extend(metrics::all().map(|(subject, all)| (format!("metrics of {subject}"), self::metrics(&all))));
    tables
}

/// Metrics: name, type, labels and meaning.
fn metrics(all: &[&Metric]) -> String {
    let row = |metric: &&Metric| {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let kind = format!("{:?}", metric.kind).to_lowercase();
        [format!("`{}`", metric.name), kind, labels.join(", "), metric.help.to_owned()]
    };
    table(["metric", "type", "labels", "meaning"], all.iter().map(row))
}

/// The columns of a table in their order: those of every view, then those of `-o wide`.
fn columns<T>(fields: &[Field<T>]) -> String {
    let column = |field: &Field<T>| field.column.as_ref().map(|column| (column.is_wide, column.head, field.help));
    let mut columns: Vec<_> = fields.iter().filter_map(column).collect();
    columns.sort_by_key(|(is_wide, ..)| *is_wide);
    let row = |(is_wide, head, help): (bool, &str, &str)| {
        let head = if is_wide { format!("{head} (wide)") } else { head.to_owned() };
        [head, help.trim_end_matches('.').to_owned()]
    };
    table(["column", "meaning"], columns.into_iter().map(row))
}

fn losses() -> String {
    table(
        ["kind", "meaning"],
        Loss::ALL.into_iter().map(|loss| [format!("`{}`", loss.name()), loss.consequence().to_owned()]),
    )
}

fn tcp_counters() -> String {
    let row = |(name, meaning): &(&str, &str)| [format!("`{name}`"), (*meaning).to_owned()];
    table(["counter", "meaning"], NamespaceCounters::MEANINGS.iter().map(row))
}

/// The settings: key, flag, variable, type and default.
#[must_use]
fn settings() -> String {
    let row = |flag: &Arg| {
        let name = flag.get_long()?;
        let kind = Kind::of_flag(flag).name().to_owned();
        Some([format!("`{name}`"), format!("`--{name}`"), variable(flag), kind, default(flag)])
    };
    table(["key", "flag", "variable", "type", "default"], config::definition().get_arguments().filter_map(row))
}

/// The commands and what they do.
#[must_use]
fn commands() -> String {
    let about = |command: &Command| command.get_about().map(ToString::to_string).unwrap_or_default();
    let all = every(&Cli::command()).into_iter().skip(1);
    table(["command", "meaning"], all.map(|(name, command)| [format!("`{name}`"), about(&command)]))
}

/// The command and all below it.
fn every(root: &Command) -> Vec<(String, Command)> {
    let mut all = vec![(root.get_name().to_owned(), root.clone())];
    for command in root.get_subcommands() {
        all.extend(every(command).into_iter().map(|(name, command)| (format!("{} {name}", root.get_name()), command)));
    }
    all
}

fn flags<'a>(arguments: impl Iterator<Item = &'a Arg>) -> String {
    let row = |argument| [name(argument), variable(argument), default(argument), help(argument).0];
    table(["argument", "variable", "default", "meaning"], arguments.map(row))
}

/// `--output FORMAT`, `-o`.
fn name(argument: &Arg) -> String {
    let takes_value = argument.get_action().takes_values() && !argument.is_require_equals_set();
    let value = argument.get_value_names().filter(|_| takes_value).map(|names| names.join(" "));
    let words: Vec<_> = argument.get_long().map(|long| format!("--{long}")).into_iter().chain(value).collect();
    let short = argument.get_short().map(|short| format!(", `-{short}`")).unwrap_or_default();
    format!("`{}`{short}", words.join(" "))
}

fn variable(argument: &Arg) -> String {
    argument.get_env().map(|name| format!("`{}`", name.to_string_lossy())).unwrap_or_default()
}

fn default(argument: &Arg) -> String {
    let values: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let takes_value = argument.get_action().takes_values();
    if takes_value && !values.is_empty() { format!("`{}`", values.join(",")) } else { help(argument).1 }
}

/// The help of an argument, and the default that it names where there is no fixed value.
fn help(argument: &Arg) -> (String, String) {
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let parts = help.strip_suffix(']').and_then(|help| help.rsplit_once(" [default: "));
    parts.map_or((help.clone(), String::new()), |(meaning, default)| (meaning.to_owned(), default.to_owned()))
}

/// A table of these columns, without those that are empty.
#[must_use]
pub fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<_> = rows.collect();
    let is_used = |column: &usize| rows.iter().any(|row| !row[*column].is_empty());
    let columns: Vec<_> = (0..N).filter(is_used).collect();
    let mut text = String::new();
    for row in [head.map(str::to_owned), ["---"; N].map(str::to_owned)].iter().chain(&rows) {
        for column in &columns {
            let cell = row[*column].replace('|', "\\|");
            text += "| ";
            text += &cell;
            text += if cell.is_empty() { "" } else { " " };
        }
        text += "|\n";
    }
    text
}
