//! `meterd statement`: what one customer used in one billing period, for those who read invoices.
//!
//! | file | does |
//! | --- | --- |
//! | `fetch` | asks a daemon for totals and adjustments, until they fit each other |
//! | `lines` | rows to a statement: lines, adjustments, totals per meter |
//! | `text`, `csv` | writes it, for people and for spreadsheets; JSON is the statement itself |
//!
//! 1. Numbers are the daemon's, as exact decimals. Only totals per meter are added up here, and only where values of
//!    different dimensions may be added: sums and counts, or a single line.
//! 2. Totals and adjustments are two reads. A line whose adjustments are not all there is read again; if they still are
//!    not, the statement says so and the exit code is 1.
//! 3. Times are local: in the customer's time zone, or else in the meter's. JSON and CSV have UTC.

mod csv;
mod fetch;
mod lines;
mod text;

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args as ClapArgs, ValueEnum};

use crate::cli::client::{Client, Target, exit_code};
use crate::meter::Period;

use lines::Statement;

const EXAMPLES: &str = "\
Examples:
  meterd statement --period 2026-11 --customer acme
  meterd statement --period previous --customer acme --format csv --output acme.csv
  meterd statement --period 2026-W48 --customer acme --url http://meterd.internal:8080 --format json | jq .meters

A line is a meter with one set of dimensions: what was counted while the period was open (original), what late usage \
changed since (adjustment), and the sum of both (value). Below, each adjustment with its window, and what was used \
above a hard cap. The top says whether the period is final; a final one changes by adjustments only. In CSV, names that a spreadsheet would run as a formula \
have an apostrophe in front.

Exit codes: 0 when the statement is written, 1 when the daemon cannot be asked or its answers do not fit each other, 74 \
when the file cannot be written.";

/// Write what a customer used in a billing period, for finance
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// 2026-11, 2026-W48, 2026-11-22, current or previous
    #[arg(long, value_name = "PERIOD", value_parser = parse_period)]
    pub period: String,
    /// The customer's name, as events have it
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub customer: String,
    /// Where the daemon listens
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = Target::parse)]
    pub url: Target,
    /// How to write it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Longest wait for one answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Csv,
    Json,
}

pub fn parse_period(text: &str) -> Result<String, String> {
    match text {
        "current" | "previous" => Ok(text.to_owned()),
        _ => text.parse::<Period>().map(|period| period.to_string()).map_err(|error| error.to_string()),
    }
}

/// Exits 0 when the statement is written, 1 when the daemon's answers are missing or do not fit, 74 for a file.
pub fn run(args: &Args) -> ExitCode {
    exit_code("statement", statement(args))
}

/// Whether the daemon's answers fit each other.
fn statement(args: &Args) -> anyhow::Result<bool> {
    let mut client = Client::new(&args.url, Duration::from_secs(args.timeout))?;
    let statement = fetch::fetch(&mut client, &args.period, &args.customer)?;
    let written = render(&statement, args.format)?;
    match &args.output {
        Some(path) => File::create(path)
            .and_then(|mut file| file.write_all(&written).and_then(|()| file.sync_all()))
            .with_context(|| format!("cannot write {}", path.display()))?,
        None => io::stdout().lock().write_all(&written).context("cannot write to standard output")?,
    }
    Ok(statement.is_complete())
}

fn render(statement: &Statement, format: Format) -> anyhow::Result<Vec<u8>> {
    match format {
        Format::Table => Ok(text::render(statement).into_bytes()),
        Format::Csv => Ok(csv::render(statement)),
        Format::Json => {
            let mut json = serde_json::to_vec_pretty(statement)?;
            json.push(b'\n');
            Ok(json)
        }
    }
}

#[cfg(test)]
mod tests;
