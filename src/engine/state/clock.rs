//! Time as the log knows it: effective time, and the horizon below which ids are forgotten.
//!
//! 1. Effective time is the greatest time that a record carried. It never goes back, whatever the wall clock does.
//! 2. About once a minute a mark notes which seq came first after it; an id is forgotten by raising the horizon to a mark.
//! 3. The horizon moves only by a Tick record, so that live, at recovery and in `verify` the same ids are known.

use std::collections::VecDeque;

use crate::model::{Duration, Seq, Timestamp};

/// How far apart marks are: ids outlive their retention by up to this.
const MARK_EVERY: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogClock {
    effective: Option<Timestamp>,
    horizon: Seq,
    /// Ids below `.1` were accepted before the effective time `.0`.
    marks: VecDeque<(Timestamp, Seq)>,
}

/// How the marks changed, for the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkChange {
    Added(Timestamp, Seq),
    Dropped(Timestamp),
}

impl LogClock {
    /// From what the store kept; marks in ascending order.
    pub fn restore(effective: Option<Timestamp>, horizon: Seq, marks: Vec<(Timestamp, Seq)>) -> Self {
        Self { effective, horizon, marks: marks.into() }
    }

    /// `Timestamp::MIN` before the first record that carries a time.
    pub fn effective(&self) -> Timestamp {
        self.effective.unwrap_or(Timestamp::MIN)
    }

    pub fn horizon(&self) -> Seq {
        self.horizon
    }

    /// A record at `seq` carries `time`.
    pub fn advance(&mut self, time: Timestamp, seq: Seq) -> Option<MarkChange> {
        let effective = self.effective().max(time);
        self.effective = Some(effective);
        let due = self.marks.back().is_none_or(|(last, _)| last.saturating_add(MARK_EVERY) <= effective);
        due.then(|| {
            self.marks.push_back((effective, seq));
            MarkChange::Added(effective, seq)
        })
    }

    /// The horizon that `retention` asks for at effective time `now`, if it is higher than the present one.
    pub fn horizon_due(&self, now: Timestamp, retention: Duration) -> Option<Seq> {
        let forgotten = now.saturating_sub(retention);
        let passed = self.marks.partition_point(|(time, _)| *time <= forgotten);
        let (_, seq) = self.marks.get(passed.checked_sub(1)?)?;
        (*seq > self.horizon).then_some(*seq)
    }

    /// Raises the horizon and drops the marks it has passed.
    pub fn raise_horizon(&mut self, horizon: Seq) -> Vec<MarkChange> {
        self.horizon = self.horizon.max(horizon);
        let passed = self.marks.partition_point(|(_, seq)| *seq < self.horizon);
        self.marks.drain(..passed).map(|(time, _)| MarkChange::Dropped(time)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::EPOCH.saturating_add(Duration::from_secs(seconds))
    }

    #[test]
    fn effective_time_never_goes_back() {
        let mut clock = LogClock::default();
        clock.advance(at(100), Seq(1));
        clock.advance(at(40), Seq(2));
        assert_eq!(clock.effective(), at(100));
    }

    #[test]
    fn forgets_an_id_only_once_its_retention_has_passed() {
        let mut clock = LogClock::default();
        for minute in 0..10 {
            clock.advance(at(minute * 60), Seq(minute + 1));
        }
        let retention = Duration::from_secs(300);
        assert_eq!(clock.horizon_due(at(299), retention), None);
        assert_eq!(clock.horizon_due(at(300), retention), Some(Seq(1)), "nothing older than the first mark");
        assert_eq!(clock.horizon_due(at(420), retention), Some(Seq(3)), "ids 1 and 2 came before minute 2");
        let dropped = clock.raise_horizon(Seq(3));
        assert_eq!(dropped, [MarkChange::Dropped(at(0)), MarkChange::Dropped(at(60))]);
        assert_eq!(clock.horizon_due(at(420), retention), None, "the horizon is there already");
        assert_eq!(clock.horizon(), Seq(3));
    }
}
