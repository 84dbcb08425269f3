use super::*;

const ZONES: [&str; 12] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",
    "America/Havana",
    "America/Sao_Paulo",
    "America/Toronto",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
    "Antarctica/Troll",
];
const LENGTHS: [&str; 11] = ["1s", "90s", "5m", "15m", "1h", "6h", "8h", "12h", "1d", "1w", "1mo"];

fn windows(length: &str, zone: &str) -> Windows {
    Windows::new(length.parse().unwrap(), Zone::named(zone).unwrap())
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

fn seconds(secs: &str) -> Timestamp {
    Timestamp::from_millis(secs.parse::<i64>().unwrap() * 1_000).unwrap()
}

#[test]
fn agrees_with_pythons_zoneinfo_on_every_bound() {
    let csv = include_str!("../../../tests/golden/window_bounds.csv");
    let mut checked = 0;
    for line in csv.lines().skip(1) {
        let [zone, length, at, start, end] = line.split(',').collect::<Vec<_>>().try_into().unwrap();
        let expected = Window { start: seconds(start), end: seconds(end) };
        assert_eq!(windows(length, zone).window(seconds(at)), expected, "{line}");
        checked += 1;
    }
    assert!(checked > 5_000, "{checked} bounds checked");
}

#[test]
fn windows_tile_time_in_any_zone_at_any_length() {
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (zone, length) = (ZONES[rng.usize(..ZONES.len())], LENGTHS[rng.usize(..LENGTHS.len())]);
        let windows = windows(length, zone);
        let mut window =
            windows.window(Timestamp::from_millis(rng.i64(-2_000_000_000_000..4_000_000_000_000)).unwrap());
        let mut cache = None;
        for _ in 0..50 {
            let context = format!("seed {seed} {zone} {length} {window:?}");
            assert!(window.start < window.end, "{context}");
            let last = Timestamp::from_micros(window.end.micros() - 1).unwrap();
            let inside = Timestamp::from_micros(rng.i64(window.start.micros()..window.end.micros())).unwrap();
            for at in [window.start, inside, last] {
                assert_eq!(windows.window(at), window, "{context} at {at}");
                assert_eq!(windows.window_cached(at, &mut cache), window, "{context} at {at}");
            }
            let next = windows.window(window.end);
            assert_eq!(next.start, window.end, "{context} then {next:?}");
            window = next;
        }
    }
}

#[test]
fn no_window_reaches_over_the_end_of_a_month() {
    for zone in ZONES {
        let months = windows("1mo", zone);
        for length in LENGTHS {
            let windows = windows(length, zone);
            let mut month = months.window(at("2011-06-15T00:00:00Z"));
            for _ in 0..24 {
                let last = windows.window(Timestamp::from_micros(month.end.micros() - 1).unwrap());
                assert_eq!(last.end, month.end, "{zone} {length}");
                assert_eq!(windows.window(month.end).start, month.end, "{zone} {length}");
                month = months.window(month.end);
            }
        }
    }
}

#[test]
fn plain_arithmetic_and_the_calendar_agree_on_utc() {
    let mut rng = fastrand::Rng::with_seed(7);
    for length in LENGTHS {
        let (fast, slow) = (windows(length, "UTC"), windows(length, "Africa/Abidjan"));
        assert_eq!(fast.step_micros.is_some(), !matches!(length, "1w" | "1mo"));
        for _ in 0..500 {
            let at = Timestamp::from_micros(rng.i64(at("1912-01-02T00:00:00Z").micros()..Timestamp::MAX.micros() / 2))
                .unwrap();
            assert_eq!(fast.window(at), slow.window(at), "{length} {at}");
        }
    }
}

#[test]
fn times_before_1970_are_in_the_window_before() {
    let before = at("1969-12-31T23:59:59.999999Z");
    let expected = Window { start: at("1969-12-31T23:00:00Z"), end: Timestamp::EPOCH };
    assert_eq!(windows("1h", "UTC").window(before), expected);
    let first = Window { start: Timestamp::EPOCH, end: at("1970-01-01T01:00:00Z") };
    assert_eq!(windows("1h", "UTC").window(Timestamp::EPOCH), first);
}

#[test]
fn a_week_that_holds_the_first_of_a_month_is_two_windows() {
    let weeks = windows("1w", "UTC");
    for (at_text, start, end) in [
        ("2026-06-28T12:00:00Z", "2026-06-22T00:00:00Z", "2026-06-29T00:00:00Z"),
        ("2026-06-30T23:59:59Z", "2026-06-29T00:00:00Z", "2026-07-01T00:00:00Z"),
        ("2026-07-01T00:00:00Z", "2026-07-01T00:00:00Z", "2026-07-06T00:00:00Z"),
        ("2026-07-06T00:00:00Z", "2026-07-06T00:00:00Z", "2026-07-13T00:00:00Z"),
    ] {
        assert_eq!(weeks.window(at(at_text)), Window { start: at(start), end: at(end) }, "{at_text}");
    }
}

#[test]
fn the_ends_of_the_range_have_a_window_too() {
    for zone in ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"] {
        for length in LENGTHS {
            let windows = windows(length, zone);
            let first = windows.window(Timestamp::MIN);
            assert_eq!(first.start, Timestamp::MIN, "{zone} {length}");
            assert!(first.contains(Timestamp::MIN), "{zone} {length}");
            let last = windows.window(Timestamp::MAX);
            assert!(last.start < last.end && last.end == Timestamp::MAX, "{zone} {length} {last:?}");
        }
    }
}

#[test]
fn reads_lengths_and_writes_the_shortest_text() {
    for (text, shortest) in [
        ("1s", "1s"),
        ("90s", "90s"),
        ("60s", "1m"),
        ("60m", "1h"),
        ("3600s", "1h"),
        ("12h", "12h"),
        ("1d", "1d"),
        ("1w", "1w"),
        ("1mo", "1mo"),
    ] {
        assert_eq!(text.parse::<WindowLength>().unwrap().to_string(), shortest);
    }
    assert_eq!("90s".parse(), Ok(WindowLength::Fixed(SubDay::from_secs(90).unwrap())));
}

#[test]
fn refuses_lengths_that_do_not_divide_a_day_or_are_no_length() {
    use WindowLengthError::{DoesNotDivideADay, Syntax, TooLong};
    for (text, error) in [
        ("", Syntax),
        ("h", Syntax),
        ("1", Syntax),
        ("1 h", Syntax),
        ("-1h", Syntax),
        ("1.5h", Syntax),
        ("1H", Syntax),
        ("1y", Syntax),
        ("99999999999s", Syntax),
        ("0s", DoesNotDivideADay),
        ("7s", DoesNotDivideADay),
        ("5h", DoesNotDivideADay),
        ("24h", DoesNotDivideADay),
        ("4294967295h", DoesNotDivideADay),
        ("2d", TooLong),
        ("0w", TooLong),
        ("3mo", TooLong),
    ] {
        assert_eq!(text.parse::<WindowLength>(), Err(error), "{text}");
    }
}
