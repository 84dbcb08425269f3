//! Rows and messages for the tests of sinks.

use crate::delivery::Message;
use crate::engine::{DeliveryId, OutboxRow};
use crate::model::{Incarnation, OutboxPosition, Quantity, RowKind, Seq, Timestamp, Window};

/// A final window of one customer; another `number`, another customer.
pub fn row(number: u32) -> OutboxRow {
    OutboxRow {
        position: OutboxPosition::new(Seq(100), number),
        kind: RowKind::Windows,
        tenant: "default".into(),
        customer: format!("c{number}"),
        meter: "tokens".into(),
        dimensions: vec![("model".into(), Some("m1".into()))],
        window: Window { start: at("2026-10-01T00:00:00Z"), end: at("2026-10-01T01:00:00Z") },
        value: Some(Quantity::parse("7").expect("a number")),
        delta: None,
        event_count: 3,
        revision: 0,
        incarnation: Incarnation(1),
        hash: [0xab; 32],
        at: at("2026-10-01T02:00:00Z"),
    }
}

/// A delivery of these rows; another `seq`, another id.
pub fn message(seq: u64, rows: Vec<OutboxRow>) -> Message {
    Message {
        id: DeliveryId { store: 0xabc, incarnation: Incarnation(1), seq: Seq(seq) },
        kind: rows.first().map_or(RowKind::Windows, |row| row.kind),
        planned_at: at("2026-10-01T02:00:01Z"),
        now: at("2026-10-01T02:00:02Z"),
        rows,
    }
}

pub fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).expect("an instant")
}
