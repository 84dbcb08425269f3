use jiff::tz::TimeZoneDatabase;

use super::*;

const ZONES: [&str; 12] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",
    "America/Havana",
    "America/Sao_Paulo",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Pago_Pago",
    "Pacific/Kiritimati",
    "Asia/Manila",
];

fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

fn seconds(secs: &str) -> Timestamp {
    Timestamp::from_millis(secs.parse::<i64>().unwrap() * 1_000).unwrap()
}

fn just_before(instant: Timestamp) -> Timestamp {
    Timestamp::from_micros(instant.micros() - 1).unwrap()
}

fn zone(name: &str) -> Zone {
    Zone::named(name).unwrap()
}

/// Reads `month=anchor@zone|…`, as the oracle writes it.
fn schedule(eras: &str) -> Schedule {
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let era = |text: &str| {
        let (from, settings) = text.split_once('=').unwrap();
        let (anchor, time_zone) = settings.split_once('@').unwrap();
        Era {
            from: given(from).map(|month| month.parse().unwrap()),
            anchor: given(anchor).map(|day| day.parse().unwrap()),
            time_zone: given(time_zone),
        }
    };
    Schedule { eras: eras.split('|').filter(|era| !era.is_empty()).map(era).collect() }
}

/// The label and bounds of the period at an instant.
fn period(kind: PeriodKind, zone_name: &str, schedule: &Schedule, instant: Timestamp) -> (String, Window) {
    let (zone, resolved) = (zone(zone_name), ResolvedSchedule::new(schedule).unwrap());
    let calendar = Calendar { kind, zone: &zone, schedule: Some(&resolved) };
    let BillingPeriod { label, bounds } = calendar.period_at(instant);
    assert_eq!(calendar.bounds(&label), Some(bounds), "{label}");
    (label.to_string(), bounds)
}

fn random_schedule(rng: &mut fastrand::Rng) -> Schedule {
    let mut month: Period = "1999-01".parse().unwrap();
    let mut eras = Vec::new();
    for index in 0..rng.usize(0..6) {
        let from = Some(month).filter(|_| index > 0 || rng.bool());
        let anchor = Some(rng.u8(1..=31)).filter(|_| rng.u8(0..4) > 0);
        let time_zone = Some(rng.choice(ZONES).unwrap().to_owned()).filter(|_| rng.bool());
        eras.push(Era { from, anchor, time_zone });
        for _ in 0..rng.usize(1..4) {
            month = month.next().unwrap();
        }
    }
    Schedule { eras }
}

#[test]
fn agrees_with_pythons_zoneinfo_on_every_bound() {
    let csv = include_str!("../../../tests/golden/period_bounds.csv");
    let mut checked = 0;
    for line in csv.lines().skip(1) {
        let [zone, kind, eras, at, label, start, end] = line.split(',').collect::<Vec<_>>().try_into().unwrap();
        let kind = PeriodKind::ALL.into_iter().find(|known| known.as_str() == kind).unwrap();
        let expected = (label.to_owned(), Window { start: seconds(start), end: seconds(end) });
        assert_eq!(period(kind, zone, &schedule(eras), seconds(at)), expected, "{line}");
        checked += 1;
    }
    assert!(checked > 5_000, "{checked} bounds checked");
}

#[test]
fn a_table_of_bounds_checked_by_hand() {
    for (zone, anchor, label, start, end) in [
        // February is the shortest month; a period that starts on its last day ends on an anchor of 31 or 30.
        ("UTC", 31, "2023-01", "2023-01-31T00:00:00Z", "2023-02-28T00:00:00Z"),
        ("UTC", 31, "2023-02", "2023-02-28T00:00:00Z", "2023-03-31T00:00:00Z"),
        ("UTC", 31, "2024-02", "2024-02-29T00:00:00Z", "2024-03-31T00:00:00Z"),
        ("UTC", 30, "2024-02", "2024-02-29T00:00:00Z", "2024-03-30T00:00:00Z"),
        ("UTC", 29, "2023-02", "2023-02-28T00:00:00Z", "2023-03-29T00:00:00Z"),
        ("UTC", 28, "2024-02", "2024-02-28T00:00:00Z", "2024-03-28T00:00:00Z"),
        ("UTC", 31, "2025-04", "2025-04-30T00:00:00Z", "2025-05-31T00:00:00Z"),
        ("UTC", 15, "2025-12", "2025-12-15T00:00:00Z", "2026-01-15T00:00:00Z"),
        // Summer time starts on 30 March 2025 and ends on 26 October.
        ("Europe/Berlin", 1, "2025-03", "2025-02-28T23:00:00Z", "2025-03-31T22:00:00Z"),
        ("Europe/Berlin", 15, "2025-10", "2025-10-14T22:00:00Z", "2025-11-14T23:00:00Z"),
        ("America/New_York", 31, "2025-02", "2025-02-28T05:00:00Z", "2025-03-31T04:00:00Z"),
        // The clock goes from 23:59:59 to 01:00 (10 March 2024), and back from 00:59:59 to 00:00 (3 November).
        ("America/Havana", 10, "2024-03", "2024-03-10T05:00:00Z", "2024-04-10T04:00:00Z"),
        ("America/Havana", 3, "2024-11", "2024-11-03T04:00:00Z", "2024-12-03T05:00:00Z"),
        ("America/Sao_Paulo", 4, "2018-11", "2018-11-04T03:00:00Z", "2018-12-04T02:00:00Z"),
        ("Africa/Cairo", 26, "2024-04", "2024-04-25T22:00:00Z", "2024-05-25T21:00:00Z"),
        ("Asia/Kolkata", 31, "2024-02", "2024-02-28T18:30:00Z", "2024-03-30T18:30:00Z"),
        ("Asia/Kathmandu", 1, "2025-03", "2025-02-28T18:15:00Z", "2025-03-31T18:15:00Z"),
        ("Australia/Lord_Howe", 1, "2025-04", "2025-03-31T13:00:00Z", "2025-04-30T13:30:00Z"),
        // Samoa left out 30 December 2011, Line Islands 31 December 1994.
        ("Pacific/Apia", 30, "2011-12", "2011-12-30T10:00:00Z", "2012-01-29T10:00:00Z"),
        ("Pacific/Kiritimati", 1, "1994-12", "1994-12-01T10:00:00Z", "1994-12-31T10:00:00Z"),
    ] {
        let schedule = Schedule { eras: vec![Era { from: None, anchor: Some(anchor), time_zone: None }] };
        let expected = (label.to_owned(), Window { start: at(start), end: at(end) });
        for instant in [expected.1.start, just_before(expected.1.end)] {
            assert_eq!(period(PeriodKind::Month, zone, &schedule, instant), expected, "{zone} {anchor} {instant}");
        }
    }
}

#[test]
fn weeks_start_on_monday_and_days_at_midnight_whatever_the_anchor() {
    let schedule = schedule("=31@America/New_York");
    for (kind, instant, label, start, end) in [
        (PeriodKind::Week, "2025-03-09T12:00:00Z", "2025-W10", "2025-03-03T05:00:00Z", "2025-03-10T04:00:00Z"),
        (PeriodKind::Week, "2025-01-01T04:59:59Z", "2025-W01", "2024-12-30T05:00:00Z", "2025-01-06T05:00:00Z"),
        (PeriodKind::Day, "2025-03-10T03:59:59Z", "2025-03-09", "2025-03-09T05:00:00Z", "2025-03-10T04:00:00Z"),
        (PeriodKind::Day, "2025-11-03T04:59:59Z", "2025-11-02", "2025-11-02T04:00:00Z", "2025-11-03T05:00:00Z"),
    ] {
        let expected = (label.to_owned(), Window { start: at(start), end: at(end) });
        assert_eq!(period(kind, "Asia/Tokyo", &schedule, at(instant)), expected, "{instant}");
    }
}

#[test]
fn periods_tile_time_for_any_schedule() {
    for seed in 0..400 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let resolved = ResolvedSchedule::new(&random_schedule(&mut rng)).unwrap();
        let (kind, zone) = (*rng.choice(PeriodKind::ALL.as_slice()).unwrap(), zone(rng.choice(ZONES).unwrap()));
        let calendar = Calendar { kind, zone: &zone, schedule: Some(&resolved) };
        let mut instant = Timestamp::from_millis(rng.i64(915_000_000_000..955_000_000_000)).unwrap();
        if rng.u8(0..4) == 0 {
            instant = Timestamp::from_millis(rng.i64(-4_000_000_000_000..8_000_000_000_000)).unwrap();
        }
        let mut period = calendar.period_at(instant);
        for _ in 0..40 {
            let BillingPeriod { label, bounds } = period;
            let context = format!("seed {seed} {label} {bounds:?}");
            assert!(bounds.start < bounds.end, "{context}");
            let inside = Timestamp::from_micros(rng.i64(bounds.start.micros()..bounds.end.micros())).unwrap();
            for instant in [bounds.start, inside, just_before(bounds.end)] {
                assert_eq!(calendar.period_at(instant), period, "{context} at {instant}");
            }
            assert_eq!(calendar.bounds(&label), Some(bounds), "{context}");
            let next = calendar.period_at(bounds.end);
            assert_eq!(next.bounds.start, bounds.end, "{context} then {next:?}");
            assert!(next.label > label, "{context} then {next:?}");
            let mut between = label.next().unwrap();
            while between != next.label {
                let empty = Window { start: bounds.end, end: bounds.end };
                assert_eq!(calendar.bounds(&between), Some(empty), "{context} then {between}");
                between = between.next().unwrap();
            }
            period = next;
        }
    }
}

#[test]
fn a_period_is_what_its_months_own_bounds_say_where_nobody_set_anything() {
    for name in ZONES {
        let zone = zone(name);
        for (kind, label) in [
            (PeriodKind::Month, "2011-12"),
            (PeriodKind::Month, "2018-11"),
            (PeriodKind::Week, "2011-W52"),
            (PeriodKind::Day, "2018-11-04"),
            (PeriodKind::Day, "2011-12-30"),
        ] {
            let label: Period = label.parse().unwrap();
            let calendar = Calendar { kind, zone: &zone, schedule: None };
            assert_eq!(calendar.bounds(&label), Some(label.bounds(&zone)), "{name} {label}");
            for other in PeriodKind::ALL.into_iter().filter(|other| *other != kind) {
                assert_eq!(Calendar { kind: other, ..calendar }.bounds(&label), None, "{name} {label}");
            }
        }
    }
}

#[test]
fn the_ends_of_the_range_have_a_period_too() {
    for name in ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"] {
        for (eras, kind) in
            ["", "=31@", "=2@Asia/Tokyo"].into_iter().flat_map(|eras| PeriodKind::ALL.map(|kind| (eras, kind)))
        {
            let (first, bounds) = period(kind, name, &schedule(eras), Timestamp::MIN);
            assert_eq!(bounds.start, Timestamp::MIN, "{name} {eras} {kind:?}");
            assert!(bounds.contains(Timestamp::MIN) && first.starts_with("0001-"), "{name} {eras} {kind:?} {first}");
            let (last, bounds) = period(kind, name, &schedule(eras), Timestamp::MAX);
            assert!(bounds.start < bounds.end && bounds.end == Timestamp::MAX, "{name} {eras} {kind:?} {last}");
            assert!(last.starts_with("9999-"), "{name} {eras} {kind:?} {last}");
        }
    }
}

#[test]
fn no_clock_in_the_tz_database_is_further_from_utc_than_the_search_starts() {
    for name in TimeZoneDatabase::bundled().available() {
        let tz = TimeZoneDatabase::bundled().get(name.as_str()).unwrap();
        let first = std::iter::once(jiff::Timestamp::MIN);
        let changes = first.chain(tz.following(jiff::Timestamp::MIN).take(1_000).map(|change| change.timestamp()));
        for instant in changes {
            let seconds = tz.to_offset(instant).seconds();
            assert!(seconds.abs() <= FURTHEST_AHEAD.seconds(), "{name}: {seconds} s from UTC at {instant}");
        }
    }
}

mod changes;
