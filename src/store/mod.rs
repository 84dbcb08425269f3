//! The projections of the log on disk: what the fold over a journal prefix came to, and which ids were seen.
//!
//! | table | key | value | written as |
//! | --- | --- | --- | --- |
//! | dedupe | `EventKey`, 16 bytes big-endian | seq 6 bytes, fingerprint 4 bytes, both little-endian | puts, or one sorted file from `BULK_IDS_MIN` ids on |
//! | meta | name | position, format version, store id, what the engine adds | puts |
//! | counters, members | the engine's | the engine's | puts, deletions |
//! | windows, periods, period_members, adjustments | the engine's | the engine's | puts, deletions |
//! | outbox, deliveries, attempts, dead_letters | the engine's | the engine's | puts, deletions, deletions of ranges |
//! | alerts, thresholds, reservations, voids, trail | the engine's | the engine's | puts, deletions |
//! | backfill_ids | the engine's | the engine's | puts, deletions of ranges |
//!
//! 1. `commit` applies rows, ids and position as one: after a crash rows are the fold of the log up to exactly
//!    `position`.
//! 2. Ids may run ahead of `position` (a sorted file is durable at once), never behind: they go in first.
//! 3. Once `position()` has answered N, every lookup and scan that begins later sees the records up to N.
//! 4. What was committed survives a crash only up to `persist`; the journal is kept above `persisted()`.
//! 5. `position()` never goes back, and `persisted()` never exceeds what a crash would leave.
//! 6. An id whose seq lies below the horizon is absent, whether or not compaction has dropped it.
//! 7. A `Snapshot` is the state right after some commit, in all tables of rows, for as long as it lives.
//! 8. Only this folder says `rocksdb`.
//!
//! The journal is the truth and syncs before every answer, so the store needs no log of its own: RocksDB's is off, and
//! one atomic flush of all column families makes a prefix durable. `MemStore` gives the same answers from memory, with
//! the same crash semantics; both run the conformance suite.

use std::ops::ControlFlow;
use std::path::Path;

use crate::model::{EventKey, IdEntry, Seq};

mod bases;
mod codec;
#[cfg(test)]
mod conformance;
mod error;
mod mem;
mod rocks;
mod rows;

pub use bases::{Base, Bases};
pub use error::StoreError;
pub use mem::MemStore;
pub use rocks::{Options, RocksStore};
pub use rows::{Commit, Row, RowRange, Rows, Table};

/// From this many ids in one commit they are written as one sorted file instead of one put each.
pub const BULK_IDS_MIN: usize = 50_000;

/// The row of `Table::Meta` that ties the store to its journal: 16 bytes, little-endian. The engine writes it with
/// Genesis.
pub const META_STORE_ID: &[u8] = b"store_id";

/// The rows of `Table::Meta` that the store writes by itself.
pub const META_OWN: [&[u8]; 2] = [codec::META_FORMAT_VERSION, codec::META_POSITION];

/// Gets a row's key and value, and says whether to go on.
pub type RowVisitor<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// All tables of rows as they were at one moment. Whatever is committed later, it answers the same.
///
/// While it lives, what was deleted or overwritten since cannot be dropped from the disk: take one for a page, not for a
/// client that may read slowly.
pub trait Snapshot {
    /// One row's value.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// A cursor that stands nowhere yet: `seek` comes first. Any number may be open at once.
    fn cursor(&self, table: Table) -> Result<Box<dyn Cursor + '_>, StoreError>;
}

/// A place in a table, which goes forward in key order. Opening one and a `seek` cost about 20 µs, an `advance` 0.15 µs.
/// It holds the memtables and files that it reads, also once they are flushed or compacted away.
pub trait Cursor {
    /// To the first row at or after `key`, which may lie behind the place it stands at.
    fn seek(&mut self, key: &[u8]) -> Result<(), StoreError>;

    /// To the next row. Past the last row, and before the first `seek`, it stays where it is.
    fn advance(&mut self) -> Result<(), StoreError>;

    /// Key and value of the row it stands at; `None` past the last row, before the first `seek`, and after an error.
    fn row(&self) -> Option<(&[u8], &[u8])>;
}

/// State on disk that follows the log. One thread commits and persists; any thread reads.
pub trait Store: Send + Sync {
    /// The last record that is applied. `Seq::ZERO` in a fresh store.
    fn position(&self) -> Seq;

    /// Applies rows, ids and position; not yet persisted. Fails with `Backwards` if the position would go back.
    /// After any error but `Backwards` and `ReadOnly` the store may hold the ids and not the rows, and takes nothing
    /// more: stop, open it again, and replay.
    fn commit(&self, commit: &Commit) -> Result<(), StoreError>;

    /// Makes everything applied durable and returns the position that was read back from disk. Errors as for `commit`.
    /// Takes 10 to 100 ms, and longer only if compaction is minutes behind.
    fn persist(&self) -> Result<Seq, StoreError>;

    /// The newest position known to survive a crash.
    fn persisted(&self) -> Seq;

    /// Looks ids up; `found` is cleared and gets one answer per key, in the order of `keys`.
    /// Costs about 0.5 µs for an absent id and 3 µs for a present one, so ask the filter first.
    fn lookup(&self, keys: &[EventKey], found: &mut Vec<Option<IdEntry>>) -> Result<(), StoreError>;

    /// One row's value.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Visits the rows whose keys begin with `prefix`, in key order, until told to break. The store's own meta rows
    /// included.
    fn scan(&self, table: Table, prefix: &[u8], visit: &mut RowVisitor<'_>) -> Result<(), StoreError>;

    /// The rows as they are now: everything committed before the call, and nothing later.
    fn snapshot(&self) -> Box<dyn Snapshot + '_>;

    /// Visits every id that is not below the horizon, in key order.
    fn scan_ids(&self, visit: &mut dyn FnMut(EventKey, IdEntry)) -> Result<(), StoreError>;

    /// Ids with a lower seq are absent from now on; compaction drops them when convenient. It never goes back,
    /// and is not stored: the engine sets it again at start.
    fn set_horizon(&self, horizon: Seq);

    /// Copies what `persist` would make durable into a directory that must not exist: a store of its own, to be opened
    /// and read like any other, that nothing changes. Returns its position. Takes as long as `persist` and a link for each
    /// file; the space of files that the store merges away later is not freed while the copy is there. Errors of the
    /// flush as for `commit`; any other leaves the store as it was.
    fn checkpoint(&self, directory: &Path) -> Result<Seq, StoreError>;

    fn stats(&self) -> StoreStats;

    /// The id of the journal this store follows; `None` before Genesis was applied.
    fn store_id(&self) -> Result<Option<u128>, StoreError> {
        match self.get(Table::Meta, META_STORE_ID)? {
            None => Ok(None),
            Some(value) => codec::decode_store_id(&value).map(Some),
        }
    }
}

/// Gauges; all zero where an implementation has nothing to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Bytes that compaction still has to rewrite, as RocksDB estimates it.
    pub compaction_pending_bytes: u64,
    pub compactions_running: u64,
    /// Writes are held back until compaction or flush catches up.
    pub writes_stopped: bool,
    /// The rate that writes are slowed down to; 0 when they are not.
    pub write_delay_bytes_per_second: u64,
    pub memtable_bytes: u64,
    pub block_cache_bytes: u64,
    /// Filters and indexes of ids, outside the block cache.
    pub table_reader_bytes: u64,
    /// Files on disk, all tables.
    pub file_bytes: u64,
    /// Sorted runs a lookup may have to probe.
    pub id_runs: u64,
    /// Expired ids that compaction has not met yet are counted too.
    pub ids_estimate: u64,
}
