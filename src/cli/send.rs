//! `meterd send`: a file of events to a daemon, each exactly once, with a word about every one that was not taken.
//!
//! 1. A line is an event. Lines go in batches over several connections, each batch repeated until it is answered.
//!    Ids make repeating harmless, also of the whole command.
//! 2. A body that the daemon cannot read (400) or that is too long (413) is halved and sent again, down to the one line
//!    that is to blame: it is reported, and the rest of the file is taken.
//! 3. When the daemon stays away past `--give-up-after`, or refuses for a reason that is not about events, reading
//!    stops. The summary says so, and what was not sent.
//! 4. Memory is bounded by connections × batch, whatever the length of the file or of a line.

mod deliver;
mod lines;
mod summary;

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args as ClapArgs;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::backfills;
use crate::cli::client::{Target, exit_code, percent_encode};

use deliver::{Deliver, Format};
use lines::Lines;
use summary::Summary;

const EXAMPLES: &str = "\
Examples:
  meterd send usage.ndjson
  zcat usage.ndjson.gz | meterd send - --url http://meterd.internal:8080 --rejects rejected.ndjson
  meterd send --cloudevents events.ndjson --batch 5000 --connections 8
  meterd send usage.ndjson --json | jq .rejected
  meterd send history.ndjson --backfill import-2025

A line is a native event, {\"usage_event_id\":\"…\",\"customer\":\"…\",\"meter\":\"…\",\"quantity\":1}, or with --cloudevents a \
CloudEvent. Sending a file twice is safe: what was counted before is answered as a duplicate.

Exit codes: 0 when every event was accepted or a duplicate, else 1; 74 when a file cannot be read or written.";

/// Send a file of events to a daemon
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// NDJSON, one event a line; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where the daemon listens
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = Target::parse)]
    pub url: Target,
    /// The lines are CloudEvents in JSON
    #[arg(long)]
    pub cloudevents: bool,
    /// Load them as a backfill of this name: however old they are, to be taken back whole if need be
    #[arg(long, value_name = "ID", value_parser = backfills::parse_id)]
    pub backfill: Option<String>,
    /// Events in a request
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub batch: u32,
    /// Connections, each with one request under way
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub connections: u16,
    /// Stop when a batch could not be delivered for this long
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub give_up_after: u64,
    /// Longest wait for one answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub timeout: u64,
    /// Write every event that was not taken here, as NDJSON of {line, usage_event_id, outcome, code, detail}
    #[arg(long, value_name = "FILE")]
    pub rejects: Option<PathBuf>,
    /// How many of them to print
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub show: usize,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
}

/// Exits 0 when every event was accepted or a duplicate, else 1; 74 when a file cannot be read or written.
pub fn run(args: Args) -> ExitCode {
    exit_code("send", send_file(&args))
}

/// Whether every event was accepted or a duplicate.
fn send_file(args: &Args) -> anyhow::Result<bool> {
    let (reader, length) = open(&args.file)?;
    let rejects = args.rejects.as_deref().map(create).transpose()?;
    let mut summary = Summary::new(args.show, rejects);
    summary.backfill.clone_from(&args.backfill);
    let bar = progress(length);
    let started = Instant::now();
    send(args, reader, &bar, &mut summary)?;
    bar.finish_and_clear();
    summary.elapsed = started.elapsed();
    summary.finish()?;
    let mut out = io::stdout().lock();
    if args.json {
        summary.write_json(&mut out)?
    } else {
        summary.write_text(&mut out)?
    }
    Ok(summary.is_success())
}

/// One thread reads and cuts batches; one a connection delivers them; this one adds up what became of them.
fn send(args: &Args, reader: Box<dyn BufRead + Send>, bar: &ProgressBar, summary: &mut Summary) -> anyhow::Result<()> {
    let connections = usize::from(args.connections);
    let (batches_in, batches) = crossbeam_channel::bounded(connections);
    let (results_in, results) = crossbeam_channel::bounded(connections);
    let format = if args.cloudevents { Format::CloudEvents } else { Format::Native };
    let backfill = args.backfill.as_deref().map(|id| format!("?backfill={}", percent_encode(id)));
    let path = format!("/v1/events{}", backfill.unwrap_or_default());
    thread::scope(|scope| {
        let lines = Lines::new(reader, args.batch as usize);
        let read = move || lines.cut(&batches_in);
        let reading = thread::Builder::new().name("send-read".into()).spawn_scoped(scope, read)?;
        for n in 0..connections {
            let (batches, results) = (batches.clone(), results_in.clone());
            let timeout = Duration::from_secs(args.timeout);
            let give_up_after = Duration::from_secs(args.give_up_after);
            let mut deliver = Deliver::new(&args.url, path.clone(), format, timeout, give_up_after)?;
            let work = move || deliver.run(&batches, &results);
            thread::Builder::new().name(format!("send-{n}")).spawn_scoped(scope, work)?;
        }
        // With these gone, each channel ends when the threads on its other side have.
        drop((batches, results_in));
        for delivered in results {
            bar.inc(delivered.bytes);
            summary.add(delivered)?;
            bar.set_message(summary.one_line());
        }
        let read = reading.join().map_err(|_| anyhow::anyhow!("the reading thread panicked"))?;
        (summary.lines_read, summary.events_read) = (read.lines, read.events);
        read.result.with_context(|| format!("cannot read {}", args.file.display()))
    })
}

/// The file and its length, where it has one.
fn open(path: &Path) -> anyhow::Result<(Box<dyn BufRead + Send>, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(BufReader::with_capacity(1 << 20, io::stdin())), None));
    }
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let length = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
    Ok((Box::new(BufReader::with_capacity(1 << 20, file)), length))
}

fn create(path: &Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| format!("cannot write {}", path.display()))
}

/// A bar for people; nothing when standard error is no terminal.
fn progress(length: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match length {
        Some(bytes) => (ProgressBar::new(bytes), "{bar:30} {percent:>3} %  {msg}  {bytes_per_sec}  {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}  {msg}  {bytes_per_sec}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests;
