//! The ids of a request's events, by their place in the body, so that an answer can name events without a copy of each.

use std::borrow::Cow;

use crate::http::ingest::json::{Item, Value};
use crate::model::id::NAME_BYTES_MAX;

/// One place per event, in order.
#[derive(Debug, Default)]
pub struct Ids {
    places: Vec<Place>,
    /// Ids that were written with escapes.
    unescaped: Vec<Box<str>>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// No id, or none that can be one.
    None,
    Body {
        start: u32,
        len: u16,
    },
    Unescaped(u32),
}

impl Ids {
    pub fn with_capacity(events: usize) -> Self {
        Self { places: Vec::with_capacity(events), unescaped: Vec::new() }
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

    fn keep(&mut self, text: &str) -> Place {
        self.unescaped.push(text.into());
        Place::Unescaped(self.unescaped.len() as u32 - 1)
    }

    /// The id of the event at `index`, if it had one.
    pub fn get<'a>(&'a self, body: &'a str, index: usize) -> Option<&'a str> {
        match *self.places.get(index)? {
            Place::None => None,
            Place::Body { start, len } => body.get(start as usize..start as usize + usize::from(len)),
            Place::Unescaped(at) => self.unescaped.get(at as usize).map(AsRef::as_ref),
        }
    }

    /// How many events have a place here.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.places.len()
    }
}

/// Where in `body` a text lies that was borrowed from it.
fn place_in(body: &str, text: &str) -> Option<Place> {
    let start = text.as_ptr().addr().checked_sub(body.as_ptr().addr())?;
    (body.get(start..start + text.len()) == Some(text)).then_some(())?;
    Some(Place::Body { start: u32::try_from(start).ok()?, len: text.len() as u16 })
}
