use super::*;
use crate::meter::definition::{Aggregation, Late};
use crate::meter::period::PeriodKind;
use crate::meter::window::WindowLength;
use crate::model::{Duration, Timestamp};

fn definition(slug: &str, event_type: &str) -> Definition {
    Definition {
        slug: slug.to_owned(),
        event_type: event_type.to_owned(),
        aggregation: Aggregation::Sum,
        value: None,
        dimensions: vec![],
        window: WindowLength::Day,
        time_zone: "UTC".to_owned(),
        grace: Duration::ZERO,
        late: Late::Adjust,
        allow_negative: false,
        unique_members_max: 10,
        approximate: false,
        billing_period: PeriodKind::Month,
        billing_time_zone: None,
        derive_id: None,
    }
}

fn slugs(meters: &Meters) -> Vec<&str> {
    meters.iter().map(|meter| meter.definition.slug.as_str()).collect()
}

#[test]
fn finds_meters_by_number_slug_and_event_type() {
    let mut meters = Meters::new();
    for (number, (slug, event_type)) in [("in", "llm"), ("calls", "api"), ("out", "llm")].into_iter().enumerate() {
        let id = meters.next_id().unwrap();
        assert_eq!(usize::from(id.0), number);
        meters.put(id, definition(slug, event_type)).unwrap();
    }
    assert_eq!(slugs(&meters), ["in", "calls", "out"]);
    assert_eq!(meters.by_event_type("llm"), [MeterId(0), MeterId(2)]);
    assert_eq!(meters.by_event_type("nobody"), []);
    assert_eq!(meters.by_slug("out").unwrap().id, MeterId(2));
    assert!(meters.by_slug("llm").is_none());
    assert!(meters.get(MeterId(3)).is_none());
}

#[test]
fn a_new_version_replaces_the_old_one_in_every_lookup() {
    let mut meters = Meters::new();
    meters.put(MeterId(0), definition("in", "llm")).unwrap();
    meters.put(MeterId(0), definition("in", "llm.v2")).unwrap();
    assert_eq!(meters.len(), 1);
    assert_eq!(meters.by_event_type("llm"), []);
    assert_eq!(meters.by_event_type("llm.v2"), [MeterId(0)]);
}

#[test]
fn refuses_what_would_change_the_meaning_of_recorded_totals() {
    let mut meters = Meters::new();
    meters.put(MeterId(0), definition("in", "llm")).unwrap();
    let frozen = Definition { window: WindowLength::Week, ..definition("in", "llm") };
    let field = FrozenField::Window;
    for (id, definition, error) in [
        (0, frozen, MetersError::Frozen { slug: "in".to_owned(), field }),
        (0, definition("other", "llm"), MetersError::SlugChanged("in".to_owned())),
        (1, definition("in", "llm"), MetersError::SlugTaken("in".to_owned())),
        (2, definition("out", "llm"), MetersError::Gap { id: MeterId(2) }),
        (1, definition("", "llm"), DefinitionError::Name { field: "slug" }.into()),
    ] {
        assert_eq!(meters.put(MeterId(id), definition), Err(error));
        assert_eq!(slugs(&meters), ["in"]);
    }
    let text = MetersError::Frozen { slug: "in".to_owned(), field }.to_string();
    assert_eq!(text, "window of meter \"in\" cannot change: make a new slug");
}

#[test]
fn a_retired_meter_can_be_found_but_is_not_fed() {
    let mut meters = Meters::new();
    for slug in ["in", "out"] {
        let id = meters.next_id().unwrap();
        meters.put(id, definition(slug, "llm")).unwrap();
    }
    meters.retire(|definition| definition.slug == "in");
    assert_eq!(meters.by_event_type("llm"), [MeterId(1)]);
    assert!(meters.by_slug("in").unwrap().retired && !meters.by_slug("out").unwrap().retired);
    meters.retire(|_| false);
    assert_eq!(meters.by_event_type("llm").len(), 2);
}

#[test]
fn a_meter_knows_the_calendar_it_is_billed_by() {
    let mut meters = Meters::new();
    let [berlin, tokyo] = ["Europe/Berlin", "Asia/Tokyo"].map(str::to_owned);
    meters.put(MeterId(0), Definition { time_zone: berlin.clone(), ..definition("own", "a") }).unwrap();
    let named = Definition {
        time_zone: berlin,
        billing_time_zone: Some(tokyo),
        billing_period: PeriodKind::Day,
        ..definition("named", "a")
    };
    meters.put(MeterId(1), named).unwrap();
    let at = Timestamp::parse_rfc3339("2026-10-31T20:00:00Z").unwrap();
    for (id, label, start) in [(0, "2026-10", "2026-09-30T22:00:00Z"), (1, "2026-11-01", "2026-10-31T15:00:00Z")] {
        let period = meters.get(MeterId(id)).unwrap().calendar(None).period_at(at);
        assert_eq!((period.label.to_string().as_str(), period.bounds.start.to_string().as_str()), (label, start));
    }
}
