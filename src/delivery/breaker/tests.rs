use super::*;
use BreakerState::{Closed, HalfOpen, Open};

fn at(secs: u64) -> Timestamp {
    Timestamp::EPOCH.saturating_add(Duration::from_secs(secs))
}

/// Opens with the third failure, for 30 s, at most 100 s.
fn breaker() -> Breaker {
    let (cool_down, cool_down_max) = (Duration::from_secs(30), Duration::from_secs(100));
    Breaker::new(BreakerPolicy { failures: 3, cool_down, cool_down_max })
}

fn opened_at(now: u64) -> Breaker {
    let mut breaker = breaker();
    let opened = (0..3).map(|_| breaker.failed(at(now))).collect::<Vec<_>>();
    assert_eq!(opened, [false, false, true]);
    breaker
}

/// Probes as soon as possible, in vain; answers with when that was.
fn fail_probe(breaker: &mut Breaker) -> Timestamp {
    let Open { until } = breaker.state() else { panic!("it is {:?}", breaker.state()) };
    assert_eq!(breaker.admission(until), Admission::Probe);
    breaker.begin();
    assert!(breaker.failed(until));
    until
}

#[test]
fn opens_with_so_many_failures_in_a_row_and_fails_fast_until_it_has_cooled_down() {
    let breaker = opened_at(10);
    assert_eq!(breaker.state(), Open { until: at(40) });
    assert_eq!(breaker.admission(at(10)), Admission::Refused);
    assert_eq!(breaker.admission(Timestamp::from_micros(39_999_999).unwrap()), Admission::Refused);
    assert_eq!(breaker.admission(at(40)), Admission::Probe);
}

#[test]
fn a_receiver_that_is_there_between_failures_keeps_it_closed() {
    let mut breaker = breaker();
    for _ in 0..10 {
        assert!(!breaker.failed(at(0)) && !breaker.failed(at(0)));
        assert!(!breaker.reached(), "it was closed");
    }
    assert_eq!((breaker.state(), breaker.admission(at(0))), (Closed, Admission::Open));
}

#[test]
fn while_half_open_all_others_wait() {
    let mut breaker = opened_at(0);
    breaker.begin();
    assert_eq!((breaker.state(), breaker.admission(at(99))), (HalfOpen, Admission::Wait));
}

#[test]
fn a_probe_that_finds_the_receiver_closes_it_and_the_next_opening_is_short_again() {
    let mut breaker = opened_at(0);
    fail_probe(&mut breaker);
    breaker.begin();
    assert!(breaker.reached());
    assert_eq!((breaker.state(), breaker.admission(at(0))), (Closed, Admission::Open));
    assert!(!breaker.failed(at(0)) && !breaker.failed(at(0)) && breaker.failed(at(0)));
    assert_eq!(breaker.state(), Open { until: at(30) });
}

#[test]
fn each_failed_probe_doubles_the_cool_down_up_to_its_maximum() {
    let mut breaker = opened_at(0);
    let probed = (0..5).map(|_| fail_probe(&mut breaker)).collect::<Vec<_>>();
    assert_eq!(probed, [30, 90, 190, 290, 390].map(at));
}

#[test]
fn failures_of_attempts_from_before_it_opened_change_nothing() {
    let mut breaker = opened_at(0);
    assert!(!breaker.failed(at(20)) && !breaker.failed(at(29)));
    assert_eq!(breaker.state(), Open { until: at(30) });
    assert_eq!(fail_probe(&mut breaker), at(30));
    assert_eq!(breaker.state(), Open { until: at(90) }, "the cool-down was doubled once");
}

#[test]
fn an_attempt_from_before_it_opened_that_succeeds_closes_it() {
    let mut breaker = opened_at(0);
    assert!(breaker.reached());
    assert_eq!(breaker.state(), Closed);
}

#[test]
fn a_probe_that_was_not_made_leaves_room_for_another() {
    let mut breaker = opened_at(0);
    breaker.begin();
    breaker.abandon(at(31));
    assert_eq!(breaker.admission(at(31)), Admission::Probe);
    let mut closed = self::breaker();
    closed.begin();
    closed.abandon(at(0));
    assert_eq!(closed.state(), Closed);
}

#[test]
fn a_clock_that_goes_back_by_hours_does_not_keep_it_open() {
    let breaker = opened_at(7_200);
    assert_eq!(breaker.admission(at(7_150)), Admission::Refused);
    assert_eq!(breaker.admission(at(3_600)), Admission::Probe);
}
