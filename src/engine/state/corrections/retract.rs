//! Taking back: what a Retracted record does to windows and billing periods.
//!
//! | the window is | it | its period |
//! | --- | --- | --- |
//! | not final | changes | is not touched: it holds final windows only |
//! | final | changes, with a revision and an adjustment | changes too; what it was without adjustments is kept |
//!
//! 1. `check_retraction` tells beforehand whether a retraction fits this very state; the fold of such a one cannot fail.
//! 2. With no retraction in between, event counts only grow: the same count is the same counter. That is asked only of
//!    counters whose remains were computed: what is subtracted is right whatever came to the counter meanwhile.
//! 3. A void that only subtracts need not know of other retractions; a slice of a revert must: none is taken twice.

use crate::engine::corrections::{
    Cause, Change, RETRACTED_WINDOWS_MAX, Remains, Retraction, RetractionRefused, WindowChange,
};
use crate::engine::state::caps::accounts::NONE;
use crate::engine::state::codec::put_period_member;
use crate::engine::state::epoch::Epoch;
use crate::engine::state::series::{Base, Counter};
use crate::engine::state::{
    AdjustmentRow, Feed, FoldError, IN_TOTAL, Naming, PeriodId, State, counter_key, period_key, tenant_of,
};
use crate::meter::{Aggregate, Aggregation, Definition, Value};
use crate::model::{Quantity, Seq, Timestamp, Window};
use crate::store::Table;

/// What a retraction came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken {
    /// Feeds of events that were taken back.
    pub feeds: u64,
    /// Final windows among the changed.
    pub adjusted: u32,
}

impl State {
    /// Whether a retraction can be applied: it was computed against these counters. Final ones are called back for it.
    pub fn check_retraction(&mut self, retraction: &Retraction) -> Result<Result<(), RetractionRefused>, FoldError> {
        let windows: usize = retraction.changes.iter().map(|change| change.windows.len()).sum();
        let is_void = matches!(retraction.cause, Cause::Void(_));
        let is_newest = retraction.basis.retractions == self.corrections.retractions();
        if !(is_newest || is_void && retraction.only_subtracts()) || windows > RETRACTED_WINDOWS_MAX {
            return Ok(Err(RetractionRefused::Outdated));
        }
        for change in &retraction.changes {
            for window in &change.windows {
                let feed = feed_of(self, change, window, 0);
                if window.is_final {
                    self.recall(&feed)?;
                }
                let Some(counter) = self.counter_of(&feed) else { return Ok(Err(RetractionRefused::Outdated)) };
                let is_count = window.remains == Remains::Subtract || counter.event_count == window.event_count;
                let is_same = is_count
                    && counter.is_final == window.is_final
                    && counter.window == window.window
                    && counter.event_count >= window.events;
                if !is_same || !fits(&counter.aggregate, &window.remains, window.quantity) {
                    return Ok(Err(RetractionRefused::Outdated));
                }
                if window.is_final && !self.total_fits(change, &feed) {
                    return Ok(Err(RetractionRefused::Outdated));
                }
            }
        }
        Ok(Ok(()))
    }

    /// Whether the total of the period's final windows can be taken back from.
    fn total_fits(&self, change: &Change, feed: &Feed<'_>) -> bool {
        let Some(series) = self.locate(feed).series.map(|number| self.table.get(number)) else { return false };
        let period = self.counter_of(feed).and_then(|counter| series.period(counter.period));
        let base = period.and_then(|period| period.base.as_ref());
        base.zip(finals(change)).is_some_and(|(base, (events, quantity))| {
            let is_count = change.total == Remains::Subtract || base.event_count == change.total_count;
            is_count && base.event_count >= events && fits(&base.aggregate, &change.total, quantity)
        })
    }

    /// Of the members that are to leave a period's total, leaves those that it has: some of its windows may not be here.
    pub fn fit_total(&mut self, change: &mut Change) -> Result<(), FoldError> {
        let (Remains::Without(gone), Some(window)) =
            (&change.total, change.windows.iter().find(|window| window.is_final))
        else {
            return Ok(());
        };
        let feed = feed_of(self, change, window, 0);
        self.recall(&feed)?;
        let series = self.locate(&feed).series.map(|number| self.table.get(number));
        let period = self.periods.find(tenant_of(&change.series), &change.period);
        let counter = series.zip(period).and_then(|(series, period)| series.period(period));
        let base = counter.and_then(|counter| counter.base.as_ref());
        let has = |member: &&u128| base.is_some_and(|base| base.aggregate.has_member(**member));
        change.total = Remains::Without(gone.iter().filter(has).copied().collect());
        Ok(())
    }

    fn counter_of(&self, feed: &Feed<'_>) -> Option<&Counter> {
        let located = self.locate(feed);
        Some(&self.table.get(located.series?).counters[located.counter.ok()?])
    }

    pub(super) fn retract(&mut self, seq: Seq, at: Timestamp, retraction: &Retraction) -> Result<Taken, FoldError> {
        self.begin_events(at, None);
        let (mut taken, mut number) = (Taken::default(), 0);
        for change in &retraction.changes {
            let mut period = None;
            for window in &change.windows {
                let adjusted = self.retract_window(seq, change, window, number)?;
                taken.feeds += window.events;
                taken.adjusted += u32::from(window.is_final);
                period = adjusted.or(period);
                number = number.checked_add(1).ok_or(FoldError::DoesNotFit(seq))?;
            }
            if let Some((series, period)) = period {
                self.retract_period(seq, change, (series, period))?;
            }
        }
        Ok(taken)
    }

    /// Takes back from one window; answers with its series and period if it was final.
    fn retract_window(
        &mut self,
        seq: Seq,
        change: &Change,
        window: &WindowChange,
        number: u8,
    ) -> Result<Option<(u32, PeriodId)>, FoldError> {
        let misfit = || FoldError::DoesNotFit(seq);
        let feed = feed_of(self, change, window, number);
        if window.is_final {
            self.recall(&feed)?;
        }
        let located = self.locate(&feed);
        let (series_number, place) = (located.series.ok_or_else(misfit)?, located.counter.map_err(|_| misfit())?);
        let now = self.clock.effective().max(self.received_at);
        let definition = self.definitions.get(usize::from(feed.meter.0)).ok_or(FoldError::UnknownMeter(seq))?;
        let naming = Naming::new(&self.definitions, &self.periods, self.genesis.as_ref());
        let series = self.table.get_mut(series_number);
        self.epoch.touch(naming, series_number, series, place);
        let counter = &mut series.counters[place];
        if counter.is_final != window.is_final || counter.event_count < window.events {
            return Err(misfit());
        }
        let (before, members) = (counter.value(), counter.aggregate.exact_members());
        take_back(&mut counter.aggregate, &window.remains, window.quantity, definition).ok_or_else(misfit)?;
        counter.event_count -= window.events;
        if let Remains::Without(gone) = &window.remains {
            let mut name = Vec::with_capacity(128);
            counter_key(&mut name, feed.key, feed.window.start);
            let length = name.len();
            for member in gone {
                name.truncate(length);
                name.extend_from_slice(&member.to_be_bytes());
                self.epoch.delete_row(Table::Members, &name);
            }
        }
        let gone = members - counter.aggregate.exact_members();
        self.members = self.members.saturating_add_signed(-gone);
        let period = counter.period;
        let row = window.is_final.then(|| {
            counter.revision += 1;
            counter.changed_at = now;
            self.epoch.let_go(series_number, counter);
            let value = counter.value();
            AdjustmentRow {
                series: change.series.clone(),
                window: counter.window,
                period,
                delta: value.unwrap_or(Quantity::ZERO).saturating_sub(before.unwrap_or(Quantity::ZERO)),
                value,
                event_count: counter.event_count,
                revision: counter.revision,
                incarnation: naming.incarnation,
                timestamp: window.timestamp,
                received_at: self.received_at,
            }
        });
        let account = series.account;
        self.count_out(account, (period, feed.window), (change, window));
        let Some(row) = row else { return Ok(None) };
        self.put_adjustment(seq, &feed, row);
        Ok(Some((series_number, period)))
    }

    /// Takes back from what the final windows of a period come to.
    fn retract_period(
        &mut self,
        seq: Seq,
        change: &Change,
        (number, period): (u32, PeriodId),
    ) -> Result<(), FoldError> {
        let misfit = || FoldError::DoesNotFit(seq);
        let now = self.clock.effective().max(self.received_at);
        let definition = &self.definitions[usize::from(change.meter.0)];
        let naming = Naming::new(&self.definitions, &self.periods, self.genesis.as_ref());
        let info = self.periods.get(period).period;
        let series = self.table.get_mut(number);
        let place = series.find_period(period).ok_or_else(misfit)?;
        self.epoch.touch_period(naming, number, series, place);
        let counter = &mut series.periods[place];
        let before = counter.exact_members();
        let label = info.label.to_string();
        let name = (&series.key[..], &*label, info.bounds);
        let base = counter.base.as_mut().ok_or_else(misfit)?;
        self.epoch.keep_original(name, base);
        let (events, quantity) = finals(change).ok_or_else(misfit)?;
        take_back(&mut base.aggregate, &change.total, quantity, definition).ok_or_else(misfit)?;
        forget_members(&mut self.epoch, name, &change.total);
        subtract_events(base, events).ok_or_else(misfit)?;
        base.taken_adjustments += change.windows.iter().filter(|window| window.is_final).count() as u64;
        base.changed_at = now;
        if counter.is_final {
            counter.revision += 1;
            self.epoch.let_go_period(number, counter);
        }
        let members = counter.exact_members() - before;
        self.members = self.members.saturating_add_signed(members);
        self.periods.change(period, 0, seq);
        Ok(())
    }

    fn count_out(
        &mut self,
        account: u32,
        (period, bounds): (PeriodId, Window),
        (change, window): (&Change, &WindowChange),
    ) {
        if account != NONE {
            let billing = self.periods.get(period).period.bounds;
            let less = self.retracted_from(change, window);
            self.caps.add(account, (billing, bounds), -less);
        }
    }

    /// What a count or a sum is less by. Scaled.
    pub fn retracted_from(&self, change: &Change, window: &WindowChange) -> i128 {
        match self.definitions[usize::from(change.meter.0)].aggregation {
            Aggregation::Sum => window.quantity.scaled(),
            _ => Quantity::ONE.scaled().saturating_mul(i128::from(window.events)),
        }
    }
}

/// The window as a feed finds it.
fn feed_of<'a>(state: &State, change: &'a Change, window: &WindowChange, number: u8) -> Feed<'a> {
    Feed {
        number,
        meter: change.meter,
        late: window.is_final,
        window: window.window,
        period: &change.period,
        value: Value::Quantity(Quantity::ZERO),
        key: &change.series,
        hash: state.hasher.hash(&change.series),
    }
}

/// What is taken back from final windows: events, and what they come to.
fn finals(change: &Change) -> Option<(u64, Quantity)> {
    let mut finals = change.windows.iter().filter(|window| window.is_final);
    finals.try_fold((0, Quantity::ZERO), |(events, quantity), window| {
        Some((events + window.events, quantity.checked_add(window.quantity)?))
    })
}

fn subtract_events(base: &mut Base, events: u64) -> Option<()> {
    base.event_count = base.event_count.checked_sub(events)?;
    base.taken_count += events;
    Some(())
}

fn forget_members(epoch: &mut Epoch, name: (&[u8], &str, Window), remains: &Remains) {
    let Remains::Without(gone) = remains else { return };
    let mut key = Vec::with_capacity(128);
    period_key(&mut key, name.0, name.1, name.2);
    let length = key.len();
    for member in gone {
        key.truncate(length);
        put_period_member(&mut key, IN_TOTAL, *member);
        epoch.delete_row(Table::PeriodMembers, &key);
    }
}

/// What is left of an aggregate; None if it does not fit.
fn take_back(aggregate: &mut Aggregate, remains: &Remains, quantity: Quantity, definition: &Definition) -> Option<()> {
    match remains {
        Remains::Subtract => aggregate.subtract(quantity)?,
        Remains::Is(bytes) => {
            let (left, members) = Aggregate::decode(bytes, definition).ok()?;
            (members == 0).then_some(())?;
            *aggregate = left;
        }
        Remains::Without(gone) => {
            for member in gone {
                aggregate.remove_member(*member).then_some(())?;
            }
        }
    }
    Some(())
}

/// Whether `remains` suits the aggregate.
fn fits(aggregate: &Aggregate, remains: &Remains, quantity: Quantity) -> bool {
    match remains {
        Remains::Subtract => aggregate.can_subtract(quantity),
        Remains::Is(_) => true,
        Remains::Without(gone) => gone.iter().all(|member| aggregate.has_member(*member)),
    }
}
