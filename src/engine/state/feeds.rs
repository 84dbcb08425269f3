//! An event's feeds: where each goes, whether all can be applied, and their application.
//!
//! 1. `check` tells beforehand whether an event can be applied whole; `apply_feed` of such an event cannot fail.
//! 2. A feed that is late finds its counters in memory: `recall` has brought them.

use super::{Epoch, FoldError, Naming, State, tenant_of};
use crate::engine::record::ClosedKind;
use crate::engine::state::series::{Counter, PeriodCounter, Series};
use crate::meter::{Aggregate, Aggregation, BillingPeriod, Refusal, Value};
use crate::model::{Code, MeterId, Quantity, Seq, Timestamp, Window};

/// A window's sum this far from zero is checked together with its whole period: the longest has fewer than 2^23 windows, so that
/// smaller ones cannot leave the range together.
const LARGE: u128 = i128::MAX.unsigned_abs() >> 23;
/// What a period's large windows may come to together.
const PERIOD_MAX: u128 = i128::MAX.unsigned_abs() / 4;

/// What an event adds to one series.
#[derive(Clone, Copy, Debug)]
pub struct Feed<'a> {
    /// Its place among the event's feeds.
    pub number: u8,
    pub meter: MeterId,
    /// Its window is final: it is an adjustment.
    pub late: bool,
    pub window: Window,
    pub period: &'a BillingPeriod,
    pub value: Value,
    /// The series' name and its table hash.
    pub key: &'a [u8],
    pub hash: u64,
}

/// How much the state may hold; what would exceed it is refused.
#[derive(Clone, Copy, Debug)]
pub struct StateLimits {
    pub open_counters_max: u64,
    pub unique_members_max: u64,
}

/// Where a feed goes: the series, if it is there, and the counter in it.
#[derive(Clone, Copy, Debug)]
pub struct Located {
    pub(super) series: Option<u32>,
    pub(super) counter: Result<usize, usize>,
}

impl Located {
    pub fn series_number(&self) -> Option<u32> {
        self.series
    }
}

impl State {
    /// Where a feed goes.
    pub fn locate(&self, feed: &Feed<'_>) -> Located {
        self.locate_in(feed, self.table.find(feed.hash, feed.key))
    }

    /// The same, after other events were applied since `before` was found: numbers stay, places may have moved.
    pub fn locate_again(&self, feed: &Feed<'_>, before: Located) -> Located {
        match (before.series, before.counter) {
            (None, _) => self.locate(feed),
            (Some(number), Ok(place)) if self.table.get(number).counters[place].window.start == feed.window.start => {
                before
            }
            (series, _) => self.locate_in(feed, series),
        }
    }

    fn locate_in(&self, feed: &Feed<'_>, series: Option<u32>) -> Located {
        let counter = series.map_or(Err(0), |number| self.table.get(number).find(feed.window.start));
        Located { series, counter }
    }

    /// The billing period that a feed is counted in: its window's counter keeps the one that it began with.
    pub fn period_of(&self, feed: &Feed<'_>, located: Located) -> BillingPeriod {
        match (located.series, located.counter) {
            (Some(number), Ok(place)) => self.periods.get(self.table.get(number).counters[place].period).period,
            _ => *feed.period,
        }
    }

    /// Whether the feed's window is final, so that the feed is an adjustment; `located` is brought up to date. Without a
    /// counter it is once it has been over for longer than its meter's grace.
    pub fn is_late(&mut self, feed: &Feed<'_>, located: &mut Located, now: Timestamp) -> Result<bool, FoldError> {
        if let (Some(number), Ok(place)) = (located.series, located.counter) {
            return Ok(self.table.get(number).counters[place].is_final);
        }
        let meter = usize::from(feed.meter.0);
        if feed.window.end.saturating_add(self.definitions[meter].grace) <= now {
            return Ok(true);
        }
        if feed.window.start >= self.closed_to[meter] {
            return Ok(false);
        }
        // Windows as late as this were closed before: the grace has grown, or the clock was set back.
        self.recall(feed)?;
        *located = self.locate(feed);
        let Some(series) = located.series.map(|number| self.table.get(number)) else { return Ok(false) };
        let is_it = |counter: &&PeriodCounter| self.periods.get(counter.period).period == *feed.period;
        let period_is_final = series.periods.iter().find(is_it).is_some_and(|counter| counter.is_final);
        Ok(located.counter.is_ok() || period_is_final)
    }

    /// Whether every feed of an event can be applied; `located` must be from this very state.
    pub fn check<'a>(
        &self,
        feeds: impl Iterator<Item = (Feed<'a>, Located)>,
        limits: &StateLimits,
    ) -> Result<(), (Code, String)> {
        let mut counters = self.counters;
        let mut members = self.members;
        for (feed, located) in feeds {
            let definition = &self.definitions[usize::from(feed.meter.0)];
            let counter = match (located.series, located.counter) {
                (Some(number), Ok(place)) => Some(&self.table.get(number).counters[place]),
                _ => {
                    counters += 1;
                    // A series whose windows are final stays in memory until its billing period is.
                    let max = limits.open_counters_max;
                    if counters > max || (self.period_counters >= max && !self.has_period(&feed, located)) {
                        let detail = format!("limits.open_counters = {} is reached", limits.open_counters_max);
                        return Err((Code::CounterLimit, detail));
                    }
                    None
                }
            };
            members += u64::from(matches!(feed.value, Value::Member(_)));
            if members > limits.unique_members_max && matches!(feed.value, Value::Member(_)) {
                let detail = format!("limits.unique_members = {} is reached", limits.unique_members_max);
                return Err((Code::UniqueLimit, detail));
            }
            let refusal = match counter {
                Some(counter) => counter.aggregate.check(feed.value).err().or_else(|| check_change(&feed, counter)),
                None => Aggregate::new(definition).check(feed.value).err(),
            };
            if let Some(refusal) = refusal.or_else(|| self.check_period(&feed, located, counter)) {
                return Err((code_of(refusal), format!("meter {}: {refusal}", definition.slug)));
            }
        }
        Ok(())
    }

    fn has_period(&self, feed: &Feed<'_>, located: Located) -> bool {
        let is_it = |counter: &PeriodCounter| self.periods.get(counter.period).period == *feed.period;
        located.series.is_some_and(|number| self.table.get(number).periods.iter().any(is_it))
    }

    /// Whether the period's total stays in range, with and without adjustments and whichever of its windows are closed
    /// first: none may leave it, even if others bring it back. That is asked only where the window's own is large already.
    fn check_period(&self, feed: &Feed<'_>, located: Located, counter: Option<&Counter>) -> Option<Refusal> {
        let aggregation = self.definitions[usize::from(feed.meter.0)].aggregation;
        let (Value::Quantity(quantity), Aggregation::Sum | Aggregation::Avg) = (feed.value, aggregation) else {
            return None;
        };
        let before = counter.map_or(0, |counter| sum_of(&counter.aggregate));
        let after = before.saturating_add(quantity.scaled());
        if !feed.late && after.unsigned_abs() <= LARGE && quantity.scaled().unsigned_abs() <= LARGE {
            return None;
        }
        // The window itself is counted with its value after this event; a late one only in the total.
        let added = if feed.late { quantity.scaled() } else { after }.unsigned_abs();
        let (mut total, mut original) = (added, if feed.late { 0 } else { added });
        if let Some(series) = located.series.map(|number| self.table.get(number)) {
            let contains = |window: Window| feed.period.bounds.contains(window.start);
            let others =
                |counter: &&Counter| !counter.is_final && contains(counter.window) && counter.window != feed.window;
            for window in series.counters.iter().filter(others) {
                let more = sum_of(&window.aggregate).unsigned_abs();
                (total, original) = (total.saturating_add(more), original.saturating_add(more));
            }
            for counter in &series.periods {
                let base = counter.base.as_ref().filter(|_| contains(self.periods.get(counter.period).period.bounds));
                let Some(base) = base else { continue };
                total = total.saturating_add(sum_of(&base.aggregate).unsigned_abs());
                let without = sum_of(base.original.as_ref().unwrap_or(&base.aggregate));
                original = original.saturating_add(without.unsigned_abs());
            }
        }
        (total.max(original) > PERIOD_MAX).then_some(Refusal::Overflow)
    }

    /// Adds one event that was checked, or that the log says was accepted.
    pub fn apply_feed(
        &mut self,
        (at, seq): (Timestamp, Seq),
        feed: &Feed<'_>,
        located: Located,
    ) -> Result<(), FoldError> {
        self.clock.saw_event(at);
        if feed.late {
            return self.adjust((at, seq), feed);
        }
        let meter = usize::from(feed.meter.0);
        if meter >= self.definitions.len() {
            return Err(FoldError::UnknownMeter(seq));
        }
        let number = located.series.unwrap_or_else(|| self.insert_series(feed.hash, feed.key, feed.meter));
        let definition = &self.definitions[meter];
        let place = match located.counter {
            Ok(place) => place,
            Err(place) => {
                let period = self.periods.number(tenant_of(feed.key), feed.period);
                let counter = Counter::new(feed.window, period, definition);
                self.table.get_mut(number).counters.insert(place, counter);
                self.counters += 1;
                self.closing.add(ClosedKind::Windows, feed.meter, feed.window, number);
                self.add_period(number, period, seq);
                place
            }
        };
        let naming = Naming::new(&self.definitions, &self.periods, self.genesis.as_ref());
        let series = self.table.get_mut(number);
        self.epoch.touch(naming, number, series, place);
        let members = add((at, seq), feed, series, place, &mut self.epoch)?;
        let (account, period) = (series.account, series.counters[place].period);
        self.members = self.members.saturating_add_signed(members);
        self.count_in(account, period, feed);
        Ok(())
    }

    /// Makes sure that the series has a counter for the period; true if it had none.
    pub(super) fn add_period(&mut self, number: u32, period: super::PeriodId, seq: Seq) -> bool {
        let naming = Naming::new(&self.definitions, &self.periods, self.genesis.as_ref());
        let series = self.table.get_mut(number);
        if series.find_period(period).is_some() {
            return false;
        }
        let place = series.periods.len();
        series.periods.push(PeriodCounter::new(period));
        self.period_counters += 1;
        self.epoch.touch_period(naming, number, series, place);
        self.epoch.add_period(number, period);
        let meter = series.meter;
        self.closing.add(ClosedKind::Periods, meter, self.periods.get(period).period.bounds, number);
        self.periods.change(period, 1, seq);
        true
    }
}

/// Whether an adjustment's change of the window's value is in range: that of a least or greatest value may not be.
fn check_change(feed: &Feed<'_>, counter: &Counter) -> Option<Refusal> {
    let (true, Value::Quantity(quantity)) = (feed.late, feed.value) else { return None };
    let before = counter.value().unwrap_or(Quantity::ZERO);
    quantity.checked_sub(before).is_none().then_some(Refusal::Overflow)
}

/// What a sum or an average has summed up.
fn sum_of(aggregate: &Aggregate) -> i128 {
    match aggregate {
        Aggregate::Sum(total) | Aggregate::Avg(total) => total.scaled(),
        _ => 0,
    }
}

/// Adds a value to a window; answers with how many exact members there are more.
pub(super) fn add(
    (at, seq): (Timestamp, Seq),
    feed: &Feed<'_>,
    series: &mut Series,
    place: usize,
    epoch: &mut Epoch,
) -> Result<i64, FoldError> {
    let counter = &mut series.counters[place];
    let before = counter.aggregate.exact_members();
    let added = counter.aggregate.add(feed.value, at, seq).map_err(|_| FoldError::DoesNotFit(seq))?;
    counter.event_count += 1;
    if let (true, Value::Member(member)) = (added.new_member, feed.value) {
        epoch.add_member(&series.key, feed.window.start, member);
    }
    Ok(counter.aggregate.exact_members() - before)
}

fn code_of(refusal: Refusal) -> Code {
    match refusal {
        Refusal::Overflow => Code::QuantityOverflow,
        Refusal::UniqueLimit => Code::UniqueLimit,
        Refusal::WrongKind => Code::InvalidQuantity,
    }
}
