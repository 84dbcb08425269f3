//! The store in memory, for simulation: the same answers, and the same losses in a crash.
//!
//! | state | lost by `crash` |
//! | --- | --- |
//! | rows and position up to the last `persist` | no |
//! | ids of a bulk commit (`bulk_ids_min` or more) | no: a sorted file is durable at once |
//! | checkpoints | no |
//! | rows, position and other ids after the last `persist` | yes, or only from a later commit on (`crash_keeping`) |
//!
//! 1. `crash_keeping(n)` keeps the first `n` commits since the last `persist` whole: RocksDB may flush by itself, at
//!    any time, but only to a boundary between commits.
//! 2. Deterministic: no clock, no randomness, ordered maps.
//! 3. Tables are shared and copied on write: a snapshot costs nothing, the first commit after it copies the tables that
//!    it changes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;

use super::codec::{FORMAT_VERSION, META_FORMAT_VERSION, META_POSITION, encode_format_version, encode_position};
use super::{BULK_IDS_MIN, Commit, RowVisitor, Snapshot, Store, StoreError, StoreStats, Table};
use crate::model::{EventKey, IdEntry, Seq};

mod snapshot;
#[cfg(test)]
mod tests;

use snapshot::MemSnapshot;

type RowMap = BTreeMap<Vec<u8>, Vec<u8>>;

/// A store that lives as long as the process; give it to `Arc` to share it.
pub struct MemStore {
    inner: RwLock<Inner>,
    bulk_ids_min: usize,
}

struct Inner {
    applied: State,
    persisted: State,
    /// What came after `persisted`, in order.
    unpersisted: Vec<Commit>,
    horizon: Seq,
    /// By the directory that they would be in.
    checkpoints: BTreeMap<PathBuf, State>,
}

/// By `Table`'s discriminant.
type Tables = [Arc<RowMap>; Table::ALL.len()];

#[derive(Clone, Default)]
struct State {
    position: Seq,
    tables: Tables,
    ids: BTreeMap<EventKey, IdEntry>,
}

impl State {
    fn insert_id(&mut self, key: EventKey, entry: IdEntry) {
        self.ids.insert(key, entry);
    }

    fn apply(&mut self, commit: &Commit) {
        let mut ids = commit.ids.clone();
        ids.sort_by_key(|(_, entry)| entry.seq);
        for (key, entry) in ids {
            self.insert_id(key, entry);
        }
        for row in commit.rows.iter() {
            let table = self.table(row.table);
            match row.value {
                Some(value) => table.insert(row.key.to_vec(), value.to_vec()),
                None => table.remove(row.key),
            };
        }
        for range in commit.rows.ranges() {
            let table = self.table(range.table);
            let keys: Vec<_> = table.range(range.from.clone()..range.to.clone()).map(|(key, _)| key.clone()).collect();
            keys.iter().for_each(|key| drop(table.remove(key)));
        }
        self.set_position(commit.position);
    }

    fn set_position(&mut self, position: Seq) {
        self.position = position;
        self.table(Table::Meta).insert(META_POSITION.to_vec(), encode_position(position).to_vec());
    }

    fn table(&mut self, table: Table) -> &mut RowMap {
        Arc::make_mut(&mut self.tables[table as usize])
    }
}

impl Default for MemStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemStore {
    pub fn new() -> Self {
        Self::with_bulk_ids_min(BULK_IDS_MIN)
    }

    /// A small `bulk_ids_min` makes ids run ahead of the position often.
    pub fn with_bulk_ids_min(bulk_ids_min: usize) -> Self {
        let mut state = State::default();
        let version = encode_format_version(FORMAT_VERSION).to_vec();
        state.table(Table::Meta).insert(META_FORMAT_VERSION.to_vec(), version);
        state.set_position(Seq::ZERO);
        Self::from_state(state, bulk_ids_min)
    }

    fn from_state(state: State, bulk_ids_min: usize) -> Self {
        Self::with_checkpoints(state, BTreeMap::new(), bulk_ids_min)
    }

    fn with_checkpoints(state: State, checkpoints: BTreeMap<PathBuf, State>, bulk_ids_min: usize) -> Self {
        let (applied, unpersisted) = (state.clone(), Vec::new());
        let inner = Inner { applied, persisted: state, unpersisted, horizon: Seq::ZERO, checkpoints };
        Self { inner: RwLock::new(inner), bulk_ids_min }
    }

    /// What was copied into a directory that exists only by name.
    pub fn open_checkpoint(&self, directory: &Path) -> Option<MemStore> {
        let inner = self.inner.read();
        inner.checkpoints.get(directory).map(|state| Self::from_state(state.clone(), self.bulk_ids_min))
    }

    /// The store as found after a crash now: what was persisted, and the ids of bulk commits.
    #[must_use]
    pub fn crash(&self) -> MemStore {
        self.crash_keeping(0)
    }

    /// The same, had the store flushed by itself after the first `commits` of those since the last `persist`.
    #[must_use]
    pub fn crash_keeping(&self, commits: usize) -> MemStore {
        let inner = self.inner.read();
        let mut state = inner.persisted.clone();
        for (index, commit) in inner.unpersisted.iter().enumerate() {
            if index < commits {
                state.apply(commit);
            } else if self.is_bulk(commit) {
                self.apply_ids(&mut state, commit);
            }
        }
        Self::with_checkpoints(state, inner.checkpoints.clone(), self.bulk_ids_min)
    }

    /// How many commits came since the last `persist`: the bound for `crash_keeping`.
    pub fn unpersisted_commits(&self) -> usize {
        self.inner.read().unpersisted.len()
    }

    /// Runs only the first step of a commit, as if the process died between the sorted file and the rows.
    /// Returns whether there was such a step.
    pub fn commit_only_bulk_ids(&self, commit: &Commit) -> bool {
        if !self.is_bulk(commit) {
            return false;
        }
        let mut inner = self.inner.write();
        let position = inner.applied.position;
        self.apply_ids(&mut inner.applied, commit);
        let ids = commit.ids.clone();
        inner.unpersisted.push(Commit { position, ids, ..Commit::default() });
        true
    }

    fn is_bulk(&self, commit: &Commit) -> bool {
        !commit.ids.is_empty() && commit.ids.len() >= self.bulk_ids_min
    }

    fn apply_ids(&self, state: &mut State, commit: &Commit) {
        let position = state.position;
        state.apply(&Commit { position, ids: commit.ids.clone(), ..Commit::default() });
    }
}

impl Store for MemStore {
    fn position(&self) -> Seq {
        self.inner.read().applied.position
    }

    fn commit(&self, commit: &Commit) -> Result<(), StoreError> {
        let mut inner = self.inner.write();
        let applied = inner.applied.position;
        if commit.position < applied {
            return Err(StoreError::Backwards { wanted: commit.position, applied });
        }
        inner.applied.apply(commit);
        inner.unpersisted.push(commit.clone());
        Ok(())
    }

    fn persist(&self) -> Result<Seq, StoreError> {
        let mut inner = self.inner.write();
        let Inner { persisted, unpersisted, .. } = &mut *inner;
        for commit in unpersisted.drain(..) {
            persisted.apply(&commit);
        }
        Ok(persisted.position)
    }

    fn persisted(&self) -> Seq {
        self.inner.read().persisted.position
    }

    fn lookup(&self, keys: &[EventKey], found: &mut Vec<Option<IdEntry>>) -> Result<(), StoreError> {
        let inner = self.inner.read();
        found.clear();
        found.extend(keys.iter().map(|key| {
            let entry = inner.applied.ids.get(key).copied();
            entry.filter(|entry| entry.seq >= inner.horizon)
        }));
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.inner.read().applied.tables[table as usize].get(key).cloned())
    }

    fn scan(&self, table: Table, prefix: &[u8], visit: &mut RowVisitor<'_>) -> Result<(), StoreError> {
        let rows = Arc::clone(&self.inner.read().applied.tables[table as usize]);
        for (key, value) in rows.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix)) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn snapshot(&self) -> Box<dyn Snapshot + '_> {
        Box::new(MemSnapshot { tables: self.inner.read().applied.tables.clone() })
    }

    fn scan_ids(&self, visit: &mut dyn FnMut(EventKey, IdEntry)) -> Result<(), StoreError> {
        let inner = self.inner.read();
        for (key, entry) in &inner.applied.ids {
            if entry.seq >= inner.horizon {
                visit(*key, *entry);
            }
        }
        Ok(())
    }

    fn set_horizon(&self, horizon: Seq) {
        let mut inner = self.inner.write();
        inner.horizon = inner.horizon.max(horizon);
    }

    fn checkpoint(&self, directory: &Path) -> Result<Seq, StoreError> {
        let persisted = self.persist()?;
        let mut inner = self.inner.write();
        let state = inner.persisted.clone();
        match inner.checkpoints.entry(directory.to_owned()) {
            Entry::Occupied(_) => Err(StoreError::Io { detail: format!("{} exists", directory.display()) }),
            Entry::Vacant(place) => {
                place.insert(state);
                Ok(persisted)
            }
        }
    }

    fn stats(&self) -> StoreStats {
        StoreStats { ids_estimate: self.inner.read().applied.ids.len() as u64, ..StoreStats::default() }
    }
}
