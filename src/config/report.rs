//! What is wrong with a config file, for people (the line with a caret under it) and for programs (JSON).
//!
//! ```text
//! error: unknown key `lisen` in [server]
//!   --> config/meterd.toml:3:1
//!    |
//!  3 | lisen = "127.0.0.1:8080"
//!    | ^^^^^
//!    = help: did you mean `listen`?
//! ```

use std::fmt::{self, Write};
use std::ops::Range;

use serde_json::json;

use super::mask;
use super::source::Source;

/// Characters of a source line that are shown; a longer line is cut around the caret.
const LINE_CHARS_MAX: usize = 110;

/// Characters of a message that are shown.
const SENTENCE_CHARS_MAX: usize = 400;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Bytes of the source text; none when it is about the file as a whole.
    pub span: Option<Range<usize>>,
    /// The key's full name, like `server.listen` or `meter[0].window`; empty when it is about no key.
    pub key: String,
    pub message: String,
    /// What would be right, if that is known.
    pub help: Option<String>,
}

impl ConfigError {
    pub(super) fn at(span: Range<usize>, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { span: Some(span), key: key.into(), message: message.into(), help: None }
    }

    pub(super) fn whole_file(message: impl Into<String>) -> Self {
        Self { span: None, key: String::new(), message: message.into(), help: None }
    }

    #[must_use]
    pub(super) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Every error of a file, in file order, with the text they point into. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    source: Source,
    errors: Vec<ConfigError>,
}

impl Report {
    /// Nothing of it shows the text's secrets.
    pub fn new(mut source: Source, mut errors: Vec<ConfigError>) -> Self {
        source.text = mask::masked(&source.text);
        errors.iter_mut().for_each(|error| error.message = mask::masked_words(&error.message));
        errors.sort_by_key(|error| error.span.as_ref().map(|span| (span.start, span.end)));
        Self { source, errors }
    }

    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    /// `[{"file", "line", "column", "key", "message", "help"}]`; line, column and help may be null.
    pub fn to_json(&self) -> serde_json::Value {
        let rows = self.errors.iter().map(|error| {
            let position = error.span.as_ref().map(|span| self.source.position(span.start));
            json!({
                "file": self.source.file,
                "line": position.map(|p| p.line),
                "column": position.map(|p| p.column),
                "key": error.key,
                "message": error.message,
                "help": error.help,
            })
        });
        rows.collect()
    }

    /// The report as text, with terminal colours if asked for.
    pub fn render(&self, colour: bool) -> String {
        let paint = Paint { colour };
        let mut out = String::new();
        for error in &self.errors {
            self.render_error(error, paint, &mut out);
            out.push('\n');
        }
        if self.errors.len() > 1 {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{}: {} errors", self.source.file, self.errors.len());
        }
        out
    }

    fn render_error(&self, error: &ConfigError, paint: Paint, out: &mut String) {
        let bar = paint.dim("|");
        let mut gutter = 1;
        let mut line = |text: String| out.push_str(&(text + "\n"));
        match &error.span {
            None => line(format!("{}: {} {}", paint.red("error"), self.source.file, sentence(&error.message))),
            Some(span) => {
                let position = self.source.position(span.start);
                let number = position.line.to_string();
                gutter = number.len();
                let excerpt = Excerpt::cut(&self.source, span);
                line(format!("{}: {}", paint.red("error"), paint.bold(&sentence(&error.message))));
                let place = format!("{}:{}:{}", self.source.file, position.line, position.column);
                line(format!("{:gutter$}{} {place}", "", paint.dim("-->")));
                line(format!("{:gutter$} {bar}", ""));
                line(format!("{} {bar} {}", paint.dim(&number), excerpt.line));
                line(format!("{:gutter$} {bar} {}{}", "", excerpt.indent, paint.red(&excerpt.carets)));
            }
        }
        if let Some(help) = &error.help {
            line(format!("{:gutter$} {} {}", "", paint.dim("= help:"), sentence(help)));
        }
    }
}

/// Without colours, as it goes into a log.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl std::error::Error for Report {}

/// A source line fit to print, and what goes under it.
struct Excerpt {
    line: String,
    /// As wide as what comes before the span: tabs stay tabs.
    indent: String,
    carets: String,
}

impl Excerpt {
    fn cut(source: &Source, span: &Range<usize>) -> Self {
        let (start, text) = source.line(span.start);
        let before = text.char_indices().take_while(|(at, _)| start + at < span.start).count();
        let within = text.char_indices().filter(|(at, _)| span.contains(&(start + at))).count().max(1);
        let total = text.chars().count();
        let skipped = if total > LINE_CHARS_MAX { before.saturating_sub(LINE_CHARS_MAX / 2) } else { 0 };
        let mut line = String::new();
        let mut indent = String::new();
        if skipped > 0 {
            line.push('…');
            indent.push(' ');
        }
        for (at, character) in text.chars().enumerate().skip(skipped).take(LINE_CHARS_MAX) {
            let shown = printable(character);
            line.push(shown);
            if at < before {
                indent.push(if shown == '\t' { '\t' } else { ' ' });
            }
        }
        if total > skipped + LINE_CHARS_MAX {
            line.push('…');
        }
        let carets = "^".repeat(within.min(LINE_CHARS_MAX - (before - skipped)));
        Self { line, indent, carets }
    }
}

/// A message, which may quote the file, fit to print on one line.
fn sentence(text: &str) -> String {
    let mut shown: String =
        text.chars().take(SENTENCE_CHARS_MAX).map(|c| if c == '\t' { ' ' } else { printable(c) }).collect();
    if text.chars().nth(SENTENCE_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// A file must not be able to send commands to the operator's terminal.
fn printable(character: char) -> char {
    if character.is_control() && character != '\t' { char::REPLACEMENT_CHARACTER } else { character }
}

#[derive(Clone, Copy)]
struct Paint {
    colour: bool,
}

impl Paint {
    fn red(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.wrap("34", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = if self.colour { write!(out, "\x1b[{code}m{text}\x1b[0m") } else { write!(out, "{text}") };
        out
    }
}
