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

#[cfg(test)]
mod tests {
    use crate::view as views;
    use tracker_fixtures as sample;
    use tracker_model::Snapshot;

    use super::*;

    fn shown(snapshot: &Snapshot, wide: bool) -> Option<String> {
        let status = views::status(snapshot, views::Daemon { version: "1", pid: 1 }, snapshot.taken_at);
        render(&status, View { wide, now: snapshot.taken_at, columns: Some(100) })
    }

    #[test]
    fn those_that_are_zero_are_for_the_wide_table() {
        let snapshot = sample::snapshot();
        assert_eq!(shown(&snapshot, false).unwrap().lines().count(), 1 + 2 + 1);
        assert_eq!(shown(&snapshot, true).unwrap().lines().count(), 1 + 9 + 1);
        let quiet = Snapshot { tcp_counters: Some(NamespaceCounters::default()), ..sample::snapshot() };
        assert_eq!((shown(&quiet, false), shown(&quiet, true).is_some()), (None, true));
    }

    #[test]
    fn counters_that_cannot_be_read_are_not_zero() {
        let unread = Snapshot { tcp_counters: None, ..sample::snapshot() };
        assert_eq!(shown(&unread, false).unwrap(), "TCP counters of the namespace: cannot be read\n");
    }
}
