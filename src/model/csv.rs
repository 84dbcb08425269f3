//! Records of RFC 4180: CRLF, fields quoted where they must be, quotes doubled. [`Rows`] reads them.
//!
//! A spreadsheet runs a cell that starts with `=`, `+`, `-`, `@`, a tab or a carriage return as a formula, quoted or not.
//! Customers' names come from outside, so a text that starts with one of these, or with an apostrophe, gets an apostrophe
//! in front. Only text is ever changed, never a number: `-5` stays a number that adds up. Whoever reads the file by
//! program takes one leading apostrophe off the columns of names (`tenant`, `customer`, `meter`; of alerts also `cap`, `period`,
//! `usage_event_id`), and has the name as it was. `dimensions` and `soft` are JSON, so they start with a brace or a bracket
//! and need nothing.

mod reader;

pub use reader::{CsvError, Row, Rows, unguarded};

use std::fmt::Display;
use std::io::Write;

/// One record, field after field.
pub struct Record<'o> {
    out: &'o mut Vec<u8>,
    is_first: bool,
}

impl<'o> Record<'o> {
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out, is_first: true }
    }

    /// What is known to need no quotes: numbers, times, words of ours.
    pub fn plain(&mut self, value: impl Display) {
        self.begin();
        write!(self.out, "{value}").expect("a Vec takes any bytes");
    }

    /// Text from outside.
    pub fn text(&mut self, text: &str) {
        self.begin();
        let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\'']) { "'" } else { "" };
        let needs_quotes = text.contains([',', '"', '\r', '\n']) || text.starts_with(' ') || text.ends_with(' ');
        match needs_quotes {
            true => self.put_quoted(guard, text),
            false => [guard, text].iter().for_each(|part| self.out.extend_from_slice(part.as_bytes())),
        }
    }

    /// JSON, or other text that cannot start a formula.
    pub fn quoted(&mut self, text: &str) {
        self.begin();
        self.put_quoted("", text);
    }

    fn put_quoted(&mut self, guard: &str, text: &str) {
        self.out.push(b'"');
        self.out.extend_from_slice(guard.as_bytes());
        for (at, part) in text.split('"').enumerate() {
            if at > 0 {
                self.out.extend_from_slice(b"\"\"");
            }
            self.out.extend_from_slice(part.as_bytes());
        }
        self.out.push(b'"');
    }

    fn begin(&mut self) {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(b',');
        }
    }

    /// Ends the record.
    pub fn end(self) {
        self.out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> String {
        let mut out = Vec::new();
        Record::new(&mut out).text(text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn quotes_where_it_must_and_doubles_quotes() {
        for (name, cell) in [
            ("acme", "acme"),
            ("a,b", "\"a,b\""),
            ("a\"b", "\"a\"\"b\""),
            ("\"\"", "\"\"\"\"\"\""),
            ("a\nb", "\"a\nb\""),
            (" a", "\" a\""),
            ("größe", "größe"),
            ("", ""),
        ] {
            assert_eq!(text(name), cell);
        }
    }

    #[test]
    fn no_name_runs_as_a_formula_and_every_name_can_be_had_back() {
        for (name, cell) in [
            ("=1+1", "'=1+1"),
            ("+49", "'+49"),
            ("-5", "'-5"),
            ("@sum", "'@sum"),
            ("\tx", "'\tx"),
            ("\rx", "\"'\rx\""),
            ("=a,b", "\"'=a,b\""),
            ("'quoted", "''quoted"),
            ("a=b", "a=b"),
        ] {
            assert_eq!(text(name), cell);
            let read = cell.trim_matches('"').to_owned();
            assert_eq!(read.strip_prefix('\'').unwrap_or(&read), name, "taken off once, the name is back");
        }
    }
}
