//! Quota that is set aside.

use super::daemon::*;
use crate::engine::caps::{Reservation, ReservationRefused, ReservationState};
use crate::engine::outbox::Done;
use crate::model::{Duration, Outcome};

const NOW: &str = "2026-10-30T10:30:00Z";

fn made(done: &Done) -> Reservation {
    let Done::Reserved(reservation) = done else { panic!("{done:?}") };
    (**reservation).clone()
}

fn refusal(done: Done) -> ReservationRefused {
    let Done::ReservationRefused(refused) = done else { panic!("{done:?}") };
    refused
}

fn is_accepted(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Accepted(_))
}

#[test]
fn what_is_held_is_taken_for_others_and_there_for_its_own_event() {
    let mut daemon = Daemon::capped(NOW, cap(10, &["50%"]));
    assert_eq!(made(&daemon.reserve("r", "c", 7, HOUR)).state, ReservationState::Held);
    assert_eq!(daemon.used("c"), (0, 7));
    assert!(!is_accepted(&daemon.use_up("c", 4)));
    assert!(is_accepted(&daemon.use_up("c", 3)));
    assert!(matches!(refusal(daemon.reserve("other", "c", 1, HOUR)), ReservationRefused::Capped(_)));
    daemon.check();
    let before = daemon.seen(&["c"]);
    daemon.restart();
    assert_eq!((daemon.seen(&["c"]), daemon.used("c")), (before, (3, 7)));
    let event = daemon.event("c", 5);
    let answer = daemon.commit_reservation("r", event.clone());
    assert!(is_accepted(&answer.outcomes[0]));
    assert!(matches!(made(&answer.done).state, ReservationState::Committed { quantity, .. } if quantity == units(5)));
    assert_eq!(daemon.used("c"), (8, 0));
    let again = daemon.commit_reservation("r", event);
    assert_eq!(again.outcomes[0].as_str(), "duplicate");
    let another = daemon.event("c", 1);
    let refused = daemon.commit_reservation("r", another);
    assert!(refused.outcomes.is_empty() && matches!(refusal(refused.done), ReservationRefused::Committed(_)));
    assert_eq!(daemon.used("c"), (8, 0));
    daemon.verify();
}

#[test]
fn a_commit_of_more_than_was_held_must_fit_and_one_of_less_always_does() {
    let mut daemon = Daemon::capped(NOW, cap(10, &[]));
    daemon.reserve("r", "c", 6, HOUR);
    daemon.use_up("c", 3);
    let event = daemon.event("c", 8);
    let refused = daemon.commit_reservation("r", event);
    assert_eq!(refused.outcomes[0].as_str(), "capped");
    assert_eq!(daemon.used("c"), (3, 6), "it is held still");
    let event = daemon.event("c", 7);
    assert!(is_accepted(&daemon.commit_reservation("r", event).outcomes[0]));
    assert_eq!(daemon.used("c"), (10, 0));
    daemon.put_caps("c", Some(vec![cap(20, &[])]));
    daemon.reserve("s", "c", 10, HOUR);
    daemon.put_caps("c", None);
    let event = daemon.event("c", 10);
    assert!(is_accepted(&daemon.commit_reservation("s", event).outcomes[0]), "what was promised");
    daemon.verify();
}

#[test]
fn one_that_nobody_commits_expires_with_the_time_of_the_log() {
    let mut daemon = Daemon::capped(NOW, cap(10, &[]));
    daemon.reserve("r", "c", 10, HOUR);
    daemon.pass(Duration::from_secs(3_599));
    assert_eq!(daemon.used("c"), (0, 10));
    daemon.pass(Duration::from_secs(1));
    assert_eq!(daemon.used("c"), (0, 0));
    daemon.check();
    let event = daemon.event("c", 1);
    let refused = daemon.commit_reservation("r", event);
    assert!(matches!(refusal(refused.done), ReservationRefused::Expired(_)));
    assert!(matches!(made(&daemon.release("r")).state, ReservationState::Expired { .. }));
    assert!(matches!(refusal(daemon.release("unknown")), ReservationRefused::Unknown));
    assert!(is_accepted(&daemon.use_up("c", 10)));
    daemon.verify();
}

#[test]
fn the_same_again_is_the_same_and_another_under_its_id_is_refused() {
    let mut daemon = Daemon::capped(NOW, cap(10, &[]));
    let first = made(&daemon.reserve("r", "c", 4, HOUR));
    daemon.pass(Duration::from_secs(60));
    assert_eq!(made(&daemon.reserve("r", "c", 4, HOUR)), first);
    assert_eq!(refusal(daemon.reserve("r", "c", 5, HOUR)), ReservationRefused::Differs);
    assert_eq!(refusal(daemon.reserve("r", "d", 4, HOUR)), ReservationRefused::Differs);
    let event = daemon.event("d", 4);
    assert_eq!(refusal(daemon.commit_reservation("r", event).done), ReservationRefused::Differs, "another customer's");
    assert!(matches!(made(&daemon.release("r")).state, ReservationState::Released { .. }));
    assert_eq!(daemon.used("c"), (0, 0));
    assert!(matches!(made(&daemon.reserve("r", "c", 4, HOUR)).state, ReservationState::Released { .. }));
    daemon.options.reservations_max = 1;
    daemon.restart();
    daemon.reserve("s", "c", 1, HOUR);
    assert_eq!(refusal(daemon.reserve("t", "c", 1, HOUR)), ReservationRefused::TooMany(1));
    daemon.verify();
}

#[test]
fn a_commit_in_the_next_period_counts_in_the_one_it_was_reserved_in() {
    let mut daemon = Daemon::capped(NOW, cap(10, &["50%"]));
    daemon.reserve("r", "c", 10, Duration::from_secs(7 * 86_400));
    (0..3).for_each(|_| daemon.pass(DAY));
    daemon.commit();
    assert!(is_accepted(&daemon.use_up("c", 4)), "November is free");
    let event = daemon.event("c", 10);
    assert!(is_accepted(&daemon.commit_reservation("r", event).outcomes[0]));
    assert_eq!(daemon.used("c"), (4, 0));
    let shown: Vec<_> = daemon.alerts("c").into_iter().map(|listed| (listed.alert.period, listed.alert.used)).collect();
    assert_eq!(shown, vec![(Some("2026-10".to_owned()), units(10)); 2]);
    daemon.verify();
}

#[test]
fn thresholds_are_remembered_for_as_long_as_a_commit_may_come() {
    let mut daemon = Daemon::capped(NOW, cap(10, &["50%"]));
    (daemon.options.accept_past, daemon.options.dedupe_retention) = (HOUR, HOUR);
    daemon.restart();
    daemon.use_up("c", 5);
    daemon.reserve("r", "c", 4, Duration::from_secs(7 * 86_400));
    for _ in 0..3 * 24 {
        daemon.pass(HOUR);
        let event = daemon.event("other", 0);
        daemon.send(&[event]);
    }
    daemon.check();
    let event = daemon.event("c", 4);
    assert!(is_accepted(&daemon.commit_reservation("r", event).outcomes[0]));
    assert_eq!(daemon.fired("c"), [("50%".to_owned(), 1, false)], "it has fired before");
    daemon.verify();
    for _ in 0..3 {
        daemon.pass(HOUR);
        let event = daemon.event("other", 0);
        daemon.send(&[event]);
    }
    daemon.check();
    let writer = daemon.state();
    assert!(writer.read().caps().accounts().iter().all(|(_, account)| account.fired.is_empty()));
}
