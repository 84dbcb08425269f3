//! Where a value lies in an event's data: `$.usage.tokens`, a small and exact part of JSONPath.
//!
//! `$` is the whole data, `.name` a field, `['any name']` or `["any name"]` a field whose name holds dots, spaces or
//! brackets. No wildcards, array indices or escapes: a path leads to at most one value.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The deepest path that is taken.
pub const SEGMENTS_MAX: usize = 16;
/// The longest path text that is taken, in bytes.
pub const PATH_BYTES_MAX: usize = 256;

/// A parsed path: the field names from the outside in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Path {
    segments: Box<[Box<str>]>,
}

/// Why a text is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("a path starts with $")]
    NoRoot,
    #[error("a path is $, then .name or ['name'] for each field; wildcards, indices and escapes are not supported")]
    Syntax,
    #[error("a path has at most 16 fields and 256 bytes")]
    TooLong,
}

impl Path {
    /// Field names from the outside in; empty for `$`.
    pub fn segments(&self) -> &[Box<str>] {
        &self.segments
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        if text.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        let mut rest = text.strip_prefix('$').ok_or(PathError::NoRoot)?;
        let mut segments = Vec::new();
        while !rest.is_empty() {
            let (segment, after) = take_segment(rest).ok_or(PathError::Syntax)?;
            if segments.len() == SEGMENTS_MAX {
                return Err(PathError::TooLong);
            }
            segments.push(segment.into());
            rest = after;
        }
        Ok(Self { segments: segments.into() })
    }
}

fn take_segment(text: &str) -> Option<(&str, &str)> {
    if let Some(name) = text.strip_prefix('.') {
        let end = name.find(['.', '[']).unwrap_or(name.len());
        let (segment, rest) = name.split_at(end);
        return is_plain(segment).then_some((segment, rest));
    }
    let quoted = text.strip_prefix('[')?;
    let quote = quoted.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let (segment, rest) = quoted[1..].split_once(quote)?;
    let rest = rest.strip_prefix(']')?;
    let legal = !segment.contains('\\') && !segment.chars().any(char::is_control);
    legal.then_some((segment, rest))
}

/// True for a name that needs no quotes.
fn is_plain(name: &str) -> bool {
    let special = |c: char| c.is_control() || c.is_whitespace() || ".[]*$@?()'\"\\,:".contains(c);
    !name.is_empty() && !name.contains(special)
}

/// The shortest text that parses to this path: quotes only where they are needed.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("$")?;
        for segment in &self.segments {
            match segment {
                plain if is_plain(plain) => write!(f, ".{plain}")?,
                quoted if quoted.contains('\'') => write!(f, "[\"{quoted}\"]")?,
                quoted => write!(f, "['{quoted}']")?,
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Path {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        text.parse()
    }
}

impl From<Path> for String {
    fn from(path: Path) -> Self {
        path.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fields_from_the_outside_in_and_writes_the_text_back() {
        for (text, segments) in [
            ("$", &[][..]),
            ("$.tokens", &["tokens"]),
            ("$.usage.input_tokens", &["usage", "input_tokens"]),
            ("$['gen_ai.usage'].total", &["gen_ai.usage", "total"]),
            ("$.größe['a b']", &["größe", "a b"]),
            ("$['']", &[""]),
            ("$[\"it's\"]", &["it's"]),
        ] {
            let path: Path = text.parse().unwrap();
            assert_eq!(path.segments().iter().map(AsRef::as_ref).collect::<Vec<&str>>(), segments, "{text}");
            assert_eq!(path.to_string(), text);
        }
    }

    #[test]
    fn quotes_that_are_not_needed_do_not_make_another_path() {
        assert_eq!("$[\"a\"]['b']".parse::<Path>(), "$.a.b".parse());
    }

    #[test]
    fn refuses_what_is_no_path_to_one_value() {
        for text in ["", "tokens", ".a", " $.a"] {
            assert_eq!(text.parse::<Path>(), Err(PathError::NoRoot), "{text}");
        }
        for text in [
            "$.", "$a", "$..a", "$.a.", "$.*", "$.a[0]", "$.a[", "$['a", "$['a'", "$['a']b", "$.a b", "$['\\n']",
            "$.a ", "$$",
        ] {
            assert_eq!(text.parse::<Path>(), Err(PathError::Syntax), "{text}");
        }
        let deep = format!("${}", ".a".repeat(SEGMENTS_MAX + 1));
        assert_eq!(deep.parse::<Path>(), Err(PathError::TooLong));
        assert!(format!("${}", ".a".repeat(SEGMENTS_MAX)).parse::<Path>().is_ok());
        assert_eq!(format!("$.{}", "a".repeat(PATH_BYTES_MAX)).parse::<Path>(), Err(PathError::TooLong));
    }
}
