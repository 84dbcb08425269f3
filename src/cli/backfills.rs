//! `meterd backfills`: loads of history, and taking one back whole.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Value, json};

use crate::cli::client::{Client, exit_code, percent_encode};
use crate::cli::operator::{self, Daemon};
use crate::cli::text::{member, table};

/// Between two looks at a revert that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const ID_CHARS_MAX: usize = 128;

const EXAMPLES: &str = "\
Examples:
  meterd send --backfill import-2025 history.ndjson
  meterd backfills list
  meterd backfills show import-2025
  meterd backfills revert import-2025 --reason 'wrong units' --wait

A backfill is usage that is loaded under a name of its own, however old it is. Reverting takes all its events back: totals \
that were final change by adjustments, and its ids are free again. After that the name can be used anew.

Exit codes: 0 done, 1 the daemon cannot be asked or refuses.";

/// Look at backfills, and take one back
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    daemon: Daemon,
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// List backfills
    List {
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Show one backfill
    Show {
        #[arg(value_parser = parse_id)]
        id: String,
    },
    /// Take every event of a backfill back
    Revert {
        #[arg(value_parser = parse_id)]
        id: String,
        /// Why; the journal keeps it
        #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        reason: String,
        /// Wait until all its events are taken back
        #[arg(long)]
        wait: bool,
    },
}

/// A backfill's name: 1 to 128 letters, digits, dots, dashes and underscores.
pub fn parse_id(text: &str) -> Result<String, String> {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=ID_CHARS_MAX).contains(&text.len()) && text.bytes().all(is_fit) && text != "." && text != ".." {
        Ok(text.to_owned())
    } else {
        Err(format!("a backfill's name is 1 to {ID_CHARS_MAX} of A-Z a-z 0-9 . _ -, and neither . nor .."))
    }
}

/// Exits 0 when done, 1 when the daemon cannot be asked or refuses.
pub fn run(args: &Args) -> ExitCode {
    exit_code("backfills", act(args).map(|()| true))
}

fn act(args: &Args) -> anyhow::Result<()> {
    let daemon = &args.daemon;
    let mut client = daemon.client()?;
    match &args.action {
        Action::List { limit } => {
            let (rows, more) = operator::list(&mut client, "/v1/backfills?", *limit as usize)?;
            daemon.write(&Value::Array(rows), |rows| list(rows, more))
        }
        Action::Show { id } => {
            let backfill: Value = client.get_json(&path(id))?;
            daemon.write(&backfill, details)
        }
        Action::Revert { id, reason, wait } => {
            let mut answer = revert(&mut client, id, reason)?;
            if *wait {
                answer = wait_for(&mut client, id, answer, LOOK_EVERY)?;
            }
            daemon.write(&answer, details)
        }
    }
}

fn path(id: &str) -> String {
    format!("/v1/backfills/{}", percent_encode(id))
}

fn revert(client: &mut Client, id: &str, reason: &str) -> anyhow::Result<Value> {
    operator::operate(client, &format!("{}:revert", path(id)), &operator::new_key(), &json!({"reason": reason}))
}

/// Looks until the revert is done. A name that is used again meanwhile is another backfill: this one is reverted then.
fn wait_for(client: &mut Client, id: &str, begun: Value, every: Duration) -> anyhow::Result<Value> {
    let mut last = begun;
    let mut told = Value::Null;
    while last["state"] == "reverting" {
        if told != last["reverted_feeds"] {
            told = last["reverted_feeds"].clone();
            eprintln!("taken back so far: {}", member(&told));
        }
        std::thread::sleep(every);
        let now: Value = client.get_json(&path(id))?;
        if now["opened_at"] != last["opened_at"] {
            last["state"] = "reverted".into();
            return Ok(last);
        }
        last = now;
    }
    Ok(last)
}

fn list(rows: &Value, more: bool) -> String {
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return "No backfills.\n".to_owned();
    }
    let header = ["id", "state", "events", "taken back", "opened", "reverted", "reason"];
    let shown = rows.iter().map(|row| {
        [
            member(&row["id"]),
            member(&row["state"]),
            member(&row["events"]),
            member(&row["reverted_feeds"]),
            member(&row["opened_at"]),
            member(&row["reverted_at"]),
            member(&row["reason"]),
        ]
    });
    let mut out = format!("{}\n", table(header, shown, 2..4));
    if more {
        out.push_str("\nThere are more: ask for them with --limit.\n");
    }
    out
}

fn details(backfill: &Value) -> String {
    let mut out = String::new();
    for (label, key) in [
        ("Backfill", "id"),
        ("State", "state"),
        ("Events", "events"),
        ("Taken back", "reverted_feeds"),
        ("Opened", "opened_at"),
        ("Reverting", "reverting_at"),
        ("Reverted", "reverted_at"),
        ("Reason", "reason"),
        ("First record", "first_seq"),
        ("Last record", "last_seq"),
    ] {
        if !backfill[key].is_null() {
            writeln!(out, "{:14}{}", format!("{label}:"), member(&backfill[key])).expect("a String takes any text");
        }
    }
    out
}

#[cfg(test)]
mod tests;
