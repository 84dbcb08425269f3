//! `meterd audit --trail`: who changed what, when, from what to what, as a running daemon has it.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args as ClapArgs, ValueEnum};
use serde_json::Value;

use crate::cli::client::{Client, Target, exit_code, percent_encode};
use crate::cli::operator;
use crate::cli::text::{member, table};

/// Characters of a value in a table: json has it whole.
const SHOWN_CHARS_MAX: usize = 60;

pub const EXAMPLES: &str = "\
Examples:
  meterd audit --trail
  meterd audit --trail --action event.void --limit 20
  meterd audit --trail --since 4711 --format json | jq '.[] | select(.target == \"acme\")'

Each entry has the record of the journal it is in as its id. --since takes the last id that was seen.";

#[derive(Clone, Debug, ClapArgs)]
pub struct TrailArgs {
    /// Only what came after this entry
    #[arg(long, value_name = "ID", requires = "trail")]
    since: Option<String>,
    /// Only this kind of action, as the trail names it
    #[arg(long, value_name = "NAME", requires = "trail")]
    action: Option<String>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// How to write it
    #[arg(long, value_enum, default_value_t = TrailFormat::Table)]
    format: TrailFormat,
    /// Where the daemon listens
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = Target::parse)]
    url: Target,
    /// Longest wait for one answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TrailFormat {
    Table,
    Json,
}

impl TrailArgs {
    pub fn is_json(&self) -> bool {
        self.format == TrailFormat::Json
    }
}

/// Exits 0 when the trail is written, 1 when the daemon cannot be asked, 74 for standard output.
pub fn run_trail(args: &TrailArgs) -> ExitCode {
    exit_code("audit", write_trail(args).map(|()| true))
}

fn write_trail(args: &TrailArgs) -> anyhow::Result<()> {
    let mut client = Client::new(&args.url, Duration::from_secs(args.timeout))?;
    let (rows, more) = operator::list(&mut client, &path(args), args.limit as usize)?;
    let text = match args.format {
        TrailFormat::Json => format!("{:#}\n", Value::Array(rows)),
        TrailFormat::Table => trail(&rows, more),
    };
    io::stdout().lock().write_all(text.as_bytes()).context("cannot write to standard output")
}

fn path(args: &TrailArgs) -> String {
    let mut path = "/v1/audit?".to_owned();
    for (name, value) in [("since", &args.since), ("action", &args.action)] {
        if let Some(value) = value {
            path.push_str(&format!("{name}={}&", percent_encode(value)));
        }
    }
    path
}

fn trail(rows: &[Value], more: bool) -> String {
    if rows.is_empty() {
        return "Nothing was changed.\n".to_owned();
    }
    let header = ["id", "at", "by", "action", "target", "before", "after"];
    let shown = rows.iter().map(|row| {
        [
            member(&row["id"]),
            member(&row["at"]),
            member(&row["by"]),
            member(&row["action"]),
            member(&row["target"]),
            shortened(&row["before"]),
            shortened(&row["after"]),
        ]
    });
    let mut out = format!("{}\n", table(header, shown, 0..1));
    if more {
        let last = rows.last().map(|row| member(&row["id"])).unwrap_or_default();
        out.push_str(&format!("\nThere are more: ask for them with --since {last}.\n"));
    }
    out
}

fn shortened(value: &Value) -> String {
    let text = member(value);
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests;
