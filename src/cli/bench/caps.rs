//! What caps cost ingest, and how fast checks are: alone, and beside ingest.
//!
//! 1. Two daemons take turns, one of them with a cap on every customer and meter that nobody reaches: what else the
//!    machine does falls on both alike. The first pair of runs warms up.
//! 2. Checks are asked of the one with caps: by themselves, then at a rate while ingest goes on at so much of its peak.
//! 3. The peak is what ingest comes to by itself, on the same daemon and for as long, right before.

use std::time::Duration;

use serde_json::json;

use crate::cli::bench::Args;
use crate::cli::bench::checks::Checks;
use crate::cli::bench::measure::{Alone, Scenario, measure, measure_checks};
use crate::cli::bench::report::{Measured, check_lines, checks_json, grouped, millis_text, per_second};
use crate::cli::daemon::{Daemon, TemporaryDirectory};
use crate::cli::load::Until;

pub const NAME: &str = "caps and checks";
const WITHOUT: &str = include_str!("../../../benches/bench.toml");
const WITH: &str = include_str!("../../../benches/caps.toml");
const ANY_PORT: &str = "127.0.0.1:0";
/// Pairs of runs that count.
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);
/// How much of its peak ingest has while it shares the machine with checks, in percent.
const PART: f64 = 70.0;

/// What all of it came to.
pub struct Capped {
    without: Rounds,
    with: Rounds,
    alone: Alone,
    /// Ingest at a part of its peak, and the checks beside it.
    beside: Measured,
    peak: f64,
}

/// What one of the two daemons came to, by round.
#[derive(Default)]
struct Rounds {
    /// Accepted events a second.
    rates: Vec<f64>,
    /// The daemon's processor seconds for a million events.
    cpu: Vec<f64>,
}

/// Answers with every measurement that has totals to be exact, too.
pub fn run(args: &Args, directory: &TemporaryDirectory) -> anyhow::Result<(Vec<Measured>, Capped)> {
    let places = [directory.place("without-caps", WITHOUT)?, directory.place("with-caps", WITH)?];
    let daemons = [Daemon::start(&places[0], ANY_PORT)?, Daemon::start(&places[1], ANY_PORT)?];
    let base = |name: &str| Scenario { preload: 0, ..Scenario::from_args(name, args) };
    let (mut measured, mut rounds) = (Vec::new(), [Rounds::default(), Rounds::default()]);
    for round in 0..=ROUNDS {
        for (place, name) in ["without caps", "with caps"].into_iter().enumerate() {
            let scenario = Scenario { until: Until::Elapsed(ROUND), ..base(name) };
            let result = measure(&scenario, &daemons[place].target()?, Some(daemons[place].pid()))?;
            if args.json || !result.is_exact() {
                result.print(args.json)?;
            }
            if round > 0 {
                rounds[place].rates.push(result.accepted_per_second());
                rounds[place].cpu.extend(result.cpu_per_million());
            }
            measured.push(result);
        }
    }
    let [without, with] = daemons;
    without.stop()?;
    let (target, pid) = (with.target()?, Some(with.pid()));
    let lasting = Duration::from_secs(args.check_seconds);
    let mut checks = Checks { connections: usize::from(args.check_connections), per_second: None };
    let alone = measure_checks(&Scenario { checks: Some(checks), ..base("checks") }, (&target, pid), lasting)?;
    let by_itself = Scenario { until: Until::Elapsed(lasting), ..base("ingest by itself") };
    let by_itself = measure(&by_itself, &target, pid)?;
    if args.json || !by_itself.is_exact() {
        by_itself.print(args.json)?;
    }
    let peak = by_itself.events_per_second();
    measured.push(by_itself);
    checks.per_second = Some(f64::from(args.check_rate));
    let beside = Scenario {
        until: Until::Elapsed(lasting),
        checks: Some(checks),
        per_second: Some(peak * PART / 100.0),
        ..base("checks beside ingest")
    };
    let beside = measure(&beside, &target, pid)?;
    beside.print(args.json)?;
    with.stop()?;
    places.iter().try_for_each(|place| std::fs::remove_dir_all(&place.data_dir))?;
    let [without, with] = rounds;
    Ok((measured, Capped { without, with, alone, beside, peak }))
}

impl Capped {
    pub fn is_exact(&self) -> bool {
        self.alone.checks.wrong_count == 0 && self.beside.is_exact()
    }

    /// What ingest keeps, in percent: the median over the rounds.
    fn kept(&self) -> f64 {
        let kept =
            self.without.rates.iter().zip(&self.with.rates).map(|(without, with)| with * 100.0 / without.max(1.0));
        median(kept.collect())
    }

    pub fn json(&self) -> serde_json::Value {
        json!({
            "accepted_per_second_without_caps": self.without.rates,
            "accepted_per_second_with_caps": self.with.rates,
            "daemon_cpu_seconds_per_million_without_caps": self.without.cpu,
            "daemon_cpu_seconds_per_million_with_caps": self.with.cpu,
            "kept_percent": self.kept(),
            "checks_alone": checks_json(&self.alone.checks),
            "checks_alone_daemon_cpu_micros": self.cpu_micros(),
            "events_per_second_peak": self.peak,
            "events_per_second_beside_checks": self.beside.events_per_second(),
            "checks_beside_ingest": self.beside.checks.as_ref().map(checks_json),
            "exact": self.is_exact(),
        })
    }

    /// The daemon's processor time for one check.
    fn cpu_micros(&self) -> Option<f64> {
        Some(self.alone.cpu.daemon?.as_secs_f64() * 1e6 / (self.alone.checks.count() as f64).max(1.0))
    }

    /// In sentences.
    pub fn text(&self) -> String {
        let said = |rounds: &Rounds| {
            let rates = rounds.rates.iter().map(|rate| format!("{} k", (rate / 1e3).round()));
            let rates = rates.collect::<Vec<_>>().join(", ");
            format!("{rates} events/s at {:.2} CPU-s per million", median(rounds.cpu.clone()))
        };
        let (alone, cpu) = (&self.alone.checks, self.cpu_micros().unwrap_or(f64::NAN));
        let mut lines = vec![format!(
            "a cap on every customer and meter: {}; without: {}; {:.0} % kept (median of the pairs)",
            said(&self.with),
            said(&self.without),
            self.kept(),
        )];
        lines.push(format!(
            "checks alone: {}/s, p50 {}, p99 {}; {cpu:.1} µs of the daemon's processor time each, answers {}",
            grouped(per_second(alone.count(), alone.elapsed) as u64),
            millis_text(alone.latency(500)),
            millis_text(alone.latency(990)),
            if alone.wrong_count == 0 { "exact" } else { "NOT EXACT" },
        ));
        lines.extend(alone.wrong.iter().map(|text| format!("wrong check: {text}")));
        let got = self.beside.events_per_second();
        let beside = self.beside.checks.iter().flat_map(check_lines).map(|(name, text)| format!("{name} {text}"));
        lines.push(format!(
            "beside ingest at {:.0} events/s ({:.0} % of {:.0}): {}",
            got,
            got * 100.0 / self.peak.max(1.0),
            self.peak,
            beside.collect::<Vec<_>>().join("; "),
        ));
        lines.join("\n")
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
