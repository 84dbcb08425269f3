//! The thread behind: it gives the store whole epochs that are durable in the journal, and persists them now and then.

use std::sync::Arc;
use std::time::Duration as StdDuration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::engine::committer::Shared;
use crate::engine::dedupe::Index;
use crate::engine::writer::CommitJob;
use crate::metrics::{STORE_COMMIT_SECONDS, STORE_PERSISTED, STORE_POSITION};
use crate::model::{Duration, Seq};
use crate::store::{Store, StoreError};

const IDLE: StdDuration = StdDuration::from_secs(1);

pub struct StoreLoop {
    pub shared: Arc<Shared>,
    pub store: Arc<dyn Store>,
    pub index: Arc<Index>,
    pub epochs: Receiver<CommitJob>,
    pub committed: Sender<Seq>,
    pub persist_interval: Duration,
    pub persisted_at: Duration,
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
        self.store.set_horizon(horizon);
        self.index.add(&commit.ids, position);
        let took = self.shared.clock.monotonic().micros() - before.micros();
        metrics::histogram!(STORE_COMMIT_SECONDS).record(took as f64 / 1e6);
        metrics::gauge!(STORE_POSITION).set(position.0 as f64);
        // The writer may be gone: then the engine has failed, and says so elsewhere.
        let _ = self.committed.send(position);
        Ok(())
    }

    fn persist(&mut self) -> Result<(), StoreError> {
        self.persisted_at = self.shared.clock.monotonic();
        if self.store.persisted() < self.store.position() {
            let persisted = self.store.persist()?;
            metrics::gauge!(STORE_PERSISTED).set(persisted.0 as f64);
        }
        Ok(())
    }
}
