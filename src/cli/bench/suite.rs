//! `meterd bench --suite`, which is `make bench`: every scenario on a daemon and a directory of its own.
//!
//! Nothing is written outside a temporary directory on the disk to measure, which is removed at the end.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

use crate::cli::bench::measure::{Scenario, measure};
use crate::cli::bench::report::{Measured, grouped, millis};
use crate::cli::bench::{Args, billing, caps, evidence};
use crate::cli::daemon::{Daemon, Place, TemporaryDirectory};
use crate::cli::load::Until;

const CONFIG: &str = include_str!("../../../benches/bench.toml");
const CLOSING: &str = include_str!("../../../benches/closing.toml");
const TOTALS: &str = include_str!("../../../benches/totals.toml");
const ANY_PORT: &str = "127.0.0.1:0";
const MANY_CUSTOMERS: u64 = 1_000_000;
/// With five meters, over a million counters in each minute that all of them use.
const CLOSING_CUSTOMERS: u64 = 250_000;
/// Long enough for the end of a minute and what follows it.
const CLOSING_FOR: Duration = Duration::from_secs(75);
/// The directory, inside the data directory, of what can be rebuilt from the journal.
const STORE: &str = "store";
const TOTALS_NAME: &str = "totals";

/// How long a daemon took until it was ready.
struct Restart {
    what: String,
    after: Duration,
}

impl Restart {
    fn said(&self) -> (serde_json::Value, String) {
        let seconds = self.after.as_secs_f64();
        let json = serde_json::json!({"restart": self.what, "ready_seconds": seconds});
        (json, format!("{}: ready after {seconds:.2} s", self.what))
    }
}

/// Whether every total of every scenario is exact.
pub fn run(args: &Args) -> anyhow::Result<bool> {
    let parent = args.dir.clone().or_else(|| Some(PathBuf::from("/var/tmp")).filter(|path| path.is_dir()));
    let directory = TemporaryDirectory::create(parent.as_deref(), "bench")?;
    say(args, &format!("data in {}, removed at the end", directory.path().display()))?;
    let is_wanted = |name: &str| args.only.as_deref().is_none_or(|part| name.contains(part));
    let (mut measured, mut restarts, mut sentences) = (Vec::new(), Vec::new(), Vec::new());
    for (scenario, config) in scenarios(args).into_iter().filter(|(scenario, _)| is_wanted(&scenario.name)) {
        say(args, &format!("\n== {}", scenario.name))?;
        let place = directory.place(&scenario.name.replace(' ', "-"), config)?;
        let daemon = Daemon::start(&place, ANY_PORT)?;
        let result = measure(&scenario, &daemon.target()?, Some(daemon.pid()))?;
        result.print(args.json)?;
        if scenario.storm {
            restarts = restart(daemon, &place, scenario.preload)?;
        } else {
            daemon.stop()?;
        }
        std::fs::remove_dir_all(&place.data_dir)?;
        measured.push(result);
    }
    if is_wanted(TOTALS_NAME) {
        say(args, &format!("\n== {TOTALS_NAME}"))?;
        let place = directory.place("totals", TOTALS)?;
        let daemon = Daemon::start(&place, ANY_PORT)?;
        let (late, streamed) = billing::run(args, &daemon)?;
        late.print(args.json)?;
        measured.push(late);
        daemon.stop()?;
        std::fs::remove_dir_all(&place.data_dir)?;
        sentences.push((streamed.json(), streamed.text()));
    }
    let mut is_exact = measured.iter().all(Measured::is_exact);
    if is_wanted(caps::NAME) {
        say(args, &format!("\n== {}", caps::NAME))?;
        let (runs, capped) = caps::run(args, &directory)?;
        is_exact &= runs.iter().all(Measured::is_exact) && capped.is_exact();
        sentences.push((capped.json(), capped.text()));
    }
    if is_wanted(evidence::NAME) {
        say(args, &format!("\n== {}", evidence::NAME))?;
        let traced = evidence::run(args, &directory)?;
        is_exact &= traced.is_exact();
        sentences.push((traced.json(), traced.text()));
    }
    if !args.json {
        println!("\n{}", table(&measured));
    }
    let restarts = restarts.iter().map(Restart::said);
    for (json, text) in sentences.into_iter().chain(restarts) {
        println!("{}", if args.json { json.to_string() } else { text });
    }
    Ok(is_exact)
}

fn scenarios(args: &Args) -> Vec<(Scenario, &'static str)> {
    let base = |name: &str| Scenario { preload: 0, ..Scenario::from_args(name, args) };
    let mut scenarios = vec![
        base("ingest"),
        Scenario { batch: (args.batch / 10).max(1), connections: args.connections * 4, ..base("small batches") },
        Scenario { customers: MANY_CUSTOMERS, ..base("many customers") },
    ];
    let closing = Scenario {
        customers: CLOSING_CUSTOMERS,
        preload: args.events,
        until: Until::Elapsed(CLOSING_FOR),
        at_receipt: true,
        probe: true,
        ..base("windows closing")
    };
    if args.preload > 0 {
        scenarios.push(Scenario { preload: args.preload, storm: true, probe: true, ..base("storm of duplicates") });
    }
    let scenarios = scenarios.into_iter().map(|scenario| (scenario, CONFIG));
    scenarios.chain([(closing, CLOSING)]).collect()
}

/// Kills the daemon and starts it again: as it was left, then with nothing but its journal.
fn restart(daemon: Daemon, place: &Place, ids: u64) -> anyhow::Result<Vec<Restart>> {
    let ids = grouped(ids);
    daemon.kill()?;
    let daemon = Daemon::start(place, ANY_PORT)?;
    let mut restarts = vec![Restart { what: format!("SIGKILL with {ids} ids, restart"), after: daemon.ready_after }];
    daemon.stop()?;
    let store: &Path = &place.data_dir.join(STORE);
    if store.is_dir() {
        std::fs::remove_dir_all(store)?;
        let daemon = Daemon::start(place, ANY_PORT)?;
        let what = format!("store deleted, {ids} events folded again from the journal");
        restarts.push(Restart { what, after: daemon.ready_after });
        daemon.stop()?;
    }
    Ok(restarts)
}

fn table(measured: &[Measured]) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header([
        "scenario",
        "events/s",
        "p50 ms",
        "p99 ms",
        "max ms",
        "probe p99 ms",
        "CPU s/M",
        "RSS MiB",
        "fdatasync ms",
        "exact",
        "limited by",
    ]);
    for one in measured {
        let latency = |permille| format!("{:.1}", millis(one.main.latency(permille)));
        let optional = |value: Option<String>| value.unwrap_or_else(|| "–".into());
        table.add_row([
            one.name.clone(),
            grouped(one.headline_per_second() as u64),
            latency(500),
            latency(990),
            latency(1_000),
            optional(one.probe.as_ref().map(|probe| format!("{:.1}", millis(probe.latency(990))))),
            optional(one.cpu_per_million().map(|cpu| format!("{cpu:.2}"))),
            optional(one.peak_resident_bytes.map(|bytes| (bytes >> 20).to_string())),
            optional(one.sync.map(|sync| format!("{:.2}", millis(sync.mean)))),
            if one.is_exact() { "yes".into() } else { "NO".into() },
            one.limited_by().split(':').next().unwrap_or_default().to_owned(),
        ]);
    }
    for column in 1..9 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Progress for people; with `--json` standard output is data only.
fn say(args: &Args, text: &str) -> std::io::Result<()> {
    if args.json { writeln!(std::io::stderr(), "{text}") } else { writeln!(std::io::stdout(), "{text}") }
}
