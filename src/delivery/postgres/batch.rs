//! The table of windows, and a message's rows as columns of one statement. Pure.
//!
//! 1. Of several states of one window only the newest goes along: one statement changes a row at most once.
//! 2. Keys are in order, so that statements which run at once lock rows in the same order.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::delivery::Message;
use crate::delivery::postgres::TableName;
use crate::delivery::postgres::shape::{COUNTER, JSONB, Layout, NUMERIC, Needed, TEXT, TIME, column, nullable};
use crate::engine::UsageRow;
use crate::engine::outbox::DimensionsJson;
use crate::model::{OutboxPosition, hex};

const NEEDED: [Needed; 14] = [
    column("row_key", TEXT),
    column("tenant", TEXT),
    column("customer", TEXT),
    column("meter", TEXT),
    column("dimensions", JSONB),
    column("window_start", TIME),
    column("window_end", TIME),
    nullable("value", NUMERIC),
    column("event_count", &["bigint"]),
    column("revision", COUNTER),
    column("incarnation", COUNTER),
    column("hash", TEXT),
    column("delivery", TEXT),
    column("updated_at", TIME),
];

pub const LAYOUT: Layout =
    Layout { needed: &NEEDED, key: &["row_key"], privileges: &["SELECT", "INSERT", "UPDATE"], create_sql };

/// Columns, one entry for each key.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub keys: Vec<String>,
    pub tenants: Vec<String>,
    pub customers: Vec<String>,
    pub meters: Vec<String>,
    pub dimensions: Vec<String>,
    pub starts: Vec<String>,
    pub ends: Vec<String>,
    pub values: Vec<Option<String>>,
    pub event_counts: Vec<i64>,
    pub revisions: Vec<i64>,
    pub incarnations: Vec<i64>,
    pub hashes: Vec<String>,
    pub delivery: String,
}

impl Batch {
    /// `Err`: what the table has no room for.
    pub fn of(message: &Message) -> Result<Self, String> {
        let mut newest = BTreeMap::<String, (OutboxPosition, &UsageRow)>::new();
        for (position, row) in message.rows.iter().filter_map(|row| Some((row.position, row.usage()?))) {
            let kept = newest.entry(key(row)).or_insert((position, row));
            if (kept.1.incarnation, kept.1.revision) < (row.incarnation, row.revision) {
                *kept = (position, row);
            }
        }
        let mut batch = Self { delivery: message.id.to_string(), ..Self::default() };
        for (key, (position, row)) in newest {
            batch.push(key, position, row)?;
        }
        Ok(batch)
    }

    fn push(&mut self, key: String, position: OutboxPosition, row: &UsageRow) -> Result<(), String> {
        let event_count = i64::try_from(row.event_count).map_err(|_| {
            format!("event_count {} of row {} does not fit a bigint (at most {})", row.event_count, position, i64::MAX)
        })?;
        self.keys.push(key);
        self.tenants.push(row.tenant.clone());
        self.customers.push(row.customer.clone());
        self.meters.push(row.meter.clone());
        self.dimensions.push(dimensions(row));
        self.starts.push(row.window.start.to_string());
        self.ends.push(row.window.end.to_string());
        self.values.push(row.value.map(|value| value.to_string()));
        self.event_counts.push(event_count);
        self.revisions.push(row.revision.into());
        self.incarnations.push(row.incarnation.0.into());
        self.hashes.push(hex::encode(&row.hash));
        Ok(())
    }
}

/// Names the window among all windows of all tenants.
fn key(row: &UsageRow) -> String {
    #[derive(Serialize)]
    struct Key<'a>(&'a str, &'a str, &'a str, BTreeMap<&'a str, Option<&'a str>>, String, String);
    let dimensions = row.dimensions.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
    let (start, end) = (row.window.start.to_string(), row.window.end.to_string());
    let key = Key(&row.tenant, &row.customer, &row.meter, dimensions, start, end);
    let json = serde_json::to_vec(&key).expect("strings are JSON");
    hex::encode(&Sha256::digest(&json))
}

/// As JSON that `jsonb` takes.
fn dimensions(row: &UsageRow) -> String {
    let holds_nul = row.dimensions.iter().any(|(_, value)| value.as_ref().is_some_and(|value| value.contains('\0')));
    let json = |dimensions: &[_]| serde_json::to_string(&DimensionsJson(dimensions)).expect("strings are JSON");
    if !holds_nul {
        return json(&row.dimensions);
    }
    let shown = row
        .dimensions
        .iter()
        .map(|(name, value)| (name.clone(), value.as_ref().map(|value| value.replace('\0', "\u{fffd}"))));
    json(&shown.collect::<Vec<_>>())
}

/// The statement that a batch's columns are the parameters of, in order.
pub fn upsert_sql(table: &TableName) -> String {
    format!(
        "INSERT INTO {table} AS t (row_key, tenant, customer, meter, dimensions, window_start, window_end, value, \
            event_count, revision, incarnation, hash, delivery, updated_at)
        SELECT n.row_key, n.tenant, n.customer, n.meter, n.dimensions::jsonb, n.window_start::timestamptz, \
            n.window_end::timestamptz, n.value::numeric, n.event_count, n.revision, n.incarnation, n.hash, $13, now()
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], \
            $9::bigint[], $10::bigint[], $11::bigint[], $12::text[]) AS n (row_key, tenant, customer, meter, \
            dimensions, window_start, window_end, value, event_count, revision, incarnation, hash)
        ORDER BY n.row_key
        ON CONFLICT (row_key) DO UPDATE SET value = excluded.value, event_count = excluded.event_count, \
            revision = excluded.revision, incarnation = excluded.incarnation, hash = excluded.hash, \
            delivery = excluded.delivery, updated_at = excluded.updated_at
        WHERE (t.incarnation, t.revision) < (excluded.incarnation, excluded.revision)"
    )
}

fn create_sql(table: &TableName) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {table} (
            row_key text PRIMARY KEY,
            tenant text NOT NULL,
            customer text NOT NULL,
            meter text NOT NULL,
            dimensions jsonb NOT NULL,
            window_start timestamptz NOT NULL,
            window_end timestamptz NOT NULL,
            value numeric,
            event_count bigint NOT NULL,
            revision integer NOT NULL,
            incarnation bigint NOT NULL,
            hash text NOT NULL,
            delivery text NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now()
        );
        CREATE INDEX ON {table} (tenant, customer, meter, window_start)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::testing;
    use crate::model::{Incarnation, Quantity};

    fn batch(rows: Vec<UsageRow>) -> Batch {
        let rows = rows.into_iter().map(|row| testing::row_of(3, row)).collect();
        Batch::of(&testing::message(7, rows)).unwrap()
    }

    #[test]
    fn the_key_is_the_digest_of_a_json_array_that_anyone_can_compute() {
        let row = UsageRow {
            customer: "größe \"x\"".into(),
            dimensions: vec![("region".into(), None), ("model".into(), Some("m,1".into()))],
            ..testing::usage(0)
        };
        // python3: hashlib.sha256(json.dumps([...], separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()
        let json = r#"["default","größe \"x\"","tokens",{"model":"m,1","region":null},"2026-10-01T00:00:00Z","2026-10-01T01:00:00Z"]"#;
        assert_eq!(key(&row), hex::encode(&Sha256::digest(json.as_bytes())));
        let sorted = UsageRow { dimensions: row.dimensions.iter().rev().cloned().collect(), ..row.clone() };
        assert_eq!(key(&sorted), key(&row));
        let empty = UsageRow { dimensions: vec![("region".into(), Some(String::new()))], ..row.clone() };
        assert_ne!(key(&UsageRow { dimensions: vec![("region".into(), None)], ..row }), key(&empty));
    }

    #[test]
    fn only_the_newest_state_of_a_window_goes_along_in_whatever_order_they_come() {
        let state = |incarnation, revision| UsageRow {
            incarnation: Incarnation(incarnation),
            revision,
            value: Some(Quantity::parse(&format!("{incarnation}{revision}")).unwrap()),
            ..testing::usage(0)
        };
        for rows in [
            vec![state(1, 0), state(1, 9), state(2, 3), state(2, 2)],
            vec![state(2, 3), state(2, 2), state(1, 9), state(1, 0)],
        ] {
            let batch = batch(rows);
            assert_eq!((batch.keys.len(), batch.values), (1, vec![Some("23".to_owned())]));
        }
        let many = batch((0..100).map(testing::usage).collect());
        assert_eq!(many.keys.len(), 100);
        assert!(many.keys.is_sorted());
    }

    #[test]
    fn a_nul_that_jsonb_refuses_is_shown_as_something_else_under_the_key_it_has() {
        let row = UsageRow { dimensions: vec![("model".into(), Some("a\0b".into()))], ..testing::usage(0) };
        let shown = UsageRow { dimensions: vec![("model".into(), Some("a\u{fffd}b".into()))], ..testing::usage(0) };
        assert_eq!(dimensions(&row), "{\"model\":\"a\u{fffd}b\"}");
        assert_eq!(batch(vec![row, shown]).keys.len(), 2);
    }

    #[test]
    fn a_count_that_fits_no_bigint_is_refused_by_name() {
        let row = UsageRow { event_count: u64::MAX, ..testing::usage(3) };
        let reason = Batch::of(&testing::message(7, vec![testing::row_of(3, row)])).unwrap_err();
        assert!(reason.starts_with("event_count 18446744073709551615 of row 100.3 does not fit"), "{reason}");
    }
}
