//! What the log says: records to bytes and back. Pure: no I/O, no clock.
//!
//! A frame's payload is records, back to back. All integers are little-endian; texts are a u16 length and UTF-8.
//!
//! | record | kind u8, body length u32, then the body |
//! | --- | --- |
//! | 1 Genesis | format u16 · store id u128 · dedupe key 16 bytes · incarnation u32 · created_at i64 |
//! | 2 MeterVersion | meter u16 · definition as JSON |
//! | 3 Events | tenant text · received_at i64 · count u32 · events |
//! | 4 Tick | effective time i64 · dedupe horizon u64 |
//! | 5 Tally | tenant text · duplicate u64 · conflict u64 · rejected u64 · capped u64 |
//!
//! | event | |
//! | --- | --- |
//! | length | u32, of what follows |
//! | key, fingerprint, timestamp | u128, u32, i64 |
//! | customer | text |
//! | raw | u32 length, the event as it was sent |
//! | feeds | count u8, then each: meter u16 · window start i64 · window end i64 · value · dimensions |
//! | value | tag u8 (0 quantity, 1 member), i128 or u128 |
//! | dimensions | count u8, then each: text, or length 0xFFFF for a value that was not given |
//!
//! 1. Every event of an Events record takes one seq, any other record takes one. Times are µs since 1970.
//! 2. An event says what was *decided*: its windows' bounds and its values, so that a fold needs no config and no time zones.
//! 3. A record that does not decode exactly is corruption, never skipped.

use std::ops::Range;

use crate::meter::{Definition, Value};
use crate::model::{EventKey, Fingerprint, Incarnation, MeterId, Quantity, Timestamp, Window};

/// The version of this format that `Genesis` carries.
pub const FORMAT: u16 = 1;
const NOT_GIVEN: u16 = u16::MAX;
const HEADER_BYTES: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Genesis = 1,
    MeterVersion = 2,
    Events = 3,
    Tick = 4,
    Tally = 5,
}

/// The first record of every log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Genesis {
    pub store_id: u128,
    /// Keys the hashes of ids, fingerprints and members. Not a secret towards the operator, but never printed.
    pub dedupe_key: [u8; 16],
    pub incarnation: Incarnation,
    pub created_at: Timestamp,
}

impl std::fmt::Debug for Genesis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Genesis({:032x}, incarnation {})", self.store_id, self.incarnation.0)
    }
}

/// Events of one request that were taken together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events<'a> {
    pub tenant: &'a str,
    pub received_at: Timestamp,
    pub count: u32,
    /// The events' bytes; read them with [`Events::iter`].
    bytes: &'a [u8],
}

/// How many events were *not* taken since the last tally, for the conservation law.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub duplicate: u64,
    pub conflict: u64,
    pub rejected: u64,
    pub capped: u64,
}

impl Tally {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub fn add(&mut self, other: &Tally) {
        self.duplicate += other.duplicate;
        self.conflict += other.conflict;
        self.rejected += other.rejected;
        self.capped += other.capped;
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Record<'a> {
    Genesis(Genesis),
    MeterVersion(MeterId, Box<Definition>),
    Events(Events<'a>),
    Tick { effective: Timestamp, horizon: crate::model::Seq },
    Tally { tenant: &'a str, tally: Tally },
}

impl Record<'_> {
    /// How many seqs the record takes.
    pub fn seqs(&self) -> u64 {
        match self {
            Record::Events(events) => u64::from(events.count),
            Record::Genesis(_) | Record::MeterVersion(..) | Record::Tick { .. } | Record::Tally { .. } => 1,
        }
    }
}

/// One accepted event, borrowed from the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord<'a> {
    pub key: EventKey,
    pub fingerprint: Fingerprint,
    pub timestamp: Timestamp,
    pub customer: &'a str,
    pub raw: &'a [u8],
    pub feeds: smallvec::SmallVec<[FeedRecord<'a>; 2]>,
}

/// What an event adds to one meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedRecord<'a> {
    pub meter: MeterId,
    pub window: Window,
    pub value: Value,
    pub dimensions: smallvec::SmallVec<[Option<&'a str>; 4]>,
}

/// A payload that does not say what a record must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("a record is cut short at byte {0} of its frame")]
    CutShort(usize),
    #[error("a record of unknown kind {kind} at byte {at} of its frame (written by a newer version?)")]
    UnknownKind { kind: u8, at: usize },
    #[error("a record at byte {0} of its frame does not decode")]
    Malformed(usize),
}

pub fn put_genesis(out: &mut Vec<u8>, genesis: &Genesis) {
    put_record(out, Kind::Genesis, |out| {
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&genesis.store_id.to_le_bytes());
        out.extend_from_slice(&genesis.dedupe_key);
        out.extend_from_slice(&genesis.incarnation.0.to_le_bytes());
        put_time(out, genesis.created_at);
    });
}

pub fn put_meter_version(out: &mut Vec<u8>, meter: MeterId, definition: &Definition) {
    let json = serde_json::to_vec(definition).expect("a definition holds only texts, numbers and lists");
    put_record(out, Kind::MeterVersion, |out| {
        out.extend_from_slice(&meter.0.to_le_bytes());
        out.extend_from_slice(&json);
    });
}

pub fn put_tick(out: &mut Vec<u8>, effective: Timestamp, horizon: crate::model::Seq) {
    put_record(out, Kind::Tick, |out| {
        put_time(out, effective);
        out.extend_from_slice(&horizon.0.to_le_bytes());
    });
}

pub fn put_tally(out: &mut Vec<u8>, tenant: &str, tally: &Tally) {
    put_record(out, Kind::Tally, |out| {
        put_text(out, tenant);
        for count in [tally.duplicate, tally.conflict, tally.rejected, tally.capped] {
            out.extend_from_slice(&count.to_le_bytes());
        }
    });
}

/// An Events record under construction: events that were encoded elsewhere are appended as they are accepted.
pub struct EventsWriter {
    record: usize,
    count_at: usize,
    count: u32,
}

impl EventsWriter {
    pub fn start(out: &mut Vec<u8>, tenant: &str, received_at: Timestamp) -> Self {
        let record = start_record(out, Kind::Events);
        put_text(out, tenant);
        put_time(out, received_at);
        let count_at = out.len();
        out.extend_from_slice(&0u32.to_le_bytes());
        Self { record, count_at, count: 0 }
    }

    /// Appends one event as [`EventEncoder`] wrote it.
    pub fn push(&mut self, out: &mut Vec<u8>, event: &[u8]) {
        out.extend_from_slice(event);
        self.count += 1;
    }

    /// Closes the record, or takes it back when it stayed empty.
    pub fn finish(self, out: &mut Vec<u8>) {
        if self.count == 0 {
            out.truncate(self.record);
            return;
        }
        out[self.count_at..self.count_at + 4].copy_from_slice(&self.count.to_le_bytes());
        finish_record(out, self.record);
    }
}

/// Encodes one event, feed by feed, at the end of a buffer.
pub struct EventEncoder<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    feeds_at: usize,
}

impl<'a> EventEncoder<'a> {
    pub fn start(
        out: &'a mut Vec<u8>,
        (key, fingerprint): (EventKey, Fingerprint),
        timestamp: Timestamp,
        customer: &str,
        raw: &[u8],
    ) -> Self {
        let start = out.len();
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&key.0.to_le_bytes());
        out.extend_from_slice(&fingerprint.0.to_le_bytes());
        put_time(out, timestamp);
        put_text(out, customer);
        out.extend_from_slice(&len_u32(raw.len()).to_le_bytes());
        out.extend_from_slice(raw);
        let feeds_at = out.len();
        out.push(0);
        Self { out, start, feeds_at }
    }

    pub fn feed<'d>(
        &mut self,
        meter: MeterId,
        window: Window,
        value: Value,
        dimensions: impl ExactSizeIterator<Item = Option<&'d str>>,
    ) {
        self.out[self.feeds_at] += 1;
        self.out.extend_from_slice(&meter.0.to_le_bytes());
        put_time(self.out, window.start);
        put_time(self.out, window.end);
        match value {
            Value::Quantity(quantity) => {
                self.out.push(0);
                self.out.extend_from_slice(&quantity.scaled().to_le_bytes());
            }
            Value::Member(member) => {
                self.out.push(1);
                self.out.extend_from_slice(&member.to_le_bytes());
            }
        }
        self.out.push(dimensions.len() as u8);
        for value in dimensions {
            match value {
                Some(text) => put_text(self.out, text),
                None => self.out.extend_from_slice(&NOT_GIVEN.to_le_bytes()),
            }
        }
    }

    /// Where the event's bytes are.
    pub fn finish(self) -> Range<usize> {
        let len = len_u32(self.out.len() - self.start - 4);
        self.out[self.start..self.start + 4].copy_from_slice(&len.to_le_bytes());
        self.start..self.out.len()
    }
}

/// Reads the records of one frame, in order.
pub fn records(payload: &[u8]) -> impl Iterator<Item = Result<Record<'_>, RecordError>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at == payload.len() {
            return None;
        }
        let record = read_record(payload, at);
        at = match &record {
            Ok((_, next)) => *next,
            Err(_) => payload.len(),
        };
        Some(record.map(|(record, _)| record))
    })
}

fn read_record(payload: &[u8], at: usize) -> Result<(Record<'_>, usize), RecordError> {
    let header = payload.get(at..at + HEADER_BYTES).ok_or(RecordError::CutShort(at))?;
    let len = u32::from_le_bytes([header[1], header[2], header[3], header[4]]) as usize;
    let end = at + HEADER_BYTES + len;
    let body = payload.get(at + HEADER_BYTES..end).ok_or(RecordError::CutShort(at))?;
    let mut cursor = Cursor(body);
    let record = match header[0] {
        1 => read_genesis(&mut cursor),
        2 => read_meter_version(&mut cursor),
        3 => read_events(&mut cursor),
        4 => read_tick(&mut cursor),
        5 => read_tally(&mut cursor),
        kind => return Err(RecordError::UnknownKind { kind, at }),
    };
    match record {
        Some(record) if cursor.0.is_empty() => Ok((record, end)),
        _ => Err(RecordError::Malformed(at)),
    }
}

fn read_genesis<'a>(cursor: &mut Cursor<'a>) -> Option<Record<'a>> {
    let format = u16::from_le_bytes(cursor.take()?);
    let genesis = Genesis {
        store_id: u128::from_le_bytes(cursor.take()?),
        dedupe_key: cursor.take()?,
        incarnation: Incarnation(u32::from_le_bytes(cursor.take()?)),
        created_at: cursor.time()?,
    };
    (format == FORMAT).then_some(Record::Genesis(genesis))
}

fn read_meter_version<'a>(cursor: &mut Cursor<'a>) -> Option<Record<'a>> {
    let meter = MeterId(u16::from_le_bytes(cursor.take()?));
    let definition = serde_json::from_slice(std::mem::take(&mut cursor.0)).ok()?;
    Some(Record::MeterVersion(meter, Box::new(definition)))
}

fn read_events<'a>(cursor: &mut Cursor<'a>) -> Option<Record<'a>> {
    let (tenant, received_at) = (cursor.text()??, cursor.time()?);
    let count = u32::from_le_bytes(cursor.take()?);
    let bytes = std::mem::take(&mut cursor.0);
    Some(Record::Events(Events { tenant, received_at, count, bytes }))
}

fn read_tick<'a>(cursor: &mut Cursor<'a>) -> Option<Record<'a>> {
    let effective = cursor.time()?;
    Some(Record::Tick { effective, horizon: crate::model::Seq(u64::from_le_bytes(cursor.take()?)) })
}

fn read_tally<'a>(cursor: &mut Cursor<'a>) -> Option<Record<'a>> {
    let tenant = cursor.text()??;
    let mut count = || Some(u64::from_le_bytes(cursor.take()?));
    let tally = Tally { duplicate: count()?, conflict: count()?, rejected: count()?, capped: count()? };
    Some(Record::Tally { tenant, tally })
}

impl<'a> Events<'a> {
    /// Exactly `count` events, in order, or an error and the end.
    pub fn iter(&self) -> impl Iterator<Item = Result<EventRecord<'a>, RecordError>> + use<'a> {
        let (total, mut left) = (self.bytes.len(), self.count);
        let mut cursor = Cursor(self.bytes);
        std::iter::from_fn(move || {
            if left == 0 && cursor.0.is_empty() {
                return None;
            }
            let at = total - cursor.0.len();
            let event = if left == 0 { None } else { read_event(&mut cursor) };
            left = left.saturating_sub(1);
            if event.is_none() {
                (left, cursor.0) = (0, &[]);
            }
            Some(event.ok_or(RecordError::Malformed(at)))
        })
    }
}

fn read_event<'a>(cursor: &mut Cursor<'a>) -> Option<EventRecord<'a>> {
    let len = u32::from_le_bytes(cursor.take()?) as usize;
    let mut body = Cursor(cursor.bytes(len)?);
    let mut event = EventRecord {
        key: EventKey(u128::from_le_bytes(body.take()?)),
        fingerprint: Fingerprint(u32::from_le_bytes(body.take()?)),
        timestamp: body.time()?,
        customer: body.text()??,
        raw: {
            let len = u32::from_le_bytes(body.take()?) as usize;
            body.bytes(len)?
        },
        feeds: smallvec::SmallVec::new(),
    };
    for _ in 0..body.take::<1>()?[0] {
        event.feeds.push(read_feed(&mut body)?);
    }
    body.0.is_empty().then_some(event)
}

fn read_feed<'a>(body: &mut Cursor<'a>) -> Option<FeedRecord<'a>> {
    let meter = MeterId(u16::from_le_bytes(body.take()?));
    let window = Window { start: body.time()?, end: body.time()? };
    let value = match body.take()? {
        [0] => Value::Quantity(Quantity::from_scaled(i128::from_le_bytes(body.take()?))),
        [1] => Value::Member(u128::from_le_bytes(body.take()?)),
        _ => return None,
    };
    let [count] = body.take()?;
    let dimensions = (0..count).map(|_| body.text()).collect::<Option<_>>()?;
    Some(FeedRecord { meter, window, value, dimensions })
}

fn start_record(out: &mut Vec<u8>, kind: Kind) -> usize {
    let start = out.len();
    out.push(kind as u8);
    out.extend_from_slice(&0u32.to_le_bytes());
    start
}

fn finish_record(out: &mut [u8], start: usize) {
    let len = len_u32(out.len() - start - HEADER_BYTES);
    out[start + 1..start + HEADER_BYTES].copy_from_slice(&len.to_le_bytes());
}

fn put_record(out: &mut Vec<u8>, kind: Kind, body: impl FnOnce(&mut Vec<u8>)) {
    let start = start_record(out, kind);
    body(out);
    finish_record(out, start);
}

fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    out.extend_from_slice(&time.micros().to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    debug_assert!(text.len() < usize::from(NOT_GIVEN), "names are bounded at the door");
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn len_u32(len: usize) -> u32 {
    u32::try_from(len).expect("bodies are capped far below 4 GiB")
}

/// Takes values off the front of a slice; `None` at the first that is not whole.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn time(&mut self) -> Option<Timestamp> {
        Timestamp::from_micros(i64::from_le_bytes(self.take()?)).ok()
    }

    /// `Some(None)`: a text that was not given.
    fn text(&mut self) -> Option<Option<&'a str>> {
        let len = u16::from_le_bytes(self.take()?);
        if len == NOT_GIVEN {
            return Some(None);
        }
        std::str::from_utf8(self.bytes(usize::from(len))?).ok().map(Some)
    }
}

#[cfg(test)]
mod tests;
