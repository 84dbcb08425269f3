//! A statement as CSV: lines, then adjustments, then totals per meter, then what lies above hard caps (`overage`, with the
//! amount as its value), told apart by the first column. Times are UTC.

use serde_json::{Map, Value};

use crate::cli::statement::lines::Statement;
use crate::model::csv::Record;

pub const HEADER: &str = "line,customer,meter,dimensions,period,from,until,original_value,adjustment,value,event_count,state,\
final,as_of,adjustment_id,usage_timestamp,recorded_at\r\n";

/// One record; what a kind of line does not have stays empty.
#[derive(Default)]
struct Fields<'a> {
    kind: &'a str,
    meter: &'a str,
    dimensions: Option<&'a Map<String, Value>>,
    period: &'a str,
    from_until: [&'a str; 2],
    original: Option<&'a str>,
    adjustment: Option<&'a str>,
    value: Option<&'a str>,
    event_count: Option<u64>,
    state: &'a str,
    is_final: Option<bool>,
    adjustment_id: &'a str,
    times: [&'a str; 2],
}

pub fn render(statement: &Statement) -> Vec<u8> {
    let mut out = HEADER.as_bytes().to_vec();
    let lines = statement.totals.iter().map(|line| Fields {
        kind: "total",
        meter: &line.meter,
        dimensions: Some(&line.dimensions),
        period: &line.period,
        from_until: [&line.period_start, &line.period_end],
        original: line.original_value.as_deref(),
        adjustment: line.adjustment.as_deref(),
        value: line.value.as_deref(),
        event_count: Some(line.event_count),
        state: &line.state,
        is_final: Some(line.is_final),
        ..Fields::default()
    });
    let adjustments = statement.adjustments.iter().map(|row| Fields {
        kind: "adjustment",
        meter: &row.meter,
        dimensions: Some(&row.dimensions),
        period: &row.period,
        from_until: [&row.window_start, &row.window_end],
        adjustment: Some(&row.delta),
        adjustment_id: &row.id,
        times: [&row.timestamp, &row.recorded_at],
        ..Fields::default()
    });
    let meters = statement.meters.iter().map(|total| Fields {
        kind: "meter",
        meter: &total.meter,
        period: &statement.period,
        original: total.original_value.as_deref(),
        adjustment: total.adjustment.as_deref(),
        value: total.value.as_deref(),
        event_count: Some(total.event_count),
        is_final: Some(statement.is_final),
        ..Fields::default()
    });
    let overages = statement.totals.iter().filter_map(|line| {
        Some(Fields {
            kind: "overage",
            meter: &line.meter,
            dimensions: Some(&line.dimensions),
            period: &line.period,
            from_until: [&line.period_start, &line.period_end],
            value: Some(line.over()?),
            state: &line.state,
            is_final: Some(line.is_final),
            ..Fields::default()
        })
    });
    lines.chain(adjustments).chain(meters).chain(overages).for_each(|fields| put(&mut out, statement, &fields));
    out
}

fn put(out: &mut Vec<u8>, statement: &Statement, fields: &Fields<'_>) {
    let mut record = Record::new(out);
    record.plain(fields.kind);
    record.text(&statement.customer);
    record.text(fields.meter);
    match fields.dimensions {
        Some(dimensions) => record.quoted(&serde_json::to_string(dimensions).unwrap_or_default()),
        None => record.plain(""),
    }
    record.text(fields.period);
    fields.from_until.iter().for_each(|time| record.text(time));
    let values = [fields.original, fields.adjustment, fields.value];
    values.iter().for_each(|value| record.plain(value.unwrap_or_default()));
    record.plain(fields.event_count.map_or_else(String::new, |count| count.to_string()));
    record.text(fields.state);
    record.plain(fields.is_final.map_or("", |is_final| if is_final { "true" } else { "false" }));
    record.text(&statement.as_of);
    record.text(fields.adjustment_id);
    fields.times.iter().for_each(|time| record.text(time));
    record.end();
}
