//! Customers' settings: what is stored comes back, and says which periods it makes.

use serde_json::{Value, json};

use crate::billing::scene::{NOW, Scene, event};

const METERS: &str = "
[[meter]]
slug = \"tokens\"
aggregation = \"sum\"
[[meter]]
slug = \"local\"
aggregation = \"count\"
time_zone = \"Asia/Kolkata\"
";

fn scene() -> Scene {
    Scene::start(NOW, METERS)
}

fn put(scene: &Scene, customer: &str, body: Value) -> Value {
    let reply = scene.put(&format!("/v1/customers/{customer}"), body.to_string());
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(scene.json(&format!("/v1/customers/{customer}")), reply.json, "what is answered is what is stored");
    reply.json
}

#[test]
fn what_is_set_comes_back_with_the_periods_it_makes_and_is_replaced_whole() {
    let scene = scene();
    let set = put(&scene, "c", json!({"anchor": 15, "time_zone": "Europe/Berlin", "plan": "pro"}));
    let expected = json!({
        "customer": "c", "anchor": 15, "time_zone": "Europe/Berlin", "plan": "pro", "applies_from": null,
        "period": {"name": "2026-11", "start": "2026-11-14T23:00:00Z", "end": "2026-12-14T23:00:00Z"},
        "next_period": {"name": "2026-12", "start": "2026-12-14T23:00:00Z", "end": "2027-01-14T23:00:00Z"},
    });
    assert_eq!(set, expected);
    let replaced = put(&scene, "c", json!({"plan": "free"}));
    let expected = json!({
        "customer": "c", "anchor": null, "time_zone": null, "plan": "free", "applies_from": null,
        "period": {"name": "2026-11", "start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"},
        "next_period": {"name": "2026-12", "start": "2026-12-01T00:00:00Z", "end": "2027-01-01T00:00:00Z"},
    });
    assert_eq!(replaced, expected, "what a PUT leaves out is unset");
    let nulls = put(&scene, "c", json!({"anchor": null, "time_zone": null, "plan": null}));
    assert_eq!((&nulls["plan"], &nulls["period"]), (&json!(null), &expected["period"]));
}

#[test]
fn anchors_are_days_dates_or_instants_and_short_months_end_on_their_last_day() {
    let scene = scene();
    for (anchor, day, start, end) in [
        (json!(22), 22, "2026-11-22", "2026-12-22"),
        (json!(23), 23, "2026-10-23", "2026-11-23"),
        (json!(31), 31, "2026-10-31", "2026-11-30"),
        (json!("2024-02-29"), 29, "2026-10-29", "2026-11-29"),
        (json!("2026-01-31T12:00:00Z"), 31, "2026-10-31", "2026-11-30"),
    ] {
        let set = put(&scene, "c", json!({"anchor": anchor}));
        let period = (&set["anchor"], &set["period"]["start"], &set["period"]["end"]);
        let midnight = |date: &str| json!(format!("{date}T00:00:00Z"));
        assert_eq!(period, (&json!(day), &midnight(start), &midnight(end)), "{anchor}");
    }
    let far = put(&scene, "c", json!({"anchor": "2026-01-31T12:00:00Z", "time_zone": "Pacific/Kiritimati"}));
    assert_eq!(far["anchor"], 1, "an instant is on its local day");
    let first = put(&scene, "c", json!({"anchor": 1}));
    assert_eq!(first["period"]["start"], "2026-11-01T00:00:00Z", "the first is the calendar's own");
}

#[test]
fn a_customer_that_nobody_set_anything_for_is_not_there_but_has_periods_and_usage() {
    let scene = scene();
    let missing = scene.get("/v1/customers/nobody");
    assert_eq!((missing.status, &missing.headers["content-type"]), (404, &"application/problem+json".parse().unwrap()));
    assert_eq!(missing.json["parameter"], "customer");
    let usage = scene.json("/v1/customers/nobody/usage");
    assert_eq!(usage["customer"], "nobody");
    let rows = usage["data"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "one per meter");
    scene.accept(vec![event("e", "nobody", "tokens", 3, NOW)], 0);
    assert_eq!(scene.json("/v1/customers/nobody/usage")["data"][0]["value"], "3");
    assert_eq!(scene.get("/v1/customers/nobody").status, 404, "usage makes no settings");
}

#[test]
fn names_with_slashes_spaces_and_other_alphabets_are_customers_like_others() {
    let scene = scene();
    for (path, name) in
        [("a%2Fb%20c", "a/b c"), ("gr%C3%B6%C3%9Fe", "größe"), ("%F0%9F%92%B8", "\u{1f4b8}"), ("%25", "%")]
    {
        assert_eq!(put(&scene, path, json!({"plan": name}))["customer"], name);
        scene.accept(vec![event(name, name, "tokens", 1, NOW)], 0);
        assert_eq!(scene.json(&format!("/v1/customers/{path}/usage"))["data"][0]["value"], "1");
        assert_eq!(scene.rows(&format!("/v1/periods/2026-11/totals?customer={path}"))[0]["customer"], name);
    }
}

#[test]
fn the_anchor_of_a_customer_without_usage_applies_at_once() {
    let scene = scene();
    put(&scene, "early", json!({"anchor": 20}));
    put(&scene, "late", json!({"anchor": 25}));
    let at = ["2026-11-19T23:59:59.999999Z", "2026-11-20T00:00:00Z", NOW];
    let events = ["early", "late", "plain"].iter().flat_map(|customer| {
        at.iter().enumerate().map(move |(n, at)| event(&format!("{customer} {n}"), customer, "tokens", 1 << n, at))
    });
    scene.accept(events.collect(), 6);
    let told = |period: &str| {
        let rows = scene.rows(&format!("/v1/periods/{period}/totals"));
        let text = |row: &Value, name: &str| row[name].as_str().unwrap().replace("T00:00:00Z", "");
        let told =
            |row: &Value| ["customer", "period", "period_start", "period_end", "value"].map(|name| text(row, name));
        let mut told = rows.iter().map(told).collect::<Vec<_>>();
        told.sort();
        told.iter().map(|row| row.join(" ")).collect::<Vec<_>>()
    };
    let (early, late, plain) = (
        "early 2026-11 2026-11-20 2026-12-20 6",
        "late 2026-10 2026-10-25 2026-11-25 7",
        "plain 2026-11 2026-11-01 2026-12-01 7",
    );
    assert_eq!(told("current"), [early, late, plain]);
    assert_eq!(told("2026-11"), [early, plain]);
    let before = "early 2026-10 2026-10-20 2026-11-20 1";
    assert_eq!(told("2026-10"), [before, late]);
    assert_eq!(told("previous"), [before]);
    assert_eq!(told("2026-12"), [""; 0]);
}

#[test]
fn a_customers_usage_is_that_of_the_period_the_customer_is_in() {
    let scene = scene();
    put(&scene, "c", json!({"anchor": 22, "time_zone": "America/New_York"}));
    let starts = "2026-11-22T05:00:00Z";
    scene.accept(
        vec![
            event("before", "c", "tokens", 1, "2026-11-22T04:59:59Z"),
            event("first", "c", "tokens", 2, starts),
            event("now", "c", "tokens", 4, NOW),
        ],
        2,
    );
    let usage = scene.json("/v1/customers/c/usage");
    let rows = usage["data"].as_array().unwrap();
    let expected = json!({
        "meter": "tokens", "period": "2026-11", "period_start": starts, "period_end": "2026-12-22T05:00:00Z",
        "value": "6", "event_count": 2,
    });
    assert_eq!((&usage["customer"], &rows[0]), (&json!("c"), &expected));
    assert_eq!(rows[1]["period_start"], starts, "a customer's zone is that of every meter");
    let other = scene.json("/v1/customers/other/usage");
    let starts = other["data"].as_array().unwrap().iter().map(|row| row["period_start"].clone()).collect::<Vec<_>>();
    assert_eq!(starts, ["2026-11-01T00:00:00Z", "2026-10-31T18:30:00Z"], "else each meter's own");
}
