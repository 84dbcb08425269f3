//! Whether the wall clock can be believed. Pure: both clocks are arguments.
//!
//! | state    | it has               | goes to                                                                    |
//! | -------- | -------------------- | -------------------------------------------------------------------------- |
//! | new      | no time at all       | trusting, with the first observation, whatever it is                       |
//! | trusting | the expected time    | paused, when the wall clock is past the expected time by over `max_step`   |
//! | paused   | that, and a sighting | trusting, when the clock agrees, when it has settled, or by an operator    |
//!
//! 1. The expected time is the highest trusted time plus what the monotonic clock has counted since. A step back does not
//!    lower it, so that the way back from one is no jump.
//! 2. Each trusted time moves it: a clock that drifts, or runs many times too fast, is followed step by step.
//! 3. While paused no time is trusted. The expected time runs on, and a wall clock that returns to it ends the pause.
//! 4. A jump that persists is believed: the wall clock has kept pace with the monotonic one, to within `max_step`, for
//!    `settle`. A further jump starts that count again, and is part of the same pause.
//! 5. Going back is never a reason to pause: effective time is a maximum, and nothing closes by a time before it.
//!
//! Why: a closed window stays closed. One wrong reading two days ahead would close two days of windows, and make every
//! event in them late; waiting costs minutes.

use crate::model::{Duration, Timestamp};

#[cfg(test)]
mod tests;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOptions {
    /// The wall clock may be so far ahead of the expected time.
    pub max_step: Duration,
    /// For so long a jump must hold before it is believed.
    pub settle: Duration,
}

impl Default for ClockOptions {
    fn default() -> Self {
        Self { max_step: Duration::from_secs(3_600), settle: Duration::from_secs(600) }
    }
}

#[derive(Clone, Debug)]
pub struct ClockGuard {
    options: ClockOptions,
    /// The highest trusted time, and when it was seen.
    trusted: Option<Reading>,
    pause: Option<Pause>,
}

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    wall: Timestamp,
    mono: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    expected: Timestamp,
    wall: Timestamp,
    /// The first reading of the newest jump.
    sighting: Reading,
}

/// What an observation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The wall clock's time, which may lie before an earlier one; none while paused.
    pub trusted: Option<Timestamp>,
    pub change: Option<Change>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Paused { expected: Timestamp, wall: Timestamp },
    Resumed { wall: Timestamp, why: Resumed },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumed {
    /// The wall clock is back where it was expected.
    ClockAgrees,
    /// The jump has persisted: it is the time now.
    Settled,
}

impl ClockGuard {
    /// Expects the clock to be where the log's effective time is; without one, whatever it shows first.
    pub fn new(options: ClockOptions, effective: Option<Timestamp>, mono: Duration) -> Self {
        Self { options, trusted: effective.map(|wall| Reading { wall, mono }), pause: None }
    }

    pub fn observe(&mut self, wall: Timestamp, mono: Duration) -> Observed {
        let now = Reading { wall, mono };
        let expected = self.trusted.map_or(wall, |trusted| trusted.advanced_to(mono));
        let agrees = wall <= expected.saturating_add(self.options.max_step);
        let change = match &mut self.pause {
            None => (!agrees).then_some(Change::Paused { expected, wall }),
            Some(_) if agrees => Some(Change::Resumed { wall, why: Resumed::ClockAgrees }),
            Some(pause) => {
                let settled = pause.has_settled(now, self.options);
                settled.then_some(Change::Resumed { wall, why: Resumed::Settled })
            }
        };
        match change {
            None => {}
            Some(Change::Paused { .. }) => self.pause = Some(Pause { expected, wall, sighting: now }),
            Some(Change::Resumed { why: Resumed::ClockAgrees, .. }) => self.pause = None,
            Some(Change::Resumed { why: Resumed::Settled, .. }) => self.reset(wall, mono),
        }
        if self.pause.is_some() {
            return Observed { trusted: None, change };
        }
        self.trusted = Some(self.trusted.filter(|highest| highest.wall > wall).unwrap_or(now));
        Observed { trusted: Some(wall), change }
    }

    /// Believes the wall clock from now on, forwards or backwards: an operator said so.
    pub fn reset(&mut self, wall: Timestamp, mono: Duration) {
        self.trusted = Some(Reading { wall, mono });
        self.pause = None;
    }

    /// While paused: the time that was expected, and the one that was seen instead, when the pause began.
    pub fn paused(&self) -> Option<(Timestamp, Timestamp)> {
        self.pause.map(|pause| (pause.expected, pause.wall))
    }
}

impl Reading {
    /// The time that follows from this reading once the monotonic clock shows `mono`.
    fn advanced_to(self, mono: Duration) -> Timestamp {
        self.wall.saturating_add(elapsed(self.mono, mono))
    }

    /// By how many microseconds the wall clock has moved against the monotonic one since `self`.
    fn drift_micros(self, now: Reading) -> u128 {
        let offset = |reading: Reading| i128::from(reading.wall.micros()) - i128::from(reading.mono.micros());
        (offset(now) - offset(self)).unsigned_abs()
    }
}

impl Pause {
    /// Whether the newest jump has held for long enough; notes a further one.
    fn has_settled(&mut self, now: Reading, options: ClockOptions) -> bool {
        let tolerance = u128::from(options.max_step.micros().unsigned_abs());
        if self.sighting.drift_micros(now) > tolerance {
            self.sighting = now;
        }
        elapsed(self.sighting.mono, now.mono) >= options.settle
    }
}

fn elapsed(from: Duration, to: Duration) -> Duration {
    let micros = to.micros().saturating_sub(from.micros());
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}
