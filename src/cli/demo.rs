//! `meterd demo`: a daemon of its own, usage with duplicates, retries and conflicting ids, SIGKILL in the middle, and the
//! totals beside what was sent.
//!
//! Its windows are a few seconds long, so that all of them become final before the end; a file sink gets them, and what its
//! files hold is compared too. The kill mostly comes before the first of them is due.
//!
//! 1. Nothing outside a temporary directory is touched; it is removed at the end.
//! 2. The senders know nothing of the kill: they get errors, back off, and send the same batches again.
//! 3. Equal means equal: every customer's total of every meter, as exact decimals, counted and delivered. Otherwise the exit
//!    code is 1.
//! 4. A configuration of one's own is used as it is: its windows are not shortened, and what they deliver is not compared.

mod files;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args as ClapArgs;
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

use crate::cli::client::{Client, exit_code};
use crate::cli::daemon::{Daemon, Place, TemporaryDirectory};
use crate::cli::generate::{Expected, Kind, MeterSpec, Times, Workload};
use crate::cli::load::{Load, Mix, Report, Source, Until};
use crate::cli::totals::{self, ByCustomer, Difference};
use crate::env::{Clock, SystemClock};

use files::Files;

const DEFAULT_CONFIG: &str = include_str!("../../config/meterd.toml");
const EVENT_BYTES: usize = 200;
const CUSTOMERS: u64 = 1_000;
const MIX: Mix = Mix { duplicates_permille: 50, conflicts_permille: 10, resends_permille: 20 };
const GIVE_UP_AFTER: Duration = Duration::from_secs(45);
/// How long the last windows may take to become final and reach the files.
const DELIVERED_WITHIN: Duration = Duration::from_secs(60);
const DELIVERED_POLL: Duration = Duration::from_millis(250);
/// What the demo's meters have instead of their windows.
const SHORT_WINDOWS: &str = "window = \"5s\"\ngrace = \"1s\"\n";

const EXAMPLES: &str = "\
Examples:
  meterd demo
  meterd demo --events 5000000 --connections 16
  meterd demo --config my.toml        # its sum and count meters are used

Exit codes: 0 when every total equals what was sent, else 1.";

/// Count generated usage, kill the daemon in the middle, and compare the totals
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Events to send, repetitions included
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(10_000..))]
    pub events: u64,
    /// Connections, each with one request under way
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub connections: u16,
    /// Events in a request
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=50_000))]
    pub batch: u64,
    /// The daemon's configuration; the default is config/meterd.toml as it was when this program was built
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Leave the data directory behind
    #[arg(long)]
    pub keep: bool,
}

/// Exits 0 when every total equals what was sent, else 1.
pub fn run(args: Args) -> ExitCode {
    exit_code("demo", demo(&args))
}

/// Whether every total equals what was sent.
fn demo(args: &Args) -> anyhow::Result<bool> {
    let mut directory = TemporaryDirectory::create(None, "demo")?;
    if args.keep {
        directory.keep();
    }
    let (place, mut files) = prepare(args, &directory)?;
    let daemon = Daemon::start(&place, "127.0.0.1:0")?;
    let target = daemon.target()?;
    say(&format!("meterd listens on http://{target}, data in {}", directory.path().display()));

    let mut client = Client::new(&target, Duration::from_secs(30))?;
    let now = SystemClock::new().now();
    let meters = countable_meters(&mut client)?;
    let times = if files.is_some() { Times::AtReceipt } else { Times::Before(now) };
    let workload = Workload::new(now.micros().unsigned_abs(), meters, CUSTOMERS, EVENT_BYTES, times);
    let (next, answered, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let load = Load {
        target: &target,
        workload: &workload,
        source: Source::Fresh(MIX),
        until: Until::Events(args.events),
        batch: args.batch,
        connections: usize::from(args.connections),
        pause: Duration::ZERO,
        per_second: None,
        timeout: Duration::from_secs(10),
        give_up_after: GIVE_UP_AFTER,
        next: &next,
        answered: &answered,
        stop: &stop,
        seed: now.micros().unsigned_abs(),
    };
    say(&format!(
        "sending {} events for {} meters and {CUSTOMERS} customers over {} connections; 5 % are sent twice, 1 % reuse an \
         id for another quantity, every 50th batch is sent again whole",
        args.events,
        workload.meters().len(),
        args.connections
    ));
    let (report, daemon) = send_and_kill(&load, args.events / 2, || {
        daemon.kill()?;
        say(&format!("kill -9 after {} events", answered.load(Ordering::Relaxed)));
        let daemon = Daemon::start(&place, &target.to_string())?;
        say(&format!("restarted on the same address, ready after {:.2} s", daemon.ready_after.as_secs_f64()));
        Ok(daemon)
    })?;

    let equal = compare(&mut client, &workload, &report, files.as_mut())?;
    daemon.stop()?;
    print_end((equal, files.is_some()), report.retries, args.keep.then(|| directory.path().display().to_string()));
    Ok(equal)
}

/// Holds what was counted, and what the files got, against what was sent. Whether all of it is equal.
fn compare(
    client: &mut Client,
    workload: &Workload,
    report: &Report,
    mut files: Option<&mut Files>,
) -> anyhow::Result<bool> {
    let mut expected = Expected::new(workload);
    report.acknowledged.iter().for_each(|range| expected.add(workload, range.clone()));
    let found = totals::fetch_all(client, workload)?;
    let nothing = vec![ByCustomer::new(); workload.meters().len()];
    let mut differences = totals::differences(workload, &expected, &nothing, &found);
    let mut delivered = None;
    if let Some(files) = files.as_deref_mut() {
        let (totals, missing) = wait_for_files(files, workload, &expected)?;
        differences.extend(missing);
        delivered = Some(totals);
    }

    print(workload, &expected, (&found, delivered.as_deref()), report);
    if let Some(files) = files {
        say(&format!(
            "the file sink delivered {} rows (final windows, adjustments) in {} files, each as its manifest says",
            files.rows,
            files.count()
        ));
    }
    for difference in differences.iter().take(5) {
        let (expected, found) = (difference.expected, difference.found);
        say(&format!(
            "NOT EQUAL: {} of {}: {expected} sent, {found} counted or delivered",
            difference.meter, difference.customer
        ));
    }
    report.mismatches.iter().for_each(|text| say(&format!("NOT AS DUE: {text}")));
    Ok(differences.is_empty() && report.mismatch_count == 0)
}

/// Runs the load; once `kill_at` events are answered, `kill` ends the daemon and gives another.
fn send_and_kill(
    load: &Load<'_>,
    kill_at: u64,
    kill: impl FnOnce() -> anyhow::Result<Daemon>,
) -> anyhow::Result<(Report, Daemon)> {
    thread::scope(|scope| {
        let sending = thread::Builder::new().name("demo-load".into()).spawn_scoped(scope, || load.run())?;
        while load.answered.load(Ordering::Relaxed) < kill_at && !sending.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        let daemon = kill();
        if daemon.is_err() {
            load.stop.store(true, Ordering::Relaxed);
        }
        let report = sending.join().map_err(|_| anyhow::anyhow!("the sending thread panicked"))?;
        let daemon = daemon?;
        Ok((report?, daemon))
    })
}

/// The daemon's meters whose totals can be predicted.
fn countable_meters(client: &mut Client) -> anyhow::Result<Vec<MeterSpec>> {
    let known = totals::meters(client)?;
    let countable = known.into_iter().filter_map(|meter| {
        let kind = match meter.aggregation.as_str() {
            "sum" => Kind::Sum,
            "count" => Kind::Count,
            _ => return None,
        };
        Some(MeterSpec { slug: meter.slug, kind, dimensions: meter.dimensions.keys().cloned().collect() })
    });
    let countable = countable.collect::<Vec<_>>();
    anyhow::ensure!(!countable.is_empty(), "the configuration has no sum or count meter to show");
    Ok(countable)
}

/// Writes the configuration; the demo's own one comes with a directory of files.
fn prepare(args: &Args, directory: &TemporaryDirectory) -> anyhow::Result<(Place, Option<Files>)> {
    if let Some(path) = &args.config {
        let config = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        return Ok((directory.place("meterd", &config)?, None));
    }
    let files = directory.path().join("files");
    let place = directory.place("meterd", &own_config(DEFAULT_CONFIG, &files))?;
    Ok((place, Some(Files::new(&files))))
}

/// A configuration with short windows and a file sink.
fn own_config(text: &str, files: &Path) -> String {
    let mut config = String::new();
    for line in text.lines().filter(|line| !line.starts_with("window = ") && !line.starts_with("grace = ")) {
        config.push_str(line);
        config.push('\n');
        if line == "[[meter]]" {
            config.push_str(SHORT_WINDOWS);
        }
    }
    let path = serde_json::Value::from(files.to_string_lossy().as_ref());
    config.push_str(&format!("\n[[sink]]\nname = \"files\"\nkind = \"file\"\npath = {path}\n"));
    config
}

/// Waits until the files hold every total, for so long at most; what they hold then, and what still differs.
fn wait_for_files(
    files: &mut Files,
    workload: &Workload,
    expected: &Expected,
) -> anyhow::Result<(Vec<ByCustomer>, Vec<Difference>)> {
    let nothing = vec![ByCustomer::new(); workload.meters().len()];
    let deadline = Instant::now() + DELIVERED_WITHIN;
    loop {
        files.read_new()?;
        let totals = files.totals(workload)?;
        let differences = totals::differences(workload, expected, &nothing, &totals);
        if differences.is_empty() || Instant::now() > deadline {
            return Ok((totals, differences));
        }
        thread::sleep(DELIVERED_POLL);
    }
}

/// `found` is what was counted, and what was delivered if that can be told.
fn print(
    workload: &Workload,
    expected: &Expected,
    (counted, delivered): (&[ByCustomer], Option<&[ByCustomer]>),
    report: &Report,
) {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header(["meter", "events sent", "total sent", "total counted", "total in files", ""]);
    for (n, meter) in workload.meters().iter().enumerate() {
        let (events, sent) = expected.meter(workload, n);
        let counted = totals::sum(&counted[n]);
        let delivered = delivered.map(|delivered| totals::sum(&delivered[n]));
        let equal = sent == counted && delivered.is_none_or(|delivered| delivered == sent);
        let verdict = if equal { "equal" } else { "NOT EQUAL" };
        let delivered = delivered.map_or_else(|| "-".to_owned(), |delivered| delivered.to_string());
        table.add_row([&meter.slug, &events.to_string(), &sent.to_string(), &counted.to_string(), &delivered, verdict]);
    }
    for column in 1..5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    say(&format!("\n{table}\n"));
    let counts = &report.counts;
    let seconds = report.elapsed.as_secs_f64();
    say(&format!(
        "answers: {} accepted, {} duplicate, {} conflict, {} rejected; {} batches had to be sent again",
        counts.accepted, counts.duplicate, counts.conflict, counts.rejected, report.retries
    ));
    say(&format!(
        "{} events in {seconds:.1} s, the crash and the restart included: {:.0} events/s; p99 acknowledgement {:.1} ms",
        counts.total(),
        counts.total() as f64 / seconds.max(1e-9),
        report.latency(990).as_secs_f64() * 1e3
    ));
}

fn print_end((equal, delivered): (bool, bool), retries: u64, kept: Option<String>) {
    say(match (equal, delivered) {
        (true, true) => {
            "\nEQUAL: every acknowledged event was counted once, through SIGKILL, and its window delivered."
        }
        (true, false) => "\nEQUAL: every acknowledged event was counted once, through SIGKILL.",
        (false, _) => "\nNOT EQUAL: see above.",
    });
    if retries == 0 {
        say("(The kill met no batch under way this time.)");
    }
    if let Some(path) = kept {
        say(&format!("The data is left in {path}: `meterd verify` folds its journal again."));
    }
    say("\nWhere to go next:");
    say("  make run                      the daemon with config/meterd.toml, on http://127.0.0.1:8080");
    say("  meterd send usage.ndjson      your own events, one JSON object a line");
    say("  make bench                    how fast it is here, and what limits it");
    say("  README.md, docs/              what is promised, and how it works");
}

fn say(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Destination, Source as ConfigSource};

    #[test]
    fn the_demos_config_has_short_windows_and_a_file_sink() {
        let text = own_config(DEFAULT_CONFIG, Path::new("/a \"b\"/files"));
        let config = Config::parse(&ConfigSource::new("demo.toml", &text)).unwrap();
        assert_eq!(config.meters.len(), 3);
        assert!(config.meters.iter().all(|meter| meter.window.to_string() == "5s"));
        let [sink] = &config.sinks[..] else { panic!() };
        assert!(matches!(&sink.destination, Destination::File(options) if options.path == Path::new("/a \"b\"/files")));
    }
}
