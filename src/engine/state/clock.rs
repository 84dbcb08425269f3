//! Time as the log knows it: effective time, and the horizon below which ids are forgotten.
//!
//! 1. Effective time is the greatest time that a Tick carried. It never goes back, whatever the wall clock does, but for an
//!    operator's ClockReset, which is a record too.
//! 2. About once a minute a mark notes which seq came first after it; an id is forgotten by raising the horizon to a mark.
//! 3. The horizon moves only by a Tick record, so that live, at recovery and in `verify` the same ids are known.
//! 4. An event that may be one of the forgotten ones is never taken: no accepted event below the horizon has a timestamp
//!    past `forgotten()`, and what is not past it is too late, whatever `accept_past` says meanwhile.

use std::collections::VecDeque;

use crate::model::{Duration, Seq, Timestamp};

/// How far apart marks are: ids outlive their retention by up to this.
const MARK_EVERY: Duration = Duration::from_secs(60);

/// An event that is further ahead of its time counts as so far ahead: or one that a wrong clock has stamped would make
/// everything before its time too late once its id is forgotten.
const AHEAD_MAX: Duration = Duration::from_secs(3_600);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogClock {
    effective: Option<Timestamp>,
    horizon: Seq,
    /// The latest timestamp of any accepted event.
    newest_event: Option<Timestamp>,
    /// The latest timestamp of any event below the horizon.
    forgotten: Option<Timestamp>,
    marks: VecDeque<Mark>,
}

/// Ids below `seq` were accepted before the effective time `time`, none with a timestamp after `newest_event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub time: Timestamp,
    pub seq: Seq,
    pub newest_event: Option<Timestamp>,
}

/// Everything but the marks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockRow {
    pub effective: Option<Timestamp>,
    pub horizon: Seq,
    pub newest_event: Option<Timestamp>,
    pub forgotten: Option<Timestamp>,
}

/// How the marks changed, for the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkChange {
    Added(Mark),
    Dropped(Timestamp),
}

impl LogClock {
    /// From what the store kept; marks in ascending order.
    pub fn restore(row: ClockRow, marks: Vec<Mark>) -> Self {
        let ClockRow { effective, horizon, newest_event, forgotten } = row;
        Self { effective, horizon, newest_event, forgotten, marks: marks.into() }
    }

    /// For the store.
    pub fn row(&self) -> ClockRow {
        let Self { effective, horizon, newest_event, forgotten, .. } = *self;
        ClockRow { effective, horizon, newest_event, forgotten }
    }

    /// `Timestamp::MIN` before the first record that carries a time.
    pub fn effective(&self) -> Timestamp {
        self.effective.unwrap_or(Timestamp::MIN)
    }

    pub fn horizon(&self) -> Seq {
        self.horizon
    }

    /// The latest timestamp that a forgotten event may have had.
    pub fn forgotten(&self) -> Option<Timestamp> {
        self.forgotten
    }

    /// An event with this timestamp was accepted.
    pub fn saw_event(&mut self, timestamp: Timestamp) {
        let latest = self.effective().saturating_add(AHEAD_MAX);
        self.newest_event = self.newest_event.max(Some(timestamp.min(latest)));
    }

    /// The latest timestamp of any accepted event, as far as it is not ahead of its time.
    pub fn newest_event(&self) -> Option<Timestamp> {
        self.newest_event
    }

    /// A record at `seq` carries `time`.
    pub fn advance(&mut self, time: Timestamp, seq: Seq) -> Option<MarkChange> {
        let effective = self.effective().max(time);
        self.effective = Some(effective);
        let due = self.marks.back().is_none_or(|last| last.time.saturating_add(MARK_EVERY) <= effective);
        due.then(|| {
            let mark = Mark { time: effective, seq, newest_event: self.newest_event };
            self.marks.push_back(mark);
            MarkChange::Added(mark)
        })
    }

    /// An operator says that it is `time` at `seq`, which may be earlier than what was believed. Ids that were accepted at
    /// a later time by the clock that was wrong count as accepted now.
    pub fn reset(&mut self, time: Timestamp, seq: Seq) -> Vec<MarkChange> {
        self.effective = Some(time);
        let latest = time.saturating_add(AHEAD_MAX);
        self.newest_event = self.newest_event.map(|newest| newest.min(latest));
        let past = self.marks.partition_point(|mark| mark.time < time);
        let mut changes: Vec<MarkChange> =
            self.marks.drain(past..).map(|mark| MarkChange::Dropped(mark.time)).collect();
        let mark = Mark { time, seq, newest_event: self.newest_event };
        self.marks.push_back(mark);
        changes.push(MarkChange::Added(mark));
        changes
    }

    /// The horizon that `retention` asks for at effective time `now`, if it is higher than the present one.
    pub fn horizon_due(&self, now: Timestamp, retention: Duration) -> Option<Seq> {
        let forgotten = now.saturating_sub(retention);
        let passed = self.marks.partition_point(|mark| mark.time <= forgotten);
        let mark = self.marks.get(passed.checked_sub(1)?)?;
        (mark.seq > self.horizon).then_some(mark.seq)
    }

    /// Raises the horizon and drops the marks it has passed.
    pub fn raise_horizon(&mut self, horizon: Seq) -> Vec<MarkChange> {
        self.horizon = self.horizon.max(horizon);
        let passed = self.marks.partition_point(|mark| mark.seq < self.horizon);
        let dropped = self.marks.drain(..passed).map(|mark| MarkChange::Dropped(mark.time)).collect();
        let reached = self.marks.front().filter(|mark| mark.seq == self.horizon);
        self.forgotten = self.forgotten.max(reached.and_then(|mark| mark.newest_event));
        dropped
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
    fn a_reset_goes_back_and_ids_are_kept_from_then_on() {
        let mut clock = LogClock::default();
        for (time, seq) in [(0, 1), (60, 2), (1_000_000, 9)] {
            clock.advance(at(time), Seq(seq));
        }
        let changes = clock.reset(at(100), Seq(20));
        let mark = Mark { time: at(100), seq: Seq(20), newest_event: None };
        assert_eq!(changes, [MarkChange::Dropped(at(1_000_000)), MarkChange::Added(mark)]);
        assert_eq!(clock.effective(), at(100));
        assert_eq!(clock.horizon_due(at(400), Duration::from_secs(300)), Some(Seq(20)));
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

    #[test]
    fn an_event_that_a_wrong_clock_has_stamped_does_not_make_a_year_too_late() {
        let mut clock = LogClock::default();
        let year = Duration::from_secs(365 * 86_400);
        clock.advance(at(0), Seq(1));
        clock.saw_event(at(0).saturating_add(year));
        clock.advance(at(60), Seq(2));
        clock.raise_horizon(Seq(2));
        assert_eq!(clock.forgotten(), Some(at(0).saturating_add(AHEAD_MAX)));
        clock.advance(at(120).saturating_add(year), Seq(3));
        clock.saw_event(at(120).saturating_add(year));
        clock.reset(at(180), Seq(4));
        clock.raise_horizon(Seq(4));
        assert_eq!(
            clock.forgotten(),
            Some(at(180).saturating_add(AHEAD_MAX)),
            "nor one from before the clock was reset"
        );
    }

    #[test]
    fn remembers_how_late_the_forgotten_events_were() {
        let mut clock = LogClock::default();
        for (minute, event) in [(0, 0), (1, 200), (2, 70), (3, 400)] {
            clock.advance(at(minute * 60), Seq(minute + 1));
            clock.saw_event(at(event));
        }
        assert_eq!(clock.forgotten(), None);
        clock.raise_horizon(Seq(3));
        assert_eq!(
            clock.forgotten(),
            Some(at(200)),
            "ids 1 and 2 are forgotten, the later of their events was at 200 s"
        );
    }
}
