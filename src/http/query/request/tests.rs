use super::*;
use crate::engine::WindowState;
use crate::meter::{Aggregate, Aggregation, Late, Meters};
use crate::model::{Duration, MeterId};

fn meter(window: &str, zone: &str) -> Meter {
    let definition = Definition {
        slug: "m".to_owned(),
        event_type: "m".to_owned(),
        aggregation: Aggregation::Count,
        value: None,
        dimensions: ["model", "region"].map(|name| (name.to_owned(), format!("$.{name}").parse().unwrap())).into(),
        window: window.parse().unwrap(),
        time_zone: zone.to_owned(),
        grace: Duration::ZERO,
        late: Late::Adjust,
        allow_negative: false,
        unique_members_max: 10,
        approximate: false,
        billing_period: Default::default(),
        billing_time_zone: None,
        derive_id: None,
    };
    let mut meters = Meters::new();
    meters.put(MeterId(0), definition).unwrap();
    meters.get(MeterId(0)).unwrap().clone()
}

fn read(pairs: &[(&str, &str)], meter: &Meter) -> Result<UsageRequest, Problem> {
    UsageRequest::read(Params::of(pairs), meter)
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

/// The row's window start for a stored window of the meter that holds `instant`.
fn placed(request: &mut UsageRequest, meter: &Meter, instant: &str) -> Option<(String, String)> {
    let row = WindowRow {
        meter: MeterId(0),
        customer: "c-1",
        dimensions: &[Some("gpt"), None],
        window: meter.windows.window(at(instant)),
        aggregate: &Aggregate::Count,
        event_count: 1,
        state: WindowState::Open,
        revision: 0,
    };
    request.place(&row).map(|(key, window)| (key.window_start.to_string(), window.end.to_string()))
}

#[test]
fn names_the_parameter_that_is_wrong() {
    let meter = meter("1h", "UTC");
    for (pairs, name) in [
        (&[("from", "tomorrow")][..], "from"),
        (&[("from", "2000"), ("to", "1000")], "to"),
        (&[("from", "1000"), ("to", "1000")], "to"),
        (&[("window", "30m")], "window"),
        (&[("window", "2d")], "window"),
        (&[("window", "fortnight")], "window"),
        (&[("group_by", "customer,colour")], "group_by"),
        (&[("customer", "")], "customer"),
        (&[("limit", "0")], "limit"),
        (&[("limit", "10001")], "limit"),
        (&[("cursor", "nonsense")], "cursor"),
        (&[("windows", "1d")], "windows"),
        (&[("customer", "a"), ("customer", "b")], "customer"),
    ] {
        match read(pairs, &meter) {
            Err(Problem::Parameter { name: got, .. }) => assert_eq!(got, name, "{pairs:?}"),
            other => panic!("{pairs:?}: {:?}", other.map(drop)),
        }
    }
}

#[test]
fn windows_can_be_any_multiple_of_the_meters() {
    for (fine, coarse, fits) in [
        ("1s", "90s", true),
        ("1h", "1h", true),
        ("1h", "12h", true),
        ("1h", "1d", true),
        ("1h", "1w", true),
        ("1h", "1mo", true),
        ("1d", "1mo", true),
        ("1w", "1mo", true),
        ("8h", "1d", true),
        ("1h", "90m", false),
        ("8h", "12h", false),
        ("1h", "1m", false),
        ("1d", "12h", false),
        ("1w", "1d", false),
        ("1mo", "1w", false),
    ] {
        assert_eq!(read(&[("window", coarse)], &meter(fine, "UTC")).is_ok(), fits, "{fine} {coarse}");
    }
}

#[test]
fn groups_by_customer_and_dimensions_repeated_or_with_commas() {
    let meter = meter("1h", "UTC");
    for (pairs, by_customer, by_dimensions) in [
        (&[][..], false, &[][..]),
        (&[("group_by", "customer")], true, &[]),
        (&[("group_by", "region, model"), ("group_by", "customer"), ("group_by", "model")], true, &[0, 1]),
        (&[("group_by", "region")], false, &[1]),
    ] {
        let request = read(pairs, &meter).unwrap();
        assert_eq!((request.by_customer, request.by_dimensions.as_slice()), (by_customer, by_dimensions), "{pairs:?}");
    }
    let mut request = read(&[("group_by", "region,customer,model")], &meter).unwrap();
    let row = WindowRow {
        meter: MeterId(0),
        customer: "c-1",
        dimensions: &[Some("gpt"), None],
        window: meter.windows.window(at("2026-11-22T10:00:00Z")),
        aggregate: &Aggregate::Count,
        event_count: 1,
        state: WindowState::Open,
        revision: 0,
    };
    let (key, _) = request.place(&row).unwrap();
    assert_eq!(key.customer.as_deref(), Some("c-1"));
    assert_eq!(key.dimensions.as_slice(), [Some("gpt".into()), None]);
}

#[test]
fn rows_start_from_inclusive_to_exclusive() {
    let meter = meter("1h", "UTC");
    let range = [("from", "2026-11-22T10:00:00Z"), ("to", "2026-11-22T11:00:00Z")];
    let mut request = read(&range, &meter).unwrap();
    assert!(placed(&mut request, &meter, "2026-11-22T09:59:59Z").is_none());
    assert!(placed(&mut request, &meter, "2026-11-22T10:30:00Z").is_some());
    assert!(placed(&mut request, &meter, "2026-11-22T11:00:00Z").is_none());
}

#[test]
fn a_coarse_row_holds_all_of_its_windows_also_past_the_end_of_the_range() {
    let meter = meter("1h", "Europe/Berlin");
    let range = [("window", "1d"), ("from", "2026-03-28T12:00:00Z"), ("to", "2026-03-29T00:00:00Z")];
    let mut request = read(&range, &meter).unwrap();
    let day = Some(("2026-03-28T23:00:00Z".to_owned(), "2026-03-29T22:00:00Z".to_owned()));
    assert_eq!(placed(&mut request, &meter, "2026-03-28T23:00:00Z"), day);
    assert_eq!(placed(&mut request, &meter, "2026-03-29T21:30:00Z"), day);
    assert!(placed(&mut request, &meter, "2026-03-28T15:00:00Z").is_none(), "that day began before the range");
    assert_eq!(request.stored_range(), (Some(at("2026-03-28T12:00:00Z")), Some(at("2026-03-29T22:00:00Z"))));
}
