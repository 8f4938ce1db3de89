//! The TCP counters of the namespace, with what they count.

use tracker_model::{api::Status, counters::NamespaceCounters};

use super::{
    format::count,
    output::View,
    table::{self, Column},
};

/// A table: of those that are not zero, or of all. None when there is nothing to show.
pub(super) fn render(status: &Status, view: View) -> Option<String> {
    let Some(counters) = &status.tcp_counters else {
        return Some("TCP counters of the namespace: cannot be read\n".to_owned());
    };
    let shown = |count: u64| view.wide || count > 0;
    let rows: Vec<_> = NamespaceCounters::MEANINGS
        .iter()
        .filter_map(|(name, meaning)| Some((name, counters.get(*name).copied()?, meaning)))
        .filter(|(_, count, _)| shown(*count))
        .map(|(name, counted, meaning)| vec![(*name).to_owned(), count(counted), format!(" {meaning}")])
        .collect();
    if rows.is_empty() {
        return None;
    }
    let columns = [Column::Text("TCP COUNTER OF THE NAMESPACE"), Column::Number("COUNT"), Column::Text(" MEANING")];
    let table = table::render(&columns, rows, view.columns);
    Some(table + "These are of all listeners together, since the namespace was made.\n")
}
