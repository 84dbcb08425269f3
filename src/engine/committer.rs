//! The threads around the writer: one decides, one syncs the journal, one feeds the store. Two more work ahead, and nothing
//! waits for them: one prepares the journal's segments, one indexes them for evidence.
//!
//! ```text
//! requests ─▶ writer ──group──▶ journal ──answers──▶ requests
//!             ▲    └───epoch──▶ store (once durable)
//!             └── buffer, position ┘
//! ```
//!
//! 1. While the journal syncs one group, the writer builds the next from everything that arrives meanwhile.
//! 2. The store gets an epoch only once all of it is durable in the journal.
//! 3. A failed write or sync, of journal or store, ends everything: nothing pending is answered, nothing is retried.
//! 4. A client that goes away changes nothing: its batch belongs to the writer.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration as StdDuration;

use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use tokio::sync::oneshot;

use crate::engine::Evidence;
use crate::engine::Options;
use crate::engine::admission::Permit;
use crate::engine::batch::Batch;
use crate::engine::dedupe::Index;
use crate::engine::retention::{Desk, DeskOfJournal, Keeper};
use crate::engine::writer::{Answer, CommitJob, GROUP_BYTES, Group, Operation, Writer};
use crate::env::Disk;
use crate::journal::{Journal, Preparer};
use crate::metrics::{OPEN_COUNTERS, QUEUE_BYTES};
use crate::model::{Duration, Seq};
use crate::store::Store;

mod journal_loop;
mod shared;
mod store_loop;

use journal_loop::JournalLoop;
pub use shared::{Failure, Shared};
use store_loop::StoreLoop;

/// How often the writer looks at the clock when nothing arrives.
const TICK: Duration = Duration::from_millis(250);
/// Requests that may wait for the writer; their bytes are bounded by the gate.
const QUEUE_REQUESTS: usize = 16 << 10;

/// Where an answer goes, and the bytes that it frees.
pub type Reply = (oneshot::Sender<Answer>, Permit);

pub enum Message {
    Batch(Box<Batch>, Reply),
    Operation(Box<Operation>, Reply),
    /// Finish what has arrived, hand everything to the store, and end.
    Stop,
}

/// What the threads work on.
pub struct Work {
    pub writer: Writer<Reply>,
    pub journal: Journal,
    pub index: Arc<Index>,
    pub store: Arc<dyn Store>,
    pub disk: Arc<dyn Disk>,
    pub evidence: Evidence,
}

/// The running threads, in the order in which they end.
pub struct Threads(Vec<(&'static str, JoinHandle<()>)>);

/// Starts the threads; the sender is the way in.
pub fn start(shared: &Arc<Shared>, options: &Options, work: Work) -> std::io::Result<(Sender<Message>, Threads)> {
    let Work { writer, journal, index, store, disk, evidence } = work;
    let (requests, requests_in) = bounded(QUEUE_REQUESTS);
    let (groups, groups_in) = bounded(1);
    let (synced, synced_in) = bounded(1);
    let (epochs, epochs_in) = bounded(1);
    let (committed, committed_in) = bounded(1);
    let (journal_runs, journal_ended) = bounded(0);
    let preparer = journal.preparer(options.disk_reserve_bytes);
    shared.set_clock_status(writer.clock_status(shared.clock.now()));
    let writer_loop = WriterLoop {
        shared: shared.clone(),
        writer,
        requests: requests_in,
        groups,
        synced: synced_in,
        epochs,
        committed: committed_in,
        journal_busy: false,
        spare: Vec::new(),
        stopping: false,
        ticked: Duration::ZERO,
    };
    shared.set_compaction_bytes(store.stats().file_bytes);
    let desk = Arc::new(Desk::default());
    desk.publish(journal.segments());
    let keeper = Keeper::new(&options.retention, disk.clone(), store.clone(), shared.clock.clone());
    let mut journal_loop = JournalLoop {
        shared: shared.clone(),
        journal,
        disk,
        reserve_bytes: options.disk_reserve_bytes,
        groups: groups_in,
        synced,
        disk_checked: Duration::ZERO,
        desk: DeskOfJournal(desk.clone()),
        metrics: Default::default(),
        _runs: journal_runs,
    };
    journal_loop.check_disk();
    journal_loop.show_oldest();
    let store_loop = StoreLoop {
        shared: shared.clone(),
        store,
        index,
        epochs: epochs_in,
        committed,
        persist_interval: options.persist_interval,
        persisted_at: Duration::ZERO,
        horizon: (Seq::ZERO, Seq::ZERO),
    };
    let keeper_shared = shared.clone();
    let keep = move || keeper.into_iter().for_each(|keeper| keeper.run(&desk, &|| keeper_shared.believed()));
    let threads = vec![
        ("writer", spawn(shared, "writer", move || writer_loop.run())?),
        ("journal", spawn(shared, "journal", move || journal_loop.run())?),
        ("store", spawn(shared, "store", move || store_loop.run())?),
        ("evidence", spawn(shared, "evidence", move || evidence.run(&journal_ended))?),
        ("keeper", spawn(shared, "keeper", keep)?),
        ("preparer", spawn(shared, "preparer", move || prepare_segments(preparer))?),
    ];
    Ok((requests, Threads(threads)))
}

fn spawn(
    shared: &Arc<Shared>,
    name: &'static str,
    run: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let shared = shared.clone();
    std::thread::Builder::new().name(format!("meterd-{name}")).spawn(move || {
        let _guard = PanicGuard(&shared, name);
        run();
    })
}

/// Reports a thread that ends by a panic as a failure of the engine.
struct PanicGuard<'a>(&'a Shared, &'static str);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(self.1, "panicked");
        }
    }
}

fn prepare_segments(preparer: Preparer) {
    preparer.run(&mut |error| {
        tracing::warn!("cannot prepare the next journal segment, it will be made when it is needed: {error}");
    });
}

impl Threads {
    /// Waits for every thread to end, and names the one it waits for every five seconds.
    pub fn join(self) {
        const STEP: StdDuration = StdDuration::from_millis(5);
        for (name, handle) in self.0 {
            let mut steps = 0;
            while !handle.is_finished() {
                std::thread::sleep(STEP);
                steps += 1;
                if steps % 1_000 == 0 {
                    tracing::warn!(thread = name, waited_seconds = steps / 200, "still shutting down");
                }
            }
            // A panic has been reported by the guard.
            let _ = handle.join();
        }
    }
}

/// Another thread is gone. It has said why.
struct Gone;

struct WriterLoop {
    shared: Arc<Shared>,
    writer: Writer<Reply>,
    requests: Receiver<Message>,
    groups: Sender<Group<Reply>>,
    synced: Receiver<Vec<u8>>,
    epochs: Sender<CommitJob>,
    committed: Receiver<Seq>,
    journal_busy: bool,
    /// The buffer for the next group, while the journal is idle.
    spare: Vec<u8>,
    stopping: bool,
    ticked: Duration,
}

impl WriterLoop {
    fn run(mut self) {
        while !self.is_finished() {
            if self.step().is_err() {
                return;
            }
        }
    }

    fn step(&mut self) -> Result<(), Gone> {
        self.wait()?;
        while self.may_take() {
            match self.requests.try_recv() {
                Ok(message) => self.take(message)?,
                Err(_) => break,
            }
        }
        self.tick();
        if !self.stopping {
            self.writer.close_due();
        }
        self.writer.leave();
        if !self.journal_busy && self.writer.has_group() {
            let group = self.writer.seal(std::mem::take(&mut self.spare));
            self.groups.send(group).map_err(|_| Gone)?;
            self.journal_busy = true;
        }
        self.hand_over()
    }

    /// Waits for whatever comes first.
    fn wait(&mut self) -> Result<(), Gone> {
        let closed = never();
        let requests = if self.may_take() { &self.requests } else { &closed };
        let idle = !self.writer.is_busy() || self.writer.group_bytes() >= GROUP_BYTES;
        let patience = if idle { TICK.to_std() } else { StdDuration::ZERO };
        select! {
            recv(requests) -> message => self.take(message.map_err(|_| Gone)?),
            recv(self.synced) -> buffer => {
                self.spare = buffer.map_err(|_| Gone)?;
                self.journal_busy = false;
                Ok(())
            }
            recv(self.committed) -> position => {
                self.writer.committed(position.map_err(|_| Gone)?);
                Ok(())
            }
            default(patience) => Ok(()),
        }
    }

    fn may_take(&self) -> bool {
        self.writer.group_bytes() < GROUP_BYTES && !self.writer.must_wait_for_store()
    }

    fn take(&mut self, message: Message) -> Result<(), Gone> {
        let now = (self.shared.clock.now(), self.shared.clock.monotonic());
        self.writer.observe(now.0, now.1);
        let taken = match message {
            Message::Stop => {
                self.stopping = true;
                self.writer.note_time();
                Ok(())
            }
            Message::Batch(batch, reply) => self.writer.take(*batch, reply),
            Message::Operation(operation, reply) => {
                let wakes = matches!(&*operation, Operation::Deliver(operation) if operation.wakes_delivery());
                let done = self.writer.operate(*operation, now, reply);
                self.shared.set_clock_status(self.writer.clock_status(now.0));
                if wakes {
                    self.shared.note_outbox();
                }
                done
            }
        };
        taken.map_err(|error| {
            self.shared.fail("writer", &error.to_string());
            Gone
        })
    }

    fn tick(&mut self) {
        let now = self.shared.clock.monotonic();
        if now < self.ticked.saturating_add(TICK) && !self.stopping {
            return;
        }
        self.ticked = now;
        let wall = self.shared.clock.now();
        self.writer.observe(wall, now);
        self.writer.tick();
        self.shared.set_clock_status(self.writer.clock_status(wall));
        metrics::gauge!(OPEN_COUNTERS).set(self.writer.state().read().counters() as f64);
        metrics::gauge!(QUEUE_BYTES).set(self.shared.gate.bytes() as f64);
    }

    /// An epoch ends where a group ends; copying it out may go on at any time.
    fn hand_over(&mut self) -> Result<(), Gone> {
        let between_groups = !self.writer.has_group();
        let job = if between_groups {
            self.writer.hand_over(self.shared.clock.monotonic(), self.stopping)
        } else {
            self.writer.drain()
        };
        match job {
            Some(job) => self.epochs.send(job).map_err(|_| Gone),
            None => Ok(()),
        }
    }

    fn is_finished(&self) -> bool {
        self.stopping
            && self.requests.is_empty()
            && !self.journal_busy
            && !self.writer.has_group()
            && self.writer.is_handed_over()
    }
}
