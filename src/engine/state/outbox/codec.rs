//! Outbox, sinks, deliveries and dead letters as rows of the store, and back.
//!
//! | table, key | value |
//! | --- | --- |
//! | outbox: kind u8 (0 windows, 1 adjustments) · seq u64 · index u32 | at i64 · window start, end i64 · flags u8 (1 value, 2 delta) · value i128 · delta i128 · event count u64 · revision u32 · incarnation u32 · series name |
//! | outbox: kind u8 (2 alerts) · seq u64 · index u32 | as [`encode_outbox_alert`](crate::engine::state::caps::codec::encode_outbox_alert) has it |
//! | dead_letters: delivery u64 · seq u64 · index u32 | the outbox row's value |
//! | deliveries: seq u64 | sink text · kind u8 · first, last (seq u64, index u32) · rows u32 · id (u32, incarnation u32) · planned at i64 · state u8 (0 pending, 1 delivered, 2 dead) · due or end i64 · failures u32 · attempts u32 · replays u32 · copied at u64 (0: not) · delivered at u64 (0: not) · the last attempt, if there was one |
//! | attempts: delivery u64 · number u32, from 1 | at i64 · took i64 (µs) · status u16 (0 none) · error text · answer text |
//! | meta: `sink/` name | kinds u8 · cursors (seq u64, index u32) × 3 · pause u8 (0 none, else cause + 1) · at i64 · reason text |
//! | meta: `request/` seq u64 | digest u64 · count u32 · key text |
//!
//! Integers in keys are big-endian, in values little-endian.

use super::{KINDS, Known, Request, Sink};
use crate::engine::caps::Alert;
use crate::engine::outbox::{
    Attempt, Delivery, DeliveryId, DeliveryState, PauseCause, RequestKey, SinkPause, UsageChange,
};
use crate::engine::record::AttemptRecord;
use crate::engine::record::bytes::{Cursor, put_text, put_time, put_window};
use crate::engine::record::delivery::{put_attempt, put_position, read_attempt, read_position};
use crate::engine::state::caps::codec::decode_outbox_alert;
use crate::model::{Incarnation, OutboxPosition, Quantity, RowKind, RowKinds, Seq, Timestamp, Window};

pub const SINK: &[u8] = b"sink/";
pub const REQUEST: &[u8] = b"request/";
const HAS_VALUE: u8 = 1;
const HAS_DELTA: u8 = 2;
const POSITION_BYTES: usize = 12;

/// What a row says, by its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredRow<'a> {
    Usage(OutboxContent<'a>),
    Alert(Box<Alert>),
}

impl StoredRow<'_> {
    /// When it came about.
    pub fn at(&self) -> Timestamp {
        match self {
            StoredRow::Usage(content) => content.at,
            StoredRow::Alert(alert) => alert.at,
        }
    }
}

/// What a row of usage says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxContent<'a> {
    pub at: Timestamp,
    pub window: Window,
    pub value: Option<Quantity>,
    pub change: UsageChange,
    pub event_count: u64,
    pub revision: u32,
    pub incarnation: Incarnation,
    /// The series' name.
    pub series: &'a [u8],
}

fn position_bytes(position: OutboxPosition) -> [u8; POSITION_BYTES] {
    let mut bytes = [0; POSITION_BYTES];
    bytes[..8].copy_from_slice(&position.seq.0.to_be_bytes());
    bytes[8..].copy_from_slice(&position.index.to_be_bytes());
    bytes
}

fn read_position_bytes(bytes: &[u8]) -> Option<OutboxPosition> {
    let (seq, index) = bytes.split_first_chunk::<8>()?;
    Some(OutboxPosition::new(Seq(u64::from_be_bytes(*seq)), u32::from_be_bytes(index.try_into().ok()?)))
}

pub fn outbox_key(kind: RowKind, position: OutboxPosition) -> [u8; 1 + POSITION_BYTES] {
    let mut key = [kind as u8; 1 + POSITION_BYTES];
    key[1..].copy_from_slice(&position_bytes(position));
    key
}

pub fn split_outbox_key(key: &[u8]) -> Option<(RowKind, OutboxPosition)> {
    let (kind, position) = key.split_first()?;
    Some((RowKind::from_number(*kind)?, read_position_bytes(position)?))
}

pub fn delivery_key(seq: Seq) -> [u8; 8] {
    seq.0.to_be_bytes()
}

pub fn dead_key(delivery: Seq, position: OutboxPosition) -> [u8; 8 + POSITION_BYTES] {
    let mut key = [0; 8 + POSITION_BYTES];
    key[..8].copy_from_slice(&delivery_key(delivery));
    key[8..].copy_from_slice(&position_bytes(position));
    key
}

pub fn split_dead_key(key: &[u8]) -> Option<(Seq, OutboxPosition)> {
    let (delivery, position) = key.split_first_chunk::<8>()?;
    Some((Seq(u64::from_be_bytes(*delivery)), read_position_bytes(position)?))
}

pub fn attempt_key(delivery: Seq, number: u32) -> [u8; 12] {
    position_bytes(OutboxPosition::new(delivery, number))
}

pub fn sink_key(name: &str) -> Vec<u8> {
    [SINK, name.as_bytes()].concat()
}

pub fn request_key(seq: Seq) -> Vec<u8> {
    [REQUEST, &seq.0.to_be_bytes()].concat()
}

pub fn encode_usage(content: &OutboxContent<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(80 + content.series.len());
    put_time(&mut out, content.at);
    put_window(&mut out, content.window);
    let flag = |flag: u8, quantity: Option<Quantity>| if quantity.is_some() { flag } else { 0 };
    let delta = content.change.delta();
    out.push(flag(HAS_VALUE, content.value) | flag(HAS_DELTA, delta));
    for quantity in [content.value, delta] {
        out.extend_from_slice(&quantity.unwrap_or(Quantity::ZERO).scaled().to_le_bytes());
    }
    out.extend_from_slice(&content.event_count.to_le_bytes());
    out.extend_from_slice(&content.revision.to_le_bytes());
    out.extend_from_slice(&content.incarnation.0.to_le_bytes());
    out.extend_from_slice(content.series);
    out
}

pub fn decode_outbox(kind: RowKind, value: &[u8]) -> Option<StoredRow<'_>> {
    match kind {
        RowKind::Windows => decode_usage(value, |_| UsageChange::Final).map(StoredRow::Usage),
        RowKind::Adjustments => decode_usage(value, |delta| UsageChange::Adjusted { delta }).map(StoredRow::Usage),
        RowKind::Alerts => decode_outbox_alert(value).map(|alert| StoredRow::Alert(Box::new(alert))),
    }
}

fn decode_usage(value: &[u8], change: impl FnOnce(Option<Quantity>) -> UsageChange) -> Option<OutboxContent<'_>> {
    let mut cursor = Cursor(value);
    let (at, window) = (cursor.time()?, cursor.window()?);
    let [flags] = cursor.take()?;
    let mut quantity =
        |flag: u8| cursor.i128().map(|scaled| (flags & flag != 0).then(|| Quantity::from_scaled(scaled)));
    let (value, delta) = (quantity(HAS_VALUE)?, quantity(HAS_DELTA)?);
    let (event_count, revision) = (cursor.u64()?, cursor.u32()?);
    let (change, incarnation) = (change(delta), Incarnation(cursor.u32()?));
    Some(OutboxContent { at, window, value, change, event_count, revision, incarnation, series: cursor.0 })
}

pub fn encode_attempt(attempt: &AttemptRecord<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    put_attempt(&mut out, attempt);
    out
}

pub fn decode_attempt(value: &[u8]) -> Option<Attempt> {
    let mut cursor = Cursor(value);
    let attempt = read_attempt(&mut cursor)?;
    cursor.0.is_empty().then(|| attempt.into())
}

pub fn encode_delivery(known: &Known) -> Vec<u8> {
    let Known { delivery, copied_at, delivered_at } = known;
    let mut out = Vec::with_capacity(160);
    put_text(&mut out, &delivery.sink);
    out.push(delivery.kind as u8);
    put_position(&mut out, delivery.first);
    put_position(&mut out, delivery.last);
    out.extend_from_slice(&delivery.rows.to_le_bytes());
    out.extend_from_slice(&delivery.id.store.to_le_bytes());
    out.extend_from_slice(&delivery.id.incarnation.0.to_le_bytes());
    put_time(&mut out, delivery.planned_at);
    let (state, at) = match delivery.state {
        DeliveryState::Pending { due } => (0, due),
        DeliveryState::Delivered { at } => (1, at),
        DeliveryState::Dead { at } => (2, at),
    };
    out.push(state);
    put_time(&mut out, at);
    for count in [delivery.failures, delivery.attempts, delivery.replays] {
        out.extend_from_slice(&count.to_le_bytes());
    }
    for record in [copied_at, delivered_at] {
        out.extend_from_slice(&record.map_or(0, |seq| seq.0).to_le_bytes());
    }
    if let Some(attempt) = &delivery.last_attempt {
        put_attempt(&mut out, &attempt.into());
    }
    out
}

pub fn decode_delivery(seq: Seq, value: &[u8]) -> Option<Known> {
    let mut cursor = Cursor(value);
    let sink = cursor.text()??.into();
    let [kind] = cursor.take()?;
    let kind = RowKind::from_number(kind)?;
    let (first, last, rows) = (read_position(&mut cursor)?, read_position(&mut cursor)?, cursor.u32()?);
    let (store, incarnation) = (cursor.u32()?, Incarnation(cursor.u32()?));
    let planned_at = cursor.time()?;
    let ([state], at) = (cursor.take()?, cursor.time()?);
    let state = match state {
        0 => DeliveryState::Pending { due: at },
        1 => DeliveryState::Delivered { at },
        2 => DeliveryState::Dead { at },
        _ => return None,
    };
    let (failures, attempts, replays) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
    let mut record = || cursor.u64().map(|seq| Some(Seq(seq)).filter(|seq| *seq > Seq::ZERO));
    let (copied_at, delivered_at) = (record()?, record()?);
    let last_attempt = if cursor.0.is_empty() { None } else { Some(read_attempt(&mut cursor)?.into()) };
    let id = DeliveryId { store, incarnation, seq };
    let delivery =
        Delivery { id, sink, kind, first, last, rows, planned_at, state, failures, attempts, replays, last_attempt };
    cursor.0.is_empty().then_some(Known { delivery, copied_at, delivered_at })
}

pub fn encode_sink(sink: &Sink) -> Vec<u8> {
    let mut out = vec![sink.kinds.bits()];
    sink.cursors.iter().for_each(|cursor| put_position(&mut out, *cursor));
    match &sink.pause {
        None => out.push(0),
        Some(pause) => {
            out.push(1 + pause.cause as u8);
            put_time(&mut out, pause.at);
            put_text(&mut out, &pause.reason);
        }
    }
    out
}

pub fn decode_sink(value: &[u8]) -> Option<Sink> {
    let mut cursor = Cursor(value);
    let [kinds] = cursor.take()?;
    let mut cursors = [OutboxPosition::default(); KINDS];
    for place in &mut cursors {
        *place = read_position(&mut cursor)?;
    }
    let pause = match cursor.take()? {
        [0] => None,
        [cause] => {
            let cause = *PauseCause::ALL.get(usize::from(cause) - 1)?;
            let at = cursor.time()?;
            Some(SinkPause { cause, at, reason: cursor.text()??.to_owned() })
        }
    };
    let sink = Sink { kinds: RowKinds::from_bits(kinds)?, cursors, pause, ..Sink::default() };
    cursor.0.is_empty().then_some(sink)
}

pub fn encode_request(request: &Request) -> Vec<u8> {
    let mut out = request.key.request.to_le_bytes().to_vec();
    out.extend_from_slice(&request.count.to_le_bytes());
    put_text(&mut out, &request.key.key);
    out
}

pub fn decode_request(seq: Seq, value: &[u8]) -> Option<Request> {
    let mut cursor = Cursor(value);
    let (request, count) = (cursor.u64()?, cursor.u32()?);
    let key = RequestKey { key: cursor.text()??.to_owned(), request };
    cursor.0.is_empty().then_some(Request { seq, key, count })
}
