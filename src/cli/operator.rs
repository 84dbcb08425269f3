//! What commands that operate a running daemon share: where it is, how they write, requests with one effect.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use clap::Args as ClapArgs;
use serde_json::Value;

use crate::cli::client::{Client, ClientError, Reply, Target, percent_encode};

/// Rows per page: the most that the daemon gives of deliveries.
const PAGE_ROWS: usize = 1_000;

/// Where the daemon is, and how to write what it says.
#[derive(Clone, Debug, ClapArgs)]
pub struct Daemon {
    /// Where the daemon listens
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = Target::parse, global = true)]
    pub url: Target,
    /// Write what the daemon says as JSON instead of tables
    #[arg(long, global = true)]
    pub json: bool,
    /// Longest wait for one answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..), global = true)]
    pub timeout: u64,
}

impl Daemon {
    pub fn client(&self) -> std::io::Result<Client> {
        Client::new(&self.url, Duration::from_secs(self.timeout))
    }

    /// Writes an answer: as it is, or as `table` shows it.
    pub fn write(&self, answer: &Value, table: impl FnOnce(&Value) -> String) -> anyhow::Result<()> {
        let text = if self.json { format!("{answer:#}\n") } else { table(answer) };
        io::stdout().lock().write_all(text.as_bytes()).context("cannot write to standard output")
    }
}

/// A list's entries, up to so many; `path` ends with `?` or `&`. True: there are more.
pub fn list(client: &mut Client, path: &str, limit: usize) -> anyhow::Result<(Vec<Value>, bool)> {
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = (limit - rows.len()).min(PAGE_ROWS);
        let mut answer: Value = client.get_json(&format!("{path}limit={page}{cursor}"))?;
        let Value::Array(mut data) = answer["data"].take() else { anyhow::bail!("the daemon's list is none") };
        rows.append(&mut data);
        let next = answer["next_cursor"].as_str();
        match next {
            Some(next) if rows.len() < limit => {
                let next = format!("&cursor={}", percent_encode(next));
                anyhow::ensure!(next != cursor, "the daemon's list does not go on");
                cursor = next;
            }
            next => return Ok((rows, next.is_some())),
        }
    }
}

/// A key that nobody else uses.
pub fn new_key() -> String {
    let mut rng = fastrand::Rng::new();
    format!("meterd-{:032x}", rng.u128(..))
}

/// POSTs an operation; where it is not known whether it took effect, the error says how to find out.
pub fn operate(client: &mut Client, path: &str, key: &str, body: &Value) -> anyhow::Result<Value> {
    let body = Bytes::from(body.to_string());
    let reply = client.post_once(path, key, body).map_err(|error| match error {
        ClientError::Connect { .. } => anyhow::Error::new(error),
        error => anyhow::Error::new(error).context("whether it took effect is not known; doing it again is safe"),
    })?;
    read(path, &reply)
}

fn read(path: &str, reply: &Reply) -> anyhow::Result<Value> {
    anyhow::ensure!(
        matches!(reply.status, 200 | 202),
        "POST {path} was answered {}: {}",
        reply.status,
        reply.problem()
    );
    serde_json::from_slice(&reply.body).with_context(|| format!("POST {path}: the answer is not what was expected"))
}
