use std::ops::ControlFlow;

use serde_json::json;
use smallvec::smallvec;

use super::list::{Collector, PAGE_BYTES_MAX};
use super::request::{Span, encode_log, encode_time};
use super::shown::{EventShown, Named};
use super::*;
use crate::engine::{EventRecord, EvidenceEvent, FeedRecord, Hasher, Standing, Voided};
use crate::http::totals::test_meters;
use crate::meter::{BillingPeriod, Value};
use crate::model::{EventKey, Fingerprint, MeterId, Quantity, Timestamp, Window};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000).unwrap()
}

fn asked(pairs: &[(&str, &str)]) -> Result<Asked, Problem> {
    Asked::read(Params::of(pairs), &test_meters())
}

fn january() -> [BillingPeriod; 1] {
    let bounds = Window { start: at(0), end: at(86_400 * 31) };
    [BillingPeriod { label: "1970-01".parse().unwrap(), bounds }]
}

fn feed<'a>(meter: u16, value: Value) -> FeedRecord<'a> {
    let window = Window { start: at(0), end: at(3_600) };
    FeedRecord {
        meter: MeterId(meter),
        late: false,
        window,
        period: 0,
        value,
        dimensions: smallvec![Some("m\"1"), None],
    }
}

fn event<'a>(raw: &'a str, periods: &'a [BillingPeriod]) -> EvidenceEvent<'a> {
    EvidenceEvent {
        seq: Seq(7),
        tenant: "t",
        received_at: at(20),
        counted_at: at(10),
        event: EventRecord {
            key: EventKey(1),
            fingerprint: Fingerprint(2),
            timestamp: at(10),
            customer: "c",
            raw: raw.as_bytes(),
            feeds: smallvec![feed(0, Value::Quantity(Quantity::parse("1.50").unwrap())), feed(1, Value::Member(0xab))],
        },
        periods,
        backfill: None,
    }
}

#[test]
fn one_event_a_customers_events_or_all_are_asked_for() {
    let span = |from, to| Span { from, to };
    for (pairs, which) in [
        (&[][..], Which::Logged { span: span(None, None), after: Seq::ZERO }),
        (
            &[("from", "1000"), ("cursor", &encode_log(Seq(9)))],
            Which::Logged { span: span(Some(at(1)), None), after: Seq(9) },
        ),
        (
            &[("customer", "c"), ("to", "2000")],
            Which::OfCustomer { customer: "c".into(), span: span(None, Some(at(2))), after: None },
        ),
        (
            &[("customer", "c"), ("cursor", &encode_time(at(-5), Seq(9)))],
            Which::OfCustomer { customer: "c".into(), span: span(None, None), after: Some((at(-5), Seq(9))) },
        ),
        (&[("id", "e")], Which::Named { usage_event_id: "e".into(), source: String::new() }),
        (&[("id", "e"), ("source", "s")], Which::Named { usage_event_id: "e".into(), source: "s".into() }),
    ] {
        assert_eq!(asked(pairs).unwrap(), Asked { which, meter: None, limit: 1_000 }, "{pairs:?}");
    }
    let more = asked(&[("id", "e"), ("meter", "weekly"), ("limit", "10000")]).unwrap();
    assert_eq!((more.meter, more.limit), (Some(MeterId(1)), 10_000));
}

#[test]
fn a_parameter_that_cannot_be_is_named() {
    let (by_time, by_log) = (encode_time(at(1), Seq(1)), encode_log(Seq(1)));
    let long = "x".repeat(257);
    for (pairs, name) in [
        (&[("customer", "")][..], "customer"),
        (&[("customer", &long)], "customer"),
        (&[("id", "")], "id"),
        (&[("id", &long)], "id"),
        (&[("id", "e"), ("source", &long)], "source"),
        (&[("source", "s")], "source"),
        (&[("source", "s"), ("customer", "c")], "source"),
        (&[("id", "e"), ("customer", "c")], "customer"),
        (&[("id", "e"), ("from", "1")], "from"),
        (&[("id", "e"), ("to", "1")], "to"),
        (&[("id", "e"), ("cursor", &by_log)], "cursor"),
        (&[("meter", "nope")], "meter"),
        (&[("from", "soon")], "from"),
        (&[("from", "2"), ("to", "2")], "to"),
        (&[("limit", "0")], "limit"),
        (&[("limit", "10001")], "limit"),
        (&[("cursor", &by_time)], "cursor"),
        (&[("customer", "c"), ("cursor", &by_log)], "cursor"),
        (&[("cursor", "zz")], "cursor"),
        (&[("cursor", "")], "cursor"),
        (&[("cursor", &by_log[..16])], "cursor"),
        (&[("customer", "c"), ("cursor", &by_time[..32])], "cursor"),
        (&[("state", "voided")], "state"),
        (&[("id", "e"), ("id", "f")], "id"),
    ] {
        match asked(pairs) {
            Err(Problem::Parameter { name: found, .. }) => assert_eq!(found, name, "{pairs:?}"),
            other => panic!("{pairs:?}: {other:?}"),
        }
    }
}

#[test]
fn an_event_is_shown_as_it_was_sent_with_what_it_was_counted_in() {
    let raw = "{\"usage_event_id\":\"e\\u00e9\", \"quantity\": 1.50,\n \"source\":\"s\"}";
    let periods = january();
    let mut shown = EventShown::new(&event(raw, &periods), &test_meters(), Hasher::new(&[1; 16]));
    let window = |meter: &str, value: Option<&str>, member: Option<&str>| {
        json!({
            "meter": meter, "window_start": "1970-01-01T00:00:00Z", "window_end": "1970-01-01T01:00:00Z",
            "period": "1970-01", "value": value, "member": member, "dimensions": {"model": "m\"1", "region": null},
            "late": false,
        })
    };
    let member = "000000000000000000000000000000ab";
    let mut expected = json!({
        "seq": 7, "usage_event_id": "eé", "source": "s", "customer": "c", "timestamp": "1970-01-01T00:00:10Z",
        "received_at": "1970-01-01T00:00:20Z", "outcome": "accepted", "backfill": null, "reverted_at": null,
        "voided": null, "windows": [window("monthly", Some("1.5"), None), window("weekly", None, Some(member))],
        "event": {"usage_event_id": "eé", "quantity": 1.50, "source": "s"},
    });
    let text = serde_json::to_string(&shown).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), expected);
    assert!(text.ends_with(&format!("\"event\":{raw}}}")), "byte for byte: {text}");
    let voided = Voided { seq: Seq(9), at: at(30), adjusted: 1, reason: "test".into() };
    shown.stands(Standing { voided: Some(voided), backfill: Some("b".into()), reverted_at: Some(at(40)) });
    expected["voided"] = json!({"seq": 9, "at": "1970-01-01T00:00:30Z", "reason": "test"});
    (expected["backfill"], expected["reverted_at"]) = ("b".into(), "1970-01-01T00:00:40Z".into());
    assert_eq!(serde_json::to_value(&shown).unwrap(), expected);
}

#[test]
fn an_events_name_is_read_from_what_was_sent() {
    for (raw, id, source) in [
        (r#"{"usage_event_id":"a"}"#, Some("a"), None),
        (r#"{"dimensions":{"id":"x"},"usage_event_id":"a","source":""}"#, Some("a"), Some("")),
        (r#"{"id":"b","usage_event_id":5,"source":"/s","data":{"n":1e999}}"#, Some("b"), Some("/s")),
        (r#"{"customer":"c","meter":"m"}"#, None, None),
        ("nonsense", None, None),
    ] {
        let expected = Named { usage_event_id: id.map(str::to_owned), source: source.map(str::to_owned) };
        assert_eq!(Named::of(raw.as_bytes()), expected, "{raw}");
    }
}

#[test]
fn a_page_ends_with_its_entries_or_its_bytes() {
    let (periods, meters) = (january(), test_meters());
    let small = event("{}", &periods);
    let mut page = Collector::new((&meters, Hasher::new(&[1; 16])), 2);
    let flows = [0; 3].map(|_| page.take(&small));
    assert_eq!(flows, [ControlFlow::Continue(()), ControlFlow::Continue(()), ControlFlow::Break(())]);
    assert_eq!((page.rows.len(), page.is_full, page.last), (2, true, Some((at(10), Seq(7)))));
    let long = format!("\"{}\"", "x".repeat(PAGE_BYTES_MAX));
    let long = event(&long, &periods);
    let mut page = Collector::new((&meters, Hasher::new(&[1; 16])), 10);
    let flows = [0; 2].map(|_| page.take(&long));
    assert_eq!(flows, [ControlFlow::Continue(()), ControlFlow::Break(())], "one event fits, however long it is");
    assert_eq!((page.rows.len(), page.is_full), (1, true));
}
