//! `tracker ports` as tables: which rows are shown, and how. The figures and their columns belong to tracker-model.

mod below;
mod select;

use std::{fmt::Write as _, net::IpAddr};

use tracker_model::{
    api::{MATTERS, PortRange, PortUse, Ports},
    port_fields::TUPLE,
};

use super::{
    format::{UNKNOWN, address_port, count, holders, makers, printable, process, states, used},
    output::View,
    table::{self, Column},
};

pub(super) use select::Filter;

/// Destinations that are shown unless all are asked for: the worst.
const SHOWN: usize = 20;
/// This many of them are shown even if they do not matter.
const ALWAYS_SHOWN: usize = 5;
/// From this share on there is reason to ask what to do.
const ADVISED_RATIO: f64 = 0.5;

/// What is asked for, and how much of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    pub(super) filter: Filter,
    /// Everything, not only what matters.
    pub(super) all: bool,
}

/// The answer as tables. It is that of the filter.
pub(super) fn render(answer: &Ports, shown: &Shown, view: View) -> String {
    if answer.taken_at.is_none() {
        return "The sockets were not counted yet: ask again in a few seconds.\n".to_owned();
    }
    let (mut rows, mut hidden) = (Vec::new(), Vec::new());
    for (index, row) in answer.ports.iter().enumerate() {
        let fits = shown.all || rows.len() < SHOWN;
        if fits && shown.has(index, row) { rows.push(row) } else { hidden.push(row) }
    }
    let tables = [
        destinations(&rows, &hidden, shown, view),
        below::bind_pools(answer, shown, view).unwrap_or_default(),
        below::failures(answer, shown, view).unwrap_or_default(),
        below::conflicts(answer, shown, view).unwrap_or_default(),
    ];
    let nothing = rows.is_empty()
        && answer.failures.is_empty()
        && answer.conflicts.is_empty()
        && answer.namespaces.iter().all(below::is_complete);
    if nothing {
        return tables.concat();
    }
    let mut text = tables.into_iter().filter(|table| !table.is_empty()).collect::<Vec<_>>().join("\n");
    text += "\n";
    for space in &answer.namespaces {
        text += &below::namespace(space, view);
    }
    if let Some(unread) = &answer.unread {
        let _ = writeln!(text, "Not all network namespaces were looked at: {}", printable(unread));
    }
    if answer.conflicts_seen_by == "no" {
        text +=
            "Refused bind() calls are not seen: this kernel refuses fexit, and the daemon runs without --trace-bind.\n";
    }
    if let Some(hint) = hint(answer, &rows) {
        let _ = writeln!(text, "\n{hint}");
    }
    text
}

impl Shown {
    fn has(&self, index: usize, row: &PortUse) -> bool {
        self.all
            || self.filter.is_set()
            || index < ALWAYS_SHOWN
            || row.used_ratio >= MATTERS
            || row.failures > 0
            || row.full_in_seconds.is_some()
    }
}

fn destinations(rows: &[&PortUse], hidden: &[&PortUse], shown: &Shown, view: View) -> String {
    if rows.is_empty() {
        return format!("No local port is in use for a connection{}.\n", shown.filter.words());
    }
    let mut text = table::render(&columns(view.wide), rows.iter().map(|of| row(of, view)).collect(), None);
    if !hidden.is_empty() {
        let most = hidden.iter().map(|row| row.used_ratio).fold(0.0, f64::max);
        let (more, most) = (count(hidden.len() as u64), used(most));
        let _ = writeln!(text, "{more} more, of which none has used up more than {most} %: --all shows them");
    }
    text
}

fn columns(wide: bool) -> Vec<Column> {
    let mut columns = vec![Column::Text("SOURCE"), Column::Text("DESTINATION")];
    columns.extend(table::fields(TUPLE, wide).map(|(head, _)| Column::Number(head)));
    if wide {
        columns.push(Column::Number("NETNS"));
    }
    columns.push(Column::Text(" PROCESS"));
    if wide {
        columns.extend(["CONNECTS-BY", "STATES"].map(Column::Text));
    }
    columns
}

fn row(row: &PortUse, view: View) -> Vec<String> {
    let unknown = || UNKNOWN.to_owned();
    let mut cells = vec![
        source(row.source, row.local_port_range),
        address_port(&row.destination.to_string(), row.destination_port),
    ];
    cells.extend(table::fields(TUPLE, view.wide).map(|(_, field)| field.text(row)));
    if view.wide {
        cells.push(row.netns.to_string());
        cells.push(holders(&row.processes).map_or_else(|| format!(" {UNKNOWN}"), |all| format!(" {all}")));
        cells.push(makers(&row.made_by).unwrap_or_else(unknown));
        cells.push(states(&row.states).unwrap_or_else(unknown));
    } else {
        cells.push(format!(" {}", top_process(row)));
    }
    cells
}

/// The source address, with the range that its sockets have set for themselves: `192.0.2.1:40000-40099`.
fn source(source: IpAddr, range: Option<PortRange>) -> String {
    match (source, range) {
        (source, None) => source.to_string(),
        (IpAddr::V4(source), Some(range)) => format!("{source}:{range}"),
        (IpAddr::V6(source), Some(range)) => format!("[{source}]:{range}"),
    }
}

/// The process with the most ports, and how many there are besides. Nobody holds those in `TIME_WAIT`: then the one
/// that connects most.
fn top_process(row: &PortUse) -> String {
    let more = |others: usize| if others > 0 { format!(" +{others}") } else { String::new() };
    match (row.processes.as_slice(), row.made_by.as_slice()) {
        ([first, others @ ..], _) => process(first.pid, &first.comm) + &more(others.len()),
        ([], [first, others @ ..]) => {
            format!("connects: {}{}", process(first.pid, &first.comm), more(others.len()))
        }
        ([], []) => UNKNOWN.to_owned(),
    }
}

/// Where to look further: at the first destination that is short of ports, or for which calls failed.
fn hint(answer: &Ports, rows: &[&PortUse]) -> Option<String> {
    let row = rows.iter().find(|row| row.used_ratio >= ADVISED_RATIO || row.failures > 0);
    let (destination, port, source) = match (row, answer.failures.first()) {
        (Some(row), _) => (row.destination, row.destination_port, Some(row.source)),
        (None, Some(failure)) => (failure.destination, failure.destination_port, failure.source),
        (None, None) => return None,
    };
    let source = source.map_or_else(String::new, |source| format!(" --source {source}"));
    let destination = address_port(&destination.to_string(), port);
    Some(format!("What holds the ports, and what to do: tracker explain connect {destination}{source}"))
}

#[cfg(test)]
mod tests;
