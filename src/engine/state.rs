//! The fold: what the log came to so far. PURE: a record goes in, the state changes, and that is all.
//!
//! The same `apply` runs live, at recovery, in `verify` and in the simulation.
//!
//! 1. `apply` folds decisions and makes none: whether an event counts was settled when it was written.
//! 2. It reads no clock, no config, no random number, and depends on no hash order.
//! 3. `check` tells beforehand whether an event can be applied whole; `apply` of such an event cannot fail.

use std::collections::BTreeMap;

use crate::engine::hash::TableHasher;
use crate::engine::key;
use crate::engine::record::{Events, Genesis, Record, RecordError, Tally};
use crate::meter::{Aggregate, Definition, Refusal, Value};
use crate::model::{Code, EventKey, IdEntry, MeterId, Seq, Timestamp, Window};
use crate::store::Rows;

mod clock;
mod epoch;
mod rows;
mod series;

pub use clock::LogClock;
pub use rows::LoadError;
pub use series::{Counter, Series};

use clock::MarkChange;
use epoch::Epoch;
use series::SeriesTable;

/// What one tenant's events came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantTotals {
    pub accepted: u64,
    pub not_taken: Tally,
}

pub struct State {
    position: Seq,
    genesis: Option<Genesis>,
    definitions: Vec<Definition>,
    /// Since they were last written to the store.
    definitions_changed: bool,
    clock: LogClock,
    tenants: BTreeMap<Box<str>, TenantTotals>,
    hasher: TableHasher,
    table: SeriesTable,
    open_counters: u64,
    /// Members of exact unique counters, all together.
    members: u64,
    epoch: Epoch,
    mark_changes: Vec<MarkChange>,
}

/// What an event adds to one series.
#[derive(Clone, Copy, Debug)]
pub struct Feed<'a> {
    pub meter: MeterId,
    pub window: Window,
    pub value: Value,
    /// The series' name and its table hash.
    pub key: &'a [u8],
    pub hash: u64,
}

/// How much the state may hold; what would exceed it is refused.
#[derive(Clone, Copy, Debug)]
pub struct StateLimits {
    pub open_counters_max: u64,
    pub unique_members_max: u64,
}

/// Where a feed goes: the series, if it is there, and the counter in it.
#[derive(Clone, Copy, Debug)]
pub struct Located {
    series: Option<u32>,
    counter: Result<usize, usize>,
}

/// A log that cannot be folded: it was written by something else, or is damaged where checksums cannot tell.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("record {0} names a meter that the log has not defined")]
    UnknownMeter(Seq),
    #[error("record {0} does not fit the counter it goes to")]
    DoesNotFit(Seq),
    #[error("record {0} does not belong where it stands")]
    OutOfPlace(Seq),
}

impl State {
    pub fn new(hasher: TableHasher) -> Self {
        Self {
            position: Seq::ZERO,
            genesis: None,
            definitions: Vec::new(),
            definitions_changed: false,
            clock: LogClock::default(),
            tenants: BTreeMap::new(),
            table: SeriesTable::new(hasher.clone()),
            hasher,
            open_counters: 0,
            members: 0,
            epoch: Epoch::default(),
            mark_changes: Vec::new(),
        }
    }

    /// The newest record that is folded in.
    pub fn position(&self) -> Seq {
        self.position
    }

    pub fn genesis(&self) -> Option<&Genesis> {
        self.genesis.as_ref()
    }

    /// By `MeterId`, as last recorded.
    pub fn definitions(&self) -> &[Definition] {
        &self.definitions
    }

    pub fn clock(&self) -> &LogClock {
        &self.clock
    }

    pub fn tenants(&self) -> &BTreeMap<Box<str>, TenantTotals> {
        &self.tenants
    }

    pub fn open_counters(&self) -> u64 {
        self.open_counters
    }

    pub fn series_len(&self) -> usize {
        self.table.len()
    }

    pub fn series(&self, number: u32) -> &Series {
        self.table.get(number)
    }

    pub fn find_series(&self, name: &[u8]) -> Option<&Series> {
        self.table.find(self.hasher.hash(name), name).map(|number| self.table.get(number))
    }

    /// The head of a customer's chain of series.
    pub fn newest_series_of(&self, tenant: &str, customer: &str) -> Option<u32> {
        self.table.newest_of(tenant, customer)
    }

    /// The next in the chain.
    pub fn older_series_of_same_customer(&self, number: u32) -> Option<u32> {
        self.table.older_of_same_customer(number)
    }

    /// Where a feed goes.
    pub fn locate(&self, feed: &Feed<'_>) -> Located {
        self.locate_in(feed, self.table.find(feed.hash, feed.key))
    }

    /// The same, after other events were applied since `before` was found: numbers stay, places may have moved.
    pub fn locate_again(&self, feed: &Feed<'_>, before: Located) -> Located {
        match (before.series, before.counter) {
            (None, _) => self.locate(feed),
            (Some(number), Ok(place)) if self.table.get(number).counters[place].window.start == feed.window.start => {
                before
            }
            (series, _) => self.locate_in(feed, series),
        }
    }

    fn locate_in(&self, feed: &Feed<'_>, series: Option<u32>) -> Located {
        let counter = series.map_or(Err(0), |number| self.table.get(number).find(feed.window.start));
        Located { series, counter }
    }

    /// Whether every feed of an event can be applied; `located` must be from this very state.
    pub fn check<'a>(
        &self,
        feeds: impl Iterator<Item = (Feed<'a>, Located)>,
        limits: &StateLimits,
    ) -> Result<(), (Code, String)> {
        let mut open_counters = self.open_counters;
        let mut members = self.members;
        for (feed, located) in feeds {
            let definition = &self.definitions[usize::from(feed.meter.0)];
            let refusal = match (located.series, located.counter) {
                (Some(number), Ok(place)) => self.table.get(number).counters[place].aggregate.check(feed.value).err(),
                _ => {
                    open_counters += 1;
                    if open_counters > limits.open_counters_max {
                        let detail = format!("limits.open_counters = {} is reached", limits.open_counters_max);
                        return Err((Code::CounterLimit, detail));
                    }
                    Aggregate::new(definition).check(feed.value).err()
                }
            };
            members += u64::from(matches!(feed.value, Value::Member(_)));
            if members > limits.unique_members_max && matches!(feed.value, Value::Member(_)) {
                let detail = format!("limits.unique_members = {} is reached", limits.unique_members_max);
                return Err((Code::UniqueLimit, detail));
            }
            if let Some(refusal) = refusal {
                return Err((code_of(refusal), format!("meter {}: {refusal}", definition.slug)));
            }
        }
        Ok(())
    }

    /// Adds one event that was checked, or that the log says was accepted.
    pub fn apply_feed(
        &mut self,
        (at, seq): (Timestamp, Seq),
        feed: &Feed<'_>,
        located: Located,
    ) -> Result<(), FoldError> {
        let definition = self.definitions.get(usize::from(feed.meter.0)).ok_or(FoldError::UnknownMeter(seq))?;
        let number = located.series.unwrap_or_else(|| self.table.insert(feed.hash, feed.key, feed.meter));
        let series = self.table.get_mut(number);
        let place = located.counter.unwrap_or_else(|place| {
            let aggregate = Aggregate::new(definition);
            let counter = Counter { window: feed.window, event_count: 0, revision: 0, dirty_epoch: 0, aggregate };
            series.counters.insert(place, counter);
            self.open_counters += 1;
            place
        });
        self.clock.saw_event(at);
        self.epoch.touch(number, series, place);
        let counter = &mut series.counters[place];
        let added = counter.aggregate.add(feed.value, at, seq).map_err(|_| FoldError::DoesNotFit(seq))?;
        counter.event_count += 1;
        if added.became_approximate {
            self.members = self.members.saturating_sub(u64::from(definition.unique_members_max));
        }
        if let (true, Value::Member(member)) = (added.new_member, feed.value) {
            self.members += 1;
            self.epoch.add_member(&series.key, feed.window.start, member);
        }
        Ok(())
    }

    /// Folds a record in; `accepted` hears of every id it takes.
    pub fn apply(
        &mut self,
        first: Seq,
        record: &Record<'_>,
        accepted: &mut dyn FnMut(EventKey, IdEntry),
    ) -> Result<(), FoldError> {
        if first != self.position.next() {
            return Err(FoldError::OutOfPlace(first));
        }
        match record {
            Record::Genesis(genesis) => self.genesis = Some(*genesis),
            Record::MeterVersion(meter, definition) => self.define(first, *meter, definition)?,
            Record::Events(events) => return self.apply_events(first, events, accepted),
            Record::Tick { effective, horizon } => self.tick(*effective, *horizon, first),
            Record::Tally { tenant, tally } => self.tenant(tenant).not_taken.add(tally),
        }
        self.position = first;
        Ok(())
    }

    /// Events at `first` begin: their receipt moves effective time.
    pub fn begin_events(&mut self, first: Seq, received_at: Timestamp) {
        let change = self.clock.advance(received_at, first);
        self.mark_changes.extend(change);
    }

    /// So many events of a tenant were applied, up to this record.
    pub fn end_events(&mut self, tenant: &str, count: u64, last: Seq) {
        self.tenant(tenant).accepted += count;
        self.position = last;
    }

    fn apply_events(
        &mut self,
        first: Seq,
        events: &Events<'_>,
        accepted: &mut dyn FnMut(EventKey, IdEntry),
    ) -> Result<(), FoldError> {
        self.begin_events(first, events.received_at);
        let (mut seq, mut name) = (self.position, Vec::with_capacity(128));
        for event in events.iter() {
            let event = event?;
            seq = seq.next();
            for feed in &event.feeds {
                let slug =
                    self.definitions.get(usize::from(feed.meter.0)).ok_or(FoldError::UnknownMeter(seq))?.slug.as_str();
                name.clear();
                key::put_customer(&mut name, events.tenant, event.customer);
                key::put_meter(&mut name, slug, feed.dimensions.iter().copied());
                let hash = self.hasher.hash(&name);
                let feed = Feed { meter: feed.meter, window: feed.window, value: feed.value, key: &name, hash };
                let located = self.locate(&feed);
                self.apply_feed((event.timestamp, seq), &feed, located)?;
            }
            accepted(event.key, IdEntry { seq, fingerprint: event.fingerprint });
        }
        self.end_events(events.tenant, u64::from(events.count), seq);
        Ok(())
    }

    fn define(&mut self, seq: Seq, meter: MeterId, definition: &Definition) -> Result<(), FoldError> {
        let place = usize::from(meter.0);
        if place > self.definitions.len() {
            return Err(FoldError::OutOfPlace(seq));
        }
        match self.definitions.get_mut(place) {
            Some(known) => *known = definition.clone(),
            None => self.definitions.push(definition.clone()),
        }
        self.definitions_changed = true;
        // Counters that are already there go by the new limits too, as they would once reloaded.
        for number in 0..self.table.len() {
            let series = self.table.get_mut(number as u32);
            if series.meter == meter {
                series.counters.iter_mut().for_each(|counter| counter.aggregate.set_limits(definition));
            }
        }
        Ok(())
    }

    fn tick(&mut self, effective: Timestamp, horizon: Seq, seq: Seq) {
        let added = self.clock.advance(effective, seq);
        self.mark_changes.extend(added);
        let dropped = self.clock.raise_horizon(horizon);
        self.mark_changes.extend(dropped);
    }

    fn tenant(&mut self, tenant: &str) -> &mut TenantTotals {
        if !self.tenants.contains_key(tenant) {
            self.tenants.insert(tenant.into(), TenantTotals::default());
        }
        self.tenants.get_mut(tenant).expect("just inserted")
    }

    /// Ends the epoch here; its counters are then copied out by `drain_epoch`.
    pub fn close_epoch(&mut self) {
        let mut meta = Rows::default();
        self.put_meta(&mut meta);
        self.epoch.close(meta);
    }

    /// Copies up to `limit` counters of the closed epoch; true once all are copied.
    pub fn drain_epoch(&mut self, limit: usize) -> bool {
        self.epoch.drain(&mut self.table, limit)
    }

    /// The counters of the closed and drained epoch, as rows.
    pub fn take_epoch(&mut self) -> Rows {
        self.epoch.take()
    }
}

fn code_of(refusal: Refusal) -> Code {
    match refusal {
        Refusal::Overflow => Code::QuantityOverflow,
        Refusal::UniqueLimit => Code::UniqueLimit,
        Refusal::WrongKind => Code::InvalidQuantity,
    }
}
