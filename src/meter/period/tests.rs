use super::*;

fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

#[test]
fn reads_and_writes_months_weeks_and_days() {
    for text in ["2026-11", "0001-01", "9999-12", "2026-W48", "2020-W53", "2024-02-29"] {
        assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
    }
    for text in [
        "",
        "2026",
        "2026-13",
        "2026-00",
        "26-11",
        "2026-1",
        "2025-W53",
        "2026-W48-1",
        "2025-02-29",
        "2026-11-",
        "0000-01",
        "2026-+1",
        "current",
    ] {
        assert_eq!(text.parse::<Period>(), Err(PeriodError::Syntax), "{text}");
    }
}

#[test]
fn a_month_runs_from_local_midnight_to_local_midnight() {
    let zone = Zone::named("Europe/Berlin").unwrap();
    let march: Period = "2025-03".parse().unwrap();
    assert_eq!(march.bounds(&zone), Window { start: at("2025-02-28T23:00:00Z"), end: at("2025-03-31T22:00:00Z") });
    assert_eq!(Period::month_containing(at("2025-03-31T21:59:59.999999Z"), &zone), march);
    assert_eq!(Period::month_containing(at("2025-03-31T22:00:00Z"), &zone).to_string(), "2025-04");
}

#[test]
fn weeks_belong_to_iso_years_and_days_to_the_zone() {
    let zone = Zone::named("Pacific/Auckland").unwrap();
    let new_year = at("2026-12-31T12:00:00Z");
    assert_eq!(Period::day_containing(new_year, &zone).to_string(), "2027-01-01");
    assert_eq!(Period::week_containing(new_year, &zone).to_string(), "2026-W53");
    assert_eq!(Period::day_containing(new_year, &Zone::utc()).to_string(), "2026-12-31");
}

#[test]
fn neighbours_touch() {
    let zone = Zone::named("America/New_York").unwrap();
    for text in ["2025-01", "2025-03", "2024-W53", "2025-W01", "2025-11-02", "2024-02-29"] {
        let Ok(period) = text.parse::<Period>() else { continue };
        let next = period.next().unwrap();
        assert_eq!(period.bounds(&zone).end, next.bounds(&zone).start, "{text}");
        assert_eq!(next.previous(), Some(period), "{text}");
    }
    let last: Period = "9999-12".parse().unwrap();
    assert_eq!(last.next(), None);
    assert_eq!(last.bounds(&zone).end, Timestamp::MAX);
    for first in ["0001-01", "0001-W01", "0001-01-01"] {
        assert_eq!(first.parse::<Period>().unwrap().previous(), None);
    }
}

#[test]
fn a_period_is_a_string_in_json() {
    let november: Period = "2026-11".parse().unwrap();
    assert_eq!(november.kind(), PeriodKind::Month);
    assert_eq!(serde_json::to_string(&november).unwrap(), r#""2026-11""#);
    assert_eq!(serde_json::from_str::<Period>(r#""2026-11""#).unwrap(), november);
    assert!(serde_json::from_str::<Period>(r#""november""#).is_err());
}
