//! `meterd void`: takes one event back, and perhaps counts another in its place.

use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args as ClapArgs;
use serde_json::{Value, json};

use crate::cli::client::{Client, exit_code};
use crate::cli::operator::{self, Daemon};
use crate::cli::text::member;

const EXAMPLES: &str = "\
Examples:
  meterd void job-0907 --reason 'test traffic'
  meterd void job-0907 --source backend-2 --reason 'sent twice under two ids'
  meterd void job-0907 --reason 'wrong quantity' --replacement corrected.json

An event is taken back once; doing it again changes nothing and says so. Its id stays taken: sending it again is answered \
duplicate. A final total changes by an adjustment. A replacement is a native event with an id of its own; both happen or neither.

Exit codes: 0 taken back, 1 the daemon refuses or cannot be asked, 74 when the replacement cannot be read.";

/// Take an event back, and perhaps count another instead
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    daemon: Daemon,
    /// The event's id
    #[arg(value_name = "USAGE_EVENT_ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    usage_event_id: String,
    /// Why; the journal keeps it
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: String,
    /// The event's source, if it was sent with one
    #[arg(long, value_name = "NAME", default_value = "")]
    source: String,
    /// A native event to count instead, as JSON; - is standard input
    #[arg(long, value_name = "FILE")]
    replacement: Option<PathBuf>,
}

/// Exits 0 when it is taken back, 1 when the daemon refuses or cannot be asked, 74 for a file.
pub fn run(args: &Args) -> ExitCode {
    exit_code("void", void_and_write(args).map(|()| true))
}

fn void_and_write(args: &Args) -> anyhow::Result<()> {
    let body = body(args)?;
    let answer = void(&mut args.daemon.client()?, &body)?;
    args.daemon.write(&answer, text)
}

fn void(client: &mut Client, body: &Value) -> anyhow::Result<Value> {
    operator::operate(client, "/v1/events:void", &operator::new_key(), body)
}

fn body(args: &Args) -> anyhow::Result<Value> {
    let mut body = json!({"usage_event_id": args.usage_event_id, "reason": args.reason});
    if !args.source.is_empty() {
        body["source"] = args.source.as_str().into();
    }
    if let Some(path) = &args.replacement {
        let name = path.display();
        let bytes = read(path).with_context(|| format!("cannot read {name}"))?;
        let event: Box<serde_json::value::RawValue> =
            serde_json::from_slice(&bytes).with_context(|| format!("{name} is not JSON"))?;
        anyhow::ensure!(event.get().starts_with('{'), "{name} is not an event: a JSON object");
        body["replacement"] = serde_json::from_str(event.get())?;
    }
    Ok(body)
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    if path != Path::new("-") {
        return std::fs::read(path);
    }
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn text(answer: &Value) -> String {
    let mut out = String::new();
    let (id, at) = (member(&answer["usage_event_id"]), member(&answer["voided_at"]));
    let (when, reason) = (if answer["already_voided"] == true { "was" } else { "is" }, member(&answer["reason"]));
    let seqs = (member(&answer["event_seq"]), member(&answer["seq"]));
    let (event, void) = &seqs;
    writeln!(out, "{id} (record {event}) {when} taken back: record {void}, {at}, {reason}")
        .expect("a String takes any text");
    match answer["adjusted"].as_u64() {
        Some(0) | None => {}
        Some(1) => out.push_str("1 window was final: it has an adjustment.\n"),
        Some(count) => {
            writeln!(out, "{count} windows were final: they have adjustments.").expect("a String takes any text")
        }
    }
    let replacement = &answer["replacement"];
    if !replacement.is_null() {
        let (outcome, seq) = (member(&replacement["outcome"]), member(&replacement["seq"]));
        writeln!(out, "The replacement is {outcome}: record {seq}.").expect("a String takes any text");
    }
    out
}

#[cfg(test)]
mod tests;
