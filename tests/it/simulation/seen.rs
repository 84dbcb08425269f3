//! What schedules break on purpose, and what they came across.

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
    WindowsNotStored,
    PeriodsNotStored,
    AdjustmentsNotStored,
}

/// How often things happened: a schedule that crashes nothing proves nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub accepted: u64,
    pub duplicates: u64,
    pub conflicts: u64,
    pub refused: u64,
    pub forgotten: u64,
    pub crashes: u64,
    pub restarts: u64,
    pub records_lost: u64,
    pub failed_syncs: u64,
    pub failed_writes: u64,
    pub commits: u64,
    pub persists: u64,
    pub clock_steps_back: u64,
    pub clock_jumps: u64,
    pub clock_resets: u64,
    pub policy_changes: u64,
    pub closed: u64,
    pub closed_periods: u64,
    pub late: u64,
    pub late_rejected: u64,
    pub anchors: u64,
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
        self.clock_jumps += other.clock_jumps;
        self.clock_resets += other.clock_resets;
        self.policy_changes += other.policy_changes;
        self.closed += other.closed;
        self.closed_periods += other.closed_periods;
        self.late += other.late;
        self.late_rejected += other.late_rejected;
        self.anchors += other.anchors;
    }

    pub fn assert_that_everything_happened(&self) {
        let Seen { accepted, duplicates, conflicts, refused, forgotten, crashes, restarts, .. } = *self;
        let Seen { records_lost, failed_syncs, failed_writes, commits, persists, .. } = *self;
        let Seen { clock_steps_back, policy_changes, .. } = *self;
        let counts = [accepted, duplicates, conflicts, refused, forgotten, crashes, restarts, records_lost];
        let Seen { clock_jumps, clock_resets, closed, closed_periods, late, late_rejected, anchors, .. } = *self;
        let more = [failed_syncs, failed_writes, commits, persists, clock_steps_back, policy_changes, clock_jumps];
        let windows = [clock_resets, closed, closed_periods, late, late_rejected, anchors];
        assert!(
            counts.iter().chain(&more).chain(&windows).all(|count| *count > 0),
            "something never happened: {self:?}"
        );
    }
}
