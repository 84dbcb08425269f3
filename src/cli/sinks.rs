//! `meterd sinks`: how sinks fare, and the kill switch.

use std::fmt::Write;
use std::process::ExitCode;

use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Value, json};

use crate::cli::client::{exit_code, percent_encode};
use crate::cli::operator::{self, Daemon};
use crate::cli::text::{member, table};

const EXAMPLES: &str = "\
Examples:
  meterd sinks list
  meterd sinks pause billing --reason 'wrong prices'
  meterd sinks resume billing
  meterd sinks forget old-billing

A paused sink is sent nothing; its rows are kept, and go out once it is resumed. Forgetting is for a sink that is in the \
config no more: what was kept for it, dead letters too, is dropped.

Exit codes: 0 done, 1 the daemon cannot be asked or refuses.";

/// Look at sinks; pause, resume and forget them
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
    /// List sinks
    List,
    /// Show one sink
    Show {
        /// As the config has it
        name: String,
    },
    /// Send a sink nothing until it is resumed
    Pause(Operation),
    /// Go on sending to a sink, whatever it was paused for
    Resume(Operation),
    /// Drop what is kept for a sink that is not configured any more
    Forget(Operation),
}

#[derive(Clone, Debug, ClapArgs)]
struct Operation {
    /// As the config has it
    name: String,
    /// Why; the log keeps it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Exits 0 when done, 1 when the daemon cannot be asked or refuses.
pub fn run(args: &Args) -> ExitCode {
    exit_code("sinks", act(args).map(|()| true))
}

fn act(args: &Args) -> anyhow::Result<()> {
    let daemon = &args.daemon;
    let mut client = daemon.client()?;
    let mut operate = |operation: &Operation, action: &str| {
        let path = format!("/v1/sinks/{}:{action}", percent_encode(&operation.name));
        let body = operation.reason.as_ref().map_or_else(|| json!({}), |reason| json!({"reason": reason}));
        operator::operate(&mut client, &path, &operator::new_key(), &body)
    };
    match &args.action {
        Action::Pause(operation) => daemon.write(&operate(operation, "pause")?, details),
        Action::Resume(operation) => daemon.write(&operate(operation, "resume")?, details),
        Action::Forget(operation) => daemon
            .write(&operate(operation, "forget")?, |answer| format!("{} is forgotten.\n", member(&answer["name"]))),
        Action::List => {
            let sinks: Value = client.get_json("/v1/sinks")?;
            daemon.write(&sinks["data"], list)
        }
        Action::Show { name } => {
            let sink: Value = client.get_json(&format!("/v1/sinks/{}", percent_encode(name)))?;
            daemon.write(&sink, details)
        }
    }
}

fn list(sinks: &Value) -> String {
    let sinks = sinks.as_array().map(Vec::as_slice).unwrap_or_default();
    if sinks.is_empty() {
        return "No sinks: the config has no [[sink]].\n".to_owned();
    }
    let header = ["sink", "state", "breaker", "pending", "dead letters", "lag", "last success", "last error"];
    let rows = sinks.iter().map(|sink| {
        [
            member(&sink["name"]),
            state(sink),
            member(&sink["breaker"]),
            member(&sink["pending"]),
            member(&sink["dead_letters"]),
            format!("{} s", member(&sink["lag_seconds"])),
            member(&sink["last_success_at"]),
            member(&sink["last_error"]["error"]),
        ]
    });
    format!("{}\n", table(header, rows, 3..6))
}

fn state(sink: &Value) -> String {
    match (&sink["configured"], sink["paused"]["cause"].as_str()) {
        (Value::Bool(false), _) => "not configured".to_owned(),
        (_, Some(_)) => format!("paused ({})", member(&sink["paused"]["cause"])),
        (_, None) => member(&sink["state"]),
    }
}

fn details(sink: &Value) -> String {
    let kinds = sink["kinds"].as_array().map(Vec::as_slice).unwrap_or_default();
    let kinds: Vec<String> = kinds.iter().map(member).collect();
    let mut out = String::new();
    let mut line = |label: &str, value: String| {
        writeln!(out, "{:14}{value}", format!("{label}:")).expect("a String takes any text");
    };
    line("Sink", member(&sink["name"]));
    line("Gets", kinds.join(", "));
    line("State", state(sink));
    let (paused, error) = (&sink["paused"], &sink["last_error"]);
    if !paused.is_null() {
        line("Since", format!("{} {}", member(&paused["at"]), member(&paused["reason"])).trim_end().to_owned());
    }
    let retry_at = &sink["retry_at"];
    let until = if retry_at.is_null() { String::new() } else { format!(" until {}", member(retry_at)) };
    line("Breaker", format!("{}{until}", member(&sink["breaker"])));
    line("In flight", member(&sink["in_flight"]));
    line("Pending", member(&sink["pending"]));
    line("Dead letters", member(&sink["dead_letters"]));
    line("Lag", format!("{} s", member(&sink["lag_seconds"])));
    line("Last success", member(&sink["last_success_at"]));
    if !error.is_null() {
        line("Last error", format!("{} {}", member(&error["at"]), member(&error["error"])));
    }
    out
}

#[cfg(test)]
mod tests;
