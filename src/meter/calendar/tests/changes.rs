//! What becomes of a schedule when a customer's settings change.

use super::*;

const NOW: &str = "2026-03-10T12:00:00Z";

fn change(schedule: &Schedule, now: &str, anchor: Option<u8>, time_zone: &str) -> Schedule {
    let time_zone = Some(time_zone.to_owned()).filter(|name| !name.is_empty());
    schedule.changed(anchor, time_zone, at(now), &Zone::utc(), true)
}

#[test]
fn a_customer_without_usage_has_the_settings_at_once_and_for_all_time() {
    for (before, anchor, time_zone, after) in [
        ("", None, None, ""),
        ("", Some(1), None, "=1@"),
        ("", Some(15), None, "=15@"),
        ("", None, Some("UTC"), "=@UTC"),
        ("=15@|2026-05=31@", Some(7), Some("Asia/Tokyo"), "=7@Asia/Tokyo"),
        ("=15@|2026-05=31@", None, None, ""),
    ] {
        let time_zone = time_zone.map(str::to_owned);
        let changed = schedule(before).changed(anchor, time_zone, at(NOW), &Zone::utc(), false);
        assert_eq!(changed, schedule(after), "{before}");
    }
}

#[test]
fn a_change_is_in_force_from_the_period_after_the_next() {
    for (before, now, anchor, time_zone, after) in [
        ("", NOW, Some(15), "", "2026-05=15@"),
        ("", NOW, None, "Asia/Tokyo", "2026-05=@Asia/Tokyo"),
        // 10 March lies in the period of February if that starts on the 15th.
        ("=15@", NOW, Some(1), "", "=15@|2026-04=1@"),
        ("=15@", "2026-03-15T00:00:00Z", None, "", "=15@|2026-05=@"),
        // The same or what comes to the same is no change.
        ("", NOW, None, "", ""),
        ("", NOW, Some(1), "", ""),
        ("=15@Asia/Tokyo", NOW, Some(15), "asia/tokyo", "=15@Asia/Tokyo"),
        ("2026-05=15@", NOW, Some(15), "", "2026-05=15@"),
        // What waits is replaced, or called off …
        ("2026-05=15@", NOW, Some(20), "", "2026-05=20@"),
        ("2026-05=15@", NOW, None, "", ""),
        ("=2@|2026-05=15@", NOW, Some(2), "", "=2@"),
        ("=2@|2030-05=15@|2031-01=3@", NOW, Some(4), "", "=2@|2026-05=4@"),
        // … but not once the present period ends with it.
        ("2026-05=15@", "2026-04-02T00:00:00Z", Some(20), "", "2026-05=15@|2026-06=20@"),
        ("2026-05=15@", "2026-04-02T00:00:00Z", None, "", "2026-05=15@|2026-06=@"),
        ("=15@", "9999-12-20T00:00:00Z", Some(20), "", "=15@"),
        ("=15@", "9999-12-10T00:00:00Z", Some(20), "", "=15@"),
    ] {
        let changed = change(&schedule(before), now, anchor, time_zone);
        assert_eq!(changed, schedule(after), "{before} at {now}");
        assert_eq!(change(&changed, now, anchor, time_zone), changed, "the same again: {before} at {now}");
    }
}

#[test]
fn the_present_period_keeps_its_end_and_the_next_one_is_the_odd_one() {
    let changed = change(&Schedule::default(), NOW, Some(31), "Asia/Tokyo");
    let bounds = |start: &str, end: &str| Window { start: at(start), end: at(end) };
    for (instant, label, expected) in [
        (NOW, "2026-03", bounds("2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z")),
        ("2026-05-30T00:00:00Z", "2026-04", bounds("2026-04-01T00:00:00Z", "2026-05-30T15:00:00Z")),
        ("2026-05-31T00:00:00Z", "2026-05", bounds("2026-05-30T15:00:00Z", "2026-06-29T15:00:00Z")),
    ] {
        assert_eq!(period(PeriodKind::Month, "UTC", &changed, at(instant)), (label.to_owned(), expected));
    }
}

#[test]
fn a_start_that_a_change_of_zone_would_put_before_the_last_one_waits_for_that() {
    // 1 February begins at 10:00 UTC on Kiritimati, an hour before 31 January does on Pago Pago.
    let before = schedule("=31@");
    let pago = zone("Pacific/Pago_Pago");
    let now = at("2025-01-10T00:00:00Z");
    let after = before.changed(None, Some("Pacific/Kiritimati".to_owned()), now, &pago, true);
    assert_eq!(after, schedule("=31@|2025-02=@Pacific/Kiritimati"));
    let december = Window { start: at("2024-12-31T11:00:00Z"), end: at("2025-01-31T11:00:00Z") };
    let february = Window { start: at("2025-01-31T11:00:00Z"), end: at("2025-02-28T10:00:00Z") };
    let resolved = ResolvedSchedule::new(&after).unwrap();
    let calendar = Calendar { kind: PeriodKind::Month, zone: &pago, schedule: Some(&resolved) };
    let labels = ["2024-12", "2025-01", "2025-02"].map(|label| label.parse().unwrap());
    let empty = Window { start: december.end, end: december.end };
    assert_eq!(labels.map(|label| calendar.bounds(&label).unwrap()), [december, empty, february]);
    assert_eq!(calendar.period_at(just_before(december.end)).label, labels[0]);
    assert_eq!(calendar.period_at(december.end).label, labels[2]);
}

#[test]
fn changes_never_move_a_bound_up_to_the_end_of_the_present_period() {
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let zone = zone(rng.choice(ZONES).unwrap());
        let mut schedule = random_schedule(&mut rng);
        let mut now = Timestamp::from_millis(rng.i64(915_000_000_000..955_000_000_000)).unwrap();
        for _ in 0..8 {
            let anchor = Some(rng.u8(1..=31)).filter(|_| rng.bool());
            let time_zone = Some(rng.choice(ZONES).unwrap().to_owned()).filter(|_| rng.bool());
            let changed = schedule.changed(anchor, time_zone.clone(), now, &zone, true);
            let context = format!("seed {seed} at {now}: {schedule:?} then {changed:?}");
            let text = serde_json::to_string(&changed).unwrap();
            assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), changed, "{context}");
            let resolved = [&schedule, &changed].map(|schedule| ResolvedSchedule::new(schedule).unwrap());
            let [old, new] =
                [0, 1].map(|index| Calendar { kind: PeriodKind::Month, zone: &zone, schedule: Some(&resolved[index]) });
            let present = old.period_at(now);
            for kind in PeriodKind::ALL {
                let [old, new] = [old, new].map(|calendar| Calendar { kind, ..calendar });
                assert_eq!(new.period_at(now), old.period_at(now), "{context}");
            }
            let past = rng.i64(900_000_000_000_000..present.bounds.end.micros());
            for instant in [Timestamp::from_micros(past).unwrap(), just_before(present.bounds.end)] {
                assert_eq!(new.period_at(instant), old.period_at(instant), "{context} at {instant}");
            }
            let settings = [changed.newest(), schedule.newest()].map(|era| era.cloned().unwrap_or(NOTHING));
            let wanted = Era { from: None, anchor, time_zone };
            assert!(settings[0].has_settings_of(&wanted), "{context} wanted {wanted:?}");
            schedule = changed;
            now = now.saturating_add(Duration::from_secs(rng.u64(0..6_000_000)));
        }
    }
}

const NOTHING: Era = Era { from: None, anchor: None, time_zone: None };

#[test]
fn a_customer_is_golden_json_and_nothing_else() {
    let golden = concat!(
        r#"{"plan":"pro","schedule":{"eras":[{"from":null,"anchor":15,"time_zone":null},"#,
        r#"{"from":"2026-11","anchor":31,"time_zone":"Asia/Tokyo"}]}}"#
    );
    let customer = Customer { plan: Some("pro".to_owned()), schedule: schedule("=15@|2026-11=31@Asia/Tokyo") };
    assert_eq!(serde_json::to_string(&customer).unwrap(), golden);
    assert_eq!(serde_json::from_str::<Customer>(golden).unwrap(), customer);
    let default = serde_json::to_string(&Customer::default()).unwrap();
    assert_eq!(default, r#"{"plan":null,"schedule":{"eras":[]}}"#);
    for (from, to) in [
        ("plan", "plans"),
        ("eras", "era"),
        ("anchor\":15", "anker\":15"),
        ("15", "0"),
        ("15", "32"),
        ("2026-11", "2026-13"),
        ("2026-11", "2026-W11"),
        ("2026-11", "2026-11-01"),
        (r#""2026-11""#, "null"),
        ("null,\"anchor", "\"2026-12\",\"anchor"),
    ] {
        let text = golden.replacen(from, to, 1);
        assert_ne!(text, golden);
        assert!(serde_json::from_str::<Customer>(&text).is_err(), "{text}");
    }
}

#[test]
fn a_zone_that_is_not_known_is_named() {
    let error = ResolvedSchedule::new(&schedule("=@UTC|2026-01=@Mars/Olympus")).unwrap_err();
    assert_eq!(error, UnknownZone("Mars/Olympus".to_owned()));
}
