//! Ids that the index on disk does not have yet: exact, in memory, in generations.
//!
//! A generation holds the ids of one epoch. The open one takes new ids; closed ones wait for the store, and stay one
//! epoch longer, because batches are under way that asked the index before it had them.
//!
//! 1. Generations follow each other without a gap: together they hold every id after `floor()`.
//! 2. A batch that asked the index at a position below `floor()` must ask again.
//! 3. Tables are split 16 ways, so that no growth stops the writer for long.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashTable;

use crate::model::{EventKey, IdEntry, Seq};

const SHARDS: usize = 16;

/// The ids accepted in one stretch of the log.
#[derive(Debug)]
pub struct Generation {
    /// The last record before the first id.
    after: Seq,
    shards: Vec<HashTable<(EventKey, IdEntry)>>,
}

impl Generation {
    fn new(after: Seq, expected_ids: usize) -> Self {
        Self { after, shards: (0..SHARDS).map(|_| HashTable::with_capacity(expected_ids / SHARDS)).collect() }
    }

    pub fn len(&self) -> usize {
        self.shards.iter().map(HashTable::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (EventKey, IdEntry)> {
        self.shards.iter().flatten().copied()
    }

    fn get(&self, key: EventKey) -> Option<IdEntry> {
        self.shards[shard(key)].find(hash(key), |(known, _)| *known == key).map(|(_, entry)| *entry)
    }

    fn insert(&mut self, key: EventKey, entry: IdEntry) {
        // An id that was forgotten and comes again replaces its old entry.
        let known = |known: &(EventKey, IdEntry)| known.0 == key;
        self.shards[shard(key)].entry(hash(key), known, |(known, _)| hash(*known)).insert((key, entry));
    }
}

fn hash(key: EventKey) -> u64 {
    // The key is a keyed hash itself.
    key.0 as u64
}

fn shard(key: EventKey) -> usize {
    (key.0 >> 64) as usize % SHARDS
}

#[derive(Debug)]
pub struct Recent {
    open: Generation,
    /// Oldest first.
    closed: VecDeque<Arc<Generation>>,
}

impl Recent {
    /// Ids up to `after` are in the index.
    pub fn new(after: Seq) -> Self {
        Self { open: Generation::new(after, 0), closed: VecDeque::new() }
    }

    /// Ids after this record are here.
    pub fn floor(&self) -> Seq {
        self.closed.front().map_or(self.open.after, |oldest| oldest.after)
    }

    /// The last record that the open generation does not cover.
    pub fn opened_after(&self) -> Seq {
        self.open.after
    }

    /// Ids in the generation that takes new ones.
    pub fn open_ids(&self) -> usize {
        self.open.len()
    }

    pub fn insert(&mut self, key: EventKey, entry: IdEntry) {
        self.open.insert(key, entry);
    }

    /// Looks an id up among those of the open generation.
    pub fn get_open(&self, key: EventKey) -> Option<IdEntry> {
        self.open.get(key)
    }

    /// Looks an id up that the index did not have at `index_position`.
    pub fn get(&self, key: EventKey, index_position: Seq) -> Option<IdEntry> {
        self.open.get(key).or_else(|| {
            // The generation before the one that begins past `index_position` may reach past it too.
            let mut newest_first = self.closed.iter().rev();
            let mut next_after = self.open.after;
            newest_first.find_map(|generation| {
                let wanted = index_position < next_after;
                next_after = generation.after;
                if wanted { generation.get(key) } else { None }
            })
        })
    }

    /// Closes the open generation at `position`, and hands it to the store.
    pub fn close(&mut self, position: Seq) -> Arc<Generation> {
        let next = Generation::new(position, self.open.len());
        let closed = Arc::new(std::mem::replace(&mut self.open, next));
        self.closed.push_back(closed.clone());
        closed
    }

    /// The index has everything up to `position`. The newest closed generation is kept for batches under way.
    pub fn published(&mut self, position: Seq) {
        while self.closed.get(1).is_some_and(|next| next.after <= position) && self.closed.len() > 1 {
            self.closed.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Fingerprint;

    fn entry(seq: u64) -> IdEntry {
        IdEntry { seq: Seq(seq), fingerprint: Fingerprint(7) }
    }

    #[test]
    fn finds_an_id_in_every_generation_that_the_index_may_lack() {
        let mut recent = Recent::new(Seq(10));
        recent.insert(EventKey(1), entry(11));
        recent.close(Seq(11));
        recent.insert(EventKey(2), entry(12));
        recent.close(Seq(12));
        recent.insert(EventKey(3), entry(13));
        for (key, seq) in [(1, 11), (2, 12), (3, 13)] {
            assert_eq!(recent.get(EventKey(key), Seq(10)), Some(entry(seq)));
        }
        assert_eq!(recent.get(EventKey(1), Seq(11)), None, "the index had it");
        assert_eq!(recent.get(EventKey(2), Seq(11)), Some(entry(12)));
        assert_eq!(recent.get(EventKey(4), Seq(10)), None);
    }

    #[test]
    fn an_id_that_was_forgotten_and_came_again_has_its_newest_entry() {
        let mut recent = Recent::new(Seq(0));
        recent.insert(EventKey(1), entry(1));
        recent.insert(EventKey(1), entry(2));
        assert_eq!(recent.get(EventKey(1), Seq(0)), Some(entry(2)));
        assert_eq!(recent.close(Seq(2)).iter().collect::<Vec<_>>(), [(EventKey(1), entry(2))]);
        recent.insert(EventKey(1), entry(3));
        assert_eq!(recent.get(EventKey(1), Seq(0)), Some(entry(3)));
    }

    #[test]
    fn keeps_a_published_generation_for_one_more_epoch() {
        let mut recent = Recent::new(Seq(0));
        recent.insert(EventKey(1), entry(1));
        recent.close(Seq(1));
        recent.published(Seq(1));
        assert_eq!(recent.floor(), Seq(0), "batches that asked before it was published are under way");
        recent.insert(EventKey(2), entry(2));
        recent.close(Seq(2));
        assert_eq!(recent.floor(), Seq(0), "not yet published");
        recent.published(Seq(2));
        assert_eq!(recent.floor(), Seq(1));
        assert_eq!(recent.get(EventKey(2), Seq(1)), Some(entry(2)));
    }
}
