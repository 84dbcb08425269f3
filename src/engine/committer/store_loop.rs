//! The thread behind: it gives the store whole epochs that are durable in the journal, and persists them now and then.

use std::sync::Arc;
use std::time::Duration as StdDuration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::engine::committer::Shared;
use crate::engine::dedupe::Index;
use crate::engine::writer::CommitJob;
use crate::metrics::{
    COMPACTION_PENDING_BYTES, INDEX_IDS, INDEX_RUNS, STORE_BYTES, STORE_COMMIT_SECONDS, STORE_MEMORY_BYTES,
    STORE_PERSISTED, STORE_POSITION,
};
use crate::model::{Duration, Seq};
use crate::store::{Store, StoreError, StoreStats};

const IDLE: StdDuration = StdDuration::from_secs(1);

pub struct StoreLoop {
    pub shared: Arc<Shared>,
    pub store: Arc<dyn Store>,
    pub index: Arc<Index>,
    pub epochs: Receiver<CommitJob>,
    pub committed: Sender<Seq>,
    pub persist_interval: Duration,
    pub persisted_at: Duration,
    /// The newest horizon that was committed, and the position it was committed with.
    pub horizon: (Seq, Seq),
}

impl StoreLoop {
    pub fn run(mut self) {
        if let Err(error) = self.work() {
            self.shared.fail("store", &error.to_string());
        }
    }

    fn work(&mut self) -> Result<(), StoreError> {
        loop {
            match self.epochs.recv_timeout(IDLE) {
                Ok(job) => {
                    if !self.shared.wait_durable(job.position) {
                        return Ok(());
                    }
                    self.commit(job)?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.persist(),
            }
            if self.shared.clock.monotonic() >= self.persisted_at.saturating_add(self.persist_interval) {
                self.persist()?;
            }
        }
    }

    fn commit(&mut self, job: CommitJob) -> Result<(), StoreError> {
        let before = self.shared.clock.monotonic();
        let (position, horizon) = (job.position, job.horizon);
        let commit = job.into_commit();
        self.store.commit(&commit)?;
        self.horizon = (horizon, position);
        self.index.add(&commit.ids, position);
        let took = self.shared.clock.monotonic().micros() - before.micros();
        metrics::histogram!(STORE_COMMIT_SECONDS).record(took as f64 / 1e6);
        metrics::gauge!(STORE_POSITION).set(position.0 as f64);
        self.shared.note_outbox();
        // The writer may be gone: then the engine has failed, and says so elsewhere.
        let _ = self.committed.send(position);
        Ok(())
    }

    fn report(&self, stats: &StoreStats) {
        self.shared.set_compaction_bytes(stats.file_bytes);
        let memory_bytes = stats.memtable_bytes + stats.block_cache_bytes + stats.table_reader_bytes;
        metrics::gauge!(COMPACTION_PENDING_BYTES).set(stats.compaction_pending_bytes as f64);
        metrics::gauge!(STORE_BYTES).set(stats.file_bytes as f64);
        metrics::gauge!(STORE_MEMORY_BYTES).set(memory_bytes as f64);
        metrics::gauge!(INDEX_RUNS).set(stats.id_runs as f64);
        metrics::gauge!(INDEX_IDS).set(stats.ids_estimate as f64);
    }

    fn persist(&mut self) -> Result<(), StoreError> {
        self.persisted_at = self.shared.clock.monotonic();
        if self.store.persisted() < self.store.position() {
            let persisted = self.store.persist()?;
            metrics::gauge!(STORE_PERSISTED).set(persisted.0 as f64);
        }
        // Not before: compaction drops ids for good, and a crash must not find them gone under an older horizon.
        let (horizon, committed_with) = self.horizon;
        if self.store.persisted() >= committed_with {
            self.store.set_horizon(horizon);
            self.index.forget_below(horizon);
        }
        self.report(&self.store.stats());
        Ok(())
    }
}
