//! The second table of a sink that gets alerts: one row for each thing that happened to an alert. Pure.
//!
//! | column | type | holds |
//! | --- | --- | --- |
//! | `alert_id`, `state` | `text`, together the primary key | the alert, and `triggered` or `recovered` |
//! | `tenant`, `customer`, `meter`, `cap`, `threshold` | `text` | as sent |
//! | `amount`, `used`, `hard` | `numeric` | exact; `hard` is null where the cap has none |
//! | `soft` | `jsonb` | an array of amounts as text |
//! | `period` | `text` | the billing period's name; null: it is a window |
//! | `period_start`, `period_end` | `timestamptz` | |
//! | `generation` | `bigint` | |
//! | `enforce`, `late` | `boolean` | |
//! | `usage_event_id`, `event_seq` | `text`, `bigint` | the event; both null: a change of caps; `event_seq` null: it was refused |
//! | `at` | `timestamptz` | when it happened |
//! | `delivery`, `written_at` | `text`, `timestamptz` | the delivery that brought it, and when, by the database's clock |
//!
//! 1. A row that is there stays as it is: the same alert and state always say the same.

use serde::Serialize;
use serde::ser::SerializeSeq;

use crate::delivery::Message;
use crate::delivery::postgres::TableName;
use crate::delivery::postgres::shape::{
    BOOLEAN, COUNTER, JSONB, Layout, NUMERIC, Needed, TEXT, TIME, column, nullable,
};
use crate::engine::OutboxRow;
use crate::engine::outbox::Typed;

const NEEDED: [Needed; 22] = [
    column("alert_id", TEXT),
    column("state", TEXT),
    column("tenant", TEXT),
    column("customer", TEXT),
    column("meter", TEXT),
    column("cap", TEXT),
    column("threshold", TEXT),
    column("amount", NUMERIC),
    column("used", NUMERIC),
    nullable("hard", NUMERIC),
    column("soft", JSONB),
    nullable("period", TEXT),
    column("period_start", TIME),
    column("period_end", TIME),
    column("generation", COUNTER),
    column("enforce", BOOLEAN),
    nullable("usage_event_id", TEXT),
    nullable("event_seq", &["bigint"]),
    column("late", BOOLEAN),
    column("at", TIME),
    column("delivery", TEXT),
    column("written_at", TIME),
];

pub const LAYOUT: Layout = Layout {
    needed: &NEEDED,
    key: &["alert_id", "state"],
    // Nothing is ever changed.
    privileges: &["SELECT", "INSERT"],
    create_sql,
};

/// A message's alerts as one JSON array: the statement's only parameter beside the delivery.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    pub alerts: String,
    pub delivery: String,
}

impl Batch {
    pub fn of(message: &Message) -> Self {
        let alerts = serde_json::to_string(&Array(&message.rows)).expect("strings and numbers are JSON");
        Self { alerts, delivery: message.id.to_string() }
    }
}

struct Array<'a>(&'a [OutboxRow]);

impl Serialize for Array<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut array = serializer.serialize_seq(Some(self.0.len()))?;
        self.0.iter().try_for_each(|row| array.serialize_element(&Typed(row)))?;
        array.end()
    }
}

/// The statement that a batch's members are the parameters of, in order.
pub fn insert_sql(table: &TableName) -> String {
    format!(
        "INSERT INTO {table} (alert_id, state, tenant, customer, meter, cap, threshold, amount, used, hard, soft, \
            period, period_start, period_end, generation, enforce, usage_event_id, event_seq, late, at, delivery, \
            written_at)
        SELECT n.alert_id, replace(n.type, 'alert.', ''), n.tenant, n.customer, n.meter, n.cap, n.threshold, \
            n.amount, n.used, n.hard, n.soft, n.period, n.period_start, n.period_end, n.generation, n.enforce, \
            n.event->>'usage_event_id', (n.event->>'seq')::bigint, n.late, n.at, $2, now()
        FROM json_to_recordset($1::json) AS n (alert_id text, type text, tenant text, customer text, meter text, \
            cap text, threshold text, amount numeric, used numeric, hard numeric, soft jsonb, period text, \
            period_start timestamptz, period_end timestamptz, generation bigint, enforce boolean, event json, \
            late boolean, at timestamptz)
        ORDER BY 1, 2
        ON CONFLICT (alert_id, state) DO NOTHING"
    )
}

fn create_sql(table: &TableName) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {table} (
            alert_id text NOT NULL,
            state text NOT NULL,
            tenant text NOT NULL,
            customer text NOT NULL,
            meter text NOT NULL,
            cap text NOT NULL,
            threshold text NOT NULL,
            amount numeric NOT NULL,
            used numeric NOT NULL,
            hard numeric,
            soft jsonb NOT NULL,
            period text,
            period_start timestamptz NOT NULL,
            period_end timestamptz NOT NULL,
            generation bigint NOT NULL,
            enforce boolean NOT NULL,
            usage_event_id text,
            event_seq bigint,
            late boolean NOT NULL,
            at timestamptz NOT NULL,
            delivery text NOT NULL,
            written_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (alert_id, state)
        );
        CREATE INDEX ON {table} (tenant, customer, meter, at)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::testing;

    #[test]
    fn alerts_go_along_as_the_lines_that_a_file_would_hold() {
        let alerts = [testing::alert(0), testing::alert(1)];
        let mut lines = Vec::new();
        alerts.iter().for_each(|alert| crate::delivery::row::put_line(&mut lines, alert));
        let lines = String::from_utf8(lines).unwrap();
        let batch = Batch::of(&testing::message(7, alerts.to_vec()));
        assert_eq!(batch.alerts, format!("[{}]", lines.trim_end().replace('\n', ",")));
        assert_eq!(batch.delivery, "msg_00000abc_1_7");
    }

    #[test]
    fn every_column_is_made_written_and_needed() {
        let table = "billing_rows_alerts".parse().unwrap();
        let (create, insert) = (create_sql(&table), insert_sql(&table));
        let inserted = insert.split_once('(').unwrap().1.split_once(')').unwrap().0;
        assert_eq!(inserted.split(',').map(str::trim).collect::<Vec<_>>(), NEEDED.map(|needed| needed.name));
        for needed in &NEEDED {
            let null = if needed.takes_null { "" } else { " NOT NULL" };
            let is_made = |name: &&str| create.contains(&format!(" {} {name}{null}", needed.name));
            let short = needed.types.iter().map(|name| if *name == TIME[0] { "timestamptz" } else { name });
            assert!(short.clone().any(|name| is_made(&name)), "{}: {create}", needed.name);
        }
    }
}
