//! Wall time, which may jump, and monotonic time, which never goes back.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::model::{Duration, Timestamp};

pub trait Clock: Send + Sync {
    /// The wall clock. It may step in either direction.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment. Never goes back.
    fn monotonic(&self) -> Duration;
}

/// The machine's clock.
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    /// A machine whose clock is outside the years 0001 to 9999 reads as 1970: every event is then `too_early`.
    fn now(&self) -> Timestamp {
        let since_epoch = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()),
            Err(before) => i64::try_from(before.duration().as_micros()).map(|micros| -micros),
        };
        since_epoch.ok().and_then(|micros| Timestamp::from_micros(micros).ok()).unwrap_or(Timestamp::EPOCH)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

/// A clock that stands still until it is told otherwise. Shared by reference or `Arc`.
pub struct ManualClock {
    wall_micros: AtomicI64,
    monotonic_micros: AtomicI64,
}

impl ManualClock {
    pub fn new(now: Timestamp) -> Self {
        Self { wall_micros: AtomicI64::new(now.micros()), monotonic_micros: AtomicI64::new(0) }
    }

    /// Lets `span` pass on both clocks.
    pub fn advance(&self, span: Duration) {
        let now = self.now().saturating_add(span);
        self.wall_micros.store(now.micros(), Ordering::SeqCst);
        self.monotonic_micros.fetch_add(span.micros(), Ordering::SeqCst);
    }

    /// Steps the wall clock, forth or back. No monotonic time passes.
    pub fn set(&self, now: Timestamp) {
        self.wall_micros.store(now.micros(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.wall_micros.load(Ordering::SeqCst)).unwrap_or(Timestamp::EPOCH)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.monotonic_micros.load(Ordering::SeqCst).unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_steps_back_while_monotonic_time_does_not() {
        let start = Timestamp::from_millis(1_000_000).unwrap();
        let clock = ManualClock::new(start);
        clock.advance(Duration::from_secs(5));
        assert_eq!(clock.now(), start.saturating_add(Duration::from_secs(5)));
        clock.set(Timestamp::EPOCH);
        assert_eq!((clock.now(), clock.monotonic()), (Timestamp::EPOCH, Duration::from_secs(5)));
    }

    #[test]
    fn the_system_clock_reads_a_year_after_2025() {
        assert!(SystemClock::new().now() > Timestamp::parse_rfc3339("2026-01-01T00:00:00Z").unwrap());
    }
}
