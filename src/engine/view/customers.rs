//! What is known of one customer: their settings, and their usage in the present billing periods.

use std::collections::HashSet;
use std::sync::Arc;

use super::{ReadError, SLICE_COST, View};
use crate::engine::key;
use crate::engine::state::{
    IN_TOTAL, LoadError, Series, State, decode_period, load_members, period_key, period_prefix,
};
use crate::meter::{Aggregate, BillingPeriod, Customer, Meter, Meters, Period, Refusal};
use crate::model::{MeterId, Quantity, Seq, TenantId, Timestamp};
use crate::store::{Snapshot, Table};

/// A customer's present billing period of every meter, merged over dimensions.
#[derive(Debug)]
pub struct CustomerUsagePage {
    /// One per meter, in order of number; also for meters that the customer did not use.
    pub rows: Vec<MeterTotal>,
    /// Nothing may leave before this record is durable.
    pub seq: Seq,
    pub as_of: Timestamp,
}

#[derive(Clone, Debug)]
pub struct MeterTotal {
    pub meter: MeterId,
    /// The billing period's name.
    pub period: String,
    pub bounds: crate::model::Window,
    pub value: Option<Quantity>,
    pub event_count: u64,
    pub approximate: bool,
}

/// What one meter comes to while series are visited.
struct Sum {
    period: BillingPeriod,
    aggregate: Aggregate,
    event_count: u64,
}

impl View {
    /// What was set for a customer; none if nothing was.
    pub fn customer(&self, tenant: &TenantId, customer: &str) -> (Option<Arc<Customer>>, Seq) {
        let state = self.state.read();
        (state.customer(tenant.as_str(), customer).cloned(), state.position())
    }

    /// The period that holds an instant, by a meter's calendar and the customer's settings.
    pub fn period_of(&self, tenant: &TenantId, customer: &str, meter: &Meter, at: Timestamp) -> BillingPeriod {
        let mut name = Vec::with_capacity(64);
        key::put_customer(&mut name, tenant.as_str(), customer);
        meter.calendar(self.batches.calendars().get(&name).as_deref()).period_at(at)
    }

    /// The present billing period of every meter for one customer.
    pub fn customer_usage(&self, tenant: &TenantId, customer: &str) -> Result<CustomerUsagePage, ReadError> {
        let meters = self.batches.meters();
        let state = self.state.read();
        let (pin, now, store) = (state.pin(), state.now(), state.store().clone());
        let snapshot = store.snapshot();
        let mut place = state.newest_series_of(tenant.as_str(), customer);
        drop(state);
        let mut seen = HashSet::new();
        let sum = |meter: &Meter| Sum {
            period: self.period_of(tenant, customer, meter, now),
            aggregate: Aggregate::new(&meter.definition),
            event_count: 0,
        };
        let mut sums: Vec<Sum> = meters.iter().map(sum).collect();
        loop {
            let state = self.state.read();
            for _ in 0..SLICE_COST / 10 {
                let Some(number) = place else { break };
                let series = state.series(number);
                if let Some(sum) = sums.get_mut(usize::from(series.meter.0)) {
                    sum.add(&state, series, &mut seen)?;
                }
                place = state.older_series_of_same_customer(number);
            }
            if place.is_none() {
                let seq = state.position();
                drop((state, pin));
                add_stored(&*snapshot, (tenant.as_str(), customer), &meters, &mut sums, &seen)?;
                let rows = sums.iter().enumerate().map(|(number, sum)| sum.total(MeterId(number as u16))).collect();
                return Ok(CustomerUsagePage { rows, seq, as_of: now });
            }
        }
    }
}

/// Adds period counters that have left memory: a clock that was wrong may have closed the present period.
fn add_stored(
    snapshot: &dyn Snapshot,
    (tenant, customer): (&str, &str),
    meters: &Meters,
    sums: &mut [Sum],
    seen: &HashSet<Vec<u8>>,
) -> Result<(), ReadError> {
    let mut labels: Vec<Period> = sums.iter().map(|sum| sum.period.label).collect();
    labels.sort();
    labels.dedup();
    let mut cursor = snapshot.cursor(Table::Periods)?;
    for label in labels {
        let mut prefix = Vec::with_capacity(64);
        period_prefix(&mut prefix, tenant, &label.to_string());
        key::put_text(&mut prefix, customer);
        cursor.seek(&prefix)?;
        while let Some((row, value)) = cursor.row().filter(|(row, _)| row.starts_with(&prefix)) {
            if !seen.contains(row) {
                add_row(snapshot, (row, value), meters, sums)?;
            }
            cursor.advance()?;
        }
    }
    Ok(())
}

fn add_row(
    snapshot: &dyn Snapshot,
    (row, value): (&[u8], &[u8]),
    meters: &Meters,
    sums: &mut [Sum],
) -> Result<(), ReadError> {
    let damaged = || LoadError::Damaged { table: Table::Periods, key: row.to_vec() };
    let name = key::without_second_text(row).ok_or_else(damaged)?;
    let (series, bounds) = key::split_bounds(&name).ok_or_else(damaged)?;
    let (parts, _) = key::read_series(series).ok_or_else(damaged)?;
    let meter = meters.by_slug(parts.meter).ok_or_else(damaged)?;
    let sum = sums.get_mut(usize::from(meter.id.0)).filter(|sum| sum.period.bounds == bounds);
    let Some(sum) = sum else { return Ok(()) };
    let period = decode_period(bounds.start, value, &meter.definition).ok_or_else(damaged)?;
    if let Some(mut base) = period.counter.base {
        let set = (&mut base.aggregate, period.members[0].into());
        load_members(snapshot, Table::PeriodMembers, &[row, &[IN_TOTAL]].concat(), set)?;
        sum.aggregate.merge(&base.aggregate)?;
        sum.event_count += base.event_count;
    }
    Ok(())
}

impl Sum {
    /// Notes the period counters that it has come across.
    fn add(&mut self, state: &State, series: &Series, seen: &mut HashSet<Vec<u8>>) -> Result<(), Refusal> {
        let bounds = self.period.bounds;
        let is_in = |period| state.periods().get(period).period.bounds == bounds;
        for counter in series.periods.iter().filter(|counter| is_in(counter.period)) {
            let mut name = Vec::with_capacity(series.key.len() + 32);
            period_key(&mut name, &series.key, &self.period.label.to_string(), bounds);
            seen.insert(name);
            if let Some(base) = &counter.base {
                self.aggregate.merge(&base.aggregate)?;
                self.event_count += base.event_count;
            }
        }
        for counter in series.counters.iter().filter(|counter| !counter.is_final && is_in(counter.period)) {
            self.aggregate.merge(&counter.aggregate)?;
            self.event_count += counter.event_count;
        }
        Ok(())
    }

    fn total(&self, meter: MeterId) -> MeterTotal {
        MeterTotal {
            meter,
            period: self.period.label.to_string(),
            bounds: self.period.bounds,
            value: self.aggregate.value(self.event_count),
            event_count: self.event_count,
            approximate: self.aggregate.is_approximate(),
        }
    }
}
