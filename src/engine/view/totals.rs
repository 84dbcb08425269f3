//! Billing period totals, a page at a time, in order of customer, meter and dimensions.
//!
//! The store's rows say which series have a period, in order; series that are newer than its last epoch are merged in.
//! Each row's numbers then come from memory where its counter is there (it is, unless it is final), else from the row.
//!
//! 1. A page costs its own rows, however many there are before and after: it begins at its key, and walks nothing else.
//! 2. A row that was open in the view of the store and is gone from memory became final in between: it is read again.

use std::collections::VecDeque;

use super::{ReadError, View, WindowState};
use crate::engine::key;
use crate::engine::state::{
    Base, Content, IN_ORIGINAL, IN_TOTAL, LoadError, PeriodCounter, RowContext, State, decode_period, load_members,
    period_key, period_prefix,
};
use crate::meter::{Aggregate, BillingPeriod, Definition, Meter, Meters, Period};
use crate::model::{Duration, Incarnation, MeterId, Quantity, Seq, TenantId, Timestamp, Window};
use crate::store::{Cursor, Snapshot, Store, Table};

mod finality;

/// Rows that are looked up under one hold of the lock.
const SLICE_ROWS: usize = 128;
/// The longest period there is: one between two anchors.
const PERIOD_MAX: Duration = Duration::from_secs(63 * 86_400);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeriodChoice {
    Named(Period),
    /// The period that each customer is in.
    Current,
    /// The one before.
    Previous,
}

#[derive(Clone, Debug)]
pub struct TotalsQuery {
    pub tenant: TenantId,
    pub period: PeriodChoice,
    /// When "current" and "previous" are meant; none: now. The pages of one listing are to say the same.
    pub at: Option<Timestamp>,
    pub meter: Option<MeterId>,
    pub customer: Option<String>,
    pub state: Option<WindowState>,
    /// The key of the row after which to begin.
    pub after: Option<Vec<u8>>,
    pub limit: usize,
}

#[derive(Debug)]
pub struct TotalsPage {
    pub rows: Vec<PeriodTotal>,
    pub more: bool,
    /// When "current" and "previous" were meant.
    pub at: Timestamp,
    /// Nothing may leave before this record is durable.
    pub seq: Seq,
    /// Effective time of that record.
    pub as_of: Timestamp,
    /// No row of the whole period will change but by adjustments, and none will come but by them.
    pub is_final: bool,
    /// Set if the period is final and the store has all of it: it changes with every change of any row of it.
    pub version: Option<Seq>,
}

/// What one series came to in one billing period.
#[derive(Clone, Debug)]
pub struct PeriodTotal {
    /// Where the row stands among all; for `TotalsQuery::after`.
    pub key: Vec<u8>,
    pub customer: String,
    pub meter: MeterId,
    pub dimensions: Vec<Option<String>>,
    /// The billing period's name.
    pub period: String,
    pub bounds: Window,
    /// With adjustments.
    pub value: Option<Quantity>,
    /// Without.
    pub original: Option<Quantity>,
    pub event_count: u64,
    pub adjustments: u64,
    pub revision: u32,
    pub incarnation: u32,
    pub state: WindowState,
    pub hash: [u8; 32],
    /// A final row: when it became final or was adjusted last. Any other: effective time when it was read.
    pub as_of: Timestamp,
    pub approximate: bool,
    /// What is above the customer's hard cap for billing periods, 0 without one; of a final row: above the cap that held when it
    /// became final. None: there is such a cap, and the row is one of several, by dimensions, that it counts together.
    pub overage: Option<Quantity>,
}

impl View {
    /// A page of totals.
    pub fn totals(&self, query: &TotalsQuery) -> Result<TotalsPage, ReadError> {
        // What a customer's calendar becomes from here on counts as changed after this read.
        let (meters, over_from) = (self.batches.meters(), self.over_from(query));
        let state = self.state.read();
        let (store, now) = (state.store().clone(), state.now());
        let at = query.at.unwrap_or(now);
        let labels = labels(&state, query, at);
        let (is_final, version) = Self::finality(&state, query, (over_from, now));
        let snapshot = store.snapshot();
        let new = labels.iter().map(|label| new_keys(&state, query, *label)).collect();
        let (as_of, mut seq) = (state.clock().effective(), state.position());
        drop(state);
        let mut rows = Merge::start(&*snapshot, query, &labels, new)?;
        let (mut page, mut ended) = (Vec::new(), false);
        while page.len() <= query.limit && !ended {
            let mut slice = Vec::with_capacity(SLICE_ROWS);
            while slice.len() < SLICE_ROWS && !ended {
                match rows.next()? {
                    Some(row) => slice.push(row),
                    None => ended = true,
                }
            }
            // Under the lock only what is in memory is looked at: the rest is decoded while the writer goes on.
            let state = self.state.read();
            seq = seq.max(state.position());
            let looked = slice.into_iter().map(|row| look(&state, row, (as_of, now)));
            let looked = looked.collect::<Result<Vec<_>, _>>()?;
            let reader =
                Reader { snapshot: &*snapshot, store: &*store, meters: &meters, incarnation: state.incarnation() };
            drop(state);
            for looked in looked {
                let total = match looked {
                    Looked::InMemory(total) => Some(reader.hashed(total)),
                    Looked::Elsewhere(row) => reader.read(&row, (as_of, now))?,
                };
                page.extend(total.filter(|total| self.is_wanted(query, total, at)));
            }
        }
        let more = page.len() > query.limit;
        page.truncate(query.limit);
        // What changed while the rows were read may be in them.
        let version = version.filter(|_| {
            let over_from = self.over_from(query);
            Self::finality(&self.state.read(), query, (over_from, now)).1 == version
        });
        Ok(TotalsPage { rows: page, more, at, seq, as_of, is_final, version })
    }

    fn is_wanted(&self, query: &TotalsQuery, total: &PeriodTotal, at: Timestamp) -> bool {
        let in_period = match query.period {
            PeriodChoice::Named(_) => true,
            PeriodChoice::Current => total.bounds.contains(at),
            PeriodChoice::Previous => self.batches.meters().get(total.meter).is_some_and(|meter| {
                let next = self.period_of(&query.tenant, &total.customer, meter, total.bounds.end);
                total.bounds.end <= at && next.bounds.contains(at)
            }),
        };
        in_period
            && query.meter.is_none_or(|meter| meter == total.meter)
            && query.state.is_none_or(|state| state == total.state)
    }
}

/// The names under which wanted rows may stand.
fn labels(state: &State, query: &TotalsQuery, at: Timestamp) -> Vec<Period> {
    let may_hold: fn(Window, Timestamp) -> bool = match query.period {
        PeriodChoice::Named(label) => return vec![label],
        PeriodChoice::Current => |bounds, at| bounds.contains(at),
        PeriodChoice::Previous => |bounds, at| bounds.end <= at && at < bounds.end.saturating_add(PERIOD_MAX),
    };
    let periods = state.periods().of(query.tenant.as_str()).map(|info| info.period);
    let mut labels: Vec<Period> =
        periods.filter(|period| may_hold(period.bounds, at)).map(|period| period.label).collect();
    labels.sort();
    labels.dedup();
    labels
}

/// The keys of period counters that the store may not have, in order.
fn new_keys(state: &State, query: &TotalsQuery, label: Period) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    for (number, period) in state.new_periods() {
        let info = state.periods().get(period);
        if info.period.label != label || *info.tenant != *query.tenant.as_str() {
            continue;
        }
        let mut name = Vec::with_capacity(96);
        let series = &state.series(number).key;
        if !series.is_empty() {
            period_key(&mut name, series, &label.to_string(), info.period.bounds);
            keys.push(name);
        }
    }
    keys.sort();
    keys.dedup();
    keys
}

/// A row of the table of periods: its key, and its value if the store has it.
struct Row {
    label: Period,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

/// The rows of one name, the store's and new ones.
struct Stream<'a> {
    label: Period,
    prefix: Vec<u8>,
    stored: Box<dyn Cursor + 'a>,
    new: VecDeque<Vec<u8>>,
}

/// The streams of all names, in order of what follows the name in a key.
struct Merge<'a>(Vec<Stream<'a>>);

impl<'a> Merge<'a> {
    fn start(
        snapshot: &'a dyn Snapshot,
        query: &TotalsQuery,
        labels: &[Period],
        new: Vec<Vec<Vec<u8>>>,
    ) -> Result<Self, ReadError> {
        let mut streams = Vec::with_capacity(labels.len());
        for (label, new) in labels.iter().zip(new) {
            let mut prefix = Vec::with_capacity(64);
            period_prefix(&mut prefix, query.tenant.as_str(), &label.to_string());
            let after = query.after.as_ref().and_then(|after| key::split_tenant(after));
            let after = after.map(|(_, rest)| [&prefix[..], rest].concat());
            if let Some(customer) = &query.customer {
                key::put_text(&mut prefix, customer);
            }
            let mut stored = snapshot.cursor(Table::Periods)?;
            stored.seek(after.as_ref().filter(|after| **after > prefix).unwrap_or(&prefix))?;
            if after.is_some() && stored.row().map(|(key, _)| key) == after.as_deref() {
                stored.advance()?;
            }
            let mut new = new;
            new.retain(|key| key.starts_with(&prefix) && after.as_ref().is_none_or(|after| key > after));
            streams.push(Stream { label: *label, prefix, stored, new: new.into() });
        }
        Ok(Self(streams))
    }

    fn next(&mut self) -> Result<Option<Row>, ReadError> {
        let only = self.0.len() == 1;
        let place = |stream: &Stream<'_>| {
            let key = stream.peek()?;
            Some(if only { Vec::new() } else { key::without_second_text(key)? })
        };
        let places = self.0.iter().enumerate().filter_map(|(at, stream)| Some((place(stream)?, at)));
        let Some((_, at)) = places.min() else { return Ok(None) };
        self.0[at].next()
    }
}

impl Stream<'_> {
    fn stored(&self) -> Option<(&[u8], &[u8])> {
        self.stored.row().filter(|(key, _)| key.starts_with(&self.prefix))
    }

    fn peek(&self) -> Option<&[u8]> {
        let new = self.new.front().map(Vec::as_slice);
        match (new, self.stored().map(|(key, _)| key)) {
            (Some(new), Some(stored)) => Some(new.min(stored)),
            (new, stored) => new.or(stored),
        }
    }

    fn next(&mut self) -> Result<Option<Row>, ReadError> {
        let Some(key) = self.peek().map(<[u8]>::to_vec) else { return Ok(None) };
        let value = self.stored().filter(|(stored, _)| *stored == key).map(|(_, value)| value.to_vec());
        if value.is_some() {
            self.stored.advance()?;
        }
        self.new.pop_front_if(|new| *new == key);
        Ok(Some(Row { label: self.label, key, value }))
    }
}

/// What became of a row under the lock.
#[expect(clippy::large_enum_variant, reason = "a slice's worth lives for a moment, and most are in memory")]
enum Looked {
    /// Its counter is in memory. Its hash is still to be made.
    InMemory(PeriodTotal),
    Elsewhere(Row),
}

fn look(state: &State, row: Row, times: (Timestamp, Timestamp)) -> Result<Looked, ReadError> {
    let damaged = || LoadError::Damaged { table: Table::Periods, key: row.key.clone() };
    let key = key::without_second_text(&row.key).ok_or_else(damaged)?;
    let (name, bounds) = key::split_bounds(&key).ok_or_else(damaged)?;
    let Some(series) = state.find_series(name) else { return Ok(Looked::Elsewhere(row)) };
    let period = BillingPeriod { label: row.label, bounds };
    let is_it = |counter: &&PeriodCounter| state.periods().get(counter.period).period == period;
    let Some(counter) = series.periods.iter().find(is_it) else { return Ok(Looked::Elsewhere(row)) };
    let open = series.counters.iter().filter(|window| !window.is_final && window.period == counter.period);
    let open: Vec<(&Aggregate, u64)> = open.map(|window| (&window.aggregate, window.event_count)).collect();
    let definition = &state.definitions()[usize::from(series.meter.0)];
    let (meter, incarnation, hard) = (series.meter, state.incarnation(), state.hard_cap_of(series));
    let source = Source { key: &key, meter, definition, period, incarnation, hard };
    total(&source, counter, &open, times).map(Looked::InMemory)
}

/// Reads what is not in memory, and makes hashes: without the lock.
struct Reader<'a> {
    snapshot: &'a dyn Snapshot,
    store: &'a dyn Store,
    meters: &'a Meters,
    incarnation: Incarnation,
}

impl Reader<'_> {
    /// None if the row is no more: it was new, and belongs to a group that never was.
    fn read(&self, row: &Row, times: (Timestamp, Timestamp)) -> Result<Option<PeriodTotal>, ReadError> {
        let damaged = || LoadError::Damaged { table: Table::Periods, key: row.key.clone() };
        let key = key::without_second_text(&row.key).ok_or_else(damaged)?;
        let (name, bounds) = key::split_bounds(&key).ok_or_else(damaged)?;
        let (parts, _) = key::read_series(name).ok_or_else(damaged)?;
        let Meter { id: meter, definition, .. } = self.meters.by_slug(parts.meter).ok_or_else(damaged)?;
        let decode = |value: &[u8]| decode_period(bounds.start, value, definition).ok_or_else(damaged);
        let known = row.value.as_deref().map(decode).transpose()?.filter(|known| known.counter.is_final);
        let (mut known, again) = match known {
            Some(known) => (known, None),
            None => {
                let again = self.store.snapshot();
                let Some(value) = again.get(Table::Periods, &row.key)? else { return Ok(None) };
                (decode(&value)?, Some(again))
            }
        };
        let source = again.as_deref().unwrap_or(self.snapshot);
        for (set, aggregate) in known.counter.base.iter_mut().flat_map(|base| base.sets()) {
            debug_assert!(set == IN_TOTAL || set == IN_ORIGINAL, "there are no other sets");
            let expected = known.members[usize::from(set)].into();
            load_members(source, Table::PeriodMembers, &[&row.key[..], &[set]].concat(), (aggregate, expected))?;
        }
        let period = BillingPeriod { label: row.label, bounds };
        let source = Source { key: &key, meter: *meter, definition, period, incarnation: self.incarnation, hard: None };
        let mut total = total(&source, &known.counter, &[], times)?;
        match known.written.filter(|_| known.counter.is_final) {
            Some((incarnation, hash)) => {
                (total.incarnation, total.hash) = (incarnation.0, hash);
                Ok(Some(total))
            }
            None => Ok(Some(self.hashed(total))),
        }
    }

    fn hashed(&self, mut total: PeriodTotal) -> PeriodTotal {
        let definition = self.meters.get(total.meter).map(|meter| &meter.definition);
        if let (Some(definition), Some((name, bounds))) = (definition, key::split_bounds(&total.key)) {
            let PeriodTotal { value, event_count, revision, .. } = total;
            let context = RowContext { definition, incarnation: self.incarnation };
            total.hash = Content { name, bounds, value, event_count, revision }.hash(context);
        }
        total
    }
}

/// Whose row it is.
struct Source<'a> {
    key: &'a [u8],
    meter: MeterId,
    definition: &'a Definition,
    period: BillingPeriod,
    incarnation: Incarnation,
    /// The customer's present hard cap.
    hard: Option<Quantity>,
}

/// A period counter and the open windows that belong to it, as one row, but for its hash.
fn total(
    source: &Source<'_>,
    counter: &PeriodCounter,
    open: &[(&Aggregate, u64)],
    (as_of, now): (Timestamp, Timestamp),
) -> Result<PeriodTotal, ReadError> {
    let base = counter.base.as_deref();
    let nothing = || Aggregate::new(source.definition);
    let mut aggregate = base.map_or_else(nothing, |base| base.aggregate.clone());
    let mut original = base.and_then(|base| base.original.clone());
    let mut event_count = base.map_or(0, |base| base.event_count);
    let mut original_count = base.map_or(0, |base| base.original_count());
    for (window, events) in open {
        aggregate.merge(window)?;
        if let Some(original) = &mut original {
            original.merge(window)?;
        }
        event_count += events;
        original_count += events;
    }
    let value = aggregate.value(event_count);
    let damaged = || LoadError::Damaged { table: Table::Periods, key: source.key.to_vec() };
    let (name, _) = key::read_series(source.key).ok_or_else(damaged)?;
    let BillingPeriod { label, bounds } = source.period;
    Ok(PeriodTotal {
        key: source.key.to_vec(),
        customer: name.customer.to_owned(),
        meter: source.meter,
        dimensions: name.dimensions.iter().map(|value| value.map(str::to_owned)).collect(),
        period: label.to_string(),
        bounds,
        value,
        original: original.map_or(value, |original| original.value(original_count)),
        event_count,
        adjustments: base.map_or(0, Base::adjustments),
        revision: counter.revision,
        incarnation: source.incarnation.0,
        state: WindowState::of(counter.is_final, bounds.end, now),
        hash: [0; 32],
        as_of: base.filter(|_| counter.is_final).map_or(as_of, |base| base.changed_at),
        approximate: aggregate.is_approximate(),
        overage: overage(source, counter, value),
    })
}

fn overage(source: &Source<'_>, counter: &PeriodCounter, value: Option<Quantity>) -> Option<Quantity> {
    let hard = if counter.is_final { counter.hard } else { source.hard };
    let Some(hard) = hard else { return Some(Quantity::ZERO) };
    let is_whole = source.definition.dimensions.is_empty();
    is_whole.then(|| value.unwrap_or_default().saturating_sub(hard).max(Quantity::ZERO))
}
