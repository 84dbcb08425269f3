//! Snapshots of the store in memory: the tables as they were, which later commits copy instead of changing.

use std::collections::btree_map::Range;
use std::ops::Bound;

use super::{RowMap, Tables};
use crate::store::{Cursor, Snapshot, StoreError, Table};

pub struct MemSnapshot {
    pub tables: Tables,
}

impl Snapshot for MemSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.tables[table as usize].get(key).cloned())
    }

    fn cursor(&self, table: Table) -> Result<Box<dyn Cursor + '_>, StoreError> {
        Ok(Box::new(MemCursor { table: &self.tables[table as usize], row: None, rest: Range::default() }))
    }
}

struct MemCursor<'a> {
    table: &'a RowMap,
    row: Option<(&'a Vec<u8>, &'a Vec<u8>)>,
    /// What comes after `row`.
    rest: Range<'a, Vec<u8>, Vec<u8>>,
}

impl Cursor for MemCursor<'_> {
    fn seek(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.rest = self.table.range::<[u8], _>((Bound::Included(key), Bound::Unbounded));
        self.advance()
    }

    fn advance(&mut self) -> Result<(), StoreError> {
        self.row = self.rest.next();
        Ok(())
    }

    fn row(&self) -> Option<(&[u8], &[u8])> {
        self.row.map(|(key, value)| (key.as_slice(), value.as_slice()))
    }
}
