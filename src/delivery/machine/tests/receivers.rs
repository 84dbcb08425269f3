//! What each kind of answer comes to, under a simulated clock.

use std::time::Duration as StdDuration;

use super::*;

/// No breaker: one delivery's course alone.
fn without_breaker() -> Policy {
    let mut policy = policy();
    policy.breaker.failures = u32::MAX;
    policy
}

fn slow_down(status: u16, retry_after_secs: Option<u64>) -> Sent {
    let retry_after = retry_after_secs.map(StdDuration::from_secs);
    Sent { status: Some(status), ..Sent::failed(Failure::SlowDown { retry_after }, format!("it answered {status}")) }
}

fn at_once(sent: Sent) -> Receiver {
    Box::new(move |_, _| (sent.clone(), Duration::ZERO))
}

fn refused(status: u16) -> Sent {
    Sent { status: Some(status), ..Sent::failed(Failure::Refused, format!("it answered {status}")) }
}

#[test]
fn a_receiver_that_takes_everything_gets_each_row_once_and_at_most_four_messages_at_a_time() {
    let mut world = World::with_rows(policy(), always(Sent::delivered()), 100);
    world.run(secs(10));
    assert_eq!((world.log.delivered(), world.made.len(), world.most_at_once), (100, 100, 4));
    let health = world.machine.health();
    assert_eq!((health.in_flight, health.last_error), (0, None));
    assert_eq!(health.last_success, Some(at(2).saturating_add(Duration::from_millis(500))));
}

#[test]
fn one_that_answers_500_is_tried_by_the_schedule_and_then_no_more() {
    let mut world = World::with_rows(without_breaker(), always(unavailable()), 1);
    world.run(secs(400 * 3_600));
    let hours = world.made_at().iter().map(|secs| secs / 3_600).collect::<Vec<_>>();
    assert_eq!(world.made_at()[..4], [0, 5, 305, 2_105]);
    assert_eq!(hours[4..], [2, 7, 17, 31, 51, 75]);
    let delivery = world.only();
    assert!(matches!(delivery.state, DeliveryState::Dead { .. }), "{delivery:?}");
    let last = delivery.last_attempt.as_ref().unwrap();
    assert_eq!((delivery.attempts, last.status, last.error.as_str()), (10, Some(500), "it answered 500"));
}

#[test]
fn timeouts_and_resets_count_like_500() {
    for error in ["timed out after 20 s", "connection reset"] {
        let mut world = World::with_rows(policy(), always(Sent::failed(Failure::Unavailable, error)), 5);
        world.run(secs(1));
        assert!(matches!(world.machine.health().breaker, BreakerState::Open { .. }), "{error}");
        assert_eq!(world.machine.health().last_error.unwrap().1, error);
    }
}

#[test]
fn one_that_answers_500_five_times_is_left_alone_for_30_seconds_then_60_and_up_to_five_minutes() {
    let policy = Policy { schedule: vec![Duration::ZERO; 1].into_iter().chain([secs(1); 5_000]).collect(), ..policy() };
    let mut world = World::with_rows(policy, always(unavailable()), 1);
    world.run(secs(1_500));
    // The probe is the first attempt that is due once it has cooled down: here within the second.
    assert_eq!(world.made_at()[..5], [0, 1, 2, 3, 4]);
    let gaps = world.made_at()[4..].windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>();
    let expected = [31, 61, 121, 241, 301, 301];
    assert!(gaps.iter().zip(expected).all(|(gap, expected)| gap.abs_diff(expected) <= 1), "{gaps:?}");
    let fast = world.only().attempts as usize - world.made.len();
    assert!(fast > 900, "while it was open the schedule went on: {fast}");
}

#[test]
fn redirects_and_4xx_are_tried_by_the_schedule_and_leave_the_breaker_closed() {
    for status in [301, 400, 401, 404] {
        let mut world = World::with_rows(policy(), always(refused(status)), 20);
        world.run(secs(100 * 3_600));
        assert_eq!((world.log.dead(), world.made.len()), (20, 200), "{status}");
        assert_eq!(world.states, []);
    }
}

#[test]
fn one_refused_message_does_not_hold_up_the_others() {
    let refuses_first: Receiver = Box::new(|_, delivery| {
        let sent = if delivery.first.index == 0 { refused(400) } else { Sent::delivered() };
        (sent, Duration::from_millis(100))
    });
    let mut world = World::with_rows(policy(), refuses_first, 50);
    world.run(secs(3));
    assert_eq!(world.log.delivered(), 49);
}

#[test]
fn a_message_that_is_too_large_is_a_dead_letter_at_once() {
    let sent = Sent { status: Some(413), ..Sent::failed(Failure::Never, "it answered 413: too large") };
    let mut world = World::with_rows(policy(), always(sent), 1);
    world.run(secs(100 * 3_600));
    assert_eq!((world.log.dead(), world.made_at()), (1, vec![0]));
}

#[test]
fn a_sink_that_is_gone_is_paused_and_its_message_goes_out_when_an_operator_resumes_it() {
    for (failure, cause) in [(Failure::Gone, PauseCause::Gone), (Failure::Misfit, PauseCause::Misfit)] {
        let mut world = World::with_rows(policy(), always(Sent::failed(failure, "no more of it")), 40);
        world.run(secs(100 * 3_600));
        let pause = world.log.pause.clone().unwrap();
        assert_eq!((pause.cause, pause.reason.as_str()), (cause, "no more of it"));
        assert_eq!(world.made.len(), 4, "those that were under way");
        assert!(world.log.deliveries.values().all(|delivery| delivery.attempts == 0), "no attempt is spent");
        world.receiver = always(Sent::delivered());
        world.resume();
        world.run(secs(2));
        assert_eq!(world.log.delivered(), 40);
    }
}

#[test]
fn one_that_answers_429_is_asked_again_when_it_says_and_one_by_one_until_it_takes_something() {
    let busy_until = at(60);
    let receiver: Receiver = Box::new(move |now, _| {
        let left = busy_until.micros().saturating_sub(now.micros()) / 1_000_000;
        let sent = if now < busy_until { slow_down(429, Some(left.unsigned_abs())) } else { Sent::delivered() };
        (sent, Duration::from_millis(500))
    });
    let mut world = World::with_rows(policy(), receiver, 30);
    world.run_until(at(60));
    assert_eq!(world.made.len(), 4, "they were under way when it first asked");
    world.run(secs(1).saturating_sub(Duration::from_millis(100)));
    assert_eq!((world.made.len(), world.under_way.len()), (4 + 1, 1), "one of them, to see");
    world.run_until(at(120));
    assert_eq!(world.log.delivered(), 30);
    assert_eq!(world.states, [], "four in a row do not open the breaker");
}

#[test]
fn what_429_says_puts_the_delivery_off_but_holds_the_sink_for_five_minutes_at_most() {
    let receiver: Receiver = Box::new(|now, delivery| {
        let sent =
            if delivery.first.index == 0 && now < at(3_600) { slow_down(429, Some(3_600)) } else { Sent::delivered() };
        (sent, Duration::ZERO)
    });
    let mut world = World::with_rows(Policy { max_in_flight: 1, ..policy() }, receiver, 3);
    world.run(secs(2 * 3_600));
    assert_eq!(world.made_at(), [0, 300, 300, 3_600]);
    assert_eq!(world.log.delivered(), 3);
}

#[test]
fn a_retry_after_of_years_is_clamped_to_a_day() {
    let mut world = World::with_rows(without_breaker(), always(slow_down(429, Some(u64::MAX))), 1);
    world.run(secs(3 * 86_400 + 10));
    assert_eq!(world.made_at(), [0, 86_400, 2 * 86_400, 3 * 86_400]);
}

#[test]
fn one_that_answers_502_or_504_gets_longer_and_longer_rests() {
    for status in [502, 504] {
        let policy = Policy { max_in_flight: 1, schedule: vec![Duration::ZERO; 50], ..without_breaker() };
        let mut world = World::with_rows(policy, at_once(slow_down(status, None)), 1);
        world.run(secs(1_000));
        let gaps = world.made_at().windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>();
        assert_eq!(gaps, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
    }
}

#[test]
fn five_slow_downs_in_a_row_open_the_breaker() {
    let mut world = World::with_rows(policy(), always(slow_down(429, Some(1))), 5);
    world.run(secs(10));
    assert!(matches!(world.machine.health().breaker, BreakerState::Open { .. }));
}

#[test]
fn whoever_is_back_gets_what_it_missed_at_once() {
    let mut world = World::with_rows(policy(), back_from(at(4 * 3_600)), 200);
    world.run_until(at(4 * 3_600 - 1));
    assert_eq!(world.log.delivered(), 0);
    // Their next attempts are due hours later; a new row brings the probe.
    world.log.add_rows(RowKind::Adjustments, 1);
    world.run_until(at(4 * 3_600 + 400));
    world.log.add_rows(RowKind::Adjustments, 1);
    world.run(secs(20));
    assert_eq!(world.log.delivered(), 202);
    assert_eq!((world.most_at_once, world.machine.health().breaker), (4, BreakerState::Closed));
}

#[test]
fn a_refusal_closes_a_half_open_breaker() {
    let receiver: Receiver = Box::new(|now, _| {
        let sent = if now < at(60) { unavailable() } else { refused(404) };
        (sent, Duration::from_millis(100))
    });
    let mut world = World::with_rows(policy(), receiver, 10);
    world.run(secs(600));
    assert_eq!(world.machine.health().breaker, BreakerState::Closed);
}

#[test]
fn a_flapping_receiver_gets_everything_in_the_end() {
    let receiver: Receiver = Box::new(|now, _| {
        let is_up = (now.micros() / 1_000_000 / 45) % 2 == 0;
        (if is_up { Sent::delivered() } else { unavailable() }, Duration::from_millis(300))
    });
    let mut world = World::new(policy(), receiver);
    for _ in 0..60 {
        world.log.add_rows(RowKind::Windows, 20);
        world.run(secs(20));
    }
    world.run(secs(100 * 3_600));
    assert_eq!((world.log.delivered(), world.log.dead()), (1_200, 0));
    assert!(world.states.len() > 10, "it opened and closed: {}", world.states.len());
}

#[test]
fn what_was_refused_while_a_receiver_refused_everything_is_tried_once_it_takes_messages_again() {
    let back = at(100);
    let receiver = Box::new(move |now, _: &Delivery| {
        let sent = if now < back { refused(401) } else { Sent::delivered() };
        (sent, Duration::ZERO)
    });
    let mut world = World::with_rows(policy(), receiver, 20);
    world.run_until(at(120));
    assert_eq!(world.log.delivered(), 0, "all wait for their fifth minute");
    world.log.add_rows(RowKind::Windows, 1);
    world.run(secs(1));
    assert_eq!((world.log.delivered(), world.log.deliveries.len()), (21, 21));
}

#[test]
fn one_message_that_is_always_refused_goes_through_its_schedule_however_often_others_are_taken() {
    let mut first = None;
    let receiver = Box::new(move |_, delivery: &Delivery| {
        let is_bad = *first.get_or_insert(delivery.id) == delivery.id;
        (if is_bad { refused(400) } else { Sent::delivered() }, Duration::ZERO)
    });
    let mut world = World::with_rows(policy(), receiver, 1);
    for _ in 0..100 {
        world.log.add_rows(RowKind::Windows, 1);
        world.run(secs(1));
    }
    let bad = world.log.deliveries.values().next().unwrap();
    assert_eq!((bad.failures, world.log.delivered()), (2, 100));
}

#[test]
fn what_failed_is_tried_at_once_when_an_operator_resumes_the_sink() {
    let mut world = World::with_rows(without_breaker(), back_from(at(10)), 3);
    world.run_until(at(60));
    assert_eq!(world.log.delivered(), 0);
    world.pause();
    world.run(secs(1));
    world.resume();
    world.run(secs(1));
    assert_eq!(world.log.delivered(), 3);
}

#[test]
fn a_clock_that_goes_back_after_the_breaker_closed_does_not_make_failures_due_at_once() {
    let mut world = World::with_rows(policy(), back_from(at(8)), 6);
    world.run_until(at(60));
    assert_eq!(world.log.delivered(), 6);
    world.receiver = at_once(refused(400));
    world.now = at(20);
    world.log.add_rows(RowKind::Windows, 1);
    world.run(secs(30));
    let newest = world.log.deliveries.values().last().unwrap();
    assert_eq!(newest.failures, 2, "at once, and after five seconds");
}
