//! The ids of a request's events, by their place in the body, so that an answer can name events without a copy of each.

use std::borrow::Cow;
use std::fmt::{Display, Write};

use crate::http::ingest::json::{Item, Value};
use crate::model::id::NAME_BYTES_MAX;

/// One place per event, in order.
#[derive(Debug, Default)]
pub struct Ids {
    places: Vec<Place>,
    /// Ids that were written with escapes, and derived ones, one after the other.
    kept: String,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// No id, or none that can be one.
    None,
    Body {
        start: u32,
        len: u16,
    },
    Kept {
        start: u32,
        len: u16,
    },
}

impl Ids {
    pub fn with_capacity(events: usize) -> Self {
        Self { places: Vec::with_capacity(events), kept: String::new() }
    }

    /// Notes the next event's id, which lies in `body`.
    pub fn push(&mut self, body: &str, id: Option<Item<'_, '_>>) {
        let place = match id.map(Item::value) {
            Some(Value::Text(text)) if text.len() > NAME_BYTES_MAX => Place::None,
            Some(Value::Text(Cow::Borrowed(text))) => place_in(body, text).unwrap_or_else(|| self.keep(text)),
            Some(Value::Text(Cow::Owned(text))) => self.keep(text),
            _ => Place::None,
        };
        self.places.push(place);
    }

    /// The last event came without an id: this is what it is called.
    pub fn derived(&mut self, id: impl Display) -> &str {
        let start = self.kept.len();
        write!(self.kept, "{id}").expect("a String takes what it is given");
        if let Some(last) = self.places.last_mut() {
            *last = kept_at(start, self.kept.len());
        }
        &self.kept[start..]
    }

    fn keep(&mut self, text: &str) -> Place {
        let start = self.kept.len();
        self.kept.push_str(text);
        kept_at(start, self.kept.len())
    }

    /// The id of the event at `index`, if it had one.
    pub fn get<'a>(&'a self, body: &'a str, index: usize) -> Option<&'a str> {
        match *self.places.get(index)? {
            Place::None => None,
            Place::Body { start, len } => body.get(start as usize..start as usize + usize::from(len)),
            Place::Kept { start, len } => self.kept.get(start as usize..start as usize + usize::from(len)),
        }
    }

    /// How many events have a place here.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.places.len()
    }
}

/// No request has ids of 4 GiB.
fn kept_at(start: usize, end: usize) -> Place {
    u32::try_from(start).map_or(Place::None, |at| Place::Kept { start: at, len: (end - start) as u16 })
}

/// Where in `body` a text lies that was borrowed from it.
fn place_in(body: &str, text: &str) -> Option<Place> {
    let start = text.as_ptr().addr().checked_sub(body.as_ptr().addr())?;
    (body.get(start..start + text.len()) == Some(text)).then_some(())?;
    Some(Place::Body { start: u32::try_from(start).ok()?, len: text.len() as u16 })
}
