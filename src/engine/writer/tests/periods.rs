//! Windows, periods that end, late usage, calendars that change, and clocks that are set back.

use super::daemon::*;
use crate::engine::view::{PeriodChoice, TotalsQuery};
use crate::engine::writer::CustomerSettings;
use crate::model::{Duration, Outcome, Quantity};

const NOW: &str = "2026-10-30T10:30:00Z";

fn is_accepted(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Accepted(_))
}

fn anchored(anchor: u8) -> CustomerSettings {
    CustomerSettings { anchor: Some(anchor), ..CustomerSettings::default() }
}

#[test]
fn a_cap_on_windows_begins_anew_with_each() {
    let mut daemon = Daemon::capped(NOW, window_cap(10));
    for hour in 0..12 {
        assert!(is_accepted(&daemon.use_up("c", 10)), "hour {hour}");
        assert!(!is_accepted(&daemon.use_up("c", 1)));
        assert_eq!(daemon.fired("c").len(), hour + 1);
        daemon.pass(HOUR);
        daemon.check();
    }
    assert!(daemon.alerts("c").iter().all(|listed| listed.alert.period.is_none()));
    daemon.verify();
}

#[test]
fn a_periods_cap_is_asked_in_every_window_however_many_there_were() {
    let mut daemon = Daemon::capped(NOW, cap(20, &[]));
    daemon.put_caps("c", Some(vec![cap(20, &["95%"]), window_cap(1_000)]));
    for hour in 1..=19 {
        // The first event of its window.
        assert!(!is_accepted(&daemon.use_up("c", 100)), "hour {hour}");
        assert!(is_accepted(&daemon.use_up("c", 1)));
        daemon.pass(HOUR);
    }
    let thresholds: Vec<String> = daemon.fired("c").into_iter().map(|(threshold, ..)| threshold).collect();
    assert_eq!(thresholds, ["hard", "95%"]);
    daemon.check();
}

#[test]
fn late_usage_of_a_period_that_is_over_is_taken_and_counts_with_what_has_left_memory() {
    for restarts in [false, true] {
        let mut daemon = Daemon::capped(NOW, cap(10, &["90%"]));
        for (model, quantity) in [(None, 3), (Some("a"), 4), (Some("b"), 1)] {
            let event = Sent { model, ..daemon.event("c", quantity) };
            assert!(is_accepted(&daemon.send(&[event]).outcomes[0]));
        }
        daemon.commit();
        daemon.pass(DAY);
        daemon.pass(DAY);
        daemon.pass(DAY);
        daemon.commit();
        daemon.pass(HOUR);
        daemon.commit();
        if restarts {
            daemon.restart();
        }
        assert!(is_accepted(&daemon.use_up("c", 2)), "November has begun");
        let late = Sent { at: Some(time("2026-10-30T11:10:00Z")), ..daemon.event("c", 5) };
        let answer = daemon.send(&[late]);
        assert_eq!((is_accepted(&answer.outcomes[0]), answer.late), (true, vec![0]));
        let shown: Vec<_> = daemon
            .alerts("c")
            .into_iter()
            .map(|listed| {
                (listed.alert.threshold.to_string(), listed.alert.used, listed.alert.period, listed.alert.late)
            })
            .collect();
        let october = || Some("2026-10".to_owned());
        let expected =
            [("90%".to_owned(), units(13), october(), true), ("hard".to_owned(), units(13), october(), true)];
        assert_eq!(shown, expected);
        assert_eq!(daemon.used("c"), (2, 0));
        daemon.verify();
    }
}

#[test]
fn a_late_event_in_a_period_that_goes_on_is_refused_like_any_other() {
    let mut daemon = Daemon::capped("2026-10-10T10:30:00Z", cap(10, &[]));
    daemon.use_up("c", 8);
    daemon.pass(DAY);
    daemon.commit();
    let late = Sent { at: Some(time("2026-10-10T10:10:00Z")), ..daemon.event("c", 3) };
    assert!(!is_accepted(&daemon.send(&[late]).outcomes[0]));
    let late = Sent { at: Some(time("2026-10-10T10:10:00Z")), ..daemon.event("c", 2) };
    assert!(is_accepted(&daemon.send(&[late]).outcomes[0]));
    assert_eq!(daemon.used("c"), (10, 0));
    daemon.verify();
}

#[test]
fn the_next_period_begins_with_the_first_generation() {
    let mut daemon = Daemon::capped(NOW, cap(10, &["50%"]));
    daemon.use_up("c", 10);
    daemon.pass(DAY);
    daemon.pass(DAY);
    assert!(is_accepted(&daemon.use_up("c", 10)));
    let fired: Vec<(String, u32)> =
        daemon.fired("c").into_iter().map(|(threshold, generation, _)| (threshold, generation)).collect();
    let both = [("50%".to_owned(), 1), ("hard".to_owned(), 1)];
    assert_eq!(fired, [both.clone(), both].concat());
    daemon.verify();
}

#[test]
fn what_was_above_the_hard_cap_stays_as_it_was_when_the_period_became_final() {
    let mut daemon = Daemon::new(NOW, vec![]);
    daemon.put_caps_on(CALLS, "c", Some(vec![allow(cap(3, &[]))]));
    for _ in 0..5 {
        let event = Sent { meter: CALLS, ..daemon.event("c", 1) };
        assert!(is_accepted(&daemon.send(&[event]).outcomes[0]));
    }
    let overage = |daemon: &Daemon| -> Vec<Option<Quantity>> {
        let period = PeriodChoice::Named("2026-10".parse().unwrap());
        let query = TotalsQuery {
            tenant: tenant(),
            period,
            at: None,
            meter: None,
            customer: None,
            state: None,
            after: None,
            limit: 10,
        };
        daemon.view.totals(&query).unwrap().rows.into_iter().map(|row| row.overage).collect()
    };
    assert_eq!(overage(&daemon), [Some(units(2))]);
    daemon.put_caps_on(CALLS, "c", Some(vec![allow(cap(4, &[]))]));
    assert_eq!(overage(&daemon), [Some(units(1))]);
    (0..3).for_each(|_| daemon.pass(DAY));
    daemon.put_caps_on(CALLS, "c", None);
    assert_eq!(overage(&daemon), [Some(units(1))]);
    daemon.commit();
    daemon.commit();
    daemon.restart();
    assert_eq!(overage(&daemon), [Some(units(1))]);
    let late = Sent { meter: CALLS, at: Some(time(NOW)), ..daemon.event("c", 1) };
    assert_eq!(daemon.send(&[late]).late, [0]);
    assert_eq!(overage(&daemon), [Some(units(2))]);
    daemon.verify();
    assert_eq!(overage(&daemon), [Some(units(2))]);
}

#[test]
fn a_calendar_that_changes_before_any_usage_leaves_no_old_total_behind() {
    let mut daemon = Daemon::capped("2026-11-20T10:30:00Z", cap(10, &[]));
    assert!(!is_accepted(&daemon.use_up("c", 20)));
    daemon.put_customer("c", anchored(15));
    assert!(is_accepted(&daemon.use_up("c", 5)));
    let verdict = daemon.verdict("c", 6);
    assert_eq!((verdict.used, verdict.allowed, verdict.bounds.start), (units(5), false, time("2026-11-15T00:00:00Z")));
    daemon.verify();
}

#[test]
fn what_is_held_keeps_its_period_when_the_calendar_changes() {
    let mut daemon = Daemon::capped("2026-11-20T10:30:00Z", cap(20, &[]));
    daemon.reserve("r", "c", 10, DAY);
    daemon.put_customer("c", anchored(15));
    assert_eq!(daemon.used("c"), (0, 10));
    let event = daemon.event("c", 10);
    assert!(is_accepted(&daemon.commit_reservation("r", event).outcomes[0]));
    assert!(is_accepted(&daemon.use_up("c", 5)));
    assert_eq!(daemon.used("c"), (15, 0));
    daemon.verify();
    daemon.restart();
    assert_eq!(daemon.used("c"), (15, 0));
}

#[test]
fn a_clock_that_is_set_back_into_a_period_that_was_closed_brings_no_alert_back() {
    let mut daemon = Daemon::capped(NOW, cap(10, &["50%"]));
    daemon.use_up("c", 9);
    (0..3).for_each(|_| daemon.pass(DAY));
    daemon.commit();
    daemon.pass(Duration::from_secs(1));
    daemon.commit();
    daemon.reset_clock(time("2026-10-31T12:00:00Z"));
    daemon.put_caps("c", Some(vec![cap(10, &["50%", "80%"])]));
    assert_eq!(daemon.fired("c"), [("50%".to_owned(), 1, false)]);
    assert!(!is_accepted(&daemon.use_up("c", 2)), "9 of 10 are used");
    assert!(is_accepted(&daemon.use_up("c", 1)));
    daemon.verify();
}
