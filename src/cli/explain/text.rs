//! An explanation as text that people read, a line for each window and event, written as it is found.

use std::io::Write;

use crate::cli::evidence::{self, Event, Feed, Standing};
use crate::cli::explain::report::{CheckedTotal, Head, Report, Summary, difference, shown};
use crate::cli::explain::walk::Checked;
use crate::cli::explain::{Check, Question, WindowPage};
use crate::cli::text::{NOTHING, printable};

pub struct Text<'o> {
    out: &'o mut dyn Write,
}

impl<'o> Text<'o> {
    pub fn new(out: &'o mut dyn Write) -> Self {
        Self { out }
    }
}

impl Report for Text<'_> {
    fn nothing(&mut self, customer: &str, meter: &str, period: &str) -> anyhow::Result<()> {
        let (customer, meter) = (printable(customer), printable(meter));
        Ok(writeln!(self.out, "{customer} has no total of {meter} in {period}: nothing was used.")?)
    }

    fn head(&mut self, head: &Head<'_>) -> anyhow::Result<()> {
        let Question { customer, meter, period, bounds, .. } = head.question;
        writeln!(self.out, "Customer:  {}", printable(customer))?;
        writeln!(self.out, "Meter:     {} ({})", printable(&meter.slug), meter.aggregation.as_str())?;
        writeln!(self.out, "Period:    {period}: {} until {}", bounds.start, bounds.end)?;
        for total in head.totals {
            let value = total.value.as_deref().unwrap_or(NOTHING);
            write!(self.out, "Total:     {}{value}", if total.approximate { "~" } else { "" })?;
            if total.adjustments > 0 {
                let original = total.original_value.as_deref().unwrap_or(NOTHING);
                let adjustment = total.adjustment.as_deref().unwrap_or(NOTHING);
                write!(self.out, " = {original} original + {adjustment} by {} adjustments", total.adjustments)?;
            }
            let dimensions = evidence::shown(&total.dimensions);
            writeln!(self.out, ", {} events, {}  {dimensions}", total.event_count, total.state)?;
        }
        let titles = ("window", "value", "events", "revision", "state", "check", "dimensions");
        let (a, b, c, d, e, f, g) = titles;
        Ok(writeln!(self.out, "\n{a:<22} {b:>20} {c:>9} {d:>8}  {e:<9}  {f:<11} {g}")?)
    }

    fn window(&mut self, question: &Question, page: &WindowPage) -> anyhow::Result<()> {
        let start = page.window.start.to_string();
        for row in &page.rows {
            let value = format!("{}{}", if row.claim.is_estimate { "~" } else { "" }, shown(row.claim.value));
            let (events, check) = (row.claim.event_count, mark(row.part.check));
            let revision = row.row.as_ref().map_or_else(|| NOTHING.to_owned(), |row| row.revision.to_string());
            let state = row.row.as_ref().map_or(NOTHING, |row| row.state.as_str());
            let dimensions = evidence::shown(&row.dimensions);
            writeln!(
                self.out,
                "{start:<22} {value:>20} {events:>9} {revision:>8}  {state:<9}  {check:<11} {dimensions}"
            )?;
            for note in notes(question, row) {
                writeln!(self.out, "    {note}")?;
            }
        }
        Ok(())
    }

    fn event(&mut self, event: &Event, feed: &Feed, standing: Standing) -> anyhow::Result<()> {
        let (at, value, id) = (&event.timestamp, printable(feed.shown()), printable(event.id()));
        write!(self.out, "    {at:<27} {value:>11}  {id}")?;
        if !event.source.is_empty() {
            write!(self.out, " of {}", printable(&event.source))?;
        }
        write!(self.out, "  {}", evidence::shown(&feed.dimensions))?;
        if feed.late {
            write!(self.out, "  late, received {}", event.received_at)?;
        }
        if let Some(backfill) = &event.backfill {
            write!(self.out, "  backfill {}", printable(backfill))?;
        }
        if standing != Standing::Counts {
            write!(self.out, "  NOT COUNTED: {}", standing.as_str())?;
        }
        if let Some(voided) = &event.voided {
            write!(self.out, " {}: {}", voided.at, printable(voided.reason.as_deref().unwrap_or_default()))?;
        }
        Ok(writeln!(self.out)?)
    }

    fn more_events(&mut self, count: u64) -> anyhow::Result<()> {
        if count > 0 {
            writeln!(self.out, "    … and {count} more: --events-max shows them")?;
        }
        Ok(())
    }

    fn window_end(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn end(&mut self, _head: &Head<'_>, totals: &[CheckedTotal], summary: &Summary) -> anyhow::Result<()> {
        writeln!(self.out)?;
        for total in totals {
            self.total(total)?;
        }
        let of = |check| summary.of(check);
        write!(self.out, "{} windows, {} events: {} match", summary.windows, summary.events, of(Check::Matches))?;
        for check in [Check::Differs, Check::Estimate, Check::Expired, Check::Unsettled] {
            if of(check) > 0 {
                write!(self.out, ", {} {}", of(check), check.as_str())?;
            }
        }
        writeln!(self.out)?;
        if summary.taken_back > 0 {
            writeln!(self.out, "{} events were taken back and do not count", summary.taken_back)?;
        }
        if let (Some((first, last)), Some(from)) = (summary.expired, summary.evidence_from) {
            writeln!(
                self.out,
                "Events received before {from} are past journal.retention: it can be explained from then on."
            )?;
            writeln!(self.out, "Not explained: windows from {first} to {last}")?;
        }
        if summary.of(Check::Unsettled) + summary.totals_of(Check::Unsettled) > 0 {
            writeln!(
                self.out,
                "Usage changed while it was read: ask again. A final period changes by adjustments only."
            )?;
        }
        Ok(())
    }
}

impl Text<'_> {
    fn total(&mut self, total: &CheckedTotal) -> anyhow::Result<()> {
        let (value, folded) = (shown(total.claim.value), total.fold.fold.value());
        let dimensions = evidence::shown(&total.dimensions);
        let (windows, events) = (total.fold.windows, total.fold.fold.events);
        write!(self.out, "Total:  {value}  {}  {windows} windows, {events} events  {dimensions}", mark(total.check))?;
        match total.check {
            Check::Differs | Check::Unsettled => {
                let delta = difference(total.claim.value, folded);
                let (folded, counted) = (shown(folded), total.claim.event_count);
                write!(self.out, ": windows come to {folded}, difference {delta}; {counted} events in the total")?;
            }
            Check::Expired => write!(self.out, ": not all of its events are kept")?,
            Check::Estimate => write!(self.out, ": an estimate; its windows come to {}", shown(folded))?,
            Check::Matches => {}
        }
        Ok(writeln!(self.out)?)
    }
}

fn mark(check: Check) -> &'static str {
    match check {
        Check::Matches => "= matches",
        Check::Differs => "≠ DIFFERS",
        Check::Estimate => "~ estimate",
        Check::Expired => "? expired",
        Check::Unsettled => "? unsettled",
    }
}

/// What the line of a window does not say.
fn notes(question: &Question, row: &Checked) -> Vec<String> {
    let mut notes = Vec::new();
    let (all, of_period) = (&row.fold.all, &row.fold.of_period);
    match row.part.check {
        Check::Differs | Check::Unsettled => notes.push(format!(
            "its {} events come to {}, difference {}",
            all.events,
            shown(all.value()),
            difference(row.claim.value, all.value())
        )),
        Check::Expired => notes.push(format!("{} of its {} events are kept", all.events, row.claim.event_count)),
        Check::Estimate => notes.push(format!("its {} events have {} members", all.events, shown(all.value()))),
        Check::Matches => {}
    }
    if row.row.is_none() && all.events > 0 {
        notes.push("there are events and no such window".to_owned());
    }
    if row.part.of_window {
        let value = shown(of_period.value());
        notes.push(format!(
            "of {} are {} of its events, {value}: the window reaches over the period's end",
            question.period, of_period.events
        ));
    }
    if row.fold.taken_back > 0 {
        notes.push(format!("{} events were taken back", row.fold.taken_back));
    }
    if row.fold.reverting > 0 {
        notes.push(format!("{} events are of a backfill that is being reverted", row.fold.reverting));
    }
    notes
}
