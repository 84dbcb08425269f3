//! Late usage of every aggregation: what a delta is where values are not added up.

use serde_json::{Value, json};

use crate::billing::scene::{DAY, Http, NOW, Scene, event, hash};

const AGGREGATIONS: [&str; 7] = ["sum", "count", "min", "max", "avg", "latest", "uniq"];
const EMPTY: &str = "2026-11-21T05:30:00Z";

fn config() -> String {
    let meter = |slug: &&str| {
        let (aggregation, value) = match *slug {
            "uniq" => ("unique", "value = \"$.user\"\n"),
            other => (other, ""),
        };
        format!("[[meter]]\nslug = \"{slug}\"\naggregation = \"{aggregation}\"\nwindow = \"1h\"\n{value}")
    };
    AGGREGATIONS.iter().map(meter).collect()
}

/// An event for every meter; `uniq` counts the quantity's text.
fn everywhere(id: &str, quantity: u32, at: &str) -> Vec<Value> {
    let event = |slug: &&str| {
        let mut event = event(&format!("{slug} {id}"), "c", slug, quantity, at);
        if *slug == "uniq" {
            event["dimensions"] = json!({"user": format!("user {quantity}")});
        }
        event
    };
    AGGREGATIONS.iter().map(event).collect()
}

/// 4 and 6 came in time, at 10:10 and 10:20; the window is final.
fn filled() -> Scene {
    let scene = Scene::start(NOW, &config());
    scene.accept(everywhere("a", 4, "2026-11-22T10:10:00Z"), 0);
    scene.accept(everywhere("b", 6, "2026-11-22T10:20:00Z"), 0);
    scene.advance(DAY);
    scene.wait_until("the windows are final", |http| {
        AGGREGATIONS.iter().all(|slug| http.rows(&format!("/v1/meters/{slug}/usage"))[0]["state"] == "finalized")
    });
    scene
}

/// The newest adjustment of each meter: its delta, and the window's value since.
fn newest(http: &Http) -> Vec<(String, Option<String>)> {
    let rows = http.rows("/v1/adjustments");
    let of = |slug: &&str| {
        let row = rows.iter().rfind(|row| row["meter"] == **slug).unwrap_or_else(|| panic!("none of {slug}: {rows:?}"));
        (row["delta"].as_str().unwrap().to_owned(), row["value"].as_str().map(str::to_owned))
    };
    AGGREGATIONS.iter().map(of).collect()
}

fn check_newest(http: &Http, expected: [(&str, &str); 7]) {
    let expected = expected.map(|(delta, value)| (delta.to_owned(), Some(value.to_owned())));
    for ((slug, found), expected) in AGGREGATIONS.iter().zip(newest(http)).zip(expected) {
        assert_eq!(found, expected, "{slug}: the delta, and the value with it");
    }
}

/// `value`, `original_value`, `adjustment` of each meter's total.
fn totals(http: &Http) -> Vec<[Option<String>; 3]> {
    let rows = http.rows("/v1/periods/2026-11/totals");
    assert!(rows.iter().all(|row| row["hash"] == hash(row)));
    let of = |slug: &&str| {
        let row = rows.iter().find(|row| row["meter"] == **slug).unwrap();
        ["value", "original_value", "adjustment"].map(|name| row[name].as_str().map(str::to_owned))
    };
    AGGREGATIONS.iter().map(of).collect()
}

fn check_totals(http: &Http, expected: [[&str; 3]; 7]) {
    let expected = expected.map(|row| row.map(|text| Some(text.to_owned()).filter(|text| text != "null")));
    for ((slug, found), expected) in AGGREGATIONS.iter().zip(totals(http)).zip(expected) {
        assert_eq!(found, expected, "{slug}: value, original and adjustment");
    }
}

#[test]
fn a_delta_is_what_the_value_changed_by_whatever_the_aggregation() {
    let scene = filled();
    scene.accept(everywhere("low", 2, "2026-11-22T10:15:00Z"), 7);
    check_newest(&scene, [("2", "12"), ("1", "3"), ("-2", "2"), ("0", "6"), ("-1", "4"), ("0", "6"), ("1", "3")]);
    scene.accept(everywhere("high", 8, "2026-11-22T10:59:00Z"), 7);
    check_newest(&scene, [("8", "20"), ("1", "4"), ("0", "2"), ("2", "8"), ("1", "5"), ("2", "8"), ("1", "4")]);
    scene.accept(everywhere("known", 4, "2026-11-22T10:00:00Z"), 7);
    let avg = ("-0.2", "4.8");
    check_newest(&scene, [("4", "24"), ("1", "5"), ("0", "2"), ("0", "8"), avg, ("0", "8"), ("0", "4")]);
    check_totals(
        &scene,
        [
            ["24", "10", "14"],
            ["5", "2", "3"],
            ["2", "4", "-2"],
            ["8", "6", "2"],
            ["4.8", "5", "-0.2"],
            ["8", "6", "2"],
            ["4", "2", "2"],
        ],
    );
}

#[test]
fn deltas_of_a_window_add_up_to_its_value_and_revisions_count_them() {
    let scene = filled();
    for (n, quantity) in [9, 1, 5, 5, 3].into_iter().enumerate() {
        scene.accept(everywhere(&n.to_string(), quantity, "2026-11-22T10:30:00Z"), 7);
    }
    let rows = scene.rows("/v1/adjustments");
    for (slug, original) in AGGREGATIONS.iter().zip([10, 2, 4, 6, 5, 6, 2]) {
        let own = rows.iter().filter(|row| row["meter"] == **slug).collect::<Vec<_>>();
        let mut value = scaled(&json!(original.to_string()));
        for (n, row) in own.iter().enumerate() {
            value += scaled(&row["delta"]);
            assert_eq!(scaled(&row["value"]), value, "{slug}: {row}");
            assert_eq!((&row["revision"], &row["event_count"]), (&json!(n + 2), &json!(n + 3)), "{slug}: {row}");
        }
        let window = &scene.rows(&format!("/v1/meters/{slug}/usage"))[0];
        assert_eq!((own.len(), scaled(&window["value"]), &window["revision"]), (5, value, &json!(6)), "{slug}");
    }
}

fn scaled(decimal: &Value) -> i128 {
    meterd::model::Quantity::parse(decimal.as_str().expect("a decimal")).unwrap().scaled()
}

#[test]
fn a_window_that_nobody_had_used_begins_with_the_late_event() {
    let scene = Scene::start(NOW, &config());
    scene.accept(everywhere("first", 4, EMPTY), 7);
    check_newest(&scene, [("4", "4"), ("1", "1"), ("4", "4"), ("4", "4"), ("4", "4"), ("4", "4"), ("1", "1")]);
    let rows = scene.rows("/v1/adjustments");
    assert!(rows.iter().all(|row| row["revision"] == 1 && row["event_count"] == 1), "{rows:?}");
    let all_late = |value, original| [value, original, value];
    check_totals(
        &scene,
        [
            all_late("4", "0"),
            all_late("1", "0"),
            all_late("4", "null"),
            all_late("4", "null"),
            all_late("4", "null"),
            all_late("4", "null"),
            all_late("1", "0"),
        ],
    );
}

#[test]
fn a_period_is_not_the_sum_of_its_windows_where_values_are_not_added_up() {
    let scene = filled();
    scene.accept(everywhere("other window", 6, EMPTY), 7);
    check_newest(&scene, [("6", "6"), ("1", "1"), ("6", "6"), ("6", "6"), ("6", "6"), ("6", "6"), ("1", "1")]);
    scene.accept(everywhere("open", 20, "2026-11-23T10:30:00Z"), 0);
    check_totals(
        &scene,
        [
            ["36", "30", "6"],
            ["4", "3", "1"],
            ["4", "4", "0"],
            ["20", "20", "0"],
            ["9", "10", "-1"],
            ["20", "20", "0"],
            ["3", "3", "0"],
        ],
    );
    scene.advance_to("2026-12-02T00:00:00Z");
    scene.wait_until_final("2026-11");
    scene.accept(everywhere("very late", 1, EMPTY), 7);
    check_totals(
        &scene,
        [
            ["37", "30", "7"],
            ["5", "3", "2"],
            ["1", "4", "-3"],
            ["20", "20", "0"],
            ["7.4", "10", "-2.6"],
            ["20", "20", "0"],
            ["4", "3", "1"],
        ],
    );
}
