//! Deliveries as JSON.
//!
//! | state | means |
//! | --- | --- |
//! | `pending` | to be tried, and no attempt has failed since it was planned or replayed |
//! | `retrying` | to be tried again |
//! | `delivered` | the sink took it |
//! | `dead_letter` | not tried again by itself |

use serde::Serialize;

use crate::engine::{Attempt, Delivery, DeliveryState, OutboxRow};

#[derive(Debug, Serialize)]
pub struct DeliveryShown {
    pub id: String,
    sink: String,
    kind: &'static str,
    state: &'static str,
    rows: u32,
    /// The places of its first and last row in the outbox: the record's seq, and which of the record's rows.
    first: String,
    last: String,
    planned_at: String,
    /// All that were made.
    attempts: u32,
    /// Failed ones since it was planned or last replayed.
    failures: u32,
    replays: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_attempt: Option<AttemptShown>,
}

#[derive(Debug, Serialize)]
struct AttemptShown {
    at: String,
    took_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
}

/// One delivery with everything that is known of it.
#[derive(Debug, Serialize)]
pub struct DeliveryDetails {
    #[serde(flatten)]
    delivery: DeliveryShown,
    attempts_log: Vec<AttemptShown>,
    payload: Option<Payload>,
    /// Why there is no payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_note: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Payload {
    rows: Vec<OutboxRow>,
}

impl DeliveryShown {
    pub fn new(delivery: &Delivery) -> Self {
        let (state, due, finished) = match delivery.state {
            DeliveryState::Pending { due } if delivery.failures == 0 => ("pending", Some(due), None),
            DeliveryState::Pending { due } => ("retrying", Some(due), None),
            DeliveryState::Delivered { at } => ("delivered", None, Some(at)),
            DeliveryState::Dead { at } => ("dead_letter", None, Some(at)),
        };
        Self {
            id: delivery.id.to_string(),
            sink: delivery.sink.to_string(),
            kind: delivery.kind.as_str(),
            state,
            rows: delivery.rows,
            first: delivery.first.to_string(),
            last: delivery.last.to_string(),
            planned_at: delivery.planned_at.to_string(),
            attempts: delivery.attempts,
            failures: delivery.failures,
            replays: delivery.replays,
            next_attempt_at: due.map(|due| due.to_string()),
            finished_at: finished.map(|at| at.to_string()),
            last_attempt: delivery.last_attempt.as_ref().map(AttemptShown::new),
        }
    }
}

impl AttemptShown {
    fn new(attempt: &Attempt) -> Self {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            at: attempt.at.to_string(),
            took_ms: attempt.took.micros().unsigned_abs() / 1_000,
            status: attempt.status,
            error: given(&attempt.error),
            answer: given(&attempt.answer),
        }
    }
}

impl DeliveryDetails {
    /// `attempts` are those the store has committed; the last one may be newer.
    pub fn new(delivery: &Delivery, mut attempts: Vec<Attempt>, rows: Option<Vec<OutboxRow>>) -> Self {
        let is_newer = |last: &&Attempt| attempts.last() != Some(last);
        let newer = delivery.last_attempt.as_ref().filter(is_newer).cloned();
        attempts.extend(newer);
        let rows = rows.filter(|rows| !rows.is_empty());
        let payload_note = match (&rows, delivery.state) {
            (Some(_), _) => None,
            (None, DeliveryState::Delivered { .. }) => Some("rows are not kept once every sink has them"),
            (None, _) => Some("the rows are on their way to the store: ask again in a moment"),
        };
        Self {
            delivery: DeliveryShown::new(delivery),
            attempts_log: attempts.iter().map(AttemptShown::new).collect(),
            payload: rows.map(|rows| Payload { rows }),
            payload_note,
        }
    }
}
