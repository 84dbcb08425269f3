//! The store on RocksDB: one database, a column family per table, no log of its own.
//!
//! | step of `commit` | after a crash before the next step |
//! | --- | --- |
//! | 1. ids, if there are many: a sorted file is written, synced, and ingested (`bulk`) | ids ahead of the position |
//! | 2. rows, position, and ids if they are few: one batch into the memtables | nothing of this step |
//! | 3. the applied position is published to readers | – |
//! | `persist`: one atomic flush of all column families | rows and position of one and the same commit |
//!
//! 1. All column families are flushed together (`atomic_flush`), whoever asks for it: `persist`, a full memtable, or an
//!    ingested file that overlaps ids in the memtable. What is on disk is therefore always the state right after some
//!    commit.
//! 2. `persist` believes what it reads: the persisted position is looked up below the memtables (`ReadTier::Persisted`)
//!    after the flush returned, and must, within seconds, not be older than the position that was applied when the flush
//!    was asked for.
//! 3. One commit or persist at a time; lookups, scans and snapshots take no lock.
//! 4. After a failed commit or persist nothing is written any more: a later commit would pass over what is missing.
//! 5. A checkpoint is taken under the writer's lock, right after a flush: its position is the persisted one.
//! 6. Leftovers of interrupted bulk commits are removed at open, once RocksDB's own lock is held.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{ColumnFamily, DB, DBRawIterator, FlushOptions, PrefixRange, ReadOptions, ReadTier, WriteBatch};

use self::bulk::BulkLoader;
use super::codec::{self, META_POSITION};
use super::{BULK_IDS_MIN, Commit, RowVisitor, Snapshot, Store, StoreError, StoreStats, Table};
use crate::model::{EventKey, IdEntry, Seq};

mod bulk;
mod error;
mod open;
mod options;
mod snapshot;
mod stats;
#[cfg(test)]
mod tests;

use error::failed;
use snapshot::RocksSnapshot;

/// The dedupe index's column family.
const DEDUPE: &str = "dedupe";
const SCAN_READ_AHEAD_BYTES: usize = 2 << 20;
/// How often, and for how long, it is asked what a flush has left on disk.
const READ_BACK_EVERY: std::time::Duration = std::time::Duration::from_millis(5);
const READ_BACK_TRIES: usize = 1_000;

/// What the operator and tests may set.
#[derive(Clone, Debug)]
pub struct Options {
    /// Blocks of rows that are kept in memory, and of their filters and indexes. Those of ids are held beside it
    /// (`StoreStats::table_reader_bytes`).
    pub block_cache_bytes: usize,
    /// From this many ids in one commit they are written as one sorted file.
    pub bulk_ids_min: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { block_cache_bytes: 128 << 20, bulk_ids_min: BULK_IDS_MIN }
    }
}

/// A store in a directory of its own.
pub struct RocksStore {
    db: DB,
    horizon: Arc<AtomicU64>,
    applied: AtomicU64,
    persisted: AtomicU64,
    /// Held through each commit and persist. `None`: opened to be read.
    writer: Option<Mutex<Writer>>,
    bulk_ids_min: usize,
}

struct Writer {
    bulk: BulkLoader,
    /// A commit or persist failed. What it left undone must not be passed over, so nothing is written after it.
    failed: bool,
}

impl Writer {
    fn check(&self) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::Io { detail: "an earlier write to the store failed".to_owned() });
        }
        Ok(())
    }
}

impl RocksStore {
    /// Opens the store, or creates it. `Locked` if it is open elsewhere, in this process or another.
    pub fn open(path: &Path, options: &Options) -> Result<RocksStore, StoreError> {
        open::read_write(path, options)
    }

    /// Opens the store to look at it, even while a daemon runs: sees what was persisted when it was opened. Writes
    /// nothing.
    pub fn open_read_only(path: &Path) -> Result<RocksStore, StoreError> {
        open::read_only(path)
    }

    /// A table that the store had not yet when it was opened to be read is `default`, which is always empty.
    fn column_family(&self, name: &'static str) -> &ColumnFamily {
        let found = self.db.cf_handle(name).or_else(|| self.db.cf_handle(rocksdb::DEFAULT_COLUMN_FAMILY_NAME));
        found.expect("every column family was named at open")
    }

    fn table(&self, table: Table) -> &ColumnFamily {
        self.column_family(table.name())
    }

    fn horizon(&self) -> Seq {
        Seq(self.horizon.load(Ordering::Relaxed))
    }

    fn writer(&self) -> Result<&Mutex<Writer>, StoreError> {
        self.writer.as_ref().ok_or(StoreError::ReadOnly)
    }

    /// Rows, position and, unless they went in as a file, ids.
    fn batch(&self, commit: &Commit, with_ids: bool) -> WriteBatch {
        let mut batch = WriteBatch::default();
        if with_ids {
            let dedupe = self.column_family(DEDUPE);
            for (key, entry) in in_seq_order(&commit.ids).iter() {
                batch.put_cf(dedupe, codec::encode_id_key(*key), codec::encode_id_value(*entry));
            }
        }
        let tables = Table::ALL.map(|table| self.table(table));
        for row in commit.rows.iter() {
            let table = tables[row.table as usize];
            match row.value {
                Some(value) => batch.put_cf(table, row.key, value),
                None => batch.delete_cf(table, row.key),
            }
        }
        for range in commit.rows.ranges() {
            batch.delete_range_cf(tables[range.table as usize], &range.from, &range.to);
        }
        batch.put_cf(self.table(Table::Meta), META_POSITION, codec::encode_position(commit.position));
        batch
    }

    /// Over the keys with `prefix`, past the block cache: a scan must not push out what lookups need.
    fn iterator(&self, column_family: &ColumnFamily, prefix: &[u8]) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        options.set_iterate_range(PrefixRange(prefix));
        options.fill_cache(false);
        options.set_readahead_size(SCAN_READ_AHEAD_BYTES);
        self.db.raw_iterator_cf_opt(column_family, options)
    }

    fn write(&self, bulk: &mut BulkLoader, commit: &Commit) -> Result<(), StoreError> {
        let as_file = !commit.ids.is_empty() && commit.ids.len() >= self.bulk_ids_min;
        if as_file {
            bulk.load(&self.db, self.column_family(DEDUPE), &commit.ids)?;
        }
        self.db.write_without_wal(self.batch(commit, !as_file)).map_err(failed)
    }

    fn flush_and_read_back(&self, applied: Seq) -> Result<Seq, StoreError> {
        self.flush()?;
        let mut persisted = self.read_persisted()?;
        // A flush has returned once its memtables are gone from their lists (RocksDB: `WaitForFlushMemTables`); reads find the
        // files that took their place a moment later, when each column family's super version is installed.
        for _ in 0..READ_BACK_TRIES {
            if persisted >= applied {
                return Ok(persisted);
            }
            std::thread::sleep(READ_BACK_EVERY);
            persisted = self.read_persisted()?;
        }
        let detail = format!("a flush left position {persisted} on disk where {applied} was applied");
        Err(StoreError::Io { detail })
    }

    fn flush(&self) -> Result<(), StoreError> {
        let all: Vec<_> = column_family_names().map(|name| self.column_family(name)).collect();
        let all: Vec<_> = all.iter().collect();
        self.db.flush_cfs_opt(&all, &FlushOptions::default()).map_err(failed)
    }

    /// The position below the memtables: what a crash would leave.
    fn read_persisted(&self) -> Result<Seq, StoreError> {
        let mut options = ReadOptions::default();
        options.set_read_tier(ReadTier::Persisted);
        let value = self.db.get_pinned_cf_opt(self.table(Table::Meta), META_POSITION, &options).map_err(failed)?;
        value.map_or(Ok(Seq::ZERO), |value| codec::decode_position(&value))
    }
}

impl Store for RocksStore {
    fn position(&self) -> Seq {
        Seq(self.applied.load(Ordering::Acquire))
    }

    fn commit(&self, commit: &Commit) -> Result<(), StoreError> {
        let mut writer = self.writer()?.lock();
        writer.check()?;
        let applied = self.position();
        if commit.position < applied {
            return Err(StoreError::Backwards { wanted: commit.position, applied });
        }
        let written = self.write(&mut writer.bulk, commit);
        writer.failed = written.is_err();
        written?;
        self.applied.store(commit.position.0, Ordering::Release);
        Ok(())
    }

    fn persist(&self) -> Result<Seq, StoreError> {
        let mut writer = self.writer()?.lock();
        writer.check()?;
        let persisted = self.flush_and_read_back(self.position());
        writer.failed = persisted.is_err();
        let persisted = persisted?;
        self.persisted.store(persisted.0, Ordering::Release);
        Ok(persisted)
    }

    fn persisted(&self) -> Seq {
        Seq(self.persisted.load(Ordering::Acquire))
    }

    fn lookup(&self, keys: &[EventKey], found: &mut Vec<Option<IdEntry>>) -> Result<(), StoreError> {
        let mut order: Vec<(EventKey, usize)> = keys.iter().enumerate().map(|(index, key)| (*key, index)).collect();
        order.sort_unstable();
        let sorted: Vec<_> = order.iter().map(|(key, _)| codec::encode_id_key(*key)).collect();
        let mut options = ReadOptions::default();
        // Ids are spread at random: a block serves one lookup, and caching it costs as much as reading it from the page
        // cache.
        options.fill_cache(false);
        let values = self.db.batched_multi_get_cf_opt(self.column_family(DEDUPE), &sorted, true, &options);
        let horizon = self.horizon();
        found.clear();
        found.resize(keys.len(), None);
        for ((_, index), value) in order.iter().zip(values) {
            let Some(value) = value.map_err(failed)? else { continue };
            let entry = codec::decode_id_value(&value)?;
            found[*index] = (entry.seq >= horizon).then_some(entry);
        }
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.get_cf(self.table(table), key).map_err(failed)
    }

    fn scan(&self, table: Table, prefix: &[u8], visit: &mut RowVisitor<'_>) -> Result<(), StoreError> {
        let mut rows = self.iterator(self.table(table), prefix);
        rows.seek_to_first();
        while let Some((key, value)) = rows.item() {
            if visit(key, value).is_break() {
                return Ok(());
            }
            rows.next();
        }
        rows.status().map_err(failed)
    }

    fn snapshot(&self) -> Box<dyn Snapshot + '_> {
        Box::new(RocksSnapshot::of(self))
    }

    fn scan_ids(&self, visit: &mut dyn FnMut(EventKey, IdEntry)) -> Result<(), StoreError> {
        let horizon = self.horizon();
        let mut ids = self.iterator(self.column_family(DEDUPE), b"");
        ids.seek_to_first();
        while let Some((key, value)) = ids.item() {
            let entry = codec::decode_id_value(value)?;
            if entry.seq >= horizon {
                visit(codec::decode_id_key(key)?, entry);
            }
            ids.next();
        }
        ids.status().map_err(failed)
    }

    fn set_horizon(&self, horizon: Seq) {
        self.horizon.fetch_max(horizon.0, Ordering::Relaxed);
    }

    fn checkpoint(&self, directory: &Path) -> Result<Seq, StoreError> {
        let mut writer = self.writer()?.lock();
        writer.check()?;
        let persisted = self.flush_and_read_back(self.position());
        writer.failed = persisted.is_err();
        let persisted = persisted?;
        self.persisted.store(persisted.0, Ordering::Release);
        // Under the lock there is nothing in memory that is not on disk: RocksDB's log, which is off, is not missed.
        let checkpoint = Checkpoint::new(&self.db).map_err(failed)?;
        checkpoint.create_checkpoint(directory).map_err(failed)?;
        Ok(persisted)
    }

    fn stats(&self) -> StoreStats {
        stats::read(&self.db)
    }
}

/// The dedupe index's, and each table's.
fn column_family_names() -> impl Iterator<Item = &'static str> {
    [DEDUPE].into_iter().chain(Table::ALL.map(Table::name))
}

/// By seq, so that of two puts of one key the newer comes last and counts.
fn in_seq_order(ids: &[(EventKey, IdEntry)]) -> Cow<'_, [(EventKey, IdEntry)]> {
    if ids.is_sorted_by_key(|(_, entry)| entry.seq) {
        return Cow::Borrowed(ids);
    }
    let mut ids = ids.to_vec();
    ids.sort_by_key(|(_, entry)| entry.seq);
    Cow::Owned(ids)
}
