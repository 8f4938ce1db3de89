//! The answer to `tracker explain connect`.

use std::{cmp::Reverse, fmt::Write as _};

use tracker_model::explain::{Cause, ConnectAnswer};

use super::paragraph;
use crate::cli::{
    format::{UNKNOWN, count, holders, printable, span},
    output::View,
    table::{self, Column},
};

/// The verdict, the ports by what holds them, who has them, what to do.
pub(in crate::cli) fn render(answer: &ConnectAnswer, _: View) -> String {
    let mut text = format!("{}\n\n", printable(&answer.summary));
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<12}{value}");
    };
    line("Ports", &ports(answer));
    if answer.free_ports == 0 {
        let next = answer.next_free_seconds;
        line("Next free", &next.map_or_else(|| "not known".to_owned(), |seconds| format!("in {}", span(seconds))));
    }
    line("In use", &states(answer));
    line("Processes", &holders(&answer.processes).unwrap_or_else(|| UNKNOWN.to_owned()));
    if !answer.causes.is_empty() {
        let _ = write!(text, "\n{}", causes(&answer.causes));
    }
    text += &paragraph("What to do:", &answer.advice);
    text += &paragraph("Note:", &answer.notes);
    text
}

fn ports(answer: &ConnectAnswer) -> String {
    let [capacity, held, free] = [answer.capacity, answer.held, answer.free_ports].map(|ports| count(ports.into()));
    let mut line = format!("{capacity} to choose from, {held} held, {free} free");
    if answer.reusable > 0 {
        let _ = write!(line, ", {} of them in TIME_WAIT and reusable", count(answer.reusable.into()));
    }
    line
}

/// Most first.
fn states(answer: &ConnectAnswer) -> String {
    let mut states: Vec<_> = answer.in_use.iter().collect();
    states.sort_by_key(|(_, ports)| Reverse(**ports));
    let states: Vec<_> =
        states.into_iter().map(|(state, ports)| format!("{state} {}", count((*ports).into()))).collect();
    if states.is_empty() { "no connection to this destination".to_owned() } else { states.join(", ") }
}

fn causes(causes: &[Cause]) -> String {
    let columns = [Column::Number("PORTS"), Column::Text(" HELD BECAUSE"), Column::Text("KERNEL")];
    let row = |cause: &Cause| vec![count(cause.ports.into()), format!(" {}", cause.why), cause.kernel.clone()];
    table::render(&columns, causes.iter().map(row).collect(), None)
}
