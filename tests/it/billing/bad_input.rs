//! Bad input: each is a problem that says what is at fault, and changes nothing.

use meterd::cli::client::percent_encode;
use serde_json::{Value, json};

use crate::billing::scene::{NOW, Reply, Scene, event};

const METERS: &str = "
[[meter]]
slug = \"tokens\"
aggregation = \"sum\"
dimensions = { model = \"$.model\" }
[[meter]]
slug = \"calls\"
aggregation = \"count\"
";

/// A scene with usage, an adjustment and settings, and all that can be read of them.
struct Room {
    scene: Scene,
    before: Vec<Value>,
}

impl Room {
    fn new() -> Self {
        let scene = Scene::start(NOW, METERS);
        let events = (0..6).map(|n| event(&format!("e{n}"), &format!("customer {n}"), "tokens", n, NOW));
        scene.accept(events.collect(), 0);
        scene.accept(vec![event("late", "customer 1", "calls", 1, "2026-11-21T00:00:00Z")], 1);
        assert_eq!(scene.put("/v1/customers/known", r#"{"anchor":15,"plan":"pro"}"#).status, 200);
        let before = Self::look(&scene);
        Self { scene, before }
    }

    fn look(scene: &Scene) -> Vec<Value> {
        let paths = [
            "/v1/periods/2026-11/totals",
            "/v1/adjustments",
            "/v1/meters/tokens/usage?group_by=customer",
            "/v1/meters/calls/usage?group_by=customer",
            "/v1/customers/known",
            "/v1/customers/known/usage",
            "/v1/clock",
        ];
        paths.iter().map(|path| scene.json(path)).collect()
    }

    /// A GET that must be refused for this parameter.
    fn refuses_parameter(&self, path: &str, status: u16, parameter: &str) {
        let reply = self.scene.get(path);
        assert_problem(&reply, status, path);
        assert_eq!(reply.json["parameter"], parameter, "{path}: {}", reply.text);
    }

    /// A body that must be refused for this member.
    fn refuses_member(&self, method: &str, path: &str, body: &str, pointer: &str) {
        let reply = self.scene.call(method, path, &[("content-type", "application/json")], body.to_owned());
        assert_problem(&reply, 400, body);
        assert_eq!(reply.json["pointer"], pointer, "{body}: {}", reply.text);
    }

    fn nothing_changed(&self) {
        assert_eq!(Self::look(&self.scene), self.before);
    }
}

/// Exactly the content type of problems, and a body that says the same as the status.
fn assert_problem(reply: &Reply, status: u16, what: &str) {
    assert_eq!(reply.status, status, "{what}: {}", reply.text);
    assert_eq!(reply.headers["content-type"], "application/problem+json", "{what}");
    assert_eq!(reply.headers.get_all("content-type").iter().count(), 1);
    let problem = &reply.json;
    assert_eq!((&problem["type"], &problem["status"]), (&json!("about:blank"), &json!(status)), "{what}");
    let is_said = |name: &str| problem[name].as_str().is_some_and(|text| !text.is_empty());
    assert!(is_said("title") && is_said("detail"), "{what}: {}", reply.text);
}

#[test]
fn what_is_no_period_is_named_and_one_that_no_meter_bills_by_is_not_there() {
    let room = Room::new();
    for period in [
        "2026-13",
        "2026-00",
        "2026-W60",
        "2026-W54",
        "2025-W53",
        "2026-W00",
        "nonsense",
        "2026-11-31",
        "2026-02-29",
        "2026",
        "2026-1",
        "2026-011",
        "2026-w48",
        "26-11",
        "0000-01",
        "-2026-11",
        "+2026-11",
        "2026-11-22T00:00:00Z",
        "Current",
        "PREVIOUS",
        "next",
        "%20",
        "2026-11%20",
        "2026%2F11",
        "2026-%D9%A1%D9%A1",
        "10000-01",
    ] {
        for query in ["", "?format=csv", "?format=ndjson&limit=1", "?meter=tokens"] {
            room.refuses_parameter(&format!("/v1/periods/{period}/totals{query}"), 400, "period");
        }
    }
    for period in ["2026-W48", "2026-11-22", "2026-W53"] {
        room.refuses_parameter(&format!("/v1/periods/{period}/totals"), 404, "period");
        room.refuses_parameter(&format!("/v1/periods/{period}/totals?meter=calls&format=csv"), 404, "period");
    }
    let raw = room.scene.get("/v1/periods/%FF/totals");
    assert_problem(&raw, 400, "bytes that are no text");
    room.nothing_changed();
}

#[test]
fn a_cursor_fits_the_query_that_it_came_from_and_nothing_else() {
    let room = Room::new();
    let cursor_of = |path: &str| room.scene.json(path)["next_cursor"].as_str().expect("a next page").to_owned();
    let cursor = cursor_of("/v1/periods/2026-11/totals?limit=2");
    let of_usage = cursor_of("/v1/meters/tokens/usage?group_by=customer&limit=2");
    let of_meters = cursor_of("/v1/meters?limit=1");
    for query in [
        "2026-11/totals?meter=tokens",
        "2026-11/totals?customer=customer%201",
        "2026-11/totals?state=open",
        "2026-10/totals?limit=2",
        "current/totals?limit=2",
        "previous/totals?",
    ] {
        room.refuses_parameter(&format!("/v1/periods/{query}&cursor={cursor}"), 400, "cursor");
    }
    for garbage in [
        "",
        "x",
        "zz",
        "00",
        "02",
        "\0",
        "0",
        "null",
        "{}",
        "1.1.0",
        "é",
        &of_usage,
        &of_meters,
        &cursor.repeat(2)[1..],
        &"02".repeat(9),
        &"f".repeat(4_000),
    ] {
        let garbage = percent_encode(garbage);
        for form in ["", "&format=csv", "&format=ndjson&limit=1"] {
            room.refuses_parameter(&format!("/v1/periods/2026-11/totals?cursor={garbage}{form}"), 400, "cursor");
        }
    }
    for path in ["/v1/meters/tokens/usage?group_by=customer", "/v1/meters/tokens/usage?"] {
        room.refuses_parameter(&format!("{path}&cursor={cursor}"), 400, "cursor");
    }
    room.nothing_changed();
}

#[test]
fn parameters_that_mean_nothing_are_named() {
    let room = Room::new();
    let totals = "/v1/periods/2026-11/totals";
    for (path, query, parameter) in [
        (totals, "state=closed", "state"),
        (totals, "state=Open", "state"),
        (totals, "state=", "state"),
        (totals, "state=open&state=open", "state"),
        (totals, "format=xml", "format"),
        (totals, "format=CSV", "format"),
        (totals, "format=", "format"),
        (totals, "limit=0", "limit"),
        (totals, "limit=10001", "limit"),
        (totals, "limit=10001&format=csv", "limit"),
        (totals, "limit=-1", "limit"),
        (totals, "limit=1.5", "limit"),
        (totals, "limit=", "limit"),
        (totals, "meter=unknown", "meter"),
        (totals, "meter=", "meter"),
        (totals, "customer=", "customer"),
        (totals, "from=2026-11-01T00:00:00Z", "from"),
        (totals, "Limit=1", "Limit"),
        ("/v1/adjustments", "limit=0", "limit"),
        ("/v1/adjustments", "limit=10001", "limit"),
        ("/v1/adjustments", "since=x", "since"),
        ("/v1/adjustments", "since=", "since"),
        ("/v1/adjustments", "since=1.2", "since"),
        ("/v1/adjustments", "since=1.2.3.4", "since"),
        ("/v1/adjustments", "since=1.2.256", "since"),
        ("/v1/adjustments", "since=-1.2.3", "since"),
        ("/v1/adjustments", "since=1.18446744073709551616.0", "since"),
        ("/v1/adjustments", "since=2026-11-22T00:00:00Z", "since"),
        ("/v1/adjustments", "cursor=x", "cursor"),
        ("/v1/adjustments", "meter=unknown", "meter"),
        ("/v1/adjustments", "customer=", "customer"),
        ("/v1/adjustments", "period=2026-11", "period"),
        ("/v1/customers/known", "a=b", "a"),
        ("/v1/customers/known/usage", "period=current", "period"),
        ("/v1/clock", "x=", "x"),
    ] {
        room.refuses_parameter(&format!("{path}?{query}"), 400, parameter);
    }
    room.refuses_parameter(&format!("{totals}?customer={}", "x".repeat(257)), 400, "customer");
    room.refuses_parameter(&format!("/v1/customers/{}", "x".repeat(257)), 400, "customer");
    room.refuses_parameter("/v1/customers/a%0Ab", 400, "customer");
    room.nothing_changed();
}

#[test]
fn time_that_ends_before_it_begins_is_refused() {
    let room = Room::new();
    let usage = "/v1/meters/tokens/usage";
    for (query, parameter) in [
        ("from=2026-11-22T11:00:00Z&to=2026-11-22T10:00:00Z", "to"),
        ("from=2026-11-22T10:00:00Z&to=2026-11-22T10:00:00Z", "to"),
        ("from=2026-11-22T10:00:00%2B01:00&to=2026-11-22T09:00:00Z", "to"),
        ("to=0&from=1", "to"),
        ("from=2026-02-30T00:00:00Z", "from"),
        ("from=yesterday", "from"),
        ("to=2026-11-22", "to"),
        ("to=", "to"),
    ] {
        room.refuses_parameter(&format!("{usage}?{query}"), 400, parameter);
    }
    assert_eq!(room.scene.get(&format!("{usage}?from=0&to=1")).status, 200);
    room.nothing_changed();
}

#[test]
fn settings_that_mean_nothing_are_pointed_at_and_leave_what_was_set() {
    let room = Room::new();
    let long = format!(r#"{{"plan":"{}"}}"#, "x".repeat(257));
    for (body, pointer) in [
        (r#"{"anchor":0}"#, "/anchor"),
        (r#"{"anchor":32}"#, "/anchor"),
        (r#"{"anchor":"x"}"#, "/anchor"),
        (r#"{"anchor":1.5}"#, "/anchor"),
        (r#"{"anchor":1.0}"#, "/anchor"),
        (r#"{"anchor":-1}"#, "/anchor"),
        (r#"{"anchor":256}"#, "/anchor"),
        (r#"{"anchor":99999999999999999999}"#, "/anchor"),
        (r#"{"anchor":"2026-02-30"}"#, "/anchor"),
        (r#"{"anchor":"2026-11-31T00:00:00Z"}"#, "/anchor"),
        (r#"{"anchor":"2026-11"}"#, "/anchor"),
        (r#"{"anchor":{}}"#, "/anchor"),
        (r#"{"anchor":[15]}"#, "/anchor"),
        (r#"{"anchor":true}"#, "/anchor"),
        (r#"{"anchor":""}"#, "/anchor"),
        (r#"{"plan":"new","anchor":0}"#, "/anchor"),
        (r#"{"time_zone":"Europe/Atlantis"}"#, "/time_zone"),
        (r#"{"time_zone":""}"#, "/time_zone"),
        (r#"{"time_zone":"+01:00"}"#, "/time_zone"),
        (r#"{"time_zone":"../etc/passwd"}"#, "/time_zone"),
        (r#"{"time_zone":60}"#, "/time_zone"),
        (r#"{"plan":""}"#, "/plan"),
        (r#"{"plan":"a\nb"}"#, "/plan"),
        (r#"{"plan":7}"#, "/plan"),
        (&long, "/plan"),
        (r#"{"ancor":1}"#, "/ancor"),
        (r#"{"a/~b":null}"#, "/a~1~0b"),
        ("[]", ""),
        ("null", ""),
        (r#""anchor""#, ""),
    ] {
        for customer in ["known", "new"] {
            room.refuses_member("PUT", &format!("/v1/customers/{customer}"), body, pointer);
        }
    }
    assert_eq!(room.scene.get("/v1/customers/new").status, 404, "a refused PUT makes no customer");
    room.nothing_changed();
}

#[test]
fn bodies_that_cannot_be_read_say_where_or_of_what_type_they_should_be() {
    let room = Room::new();
    let put = |content_type: &str, body: &str| {
        room.scene.call("PUT", "/v1/customers/known", &[("content-type", content_type)], body.to_owned())
    };
    for (body, offset) in [("{", 1), ("{\"anchor\":}", 10), ("{} {}", 3), ("{\"anchor\":1,\"anchor\":2}", 0)] {
        let reply = put("application/json", body);
        assert_problem(&reply, 400, body);
        assert_eq!(reply.json["offset"], offset, "{body}: {}", reply.text);
    }
    assert_problem(&put("application/json", ""), 400, "an empty body");
    assert_problem(&put("text/plain", "{}"), 415, "text");
    assert_problem(&put("application/x-ndjson", "{}"), 415, "lines");
    assert_problem(&put("application/json", &format!("{{\"plan\":\"{}\"}}", "x".repeat(70_000))), 413, "a long body");
    for (method, path) in [
        ("POST", "/v1/periods/2026-11/totals"),
        ("DELETE", "/v1/customers/known"),
        ("PUT", "/v1/adjustments"),
        ("GET", "/v1/clock:reset"),
        ("PATCH", "/v1/customers/known"),
    ] {
        assert_problem(&room.scene.call(method, path, &[], ""), 405, path);
    }
    room.refuses_member("POST", "/v1/clock:reset", r#"{"reason":1}"#, "/reason");
    room.refuses_member("POST", "/v1/clock:reset", r#"{"to":"2026-11-22T00:00:00Z"}"#, "/to");
    room.nothing_changed();
}

#[test]
fn a_cursor_that_lost_its_end_is_refused() {
    let room = Room::new();
    let page = room.scene.json("/v1/periods/2026-11/totals?limit=2");
    let cursor = page["next_cursor"].as_str().expect("a next page");
    for end in 0..cursor.len() {
        room.refuses_parameter(&format!("/v1/periods/2026-11/totals?cursor={}", &cursor[..end]), 400, "cursor");
    }
}
