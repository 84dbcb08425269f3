//! Rows and messages for the tests of sinks.

use crate::delivery::Message;
use crate::engine::caps::{Alert, AlertEvent, AlertState};
use crate::engine::{DeliveryId, OutboxRow, RowContent, UsageChange, UsageRow};
use crate::meter::{Amount, Cap, CapPeriod, OnHardCap, Threshold};
use crate::model::{Incarnation, OutboxPosition, Quantity, RowKind, Seq, Timestamp, Window};

/// A final window of one customer; another `number`, another customer.
pub fn row(number: u32) -> OutboxRow {
    row_of(number, usage(number))
}

pub fn row_of(number: u32, usage: UsageRow) -> OutboxRow {
    OutboxRow { position: OutboxPosition::new(Seq(100), number), content: RowContent::Usage(usage) }
}

pub fn usage(number: u32) -> UsageRow {
    UsageRow {
        change: UsageChange::Final,
        tenant: "default".into(),
        customer: format!("c{number}"),
        meter: "tokens".into(),
        dimensions: vec![("model".into(), Some("m1".into()))],
        window: Window { start: at("2026-10-01T00:00:00Z"), end: at("2026-10-01T01:00:00Z") },
        value: Some(Quantity::parse("7").expect("a number")),
        event_count: 3,
        revision: 0,
        incarnation: Incarnation(1),
        hash: [0xab; 32],
        at: at("2026-10-01T02:00:00Z"),
    }
}

/// An adjustment of that window.
pub fn adjusted(delta: &str) -> UsageChange {
    UsageChange::Adjusted { delta: Some(Quantity::parse(delta).expect("a number")) }
}

/// A customer's usage has reached 80 % of its cap; another `number`, another customer.
pub fn alert(number: u32) -> OutboxRow {
    alert_of(number, crossed(number))
}

pub fn alert_of(number: u32, alert: Alert) -> OutboxRow {
    OutboxRow {
        position: OutboxPosition::new(Seq(200 + u64::from(number)), 0),
        content: RowContent::Alert(Box::new(alert)),
    }
}

pub fn crossed(number: u32) -> Alert {
    let part: Amount = "80%".parse().expect("a part");
    Alert {
        state: AlertState::Triggered,
        tenant: "default".into(),
        customer: format!("c{number}"),
        meter: "tokens".into(),
        cap: Cap {
            id: "default".into(),
            period: CapPeriod::Billing,
            hard: Some(Quantity::from_integer(1_000)),
            soft: vec!["500".parse().expect("an amount"), part],
            on_hard_cap: OnHardCap::Reject,
            grace: Amount::NOTHING,
            enforce: true,
        },
        threshold: Threshold::Soft(part),
        amount: Quantity::from_integer(800),
        period: Some("2026-10".into()),
        bounds: Window { start: at("2026-10-01T00:00:00Z"), end: at("2026-11-01T00:00:00Z") },
        generation: 1,
        used: Quantity::parse("812.5").expect("a number"),
        event: Some(AlertEvent { usage_event_id: "e-1".into(), seq: Some(Seq(199)) }),
        late: false,
        at: at("2026-10-20T10:00:00Z"),
    }
}

/// A delivery of these rows; another `seq`, another id.
pub fn message(seq: u64, rows: Vec<OutboxRow>) -> Message {
    Message {
        id: DeliveryId { store: 0xabc, incarnation: Incarnation(1), seq: Seq(seq) },
        kind: rows.first().map_or(RowKind::Windows, OutboxRow::kind),
        planned_at: at("2026-10-01T02:00:01Z"),
        now: at("2026-10-01T02:00:02Z"),
        rows,
    }
}

pub fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).expect("an instant")
}
