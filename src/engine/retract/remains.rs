//! What remains of one window.
//!
//! 1. Events are read again only where the counter cannot tell: what is taken back was its least, greatest or latest, or
//!    members of it that other events may have brought, too.
//! 2. Only events up to the record at which the counter was read are looked at, and they must be as many as it says.
//! 3. Evidence lists an event at the time of its first feed: where another feed counts in a window elsewhere (a reservation
//!    that was committed late), the window's own stretch of time does not hold it, and a wider one is read.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::PlanError;
use super::plan::{Slice, Taking, Whose, split};
use super::taken::TakenWindow;
use crate::engine::corrections::{Remains, RetractionRefused};
use crate::engine::evidence::{EvidenceEvent, EvidenceQuery};
use crate::engine::key;
use crate::engine::state::load_members;
use crate::engine::view::ReadError;
use crate::meter::{Aggregate, Aggregation, Definition, Value};
use crate::model::{Duration, Seq, Timestamp, Window};
use crate::store::Table;

/// More members than these do not leave one by one: the set becomes an estimate, so that it fits a record.
pub const LEAVING_MAX: usize = 500_000;
/// No window is longer, changes of the clock included.
const WIDER: Duration = Duration::from_secs(2 * 86_400);

/// What is left of a window.
#[derive(Debug)]
pub struct Left {
    pub remains: Remains,
    /// As an aggregate, where that is known; an exact set is not.
    pub whole: Option<Aggregate>,
    /// The members that leave an exact set.
    pub leaving: BTreeSet<u128>,
}

impl Default for Left {
    fn default() -> Self {
        Self { remains: Remains::Subtract, whole: None, leaving: BTreeSet::new() }
    }
}

impl Left {
    /// About what it takes in a record.
    pub fn bytes(&self) -> usize {
        match &self.remains {
            Remains::Subtract => 0,
            Remains::Is(bytes) => bytes.len(),
            Remains::Without(members) => members.len() * size_of::<u128>(),
        }
    }
}

/// A window whose events are read again.
pub struct Reread<'a> {
    /// The name of its counter.
    pub name: &'a [u8],
    pub window: Window,
    /// Events that must be found.
    pub expected: u64,
    /// The record at which the counter was read.
    pub as_of: Seq,
    /// What is being taken back is taken back from it.
    pub taking: bool,
}

/// Gets a value and when it was; says whether to go on.
pub type Add<'a, A> = dyn FnMut(&mut A, Value, (Timestamp, Seq)) -> ControlFlow<()> + 'a;

impl Slice<'_> {
    pub fn remains(&self, whose: Whose<'_>, taking: &Taking<'_>) -> Result<Left, PlanError> {
        let Taking { series, taken, seen, .. } = taking;
        if seen.event_count < taken.events {
            return Err(PlanError::differs(series, seen.window, taken.events, seen.event_count));
        }
        let is_empty = seen.event_count == taken.events;
        match whose.definition.aggregation {
            Aggregation::Count | Aggregation::Sum | Aggregation::Avg => Ok(Left::default()),
            Aggregation::Unique if seen.aggregate.is_approximate() => {
                Ok(Slice::is(self.estimate(whose, taking, is_empty)?))
            }
            Aggregation::Unique => self.set(whose, taking),
            _ if is_empty => Ok(Slice::is(Aggregate::new(whose.definition))),
            _ if stands(&seen.aggregate, taken) => Ok(Slice::is(seen.aggregate.clone())),
            _ => {
                let new = || Aggregate::new(whose.definition);
                Ok(Slice::is(self.reread(whose, &self.rest_of(taking), &new, &mut add_to)?))
            }
        }
    }

    /// The rest of a window, to be read again.
    fn rest_of<'t>(&self, taking: &Taking<'t>) -> Reread<'t> {
        let expected = taking.seen.event_count - taking.taken.events;
        Reread { name: taking.name, window: taking.seen.window, expected, as_of: self.position, taking: true }
    }

    fn estimate(&self, whose: Whose<'_>, taking: &Taking<'_>, is_empty: bool) -> Result<Aggregate, PlanError> {
        let limits = Definition { approximate: true, ..whose.definition.clone() };
        let new = || Aggregate::new(&limits);
        let mut estimate = if is_empty { new() } else { self.reread(whose, &self.rest_of(taking), &new, &mut add_to)? };
        estimate.make_approximate();
        estimate.set_limits(whose.definition);
        Ok(estimate)
    }

    fn set(&self, whose: Whose<'_>, taking: &Taking<'_>) -> Result<Left, PlanError> {
        let leaving = self.leaving(whose, taking)?;
        if leaving.len() <= self.planner.leaving_max {
            return Ok(Left { remains: Remains::Without(leaving.iter().copied().collect()), whole: None, leaving });
        }
        let mut rest = self.whole_set(whose, (taking.name, taking.seen.exact_members))?;
        remove(&mut rest, &leaving);
        rest.make_approximate();
        Ok(Left { leaving, ..Slice::is(rest) })
    }

    /// The taken members that no event that is left in the window has.
    pub fn leaving(&self, whose: Whose<'_>, taking: &Taking<'_>) -> Result<BTreeSet<u128>, PlanError> {
        let Taking { taken, seen, series, .. } = taking;
        let is_set = seen.aggregate.takes_members();
        if seen.event_count == taken.events {
            let members = taken.members.len() as u64;
            if is_set && members != seen.exact_members {
                return Err(PlanError::differs(series, seen.window, seen.exact_members, members));
            }
            return Ok(taken.members.clone());
        }
        // Each event has brought a member of its own.
        if is_set && seen.event_count == seen.exact_members {
            return Ok(taken.members.clone());
        }
        let new = || taken.members.clone();
        self.reread(whose, &self.rest_of(taking), &new, &mut |left, value, _| {
            if let Value::Member(member) = value {
                left.remove(&member);
            }
            if left.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    }

    /// An exact set with its members, as it is now.
    pub fn whole_set(&self, whose: Whose<'_>, (name, members): (&[u8], u64)) -> Result<Aggregate, PlanError> {
        let (series, start) = split(name)?;
        let state = self.planner.view.state().read();
        let known = state.find_series(series);
        if let Some(counter) = known.and_then(|series| Some(&series.counters[series.find(start).ok()?])) {
            return Ok(counter.aggregate.clone());
        }
        let store = state.store().clone();
        let snapshot = store.snapshot();
        drop(state);
        let mut set = Aggregate::new(whose.definition);
        load_members(&*snapshot, Table::Members, name, (&mut set, members)).map_err(ReadError::from)?;
        Ok(set)
    }

    /// Reads a window's events again, and folds them with `add`, until that says that it knows enough.
    pub fn reread<A>(
        &self,
        whose: Whose<'_>,
        window: &Reread<'_>,
        new: &dyn Fn() -> A,
        add: &mut Add<'_, A>,
    ) -> Result<A, PlanError> {
        if !self.planner.source.wait_for(window.as_of) {
            return Err(PlanError::NotDurable(window.as_of));
        }
        let Window { start, end } = window.window;
        let mut found = 0;
        for (from, to) in [(start, end), (start.saturating_sub(WIDER), end.saturating_add(WIDER))] {
            let mut folded = new();
            let (count, stopped) =
                self.read((whose, window), (from, to), &mut |value, at| add(&mut folded, value, at))?;
            if stopped || count == window.expected {
                return Ok(folded);
            }
            found = count;
        }
        if found < window.expected && self.planner.source.oldest()? > Seq(1) {
            return Err(RetractionRefused::EvidenceExpired.into());
        }
        let (series, _) = split(window.name)?;
        Err(PlanError::differs(series, window.window, window.expected, found))
    }

    fn read(
        &self,
        (whose, window): (Whose<'_>, &Reread<'_>),
        (from, to): (Timestamp, Timestamp),
        add: &mut dyn FnMut(Value, (Timestamp, Seq)) -> ControlFlow<()>,
    ) -> Result<(u64, bool), PlanError> {
        let (series, start) = split(window.name)?;
        let (name, _) = key::read_series(series).ok_or_else(|| super::plan::damaged(window.name))?;
        let (meter, customer) = (Some(whose.meter), name.customer);
        let (from, to) = (Some(from), Some(to));
        let query = EvidenceQuery { tenant: whose.tenant, customer, meter, from, to, after: None };
        let (mut count, mut stopped) = (0, false);
        self.planner.source.events(&query, &mut |event: &EvidenceEvent<'_>| {
            if event.seq > window.as_of {
                return ControlFlow::Continue(());
            }
            let mut feeds = event.event.feeds.iter();
            let feed = feeds.find(|feed| feed.meter == whose.meter && feed.dimensions[..] == name.dimensions[..]);
            let Some(feed) = feed.filter(|feed| feed.window.start == start) else { return ControlFlow::Continue(()) };
            if self.is_gone(event, window.name, window.taking) {
                return ControlFlow::Continue(());
            }
            count += 1;
            let flow = add(feed.value, (event.event.timestamp, event.seq));
            stopped = flow.is_break();
            flow
        })?;
        Ok((count, stopped))
    }
}

/// Whether the value stays although this is taken back.
fn stands(aggregate: &Aggregate, taken: &TakenWindow) -> bool {
    match aggregate {
        Aggregate::Min(least) => taken.least > *least,
        Aggregate::Max(most) => taken.most < *most,
        Aggregate::Latest { at, seq, .. } => taken.latest != (*at, *seq),
        _ => false,
    }
}

/// Least, greatest, latest and estimates take any value of their own kind.
fn add_to(aggregate: &mut Aggregate, value: Value, (at, seq): (Timestamp, Seq)) -> ControlFlow<()> {
    let added = aggregate.add(value, at, seq);
    debug_assert!(added.is_ok(), "the log holds what was checked");
    ControlFlow::Continue(())
}

/// Takes members out of a set.
pub fn remove(set: &mut Aggregate, members: &BTreeSet<u128>) {
    for member in members {
        set.remove_member(*member);
    }
}

/// The stored form.
pub fn encode(aggregate: &Aggregate) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    aggregate.encode(&mut bytes);
    bytes
}
