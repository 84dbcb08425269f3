//! The state as rows of the store, and back.
//!
//! | table, key | value |
//! | --- | --- |
//! | meta `store_id` | u128 |
//! | meta `genesis` | the Genesis record, as in the log |
//! | meta `clock` | effective time, newest event, newest forgotten event: i64 each, i64::MIN for none; horizon u64 |
//! | meta `mark/` + time (i64 BE, sign flipped) | seq u64: ids below it were accepted before that time; newest event of those, i64 |
//! | meta `meter/` + number u16 BE | the definition as JSON |
//! | meta `closed/` + number u16 BE | i64: the latest end of any window or period of this meter that was closed |
//! | meta `tenant/` + name | accepted, duplicate, conflict, rejected, capped: u64 each |
//! | meta `customer/` + tenant, customer (each: length u16 BE, text) | settings as JSON |
//! | meta `period/` + number u32 BE | tenant, name (each: length u16, text); start i64; end i64; counters not final u64; last change u64 |
//! | meta `caps/`, `customer_caps/`; alerts, thresholds, reservations | see `caps::codec` |
//! | meta `sink/`, `request/`; outbox, deliveries, attempts, dead_letters | see `outbox::codec` |
//! | meta `backfill/`, `run/`, `retractions`; voids, backfill_ids, trail | see `corrections` |
//! | all other tables | see `codec` |
//!
//! Values are little-endian. Loading reads what is not final: open counters, and the period counters of periods that have
//! open ones. What is final stays in the store until it is asked for.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::engine::hash::TableHasher;
use crate::engine::key;
use crate::engine::record::bytes::{Cursor, put_text, put_window};
use crate::engine::record::{self, ClosedKind, Record, Tally};
use crate::engine::state::caps::Caps;
use crate::engine::state::clock::{ClockRow, LogClock, Mark, MarkChange};
use crate::engine::state::codec::{decode_counter, decode_period, period_prefix};
use crate::engine::state::corrections::Corrections;
use crate::engine::state::{Outbox, PeriodId, PeriodInfo, State, TenantTotals, load_members};
use crate::meter::BillingPeriod;
use crate::model::{MeterId, Seq, Timestamp};
use crate::store::{META_STORE_ID, Rows, Snapshot, Store, StoreError, Table};

const GENESIS: &[u8] = b"genesis";
const CLOCK: &[u8] = b"clock";
const MARK: &[u8] = b"mark/";
const METER: &[u8] = b"meter/";
const TENANT: &[u8] = b"tenant/";
const CLOSED: &[u8] = b"closed/";
const CUSTOMER: &[u8] = b"customer/";
const PERIOD: &[u8] = b"period/";

/// A store whose rows do not make a state.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store's {table:?} row {key:02x?} does not decode")]
    Damaged { table: Table, key: Vec<u8> },
    #[error("the store's row {key:02x?} should have {expected} members, it has {found}")]
    Members { key: Vec<u8>, expected: u64, found: u64 },
}

impl State {
    /// The small rows, as of now. Marks are only those that changed since the last call.
    pub(super) fn put_meta(&mut self, rows: &mut Rows) {
        let mut value = Vec::new();
        if let Some(genesis) = &self.genesis {
            rows.put(Table::Meta, META_STORE_ID, &genesis.store_id.to_le_bytes());
            record::put_genesis(&mut value, genesis);
            rows.put(Table::Meta, GENESIS, &value);
        }
        value.clear();
        let row = self.clock.row();
        for time in [row.effective, row.newest_event, row.forgotten] {
            value.extend_from_slice(&encode_time(time));
        }
        value.extend_from_slice(&row.horizon.0.to_le_bytes());
        rows.put(Table::Meta, CLOCK, &value);
        for change in self.mark_changes.drain(..) {
            match change {
                MarkChange::Added(mark) => {
                    let value = [mark.seq.0.to_le_bytes(), encode_time(mark.newest_event)].concat();
                    rows.put(Table::Meta, &mark_key(mark.time), &value);
                }
                MarkChange::Dropped(time) => rows.delete(Table::Meta, &mark_key(time)),
            }
        }
        let changed = std::mem::take(&mut self.definitions_changed);
        for (number, definition) in self.definitions.iter().enumerate().filter(|_| changed) {
            let json = serde_json::to_vec(definition).expect("a definition holds only texts, numbers and lists");
            rows.put(Table::Meta, &[METER, &(number as u16).to_be_bytes()].concat(), &json);
        }
        for (number, to) in self.closed_to.iter().enumerate() {
            rows.put(Table::Meta, &[CLOSED, &(number as u16).to_be_bytes()].concat(), &to.micros().to_le_bytes());
        }
        for (tenant, totals) in &self.tenants {
            rows.put(Table::Meta, &[TENANT, tenant.as_bytes()].concat(), &encode_totals(totals));
        }
        for name in std::mem::take(&mut self.customers_changed) {
            let json =
                serde_json::to_vec(&*self.customers[&name]).expect("settings hold only texts, numbers and lists");
            rows.put(Table::Meta, &[CUSTOMER, &name].concat(), &json);
        }
        self.outbox.put_changes(rows);
        self.caps.put_changes(rows);
        self.corrections.put_changes(rows);
        for id in self.periods.take_changed() {
            rows.put(Table::Meta, &[PERIOD, &id.0.to_be_bytes()].concat(), &encode_info(self.periods.get(id)));
        }
    }

    /// The state as of the store's position.
    pub fn load(store: &Arc<dyn Store>, hasher: TableHasher) -> Result<Self, LoadError> {
        let mut state = State::new(hasher, store.clone());
        state.position = store.position();
        state.load_meta(&**store)?;
        let mut unique = Vec::new();
        load_table(&**store, Table::Counters, &[], |key, value| {
            if let Some(set) = state.load_counter(key, value)? {
                unique.push((Table::Members, key.to_vec(), set));
            }
            Some(())
        })?;
        let open = state.periods.iter().filter(|(_, info)| info.open > 0);
        let mut open: Vec<Vec<u8>> = open.map(|(_, info)| prefix(info)).collect();
        open.sort();
        open.dedup();
        for prefix in open {
            load_table(&**store, Table::Periods, &prefix, |key, value| {
                unique.extend(state.load_period(key, value)?);
                Some(())
            })?;
        }
        state.load_caps(&**store)?;
        state.corrections = Corrections::load(&**store)?;
        let snapshot = store.snapshot();
        for (table, key, set) in unique {
            state.load_set(&*snapshot, table, key, set)?;
        }
        Ok(state)
    }

    /// What the log says of itself, as of the store's position: without counters, so not to be folded on.
    pub fn load_head(store: &Arc<dyn Store>) -> Result<Self, LoadError> {
        let mut state = State::new(TableHasher::default(), store.clone());
        state.position = store.position();
        state.load_meta(&**store)?;
        Ok(state)
    }

    /// The definitions alone, in the order of their numbers.
    pub fn load_definitions(store: &dyn Store) -> Result<Vec<crate::meter::Definition>, LoadError> {
        let mut definitions = Vec::new();
        load_table(store, Table::Meta, METER, |_, json| {
            definitions.push(serde_json::from_slice(json).ok()?);
            Some(())
        })?;
        Ok(definitions)
    }

    fn load_meta(&mut self, store: &dyn Store) -> Result<(), LoadError> {
        self.definitions = Self::load_definitions(store)?;
        load_table(store, Table::Meta, GENESIS, |_, value| match record::records(value).next()?.ok()? {
            Record::Genesis(genesis) => {
                self.genesis = Some(genesis);
                Some(())
            }
            _ => None,
        })?;
        let mut row = ClockRow::default();
        load_table(store, Table::Meta, CLOCK, |_, value| {
            let (fields, rest) = value.as_chunks::<8>();
            let [effective, newest_event, forgotten, horizon] = *fields else { return None };
            row = ClockRow {
                effective: decode_time(effective)?,
                horizon: Seq(u64::from_le_bytes(horizon)),
                newest_event: decode_time(newest_event)?,
                forgotten: decode_time(forgotten)?,
            };
            rest.is_empty().then_some(())
        })?;
        let mut marks = Vec::new();
        load_table(store, Table::Meta, MARK, |key, value| {
            let (_, time) = key::split_start(key)?;
            let (fields, rest) = value.as_chunks::<8>();
            let [seq, newest_event] = *fields else { return None };
            marks.push(Mark { time, seq: Seq(u64::from_le_bytes(seq)), newest_event: decode_time(newest_event)? });
            rest.is_empty().then_some(())
        })?;
        self.clock = LogClock::restore(row, marks);
        self.outbox = Outbox::load(store)?;
        self.caps = Caps::load(store, &self.definitions)?;
        self.closed_to = vec![Timestamp::MIN; self.definitions.len()];
        load_table(store, Table::Meta, CLOSED, |key, value| {
            let number = u16::from_be_bytes(key[CLOSED.len()..].try_into().ok()?);
            let to = i64::from_le_bytes(value.try_into().ok()?);
            *self.closed_to.get_mut(usize::from(number))? = Timestamp::from_micros(to).ok()?;
            Some(())
        })?;
        load_table(store, Table::Meta, CUSTOMER, |key, json| {
            let settings = serde_json::from_slice(json).ok()?;
            self.customers.insert(key[CUSTOMER.len()..].into(), Arc::new(settings));
            Some(())
        })?;
        load_table(store, Table::Meta, PERIOD, |key, value| {
            let number = u32::from_be_bytes(key[PERIOD.len()..].try_into().ok()?);
            self.periods.restore(PeriodId(number), decode_info(value)?)
        })?;
        load_table(store, Table::Meta, TENANT, |key, value| {
            let tenant = std::str::from_utf8(&key[TENANT.len()..]).ok()?;
            self.tenants.insert(tenant.into(), decode_totals(value)?);
            Some(())
        })
    }

    /// Answers with the place of a set whose members are still to be loaded.
    fn load_counter(&mut self, key: &[u8], value: &[u8]) -> Option<Option<Unloaded>> {
        let (name, start) = key::split_start(key)?;
        let number = self.load_series(name)?;
        let series = self.table.get_mut(number);
        let place = series.find(start).err()?;
        let definition = &self.definitions[usize::from(series.meter.0)];
        let (counter, members) = decode_counter(start, value, definition)?;
        let is_set = counter.aggregate.takes_members();
        self.closing.add(ClosedKind::Windows, series.meter, counter.window, number);
        series.counters.insert(place, counter);
        self.counters += 1;
        Some(is_set.then_some(Unloaded { number, part: Part::Window(start), expected: members.into() }))
    }

    /// Takes in a period counter that is not final.
    fn load_period(&mut self, key: &[u8], value: &[u8]) -> Option<Vec<(Table, Vec<u8>, Unloaded)>> {
        let name = key::without_second_text(key)?;
        let (name, bounds) = key::split_bounds(&name)?;
        let (parts, _) = key::read_series(name)?;
        let meter = self.definitions.iter().position(|definition| definition.slug == parts.meter)?;
        let mut row = decode_period(bounds.start, value, &self.definitions[meter])?;
        if row.counter.is_final {
            return Some(Vec::new());
        }
        let number = self.load_series(name)?;
        let period = row.counter.period;
        self.closing.add(ClosedKind::Periods, MeterId(meter as u16), row.bounds, number);
        let mut unloaded = Vec::new();
        for (set, aggregate) in row.counter.base.iter_mut().flat_map(|base| base.sets()) {
            if aggregate.takes_members() {
                let expected = row.members[usize::from(set)].into();
                let part = Part::Period(period, set);
                unloaded.push((Table::PeriodMembers, [key, &[set]].concat(), Unloaded { number, part, expected }));
            }
        }
        let series = self.table.get_mut(number);
        series.find_period(period).is_none().then(|| series.periods.push(row.counter))?;
        self.period_counters += 1;
        Some(unloaded)
    }

    fn load_series(&mut self, name: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash(name);
        if let Some(number) = self.table.find(hash, name) {
            return Some(number);
        }
        let (parts, len) = key::read_series(name)?;
        let meter = self.definitions.iter().position(|definition| definition.slug == parts.meter)?;
        (len == name.len()).then(|| self.insert_series(hash, name, MeterId(meter as u16)))
    }

    fn load_set(
        &mut self,
        snapshot: &dyn Snapshot,
        table: Table,
        key: Vec<u8>,
        set: Unloaded,
    ) -> Result<(), LoadError> {
        let Unloaded { number, part, expected } = set;
        let damaged = |key: Vec<u8>| LoadError::Damaged { table, key };
        let definition = &self.definitions[usize::from(self.table.get(number).meter.0)];
        let mut loaded = crate::meter::Aggregate::new(definition);
        let found = load_members(snapshot, table, &key, (&mut loaded, expected))?;
        if found != expected {
            return Err(LoadError::Members { key, expected, found });
        }
        let series = self.table.get_mut(number);
        let aggregate = match part {
            Part::Window(start) => series.find(start).ok().map(|place| &mut series.counters[place].aggregate),
            Part::Period(period, wanted) => {
                let base = series.find_period(period).and_then(|place| series.periods[place].base.as_mut());
                base.and_then(|base| base.sets().find(|(set, _)| *set == wanted).map(|(_, aggregate)| aggregate))
            }
        };
        *aggregate.ok_or_else(|| damaged(key))? = loaded;
        self.members += found;
        Ok(())
    }
}

/// A set that was loaded without its members.
struct Unloaded {
    number: u32,
    part: Part,
    expected: u64,
}

enum Part {
    Window(Timestamp),
    Period(PeriodId, u8),
}

fn prefix(info: &PeriodInfo) -> Vec<u8> {
    let mut prefix = Vec::new();
    period_prefix(&mut prefix, &info.tenant, &info.period.label.to_string());
    prefix
}

fn encode_info(info: &PeriodInfo) -> Vec<u8> {
    let mut out = Vec::new();
    put_text(&mut out, &info.tenant);
    put_text(&mut out, &info.period.label.to_string());
    put_window(&mut out, info.period.bounds);
    out.extend_from_slice(&info.open.to_le_bytes());
    out.extend_from_slice(&info.changed.0.to_le_bytes());
    out
}

fn decode_info(value: &[u8]) -> Option<PeriodInfo> {
    let mut cursor = Cursor(value);
    let (tenant, label) = (cursor.text()??.into(), cursor.text()??.parse().ok()?);
    let period = BillingPeriod { label, bounds: cursor.window()? };
    let info = PeriodInfo { tenant, period, open: cursor.u64()?, changed: Seq(cursor.u64()?) };
    cursor.0.is_empty().then_some(info)
}

pub(super) fn load_table(
    store: &dyn Store,
    table: Table,
    prefix: &[u8],
    mut load: impl FnMut(&[u8], &[u8]) -> Option<()>,
) -> Result<(), LoadError> {
    let mut damaged = None;
    store.scan(table, prefix, &mut |key, value| match load(key, value) {
        Some(()) => ControlFlow::Continue(()),
        None => {
            damaged = Some(key.to_vec());
            ControlFlow::Break(())
        }
    })?;
    damaged.map_or(Ok(()), |key| Err(LoadError::Damaged { table, key }))
}

fn encode_time(time: Option<Timestamp>) -> [u8; 8] {
    time.map_or(i64::MIN, Timestamp::micros).to_le_bytes()
}

/// `None`: out of range; `Some(None)`: no time.
fn decode_time(bytes: [u8; 8]) -> Option<Option<Timestamp>> {
    match i64::from_le_bytes(bytes) {
        i64::MIN => Some(None),
        micros => Timestamp::from_micros(micros).ok().map(Some),
    }
}

fn mark_key(time: Timestamp) -> Vec<u8> {
    let mut key = MARK.to_vec();
    key::put_start(&mut key, time);
    key
}

fn encode_totals(totals: &TenantTotals) -> Vec<u8> {
    let TenantTotals { accepted, not_taken: Tally { duplicate, conflict, rejected, capped } } = *totals;
    [accepted, duplicate, conflict, rejected, capped].iter().flat_map(|count| count.to_le_bytes()).collect()
}

fn decode_totals(value: &[u8]) -> Option<TenantTotals> {
    let (counts, rest) = value.as_chunks::<8>();
    let [accepted, duplicate, conflict, rejected, capped] = *counts else { return None };
    let count = u64::from_le_bytes;
    let not_taken = Tally {
        duplicate: count(duplicate),
        conflict: count(conflict),
        rejected: count(rejected),
        capped: count(capped),
    };
    rest.is_empty().then_some(TenantTotals { accepted: count(accepted), not_taken })
}
