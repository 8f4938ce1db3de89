//! Tables without borders, as those of ss(8) and kubectl.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use tracker_model::field::Field;

use super::format::printable;

/// A column: its head, and whether it holds numbers.
#[derive(Clone, Copy)]
pub(super) enum Column {
    /// Words, to the left.
    Text(&'static str),
    /// Numbers, to the right.
    Number(&'static str),
}

/// A table with these columns. With a width, long cells are wrapped to fit in. What would steer the terminal is
/// escaped.
pub(super) fn render(columns: &[Column], rows: Vec<Vec<String>>, width: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table.set_header(columns.iter().map(|column| match column {
        Column::Text(head) | Column::Number(head) => Cell::new(head),
    }));
    table.add_rows(rows.into_iter().map(|row| row.into_iter().map(|cell| printable(&cell))));
    for (column, kind) in table.column_iter_mut().zip(columns) {
        if matches!(kind, Column::Number(_)) {
            column.set_padding((0, 1)).set_cell_alignment(CellAlignment::Right);
        } else {
            column.set_padding((0, 2));
        }
    }
    table.trim_fmt() + "\n"
}

/// The fields that have a column, narrow ones first, with its head.
pub(super) fn fields<T>(
    fields: &'static [Field<T>],
    wide: bool,
) -> impl Iterator<Item = (&'static str, &'static Field<T>)> {
    let of = move |is_wide| {
        let column = move |field: &'static Field<T>| {
            field.column.as_ref().filter(|column| column.is_wide == is_wide).map(|column| (column.head, field))
        };
        fields.iter().filter_map(column)
    };
    of(false).chain(of(true).filter(move |_| wide))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_left_and_numbers_right_without_trailing_blanks() {
        let rows = vec![vec!["eth0".to_owned(), "1,234".to_owned()], vec!["lo".to_owned(), "7".to_owned()]];
        let text = render(&[Column::Text("NAME"), Column::Number("SYNS")], rows, None);
        assert_eq!(text, "NAME   SYNS\neth0  1,234\nlo        7\n");
    }

    #[test]
    fn a_cell_cannot_steer_the_terminal() {
        let text = render(&[Column::Text("NAME")], vec![vec!["w\u{1b}[1m\u{9b}2J\u{202e}\nx".to_owned()]], None);
        assert_eq!(text, "NAME\nw\\u{1b}[1m\\u{9b}2J\\u{202e}\\nx\n");
    }

    #[test]
    fn long_cells_are_wrapped_to_the_width() {
        let rows = vec![vec!["eth0".to_owned(), "a reason of some length that goes on".to_owned()]];
        let text = render(&[Column::Text("NAME"), Column::Text("REASON")], rows, Some(30));
        assert!(text.lines().count() > 2 && text.lines().all(|line| line.len() <= 30), "{text}");
    }
}
