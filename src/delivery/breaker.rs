//! A sink that fails is cut off for a while, then probed with one attempt. Pure: time is an argument.
//!
//! | state | attempts | goes to |
//! | --- | --- | --- |
//! | closed | are made | open, with the `failures`-th failure in a row |
//! | open, cooling down | fail at once, unmade | closed, when an attempt from before finds the receiver there after all |
//! | open, cooled down | one may be made: the probe | half-open, once it begins |
//! | half-open | wait for the probe | closed if the receiver was there; else open, for twice as long, to `cool_down_max` |
//!
//! 1. Only failures that say the receiver is not there, or is overwhelmed, count. One that refuses a message is there.
//! 2. Half-open, exactly one attempt is under way: the caller begins the probe once no other is.
//! 3. Attempts from before it opened that fail later change nothing.
//! 4. An end of the cool-down that lies further ahead than `cool_down_max` was set by a clock that has gone back: it is over.

use crate::delivery::policy::BreakerPolicy;
use crate::engine::BreakerState;
use crate::model::{Duration, Timestamp};

#[cfg(test)]
mod tests;

#[derive(Clone, Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    state: BreakerState,
    /// Failures in a row.
    failures: u32,
    /// How long it is open the next time.
    cool_down: Duration,
}

/// What the breaker says to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Make it.
    Open,
    /// Make this one and no other.
    Probe,
    /// A probe is under way: wait for it.
    Wait,
    /// It has failed, without being made.
    Refused,
}

impl Breaker {
    pub fn new(policy: BreakerPolicy) -> Self {
        Self { policy, state: BreakerState::Closed, failures: 0, cool_down: policy.cool_down }
    }

    pub fn state(&self) -> BreakerState {
        self.state
    }

    pub fn admission(&self, now: Timestamp) -> Admission {
        match self.state {
            BreakerState::Closed => Admission::Open,
            BreakerState::HalfOpen => Admission::Wait,
            BreakerState::Open { until } if self.is_cool(until, now) => Admission::Probe,
            BreakerState::Open { .. } => Admission::Refused,
        }
    }

    fn is_cool(&self, until: Timestamp, now: Timestamp) -> bool {
        until <= now || until > now.saturating_add(self.policy.cool_down_max.max(self.policy.cool_down))
    }

    /// An attempt begins that was admitted.
    pub fn begin(&mut self) {
        if let BreakerState::Open { .. } = self.state {
            self.state = BreakerState::HalfOpen;
        }
    }

    /// An attempt that had begun was not made after all.
    pub fn abandon(&mut self, now: Timestamp) {
        if self.state == BreakerState::HalfOpen {
            self.state = BreakerState::Open { until: now };
        }
    }

    /// The receiver is there. Whether this has closed it.
    pub fn reached(&mut self) -> bool {
        let closes = self.state != BreakerState::Closed;
        *self = Self::new(self.policy);
        closes
    }

    /// An attempt failed in a way that counts. Whether this has opened it.
    pub fn failed(&mut self, now: Timestamp) -> bool {
        self.failures = self.failures.saturating_add(1);
        let opens = match self.state {
            BreakerState::Closed => self.failures >= self.policy.failures,
            BreakerState::HalfOpen => true,
            BreakerState::Open { .. } => false,
        };
        if opens {
            self.state = BreakerState::Open { until: now.saturating_add(self.cool_down) };
            self.cool_down = self.cool_down.saturating_add(self.cool_down).min(self.policy.cool_down_max);
        }
        opens
    }
}
