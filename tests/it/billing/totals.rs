//! Totals of a period: what a row says, paging by every limit, filters, and which period is meant.

use serde_json::{Value, json};

use crate::billing::scene::{DAY, HOUR, NOW, Scene, event, hash};

const METERS: &str = "
[[meter]]
slug = \"tokens\"
aggregation = \"sum\"
allow_negative = true
dimensions = { region = \"$.region\", model = \"$.model\" }
[[meter]]
slug = \"calls\"
aggregation = \"count\"
[[meter]]
slug = \"peak\"
aggregation = \"max\"
";

fn split(mut event: Value, model: Option<&str>, region: Option<&str>) -> Value {
    event["dimensions"] = json!({"model": model, "region": region});
    if model.is_none() {
        event["dimensions"].as_object_mut().unwrap().remove("model");
    }
    if region.is_none() {
        event["dimensions"].as_object_mut().unwrap().remove("region");
    }
    event
}

/// 5 customers × (4 × tokens, calls, peak), 2 events each.
fn filled() -> Scene {
    let scene = Scene::start(NOW, METERS);
    let mut events = Vec::new();
    for customer in ["b", "a", "aa", "ü", "a/b c"] {
        for (n, at) in ["2026-11-22T10:10:00Z", "2026-11-22T10:20:00Z"].iter().enumerate() {
            let id = |what: &str| format!("{customer} {what} {n}");
            for (model, region) in
                [(None, None), (Some("x"), None), (Some("x"), Some("eu")), (Some("\"y\"\n,"), Some(""))]
            {
                let tokens = event(&id(&format!("{model:?}{region:?}")), customer, "tokens", "1.25", at);
                events.push(split(tokens, model, region));
            }
            events.push(event(&id("calls"), customer, "calls", 7, at));
            events.push(event(&id("peak"), customer, "peak", n + 1, at));
        }
    }
    scene.accept(events, 0);
    scene
}

fn names(rows: &[Value]) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    rows.iter().map(|row| (text(&row["customer"]), text(&row["meter"]), row["dimensions"].to_string())).collect()
}

#[test]
fn a_row_says_what_was_used_when_how_final_it_is_and_proves_it_by_its_hash() {
    let scene = filled();
    let page = scene.json("/v1/periods/2026-11/totals?customer=a%2Fb%20c&meter=tokens");
    assert_eq!(
        (&page["period"], &page["final"], &page["next_cursor"]),
        (&json!("2026-11"), &json!(false), &json!(null))
    );
    let rows = page["data"].as_array().unwrap();
    let row = rows.iter().find(|row| row["dimensions"] == json!({"model": "x", "region": null})).unwrap();
    let expected = json!({
        "customer": "a/b c", "meter": "tokens", "dimensions": {"model": "x", "region": null}, "period": "2026-11",
        "period_start": "2026-11-01T00:00:00Z", "period_end": "2026-12-01T00:00:00Z", "value": "2.5",
        "original_value": "2.5", "adjustment": "0", "overage": "0", "event_count": 2, "adjustments": 0, "state": "open",
        "revision": 0, "incarnation": 1, "hash": hash(row), "as_of": page["as_of"], "final": false,
    });
    assert_eq!(*row, expected);
    let hashes = rows.iter().map(|row| row["hash"].as_str().unwrap()).collect::<std::collections::BTreeSet<_>>();
    assert_eq!((hashes.len(), rows.len()), (4, 4), "different rows have different hashes");
    assert!(rows.iter().all(|row| row["hash"] == hash(row)));
}

#[test]
fn pages_of_every_length_are_the_whole_in_the_same_order_and_each_row_once() {
    let scene = filled();
    let whole = scene.rows("/v1/periods/2026-11/totals");
    assert_eq!(whole.len(), 5 * 6);
    let mut once = names(&whole);
    once.sort();
    once.dedup();
    assert_eq!(once.len(), whole.len());
    for period in ["2026-11", "current"] {
        for limit in 1..=whole.len() + 1 {
            let path = format!("/v1/periods/{period}/totals?limit={limit}");
            assert_eq!(scene.pages(&path), whole, "{path}");
        }
    }
    let exact = scene.json(&format!("/v1/periods/2026-11/totals?limit={}", whole.len()));
    assert_eq!(exact["next_cursor"], json!(null), "a page that ends with the last row has no next one");
}

#[test]
fn the_length_of_pages_may_change_and_rows_that_come_meanwhile_move_no_other() {
    let scene = filled();
    let whole = scene.rows("/v1/periods/2026-11/totals");
    let first = scene.json("/v1/periods/2026-11/totals?limit=7");
    let cursor = first["next_cursor"].as_str().unwrap();
    scene.accept(vec![event("new", "0", "calls", 1, NOW), event("last", "zzzzzzzz", "calls", 1, NOW)], 0);
    let rest = scene.rows(&format!("/v1/periods/2026-11/totals?limit=10000&cursor={cursor}"));
    let found = [&names(first["data"].as_array().unwrap())[..], &names(&rest)].concat();
    let seen = found.iter().filter(|(customer, ..)| !["0", "zzzzzzzz"].contains(&customer.as_str())).cloned();
    assert_eq!(seen.collect::<Vec<_>>(), names(&whole), "every row once, new ones beside");
}

#[test]
fn filters_leave_what_they_name_in_the_order_of_the_whole() {
    let scene = filled();
    let whole = scene.rows("/v1/periods/2026-11/totals");
    let is = |name: &'static str, value: &'static str| move |row: &&Value| row[name] == value;
    type Wanted<'a> = Box<dyn Fn(&&Value) -> bool + 'a>;
    let cases: [(&str, Wanted<'_>, usize); 8] = [
        ("meter=calls", Box::new(is("meter", "calls")), 5),
        ("customer=a", Box::new(is("customer", "a")), 6),
        ("customer=%C3%BC", Box::new(is("customer", "ü")), 6),
        ("customer=a&meter=peak", Box::new(|row| row["customer"] == "a" && row["meter"] == "peak"), 1),
        ("state=open", Box::new(|_| true), 30),
        ("state=grace", Box::new(|_| false), 0),
        ("state=finalized&meter=calls", Box::new(|_| false), 0),
        ("customer=nobody", Box::new(|_| false), 0),
    ];
    for (query, wanted, count) in cases {
        let expected = whole.iter().filter(|row| wanted(row)).cloned().collect::<Vec<_>>();
        assert_eq!(expected.len(), count, "{query}");
        for limit in [1, 3, 1_000] {
            assert_eq!(scene.pages(&format!("/v1/periods/2026-11/totals?{query}&limit={limit}")), expected, "{query}");
        }
    }
}

#[test]
fn a_period_without_usage_has_no_rows_and_is_final_only_once_it_is_over() {
    let scene = filled();
    for (period, is_final) in [("2026-09", true), ("2026-12", false), ("2027-01", false)] {
        let page = scene.json(&format!("/v1/periods/{period}/totals"));
        assert_eq!((page["data"].as_array().unwrap().len(), &page["final"]), (0, &json!(is_final)), "{page}");
    }
}

#[test]
fn a_month_goes_from_open_over_grace_to_finalized_and_from_current_to_previous() {
    let scene = filled();
    let states = |period: &str, state: &str| {
        let page = scene.json(&format!("/v1/periods/{period}/totals?state={state}"));
        (page["data"].as_array().unwrap().len(), page["final"].clone())
    };
    let open = scene.rows("/v1/periods/2026-11/totals");
    assert_eq!(scene.rows("/v1/periods/previous/totals").len(), 0);
    scene.advance_to("2026-12-01T00:30:00Z");
    assert_eq!(states("2026-11", "grace"), (30, json!(false)), "its last window is in grace");
    assert_eq!(scene.rows("/v1/periods/current/totals").len(), 0);
    assert_eq!(scene.rows("/v1/periods/previous/totals").len(), 30);
    scene.advance(HOUR);
    scene.wait_until_final("2026-11");
    assert_eq!(states("2026-11", "finalized"), (30, json!(true)));
    let finalized = scene.rows("/v1/periods/2026-11/totals");
    for (was, is) in open.iter().zip(&finalized) {
        let mut expected = was.clone();
        for (name, value) in [("state", json!("finalized")), ("revision", json!(1)), ("final", json!(true))] {
            expected[name] = value;
        }
        (expected["as_of"], expected["hash"]) = (is["as_of"].clone(), json!(hash(is)));
        assert_eq!(*is, expected);
    }
    assert_eq!(scene.rows("/v1/periods/previous/totals"), finalized);
    scene.advance(DAY);
    assert_eq!(scene.rows("/v1/periods/2026-11/totals"), finalized, "a final row does not age");
    for limit in [1, 7, 29, 30] {
        assert_eq!(scene.pages(&format!("/v1/periods/2026-11/totals?limit={limit}")), finalized);
    }
}
