//! `tracker alerts` as a table: a line for each, its summary below it, and, wide, what it rests on.

use std::fmt::Write as _;

use tracker_model::api::{Alert, AlertState, Alerts, Class};

use super::{
    evidence,
    format::{UNKNOWN, ago, printable},
    output::View,
    table::{self, Column},
};

const COLUMNS: [Column; 8] = [
    Column::Number("ID"),
    Column::Text(" SEVERITY"),
    Column::Text("STATE"),
    Column::Text("SINCE"),
    Column::Text("ENDED"),
    Column::Text("KIND"),
    Column::Text("CLASS"),
    Column::Text("SUBJECT"),
];

/// All of them, or those that fire.
pub(super) fn selected(mut answer: Alerts, firing: bool) -> Alerts {
    if firing {
        answer.alerts.retain(|alert| alert.state == AlertState::Firing);
    }
    answer
}

/// The answer as a table.
pub(super) fn render(answer: &Alerts, view: View) -> String {
    if answer.alerts.is_empty() {
        return "no alerts\n".to_owned();
    }
    let rows = answer.alerts.iter().map(|alert| row(alert, view)).collect();
    let table = table::render(&COLUMNS, rows, None);
    let mut lines = table.lines();
    let mut text = format!("{}\n", lines.next().unwrap_or_default());
    for (alert, line) in answer.alerts.iter().zip(lines) {
        let _ = writeln!(text, "{line}\n    {}", printable(&alert.summary));
        if view.wide {
            let _ = writeln!(text, "{}", evidence::render(alert));
        }
    }
    text.truncate(text.trim_end().len());
    text += if view.wide { "\n" } else { "\n\nEvidence, and what to do: tracker alerts -o wide\n" };
    text
}

/// How long ago it began; more than that if it was so already when the daemon looked first.
fn since(alert: &Alert, view: View) -> String {
    let ago = ago(alert.since, view.now);
    if alert.since_before { format!(">{ago}") } else { ago }
}

fn row(alert: &Alert, view: View) -> Vec<String> {
    vec![
        alert.id.to_string(),
        format!(" {}", alert.severity.name()),
        alert.state.name().to_owned(),
        since(alert, view),
        alert.until.map_or_else(|| UNKNOWN.to_owned(), |until| ago(until, view.now)),
        alert.kind.name().to_owned(),
        alert.class.map_or(UNKNOWN, Class::name).to_owned(),
        printable(&alert.about()),
    ]
}
