//! An explanation as one JSON document, written as it is found: what it is of, `windows` with `rows` and `events`, then
//! `totals`, and what came of it. Quantities are decimal strings, times UTC, events as the daemon has them.

use std::io::Write;

use serde_json::{Value, json};

use crate::cli::evidence::{Event, Feed, Standing};
use crate::cli::explain::report::{CheckedTotal, Head, Report, Summary, difference};
use crate::cli::explain::walk::Checked;
use crate::cli::explain::{Check, Question, WindowPage};
use crate::model::Quantity;

pub struct Json<'o> {
    out: &'o mut dyn Write,
    has_windows: bool,
    has_events: bool,
}

impl<'o> Json<'o> {
    pub fn new(out: &'o mut dyn Write) -> Self {
        Self { out, has_windows: false, has_events: false }
    }

    /// A comma, but for the first.
    fn separate(&mut self, has_some: bool) -> std::io::Result<()> {
        self.out.write_all(if has_some { b",\n" } else { b"\n" })
    }
}

impl Report for Json<'_> {
    fn nothing(&mut self, customer: &str, meter: &str, period: &str) -> anyhow::Result<()> {
        let nothing = json!({
            "customer": customer, "meter": meter, "period": period, "windows": [], "totals": [], "matches": true,
            "complete": true,
        });
        Ok(writeln!(self.out, "{nothing}")?)
    }

    fn head(&mut self, head: &Head<'_>) -> anyhow::Result<()> {
        let question = head.question;
        let head = json!({
            "customer": question.customer,
            "meter": question.meter.slug,
            "aggregation": question.meter.aggregation,
            "period": question.period,
            "period_start": question.bounds.start.to_string(),
            "period_end": question.bounds.end.to_string(),
        });
        let text = head.to_string();
        Ok(write!(self.out, "{},\"windows\":[", text.trim_end_matches('}'))?)
    }

    fn window(&mut self, _question: &Question, page: &WindowPage) -> anyhow::Result<()> {
        self.separate(self.has_windows)?;
        (self.has_windows, self.has_events) = (true, false);
        let rows: Vec<Value> = page.rows.iter().map(row).collect();
        let (start, end) = (page.window.start, page.window.end);
        let rows = Value::Array(rows);
        write!(self.out, "{{\"window_start\":\"{start}\",\"window_end\":\"{end}\",\"rows\":{rows},\"events\":[")?;
        Ok(())
    }

    fn event(&mut self, event: &Event, _feed: &Feed, standing: Standing) -> anyhow::Result<()> {
        self.separate(self.has_events)?;
        self.has_events = true;
        let counts = standing == Standing::Counts || standing == Standing::Reverting;
        let text = serde_json::to_string(event)?;
        Ok(write!(self.out, "{{\"counts\":{counts},{}", text.trim_start_matches('{'))?)
    }

    fn more_events(&mut self, count: u64) -> anyhow::Result<()> {
        Ok(write!(self.out, "],\"events_not_shown\":{count}")?)
    }

    fn window_end(&mut self) -> anyhow::Result<()> {
        Ok(self.out.write_all(b"}")?)
    }

    fn end(&mut self, _head: &Head<'_>, totals: &[CheckedTotal], summary: &Summary) -> anyhow::Result<()> {
        let totals: Vec<Value> = totals.iter().map(total).collect();
        let checks = |count: &dyn Fn(Check) -> u64| {
            let all = [Check::Matches, Check::Differs, Check::Estimate, Check::Expired, Check::Unsettled];
            all.into_iter()
                .map(|check| (check.as_str().to_owned(), count(check).into()))
                .collect::<serde_json::Map<_, _>>()
        };
        let end = json!({
            "totals": totals,
            "checks": checks(&|check| summary.of(check)),
            "events": summary.events,
            "taken_back": summary.taken_back,
            "evidence_from": summary.evidence_from.map(|at| at.to_string()),
            "matches": summary.is_well(),
            "complete": summary.is_complete(),
        });
        Ok(writeln!(self.out, "\n],{}", end.to_string().trim_start_matches('{'))?)
    }
}

fn row(row: &Checked) -> Value {
    let (all, of_period) = (&row.fold.all, &row.fold.of_period);
    let mut shown = json!({
        "dimensions": row.dimensions,
        "value": text(row.claim.value),
        "event_count": row.claim.event_count,
        "state": row.row.as_ref().map(|row| &row.state),
        "revision": row.row.as_ref().map(|row| row.revision),
        "folded_value": text(all.value()),
        "folded_events": all.events,
        "taken_back": row.fold.taken_back,
        "check": row.part.check.as_str(),
        "difference": difference(row.claim.value, all.value()).to_string(),
    });
    if row.part.of_window {
        shown["of_period"] = json!({"value": text(of_period.value()), "event_count": of_period.events});
    }
    shown
}

fn total(total: &CheckedTotal) -> Value {
    let folded = &total.fold.fold;
    let row = total.total.as_ref();
    json!({
        "dimensions": total.dimensions,
        "value": text(total.claim.value),
        "original_value": row.and_then(|row| row.original_value.as_ref()),
        "adjustment": row.and_then(|row| row.adjustment.as_ref()),
        "adjustments": row.map(|row| row.adjustments),
        "event_count": total.claim.event_count,
        "state": row.map(|row| &row.state),
        "revision": row.map(|row| row.revision),
        "windows": total.fold.windows,
        "folded_value": text(folded.value()),
        "folded_events": folded.events,
        "check": total.check.as_str(),
        "difference": difference(total.claim.value, folded.value()).to_string(),
    })
}

fn text(value: Option<Quantity>) -> Option<String> {
    value.map(|value| value.to_string())
}
