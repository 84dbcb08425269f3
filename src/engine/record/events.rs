//! The Events record: the events of one request that were taken together, and the billing periods that they fall into.
//!
//! 1. An event that was encoded before it was decided is copied as it is; only its feeds' `late` bytes are set then.
//! 2. `late` is the decision that the feed's window was finalized, so that the feed is an adjustment.

use std::ops::Range;

use super::bytes::{Cursor, NOT_GIVEN, len_u32, put_text, put_time, put_window};
use super::{Kind, Record, RecordError, finish_record, start_record};
use crate::meter::{BillingPeriod, Value};
use crate::model::{EventKey, Fingerprint, MeterId, Quantity, Timestamp, Window};

/// Events of one request that were taken together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events<'a> {
    pub tenant: &'a str,
    pub received_at: Timestamp,
    pub count: u32,
    /// The load of history that they belong to.
    pub backfill: Option<u32>,
    /// The periods that feeds name by their place here.
    pub periods: Vec<BillingPeriod>,
    /// The events' bytes; read them with [`Events::iter`].
    pub(super) bytes: &'a [u8],
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
    pub late: bool,
    pub window: Window,
    /// Into `Events::periods`.
    pub period: u32,
    pub value: Value,
    pub dimensions: smallvec::SmallVec<[Option<&'a str>; 4]>,
}

/// An Events record under construction: events that were encoded elsewhere are appended as they are accepted.
#[derive(Clone, Copy)]
pub struct EventsWriter {
    record: usize,
    pub(super) count_at: usize,
    count: u32,
}

impl EventsWriter {
    pub fn start(
        out: &mut Vec<u8>,
        (tenant, backfill): (&str, Option<u32>),
        received_at: Timestamp,
        periods: &[BillingPeriod],
    ) -> Self {
        let record = start_record(out, if backfill.is_some() { Kind::BackfilledEvents } else { Kind::Events });
        backfill.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        put_text(out, tenant);
        put_time(out, received_at);
        let count_at = out.len();
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&len_u32(periods.len()).to_le_bytes());
        for period in periods {
            put_text(out, &period.label.to_string());
            put_window(out, period.bounds);
        }
        Self { record, count_at, count: 0 }
    }

    /// Appends one event as [`EventEncoder`] wrote it; `late` are the places in it that [`EventEncoder::feed`] answered
    /// with for those of its feeds that are adjustments.
    pub fn push(&mut self, out: &mut Vec<u8>, event: &[u8], late: impl Iterator<Item = u32>) {
        let start = out.len();
        out.extend_from_slice(event);
        for at in late {
            out[start + at as usize] = 1;
        }
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

    /// Adds a feed that is not late; answers with the place of its `late` byte in the event.
    pub fn feed<'d>(
        &mut self,
        meter: MeterId,
        (window, period): (Window, u32),
        value: Value,
        dimensions: impl ExactSizeIterator<Item = Option<&'d str>>,
    ) -> u32 {
        self.out[self.feeds_at] += 1;
        self.out.extend_from_slice(&meter.0.to_le_bytes());
        let late_at = len_u32(self.out.len() - self.start);
        self.out.push(0);
        put_window(self.out, window);
        self.out.extend_from_slice(&period.to_le_bytes());
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
        late_at
    }

    /// Where the event's bytes are.
    pub fn finish(self) -> Range<usize> {
        let len = len_u32(self.out.len() - self.start - 4);
        self.out[self.start..self.start + 4].copy_from_slice(&len.to_le_bytes());
        self.start..self.out.len()
    }
}

pub(super) fn read_backfilled<'a>(cursor: &mut Cursor<'a>) -> Option<Record<'a>> {
    let backfill = Some(cursor.u32()?);
    let Record::Events(events) = read_events(cursor)? else { return None };
    Some(Record::Events(Events { backfill, ..events }))
}

pub(super) fn read_events<'a>(cursor: &mut Cursor<'a>) -> Option<Record<'a>> {
    let (tenant, received_at) = (cursor.text()??, cursor.time()?);
    let count = cursor.u32()?;
    let periods = (0..cursor.u32()?).map(|_| read_period(cursor)).collect::<Option<_>>()?;
    let bytes = std::mem::take(&mut cursor.0);
    Some(Record::Events(Events { tenant, received_at, count, backfill: None, periods, bytes }))
}

fn read_period(cursor: &mut Cursor<'_>) -> Option<BillingPeriod> {
    let label = cursor.text()??.parse().ok()?;
    Some(BillingPeriod { label, bounds: cursor.window()? })
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

impl<'a> EventRecord<'a> {
    /// Reads an event as `EventEncoder` wrote it.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor(bytes);
        read_event(&mut cursor).filter(|_| cursor.0.is_empty())
    }
}

fn read_event<'a>(cursor: &mut Cursor<'a>) -> Option<EventRecord<'a>> {
    let len = cursor.u32()? as usize;
    let mut body = Cursor(cursor.bytes(len)?);
    let mut event = EventRecord {
        key: EventKey(body.u128()?),
        fingerprint: Fingerprint(body.u32()?),
        timestamp: body.time()?,
        customer: body.text()??,
        raw: {
            let len = body.u32()? as usize;
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
    let meter = MeterId(body.u16()?);
    let late = match body.take()? {
        [0] => false,
        [1] => true,
        _ => return None,
    };
    let (window, period) = (body.window()?, body.u32()?);
    let value = match body.take()? {
        [0] => Value::Quantity(Quantity::from_scaled(body.i128()?)),
        [1] => Value::Member(body.u128()?),
        _ => return None,
    };
    let [count] = body.take()?;
    let dimensions = (0..count).map(|_| body.text()).collect::<Option<_>>()?;
    Some(FeedRecord { meter, late, window, period, value, dimensions })
}
