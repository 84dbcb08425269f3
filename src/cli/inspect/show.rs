//! What was found on disk as JSON, and as tables for people.

use std::io::Write;

use serde_json::{Value, json};

use super::Shown;
use crate::cli::text::{NOTHING, member, printable, table};
use crate::engine::inspect::{EntryLine, FrameLine, IdLine, RecordLine, SegmentLine, WindowLine};
use crate::journal::Compression;
use crate::journal::look::SegmentEnd;
use crate::model::{Seq, hex};
use crate::store::Base;

/// A table of some members of JSON objects.
fn table_of<const N: usize>(rows: &[Value], columns: [&str; N], numbers: std::ops::Range<usize>) -> String {
    let rows = rows.iter().map(|row| columns.map(|column| member(&row[column])));
    format!("{}\n", table(columns, rows, numbers))
}

pub fn segments(segments: &[SegmentLine], base: Option<&Base>) -> Shown {
    let rows: Vec<Value> = segments.iter().map(segment).collect();
    let columns = ["first_seq", "last_seq", "records", "frames", "bytes", "state", "index", "damage"];
    let mut text = table_of(&rows, columns, 0..5);
    let base = base.map(|base| json!({"position": base.position.0, "path": base.path.display().to_string()}));
    match &base {
        Some(base) => text += &format!("base: record {}, {}\n", member(&base["position"]), member(&base["path"])),
        None => text += "base: none\n",
    }
    let fine = segments.iter().all(|segment| segment.damage.is_none() || !segment.sealed);
    Shown { json: json!({"segments": rows, "base": base}), text, fine }
}

fn segment(line: &SegmentLine) -> Value {
    json!({
        "first_seq": line.first_seq.0,
        "last_seq": line.last_seq.0,
        "records": line.records(),
        "frames": line.frames,
        "bytes": line.bytes,
        "state": if line.sealed { "sealed" } else { "open" },
        "index": line.sidecar,
        "damage": line.damage.map(|(offset, reason)| format!("byte {offset}: {reason}")),
    })
}

/// Writes frames as they come: their records may be millions. What cannot be written has no reader any more.
pub struct Frames<'a> {
    out: &'a mut dyn Write,
    as_json: bool,
    with_records: bool,
    /// Until the end, where a table is written.
    rows: Vec<Value>,
    written: u64,
}

impl<'a> Frames<'a> {
    pub fn new(out: &'a mut dyn Write, as_json: bool, with_records: bool) -> Self {
        Self { out, as_json, with_records, rows: Vec::new(), written: 0 }
    }

    pub fn frame(&mut self, line: &FrameLine) {
        let row = frame(line, self.with_records);
        let _ = match (self.as_json, self.with_records) {
            (true, _) => {
                let before = if self.written == 0 { "{\"frames\": [" } else { "," };
                write!(self.out, "{before}\n{row}")
            }
            (false, true) => self.out.write_all(with_lines(line, &row).as_bytes()),
            (false, false) => {
                self.rows.push(row);
                Ok(())
            }
        };
        self.written += 1;
    }

    /// Whether the segment is as it should be.
    pub fn end(self, end: &SegmentEnd) -> bool {
        let Self { out, as_json, with_records, rows, written } = self;
        let (offset, next) = (end.offset, end.next);
        let _ = if as_json {
            let before = if written == 0 { "{\"frames\": [" } else { "" };
            let end = json!({"offset": offset, "next_seq": next.0, "damage": end.reason});
            writeln!(out, "{before}\n], \"end\": {end}}}")
        } else {
            let columns = ["offset", "first_seq", "count", "bytes", "payload_bytes", "codec", "durable"];
            let table = if with_records { String::new() } else { table_of(&rows, columns, 0..5) };
            let damage = end.reason.map_or(String::new(), |reason| format!(": {reason}"));
            writeln!(out, "{table}ends at byte {offset}, before record {next}{damage}")
        };
        end.reason.is_none()
    }
}

fn with_lines(frame: &FrameLine, row: &Value) -> String {
    let mut text = format!(
        "frame at byte {}: {} records from {}, {} bytes, codec {}, durable {}\n",
        frame.offset,
        frame.count,
        frame.first_seq,
        frame.bytes,
        member(&row["codec"]),
        frame.durable
    );
    for line in &frame.records {
        text += &format!("  {:>12}  {:<20}  {}\n", line.seq.0, printable(&line.kind), printable(&line.text));
    }
    text
}

fn frame(line: &FrameLine, with_records: bool) -> Value {
    let codec = match line.compression {
        Compression::None => "none",
        Compression::Lz4 => "lz4",
    };
    let mut row = json!({
        "offset": line.offset,
        "first_seq": line.first_seq.0,
        "count": line.count,
        "bytes": line.bytes,
        "payload_bytes": line.payload_bytes,
        "codec": codec,
        "durable": line.durable.0,
    });
    if with_records {
        row["records"] = line.records.iter().map(record).collect();
    }
    row
}

fn record(line: &RecordLine) -> Value {
    json!({"seq": line.seq.0, "kind": line.kind, "text": line.text})
}

pub fn id(id: &IdLine) -> Shown {
    let json = json!({
        "key_hash": format!("{:032x}", id.key.0),
        "entry": id.entry.as_ref().map(entry),
        "horizon": id.horizon.0,
        "position": id.position.0,
    });
    let mut text = format!("key hash:     {}\n", member(&json["key_hash"]));
    let Some(entry) = &id.entry else {
        text += &format!("not known: it would be accepted (ids below record {} are forgotten)\n", id.horizon);
        return Shown { json, text, fine: false };
    };
    text += &format!("accepted by:  record {}\n", entry.seq);
    text += &format!("fingerprint:  {:08x}\n", entry.fingerprint.0);
    let state =
        if entry.below_horizon { "forgotten: it would be accepted anew" } else { "known: a retry is a duplicate" };
    text += &format!("state:        {state} (the horizon is record {})\n", id.horizon);
    match &entry.frame {
        Some((segment, frame)) => {
            text += &format!("segment:      {:020}\n", segment.0);
            let (offset, first, count) = (frame.offset, frame.first_seq, frame.count);
            text += &format!("frame:        byte {offset}, {count} records from {first}\n");
        }
        None => text += "segment:      removed\n",
    }
    let event = entry.event.as_ref().map_or(NOTHING.to_owned(), |event| printable(&event.text));
    text += &format!("event:        {event}\n");
    Shown { json, text, fine: true }
}

fn entry(entry: &EntryLine) -> Value {
    json!({
        "seq": entry.seq.0,
        "fingerprint": format!("{:08x}", entry.fingerprint.0),
        "below_horizon": entry.below_horizon,
        "segment": entry.frame.as_ref().map(|(segment, _)| segment.0),
        "frame": entry.frame.as_ref().map(|(_, line)| frame(line, false)),
        "event": entry.event.as_ref().map(record),
    })
}

pub fn windows(position: Seq, lines: &[WindowLine]) -> Shown {
    let rows: Vec<Value> = lines.iter().map(window).collect();
    let columns = [
        "table",
        "dimensions",
        "start",
        "end",
        "period",
        "state",
        "value",
        "event_count",
        "revision",
        "incarnation",
        "hash",
    ];
    let mut text = if rows.is_empty() { "no such window\n".to_owned() } else { table_of(&rows, columns, 6..10) };
    text += &format!("as of record {position}, which the store persisted last\n");
    Shown { json: json!({"position": position.0, "rows": rows}), text, fine: !lines.is_empty() }
}

fn window(line: &WindowLine) -> Value {
    let dimensions = line.dimensions.iter().map(|(name, value)| (name.clone(), json!(value)));
    json!({
        "table": line.table,
        "dimensions": dimensions.collect::<serde_json::Map<_, _>>(),
        "start": line.bounds.start.to_string(),
        "end": line.bounds.end.to_string(),
        "period": line.period,
        "state": line.state,
        "value": line.value.map(|value| value.to_string()),
        "approximate": line.approximate,
        "event_count": line.event_count,
        "late_count": line.late_count,
        "revision": line.revision,
        "incarnation": line.written.map(|(incarnation, _)| incarnation.0),
        "hash": line.written.map(|(_, hash)| hex::encode(&hash)),
    })
}
