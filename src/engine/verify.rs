//! The journal refolded from its first record, and compared with what the store holds.
//!
//! 1. The fold is the same `apply` as everywhere, on an empty state; the store is only read.
//! 2. The comparison is made at the store's position: what the journal holds beyond it will be replayed at the next start.
//! 3. Ids are compared as multisets (count and a sum of hashes), which needs no memory however many there are.
//! 4. Ids below the horizon are forgotten. Ids may run ahead of the store's position; those, and the older entries of the
//!    same ids that they replaced, are left out.

use std::collections::HashSet;
use std::sync::Arc;

use crate::engine::hash::{Hasher, TableHasher};
use crate::engine::key;
use crate::engine::record;
use crate::engine::state::{Counter, FoldError, LoadError, Series, State};
use crate::env::Disk;
use crate::journal::{self, JournalError, ReplayError, Start, StoreId};
use crate::model::{EventKey, IdEntry, Seq};
use crate::store::{Store, StoreError};

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
    /// What differs: `counter acme/c-1/tokens[gpt] 2026-11-01T00:00:00Z`, `ids`, `clock`, ….
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
    pub counters: u64,
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
pub fn verify(disk: &Arc<dyn Disk>, store: &dyn Store, progress: &mut dyn FnMut(Seq)) -> Result<Verified, VerifyError> {
    let hasher = TableHasher::default();
    let stored = State::load(store, hasher.clone())?;
    let mut folded = State::new(hasher);
    let position = stored.position();
    let horizon = stored.clock().horizon();
    let (stored_ids, ahead, newest_id) = scan_ids(store, horizon, position)?;
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
    compare_small(&mut verified, &folded, &stored);
    compare_counters(&mut verified, &folded, &stored);
    if ids != stored_ids {
        verified.differ("ids".into(), &ids, &stored_ids);
    }
    Ok(verified)
}

fn compare_small(verified: &mut Verified, folded: &State, stored: &State) {
    if folded.position() != stored.position() {
        verified.differ("position (the store ends within a frame)".into(), &folded.position(), &stored.position());
    }
    if folded.genesis() != stored.genesis() {
        verified.differ("genesis".into(), &folded.genesis(), &stored.genesis());
    }
    if folded.definitions() != stored.definitions() {
        verified.differ("meters".into(), &folded.definitions(), &stored.definitions());
    }
    if folded.clock() != stored.clock() {
        verified.differ("clock".into(), folded.clock(), stored.clock());
    }
    if folded.tenants() != stored.tenants() {
        verified.differ("tenants".into(), folded.tenants(), stored.tenants());
    }
}

fn compare_counters(verified: &mut Verified, folded: &State, stored: &State) {
    for number in 0..folded.series_len() {
        let series = folded.series(number as u32);
        verified.counters += series.counters.len() as u64;
        let twin = stored.find_series(&series.key);
        for counter in &series.counters {
            let other = twin.and_then(|twin| find(twin, counter));
            if !other.is_some_and(|other| same(counter, other)) {
                verified.differ(name(series, counter), counter, &other);
            }
        }
    }
    for number in 0..stored.series_len() {
        let series = stored.series(number as u32);
        let twin = folded.find_series(&series.key);
        for counter in &series.counters {
            if twin.and_then(|twin| find(twin, counter)).is_none() {
                verified.differ(name(series, counter), &None::<Counter>, counter);
            }
        }
    }
}

fn find<'a>(series: &'a Series, counter: &Counter) -> Option<&'a Counter> {
    series.find(counter.window.start).ok().map(|place| &series.counters[place])
}

fn same(one: &Counter, other: &Counter) -> bool {
    (one.window, one.event_count, one.revision) == (other.window, other.event_count, other.revision)
        && one.aggregate == other.aggregate
}

fn name(series: &Series, counter: &Counter) -> String {
    match key::read_series(&series.key) {
        Some((name, _)) => format!(
            "counter {:?}/{:?}/{}{:?} {}",
            name.tenant,
            name.customer,
            name.meter,
            name.dimensions.as_slice(),
            counter.window.start
        ),
        None => format!("counter {:02x?} {}", series.key, counter.window.start),
    }
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
