//! Where events lie in a frame, and as much of them as an index holds: for those who come back for them later.
//!
//! 1. What is skimmed is read exactly as [`EventRecord`](super::EventRecord) reads it, only less of it.
//! 2. Records of other kinds are passed by their lengths; each takes one seq.

use super::bytes::Cursor;
use super::events::{read_backfilled, read_events};
use super::{Events, HEADER_BYTES, Kind, Record, RecordError};
use crate::model::{Timestamp, Window};

/// An Events record of a frame.
pub struct EventsAt<'a> {
    /// Its first event's place among the frame's seqs.
    pub first: u64,
    /// Where it begins in the payload.
    pub offset: usize,
    /// From there to its first event.
    pub header_bytes: usize,
    pub events: Events<'a>,
}

/// What an index needs of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skim<'a> {
    pub timestamp: Timestamp,
    pub customer: &'a [u8],
    /// Of its first feed.
    pub window: Option<Window>,
    /// One bit per meter that it feeds: the meter's number modulo 64.
    pub meters: u64,
}

/// The Events records of a frame, in order.
pub fn events_at(payload: &[u8]) -> impl Iterator<Item = Result<EventsAt<'_>, RecordError>> {
    let (mut at, mut seqs) = (0, 0);
    std::iter::from_fn(move || {
        while at < payload.len() {
            let Some((kind, body)) = split_record(payload, at) else {
                let error = RecordError::CutShort(at);
                at = payload.len();
                return Some(Err(error));
            };
            let (offset, first) = (at, seqs);
            at += HEADER_BYTES + body.len();
            if !holds_events(kind) {
                seqs += 1;
                continue;
            }
            let Some(events) = read_kind(kind, body) else {
                at = payload.len();
                return Some(Err(RecordError::Malformed(offset)));
            };
            seqs += u64::from(events.count);
            let header_bytes = at - offset - events.bytes.len();
            return Some(Ok(EventsAt { first, offset, header_bytes, events }));
        }
        None
    })
}

/// Reads an Events record of which only the part before its events is there.
pub fn read_events_header(bytes: &[u8]) -> Option<Events<'_>> {
    let body = bytes.get(HEADER_BYTES..).filter(|_| holds_events(bytes[0]))?;
    read_kind(bytes[0], body).filter(|events| events.bytes.is_empty())
}

fn holds_events(kind: u8) -> bool {
    kind == Kind::Events as u8 || kind == Kind::BackfilledEvents as u8
}

fn read_kind(kind: u8, body: &[u8]) -> Option<Events<'_>> {
    let mut cursor = Cursor(body);
    let read = if kind == Kind::Events as u8 { read_events } else { read_backfilled };
    match read(&mut cursor)? {
        Record::Events(events) => Some(events),
        _ => None,
    }
}

fn split_record(payload: &[u8], at: usize) -> Option<(u8, &[u8])> {
    let mut cursor = Cursor(payload.get(at..)?);
    let (kind, len) = (cursor.u8()?, cursor.u32()?);
    Some((kind, cursor.bytes(len as usize)?))
}

impl<'a> Events<'a> {
    /// Each event's bytes, as [`EventRecord::read`](super::EventRecord::read) and [`Skim::read`] take them: exactly
    /// `count`, or an error and the end.
    pub fn slices(&self) -> impl Iterator<Item = Result<&'a [u8], RecordError>> + use<'a> {
        let (mut rest, mut left, total) = (self.bytes, self.count, self.bytes.len());
        std::iter::from_fn(move || {
            if left == 0 && rest.is_empty() {
                return None;
            }
            let at = total - rest.len();
            let split = rest.first_chunk().and_then(|len| rest.split_at_checked(4 + u32::from_le_bytes(*len) as usize));
            match split.filter(|_| left > 0) {
                Some((event, after)) => {
                    (rest, left) = (after, left - 1);
                    Some(Ok(event))
                }
                None => {
                    (rest, left) = (&[], 0);
                    Some(Err(RecordError::Malformed(at)))
                }
            }
        })
    }
}

impl<'a> Skim<'a> {
    pub fn read(event: &'a [u8]) -> Option<Self> {
        // Length, key, fingerprint.
        let mut cursor = Cursor(event.get(4 + 16 + 4..)?);
        let (timestamp, customer) = (cursor.time()?, cursor.sized()?);
        let raw_bytes = cursor.u32()? as usize;
        cursor.bytes(raw_bytes)?;
        let (mut window, mut meters) = (None, 0);
        for _ in 0..cursor.u8()? {
            meters |= 1 << (cursor.u16()? % 64);
            cursor.u8()?;
            let bounds = cursor.window()?;
            window = window.or(Some(bounds));
            skip_rest_of_feed(&mut cursor)?;
        }
        cursor.0.is_empty().then_some(Self { timestamp, customer, window, meters })
    }
}

/// Period, value and dimensions.
fn skip_rest_of_feed(cursor: &mut Cursor<'_>) -> Option<()> {
    cursor.bytes(4 + 1 + size_of::<u128>())?;
    for _ in 0..cursor.u8()? {
        match cursor.u16()? {
            super::bytes::NOT_GIVEN => {}
            len => drop(cursor.bytes(usize::from(len))?),
        }
    }
    Some(())
}

#[cfg(test)]
mod tests;
