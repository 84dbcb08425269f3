//! A message as a webhook's body. Pure.
//!
//! ```text
//! {"type":"window.finalized","timestamp":"2026-11-22T10:00:00Z","data":{"rows":[ROW,ROW]}}
//! {"type":"alert.triggered","timestamp":"2026-11-22T10:00:00Z","data":ALERT}
//! ```
//!
//! | member | value |
//! | --- | --- |
//! | `type` | `window.finalized`, `window.adjusted`, `alert.triggered` or `alert.recovered` |
//! | `timestamp` | when the delivery was planned |
//! | `data.rows` | of windows: rows as `row` writes them |
//! | `data` | of an alert: its members as `row` writes them |
//!
//! 1. The same message, the same bytes: nothing here depends on the attempt.
//! 2. A message within [`ROWS_BYTES_MAX`] is under [`BODY_BYTES_MAX`]; only a row that is larger by itself is not.
//! 3. An alert is a message of its own: [`ALERTS_MAX`].

use bytes::Bytes;
use serde::Serialize;

use crate::delivery::Message;
use crate::delivery::row::json_bytes;
use crate::engine::OutboxRow;
use crate::engine::outbox::Members;

/// Standard Webhooks asks for less than this.
pub const BODY_BYTES_MAX: usize = 20_000;
/// What is around the rows, at its longest: the type and the timestamp are the only parts that vary.
const ENVELOPE_BYTES_MAX: usize = 128;
/// What the rows of one message may come to, each with a comma.
pub const ROWS_BYTES_MAX: usize = BODY_BYTES_MAX - ENVELOPE_BYTES_MAX;
/// Whoever is told of one knows from the type what happened.
pub const ALERTS_MAX: usize = 1;

/// Several alerts in one delivery: it was planned while the sink of this name was of another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} alerts were planned as one delivery before this sink was a webhook, and a webhook takes one a message")]
pub struct ManyAlerts(pub usize);

#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Usage { rows: &'a [OutboxRow] },
    Alert(Members<'a>),
}

pub fn json(message: &Message) -> Result<Bytes, ManyAlerts> {
    let first = message.rows.first().expect("a message is never empty");
    let data = match (first.alert(), message.rows.len()) {
        (None, _) => Data::Usage { rows: &message.rows },
        (Some(_), 0..=ALERTS_MAX) => Data::Alert(Members(first)),
        (Some(_), alerts) => return Err(ManyAlerts(alerts)),
    };
    let envelope = Envelope { kind: first.type_name(), timestamp: message.planned_at.to_string(), data };
    Ok(serde_json::to_vec(&envelope).expect("strings and numbers are JSON").into())
}

/// What a row adds to a body, at most: itself and a comma.
pub fn row_bytes(row: &OutboxRow) -> usize {
    json_bytes(row) + 1
}

#[cfg(test)]
mod tests;
