//! Bad input: each is a problem with a code that says where the fault is, and changes nothing that is stored.

use serde_json::{Value, json};

use super::scene::{self, Scene, alerts, caps_path, consume, event, expect, post, put_caps, refused};
use crate::billing::scene::Reply;

const CONFIG: &str = "
[[meter]]
slug = \"calls\"
aggregation = \"sum\"
[[meter]]
slug = \"longest\"
aggregation = \"max\"
[[cap]]
meter = \"calls\"
plan = \"pro\"
hard = \"1000\"
";

/// A scene with caps, usage, an alert and a reservation, and all that can be read of them.
struct Room {
    scene: Scene,
    before: Vec<Value>,
}

impl Room {
    fn new() -> Self {
        let scene = Scene::start(CONFIG);
        put_caps(&scene, "c", "calls", &json!({"hard": 100, "soft": ["50%"]}));
        assert_eq!(scene.put("/v1/customers/c", r#"{"plan":"pro"}"#).status, 200);
        expect(&scene, &event("e", "c", "calls", 60), "accepted");
        let held = json!({"id": "held", "customer": "c", "meter": "calls", "quantity": 10, "expires_in": "1h"});
        assert_eq!(post(&scene, "/v1/reservations", &held).status, 201);
        let before = Self::look(&scene);
        Self { scene, before }
    }

    fn look(scene: &Scene) -> Vec<Value> {
        let paths = [
            "/v1/customers/c/caps",
            "/v1/customers/c",
            "/v1/customers/c/usage",
            "/v1/customers/other/caps",
            "/v1/reservations",
            "/v1/alerts",
        ];
        let mut seen = paths.iter().map(|path| scene.json(path)).collect::<Vec<_>>();
        // It tells the time.
        seen.iter_mut().filter(|value| value["as_of"].is_string()).for_each(|value| value["as_of"] = Value::Null);
        seen
    }

    fn same(&self, what: impl std::fmt::Display) {
        assert_eq!(Self::look(&self.scene), self.before, "{what} changed something");
    }

    /// A request whose body must be refused for this member.
    fn refuses(&self, method: &str, path: &str, body: &Value, code: &str, pointer: &str) {
        let reply = self.scene.call(method, path, &[("content-type", "application/json")], body.to_string());
        refused(&reply, 400, code, format_args!("{path} {body}"));
        assert_eq!(reply.json["pointer"], pointer, "{body}: {}", reply.text);
        self.same(body);
    }
}

#[test]
fn caps_that_cannot_be_are_refused_with_code_and_pointer_and_what_is_stored_stays() {
    let mut room = Room::new();
    let wrong = [
        (json!({"hard": -5}), "invalid_quantity", "/hard"),
        (json!({"hard": "-0.5"}), "invalid_quantity", "/hard"),
        (json!({"hard": "ten"}), "invalid_quantity", "/hard"),
        (json!({"hard": "0.0000000000001"}), "invalid_quantity", "/hard"),
        (json!({"hard": 10, "soft": ["-5"]}), "invalid_quantity", "/soft/0"),
        (json!({"hard": 10, "soft": [1, "x%"]}), "invalid_quantity", "/soft/1"),
        (json!({"hard": 10, "grace": "-1%"}), "invalid_quantity", "/grace"),
        (json!({"hard": 10, "soft": [5, "11"]}), "invalid_field", "/soft/1"),
        (json!({"hard": 10, "soft": ["101%"]}), "invalid_field", "/soft/0"),
        (json!({"soft": ["80%"]}), "invalid_field", "/soft/0"),
        (json!({"hard": 10, "sotf": [1]}), "invalid_field", "/sotf"),
        (json!({"hard": 10, "on_hard_cap": "explode"}), "invalid_field", "/on_hard_cap"),
        (json!({"hard": 10, "period": "year"}), "invalid_field", "/period"),
        (json!({"hard": 10, "enforce": "no"}), "invalid_field", "/enforce"),
        (json!([{"hard": 10}, {"id": "b", "hard": 10, "soft": [20]}]), "invalid_field", "/1/soft/0"),
        (json!([{"id": "a", "hard": 10}, {"id": "b", "hard": -1}]), "invalid_quantity", "/1/hard"),
    ];
    let count = wrong.len();
    for (body, code, pointer) in &wrong {
        room.refuses("PUT", &caps_path("c", "calls"), body, code, pointer);
    }
    let twice = room.scene.put(&caps_path("c", "calls"), r#"[{"hard":10},{"hard":20}]"#);
    refused(&twice, 400, "invalid_field", "two caps with one id");
    assert!(twice.json["pointer"].as_str().is_some_and(|pointer| pointer.starts_with("/1")), "{}", twice.text);
    let longest = room.scene.put(&caps_path("c", "longest"), r#"{"hard":10}"#);
    refused(&longest, 400, "invalid_field", "a meter of greatest values");
    assert!(longest.json["pointer"] == "" && longest.text.contains("sum"), "it says which can be: {}", longest.text);
    refused(&room.scene.put(&caps_path("c", "nothing"), r#"{"hard":10}"#), 404, "", "an unknown meter");
    refused(&room.scene.put(&caps_path("c", "calls"), "{"), 400, "", "no JSON");
    room.refuses("PUT", "/v1/customers/other", &json!({"plan": "prp"}), "unknown_plan", "/plan");
    room.same("all of it");
    room.scene.kill();
    room.same("a SIGKILL after all of it");
    expect(&room.scene, &event("rest", "c", "calls", 30), "accepted");
    expect(&room.scene, &event("more", "c", "calls", 1), "capped");
    println!("{count} wrong caps, and 5 wrong paths and plans, changed nothing");
    room.scene.verify();
}

#[test]
fn checks_that_cannot_be_are_refused_and_change_nothing() {
    let room = Room::new();
    let check = |body: Value, pointer: &str| {
        let reply = post(&room.scene, "/v1/check", &body);
        refused(&reply, 400, "", &body);
        assert_eq!(reply.json["pointer"], pointer, "{body}: {}", reply.text);
        room.same(body);
    };
    let good = json!({"customer": "c", "meter": "calls"});
    check(json!({"meter": "calls"}), "/customer");
    check(json!({"customer": "c"}), "/meter");
    check(json!({"customer": "c", "meter": "calls", "quantity": "many"}), "/quantity");
    check(json!({"customer": "c", "meter": "calls", "quantitty": 1}), "/quantitty");
    check(json!({"customer": "c", "meter": "calls", "mode": "devour"}), "/mode");
    check(json!({"customer": "c", "meter": "calls", "mode": "consume"}), "/usage_event_id");
    check(json!([good, good, good, {"meter": "calls"}]), "/3/customer");
    let unknown = post(&room.scene, "/v1/check", &json!({"customer": "c", "meter": "nothing"}));
    assert!([400, 404].contains(&unknown.status), "{}", unknown.text);
    let mut old = event("old", "c", "calls", 1);
    old["timestamp"] = "2001-01-01T00:00:00Z".into();
    refused(&consume(&room.scene, &old), 400, "too_late", "consuming of long ago");
    room.same("all of it");
    println!("9 wrong checks changed nothing");
    room.scene.verify();
}

#[test]
fn reservations_that_cannot_be_are_refused_and_change_nothing() {
    let room = Room::new();
    let reserve = |member: &str, value: Value| {
        let mut body = json!({"id": "r", "customer": "c", "meter": "calls", "quantity": 1, "expires_in": 60});
        body[member] = value;
        let reply = post(&room.scene, "/v1/reservations", &body);
        refused(&reply, 400, "", &body);
        assert_eq!(reply.json["pointer"], format!("/{member}"), "{body}: {}", reply.text);
        room.same(body);
    };
    for (member, value) in [
        ("quantity", json!(0)),
        ("quantity", json!(-1)),
        ("quantity", json!("much")),
        ("id", json!("")),
        ("customer", Value::Null),
        ("expires_in", json!(0)),
        ("expires_in", json!("8d")),
        ("expires_in", json!("soon")),
        ("sauce", json!("typo")),
    ] {
        reserve(member, value);
    }
    let of = |meter: &str| json!({"id": "r", "customer": "c", "meter": meter, "quantity": 1});
    let unknown = post(&room.scene, "/v1/reservations", &of("nothing"));
    assert!([400, 404].contains(&unknown.status), "{}", unknown.text);
    let longest = post(&room.scene, "/v1/reservations", &of("longest"));
    assert_eq!(longest.status, 400, "of a meter that cannot be capped: {}", longest.text);
    let commit = |id: &str, body: Value| post(&room.scene, &format!("/v1/reservations/{id}:commit"), &body);
    refused(&commit("nobody", json!({"quantity": 1, "usage_event_id": "x"})), 404, "unknown_reservation", "a commit");
    refused(&post(&room.scene, "/v1/reservations/nobody:release", &json!({})), 404, "unknown_reservation", "a release");
    refused(&room.scene.get("/v1/reservations/nobody"), 404, "unknown_reservation", "a look");
    let members: [(Reply, &str); 3] = [
        (commit("held", json!({"quantity": 1})), "/usage_event_id"),
        (commit("held", json!({"usage_event_id": "x", "quantity": "1x"})), "/quantity"),
        (commit("held", json!({"usage_event_id": "x", "quantity": 1, "customer": "d"})), "/customer"),
    ];
    for (reply, pointer) in &members {
        refused(reply, 400, "", pointer);
        assert_eq!(reply.json["pointer"], *pointer, "{}", reply.text);
    }
    room.same("all of it");
    assert_eq!(alerts(&room.scene, "customer=c").len(), 1);
    for query in ["state=open", "limit=0", "limit=x", "cursor=nonsense", "colour=red"] {
        let reply = room.scene.get(&format!("/v1/alerts?{query}"));
        refused(&reply, 400, "", query);
    }
    println!("11 wrong reservations, 6 wrong commits and 5 wrong queries changed nothing");
    room.scene.verify();
}

#[test]
fn a_config_with_caps_that_cannot_be_is_refused() {
    let with = |more: &str| {
        let home = crate::harness::Home::new(&format!("{}{}{more}", crate::harness::SMALL, scene::meter("calls", "")));
        home.refused()
    };
    for (wrong, word) in [
        ("[[cap]]\nmeter = \"nothing\"\nhard = \"1\"\n", "nothing"),
        ("[[cap]]\nmeter = \"calls\"\nhard = \"-1\"\n", "hard"),
        ("[[cap]]\nmeter = \"calls\"\nsoft = [\"50%\"]\n", "soft"),
        ("[[cap]]\nmeter = \"calls\"\nhard = \"10\"\nsoft = [\"11\"]\n", "soft"),
        ("[[cap]]\nmeter = \"calls\"\nhrad = \"10\"\n", "hrad"),
        ("[[cap]]\nmeter = \"calls\"\nhard = \"10\"\n[[cap]]\nmeter = \"calls\"\nhard = \"20\"\n", "cap"),
    ] {
        let (code, said) = with(wrong);
        assert!(code.is_some_and(|code| code != 0) && said.contains(word), "{wrong}: {code:?} {said}");
    }
}
