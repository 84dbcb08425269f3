//! Reads records of RFC 4180 from text, with the line that each begins at.
//!
//! 1. Lines end with CRLF or LF; the last one may end without. A byte order mark in front is no part of the text.
//! 2. Blank lines are no records. A quoted field may hold commas, line ends, and quotes, which are doubled.
//! 3. A quote elsewhere than around a field is an error, not a guess, and so is a field without its closing quote.

use std::borrow::Cow;

/// One record: where it begins (lines count from 1), and its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<'t> {
    pub line: u64,
    pub fields: Vec<Cow<'t, str>>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    #[error("line {0}: a quoted field has no closing quote")]
    Unclosed(u64),
    #[error("line {0}: after the closing quote of a field there must be a comma or the line's end")]
    AfterQuote(u64),
    #[error("line {0}: a field that holds a quote must be quoted, and the quote doubled")]
    BareQuote(u64),
}

/// Records of a text, one after the other; nothing after an error.
pub struct Rows<'t> {
    rest: &'t str,
    line: u64,
}

impl<'t> Rows<'t> {
    pub fn new(text: &'t str) -> Self {
        Self { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1 }
    }

    fn record(&mut self) -> Result<Row<'t>, CsvError> {
        let mut row = Row { line: self.line, fields: Vec::new() };
        loop {
            row.fields.push(self.field()?);
            match self.rest.strip_prefix(',') {
                Some(rest) => self.rest = rest,
                None => break,
            }
        }
        self.skip_line_end();
        Ok(row)
    }

    /// Up to the comma or line end behind it.
    fn field(&mut self) -> Result<Cow<'t, str>, CsvError> {
        let Some(quoted) = self.rest.strip_prefix('"') else {
            let end = self.rest.find([',', '\n']).unwrap_or(self.rest.len());
            let end = if self.rest[..end].ends_with('\r') { end - 1 } else { end };
            let (field, rest) = self.rest.split_at(end);
            if field.contains('"') {
                return Err(CsvError::BareQuote(self.line));
            }
            self.rest = rest;
            return Ok(Cow::Borrowed(field));
        };
        let begun = self.line;
        let end = closing_quote(quoted).ok_or(CsvError::Unclosed(begun))?;
        let (field, rest) = (&quoted[..end], &quoted[end + 1..]);
        self.line += field.matches('\n').count() as u64;
        if !(rest.is_empty() || rest.starts_with([',', '\n']) || rest.starts_with("\r\n") || rest == "\r") {
            return Err(CsvError::AfterQuote(self.line));
        }
        self.rest = rest;
        Ok(if field.contains('"') { Cow::Owned(field.replace("\"\"", "\"")) } else { Cow::Borrowed(field) })
    }

    fn skip_line_end(&mut self) {
        let rest = self.rest.strip_prefix('\r').unwrap_or(self.rest);
        if let Some(rest) = rest.strip_prefix('\n') {
            self.line += 1;
            self.rest = rest;
        } else if rest.is_empty() {
            self.rest = rest;
        }
    }
}

impl<'t> Iterator for Rows<'t> {
    type Item = Result<Row<'t>, CsvError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.rest.starts_with('\n') || self.rest.starts_with("\r\n") {
            self.skip_line_end();
        }
        if self.rest.is_empty() {
            return None;
        }
        let row = self.record();
        if row.is_err() {
            self.rest = "";
        }
        Some(row)
    }
}

/// Where the quote is that is not doubled.
fn closing_quote(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == b'"')?;
        if bytes.get(at + 1) != Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

/// Takes off the apostrophe that the writer sets before what a spreadsheet would run.
pub fn unguarded(text: &str) -> &str {
    match text.strip_prefix('\'') {
        Some(name) if name.starts_with(['=', '+', '-', '@', '\t', '\r', '\'']) => name,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::csv::Record;

    fn read(text: &str) -> Result<Vec<(u64, Vec<String>)>, CsvError> {
        let owned = |row: Row<'_>| (row.line, row.fields.into_iter().map(Cow::into_owned).collect());
        Rows::new(text).map(|row| row.map(owned)).collect()
    }

    fn rows(rows: &[(u64, &[&str])]) -> Vec<(u64, Vec<String>)> {
        rows.iter().map(|(line, fields)| (*line, fields.iter().map(|f| (*f).to_owned()).collect())).collect()
    }

    #[test]
    fn reads_every_kind_of_field_and_counts_lines() {
        for (text, expected) in [
            ("", &[][..]),
            ("a,b\r\n1,2\r\n", &[(1, &["a", "b"][..]), (2, &["1", "2"])]),
            ("a,b\n1,2", &[(1, &["a", "b"]), (2, &["1", "2"])]),
            ("\u{feff}a\n", &[(1, &["a"])]),
            ("a,,\n,\n", &[(1, &["a", "", ""]), (2, &["", ""])]),
            ("\n\r\na\n\n\nb", &[(3, &["a"]), (6, &["b"])]),
            ("\"a,b\",\"c\"\"d\",\"\"\n", &[(1, &["a,b", "c\"d", ""])]),
            ("\"x\ny\r\nz\",1\nnext\n", &[(1, &["x\ny\r\nz", "1"]), (4, &["next"])]),
            ("\"\"\"\"\"\"", &[(1, &["\"\""])]),
            (" a , größe ", &[(1, &[" a ", " größe "])]),
            ("a\rb,c\r\n", &[(1, &["a\rb", "c"])]),
            ("a\r", &[(1, &["a"])]),
            ("\"a\"\r", &[(1, &["a"])]),
        ] {
            assert_eq!(read(text), Ok(rows(expected)), "{text:?}");
        }
    }

    #[test]
    fn errors_name_the_line() {
        for (text, error) in [
            ("a\n\"b", CsvError::Unclosed(2)),
            ("a\n\"b\"\"", CsvError::Unclosed(2)),
            ("\"a\nb\"c\n", CsvError::AfterQuote(2)),
            ("a\nb\n\"c\"d,e\n", CsvError::AfterQuote(3)),
            ("\"c\"\rx", CsvError::AfterQuote(1)),
            ("a\nb\"c,d\n", CsvError::BareQuote(2)),
        ] {
            assert_eq!(read(text), Err(error.clone()), "{text:?}");
            assert_eq!(Rows::new(text).skip_while(Result::is_ok).count(), 1, "nothing comes after an error");
        }
        assert!(CsvError::BareQuote(7).to_string().starts_with("line 7: "));
    }

    #[test]
    fn reads_back_whatever_the_writer_writes() {
        let names = ["acme", "a,b", "a\"b", "\"\"", "a\nb", "a\r\nb", " a", "", "größe", "=1", "'x", "''", "-5", "\tx"];
        let mut out = Vec::new();
        for name in names {
            let mut record = Record::new(&mut out);
            record.text(name);
            record.quoted(name);
            record.plain(1);
            record.end();
        }
        let text = String::from_utf8(out).unwrap();
        let read: Vec<_> = Rows::new(&text).map(Result::unwrap).collect();
        assert_eq!(read.len(), names.len());
        for (row, name) in read.iter().zip(names) {
            assert_eq!((unguarded(&row.fields[0]), &*row.fields[1], &*row.fields[2]), (name, name, "1"));
        }
        assert_eq!(["'a", "'", "a'"].map(unguarded), ["'a", "'", "a'"], "not set by the writer: not taken off");
    }
}
