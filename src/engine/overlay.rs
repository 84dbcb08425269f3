//! The rows that a fold changed, laid over what was there before: what a store would hold after them.
//!
//! | a key | reads as |
//! | --- | --- |
//! | within a range that was deleted | nothing, whatever was put there: ranges apply last (see [`Rows`]) |
//! | changed | its last value, or nothing if it was deleted last |
//! | any other | what lies below; nothing if nothing does |
//!
//! 1. An overlay is a [`Snapshot`] like any other: whoever reads rows in key order reads it the same way.
//! 2. It copies no row, and reads what lies below only where its cursor stands.

use std::cmp::Ordering;

use crate::store::{Cursor, Row, RowRange, Rows, Snapshot, StoreError, Table};

/// Changes in order, of each key the last.
pub struct Changes<'a> {
    rows: Vec<Row<'a>>,
    /// Sorted, and apart from each other.
    ranges: &'a [RowRange],
}

/// Changes over a snapshot, or over nothing.
pub struct Overlay<'a> {
    changes: Changes<'a>,
    below: Option<&'a dyn Snapshot>,
}

impl<'a> Changes<'a> {
    /// Sorts the rows first, which changes nothing of what they mean.
    pub fn of(rows: &'a mut Rows) -> Self {
        rows.sort();
        let rows = &*rows;
        let mut last: Vec<_> = rows.iter().collect();
        last.reverse();
        last.dedup_by_key(|row| (row.table, row.key));
        last.reverse();
        Self { rows: last, ranges: rows.ranges() }
    }

    pub fn over(self, below: Option<&'a dyn Snapshot>) -> Overlay<'a> {
        Overlay { changes: self, below }
    }

    /// The deleted range that the key lies in.
    fn range(&self, table: Table, key: &[u8]) -> Option<&'a RowRange> {
        let after = self.ranges.partition_point(|range| (range.table, &*range.from) <= (table, key));
        let range = &self.ranges[after.checked_sub(1)?];
        range.contains(table, key).then_some(range)
    }

    /// Where the first change of a row at or after the key is.
    fn place(&self, table: Table, key: &[u8]) -> usize {
        self.rows.partition_point(|row| (row.table, row.key) < (table, key))
    }
}

impl Snapshot for Overlay<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if self.changes.range(table, key).is_some() {
            return Ok(None);
        }
        let changed = self.changes.rows.get(self.changes.place(table, key));
        match changed.filter(|row| row.table == table && row.key == key) {
            Some(row) => Ok(row.value.map(<[u8]>::to_vec)),
            None => self.below.map_or(Ok(None), |below| below.get(table, key)),
        }
    }

    fn cursor(&self, table: Table) -> Result<Box<dyn Cursor + '_>, StoreError> {
        let below = self.below.map(|below| below.cursor(table)).transpose()?;
        Ok(Box::new(OverlayCursor { changes: &self.changes, table, below, place: usize::MAX, stands: Stands::Nowhere }))
    }
}

struct OverlayCursor<'a> {
    changes: &'a Changes<'a>,
    table: Table,
    below: Option<Box<dyn Cursor + 'a>>,
    /// In `changes.rows`.
    place: usize,
    stands: Stands,
}

/// Where the present row comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stands {
    Nowhere,
    Above,
    Below,
    /// On a change, over a row below that has the same key.
    Both,
}

impl<'a> OverlayCursor<'a> {
    fn change(&self) -> Option<&'a Row<'a>> {
        self.changes.rows.get(self.place).filter(|row| row.table == self.table)
    }

    fn row_below(&self) -> Option<(&[u8], &[u8])> {
        self.below.as_ref().and_then(|below| below.row())
    }

    /// Where both cursors stand now, the lower key counts.
    fn nearest(&self) -> Stands {
        match (self.change(), self.row_below()) {
            (None, None) => Stands::Nowhere,
            (Some(_), None) => Stands::Above,
            (None, Some(_)) => Stands::Below,
            (Some(change), Some((below, _))) => match change.key.cmp(below) {
                Ordering::Less => Stands::Above,
                Ordering::Greater => Stands::Below,
                Ordering::Equal => Stands::Both,
            },
        }
    }

    fn step(&mut self) -> Result<(), StoreError> {
        if matches!(self.stands, Stands::Above | Stands::Both) {
            self.place += 1;
        }
        if matches!(self.stands, Stands::Below | Stands::Both)
            && let Some(below) = &mut self.below
        {
            below.advance()?;
        }
        Ok(())
    }

    /// On from what was deleted, to the next row that is there.
    fn settle(&mut self) -> Result<(), StoreError> {
        loop {
            self.stands = self.nearest();
            let key = match self.stands {
                Stands::Nowhere => return Ok(()),
                Stands::Above | Stands::Both => self.change().map(|row| row.key),
                Stands::Below => self.row_below().map(|(key, _)| key),
            };
            if let Some(range) = key.and_then(|key| self.changes.range(self.table, key)) {
                // Far beyond, perhaps: a queue's front moves on by many rows.
                let to = range.to.clone();
                self.place = self.place.max(self.changes.place(self.table, &to));
                let behind = self.row_below().is_some_and(|(key, _)| key < &*to);
                if let Some(below) = self.below.as_mut().filter(|_| behind) {
                    below.seek(&to)?;
                }
                continue;
            }
            let is_deleted = self.stands != Stands::Below && self.change().is_some_and(|row| row.value.is_none());
            if !is_deleted {
                return Ok(());
            }
            self.step()?;
        }
    }
}

impl Cursor for OverlayCursor<'_> {
    fn seek(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.stands = Stands::Nowhere;
        self.place = self.changes.place(self.table, key);
        if let Some(below) = &mut self.below {
            below.seek(key)?;
        }
        self.settle()
    }

    fn advance(&mut self) -> Result<(), StoreError> {
        if self.stands == Stands::Nowhere {
            return Ok(());
        }
        let stepped = self.step();
        self.stands = Stands::Nowhere;
        stepped?;
        self.settle()
    }

    fn row(&self) -> Option<(&[u8], &[u8])> {
        match self.stands {
            Stands::Nowhere => None,
            Stands::Above | Stands::Both => self.change().and_then(|row| row.value.map(|value| (row.key, value))),
            Stands::Below => self.row_below(),
        }
    }
}

#[cfg(test)]
mod tests;
