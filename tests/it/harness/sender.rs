//! A sender that remembers every id and every answer, and what that says about the daemon's totals.
//!
//! 1. A batch holds new events, events sent before (answered or still under way elsewhere), and answered ids with
//!    another quantity. Whoever gets an answer first, an id has one seq for ever: every later answer must name it.
//! 2. A batch without an answer may have counted or not, but as a whole. So the totals after a crash must be those of
//!    the answered events and of some of the unanswered batches, customer by customer and meter by meter.
//! 3. Once the unanswered batches have been sent again, the totals must be those of every event sent.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use meterd::cli::client::{Client, Target};
use meterd::cli::daemon::Daemon;
use meterd::cli::generate::{Expected, Kind, MeterSpec, Times, Workload};
use meterd::cli::retry::{self, Policy};
use meterd::cli::totals::{self, ByCustomer};
use meterd::env::{Clock, SystemClock};
use parking_lot::Mutex;
use serde::Deserialize;

const PATH: &str = "/v1/events?results=all";
const JSON: &str = "application/json";
const CUSTOMERS: u64 = 40;
/// New events in a batch; a tenth of them is added in old ones.
const BATCH_EVENTS: u64 = 100;
const UNANSWERED: u64 = 0;

pub struct Sender {
    connections: usize,
    workload: Workload,
    log: Mutex<Log>,
    seed: u64,
}

struct Log {
    /// The seq that each event's first answer named, by the event's number; 0 while there is none.
    seqs: Vec<u64>,
    /// The totals of the answered events.
    answered: Expected,
    answered_events: u64,
    answered_batches: u64,
    /// Batches that were sent and got no answer.
    unanswered: Vec<Batch>,
    /// Answers that broke a promise.
    wrong: Vec<String>,
    /// Numbers the seeds of the connections.
    connections: u64,
}

#[derive(Clone, Debug)]
struct Batch {
    fresh: Range<u64>,
    old: Vec<u64>,
    conflicts: Vec<u64>,
}

#[derive(Deserialize)]
struct Answer {
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    outcome: String,
    seq: Option<u64>,
    detail: Option<String>,
}

impl Batch {
    /// Every event that may count, in the order of the request.
    fn numbers(&self) -> impl Iterator<Item = u64> {
        self.fresh.clone().chain(self.old.iter().copied())
    }
}

impl Sender {
    pub fn new(seed: u64) -> Self {
        let meter = |slug: &str, kind, dimensions: &[&str]| MeterSpec {
            slug: slug.into(),
            kind,
            dimensions: dimensions.iter().map(|name| (*name).into()).collect(),
        };
        let meters = vec![
            meter("tokens", Kind::Sum, &["model"]),
            meter("requests", Kind::Count, &[]),
            meter("bytes", Kind::Sum, &[]),
        ];
        let workload = Workload::new(seed, meters, CUSTOMERS, 0, Times::Before(SystemClock::new().now()));
        let log = Log {
            seqs: Vec::new(),
            answered: Expected::new(&workload),
            answered_events: 0,
            answered_batches: 0,
            unanswered: Vec::new(),
            wrong: Vec::new(),
            connections: 0,
        };
        Self { connections: 4, workload, log: Mutex::new(log), seed }
    }

    /// With another number of connections than 4.
    pub fn over(self, connections: usize) -> Self {
        Self { connections, ..self }
    }

    pub fn answered_events(&self) -> u64 {
        self.log.lock().answered_events
    }

    pub fn answered_batches(&self) -> u64 {
        self.log.lock().answered_batches
    }

    pub fn unanswered_batches(&self) -> usize {
        self.log.lock().unanswered.len()
    }

    /// Sends on every connection while `meanwhile` runs. A connection ends with its first request that has no answer.
    pub fn send_while<R>(&self, daemon: &Daemon, meanwhile: impl FnOnce() -> R) -> R {
        let target = daemon.target().unwrap();
        self.send_to(&target, meanwhile)
    }

    /// As `send_while`, for a daemon that `meanwhile` takes away.
    pub fn send_to<R>(&self, target: &Target, meanwhile: impl FnOnce() -> R) -> R {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..self.connections {
                let builder = std::thread::Builder::new().name("sender".into());
                builder.spawn_scoped(scope, || self.send_until(target, &stop)).unwrap();
            }
            let result = meanwhile();
            stop.store(true, Ordering::Relaxed);
            result
        })
    }

    /// Enters an event as answered that was never sent, to see whether anyone notices.
    pub fn claim_one(&self) {
        let mut log = self.log.lock();
        let number = log.seqs.len() as u64;
        log.seqs.push(u64::MAX);
        log.answered.add(&self.workload, number..number + 1);
    }

    fn send_until(&self, target: &Target, stop: &AtomicBool) {
        let mut client = Client::new(target, Duration::from_secs(20)).unwrap();
        let number = {
            let mut log = self.log.lock();
            log.connections += 1;
            log.connections
        };
        let mut rng = Rng::with_seed(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        while !stop.load(Ordering::Relaxed) {
            let batch = self.draw(&mut rng);
            match client.post(PATH, JSON, self.encode(&batch)) {
                Ok(reply) if !retry::is_retryable(reply.status) => self.note(&batch, reply.status, &reply.body),
                _ => {
                    self.log.lock().unanswered.push(batch);
                    return;
                }
            }
        }
    }

    fn draw(&self, rng: &mut Rng) -> Batch {
        let mut log = self.log.lock();
        let first = log.seqs.len() as u64;
        let mut batch = Batch { fresh: first..first + BATCH_EVENTS, old: Vec::new(), conflicts: Vec::new() };
        log.seqs.resize(batch.fresh.end as usize, UNANSWERED);
        for _ in 0..BATCH_EVENTS / 10 {
            let old = rng.u64(0..batch.fresh.end);
            // What an id that is under way elsewhere is a conflict with is anybody's guess.
            if rng.u8(..) < 64 && log.seqs[old as usize] != UNANSWERED {
                batch.conflicts.push(old);
            } else {
                batch.old.push(old);
            }
        }
        batch
    }

    fn encode(&self, batch: &Batch) -> Bytes {
        let mut body = vec![b'['];
        for number in batch.numbers() {
            self.workload.write(number, &mut body);
            body.push(b',');
        }
        for number in &batch.conflicts {
            self.workload.write_conflict(*number, &mut body);
            body.push(b',');
        }
        body.pop();
        body.push(b']');
        body.into()
    }

    /// Enters an answer into the log.
    fn note(&self, batch: &Batch, status: u16, body: &[u8]) {
        let mut log = self.log.lock();
        let due = if batch.conflicts.is_empty() { 200 } else { 207 };
        let answer: Answer = match serde_json::from_slice(body) {
            Ok(answer) if status == due => answer,
            _ => return log.wrong.push(format!("{status}: {}", String::from_utf8_lossy(body))),
        };
        log.answered_batches += 1;
        let mut events = answer.events.into_iter();
        for (number, event) in batch.numbers().zip(&mut events) {
            self.note_event(&mut log, number, &event);
        }
        for (number, event) in batch.conflicts.iter().zip(&mut events) {
            if event.outcome != "conflict" || event.seq != Some(log.seqs[*number as usize]) {
                log.wrong
                    .push(format!("another payload for event {number} was answered {} {:?}", event.outcome, event.seq));
            }
        }
    }

    fn note_event(&self, log: &mut Log, number: u64, event: &Event) {
        let known = log.seqs[number as usize];
        match (event.outcome.as_str(), event.seq) {
            ("accepted" | "duplicate", Some(seq)) if known == UNANSWERED && seq > 0 => {
                log.seqs[number as usize] = seq;
                log.answered.add(&self.workload, number..number + 1);
                log.answered_events += 1;
            }
            ("accepted" | "duplicate", Some(seq)) if known == seq => {}
            (outcome, seq) => {
                log.wrong.push(format!(
                    "event {number}, known by seq {known}, was answered {outcome} {seq:?} {:?}",
                    event.detail
                ));
            }
        }
    }

    /// Holds the daemon's totals, as they are after a crash, against the log. What is wrong, in words.
    pub fn check_after_crash(&self, client: &mut Client) -> Result<(), String> {
        let found = totals::fetch_all(client, &self.workload).map_err(|error| format!("{error:#}"))?;
        let log = self.log.lock();
        let batches = &log.unanswered;
        assert!(batches.len() <= 12, "{} unanswered batches are too many to try every choice", batches.len());
        let differences = (0..1_u64 << batches.len()).map(|choice| {
            let chosen = batches.iter().enumerate().filter(|(n, _)| choice >> n & 1 == 1).map(|(_, batch)| batch);
            self.differences(&log, chosen, &found)
        });
        let fewest = differences.min_by_key(Vec::len).unwrap_or_default();
        self.judge(&log, &fewest)
    }

    /// Totals that differ from those of the answered events and these batches.
    fn differences<'a>(
        &self,
        log: &Log,
        batches: impl Iterator<Item = &'a Batch>,
        found: &[ByCustomer],
    ) -> Vec<totals::Difference> {
        let mut expected = log.answered.clone();
        let mut numbers = batches.flat_map(Batch::numbers).collect::<Vec<_>>();
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers.into_iter().filter(|number| log.seqs[*number as usize] == UNANSWERED) {
            expected.add(&self.workload, number..number + 1);
        }
        totals::differences(&self.workload, &expected, &vec![ByCustomer::new(); found.len()], found)
    }

    fn judge(&self, log: &Log, differences: &[totals::Difference]) -> Result<(), String> {
        let totals = differences.iter().take(3).map(|difference| format!("{difference:?}"));
        let wrong = totals.chain(log.wrong.iter().take(3).cloned()).collect::<Vec<_>>();
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "{} totals and {} answers are wrong: {}",
                differences.len(),
                log.wrong.len(),
                wrong.join("; ")
            )),
        }
    }

    /// Sends the unanswered batches again until each has its answer, then expects every event to count once.
    pub fn settle(&self, client: &mut Client) -> Result<(), String> {
        let unanswered = std::mem::take(&mut self.log.lock().unanswered);
        let policy = Policy::until(Duration::from_secs(20));
        let mut rng = Rng::with_seed(self.seed);
        for batch in unanswered {
            let answered = retry::post(client, PATH, JSON, &self.encode(&batch), &policy, &mut rng, &mut |_| {});
            let reply = answered.map_err(|gave_up| gave_up.to_string())?.reply;
            self.note(&batch, reply.status, &reply.body);
        }
        self.check_after_crash(client)
    }

    /// No two events may have been given the same record.
    pub fn check_seqs(&self) {
        let mut seqs = self.log.lock().seqs.clone();
        let events = seqs.len();
        seqs.sort_unstable();
        seqs.dedup();
        assert_eq!(seqs.len(), events, "events share a seq with another");
    }
}
