//! Weeks, days and local months: periods of the other kinds, and where windows are cut.

use serde_json::{Value, json};

use crate::billing::scene::{HOUR, Http, Scene, event, hash};

fn config(period: &str, zone: &str, meters: &str) -> String {
    format!("[billing]\nperiod = \"{period}\"\ntime_zone = \"{zone}\"\n{meters}")
}

const HOURLY: &str = "[[meter]]\nslug = \"tokens\"\naggregation = \"sum\"\n";

fn only_row(http: &Http, period: &str) -> Value {
    let rows = http.rows(&format!("/v1/periods/{period}/totals"));
    assert_eq!(rows.len(), 1, "{period}: {rows:?}");
    assert_eq!(rows[0]["hash"], hash(&rows[0]));
    rows[0].clone()
}

fn is(row: &Value, expected: [&str; 5]) {
    let names = ["period", "period_start", "period_end", "value", "state"];
    assert_eq!(names.map(|name| row[name].clone()), expected.map(|text| json!(text)), "{row}");
}

#[test]
fn weeks_go_from_monday_to_monday_and_have_names_of_their_own_at_new_year() {
    let scene = Scene::start("2026-12-27T23:30:00Z", &config("week", "UTC", HOURLY));
    scene.accept(vec![event("sunday", "c", "tokens", 1, "2026-12-27T23:30:00Z")], 0);
    scene.advance(HOUR);
    scene.accept(vec![event("monday", "c", "tokens", 2, "2026-12-28T00:00:00Z")], 0);
    is(&only_row(&scene, "previous"), ["2026-W52", "2026-12-21T00:00:00Z", "2026-12-28T00:00:00Z", "1", "grace"]);
    scene.advance_to("2027-01-02T00:00:00Z");
    scene.accept(vec![event("saturday", "c", "tokens", 4, "2027-01-02T00:00:00Z")], 0);
    is(&only_row(&scene, "current"), ["2026-W53", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z", "6", "open"]);
    scene.advance_to("2027-01-04T02:00:00Z");
    scene.wait_until_final("2026-W53");
    is(&only_row(&scene, "2026-W53"), ["2026-W53", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z", "6", "finalized"]);
    assert_eq!(only_row(&scene, "previous"), only_row(&scene, "2026-W53"));
    assert_eq!(scene.rows("/v1/periods/2027-W01/totals").len(), 0);
    assert_eq!(scene.get("/v1/periods/2026-12/totals").status, 404, "nothing is billed by the month");
}

#[test]
fn days_are_local_and_have_23_or_25_hours_when_clocks_change() {
    let scene = Scene::start("2026-03-28T22:30:00Z", &config("day", "Europe/Berlin", HOURLY));
    scene.accept(vec![event("a", "c", "tokens", 1, "2026-03-28T22:30:00Z")], 0);
    scene.advance_to("2026-03-29T21:59:00Z");
    scene.accept(vec![event("b", "c", "tokens", 2, "2026-03-29T21:59:00Z")], 0);
    is(&only_row(&scene, "previous"), ["2026-03-28", "2026-03-27T23:00:00Z", "2026-03-28T23:00:00Z", "1", "finalized"]);
    is(&only_row(&scene, "current"), ["2026-03-29", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", "2", "open"]);
    scene.advance_to("2026-03-29T22:00:00Z");
    scene.accept(vec![event("c", "c", "tokens", 4, "2026-03-29T22:00:00Z")], 0);
    is(&only_row(&scene, "2026-03-30"), ["2026-03-30", "2026-03-29T22:00:00Z", "2026-03-30T22:00:00Z", "4", "open"]);
    is(&only_row(&scene, "previous"), ["2026-03-29", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", "2", "grace"]);
    scene.advance_to("2026-10-25T22:30:00Z");
    scene.accept(vec![event("d", "c", "tokens", 8, "2026-10-25T22:30:00Z")], 0);
    is(&only_row(&scene, "current"), ["2026-10-25", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", "8", "open"]);
    scene.advance_to("2026-10-26T00:00:00Z");
    scene.wait_until_final("2026-10-25");
    assert_eq!(only_row(&scene, "previous")["final"], true);
}

#[test]
fn windows_are_cut_where_a_period_ends_so_that_both_sides_add_up() {
    let weekly = "[[meter]]\nslug = \"tokens\"\naggregation = \"sum\"\nwindow = \"1w\"\ngrace = \"1h\"\n";
    let scene = Scene::start("2026-11-30T18:45:00Z", &config("month", "Asia/Kolkata", weekly));
    let before = event("before", "c", "tokens", 1, "2026-11-30T18:29:59Z");
    let after = event("after", "c", "tokens", 2, "2026-11-30T18:30:00Z");
    scene.accept(vec![before, after], 0);
    is(&only_row(&scene, "2026-11"), ["2026-11", "2026-10-31T18:30:00Z", "2026-11-30T18:30:00Z", "1", "grace"]);
    is(&only_row(&scene, "2026-12"), ["2026-12", "2026-11-30T18:30:00Z", "2026-12-31T18:30:00Z", "2", "open"]);
    let week = &scene.rows("/v1/meters/tokens/usage")[..];
    let sum = week.iter().map(|row| row["value"].as_str().unwrap().parse::<u32>().unwrap()).sum::<u32>();
    assert_eq!(sum, 3, "{week:?}");
    scene.advance(HOUR);
    scene.wait_until_final("2026-11");
    is(&only_row(&scene, "2026-11"), ["2026-11", "2026-10-31T18:30:00Z", "2026-11-30T18:30:00Z", "1", "finalized"]);
    let answer = scene.send(&event("late", "c", "tokens", 4, "2026-11-30T18:00:00Z"));
    assert_eq!(answer["late"], 1, "its half of the week is final");
    let answer = scene.send(&event("in time", "c", "tokens", 8, "2026-11-30T18:31:00Z"));
    assert_eq!(answer["late"], 0, "this half is open");
    assert_eq!(only_row(&scene, "2026-11")["value"], "5");
    assert_eq!(only_row(&scene, "2026-12")["value"], "10");
    let row = &scene.rows("/v1/adjustments")[0];
    assert_eq!(
        (&row["window_start"], &row["window_end"]),
        (&json!("2026-11-30T00:00:00Z"), &json!("2026-11-30T18:30:00Z"))
    );
}
