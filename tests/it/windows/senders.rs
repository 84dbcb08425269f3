//! Senders that go on through crashes, and a billing job that follows the adjustments meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use meterd::cli::client::{Client, Reply, Target};
use meterd::cli::daemon::Daemon;
use meterd::cli::retry;
use meterd::env::{Clock, SystemClock};
use parking_lot::Mutex;

use crate::windows::billing::{Adjustment, adjustments_page};
use crate::windows::oracle::{Batch, Oracle};

const SENDERS: u64 = 5;
/// Between two of a sender's batches, at most.
const PAUSE_MS: u64 = 10;
/// A daemon that is gone is back within seconds.
const ANSWER_MAX: Duration = Duration::from_secs(60);
const CALL_MAX: Duration = Duration::from_secs(20);

pub struct Senders {
    pub oracle: Mutex<Oracle>,
    /// Where the daemon listens now.
    target: Mutex<Target>,
    stop: AtomicBool,
    unanswered: AtomicU64,
    seed: u64,
}

/// Also when the test fails meanwhile: a scope waits for its threads.
struct StopWhenDropped<'a>(&'a AtomicBool);

impl Drop for StopWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection to whichever daemon there is.
struct Line<'a> {
    target: &'a Mutex<Target>,
    open: Option<(Target, Client)>,
}

impl<'a> Line<'a> {
    fn new(target: &'a Mutex<Target>) -> Self {
        Self { target, open: None }
    }

    fn client(&mut self) -> &mut Client {
        let target = self.target.lock().clone();
        if self.open.as_ref().is_none_or(|(open, _)| *open != target) {
            let client = Client::new(&target, CALL_MAX).unwrap();
            self.open = Some((target, client));
        }
        &mut self.open.as_mut().unwrap().1
    }
}

impl Senders {
    pub fn new(seed: u64, daemon: &Daemon) -> Self {
        Self {
            oracle: Mutex::default(),
            target: Mutex::new(daemon.target().unwrap()),
            stop: AtomicBool::new(false),
            unanswered: AtomicU64::new(0),
            seed,
        }
    }

    /// The daemon has come back elsewhere.
    pub fn redirect(&self, daemon: &Daemon) {
        *self.target.lock() = daemon.target().unwrap();
    }

    /// Requests that got no answer; each was sent again.
    pub fn unanswered(&self) -> u64 {
        self.unanswered.load(Ordering::Relaxed)
    }

    /// Sends while `meanwhile` runs, and then until every batch has its answer. Returns the adjustments that could be
    /// seen on the way, in the order they were seen in.
    pub fn send_while<R>(&self, meanwhile: impl FnOnce() -> R) -> (R, Vec<Adjustment>) {
        std::thread::scope(|scope| {
            for number in 0..SENDERS {
                let builder = std::thread::Builder::new().name(format!("sender-{number}"));
                builder.spawn_scoped(scope, move || self.send(number)).unwrap();
            }
            let builder = std::thread::Builder::new().name("billing".into());
            let follower = builder.spawn_scoped(scope, || self.follow()).unwrap();
            let stop = StopWhenDropped(&self.stop);
            let result = meanwhile();
            drop(stop);
            (result, follower.join().expect("the billing job does not panic"))
        })
    }

    fn send(&self, number: u64) {
        let mut rng = Rng::with_seed(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (clock, mut line) = (SystemClock::new(), Line::new(&self.target));
        while !self.stop.load(Ordering::Relaxed) {
            let batch = self.oracle.lock().draw(&mut rng, clock.now().millis());
            self.deliver(&batch, &mut line, &mut rng);
            std::thread::sleep(Duration::from_millis(rng.u64(0..PAUSE_MS)));
        }
    }

    /// Sends a batch until it is answered.
    fn deliver(&self, batch: &Batch, line: &mut Line<'_>, rng: &mut Rng) {
        let (body, began) = (self.oracle.lock().encode(batch), Instant::now());
        while began.elapsed() < ANSWER_MAX {
            if let Some(reply) = answer(line.client(), body.clone()) {
                return self.oracle.lock().note(batch, &reply);
            }
            self.unanswered.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(rng.u64(5..50)));
        }
        // The events stay without an answer, which the oracle reports.
    }

    /// Reads what is new, again and again: what was read once is never read differently, crash or not.
    fn follow(&self) -> Vec<Adjustment> {
        let (mut seen, mut line) = (Vec::<Adjustment>::new(), Line::new(&self.target));
        while !self.stop.load(Ordering::Relaxed) {
            let since = seen.last().map_or("0", |last| &last.id);
            // Without a daemon there is nothing to read; that all was read is checked at the end.
            if let Ok(page) = adjustments_page(line.client(), since) {
                seen.extend(page);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        seen
    }
}

fn answer(client: &mut Client, body: Bytes) -> Option<Reply> {
    let reply = client.post("/v1/events?results=all", "application/json", body).ok()?;
    (!retry::is_retryable(reply.status)).then_some(reply)
}
