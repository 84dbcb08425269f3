//! The state as rows of the store, and back.
//!
//! | table, key | value |
//! | --- | --- |
//! | meta `store_id` | u128 |
//! | meta `genesis` | the Genesis record, as in the log |
//! | meta `clock` | effective time, newest event, newest forgotten event: i64 each, i64::MIN for none; horizon u64 |
//! | meta `mark/` + time (i64 BE, sign flipped) | seq u64: ids below it were accepted before that time; newest event of those, i64 |
//! | meta `meter/` + number u16 BE | the definition as JSON |
//! | meta `tenant/` + name | accepted, duplicate, conflict, rejected, capped: u64 each |
//! | counters, series name + window start | see `epoch` |
//! | members, counter key + member u128 BE | empty |
//!
//! Values are little-endian.

use std::ops::ControlFlow;

use crate::engine::hash::TableHasher;
use crate::engine::key;
use crate::engine::record::{self, Record, Tally};
use crate::engine::state::clock::{ClockRow, LogClock, Mark, MarkChange};
use crate::engine::state::epoch::decode_counter;
use crate::engine::state::{State, TenantTotals};
use crate::model::{Seq, Timestamp};
use crate::store::{META_STORE_ID, Rows, Store, StoreError, Table};

const GENESIS: &[u8] = b"genesis";
const CLOCK: &[u8] = b"clock";
const MARK: &[u8] = b"mark/";
const METER: &[u8] = b"meter/";
const TENANT: &[u8] = b"tenant/";
const MEMBER_BYTES: usize = 16;

/// A store whose rows do not make a state.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store's {table:?} row {key:02x?} does not decode")]
    Damaged { table: Table, key: Vec<u8> },
    #[error("the store's unique counters should have {members_expected} members, it has {members}")]
    Members { members_expected: u64, members: u64 },
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
        for (tenant, totals) in &self.tenants {
            rows.put(Table::Meta, &[TENANT, tenant.as_bytes()].concat(), &encode_totals(totals));
        }
    }

    /// The state as of the store's position.
    pub fn load(store: &dyn Store, hasher: TableHasher) -> Result<Self, LoadError> {
        let mut state = State::new(hasher);
        state.position = store.position();
        state.load_meta(store)?;
        let (mut members_expected, mut members) = (0, 0);
        load_table(store, Table::Counters, &[], |key, value| {
            members_expected += u64::from(state.load_counter(key, value)?);
            Some(())
        })?;
        load_table(store, Table::Members, &[], |key, _| {
            members += u64::from(state.load_member(key)?);
            Some(())
        })?;
        state.members = members;
        if members == members_expected { Ok(state) } else { Err(LoadError::Members { members_expected, members }) }
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
        load_table(store, Table::Meta, TENANT, |key, value| {
            let tenant = std::str::from_utf8(&key[TENANT.len()..]).ok()?;
            self.tenants.insert(tenant.into(), decode_totals(value)?);
            Some(())
        })
    }

    /// Answers with how many member rows belong to it.
    fn load_counter(&mut self, key: &[u8], value: &[u8]) -> Option<u32> {
        let (name, start) = key::split_start(key)?;
        let hash = self.hasher.hash(name);
        let number = match self.table.find(hash, name) {
            Some(number) => number,
            None => {
                let (parts, len) = key::read_series(name)?;
                let meter = self.definitions.iter().position(|definition| definition.slug == parts.meter)?;
                (len == name.len()).then_some(())?;
                self.table.insert(hash, name, crate::model::MeterId(meter as u16))
            }
        };
        let series = self.table.get_mut(number);
        let place = series.find(start).err()?;
        let definition = &self.definitions[usize::from(series.meter.0)];
        let (counter, members) = decode_counter(start, value, definition)?;
        series.counters.insert(place, counter);
        self.open_counters += 1;
        Some(members)
    }

    /// True if it was wanted: the rows of a set that has become an estimate stay behind.
    fn load_member(&mut self, key: &[u8]) -> Option<bool> {
        let (counter, member) = key.split_last_chunk::<MEMBER_BYTES>()?;
        let (name, start) = key::split_start(counter)?;
        let number = self.table.find(self.hasher.hash(name), name)?;
        let series = self.table.get_mut(number);
        let place = series.find(start).ok()?;
        Some(series.counters[place].aggregate.insert_member(u128::from_be_bytes(*member)))
    }
}

fn load_table(
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
