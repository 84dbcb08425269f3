//! Bad input: each is a problem that says what is at fault, and changes nothing.

use serde_json::{Value, json};

use super::{METERS, post};
use crate::billing::scene::{NOW, Scene, event};

#[test]
fn a_parameter_that_cannot_be_is_named_and_nothing_is_done() {
    let scene = Scene::start(NOW, METERS);
    let long = "x".repeat(257);
    for (path, parameter) in [
        ("/v1/events?customer=", "customer"),
        (&format!("/v1/events?customer={long}"), "customer"),
        ("/v1/events?meter=nope", "meter"),
        ("/v1/events?from=soon", "from"),
        ("/v1/events?to=2026-13", "to"),
        ("/v1/events?customer=c&from=2&to=1", "to"),
        ("/v1/events?id=", "id"),
        ("/v1/events?id=a&customer=c", "customer"),
        ("/v1/events?id=a&from=1", "from"),
        ("/v1/events?id=a&to=1", "to"),
        ("/v1/events?id=a&cursor=00", "cursor"),
        ("/v1/events?source=s", "source"),
        (&format!("/v1/events?id=a&source={long}"), "source"),
        ("/v1/events?limit=0", "limit"),
        ("/v1/events?limit=10001", "limit"),
        ("/v1/events?cursor=nope", "cursor"),
        ("/v1/events?customer=c&cursor=02", "cursor"),
        ("/v1/events?voided=true", "voided"),
        ("/v1/backfills?limit=0", "limit"),
        ("/v1/backfills?cursor=x", "cursor"),
        ("/v1/backfills?state=open", "state"),
        ("/v1/backfills/b?x", "x"),
        ("/v1/audit?since=yesterday", "since"),
        ("/v1/audit?cursor=-1", "cursor"),
        ("/v1/audit?limit=1001", "limit"),
        ("/v1/audit?action=", "action"),
        ("/v1/audit?who=me", "who"),
    ] {
        let reply = scene.get(path);
        assert_eq!((reply.status, &reply.json["parameter"]), (400, &json!(parameter)), "{path}: {}", reply.text);
        assert_eq!(reply.headers["content-type"], "application/problem+json", "{path}");
    }
    let events = json!([event("a", "c", "tokens", 1, NOW)]);
    for name in ["", ".", "..", "a%20b", "a/b", "a:revert", "%C3%A9", &"x".repeat(129)] {
        let reply = post(&scene, &format!("/v1/events?backfill={name}"), &events);
        assert_eq!((reply.status, &reply.json["parameter"]), (400, &json!("backfill")), "{name}: {}", reply.text);
    }
    let reply = post(&scene, "/v1/events?backfill=a&results=some", &events);
    assert_eq!((reply.status, &reply.json["parameter"]), (400, &json!("results")));
    assert_eq!(post(&scene, "/v1/events:void?x=1", &json!({})).json["parameter"], "x");
    assert_eq!(post(&scene, "/v1/backfills/b:revert?x=1", &json!({})).json["parameter"], "x");
    assert_eq!(scene.rows("/v1/events"), [Value::Null; 0]);
    assert_eq!(scene.rows("/v1/backfills"), [Value::Null; 0]);
}

#[test]
fn a_member_that_cannot_be_is_pointed_at_with_its_code() {
    let scene = Scene::start(NOW, METERS);
    scene.accept(vec![event("a", "c", "tokens", 1, NOW)], 0);
    let long = "x".repeat(501);
    let void = "/v1/events:void";
    let revert = "/v1/backfills/b:revert";
    for (path, body, code, pointer) in [
        (void, json!({"reason": "r"}), "missing_field", "/usage_event_id"),
        (void, json!({"usage_event_id": 1, "reason": "r"}), "invalid_field", "/usage_event_id"),
        (void, json!({"usage_event_id": "a", "source": 1, "reason": "r"}), "invalid_field", "/source"),
        (void, json!({"usage_event_id": "a"}), "missing_field", "/reason"),
        (void, json!({"usage_event_id": "a", "reason": ""}), "missing_field", "/reason"),
        (void, json!({"usage_event_id": "a", "reason": long}), "invalid_field", "/reason"),
        (void, json!({"usage_event_id": "a", "reason": "r", "id": "a"}), "invalid_field", "/id"),
        (void, json!({"usage_event_id": "a", "reason": "r", "replacement": []}), "invalid_field", "/replacement"),
        (
            void,
            json!({"usage_event_id": "a", "reason": "r", "replacement": {"customer": "c"}}),
            "missing_field",
            "/replacement/usage_event_id",
        ),
        (
            void,
            json!({"usage_event_id": "a", "reason": "r", "replacement": {"usage_event_id": "b", "meter": "tokens"}}),
            "missing_field",
            "/replacement/customer",
        ),
        (
            void,
            json!({
                "usage_event_id": "a", "reason": "r",
                "replacement": {"usage_event_id": "b", "customer": "c", "meter": "tokens", "quantty": 5},
            }),
            "invalid_field",
            "/replacement/quantty",
        ),
        (void, json!([]), "invalid_field", ""),
        (revert, json!({}), "missing_field", "/reason"),
        (revert, json!({"reason": 5}), "invalid_field", "/reason"),
        (revert, json!({"reason": "r", "force": true}), "invalid_field", "/force"),
    ] {
        let reply = post(&scene, path, &body);
        let found = (reply.status, &reply.json["code"], &reply.json["pointer"]);
        assert_eq!(found, (400, &json!(code), &json!(pointer)), "{body}: {}", reply.text);
    }
    let key = [("content-type", "application/json"), ("idempotency-key", "not a key")];
    let body = json!({"usage_event_id": "a", "reason": "r"}).to_string();
    assert_eq!(scene.call("POST", void, &key, body).status, 400);
    assert_eq!(scene.rows("/v1/events?id=a")[0]["voided"], Value::Null);
    assert_eq!(scene.rows("/v1/audit?action=event.void"), [Value::Null; 0]);
}

#[test]
fn what_is_not_there_or_no_action_is_told() {
    let scene = Scene::start(NOW, METERS);
    for (reply, status, code) in [
        (scene.get("/v1/backfills/nope"), 404, json!("unknown_backfill")),
        (post(&scene, "/v1/backfills/nope:revert", &json!({"reason": "r"})), 404, json!("unknown_backfill")),
        (post(&scene, "/v1/backfills/nope:drop", &json!({})), 404, Value::Null),
        (post(&scene, "/v1/backfills/nope", &json!({})), 405, Value::Null),
        (scene.get("/v1/events:void"), 405, Value::Null),
        (post(&scene, "/v1/audit", &json!({})), 405, Value::Null),
    ] {
        assert_eq!((reply.status, &reply.json["code"]), (status, &code), "{}", reply.text);
    }
}
