//! What an account has used in a stretch of time: the counters that bill, added up.
//!
//! 1. Counters in memory are the newest; what has left memory is final, and the store has it.
//! 2. The store is asked only for stretches of which some may have left: those that `closed_to` has passed whole. A window or a
//!    period becomes final by that alone.

use std::collections::HashSet;
use std::ops::ControlFlow;

use crate::engine::key;
use crate::engine::state::caps::accounts::{Fired, NONE};
use crate::engine::state::caps::codec::{alert_key, decode_alert};
use crate::engine::state::codec::{counter_key, decode_period, decode_window, period_prefix};
use crate::engine::state::series::{Counter, Series};
use crate::engine::state::{Feed, LoadError, PeriodId, State};
use crate::meter::{Aggregation, BillingPeriod, Cap, CapPeriod, Value};
use crate::model::{MeterId, Quantity, Window};
use crate::store::Table;

impl State {
    /// Usage of an account in a billing period, or in a window that lies in it. Scaled.
    pub fn add_up(
        &self,
        (name, meter): (&[u8], MeterId),
        kind: CapPeriod,
        (period, window): (&BillingPeriod, Window),
    ) -> Result<i128, LoadError> {
        let bounds = if kind == CapPeriod::Billing { period.bounds } else { window };
        let series = self.series_of_account(name, meter);
        let parts = series.iter().map(|number| self.part_of(self.table.get(*number), kind, bounds));
        let (mut used, mut found) = (0_i128, HashSet::new());
        for (number, part) in series.iter().zip(parts) {
            if let Some(part) = part {
                used = used.saturating_add(part);
                found.insert(*number);
            }
        }
        if self.may_have_left(meter, bounds) {
            used = used.saturating_add(self.add_up_stored((name, meter), kind, (period, window), &found)?);
        }
        Ok(used)
    }

    /// Whether counters of a stretch may be in the store alone.
    pub fn may_have_left(&self, meter: MeterId, bounds: Window) -> bool {
        bounds.end <= self.closed_to[usize::from(meter.0)]
    }

    /// The same, of a stretch that is not over: as a rule, without the store. None: it can't be read.
    pub fn used_at_present(
        &self,
        (name, meter): (&[u8], MeterId),
        kind: CapPeriod,
        place: (&BillingPeriod, Window),
    ) -> Option<i128> {
        let bounds = if kind == CapPeriod::Billing { place.0.bounds } else { place.1 };
        // The clock was set back: what is final may have left memory.
        if self.may_have_left(meter, bounds) {
            return self.add_up((name, meter), kind, place).ok();
        }
        Some(self.used_in_memory((name, meter), kind, bounds))
    }

    /// The same of counters in memory alone: right for stretches of which nothing can have left.
    pub fn used_in_memory(&self, (name, meter): (&[u8], MeterId), kind: CapPeriod, bounds: Window) -> i128 {
        self.used_of(&self.series_of_account(name, meter), kind, bounds)
    }

    /// The same of these series.
    pub fn used_of(&self, series: &[u32], kind: CapPeriod, bounds: Window) -> i128 {
        let parts = series.iter().filter_map(|number| self.part_of(self.table.get(*number), kind, bounds));
        parts.fold(0, i128::saturating_add)
    }

    /// The name of the billing period of what has fired; windows have none.
    pub fn period_name(&self, tenant: &str, fired: &Fired) -> Option<String> {
        if fired.kind == CapPeriod::Window {
            return None;
        }
        if let Some(named) = self.periods.of(tenant).find(|info| info.period.bounds == fired.bounds) {
            return Some(named.period.label.to_string());
        }
        // Nothing was counted in it so far: an event that was refused has raised the alert, which says it.
        if let Some((.., alert)) = self.caps.recent_alerts().find(|(seq, ..)| *seq == fired.seq) {
            return alert.period.clone();
        }
        let row = self.store.get(Table::Alerts, &alert_key(tenant, fired.seq)).ok()??;
        decode_alert(&row)?.period
    }

    /// What one series in memory comes to. None: it has no counter there, in memory.
    fn part_of(&self, series: &Series, kind: CapPeriod, bounds: Window) -> Option<i128> {
        let value = |counter: &Counter| counter.value().map_or(0, Quantity::scaled);
        if kind == CapPeriod::Window {
            let place = series.find(bounds.start).ok()?;
            return Some(value(&series.counters[place]));
        }
        let is_it = |period| self.periods.get(period).period.bounds == bounds;
        let base = series.periods.iter().find(|counter| is_it(counter.period))?.base.as_ref();
        let base = base.and_then(|base| base.aggregate.value(base.event_count)).map_or(0, Quantity::scaled);
        let open = series.counters.iter().filter(|counter| !counter.is_final && is_it(counter.period));
        Some(open.fold(base, |sum, counter| sum.saturating_add(value(counter))))
    }

    /// The same of what is in the store, but for the series in memory that have a counter there.
    fn add_up_stored(
        &self,
        (name, meter): (&[u8], MeterId),
        kind: CapPeriod,
        (period, window): (&BillingPeriod, Window),
        found: &HashSet<u32>,
    ) -> Result<i128, LoadError> {
        let definition = &self.definitions[usize::from(meter.0)];
        let (tenant, rest) = key::split_tenant(name).expect("account names are written by this process");
        let mut prefix = Vec::with_capacity(name.len() + 16);
        period_prefix(&mut prefix, tenant, &period.label.to_string());
        prefix.extend_from_slice(rest);
        let (mut used, mut windows, mut damaged) = (0_i128, Vec::new(), None);
        self.store.scan(Table::Periods, &prefix, &mut |row, value| {
            let mut part = || {
                let series = key::without_second_text(row)?;
                let (series, bounds) = key::split_bounds(&series)?;
                let is_found = self.table.find(self.hasher.hash(series), series).is_some_and(|it| found.contains(&it));
                if bounds != period.bounds || is_found {
                    return Some(0);
                }
                if kind == CapPeriod::Window {
                    windows.push(series.to_vec());
                    return Some(0);
                }
                let base = decode_period(bounds.start, value, definition)?.counter.base;
                let base = base.and_then(|base| base.aggregate.value(base.event_count));
                Some(base.map_or(0, Quantity::scaled))
            };
            match part() {
                Some(part) => used = used.saturating_add(part),
                None => damaged = Some(row.to_vec()),
            }
            if damaged.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        if let Some(key) = damaged {
            return Err(LoadError::Damaged { table: Table::Periods, key });
        }
        let mut row = Vec::with_capacity(128);
        for series in windows {
            counter_key(&mut row, &series, window.start);
            if let Some(value) = self.store.get(Table::Windows, &row)? {
                let decoded = decode_window(window.start, &value, definition);
                let damaged = || LoadError::Damaged { table: Table::Windows, key: row.clone() };
                let (counter, _) = decoded.ok_or_else(damaged)?;
                used = used.saturating_add(counter.value().map_or(0, Quantity::scaled));
            }
        }
        Ok(used)
    }

    /// Makes sure that an account's totals are kept up for the stretches that an event falls into.
    pub fn keep_up(&mut self, account: u32, (period, window): (&BillingPeriod, Window)) -> Result<(), LoadError> {
        let needed = [(CapPeriod::Billing, period.bounds), (CapPeriod::Window, window)];
        for (kind, bounds) in needed {
            let known = self.caps.account(account);
            if known.total(kind, bounds).is_some() || !known.has_kind(kind) {
                continue;
            }
            let used = self.add_up((&known.name, known.meter), kind, (period, window))?;
            self.caps.accounts.get_mut(account).put_total(kind, bounds, used, &needed);
        }
        Ok(())
    }

    /// An event's feed was counted in a series of this account.
    pub(in crate::engine::state) fn count_in(&mut self, account: u32, period: PeriodId, feed: &Feed<'_>) {
        if account != NONE {
            let (change, billing) = (self.change_of(feed), self.periods.get(period).period.bounds);
            self.caps.add(account, (billing, feed.window), change);
        }
    }

    /// How a feed changes what a count or a sum comes to. Scaled.
    pub fn change_of(&self, feed: &Feed<'_>) -> i128 {
        self.change_by(feed.meter, feed.value)
    }

    /// The same by meter and value.
    pub fn change_by(&self, meter: MeterId, value: Value) -> i128 {
        match (value, self.definitions[usize::from(meter.0)].aggregation) {
            (Value::Quantity(quantity), Aggregation::Sum) => quantity.scaled(),
            _ => Quantity::ONE.scaled(),
        }
    }

    /// The smallest hard cap that a series' customer has for billing periods.
    pub fn hard_cap_of(&self, series: &Series) -> Option<Quantity> {
        if series.account == NONE { None } else { hard_cap(&self.caps.account(series.account).caps) }
    }
}

/// The smallest hard cap for billing periods, shadow caps left out.
fn hard_cap(caps: &[Cap]) -> Option<Quantity> {
    caps.iter().filter(|cap| cap.enforce && cap.period == CapPeriod::Billing).filter_map(|cap| cap.hard).min()
}
