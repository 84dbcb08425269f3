//! Late usage: an event for a final window is an adjustment, a new revision of the window and of its period.
//!
//! 1. Final counters may have left memory. `recall` brings them back from the store, where this very fold has put them, so
//!    that the fold is a function of the log all the same.
//! 2. An adjustment never merges into another one, and never changes what was final before: it has a row of its own.

use super::codec::{adjustment_key, counter_key, encode_adjustment, period_key};
use super::{AdjustmentRow, Feed, FoldError, IN_TOTAL, Naming, OutboxContent, PeriodId, State};
use super::{decode_period, decode_window, feeds, load_members, tenant_of};
use crate::engine::outbox::UsageChange;
use crate::engine::state::series::{Base, Counter, PeriodCounter};
use crate::meter::{Aggregate, Definition};
use crate::model::{OutboxPosition, Quantity, Seq, Timestamp};
use crate::store::{StoreError, Table};

impl State {
    /// Brings a late feed's counters back into memory, if the store has them.
    pub fn recall(&mut self, feed: &Feed<'_>) -> Result<(), FoldError> {
        let damaged = || FoldError::DamagedRow(self.position.next());
        let definition =
            self.definitions.get(usize::from(feed.meter.0)).ok_or(FoldError::UnknownMeter(self.position.next()))?;
        let known = self.table.find(feed.hash, feed.key);
        let in_memory = known.and_then(|number| {
            let series = self.table.get(number);
            series.find(feed.window.start).ok().map(|place| series.counters[place].period)
        });
        let mut window = None;
        if in_memory.is_none() {
            let mut name = Vec::with_capacity(128);
            counter_key(&mut name, feed.key, feed.window.start);
            if let Some(value) = self.store.get(Table::Windows, &name)? {
                let (mut counter, members) =
                    decode_window(feed.window.start, &value, definition).ok_or_else(damaged)?;
                let found = self.recall_members(Table::Members, &name, (&mut counter.aggregate, members.into()))?;
                (found == u64::from(members)).then_some(()).ok_or_else(damaged)?;
                window = Some(counter);
            }
        }
        let period = in_memory.or_else(|| window.as_ref().map(|window| window.period));
        let period = period.or_else(|| self.periods.find(tenant_of(feed.key), feed.period));
        let has = |period| known.is_some_and(|number| self.table.get(number).find_period(period).is_some());
        let period = match period.filter(|period| !has(*period)) {
            Some(period) => self.recall_period(feed, period)?,
            None => None,
        };
        self.put_back(feed, window, period);
        Ok(())
    }

    fn recall_period(&self, feed: &Feed<'_>, period: PeriodId) -> Result<Option<PeriodCounter>, FoldError> {
        let damaged = || FoldError::DamagedRow(self.position.next());
        let info = self.periods.get(period);
        let mut name = Vec::with_capacity(128);
        period_key(&mut name, feed.key, &info.period.label.to_string(), info.period.bounds);
        let Some(value) = self.store.get(Table::Periods, &name)? else { return Ok(None) };
        let definition = &self.definitions[usize::from(feed.meter.0)];
        let mut row = decode_period(info.period.bounds.start, &value, definition).ok_or_else(damaged)?;
        let (length, members) = (name.len(), row.members);
        for (set, aggregate) in row.counter.base.iter_mut().flat_map(|base| base.sets()) {
            name.truncate(length);
            name.push(set);
            let expected = members[usize::from(set)].into();
            let found = self.recall_members(Table::PeriodMembers, &name, (aggregate, expected))?;
            (found == expected).then_some(()).ok_or_else(damaged)?;
        }
        Ok(Some(row.counter))
    }

    /// Takes a snapshot only where there is a set to be read: most meters have none.
    fn recall_members(
        &self,
        table: Table,
        prefix: &[u8],
        (aggregate, expected): (&mut Aggregate, u64),
    ) -> Result<u64, StoreError> {
        if !aggregate.takes_members() || expected == 0 {
            return Ok(0);
        }
        load_members(&*self.store.snapshot(), table, prefix, (aggregate, expected))
    }

    fn put_back(&mut self, feed: &Feed<'_>, window: Option<Counter>, period: Option<PeriodCounter>) {
        if window.is_none() && period.is_none() {
            return;
        }
        let found = self.table.find(feed.hash, feed.key);
        let number = found.unwrap_or_else(|| self.insert_series(feed.hash, feed.key, feed.meter));
        let series = self.table.get_mut(number);
        let mut members = 0;
        if let (Some(mut counter), Err(place)) = (window, series.find(feed.window.start)) {
            self.epoch.let_go(number, &mut counter);
            members += counter.aggregate.exact_members();
            series.counters.insert(place, counter);
            self.counters += 1;
        }
        if let Some(mut counter) = period {
            self.epoch.let_go_period(number, &mut counter);
            members += counter.exact_members();
            series.periods.push(counter);
            self.period_counters += 1;
        }
        self.members = self.members.saturating_add_signed(members);
    }

    /// Adds a late event to a final window and to its period.
    pub(super) fn adjust(&mut self, (at, seq): (Timestamp, Seq), feed: &Feed<'_>) -> Result<(), FoldError> {
        let now = self.clock.effective().max(self.received_at);
        let number = self.final_window(feed, seq)?;
        let naming = Naming::new(&self.definitions, &self.periods, self.genesis.as_ref());
        let series = self.table.get_mut(number);
        let place = series.find(feed.window.start).map_err(|_| FoldError::DoesNotFit(seq))?;
        self.epoch.touch(naming, number, series, place);
        let before = series.counters[place].value();
        let members = feeds::add((at, seq), feed, series, place, &mut self.epoch)?;
        let counter = &mut series.counters[place];
        counter.revision += 1;
        counter.changed_at = now;
        self.epoch.let_go(number, counter);
        let value = counter.value();
        let row = AdjustmentRow {
            series: feed.key.to_vec(),
            window: counter.window,
            period: counter.period,
            delta: value.unwrap_or(Quantity::ZERO).saturating_sub(before.unwrap_or(Quantity::ZERO)),
            value,
            event_count: counter.event_count,
            revision: counter.revision,
            incarnation: naming.incarnation,
            timestamp: at,
            received_at: self.received_at,
        };
        self.members = self.members.saturating_add_signed(members);
        self.adjust_period((at, seq), feed, number, row.period)?;
        self.count_in(self.table.get(number).account, row.period, feed);
        self.put_adjustment(seq, feed, row);
        Ok(())
    }

    pub(super) fn put_adjustment(&mut self, seq: Seq, feed: &Feed<'_>, row: AdjustmentRow) {
        let mut name = Vec::with_capacity(64);
        adjustment_key(&mut name, tenant_of(feed.key), seq.0, feed.number);
        self.epoch.add_row(Table::Adjustments, &name, &encode_adjustment(&row));
        let content = OutboxContent {
            at: self.clock.effective().max(self.received_at),
            window: row.window,
            value: row.value,
            change: UsageChange::Adjusted { delta: Some(row.delta) },
            event_count: row.event_count,
            revision: row.revision,
            incarnation: row.incarnation,
            series: feed.key,
        };
        let position = OutboxPosition::new(seq, feed.number.into());
        self.outbox.put(&mut self.epoch, position, &content);
        self.adjustments.push_back((seq, name, row));
    }

    /// The series of a final window; an empty one if nobody used it before it was final.
    fn final_window(&mut self, feed: &Feed<'_>, seq: Seq) -> Result<u32, FoldError> {
        let found = self.table.find(feed.hash, feed.key);
        let number = found.unwrap_or_else(|| self.insert_series(feed.hash, feed.key, feed.meter));
        let Err(place) = self.table.get(number).find(feed.window.start) else { return Ok(number) };
        let meter = usize::from(feed.meter.0);
        let definition = self.definitions.get(meter).ok_or(FoldError::UnknownMeter(seq))?;
        let period = self.periods.number(tenant_of(feed.key), feed.period);
        let mut counter = Counter::new(feed.window, period, definition);
        counter.is_final = true;
        self.epoch.let_go(number, &mut counter);
        self.table.get_mut(number).counters.insert(place, counter);
        self.counters += 1;
        self.closed_to[meter] = self.closed_to[meter].max(feed.window.end);
        Ok(number)
    }

    fn adjust_period(
        &mut self,
        (at, seq): (Timestamp, Seq),
        feed: &Feed<'_>,
        number: u32,
        period: PeriodId,
    ) -> Result<(), FoldError> {
        if self.add_period(number, period, seq) {
            self.close_late_period(seq, feed, number, period);
        }
        let now = self.clock.effective().max(self.received_at);
        let definition = &self.definitions[usize::from(feed.meter.0)];
        let naming = Naming::new(&self.definitions, &self.periods, self.genesis.as_ref());
        let info = self.periods.get(period).period;
        let series = self.table.get_mut(number);
        let place = series.find_period(period).ok_or(FoldError::DoesNotFit(seq))?;
        self.epoch.touch_period(naming, number, series, place);
        let counter = &mut series.periods[place];
        let before = counter.exact_members();
        let base = counter.base.get_or_insert_with(|| Box::new(Base::new(definition)));
        let name = (&series.key[..], &*info.label.to_string(), info.bounds);
        self.epoch.keep_original(name, base);
        let one = alone(definition, feed, (at, seq))?;
        let new = one.members().filter(|member| base.aggregate.lacks_member(*member));
        self.epoch.add_period_members(name, IN_TOTAL, new);
        base.aggregate.merge(&one).map_err(|_| FoldError::DoesNotFit(seq))?;
        base.event_count += 1;
        base.late_count += 1;
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

    /// A period counter that late usage has made in a period that is over for others already is final from the start.
    fn close_late_period(&mut self, seq: Seq, feed: &Feed<'_>, number: u32, period: PeriodId) {
        let bounds = self.periods.get(period).period.bounds;
        let hard = self.hard_cap_of(self.table.get(number));
        let series = self.table.get_mut(number);
        let Some(place) = series.find_period(period) else { return };
        if bounds.end <= self.closed_to[usize::from(feed.meter.0)] {
            series.periods[place].is_final = true;
            series.periods[place].hard = hard;
            self.periods.change(period, -1, seq);
        }
    }

    /// Adds what became of a window, once it is final, to its period counter.
    pub(super) fn merge_into_period(
        &mut self,
        number: u32,
        (period, window): (PeriodId, Timestamp),
        seq: Seq,
    ) -> Result<(), FoldError> {
        let now = self.clock.effective();
        let naming = Naming::new(&self.definitions, &self.periods, self.genesis.as_ref());
        let info = self.periods.get(period).period;
        let series = self.table.get_mut(number);
        let place = series.find_period(period).ok_or(FoldError::DoesNotFit(seq))?;
        self.epoch.touch_period(naming, number, series, place);
        let definition = &self.definitions[usize::from(series.meter.0)];
        let window = series.find(window).map_err(|_| FoldError::DoesNotFit(seq))?;
        let (window, counter) = (&series.counters[window], &mut series.periods[place]);
        let before = counter.exact_members();
        let base = counter.base.get_or_insert_with(|| Box::new(Base::new(definition)));
        let name = (&series.key[..], &*info.label.to_string(), info.bounds);
        for (set, aggregate) in base.sets() {
            let new = window.aggregate.members().filter(|member| aggregate.lacks_member(*member));
            self.epoch.add_period_members(name, set, new);
            aggregate.merge(&window.aggregate).map_err(|_| FoldError::DoesNotFit(seq))?;
        }
        base.event_count += window.event_count;
        base.changed_at = now;
        let members = counter.exact_members() - before;
        self.members = self.members.saturating_add_signed(members);
        self.periods.change(period, 0, seq);
        Ok(())
    }
}

/// What one feed comes to by itself.
fn alone(definition: &Definition, feed: &Feed<'_>, (at, seq): (Timestamp, Seq)) -> Result<Aggregate, FoldError> {
    let mut one = Aggregate::new(definition);
    one.add(feed.value, at, seq).map_err(|_| FoldError::DoesNotFit(seq))?;
    Ok(one)
}
