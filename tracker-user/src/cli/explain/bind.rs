//! The answer to `tracker explain bind`.

use std::fmt::Write as _;

use tracker_model::explain::{BindAnswer, BindError, Holder};

use super::paragraph;
use crate::cli::{
    format::{UNKNOWN, address_port, count, printable, process, span},
    output::View,
    table::{self, Column},
};

/// Sockets that are shown unless everything is.
const SHOWN: usize = 10;

/// The verdict, what is in the way, what other options would change, what to do.
pub(in crate::cli) fn render(answer: &BindAnswer, view: View) -> String {
    let mut text = format!("{}\n", printable(&answer.summary));
    text += &sockets("In the way:", &answer.holders, answer.holders_total, view);
    text += &sockets("Shares the port until one of the two listens:", &answer.rivals, answer.rivals.len(), view);
    text += &variants(answer);
    text += &paragraph("What to do:", &answer.advice);
    text += &paragraph("Note:", &answer.notes);
    text
}

/// What the same call does with other options.
fn variants(answer: &BindAnswer) -> String {
    let word = |error: Option<BindError>| error.map_or("succeeds", BindError::name);
    let variants = answer.variants;
    format!(
        "\nWithout options: {}; with SO_REUSEADDR: {}; with SO_REUSEPORT: {}\n",
        word(variants.plain),
        word(variants.reuse_address),
        word(variants.reuse_port)
    )
}

/// A line for each socket, with what it rests on below it where that is not as for the line before.
fn sockets(title: &str, holders: &[Holder], total: usize, view: View) -> String {
    if holders.is_empty() {
        return String::new();
    }
    let shown = &holders[..holders.len().min(if view.wide { usize::MAX } else { SHOWN })];
    let table = table::render(&columns(view.wide), shown.iter().map(|of| row(of, view)).collect(), None);
    let mut lines = table.lines();
    let mut text = format!("\n{title}\n{}\n", lines.next().unwrap_or_default());
    let mut before = None;
    for (holder, line) in shown.iter().zip(lines) {
        let _ = writeln!(text, "{line}");
        let why = (&holder.why, &holder.kernel);
        if before != Some(why) {
            let _ = writeln!(text, "    {} ({})", printable(&holder.why), printable(&holder.kernel));
        }
        before = Some(why);
    }
    if total > shown.len() {
        let _ = writeln!(text, "and {} more", count((total - shown.len()) as u64));
    }
    text
}

fn columns(wide: bool) -> Vec<Column> {
    let mut columns = Vec::from(["STATE", "LOCAL", "REMOTE", "PROCESS"].map(Column::Text));
    columns.extend(["UID", "ENDS-IN"].map(Column::Number));
    columns.push(Column::Text(" OPTIONS"));
    if wide {
        columns.push(Column::Number("INODE"));
    }
    columns
}

fn row(holder: &Holder, view: View) -> Vec<String> {
    let unknown = || UNKNOWN.to_owned();
    let number = |number: Option<u64>| number.map_or_else(unknown, |number| number.to_string());
    let remote = holder.remote_address.zip(holder.remote_port);
    let processes: Vec<_> = holder.processes.iter().map(|of| process(of.pid, &of.comm)).collect();
    let options = [(holder.reuse_address, "SO_REUSEADDR"), (holder.reuse_port, "SO_REUSEPORT")];
    let options: Vec<_> = options.iter().filter(|(is_set, _)| *is_set).map(|(_, name)| *name).collect();
    let mut row = vec![
        holder.state.to_string(),
        address_port(&holder.address.to_string(), holder.port),
        remote.map_or_else(unknown, |(address, port)| address_port(&address.to_string(), port)),
        if processes.is_empty() { unknown() } else { processes.join(", ") },
        number(holder.uid.map(u64::from)),
        holder.ends_in_seconds.map_or_else(unknown, span),
        format!(" {}", if options.is_empty() { unknown() } else { options.join(", ") }),
    ];
    if view.wide {
        row.push(number(holder.inode));
    }
    row
}
