//! `meterd reconcile`: a file of totals against the daemon's, each difference with the events behind it.
//!
//! | file | does |
//! | --- | --- |
//! | `file` | the CSV file to rows by customer, meter and dimensions |
//! | `compare` | the daemon's totals, as they are read, against the rows |
//! | `behind` | the events and adjustments behind a difference |
//! | `report` | writes differences as they are found, for people and for programs |
//!
//! 1. Numbers are exact decimals. A cell that is none is an error with its line, never a zero.
//! 2. The file says how fine the comparison is: totals are summed over the dimensions that it does not name, where they can
//!    be (counts and sums); of other meters there may be one row then.
//! 3. Each row of the file and each total is in exactly one comparison: what has no partner is a difference.
//! 4. The file is held in memory; totals and events are read a page at a time.

mod behind;
mod compare;
mod file;
mod report;

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args as ClapArgs;

use crate::cli::client::{Client, Target, exit_code};
use crate::cli::explain::{Meter, totals};
use crate::cli::listing::{Listing, PAGE_ROWS};
use crate::cli::statement::{Format, parse_period};

use behind::Behind;
use compare::Compare;
use file::Claims;
use report::{Report, Summary};

const EXAMPLES: &str = "\
Examples:
  meterd reconcile --period 2026-10 --against totals.csv
  meterd reconcile --period 2026-10 --against totals.csv --meter tokens_in --events 20
  meterd reconcile --period previous --against invoice.csv --format json | jq '.differences[].delta'

The file has a header. Columns customer, meter and value are needed; event_count is compared if it is there. dimensions (a \
JSON object) or dim:NAME columns (empty: not given) say how totals are split; without them they are summed over all \
dimensions. Other columns are ignored. What GET /v1/periods/{period}/totals?format=csv gives is such a file.

A difference is value, event_count, missing_in_file or missing_in_meterd. delta is meterd's value less the file's. Late \
events that come to the delta exactly are named: they were counted after the file was made.

Exit codes: 0 no differences, 1 there are some, or the daemon cannot be asked, or the file makes no sense, 74 when it \
cannot be read.";

/// Compare a file of totals with a billing period's, and find the events behind each difference
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// 2026-11, 2026-W48, 2026-11-22, current or previous
    #[arg(long, value_name = "PERIOD", value_parser = parse_period)]
    period: String,
    /// CSV with a header: customer, meter, value, and perhaps dimensions, dim:NAME, event_count
    #[arg(long, value_name = "FILE")]
    against: PathBuf,
    /// Only this meter, of the file and of the daemon
    #[arg(long, value_name = "SLUG")]
    meter: Option<String>,
    /// Events to show for a difference
    #[arg(long, value_name = "N", default_value_t = 5)]
    events: usize,
    /// How to write it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Where the daemon listens
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = Target::parse)]
    url: Target,
    /// Longest wait for one answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
}

/// Exits 0 without differences, 1 with some or for trouble, 74 when a file cannot be read.
pub fn run(args: &Args) -> ExitCode {
    exit_code("reconcile", reconcile_to_stdout(args))
}

fn reconcile_to_stdout(args: &Args) -> anyhow::Result<bool> {
    let name = args.against.display().to_string();
    let bytes = std::fs::read(&args.against).with_context(|| format!("cannot read {name}"))?;
    let claims = Claims::read(&name, &bytes, args.meter.as_deref())?;
    let mut client = Client::new(&args.url, Duration::from_secs(args.timeout))?;
    let mut out = BufWriter::new(io::stdout().lock());
    let is_equal = reconcile(&mut client, args, claims, &mut out)?;
    out.flush().context("cannot write to standard output")?;
    Ok(is_equal)
}

/// Whether there are no differences.
fn reconcile(client: &mut Client, args: &Args, claims: Claims, out: &mut dyn Write) -> anyhow::Result<bool> {
    let meters: Vec<Meter> = Listing::new("/v1/meters?".to_owned(), PAGE_ROWS).all(client)?;
    let meters: HashMap<String, Meter> = meters.into_iter().map(|meter| (meter.slug.clone(), meter)).collect();
    let mut summary = Summary::new(claims.len() as u64, claims.notes.clone());
    let mut behind = Behind::new(&meters, &args.period, args.events);
    let mut report = report::new(args.format, out);
    report.head(&args.period, &claims.name)?;
    let mut compare = Compare::new(&meters, claims);
    let mut listing = totals(&args.period, None, args.meter.as_deref());
    while let Some(total) = listing.next(client)? {
        summary.rows_meterd += 1;
        for difference in compare.take(total)? {
            tell(client, &mut behind, &difference, report.as_mut(), &mut summary)?;
        }
    }
    summary.is_final = listing.is_final;
    for difference in compare.finish()? {
        tell(client, &mut behind, &difference, report.as_mut(), &mut summary)?;
    }
    report.end(&summary)?;
    Ok(summary.differences() == 0)
}

fn tell(
    client: &mut Client,
    behind: &mut Behind<'_>,
    difference: &compare::Difference,
    report: &mut dyn Report,
    summary: &mut Summary,
) -> anyhow::Result<()> {
    summary.count(difference.kind);
    let evidence = behind.look(client, difference)?;
    report.difference(difference, &evidence)
}

#[cfg(test)]
mod tests;
