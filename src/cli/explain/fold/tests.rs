use serde_json::json;

use super::*;

fn event(seq: u64, at: &str, value: &str, period: &str) -> Event {
    let is_member = value.len() == 32;
    let feed = json!({
        "meter": "m", "window_start": "2026-11-05T10:00:00Z", "window_end": "2026-11-05T11:00:00Z", "period": period,
        "value": if is_member { None } else { Some(value) }, "member": if is_member { Some(value) } else { None },
        "dimensions": {}, "late": false,
    });
    let event = json!({
        "seq": seq, "usage_event_id": format!("e{seq}"), "source": "", "customer": "c", "timestamp": at,
        "received_at": at, "outcome": "accepted", "backfill": null, "voided": null, "windows": [feed],
        "event": {"quantity": 1},
    });
    serde_json::from_value(event).unwrap()
}

fn folded(aggregation: Aggregation, events: &[(u64, &str, &str)]) -> WindowFold {
    let mut fold = WindowFold::new(aggregation);
    for (seq, minute, value) in events {
        let event = event(*seq, &format!("2026-11-05T10:{minute}:00Z"), value, "2026-11");
        fold.add(&event, &event.windows[0], Standing::Counts, "2026-11").unwrap();
    }
    fold
}

fn at(text: &str) -> Timestamp {
    instant(text).unwrap()
}

fn claim(value: Option<&str>, event_count: u64) -> Claim {
    Claim::new(value, event_count, false).unwrap()
}

const A: &str = "0123456789abcdef0123456789abcdef";
const B: &str = "fedcba98765432100123456789abcdef";

/// Two windows' events, what each comes to, and what the period comes to.
type Case = (Aggregation, [&'static [(u64, &'static str, &'static str)]; 2], [&'static str; 2], &'static str);

const CASES: [Case; 7] = [
    (Aggregation::Count, [&[(1, "00", "7"), (2, "01", "-7")], &[(3, "00", "1")]], ["2", "1"], "3"),
    (Aggregation::Sum, [&[(1, "00", "0.1"), (2, "01", "0.2")], &[(3, "00", "-1")]], ["0.3", "-1"], "-0.7"),
    (Aggregation::Min, [&[(1, "00", "3"), (2, "01", "2.5")], &[(3, "00", "9")]], ["2.5", "9"], "2.5"),
    (Aggregation::Max, [&[(1, "00", "-3"), (2, "01", "-2.5")], &[(3, "00", "-9")]], ["-2.5", "-9"], "-2.5"),
    // The average of averages would be 2.75.
    (Aggregation::Avg, [&[(1, "00", "1"), (2, "01", "2")], &[(3, "00", "4")]], ["1.5", "4"], "2.333333333333"),
    // By time, not by the order of arrival; of equal times the later record.
    (Aggregation::Latest, [&[(3, "01", "5"), (2, "01", "6"), (9, "00", "7")], &[(1, "00", "8")]], ["5", "8"], "8"),
    (Aggregation::Unique, [&[(1, "00", A), (2, "01", B), (3, "02", A)], &[(4, "00", A)]], ["2", "1"], "2"),
];

#[test]
fn events_come_to_a_windows_value_and_windows_to_the_total_by_each_aggregation() {
    for (aggregation, windows, values, total) in CASES {
        let mut period = PeriodFold::new(aggregation);
        let mut events = 0;
        for (n, (window, value)) in windows.iter().zip(values).enumerate() {
            let (fold, start) = (folded(aggregation, window), at(&format!("2026-11-0{}T10:00:00Z", n + 1)));
            let claim = claim(Some(value), window.len() as u64);
            let check = claim.of_window(&fold, start, None);
            assert_eq!(check, Check::Matches, "{aggregation:?} {value}");
            period.add(&claim, &fold, start, Part { of_window: false, check }).unwrap();
            events += window.len() as u64;
        }
        assert_eq!(period.check(&claim(Some(total), events)), Check::Matches, "{aggregation:?}");
        assert_eq!(period.check(&claim(Some("77"), events)), Check::Differs, "{aggregation:?}");
        assert_eq!(period.check(&claim(Some(total), events + 1)), Check::Differs, "{aggregation:?}");
    }
}

#[test]
fn one_event_more_or_less_or_another_value_differs_by_each_aggregation() {
    for (aggregation, [window, _], [value, _], _) in CASES {
        let (fold, count, start) = (folded(aggregation, window), window.len() as u64, at("2026-11-05T10:00:00Z"));
        let check = |value, count| claim(Some(value), count).of_window(&fold, start, None);
        assert_eq!(check(value, count + 1), Check::Differs, "{aggregation:?}");
        assert_eq!(check(value, count - 1), Check::Differs, "{aggregation:?}");
        assert_eq!(check("0.000000000001", count), Check::Differs, "{aggregation:?}");
        assert_eq!(claim(None, count).of_window(&fold, start, None), Check::Differs, "{aggregation:?}");
    }
}

#[test]
fn nothing_comes_to_what_the_daemon_says_of_nothing() {
    for aggregation in Aggregation::ALL {
        let is_number = matches!(aggregation, Aggregation::Count | Aggregation::Sum | Aggregation::Unique);
        let expected = is_number.then_some("0");
        let fold = WindowFold::new(aggregation);
        assert_eq!(Claim::nothing(aggregation), claim(expected, 0), "{aggregation:?}");
        assert_eq!(claim(expected, 0).against(&fold.all), Check::Matches, "{aggregation:?}");
    }
}

#[test]
fn what_was_taken_back_does_not_count() {
    let mut fold = folded(Aggregation::Max, &[(1, "00", "3")]);
    let other = event(2, "2026-11-05T10:01:00Z", "9", "2026-11");
    for standing in [Standing::Voided, Standing::Reverted] {
        fold.add(&other, &other.windows[0], standing, "2026-11").unwrap();
    }
    assert_eq!((fold.taken_back, fold.all.events), (2, 1));
    assert_eq!(claim(Some("3"), 1).against(&fold.all), Check::Matches);
    fold.add(&other, &other.windows[0], Standing::Reverting, "2026-11").unwrap();
    let start = at("2026-11-05T10:00:00Z");
    assert_eq!(claim(Some("9"), 2).of_window(&fold, start, None), Check::Matches, "not taken back yet");
    assert_eq!(claim(Some("3"), 1).of_window(&fold, start, None), Check::Unsettled, "it is being taken back");
}

#[test]
fn windows_before_the_oldest_event_are_expired_and_later_ones_are_not() {
    let fold = folded(Aggregation::Sum, &[(1, "00", "3")]);
    let (start, kept_from) = (at("2026-11-05T10:00:00Z"), at("2026-11-05T10:30:00Z"));
    let check = |value, count, from| claim(Some(value), count).of_window(&fold, start, from);
    assert_eq!(check("5", 2, Some(kept_from)), Check::Expired);
    assert_eq!(check("3", 1, Some(kept_from)), Check::Matches);
    assert_eq!(check("4", 1, Some(kept_from)), Check::Differs, "all of its events are there");
    let long_before = at("2026-11-05T09:00:00Z");
    assert_eq!(check("5", 2, Some(long_before)), Check::Differs, "all from its start on are kept");
    assert_eq!(check("5", 2, None), Check::Differs);
}

#[test]
fn sums_are_checked_without_events_and_averages_and_sets_are_not() {
    for (aggregation, expected) in [
        (Aggregation::Sum, Check::Matches),
        (Aggregation::Max, Check::Matches),
        (Aggregation::Avg, Check::Expired),
        (Aggregation::Unique, Check::Expired),
    ] {
        let (none, start) = (WindowFold::new(aggregation), at("2026-11-05T10:00:00Z"));
        let (claim, mut period) = (claim(Some("5"), 2), PeriodFold::new(aggregation));
        let check = claim.of_window(&none, start, Some(at("2027-01-01T00:00:00Z")));
        assert_eq!(check, Check::Expired);
        period.add(&claim, &none, start, Part { of_window: false, check }).unwrap();
        assert_eq!(period.check(&claim), expected, "{aggregation:?}");
    }
}

#[test]
fn a_window_that_reaches_over_the_periods_end_counts_with_its_part() {
    let mut fold = folded(Aggregation::Sum, &[(1, "00", "3")]);
    let next = event(2, "2026-11-05T10:50:00Z", "4", "2026-12");
    fold.add(&next, &next.windows[0], Standing::Counts, "2026-11").unwrap();
    let (start, window) = (at("2026-11-05T10:00:00Z"), claim(Some("7"), 2));
    let check = window.of_window(&fold, start, None);
    let mut period = PeriodFold::new(Aggregation::Sum);
    period.add(&window, &fold, start, Part { of_window: true, check }).unwrap();
    assert_eq!((check, period.check(&claim(Some("3"), 1)), period.windows), (Check::Matches, Check::Matches, 1));
    let foreign = WindowFold { of_period: Fold::new(Aggregation::Sum), ..fold };
    period.add(&window, &foreign, start, Part { of_window: true, check }).unwrap();
    assert_eq!(
        (period.check(&claim(Some("3"), 1)), period.windows),
        (Check::Matches, 1),
        "nothing of it is of the period"
    );
}

#[test]
fn an_estimate_is_compared_by_its_events() {
    let fold = folded(Aggregation::Unique, &[(1, "00", A), (2, "01", B)]);
    let estimate = |value, count| Claim::new(Some(value), count, true).unwrap().against(&fold.all);
    assert_eq!(estimate("3", 2), Check::Estimate);
    assert_eq!(estimate("2", 2), Check::Matches);
    assert_eq!(estimate("3", 3), Check::Differs);
}
