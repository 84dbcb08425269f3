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
//! In a file a row begins with `type`, which a webhook says once, for the whole message.
//!
//! 1. The same row, the same bytes: nothing here depends on when or how often it is sent.
//! 2. `value` is absolute: whoever keeps the one with the greatest (incarnation, revision) for each key has the truth, in
//!    whatever order and however often rows arrive.

use std::io::{self, Write};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::engine::OutboxRow;
use crate::engine::outbox::{DimensionsJson, put_members};
use crate::model::csv::Record;
use crate::model::{Quantity, RowKind, hex};

/// The names of a CSV record's columns.
pub const CSV_HEADER: &str = "type,tenant,customer,meter,dimensions,window_start,window_end,value,event_count,revision,\
incarnation,delta,hash\r\n";

/// What a message of these rows is called.
pub fn type_of(kind: RowKind) -> &'static str {
    match kind {
        RowKind::Windows => "window.finalized",
        RowKind::Adjustments => "window.adjusted",
        RowKind::Alerts => "alert.triggered",
    }
}

/// A row as a JSON object that begins with its type, borrowed.
struct TypedJson<'a>(&'a OutboxRow);

impl Serialize for TypedJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", type_of(self.0.kind))?;
        put_members(&mut map, self.0)?;
        map.end()
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
    serde_json::to_writer(&mut *out, &TypedJson(row)).expect("strings and numbers are JSON");
    out.push(b'\n');
}

/// Appends the row as a CSV record.
pub fn put_csv(out: &mut Vec<u8>, row: &OutboxRow) {
    let mut record = Record::new(out);
    record.plain(type_of(row.kind));
    record.text(&row.tenant);
    record.text(&row.customer);
    record.text(&row.meter);
    record.quoted(&serde_json::to_string(&DimensionsJson(&row.dimensions)).expect("strings are JSON"));
    record.plain(row.window.start);
    record.plain(row.window.end);
    put_quantity(&mut record, row.value);
    record.plain(row.event_count);
    record.plain(row.revision);
    record.plain(row.incarnation.0);
    put_quantity(&mut record, row.delta.filter(|_| row.kind == RowKind::Adjustments));
    record.plain(hex::encode(&row.hash));
    record.end();
}

fn put_quantity(record: &mut Record<'_>, quantity: Option<Quantity>) {
    match quantity {
        Some(quantity) => record.plain(quantity),
        None => record.plain(""),
    }
}

#[cfg(test)]
mod tests;
