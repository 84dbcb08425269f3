//! What remains of a period's final windows, once these of them are less.
//!
//! 1. The total and the list of its windows are read under one hold of the lock: the count of the total's events that the
//!    writer compares says that neither has changed since.
//! 2. A member leaves the total of exact sets if no final window has it any more.
//! 3. A total that is an estimate is made anew from its windows, and stays an estimate.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::PlanError;
use super::plan::{Seen, Slice, Taking, Whose, damaged, name_of, split};
use super::remains::{Reread, encode, remove};
use crate::engine::corrections::Remains;
use crate::engine::state::{
    LoadError, PeriodId, Pin, counter_key, decode_period, decode_window, load_members, period_key,
};
use crate::engine::view::ReadError;
use crate::meter::{Aggregate, Aggregation, BillingPeriod, Definition, Value};
use crate::model::{Seq, Timestamp};
use crate::store::{Snapshot, Store, Table};

/// So many members are looked up one by one in a window; of more, the window's are read.
const LOOK_UPS_MAX: usize = 64;

/// The other final windows of a period, and what all came to.
struct Period<'s> {
    series: &'s [u8],
    id: PeriodId,
    period: BillingPeriod,
    seen: PeriodSeen,
    snapshot: Box<dyn Snapshot + 's>,
    /// Starts of those that were in memory, by the pin's doing until this is dropped.
    in_memory: BTreeSet<Timestamp>,
    as_of: Seq,
    _pin: Pin,
}

struct PeriodSeen {
    event_count: u64,
    /// An exact set is without its members.
    aggregate: Aggregate,
}

/// One of the other windows.
struct Other<'o> {
    name: &'o [u8],
    seen: &'o Seen,
    /// With its members, if it is in memory.
    in_memory: Option<&'o Aggregate>,
}

type Visit<'v> = &'v mut dyn FnMut(Other<'_>) -> Result<ControlFlow<()>, PlanError>;

impl Slice<'_> {
    /// What remains of the total, and the count of events that it was computed against.
    pub fn total(&self, whose: Whose<'_>, group: &[Taking<'_>]) -> Result<(Remains, u64), PlanError> {
        let aggregation = whose.definition.aggregation;
        let is_summed = matches!(aggregation, Aggregation::Count | Aggregation::Sum | Aggregation::Avg);
        let finals: Vec<&Taking<'_>> = group.iter().filter(|taking| taking.seen.is_final).collect();
        let (Some(first), false) = (finals.first(), is_summed) else { return Ok((Remains::Subtract, 0)) };
        let store = self.planner.view.state().read().store().clone();
        let period = self.look_at_period(&*store, whose, first)?;
        let PeriodSeen { event_count, aggregate } = &period.seen;
        let is_it = |taking: &&&Taking<'_>| taking.seen.aggregate == *aggregate;
        let stands = || finals.iter().filter(is_it).all(|taking| taking.left.whole.as_ref() == Some(aggregate));
        let remains = match aggregation {
            Aggregation::Unique if aggregate.takes_members() => {
                let leaving = self.leaving_total(whose, &period, &finals)?;
                if leaving.len() <= self.planner.leaving_max {
                    return Ok((Remains::Without(leaving.into_iter().collect()), *event_count));
                }
                self.merged(whose, &period, &finals)?
            }
            Aggregation::Unique => self.merged(whose, &period, &finals)?,
            _ if stands() => aggregate.clone(),
            _ => self.merged(whose, &period, &finals)?,
        };
        Ok((Remains::Is(encode(&remains)), *event_count))
    }

    fn look_at_period<'s>(
        &self,
        store: &'s dyn Store,
        whose: Whose<'_>,
        first: &Taking<'s>,
    ) -> Result<Period<'s>, PlanError> {
        let (series, id) = (first.series, first.seen.period);
        let state = self.planner.view.state().read();
        let (pin, snapshot, as_of) = (state.pin(), store.snapshot(), state.position());
        let period = state.periods().get(id).period;
        let known = state.find_series(series);
        let finals = known.iter().flat_map(|series| series.counters.iter());
        let finals = finals.filter(|counter| counter.is_final && counter.period == id);
        let in_memory = finals.map(|counter| counter.window.start).collect();
        let counter = known.and_then(|series| series.period(id));
        let seen = counter.map(|counter| {
            counter.base.as_ref().map(|base| PeriodSeen {
                event_count: base.event_count,
                aggregate: without_members(&base.aggregate, whose.definition),
            })
        });
        drop(state);
        let seen = match seen {
            Some(seen) => seen,
            None => stored_total(&*snapshot, whose, (series, &period))?,
        };
        let missing = || PlanError::differs(series, first.seen.window, first.seen.event_count, 0);
        let seen = seen.ok_or_else(missing)?;
        Ok(Period { series, id, period, seen, snapshot, in_memory, as_of, _pin: pin })
    }

    /// All final windows together, with what is left of those that are taken back from.
    fn merged(&self, whose: Whose<'_>, period: &Period<'_>, finals: &[&Taking<'_>]) -> Result<Aggregate, PlanError> {
        let mut total = Aggregate::new(whose.definition);
        let mut merge = |aggregate: &Aggregate| total.merge(aggregate).map_err(ReadError::from);
        self.each_other(whose, period, finals, &mut |other| {
            match other.in_memory {
                Some(aggregate) => merge(aggregate)?,
                None if other.seen.aggregate.takes_members() => {
                    let mut whole = Aggregate::new(whose.definition);
                    load_members(&*period.snapshot, Table::Members, other.name, (&mut whole, other.seen.exact_members))
                        .map_err(ReadError::from)?;
                    merge(&whole)?;
                }
                None => merge(&other.seen.aggregate)?,
            }
            Ok(ControlFlow::Continue(()))
        })?;
        for taking in finals {
            match &taking.left.whole {
                Some(whole) => merge(whole)?,
                None => {
                    let mut whole = self.whole_set(whose, (taking.name, taking.seen.exact_members))?;
                    remove(&mut whole, &taking.left.leaving);
                    merge(&whole)?;
                }
            }
        }
        // Nothing but a set changes by that: it was an estimate, or is too large to go on as a set.
        total.make_approximate();
        Ok(total)
    }

    /// The members that no final window has any more.
    fn leaving_total(
        &self,
        whose: Whose<'_>,
        period: &Period<'_>,
        finals: &[&Taking<'_>],
    ) -> Result<BTreeSet<u128>, PlanError> {
        let mut by_window = Vec::with_capacity(finals.len());
        for taking in finals {
            let is_set = taking.seen.aggregate.takes_members();
            by_window.push(if is_set { taking.left.leaving.clone() } else { self.leaving(whose, taking)? });
        }
        let mut leaving: BTreeSet<u128> = by_window.iter().flatten().copied().collect();
        let mut estimates = Vec::new();
        for (taking, own) in finals.iter().zip(&by_window) {
            if !taking.seen.aggregate.takes_members() {
                let Taking { name, seen, taken, .. } = taking;
                let expected = seen.event_count - taken.events;
                estimates.push((name.to_vec(), seen.window, expected, self.position, true));
                continue;
            }
            let stays = self.present(period, taking.name, &leaving)?;
            leaving.retain(|member| own.contains(member) || !stays.contains(member));
        }
        self.each_other(whose, period, finals, &mut |other| {
            let present = match other.in_memory {
                Some(set) if set.takes_members() => {
                    leaving.iter().copied().filter(|member| set.has_member(*member)).collect()
                }
                None if other.seen.aggregate.takes_members() => {
                    stored_members(&*period.snapshot, other.name, &leaving)?
                }
                _ => {
                    let Seen { window, event_count, .. } = other.seen;
                    estimates.push((other.name.to_vec(), *window, *event_count, period.as_of, false));
                    BTreeSet::new()
                }
            };
            leaving.retain(|member| !present.contains(member));
            Ok(if leaving.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        for (name, window, expected, as_of, taking) in estimates {
            if leaving.is_empty() || expected == 0 {
                continue;
            }
            let reread = Reread { name: &name, window, expected, as_of, taking };
            let new = || leaving.clone();
            leaving = self.reread(whose, &reread, &new, &mut |left, value, _| {
                if let Value::Member(member) = value {
                    left.remove(&member);
                }
                if left.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
        }
        Ok(leaving)
    }

    /// Those of these members that the exact set of a window has.
    fn present(&self, period: &Period<'_>, name: &[u8], members: &BTreeSet<u128>) -> Result<BTreeSet<u128>, PlanError> {
        let (series, start) = split(name)?;
        if period.in_memory.contains(&start) {
            let state = self.planner.view.state().read();
            let series = state.find_series(series);
            if let Some(counter) = series.and_then(|series| Some(&series.counters[series.find(start).ok()?])) {
                let has = |member: &u128| counter.aggregate.has_member(*member);
                return Ok(members.iter().copied().filter(has).collect());
            }
        }
        stored_members(&*period.snapshot, name, members)
    }

    /// Visits the final windows of the period that are not taken back from. Those in memory with the state locked.
    fn each_other(
        &self,
        whose: Whose<'_>,
        period: &Period<'_>,
        finals: &[&Taking<'_>],
        visit: Visit<'_>,
    ) -> Result<(), PlanError> {
        let is_taken = |start: Timestamp| finals.iter().any(|taking| taking.seen.window.start == start);
        for start in period.in_memory.iter().copied().filter(|start| !is_taken(*start)) {
            let state = self.planner.view.state().read();
            let series = state.find_series(period.series);
            let counter = series.and_then(|series| Some(&series.counters[series.find(start).ok()?]));
            let Some(counter) = counter else { continue };
            let (name, seen) = (name_of(&(period.series.to_vec(), start)), Seen::of(counter, whose.definition));
            let other = Other { name: &name, seen: &seen, in_memory: Some(&counter.aggregate) };
            if visit(other)?.is_break() {
                return Ok(());
            }
        }
        let mut cursor = period.snapshot.cursor(Table::Windows).map_err(ReadError::from)?;
        let mut from = Vec::with_capacity(128);
        counter_key(&mut from, period.series, period.period.bounds.start);
        cursor.seek(&from).map_err(ReadError::from)?;
        while let Some((name, row)) = cursor.row().filter(|(name, _)| name.starts_with(period.series)) {
            let (_, start) = split(name)?;
            if start >= period.period.bounds.end {
                break;
            }
            if !is_taken(start) && !period.in_memory.contains(&start) {
                let (counter, members) = decode_window(start, row, whose.definition).ok_or_else(|| damaged(name))?;
                let seen = Seen { exact_members: members.into(), ..Seen::of(&counter, whose.definition) };
                let is_of_it = seen.period == period.id;
                if is_of_it && visit(Other { name, seen: &seen, in_memory: None })?.is_break() {
                    return Ok(());
                }
            }
            cursor.advance().map_err(ReadError::from)?;
        }
        Ok(())
    }
}

fn without_members(aggregate: &Aggregate, definition: &Definition) -> Aggregate {
    if aggregate.takes_members() { Aggregate::new(definition) } else { aggregate.clone() }
}

/// The total in the store; its members are not loaded.
fn stored_total(
    snapshot: &dyn Snapshot,
    whose: Whose<'_>,
    (series, period): (&[u8], &BillingPeriod),
) -> Result<Option<PeriodSeen>, PlanError> {
    let mut name = Vec::with_capacity(128);
    period_key(&mut name, series, &period.label.to_string(), period.bounds);
    let Some(row) = snapshot.get(Table::Periods, &name).map_err(ReadError::from)? else { return Ok(None) };
    let damaged = || ReadError::from(LoadError::Damaged { table: Table::Periods, key: name.clone() });
    let row = decode_period(period.bounds.start, &row, whose.definition).ok_or_else(damaged)?;
    Ok(row.counter.base.map(|base| PeriodSeen { event_count: base.event_count, aggregate: base.aggregate }))
}

/// Those of these members that an exact set has in the store.
fn stored_members(snapshot: &dyn Snapshot, name: &[u8], members: &BTreeSet<u128>) -> Result<BTreeSet<u128>, PlanError> {
    let mut present = BTreeSet::new();
    if members.len() <= LOOK_UPS_MAX {
        for member in members {
            let row = [name, &member.to_be_bytes()].concat();
            let found = snapshot.get(Table::Members, &row).map_err(ReadError::from)?;
            present.extend(found.map(|_| *member));
        }
        return Ok(present);
    }
    let mut cursor = snapshot.cursor(Table::Members).map_err(ReadError::from)?;
    cursor.seek(name).map_err(ReadError::from)?;
    while let Some((row, _)) = cursor.row().filter(|(row, _)| row.starts_with(name)) {
        let member = row.last_chunk().map(|member| u128::from_be_bytes(*member));
        present.extend(member.filter(|member| row.len() == name.len() + 16 && members.contains(member)));
        cursor.advance().map_err(ReadError::from)?;
    }
    Ok(present)
}
