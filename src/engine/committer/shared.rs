//! What the engine's threads share with each other and with everybody: what is durable, and whether it failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::engine::admission::Gate;
use crate::engine::writer::ClockStatus;
use crate::env::Clock;
use crate::model::{Seq, Timestamp};

/// Why the engine ended other than by being stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{thread}: {why}")]
pub struct Failure {
    pub thread: &'static str,
    pub why: String,
}

pub struct Shared {
    pub gate: Arc<Gate>,
    pub clock: Arc<dyn Clock>,
    durable: Mutex<Seq>,
    changed: Condvar,
    compaction_bytes: AtomicU64,
    durable_watch: watch::Sender<Seq>,
    clock_status: Mutex<Option<ClockStatus>>,
    failure: watch::Sender<Option<Failure>>,
    /// Counts what may give delivery something to do.
    outbox: watch::Sender<u64>,
}

impl Shared {
    pub fn new(gate: Arc<Gate>, clock: Arc<dyn Clock>, durable: Seq) -> Arc<Self> {
        Arc::new(Self {
            gate,
            clock,
            durable: Mutex::new(durable),
            changed: Condvar::new(),
            compaction_bytes: AtomicU64::new(0),
            durable_watch: watch::Sender::new(durable),
            clock_status: Mutex::new(None),
            failure: watch::Sender::new(None),
            outbox: watch::Sender::new(0),
        })
    }

    pub fn durable(&self) -> watch::Receiver<Seq> {
        self.durable_watch.subscribe()
    }

    /// Changes when the store has committed, and when a sink or delivery was changed.
    pub fn outbox(&self) -> watch::Receiver<u64> {
        self.outbox.subscribe()
    }

    pub(super) fn note_outbox(&self) {
        self.outbox.send_modify(|count| *count += 1);
    }

    pub fn failure(&self) -> watch::Receiver<Option<Failure>> {
        self.failure.subscribe()
    }

    /// What the writer last made of the clock; none before its first look.
    pub fn clock_status(&self) -> Option<ClockStatus> {
        *self.clock_status.lock()
    }

    /// The time by which things are decided; it stands still while the wall clock is not believed.
    pub(super) fn believed(&self) -> Option<Timestamp> {
        self.clock_status().and_then(|status| status.effective)
    }

    pub(super) fn set_clock_status(&self, status: ClockStatus) {
        *self.clock_status.lock() = Some(status);
    }

    pub(super) fn set_durable(&self, seq: Seq) {
        *self.durable.lock() = seq;
        self.changed.notify_all();
        self.durable_watch.send_replace(seq);
    }

    /// What the store may need for a moment while it merges its files: about as much as they take.
    pub(super) fn compaction_bytes(&self) -> u64 {
        self.compaction_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn set_compaction_bytes(&self, bytes: u64) {
        self.compaction_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Blocks until `seq` is durable; false when the engine failed first.
    pub(super) fn wait_durable(&self, seq: Seq) -> bool {
        let mut durable = self.durable.lock();
        while *durable < seq {
            if self.failure.borrow().is_some() {
                return false;
            }
            self.changed.wait(&mut durable);
        }
        true
    }

    /// Ends everything: nothing pending is answered, nothing new is let in. The first failure is the one that is told.
    pub(super) fn fail(&self, thread: &'static str, why: &str) {
        tracing::error!(thread, "{why}");
        self.gate.stop();
        self.failure.send_if_modified(|known| {
            let first = known.is_none();
            known.get_or_insert_with(|| Failure { thread, why: why.to_owned() });
            first
        });
        // Under the lock, so that a thread between its check and its wait cannot miss it.
        let _durable = self.durable.lock();
        self.changed.notify_all();
    }
}
