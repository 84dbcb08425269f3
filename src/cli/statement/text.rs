//! A statement as text that people read: a head, and a table each for lines, adjustments and totals per meter.

use std::fmt::Write;

use comfy_table::Table;
use jiff::tz::TimeZoneDatabase;
use serde_json::{Map, Value};

use crate::cli::statement::fetch::instant;
use crate::cli::statement::lines::Statement;
use crate::cli::text::{NOTHING, printable, table};

pub fn render(statement: &Statement) -> String {
    let mut out = String::new();
    put_head(&mut out, statement).expect("a String takes any text");
    if statement.totals.is_empty() {
        out.push_str("\nNothing was used.\n");
        return out;
    }
    for (title, table) in [
        ("Usage", Some(usage(statement))),
        ("Adjustments: usage that arrived, or was taken back, after its window was final", adjustments(statement)),
        ("Totals", Some(totals(statement))),
        ("Overage: usage above the hard cap", overage(statement)),
    ] {
        if let Some(table) = table {
            write!(out, "\n{title}\n\n{table}\n").expect("a String takes any text");
        }
    }
    if statement.totals.iter().any(|line| line.approximate) {
        out.push_str("\n~ is an estimate: more different members than are counted exactly.\n");
    }
    out
}

fn put_head(out: &mut String, statement: &Statement) -> std::fmt::Result {
    let zones = Zones::of(statement);
    writeln!(out, "Customer:   {}", printable(&statement.customer))?;
    if let Some(plan) = &statement.plan {
        writeln!(out, "Plan:       {}", printable(plan))?;
    }
    writeln!(out, "Period:     {}", period_name(statement))?;
    if let Some(zone) = zones.common() {
        writeln!(out, "Time zone:  {zone}")?;
    }
    let zone = zones.common().unwrap_or("UTC");
    let as_of = format!("{} {zone}", local(&statement.as_of, zone));
    match statement.is_final {
        true => writeln!(out, "Status:     FINAL as of {as_of}")?,
        false => writeln!(out, "Status:     NOT FINAL: as of {as_of}, and still changing")?,
    }
    if !statement.is_complete() {
        writeln!(out, "Warning:    the adjustments below are not those of the usage: it changed while it was read")?;
    }
    Ok(())
}

/// As asked for, and what that means where all lines agree.
fn period_name(statement: &Statement) -> String {
    let mut names = statement.totals.iter().map(|line| line.period.as_str()).collect::<Vec<_>>();
    names.dedup();
    match names[..] {
        [name] if name != statement.period => format!("{} ({name})", statement.period),
        _ => statement.period.clone(),
    }
}

fn usage(statement: &Statement) -> Table {
    let zones = Zones::of(statement);
    let header =
        ["meter", "dimensions", "original", "adjustment", "value", "events", "state", "from", "until (exclusive)"];
    let rows = statement.totals.iter().map(|line| {
        let value = line.value.as_deref().unwrap_or(NOTHING);
        let time = |text: &str| zones.local(text, &line.time_zone);
        [
            printable(&line.meter),
            dimensions(&line.dimensions),
            line.original_value.as_deref().unwrap_or(NOTHING).to_owned(),
            line.adjustment.as_deref().unwrap_or(NOTHING).to_owned(),
            if line.approximate { format!("~{value}") } else { value.to_owned() },
            line.event_count.to_string(),
            line.state.clone(),
            time(&line.period_start),
            time(&line.period_end),
        ]
    });
    table(header, rows, 2..6)
}

fn adjustments(statement: &Statement) -> Option<Table> {
    let zones = Zones::of(statement);
    let header =
        ["meter", "dimensions", "change", "window from", "window until", "usage happened", "recorded", "adjustment"];
    let rows = statement.adjustments.iter().map(|row| {
        let time = |text: &str| zones.local(text, &row.time_zone);
        [
            printable(&row.meter),
            dimensions(&row.dimensions),
            row.delta.clone(),
            time(&row.window_start),
            time(&row.window_end),
            time(&row.timestamp),
            time(&row.recorded_at),
            row.id.clone(),
        ]
    });
    (!statement.adjustments.is_empty()).then(|| table(header, rows, 2..3))
}

fn totals(statement: &Statement) -> Table {
    let header = ["meter", "lines", "original", "adjustment", "value", "events"];
    let rows = statement.meters.iter().map(|total| {
        let value = |value: &Option<String>| value.as_deref().unwrap_or(NOTHING).to_owned();
        [
            printable(&total.meter),
            total.lines.to_string(),
            value(&total.original_value),
            value(&total.adjustment),
            value(&total.value),
            total.event_count.to_string(),
        ]
    });
    table(header, rows, 1..6)
}

fn overage(statement: &Statement) -> Option<Table> {
    let rows: Vec<[String; 4]> = statement
        .totals
        .iter()
        .filter_map(|line| {
            let value = line.value.as_deref().unwrap_or(NOTHING).to_owned();
            Some([printable(&line.meter), printable(&line.period), value, printable(line.over()?)])
        })
        .collect();
    (!rows.is_empty()).then(|| table(["meter", "period", "value", "overage"], rows.into_iter(), 2..4))
}

/// The zones in which a statement's times are told.
struct Zones<'a> {
    /// The customer's.
    customer: Option<&'a str>,
    /// The meters', each once.
    meters: Vec<&'a str>,
}

impl<'a> Zones<'a> {
    fn of(statement: &'a Statement) -> Self {
        let mut meters: Vec<&str> = statement.totals.iter().map(|line| line.time_zone.as_str()).collect();
        meters.sort_unstable();
        meters.dedup();
        Self { customer: statement.time_zone.as_deref(), meters }
    }

    /// The one zone of all times, if there is one.
    fn common(&self) -> Option<&'a str> {
        self.customer.or(match self.meters[..] {
            [] => Some("UTC"),
            [zone] => Some(zone),
            _ => None,
        })
    }

    /// Local time, with the zone's name unless the head has it.
    fn local(&self, text: &str, meter_zone: &str) -> String {
        match self.common() {
            Some(zone) => local(text, zone),
            None => format!("{} {meter_zone}", local(text, meter_zone)),
        }
    }
}

/// `2026-11-01 00:00`, with seconds where they are not 0; the text as it is if time or zone are not known here.
fn local(text: &str, zone: &str) -> String {
    let zone = TimeZoneDatabase::bundled().get(zone).ok();
    let Some((at, zone)) = instant(text).ok().zip(zone) else { return printable(text) };
    let local = at.to_jiff().to_zoned(zone).datetime();
    let format =
        if local.second() == 0 && local.subsec_nanosecond() == 0 { "%Y-%m-%d %H:%M" } else { "%Y-%m-%d %H:%M:%S" };
    local.strftime(format).to_string()
}

/// `model=gpt region=-`.
fn dimensions(dimensions: &Map<String, Value>) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| NOTHING.to_owned(), printable);
    let pairs: Vec<String> =
        dimensions.iter().map(|(name, value)| format!("{}={}", printable(name), text(value))).collect();
    pairs.join(" ")
}
