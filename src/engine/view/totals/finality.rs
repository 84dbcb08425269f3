//! Whether a billing period is over for everybody.

use super::{PeriodChoice, TotalsQuery};
use crate::engine::state::State;
use crate::engine::view::View;
use crate::meter::Period;
use crate::model::{Duration, Seq, Timestamp};

impl View {
    /// Whether the period is final: for the customer that is asked for, or for all. And its version, if it is and the store
    /// has all of it.
    pub(super) fn finality(&self, state: &State, query: &TotalsQuery, now: Timestamp) -> (bool, Option<Seq>) {
        let PeriodChoice::Named(label) = query.period else { return (false, None) };
        let infos = || state.periods().named(query.tenant.as_str(), label).map(|id| state.periods().get(id));
        let closed = query.customer.is_some() || infos().all(|info| info.open == 0);
        let is_final = closed && self.is_over(state, (query, label), now);
        let changed = infos().map(|info| info.changed).max().unwrap_or(Seq::ZERO);
        let version = Some(changed)
            .filter(|changed| is_final && infos().all(|info| info.open == 0) && *changed <= state.store().position());
        (is_final, version)
    }

    /// No customer can be in the period any more, nor can usage still come in time for it.
    fn is_over(&self, state: &State, (query, label): (&TotalsQuery, Period), now: Timestamp) -> bool {
        let (meters, calendars) = (self.batches.meters(), self.batches.calendars());
        let mut wanted = meters.iter().filter(|meter| meter.definition.billing_period == label.kind());
        wanted.all(|meter| {
            let ends = match &query.customer {
                Some(customer) => calendars.end_for(query.tenant.as_str(), customer, meter, label),
                None => calendars.latest_end(query.tenant.as_str(), meter, label),
            };
            let grace = state.definitions().get(usize::from(meter.id.0)).map_or(Duration::ZERO, |known| known.grace);
            ends.is_some_and(|ends| ends.saturating_add(grace) <= now) && !self.waits(state, query, label)
        })
    }

    /// A period counter of the customer that is asked for is not final yet.
    fn waits(&self, state: &State, query: &TotalsQuery, label: Period) -> bool {
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
}
