//! Whether a billing period is over for everybody.

use super::{PeriodChoice, TotalsQuery};
use crate::engine::state::State;
use crate::engine::view::View;
use crate::meter::Period;
use crate::model::{Seq, Timestamp};

impl View {
    /// Whether the period is final: for the customer that is asked for, or for all. And its version, if it is and the store
    /// has all of it. `over_from` is the query's, found before the state was locked.
    pub(super) fn finality(
        state: &State,
        query: &TotalsQuery,
        (over_from, now): (Option<Timestamp>, Timestamp),
    ) -> (bool, Option<Seq>) {
        let PeriodChoice::Named(label) = query.period else { return (false, None) };
        let infos = || state.periods().named(query.tenant.as_str(), label).map(|id| state.periods().get(id));
        let closed = query.customer.is_some() || infos().all(|info| info.open == 0);
        let is_final = closed && over_from.is_some_and(|from| from <= now) && !waits(state, query, label);
        let changed = infos().map(|info| info.changed).max().unwrap_or(Seq::ZERO);
        let version = Some(changed)
            .filter(|changed| is_final && infos().all(|info| info.open == 0) && *changed <= state.store().position());
        (is_final, version)
    }

    /// When no customer can be in the period any more, nor usage still come in time for it. None: never, or nobody asks
    /// for a period by its name.
    pub(super) fn over_from(&self, query: &TotalsQuery) -> Option<Timestamp> {
        let PeriodChoice::Named(label) = query.period else { return None };
        let (meters, calendars) = (self.batches.meters(), self.batches.calendars());
        let wanted = meters.iter().filter(|meter| meter.definition.billing_period == label.kind());
        let mut over_from = wanted.map(|meter| {
            let ends = match &query.customer {
                Some(customer) => calendars.end_for(query.tenant.as_str(), customer, meter, label),
                None => calendars.latest_end(query.tenant.as_str(), meter, label),
            };
            Some(ends?.saturating_add(meter.definition.grace))
        });
        over_from.try_fold(Timestamp::MIN, |latest, from| Some(latest.max(from?)))
    }
}

/// A period counter of the customer that is asked for is not final yet.
fn waits(state: &State, query: &TotalsQuery, label: Period) -> bool {
    let Some(customer) = &query.customer else { return false };
    let mut series = state.newest_series_of(query.tenant.as_str(), customer);
    while let Some(number) = series {
        let mut counters = state.series(number).periods.iter().filter(|counter| !counter.is_final);
        if counters.any(|counter| state.periods().get(counter.period).period.label == label) {
            return true;
        }
        series = state.older_series_of_same_customer(number);
    }
    false
}
