//! Deliveries as text that people read.

use std::fmt::Write;

use serde_json::Value;

use crate::cli::text::{member, printable, table};

pub fn list(rows: &Value, more: bool) -> String {
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return "No deliveries.\n".to_owned();
    }
    let header = ["id", "sink", "kind", "state", "rows", "attempts", "planned", "next attempt", "last error"];
    let shown = rows.iter().map(|row| {
        let error = &row["last_attempt"]["error"];
        [
            member(&row["id"]),
            member(&row["sink"]),
            member(&row["kind"]),
            member(&row["state"]),
            member(&row["rows"]),
            member(&row["attempts"]),
            member(&row["planned_at"]),
            member(&row["next_attempt_at"]),
            shortened(error),
        ]
    });
    let mut out = format!("{}\n", table(header, shown, 4..6));
    if more {
        out.push_str("\nThere are more: ask for them with --limit.\n");
    }
    out
}

/// An error in a table: whole ones are shown with the delivery.
fn shortened(text: &Value) -> String {
    const CHARS_MAX: usize = 60;
    let text = member(text);
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

pub fn details(delivery: &Value) -> String {
    let mut out = String::new();
    for (label, key) in [
        ("Delivery", "id"),
        ("Sink", "sink"),
        ("Kind", "kind"),
        ("State", "state"),
        ("Planned", "planned_at"),
        ("Next try", "next_attempt_at"),
        ("Finished", "finished_at"),
        ("Rows", "rows"),
        ("Attempts", "attempts"),
        ("Replays", "replays"),
    ] {
        if !delivery[key].is_null() {
            writeln!(out, "{:12}{}", format!("{label}:"), member(&delivery[key])).expect("a String takes any text");
        }
    }
    let attempts = delivery["attempts_log"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !attempts.is_empty() {
        let shown = attempts.iter().map(|attempt| {
            let error = if attempt["error"].is_null() { "delivered".to_owned() } else { member(&attempt["error"]) };
            let answer = member(&attempt["answer"]);
            [member(&attempt["at"]), member(&attempt["took_ms"]), member(&attempt["status"]), error, answer]
        });
        let header = ["at", "ms", "status", "outcome", "answer"];
        write!(out, "\nAttempts\n\n{}\n", table(header, shown, 1..3)).expect("a String takes any text");
    }
    match delivery["payload"]["rows"].as_array() {
        Some(rows) => {
            let shown = if delivery["kind"] == "alerts" { alerts(rows) } else { usage(rows) };
            write!(out, "\nRows\n\n{shown}\n").expect("a String takes any text");
        }
        None => writeln!(out, "\nNo rows: {}", member(&delivery["payload_note"])).expect("a String takes any text"),
    }
    out
}

fn usage(rows: &[Value]) -> String {
    let header = ["customer", "meter", "dimensions", "window", "value", "delta", "events", "revision"];
    let shown = rows.iter().map(|row| {
        [
            member(&row["customer"]),
            member(&row["meter"]),
            printable(&row["dimensions"].to_string()),
            member(&row["window_start"]),
            member(&row["value"]),
            member(&row["delta"]),
            member(&row["event_count"]),
            member(&row["revision"]),
        ]
    });
    table(header, shown, 4..8).to_string()
}

fn alerts(rows: &[Value]) -> String {
    let header = ["type", "customer", "meter", "cap", "threshold", "amount", "used", "period", "event", "at"];
    let shown = rows.iter().map(|row| {
        [
            member(&row["type"]),
            member(&row["customer"]),
            member(&row["meter"]),
            member(&row["cap"]),
            member(&row["threshold"]),
            member(&row["amount"]),
            member(&row["used"]),
            member(&row["period_start"]),
            member(&row["event"]["usage_event_id"]),
            member(&row["at"]),
        ]
    });
    table(header, shown, 4..7).to_string()
}

pub fn replayed(answer: &Value) -> String {
    match answer["replayed"].as_u64() {
        Some(0) | None => "No dead letters to replay.\n".to_owned(),
        Some(1) => "1 dead letter is tried again.\n".to_owned(),
        Some(count) => format!("{count} dead letters are tried again.\n"),
    }
}
