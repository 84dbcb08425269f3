use super::*;

fn start(zone: &str, year: i16, month: i8, day: i8) -> String {
    Zone::named(zone).unwrap().first_instant(jiff::civil::date(year, month, day)).to_string()
}

#[test]
fn a_day_begins_at_its_first_instant_whatever_the_clock_does_at_midnight() {
    for (zone, (year, month, day), expected) in [
        ("Europe/Berlin", (2025, 3, 30), "2025-03-29T23:00:00Z"),
        ("America/Havana", (2024, 3, 10), "2024-03-10T05:00:00Z"),
        ("America/Havana", (2024, 11, 3), "2024-11-03T04:00:00Z"),
        ("America/Toronto", (1919, 3, 31), "1919-03-31T04:30:00Z"),
        ("America/St_Johns", (2006, 10, 29), "2006-10-29T02:30:00Z"),
        ("Pacific/Apia", (2011, 12, 30), "2011-12-30T10:00:00Z"),
        ("Pacific/Apia", (2011, 12, 31), "2011-12-30T10:00:00Z"),
    ] {
        assert_eq!(start(zone, year, month, day), expected, "{zone}");
    }
}

#[test]
fn an_hour_repeated_over_midnight_belongs_to_the_new_day() {
    // At 00:01 on 29 October 2006 the clock was set back to 23:01 on the 28th.
    let zone = Zone::named("America/St_Johns").unwrap();
    let second_2330 = Timestamp::parse_rfc3339("2006-10-29T03:00:00Z").unwrap();
    let (date, day) = zone.day(second_2330);
    assert_eq!(date, jiff::civil::date(2006, 10, 29));
    assert!(day.contains(second_2330));
    assert_eq!(day.end.micros() - day.start.micros(), 25 * 3_600 * 1_000_000);
}

#[test]
fn unknown_names_are_refused_and_utc_is_known_as_such() {
    for name in ["", "Europe/Atlantis", "UTC+2", "../etc/passwd", "CET-1CEST"] {
        assert_eq!(Zone::named(name).unwrap_err(), UnknownZone(name.to_owned()));
    }
    for name in ["UTC", "utc", "Etc/UTC"] {
        assert!(Zone::named(name).unwrap().is_utc(), "{name}");
    }
    assert!(!Zone::named("Europe/London").unwrap().is_utc());
}
