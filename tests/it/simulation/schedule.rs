//! A schedule: operations drawn from a seed, and the checks after each.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use fastrand::Rng;
use meterd::engine::{self, Answer, Batch};
use meterd::env::{Clock, Disk, ManualClock, SimDisk};
use meterd::journal::JournalError;
use meterd::model::{Code, Duration, Outcome, Seq, Timestamp};
use meterd::store::MemStore;

use super::model::{Accepted, Expected, HOUR_MICROS, METERS, Model, NARROW, Sent, WIDE};
use super::node::{Node, Request};

const START: &str = "2026-11-01T12:00:00Z";

/// A promise that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    None,
    AcknowledgeBeforeSync,
    NoDirectorySync,
    IdsWithoutCounters,
    CountersWithoutIds,
    StoreAheadOfJournal,
    LyingSync,
}

/// How often things happened: a schedule that crashes nothing proves nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    accepted: u64,
    duplicates: u64,
    conflicts: u64,
    refused: u64,
    forgotten: u64,
    crashes: u64,
    restarts: u64,
    records_lost: u64,
    failed_syncs: u64,
    failed_writes: u64,
    commits: u64,
    persists: u64,
    clock_steps_back: u64,
    policy_changes: u64,
}

impl Seen {
    pub fn add(&mut self, other: &Seen) {
        self.accepted += other.accepted;
        self.duplicates += other.duplicates;
        self.conflicts += other.conflicts;
        self.refused += other.refused;
        self.forgotten += other.forgotten;
        self.crashes += other.crashes;
        self.restarts += other.restarts;
        self.records_lost += other.records_lost;
        self.failed_syncs += other.failed_syncs;
        self.failed_writes += other.failed_writes;
        self.commits += other.commits;
        self.persists += other.persists;
        self.clock_steps_back += other.clock_steps_back;
        self.policy_changes += other.policy_changes;
    }

    pub fn assert_that_everything_happened(&self) {
        let Seen { accepted, duplicates, conflicts, refused, forgotten, crashes, restarts, .. } = *self;
        let Seen { records_lost, failed_syncs, failed_writes, commits, persists, .. } = *self;
        let Seen { clock_steps_back, policy_changes, .. } = *self;
        let counts = [accepted, duplicates, conflicts, refused, forgotten, crashes, restarts, records_lost];
        let more = [failed_syncs, failed_writes, commits, persists, clock_steps_back, policy_changes];
        assert!(counts.iter().chain(&more).all(|count| *count > 0), "something never happened: {self:?}");
    }
}

struct World {
    rng: Rng,
    sabotage: Sabotage,
    disk: SimDisk,
    clock: Arc<ManualClock>,
    node: Node,
    model: Model,
    next_request: Request,
    epoch_ids: usize,
    /// Parsed and looked up, not yet at the writer: slow clients and slow threads.
    parsed: VecDeque<(Request, Vec<Sent>, Timestamp, Batch)>,
    /// Decided, not yet answered: what the model makes of them, for when the answer comes.
    decided: BTreeMap<Request, Seq>,
    seen: Seen,
}

/// Runs one schedule and panics at the first thing that is not as it ought to be.
pub fn run_schedule(seed: u64, sabotage: Sabotage) -> Seen {
    let mut rng = Rng::with_seed(seed);
    let disk = SimDisk::new(rng.u64(..));
    disk.lie_on_sync_data(sabotage == Sabotage::LyingSync);
    disk.lie_on_sync_dir(sabotage == Sabotage::NoDirectorySync);
    let clock = Arc::new(ManualClock::new(Timestamp::parse_rfc3339(START).expect("a time")));
    let store = Arc::new(MemStore::with_bulk_ids_min(rng.usize(2..12)));
    let epoch_ids = rng.usize(2..20);
    let policy = if rng.bool() { NARROW } else { WIDE };
    let node = Node::open(&disk, store, &clock, policy, epoch_ids).expect("a new directory opens");
    let mut world = World {
        rng,
        sabotage,
        disk,
        clock,
        node,
        model: Model::new(policy),
        next_request: 0,
        epoch_ids,
        parsed: VecDeque::new(),
        decided: BTreeMap::new(),
        seen: Seen::default(),
    };
    world.model.acknowledged = world.node.running.journal.last();
    for _ in 0..world.rng.usize(20..160) {
        world.step();
    }
    world.finish();
    world.seen
}

impl World {
    fn step(&mut self) {
        let stepped = match self.rng.u32(..100) {
            0..=19 => self.parse(),
            20..=41 => self.decide(),
            42..=54 => self.append(),
            55..=67 => self.sync(),
            68..=77 => self.commit(),
            78..=80 => self.persist(),
            81..=86 => self.pass_time(),
            87..=88 => self.step_clock(),
            89 => self.node.running.journal.append_watermark(),
            90 => self.node.running.journal.preparer(0).prepare(),
            91..=93 => self.tick(),
            94 => self.plan_failure(),
            95..=96 => {
                self.crash();
                Ok(())
            }
            97 => {
                self.restart();
                Ok(())
            }
            _ => {
                self.compare();
                Ok(())
            }
        };
        match stepped {
            Ok(()) => {}
            // A failed write or sync is the end of the process, and the machine may go down with it.
            Err(_) if self.rng.bool() => self.crash(),
            Err(_) => self.restart(),
        }
    }

    fn event(&mut self) -> Sent {
        if !self.model.accepted.is_empty() && self.rng.u32(..6) == 0 {
            // A client that retries, however late.
            return self.model.accepted[self.rng.usize(..self.model.accepted.len())].sent.clone();
        }
        let now = self.clock.now();
        let rng = &mut self.rng;
        let shift = |hours: i64| Some(Timestamp::from_micros(now.micros() + hours * HOUR_MICROS).expect("in range"));
        let timestamp = match rng.u32(..20) {
            0 => shift(-200),
            1 => shift(200),
            2..=6 => shift(rng.i64(-3..1)),
            7..=9 => shift(rng.i64(-50..1)),
            _ => None,
        };
        let mut meters: Vec<usize> = (0..METERS.len()).filter(|_| rng.u32(..4) == 0).collect();
        if meters.is_empty() {
            meters.push(rng.usize(..METERS.len()));
        }
        let id = rng.u64(..60);
        Sent {
            id,
            // One in eight events with a known id is another event.
            payload: if rng.u32(..8) == 0 { 1 } else { 0 },
            customer: rng.u8(..3),
            meters,
            model: rng.bool().then(|| rng.u8(..2)),
            quantity: rng.i64(0..1_000),
            timestamp,
        }
    }

    fn parse(&mut self) -> Result<(), JournalError> {
        let events: Vec<Sent> = (0..self.rng.usize(1..7)).map(|_| self.event()).collect();
        let received_at = self.clock.now();
        let batch = self.node.batch(&events, received_at);
        self.next_request += 1;
        self.parsed.push_back((self.next_request, events, received_at, batch));
        Ok(())
    }

    fn decide(&mut self) -> Result<(), JournalError> {
        if self.parsed.is_empty() {
            return Ok(());
        }
        let which = self.rng.usize(..self.parsed.len());
        let (request, events, received_at, batch) = self.parsed.remove(which).expect("within bounds");
        let before = self.node.running.writer.effective();
        self.node.running.writer.take(batch, request).expect("the store in memory answers");
        let answer = self.node.running.writer.newest_answer().expect("just decided").clone();
        self.check_answer(&events, received_at, before, &answer);
        assert!(self.node.running.writer.effective() >= before, "effective time went back");
        self.decided.insert(request, answer.seq);
        Ok(())
    }

    fn check_answer(&mut self, events: &[Sent], received_at: Timestamp, before: Timestamp, answer: &Answer) {
        assert_eq!(answer.outcomes.len(), events.len(), "one outcome per event");
        let effective = before.max(received_at);
        for (sent, outcome) in events.iter().zip(&answer.outcomes) {
            let expected = self.model.expect(sent, received_at, effective);
            let got = match outcome {
                Outcome::Accepted(_) => Expected::Accepted,
                Outcome::Duplicate(seq) => Expected::Duplicate(*seq),
                Outcome::Conflict(seq) => Expected::Conflict(*seq),
                Outcome::Rejected(Code::TooLate, _) => Expected::TooLate,
                Outcome::Rejected(Code::TooEarly, _) => Expected::TooEarly,
                Outcome::Rejected(code, detail) => panic!("rejected as {code:?}: {detail}"),
            };
            assert!(expected.contains(&got), "{sent:?}: {got:?}, expected one of {expected:?}");
            self.seen.forgotten += u64::from(expected.len() > 1 && got == Expected::Accepted);
            match outcome {
                Outcome::Accepted(seq) => {
                    self.seen.accepted += 1;
                    let timestamp = sent.timestamp.unwrap_or(received_at);
                    self.model.accept(Accepted { seq: *seq, sent: sent.clone(), timestamp, effective });
                }
                Outcome::Duplicate(_) => self.seen.duplicates += 1,
                Outcome::Conflict(_) => self.seen.conflicts += 1,
                Outcome::Rejected(..) => self.seen.refused += 1,
            }
        }
    }

    fn append(&mut self) -> Result<(), JournalError> {
        self.node.append()?;
        if self.sabotage == Sabotage::AcknowledgeBeforeSync {
            let answers = self.node.in_flight.as_mut().map(|group| std::mem::take(&mut group.answers));
            answers.into_iter().flatten().for_each(|(request, _)| self.acknowledge(request));
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), JournalError> {
        if let Some(group) = self.node.sync()? {
            group.answers.into_iter().for_each(|(request, _)| self.acknowledge(request));
        }
        Ok(())
    }

    /// The client has its answer: all that it rests on must survive from now on.
    fn acknowledge(&mut self, request: Request) {
        let seq = self.decided.remove(&request).expect("decided once, answered once");
        self.model.acknowledged = self.model.acknowledged.max(seq);
    }

    fn commit(&mut self) -> Result<(), JournalError> {
        self.node.hand_over();
        let durable = self.node.running.journal.durable();
        let Some(job) = &self.node.job else { return Ok(()) };
        if job.position > durable && self.sabotage != Sabotage::StoreAheadOfJournal {
            return Ok(());
        }
        self.seen.commits += 1;
        let sabotage = self.sabotage;
        self.node.commit(|commit| match sabotage {
            Sabotage::IdsWithoutCounters => commit.rows.clear(),
            Sabotage::CountersWithoutIds => commit.ids.clear(),
            _ => {}
        });
        Ok(())
    }

    fn persist(&mut self) -> Result<(), JournalError> {
        self.seen.persists += 1;
        self.node.persist();
        Ok(())
    }

    fn pass_time(&mut self) -> Result<(), JournalError> {
        let millis = match self.rng.u32(..6) {
            0 | 1 => self.rng.u64(10..40) * 3_600_000,
            2 => 600_000,
            _ => self.rng.u64(1..5_000),
        };
        self.clock.advance(Duration::from_millis(millis));
        Ok(())
    }

    fn step_clock(&mut self) -> Result<(), JournalError> {
        let hours = self.rng.i64(-3..2);
        self.seen.clock_steps_back += u64::from(hours < 0);
        let now = self.clock.now().micros() + hours * HOUR_MICROS;
        self.clock.set(Timestamp::from_micros(now).expect("in range"));
        Ok(())
    }

    fn tick(&mut self) -> Result<(), JournalError> {
        let now = self.clock.now();
        self.node.running.writer.tick(now);
        Ok(())
    }

    fn plan_failure(&mut self) -> Result<(), JournalError> {
        match self.rng.u32(..3) {
            0 => {
                self.seen.failed_syncs += 1;
                self.disk.fail_sync_data_in(self.rng.u64(1..3));
            }
            1 => {
                self.seen.failed_writes += 1;
                self.disk.fail_write_in(self.rng.u64(1..3));
            }
            _ => self.disk.power_off_in(self.rng.u64(1..6)),
        }
        Ok(())
    }

    /// Power loss: what the store had flushed by itself is drawn, what the disk keeps too.
    fn crash(&mut self) {
        self.seen.crashes += 1;
        let disk = self.disk.crash();
        let kept = self.rng.usize(..=self.node.store.unpersisted_commits());
        self.reopen(disk, kept);
    }

    /// The process dies, the machine does not: written bytes stay, synced or not.
    fn restart(&mut self) {
        self.seen.restarts += 1;
        let disk = self.disk.restart();
        let kept = self.rng.usize(..=self.node.store.unpersisted_commits());
        self.reopen(disk, kept);
    }

    fn reopen(&mut self, disk: SimDisk, kept: usize) {
        let before = self.node.running.writer.position();
        let store = Arc::new(self.node.store.crash_keeping(kept));
        self.disk = disk;
        self.disk.fail_sync_data_in(0);
        self.disk.fail_write_in(0);
        self.disk.power_off_in(0);
        self.parsed.clear();
        self.decided.clear();
        if self.rng.u32(..4) == 0 {
            self.seen.policy_changes += 1;
            self.model.set_policy(if self.model.policy == NARROW { WIDE } else { NARROW });
        }
        self.node = Node::open(&self.disk, store, &self.clock, self.model.policy, self.epoch_ids)
            .expect("a directory opens after a crash");
        let last = self.node.running.writer.position();
        let acknowledged = self.model.acknowledged;
        assert!(last >= acknowledged, "acknowledged up to {acknowledged}, but the log ends at {last}");
        self.seen.records_lost += before.0.saturating_sub(last.0);
        self.model.forget_after(last);
        // Replayed, so a second crash must not lose it either.
        self.model.acknowledged = self.model.acknowledged.max(last);
        self.compare();
    }

    fn compare(&self) {
        let (expected, got) = (self.model.counters(), self.node.counters());
        for (name, value) in &expected {
            assert_eq!(got.get(name), Some(value), "counter {name:?} of {}", METERS[name.1]);
        }
        assert_eq!(got.len(), expected.len(), "counters that nobody asked for: {got:?}");
    }

    /// Lets everything come to rest, and compares the store with the journal by `verify`.
    fn finish(&mut self) {
        self.disk.fail_sync_data_in(0);
        self.disk.fail_write_in(0);
        self.disk.power_off_in(0);
        self.restart();
        while self.node.append().expect("the disk works") {
            self.sync().expect("the disk works");
        }
        self.compare();
        self.clock.advance(Duration::from_secs(1));
        self.node.hand_over();
        self.commit().expect("the store works");
        self.node.persist();
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let verified = engine::verify(&disk, &*self.node.store, &mut |_| {}).expect("the journal can be read");
        assert_eq!(verified.difference_count, 0, "{:#?}", verified.differences);
    }
}
