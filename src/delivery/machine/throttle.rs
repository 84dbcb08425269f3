//! What a receiver gets that asks for less. Pure: time is an argument.
//!
//! 1. After a SlowDown nothing is sent for as long as it asks, at most `hold_max`; if it does not say, for a second, and
//!    for twice as long each further time.
//! 2. Until the next success one attempt is made at a time.
//! 3. Attempts that were under way when it first asked are one burst: they lengthen a hold, and do not double it.

use crate::model::{Duration, Timestamp};

const HOLD_FIRST: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub struct Throttle {
    hold_max: Duration,
    /// From a SlowDown to the next success.
    hold: Option<Hold>,
}

#[derive(Clone, Copy, Debug)]
struct Hold {
    until: Timestamp,
    /// For how long it is the next time, if the receiver does not say.
    next: Duration,
}

impl Throttle {
    pub fn new(hold_max: Duration) -> Self {
        Self { hold_max, hold: None }
    }

    pub fn is_slowed(&self) -> bool {
        self.hold.is_some()
    }

    /// An end further ahead than `hold_max` was set by a clock that has gone back: it is over.
    pub fn held_until(&self, now: Timestamp) -> Option<Timestamp> {
        let until = self.hold?.until;
        (now < until && until <= now.saturating_add(self.hold_max)).then_some(until)
    }

    pub fn slow_down(&mut self, now: Timestamp, retry_after: Option<Duration>) {
        let held = self.held_until(now);
        let next = self.hold.map_or(HOLD_FIRST, |hold| hold.next);
        let asked = retry_after.unwrap_or(if held.is_some() { Duration::ZERO } else { next });
        let until = now.saturating_add(asked.min(self.hold_max));
        let next = if held.is_some() { next } else { next.saturating_add(next).min(self.hold_max) };
        self.hold = Some(Hold { until: held.map_or(until, |held| held.max(until)), next });
    }

    pub fn relax(&mut self) {
        self.hold = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::EPOCH.saturating_add(Duration::from_secs(secs))
    }

    fn throttle() -> Throttle {
        Throttle::new(Duration::from_secs(10))
    }

    #[test]
    fn holds_for_as_long_as_it_is_asked_up_to_the_maximum() {
        let mut throttle = throttle();
        throttle.slow_down(at(0), Some(Duration::from_secs(3)));
        assert_eq!((throttle.held_until(at(0)), throttle.held_until(at(3))), (Some(at(3)), None));
        assert!(throttle.is_slowed(), "until a success");
        throttle.slow_down(at(5), Some(Duration::from_secs(3_600)));
        assert_eq!(throttle.held_until(at(5)), Some(at(15)));
        throttle.relax();
        assert_eq!((throttle.held_until(at(6)), throttle.is_slowed()), (None, false));
    }

    #[test]
    fn without_a_word_it_holds_for_twice_as_long_each_time() {
        let (mut throttle, mut now, mut holds) = (throttle(), at(0), Vec::new());
        for _ in 0..6 {
            throttle.slow_down(now, None);
            let until = throttle.held_until(now).unwrap();
            holds.push((until.micros() - now.micros()) / 1_000_000);
            now = until;
        }
        assert_eq!(holds, [1, 2, 4, 8, 10, 10]);
    }

    #[test]
    fn a_burst_is_one_and_its_longest_wish_counts() {
        let mut throttle = throttle();
        throttle.slow_down(at(0), Some(Duration::from_secs(4)));
        throttle.slow_down(at(0), None);
        throttle.slow_down(at(1), Some(Duration::from_secs(2)));
        assert_eq!(throttle.held_until(at(1)), Some(at(4)));
        throttle.slow_down(at(4), None);
        assert_eq!(throttle.held_until(at(4)), Some(at(6)), "doubled once, by the first");
    }

    #[test]
    fn a_clock_that_goes_back_does_not_prolong_it() {
        let mut throttle = throttle();
        throttle.slow_down(at(7_200), Some(Duration::from_secs(5)));
        assert_eq!(throttle.held_until(at(3_600)), None);
    }
}
