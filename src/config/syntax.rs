//! What is wrong with a file as TOML, and how much of the rest can still be judged.
//!
//! The parser recovers from an error, and what it then finds may be real or a consequence. A missing quote costs a
//! value, and everything else stands. A broken line or header makes the parser lose sight of what follows it, so it is
//! taken out and the rest is parsed again.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::ConfigError;
use super::source::Source;

/// How the parser says that a key or a table is given twice.
const DUPLICATE: &str = "duplicate key";
/// How the parser's messages begin when a value that needs quotes has none.
const UNQUOTED: [&str; 5] =
    ["invalid float", "invalid integer", "unexpected leading", "string values must", "invalid boolean"];

/// What may span lines, by its begin and end.
const BRACKETS: [(&str, &str); 4] = [("[", "]"), ("{", "}"), ("\"\"\"", "\"\"\""), ("'''", "'''")];
/// Lines that are blanked out of one file; what follows the next one may not be judged.
const LOST_LINES_MAX: usize = 50;

/// A text that the parser can find its way through, as long as the file's, with spaces for what could not be read.
pub struct Repaired {
    pub text: String,
    errors: Vec<ConfigError>,
}

/// Blanks what makes the parser lose its way, until it finds a key in every line it complains about:
///
/// - a value that is never closed, up to the next line that looks like a key or a header;
/// - a header that it cannot read, with its table;
/// - any other line in which it finds no key.
pub fn repair(source: &Source) -> Repaired {
    let mut repaired = Repaired { text: source.text.clone(), errors: Vec::new() };
    while repaired.errors.len() < LOST_LINES_MAX {
        let (tree, errors) = DeTable::parse_recoverable(&repaired.text);
        let mut errors: Vec<_> =
            errors.iter().map(|error| (error.span().unwrap_or_default(), error.message())).collect();
        errors.sort_by_key(|(span, _)| span.start);
        let unclosed = (!errors.is_empty()).then(|| unclosed(&repaired.text, tree.get_ref())).flatten();
        let unclosed = unclosed.map(|value| without_value(source, &value));
        let lost = || {
            let lost = |(span, message)| lost_line(source, &repaired.text, tree.get_ref(), span, message);
            errors.iter().map(|(span, message)| (span, *message)).find_map(lost)
        };
        let Some((range, error)) = unclosed.or_else(lost) else { break };
        repaired.errors.push(error);
        let spaces: String = source.text[range.clone()].bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }).collect();
        repaired.text.replace_range(range, &spaces);
    }
    repaired
}

/// The first value behind a key that begins and does not end.
fn unclosed(text: &str, table: &DeTable<'_>) -> Option<Range<usize>> {
    let within = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let span = value.span();
        if key.span().end < span.start {
            return ends_as_it_begins(text.get(span.clone())?).is_some_and(|ends| !ends).then_some(span);
        }
        match value.get_ref() {
            DeValue::Table(table) => unclosed(text, table),
            DeValue::Array(tables) => tables
                .iter()
                .filter_map(|table| unclosed(text, table.get_ref().as_table()?))
                .min_by_key(|span| span.start),
            _ => None,
        }
    };
    table.iter().filter_map(within).min_by_key(|span| span.start)
}

/// Whether a value that may span lines has its end; `None` for any other value.
fn ends_as_it_begins(value: &str) -> Option<bool> {
    let (begin, end) = BRACKETS.into_iter().find(|(begin, _)| value.starts_with(begin))?;
    Some(value.len() >= begin.len() + end.len() && value.ends_with(end))
}

/// The lines of a value that is never closed, up to the next one that looks like a key or a header.
fn without_value(source: &Source, value: &Range<usize>) -> (Range<usize>, ConfigError) {
    let (start, line) = source.line(value.start);
    let mut end = start + line.len();
    for (index, next) in source.text[end..].split_inclusive('\n').enumerate() {
        // The first piece is this line's own end.
        if index > 0 && begins_anew(next.trim()) {
            break;
        }
        end += next.len();
    }
    let error = ConfigError::at(value.start..value.start + 1, "", "not TOML: what begins here is never closed");
    (start..end, error)
}

/// Whether a line looks like a key with its value, or like a header.
fn begins_anew(line: &str) -> bool {
    let is_name = |key: &str| !key.is_empty() && !key.contains(['"', '\'', '{', '[', '#', ',']);
    line.split_once('=').is_some_and(|(key, _)| is_name(key)) || line.starts_with('[') && line.ends_with(']')
}

/// A line without a key, and what it takes with it if it is a header.
fn lost_line(
    source: &Source,
    text: &str,
    root: &DeTable<'_>,
    span: &Range<usize>,
    message: &str,
) -> Option<(Range<usize>, ConfigError)> {
    let (start, line) = source.line(span.start);
    let mut end = start + line.len();
    let is_blank = text[start..end].trim().is_empty();
    if is_blank || message == DUPLICATE || has_key_within(root, &(start..end + 1)) {
        return None;
    }
    if line.trim_start().starts_with('[') {
        end = text[end..].find("\n[").map_or(text.len(), |next| end + next);
    }
    Some((start..end, describe(source, span, message)))
}

/// Which parts of a file cannot be relied on.
pub struct Damage {
    /// Where the syntax errors are.
    at: Vec<usize>,
    /// Their lines.
    lines: Vec<Range<usize>>,
    /// A key or a table may be missing, not just a value.
    pub keys_lost: bool,
}

impl Damage {
    /// Puts the parser's errors into words, at most one for a line. `root` and `syntax` come from the repaired text.
    pub fn assess(
        source: &Source,
        repaired: Repaired,
        root: &DeTable<'_>,
        syntax: &[toml::de::Error],
    ) -> (Damage, Vec<ConfigError>) {
        let mut reported = repaired.errors;
        let mut damage = Damage { at: Vec::new(), lines: Vec::new(), keys_lost: !reported.is_empty() };
        let mut syntax: Vec<_> =
            syntax.iter().map(|error| (error.span().unwrap_or_default(), error.message())).collect();
        syntax.sort_by_key(|(span, _)| span.start);
        for (span, message) in syntax {
            if !damage.explains(span.start) {
                reported.push(describe(source, &span, message));
            }
            let (start, text) = source.line(span.start);
            let line = start..start + text.len() + 1;
            let key_given_twice = message == DUPLICATE && !text.trim_start().starts_with('[');
            damage.keys_lost |= !key_given_twice && !has_key_within(root, &line);
            damage.at.push(span.start);
            damage.lines.push(line);
        }
        (damage, reported)
    }

    /// Whether an error at this offset may follow from a syntax error of its line.
    pub fn explains(&self, offset: usize) -> bool {
        self.lines.iter().any(|line| line.contains(&offset))
    }

    /// Whether a value could not be read to its end.
    pub fn lies_within(&self, value: &Range<usize>) -> bool {
        self.at.iter().any(|at| (value.start..=value.end).contains(at))
    }
}

fn describe(source: &Source, span: &Range<usize>, message: &str) -> ConfigError {
    if message == DUPLICATE {
        let name = source.text.get(span.clone()).unwrap_or_default();
        return ConfigError::at(span.clone(), "", format!("`{name}` is given twice"));
    }
    let plain = message.trim_end_matches(", expected nothing").trim_end_matches(", expected literal string");
    let error = ConfigError::at(span.clone(), "", format!("not TOML: {plain}"));
    let (start, line) = source.line(span.start);
    let in_a_value = line.get(..span.start - start).is_some_and(|before| before.contains('='));
    if in_a_value && UNQUOTED.iter().any(|begin| message.starts_with(begin)) {
        return error.with_help("words, addresses, durations and sizes go in quotes: key = \"value\"");
    }
    error
}

/// Whether the parser found a key on a line.
fn has_key_within(table: &DeTable<'_>, line: &Range<usize>) -> bool {
    let within = |value: &DeValue<'_>| match value {
        DeValue::Table(table) => has_key_within(table, line),
        DeValue::Array(values) => {
            values.iter().any(|value| value.get_ref().as_table().is_some_and(|table| has_key_within(table, line)))
        }
        _ => false,
    };
    table.iter().any(|(key, value)| line.contains(&key.span().start) || within(value.get_ref()))
}
