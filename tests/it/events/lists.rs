//! Listing events: by customer and time, in the order of the log, by id.

use std::time::Instant;

use meterd::cli::client::percent_encode;
use serde_json::{Value, json};

use super::{METERS, ids};
use crate::billing::scene::{NOW, Scene, event};

const TEN: &str = "2026-11-22T10:00:00Z";

#[test]
fn an_event_is_listed_as_it_was_sent_with_what_it_was_counted_in() {
    let scene = Scene::start(NOW, METERS);
    let sent = "{ \"usage_event_id\":\"e1\",\"customer\":\"c 1\", \"meter\":\"tokens\",\"quantity\":1.50,\n\
                \"timestamp\":\"2026-11-22T10:00:00.5Z\",\"dimensions\":{\"model\":\"gpt\"},\"note\":\"\\u00e9\"}";
    let headers = [("content-type", "application/json")];
    assert_eq!(scene.call("POST", "/v1/events", &headers, sent.to_owned()).status, 200);
    let page = scene.get("/v1/events?customer=c%201");
    let listed = &page.json["data"][0];
    let expected = json!({
        "seq": listed["seq"], "usage_event_id": "e1", "source": "", "customer": "c 1",
        "timestamp": "2026-11-22T10:00:00.5Z", "received_at": NOW, "outcome": "accepted", "backfill": null,
        "reverted_at": null, "voided": null,
        "windows": [{
            "meter": "tokens", "window_start": TEN, "window_end": "2026-11-22T11:00:00Z", "period": "2026-11",
            "value": "1.5", "member": null, "dimensions": {"model": "gpt"}, "late": false,
        }],
        "event": serde_json::from_str::<Value>(sent).unwrap(),
    });
    assert_eq!(*listed, expected);
    assert!(listed["seq"].as_u64().is_some_and(|seq| seq > 0));
    assert!(page.text.contains(sent), "byte for byte: {}", page.text);
    assert_eq!((&page.json["next_cursor"], &page.json["evidence_from"]), (&Value::Null, &Value::Null));
    assert_eq!(scene.rows("/v1/events?id=e1"), [expected]);
}

#[test]
fn an_event_of_several_meters_is_listed_once_with_a_window_of_each() {
    let scene = Scene::start(NOW, METERS);
    let call = json!({
        "specversion": "1.0", "id": "ce", "source": "/gw", "type": "call", "subject": "c", "time": TEN,
        "data": {"user": "u1"},
    });
    assert_eq!(scene.send_as("application/cloudevents+json", &call)["accepted"], 1);
    let row = &scene.rows("/v1/events?customer=c")[0];
    assert_eq!((&row["usage_event_id"], &row["source"]), (&json!("ce"), &json!("/gw")));
    let windows = row["windows"].as_array().unwrap();
    let [calls, callers] = ["calls", "callers"].map(|meter| windows.iter().find(|w| w["meter"] == meter).unwrap());
    assert_eq!((windows.len(), &calls["value"], &calls["member"]), (2, &json!("1"), &Value::Null));
    let member = callers["member"].as_str().unwrap();
    assert!(callers["value"].is_null() && member.len() == 32 && member.bytes().all(|b| b.is_ascii_hexdigit()));
    for (path, count) in [
        ("customer=c&meter=callers", 1),
        ("customer=c&meter=tokens", 0),
        ("id=ce&source=%2Fgw", 1),
        ("id=ce&source=%2Fgw&meter=calls", 1),
        ("id=ce&source=%2Fgw&meter=peak", 0),
        ("id=ce", 0),
        ("id=nope", 0),
        ("customer=other", 0),
    ] {
        assert_eq!(scene.rows(&format!("/v1/events?{path}")).len(), count, "{path}");
    }
}

#[test]
fn a_customers_events_are_in_the_order_of_time_whatever_the_pages() {
    let scene = Scene::start(NOW, METERS);
    // Sent in another order than that of their times, some of the same time, with another customer's between them.
    let minute = |n: usize| format!("2026-11-22T10:{:02}:00Z", n * 7 % 10);
    let events = (0..25).map(|n| event(&format!("e{n:02}"), ["c", "d"][n % 5 / 4], "tokens", n, &minute(n)));
    scene.accept(events.collect(), 0);
    let whole = scene.rows("/v1/events?customer=c");
    let place = |row: &Value| (row["timestamp"].as_str().unwrap().to_owned(), row["seq"].as_u64().unwrap());
    assert_eq!(whole.len(), 20);
    assert!(whole.is_sorted_by_key(place));
    for limit in [1, 3, 19, 20, 21] {
        assert_eq!(scene.pages(&format!("/v1/events?customer=c&limit={limit}")), whole, "{limit}");
    }
    let span = "customer=c&from=2026-11-22T10:02:00Z&to=2026-11-22T10:05:00Z";
    let within = scene.pages(&format!("/v1/events?{span}&limit=2"));
    let expected: Vec<&Value> =
        whole.iter().filter(|row| (2..5).any(|m| row["timestamp"] == format!("2026-11-22T10:0{m}:00Z"))).collect();
    assert!(!expected.is_empty());
    assert_eq!(within.iter().collect::<Vec<_>>(), expected, "from is inclusive, to exclusive");
}

#[test]
fn without_a_customer_events_come_in_the_order_of_the_log() {
    let scene = Scene::start(NOW, METERS);
    for n in 0..6 {
        let meter = ["tokens", "peak"][n % 2];
        let events = (0..5).map(|k| event(&format!("e{n}{k}"), &format!("c{k}"), meter, 1, TEN));
        scene.accept(events.collect(), 0);
    }
    let sent: Vec<String> = (0..6).flat_map(|n| (0..5).map(move |k| format!("e{n}{k}"))).collect();
    assert_eq!(ids(&scene.rows("/v1/events")), sent);
    for limit in [1, 4, 30] {
        let rows = scene.pages(&format!("/v1/events?limit={limit}"));
        assert_eq!(ids(&rows), sent, "{limit}");
    }
    let peaks: Vec<&String> = sent.iter().filter(|id| ["1", "3", "5"].contains(&&id[1..2])).collect();
    assert_eq!(ids(&scene.pages("/v1/events?meter=peak&limit=2")), peaks);
    assert_eq!(scene.rows(&format!("/v1/events?to={}", percent_encode(TEN))).len(), 0);
    assert_eq!(scene.rows(&format!("/v1/events?from={}", percent_encode(TEN))).len(), 30);
}

#[test]
fn a_page_of_long_events_is_short_and_goes_on() {
    let scene = Scene::start(NOW, METERS);
    let note = "x".repeat(1_000_000);
    for n in 0..10 {
        let mut long = event(&format!("e{n}"), "c", "tokens", 1, TEN);
        long["note"] = note.as_str().into();
        scene.accept(vec![long], 0);
    }
    for path in ["/v1/events?customer=c&limit=10000", "/v1/events?limit=10000"] {
        let first = scene.json(path);
        let count = first["data"].as_array().unwrap().len();
        assert!((4..=5).contains(&count) && first["next_cursor"].is_string(), "{count} events");
        assert_eq!(ids(&scene.pages(path)), (0..10).map(|n| format!("e{n}")).collect::<Vec<_>>(), "{path}");
    }
}

#[test]
fn a_thousand_events_are_listed_at_once() {
    let scene = Scene::start(NOW, METERS);
    for n in 0..10 {
        let events = (0..1_000).map(|k| event(&format!("e{n}.{k}"), &format!("c{}", k % 10), "tokens", 1, TEN));
        scene.accept(events.collect(), 0);
    }
    let began = Instant::now();
    assert_eq!(scene.rows("/v1/events?customer=c3").len(), 1_000);
    let took = began.elapsed();
    println!("1,000 of 10,000 events listed in {took:?}");
    // Many times what it takes where nobody else computes.
    assert!(took.as_millis() < 1_000, "{took:?}");
}
