//! Which ids were accepted before: the layers, cheapest first.
//!
//! | layer | holds | asked by |
//! | --- | --- | --- |
//! | `recent` | ids newer than the index's position, exactly | the writer |
//! | `filter` | a bit pattern of every id in the index, so that a new id never reads the disk | the parse threads |
//! | `Store::lookup` | id → seq and fingerprint | the parse threads, for what the filter lets through |
//!
//! 1. `position()` is read *before* the filter and the store: the answer holds for every id up to it.
//! 2. An id enters the filter before the position that covers it is published.
//! 3. An entry below the horizon is absent in every layer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::state::corrections::codec::{decode_id, id_key};
use crate::metrics::{INDEX_FALSE_POSITIVES, INDEX_LOOKUPS};
use crate::model::{EventKey, IdEntry, Seq};
use crate::store::{Store, StoreError, Table};

mod filter;
mod recent;

use filter::Filter;
pub use recent::{Generation, Recent};

/// Ids that enter the filter together while it is loaded.
const LOAD_IDS: usize = 4_096;

/// The ids that the store has, behind a filter.
pub struct Index {
    store: Arc<dyn Store>,
    filter: Filter,
    position: AtomicU64,
    lookups: metrics::Counter,
    false_positives: metrics::Counter,
}

impl Index {
    /// Fills the filter from the store's ids. Answers with the highest seq among them, too.
    pub fn load(store: Arc<dyn Store>) -> Result<(Self, Seq), StoreError> {
        let filter = Filter::with_room_for(store.stats().ids_estimate);
        let mut highest = Seq::ZERO;
        let mut keys = Vec::with_capacity(LOAD_IDS);
        store.scan_ids(&mut |key, entry| {
            highest = highest.max(entry.seq);
            keys.push(key);
            if keys.len() == LOAD_IDS {
                filter.insert_many(keys.drain(..), highest);
            }
        })?;
        filter.insert_many(keys, highest);
        let index = Self {
            position: AtomicU64::new(store.position().0),
            store,
            filter,
            lookups: metrics::counter!(INDEX_LOOKUPS),
            false_positives: metrics::counter!(INDEX_FALSE_POSITIVES),
        };
        Ok((index, highest))
    }

    /// Every id accepted up to this record is in the index.
    pub fn position(&self) -> Seq {
        Seq(self.position.load(Ordering::Acquire))
    }

    /// One answer per key, in order.
    pub fn look_up(&self, keys: &[EventKey], found: &mut Vec<Option<IdEntry>>) -> Result<(), StoreError> {
        let mut possible = Vec::new();
        self.filter.contains_many(keys, &mut possible);
        let asked: Vec<EventKey> =
            keys.iter().zip(&possible).filter(|(_, possible)| **possible).map(|(key, _)| *key).collect();
        found.clear();
        if asked.is_empty() {
            found.resize(keys.len(), None);
            return Ok(());
        }
        let mut answers = Vec::new();
        self.store.lookup(&asked, &mut answers)?;
        self.lookups.increment(asked.len() as u64);
        self.false_positives.increment(answers.iter().filter(|answer| answer.is_none()).count() as u64);
        let mut answers = answers.into_iter();
        found.extend(possible.iter().map(|possible| if *possible { answers.next().flatten() } else { None }));
        Ok(())
    }

    /// An id that a backfill has brought, however long ago. Newer ones than `position()` are not there yet.
    pub fn look_up_backfilled(&self, backfill: u32, key: EventKey) -> Result<Option<IdEntry>, StoreError> {
        let row = self.store.get(Table::BackfillIds, &id_key(backfill, key))?;
        Ok(row.as_deref().and_then(decode_id))
    }

    /// Ids below `horizon` are forgotten.
    pub fn forget_below(&self, horizon: Seq) {
        self.filter.drop_below(horizon);
    }

    /// The store has these ids now; then `position` may be published.
    pub fn add(&self, ids: &[(EventKey, IdEntry)], position: Seq) {
        self.filter.insert_many(ids.iter().map(|(key, _)| *key), position);
        self.position.store(position.0, Ordering::Release);
        self.filter.prepare();
    }
}
