//! The table of series: one per (tenant, customer, meter, dimension values), each with its windows in memory.
//!
//! 1. A series' number never changes while it is in memory. The number of one that left is used again, but not while a
//!    reader holds a pin that is older.
//! 2. Tables are split 64 ways and the slab grows by chunks: no single growth stops the writer for long.
//! 3. The series of one customer form a chain, newest first: a customer's numbers need no scan.

use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::engine::hash::TableHasher;
use crate::engine::key;
use crate::engine::state::codec::{IN_ORIGINAL, IN_TOTAL};
use crate::engine::state::periods::PeriodId;
use crate::meter::{Aggregate, Definition};
use crate::model::{MeterId, Quantity, Timestamp, Window};

const SHARDS: usize = 64;
const CHUNK: usize = 1 << 12;
const CHAIN_END: u32 = u32::MAX;

/// A counter: what one series came to in one window.
#[derive(Clone, Debug)]
pub struct Counter {
    pub window: Window,
    pub event_count: u64,
    /// How often it was made known as final.
    pub revision: u32,
    /// The epoch that changed it last and has not yet been written out; 0: nothing to write.
    pub(super) dirty_epoch: u32,
    /// The billing period it lies in.
    pub period: PeriodId,
    pub is_final: bool,
    /// It has a row among the store's counters.
    pub(super) has_row: bool,
    /// The epoch in which it was last let go.
    pub(super) leaves_with: u32,
    /// When it became final, or was adjusted last. Of no meaning before.
    pub changed_at: Timestamp,
    pub aggregate: Aggregate,
}

/// What the final windows of one series came to in one billing period. Open windows are merged in when it is read.
#[derive(Clone, Debug)]
pub struct PeriodCounter {
    pub period: PeriodId,
    /// How often it was made known as final.
    pub revision: u32,
    pub(super) dirty_epoch: u32,
    pub is_final: bool,
    /// The epoch in which it was last let go.
    pub(super) leaves_with: u32,
    /// The customer's hard cap for such periods when this one became final.
    pub hard: Option<Quantity>,
    /// None until the first of its windows is final.
    pub base: Option<Box<Base>>,
}

/// The final windows of a period counter.
#[derive(Clone, Debug)]
pub struct Base {
    pub event_count: u64,
    /// Events that came too late for their windows; they are counted above, too.
    pub late_count: u64,
    /// Events of final windows that were taken back; they are counted above no more, but in `original` still.
    pub taken_count: u64,
    /// Adjustments that took them back.
    pub taken_adjustments: u64,
    /// When a window was added, or an adjustment, last.
    pub changed_at: Timestamp,
    pub aggregate: Aggregate,
    /// Without the adjustments; none if there are none.
    pub original: Option<Aggregate>,
}

impl Counter {
    /// A counter that nothing was added to.
    pub fn new(window: Window, period: PeriodId, definition: &Definition) -> Self {
        Self {
            window,
            event_count: 0,
            revision: 0,
            dirty_epoch: 0,
            period,
            is_final: false,
            has_row: false,
            leaves_with: 0,
            changed_at: Timestamp::MIN,
            aggregate: Aggregate::new(definition),
        }
    }

    pub fn value(&self) -> Option<Quantity> {
        self.aggregate.value(self.event_count)
    }
}

impl PeriodCounter {
    /// A period counter without a final window.
    pub fn new(period: PeriodId) -> Self {
        Self { period, revision: 0, dirty_epoch: 0, is_final: false, leaves_with: 0, hard: None, base: None }
    }

    /// Members of its exact sets.
    pub fn exact_members(&self) -> i64 {
        let Some(base) = &self.base else { return 0 };
        base.aggregate.exact_members() + base.original.as_ref().map_or(0, Aggregate::exact_members)
    }
}

impl Base {
    /// Of its windows, since each of them was final.
    pub fn adjustments(&self) -> u64 {
        self.late_count + self.taken_adjustments
    }

    /// Events of `original`, if there is one.
    pub fn original_count(&self) -> u64 {
        (self.event_count + self.taken_count).saturating_sub(self.late_count)
    }

    pub fn new(definition: &Definition) -> Self {
        let aggregate = Aggregate::new(definition);
        let changed_at = Timestamp::MIN;
        let (event_count, late_count, taken_count, taken_adjustments) = (0, 0, 0, 0);
        Self { event_count, late_count, taken_count, taken_adjustments, changed_at, aggregate, original: None }
    }

    /// Its totals, each with the mark that its members' rows have.
    pub fn sets(&mut self) -> impl Iterator<Item = (u8, &mut Aggregate)> {
        let original = self.original.as_mut().map(|original| (IN_ORIGINAL, original));
        std::iter::once((IN_TOTAL, &mut self.aggregate)).chain(original)
    }
}

#[derive(Debug)]
pub struct Series {
    /// Most names fit in here, beside the counters they lead to: one place in memory to fetch instead of two.
    pub key: SmallVec<[u8; 64]>,
    hash: u64,
    customer_hash: u64,
    /// The series of the same customer that was added before this one, and the one after.
    older: u32,
    newer: u32,
    customer_prefix: u16,
    pub meter: MeterId,
    /// What caps count it in; `u32::MAX`: nothing does.
    pub account: u32,
    /// Sorted by start.
    pub counters: SmallVec<[Counter; 1]>,
    pub periods: SmallVec<[PeriodCounter; 1]>,
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

    pub fn period(&self, period: PeriodId) -> Option<&PeriodCounter> {
        self.periods.iter().find(|counter| counter.period == period)
    }

    pub fn find_period(&self, period: PeriodId) -> Option<usize> {
        self.periods.iter().position(|counter| counter.period == period)
    }

    pub fn is_empty(&self) -> bool {
        self.counters.is_empty() && self.periods.is_empty()
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
    /// Numbers of series that have left.
    free: Vec<u32>,
}

impl SeriesTable {
    pub fn new(hasher: TableHasher) -> Self {
        let tables = || (0..SHARDS).map(|_| HashTable::new()).collect();
        Self { hasher, by_name: tables(), by_customer: tables(), chunks: Vec::new(), free: Vec::new() }
    }

    /// One more than the highest number.
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
        let next = || u32::try_from(self.len()).expect("the counter limit is far below 2^32 series");
        let number = self.free.last().copied().unwrap_or_else(next);
        let customer_prefix = key::customer_prefix_len(name).expect("series names are written by this process");
        let customer_hash = self.hasher.hash(&name[..customer_prefix]);
        let older = self.link_customer(customer_hash, &name[..customer_prefix], number);
        let series = Series {
            key: SmallVec::from_slice(name),
            hash,
            customer_hash,
            older,
            newer: CHAIN_END,
            customer_prefix: u16::try_from(customer_prefix).expect("names are bounded at the door"),
            meter,
            account: u32::MAX,
            counters: SmallVec::new(),
            periods: SmallVec::new(),
        };
        if self.free.pop().is_some() {
            *self.get_mut(number) = series;
        } else {
            if self.chunks.last().is_none_or(|last| last.len() == CHUNK) {
                self.chunks.push(Vec::with_capacity(CHUNK));
            }
            self.chunks.last_mut().expect("just pushed").push(series);
        }
        let Self { by_name, chunks, .. } = self;
        by_name[shard(hash)].insert_unique(hash, number, |&other| at(chunks, other).hash);
        number
    }

    /// Takes out a series that holds nothing any more. A reader that stands on it still finds its way on; its number goes to
    /// another one once it is released.
    pub fn remove(&mut self, number: u32) {
        let series = self.get_mut(number);
        debug_assert!(series.is_empty(), "a series leaves once its counters have left");
        let (hash, customer_hash, older, newer) = (series.hash, series.customer_hash, series.older, series.newer);
        series.key = SmallVec::new();
        let found = self.by_name[shard(hash)].find_entry(hash, |&other| other == number);
        found.expect("every series is found by its name").remove();
        if older != CHAIN_END {
            self.get_mut(older).newer = newer;
        }
        if newer != CHAIN_END {
            self.get_mut(newer).older = older;
        } else {
            let head = self.by_customer[shard(customer_hash)].find_entry(customer_hash, |&head| head == number);
            let head = head.expect("the newest series of a customer is its head");
            if older == CHAIN_END {
                head.remove();
            } else {
                *head.into_mut() = older;
            }
        }
    }

    /// No reader stands on a series that was removed any more.
    pub fn release(&mut self, number: u32) {
        self.free.push(number);
    }

    /// Makes `number` the head of its customer's chain; returns the head it replaces.
    fn link_customer(&mut self, hash: u64, customer: &[u8], number: u32) -> u32 {
        let Self { by_customer, chunks, .. } = self;
        let table = &mut by_customer[shard(hash)];
        if let Some(head) = table.find_mut(hash, |&head| at(chunks, head).customer_key() == customer) {
            let older = std::mem::replace(head, number);
            self.get_mut(older).newer = number;
            return older;
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
        self.newest_of_name(&name)
    }

    /// The same, by the beginning of the series' names.
    pub fn newest_of_name(&self, name: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash(name);
        self.by_customer[shard(hash)].find(hash, |&head| self.get(head).customer_key() == name).copied()
    }

    /// The series of the same customer that came before this one.
    pub fn older_of_same_customer(&self, number: u32) -> Option<u32> {
        let next = self.get(number).older;
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
