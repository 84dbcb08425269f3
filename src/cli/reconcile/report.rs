//! Differences as they are written: blocks of text, CSV records, or one JSON document. Times are UTC.

use std::io::Write;

use serde_json::{Value, json};

use crate::cli::evidence::{self, Standing};
use crate::cli::reconcile::behind::{Evidence, Seen, Shown};
use crate::cli::reconcile::compare::{Difference, Kind};
use crate::cli::statement::Format;
use crate::cli::text::{NOTHING, printable};
use crate::model::Quantity;
use crate::model::csv::Record;

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub rows_file: u64,
    pub rows_meterd: u64,
    pub is_final: bool,
    pub notes: Vec<String>,
    /// By kind.
    kinds: [u64; 4],
}

impl Summary {
    pub fn new(rows_file: u64, notes: Vec<String>) -> Self {
        Self { rows_file, notes, ..Self::default() }
    }

    pub fn count(&mut self, kind: Kind) {
        self.kinds[kind as usize] += 1;
    }

    pub fn of(&self, kind: Kind) -> u64 {
        self.kinds[kind as usize]
    }

    pub fn differences(&self) -> u64 {
        self.kinds.iter().sum()
    }
}

pub trait Report {
    fn head(&mut self, period: &str, file: &str) -> anyhow::Result<()>;
    fn difference(&mut self, difference: &Difference, evidence: &Evidence) -> anyhow::Result<()>;
    fn end(&mut self, summary: &Summary) -> anyhow::Result<()>;
}

pub fn new<'o>(format: Format, out: &'o mut dyn Write) -> Box<dyn Report + 'o> {
    match format {
        Format::Table => Box::new(Text { out }),
        Format::Csv => Box::new(Csv { out }),
        Format::Json => Box::new(Json { out, has_some: false }),
    }
}

fn decimal(value: Option<Quantity>) -> Option<String> {
    value.map(|value| value.to_string())
}

impl Difference {
    fn meterd_value(&self) -> Option<String> {
        decimal(self.meterd.as_ref().and_then(|counted| counted.value))
    }

    fn file_value(&self) -> Option<String> {
        decimal(self.file.as_ref().and_then(|claim| claim.value))
    }

    fn meterd_events(&self) -> Option<u64> {
        self.meterd.as_ref().map(|counted| counted.event_count)
    }

    fn file_events(&self) -> Option<u64> {
        self.file.as_ref().and_then(|claim| claim.event_count)
    }
}

struct Text<'o> {
    out: &'o mut dyn Write,
}

impl Report for Text<'_> {
    fn head(&mut self, period: &str, file: &str) -> anyhow::Result<()> {
        Ok(writeln!(self.out, "Totals of {period} against {}\n", printable(file))?)
    }

    fn difference(&mut self, difference: &Difference, evidence: &Evidence) -> anyhow::Result<()> {
        let key = &difference.key;
        let what = match difference.kind {
            Kind::Value => "value differs",
            Kind::EventCount => "event_count differs",
            Kind::MissingInFile => "missing in the file",
            Kind::MissingInMeterd => "missing in meterd",
        };
        let line = difference.file.as_ref().map_or_else(String::new, |claim| format!("  (line {})", claim.line));
        let dimensions = evidence::shown(&key.dimensions);
        let (customer, meter) = (printable(&key.customer), printable(&key.meter));
        writeln!(self.out, "{customer}  {meter}  {dimensions}: {what}{line}")?;
        let or_nothing = |text: Option<String>| text.unwrap_or_else(|| NOTHING.to_owned());
        let (meterd, file) = (or_nothing(difference.meterd_value()), or_nothing(difference.file_value()));
        let events = |count: Option<u64>| count.map_or_else(String::new, |count| format!(" ({count} events)"));
        let (meterd_events, file_events) = (events(difference.meterd_events()), events(difference.file_events()));
        let delta = difference.delta();
        writeln!(self.out, "    meterd {meterd}{meterd_events}  file {file}{file_events}  delta {delta}")?;
        self.evidence(evidence)?;
        Ok(writeln!(self.out)?)
    }

    fn end(&mut self, summary: &Summary) -> anyhow::Result<()> {
        let (file, meterd) = (summary.rows_file, summary.rows_meterd);
        match summary.differences() {
            0 => writeln!(self.out, "No differences: {file} rows of the file, {meterd} of meterd.")?,
            count => {
                let of = |kind| summary.of(kind);
                let (value, events) = (of(Kind::Value), of(Kind::EventCount));
                let (in_file, in_meterd) = (of(Kind::MissingInFile), of(Kind::MissingInMeterd));
                writeln!(
                    self.out,
                    "{count} differences in {file} rows of the file and {meterd} of meterd: {value} in value, {events} in \
                     event_count, {in_file} missing in the file, {in_meterd} missing in meterd."
                )?;
            }
        }
        if !summary.is_final {
            writeln!(self.out, "The period is NOT FINAL: meterd's totals still change.")?;
        }
        for note in &summary.notes {
            writeln!(self.out, "Note: {}", printable(note))?;
        }
        Ok(())
    }
}

impl Text<'_> {
    fn evidence(&mut self, evidence: &Evidence) -> anyhow::Result<()> {
        let name = |seen: &Seen| format!("{} {}", seen.timestamp, printable(&seen.usage_event_id));
        match (&evidence.first, &evidence.last) {
            (Some(first), Some(last)) => {
                let more = if evidence.is_cut { " and more" } else { "" };
                let (first, last) = (name(first), name(last));
                write!(self.out, "    {} events{more}: first {first}, last {last}", evidence.events)?;
            }
            _ => write!(self.out, "    no events")?,
        }
        if evidence.taken_back > 0 {
            write!(self.out, "; {} taken back", evidence.taken_back)?;
        }
        writeln!(self.out)?;
        for hint in &evidence.hints {
            writeln!(self.out, "    hint: {}", printable(hint))?;
        }
        for Shown { event, feed, standing, is_delta } in &evidence.shown {
            let (at, value, id) = (&event.timestamp, printable(feed.shown()), printable(event.id()));
            write!(self.out, "      {at:<27} {value:>11}  {id}")?;
            if feed.late {
                write!(self.out, "  late, received {}", event.received_at)?;
            }
            if *standing != Standing::Counts {
                write!(self.out, "  {}", standing.as_str())?;
            }
            writeln!(self.out, "{}", if *is_delta { "  = delta" } else { "" })?;
        }
        let hidden = evidence.events + evidence.taken_back - evidence.shown.len() as u64;
        if hidden > 0 {
            writeln!(self.out, "      … {hidden} more (--events N shows so many)")?;
        }
        Ok(())
    }
}

pub const HEADER: &str = "kind,customer,meter,dimensions,line,meterd_value,file_value,delta,meterd_events,file_events,\
first_timestamp,first_usage_event_id,last_timestamp,last_usage_event_id,taken_back,hints\r\n";

struct Csv<'o> {
    out: &'o mut dyn Write,
}

impl Report for Csv<'_> {
    fn head(&mut self, _period: &str, _file: &str) -> anyhow::Result<()> {
        Ok(self.out.write_all(HEADER.as_bytes())?)
    }

    fn difference(&mut self, difference: &Difference, evidence: &Evidence) -> anyhow::Result<()> {
        let (mut line, key) = (Vec::new(), &difference.key);
        let mut record = Record::new(&mut line);
        record.plain(difference.kind.as_str());
        record.text(&key.customer);
        record.text(&key.meter);
        record.quoted(&evidence::json(&key.dimensions));
        record.plain(difference.file.as_ref().map(|claim| claim.line.to_string()).unwrap_or_default());
        record.plain(difference.meterd_value().unwrap_or_default());
        record.plain(difference.file_value().unwrap_or_default());
        record.plain(difference.delta());
        for count in [difference.meterd_events(), difference.file_events()] {
            record.plain(count.map(|count| count.to_string()).unwrap_or_default());
        }
        for seen in [&evidence.first, &evidence.last] {
            record.plain(seen.as_ref().map_or("", |seen| &seen.timestamp));
            record.text(seen.as_ref().map_or("", |seen| &seen.usage_event_id));
        }
        record.plain(evidence.taken_back);
        record.text(&evidence.hints.join("; "));
        record.end();
        Ok(self.out.write_all(&line)?)
    }

    fn end(&mut self, summary: &Summary) -> anyhow::Result<()> {
        summary.notes.iter().for_each(|note| eprintln!("meterd reconcile: {}", printable(note)));
        Ok(())
    }
}

struct Json<'o> {
    out: &'o mut dyn Write,
    has_some: bool,
}

impl Report for Json<'_> {
    fn head(&mut self, period: &str, file: &str) -> anyhow::Result<()> {
        let (period, file) = (Value::from(period), Value::from(file));
        Ok(write!(self.out, "{{\"period\":{period},\"against\":{file},\"differences\":[")?)
    }

    fn difference(&mut self, difference: &Difference, evidence: &Evidence) -> anyhow::Result<()> {
        self.out.write_all(if self.has_some { b",\n" } else { b"\n" })?;
        self.has_some = true;
        let key = &difference.key;
        let seen = |seen: &Option<Seen>| {
            let seen = seen.as_ref()?;
            Some(json!({"timestamp": seen.timestamp, "usage_event_id": seen.usage_event_id}))
        };
        let side = |value: Option<String>, events: Option<u64>| json!({"value": value, "event_count": events});
        let meterd = difference.meterd.as_ref().map(|_| side(difference.meterd_value(), difference.meterd_events()));
        let file = difference.file.as_ref().map(|claim| {
            let mut file = side(difference.file_value(), difference.file_events());
            file["line"] = claim.line.into();
            file
        });
        let shown = |shown: &Shown| json!({"is_delta": shown.is_delta, "standing": shown.standing.as_str(), "event": shown.event});
        let document = json!({
            "kind": difference.kind.as_str(),
            "customer": key.customer,
            "meter": key.meter,
            "dimensions": key.dimensions,
            "meterd": meterd,
            "file": file,
            "delta": difference.delta().to_string(),
            "events": {
                "count": evidence.events,
                "more": evidence.is_cut,
                "taken_back": evidence.taken_back,
                "first": seen(&evidence.first),
                "last": seen(&evidence.last),
                "shown": evidence.shown.iter().map(shown).collect::<Vec<_>>(),
            },
            "hints": evidence.hints,
        });
        Ok(write!(self.out, "{document}")?)
    }

    fn end(&mut self, summary: &Summary) -> anyhow::Result<()> {
        let kinds = Kind::ALL.into_iter().map(|kind| (kind.as_str().to_owned(), summary.of(kind).into()));
        let end = json!({
            "count": summary.differences(),
            "kinds": kinds.collect::<serde_json::Map<_, _>>(),
            "rows_file": summary.rows_file,
            "rows_meterd": summary.rows_meterd,
            "final": summary.is_final,
            "notes": summary.notes,
        });
        Ok(writeln!(self.out, "\n],{}", end.to_string().trim_start_matches('{'))?)
    }
}
