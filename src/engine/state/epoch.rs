//! Which counters changed since the store last took over, and what they looked like at that moment.
//!
//! Windows and period counters alike; "counter" means either.
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
//! 3. A window that became final goes from the table of counters to that of windows, in one commit.

use crate::engine::record::Genesis;
use crate::engine::state::codec::{
    IN_ORIGINAL, RowContext, counter_key, encode_counter, encode_period, encode_window, period_key, put_period_member,
};
use crate::engine::state::incarnation_of;
use crate::engine::state::periods::{PeriodId, Periods};
use crate::engine::state::series::{Base, Counter, PeriodCounter, Series, SeriesTable};
use crate::meter::Definition;
use crate::model::{Incarnation, Timestamp, Window};
use crate::store::{Rows, Table};

/// What one call of `drain` copies at most, but for the last counter.
const DRAIN_BYTES: usize = 1 << 20;

/// A counter's place, good as long as its series is in memory (places inside a series move).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterRef {
    Window(u32, Timestamp),
    Period(u32, PeriodId),
}

#[derive(Debug)]
pub struct Epoch {
    current: u32,
    dirty: Vec<CounterRef>,
    closing: Vec<CounterRef>,
    /// What may leave memory once the store has the epoch: it is final, or was only called back.
    leaving: [Vec<CounterRef>; 2],
    /// Period counters that the store has no row of yet, by the epoch that brings it: the current, and the one before.
    new_periods: [Vec<(u32, PeriodId)>; 2],
    images: Rows,
    /// Rows that are only ever added (members, adjustments), of the current epoch.
    additions: Rows,
    scratch: (Vec<u8>, Vec<u8>),
}

/// What counters need to become rows.
#[derive(Clone, Copy)]
pub struct Naming<'a> {
    pub definitions: &'a [Definition],
    pub periods: &'a Periods,
    pub incarnation: Incarnation,
}

impl<'a> Naming<'a> {
    pub fn new(definitions: &'a [Definition], periods: &'a Periods, genesis: Option<&Genesis>) -> Self {
        Self { definitions, periods, incarnation: incarnation_of(genesis) }
    }

    fn of(&self, series: &Series) -> RowContext<'a> {
        RowContext { definition: &self.definitions[usize::from(series.meter.0)], incarnation: self.incarnation }
    }
}

impl Default for Epoch {
    fn default() -> Self {
        Self {
            current: 1,
            dirty: Vec::new(),
            closing: Vec::new(),
            leaving: Default::default(),
            new_periods: Default::default(),
            images: Rows::default(),
            additions: Rows::default(),
            scratch: Default::default(),
        }
    }
}

impl Epoch {
    /// Must be called *before* a window's counter changes.
    pub fn touch(&mut self, naming: Naming<'_>, number: u32, series: &mut Series, place: usize) {
        let counter = &mut series.counters[place];
        if counter.dirty_epoch == self.current {
            return;
        }
        let copy_first = counter.dirty_epoch != 0;
        counter.dirty_epoch = self.current;
        self.dirty.push(CounterRef::Window(number, counter.window.start));
        if copy_first {
            self.copy_window(naming, series, place);
        }
    }

    /// Must be called *before* a period counter changes.
    pub fn touch_period(&mut self, naming: Naming<'_>, number: u32, series: &mut Series, place: usize) {
        let counter = &mut series.periods[place];
        if counter.dirty_epoch == self.current {
            return;
        }
        let copy_first = counter.dirty_epoch != 0;
        counter.dirty_epoch = self.current;
        self.dirty.push(CounterRef::Period(number, counter.period));
        if copy_first {
            self.copy_period(naming, series, place);
        }
    }

    /// A period counter was made.
    pub fn add_period(&mut self, number: u32, period: PeriodId) {
        self.new_periods[0].push((number, period));
    }

    /// Period counters that the store may not have a row of yet.
    pub fn new_periods(&self) -> impl Iterator<Item = (u32, PeriodId)> {
        self.new_periods.iter().flatten().copied()
    }

    /// The window may leave memory once the store has this epoch, if it is not let go again after that. To be called
    /// whenever a final counter comes or changes.
    pub fn let_go(&mut self, number: u32, counter: &mut Counter) {
        if std::mem::replace(&mut counter.leaves_with, self.current) != self.current {
            self.leaving[0].push(CounterRef::Window(number, counter.window.start));
        }
    }

    /// The same for a period counter.
    pub fn let_go_period(&mut self, number: u32, counter: &mut PeriodCounter) {
        if std::mem::replace(&mut counter.leaves_with, self.current) != self.current {
            self.leaving[0].push(CounterRef::Period(number, counter.period));
        }
    }

    /// How many counters were let go in this epoch.
    pub fn leaving_len(&self) -> usize {
        self.leaving[0].len()
    }

    /// The store has the closed epoch: its number, and the counters that were let go in it.
    pub fn committed(&mut self) -> (u32, Vec<CounterRef>) {
        self.new_periods[1] = Vec::new();
        (self.current - 1, std::mem::take(&mut self.leaving[1]))
    }

    /// A new member of a unique counter: a row of its own, so that the counter's row stays small.
    pub fn add_member(&mut self, series_key: &[u8], start: Timestamp, member: u128) {
        let key = &mut self.scratch.0;
        counter_key(key, series_key, start);
        key.extend_from_slice(&member.to_be_bytes());
        self.additions.put(Table::Members, key, &[]);
    }

    /// New members of a period counter, in its total or its original.
    pub fn add_period_members(
        &mut self,
        (series_key, label, bounds): (&[u8], &str, Window),
        set: u8,
        members: impl Iterator<Item = u128>,
    ) {
        let key = &mut self.scratch.0;
        period_key(key, series_key, label, bounds);
        let length = key.len();
        for member in members {
            key.truncate(length);
            put_period_member(key, set, member);
            self.additions.put(Table::PeriodMembers, key, &[]);
        }
    }

    /// A period counter's total, as its windows made it, before the first adjustment changes it.
    pub fn keep_original(&mut self, name: (&[u8], &str, Window), base: &mut Base) {
        if base.original.is_none() {
            self.add_period_members(name, IN_ORIGINAL, base.aggregate.members());
            base.original = Some(base.aggregate.clone());
        }
    }

    /// Any other row that is only ever added.
    pub fn add_row(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.additions.put(table, key, value);
    }

    /// The row goes, whether it was put before or not.
    pub fn delete_row(&mut self, table: Table, key: &[u8]) {
        self.additions.delete(table, key);
    }

    /// The rows from `from` to before `to` go, and are never written again.
    pub fn delete_range(&mut self, table: Table, from: &[u8], to: &[u8]) {
        self.additions.delete_range(table, from, to);
    }

    /// Copies every changed counter now, as it is: what its row says beside its value is about to change.
    pub fn settle(&mut self, naming: Naming<'_>, table: &mut SeriesTable) {
        while !self.drain(naming, table, usize::MAX) {}
        // What the current epoch has changed so far goes with its own rows; a later change puts it once more.
        let closing = std::mem::take(&mut self.images);
        self.images = std::mem::take(&mut self.additions);
        for counter in std::mem::take(&mut self.dirty) {
            self.copy(naming, table, counter, self.current);
        }
        self.additions = std::mem::replace(&mut self.images, closing);
    }

    /// Ends the current epoch here, with rows that belong to it. The previous one must be drained and taken.
    pub fn close(&mut self, meta: &Rows) {
        debug_assert!(self.closing.is_empty() && self.images.is_empty(), "one epoch closes at a time");
        self.closing = std::mem::take(&mut self.dirty);
        self.images = std::mem::take(&mut self.additions);
        self.images.append(meta);
        self.leaving.swap(0, 1);
        self.new_periods.swap(0, 1);
        debug_assert!(self.leaving[0].is_empty() && self.new_periods[0].is_empty(), "the last epoch was taken over");
        self.current += 1;
    }

    /// Copies up to `limit` counters of the closing epoch, or about 1 MiB of them; true once none is left.
    pub fn drain(&mut self, naming: Naming<'_>, table: &mut SeriesTable, limit: usize) -> bool {
        let bytes_max = self.images.bytes() + DRAIN_BYTES;
        let closing = self.current - 1;
        for _ in 0..limit {
            if self.images.bytes() > bytes_max {
                return false;
            }
            match self.closing.pop() {
                None => return true,
                Some(counter) => self.copy(naming, table, counter, closing),
            }
        }
        self.closing.is_empty()
    }

    /// Copies a counter that changed in this epoch and was not copied yet.
    fn copy(&mut self, naming: Naming<'_>, table: &mut SeriesTable, counter: CounterRef, epoch: u32) {
        let (CounterRef::Window(number, _) | CounterRef::Period(number, _)) = counter;
        let series = table.get_mut(number);
        match counter {
            CounterRef::Window(_, start) => {
                if let Ok(place) = series.find(start)
                    && series.counters[place].dirty_epoch == epoch
                {
                    series.counters[place].dirty_epoch = 0;
                    self.copy_window(naming, series, place);
                }
            }
            CounterRef::Period(_, period) => {
                if let Some(place) = series.find_period(period)
                    && series.periods[place].dirty_epoch == epoch
                {
                    series.periods[place].dirty_epoch = 0;
                    self.copy_period(naming, series, place);
                }
            }
        }
    }

    /// The rows of the epoch that was closed and drained.
    pub fn take(&mut self) -> Rows {
        debug_assert!(self.closing.is_empty(), "drain before take");
        std::mem::take(&mut self.images)
    }

    fn copy_window(&mut self, naming: Naming<'_>, series: &mut Series, place: usize) {
        let (key, value) = &mut self.scratch;
        let context = naming.of(series);
        let Series { key: name, counters, .. } = series;
        let counter = &mut counters[place];
        counter_key(key, name, counter.window.start);
        if counter.is_final {
            if std::mem::take(&mut counter.has_row) {
                self.images.delete(Table::Counters, key);
            }
            encode_window(value, name, counter, context);
            self.images.put(Table::Windows, key, value);
        } else {
            counter.has_row = true;
            encode_counter(value, counter);
            self.images.put(Table::Counters, key, value);
        }
    }

    fn copy_period(&mut self, naming: Naming<'_>, series: &Series, place: usize) {
        let (key, value) = &mut self.scratch;
        let counter = &series.periods[place];
        let period = &naming.periods.get(counter.period).period;
        period_key(key, &series.key, &period.label.to_string(), period.bounds);
        encode_period(value, &series.key, period.bounds, counter, naming.of(series));
        self.images.put(Table::Periods, key, value);
    }
}
