//! What a scenario came to, as text and as JSON. Measurements are floats; totals are not.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::bench::checks;
use crate::cli::load::Report;
use crate::cli::scrape::Histogram;
use crate::cli::totals::Difference;

const DIFFERENCES_SHOWN: usize = 5;
/// From this part of the processors on, they are the limit.
const BUSY: f64 = 0.85;
/// From this part of the time in fdatasync on, the disk is.
const SYNCING: f64 = 0.6;

/// Everything that was measured in one scenario.
#[derive(Debug)]
pub struct Measured {
    pub name: String,
    pub seed: u64,
    pub batch: u64,
    pub connections: usize,
    pub storm: bool,
    pub preload: Option<Preload>,
    pub main: Report,
    pub probe: Option<Report>,
    pub checks: Option<checks::Report>,
    pub cpu: Cpu,
    pub peak_resident_bytes: Option<u64>,
    pub sync: Option<Sync>,
    /// Pairs of customer and meter whose totals were compared.
    pub totals_checked: u64,
    pub differences: Vec<Difference>,
    pub mismatches: Vec<String>,
    pub mismatch_count: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Preload {
    pub events: u64,
    pub elapsed: Duration,
}

/// Processor time between the start of the load and its last answer.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    pub daemon: Option<Duration>,
    /// Including the background work that was left when the last answer came.
    pub daemon_settled: Option<Duration>,
    pub generator: Duration,
    /// Of everything that ran on this machine.
    pub machine: Option<Duration>,
    pub processors: usize,
}

/// The daemon's fdatasync calls during the load.
#[derive(Clone, Copy, Debug)]
pub struct Sync {
    pub count: u64,
    pub total: Duration,
    pub mean: Duration,
    /// The bound of the histogram's bucket.
    pub p99_at_most: Option<Duration>,
}

impl Sync {
    /// None if the daemon reported no syncs.
    pub fn of(histogram: &Histogram) -> Option<Self> {
        let total = Duration::try_from_secs_f64(histogram.sum_seconds).ok()?;
        let (mean, p99_at_most) = (histogram.mean()?, histogram.quantile_at_most(990));
        Some(Self { count: histogram.count, total, mean, p99_at_most })
    }
}

impl Measured {
    /// Every total is what was sent, and every batch was answered what was due.
    pub fn is_exact(&self) -> bool {
        let wrong_checks = self.checks.as_ref().map_or(0, |checks| checks.wrong_count);
        self.differences.is_empty() && self.mismatch_count == 0 && wrong_checks == 0
    }

    pub fn events_per_second(&self) -> f64 {
        per_second(self.main.counts.total(), self.main.elapsed)
    }

    /// Of a storm, in which nothing is accepted, the answered ones.
    pub fn headline_per_second(&self) -> f64 {
        if self.storm { self.events_per_second() } else { self.accepted_per_second() }
    }

    pub fn accepted_per_second(&self) -> f64 {
        per_second(self.main.counts.accepted, self.main.elapsed)
    }

    /// The daemon's processor seconds for a million answered events, background work included.
    pub fn cpu_per_million(&self) -> Option<f64> {
        self.per_million(self.cpu.daemon_settled.or(self.cpu.daemon)?)
    }

    fn per_million(&self, cpu: Duration) -> Option<f64> {
        let probed = self.probe.as_ref().map_or(0, |probe| probe.counts.total());
        let events = self.main.counts.total() + probed;
        (events > 0).then(|| cpu.as_secs_f64() * 1e6 / events as f64)
    }

    /// Processors that were busy on average: the daemon's and the generator's.
    pub fn busy(&self) -> (Option<f64>, f64) {
        let elapsed = self.main.elapsed.as_secs_f64().max(1e-9);
        (self.cpu.daemon.map(|cpu| cpu.as_secs_f64() / elapsed), self.cpu.generator.as_secs_f64() / elapsed)
    }

    /// What keeps it from being faster, as far as can be told from outside.
    pub fn limited_by(&self) -> String {
        let elapsed = self.main.elapsed.as_secs_f64().max(1e-9);
        let processors = self.cpu.processors as f64;
        let (Some(daemon), generator) = self.busy() else {
            return "unknown: the daemon's process cannot be seen (give --pid)".into();
        };
        let others = self.cpu.machine.map_or(0.0, |all| (all.as_secs_f64() / elapsed - daemon - generator).max(0.0));
        let syncing = self.sync.map_or(0.0, |sync| sync.total.as_secs_f64() / elapsed);
        let shares = format!(
            "daemon {daemon:.2} + generator {generator:.2} + others {others:.2} of {processors} processors busy, {:.0} % \
             of the time in fdatasync",
            syncing * 100.0
        );
        let limit = if daemon + generator + others > BUSY * processors {
            "processors"
        } else if syncing > SYNCING {
            "disk"
        } else {
            "waiting"
        };
        format!("{limit}: {shares}")
    }

    /// Prints text for people, or one line of JSON.
    pub fn print(&self, json: bool) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        if json {
            return writeln!(out, "{}", self.to_json());
        }
        let lines = self.lines();
        let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, text) in lines {
            writeln!(out, "{name:width$}  {text}")?;
        }
        Ok(())
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let (main, counts) = (&self.main, &self.main.counts);
        let mut lines = Vec::new();
        if let Some(preload) = self.preload {
            let rate = per_second(preload.events, preload.elapsed);
            let seconds = preload.elapsed.as_secs_f64();
            lines.push(("preloaded", format!("{} events in {seconds:.1} s ({})", preload.events, rate_text(rate))));
        }
        let seconds = main.elapsed.as_secs_f64();
        let shape = format!("{} a batch, {} connections", self.batch, self.connections);
        lines.push(("sent", format!("{} events in {seconds:.2} s, {shape}", counts.total())));
        lines.push(("accepted", format!("{} ({})", counts.accepted, rate_text(self.accepted_per_second()))));
        let rest = (counts.duplicate, counts.conflict, counts.rejected + counts.capped);
        lines.push(("other outcomes", format!("{} duplicate, {} conflict, {} rejected", rest.0, rest.1, rest.2)));
        lines.push(("all answered", rate_text(self.events_per_second())));
        lines.push(("acknowledged in", latency_text(main)));
        if let Some(probe) = &self.probe {
            lines.push(("probe in", format!("{} ({} fresh batches of 100)", latency_text(probe), probe.batches)));
        }
        lines.extend(self.checks.as_ref().into_iter().flat_map(check_lines));
        lines.push(("retries", main.retries.to_string()));
        lines.push(("daemon CPU", self.cpu_text()));
        if let Some(bytes) = self.peak_resident_bytes {
            lines.push(("daemon peak RSS", format!("{} MiB", bytes >> 20)));
        }
        if let Some(sync) = self.sync {
            let p99 = sync.p99_at_most.map_or("unknown".into(), |p99| format!("at most {}", millis_text(p99)));
            lines.push(("fdatasync", format!("{} calls, mean {}, p99 {p99}", sync.count, millis_text(sync.mean))));
        }
        lines.push(("limited by", self.limited_by()));
        lines.push(("totals", self.totals_text()));
        lines.extend(self.mismatches.iter().map(|text| ("not due", text.clone())));
        lines.extend(self.differences.iter().take(DIFFERENCES_SHOWN).map(|d| {
            ("not equal", format!("{} of {}: {} expected, {} found", d.meter, d.customer, d.expected, d.found))
        }));
        lines
    }

    fn cpu_text(&self) -> String {
        let Some(last) = self.cpu.daemon.and_then(|cpu| self.per_million(cpu)) else {
            return "unknown (give --pid)".into();
        };
        let all = self.cpu_per_million().unwrap_or(last);
        format!("{last:.2} s per million events to the last answer, {all:.2} s with the work left behind")
    }

    fn totals_text(&self) -> String {
        let checked = self.totals_checked;
        match (self.differences.len(), self.mismatch_count) {
            (0, 0) => format!("exact: {checked} compared, every batch answered what was due"),
            (different, batches) => format!("NOT EXACT: {different} of {checked} differ, {batches} batches not as due"),
        }
    }

    fn to_json(&self) -> Value {
        let (daemon_busy, generator_busy) = self.busy();
        json!({
            "scenario": self.name,
            "seed": self.seed,
            "batch": self.batch,
            "connections": self.connections,
            "preload": self.preload.map(|p| json!({"events": p.events, "seconds": p.elapsed.as_secs_f64()})),
            "seconds": self.main.elapsed.as_secs_f64(),
            "outcomes": self.main.counts,
            "retries": self.main.retries,
            "accepted_per_second": self.accepted_per_second(),
            "events_per_second": self.events_per_second(),
            "ack_ms": latency_json(&self.main),
            "probe_ack_ms": self.probe.as_ref().map(latency_json),
            "checks": self.checks.as_ref().map(checks_json),
            "daemon_cpu_seconds_per_million": self.cpu.daemon.and_then(|cpu| self.per_million(cpu)),
            "daemon_cpu_seconds_per_million_settled": self.cpu_per_million(),
            "daemon_processors_busy": daemon_busy,
            "generator_processors_busy": generator_busy,
            "machine_processors_busy": self.cpu.machine.map(|all| all.as_secs_f64() / self.main.elapsed.as_secs_f64().max(1e-9)),
            "processors": self.cpu.processors,
            "daemon_peak_resident_bytes": self.peak_resident_bytes,
            "fdatasync": self.sync.map(|sync| json!({
                "count": sync.count,
                "mean_ms": millis(sync.mean),
                "p99_ms_at_most": sync.p99_at_most.map(millis),
            })),
            "limited_by": self.limited_by(),
            "totals_checked": self.totals_checked,
            "totals_different": self.differences.len(),
            "batches_not_as_due": self.mismatch_count,
            "exact": self.is_exact(),
        })
    }
}

pub fn per_second(events: u64, elapsed: Duration) -> f64 {
    events as f64 / elapsed.as_secs_f64().max(1e-9)
}

/// `412,345 events/s`
pub fn rate_text(per_second: f64) -> String {
    format!("{} events/s", grouped(per_second as u64))
}

/// `1,234,567`
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// To the microsecond.
pub fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

pub fn millis_text(duration: Duration) -> String {
    format!("{:.2} ms", millis(duration))
}

fn latency_text(report: &Report) -> String {
    latencies_text(|permille| report.latency(permille))
}

fn latencies_text(latency: impl Fn(usize) -> Duration) -> String {
    let [p50, p99, max] = [500, 990, 1_000].map(|permille| millis_text(latency(permille)));
    format!("p50 {p50}, p99 {p99}, max {max}")
}

/// What checks came to.
pub fn check_lines(checks: &checks::Report) -> Vec<(&'static str, String)> {
    let rate = grouped(per_second(checks.count(), checks.elapsed) as u64);
    let latencies = latencies_text(|permille| checks.latency(permille));
    let mut lines = vec![("checks in", format!("{latencies} ({} checks, {rate}/s)", grouped(checks.count())))];
    lines.extend(checks.wrong.iter().map(|text| ("wrong check", text.clone())));
    lines
}

pub fn checks_json(checks: &checks::Report) -> Value {
    json!({
        "count": checks.count(),
        "per_second": per_second(checks.count(), checks.elapsed),
        "ms": latencies_json(|permille| checks.latency(permille)),
        "wrong": checks.wrong_count,
    })
}

fn latency_json(report: &Report) -> Value {
    latencies_json(|permille| report.latency(permille))
}

fn latencies_json(latency: impl Fn(usize) -> Duration) -> Value {
    let [p50, p99, max] = [500, 990, 1_000].map(|permille| millis(latency(permille)));
    json!({"p50": p50, "p99": p99, "max": max})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn latencies_are_nearest_ranks() {
        let report = Report { latencies_micros: (1..=1_000).rev().collect(), ..Report::default() };
        assert_eq!(report.latency(500), Duration::from_micros(500));
        assert_eq!(report.latency(990), Duration::from_micros(990));
        assert_eq!(report.latency(1_000), Duration::from_millis(1));
        assert_eq!(Report::default().latency(990), Duration::ZERO);
    }
}
