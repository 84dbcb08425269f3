//! Thresholds, refusals and recoveries.

use crossbeam_channel::bounded;

use super::daemon::*;
use crate::engine::caps::AlertState;
use crate::engine::writer::CustomerSettings;
use crate::meter::PlanCap;
use crate::model::{Duration, Outcome, Quantity, Seq};

const NOW: &str = "2026-11-10T10:30:00Z";

fn is_capped(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Capped(_))
}

fn is_accepted(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Accepted(_))
}

fn fired(texts: &[(&str, u32, bool)]) -> Vec<(String, u32, bool)> {
    texts.iter().map(|(threshold, generation, ended)| ((*threshold).to_owned(), *generation, *ended)).collect()
}

#[test]
fn a_jump_over_several_thresholds_fires_each_of_them_in_order_behind_its_event() {
    let mut daemon = Daemon::capped(NOW, allow(cap(1_000, &["50%", "900", "80%", "1200", "1000"])));
    assert!(is_accepted(&daemon.use_up("c", 499)));
    assert_eq!(daemon.fired("c"), []);
    let Outcome::Accepted(seq) = daemon.use_up("c", 701) else { panic!("it is taken") };
    let expected = [("50%", 1, false), ("80%", 1, false), ("900", 1, false), ("1000", 1, false), ("hard", 1, false)];
    let expected = [&expected[..], &[("1200", 1, false)]].concat();
    assert_eq!(daemon.fired("c"), fired(&expected));
    let alerts = daemon.alerts("c");
    assert!(alerts.iter().zip(1..).all(|(listed, place)| listed.seq == Seq(seq.0 + place)), "right behind the event");
    assert!(alerts.iter().all(|listed| listed.alert.event.as_ref().unwrap().seq == Some(seq)));
    assert!(alerts.iter().all(|listed| listed.alert.used == units(1_200) && !listed.alert.late));
    assert!(is_accepted(&daemon.use_up("c", 1)));
    assert_eq!(daemon.fired("c").len(), 6, "each once");
    daemon.verify();
}

#[test]
fn reject_takes_the_last_unit_and_not_one_more_and_the_first_refused_is_heard_of_once() {
    let mut daemon = Daemon::capped(NOW, cap(10, &["80%"]));
    assert!(is_accepted(&daemon.use_up("c", 7)));
    let too_much = daemon.event("c", 4);
    assert!(is_capped(&daemon.send(std::slice::from_ref(&too_much)).outcomes[0]));
    assert!(is_capped(&daemon.send(std::slice::from_ref(&too_much)).outcomes[0]), "its id stays free");
    assert_eq!(daemon.fired("c"), fired(&[("hard", 1, false)]));
    let event = daemon.alerts("c")[0].alert.event.clone().unwrap();
    assert_eq!((event.usage_event_id, event.seq), (too_much.id.clone(), None));
    assert!(is_accepted(&daemon.use_up("c", 3)), "up to the last unit");
    assert_eq!(daemon.used("c"), (10, 0));
    assert!(is_capped(&daemon.use_up("c", 1)));
    assert_eq!(daemon.fired("c"), fired(&[("hard", 1, false), ("80%", 1, false)]));
    daemon.check();
    daemon.put_caps("c", Some(vec![cap(20, &["80%"])]));
    assert_eq!(daemon.fired("c"), fired(&[("hard", 1, true), ("80%", 1, true)]));
    assert!(is_accepted(&daemon.send(&[too_much]).outcomes[0]), "what was refused may come again");
    assert_eq!(daemon.fired("c").len(), 2, "14 of 20");
    assert!(is_accepted(&daemon.use_up("c", 6)));
    let expected = [("hard", 1, true), ("80%", 1, true), ("80%", 2, false), ("hard", 2, false)];
    assert_eq!(daemon.fired("c"), fired(&expected));
    daemon.verify();
}

#[test]
fn one_request_is_decided_event_by_event() {
    let mut daemon = Daemon::capped(NOW, cap(10, &["50%"]));
    let events: Vec<Sent> = [4, 4, 4, 2, 1].iter().map(|quantity| daemon.event("c", *quantity)).collect();
    let answer = daemon.send(&events);
    let taken: Vec<bool> = answer.outcomes.iter().map(is_accepted).collect();
    assert_eq!(taken, [true, true, false, true, false]);
    assert_eq!(daemon.fired("c"), fired(&[("50%", 1, false), ("hard", 1, false)]));
    daemon.restart();
    assert_eq!(daemon.used("c"), (10, 0));
    let again = daemon.send(&events);
    let again: Vec<&str> = again.outcomes.iter().map(Outcome::as_str).collect();
    assert_eq!(again, ["duplicate", "duplicate", "capped", "duplicate", "capped"]);
    assert_eq!(daemon.fired("c").len(), 2, "nothing fires again");
    daemon.verify();
}

#[test]
fn negative_usage_brings_an_alert_back_and_the_next_crossing_is_the_next_generation() {
    let mut daemon = Daemon::capped(NOW, cap(10, &["50%"]));
    daemon.use_up("c", 10);
    assert!(is_accepted(&daemon.use_up("c", -6)), "what lowers usage is never refused");
    assert_eq!(daemon.fired("c"), fired(&[("50%", 1, true), ("hard", 1, true)]));
    let recovered: Vec<_> = daemon.alerts("c").iter().map(|listed| listed.recovered.unwrap().seq).collect();
    assert!(recovered[1] < recovered[0], "from the top");
    daemon.use_up("c", 1);
    daemon.verify();
    daemon.restart();
    let expected = [("50%", 1, true), ("hard", 1, true), ("50%", 2, false)];
    assert_eq!(daemon.fired("c"), fired(&expected));
    let ids: std::collections::BTreeSet<String> =
        daemon.alerts("c").iter().map(|listed| listed.alert.id().to_string()).collect();
    assert_eq!(ids.len(), 3, "another generation is another alert");
}

#[test]
fn who_was_refused_recovers_by_less_usage_or_another_limit_and_not_by_another_threshold() {
    let mut daemon = Daemon::capped(NOW, cap(10, &[]));
    for customer in ["less", "soft", "allow", "shadow", "grace"] {
        daemon.use_up(customer, 5);
        assert!(is_capped(&daemon.use_up(customer, 6)));
    }
    daemon.use_up("less", -1);
    daemon.put_caps("soft", Some(vec![cap(10, &["90%"])]));
    daemon.put_caps("allow", Some(vec![allow(cap(10, &[]))]));
    daemon.put_caps("shadow", Some(vec![crate::meter::Cap { enforce: false, ..cap(10, &[]) }]));
    daemon.put_caps("grace", Some(vec![crate::meter::Cap { grace: "10%".parse().unwrap(), ..cap(10, &[]) }]));
    let ended = |customer| daemon.fired(customer) == fired(&[("hard", 1, true)]);
    assert!(!ended("soft"), "it is refused as before");
    assert!(["less", "allow", "shadow", "grace"].into_iter().all(ended));
    assert!(is_accepted(&daemon.use_up("grace", 6)));
    assert!(is_capped(&daemon.use_up("grace", 1)));
    assert!(is_accepted(&daemon.use_up("shadow", 100)));
    assert_eq!(daemon.verdict("shadow", 1).overage, units(95));
    daemon.verify();
}

#[test]
fn own_caps_stand_in_for_those_of_the_config_until_they_are_taken_back() {
    let mut daemon = Daemon::capped(NOW, cap(10, &["50%"]));
    daemon.put_caps("c", Some(vec![cap(100, &["6"])]));
    daemon.use_up("c", 50);
    assert_eq!(daemon.fired("c"), fired(&[("6", 1, false)]));
    daemon.put_caps("c", Some(Vec::new()));
    assert_eq!(daemon.fired("c"), fired(&[("6", 1, true)]), "there is no such threshold any more");
    assert!(is_accepted(&daemon.use_up("c", 1_000)), "no caps at all");
    daemon.check();
    daemon.put_caps("c", None);
    assert_eq!(daemon.fired("c").len(), 1, "what is passed fires with the next event");
    assert!(is_capped(&daemon.use_up("c", 1)));
    assert_eq!(daemon.fired("c"), fired(&[("6", 1, true), ("hard", 1, false)]));
    daemon.use_up("c", 0);
    assert_eq!(daemon.fired("c"), fired(&[("6", 1, true), ("hard", 1, false), ("50%", 1, false)]));
    daemon.verify();
}

#[test]
fn a_plan_has_caps_of_its_own_and_a_change_of_plan_changes_them() {
    let of = |plan: Option<&str>, hard| PlanCap { plan: plan.map(str::to_owned), cap: cap(hard, &["50%"]) };
    let mut daemon = Daemon::new(NOW, vec![of(None, 10), of(Some("pro"), 100)]);
    let plan = |plan: Option<&str>| CustomerSettings { plan: plan.map(str::to_owned), ..CustomerSettings::default() };
    daemon.use_up("c", 10);
    assert!(is_capped(&daemon.use_up("c", 1)));
    daemon.put_customer("c", plan(Some("pro")));
    assert_eq!(daemon.fired("c"), fired(&[("50%", 1, true), ("hard", 1, true)]));
    assert!(is_accepted(&daemon.use_up("c", 40)));
    daemon.verify();
    daemon.put_customer("c", plan(None));
    assert_eq!(daemon.fired("c")[2], ("50%".into(), 2, false), "50 of 10");
    assert!(is_capped(&daemon.use_up("c", 1)));
    daemon.check();
    let before = daemon.seen(&["c", "nobody"]);
    daemon.restart();
    assert_eq!(daemon.seen(&["c", "nobody"]), before);
    daemon.verify();
}

#[test]
fn caps_that_the_config_drops_recover_at_the_start_and_those_it_keeps_stay() {
    let mut daemon = Daemon::capped(NOW, cap(10, &["50%", "80%"]));
    daemon.use_up("c", 9);
    daemon.use_up("own", 9);
    daemon.put_caps("own", Some(vec![cap(10, &["50%"])]));
    let before = daemon.fired("c");
    daemon.restart();
    assert_eq!(daemon.fired("c"), before, "nothing has changed");
    daemon.options.caps.insert("tokens".into(), vec![PlanCap { plan: None, cap: cap(10, &["80%", "95%"]) }]);
    daemon.restart();
    assert_eq!(daemon.fired("c"), fired(&[("50%", 1, true), ("80%", 1, false)]));
    daemon.options.caps.clear();
    daemon.restart();
    assert_eq!(daemon.fired("c"), fired(&[("50%", 1, true), ("80%", 1, true)]));
    assert_eq!(daemon.fired("own"), fired(&[("50%", 1, false), ("80%", 1, true)]));
    assert!(is_accepted(&daemon.use_up("c", 100)));
    assert!(is_capped(&daemon.use_up("own", 2)));
    daemon.verify();
}

#[test]
fn an_alert_is_listed_from_memory_and_from_the_store_alike() {
    let mut daemon = Daemon::capped(NOW, cap(10, &["50%", "60%", "70%"]));
    daemon.use_up("c", 6);
    daemon.commit();
    daemon.use_up("c", 1);
    daemon.use_up("c", -2);
    let before = daemon.alerts("c");
    assert_eq!(daemon.fired("c"), fired(&[("50%", 1, false), ("60%", 1, true), ("70%", 1, true)]));
    assert!(before.iter().all(|listed| listed.alert.state == AlertState::Triggered));
    daemon.commit();
    assert_eq!(daemon.alerts("c"), before);
    daemon.restart();
    assert_eq!(daemon.alerts("c"), before);
}

/// A check, while the writer holds the state. None: it waits.
fn checked_beside_the_writer(daemon: &Daemon, customer: &str) -> Option<(bool, Quantity, Quantity)> {
    let (state, (answer, answered)) = (daemon.state(), bounded(1));
    std::thread::scope(|scope| {
        let held = state.write();
        scope.spawn(move || {
            let verdict = daemon.verdict(customer, 2);
            answer.send((verdict.allowed, verdict.used, verdict.held))
        });
        let found = answered.recv_timeout(std::time::Duration::from_millis(500)).ok();
        drop(held);
        found
    })
}

#[test]
fn checks_of_a_customer_that_is_known_wait_for_nobody_and_see_all_that_was_acknowledged() {
    let mut daemon = Daemon::capped(NOW, cap(100, &["50%"]));
    assert!(is_accepted(&daemon.use_up("c", 60)));
    assert_eq!(checked_beside_the_writer(&daemon, "c"), None, "the first check has it posted");
    for (used, allowed) in [(70, true), (98, true), (99, false)] {
        let more = used - daemon.used("c").0;
        assert!(is_accepted(&daemon.use_up("c", more)));
        assert_eq!(checked_beside_the_writer(&daemon, "c"), Some((allowed, units(used), units(0))));
    }
    daemon.put_caps("c", Some(vec![cap(200, &[])]));
    assert_eq!(checked_beside_the_writer(&daemon, "c"), Some((true, units(99), units(0))));
    daemon.reserve("r", "c", 100, HOUR);
    assert_eq!(checked_beside_the_writer(&daemon, "c"), Some((false, units(99), units(100))));
    daemon.pass(HOUR);
    assert_eq!(checked_beside_the_writer(&daemon, "c"), Some((true, units(99), units(0))), "it has expired");
    daemon.pass(Duration::from_secs(31 * 86_400));
    assert_eq!(daemon.used("c"), (0, 0), "the next period: added up by nobody so far");
    assert!(is_accepted(&daemon.use_up("c", 5)));
    assert_eq!(checked_beside_the_writer(&daemon, "c"), Some((true, units(5), units(0))));
    daemon.verify();
}
