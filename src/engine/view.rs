//! What readers may see of the state: in slices, and only once it is durable.
//!
//! 1. A reader holds the state's lock for one slice, so the writer waits for well under a millisecond.
//! 2. Rows show the newest state; the answer may leave once the seq that was seen is durable.
//! 3. Each row is exact as of some record between the first slice and the last.
//! 4. Final windows are in the store, in memory, or for a moment in both. A reader takes its view of the store and a pin
//!    under one hold of the lock: what memory has then stays until it ends, the rest is in its view of the store.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::engine::batch::Batches;
use crate::engine::key;
use crate::engine::state::caps::board::Board;
use crate::engine::state::{Counter, LoadError, Series, State, TenantTotals, counter_key};
use crate::meter::{Aggregate, Refusal};
use crate::model::{Duration, MeterId, Seq, TenantId, Timestamp, Window};
use crate::store::StoreError;

mod adjustments;
mod caps;
mod corrections;
mod customers;
mod nearest;
mod outbox;
mod stored;
mod totals;

pub use adjustments::{Adjustment, AdjustmentsPage, AdjustmentsQuery};
pub use corrections::{Standing, TrailPage, TrailQuery};
pub use customers::{CustomerUsagePage, MeterTotal};
pub use nearest::{NearCap, NearestCaps};
pub use totals::{PeriodChoice, PeriodTotal, TotalsPage, TotalsQuery};

/// What may be done under one hold of the lock, and what the parts of it cost: about 0.1 µs a point.
const SLICE_COST: usize = 5_000;
const SERIES_COST: usize = 1;
const ROW_COST: usize = 5;
/// A reader copies or merges what a set holds.
const HEAP_BYTES_PER_COST: usize = 128;

/// Why a read has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Damaged(#[from] LoadError),
    /// The total leaves the range.
    #[error(transparent)]
    Merge(#[from] Refusal),
}

/// Which windows are wanted. `None`: all.
#[derive(Clone, Copy, Debug)]
pub struct WindowQuery<'a> {
    pub tenant: &'a TenantId,
    pub meter: Option<MeterId>,
    pub customer: Option<&'a str>,
    /// Windows that start at or after this.
    pub from: Option<Timestamp>,
    /// Windows that start before this.
    pub to: Option<Timestamp>,
}

/// How final a window is; the least final first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WindowState {
    /// Its end has not come.
    Open,
    /// Its end has passed; late events still change it.
    Grace,
    /// It is closed: a late event is an adjustment.
    Finalized,
}

impl WindowState {
    pub const ALL: [WindowState; 3] = [WindowState::Open, WindowState::Grace, WindowState::Finalized];

    pub fn as_str(self) -> &'static str {
        match self {
            WindowState::Open => "open",
            WindowState::Grace => "grace",
            WindowState::Finalized => "finalized",
        }
    }

    /// How final a stretch of time is that usage can still come for in time until `grace` after its end.
    pub fn of_time(end: Timestamp, grace: Duration, now: Timestamp) -> Self {
        Self::of(end.saturating_add(grace) <= now, end, now)
    }

    fn of(is_final: bool, end: Timestamp, now: Timestamp) -> Self {
        match is_final {
            true => WindowState::Finalized,
            false if end <= now => WindowState::Grace,
            false => WindowState::Open,
        }
    }
}

/// One counter, borrowed for the length of a visit.
#[derive(Clone, Copy, Debug)]
pub struct WindowRow<'a> {
    pub meter: MeterId,
    pub customer: &'a str,
    /// In the order of the meter's definition; `None`: not given.
    pub dimensions: &'a [Option<&'a str>],
    pub window: Window,
    pub aggregate: &'a Aggregate,
    pub event_count: u64,
    pub state: WindowState,
    pub revision: u32,
}

/// A reader's handle.
#[derive(Clone)]
pub struct View {
    state: Arc<RwLock<State>>,
    board: Arc<Board>,
    batches: Batches,
    durable: watch::Receiver<Seq>,
}

impl View {
    pub fn new(state: Arc<RwLock<State>>, batches: Batches, durable: watch::Receiver<Seq>) -> Self {
        let board = {
            let state = state.read();
            state.show_now();
            state.caps().accounts().board().clone()
        };
        Self { state, board, batches, durable }
    }

    /// Visits the windows that are asked for, in no particular order; answers with the newest record that was seen.
    /// Nothing of it may leave before [`View::durable`] has reached that record.
    pub fn windows(&self, query: &WindowQuery<'_>, visit: &mut dyn FnMut(WindowRow<'_>)) -> Result<Seq, ReadError> {
        let state = self.state.read();
        let (pin, store) = (state.pin(), state.store().clone());
        let snapshot = store.snapshot();
        drop(state);
        let mut seen = HashSet::new();
        let seq = self.windows_in_memory(query, &mut seen, visit);
        drop(pin);
        stored::windows(&*snapshot, &self.batches.meters(), query, &seen, visit)?;
        Ok(seq)
    }

    /// Notes the final ones it has visited.
    fn windows_in_memory(
        &self,
        query: &WindowQuery<'_>,
        seen: &mut HashSet<Vec<u8>>,
        visit: &mut dyn FnMut(WindowRow<'_>),
    ) -> Seq {
        let mut resume = None;
        loop {
            let state = self.state.read();
            let mut place = resume.or_else(|| first_place(&state, query));
            let mut budget = SLICE_COST;
            while let Some(here) = place.filter(|_| budget > 0) {
                place = visit_series(&state, here, query, (&mut budget, seen), visit);
            }
            if place.is_none() {
                return state.position();
            }
            resume = place;
        }
    }

    /// For those inside the engine who read more than rows.
    pub(in crate::engine) fn state(&self) -> &RwLock<State> {
        &self.state
    }

    /// The newest time that was believed.
    pub fn now(&self) -> Timestamp {
        self.state.read().now()
    }

    /// Follows the newest durable record.
    pub fn durable(&self) -> watch::Receiver<Seq> {
        self.durable.clone()
    }

    /// What each tenant's events came to, and the record it is as of.
    pub fn tenants(&self) -> (Vec<(TenantId, TenantTotals)>, Seq) {
        let state = self.state.read();
        let tenants = state.tenants().iter().map(|(tenant, totals)| (TenantId::new(tenant), *totals)).collect();
        (tenants, state.position())
    }
}

/// Where a walk stands: a series, and the start of the next of its windows (`None`: the first that is wanted).
#[derive(Clone, Copy)]
struct Place {
    series: u32,
    window: Option<Timestamp>,
}

fn first_place(state: &State, query: &WindowQuery<'_>) -> Option<Place> {
    let first = match query.customer {
        Some(customer) => state.newest_series_of(query.tenant.as_str(), customer),
        None => (state.series_len() > 0).then_some(0),
    };
    first.map(|series| Place { series, window: None })
}

fn next_series(state: &State, series: u32, query: &WindowQuery<'_>) -> Option<Place> {
    let next = match query.customer {
        Some(_) => state.older_series_of_same_customer(series),
        None => Some(series + 1).filter(|next| (*next as usize) < state.series_len()),
    };
    next.map(|series| Place { series, window: None })
}

/// Visits windows of one series while the budget lasts; answers with the place to go on from.
fn visit_series(
    state: &State,
    place: Place,
    query: &WindowQuery<'_>,
    (budget, seen): (&mut usize, &mut HashSet<Vec<u8>>),
    visit: &mut dyn FnMut(WindowRow<'_>),
) -> Option<Place> {
    *budget = budget.saturating_sub(SERIES_COST);
    let series = state.series(place.series);
    let first = place.window.max(query.from);
    let wanted = counters_between(series, first, query.to);
    let is_of_meter = query.meter.is_none_or(|meter| meter == series.meter);
    let name = if is_of_meter && !wanted.is_empty() { key::read_series(&series.key) } else { None };
    let Some((name, _)) = name.filter(|(name, _)| name.tenant == query.tenant.as_str()) else {
        return next_series(state, place.series, query);
    };
    for counter in wanted {
        if *budget == 0 {
            return Some(Place { series: place.series, window: Some(counter.window.start) });
        }
        *budget = budget.saturating_sub(ROW_COST + counter.aggregate.heap_bytes() / HEAP_BYTES_PER_COST);
        if counter.is_final {
            let mut name = Vec::with_capacity(series.key.len() + key::START_BYTES);
            counter_key(&mut name, &series.key, counter.window.start);
            seen.insert(name);
        }
        visit(WindowRow {
            meter: series.meter,
            customer: name.customer,
            dimensions: &name.dimensions,
            window: counter.window,
            aggregate: &counter.aggregate,
            event_count: counter.event_count,
            state: WindowState::of(counter.is_final, counter.window.end, state.now()),
            revision: counter.revision,
        });
    }
    next_series(state, place.series, query)
}

/// The counters whose windows start in `[from, to)`.
fn counters_between(series: &Series, from: Option<Timestamp>, to: Option<Timestamp>) -> &[Counter] {
    let place = |at: Timestamp| series.counters.partition_point(|counter| counter.window.start < at);
    let first = from.map_or(0, place);
    let end = to.map_or(series.counters.len(), place);
    &series.counters[first..end.max(first)]
}

#[cfg(test)]
mod tests;
