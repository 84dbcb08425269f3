//! JSON text to a flat tape of borrowed nodes, in one pass. The only file that knows how JSON is written.
//!
//! | node | holds |
//! | --- | --- |
//! | key | the member's name; empty for array elements and the root |
//! | value | null, bool, number (its text, exactly), text, array, object |
//! | next | where on the tape the node after this value's whole subtree lies |
//!
//! Nodes lie in document order, a container before what it holds. Strings without escapes borrow from the input.
//!
//! 1. Strict RFC 8259: no comments, no trailing commas, no lone surrogates, no control characters in strings.
//! 2. A name appears once in an object, whatever escapes it is written with.
//! 3. Containers nest at most [`DEPTH_MAX`] deep, so that no input can exhaust the stack.
//! 4. A tape holds at most [`VALUES_MAX`] values, so that two bytes of body never become sixty of memory without end.
//! 5. The cost is linear in the input, but for the duplicate check of wide objects, which sorts their names.
//!
//! Why not `serde_json`: it hands out numbers without their text, or values without their place, and would scan an event
//! once for its borders, once for its members and once more for each level of `data`, to find duplicate names.

use std::borrow::Cow;

use crate::http::ingest::text::{self, Stop};

/// How deep containers may nest, counted from the outermost one of the body.
pub const DEPTH_MAX: usize = 64;
/// The most values one event may hold: a value costs more on the tape than in a body.
pub const VALUES_MAX: usize = 1 << 16;
/// Objects wider than this have their names sorted to find duplicates; narrower ones compare names pairwise.
const PAIRWISE_MAX: usize = 16;

/// Why a text is not JSON that is taken, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault} at byte {offset}")]
pub struct JsonError {
    /// Bytes before the place where reading stopped, from the start of the scanned text.
    pub offset: usize,
    pub fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("expected a JSON value")]
    ExpectedValue,
    #[error("expected a member's name in quotes")]
    ExpectedName,
    #[error("expected a colon")]
    ExpectedColon,
    #[error("expected a comma or the closing bracket")]
    ExpectedComma,
    #[error("unexpected end of the text")]
    UnexpectedEnd,
    #[error("malformed number")]
    BadNumber,
    #[error("malformed escape in a string")]
    BadEscape,
    #[error("unescaped control character in a string")]
    ControlCharacter,
    /// The offset is the object's.
    #[error("an object that holds one name twice")]
    DuplicateName,
    #[error("nested more than 64 deep")]
    TooDeep,
    #[error("more than 65,536 values in one event")]
    TooManyValues,
    #[error("unexpected text after the value")]
    TrailingText,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    /// The number's text as written.
    Number(&'a str),
    Text(Cow<'a, str>),
    Array,
    Object,
}

#[derive(Clone, Debug)]
struct Node<'a> {
    key: Cow<'a, str>,
    value: Value<'a>,
    next: u32,
}

/// One value and all it holds. Reused from value to value, so that reading allocates only for escapes.
#[derive(Debug, Default)]
pub struct Tape<'a> {
    nodes: Vec<Node<'a>>,
    names: Vec<u32>,
}

impl<'a> Tape<'a> {
    /// The outermost value.
    ///
    /// # Panics
    /// If nothing was scanned into this tape yet.
    pub fn root(&self) -> Item<'_, 'a> {
        Item { nodes: &self.nodes, at: 0 }
    }

    fn push(&mut self, key: Cow<'a, str>, value: Value<'a>) -> usize {
        self.nodes.push(Node { key, value, next: 0 });
        self.nodes.len() - 1
    }

    fn close(&mut self, at: usize) {
        self.nodes[at].next = self.nodes.len() as u32;
    }

    /// True if two members of the object at `object` have one name.
    fn has_duplicates(&mut self, object: usize, members: usize) -> bool {
        if members > PAIRWISE_MAX {
            return self.has_duplicates_sorted(object);
        }
        let nodes = &self.nodes;
        let mut seen = 0u64;
        let mut at = object + 1;
        while at < nodes.len() {
            let key = nodes[at].key.as_ref();
            let bit = name_bit(key.as_bytes());
            if seen & bit != 0 && siblings(nodes, object + 1, at).any(|other| nodes[other].key == key) {
                return true;
            }
            seen |= bit;
            at = nodes[at].next as usize;
        }
        false
    }

    fn has_duplicates_sorted(&mut self, object: usize) -> bool {
        let Self { nodes, names } = self;
        names.clear();
        names.extend(siblings(nodes, object + 1, nodes.len()).map(|at| at as u32));
        names.sort_unstable_by(|&a, &b| nodes[a as usize].key.cmp(&nodes[b as usize].key));
        names.windows(2).any(|pair| nodes[pair[0] as usize].key == nodes[pair[1] as usize].key)
    }
}

/// A bit that names which differ mostly do not share.
fn name_bit(name: &[u8]) -> u64 {
    let (first, last) = (name.first().copied().unwrap_or(0), name.last().copied().unwrap_or(0));
    let mixed = u32::from(first) * 7 + u32::from(last) * 13 + name.len() as u32 * 29;
    1 << (mixed & 63)
}

/// The nodes that follow each other on one level, from `first` up to `end`.
fn siblings<'t>(nodes: &'t [Node<'_>], first: usize, end: usize) -> impl Iterator<Item = usize> + 't {
    let mut next = first;
    std::iter::from_fn(move || {
        let at = next;
        (at < end).then(|| {
            next = nodes[at].next as usize;
            at
        })
    })
}

/// A value on a tape.
#[derive(Clone, Copy, Debug)]
pub struct Item<'t, 'a> {
    nodes: &'t [Node<'a>],
    at: usize,
}

impl<'t, 'a> Item<'t, 'a> {
    pub fn key(self) -> &'t Cow<'a, str> {
        &self.nodes[self.at].key
    }

    pub fn value(self) -> &'t Value<'a> {
        &self.nodes[self.at].value
    }

    pub fn is_object(self) -> bool {
        matches!(self.value(), Value::Object)
    }

    pub fn is_null(self) -> bool {
        matches!(self.value(), Value::Null)
    }

    /// An object's members or an array's elements, in the order they were written; nothing for other values.
    pub fn children(self) -> impl Iterator<Item = Item<'t, 'a>> {
        let end = self.nodes[self.at].next as usize;
        siblings(self.nodes, self.at + 1, end).map(move |at| Item { nodes: self.nodes, at })
    }

    /// An object's member of this name.
    pub fn member(self, name: &str) -> Option<Item<'t, 'a>> {
        if self.is_object() { self.children().find(|child| child.key().as_ref() == name) } else { None }
    }
}

/// Reads values off a text, one after the other.
#[derive(Debug)]
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Bytes read so far.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// The next byte that is not white space, without taking it.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Takes the byte that [`Self::peek`] showed.
    pub fn bump(&mut self) {
        self.at += 1;
    }

    /// Scans one value, `depth` containers deep, into `tape`, and returns its text.
    pub fn value(&mut self, tape: &mut Tape<'a>, depth: usize) -> Result<&'a str, JsonError> {
        tape.nodes.clear();
        let _ = self.peek();
        let start = self.at;
        self.node(tape, Cow::Borrowed(""), depth)?;
        Ok(&self.text[start..self.at])
    }

    /// Refuses anything but white space from here on.
    pub fn end(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.fault(Fault::TrailingText)),
        }
    }

    pub fn fault(&self, fault: Fault) -> JsonError {
        let fault = if self.at >= self.text.len() { Fault::UnexpectedEnd } else { fault };
        JsonError { offset: self.at.min(self.text.len()), fault }
    }

    fn node(&mut self, tape: &mut Tape<'a>, key: Cow<'a, str>, depth: usize) -> Result<(), JsonError> {
        if tape.nodes.len() == VALUES_MAX {
            return Err(self.fault(Fault::TooManyValues));
        }
        let value = match self.peek() {
            Some(b'"') => Value::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => Value::Number(self.number()?),
            Some(b'{') => return self.object(tape, key, depth + 1),
            Some(b'[') => return self.array(tape, key, depth + 1),
            Some(b'n') => self.word("null", Value::Null)?,
            Some(b't') => self.word("true", Value::Bool(true))?,
            Some(b'f') => self.word("false", Value::Bool(false))?,
            _ => return Err(self.fault(Fault::ExpectedValue)),
        };
        let at = tape.push(key, value);
        tape.close(at);
        Ok(())
    }

    fn object(&mut self, tape: &mut Tape<'a>, key: Cow<'a, str>, depth: usize) -> Result<(), JsonError> {
        let start = self.at;
        self.enter(depth)?;
        let object = tape.push(key, Value::Object);
        let mut members = 0;
        if self.peek() == Some(b'}') {
            self.bump();
            tape.close(object);
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.fault(Fault::ExpectedName));
            }
            let name = self.string()?;
            if self.peek() != Some(b':') {
                return Err(self.fault(Fault::ExpectedColon));
            }
            self.bump();
            self.node(tape, name, depth)?;
            members += 1;
            match self.peek() {
                Some(b',') => self.bump(),
                Some(b'}') => break,
                _ => return Err(self.fault(Fault::ExpectedComma)),
            }
        }
        self.bump();
        if tape.has_duplicates(object, members) {
            return Err(JsonError { offset: start, fault: Fault::DuplicateName });
        }
        tape.close(object);
        Ok(())
    }

    fn array(&mut self, tape: &mut Tape<'a>, key: Cow<'a, str>, depth: usize) -> Result<(), JsonError> {
        self.enter(depth)?;
        let array = tape.push(key, Value::Array);
        if self.peek() == Some(b']') {
            self.bump();
            tape.close(array);
            return Ok(());
        }
        loop {
            self.node(tape, Cow::Borrowed(""), depth)?;
            match self.peek() {
                Some(b',') => self.bump(),
                Some(b']') => break,
                _ => return Err(self.fault(Fault::ExpectedComma)),
            }
        }
        self.bump();
        tape.close(array);
        Ok(())
    }

    fn enter(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth > DEPTH_MAX {
            return Err(self.fault(Fault::TooDeep));
        }
        self.bump();
        Ok(())
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, JsonError> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.fault(Fault::ExpectedValue));
        }
        self.at += word.len();
        Ok(value)
    }

    fn number(&mut self) -> Result<&'a str, JsonError> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        if bytes[self.at] == b'-' {
            self.at += 1;
        }
        match bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = bytes.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = bytes.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        if let Some(b'0'..=b'9') = bytes.get(self.at) {
            return Err(self.fault(Fault::BadNumber));
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let rest = &self.text.as_bytes()[self.at..];
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { Err(self.fault(Fault::BadNumber)) } else { Ok(()) }
    }

    /// Takes a string, its opening quote being next.
    #[inline]
    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        let start = self.at + 1;
        let (end, stop) = text::find_stop(self.text.as_bytes(), start);
        self.at = end;
        match stop {
            Stop::Quote => {
                self.at += 1;
                Ok(Cow::Borrowed(&self.text[start..end]))
            }
            Stop::Backslash => self.escaped_string(start).map(Cow::Owned),
            Stop::Control => Err(self.fault(Fault::ControlCharacter)),
            Stop::End => Err(self.fault(Fault::UnexpectedEnd)),
        }
    }

    #[cold]
    fn escaped_string(&mut self, start: usize) -> Result<String, JsonError> {
        let mut out = String::new();
        let mut from = start;
        loop {
            let (end, stop) = text::find_stop(self.text.as_bytes(), self.at);
            self.at = end;
            match stop {
                Stop::Quote => {
                    out.push_str(&self.text[from..end]);
                    self.at += 1;
                    return Ok(out);
                }
                Stop::Backslash => {
                    out.push_str(&self.text[from..end]);
                    let rest = &self.text.as_bytes()[end..];
                    let (character, length) = text::unescape(rest).ok_or_else(|| self.fault(Fault::BadEscape))?;
                    out.push(character);
                    self.at += length;
                    from = self.at;
                }
                Stop::Control => return Err(self.fault(Fault::ControlCharacter)),
                Stop::End => return Err(self.fault(Fault::UnexpectedEnd)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
