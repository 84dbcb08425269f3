//! "Was this id ever accepted?" from memory: *no* is certain, *yes* has to be looked up in the store.
//!
//! | part | size |
//! | --- | --- |
//! | block | 512 bits, one cache line; an id sets `PROBES` bits of one block |
//! | generation | 16 bits per id it has room for: 1 Mi ids, then 2, 4 … up to 32 Mi each; the newest takes the ids, older ones are sealed |
//! | filter | all generations, asked newest first |
//!
//! 1. An id that was inserted is found until it is forgotten: bits are only set, and a generation goes only once all its
//!    ids lie below the horizon.
//! 2. Readers take no lock and never wait. An insertion is seen by every reader that learned of it in any synchronised
//!    way (a published position, a channel, a lock): bits are relaxed, the hand-over orders them.
//! 3. Inserting never moves a bit: a full generation is followed by a new one, nothing is rehashed.
//! 4. Keys are keyed hashes, so nobody outside can choose ids that collide; their bits are used as they are.
//!
//! Why generations: the number of ids is not known ahead, and one table that doubles would stop the writer for as long
//! as copying takes. Why 16 bits: one new id in a thousand goes to the disk in vain, which costs less than parsing it.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::model::{EventKey, Seq};

#[cfg(test)]
mod tests;

/// Ids the first generation has room for, and each of the later ones at most.
const FIRST_IDS: u64 = 1 << 20;
const GENERATION_IDS_MAX: u64 = 32 << 20;
const BITS_PER_ID: u64 = 16;
const BLOCK_WORDS: usize = 8;
const BLOCK_BITS: u64 = 64 * BLOCK_WORDS as u64;
/// Bits set per id. Nine bits of the key choose each, so seven use up 63 of its upper 64.
const PROBES: u32 = 7;
const PROBE_BITS: u32 = BLOCK_BITS.ilog2();
/// Keys whose cache lines are fetched together.
const LOOK_AHEAD: usize = 32;

/// A growing set of ids without false negatives. Shared by reference: any thread asks, and one at a time inserts.
pub struct Filter {
    /// Oldest first; never empty.
    generations: ArcSwap<Vec<Arc<Generation>>>,
    writer: Mutex<Writer>,
}

struct Writer {
    newest: Arc<Generation>,
    /// Ids the newest still has room for.
    room: u64,
    ids: u64,
    /// The next generation, allocated ahead.
    spare: Option<Arc<Generation>>,
}

impl Default for Filter {
    fn default() -> Self {
        Self::new()
    }
}

impl Filter {
    pub fn new() -> Self {
        Self::with_room_for(0)
    }

    /// For ids known to come (those a store holds at start): one generation for all of them costs one probe instead of
    /// several.
    pub fn with_room_for(ids: u64) -> Self {
        let newest = Arc::new(Generation::new(ids.max(FIRST_IDS)));
        let writer = Writer { room: newest.capacity_ids, newest: Arc::clone(&newest), ids: 0, spare: None };
        Self { generations: ArcSwap::from_pointee(vec![newest]), writer: Mutex::new(writer) }
    }

    /// Takes ids that were accepted up to `last`. About 15 ns an id, and a pause of some 10 ms when a generation is full
    /// and `prepare` was not called.
    pub fn insert_many(&self, keys: impl IntoIterator<Item = EventKey>, last: Seq) {
        let mut writer = self.writer.lock();
        for key in keys {
            if writer.room == 0 {
                self.start_generation(&mut writer);
            }
            writer.newest.insert(key);
            writer.newest.last_seq.fetch_max(last.0, Ordering::Relaxed);
            writer.room -= 1;
            writer.ids += 1;
        }
    }

    /// Ids below `horizon` are forgotten: generations that hold nothing else go, but never the newest.
    pub fn drop_below(&self, horizon: Seq) {
        let _writer = self.writer.lock();
        let generations = self.generations.load();
        let (newest, sealed) = generations.split_last().expect("never empty");
        let is_live = |generation: &&Arc<Generation>| generation.last_seq.load(Ordering::Relaxed) >= horizon.0;
        let live: Vec<_> = sealed.iter().filter(is_live).chain([newest]).cloned().collect();
        if live.len() < generations.len() {
            self.generations.store(Arc::new(live));
        }
    }

    /// Allocates the next generation once the newest is three quarters full. Call now and then from a thread that may
    /// take its time: allocating 64 MiB takes a while, and should not happen inside `insert`.
    pub fn prepare(&self) {
        let needed = {
            let writer = self.writer.lock();
            let capacity = writer.newest.capacity_ids;
            (writer.spare.is_none() && writer.room <= capacity / 4).then(|| next_capacity(capacity))
        };
        if let Some(capacity) = needed {
            let spare = Arc::new(Generation::new(capacity));
            self.writer.lock().spare.get_or_insert(spare);
        }
    }

    /// Whether the id may have been inserted.
    #[cfg(test)]
    pub fn contains(&self, key: EventKey) -> bool {
        self.generations.load().iter().rev().any(|generation| generation.contains(key))
    }

    /// The same for many: `out` is cleared and gets one answer per key, in the order of `keys`. Cache lines are fetched
    /// ahead, so a key costs about a third of `contains`.
    pub fn contains_many(&self, keys: &[EventKey], out: &mut Vec<bool>) {
        out.clear();
        out.resize(keys.len(), false);
        let generations = self.generations.load();
        for (keys, out) in keys.chunks(LOOK_AHEAD).zip(out.chunks_mut(LOOK_AHEAD)) {
            for generation in generations.iter().rev() {
                generation.warm(keys);
                for (key, found) in keys.iter().zip(out.iter_mut()) {
                    *found |= generation.contains(*key);
                }
            }
        }
    }

    /// Insertions so far.
    #[cfg(test)]
    pub fn ids(&self) -> u64 {
        self.writer.lock().ids
    }

    /// Memory taken by the generations in use.
    #[cfg(test)]
    pub fn bytes(&self) -> u64 {
        self.generations.load().iter().map(|generation| generation.blocks.len() as u64 * BLOCK_BITS / 8).sum()
    }

    fn start_generation(&self, writer: &mut Writer) {
        let capacity = next_capacity(writer.newest.capacity_ids);
        writer.newest = writer.spare.take().unwrap_or_else(|| Arc::new(Generation::new(capacity)));
        writer.room = writer.newest.capacity_ids;
        let mut generations = Vec::clone(&self.generations.load());
        generations.push(Arc::clone(&writer.newest));
        self.generations.store(Arc::new(generations));
    }
}

fn next_capacity(ids: u64) -> u64 {
    (ids * 2).min(GENERATION_IDS_MAX)
}

/// One cache line.
#[derive(Default)]
#[repr(align(64))]
struct Block([AtomicU64; BLOCK_WORDS]);

struct Generation {
    blocks: Box<[Block]>,
    capacity_ids: u64,
    /// No id in it was accepted after this record.
    last_seq: AtomicU64,
}

impl Generation {
    fn new(capacity_ids: u64) -> Self {
        let blocks = (capacity_ids * BITS_PER_ID).div_ceil(BLOCK_BITS);
        let blocks = (0..blocks).map(|_| Block::default()).collect();
        Self { blocks, capacity_ids, last_seq: AtomicU64::new(0) }
    }

    /// Chosen by the key's lower half; the upper half chooses the bits.
    fn block(&self, key: EventKey) -> &Block {
        let lower = key.0 & u128::from(u64::MAX);
        &self.blocks[((lower * self.blocks.len() as u128) >> 64) as usize]
    }

    /// One writer at a time, so that a plain load and store lose no bit.
    fn insert(&self, key: EventKey) {
        let block = self.block(key);
        for (word, bit) in probes(key) {
            let word = &block.0[word];
            word.store(word.load(Ordering::Relaxed) | 1 << bit, Ordering::Relaxed);
        }
    }

    /// Without a branch: a mispredicted one costs more than the probes it saves.
    fn contains(&self, key: EventKey) -> bool {
        let block = self.block(key);
        probes(key).fold(1, |found, (word, bit)| found & block.0[word].load(Ordering::Relaxed) >> bit) & 1 == 1
    }

    /// Touches the keys' blocks, so that the cache misses overlap.
    fn warm(&self, keys: &[EventKey]) {
        black_box(keys.iter().fold(0, |seen, key| seen ^ self.block(*key).0[0].load(Ordering::Relaxed)));
    }
}

/// The word and the bit in it, for each probe.
fn probes(key: EventKey) -> impl Iterator<Item = (usize, u32)> {
    let upper = (key.0 >> 64) as u64;
    (0..PROBES).map(move |probe| {
        let place = (upper >> (probe * PROBE_BITS)) & (BLOCK_BITS - 1);
        ((place / 64) as usize, (place % 64) as u32)
    })
}
