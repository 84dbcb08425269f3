//! The name of a table.
//!
//! A name is `table` or `schema.table`, taken letter by letter: capitals stay capitals. A part with a full stop, a quote
//! or spaces around it goes in double quotes, as in SQL. Without a schema the connection's search path decides.

use std::fmt;
use std::str::FromStr;

/// What PostgreSQL keeps of a name; it would cut a longer one.
const NAME_BYTES_MAX: usize = 63;
pub const DEFAULT: &str = "billing_rows";
/// What the name of the alerts' table ends with.
const ALERTS: &str = "_alerts";

/// One or two names, valid by type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName(Vec<String>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableNameError {
    #[error("must be a table or schema.table")]
    Parts,
    #[error("must have names of 1 to 63 bytes")]
    Length,
    #[error("holds a control character")]
    Control,
    #[error("holds a double quote that does not end: in a quoted name, a quote is written twice")]
    Quote,
    #[error("must have at most {} bytes, as that of the alerts' table ends with \"{ALERTS}\"", NAME_BYTES_MAX - ALERTS.len())]
    AlertsLength,
}

impl TableName {
    /// The table that alerts go to: next to this one.
    pub fn alerts(&self) -> Result<Self, TableNameError> {
        let mut parts = self.0.clone();
        let name = parts.last_mut().expect("there is one at least");
        name.push_str(ALERTS);
        // The database would cut it, and perhaps down to the name of the other table.
        if name.len() > NAME_BYTES_MAX { Err(TableNameError::AlertsLength) } else { Ok(Self(parts)) }
    }
}

impl FromStr for TableName {
    type Err = TableNameError;

    fn from_str(text: &str) -> Result<Self, TableNameError> {
        let parts = split(text)?;
        if parts.len() > 2 {
            return Err(TableNameError::Parts);
        }
        for part in &parts {
            if part.is_empty() || part.len() > NAME_BYTES_MAX {
                return Err(TableNameError::Length);
            }
            if part.chars().any(char::is_control) {
                return Err(TableNameError::Control);
            }
        }
        Ok(Self(parts))
    }
}

impl Default for TableName {
    fn default() -> Self {
        Self(vec![DEFAULT.to_owned()])
    }
}

/// As SQL has it, every part quoted.
impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.0.iter().enumerate() {
            let dot = if at > 0 { "." } else { "" };
            write!(f, "{dot}\"{}\"", part.replace('"', "\"\""))?;
        }
        Ok(())
    }
}

/// The parts between full stops that are not within quotes.
fn split(text: &str) -> Result<Vec<String>, TableNameError> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let part = parts.last_mut().expect("it starts with one");
        match char {
            '.' => parts.push(String::new()),
            '"' if part.is_empty() => {
                *part = quoted(&mut chars)?;
                if chars.peek().is_some_and(|next| *next != '.') {
                    return Err(TableNameError::Quote);
                }
            }
            '"' => return Err(TableNameError::Quote),
            other => part.push(other),
        }
    }
    Ok(parts)
}

/// What stands before the closing quote.
fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<String, TableNameError> {
    let mut name = String::new();
    while let Some(char) = chars.next() {
        match char {
            '"' if chars.next_if_eq(&'"').is_none() => return Ok(name),
            other => name.push(other),
        }
    }
    Err(TableNameError::Quote)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_quoted_and_taken_letter_by_letter() {
        for (text, sql) in [
            ("billing_rows", "\"billing_rows\""),
            ("finance.Billing", "\"finance\".\"Billing\""),
            ("größe", "\"größe\""),
            ("a b; DROP TABLE x", "\"a b; DROP TABLE x\""),
            ("\"odd.name\"", "\"odd.name\""),
            ("s.\"say \"\"x\"\"\"", "\"s\".\"say \"\"x\"\"\""),
            ("select", "\"select\""),
        ] {
            assert_eq!(text.parse::<TableName>().unwrap().to_string(), sql);
        }
        assert_eq!(TableName::default(), DEFAULT.parse().unwrap());
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for (text, error) in [
            ("", TableNameError::Length),
            ("a.", TableNameError::Length),
            (".a", TableNameError::Length),
            ("a.b.c", TableNameError::Parts),
            ("a\"b", TableNameError::Quote),
            ("\"a", TableNameError::Quote),
            ("\"a\"b", TableNameError::Quote),
            ("\"\"", TableNameError::Length),
            ("a\0", TableNameError::Control),
            (&"x".repeat(64), TableNameError::Length),
        ] {
            assert_eq!(text.parse::<TableName>(), Err(error), "{text:?}");
        }
        assert!("x".repeat(63).parse::<TableName>().is_ok());
    }
    #[test]
    fn the_table_of_alerts_stands_next_to_the_other_one_under_a_name_that_the_database_does_not_cut() {
        let alerts = |text: &str| text.parse::<TableName>().unwrap().alerts().map(|name| name.to_string());
        assert_eq!(alerts("billing_rows").unwrap(), "\"billing_rows_alerts\"");
        assert_eq!(alerts("finance.\"odd.name\"").unwrap(), "\"finance\".\"odd.name_alerts\"");
        assert!(alerts(&"x".repeat(56)).is_ok());
        let error = alerts(&"x".repeat(57)).unwrap_err();
        assert_eq!(error.to_string(), "must have at most 56 bytes, as that of the alerts' table ends with \"_alerts\"");
    }
}
