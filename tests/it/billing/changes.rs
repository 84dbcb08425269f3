//! A changed anchor or time zone applies from the next period on: no period that has begun moves, none is lost.

use serde_json::{Value, json};

use crate::billing::scene::{NOW, Scene, event};

const METERS: &str = "[[meter]]\nslug = \"tokens\"\naggregation = \"sum\"\n";

/// A customer with usage in November.
fn used() -> Scene {
    let scene = Scene::start(NOW, METERS);
    scene.accept(vec![event("first", "c", "tokens", 1, NOW)], 0);
    scene
}

fn put(scene: &Scene, body: Value) -> Value {
    let reply = scene.put("/v1/customers/c", body.to_string());
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json
}

fn period(name: &str, start: &str, end: &str) -> Value {
    json!({"name": name, "start": format!("{start}T00:00:00Z"), "end": format!("{end}T00:00:00Z")})
}

/// Name, start and value of the customer's row in a period.
fn row(scene: &Scene, asked: &str) -> Option<[String; 4]> {
    let rows = scene.rows(&format!("/v1/periods/{asked}/totals?customer=c"));
    assert!(rows.len() <= 1, "{rows:?}");
    let text = |name: &str| rows[0][name].as_str().unwrap().replace("T00:00:00Z", "");
    (!rows.is_empty()).then(|| ["period", "period_start", "period_end", "value"].map(text))
}

fn expected(texts: [&str; 4]) -> Option<[String; 4]> {
    Some(texts.map(str::to_owned))
}

#[test]
fn a_changed_anchor_leaves_the_period_that_has_begun_and_each_later_one_starts_where_the_last_ended() {
    let scene = used();
    let set = put(&scene, json!({"anchor": 15}));
    assert_eq!(set["anchor"], 15);
    assert_eq!(set["period"], period("2026-11", "2026-11-01", "2026-12-01"), "this one is as it was");
    assert_eq!(set["next_period"], period("2026-12", "2026-12-01", "2027-01-15"), "the next one leads over");
    assert_eq!(set["applies_from"], "2027-01");
    scene.advance_to("2026-12-31T12:00:00Z");
    scene.accept(vec![event("december", "c", "tokens", 2, "2026-12-31T11:00:00Z")], 0);
    assert_eq!(row(&scene, "current"), expected(["2026-12", "2026-12-01", "2027-01-15", "2"]));
    scene.advance_to("2027-01-14T23:59:59Z");
    scene.accept(vec![event("still", "c", "tokens", 4, "2027-01-14T23:59:59Z")], 0);
    assert_eq!(row(&scene, "current"), expected(["2026-12", "2026-12-01", "2027-01-15", "6"]));
    scene.advance_to("2027-01-15T00:00:00Z");
    scene.accept(vec![event("next", "c", "tokens", 8, "2027-01-15T00:00:00Z")], 0);
    assert_eq!(row(&scene, "current"), expected(["2027-01", "2027-01-15", "2027-02-15", "8"]));
    assert_eq!(row(&scene, "previous"), expected(["2026-12", "2026-12-01", "2027-01-15", "6"]));
    assert_eq!(row(&scene, "2026-11"), expected(["2026-11", "2026-11-01", "2026-12-01", "1"]));
    let now = scene.json("/v1/customers/c");
    assert_eq!(now["period"], period("2027-01", "2027-01-15", "2027-02-15"));
}

#[test]
fn the_period_that_leads_over_is_final_for_all_only_after_its_last_customer() {
    let scene = used();
    scene.accept(vec![event("other", "other", "tokens", 1, NOW)], 0);
    put(&scene, json!({"anchor": 15}));
    scene.advance_to("2026-12-20T00:00:00Z");
    let both =
        |n: u32, at: &str| ["c", "other"].map(|name| event(&format!("{name} {n}"), name, "tokens", n, at)).to_vec();
    scene.accept(both(1, "2026-12-20T00:00:00Z"), 0);
    scene.advance_to("2027-01-10T00:00:00Z");
    scene.wait_until("the other's row is final", |http| {
        http.rows("/v1/periods/2026-12/totals?customer=other")[0]["final"] == true
    });
    let page = |customer: &str| scene.json(&format!("/v1/periods/2026-12/totals?{customer}"))["final"].clone();
    assert_eq!([page(""), page("customer=c"), page("customer=other")], [json!(false), json!(false), json!(true)]);
    scene.accept(vec![event("more", "c", "tokens", 5, "2027-01-10T00:00:00Z")], 0);
    assert_eq!(row(&scene, "2026-12"), expected(["2026-12", "2026-12-01", "2027-01-15", "6"]));
    scene.advance_to("2027-01-16T00:00:00Z");
    scene.wait_until_final("2026-12");
    assert_eq!([page(""), page("customer=c")], [json!(true), json!(true)]);
}

#[test]
fn a_change_that_waits_is_replaced_by_the_next_one_and_taken_back_by_the_first_settings() {
    let scene = used();
    put(&scene, json!({"anchor": 15}));
    let again = put(&scene, json!({"anchor": 20, "time_zone": "Asia/Tokyo"}));
    assert_eq!((&again["anchor"], &again["time_zone"]), (&json!(20), &json!("Asia/Tokyo")));
    assert_eq!(again["next_period"]["end"], "2027-01-19T15:00:00Z");
    let back = put(&scene, json!({"anchor": 1}));
    assert_eq!(back["period"], period("2026-11", "2026-11-01", "2026-12-01"));
    assert_eq!(back["next_period"], period("2026-12", "2026-12-01", "2027-01-01"));
    let plan = put(&scene, json!({"anchor": 1, "plan": "pro"}));
    assert_eq!((&plan["plan"], &plan["next_period"]), (&json!("pro"), &back["next_period"]), "a plan moves no period");
}

#[test]
fn a_change_after_usage_that_came_late_or_is_long_final_waits_like_any_other() {
    let scene = Scene::start(NOW, METERS);
    scene.accept(vec![event("late", "c", "tokens", 1, "2026-11-01T05:00:00Z")], 1);
    let set = put(&scene, json!({"anchor": 15}));
    assert_eq!(set["period"], period("2026-11", "2026-11-01", "2026-12-01"));
    scene.advance_to("2027-03-20T00:00:00Z");
    scene.wait_until_final("2026-11");
    let set = put(&scene, json!({"anchor": 10}));
    assert_eq!(set["period"], period("2027-03", "2027-03-15", "2027-04-15"));
    assert_eq!(set["next_period"], period("2027-04", "2027-04-15", "2027-05-10"));
    assert_eq!(set["applies_from"], "2027-05");
}

#[test]
fn a_late_event_counts_in_the_period_that_it_happened_in_whatever_was_changed_since() {
    let scene = used();
    put(&scene, json!({"anchor": 15}));
    scene.advance_to("2027-01-20T00:00:00Z");
    scene.accept(vec![event("late", "c", "tokens", 32, "2026-12-31T23:59:59Z")], 1);
    assert_eq!(row(&scene, "2026-12"), expected(["2026-12", "2026-12-01", "2027-01-15", "32"]));
    assert_eq!(scene.rows("/v1/adjustments")[0]["period"], "2026-12");
}
