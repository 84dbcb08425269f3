//! Where a reader hands events: the engine's batch builder, or a test that writes them down.

use std::sync::Arc;

use crate::engine::{BatchBuilder, Hasher, NewEvent};
use crate::meter::{Meters, Value};
use crate::model::{Code, Timestamp};

/// Takes a request's events, in order, each either pushed or rejected.
pub trait Sink {
    fn meters(&self) -> Arc<Meters>;
    fn hasher(&self) -> Hasher;
    /// When the request came: the time of events that name none.
    fn received_at(&self) -> Timestamp;
    /// Whether events may come without an id, if their meters allow it.
    fn derives_ids(&self) -> bool {
        true
    }
    /// What a `unique` meter counts of a text.
    fn member(&self, text: &str) -> Value;
    /// Makes room for so many events of so many bytes altogether.
    fn reserve(&mut self, events: usize, bytes: usize);
    fn push(&mut self, event: &NewEvent<'_>);
    fn reject(&mut self, code: Code, detail: Box<str>);
}

impl Sink for BatchBuilder {
    fn meters(&self) -> Arc<Meters> {
        BatchBuilder::meters(self)
    }

    fn hasher(&self) -> Hasher {
        BatchBuilder::hasher(self)
    }

    fn received_at(&self) -> Timestamp {
        BatchBuilder::received_at(self)
    }

    fn member(&self, text: &str) -> Value {
        BatchBuilder::member(self, text)
    }

    fn reserve(&mut self, events: usize, bytes: usize) {
        BatchBuilder::reserve(self, events, bytes);
    }

    fn push(&mut self, event: &NewEvent<'_>) {
        BatchBuilder::push(self, event);
    }

    fn reject(&mut self, code: Code, detail: Box<str>) {
        BatchBuilder::reject(self, code, detail);
    }
}
