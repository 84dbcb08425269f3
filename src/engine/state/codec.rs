//! Counters, windows, billing periods and adjustments as rows of the store, and back.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | counters | series name · start | end i64 · event count u64 · period u32 · aggregate |
//! | members | counter key · member u128 BE | empty |
//! | windows | series name · start | end i64 · event count u64 · period u32 · final |
//! | periods | tenant · period name · rest of the series name · start · end | flags u8 (1 final, 2 has a base, 4 has an original, 8 has a hard cap) · end i64 · period u32 · if it has one: hard cap i128 · if it has a base: event count u64 · late count u64 · final · if it has one: original aggregate |
//! | period_members | period key · 0 (in the total) or 1 (in the original) · member u128 BE | empty |
//! | adjustments | tenant · seq u64 BE · feed u8 | series name (u16 length) · window start, end i64 · period u32 · delta i128 · flag u8 (0 no value), value i128 · event count u64 · revision u32 · incarnation u32 · timestamp i64 · received_at i64 |
//! | final | | revision u32 · incarnation u32 · changed at i64 · hash 32 bytes · aggregate (u32 length) |
//!
//! Start and end: i64 BE with the sign flipped. Texts in keys: u16 BE length first. Values are little-endian.
//!
//! 1. A window's row is written when it becomes final and with every adjustment; its counter's row goes with the same commit.
//! 2. The hash is over what the row says, see [`content_hash`]: whoever has the answer can compute it again.

use sha2::{Digest, Sha256};

use crate::engine::key::{self, SeriesName};
use crate::engine::record::bytes::{Cursor, put_bytes, put_time, put_window};
use crate::engine::state::periods::PeriodId;
use crate::engine::state::series::{Base, Counter, PeriodCounter};
use crate::meter::{Aggregate, Definition};
use crate::model::{Incarnation, Quantity, Timestamp, Window};

/// In a period member's key: it counts in the total, or in the total without adjustments.
pub const IN_TOTAL: u8 = 0;
pub const IN_ORIGINAL: u8 = 1;

const FINAL: u8 = 1;
const HAS_BASE: u8 = 2;
const HAS_ORIGINAL: u8 = 4;
const HAS_HARD: u8 = 8;
const HAS_TAKEN: u8 = 16;

/// A late event's effect, as its row holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdjustmentRow {
    pub series: Vec<u8>,
    pub window: Window,
    pub period: PeriodId,
    pub delta: Quantity,
    /// The window's value with it.
    pub value: Option<Quantity>,
    pub event_count: u64,
    pub revision: u32,
    pub incarnation: Incarnation,
    pub timestamp: Timestamp,
    pub received_at: Timestamp,
}

/// What sets a row's key and hash that the row's counter does not hold.
#[derive(Clone, Copy)]
pub struct RowContext<'a> {
    pub definition: &'a Definition,
    pub incarnation: Incarnation,
}

pub fn counter_key(out: &mut Vec<u8>, series_key: &[u8], start: Timestamp) {
    out.clear();
    out.extend_from_slice(series_key);
    key::put_start(out, start);
}

/// The prefix of a tenant's period rows under one name.
pub fn period_prefix(out: &mut Vec<u8>, tenant: &str, label: &str) {
    out.clear();
    key::put_text(out, tenant);
    key::put_text(out, label);
}

/// The key of a series' row in a period.
pub fn period_key(out: &mut Vec<u8>, series_key: &[u8], label: &str, bounds: Window) {
    let (tenant, rest) = key::split_tenant(series_key).expect("series names are written by this process");
    period_prefix(out, tenant, label);
    out.extend_from_slice(rest);
    key::put_bounds(out, bounds);
}

/// The key of a period member's row, after the period's key.
pub fn put_period_member(out: &mut Vec<u8>, set: u8, member: u128) {
    out.push(set);
    out.extend_from_slice(&member.to_be_bytes());
}

pub fn adjustment_key(out: &mut Vec<u8>, tenant: &str, seq: u64, feed: u8) {
    out.clear();
    key::put_text(out, tenant);
    out.extend_from_slice(&seq.to_be_bytes());
    out.push(feed);
}

pub fn encode_counter(out: &mut Vec<u8>, counter: &Counter) {
    out.clear();
    put_counts(out, counter);
    counter.aggregate.encode(out);
}

fn put_counts(out: &mut Vec<u8>, counter: &Counter) {
    put_time(out, counter.window.end);
    out.extend_from_slice(&counter.event_count.to_le_bytes());
    out.extend_from_slice(&counter.period.0.to_le_bytes());
}

pub fn encode_window(out: &mut Vec<u8>, name: &[u8], counter: &Counter, context: RowContext<'_>) {
    out.clear();
    put_counts(out, counter);
    let content = Content {
        name,
        bounds: counter.window,
        value: counter.aggregate.value(counter.event_count),
        event_count: counter.event_count,
        revision: counter.revision,
    };
    put_final(out, &content, counter.changed_at, &counter.aggregate, context);
}

pub fn encode_period(out: &mut Vec<u8>, name: &[u8], bounds: Window, counter: &PeriodCounter, context: RowContext<'_>) {
    out.clear();
    let flag = |flag: u8, set: bool| if set { flag } else { 0 };
    let original = counter.base.as_ref().and_then(|base| base.original.as_ref());
    let taken = counter.base.as_ref().map(|base| [base.taken_count, base.taken_adjustments]);
    let taken = taken.filter(|[events, _]| *events > 0);
    out.push(
        flag(FINAL, counter.is_final)
            | flag(HAS_BASE, counter.base.is_some())
            | flag(HAS_ORIGINAL, original.is_some())
            | flag(HAS_HARD, counter.hard.is_some())
            | flag(HAS_TAKEN, taken.is_some()),
    );
    put_time(out, bounds.end);
    out.extend_from_slice(&counter.period.0.to_le_bytes());
    counter.hard.iter().for_each(|hard| out.extend_from_slice(&hard.scaled().to_le_bytes()));
    let Some(base) = &counter.base else { return };
    out.extend_from_slice(&base.event_count.to_le_bytes());
    out.extend_from_slice(&base.late_count.to_le_bytes());
    taken.iter().flatten().for_each(|taken| out.extend_from_slice(&taken.to_le_bytes()));
    let content = Content {
        name,
        bounds,
        value: base.aggregate.value(base.event_count),
        event_count: base.event_count,
        revision: counter.revision,
    };
    put_final(out, &content, base.changed_at, &base.aggregate, context);
    if let Some(original) = original {
        original.encode(out);
    }
}

fn put_final(
    out: &mut Vec<u8>,
    content: &Content<'_>,
    changed_at: Timestamp,
    aggregate: &Aggregate,
    context: RowContext<'_>,
) {
    out.extend_from_slice(&content.revision.to_le_bytes());
    out.extend_from_slice(&context.incarnation.0.to_le_bytes());
    put_time(out, changed_at);
    out.extend_from_slice(&content.hash(context));
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    aggregate.encode(out);
    let length = (out.len() - length_at - 4) as u32;
    out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
}

/// What a row says to those who bill by it.
pub struct Content<'a> {
    /// The series' name.
    pub name: &'a [u8],
    pub bounds: Window,
    pub value: Option<Quantity>,
    pub event_count: u64,
    pub revision: u32,
}

impl Content<'_> {
    pub fn hash(&self, context: RowContext<'_>) -> [u8; 32] {
        let (name, _) = key::read_series(self.name).expect("series names are written by this process");
        content_hash(&name, self, context)
    }
}

/// SHA-256 of the row as a JSON array without spaces: tenant, customer, meter, dimensions (object, sorted by name), start,
/// end (RFC 3339, UTC), value (decimal text or null), event count, revision, incarnation.
fn content_hash(name: &SeriesName<'_>, content: &Content<'_>, context: RowContext<'_>) -> [u8; 32] {
    let RowContext { definition, incarnation } = context;
    let row = (
        name.tenant,
        name.customer,
        name.meter,
        Dimensions(definition, name),
        content.bounds.start.to_string(),
        content.bounds.end.to_string(),
        content.value.map(|value| value.to_string()),
        content.event_count,
        content.revision,
        incarnation.0,
    );
    let text = serde_json::to_vec(&row).expect("texts and numbers");
    Sha256::digest(&text).into()
}

/// A series' dimensions as a JSON object.
struct Dimensions<'a, 'n>(&'a Definition, &'a SeriesName<'n>);

impl serde::Serialize for Dimensions<'_, '_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names = self.0.dimensions.iter().map(|(name, _)| name);
        serializer.collect_map(names.zip(&self.1.dimensions))
    }
}

/// Reads a counter's row; and how many member rows belong to it. `None` when it is damaged.
pub fn decode_counter(start: Timestamp, value: &[u8], definition: &Definition) -> Option<(Counter, u32)> {
    let mut cursor = Cursor(value);
    let mut counter = read_counts(start, &mut cursor, definition)?;
    let (aggregate, members) = Aggregate::decode(cursor.0, definition).ok()?;
    counter.aggregate = aggregate;
    counter.has_row = true;
    Some((counter, members))
}

fn read_counts(start: Timestamp, cursor: &mut Cursor<'_>, definition: &Definition) -> Option<Counter> {
    let window = Window { start, end: cursor.time()? };
    let event_count = cursor.u64()?;
    let counter = Counter::new(window, PeriodId(cursor.u32()?), definition);
    Some(Counter { event_count, ..counter })
}

/// Reads a window's row: its counter, and how many member rows belong to it.
pub fn decode_window(start: Timestamp, value: &[u8], definition: &Definition) -> Option<(Counter, u32)> {
    let mut cursor = Cursor(value);
    let mut counter = read_counts(start, &mut cursor, definition)?;
    let (last, aggregate) = read_final(&mut cursor)?;
    let (aggregate, members) = Aggregate::decode(aggregate, definition).ok()?;
    (counter.revision, counter.changed_at, counter.is_final) = (last.revision, last.changed_at, true);
    counter.aggregate = aggregate;
    cursor.0.is_empty().then_some((counter, members))
}

/// The incarnation and the hash that a window's row was written with.
pub fn window_written(value: &[u8]) -> Option<(Incarnation, [u8; 32])> {
    let mut cursor = Cursor(value);
    // Its end, event count and period come first.
    cursor.bytes(20)?;
    read_final(&mut cursor).map(|(last, _)| (last.incarnation, last.hash))
}

struct Final {
    revision: u32,
    incarnation: Incarnation,
    changed_at: Timestamp,
    hash: [u8; 32],
}

fn read_final<'a>(cursor: &mut Cursor<'a>) -> Option<(Final, &'a [u8])> {
    let last = Final {
        revision: cursor.u32()?,
        incarnation: Incarnation(cursor.u32()?),
        changed_at: cursor.time()?,
        hash: cursor.take()?,
    };
    let length = cursor.u32()? as usize;
    Some((last, cursor.bytes(length)?))
}

/// A period's row: its counter and bounds, the incarnation and hash it was written with (none without a base), and how
/// many member rows belong to its total and to its original.
pub struct PeriodRow {
    pub counter: PeriodCounter,
    pub bounds: Window,
    pub written: Option<(Incarnation, [u8; 32])>,
    pub members: [u32; 2],
}

pub fn decode_period(start: Timestamp, value: &[u8], definition: &Definition) -> Option<PeriodRow> {
    let mut cursor = Cursor(value);
    let [flags] = cursor.take()?;
    let bounds = Window { start, end: cursor.time()? };
    let mut counter = PeriodCounter::new(PeriodId(cursor.u32()?));
    counter.is_final = flags & FINAL != 0;
    if flags & HAS_HARD != 0 {
        counter.hard = Some(Quantity::from_scaled(cursor.i128()?));
    }
    if flags & HAS_BASE == 0 {
        return cursor.0.is_empty().then_some(PeriodRow { counter, bounds, written: None, members: [0; 2] });
    }
    let (event_count, late_count) = (cursor.u64()?, cursor.u64()?);
    let (taken_count, taken_adjustments) = if flags & HAS_TAKEN == 0 { (0, 0) } else { (cursor.u64()?, cursor.u64()?) };
    let (last, aggregate) = read_final(&mut cursor)?;
    let (aggregate, in_total) = Aggregate::decode(aggregate, definition).ok()?;
    let (original, in_original) = if flags & HAS_ORIGINAL == 0 {
        cursor.0.is_empty().then_some((None, 0))?
    } else {
        let (original, members) = Aggregate::decode(cursor.0, definition).ok()?;
        (Some(original), members)
    };
    counter.revision = last.revision;
    let changed_at = last.changed_at;
    let base = Base { event_count, late_count, taken_count, taken_adjustments, changed_at, aggregate, original };
    counter.base = Some(Box::new(base));
    Some(PeriodRow { counter, bounds, written: Some((last.incarnation, last.hash)), members: [in_total, in_original] })
}

pub fn encode_adjustment(row: &AdjustmentRow) -> Vec<u8> {
    let mut out = Vec::with_capacity(row.series.len() + 128);
    put_bytes(&mut out, &row.series);
    put_window(&mut out, row.window);
    out.extend_from_slice(&row.period.0.to_le_bytes());
    out.extend_from_slice(&row.delta.scaled().to_le_bytes());
    out.push(u8::from(row.value.is_some()));
    out.extend_from_slice(&row.value.unwrap_or(Quantity::ZERO).scaled().to_le_bytes());
    out.extend_from_slice(&row.event_count.to_le_bytes());
    out.extend_from_slice(&row.revision.to_le_bytes());
    out.extend_from_slice(&row.incarnation.0.to_le_bytes());
    put_time(&mut out, row.timestamp);
    put_time(&mut out, row.received_at);
    out
}

pub fn decode_adjustment(value: &[u8]) -> Option<AdjustmentRow> {
    let mut cursor = Cursor(value);
    let series = cursor.sized()?.to_vec();
    let (window, period) = (cursor.window()?, PeriodId(cursor.u32()?));
    let delta = Quantity::from_scaled(cursor.i128()?);
    let has_value = cursor.take()? == [1];
    let value = Some(Quantity::from_scaled(cursor.i128()?)).filter(|_| has_value);
    let row = AdjustmentRow {
        series,
        window,
        period,
        delta,
        value,
        event_count: cursor.u64()?,
        revision: cursor.u32()?,
        incarnation: Incarnation(cursor.u32()?),
        timestamp: cursor.time()?,
        received_at: cursor.time()?,
    };
    cursor.0.is_empty().then_some(row)
}
