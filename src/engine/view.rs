//! What readers may see of the state: in slices, and only once it is durable.
//!
//! 1. A reader holds the state's lock for one slice, so the writer waits for well under a millisecond.
//! 2. Rows show the newest state; the answer may leave once the seq that was seen is durable.
//! 3. Each row is exact as of some record between the first slice and the last.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::engine::key;
use crate::engine::state::{Counter, Series, State, TenantTotals};
use crate::meter::Aggregate;
use crate::model::{MeterId, Seq, TenantId, Timestamp, Window};

/// Series looked at under one hold of the lock.
const SLICE_SERIES: usize = 1_024;

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
}

impl WindowState {
    pub fn as_str(self) -> &'static str {
        match self {
            WindowState::Open => "open",
            WindowState::Grace => "grace",
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
    durable: watch::Receiver<Seq>,
}

impl View {
    pub fn new(state: Arc<RwLock<State>>, durable: watch::Receiver<Seq>) -> Self {
        Self { state, durable }
    }

    /// Visits the windows that are asked for, in no particular order; answers with the newest record that was seen.
    /// Nothing of it may leave before [`View::durable`] has reached that record.
    pub fn windows(&self, query: &WindowQuery<'_>, visit: &mut dyn FnMut(WindowRow<'_>)) -> Seq {
        match query.customer {
            Some(customer) => self.windows_of_customer(query, customer, visit),
            None => self.windows_of_all(query, visit),
        }
    }

    fn windows_of_customer(&self, query: &WindowQuery<'_>, customer: &str, visit: &mut dyn FnMut(WindowRow<'_>)) -> Seq {
        let state = self.state.read();
        for number in state.series_of_customer(query.tenant.as_str(), customer) {
            visit_series(&state, state.series(number), query, visit);
        }
        state.position()
    }

    fn windows_of_all(&self, query: &WindowQuery<'_>, visit: &mut dyn FnMut(WindowRow<'_>)) -> Seq {
        let mut next = 0;
        loop {
            let state = self.state.read();
            let end = (next + SLICE_SERIES).min(state.series_len());
            for number in next..end {
                visit_series(&state, state.series(number as u32), query, visit);
            }
            if end == state.series_len() {
                return state.position();
            }
            next = end;
        }
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

fn visit_series(state: &State, series: &Series, query: &WindowQuery<'_>, visit: &mut dyn FnMut(WindowRow<'_>)) {
    if query.meter.is_some_and(|meter| meter != series.meter) {
        return;
    }
    let first = query.from.map_or(0, |from| series.counters.partition_point(|counter| counter.window.start < from));
    let wanted = |counter: &&Counter| query.to.is_none_or(|to| counter.window.start < to);
    let mut counters = series.counters[first..].iter().take_while(wanted).peekable();
    if counters.peek().is_none() {
        return;
    }
    let Some((name, _)) = key::read_series(&series.key) else { return };
    if name.tenant != query.tenant.as_str() {
        return;
    }
    for counter in counters {
        let ended = counter.window.end <= state.clock().effective();
        visit(WindowRow {
            meter: series.meter,
            customer: name.customer,
            dimensions: &name.dimensions,
            window: counter.window,
            aggregate: &counter.aggregate,
            event_count: counter.event_count,
            state: if ended { WindowState::Grace } else { WindowState::Open },
            revision: counter.revision,
        });
    }
}
