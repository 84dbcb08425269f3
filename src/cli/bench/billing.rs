//! The totals of a billing period that is final, streamed while ingest goes on.
//!
//! 1. The rows come from usage for the day before yesterday: it is late, so that this measures adjustments, too.
//! 2. Ingest is measured for some seconds by itself, then for as long while streams are read one after the other.
//! 3. A stream is read as a client would, from its first byte to its end, and its rows are counted.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::cli::bench::Args;
use crate::cli::bench::measure::{Scenario, measure};
use crate::cli::bench::report::Measured;
use crate::cli::daemon::Daemon;
use crate::cli::load::Until;
use crate::cli::process;
use crate::env::{Clock, SystemClock};

/// With five meters 1,050,000 series, of which some get no event: so that over a million rows stream.
const CUSTOMERS: u64 = 210_000;
/// Events for each series, on average: so that nearly every one has some.
const EVENTS_PER_SERIES: u64 = 5;
const AGE: Duration = Duration::from_secs(2 * 86_400);
const INGEST: Duration = Duration::from_secs(20);
const READ_BYTES: usize = 1 << 20;

/// What streaming came to.
pub struct Streamed {
    pub rows: u64,
    /// Of each stream that was read while ingest went on.
    pub took: Vec<Duration>,
    /// Accepted events a second: without streams, and beside them.
    pub alone: f64,
    pub beside: f64,
    /// The daemon's resident memory before and after, in bytes.
    pub resident: (Option<u64>, Option<u64>),
}

/// Fills a period, closes it, and streams it. Answers with the late usage's measurement, too.
pub fn run(args: &Args, daemon: &Daemon) -> anyhow::Result<(Measured, Streamed)> {
    let events = CUSTOMERS * args.meters.len() as u64 * EVENTS_PER_SERIES;
    let base = Scenario { preload: 0, ..Scenario::from_args("late usage", args) };
    let late =
        Scenario { customers: CUSTOMERS, until: Until::Events(events), age: AGE, duplicates_permille: 0, ..base };
    let (target, pid) = (daemon.target()?, daemon.pid());
    let measured = measure(&late, &target, Some(pid))?;
    let path = format!("/v1/periods/{}/totals?format=ndjson", day_before_yesterday());
    let address = daemon.address();
    let rows = stream(address, &path)?.0;
    let ingest = |name: &str| Scenario {
        until: Until::Elapsed(INGEST),
        settle: Duration::ZERO,
        preload: 0,
        ..Scenario::from_args(name, args)
    };
    let before = process::resident_bytes(pid);
    let alone = measure(&ingest("alone"), &target, Some(pid))?.accepted_per_second();
    let over = AtomicBool::new(false);
    let (beside, took) = thread::scope(|scope| {
        let reader = thread::Builder::new().name("totals".into()).spawn_scoped(scope, || {
            let mut took = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let (found, time) = stream(address, &path)?;
                ensure!(found == rows, "a stream had {found} rows, the first one had {rows}");
                took.push(time);
            }
            anyhow::Ok(took)
        })?;
        let beside = measure(&ingest("beside"), &target, Some(pid));
        over.store(true, Ordering::Relaxed);
        let took = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
        anyhow::Ok((beside?.accepted_per_second(), took))
    })?;
    let resident = (before, process::resident_bytes(pid));
    Ok((measured, Streamed { rows, took, alone, beside, resident }))
}

fn day_before_yesterday() -> String {
    let age = crate::model::Duration::from_secs(AGE.as_secs());
    SystemClock::new().now().saturating_sub(age).to_jiff().strftime("%Y-%m-%d").to_string()
}

/// Reads a body to its end; answers with how many rows it had, and how long it took.
fn stream(address: std::net::SocketAddr, path: &str) -> anyhow::Result<(u64, Duration)> {
    let began = Instant::now();
    let mut socket = TcpStream::connect(address).context("cannot connect")?;
    write!(socket, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let (mut buffer, mut rows, mut brace, mut start) = (vec![0; READ_BYTES], 0, false, Vec::new());
    loop {
        let read = socket.read(&mut buffer).context("a stream broke off")?;
        if read == 0 {
            break;
        }
        start.extend(buffer[..read].iter().take(64 - start.len().min(64)));
        for byte in &buffer[..read] {
            // A row ends with a brace and a line feed; nothing else in the body does.
            rows += u64::from(brace && *byte == b'\n');
            brace = *byte == b'}';
        }
    }
    ensure!(start.starts_with(b"HTTP/1.1 200"), "{path}: {}", String::from_utf8_lossy(&start));
    Ok((rows, began.elapsed()))
}

impl Streamed {
    pub fn json(&self) -> serde_json::Value {
        let seconds: Vec<f64> = self.took.iter().map(Duration::as_secs_f64).collect();
        serde_json::json!({
            "totals_rows": self.rows,
            "stream_seconds": seconds,
            "accepted_per_second_alone": self.alone,
            "accepted_per_second_beside": self.beside,
            "resident_bytes_before": self.resident.0,
            "resident_bytes_after": self.resident.1,
        })
    }

    /// In a sentence.
    pub fn text(&self) -> String {
        let seconds: Vec<f64> = self.took.iter().map(Duration::as_secs_f64).collect();
        let slowest = seconds.iter().copied().fold(0.0, f64::max);
        let mib = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), |bytes| (bytes >> 20).to_string());
        format!(
            "totals of a final period: {} rows streamed {} times while ingest went on, {slowest:.2} s at most; ingest {:.0} events/s alone, {:.0} beside ({:.0} %); resident {} MiB before, {} MiB after",
            self.rows,
            self.took.len(),
            self.alone,
            self.beside,
            self.beside * 100.0 / self.alone.max(1.0),
            mib(self.resident.0),
            mib(self.resident.1),
        )
    }
}
