//! Which counters changed since the store last took over, and what they looked like at that moment.
//!
//! An epoch is a stretch of the log that the store commits as one. When it is closed, the values of its changed counters
//! are wanted *as of that moment*, while the writer goes on. So they are copied out in slices, and a counter that is
//! about to change before its turn is copied first:
//!
//! | `Counter::dirty_epoch` | means |
//! | --- | --- |
//! | 0 | the store has it, or it is copied |
//! | the closing epoch | changed in it, not yet copied |
//! | the current epoch | changed since, listed in `dirty` |
//!
//! 1. Each counter is copied at most once an epoch, and the writer never waits for more than one slice.
//! 2. After `drain` has answered true, `images` is exactly the fold of the log up to the close.

use crate::engine::key;
use crate::engine::state::series::{Counter, Series, SeriesTable};
use crate::meter::{Aggregate, Definition};
use crate::model::{Timestamp, Window};
use crate::store::{Rows, Table};

/// What one call of `drain` copies at most, but for the last counter.
const DRAIN_BYTES: usize = 1 << 20;

/// A counter's place: its series, and its window's start (places inside a series move).
type CounterRef = (u32, Timestamp);

#[derive(Debug)]
pub struct Epoch {
    current: u32,
    dirty: Vec<CounterRef>,
    closing: Vec<CounterRef>,
    images: Rows,
    /// Rows that are only ever added (members of unique counters), of the current epoch.
    additions: Rows,
    scratch: (Vec<u8>, Vec<u8>),
}

impl Default for Epoch {
    fn default() -> Self {
        Self {
            current: 1,
            dirty: Vec::new(),
            closing: Vec::new(),
            images: Rows::default(),
            additions: Rows::default(),
            scratch: Default::default(),
        }
    }
}

impl Epoch {
    /// Must be called *before* a counter changes.
    pub fn touch(&mut self, number: u32, series: &mut Series, place: usize) {
        let counter = &mut series.counters[place];
        if counter.dirty_epoch == self.current {
            return;
        }
        let copy_first = counter.dirty_epoch != 0;
        counter.dirty_epoch = self.current;
        self.dirty.push((number, counter.window.start));
        if copy_first {
            self.copy(&series.key, &series.counters[place]);
        }
    }

    /// A new member of a unique counter: a row of its own, so that the counter's row stays small.
    pub fn add_member(&mut self, series_key: &[u8], start: Timestamp, member: u128) {
        let key = &mut self.scratch.0;
        counter_key(key, series_key, start);
        key.extend_from_slice(&member.to_be_bytes());
        self.additions.put(Table::Members, key, &[]);
    }

    /// Ends the current epoch here, with rows that belong to it. The previous one must be drained and taken.
    pub fn close(&mut self, meta: Rows) {
        debug_assert!(self.closing.is_empty() && self.images.is_empty(), "one epoch closes at a time");
        self.closing = std::mem::take(&mut self.dirty);
        self.images = std::mem::take(&mut self.additions);
        self.images.append(&meta);
        self.current += 1;
    }

    /// Copies up to `limit` counters of the closing epoch, or about 1 MiB of them; true once none is left.
    pub fn drain(&mut self, table: &mut SeriesTable, limit: usize) -> bool {
        let bytes_max = self.images.bytes() + DRAIN_BYTES;
        for _ in 0..limit {
            if self.images.bytes() > bytes_max {
                return false;
            }
            let Some((number, start)) = self.closing.pop() else { return true };
            let closing = self.current - 1;
            let series = table.get_mut(number);
            if let Ok(place) = series.find(start)
                && series.counters[place].dirty_epoch == closing
            {
                series.counters[place].dirty_epoch = 0;
                self.copy(&series.key, &series.counters[place]);
            }
        }
        self.closing.is_empty()
    }

    /// The rows of the epoch that was closed and drained.
    pub fn take(&mut self) -> Rows {
        debug_assert!(self.closing.is_empty(), "drain before take");
        std::mem::take(&mut self.images)
    }

    fn copy(&mut self, series_key: &[u8], counter: &Counter) {
        let (key, value) = &mut self.scratch;
        counter_key(key, series_key, counter.window.start);
        encode_counter(value, counter);
        self.images.put(Table::Counters, key, value);
    }
}

fn counter_key(out: &mut Vec<u8>, series_key: &[u8], start: Timestamp) {
    out.clear();
    out.extend_from_slice(series_key);
    key::put_start(out, start);
}

/// A counter row's value: window end i64, event count u64, revision u32 (all LE), then the aggregate.
fn encode_counter(out: &mut Vec<u8>, counter: &Counter) {
    out.clear();
    out.extend_from_slice(&counter.window.end.micros().to_le_bytes());
    out.extend_from_slice(&counter.event_count.to_le_bytes());
    out.extend_from_slice(&counter.revision.to_le_bytes());
    counter.aggregate.encode(out);
}

/// Reads what `encode_counter` wrote, and how many member rows belong to it; `None` when it is damaged.
pub fn decode_counter(start: Timestamp, value: &[u8], definition: &Definition) -> Option<(Counter, u32)> {
    let (end, rest) = value.split_first_chunk::<8>()?;
    let (event_count, rest) = rest.split_first_chunk::<8>()?;
    let (revision, rest) = rest.split_first_chunk::<4>()?;
    let (aggregate, members) = Aggregate::decode(rest, definition).ok()?;
    let counter = Counter {
        window: Window { start, end: Timestamp::from_micros(i64::from_le_bytes(*end)).ok()? },
        event_count: u64::from_le_bytes(*event_count),
        revision: u32::from_le_bytes(*revision),
        dirty_epoch: 0,
        aggregate,
    };
    Some((counter, members))
}
