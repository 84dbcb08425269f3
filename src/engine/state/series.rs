//! The table of series: one per (tenant, customer, meter, dimension values), each with its windows in memory.
//!
//! 1. A series' number never changes while the process lives, so a reader can go on where it stopped.
//! 2. Tables are split 64 ways and the slab grows by chunks: no single growth stops the writer for long.
//! 3. The series of one customer form a chain, newest first: a customer's numbers need no scan.

use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::engine::hash::TableHasher;
use crate::engine::key;
use crate::meter::Aggregate;
use crate::model::{MeterId, Timestamp, Window};

const SHARDS: usize = 64;
const CHUNK: usize = 1 << 12;
const CHAIN_END: u32 = u32::MAX;

/// A counter: what one series came to in one window.
#[derive(Clone, Debug)]
pub struct Counter {
    pub window: Window,
    pub event_count: u64,
    pub revision: u32,
    /// The epoch that changed it last and has not yet been written out; 0: nothing to write.
    pub(super) dirty_epoch: u32,
    pub aggregate: Aggregate,
}

#[derive(Debug)]
pub struct Series {
    /// Most names fit in here, beside the counters they lead to: one place in memory to fetch instead of two.
    pub key: SmallVec<[u8; 64]>,
    hash: u64,
    customer_hash: u64,
    next_of_customer: u32,
    customer_prefix: u16,
    pub meter: MeterId,
    /// Sorted by start.
    pub counters: SmallVec<[Counter; 1]>,
}

impl Series {
    /// `Ok`: where the window's counter is; `Err`: where it would go. Newest first, as most events are.
    pub fn find(&self, start: Timestamp) -> Result<usize, usize> {
        match self.counters.last() {
            Some(last) if last.window.start == start => Ok(self.counters.len() - 1),
            Some(last) if last.window.start < start => Err(self.counters.len()),
            _ => self.counters.binary_search_by_key(&start, |counter| counter.window.start),
        }
    }

    fn customer_key(&self) -> &[u8] {
        &self.key[..usize::from(self.customer_prefix)]
    }
}

#[derive(Debug)]
pub struct SeriesTable {
    hasher: TableHasher,
    by_name: Vec<HashTable<u32>>,
    by_customer: Vec<HashTable<u32>>,
    chunks: Vec<Vec<Series>>,
}

impl SeriesTable {
    pub fn new(hasher: TableHasher) -> Self {
        let tables = || (0..SHARDS).map(|_| HashTable::new()).collect();
        Self { hasher, by_name: tables(), by_customer: tables(), chunks: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    pub fn get(&self, number: u32) -> &Series {
        &self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }

    pub fn get_mut(&mut self, number: u32) -> &mut Series {
        &mut self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }

    pub fn find(&self, hash: u64, name: &[u8]) -> Option<u32> {
        self.by_name[shard(hash)].find(hash, |&number| self.get(number).key.as_slice() == name).copied()
    }

    /// Adds a series that is not there yet. `name` must be a whole series name.
    pub fn insert(&mut self, hash: u64, name: &[u8], meter: MeterId) -> u32 {
        let number = u32::try_from(self.len()).expect("the counter limit is far below 2^32 series");
        let customer_prefix = key::customer_prefix_len(name).expect("series names are written by this process");
        let customer_hash = self.hasher.hash(&name[..customer_prefix]);
        let next_of_customer = self.link_customer(customer_hash, &name[..customer_prefix], number);
        if self.chunks.last().is_none_or(|last| last.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let series = Series {
            key: SmallVec::from_slice(name),
            hash,
            customer_hash,
            next_of_customer,
            customer_prefix: u16::try_from(customer_prefix).expect("names are bounded at the door"),
            meter,
            counters: SmallVec::new(),
        };
        self.chunks.last_mut().expect("just pushed").push(series);
        let Self { by_name, chunks, .. } = self;
        by_name[shard(hash)].insert_unique(hash, number, |&other| at(chunks, other).hash);
        number
    }

    /// Makes `number` the head of its customer's chain; returns the head it replaces.
    fn link_customer(&mut self, hash: u64, customer: &[u8], number: u32) -> u32 {
        let Self { by_customer, chunks, .. } = self;
        let table = &mut by_customer[shard(hash)];
        if let Some(head) = table.find_mut(hash, |&head| at(chunks, head).customer_key() == customer) {
            return std::mem::replace(head, number);
        }
        // The new series is not in the slab yet, so its own hash is answered from here.
        table.insert_unique(
            hash,
            number,
            |&other| if other == number { hash } else { at(chunks, other).customer_hash },
        );
        CHAIN_END
    }

    /// The newest series of a customer.
    pub fn newest_of(&self, tenant: &str, customer: &str) -> Option<u32> {
        let mut name = Vec::with_capacity(64);
        key::put_customer(&mut name, tenant, customer);
        let hash = self.hasher.hash(&name);
        self.by_customer[shard(hash)].find(hash, |&head| self.get(head).customer_key() == name).copied()
    }

    /// The series of the same customer that came before this one.
    pub fn older_of_same_customer(&self, number: u32) -> Option<u32> {
        let next = self.get(number).next_of_customer;
        (next != CHAIN_END).then_some(next)
    }
}

fn shard(hash: u64) -> usize {
    // hashbrown takes the low bits for the bucket and the top seven for its tags.
    (hash >> 48) as usize % SHARDS
}

fn at(chunks: &[Vec<Series>], number: u32) -> &Series {
    &chunks[number as usize / CHUNK][number as usize % CHUNK]
}
