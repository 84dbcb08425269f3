//! `meterd bench`: loads a running daemon, says how fast it acknowledges and what limits it, and checks every total.
//!
//! 1. The totals of every customer and meter are read before and after; they must differ by exactly what was sent and
//!    acknowledged. A difference, or a batch that was answered anything but what was due, ends with exit code 1.
//! 2. The generator shares the machine with the daemon, so it is cheap, and its processor time is reported beside.
//! 3. Events are a function of a seed ([`crate::cli::generate`]): ten million old ids can be drawn from without being
//!    remembered.

mod billing;
mod caps;
mod checks;
mod evidence;
mod measure;
mod report;
mod suite;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args as ClapArgs;

use crate::cli::client::{Target, exit_code};
use crate::cli::process;
use crate::model::Quantity;

use measure::Scenario;

const EXAMPLES: &str = "\
Examples:
  meterd run --config benches/bench.toml &
  meterd bench
  meterd bench --seconds 30 --batch 100 --connections 32
  meterd bench --storm --preload 10000000 --probe     # nothing but old ids
  meterd bench --json | jq .accepted_per_second
  meterd bench --suite                                # on daemons of its own

Exit codes: 0 when every total is exact, 1 when one is not or the daemon could not be loaded.";

/// Load a running daemon, measure it, and check every total
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Where the daemon listens
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = Target::parse)]
    pub url: Target,
    /// Events to send, duplicates included
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub events: u64,
    /// Send for this long instead
    #[arg(long, value_name = "SECONDS", conflicts_with = "suite")]
    pub seconds: Option<u64>,
    /// Events in a request
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=50_000))]
    pub batch: u64,
    /// Connections, each with one request under way
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub connections: usize,
    /// Different customers
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub customers: u64,
    /// Meters (sum or count) that the daemon has
    #[arg(
        long,
        value_name = "SLUGS",
        value_delimiter = ',',
        default_value = "bench_1,bench_2,bench_3,bench_4,bench_5"
    )]
    pub meters: Vec<String>,
    /// Part of the events that were acknowledged before, in steps of 0.001
    #[arg(long, value_name = "SHARE", default_value = "0.05", value_parser = permille)]
    pub duplicate_share: u64,
    /// Length of an event's JSON
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    pub event_bytes: usize,
    /// Load this many events first, outside the measurement
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preload: u64,
    /// Events have no timestamp: they happen when they are received
    #[arg(long, conflicts_with = "age")]
    pub at_receipt: bool,
    /// Events happened so long before the start
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub age: u64,
    /// Send nothing but events of the preload, drawn evenly
    #[arg(long)]
    pub storm: bool,
    /// One more connection that sends a fresh batch of 100 every 10 ms; its latency is reported apart
    #[arg(long)]
    pub probe: bool,
    /// The daemon's process, if it cannot be found by its port
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// Repeat the events of another run (its ids are then old)
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Longest wait for an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub timeout: u64,
    /// How long to let the daemon finish background work before its processor time is read again
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub settle: u64,
    /// Start daemons on empty directories and run every scenario: ingest, small batches, many customers, closing windows, storm, restart, totals, caps and checks, evidence
    #[arg(long, conflicts_with_all = ["storm", "probe", "pid", "url"])]
    pub suite: bool,
    /// Of the suite, only what has this in its name
    #[arg(long, value_name = "TEXT", requires = "suite")]
    pub only: Option<String>,
    /// Connections of the suite's checks
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1_000), requires = "suite")]
    pub check_connections: u16,
    /// Checks a second beside ingest
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..), requires = "suite")]
    pub check_rate: u32,
    /// How long to check: alone, and beside ingest
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..), requires = "suite")]
    pub check_seconds: u64,
    /// Where the suite's daemons keep their data: the disk to measure
    #[arg(long, value_name = "DIR", requires = "suite")]
    pub dir: Option<PathBuf>,
    /// Print the report as JSON, one object a scenario
    #[arg(long)]
    pub json: bool,
}

/// Exits 0 when every total is exact, else 1.
pub fn run(args: Args) -> ExitCode {
    exit_code("bench", bench(&args))
}

/// Whether every total is exact.
fn bench(args: &Args) -> anyhow::Result<bool> {
    if args.suite {
        return suite::run(args);
    }
    anyhow::ensure!(!args.storm || args.preload > 0, "--storm draws from the ids that --preload N loads: give both");
    let pid = args.pid.or_else(|| args.url.is_local().then(|| process::listener(args.url.port())).flatten());
    let measured = measure::measure(&Scenario::from_args("bench", args), &args.url, pid)?;
    measured.print(args.json)?;
    Ok(measured.is_exact())
}

impl Scenario {
    fn from_args(name: &str, args: &Args) -> Self {
        let until = match args.seconds {
            Some(seconds) => crate::cli::load::Until::Elapsed(Duration::from_secs(seconds)),
            None => crate::cli::load::Until::Events(args.events),
        };
        Self {
            name: name.into(),
            until,
            batch: args.batch,
            connections: args.connections.max(1),
            customers: args.customers,
            meters: args.meters.clone(),
            duplicates_permille: args.duplicate_share,
            event_bytes: args.event_bytes,
            preload: args.preload,
            storm: args.storm,
            probe: args.probe,
            timeout: Duration::from_secs(args.timeout),
            settle: Duration::from_secs(args.settle),
            seed: args.seed,
            at_receipt: args.at_receipt,
            age: Duration::from_secs(args.age),
            checks: None,
            per_second: None,
        }
    }
}

/// `0.05` → 50; at most 0.9, so that there is something to repeat.
fn permille(text: &str) -> Result<u64, String> {
    let share = Quantity::parse(text).map_err(|error| error.to_string())?;
    let thousandth = Quantity::ONE.scaled() / 1_000;
    let permille = share.scaled() / thousandth;
    if share.scaled() % thousandth != 0 || !(0..=900).contains(&permille) {
        return Err("must lie between 0 and 0.9, with at most three decimals".into());
    }
    u64::try_from(permille).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_shares_exactly() {
        assert_eq!(permille("0.05"), Ok(50));
        assert_eq!(permille("0"), Ok(0));
        for bad in ["1", "-0.1", "0.0005", "5%", ""] {
            assert!(permille(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            _args: Args,
        }
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
