//! When a failed attempt is tried again, and what limits hold. Pure: time and randomness are arguments.
//!
//! | failures so far | next attempt | by default |
//! | --- | --- | --- |
//! | 0 | `schedule[0]` after it was planned | at once |
//! | k | `schedule[k]` after the k-th failure | 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h |
//! | as many as `schedule` is long | none: a dead letter | after ten |
//!
//! 1. A retry is due `schedule[k]` after the failure, give or take `jitter_percent` of it.
//! 2. A receiver may put a retry off (Retry-After), by at most `retry_after_max`; it cannot hasten one.
//! 3. A due time that lies further ahead than 1 and 2 allow was set by a clock that has gone back since, or under another
//!    schedule: it counts as due.
//!
//! Why jitter: deliveries that failed together would come back together.

use crate::model::{Duration, Timestamp};

#[cfg(test)]
mod tests;

/// How one sink is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What passes before each attempt. At least one; so many failures make a dead letter.
    pub schedule: Vec<Duration>,
    /// How far a delay may be from the schedule's, at most 100.
    pub jitter_percent: u8,
    /// An attempt that takes longer has failed.
    pub time_out: Duration,
    /// What Retry-After may put a delivery off by.
    pub retry_after_max: Duration,
    /// For how long a receiver that asks for less may hold up the whole sink.
    pub hold_max: Duration,
    /// Attempts under way at once.
    pub max_in_flight: usize,
    /// Past so many pending deliveries rows wait in the outbox.
    pub max_pending: usize,
    pub breaker: BreakerPolicy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// So many failures in a row open it.
    pub failures: u32,
    /// For how long it is open; each failed probe doubles that.
    pub cool_down: Duration,
    pub cool_down_max: Duration,
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
/// Standard Webhooks' ten attempts in some 75 hours.
const SCHEDULE_SECS: [u64; 10] =
    [0, 5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR];

impl Default for Policy {
    fn default() -> Self {
        Self {
            schedule: SCHEDULE_SECS.map(Duration::from_secs).to_vec(),
            jitter_percent: 5,
            time_out: Duration::from_secs(20),
            retry_after_max: Duration::from_secs(24 * HOUR),
            hold_max: Duration::from_secs(5 * MINUTE),
            max_in_flight: 4,
            max_pending: 1_000,
            breaker: BreakerPolicy::default(),
        }
    }
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self { failures: 5, cool_down: Duration::from_secs(30), cool_down_max: Duration::from_secs(5 * MINUTE) }
    }
}

impl Policy {
    /// When to try again after the latest of so many failures, which came about `now`. `None`: never, it is dead.
    pub fn next_due(
        &self,
        failures_so_far: u32,
        now: Timestamp,
        retry_after: Option<Duration>,
        rng: &mut fastrand::Rng,
    ) -> Option<Timestamp> {
        let delay = self.jittered(self.delay(failures_so_far)?, rng);
        let asked = retry_after.unwrap_or(Duration::ZERO).min(self.retry_after_max);
        Some(now.saturating_add(delay.max(asked)))
    }

    /// Whether an attempt that was put at `due` after so many failures is to be made by now.
    pub fn is_due(&self, failures_so_far: u32, due: Timestamp, now: Timestamp) -> bool {
        due <= now || due > now.saturating_add(self.furthest(failures_so_far))
    }

    /// How far ahead the next attempt can be after so many failures.
    fn furthest(&self, failures_so_far: u32) -> Duration {
        let delay = self.delay(failures_so_far).or(self.schedule.last().copied()).unwrap_or(Duration::ZERO);
        delay.saturating_add(self.jitter(delay)).max(self.retry_after_max)
    }

    fn delay(&self, failures_so_far: u32) -> Option<Duration> {
        self.schedule.get(usize::try_from(failures_so_far).ok()?).copied()
    }

    fn jitter(&self, delay: Duration) -> Duration {
        let share = delay.micros() / 100 * i64::from(self.jitter_percent.min(100));
        Duration::from_micros(share.unsigned_abs())
    }

    fn jittered(&self, delay: Duration, rng: &mut fastrand::Rng) -> Duration {
        let jitter = self.jitter(delay);
        let twice = jitter.saturating_add(jitter).micros().unsigned_abs();
        delay.saturating_sub(jitter).saturating_add(Duration::from_micros(rng.u64(0..=twice)))
    }
}
