use super::*;

const HOUR_MICROS: i64 = 3_600_000_000;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_millis((1_800_000_000 + secs) * 1_000).unwrap()
}

fn rng() -> fastrand::Rng {
    fastrand::Rng::with_seed(7)
}

fn exact() -> Policy {
    Policy { jitter_percent: 0, ..Policy::default() }
}

#[test]
fn the_default_schedule_is_ten_attempts_over_some_75_hours() {
    let (policy, mut now, mut delays) = (exact(), at(0), Vec::new());
    for failures in 1.. {
        let Some(due) = policy.next_due(failures, now, None, &mut rng()) else { break };
        delays.push((due.micros() - now.micros()) / 1_000_000);
        now = due;
    }
    assert_eq!(delays, [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]);
    assert_eq!((now.micros() - at(0).micros()) / HOUR_MICROS, 75);
    assert_eq!(policy.schedule[0], Duration::ZERO, "the first attempt is made at once");
}

#[test]
fn after_the_last_attempt_there_is_none_even_if_the_receiver_says_when_to_come_back() {
    let policy = exact();
    for failures in [10, 11, u32::MAX] {
        assert_eq!(policy.next_due(failures, at(0), Some(Duration::from_secs(1)), &mut rng()), None);
    }
    let single = Policy { schedule: vec![Duration::ZERO], ..exact() };
    assert_eq!(single.next_due(1, at(0), None, &mut rng()), None);
}

#[test]
fn jitter_spreads_delays_over_its_whole_range_and_not_beyond() {
    let policy = Policy { jitter_percent: 20, ..Policy::default() };
    let mut rng = rng();
    let delays = (0..2_000).map(|_| policy.next_due(2, at(0), None, &mut rng).unwrap()).collect::<Vec<_>>();
    let (least, most) = (delays.iter().min().unwrap(), delays.iter().max().unwrap());
    assert!((at(240)..at(243)).contains(least), "{least}");
    assert!(*most <= at(360) && *most > at(357), "{most}");
}

#[test]
fn equal_seeds_give_equal_delays() {
    let policy = Policy::default();
    let delays = |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        (1..10).map(|failures| policy.next_due(failures, at(0), None, &mut rng)).collect::<Vec<_>>()
    };
    assert_eq!(delays(3), delays(3));
    assert_ne!(delays(3), delays(4));
}

#[test]
fn a_receiver_puts_a_retry_off_but_does_not_hasten_it_and_not_past_the_maximum() {
    let policy = Policy { retry_after_max: Duration::from_secs(3_600), ..exact() };
    let due = |failures, secs| policy.next_due(failures, at(0), Some(Duration::from_secs(secs)), &mut rng());
    assert_eq!(due(1, 60), Some(at(60)), "later than the schedule's 5 s");
    assert_eq!(due(2, 60), Some(at(300)), "the schedule's 5 min are later");
    assert_eq!(due(1, 7_200), Some(at(3_600)));
    assert_eq!(due(1, u64::MAX), Some(at(3_600)));
}

#[test]
fn a_due_time_further_ahead_than_the_schedule_could_have_put_it_counts_as_due() {
    let policy = Policy { jitter_percent: 20, retry_after_max: Duration::from_secs(60), ..Policy::default() };
    let is_due = |failures, due| policy.is_due(failures, at(due), at(0));
    assert!(is_due(2, 0) && is_due(2, -5));
    assert!(!is_due(2, 1) && !is_due(2, 360), "5 min and a fifth");
    assert!(is_due(2, 361));
    assert!(!is_due(1, 60), "a receiver may have asked for it");
    assert!(is_due(1, 61));
    assert!(!is_due(99, 24 * 3_600), "a schedule that has become shorter: as its last delay");
    assert!(is_due(99, 29 * 3_600));
}

#[test]
fn extreme_settings_neither_overflow_nor_panic() {
    let policy = Policy {
        schedule: vec![Duration::from_micros(u64::MAX); 2],
        jitter_percent: 255,
        retry_after_max: Duration::from_micros(u64::MAX),
        ..Policy::default()
    };
    let due = policy.next_due(1, Timestamp::MAX, Some(Duration::from_micros(u64::MAX)), &mut rng());
    assert_eq!(due, Some(Timestamp::MAX));
    assert!(!policy.is_due(1, Timestamp::MAX, at(0)));
}
