//! Text for people: tables, and names that come from outside.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

/// Where there is no value.
pub const NOTHING: &str = "-";

/// A table; the columns in `numbers` are aligned to the right.
pub fn table<const N: usize>(
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
    numbers: std::ops::Range<usize>,
) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(header);
    rows.for_each(|row| {
        table.add_row(row);
    });
    for column in numbers {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Names come from outside: what would move a terminal's cursor, break a table or turn the direction of text is written
/// as an escape.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        let turns_text =
            matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || turns_text {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// A member of a JSON answer as it goes into a table.
pub fn member(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => NOTHING.to_owned(),
        serde_json::Value::String(text) => printable(text),
        other => printable(&other.to_string()),
    }
}
