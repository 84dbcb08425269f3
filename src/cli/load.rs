//! Sends generated events over several connections and remembers what must have been counted.
//!
//! 1. A worker is a thread with one connection and one batch under way; it is the next batch's body that is reused.
//! 2. Only ids that this worker has seen acknowledged are sent again, so what they must be answered is known: the same
//!    payload `duplicate`, another one `conflict`.
//! 3. A batch that had to be repeated may have counted the first time: its fresh events are then accepted or duplicate.
//!    Any other difference from what a batch must be answered is a mismatch, and kept.
//! 4. Numbers of acknowledged events are kept as ranges, a few bytes a batch; the totals follow from them afterwards.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use fastrand::Rng;

use crate::cli::answer::Counts;
use crate::cli::client::{Client, Target};
use crate::cli::generate::Workload;
use crate::cli::retry::{self, Policy};

const MISMATCHES_KEPT: usize = 5;

/// What batches are made of, in events of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mix {
    /// Acknowledged events, sent again as they were.
    pub duplicates_permille: u64,
    /// Acknowledged ids with another quantity.
    pub conflicts_permille: u64,
    /// Batches of a thousand that are sent a second time, whole, although they were answered.
    pub resends_permille: u64,
}

/// Where the events of a batch come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// New events, mixed with old ones.
    Fresh(Mix),
    /// Nothing but events that were acknowledged before, drawn evenly from these numbers.
    Old(Range<u64>),
}

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    Events(u64),
    /// By time, or when the flag of [`Load::stop`] is raised.
    Elapsed(Duration),
}

/// One run of several workers.
pub struct Load<'a> {
    pub target: &'a Target,
    pub workload: &'a Workload,
    pub source: Source,
    pub until: Until,
    pub batch: u64,
    pub connections: usize,
    /// Rest between batches of one connection.
    pub pause: Duration,
    /// Events that all connections together send in a second, at most. What falls behind is caught up.
    pub per_second: Option<f64>,
    pub timeout: Duration,
    pub give_up_after: Duration,
    /// The next unused event number; shared by all runs of a workload.
    pub next: &'a AtomicU64,
    /// Events answered so far, for whoever watches.
    pub answered: &'a AtomicU64,
    pub stop: &'a AtomicBool,
    pub seed: u64,
}

/// What one run did.
#[derive(Debug, Default)]
pub struct Report {
    pub elapsed: Duration,
    pub batches: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    pub counts: Counts,
    /// From the start of a request to the end of its answer, in microseconds; retried batches are left out.
    pub latencies_micros: Vec<u32>,
    /// Numbers of fresh events that were answered accepted or duplicate.
    pub acknowledged: Vec<Range<u64>>,
    /// Batches whose outcomes were not what they had to be, and how many of them there were.
    pub mismatches: Vec<String>,
    pub mismatch_count: u64,
}

impl Report {
    pub fn merge(&mut self, other: Report) {
        self.elapsed = self.elapsed.max(other.elapsed);
        self.batches += other.batches;
        self.retries += other.retries;
        self.counts.add(&other.counts);
        self.latencies_micros.extend(other.latencies_micros);
        self.acknowledged.extend(other.acknowledged);
        self.mismatch_count += other.mismatch_count;
        self.mismatches.extend(other.mismatches);
        self.mismatches.truncate(MISMATCHES_KEPT);
    }

    /// The latency below which `permille` of the batches were answered.
    pub fn latency(&self, permille: usize) -> Duration {
        percentile(self.latencies_micros.clone(), permille)
    }
}

/// The nearest rank: below it lie `permille` of the latencies.
pub fn percentile(mut micros: Vec<u32>, permille: usize) -> Duration {
    micros.sort_unstable();
    let rank = (micros.len() * permille).div_ceil(1_000).saturating_sub(1);
    Duration::from_micros(u64::from(micros.get(rank).copied().unwrap_or_default()))
}

/// What the workers of one run share.
struct Common {
    started: Instant,
    /// Events that no batch has taken yet.
    left: AtomicU64,
    /// Batches begun.
    begun: AtomicU64,
}

impl Load<'_> {
    /// Runs to the end. Fails if a worker gives up, or is answered a status that is not about events.
    pub fn run(&self) -> anyhow::Result<Report> {
        let started = Instant::now();
        let left = AtomicU64::new(match self.until {
            Until::Events(events) => events,
            Until::Elapsed(_) => u64::MAX,
        });
        let common = &Common { started, left, begun: AtomicU64::new(0) };
        let mut report = thread::scope(|scope| {
            let workers = (0..self.connections).map(|n| {
                let name = format!("load-{n}");
                let worker = move || self.work(n as u64, common);
                thread::Builder::new().name(name).spawn_scoped(scope, worker).context("cannot start a thread")
            });
            let workers = workers.collect::<Vec<_>>();
            let mut report = Report::default();
            for worker in workers {
                report.merge(worker?.join().map_err(|_| anyhow::anyhow!("a load thread panicked"))??);
            }
            anyhow::Ok(report)
        })?;
        report.elapsed = started.elapsed();
        Ok(report)
    }

    fn work(&self, n: u64, common: &Common) -> anyhow::Result<Report> {
        let seed = self.seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let client = Client::new(self.target, self.timeout)?;
        let mut worker = Worker {
            load: self,
            client,
            rng: Rng::with_seed(seed),
            report: Report::default(),
            body: Vec::new(),
            batch: Batch::default(),
            repeated: 0,
        };
        while let Some(events) = self.next_batch(common) {
            self.wait_for_turn(common);
            worker.batch(events)?;
            if !self.pause.is_zero() {
                thread::sleep(self.pause);
            }
        }
        Ok(worker.report)
    }

    /// How many events the next batch has; none once it is over.
    fn next_batch(&self, common: &Common) -> Option<u64> {
        let Common { started, left, .. } = common;
        let over = match self.until {
            Until::Events(_) => false,
            Until::Elapsed(limit) => started.elapsed() >= limit,
        };
        if over || self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(n.saturating_sub(self.batch)));
        let before = taken.unwrap_or_default();
        (before > 0).then(|| before.min(self.batch))
    }

    /// Sleeps until the next batch is due, if they have a pace.
    fn wait_for_turn(&self, common: &Common) {
        let Some(per_second) = self.per_second else { return };
        let before = common.begun.fetch_add(1, Ordering::Relaxed) * self.batch;
        let due = Duration::from_secs_f64(before as f64 / per_second);
        thread::sleep(due.saturating_sub(common.started.elapsed()));
    }
}

/// What the batch in the body must be answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Batch {
    fresh: Range<u64>,
    duplicates: u64,
    conflicts: u64,
}

struct Worker<'a> {
    load: &'a Load<'a>,
    client: Client,
    rng: Rng,
    report: Report,
    body: Vec<u8>,
    batch: Batch,
    /// Old events sent so far, so that their share comes out even when there was nothing to repeat at first.
    repeated: u64,
}

impl Worker<'_> {
    fn batch(&mut self, events: u64) -> anyhow::Result<()> {
        self.encode(events);
        self.send(false)?;
        let resends = match &self.load.source {
            Source::Fresh(mix) => mix.resends_permille,
            Source::Old(_) => 0,
        };
        if self.rng.u64(0..1_000) < resends {
            let fresh = self.batch.fresh.end - self.batch.fresh.start;
            self.batch.duplicates += fresh;
            self.batch.fresh.end = self.batch.fresh.start;
            self.send(true)?;
        }
        Ok(())
    }

    /// Fills the body with `events` events and notes what they must be answered.
    fn encode(&mut self, events: u64) {
        self.body.clear();
        self.body.push(b'[');
        let workload = self.load.workload;
        match &self.load.source {
            Source::Old(numbers) => {
                for _ in 0..events {
                    workload.write(self.rng.u64(numbers.clone()), &mut self.body);
                    self.body.push(b',');
                }
                self.batch = Batch { fresh: 0..0, duplicates: events, conflicts: 0 };
            }
            Source::Fresh(mix) => {
                let mix = *mix;
                self.encode_mixed(events, mix);
            }
        }
        self.body.pop();
        self.body.push(b']');
    }

    fn encode_mixed(&mut self, events: u64, mix: Mix) {
        let sent = self.report.counts.total() + events;
        let old_permille = mix.duplicates_permille + mix.conflicts_permille;
        let owed = (sent * old_permille / 1_000).saturating_sub(self.repeated);
        let old = if self.report.acknowledged.is_empty() { 0 } else { owed.min(events) };
        let conflicts = old * mix.conflicts_permille / old_permille.max(1);
        self.repeated += old;
        let first = self.load.next.fetch_add(events - old, Ordering::Relaxed);
        self.batch = Batch { fresh: first..first + events - old, duplicates: old - conflicts, conflicts };
        let (mut fresh, mut left) = (self.batch.fresh.clone(), (old - conflicts, conflicts));
        for slots in (1..=events).rev() {
            let draw = self.rng.u64(0..slots);
            if draw < left.0 {
                left.0 -= 1;
                self.load.workload.write(self.acknowledged(), &mut self.body);
            } else if draw < left.0 + left.1 {
                left.1 -= 1;
                self.load.workload.write_conflict(self.acknowledged(), &mut self.body);
            } else if let Some(number) = fresh.next() {
                self.load.workload.write(number, &mut self.body);
            }
            self.body.push(b',');
        }
    }

    /// The number of an event that was acknowledged to this worker.
    fn acknowledged(&mut self) -> u64 {
        let range = self.report.acknowledged[self.rng.usize(0..self.report.acknowledged.len())].clone();
        self.rng.u64(range)
    }

    fn send(&mut self, is_resend: bool) -> anyhow::Result<()> {
        let body = Bytes::from(std::mem::take(&mut self.body));
        let policy = Policy::until(self.load.give_up_after);
        let started = Instant::now();
        let answered = retry::post(
            &mut self.client,
            "/v1/events",
            "application/json",
            &body,
            &policy,
            &mut self.rng,
            &mut |_| {},
        )?;
        let micros = u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX);
        self.body = Vec::from(body);
        let reply = answered.reply;
        anyhow::ensure!(
            matches!(reply.status, 200 | 207),
            "a batch was answered {}: {}",
            reply.status,
            reply.problem()
        );
        let counts: Counts = serde_json::from_slice(&reply.body).context("the answer to a batch is not readable")?;
        self.note(counts, answered.attempts, micros, is_resend);
        Ok(())
    }

    fn note(&mut self, counts: Counts, attempts: u32, micros: u32, is_resend: bool) {
        let fresh = self.batch.fresh.end - self.batch.fresh.start;
        let old = self.batch.duplicates;
        let retried = attempts > 1;
        let as_due = counts.conflict == self.batch.conflicts
            && counts.accepted + counts.duplicate == fresh + old
            && (counts.accepted == fresh || (retried && counts.accepted < fresh));
        if !as_due {
            self.report.mismatch_count += 1;
            let due = format!("{fresh} accepted, {old} duplicate, {} conflict", self.batch.conflicts);
            let text = format!("due after {attempts} attempts: {due}; answered: {counts:?}");
            if self.report.mismatches.len() < MISMATCHES_KEPT {
                self.report.mismatches.push(text);
            }
        }
        if fresh > 0 && counts.rejected + counts.capped == 0 {
            self.report.acknowledged.push(self.batch.fresh.clone());
        }
        if !retried {
            self.report.latencies_micros.push(micros);
        }
        self.report.batches += u64::from(!is_resend);
        self.report.retries += u64::from(attempts - 1);
        self.report.counts.add(&counts);
        self.load.answered.fetch_add(counts.total(), Ordering::Relaxed);
    }
}
