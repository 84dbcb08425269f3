//! Two directories compared by what they bill: windows and billing periods, whatever their records' numbers.
//!
//! | compared | |
//! | --- | --- |
//! | a window, open or final, by series and start | end, value, events, state, revision |
//! | a billing period of a series, by name and bounds | what its final windows come to: value, events, state, revision |
//! | a meter that only one of them has | summed up |
//!
//! 1. Each side is its store, with the journal's tail folded over it: a daemon that was killed has its newest records only there.
//! 2. What caps go by follows from the same counters, so it is not compared again.
//! 3. Within a range of time only windows are compared: a period of which only a part is there means nothing.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{Range, ReplayFailed, Source};
use crate::engine::hash::TableHasher;
use crate::engine::key;
use crate::engine::overlay::{Changes, Overlay};
use crate::engine::record::records;
use crate::engine::recovery::OpenError;
use crate::engine::state::{State, TenantTotals, decode_counter, decode_period, decode_window};
use crate::journal::{self, ReplayError, Start, StoreId};
use crate::meter::{Aggregate, Definition};
use crate::model::{Quantity, Seq, Timestamp, Window};
use crate::store::{Cursor, Rows, Snapshot, Store, StoreError, Table};

/// Differences that are listed; all are counted.
const LISTED_MAX: usize = 100;

/// A directory as it is once its journal's tail is folded in.
pub struct Side {
    store: Arc<dyn Store>,
    definitions: Vec<Definition>,
    tail: Rows,
    /// By tenant: what its events came to.
    pub tenants: BTreeMap<Box<str>, TenantTotals>,
    /// Its newest record.
    pub last: Seq,
}

/// Something that the two do not agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differing {
    /// `window acme/c-1/tokens["gpt"] 2026-11-01T00:00:00Z`, `period …`.
    pub what: String,
    pub source: Option<String>,
    pub replay: Option<String>,
}

/// A meter that only one of them has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnlyIn {
    pub meter: String,
    /// Else in the source.
    pub in_replay: bool,
    pub windows: u64,
    pub periods: u64,
    pub events: u64,
    /// Of windows; none if it means nothing for such meters, or leaves the range.
    pub total: Option<Quantity>,
}

/// What was compared, and what differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    pub source: Seq,
    pub replay: Seq,
    pub windows: u64,
    pub periods: u64,
    pub difference_count: u64,
    /// The first of them.
    pub differences: Vec<Differing>,
    pub only: Vec<OnlyIn>,
}

/// What a row says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    end: Timestamp,
    value: Option<Quantity>,
    events: u64,
    is_final: bool,
    revision: u32,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { end, value, events, is_final, revision } = self;
        let value = value.map_or_else(|| "no value".to_owned(), |value| value.to_string());
        let state = if *is_final { "final" } else { "open" };
        write!(f, "{value} of {events} events, {state}, revision {revision}, to {end}")
    }
}

impl Side {
    /// Folds what the journal has beyond the store. Both are only read.
    pub fn open(source: &Source) -> Result<Self, ReplayFailed> {
        let mut state = State::load(&source.store, TableHasher::default()).map_err(OpenError::from)?;
        let (after, store_id) = (state.position(), source.store.store_id().map_err(OpenError::from)?);
        let start = Start { after, floor: after, store_id: store_id.map(StoreId) };
        let read = journal::read(&*source.disk, start, &mut |frame| {
            let refuse = |source| OpenError::Fold { segment: frame.at.segment, offset: frame.at.offset, source };
            let mut seq = frame.first_seq;
            for record in records(frame.payload) {
                let record = record.map_err(|error| refuse(error.into()))?;
                // A store ends where a frame does; if it does not, it has the frame's first records already.
                if seq > state.position() {
                    state.apply(seq, &record, &mut |_, _| {}).map_err(refuse)?;
                }
                seq = seq.plus(record.seqs());
            }
            Ok(())
        });
        let read = read.map_err(|error| match error {
            ReplayError::Journal(error) => OpenError::from(error),
            ReplayError::Visit(error) => error,
        })?;
        if read.last < after {
            return Err(OpenError::JournalBehind { journal: read.last, store: after }.into());
        }
        let (definitions, tenants, last) = (state.definitions().to_vec(), state.tenants().clone(), state.position());
        let mut tail = Rows::default();
        if last > after {
            state.close_epoch();
            while !state.drain_epoch(usize::MAX) {}
            tail = state.take_epoch();
        }
        Ok(Self { store: source.store.clone(), definitions, tail, tenants, last })
    }

    fn definition(&self, slug: &str) -> Option<&Definition> {
        self.definitions.iter().find(|definition| definition.slug == slug)
    }
}

/// Compares what both bill for; within `range`, if there is one, only windows.
pub fn compare(source: &mut Side, replay: &mut Side, range: Range) -> Result<Compared, ReplayFailed> {
    let mut compared = Compared { source: source.last, replay: replay.last, ..Compared::default() };
    let (tail, other_tail) = (std::mem::take(&mut source.tail), std::mem::take(&mut replay.tail));
    let (mut tail, mut other_tail) = (tail, other_tail);
    let sides = (&*source, &*replay);
    let (below, other_below) = (source.store.snapshot(), replay.store.snapshot());
    let ours = Changes::of(&mut tail).over(Some(&*below));
    let theirs = Changes::of(&mut other_tail).over(Some(&*other_below));
    let done = compare_windows(&mut compared, sides, (&ours, &theirs), range)
        .and_then(|()| if range.is_all() { compare_periods(&mut compared, sides, (&ours, &theirs)) } else { Ok(()) });
    done.map_err(OpenError::from)?;
    compared.only.retain(|only| only.windows + only.periods > 0);
    Ok(compared)
}

/// Rows of one table, in key order.
struct Walk<'a> {
    cursor: Box<dyn Cursor + 'a>,
    table: Table,
}

impl<'a> Walk<'a> {
    fn new(overlay: &'a Overlay<'a>, table: Table) -> Result<Self, StoreError> {
        let mut cursor = overlay.cursor(table)?;
        cursor.seek(&[])?;
        Ok(Self { cursor, table })
    }

    fn key(&self) -> Option<&[u8]> {
        self.cursor.row().map(|(key, _)| key)
    }
}

/// Open and final windows together: a window is one of them.
struct Windows<'a>([Walk<'a>; 2]);

impl<'a> Windows<'a> {
    fn new(overlay: &'a Overlay<'a>) -> Result<Self, StoreError> {
        Ok(Self([Walk::new(overlay, Table::Counters)?, Walk::new(overlay, Table::Windows)?]))
    }

    fn next(&mut self, side: &Side) -> Result<Option<Row>, StoreError> {
        let place = match (self.0[0].key(), self.0[1].key()) {
            (None, None) => return Ok(None),
            (Some(open), Some(closed)) => usize::from(open > closed),
            (open, _) => usize::from(open.is_none()),
        };
        take(&mut self.0[place], side)
    }
}

struct Row {
    key: Vec<u8>,
    meter: String,
    said: Said,
}

fn take(walk: &mut Walk<'_>, side: &Side) -> Result<Option<Row>, StoreError> {
    let Some((key, value)) = walk.cursor.row() else { return Ok(None) };
    let read = match walk.table {
        Table::Periods => read_period(key, value, side),
        table => read_window(key, value, (side, table == Table::Windows)),
    };
    let name = walk.table.name();
    let row = read.ok_or_else(|| StoreError::Corrupt { detail: format!("a row of {name} does not decode") })?;
    walk.cursor.advance()?;
    Ok(Some(row))
}

fn read_window(key: &[u8], value: &[u8], (side, is_final): (&Side, bool)) -> Option<Row> {
    let (name, start) = key::split_start(key)?;
    let (name, _) = key::read_series(name)?;
    let definition = side.definition(name.meter)?;
    let (counter, members) =
        if is_final { decode_window(start, value, definition)? } else { decode_counter(start, value, definition)? };
    let value = value_of(&counter.aggregate, counter.event_count, members);
    let (end, events, revision) = (counter.window.end, counter.event_count, counter.revision);
    let said = Said { end, value, events, is_final, revision };
    Some(Row { key: key.to_vec(), meter: name.meter.to_owned(), said })
}

fn read_period(key: &[u8], value: &[u8], side: &Side) -> Option<Row> {
    let series = key::without_second_text(key)?;
    let (name, bounds) = key::split_bounds(&series)?;
    let (name, _) = key::read_series(name)?;
    let row = decode_period(bounds.start, value, side.definition(name.meter)?)?;
    let base = row.counter.base.as_ref();
    let value = base.and_then(|base| value_of(&base.aggregate, base.event_count, row.members[0]));
    let events = base.map_or(0, |base| base.event_count);
    let (is_final, revision) = (row.counter.is_final, row.counter.revision);
    let said = Said { end: bounds.end, value, events, is_final, revision };
    Some(Row { key: key.to_vec(), meter: name.meter.to_owned(), said })
}

/// Members of an exact set are rows of their own: here only their number counts.
fn value_of(aggregate: &Aggregate, events: u64, members: u32) -> Option<Quantity> {
    if aggregate.takes_members() {
        return Some(Quantity::from_integer(i64::from(members)));
    }
    aggregate.value(events)
}

fn compare_windows(
    compared: &mut Compared,
    sides: (&Side, &Side),
    (ours, theirs): (&Overlay<'_>, &Overlay<'_>),
    range: Range,
) -> Result<(), StoreError> {
    let (mut ours, mut theirs) = (Windows::new(ours)?, Windows::new(theirs)?);
    let is_meant = |row: &Row| key::split_start(&row.key).is_some_and(|(_, start)| range.contains(start));
    let mut next = (|| ours.next(sides.0), || theirs.next(sides.1));
    compare_rows(compared, sides, (&mut next.0, &mut next.1), (&is_meant, false))
}

fn compare_periods(
    compared: &mut Compared,
    sides: (&Side, &Side),
    (ours, theirs): (&Overlay<'_>, &Overlay<'_>),
) -> Result<(), StoreError> {
    let (mut ours, mut theirs) = (Walk::new(ours, Table::Periods)?, Walk::new(theirs, Table::Periods)?);
    let mut next = (|| take(&mut ours, sides.0), || take(&mut theirs, sides.1));
    compare_rows(compared, sides, (&mut next.0, &mut next.1), (&|_| true, true))
}

type Next<'a> = &'a mut dyn FnMut() -> Result<Option<Row>, StoreError>;

fn compare_rows(
    compared: &mut Compared,
    sides: (&Side, &Side),
    (next, other_next): (Next<'_>, Next<'_>),
    (is_meant, are_periods): (&dyn Fn(&Row) -> bool, bool),
) -> Result<(), StoreError> {
    let (mut ours, mut theirs) = (next()?, other_next()?);
    loop {
        let order = match (&ours, &theirs) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => left.key.cmp(&right.key),
        };
        let left = if order.is_le() { std::mem::replace(&mut ours, next()?) } else { None };
        let right = if order.is_ge() { std::mem::replace(&mut theirs, other_next()?) } else { None };
        let (left, right) = (left.filter(is_meant), right.filter(is_meant));
        let Some(row) = left.as_ref().or(right.as_ref()) else { continue };
        let in_both = sides.0.definition(&row.meter).is_some() && sides.1.definition(&row.meter).is_some();
        if !in_both {
            compared.sum_up(row, (left.is_none(), are_periods), sides);
            continue;
        }
        *(if are_periods { &mut compared.periods } else { &mut compared.windows }) += 1;
        let said = |row: &Option<Row>| row.as_ref().map(|row| row.said.clone());
        let (left, right) = (said(&left), said(&right));
        if left != right {
            compared.differ((&name_of(&row.key, are_periods), &left, &right));
        }
    }
}

fn name_of(key: &[u8], is_period: bool) -> String {
    shown(key, is_period).unwrap_or_else(|| key.escape_ascii().to_string())
}

/// A row's name for people.
fn shown(key: &[u8], is_period: bool) -> Option<String> {
    let named = |name: &[u8], kind: &str, start: Timestamp| {
        let (name, _) = key::read_series(name)?;
        let dimensions = name.dimensions.as_slice();
        Some(format!("{kind} {:?}/{:?}/{}{dimensions:?} {start}", name.tenant, name.customer, name.meter))
    };
    if !is_period {
        let (series, start) = key::split_start(key)?;
        return named(series, "window", start);
    }
    let series = key::without_second_text(key)?;
    let (series, Window { start, .. }) = key::split_bounds(&series)?;
    named(series, "period", start)
}

impl Compared {
    fn differ(&mut self, (what, source, replay): (&str, &Option<Said>, &Option<Said>)) {
        self.difference_count += 1;
        if self.differences.len() < LISTED_MAX {
            let text = |said: &Option<Said>| said.as_ref().map(Said::to_string);
            self.differences.push(Differing { what: what.to_owned(), source: text(source), replay: text(replay) });
        }
    }

    fn sum_up(&mut self, row: &Row, (in_replay, is_period): (bool, bool), sides: (&Side, &Side)) {
        let place = self.only.iter().position(|only| only.meter == row.meter && only.in_replay == in_replay);
        let place = place.unwrap_or_else(|| {
            let side = if in_replay { sides.1 } else { sides.0 };
            let adds_up = side
                .definition(&row.meter)
                .is_some_and(|definition| matches!(Aggregate::new(definition), Aggregate::Count | Aggregate::Sum(_)));
            let total = adds_up.then_some(Quantity::ZERO);
            self.only.push(OnlyIn { meter: row.meter.clone(), in_replay, total, ..OnlyIn::default() });
            self.only.len() - 1
        });
        let only = &mut self.only[place];
        if is_period {
            only.periods += 1;
            return;
        }
        only.windows += 1;
        only.events += row.said.events;
        only.total = only.total.and_then(|total| total.checked_add(row.said.value?));
    }
}
