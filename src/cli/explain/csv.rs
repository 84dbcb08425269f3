//! An explanation as CSV: each window, its events below it, totals at the end, told apart by the first column.
//! `folded_value` and `folded_events` are what the events of a window, or the windows of a total, come to. Times are UTC.

use std::io::Write;

use crate::cli::evidence::{self, Dimensions, Event, Feed, Standing};
use crate::cli::explain::report::{CheckedTotal, Head, Report, Summary, difference};
use crate::cli::explain::{Check, Question, WindowPage};
use crate::model::Quantity;
use crate::model::csv::Record;

pub const HEADER: &str = "line,customer,meter,dimensions,period,from,until,value,event_count,folded_value,folded_events,\
check,difference,state,revision,usage_event_id,source,timestamp,received_at,seq,late,backfill,not_counted,reason\r\n";

pub struct Csv<'o> {
    out: &'o mut dyn Write,
    line: Vec<u8>,
    customer: String,
    meter: String,
    period: String,
}

/// One record; what a kind of line does not have stays empty.
#[derive(Default)]
struct Fields<'a> {
    kind: &'a str,
    dimensions: Option<&'a Dimensions>,
    from_until: [String; 2],
    value: String,
    event_count: String,
    folded: Option<(Option<Quantity>, u64)>,
    check: Option<(Check, Quantity)>,
    state: &'a str,
    revision: String,
    event: Option<(&'a Event, &'a Feed, Standing)>,
}

impl<'o> Csv<'o> {
    pub fn new(out: &'o mut dyn Write) -> Self {
        let (customer, meter, period) = (String::new(), String::new(), String::new());
        Self { out, line: Vec::new(), customer, meter, period }
    }

    fn put(&mut self, fields: &Fields<'_>) -> anyhow::Result<()> {
        self.line.clear();
        let mut record = Record::new(&mut self.line);
        record.plain(fields.kind);
        record.text(&self.customer);
        record.text(&self.meter);
        match fields.dimensions {
            Some(dimensions) => record.quoted(&evidence::json(dimensions)),
            None => record.plain(""),
        }
        record.plain(&self.period);
        fields.from_until.iter().for_each(|time| record.plain(time));
        record.plain(&fields.value);
        record.plain(&fields.event_count);
        record.plain(fields.folded.map(|(value, _)| decimal(value)).unwrap_or_default());
        record.plain(fields.folded.map(|(_, events)| events.to_string()).unwrap_or_default());
        record.plain(fields.check.map_or("", |(check, _)| check.as_str()));
        record.plain(fields.check.map(|(_, difference)| difference.to_string()).unwrap_or_default());
        record.plain(fields.state);
        record.plain(&fields.revision);
        match fields.event {
            None => (0..9).for_each(|_| record.plain("")),
            Some((event, feed, standing)) => {
                record.text(event.id());
                record.text(&event.source);
                record.plain(&event.timestamp);
                record.plain(&event.received_at);
                record.plain(event.seq);
                record.plain(feed.late);
                record.text(event.backfill.as_deref().unwrap_or_default());
                record.plain(standing.as_str());
                record.text(event.voided.as_ref().and_then(|voided| voided.reason.as_deref()).unwrap_or_default());
            }
        }
        record.end();
        Ok(self.out.write_all(&self.line)?)
    }
}

fn decimal(value: Option<Quantity>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

impl Report for Csv<'_> {
    fn nothing(&mut self, _customer: &str, _meter: &str, _period: &str) -> anyhow::Result<()> {
        Ok(self.out.write_all(HEADER.as_bytes())?)
    }

    fn head(&mut self, head: &Head<'_>) -> anyhow::Result<()> {
        let question = head.question;
        self.customer.clone_from(&question.customer);
        self.meter.clone_from(&question.meter.slug);
        self.period.clone_from(&question.period);
        Ok(self.out.write_all(HEADER.as_bytes())?)
    }

    fn window(&mut self, _question: &Question, page: &WindowPage) -> anyhow::Result<()> {
        for row in &page.rows {
            let all = &row.fold.all;
            self.put(&Fields {
                kind: "window",
                dimensions: Some(&row.dimensions),
                from_until: [page.window.start.to_string(), page.window.end.to_string()],
                value: decimal(row.claim.value),
                event_count: row.claim.event_count.to_string(),
                folded: Some((all.value(), all.events)),
                check: Some((row.part.check, difference(row.claim.value, all.value()))),
                state: row.row.as_ref().map_or("", |row| &row.state),
                revision: row.row.as_ref().map(|row| row.revision.to_string()).unwrap_or_default(),
                ..Fields::default()
            })?;
        }
        Ok(())
    }

    fn event(&mut self, event: &Event, feed: &Feed, standing: Standing) -> anyhow::Result<()> {
        self.put(&Fields {
            kind: "event",
            dimensions: Some(&feed.dimensions),
            from_until: [feed.window_start.clone(), feed.window_end.clone()],
            value: feed.shown().to_owned(),
            event: Some((event, feed, standing)),
            ..Fields::default()
        })
    }

    fn more_events(&mut self, _count: u64) -> anyhow::Result<()> {
        Ok(())
    }

    fn window_end(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn end(&mut self, head: &Head<'_>, totals: &[CheckedTotal], _summary: &Summary) -> anyhow::Result<()> {
        let bounds = head.question.bounds;
        for total in totals {
            let folded = &total.fold.fold;
            self.put(&Fields {
                kind: "total",
                dimensions: Some(&total.dimensions),
                from_until: [bounds.start.to_string(), bounds.end.to_string()],
                value: decimal(total.claim.value),
                event_count: total.claim.event_count.to_string(),
                folded: Some((folded.value(), folded.events)),
                check: Some((total.check, difference(total.claim.value, folded.value()))),
                state: total.total.as_ref().map_or("", |total| &total.state),
                revision: total.total.as_ref().map(|total| total.revision.to_string()).unwrap_or_default(),
                ..Fields::default()
            })?;
        }
        Ok(())
    }
}
