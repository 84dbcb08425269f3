//! Taking one event back, and counting another one instead.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::{METERS, assert_problem, ids, post, used, void};
use crate::billing::scene::{HOUR, Http, NOW, Scene, event};

const TEN: &str = "2026-11-22T10:00:00Z";

fn amend(http: &Http, id: &str, replacement: &Value) -> crate::billing::scene::Reply {
    let body = json!({"usage_event_id": id, "reason": "wrong", "replacement": replacement});
    post(http, "/v1/events:void", &body)
}

#[test]
fn an_event_is_taken_back_once_however_often_it_is_asked_for() {
    let scene = Scene::start(NOW, METERS);
    scene.accept(vec![event("a", "c", "tokens", 5, TEN), event("b", "c", "tokens", 7, TEN)], 0);
    let before = scene.rows("/v1/events?id=a");
    let first = void(&scene, "a", "test traffic");
    assert_eq!(first.status, 200, "{}", first.text);
    let expected = json!({
        "usage_event_id": "a", "source": "", "seq": first.json["seq"], "event_seq": before[0]["seq"],
        "voided_at": NOW, "reason": "test traffic", "adjusted": 0,
    });
    assert_eq!(first.json, expected);
    assert_eq!(used(&scene, "c", "tokens"), ["7"]);
    let again = void(&scene, "a", "another reason");
    let mut repeated = expected.clone();
    repeated["already_voided"] = true.into();
    assert_eq!((again.status, &again.json), (200, &repeated));
    assert_eq!(used(&scene, "c", "tokens"), ["7"]);
    let mut listed = before[0].clone();
    listed["voided"] = json!({"seq": first.json["seq"], "at": NOW, "reason": "test traffic"});
    assert_eq!(scene.rows("/v1/events?id=a"), [listed.clone()]);
    assert_eq!(scene.rows("/v1/events?customer=c")[0], listed);
    // By then the store has it, and memory no more.
    scene.advance(HOUR);
    scene.advance(HOUR);
    assert_eq!(scene.rows("/v1/events?customer=c")[0], listed);
    let trail = scene.rows("/v1/audit?action=event.void");
    let found = (trail.len(), &trail[0]["target"], &trail[0]["by"], &trail[0]["after"]["reason"]);
    assert_eq!(found, (1, &json!("c/a"), &Value::Null, &json!("test traffic")), "{trail:?}");
}

#[test]
fn a_retry_of_what_was_taken_back_does_not_count_again() {
    let scene = Scene::start(NOW, METERS);
    let sent = event("a", "c", "tokens", 5, TEN);
    scene.accept(vec![sent.clone()], 0);
    assert_eq!(void(&scene, "a", "r").status, 200);
    let seq = scene.rows("/v1/events?id=a")[0]["seq"].clone();
    let answer = scene.send(&json!([sent]));
    let result = &answer["events"][0];
    assert_eq!((&answer["duplicate"], &answer["accepted"]), (&json!(1), &json!(0)), "{answer}");
    assert_eq!((&result["outcome"], &result["code"], &result["seq"]), (&json!("duplicate"), &json!("voided"), &seq));
    assert!(used(&scene, "c", "tokens").iter().all(|value| value == "0"));
}

#[test]
fn a_final_window_is_adjusted() {
    let scene = Scene::start(NOW, METERS);
    scene.accept(vec![event("a", "c", "tokens", 5, TEN), event("b", "c", "tokens", 7, TEN)], 0);
    scene.advance(HOUR);
    scene.advance(HOUR);
    scene.wait_until("the window is final", |http| {
        http.rows("/v1/meters/tokens/usage?customer=c")[0]["state"] == "finalized"
    });
    let voided = void(&scene, "a", "r");
    assert_eq!((voided.status, &voided.json["adjusted"]), (200, &json!(1)), "{}", voided.text);
    let again = void(&scene, "a", "r");
    assert_eq!((&again.json["adjusted"], &again.json["seq"]), (&json!(1), &voided.json["seq"]));
    let adjustments = scene.rows("/v1/adjustments?since=0");
    assert_eq!((adjustments.len(), &adjustments[0]["delta"]), (1, &json!("-5")), "{adjustments:?}");
    let row = &scene.rows("/v1/meters/tokens/usage?customer=c")[0];
    assert_eq!((&row["value"], &row["revision"]), (&json!("7"), &json!(2)), "{row}");
}

#[test]
fn what_cannot_be_subtracted_is_computed_from_the_events_that_are_left() {
    let scene = Scene::start(NOW, METERS);
    let peaks = [("p1", 3), ("p2", 9), ("p3", 4)];
    scene.accept(peaks.map(|(id, peak)| event(id, "c", "peak", peak, TEN)).into(), 0);
    for (id, left) in [("p2", json!("4")), ("p1", json!("4"))] {
        assert_eq!(void(&scene, id, "r").status, 200);
        assert_eq!(used(&scene, "c", "peak"), [left]);
    }
}

#[test]
fn an_id_that_is_not_known_cannot_be_taken_back() {
    let scene = Scene::start(NOW, METERS);
    let mut sent = event("a", "c", "tokens", 5, TEN);
    sent["source"] = "s1".into();
    scene.accept(vec![sent], 0);
    let unknown = void(&scene, "nope", "r");
    assert_problem(&unknown, 404, "unknown_event");
    assert!(unknown.json["detail"].as_str().unwrap().contains("dedupe.retention"), "{}", unknown.text);
    assert_problem(&void(&scene, "a", "r"), 404, "unknown_event");
    let body = json!({"usage_event_id": "a", "source": "s1", "reason": "r"});
    let voided = post(&scene, "/v1/events:void", &body);
    assert_eq!((voided.status, &voided.json["source"]), (200, &json!("s1")));
}

#[test]
fn an_amend_counts_the_new_event_with_the_step_that_takes_the_old_one_back() {
    let scene = Scene::start(NOW, METERS);
    scene.accept(vec![event("a", "c", "tokens", 500, TEN)], 0);
    let right = event("a2", "c", "tokens", 50, TEN);
    let first = amend(&scene, "a", &right);
    assert_eq!(first.status, 200, "{}", first.text);
    let replacement = &scene.rows("/v1/events?id=a2")[0];
    assert_eq!(first.json["replacement"], json!({"outcome": "accepted", "seq": replacement["seq"]}));
    assert_eq!(used(&scene, "c", "tokens"), ["50"]);
    let mut expected = first.json.clone();
    expected["already_voided"] = true.into();
    expected["replacement"]["outcome"] = "duplicate".into();
    let again = amend(&scene, "a", &right);
    assert_eq!((again.status, &again.json), (200, &expected));
    assert_problem(&amend(&scene, "a", &event("a2", "c", "tokens", 51, TEN)), 409, "id_conflict");
    assert_problem(&amend(&scene, "a", &event("a3", "c", "tokens", 50, TEN)), 409, "already_voided");
    assert_eq!(used(&scene, "c", "tokens"), ["50"]);
    assert_eq!(ids(&scene.rows("/v1/events")), ["a", "a2"]);
}

#[test]
fn a_replacement_that_is_not_taken_leaves_the_event_as_it_is() {
    let scene = Scene::start(NOW, METERS);
    scene.accept(vec![event("a", "c", "tokens", 5, TEN), event("b", "c", "tokens", 7, TEN)], 0);
    let refuse = |replacement: Value, status, code: &str, pointer: &str| {
        let reply = amend(&scene, "a", &replacement);
        assert_problem(&reply, status, code);
        assert_eq!(reply.json["pointer"], pointer, "{}", reply.text);
    };
    refuse(event("b", "c", "tokens", 7, TEN), 409, "duplicate_replacement", "/replacement");
    refuse(event("b", "c", "tokens", 8, TEN), 409, "id_conflict", "/replacement");
    refuse(event("a", "c", "tokens", 5, TEN), 409, "duplicate_replacement", "/replacement");
    refuse(event("new", "c", "tokens", -1, TEN), 400, "invalid_quantity", "/replacement/quantity");
    refuse(event("new", "c", "nope", 1, TEN), 400, "unknown_meter", "/replacement/meter");
    refuse(event("new", "c", "tokens", 1, "now"), 400, "invalid_timestamp", "/replacement/timestamp");
    refuse(event("new", "c", "tokens", 1, "2027-01-01T00:00:00Z"), 400, "too_early", "/replacement");
    assert_eq!(used(&scene, "c", "tokens"), ["12"]);
    assert_eq!(scene.rows("/v1/events?id=a")[0]["voided"], Value::Null);
    assert_eq!(scene.rows("/v1/events?id=new").len(), 0);
}

#[test]
fn what_is_taken_back_makes_room_under_a_hard_cap() {
    let cap = "[[cap]]\nmeter = \"tokens\"\nhard = \"10\"\non_hard_cap = \"reject\"\n";
    let scene = Scene::start(NOW, &format!("{METERS}{cap}"));
    scene.accept(vec![event("a", "c", "tokens", 8, TEN)], 0);
    let more = json!([event("b", "c", "tokens", 5, TEN)]);
    assert_eq!(scene.send(&more)["capped"], 1);
    assert_eq!(void(&scene, "a", "r").status, 200);
    assert_eq!(scene.send(&more)["accepted"], 1);
    assert_eq!(used(&scene, "c", "tokens"), ["5"]);
}

#[test]
fn whoever_asks_at_the_same_time_takes_it_back_once() {
    let scene = Scene::start(NOW, METERS);
    let events = |kind: &'static str| (0..20).map(move |n| event(&format!("{kind}{n}"), "c", "peak", n, TEN));
    scene.accept(events("v").collect(), 0);
    let first = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let voids = || {
            for n in 0..20 {
                // The greatest one first, so that it has to be computed what remains.
                let reply = void(&scene, &format!("v{}", 19 - n), "r");
                assert_eq!(reply.status, 200, "{}", reply.text);
                first.fetch_add(usize::from(reply.json["already_voided"].is_null()), Ordering::Relaxed);
            }
        };
        (0..4).for_each(|_| drop(scope.spawn(voids)));
        events("k").for_each(|kept| scene.accept(vec![kept], 0));
    });
    assert_eq!(first.into_inner(), 20);
    let row = &scene.rows("/v1/meters/peak/usage?customer=c")[0];
    assert_eq!((&row["value"], &row["event_count"]), (&json!("19"), &json!(20)), "{row}");
    assert_eq!(scene.rows("/v1/audit?action=event.void").len(), 20);
}
