//! Where one event ends and the next begins, in each form of body.
//!
//! | form | media type | body |
//! | --- | --- | --- |
//! | `Json` | `application/json` | a native event, or an array of them |
//! | `Lines` | `application/x-ndjson` | a native event a line; blank lines are skipped |
//! | `CloudEvent` | `application/cloudevents+json` | one CloudEvent |
//! | `CloudEvents` | `application/cloudevents-batch+json` | an array of CloudEvents |
//!
//! 1. A body is read to its end or not at all: the caller drops what it was given if an error follows.
//! 2. An element or line that is JSON but no object is handed on; it is that event's fault, not the body's.

use crate::http::ingest::json::{Fault, Item, JsonError, Scanner, Tape};

/// What a body holds, by its media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Json,
    Lines,
    CloudEvent,
    CloudEvents,
}

impl Form {
    pub fn is_native(self) -> bool {
        matches!(self, Form::Json | Form::Lines)
    }
}

/// Why a body is not taken at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    #[error("byte {offset} is not UTF-8")]
    NotUtf8 { offset: usize },
    /// `offset` counts from the start of the body, `line` from 1 and only where lines matter.
    #[error("{fault} at byte {offset}{}", line_suffix(*line))]
    Malformed { offset: usize, line: Option<usize>, fault: Fault },
    #[error("expected {expected} at byte {offset}")]
    Shape { offset: usize, expected: &'static str },
    #[error("more than {limit} events in one request")]
    TooManyEvents { limit: usize },
}

impl FramingError {
    /// Bytes before the fault, from the start of the (decompressed) body.
    pub fn offset(&self) -> Option<usize> {
        match self {
            FramingError::NotUtf8 { offset } => Some(*offset),
            FramingError::Malformed { offset, .. } | FramingError::Shape { offset, .. } => Some(*offset),
            FramingError::TooManyEvents { .. } => None,
        }
    }

    pub fn line(&self) -> Option<usize> {
        if let FramingError::Malformed { line, .. } = self { *line } else { None }
    }
}

fn line_suffix(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(" (line {line})"))
}

/// Hands each event of a body to `visit`, as its text and its values, in order.
pub fn read<'a, V>(form: Form, body: &'a str, events_max: usize, visit: V) -> Result<(), FramingError>
where
    V: FnMut(&'a str, Item<'_, 'a>),
{
    let mut reader = Reader { tape: Tape::default(), events: 0, events_max, visit };
    match form {
        Form::Lines => reader.lines(body),
        Form::Json | Form::CloudEvent | Form::CloudEvents => reader.document(form, body),
    }
}

struct Reader<'a, V> {
    tape: Tape<'a>,
    events: usize,
    events_max: usize,
    visit: V,
}

impl<'a, V: FnMut(&'a str, Item<'_, 'a>)> Reader<'a, V> {
    fn document(&mut self, form: Form, body: &'a str) -> Result<(), FramingError> {
        let mut scanner = Scanner::new(body);
        let expected = match form {
            Form::CloudEvent => "a CloudEvent object",
            Form::CloudEvents => "an array of CloudEvents",
            Form::Json | Form::Lines => "an event object or an array of them",
        };
        match scanner.peek() {
            Some(b'[') if form != Form::CloudEvent => self.array(&mut scanner),
            Some(b'{') if form != Form::CloudEvents => self.event(&mut scanner, 0).map_err(malformed),
            Some(b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                return Err(FramingError::Shape { offset: scanner.offset(), expected });
            }
            _ => Err(malformed(scanner.fault(Fault::ExpectedValue))),
        }?;
        scanner.end().map_err(malformed)
    }

    fn array(&mut self, scanner: &mut Scanner<'a>) -> Result<(), FramingError> {
        scanner.bump();
        if scanner.peek() == Some(b']') {
            scanner.bump();
            return Ok(());
        }
        loop {
            self.admit()?;
            self.event(scanner, 1).map_err(malformed)?;
            match scanner.peek() {
                Some(b',') => scanner.bump(),
                Some(b']') => break,
                _ => return Err(malformed(scanner.fault(Fault::ExpectedComma))),
            }
        }
        scanner.bump();
        Ok(())
    }

    fn lines(&mut self, body: &'a str) -> Result<(), FramingError> {
        let mut start = 0;
        for (index, line) in body.split('\n').enumerate() {
            let mut scanner = Scanner::new(line);
            if scanner.peek().is_some() {
                self.admit()?;
                self.event(&mut scanner, 0).and_then(|()| scanner.end()).map_err(|error| FramingError::Malformed {
                    offset: start + error.offset,
                    line: Some(index + 1),
                    fault: error.fault,
                })?;
            }
            start += line.len() + 1;
        }
        Ok(())
    }

    fn admit(&mut self) -> Result<(), FramingError> {
        if self.events == self.events_max {
            return Err(FramingError::TooManyEvents { limit: self.events_max });
        }
        self.events += 1;
        Ok(())
    }

    fn event(&mut self, scanner: &mut Scanner<'a>, depth: usize) -> Result<(), JsonError> {
        let raw = scanner.value(&mut self.tape, depth)?;
        (self.visit)(raw, self.tape.root());
        Ok(())
    }
}

fn malformed(error: JsonError) -> FramingError {
    FramingError::Malformed { offset: error.offset, line: None, fault: error.fault }
}

/// The body as text, or the place where it stops being UTF-8.
pub fn utf8(body: &[u8]) -> Result<&str, FramingError> {
    std::str::from_utf8(body).map_err(|error| FramingError::NotUtf8 { offset: error.valid_up_to() })
}

#[cfg(test)]
mod tests;
