//! Windows and billing periods become final, and final counters leave memory.
//!
//! | step | done by |
//! | --- | --- |
//! | what is due is picked, a slice at a time | the writer, by [`State::next_slice`]: it becomes a Closed record |
//! | it is final: revision 1, a window is merged into its period | the fold, by `close` |
//! | its row goes to the store | the epoch |
//! | it leaves memory | [`State::leave`], once the store has the epoch and no reader began before |
//!
//! 1. What is closed is in the record, one by one: a replay closes the same windows at the same place, and no others.
//! 2. A period is closed after its last window. No window is opened in it after that, nor one that was closed before: past
//!    `closed_to` neither can be, and up to it the store is asked.

use std::ops::Range;

use super::closing::Due;
use super::{CounterRef, FoldError, Naming, OutboxContent, State};
use crate::engine::outbox::UsageChange;
use crate::engine::record::{Closed, ClosedKind};
use crate::model::{Duration, MeterId, OutboxPosition, Seq, Timestamp, Window};

/// What one Closed record is to hold.
#[derive(Debug)]
pub struct Slice {
    pub kind: ClosedKind,
    pub meter: MeterId,
    pub bounds: Window,
    pub series: Vec<u32>,
}

impl State {
    /// The next windows or periods that are over, grace included, by `now`: all of one meter with the same bounds, at most
    /// `limit`.
    pub fn next_slice(&mut self, now: Timestamp, limit: usize) -> Option<Slice> {
        self.next_slice_of(0..self.definitions.len(), now, limit)
    }

    /// The same, of these meters.
    pub fn next_slice_of(&mut self, meters: Range<usize>, now: Timestamp, limit: usize) -> Option<Slice> {
        for meter in meters {
            let (meter, ended) = (MeterId(meter as u16), now.saturating_sub(self.definitions[meter].grace));
            while let Some(due) = self.closing.due(meter, ended) {
                let mut series = self.closing.take(&due, limit);
                series.retain(|number| self.is_open(&due, *number));
                series.sort_unstable();
                series.dedup();
                if !series.is_empty() {
                    return Some(Slice { kind: due.kind, meter, bounds: due.bounds, series });
                }
            }
        }
        None
    }

    /// How long the oldest of what is over, grace included, has waited to be closed.
    pub fn closing_lag(&mut self, now: Timestamp) -> Duration {
        let mut lag = Duration::ZERO;
        for meter in 0..self.definitions.len() {
            let (meter, ended) = (MeterId(meter as u16), now.saturating_sub(self.definitions[meter].grace));
            if let Some(due) = self.closing.due(meter, ended) {
                let micros = (ended.micros() - due.bounds.end.micros()).unsigned_abs().max(1);
                lag = lag.max(Duration::from_micros(micros));
            }
        }
        lag
    }

    fn is_open(&self, due: &Due, number: u32) -> bool {
        let series = self.table.get(number);
        let open = match due.kind {
            ClosedKind::Windows => series
                .find(due.bounds.start)
                .is_ok_and(|place| !series.counters[place].is_final && series.counters[place].window == due.bounds),
            ClosedKind::Periods => series
                .periods
                .iter()
                .any(|counter| !counter.is_final && self.periods.get(counter.period).period.bounds == due.bounds),
        };
        open && series.meter == due.meter
    }

    /// Whether a series has this window, or this billing period, and it is not final.
    pub fn can_close(&self, (kind, meter, bounds): (ClosedKind, MeterId, Window), name: &[u8]) -> bool {
        let found = self.table.find(self.hasher.hash(name), name);
        found.is_some_and(|number| self.is_open(&Due { kind, meter, bounds }, number))
    }

    /// The slice as a record.
    pub fn closed_record(&self, slice: &Slice) -> Closed<'_> {
        let series = slice.series.iter().map(|number| self.table.get(*number).key.as_slice()).collect();
        Closed { kind: slice.kind, meter: slice.meter, bounds: slice.bounds, series }
    }

    pub(super) fn close(&mut self, seq: Seq, closed: &Closed<'_>) -> Result<(), FoldError> {
        let to = self.closed_to.get_mut(usize::from(closed.meter.0)).ok_or(FoldError::UnknownMeter(seq))?;
        *to = closed.bounds.end.max(*to);
        for (index, name) in closed.series.iter().enumerate() {
            let number = self.table.find(self.hasher.hash(name), name).ok_or(FoldError::DoesNotFit(seq))?;
            match closed.kind {
                ClosedKind::Windows => {
                    self.close_window(OutboxPosition::new(seq, index as u32), number, closed.bounds)?;
                }
                ClosedKind::Periods => self.close_period(seq, number, closed.bounds)?,
            }
        }
        Ok(())
    }

    fn close_window(&mut self, position: OutboxPosition, number: u32, bounds: Window) -> Result<(), FoldError> {
        let (now, seq) = (self.clock.effective(), position.seq);
        let naming = Naming::new(&self.definitions, &self.periods, self.genesis.as_ref());
        let series = self.table.get_mut(number);
        let place = series.find(bounds.start).map_err(|_| FoldError::DoesNotFit(seq))?;
        if series.counters[place].is_final || series.counters[place].window != bounds {
            return Err(FoldError::DoesNotFit(seq));
        }
        self.epoch.touch(naming, number, series, place);
        let counter = &mut series.counters[place];
        (counter.is_final, counter.revision, counter.changed_at) = (true, 1, now);
        self.epoch.let_go(number, counter);
        let period = counter.period;
        let content = OutboxContent {
            at: now,
            window: bounds,
            value: counter.value(),
            change: UsageChange::Final,
            event_count: counter.event_count,
            revision: counter.revision,
            incarnation: naming.incarnation,
            series: &series.key,
        };
        self.outbox.put(&mut self.epoch, position, &content);
        self.merge_into_period(number, (period, bounds.start), seq)
    }

    fn close_period(&mut self, seq: Seq, number: u32, bounds: Window) -> Result<(), FoldError> {
        let hard = self.hard_cap_of(self.table.get(number));
        let naming = Naming::new(&self.definitions, &self.periods, self.genesis.as_ref());
        let is_it = |period| self.periods.get(period).period.bounds == bounds;
        let series = self.table.get_mut(number);
        let place = series.periods.iter().position(|counter| !counter.is_final && is_it(counter.period));
        let place = place.ok_or(FoldError::DoesNotFit(seq))?;
        self.epoch.touch_period(naming, number, series, place);
        let counter = &mut series.periods[place];
        (counter.is_final, counter.revision, counter.hard) = (true, 1, hard);
        self.epoch.let_go_period(number, counter);
        let period = counter.period;
        self.periods.change(period, -1, seq);
        Ok(())
    }

    /// How many counters became final, or were called back, in the current epoch.
    pub fn leaving_len(&self) -> usize {
        self.epoch.leaving_len()
    }

    /// The store has the epoch that was taken last, up to `position`.
    pub fn committed(&mut self, position: Seq) {
        let (epoch, leaving) = self.epoch.committed();
        if !leaving.is_empty() {
            self.leaving.push_back((self.pins.next_generation(), epoch, leaving));
        }
        let known = self.adjustments.iter().take_while(|(seq, ..)| *seq <= position).count();
        self.adjustments.drain(..known);
        self.caps.committed(position);
        self.corrections.committed(position);
    }

    /// True if counters wait to leave.
    pub fn is_leaving(&self) -> bool {
        self.leaving.front().is_some_and(|(generation, ..)| self.pins.may_leave(*generation))
    }

    /// Lets up to `limit` counters leave that the store has.
    pub fn leave(&mut self, limit: usize) {
        while let Some((_, number)) = self.removed.pop_front_if(|(generation, _)| self.pins.may_leave(*generation)) {
            self.table.release(number);
        }
        for _ in 0..limit {
            let Some((generation, epoch, batch)) = self.leaving.front_mut() else { return };
            if !self.pins.may_leave(*generation) {
                return;
            }
            let epoch = *epoch;
            match batch.pop() {
                Some(counter) => self.let_leave(counter, epoch),
                None => drop(self.leaving.pop_front()),
            }
        }
    }

    fn let_leave(&mut self, counter: CounterRef, epoch: u32) {
        let (CounterRef::Window(number, _) | CounterRef::Period(number, _)) = counter;
        let series = self.table.get_mut(number);
        let members = match counter {
            CounterRef::Window(_, start) => {
                let Ok(place) = series.find(start) else { return };
                if series.counters[place].leaves_with != epoch {
                    return;
                }
                self.counters -= 1;
                series.counters.remove(place).aggregate.exact_members()
            }
            CounterRef::Period(_, period) => {
                let Some(place) = series.find_period(period) else { return };
                if series.periods[place].leaves_with != epoch {
                    return;
                }
                self.period_counters -= 1;
                series.periods.remove(place).exact_members()
            }
        };
        if series.is_empty() {
            self.remove_series(number);
            self.removed.push_back((self.pins.next_generation(), number));
        }
        self.members = self.members.saturating_add_signed(-members);
    }
}
