//! One retraction: windows in order become changes by series and period, each with what remains.
//!
//! 1. Every window is read at one record, under one hold of the state's lock; so is each period, with the other final windows
//!    it holds. Whatever changes between these, or later, changes a count that the writer compares.
//! 2. A counter keeps the billing period that it began with: that is the change's, whatever the event's record says.
//! 3. The windows of the changes, one change after the other, are in order: a revert can go on behind the last of them. Where
//!    a series comes back to a period after another, the retraction ends.

use std::collections::BTreeSet;

use super::remains::{Left, encode};
use super::taken::TakenWindow;
use super::{PlanError, Planner};
use crate::engine::corrections::{
    BackfillState, Basis, Cause, Change, RETRACTED_WINDOWS_MAX, Remains, Retraction, WindowChange,
};
use crate::engine::evidence::EvidenceEvent;
use crate::engine::key;
use crate::engine::state::{Counter, LoadError, PeriodId, State, counter_key, decode_window};
use crate::engine::view::ReadError;
use crate::meter::{Aggregate, Aggregation, BillingPeriod, Definition};
use crate::model::{MeterId, Quantity, Seq, TenantId, Timestamp, Window};
use crate::store::Table;

/// A retraction ends with the window that brings what remains to this size.
const BYTES_MAX: usize = 1 << 20;

/// A window's counter as it was read.
pub struct Seen {
    pub window: Window,
    pub event_count: u64,
    pub is_final: bool,
    pub period: PeriodId,
    /// An exact set has its members elsewhere: here are none.
    pub aggregate: Aggregate,
    /// How many those are.
    pub exact_members: u64,
}

impl Seen {
    pub fn of(counter: &Counter, definition: &Definition) -> Self {
        let is_set = counter.aggregate.takes_members();
        Self {
            window: counter.window,
            event_count: counter.event_count,
            is_final: counter.is_final,
            period: counter.period,
            aggregate: if is_set { Aggregate::new(definition) } else { counter.aggregate.clone() },
            exact_members: counter.aggregate.exact_members().unsigned_abs(),
        }
    }
}

/// A window that is taken back from.
pub struct Taking<'a> {
    /// The name of its counter: series, start.
    pub name: &'a [u8],
    pub series: &'a [u8],
    pub taken: &'a TakenWindow,
    pub seen: Seen,
    pub left: Left,
}

/// What is known of a series while its windows are planned.
#[derive(Clone, Copy)]
pub struct Whose<'a> {
    pub tenant: &'a str,
    pub meter: MeterId,
    pub definition: &'a Definition,
}

/// Backfills of which some events or all are gone, by number.
type Gone = Vec<(u32, Option<Vec<u8>>)>;

pub struct Slice<'a> {
    pub planner: &'a Planner,
    pub cause: &'a Cause,
    basis: Basis,
    /// The record that the counters were read at.
    pub position: Seq,
    /// Backfills that are being reverted, and up to which counter they are.
    reverting: Gone,
}

impl<'a> Slice<'a> {
    pub fn new(planner: &'a Planner, cause: &'a Cause, basis: Basis) -> Self {
        Self { planner, cause, basis, position: Seq::ZERO, reverting: Vec::new() }
    }

    pub fn plan(
        mut self,
        tenant: &TenantId,
        windows: &[(Vec<u8>, TakenWindow)],
    ) -> Result<(Retraction, usize), PlanError> {
        let windows = &windows[..windows.len().min(RETRACTED_WINDOWS_MAX)];
        let (definitions, seen) = self.look(windows)?;
        let (mut groups, mut ended, mut bytes, mut took) = (Vec::<Vec<Taking<'_>>>::new(), BTreeSet::new(), 0, 0);
        for ((name, taken), seen) in windows.iter().zip(seen) {
            let (series, _) = split(name)?;
            let newest = groups.last().and_then(|group| group.last());
            let joins = newest.is_some_and(|newest| newest.series == series && newest.seen.period == seen.period);
            if bytes > BYTES_MAX || (!joins && !ended.insert((series, seen.period))) {
                break;
            }
            let definition = &definitions[usize::from(taken.meter.0)];
            let whose = Whose { tenant: tenant.as_str(), meter: taken.meter, definition };
            let mut taking = Taking { name, series, taken, seen, left: Left::default() };
            taking.left = self.remains(whose, &taking)?;
            bytes += taking.left.bytes();
            match groups.last_mut().filter(|_| joins) {
                Some(group) => group.push(taking),
                None => groups.push(vec![taking]),
            }
            took += 1;
        }
        let mut changes = Vec::with_capacity(groups.len());
        for group in groups {
            let meter = group[0].taken.meter;
            let whose = Whose { tenant: tenant.as_str(), meter, definition: &definitions[usize::from(meter.0)] };
            changes.push(self.change(whose, group)?);
        }
        let retraction = Retraction { tenant: tenant.clone(), cause: self.cause.clone(), basis: self.basis, changes };
        Ok((retraction, took))
    }

    /// Reads the windows' counters as of one record.
    fn look(&mut self, windows: &[(Vec<u8>, TakenWindow)]) -> Result<(Vec<Definition>, Vec<Seen>), PlanError> {
        let state = self.planner.view.state().read();
        let (pin, store) = (state.pin(), state.store().clone());
        let snapshot = store.snapshot();
        self.position = state.position();
        self.reverting = reverting(&state);
        let definitions = state.definitions().to_vec();
        let mut in_memory = Vec::with_capacity(windows.len());
        for (name, taken) in windows {
            let (series, start) = split(name)?;
            let definition = definitions.get(usize::from(taken.meter.0)).ok_or_else(|| damaged(name))?;
            let series = state.find_series(series);
            let counter = series.and_then(|series| Some(&series.counters[series.find(start).ok()?]));
            in_memory.push(counter.map(|counter| Seen::of(counter, definition)));
        }
        drop((state, pin));
        let mut seen = Vec::with_capacity(windows.len());
        for (known, (name, taken)) in in_memory.into_iter().zip(windows) {
            seen.push(match known {
                Some(known) => known,
                None => {
                    let (series, start) = split(name)?;
                    let nowhere = || PlanError::differs(series, Window { start, end: start }, taken.events, 0);
                    let row = snapshot.get(Table::Windows, name).map_err(ReadError::from)?.ok_or_else(nowhere)?;
                    let definition = &definitions[usize::from(taken.meter.0)];
                    let (counter, members) = decode_window(start, &row, definition).ok_or_else(|| damaged(name))?;
                    Seen { exact_members: members.into(), ..Seen::of(&counter, definition) }
                }
            });
        }
        Ok((definitions, seen))
    }

    fn change(&self, whose: Whose<'_>, group: Vec<Taking<'_>>) -> Result<Change, PlanError> {
        let (total, total_count) = self.total(whose, &group)?;
        let first = &group[0];
        let (series, period) = (first.series.to_vec(), self.period(first.seen.period));
        let mut windows = Vec::with_capacity(group.len());
        for Taking { series, taken, seen, left, .. } in group {
            let quantity = match whose.definition.aggregation {
                Aggregation::Sum | Aggregation::Avg => {
                    let differs = || PlanError::differs(series, seen.window, seen.event_count, taken.events);
                    taken.sum.ok_or_else(differs)?
                }
                _ => Quantity::ZERO,
            };
            windows.push(WindowChange {
                window: seen.window,
                event_count: seen.event_count,
                is_final: seen.is_final,
                events: taken.events,
                quantity,
                timestamp: taken.latest.0,
                remains: left.remains,
            });
        }
        Ok(Change { series, meter: whose.meter, period, total, total_count, windows })
    }

    pub fn period(&self, period: PeriodId) -> BillingPeriod {
        self.planner.view.state().read().periods().get(period).period
    }

    /// Whether an event does not count in this counter any more; `taking`: what is being taken back from it is gone, too.
    pub fn is_gone(&self, event: &EvidenceEvent<'_>, name: &[u8], taking: bool) -> bool {
        let is_taken = taking
            && match self.cause {
                Cause::Void(void) => event.seq == void.event,
                Cause::Revert { backfill } => event.backfill == Some(*backfill),
            };
        let is_reverted = event.backfill.is_some_and(|number| {
            let known = self.reverting.iter().find(|(known, _)| *known == number);
            known.is_some_and(|(_, to)| to.as_ref().is_some_and(|to| name <= to.as_slice()))
        });
        is_taken || is_reverted || self.planner.view.is_taken_back(event.seq)
    }

    /// What is left, where the whole of it is known.
    pub fn is(aggregate: Aggregate) -> Left {
        Left { remains: Remains::Is(encode(&aggregate)), whole: Some(aggregate), leaving: BTreeSet::new() }
    }
}

fn reverting(state: &State) -> Gone {
    let reverting = state.corrections().backfills().iter();
    let reverting = reverting.filter(|backfill| backfill.state == BackfillState::Reverting);
    let to = reverting.map(|backfill| (backfill.number, backfill.reverted_to.as_ref().map(name_of)));
    to.collect()
}

/// The name of the counter of a series' window.
pub fn name_of((series, start): &(Vec<u8>, Timestamp)) -> Vec<u8> {
    let mut name = Vec::with_capacity(series.len() + key::START_BYTES);
    counter_key(&mut name, series, *start);
    name
}

pub fn split(name: &[u8]) -> Result<(&[u8], Timestamp), PlanError> {
    key::split_start(name).ok_or_else(|| damaged(name))
}

pub fn damaged(name: &[u8]) -> PlanError {
    ReadError::from(LoadError::Damaged { table: Table::Windows, key: name.to_vec() }).into()
}
