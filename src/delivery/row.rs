//! A row as JSON and as a CSV record: what every sink sends.
//!
//! | member | JSON | CSV |
//! | --- | --- | --- |
//! | `tenant`, `customer`, `meter` | text | text; an apostrophe in front of what a spreadsheet would run |
//! | `dimensions` | object, in the order of the meter's definition; null: not given | the same object, as text |
//! | `window_start`, `window_end` | RFC 3339, UTC | the same |
//! | `value` | decimal text; null: nothing to say | decimal; empty |
//! | `event_count`, `revision`, `incarnation` | number | the same |
//! | `delta` | decimal text, in adjustments only; null: it leaves the range of a quantity | decimal; empty |
//! | `hash` | hex | the same |
//!
//! | of an alert | JSON | CSV |
//! | --- | --- | --- |
//! | `alert_id`, `threshold` | text | the same |
//! | `tenant`, `customer`, `meter`, `cap` | text | text, guarded as above |
//! | `amount`, `used` | decimal text | decimal |
//! | `hard` | decimal text; null: the cap has none | decimal; empty |
//! | `soft` | array of amounts as text | the same array, as text |
//! | `period` | the billing period's name; null: it is a window | text; empty |
//! | `period_start`, `period_end`, `at` | RFC 3339, UTC | the same |
//! | `generation`, `enforce`, `late` | number, boolean, boolean | the same |
//! | `event` | object of `usage_event_id` and `seq`; null: a change of caps | two columns, `usage_event_id` and `event_seq`; empty |
//!
//! In a file a row begins with `type`, which a webhook says once, for the whole message.
//!
//! 1. The same row, the same bytes: nothing here depends on when or how often it is sent.
//! 2. `value` is absolute: whoever keeps the one with the greatest (incarnation, revision) for each key has the truth, in
//!    whatever order and however often rows arrive.

use std::io::{self, Write};

use crate::engine::caps::Alert;
use crate::engine::outbox::{DimensionsJson, SoftJson, Typed};
use crate::engine::{OutboxRow, RowContent, UsageRow};
use crate::model::csv::Record;
use crate::model::{Quantity, RowKind, hex};

const USAGE_HEADER: &str = "type,tenant,customer,meter,dimensions,window_start,window_end,value,event_count,revision,\
incarnation,delta,hash\r\n";

const ALERT_HEADER: &str = "type,alert_id,tenant,customer,meter,cap,threshold,amount,used,hard,soft,period,\
period_start,period_end,generation,enforce,usage_event_id,event_seq,late,at\r\n";

/// The names of a CSV record's columns.
pub fn csv_header(kind: RowKind) -> &'static str {
    match kind {
        RowKind::Windows | RowKind::Adjustments => USAGE_HEADER,
        RowKind::Alerts => ALERT_HEADER,
    }
}

/// How many bytes a row is as JSON.
pub fn json_bytes(row: &OutboxRow) -> usize {
    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, row).expect("strings and numbers are JSON");
    counter.0
}

struct Counter(usize);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Appends the row as a line of NDJSON.
pub fn put_line(out: &mut Vec<u8>, row: &OutboxRow) {
    serde_json::to_writer(&mut *out, &Typed(row)).expect("strings and numbers are JSON");
    out.push(b'\n');
}

/// Appends the row as a CSV record.
pub fn put_csv(out: &mut Vec<u8>, row: &OutboxRow) {
    let mut record = Record::new(out);
    record.plain(row.type_name());
    match &row.content {
        RowContent::Usage(row) => put_usage(&mut record, row),
        RowContent::Alert(alert) => put_alert(&mut record, alert),
    }
    record.end();
}

fn put_usage(record: &mut Record<'_>, row: &UsageRow) {
    record.text(&row.tenant);
    record.text(&row.customer);
    record.text(&row.meter);
    record.quoted(&serde_json::to_string(&DimensionsJson(&row.dimensions)).expect("strings are JSON"));
    record.plain(row.window.start);
    record.plain(row.window.end);
    put_quantity(record, row.value);
    record.plain(row.event_count);
    record.plain(row.revision);
    record.plain(row.incarnation.0);
    put_quantity(record, row.change.delta());
    record.plain(hex::encode(&row.hash));
}

fn put_alert(record: &mut Record<'_>, alert: &Alert) {
    record.plain(alert.id());
    record.text(&alert.tenant);
    record.text(&alert.customer);
    record.text(&alert.meter);
    record.text(&alert.cap.id);
    record.plain(alert.threshold);
    record.plain(alert.amount);
    record.plain(alert.used);
    put_quantity(record, alert.cap.hard);
    record.quoted(&serde_json::to_string(&SoftJson(alert)).expect("strings are JSON"));
    record.text(alert.period.as_deref().unwrap_or_default());
    record.plain(alert.bounds.start);
    record.plain(alert.bounds.end);
    record.plain(alert.generation);
    record.plain(alert.cap.enforce);
    let event = alert.event.as_ref();
    record.text(event.map_or("", |event| &event.usage_event_id));
    record.plain(event.and_then(|event| event.seq).map_or_else(String::new, |seq| seq.to_string()));
    record.plain(alert.late);
    record.plain(alert.at);
}

fn put_quantity(record: &mut Record<'_>, quantity: Option<Quantity>) {
    match quantity {
        Some(quantity) => record.plain(quantity),
        None => record.plain(""),
    }
}

#[cfg(test)]
mod tests;
