//! What the engine lets its owner choose.

use std::collections::BTreeMap;

use crate::engine::{ClockOptions, Retention, SinkDefinition};
use crate::meter::PlanCap;
use crate::model::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// An event older than this, measured at its receipt, is `too_late`.
    pub accept_past: Duration,
    /// An event further ahead than this, measured at its receipt, is `too_early`.
    pub accept_future: Duration,
    /// How long an accepted id is remembered, from its receipt.
    pub dedupe_retention: Duration,
    /// Decoded bodies between arrival and answer, in bytes; past it ingest is refused as overloaded.
    pub queue_bytes: usize,
    /// Counters in memory: one per meter, customer, dimensions and window.
    pub open_counters_max: u64,
    /// Members of exact unique counters, all together: 16 bytes each, and their tables.
    pub unique_members_max: u64,
    /// Free bytes on the file system below which ingest is refused as disk-full.
    pub disk_reserve_bytes: u64,
    /// How long state may be ahead of the store before it is handed over.
    pub commit_interval: Duration,
    /// Ids after which state is handed over before that time: enough for a sorted run worth its file.
    pub epoch_ids: usize,
    /// How long the store may be ahead of what it would have after a crash.
    pub persist_interval: Duration,
    /// Counters that are closed between two batches: two or three milliseconds.
    pub close_slice: usize,
    /// When a step of the wall clock is not believed.
    pub clock: ClockOptions,
    /// Who is to get rows of the outbox.
    pub sinks: Vec<SinkDefinition>,
    /// By meter's slug: the caps that customers have unless they have their own; each checked by `Cap::check`.
    pub caps: BTreeMap<String, Vec<PlanCap>>,
    /// Reservations that may be held at once.
    pub reservations_max: usize,
    /// How much of the journal is kept.
    pub retention: Retention,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            accept_past: Duration::from_secs(32 * 86_400),
            accept_future: Duration::from_secs(300),
            dedupe_retention: Duration::from_secs(36 * 86_400),
            queue_bytes: 64 << 20,
            open_counters_max: 5_000_000,
            unique_members_max: 10_000_000,
            disk_reserve_bytes: 512 << 20,
            commit_interval: Duration::from_secs(1),
            epoch_ids: 512 << 10,
            persist_interval: Duration::from_secs(2),
            close_slice: 1_000,
            clock: ClockOptions::default(),
            sinks: Vec::new(),
            caps: BTreeMap::new(),
            reservations_max: 100_000,
            retention: Retention::default(),
        }
    }
}
