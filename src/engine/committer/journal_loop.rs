//! The thread that makes groups durable, and answers once they are.

use std::sync::Arc;
use std::time::Duration as StdDuration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::engine::committer::{Reply, Shared};
use crate::engine::retention::DeskOfJournal;
use crate::engine::writer::Group;
use crate::env::Disk;
use crate::journal::{Journal, JournalError};
use crate::metrics::{
    DISK_AVAILABLE_BYTES, DURABLE_SEQ, GROUP_RECORDS, JOURNAL_BYTES, JOURNAL_BYTES_REMOVED, JOURNAL_OLDEST_SEQ,
    JOURNAL_SEGMENTS_REMOVED, JOURNAL_SYNC_SECONDS,
};
use crate::model::{Duration, Seq};

/// Idleness after which the journal notes what is durable.
const WATERMARK_AFTER: StdDuration = StdDuration::from_millis(100);
const DISK_CHECK_EVERY: Duration = Duration::from_millis(200);

pub struct JournalLoop {
    pub shared: Arc<Shared>,
    pub journal: Journal,
    pub disk: Arc<dyn Disk>,
    pub reserve_bytes: u64,
    pub groups: Receiver<Group<Reply>>,
    /// Gives the writer its buffer back, and says that the next group may come.
    pub synced: Sender<Vec<u8>>,
    pub disk_checked: Duration,
    pub desk: DeskOfJournal,
    pub metrics: Metrics,
    /// Dropped with the loop: tells those who follow the journal that it has ended.
    pub _runs: Sender<()>,
}

pub struct Metrics {
    group_events: metrics::Histogram,
    bytes: metrics::Counter,
    sync_seconds: metrics::Histogram,
    durable: metrics::Gauge,
    disk_available: metrics::Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            group_events: metrics::histogram!(GROUP_RECORDS),
            bytes: metrics::counter!(JOURNAL_BYTES),
            sync_seconds: metrics::histogram!(JOURNAL_SYNC_SECONDS),
            durable: metrics::gauge!(DURABLE_SEQ),
            disk_available: metrics::gauge!(DISK_AVAILABLE_BYTES),
        }
    }
}

impl JournalLoop {
    pub fn run(mut self) {
        if let Err(error) = self.work() {
            self.shared.fail("journal", &error.to_string());
        }
    }

    fn work(&mut self) -> Result<(), JournalError> {
        loop {
            match self.groups.recv_timeout(WATERMARK_AFTER) {
                Ok(group) => self.commit(group)?,
                Err(RecvTimeoutError::Timeout) => self.journal.append_watermark()?,
                Err(RecvTimeoutError::Disconnected) => return self.journal.append_watermark(),
            }
            self.retain()?;
            let now = self.shared.clock.monotonic();
            if now >= self.disk_checked.saturating_add(DISK_CHECK_EVERY) {
                self.disk_checked = now;
                self.check_disk();
            }
        }
    }

    fn commit(&mut self, group: Group<Reply>) -> Result<(), JournalError> {
        if group.count > 0 {
            self.metrics.group_events.record(f64::from(group.count));
            self.metrics.bytes.increment(group.payload.len() as u64);
            let at = self.journal.append(group.first, group.count, &group.payload)?;
            if at.segment == group.first {
                self.desk.0.publish(self.journal.segments());
            }
            let before = self.shared.clock.monotonic();
            let durable = self.journal.sync()?;
            let took = self.shared.clock.monotonic().micros() - before.micros();
            self.metrics.sync_seconds.record(took as f64 / 1e6);
            self.metrics.durable.set(durable.0 as f64);
            self.shared.set_durable(durable);
        }
        // The writer goes on first. It may be gone already: then the engine has failed, and says so elsewhere.
        let _ = self.synced.send(group.payload);
        for ((reply, permit), answer) in group.answers {
            // A client that went away misses its answer; what it sent has counted all the same.
            let _ = reply.send(answer);
            drop(permit);
        }
        Ok(())
    }

    /// Removes a segment that may go: one at a time, so that no answer waits for more.
    fn retain(&mut self) -> Result<(), JournalError> {
        let removable = self.desk.0.removable();
        let Some(oldest) = self.journal.oldest_sealed().filter(|oldest| oldest.last_seq <= removable) else {
            return Ok(());
        };
        let bytes = self.journal.remove_below(oldest.last_seq)?;
        let (first, last) = (oldest.first_seq.0, oldest.last_seq.0);
        tracing::info!(first, last, bytes, "old journal segment removed");
        metrics::counter!(JOURNAL_SEGMENTS_REMOVED).increment(1);
        metrics::counter!(JOURNAL_BYTES_REMOVED).increment(bytes);
        metrics::gauge!(JOURNAL_OLDEST_SEQ).set(oldest.last_seq.next().0 as f64);
        self.desk.0.publish(self.journal.segments());
        Ok(())
    }

    /// Metrics that say nothing was removed yet, from the start.
    pub fn show_oldest(&self) {
        [JOURNAL_SEGMENTS_REMOVED, JOURNAL_BYTES_REMOVED].iter().for_each(|name| metrics::counter!(*name).increment(0));
        let oldest = self.journal.segments().first().map_or(Seq::ZERO, |oldest| oldest.first_seq);
        metrics::gauge!(JOURNAL_OLDEST_SEQ).set(oldest.0 as f64);
    }

    pub fn check_disk(&mut self) {
        match self.disk.available_bytes() {
            Ok(available) => self.judge_disk(available),
            Err(error) => tracing::warn!("cannot tell how much space is left: {error}"),
        }
    }

    fn judge_disk(&mut self, available: u64) {
        self.metrics.disk_available.set(available as f64);
        let needed = self.reserve_bytes.saturating_add(self.shared.compaction_bytes());
        // Resuming asks for a little more than refusing, so that the two do not alternate.
        let slack = if self.shared.gate.is_disk_full() { self.reserve_bytes / 10 } else { 0 };
        let full = available < needed.saturating_add(slack);
        if self.shared.gate.set_disk_full(full) {
            if full {
                tracing::error!(available, needed, "disk is nearly full: events are refused with 507");
            } else {
                tracing::info!(available, "disk has space again: events are taken");
            }
        }
    }
}
