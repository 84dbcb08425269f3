//! One test per kind of clock trouble; observations come four times a second, as the writer makes them.

use super::Change::{Paused, Resumed};
use super::Resumed::{ClockAgrees, Settled};
use super::*;

const STEP: u64 = 250;
const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A moment, in milliseconds from a fixed one.
fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + millis).unwrap()
}

/// A guard with both of its clocks, which run at the same pace until told otherwise.
struct Bench {
    guard: ClockGuard,
    wall: i64,
    mono: u64,
    /// What happened, and at which monotonic millisecond.
    changes: Vec<(u64, Change)>,
}

impl Bench {
    /// A daemon whose log ended at the fixed moment and which starts `gap` later.
    fn restarted(gap: i64) -> Self {
        let guard = ClockGuard::new(ClockOptions::default(), Some(at(0)), Duration::ZERO);
        Self { guard, wall: gap, mono: 0, changes: Vec::new() }
    }

    /// Lets `span` of monotonic time pass, over which the wall clock shows `pace` times as much.
    fn run_at(&mut self, pace: i64, span: i64) -> &mut Self {
        for _ in 0..span / STEP as i64 {
            self.mono += STEP;
            self.wall += STEP as i64 * pace;
            self.observe();
        }
        self
    }

    fn run(&mut self, span: i64) -> &mut Self {
        self.run_at(1, span)
    }

    /// Moves the wall clock alone.
    fn step(&mut self, by: i64) -> &mut Self {
        self.wall += by;
        self
    }

    fn observe(&mut self) {
        let observed = self.guard.observe(at(self.wall), Duration::from_millis(self.mono));
        self.changes.extend(observed.change.map(|change| (self.mono, change)));
        let paused = self.guard.paused().is_some();
        assert_eq!(observed.trusted, (!paused).then_some(at(self.wall)), "trusted is the wall clock, or nothing");
    }

    /// What changed since the last call.
    fn changes(&mut self) -> Vec<(u64, Change)> {
        std::mem::take(&mut self.changes)
    }
}

#[test]
fn a_clock_that_runs_true_is_trusted_throughout() {
    assert_eq!(Bench::restarted(0).run(2 * HOUR).changes(), []);
}

#[test]
fn an_hour_back_is_trusted_and_so_is_the_way_forth() {
    let mut bench = Bench::restarted(0);
    assert_eq!(bench.run(MINUTE).step(-HOUR).run(10 * MINUTE).step(HOUR).run(MINUTE).changes(), []);
}

#[test]
fn thirty_days_back_and_forth_again_is_no_jump() {
    let mut bench = Bench::restarted(0);
    assert_eq!(bench.run(MINUTE).step(-30 * DAY).run(3 * HOUR).step(30 * DAY).run(MINUTE).changes(), []);
    let mut bench = Bench::restarted(0);
    bench.run(MINUTE).step(-30 * DAY).run(MINUTE).step(30 * DAY + 2 * HOUR).run(SECOND);
    let expected = at(2 * MINUTE + STEP as i64);
    assert_eq!(bench.guard.paused(), Some((expected, at(2 * MINUTE + 2 * HOUR + STEP as i64))), "past where it was");
}

#[test]
fn a_clock_that_runs_sixty_times_too_fast_is_followed() {
    let mut bench = Bench::restarted(0);
    assert_eq!(bench.run_at(60, 10 * MINUTE).run(MINUTE).changes(), []);
    assert_eq!(bench.wall, 601 * MINUTE);
}

#[test]
fn a_clock_that_loses_time_is_followed_too() {
    let mut bench = Bench::restarted(0);
    bench.run_at(0, 2 * HOUR).run(SECOND).step(HOUR);
    assert_eq!(bench.run(SECOND).changes(), [], "expected is where the clock was, not where it should have been");
    bench.step(HOUR + SECOND).run(SECOND);
    assert!(bench.guard.paused().is_some());
}

#[test]
fn a_jump_that_is_corrected_in_time_was_a_pause_and_nothing_else() {
    let mut bench = Bench::restarted(0);
    bench.run(MINUTE).step(2 * DAY).run(5 * MINUTE);
    assert_eq!(bench.guard.paused(), Some((at(MINUTE + 250), at(2 * DAY + MINUTE + 250))));
    bench.step(-2 * DAY).run(HOUR);
    let paused = Paused { expected: at(MINUTE + 250), wall: at(2 * DAY + MINUTE + 250) };
    let resumed = Resumed { wall: at(6 * MINUTE + 250), why: ClockAgrees };
    assert_eq!(bench.changes(), [(60_250, paused), (360_250, resumed)]);
}

#[test]
fn a_jump_that_persists_is_believed_once_it_has_settled() {
    let mut bench = Bench::restarted(0);
    bench.run(MINUTE).step(2 * DAY).run(HOUR);
    let [(60_250, Paused { .. }), (660_250, Resumed { wall, why: Settled })] = bench.changes()[..] else {
        panic!("paused, then settled ten minutes later");
    };
    assert_eq!(wall, at(2 * DAY + 11 * MINUTE + 250));
    assert_eq!(bench.step(-2 * DAY).run(HOUR).changes(), [], "and the way back is a step back");
}

#[test]
fn a_jump_of_just_max_step_is_none() {
    assert_eq!(Bench::restarted(0).run(MINUTE).step(HOUR).run(MINUTE).changes(), []);
    let mut bench = Bench::restarted(0);
    let changes = bench.run(MINUTE).step(HOUR + 1).run(SECOND).changes();
    assert!(matches!(changes[..], [(60_250, Paused { .. })]), "{changes:?}");
}

#[test]
fn another_jump_while_paused_starts_the_settling_again_within_the_same_pause() {
    let mut bench = Bench::restarted(0);
    bench.run(MINUTE).step(2 * DAY).run(9 * MINUTE).step(DAY).run(9 * MINUTE).step(-DAY).run(9 * MINUTE);
    let began = (at(MINUTE + 250), at(2 * DAY + MINUTE + 250));
    assert_eq!(bench.guard.paused(), Some(began), "it stays the pause that it was");
    bench.run(2 * MINUTE);
    let changes = bench.changes();
    let [(60_250, Paused { .. }), (settled, Resumed { why: Settled, .. })] = changes[..] else {
        panic!("{changes:?}");
    };
    assert_eq!(settled, (19 + 10) as u64 * 60_000 + 250, "ten minutes after the last jump");
}

#[test]
fn a_wobble_within_max_step_does_not_start_the_settling_again() {
    let mut bench = Bench::restarted(0);
    bench.run(MINUTE).step(2 * DAY).run(4 * MINUTE).step(HOUR).run(4 * MINUTE).step(-2 * HOUR).run(3 * MINUTE);
    let changes = bench.changes();
    assert!(matches!(changes[..], [(60_250, Paused { .. }), (660_250, Resumed { why: Settled, .. })]), "{changes:?}");
}

#[test]
fn a_clock_that_runs_away_while_paused_never_settles() {
    let mut bench = Bench::restarted(0);
    bench.run(MINUTE).step(2 * DAY).run_at(60, 2 * HOUR);
    let changes = bench.changes();
    assert!(matches!(changes[..], [(60_250, Paused { .. })]), "{changes:?}");
    bench.run(11 * MINUTE);
    assert!(matches!(bench.changes()[..], [(_, Resumed { why: Settled, .. })]), "until it runs true again");
}

#[test]
fn a_clock_that_flaps_pauses_and_resumes_each_time_and_no_more() {
    let mut bench = Bench::restarted(0);
    for _ in 0..5 {
        bench.run(MINUTE).step(2 * DAY).run(MINUTE).step(-2 * DAY);
    }
    bench.run(MINUTE);
    let changes = bench.changes();
    assert_eq!(changes.len(), 10, "{changes:?}");
    for (n, pair) in changes.chunks(2).enumerate() {
        let round = n as u64 * 120_000;
        let paused = (round + 60_250, at(round as i64 + 60_250));
        assert!(matches!(pair[0], (mono, Paused { expected, .. }) if (mono, expected) == paused), "{pair:?}");
        let resumed = Resumed { wall: at(round as i64 + 120_250), why: ClockAgrees };
        assert_eq!(pair[1], (round + 120_250, resumed));
    }
}

#[test]
fn time_while_the_daemon_was_down_is_a_jump_only_past_max_step() {
    for gap in [-30 * DAY, -HOUR, 0, HOUR - SECOND] {
        assert_eq!(Bench::restarted(gap).run(HOUR).changes(), [], "{gap} ms");
    }
    let mut bench = Bench::restarted(2 * HOUR);
    bench.run(HOUR);
    let paused = Paused { expected: at(250), wall: at(2 * HOUR + 250) };
    let resumed = Resumed { wall: at(2 * HOUR + 10 * MINUTE + 250), why: Settled };
    assert_eq!(bench.changes(), [(250, paused), (600_250, resumed)]);
}

#[test]
fn without_a_log_the_first_observation_is_believed_whatever_it_is() {
    for first in [Timestamp::MIN, Timestamp::EPOCH, at(0), Timestamp::MAX] {
        let mut guard = ClockGuard::new(ClockOptions::default(), None, Duration::from_secs(7));
        let mono = Duration::from_secs(9);
        assert_eq!(guard.observe(first, mono), Observed { trusted: Some(first), change: None }, "{first}");
    }
    let mut guard = ClockGuard::new(ClockOptions::default(), None, Duration::ZERO);
    guard.observe(at(0), Duration::ZERO);
    assert_eq!(guard.observe(at(2 * HOUR), Duration::ZERO).trusted, None, "only the first");
}

#[test]
fn an_operator_ends_a_pause_with_the_time_as_it_is() {
    let mut bench = Bench::restarted(0);
    bench.run(MINUTE).step(2 * DAY).run(MINUTE).changes();
    bench.guard.reset(at(bench.wall), Duration::from_millis(bench.mono));
    assert_eq!(bench.guard.paused(), None);
    assert_eq!(bench.run(HOUR).step(HOUR).run(MINUTE).changes(), []);
}

#[test]
fn an_operator_takes_back_a_jump_that_was_believed() {
    let mut bench = Bench::restarted(0);
    bench.run(MINUTE).step(2 * DAY).run(HOUR).step(-2 * DAY).run(MINUTE).changes();
    bench.guard.reset(at(bench.wall), Duration::from_millis(bench.mono));
    assert_eq!(bench.run(MINUTE).changes(), []);
    bench.step(2 * DAY).run(SECOND);
    assert!(matches!(bench.changes()[..], [(_, Paused { .. })]), "without it this would be within what was trusted");
}

#[test]
fn the_ends_of_time_overflow_nothing() {
    let far = Duration::from_micros(u64::MAX);
    let options = ClockOptions { max_step: far, settle: far };
    for options in [ClockOptions::default(), options] {
        for effective in [None, Some(Timestamp::MIN), Some(Timestamp::MAX)] {
            let mut guard = ClockGuard::new(options, effective, far);
            for wall in [Timestamp::MIN, Timestamp::MAX, Timestamp::MAX, Timestamp::MIN, at(0), Timestamp::MAX] {
                for mono in [Duration::ZERO, far, Duration::ZERO] {
                    let observed = guard.observe(wall, mono);
                    assert_eq!(observed.trusted.is_none(), guard.paused().is_some());
                }
            }
            guard.reset(Timestamp::MIN, far);
            assert_eq!(guard.observe(Timestamp::MIN, far).trusted, Some(Timestamp::MIN));
        }
    }
    let mut guard = ClockGuard::new(ClockOptions::default(), Some(Timestamp::MIN), Duration::ZERO);
    let paused = Paused { expected: Timestamp::MIN, wall: Timestamp::MAX };
    assert_eq!(guard.observe(Timestamp::MAX, Duration::ZERO).change, Some(paused));
    assert_eq!(guard.observe(Timestamp::MAX, Duration::from_secs(599)).change, None);
    let resumed = Resumed { wall: Timestamp::MAX, why: Settled };
    assert_eq!(guard.observe(Timestamp::MAX, Duration::from_secs(600)).change, Some(resumed));
}
