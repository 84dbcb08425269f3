//! What a schedule breaks, and how the daemon comes back.

use std::sync::Arc;

use meterd::env::SimDisk;
use meterd::journal::JournalError;

use super::{Believed, NARROW, Node, WIDE, World};

impl World {
    pub(super) fn plan_failure(&mut self) -> Result<(), JournalError> {
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
    pub(super) fn crash(&mut self) {
        self.seen.crashes += 1;
        let disk = self.disk.crash();
        let kept = self.rng.usize(..=self.node.store.unpersisted_commits());
        self.reopen(disk, kept);
    }

    /// The process dies, the machine does not: written bytes stay, synced or not.
    pub(super) fn restart(&mut self) {
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
        self.setup.policy = self.model.policy;
        let restored = self.prepare_courier();
        self.prepare_caps();
        self.node = Node::open(&self.disk, store, &self.clock, self.setup).expect("a directory opens after a crash");
        self.believed = Believed::new(self.node.running.writer.effective(), self.node.seen().mono);
        self.latest = i64::MIN;
        let last = self.node.log_end;
        let acknowledged = self.model.acknowledged;
        assert!(last >= acknowledged, "acknowledged up to {acknowledged}, but the log ends at {last}");
        self.seen.records_lost += before.0.saturating_sub(last.0);
        self.model.forget_after(last);
        self.courier.forget_after(last);
        self.desk.book.forget_after(last);
        self.start_courier(restored);
        self.start_caps();
        // Replayed, so a second crash must not lose it either.
        self.model.acknowledged = self.model.acknowledged.max(self.node.running.writer.position());
        self.compare();
    }
}
