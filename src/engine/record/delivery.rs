//! The records of delivery: sinks, what is planned for them, and what every attempt came to.
//!
//! | record | body |
//! | --- | --- |
//! | 10 SinkDefined | name text · kinds u8 |
//! | 11 SinkPaused | name text · cause u8 (0 operator, 1 gone, 2 misfit, 3 restored, 4 dead letters) · reason text · at i64 |
//! | 12 SinkResumed, 13 SinkForgotten | name text · reason text · at i64 |
//! | 14 DeliveryPlanned | sink text · kind u8 (0 windows, 1 adjustments, 2 alerts) · first, last: positions · rows u32 · at i64 |
//! | 15 AttemptFailed | delivery u64 · due i64 · attempt |
//! | 16 Delivered | delivery u64 · attempt |
//! | 17 DeadLettered | delivery u64 · attempt · count u32, then each: position · value (u32 length, bytes) |
//! | 18 ReplayRequested | at i64 · key text · request u64 · count u32, then each: delivery u64 |
//!
//! Kinds: bit 0 windows, 1 adjustments, 2 alerts. A position: seq u64 · index u32. A delivery: the seq of its
//! DeliveryPlanned. An attempt: at i64 · took i64 · status u16 (0: none) · error text · answer text.
//!
//! 1. A record says what came about, decided and checked before; none is undone by a later look at the config.
//! 2. A dead letter's rows are in its record: they are no longer needed in the outbox.
//! 3. A request without a key (an empty one) has the digest 0.

use super::bytes::{Cursor, len_u32, put_text, put_time};
use super::{Kind, put_record};
use crate::engine::outbox::{Attempt, PauseCause, Plan};
use crate::model::{Duration, OutboxPosition, RowKind, RowKinds, Seq, Timestamp};

/// What happens to a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkRecord<'a> {
    /// It gets these kinds of rows from here on.
    Defined {
        name: &'a str,
        kinds: RowKinds,
    },
    Paused {
        name: &'a str,
        cause: PauseCause,
        reason: &'a str,
        at: Timestamp,
    },
    Resumed {
        name: &'a str,
        reason: &'a str,
        at: Timestamp,
    },
    /// Its cursors and deliveries are gone.
    Forgotten {
        name: &'a str,
        reason: &'a str,
        at: Timestamp,
    },
}

/// What happens to a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryRecord<'a> {
    /// The record's own seq is the delivery's from here on.
    Planned {
        sink: &'a str,
        plan: Plan,
        at: Timestamp,
    },
    /// It is tried again at `due`.
    Failed {
        delivery: Seq,
        due: Timestamp,
        attempt: AttemptRecord<'a>,
    },
    Delivered {
        delivery: Seq,
        attempt: AttemptRecord<'a>,
    },
    /// The last attempt failed; with all rows of the delivery, as the outbox had them.
    Dead {
        delivery: Seq,
        attempt: AttemptRecord<'a>,
        rows: Vec<(OutboxPosition, &'a [u8])>,
    },
    /// These dead letters are pending again.
    ReplayRequested {
        at: Timestamp,
        /// An `Idempotency-Key` and the digest of its request.
        key: Option<(&'a str, u64)>,
        deliveries: Vec<Seq>,
    },
}

/// An [`Attempt`] whose texts lie in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptRecord<'a> {
    pub at: Timestamp,
    pub took: Duration,
    pub status: Option<u16>,
    pub error: &'a str,
    pub answer: &'a str,
}

impl<'a> From<&'a Attempt> for AttemptRecord<'a> {
    fn from(attempt: &'a Attempt) -> Self {
        let Attempt { at, took, status, error, answer } = attempt;
        Self { at: *at, took: *took, status: *status, error, answer }
    }
}

impl From<AttemptRecord<'_>> for Attempt {
    fn from(attempt: AttemptRecord<'_>) -> Self {
        let AttemptRecord { at, took, status, error, answer } = attempt;
        Self { at, took, status, error: error.to_owned(), answer: answer.to_owned() }
    }
}

pub fn put_sink(out: &mut Vec<u8>, record: &SinkRecord<'_>) {
    match *record {
        SinkRecord::Defined { name, kinds } => put_record(out, Kind::SinkDefined, |out| {
            put_text(out, name);
            out.push(kinds.bits());
        }),
        SinkRecord::Paused { name, cause, reason, at } => put_record(out, Kind::SinkPaused, |out| {
            put_text(out, name);
            out.push(cause as u8);
            put_text(out, reason);
            put_time(out, at);
        }),
        SinkRecord::Resumed { name, reason, at } => {
            put_record(out, Kind::SinkResumed, |out| put_reasoned(out, name, reason, at));
        }
        SinkRecord::Forgotten { name, reason, at } => {
            put_record(out, Kind::SinkForgotten, |out| put_reasoned(out, name, reason, at));
        }
    }
}

pub fn put_delivery(out: &mut Vec<u8>, record: &DeliveryRecord<'_>) {
    match record {
        DeliveryRecord::Planned { sink, plan, at } => put_planned(out, sink, plan, *at),
        DeliveryRecord::Failed { delivery, due, attempt } => put_record(out, Kind::AttemptFailed, |out| {
            put_seq(out, *delivery);
            put_time(out, *due);
            put_attempt(out, attempt);
        }),
        DeliveryRecord::Delivered { delivery, attempt } => put_record(out, Kind::Delivered, |out| {
            put_seq(out, *delivery);
            put_attempt(out, attempt);
        }),
        DeliveryRecord::Dead { delivery, attempt, rows } => put_dead(out, *delivery, attempt, rows),
        DeliveryRecord::ReplayRequested { at, key, deliveries } => put_record(out, Kind::ReplayRequested, |out| {
            put_time(out, *at);
            let (key, request) = key.unwrap_or_default();
            put_text(out, key);
            out.extend_from_slice(&request.to_le_bytes());
            out.extend_from_slice(&len_u32(deliveries.len()).to_le_bytes());
            deliveries.iter().for_each(|delivery| put_seq(out, *delivery));
        }),
    }
}

fn put_planned(out: &mut Vec<u8>, sink: &str, plan: &Plan, at: Timestamp) {
    put_record(out, Kind::DeliveryPlanned, |out| {
        put_text(out, sink);
        out.push(plan.kind as u8);
        put_position(out, plan.first);
        put_position(out, plan.last);
        out.extend_from_slice(&plan.rows.to_le_bytes());
        put_time(out, at);
    });
}

fn put_dead(out: &mut Vec<u8>, delivery: Seq, attempt: &AttemptRecord<'_>, rows: &[(OutboxPosition, &[u8])]) {
    put_record(out, Kind::DeadLettered, |out| {
        put_seq(out, delivery);
        put_attempt(out, attempt);
        out.extend_from_slice(&len_u32(rows.len()).to_le_bytes());
        for (position, value) in rows {
            put_position(out, *position);
            out.extend_from_slice(&len_u32(value.len()).to_le_bytes());
            out.extend_from_slice(value);
        }
    });
}

/// An attempt as it stands in records; also fit for a row of the store.
pub fn put_attempt(out: &mut Vec<u8>, attempt: &AttemptRecord<'_>) {
    put_time(out, attempt.at);
    out.extend_from_slice(&attempt.took.micros().to_le_bytes());
    out.extend_from_slice(&attempt.status.unwrap_or_default().to_le_bytes());
    put_text(out, attempt.error);
    put_text(out, attempt.answer);
}

pub fn put_position(out: &mut Vec<u8>, position: OutboxPosition) {
    put_seq(out, position.seq);
    out.extend_from_slice(&position.index.to_le_bytes());
}

fn put_seq(out: &mut Vec<u8>, seq: Seq) {
    out.extend_from_slice(&seq.0.to_le_bytes());
}

fn put_reasoned(out: &mut Vec<u8>, name: &str, reason: &str, at: Timestamp) {
    put_text(out, name);
    put_text(out, reason);
    put_time(out, at);
}

pub(super) fn read_sink<'a>(kind: u8, cursor: &mut Cursor<'a>) -> Option<SinkRecord<'a>> {
    let name = cursor.text()??;
    Some(match kind {
        10 => SinkRecord::Defined { name, kinds: RowKinds::from_bits(cursor.u8()?)? },
        11 => SinkRecord::Paused {
            name,
            cause: PauseCause::ALL.get(usize::from(cursor.u8()?)).copied()?,
            reason: cursor.text()??,
            at: cursor.time()?,
        },
        12 => SinkRecord::Resumed { name, reason: cursor.text()??, at: cursor.time()? },
        13 => SinkRecord::Forgotten { name, reason: cursor.text()??, at: cursor.time()? },
        _ => return None,
    })
}

pub(super) fn read_delivery<'a>(kind: u8, cursor: &mut Cursor<'a>) -> Option<DeliveryRecord<'a>> {
    Some(match kind {
        14 => read_planned(cursor)?,
        15 => {
            DeliveryRecord::Failed { delivery: Seq(cursor.u64()?), due: cursor.time()?, attempt: read_attempt(cursor)? }
        }
        16 => DeliveryRecord::Delivered { delivery: Seq(cursor.u64()?), attempt: read_attempt(cursor)? },
        17 => DeliveryRecord::Dead {
            delivery: Seq(cursor.u64()?),
            attempt: read_attempt(cursor)?,
            rows: (0..cursor.u32()?).map(|_| read_row(cursor)).collect::<Option<_>>()?,
        },
        18 => read_replay(cursor)?,
        _ => return None,
    })
}

fn read_planned<'a>(cursor: &mut Cursor<'a>) -> Option<DeliveryRecord<'a>> {
    let sink = cursor.text()??;
    let plan = Plan {
        kind: RowKind::from_number(cursor.u8()?)?,
        first: read_position(cursor)?,
        last: read_position(cursor)?,
        rows: cursor.u32()?,
    };
    Some(DeliveryRecord::Planned { sink, plan, at: cursor.time()? })
}

fn read_replay<'a>(cursor: &mut Cursor<'a>) -> Option<DeliveryRecord<'a>> {
    let at = cursor.time()?;
    let key = match (cursor.text()??, cursor.u64()?) {
        ("", 0) => None,
        ("", _) => return None,
        keyed => Some(keyed),
    };
    let deliveries = (0..cursor.u32()?).map(|_| cursor.u64().map(Seq)).collect::<Option<_>>()?;
    Some(DeliveryRecord::ReplayRequested { at, key, deliveries })
}

fn read_row<'a>(cursor: &mut Cursor<'a>) -> Option<(OutboxPosition, &'a [u8])> {
    let position = read_position(cursor)?;
    let len = cursor.u32()? as usize;
    Some((position, cursor.bytes(len)?))
}

/// What [`put_attempt`] wrote.
pub fn read_attempt<'a>(cursor: &mut Cursor<'a>) -> Option<AttemptRecord<'a>> {
    let at = cursor.time()?;
    let took = cursor.u64().filter(|took| i64::try_from(*took).is_ok()).map(Duration::from_micros)?;
    let status = Some(cursor.u16()?).filter(|status| *status != 0);
    Some(AttemptRecord { at, took, status, error: cursor.text()??, answer: cursor.text()?? })
}

/// What [`put_position`] wrote.
pub fn read_position(cursor: &mut Cursor<'_>) -> Option<OutboxPosition> {
    Some(OutboxPosition { seq: Seq(cursor.u64()?), index: cursor.u32()? })
}

#[cfg(test)]
mod tests;
