//! What the log says: records to bytes and back. Pure: no I/O, no clock.
//!
//! A frame's payload is records, back to back. All integers are little-endian; texts are a u16 length and UTF-8.
//!
//! | record | kind u8, body length u32, then the body |
//! | --- | --- |
//! | 1 Genesis | format u16 · store id u128 · dedupe key 16 bytes · incarnation u32 · created_at i64 |
//! | 2 MeterVersion | meter u16 · definition as JSON |
//! | 3 Events | tenant text · received_at i64 · count u32 · periods · events |
//! | 4 Tick | effective time i64 · dedupe horizon u64 |
//! | 5 Tally | tenant text · duplicate u64 · conflict u64 · rejected u64 · capped u64 |
//! | 6 Closed | kind u8 (0 windows, 1 billing periods) · meter u16 · start i64 · end i64 · count u32, then each: series name (u16 length, bytes) |
//! | 7 CustomerChanged | tenant text · customer text · settings as JSON |
//! | 8 ClockReset | effective time i64 · reason text |
//! | 9 Incarnation | incarnation u32 · reason text |
//! | 10–18 | of sinks and deliveries: see [`delivery`] |
//! | 19–25 | of caps, alerts and reservations: see [`caps`] |
//! | 26–31 | of what is taken back, of backfills, of who changed what: see [`corrections`] |
//!
//! Periods: count u32, then each: name text (`2026-11`) · start i64 · end i64.
//!
//! | event | |
//! | --- | --- |
//! | length | u32, of what follows |
//! | key, fingerprint, timestamp | u128, u32, i64 |
//! | customer | text |
//! | raw | u32 length, the event as it was sent |
//! | feeds | count u8, then each: meter u16 · late u8 · window start i64 · window end i64 · period u32 · value · dimensions |
//! | value | tag u8 (0 quantity, 1 member), i128 or u128 |
//! | dimensions | count u8, then each: text, or length 0xFFFF for a value that was not given |
//!
//! 1. Every event of an Events record takes one seq, any other record takes one. Times are µs since 1970.
//! 2. An event says what was *decided*: its windows' and periods' bounds, its values, and whether it came too late for its
//!    window. So a fold needs no config and no time zones.
//! 3. Effective time moves by Tick and ClockReset alone; what is closed is named one by one.
//! 4. A record that does not decode exactly is corruption, never skipped.

use crate::meter::{Customer, Definition};
use crate::model::{Incarnation, MeterId, Seq, Timestamp, Window};

pub mod bytes;
pub mod caps;
pub mod corrections;
pub mod delivery;
mod events;
mod located;

use bytes::{Cursor, len_u32, put_bytes, put_text, put_time, put_window};
pub use caps::CapsRecord;
pub use corrections::{CorrectionRecord, put_correction};
pub use delivery::{AttemptRecord, DeliveryRecord, SinkRecord, put_delivery, put_sink};
pub use events::{EventEncoder, EventRecord, Events, EventsWriter, FeedRecord};
pub use located::{EventsAt, Skim, events_at, read_events_header};

/// The version of this format that `Genesis` carries.
pub const FORMAT: u16 = 2;
const HEADER_BYTES: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Genesis = 1,
    MeterVersion = 2,
    Events = 3,
    Tick = 4,
    Tally = 5,
    Closed = 6,
    CustomerChanged = 7,
    ClockReset = 8,
    Incarnation = 9,
    SinkDefined = 10,
    SinkPaused = 11,
    SinkResumed = 12,
    SinkForgotten = 13,
    DeliveryPlanned = 14,
    AttemptFailed = 15,
    Delivered = 16,
    DeadLettered = 17,
    ReplayRequested = 18,
    CapsDefined = 19,
    CustomerCapsChanged = 20,
    AlertRaised = 21,
    AlertRecovered = 22,
    ReservationHeld = 23,
    ReservationCommitted = 24,
    ReservationReleased = 25,
    BackfilledEvents = 26,
    Retracted = 27,
    BackfillOpened = 28,
    BackfillReverting = 29,
    BackfillReverted = 30,
    OperatorAction = 31,
}

/// What a Closed record closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClosedKind {
    Windows,
    Periods,
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
    Tick {
        effective: Timestamp,
        horizon: Seq,
    },
    Tally {
        tenant: &'a str,
        tally: Tally,
    },
    Closed(Closed<'a>),
    CustomerChanged {
        tenant: &'a str,
        customer: &'a str,
        settings: Box<Customer>,
    },
    ClockReset {
        effective: Timestamp,
        reason: &'a str,
    },
    /// What is made final from here on is of this incarnation: the directory was restored or repaired.
    Incarnation {
        incarnation: Incarnation,
        reason: &'a str,
    },
    Sink(SinkRecord<'a>),
    Delivery(DeliveryRecord<'a>),
    Caps(CapsRecord<'a>),
    Correction(CorrectionRecord<'a>),
}

/// Windows, or billing periods, of one meter with the same bounds that are final from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed<'a> {
    pub kind: ClosedKind,
    pub meter: MeterId,
    pub bounds: Window,
    /// The series' names.
    pub series: Vec<&'a [u8]>,
}

impl Record<'_> {
    /// How many seqs the record takes.
    pub fn seqs(&self) -> u64 {
        match self {
            Record::Events(events) => u64::from(events.count),
            Record::Genesis(_) | Record::MeterVersion(..) | Record::Tick { .. } | Record::Tally { .. } => 1,
            Record::Closed(_) | Record::CustomerChanged { .. } | Record::ClockReset { .. } => 1,
            Record::Incarnation { .. } | Record::Sink(_) | Record::Delivery(_) => 1,
            Record::Caps(_) | Record::Correction(_) => 1,
        }
    }
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
    #[error("the journal's records have format {found}, this build reads {FORMAT}: it was written by another version")]
    Format { found: u16 },
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

pub fn put_tick(out: &mut Vec<u8>, effective: Timestamp, horizon: Seq) {
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

pub fn put_closed(out: &mut Vec<u8>, closed: &Closed<'_>) {
    put_record(out, Kind::Closed, |out| {
        out.push(closed.kind as u8);
        out.extend_from_slice(&closed.meter.0.to_le_bytes());
        put_window(out, closed.bounds);
        out.extend_from_slice(&len_u32(closed.series.len()).to_le_bytes());
        closed.series.iter().for_each(|name| put_bytes(out, name));
    });
}

pub fn put_customer_changed(out: &mut Vec<u8>, tenant: &str, customer: &str, settings: &Customer) {
    let json = serde_json::to_vec(settings).expect("settings hold only texts, numbers and lists");
    put_record(out, Kind::CustomerChanged, |out| {
        put_text(out, tenant);
        put_text(out, customer);
        out.extend_from_slice(&json);
    });
}

pub fn put_clock_reset(out: &mut Vec<u8>, effective: Timestamp, reason: &str) {
    put_record(out, Kind::ClockReset, |out| {
        put_time(out, effective);
        put_text(out, reason);
    });
}

pub fn put_incarnation(out: &mut Vec<u8>, incarnation: Incarnation, reason: &str) {
    put_record(out, Kind::Incarnation, |out| {
        out.extend_from_slice(&incarnation.0.to_le_bytes());
        put_text(out, reason);
    });
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
        1 if body.first_chunk().is_some_and(|format| u16::from_le_bytes(*format) != FORMAT) => {
            return Err(RecordError::Format { found: cursor.u16().unwrap_or_default() });
        }
        1 => read_genesis(&mut cursor),
        2 => read_meter_version(&mut cursor),
        3 => events::read_events(&mut cursor),
        4 => read_tick(&mut cursor),
        5 => read_tally(&mut cursor),
        6 => read_closed(&mut cursor),
        7 => read_customer_changed(&mut cursor),
        8 => read_clock_reset(&mut cursor),
        9 => read_incarnation(&mut cursor),
        10..=13 => delivery::read_sink(header[0], &mut cursor).map(Record::Sink),
        14..=18 => delivery::read_delivery(header[0], &mut cursor).map(Record::Delivery),
        19..=25 => caps::read_caps(header[0], &mut cursor).map(Record::Caps),
        26 => events::read_backfilled(&mut cursor),
        27..=31 => corrections::read_correction(header[0], &mut cursor).map(Record::Correction),
        kind => return Err(RecordError::UnknownKind { kind, at }),
    };
    match record {
        Some(record) if cursor.0.is_empty() => Ok((record, end)),
        _ => Err(RecordError::Malformed(at)),
    }
}

fn read_genesis<'a>(cursor: &mut Cursor<'a>) -> Option<Record<'a>> {
    let format = cursor.u16()?;
    let genesis = Genesis {
        store_id: cursor.u128()?,
        dedupe_key: cursor.take()?,
        incarnation: Incarnation(cursor.u32()?),
        created_at: cursor.time()?,
    };
    (format == FORMAT).then_some(Record::Genesis(genesis))
}

fn read_meter_version<'a>(cursor: &mut Cursor<'a>) -> Option<Record<'a>> {
    let meter = MeterId(cursor.u16()?);
    let definition = serde_json::from_slice(std::mem::take(&mut cursor.0)).ok()?;
    Some(Record::MeterVersion(meter, Box::new(definition)))
}

fn read_tick<'a>(cursor: &mut Cursor<'a>) -> Option<Record<'a>> {
    let effective = cursor.time()?;
    Some(Record::Tick { effective, horizon: Seq(cursor.u64()?) })
}

fn read_tally<'a>(cursor: &mut Cursor<'a>) -> Option<Record<'a>> {
    let tenant = cursor.text()??;
    let mut count = || cursor.u64();
    let tally = Tally { duplicate: count()?, conflict: count()?, rejected: count()?, capped: count()? };
    Some(Record::Tally { tenant, tally })
}

fn read_closed<'a>(cursor: &mut Cursor<'a>) -> Option<Record<'a>> {
    let kind = match cursor.take()? {
        [0] => ClosedKind::Windows,
        [1] => ClosedKind::Periods,
        _ => return None,
    };
    let (meter, bounds) = (MeterId(cursor.u16()?), cursor.window()?);
    let series = (0..cursor.u32()?).map(|_| cursor.sized()).collect::<Option<_>>()?;
    Some(Record::Closed(Closed { kind, meter, bounds, series }))
}

fn read_customer_changed<'a>(cursor: &mut Cursor<'a>) -> Option<Record<'a>> {
    let (tenant, customer) = (cursor.text()??, cursor.text()??);
    let settings = serde_json::from_slice(std::mem::take(&mut cursor.0)).ok()?;
    Some(Record::CustomerChanged { tenant, customer, settings: Box::new(settings) })
}

fn read_clock_reset<'a>(cursor: &mut Cursor<'a>) -> Option<Record<'a>> {
    Some(Record::ClockReset { effective: cursor.time()?, reason: cursor.text()?? })
}

fn read_incarnation<'a>(cursor: &mut Cursor<'a>) -> Option<Record<'a>> {
    Some(Record::Incarnation { incarnation: Incarnation(cursor.u32()?), reason: cursor.text()?? })
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

#[cfg(test)]
mod tests;
