//! The journal refolded from its first record, and compared with what the store holds.
//!
//! 1. The fold is the same `apply` as everywhere, on an empty state; the store is only read. The fold's state is then
//!    written out as rows, and these are compared with the store's, byte by byte, in every table.
//! 2. The comparison is made at the store's position: what the journal holds beyond it will be replayed at the next start.
//! 3. Ids are compared as multisets (count and a sum of hashes), which needs no memory however many there are.
//! 4. Ids below the horizon are forgotten. Ids may run ahead of the store's position; those, and the older entries of the
//!    same ids that they replaced, are left out.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use crate::engine::hash::{Hasher, TableHasher};
use crate::engine::key;
use crate::engine::record;
use crate::engine::state::{FoldError, LoadError, State};
use crate::env::Disk;
use crate::journal::{self, JournalError, ReplayError, Start, StoreId};
use crate::model::{EventKey, IdEntry, Seq, hex};
use crate::store::{META_OWN, MemStore, Rows, Store, StoreError, Table};

/// Differences that are listed; all are counted.
const LISTED_MAX: usize = 100;

#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the journal cannot be folded at segment {segment}, byte {offset}: {source}")]
    Fold { segment: Seq, offset: u64, source: FoldError },
    #[error("the journal ends at record {journal}, the store has record {store}")]
    JournalBehind { journal: Seq, store: Seq },
}

/// Something that journal and store do not agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What differs: `windows acme/c-1/tokens["gpt"] 2026-11-01T00:00:00Z`, `ids`, `meta clock`, ….
    pub what: String,
    pub journal: String,
    pub store: String,
}

/// What was compared, and what differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// The record both were compared at.
    pub position: Seq,
    /// Where the journal ends.
    pub journal_end: Seq,
    /// Rows of open counters and final windows.
    pub counters: u64,
    /// Rows of every table.
    pub rows: u64,
    pub ids: u64,
    pub difference_count: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
}

impl Verified {
    fn differ(&mut self, what: String, journal: &dyn std::fmt::Debug, store: &dyn std::fmt::Debug) {
        self.difference_count += 1;
        if self.differences.len() < LISTED_MAX {
            self.differences.push(Difference { what, journal: format!("{journal:?}"), store: format!("{store:?}") });
        }
    }
}

/// Refolds the journal and compares. The data directory must not be in use. `progress` hears the last record now and then.
pub fn verify(
    disk: &Arc<dyn Disk>,
    store: &Arc<dyn Store>,
    progress: &mut dyn FnMut(Seq),
) -> Result<Verified, VerifyError> {
    let stored = State::load(store, TableHasher::default())?;
    // Nothing of the fold leaves its memory, so there is nothing to find again.
    let mut folded = State::new(TableHasher::default(), Arc::new(MemStore::new()));
    let position = stored.position();
    let horizon = stored.clock().horizon();
    let (stored_ids, ahead, newest_id) = scan_ids(&**store, horizon, position)?;
    let mut ids = IdSum::default();
    let start = Start { after: Seq::ZERO, floor: position.max(newest_id), store_id: store.store_id()?.map(StoreId) };
    let read = journal::read(&**disk, start, &mut |frame| {
        let refuse = |source| VerifyError::Fold { segment: frame.at.segment, offset: frame.at.offset, source };
        for record in record::records(frame.payload) {
            let record = record.map_err(|error| refuse(error.into()))?;
            if folded.position() >= position {
                break;
            }
            let next = folded.position().next();
            let mut accepted = |key, entry: IdEntry| {
                if entry.seq >= horizon && !ahead.contains(&key) {
                    ids.add(key, entry);
                }
            };
            folded.apply(next, &record, &mut accepted).map_err(refuse)?;
        }
        progress(frame.first_seq);
        Ok(())
    });
    let read = read.map_err(|error| match error {
        ReplayError::Journal(error) => VerifyError::Journal(error),
        ReplayError::Visit(error) => error,
    })?;
    if read.last < position {
        return Err(VerifyError::JournalBehind { journal: read.last, store: position });
    }
    let mut verified = Verified { position, journal_end: read.last, ids: ids.count, ..Verified::default() };
    if folded.position() != position {
        verified.differ("position (the store ends within a frame)".into(), &folded.position(), &position);
    }
    compare_rows(&mut verified, folded, &**store)?;
    if ids != stored_ids {
        verified.differ("ids".into(), &ids, &stored_ids);
    }
    Ok(verified)
}

/// The fold's rows and the store's, table by table, side by side in key order.
fn compare_rows(verified: &mut Verified, mut folded: State, store: &dyn Store) -> Result<(), StoreError> {
    folded.close_epoch();
    while !folded.drain_epoch(usize::MAX) {}
    let mut rows: Rows = folded.take_epoch();
    drop(folded);
    rows.sort();
    let snapshot = store.snapshot();
    let mut ours = Last::of(&rows);
    for table in Table::ALL {
        let mut theirs = snapshot.cursor(table)?;
        theirs.seek(&[])?;
        loop {
            let left = ours.peek(table);
            let Some(order) = order(left, theirs.row()) else { break };
            let key = |row: Option<(&[u8], &[u8])>| row.map(|(key, _)| key.to_vec()).unwrap_or_default();
            let (right, is_own) = (theirs.row(), theirs.row().is_some_and(|(key, _)| META_OWN.contains(&key)));
            match order {
                Ordering::Less => {
                    verified.differ(name(table, &key(left)), &left.map(|row| hex::encode(row.1)), &None::<String>)
                }
                Ordering::Greater if table == Table::Meta && is_own => {}
                Ordering::Greater => {
                    verified.differ(name(table, &key(right)), &None::<String>, &right.map(|row| hex::encode(row.1)));
                }
                Ordering::Equal if left.map(|row| row.1) != right.map(|row| row.1) => {
                    let texts = (left.map(|row| hex::encode(row.1)), right.map(|row| hex::encode(row.1)));
                    verified.differ(name(table, &key(left)), &texts.0, &texts.1);
                }
                Ordering::Equal => {}
            }
            if order != Ordering::Greater {
                verified.rows += 1;
                verified.counters += u64::from(matches!(table, Table::Counters | Table::Windows));
                ours.advance();
            }
            if order != Ordering::Less {
                theirs.advance()?;
            }
        }
    }
    Ok(())
}

/// None once both have ended.
fn order(ours: Option<(&[u8], &[u8])>, theirs: Option<(&[u8], &[u8])>) -> Option<Ordering> {
    match (ours, theirs) {
        (None, None) => None,
        (Some(_), None) => Some(Ordering::Less),
        (None, Some(_)) => Some(Ordering::Greater),
        (Some((ours, _)), Some((theirs, _))) => Some(ours.cmp(theirs)),
    }
}

/// Sorted changes, of each key the last, without the ranges deleted: what a store would hold after them.
struct Last<'a> {
    rows: Vec<crate::store::Row<'a>>,
    at: usize,
}

impl<'a> Last<'a> {
    fn of(rows: &'a Rows) -> Self {
        let mut all: Vec<_> = rows.iter().collect();
        all.reverse();
        all.dedup_by_key(|row| (row.table, row.key));
        all.reverse();
        // Sorted too, and apart from each other.
        let ranges = rows.ranges();
        let is_deleted = |row: &crate::store::Row<'_>| {
            let after = ranges.partition_point(|range| (range.table, &*range.from) <= (row.table, row.key));
            after.checked_sub(1).is_some_and(|before| ranges[before].contains(row.table, row.key))
        };
        all.retain(|row| row.value.is_some() && !is_deleted(row));
        Self { rows: all, at: 0 }
    }

    /// The next row, if it is of this table.
    fn peek(&self, table: Table) -> Option<(&'a [u8], &'a [u8])> {
        let row = self.rows.get(self.at).filter(|row| row.table == table)?;
        row.value.map(|value| (row.key, value))
    }

    fn advance(&mut self) {
        self.at += 1;
    }
}

/// A row's name for people.
fn name(table: Table, row: &[u8]) -> String {
    let named = |name: &[u8]| {
        let (series, start) = key::split_start(name)?;
        let (series, _) = key::read_series(series)?;
        let dimensions = series.dimensions.as_slice();
        Some(format!("{:?}/{:?}/{}{dimensions:?} {start}", series.tenant, series.customer, series.meter))
    };
    let period = |name: &[u8]| {
        let (series, bounds) = key::split_bounds(name)?;
        let mut window = series.to_vec();
        key::put_start(&mut window, bounds.start);
        named(&window)
    };
    let text = match table {
        Table::Meta => Some(row.escape_ascii().to_string()),
        Table::Counters | Table::Windows => named(row),
        Table::Periods => key::without_second_text(row).and_then(|name| period(&name)),
        Table::Members | Table::PeriodMembers | Table::Adjustments => None,
        Table::Outbox | Table::Deliveries | Table::Attempts | Table::DeadLetters => None,
        Table::Alerts | Table::Thresholds | Table::Reservations => None,
        Table::Voids | Table::BackfillIds | Table::Trail => None,
    };
    format!("{} {}", table.name(), text.unwrap_or_else(|| hex::encode(row)))
}

/// The digest of the ids up to `position`, the ids beyond it, and the newest record that any of them names.
fn scan_ids(store: &dyn Store, horizon: Seq, position: Seq) -> Result<(IdSum, HashSet<EventKey>, Seq), StoreError> {
    let (mut sum, mut ahead, mut newest) = (IdSum::default(), HashSet::new(), Seq::ZERO);
    store.scan_ids(&mut |key, entry| {
        newest = newest.max(entry.seq);
        if entry.seq > position {
            ahead.insert(key);
        } else if entry.seq >= horizon {
            sum.add(key, entry);
        }
    })?;
    Ok((sum, ahead, newest))
}

/// An order-independent digest of ids: how many, and the sum of a hash of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct IdSum {
    count: u64,
    sum: u128,
}

impl IdSum {
    fn add(&mut self, key: EventKey, entry: IdEntry) {
        let mut bytes = [0; 28];
        bytes[..16].copy_from_slice(&key.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&entry.seq.0.to_le_bytes());
        bytes[24..].copy_from_slice(&entry.fingerprint.0.to_le_bytes());
        self.count += 1;
        self.sum = self.sum.wrapping_add(Hasher::new(&[0; 16]).hash128(&bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fold_is_compared_without_the_ranges_that_it_deleted() {
        let mut rows = Rows::default();
        for number in 0..10_u8 {
            rows.put(Table::Outbox, &[number], &[]);
            rows.put(Table::Attempts, &[number], &[]);
        }
        rows.delete_range(Table::Outbox, &[0], &[4]);
        rows.delete_range(Table::Attempts, &[5], &[6]);
        rows.delete_range(Table::Outbox, &[7], &[8]);
        rows.delete(Table::Outbox, &[9]);
        rows.sort();
        let left = |table| Last::of(&rows).rows.iter().filter(|row| row.table == table).map(|row| row.key[0]).collect();
        let (outbox, attempts): (Vec<u8>, Vec<u8>) = (left(Table::Outbox), left(Table::Attempts));
        assert_eq!((outbox, attempts), (vec![4, 5, 6, 8], vec![0, 1, 2, 3, 4, 6, 7, 8, 9]));
    }
}
