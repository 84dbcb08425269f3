//! `meterd explain`: from a billing period's total to its windows and their events, with every step checked.
//!
//! | file | does |
//! | --- | --- |
//! | `ask` | what is asked of the daemon |
//! | `walk` | rows and events side by side, window by window |
//! | `fold` | events to a window's value, windows to the total; how they compare |
//! | `report`, `text`, `csv`, `json` | writes it, window by window, for people and for programs |
//!
//! 1. Nothing is taken on trust: each window is folded from its events, each total from its windows. Averages and sets are
//!    folded from the events again, because values of windows do not add up to them.
//! 2. Exact decimals; an estimate is compared by its number of events.
//! 3. What was voided, or came with a backfill that was reverted, is shown and does not count.
//! 4. Events past `journal.retention` cannot be folded: it is said for which windows, and it is not an error.
//! 5. Memory is bounded by a window's sets and a page of events.

mod ask;
mod csv;
mod fold;
mod json;
mod report;
mod text;
mod walk;

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args as ClapArgs;

use crate::cli::client::{Client, Target, exit_code};
use crate::cli::evidence::{Dimensions, instant};
use crate::cli::statement::{Format, parse_period};
use crate::model::Window;

pub use ask::{Meter, Total, totals};
use fold::{Check, Claim, PeriodFold};
use report::{CheckedTotal, Head, Report, Summary};
use walk::{Question, Walk, WindowPage};

const EXAMPLES: &str = "\
Examples:
  meterd explain acme tokens_in 2026-11
  meterd explain acme tokens_in 2026-11 --events --events-max 20
  meterd explain acme tokens_in 2026-11 --window 2026-11-05T10:00:00Z
  meterd explain acme tokens_in previous --format csv > evidence.csv
  meterd explain acme tokens_in 2026-11 --format json | jq '.windows[] | select(.rows[].check != \"matches\")'

A total is the sum (least, latest, …) of its windows, a window that of its events. Each step is computed again here, \
exactly, and compared: matches, differs, estimate (a set too large to count exactly), expired (its events are past \
journal.retention), unsettled (it changed while it was read). Voided events are shown and do not count. Times are UTC.

Exit codes: 0 nothing differs, 1 something does, or the daemon cannot be asked, 74 when standard output cannot be \
written.";

/// Explain a number: a billing period's total, its windows, their events, each checked against the next
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The customer's name, as events have it
    #[arg(value_name = "CUSTOMER", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    customer: String,
    /// The meter's slug
    #[arg(value_name = "METER", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    meter: String,
    /// 2026-11, 2026-W48, 2026-11-22, current or previous
    #[arg(value_name = "PERIOD", value_parser = parse_period)]
    period: String,
    /// Where the daemon listens
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = Target::parse)]
    url: Target,
    /// How to write it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Only the window that holds this time, with its events
    #[arg(long, value_name = "START")]
    window: Option<String>,
    /// Show events in the table too; csv and json have them anyway
    #[arg(long)]
    events: bool,
    /// Events to show for a window [default: 100 in the table, all in csv and json]
    #[arg(long, value_name = "N")]
    events_max: Option<u64>,
    /// Longest wait for one answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
}

impl Args {
    /// Events to show for a window.
    fn shown(&self) -> u64 {
        match self.format {
            Format::Table if !self.events && self.window.is_none() => 0,
            Format::Table => self.events_max.unwrap_or(100),
            Format::Csv | Format::Json => self.events_max.unwrap_or(u64::MAX),
        }
    }
}

/// Exits 0 when nothing differs, 1 when something does or the daemon cannot be asked, 74 for standard output.
pub fn run(args: &Args) -> ExitCode {
    exit_code("explain", explain_to_stdout(args))
}

fn explain_to_stdout(args: &Args) -> anyhow::Result<bool> {
    let mut client = Client::new(&args.url, Duration::from_secs(args.timeout))?;
    let mut out = BufWriter::new(io::stdout().lock());
    let is_well = explain(&mut client, args, &mut out)?;
    out.flush().context("cannot write to standard output")?;
    Ok(is_well)
}

/// Whether nothing differs.
fn explain(client: &mut Client, args: &Args, out: &mut dyn Write) -> anyhow::Result<bool> {
    let meter = Meter::ask(client, &args.meter)?;
    let claims = totals(&args.period, Some(&args.customer), Some(&args.meter)).all(client)?;
    let mut report: Box<dyn Report + '_> = match args.format {
        Format::Table => Box::new(text::Text::new(out)),
        Format::Csv => Box::new(csv::Csv::new(out)),
        Format::Json => Box::new(json::Json::new(out)),
    };
    let Some(first) = claims.first() else {
        report.nothing(&args.customer, &args.meter, &args.period)?;
        return Ok(true);
    };
    let period = first.period.clone();
    anyhow::ensure!(claims.iter().all(|total| total.period == period), "the totals are of different periods");
    let bounds = bounds(&claims)?;
    let windows = meter.windows()?;
    let range = match &args.window {
        None => bounds,
        Some(at) => {
            let window = windows.window(instant(at).context("--window")?);
            let is_of_period = window.start < bounds.end && window.end > bounds.start;
            anyhow::ensure!(is_of_period, "the window of {at} is not of {period}: {} to {}", bounds.start, bounds.end);
            window
        }
    };
    let customer = args.customer.clone();
    let question = Question { customer, meter, windows, period, bounds, keeps_events: args.shown() > 0 };
    let head = Head { question: &question, totals: &claims };
    report.head(&head)?;
    let (mut summary, mut folds) = (Summary::default(), BTreeMap::new());
    let mut walk = Walk::new(&question, range);
    while let Some(mut page) = walk.next(client)? {
        if args.window.is_none() {
            page.rows.retain(|row| !row.is_foreign());
        }
        if page.rows.is_empty() {
            continue;
        }
        take(&question, &page, &mut folds, &mut summary)?;
        report.window(&question, &page)?;
        show_events(client, &mut walk, &question, &page, args.shown(), report.as_mut())?;
        report.window_end()?;
    }
    summary.evidence_from = walk.evidence_from;
    let checked = match args.window {
        Some(_) => Vec::new(),
        None => check_totals(client, args, &question, &claims, folds)?,
    };
    checked.iter().for_each(|total| summary.count_total(total.check));
    report.end(&head, &checked, &summary)?;
    Ok(summary.is_well())
}

/// All that the totals are of.
fn bounds(claims: &[Total]) -> anyhow::Result<Window> {
    let all = claims.iter().map(Total::bounds).collect::<anyhow::Result<Vec<Window>>>()?;
    let (start, end) = (all.iter().map(|bounds| bounds.start).min(), all.iter().map(|bounds| bounds.end).max());
    start.zip(end).map(|(start, end)| Window { start, end }).context("there are no totals")
}

type Folds = BTreeMap<Dimensions, PeriodFold>;

/// Puts a window into the totals.
fn take(question: &Question, page: &WindowPage, folds: &mut Folds, summary: &mut Summary) -> anyhow::Result<()> {
    let aggregation = question.meter.aggregation;
    for row in &page.rows {
        let total = folds.entry(row.dimensions.clone()).or_insert_with(|| PeriodFold::new(aggregation));
        total.add(&row.claim, &row.fold, page.window.start, row.part)?;
        summary.count_window(page.window, row);
    }
    Ok(())
}

fn show_events(
    client: &mut Client,
    walk: &mut Walk<'_>,
    question: &Question,
    page: &WindowPage,
    shown_max: u64,
    report: &mut dyn Report,
) -> anyhow::Result<()> {
    let slug = &question.meter.slug;
    let mut shown = 0;
    let mut show = |event: &_, standing| -> anyhow::Result<bool> {
        let event: &crate::cli::evidence::Event = event;
        if shown == shown_max {
            return Ok(false);
        }
        shown += 1;
        if let Some(feed) = event.feed(slug) {
            report.event(event, feed, standing)?;
        }
        Ok(true)
    };
    if page.has_all_events || shown_max <= page.events.len() as u64 {
        for (event, standing) in &page.events {
            if !show(event, *standing)? {
                break;
            }
        }
    } else {
        walk.replay(client, page.window, show)?;
    }
    let all: u64 = page.rows.iter().map(|row| row.fold.all.events + row.fold.taken_back).sum();
    report.more_events(if shown_max == 0 { 0 } else { all.saturating_sub(shown) })?;
    Ok(())
}

/// Compares each total with its windows. What differs may have changed meanwhile: then it is asked for once more.
fn check_totals(
    client: &mut Client,
    args: &Args,
    question: &Question,
    claims: &[Total],
    mut folds: Folds,
) -> anyhow::Result<Vec<CheckedTotal>> {
    let aggregation = question.meter.aggregation;
    let mut checked = Vec::new();
    for total in claims {
        let fold = folds.remove(&total.dimensions).unwrap_or_else(|| PeriodFold::new(aggregation));
        checked.push(CheckedTotal::new(Some(total.clone()), total.dimensions.clone(), fold)?);
    }
    for (dimensions, fold) in folds.into_iter().filter(|(_, fold)| fold.fold.events > 0) {
        checked.push(CheckedTotal::new(None, dimensions, fold)?);
    }
    if checked.iter().any(|total| total.check == Check::Differs) {
        let now = totals(&args.period, Some(&args.customer), Some(&args.meter)).all(client)?;
        for total in checked.iter_mut().filter(|total| total.check == Check::Differs) {
            let now = now.iter().find(|row| row.dimensions == total.dimensions);
            if now != total.total.as_ref() {
                total.check = Check::Unsettled;
            }
        }
    }
    Ok(checked)
}

#[cfg(test)]
mod tests;
