//! `meterd deliveries`: what goes out to sinks, dead letters, and their replay.

use std::process::ExitCode;

use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Value, json};

use crate::cli::client::{Client, exit_code, percent_encode};
use crate::cli::operator::{self, Daemon};
use crate::model::RowKind;

mod text;

const EXAMPLES: &str = "\
Examples:
  meterd deliveries list --state dead_letter
  meterd deliveries show msg_1f0c22ab_1_4711
  meterd deliveries replay msg_1f0c22ab_1_4711
  meterd deliveries replay --sink billing --url http://meterd.internal:8080

A dead letter is a delivery whose last attempt failed; it keeps its rows and is not tried again by itself. Replaying it \
starts its schedule anew, under the same id, so that a receiver that took it after all knows it.

Exit codes: 0 done, 1 the daemon cannot be asked or refuses.";

/// Look at deliveries to sinks, and replay dead letters
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
    /// List deliveries, in the order they were planned
    List {
        /// Only these: pending, retrying, delivered or dead_letter
        #[arg(long, value_parser = ["pending", "retrying", "delivered", "dead_letter", "dead"])]
        state: Option<String>,
        #[command(flatten)]
        of: Of,
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Show one delivery: every attempt, and its rows
    Show {
        /// As the list has it: msg_…
        id: String,
    },
    /// Try dead letters again: one, those of a sink, or all
    Replay(Replay),
}

/// Which deliveries.
#[derive(Clone, Debug, Default, ClapArgs)]
struct Of {
    /// Only this sink's
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Only windows, adjustments or alerts
    #[arg(long, value_parser = RowKind::ALL.map(RowKind::as_str))]
    kind: Option<String>,
}

#[derive(Clone, Debug, ClapArgs)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["id", "sink", "all"]))]
struct Replay {
    /// This one: msg_…
    id: Option<String>,
    #[command(flatten)]
    of: Of,
    /// Every dead letter of every sink
    #[arg(long)]
    all: bool,
}

/// Exits 0 when done, 1 when the daemon cannot be asked or refuses.
pub fn run(args: &Args) -> ExitCode {
    exit_code("deliveries", act(args).map(|()| true))
}

fn act(args: &Args) -> anyhow::Result<()> {
    let daemon = &args.daemon;
    let mut client = daemon.client()?;
    match &args.action {
        Action::List { state, of, limit } => {
            let (rows, more) = operator::list(&mut client, &list_path(state.as_deref(), of), *limit as usize)?;
            daemon.write(&Value::Array(rows), |rows| text::list(rows, more))
        }
        Action::Show { id } => {
            let delivery: Value = client.get_json(&format!("/v1/deliveries/{}", percent_encode(id)))?;
            daemon.write(&delivery, text::details)
        }
        Action::Replay(replay) => {
            let answer = replay_until_done(&mut client, replay, &operator::new_key())?;
            daemon.write(&answer, text::replayed)
        }
    }
}

fn list_path(state: Option<&str>, of: &Of) -> String {
    let mut path = "/v1/deliveries?".to_owned();
    for (name, value) in [("state", state), ("sink", of.sink.as_deref()), ("kind", of.kind.as_deref())] {
        if let Some(value) = value {
            path.push_str(&format!("{name}={}&", percent_encode(value)));
        }
    }
    path
}

/// The daemon replays so many at a time.
fn replay_until_done(client: &mut Client, replay: &Replay, key: &str) -> anyhow::Result<Value> {
    if let Some(id) = &replay.id {
        return operator::operate(client, &format!("/v1/deliveries/{}:replay", percent_encode(id)), key, &json!({}));
    }
    let filter = json!({"sink": replay.of.sink, "kind": replay.of.kind, "state": "dead_letter"});
    let mut replayed = 0;
    for round in 0_u32.. {
        let answer = operator::operate(client, "/v1/deliveries:replay", &format!("{key}-{round}"), &filter)?;
        replayed += answer["replayed"].as_u64().unwrap_or(0);
        if answer["more"] != true {
            break;
        }
    }
    Ok(json!({"replayed": replayed}))
}

#[cfg(test)]
mod tests;
