//! Records that take back, of loads of history, and of who changed what: to bytes and back.
//!
//! | record | body |
//! | --- | --- |
//! | 26 BackfilledEvents | backfill u32 · then as Events |
//! | 27 Retracted | tenant text · at i64 · cause u8 · cause · basis: retractions u64 · changes u32, then each change |
//! | 28 BackfillOpened | tenant, id texts · number u32 · at i64 |
//! | 29 BackfillReverting | number u32 · at i64 · reason text |
//! | 30 BackfillReverted | number u32 · at i64 |
//! | 31 OperatorAction | tenant text (none: all tenants) · at i64 · by text (none: nobody is known by name) · action, target texts · before, after (each: length u32, JSON; length 0: none) |
//!
//! | part | |
//! | --- | --- |
//! | cause 0, void | event's seq u64 · key u128 · usage_event_id, source, customer, reason texts |
//! | cause 1, revert | backfill u32 |
//! | change | series name (u16 length) · meter u16 · period name text, start, end i64 · total: remains · total count u64 · windows u32, then each window |
//! | window | start, end i64 · event count u64 · final u8 · events u64 · quantity i128 · timestamp i64 · remains |
//! | remains | u8: 0 subtract · 1 is, aggregate (u32 length) · 2 without, members u32, then each u128 |
//!
//! 1. A Retracted record holds everything that its fold needs: no evidence is read again.

use super::bytes::{Cursor, NOT_GIVEN, len_u32, put_bytes, put_text, put_time, put_window};
use super::{Kind, put_record};
use crate::engine::corrections::{Basis, Cause, Change, Remains, Retraction, TrailEntry, VoidCause, WindowChange};
use crate::meter::BillingPeriod;
use crate::model::{EventKey, MeterId, Quantity, Seq, TenantId, Timestamp};

const VOID: u8 = 0;
const REVERT: u8 = 1;
const SUBTRACT: u8 = 0;
const IS: u8 = 1;
const WITHOUT: u8 = 2;

#[derive(Clone, Debug, PartialEq)]
pub enum CorrectionRecord<'a> {
    Retracted { at: Timestamp, retraction: Box<Retraction> },
    BackfillOpened { tenant: &'a str, id: &'a str, number: u32, at: Timestamp },
    BackfillReverting { number: u32, at: Timestamp, reason: &'a str },
    BackfillReverted { number: u32, at: Timestamp },
    Action(Box<TrailEntry>),
}

pub fn put_correction(out: &mut Vec<u8>, record: &CorrectionRecord<'_>) {
    match record {
        CorrectionRecord::Retracted { at, retraction } => {
            put_record(out, Kind::Retracted, |out| put_retraction(out, *at, retraction));
        }
        CorrectionRecord::BackfillOpened { tenant, id, number, at } => put_record(out, Kind::BackfillOpened, |out| {
            put_text(out, tenant);
            put_text(out, id);
            out.extend_from_slice(&number.to_le_bytes());
            put_time(out, *at);
        }),
        CorrectionRecord::BackfillReverting { number, at, reason } => {
            put_record(out, Kind::BackfillReverting, |out| {
                out.extend_from_slice(&number.to_le_bytes());
                put_time(out, *at);
                put_text(out, reason);
            });
        }
        CorrectionRecord::BackfillReverted { number, at } => put_record(out, Kind::BackfillReverted, |out| {
            out.extend_from_slice(&number.to_le_bytes());
            put_time(out, *at);
        }),
        CorrectionRecord::Action(entry) => put_record(out, Kind::OperatorAction, |out| put_action(out, entry)),
    }
}

/// The body of the record; also fit for a row of the store.
pub fn put_action(out: &mut Vec<u8>, entry: &TrailEntry) {
    put_optional(out, entry.tenant.as_deref());
    put_time(out, entry.at);
    put_optional(out, entry.by.as_deref());
    put_text(out, &entry.action);
    put_text(out, &entry.target);
    for json in [&entry.before, &entry.after] {
        put_long(out, json.as_deref().unwrap_or_default().as_bytes());
    }
}

fn put_optional(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => put_text(out, text),
        None => out.extend_from_slice(&NOT_GIVEN.to_le_bytes()),
    }
}

/// A u32 length and the bytes.
fn put_long(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&len_u32(bytes.len()).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_retraction(out: &mut Vec<u8>, at: Timestamp, retraction: &Retraction) {
    put_text(out, retraction.tenant.as_str());
    put_time(out, at);
    match &retraction.cause {
        Cause::Void(void) => {
            out.push(VOID);
            out.extend_from_slice(&void.event.0.to_le_bytes());
            out.extend_from_slice(&void.key.0.to_le_bytes());
            for text in [&void.usage_event_id, &void.source, &void.customer, &void.reason] {
                put_text(out, text);
            }
        }
        Cause::Revert { backfill } => {
            out.push(REVERT);
            out.extend_from_slice(&backfill.to_le_bytes());
        }
    }
    out.extend_from_slice(&retraction.basis.retractions.to_le_bytes());
    out.extend_from_slice(&len_u32(retraction.changes.len()).to_le_bytes());
    retraction.changes.iter().for_each(|change| put_change(out, change));
}

fn put_change(out: &mut Vec<u8>, change: &Change) {
    put_bytes(out, &change.series);
    out.extend_from_slice(&change.meter.0.to_le_bytes());
    put_text(out, &change.period.label.to_string());
    put_window(out, change.period.bounds);
    put_remains(out, &change.total);
    out.extend_from_slice(&change.total_count.to_le_bytes());
    out.extend_from_slice(&len_u32(change.windows.len()).to_le_bytes());
    for window in &change.windows {
        put_window(out, window.window);
        out.extend_from_slice(&window.event_count.to_le_bytes());
        out.push(u8::from(window.is_final));
        out.extend_from_slice(&window.events.to_le_bytes());
        out.extend_from_slice(&window.quantity.scaled().to_le_bytes());
        put_time(out, window.timestamp);
        put_remains(out, &window.remains);
    }
}

fn put_remains(out: &mut Vec<u8>, remains: &Remains) {
    match remains {
        Remains::Subtract => out.push(SUBTRACT),
        Remains::Is(aggregate) => {
            out.push(IS);
            put_long(out, aggregate);
        }
        Remains::Without(members) => {
            out.push(WITHOUT);
            out.extend_from_slice(&len_u32(members.len()).to_le_bytes());
            members.iter().for_each(|member| out.extend_from_slice(&member.to_le_bytes()));
        }
    }
}

/// Reads the record of this kind, 27 to 31.
pub(super) fn read_correction<'a>(kind: u8, cursor: &mut Cursor<'a>) -> Option<CorrectionRecord<'a>> {
    Some(match kind {
        27 => read_retracted(cursor)?,
        28 => CorrectionRecord::BackfillOpened {
            tenant: cursor.text()??,
            id: cursor.text()??,
            number: cursor.u32()?,
            at: cursor.time()?,
        },
        29 => {
            CorrectionRecord::BackfillReverting { number: cursor.u32()?, at: cursor.time()?, reason: cursor.text()?? }
        }
        30 => CorrectionRecord::BackfillReverted { number: cursor.u32()?, at: cursor.time()? },
        _ => CorrectionRecord::Action(Box::new(read_action(cursor)?)),
    })
}

/// What `put_action` wrote; its record's number is not in it.
pub fn read_action(cursor: &mut Cursor<'_>) -> Option<TrailEntry> {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Some(TrailEntry {
        seq: Seq::ZERO,
        tenant: owned(cursor.text()?),
        at: cursor.time()?,
        by: owned(cursor.text()?),
        action: cursor.text()??.to_owned(),
        target: cursor.text()??.to_owned(),
        before: read_json(cursor)?,
        after: read_json(cursor)?,
    })
}

fn read_json(cursor: &mut Cursor<'_>) -> Option<Option<String>> {
    let text = std::str::from_utf8(read_long(cursor)?).ok()?;
    Some((!text.is_empty()).then(|| text.to_owned()))
}

fn read_long<'a>(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
    let length = cursor.u32()? as usize;
    cursor.bytes(length)
}

fn read_retracted<'a>(cursor: &mut Cursor<'a>) -> Option<CorrectionRecord<'a>> {
    let (tenant, at) = (TenantId::new(cursor.text()??), cursor.time()?);
    let cause = match cursor.u8()? {
        VOID => Cause::Void(VoidCause {
            event: Seq(cursor.u64()?),
            key: EventKey(cursor.u128()?),
            usage_event_id: cursor.text()??.to_owned(),
            source: cursor.text()??.to_owned(),
            customer: cursor.text()??.to_owned(),
            reason: cursor.text()??.to_owned(),
        }),
        REVERT => Cause::Revert { backfill: cursor.u32()? },
        _ => return None,
    };
    let basis = Basis { retractions: cursor.u64()? };
    let changes = (0..cursor.u32()?).map(|_| read_change(cursor)).collect::<Option<_>>()?;
    let retraction = Box::new(Retraction { tenant, cause, basis, changes });
    Some(CorrectionRecord::Retracted { at, retraction })
}

fn read_change(cursor: &mut Cursor<'_>) -> Option<Change> {
    Some(Change {
        series: cursor.sized()?.to_vec(),
        meter: MeterId(cursor.u16()?),
        period: BillingPeriod { label: cursor.text()??.parse().ok()?, bounds: cursor.window()? },
        total: read_remains(cursor)?,
        total_count: cursor.u64()?,
        windows: (0..cursor.u32()?).map(|_| read_window(cursor)).collect::<Option<_>>()?,
    })
}

fn read_window(cursor: &mut Cursor<'_>) -> Option<WindowChange> {
    Some(WindowChange {
        window: cursor.window()?,
        event_count: cursor.u64()?,
        is_final: match cursor.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        },
        events: cursor.u64()?,
        quantity: Quantity::from_scaled(cursor.i128()?),
        timestamp: cursor.time()?,
        remains: read_remains(cursor)?,
    })
}

fn read_remains(cursor: &mut Cursor<'_>) -> Option<Remains> {
    Some(match cursor.u8()? {
        SUBTRACT => Remains::Subtract,
        IS => Remains::Is(read_long(cursor)?.to_vec()),
        WITHOUT => Remains::Without((0..cursor.u32()?).map(|_| cursor.u128()).collect::<Option<_>>()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
