//! The fold: what the log came to so far. PURE: a record goes in, the state changes, and that is all.
//!
//! The same `apply` runs live, at recovery, in `verify` and in the simulation.
//!
//! 1. `apply` folds decisions and makes none: whether an event counts was settled when it was written.
//! 2. It reads no clock, no config, no random number, and depends on no hash order.
//! 3. `check` tells beforehand whether an event can be applied whole; `apply` of such an event cannot fail.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::engine::hash::TableHasher;
use crate::engine::key;
use crate::engine::record::{Events, Genesis, Record, RecordError, Tally};
use crate::meter::{Customer, Definition};
use crate::model::{EventKey, IdEntry, Incarnation, MeterId, Seq, Timestamp};
use crate::store::{Rows, Store, StoreError};

pub mod caps;
mod clock;
mod closes;
mod closing;
mod codec;
pub mod corrections;
mod epoch;
mod feeds;
mod late;
mod members;
mod outbox;
mod periods;
mod pins;
mod rows;
mod series;

pub use clock::LogClock;
pub use codec::{AdjustmentRow, Content, RowContext, adjustment_key, counter_key, decode_adjustment, decode_counter};
pub use codec::{IN_ORIGINAL, IN_TOTAL, decode_period, decode_window, period_key, period_prefix, window_written};
pub use feeds::{Feed, Located, StateLimits};
pub use members::load_members;
pub use outbox::{
    Outbox, OutboxContent, Sink, StoredRow, decode_attempt, decode_outbox, outbox_key, split_dead_key, split_outbox_key,
};
pub use periods::{PeriodId, PeriodInfo, Periods};
pub use pins::Pin;
pub use rows::LoadError;
pub use series::{Base, Counter, PeriodCounter, Series};

use caps::Caps;
use clock::MarkChange;
use closing::Closing;
use corrections::Corrections;
use epoch::{CounterRef, Epoch, Naming};
use pins::Pins;
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
    /// By tenant and customer, as series names begin.
    customers: BTreeMap<Box<[u8]>, Arc<Customer>>,
    customers_changed: Vec<Box<[u8]>>,
    hasher: TableHasher,
    table: SeriesTable,
    periods: Periods,
    closing: Closing,
    /// By meter: the latest end of any window or period that was closed.
    closed_to: Vec<Timestamp>,
    /// Counters in memory: open ones, and final ones that the store does not have yet.
    counters: u64,
    /// Period counters in memory.
    period_counters: u64,
    /// Members of exact unique counters in memory, all together.
    members: u64,
    epoch: Epoch,
    mark_changes: Vec<MarkChange>,
    /// When the events that are being applied were received.
    received_at: Timestamp,
    /// Adjustments that the store may not have yet: record, key, row.
    adjustments: VecDeque<(Seq, Vec<u8>, AdjustmentRow)>,
    /// Where final counters are once they have left memory: the rows of this very fold, up to the store's position.
    store: Arc<dyn Store>,
    pins: Pins,
    /// Batches of counters that may leave, once readers let them: generation, epoch.
    leaving: VecDeque<(u64, u32, Vec<CounterRef>)>,
    /// Series that were removed: generation, number. Readers may stand on them.
    removed: VecDeque<(u64, u32)>,
    /// What goes out.
    outbox: Outbox,
    caps: Caps,
    corrections: Corrections,
    /// The newest time that was believed. For readers: no part of the fold.
    now: Timestamp,
}

/// A log that cannot be folded: it was written by something else, or is damaged where checksums cannot tell.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store's row of a counter that record {0} changes does not decode")]
    DamagedRow(Seq),
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
    /// A state before the first record, that will find in `store` what has left memory.
    pub fn new(hasher: TableHasher, store: Arc<dyn Store>) -> Self {
        Self {
            position: Seq::ZERO,
            genesis: None,
            definitions: Vec::new(),
            definitions_changed: false,
            clock: LogClock::default(),
            tenants: BTreeMap::new(),
            customers: BTreeMap::new(),
            customers_changed: Vec::new(),
            table: SeriesTable::new(hasher.clone()),
            hasher,
            periods: Periods::default(),
            closing: Closing::default(),
            closed_to: Vec::new(),
            counters: 0,
            period_counters: 0,
            members: 0,
            epoch: Epoch::default(),
            mark_changes: Vec::new(),
            received_at: Timestamp::MIN,
            adjustments: VecDeque::new(),
            store,
            pins: Pins::default(),
            leaving: VecDeque::new(),
            removed: VecDeque::new(),
            outbox: Outbox::default(),
            caps: Caps::default(),
            corrections: Corrections::default(),
            now: Timestamp::MIN,
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

    pub fn incarnation(&self) -> Incarnation {
        incarnation_of(self.genesis.as_ref())
    }

    pub fn periods(&self) -> &Periods {
        &self.periods
    }

    /// What was set for a customer.
    pub fn customer(&self, tenant: &str, customer: &str) -> Option<&Arc<Customer>> {
        let mut name = Vec::with_capacity(64);
        key::put_customer(&mut name, tenant, customer);
        self.customers.get(name.as_slice())
    }

    /// Every customer for whom something was set, by the beginning of their series' names.
    pub fn customers(&self) -> impl Iterator<Item = (&[u8], &Arc<Customer>)> {
        self.customers.iter().map(|(name, customer)| (&**name, customer))
    }

    /// Adjustments that the store may not have yet, oldest first: key and row.
    pub fn recent_adjustments(&self) -> impl Iterator<Item = (&[u8], &AdjustmentRow)> {
        self.adjustments.iter().map(|(_, key, row)| (key.as_slice(), row))
    }

    pub fn adjustments_len(&self) -> usize {
        self.adjustments.len()
    }

    /// Period counters that the store may not have a row of yet.
    pub fn new_periods(&self) -> impl Iterator<Item = (u32, PeriodId)> {
        self.epoch.new_periods()
    }

    /// Counters in memory.
    pub fn counters(&self) -> u64 {
        self.counters
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Keeps what is in memory there until the pin is dropped.
    pub fn pin(&self) -> Pin {
        self.pins.pin()
    }

    /// The newest time that was believed: for readers, who are not to wait for the log to say that a window has ended.
    pub fn now(&self) -> Timestamp {
        self.now.max(self.clock.effective())
    }

    pub fn set_now(&mut self, now: Timestamp) {
        self.now = now;
        self.show_now();
    }

    /// Lets checks see the time.
    pub fn show_now(&self) {
        self.caps.accounts().board().set_now(self.now());
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
            Record::Genesis(genesis) => {
                self.genesis = Some(*genesis);
                self.tick(genesis.created_at, Seq::ZERO, first)?;
            }
            Record::MeterVersion(meter, definition) => self.define(first, *meter, definition)?,
            Record::Events(events) => return self.apply_events(events, accepted),
            Record::Tick { effective, horizon } => self.tick(*effective, *horizon, first)?,
            Record::Tally { tenant, tally } => self.tenant(tenant).not_taken.add(tally),
            Record::Closed(closed) => self.close(first, closed)?,
            Record::CustomerChanged { tenant, customer, settings } => self.set_customer(tenant, customer, settings),
            Record::ClockReset { effective, .. } => {
                let changes = self.clock.reset(*effective, first);
                self.mark_changes.extend(changes);
                self.show_now();
            }
            Record::Incarnation { incarnation, reason } => self.begin_incarnation(first, *incarnation, reason)?,
            Record::Sink(record) => self.apply_sink(first, record)?,
            Record::Delivery(record) => self.apply_delivery(first, record)?,
            Record::Caps(record) => self.apply_caps(first, record)?,
            Record::Correction(record) => self.apply_correction(first, record)?,
        }
        self.position = first;
        Ok(())
    }

    /// What is final from here on outranks what the same log went on to say elsewhere, and nothing goes out by itself.
    fn begin_incarnation(&mut self, seq: Seq, incarnation: Incarnation, reason: &str) -> Result<(), FoldError> {
        // Rows name the incarnation in which their counter changed last, not the one in which they are copied.
        let naming = Naming::new(&self.definitions, &self.periods, self.genesis.as_ref());
        self.epoch.settle(naming, &mut self.table);
        let genesis = self.genesis.as_mut().ok_or(FoldError::OutOfPlace(seq))?;
        genesis.incarnation = incarnation;
        self.pause_after_restore(reason);
        Ok(())
    }

    /// Events that were received at this time begin, and the backfill that brings them.
    pub fn begin_events(&mut self, received_at: Timestamp, backfill: Option<u32>) {
        self.received_at = received_at;
        self.begin_backfilled(backfill);
    }

    /// So many events of a tenant were applied, up to this record.
    pub fn end_events(&mut self, tenant: &str, count: u64, last: Seq) -> Result<(), FoldError> {
        self.tenant(tenant).accepted += count;
        self.position = last;
        self.end_backfilled(count, last)
    }

    fn apply_events(
        &mut self,
        events: &Events<'_>,
        accepted: &mut dyn FnMut(EventKey, IdEntry),
    ) -> Result<(), FoldError> {
        self.begin_events(events.received_at, events.backfill);
        let (mut seq, mut name) = (self.position, Vec::with_capacity(128));
        for event in events.iter() {
            let event = event?;
            seq = seq.next();
            for (number, feed) in event.feeds.iter().enumerate() {
                let slug =
                    self.definitions.get(usize::from(feed.meter.0)).ok_or(FoldError::UnknownMeter(seq))?.slug.as_str();
                name.clear();
                key::put_customer(&mut name, events.tenant, event.customer);
                key::put_meter(&mut name, slug, feed.dimensions.iter().copied());
                let (hash, number) = (self.hasher.hash(&name), number as u8);
                let Some(period) = events.periods.get(feed.period as usize) else {
                    return Err(FoldError::DoesNotFit(seq));
                };
                let (meter, late, window, value) = (feed.meter, feed.late, feed.window, feed.value);
                let feed = Feed { number, meter, late, window, period, value, key: &name, hash };
                if late {
                    self.recall(&feed)?;
                }
                let located = self.locate(&feed);
                self.apply_feed((event.timestamp, seq), &feed, located)?;
            }
            let entry = IdEntry { seq, fingerprint: event.fingerprint };
            self.take_id(event.key, entry);
            accepted(event.key, entry);
        }
        self.end_events(events.tenant, u64::from(events.count), seq)
    }

    fn set_customer(&mut self, tenant: &str, customer: &str, settings: &Customer) {
        let mut name = Vec::with_capacity(64);
        key::put_customer(&mut name, tenant, customer);
        let name: Box<[u8]> = name.into();
        let before = self.customers.insert(name.clone(), Arc::new(settings.clone()));
        self.customers_changed.push(name);
        if before.is_none_or(|before| before.schedule != settings.schedule) {
            self.drop_totals(tenant, customer);
        }
        self.resolve_customer_again(tenant, customer);
    }

    fn define(&mut self, seq: Seq, meter: MeterId, definition: &Definition) -> Result<(), FoldError> {
        let place = usize::from(meter.0);
        if place > self.definitions.len() {
            return Err(FoldError::OutOfPlace(seq));
        }
        match self.definitions.get_mut(place) {
            Some(known) => *known = definition.clone(),
            None => {
                self.definitions.push(definition.clone());
                self.closed_to.push(Timestamp::MIN);
            }
        }
        self.definitions_changed = true;
        // Counters that are already there go by the new limits too, as they would once reloaded.
        for number in 0..self.table.len() {
            let series = self.table.get_mut(number as u32);
            if series.meter == meter {
                series.counters.iter_mut().for_each(|counter| counter.aggregate.set_limits(definition));
                let bases = series.periods.iter_mut().filter_map(|counter| counter.base.as_mut());
                bases.flat_map(|base| base.sets()).for_each(|(_, set)| set.set_limits(definition));
            }
        }
        Ok(())
    }

    fn tick(&mut self, effective: Timestamp, horizon: Seq, seq: Seq) -> Result<(), FoldError> {
        let added = self.clock.advance(effective, seq);
        self.show_now();
        self.mark_changes.extend(added);
        let dropped = self.clock.raise_horizon(horizon);
        self.mark_changes.extend(dropped);
        self.forget_thresholds();
        self.expire_reservations(seq)
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
        self.epoch.close(&meta);
    }

    /// Copies up to `limit` counters of the closed epoch; true once all are copied.
    pub fn drain_epoch(&mut self, limit: usize) -> bool {
        let naming = Naming::new(&self.definitions, &self.periods, self.genesis.as_ref());
        self.epoch.drain(naming, &mut self.table, limit)
    }

    /// The counters of the closed and drained epoch, as rows.
    pub fn take_epoch(&mut self) -> Rows {
        self.epoch.take()
    }
}

/// 0 before the first record.
fn incarnation_of(genesis: Option<&Genesis>) -> Incarnation {
    genesis.map_or(Incarnation(0), |genesis| genesis.incarnation)
}

/// The tenant of a series.
fn tenant_of(name: &[u8]) -> &str {
    key::split_tenant(name).expect("series names are written by this process").0
}

#[cfg(test)]
pub(super) mod tests;
