//! A sink that is dead for days.

use super::*;

const HOUR: u64 = 3_600;

/// Rows every minute for a while, at a receiver that is dead for so long.
fn dead_for(hours: u64, jitter_percent: u8) -> World {
    let policy = Policy { jitter_percent, ..Policy::default() };
    let mut world = World::new(policy, back_from(at(hours * HOUR)));
    for _ in 0..24 {
        world.log.add_rows(RowKind::Windows, 12);
        world.run(secs(60));
    }
    world
}

#[test]
fn a_sink_that_is_dead_for_80_hours_ends_in_dead_letters_and_a_replay_delivers_all() {
    let mut world = dead_for(80, 5);
    world.run_until(at(80 * HOUR - 1));
    let planned = world.log.deliveries.len();
    assert_eq!((planned, world.log.dead(), world.log.delivered()), (24 * 12, 24 * 12, 0));
    for (seq, attempts) in &world.log.attempts {
        let lasted = attempts[9].at.micros() - attempts[0].at.micros();
        assert_eq!(attempts.len(), 10, "{seq}");
        assert!((71..80).contains(&(lasted / 3_600_000_000)), "{seq} was tried for {lasted} µs");
    }
    assert!(world.made.len() < planned * 10, "most of them failed fast: {}", world.made.len());
    world.run_until(at(81 * HOUR));
    assert_eq!(world.log.delivered(), 0, "a dead letter is not tried again by itself");
    let before = world.log.deliveries.keys().copied().collect::<Vec<_>>();
    world.replay();
    world.run(secs(60));
    assert_eq!((world.log.delivered(), world.log.dead()), (planned, 0));
    assert_eq!(world.log.deliveries.into_keys().collect::<Vec<_>>(), before, "under the ids that they had");
}

#[test]
fn with_a_jitter_of_a_fifth_the_last_of_ten_attempts_may_come_after_90_hours() {
    let mut world = dead_for(200, 20);
    world.run_until(at(95 * HOUR));
    assert_eq!(world.log.dead(), 24 * 12);
    let lasted = |attempts: &Vec<Attempt>| (attempts[9].at.micros() - attempts[0].at.micros()) / 3_600_000_000;
    let longest = world.log.attempts.values().map(lasted).max().unwrap();
    assert!((80..91).contains(&longest), "{longest} hours");
}

#[test]
fn a_replay_to_a_sink_that_is_dead_still_goes_through_the_whole_schedule_again() {
    let mut world = dead_for(1_000, 0);
    world.run_until(at(90 * HOUR));
    world.replay();
    assert_eq!(world.log.dead(), 0);
    world.run(secs(90 * HOUR));
    assert_eq!(world.log.dead(), 24 * 12);
    assert!(world.log.deliveries.values().all(|delivery| delivery.attempts == 20 && delivery.failures == 10));
}

#[test]
fn past_the_most_pending_deliveries_rows_wait_and_none_is_lost() {
    let policy = Policy { max_pending: 50, ..policy() };
    let mut world = World::with_rows(policy, back_from(at(HOUR)), 400);
    world.run_until(at(HOUR - 1));
    assert_eq!(world.log.deliveries.len(), 50);
    world.run_until(at(4 * HOUR));
    assert_eq!((world.log.delivered(), world.log.dead()), (400, 0));
}

#[test]
fn rows_that_wait_behind_dead_letters_go_out_once_the_receiver_is_back() {
    let policy = Policy { max_pending: 50, ..policy() };
    let mut world = World::with_rows(policy, back_from(at(100 * HOUR)), 80);
    world.run_until(at(120 * HOUR));
    assert_eq!((world.log.dead(), world.log.delivered()), (50, 30));
    world.replay();
    world.run(secs(10));
    assert_eq!(world.log.delivered(), 80);
}

#[test]
fn what_an_operator_replays_is_really_tried_although_the_breaker_is_open() {
    let policy = Policy { schedule: vec![Duration::ZERO, secs(1)], ..policy() };
    let mut world = World::with_rows(policy, back_from(at(15)), 12);
    world.run_until(at(20));
    let planned = world.log.deliveries.len();
    assert_eq!((world.log.dead(), world.log.delivered()), (planned, 0));
    assert!(matches!(world.machine.health().breaker, BreakerState::Open { until } if until > at(25)));
    world.replay();
    world.run(secs(2));
    assert_eq!((world.log.dead(), world.log.delivered()), (0, planned));
    assert!(world.log.deliveries.values().all(|delivery| delivery.attempts == 3), "none of them failed fast");
}

#[test]
fn a_receiver_that_is_back_is_found_when_the_cool_down_ends_though_nothing_is_due() {
    let mut world = World::with_rows(policy(), back_from(at(8)), 6);
    world.run_until(at(60));
    assert_eq!((world.log.delivered(), world.log.deliveries.len()), (6, 6));
    let late = world.made_at().into_iter().filter(|secs| *secs >= 8).collect::<Vec<_>>();
    assert!(late.iter().all(|secs| (30..36).contains(secs)), "a probe, and then all that failed before: {late:?}");
}

#[test]
fn probes_ahead_of_their_time_take_nothing_from_a_schedule() {
    let mut world = World::with_rows(policy(), always(unavailable()), 6);
    world.run_until(at(3 * HOUR));
    assert!(world.made.len() > 30, "one each five minutes at least: {}", world.made.len());
    assert!(world.log.deliveries.values().all(|delivery| delivery.failures <= 5), "0, 5 s, 5 min, 30 min, 2 h");
}
