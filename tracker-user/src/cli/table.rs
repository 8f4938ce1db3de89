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
