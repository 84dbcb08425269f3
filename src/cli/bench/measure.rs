//! One scenario against one daemon: preload, load, settle, check.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::cli::bench::checks::{self, Checks, Used};
use crate::cli::bench::report::{Cpu, Measured, Preload, Sync};
use crate::cli::client::{Client, Target};
use crate::cli::generate::{Expected, Kind, MeterSpec, Times, Workload};
use crate::cli::load::{Load, Mix, Report, Source, Until};
use crate::cli::scrape::{self, Histogram};
use crate::cli::{process, totals};
use crate::env::{Clock, SystemClock};
use crate::metrics;
use crate::model::Timestamp;

const PRELOAD_BATCH: u64 = 5_000;
const PROBE_BATCH: u64 = 100;
const PROBE_PAUSE: Duration = Duration::from_millis(10);
/// Below this part of one processor a daemon counts as idle.
const IDLE_PERMILLE: u128 = 50;
const SETTLE_STEP: Duration = Duration::from_millis(500);

/// What to do to a daemon.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: String,
    pub until: Until,
    pub batch: u64,
    pub connections: usize,
    pub customers: u64,
    pub meters: Vec<String>,
    pub duplicates_permille: u64,
    pub event_bytes: usize,
    pub preload: u64,
    pub storm: bool,
    pub probe: bool,
    /// Checks that are asked beside the events.
    pub checks: Option<Checks>,
    /// Events a second, at most.
    pub per_second: Option<f64>,
    pub timeout: Duration,
    pub settle: Duration,
    pub seed: Option<u64>,
    pub at_receipt: bool,
    pub age: Duration,
}

impl Scenario {
    fn times(&self, now: Timestamp) -> Times {
        let age = crate::model::Duration::from_millis(u64::try_from(self.age.as_millis()).unwrap_or(u64::MAX));
        if self.at_receipt { Times::AtReceipt } else { Times::Before(now.saturating_sub(age)) }
    }
}

/// What all runs of one scenario share.
struct Bench<'a> {
    scenario: &'a Scenario,
    target: &'a Target,
    workload: Workload,
    seed: u64,
    next: AtomicU64,
    answered: AtomicU64,
    stop: AtomicBool,
}

/// What was measured beside the load.
#[derive(Default)]
struct Beside {
    probe: Option<Report>,
    checks: Option<checks::Report>,
}

/// The state of daemon, generator and disk at one moment.
struct Snapshot {
    daemon: Option<Duration>,
    generator: Duration,
    machine: Option<Duration>,
    sync: Histogram,
}

/// Runs a scenario. `pid` is the daemon's process, where it is known.
pub fn measure(scenario: &Scenario, target: &Target, pid: Option<u32>) -> anyhow::Result<Measured> {
    let mut client = Client::new(target, scenario.timeout.max(Duration::from_secs(60)))?;
    let bench = Bench::new(scenario, target, &mut client)?;
    let before = totals::fetch_all(&mut client, &bench.workload)?;
    let preload = (scenario.preload > 0).then(|| bench.preload()).transpose()?;
    let used = scenario.checks.map(|_| Used::new(&bench.workload, &before)).unwrap_or_default();
    let start = Snapshot::take(&mut client, pid);
    let (main, Beside { probe, mut checks }) = bench.run(&used)?;
    let end = Snapshot::take(&mut client, pid);
    let settled = pid.and_then(|pid| settle(pid, scenario.settle));

    let mut expected = Expected::new(&bench.workload);
    let reports = preload.iter().chain([&main]).chain(&probe);
    for range in reports.clone().flat_map(|report| &report.acknowledged) {
        expected.add(&bench.workload, range.clone());
    }
    let after = totals::fetch_all(&mut client, &bench.workload)?;
    if let Some(checks) = &mut checks {
        checks.verify(&Used::new(&bench.workload, &after));
    }
    let differences = totals::differences(&bench.workload, &expected, &before, &after);
    Ok(Measured {
        name: scenario.name.clone(),
        seed: bench.seed,
        batch: scenario.batch,
        connections: scenario.connections,
        storm: scenario.storm,
        cpu: start.to(&end, settled),
        peak_resident_bytes: pid.and_then(process::peak_resident_bytes),
        sync: Sync::of(&end.sync.since(&start.sync)),
        mismatch_count: reports.clone().map(|report| report.mismatch_count).sum(),
        mismatches: reports.flat_map(|report| report.mismatches.clone()).collect(),
        preload: preload.map(|report| Preload { events: report.counts.total(), elapsed: report.elapsed }),
        totals_checked: scenario.customers * scenario.meters.len() as u64,
        main,
        probe,
        checks,
        differences,
    })
}

/// What checks came to while nothing else was asked of the daemon.
pub struct Alone {
    pub checks: checks::Report,
    pub cpu: Cpu,
}

/// Asks for so long, without any load.
pub fn measure_checks(
    scenario: &Scenario,
    (target, pid): (&Target, Option<u32>),
    lasting: Duration,
) -> anyhow::Result<Alone> {
    let mut client = Client::new(target, scenario.timeout.max(Duration::from_secs(60)))?;
    let bench = Bench::new(scenario, target, &mut client)?;
    let checks = scenario.checks.context("a scenario with checks")?;
    let used = Used::new(&bench.workload, &totals::fetch_all(&mut client, &bench.workload)?);
    let start = Snapshot::take(&mut client, pid);
    let mut report = thread::scope(|scope| {
        let run = bench.checks(checks, &used);
        let asking = thread::Builder::new().name("checks".into()).spawn_scoped(scope, move || run.run())?;
        thread::sleep(lasting);
        bench.stop.store(true, Ordering::Relaxed);
        asking.join().map_err(|_| anyhow::anyhow!("the checks panicked"))?
    })?;
    let cpu = start.to(&Snapshot::take(&mut client, pid), None);
    report.verify(&Used::new(&bench.workload, &totals::fetch_all(&mut client, &bench.workload)?));
    Ok(Alone { checks: report, cpu })
}

/// The meters by name, with what their totals mean.
fn specs(client: &mut Client, slugs: &[String]) -> anyhow::Result<Vec<MeterSpec>> {
    let known = totals::meters(client)?;
    let spec = |slug: &String| {
        let hint = "start it with benches/bench.toml, or name meters with --meters";
        let meter = known.iter().find(|meter| meter.slug == *slug);
        let meter = meter.with_context(|| format!("the daemon has no meter {slug}: {hint}"))?;
        let kind = match meter.aggregation.as_str() {
            "sum" => Kind::Sum,
            "count" => Kind::Count,
            other => bail!("{slug} is a {other} meter: only sum and count totals can be predicted"),
        };
        Ok(MeterSpec { slug: slug.clone(), kind, dimensions: meter.dimensions.keys().cloned().collect() })
    };
    slugs.iter().map(spec).collect()
}

impl<'a> Bench<'a> {
    fn new(scenario: &'a Scenario, target: &'a Target, client: &mut Client) -> anyhow::Result<Self> {
        let now = SystemClock::new().now();
        let seed = scenario.seed.unwrap_or_else(|| now.micros().unsigned_abs() ^ (u64::from(std::process::id()) << 48));
        let meters = specs(client, &scenario.meters)?;
        let workload = Workload::new(seed, meters, scenario.customers, scenario.event_bytes, scenario.times(now));
        let (next, answered, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        Ok(Self { scenario, target, workload, seed, next, answered, stop })
    }

    fn preload(&self) -> anyhow::Result<Report> {
        let source = Source::Fresh(Mix::default());
        let load = self.load(source, Until::Events(self.scenario.preload), self.scenario.connections);
        Load { batch: PRELOAD_BATCH, ..load }.run().context("while preloading")
    }

    /// The measured run, and what goes on beside it. `used`: what had been used before.
    fn run(&self, used: &Used) -> anyhow::Result<(Report, Beside)> {
        let source = match self.scenario.storm {
            true => Source::Old(0..self.scenario.preload),
            false => {
                let duplicates_permille = self.scenario.duplicates_permille;
                Source::Fresh(Mix { duplicates_permille, ..Mix::default() })
            }
        };
        let main = self.load(source, self.scenario.until, self.scenario.connections);
        let probe = self.load(Source::Fresh(Mix::default()), Until::Elapsed(Duration::MAX), 1);
        let probe = Load { batch: PROBE_BATCH, pause: PROBE_PAUSE, seed: self.seed ^ 1, per_second: None, ..probe };
        // Only probe and checks heed the flag: it is raised when the measured run is over.
        let never = AtomicBool::new(false);
        let main = Load { stop: &never, ..main };
        thread::scope(|scope| {
            let start = |name: &str| thread::Builder::new().name(name.into());
            let probe = self.scenario.probe.then(|| start("probe").spawn_scoped(scope, || probe.run())).transpose()?;
            let checks = self.scenario.checks.map(|checks| self.checks(checks, used));
            let checks = checks.map(|run| start("checks").spawn_scoped(scope, move || run.run())).transpose()?;
            let main = main.run();
            self.stop.store(true, Ordering::Relaxed);
            let panicked = |_| anyhow::anyhow!("what ran beside the load panicked");
            let probe = probe.map(|thread| thread.join().map_err(panicked)?).transpose()?;
            let checks = checks.map(|thread| thread.join().map_err(panicked)?).transpose()?;
            Ok((main?, Beside { probe, checks }))
        })
    }

    fn checks<'b>(&'b self, checks: Checks, used: &'b Used) -> checks::Run<'b> {
        let (target, workload, stop) = (self.target, &self.workload, &self.stop);
        checks::Run { checks, target, workload, used, timeout: self.scenario.timeout, stop, seed: self.seed }
    }

    fn load(&self, source: Source, until: Until, connections: usize) -> Load<'_> {
        Load {
            target: self.target,
            workload: &self.workload,
            source,
            until,
            batch: self.scenario.batch,
            connections,
            pause: Duration::ZERO,
            per_second: self.scenario.per_second,
            timeout: self.scenario.timeout,
            give_up_after: self.scenario.timeout,
            next: &self.next,
            answered: &self.answered,
            stop: &self.stop,
            seed: self.seed,
        }
    }
}

impl Snapshot {
    fn take(client: &mut Client, pid: Option<u32>) -> Self {
        Self {
            daemon: pid.and_then(process::cpu_time),
            generator: process::cpu_time(std::process::id()).unwrap_or_default(),
            machine: process::machine_busy(),
            sync: scrape::histogram(client, metrics::JOURNAL_SYNC_SECONDS),
        }
    }

    /// Processor time between two moments. `settled`: the daemon's once it was idle again.
    fn to(&self, end: &Snapshot, settled: Option<Duration>) -> Cpu {
        let since = |now: Option<Duration>, then: Option<Duration>| Some(now?.saturating_sub(then?));
        Cpu {
            daemon: since(end.daemon, self.daemon),
            daemon_settled: since(settled, self.daemon),
            generator: end.generator.saturating_sub(self.generator),
            machine: since(end.machine, self.machine),
            processors: process::processors(),
        }
    }
}

/// Waits until the daemon idles, at most `limit`, and reads its processor time: what was left behind is part of it.
fn settle(pid: u32, limit: Duration) -> Option<Duration> {
    let started = Instant::now();
    let mut last = process::cpu_time(pid)?;
    while started.elapsed() < limit {
        thread::sleep(SETTLE_STEP);
        let now = process::cpu_time(pid)?;
        let is_idle = (now - last).as_micros() * 1_000 < SETTLE_STEP.as_micros() * IDLE_PERMILLE;
        last = now;
        if is_idle {
            break;
        }
    }
    Some(last)
}
