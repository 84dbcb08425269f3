//! A message as a webhook's body. Pure.
//!
//! ```text
//! {"type":"window.finalized","timestamp":"2026-11-22T10:00:00Z","data":{"rows":[ROW,ROW]}}
//! ```
//!
//! | member | value |
//! | --- | --- |
//! | `type` | `window.finalized` or `window.adjusted` |
//! | `timestamp` | when the delivery was planned |
//! | `data.rows` | rows as `row` writes them |
//!
//! 1. The same message, the same bytes: nothing here depends on the attempt.
//! 2. A message within [`ROWS_BYTES_MAX`] is under [`BODY_BYTES_MAX`]; only a row that is larger by itself is not.

use bytes::Bytes;
use serde::Serialize;

use crate::delivery::Message;
use crate::delivery::row::{json_bytes, type_of};
use crate::engine::OutboxRow;

/// Standard Webhooks asks for less than this.
pub const BODY_BYTES_MAX: usize = 20_000;
/// What is around the rows, at its longest: the type and the timestamp are the only parts that vary.
const ENVELOPE_BYTES_MAX: usize = 128;
/// What the rows of one message may come to, each with a comma.
pub const ROWS_BYTES_MAX: usize = BODY_BYTES_MAX - ENVELOPE_BYTES_MAX;

#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    rows: &'a [OutboxRow],
}

pub fn json(message: &Message) -> Bytes {
    let envelope = Envelope {
        kind: type_of(message.kind),
        timestamp: message.planned_at.to_string(),
        data: Data { rows: &message.rows },
    };
    serde_json::to_vec(&envelope).expect("strings and numbers are JSON").into()
}

/// What a row adds to a body: itself and a comma.
pub fn row_bytes(row: &OutboxRow) -> usize {
    json_bytes(row) + 1
}

#[cfg(test)]
mod tests;
