//! Snapshots and cursors on RocksDB.
//!
//! 1. A batch becomes visible as a whole, so a snapshot stands between two commits.
//! 2. An iterator that ends says nothing of why: every move asks for its status, so that a block that cannot be read is
//!    an error and never the end of a table.
//! 3. Keys are in one order throughout: no column family has a prefix extractor.
//!
//! A cursor lets RocksDB choose how far to read ahead (nothing for two blocks, then 8 KiB, doubling to 256 KiB):
//! most read one page, and reading megabytes for it, as a scan of everything does, would cost more than the page. Nor do
//! its blocks go into the block cache, where the point reads of late events would miss what they pushed out.

use rocksdb::{DB, DBRawIterator, ReadOptions, SnapshotWithThreadMode};

use super::RocksStore;
use super::error::failed;
use crate::store::{Cursor, Snapshot, StoreError, Table};

pub struct RocksSnapshot<'a> {
    store: &'a RocksStore,
    at: SnapshotWithThreadMode<'a, DB>,
}

impl<'a> RocksSnapshot<'a> {
    pub fn of(store: &'a RocksStore) -> Self {
        Self { store, at: store.db.snapshot() }
    }
}

impl Snapshot for RocksSnapshot<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.at.get_cf(self.store.table(table), key).map_err(failed)
    }

    fn cursor(&self, table: Table) -> Result<Box<dyn Cursor + '_>, StoreError> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let rows = self.at.raw_iterator_cf_opt(self.store.table(table), options);
        rows.status().map_err(failed)?;
        Ok(Box::new(RocksCursor { rows }))
    }
}

struct RocksCursor<'a> {
    rows: DBRawIterator<'a>,
}

impl Cursor for RocksCursor<'_> {
    fn seek(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.rows.seek(key);
        self.rows.status().map_err(failed)
    }

    fn advance(&mut self) -> Result<(), StoreError> {
        self.rows.next();
        self.rows.status().map_err(failed)
    }

    fn row(&self) -> Option<(&[u8], &[u8])> {
        self.rows.item()
    }
}
