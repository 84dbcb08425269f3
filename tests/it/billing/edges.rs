//! Where things end: the range of numbers, a period while it is paged through, a meter that is configured no more.

use meterd::model::Duration;
use serde_json::json;

use crate::billing::restarts::{fill, home, http};
use crate::billing::scene::{Http, NOW, Scene, event, hash};

/// Close to what a period may come to.
const LARGE: &str = "42000000000000000000000000";
const SUMS: &str = "
[[meter]]
slug = \"tokens\"
aggregation = \"sum\"
allow_negative = true
[[meter]]
slug = \"level\"
aggregation = \"latest\"
allow_negative = true
[[meter]]
slug = \"average\"
aggregation = \"avg\"
";

fn is_final(http: &Http, meter: &str) -> bool {
    http.rows(&format!("/v1/meters/{meter}/usage")).iter().all(|row| row["state"] == "finalized")
}

#[test]
fn a_period_whose_windows_come_to_more_than_it_may_hold_refuses_the_event_and_goes_on() {
    for meter in ["tokens", "average"] {
        let scene = Scene::start(NOW, SUMS);
        scene.accept(vec![event("a", "c", meter, LARGE, "2026-11-22T09:59:00Z")], 0);
        let code = |id: &str, at: &str| scene.send(&event(id, "c", meter, LARGE, at))["events"][0]["code"].clone();
        assert_eq!(code("b", NOW), "quantity_overflow", "{meter}");
        scene.advance(Duration::from_secs(4 * 3_600));
        scene.wait_until("it is final", |http| is_final(http, meter));
        assert_eq!(code("late", "2026-11-22T08:00:00Z"), "quantity_overflow", "{meter}");
        assert_eq!(code("late for its window", "2026-11-22T09:00:00Z"), "quantity_overflow", "{meter}");
        assert_eq!(scene.rows("/v1/adjustments"), [0; 0]);
        let rows = scene.rows(&format!("/v1/periods/2026-11/totals?customer=c&meter={meter}"));
        assert_eq!((rows.len(), &rows[0]["value"], &rows[0]["hash"]), (1, &json!(LARGE), &json!(hash(&rows[0]))));
    }
}

#[test]
fn windows_close_in_any_order_without_leaving_the_range_on_the_way() {
    let scene = Scene::start(NOW, &SUMS.replace("allow_negative", "window = \"1s\"\nallow_negative"));
    let base = event("base", "c", "tokens", LARGE, "2026-11-22T09:30:00Z");
    scene.accept(vec![base], 0);
    scene.advance(Duration::from_secs(2));
    scene.wait_until("the first is final", |http| is_final(http, "tokens"));
    // Whichever windows are closed first, no total on the way may leave the range: so these are refused at the door.
    for n in 1..=4 {
        let minus = event(&format!("-{n}"), "c", "tokens", format!("-{LARGE}"), &format!("2026-11-22T10:20:0{n}Z"));
        let plus = event(&format!("+{n}"), "c", "tokens", LARGE, &format!("2026-11-22T10:00:0{n}Z"));
        for refused in [minus, plus] {
            assert_eq!(scene.send(&refused)["events"][0]["code"], "quantity_overflow");
        }
    }
    let total = |http: &Http| http.rows("/v1/periods/2026-11/totals?customer=c")[0]["value"].clone();
    assert_eq!(total(&scene), LARGE);
    scene.advance(Duration::from_secs(4 * 3_600));
    scene.wait_until("they are final", |http| is_final(http, "tokens"));
    assert_eq!(total(&scene), LARGE);
    scene.accept(vec![event("alive", "alive", "tokens", 1, "2026-11-22T14:29:00Z")], 0);
}

#[test]
fn pages_of_the_current_period_are_of_one_period_even_if_it_ends_meanwhile() {
    let scene = Scene::start("2026-11-30T23:59:00Z", SUMS);
    let of = |at: &str| ["a", "b", "c"].map(|name| event(&format!("{name} {at}"), name, "tokens", 1, at)).to_vec();
    scene.accept(of("2026-11-30T23:58:00Z"), 0);
    let first = scene.json("/v1/periods/current/totals?limit=1");
    let cursor = first["next_cursor"].as_str().unwrap();
    scene.advance_to("2026-12-01T00:01:00Z");
    scene.accept(of("2026-12-01T00:00:30Z"), 0);
    let rest = scene.get(&format!("/v1/periods/current/totals?cursor={cursor}"));
    let periods =
        rest.json["data"].as_array().map(|rows| rows.iter().map(|row| row["period"].clone()).collect::<Vec<_>>());
    assert!(rest.status == 400 || periods == Some(vec![json!("2026-11"); 2]), "{}", rest.text);
}

#[test]
fn an_event_that_was_refused_is_no_usage_and_an_anchor_still_applies_at_once() {
    let scene = Scene::start(NOW, &format!("{SUMS}[[meter]]\nslug = \"strict\"\nlate = \"reject\"\n"));
    let answer = scene.send(&json!([
        event("late", "c", "strict", 1, "2026-11-02T00:00:00Z"),
        event("no meter", "c", "none", 1, NOW),
        event("no quantity", "c", "average", -1, NOW),
    ]));
    assert_eq!(answer["rejected"], 3, "{answer}");
    let set = scene.put("/v1/customers/c", r#"{"anchor":15}"#).json;
    assert_eq!((&set["applies_from"], &set["period"]["start"]), (&json!(null), &json!("2026-11-15T00:00:00Z")));
    assert_eq!(scene.rows("/v1/periods/current/totals"), [0; 0]);
}

#[test]
fn totals_of_a_meter_that_is_configured_no_more_are_what_they_were() {
    let home = home();
    let config = std::fs::read_to_string(&home.place.config).unwrap();
    let daemon = home.start();
    fill(&http(&daemon), "first");
    let look = |http: &Http| {
        let mut rows = http.rows("/v1/periods/current/totals");
        rows.iter_mut().for_each(|row| drop(row["as_of"].take()));
        (rows, http.rows("/v1/adjustments"))
    };
    let before = look(&http(&daemon));
    daemon.stop().unwrap();
    // `users` goes, `other` comes first.
    let (head, rest) = config.split_once("[[meter]]\nslug = \"users\"").unwrap();
    let (_, rest) = rest.split_once("[[meter]]").unwrap();
    let (settings, meters) = head.split_once("[[meter]]").unwrap();
    let changed = format!("{settings}[[meter]]\nslug = \"other\"\n[[meter]]{meters}[[meter]]{rest}");
    std::fs::write(&home.place.config, changed).unwrap();
    let daemon = home.start();
    assert_eq!(look(&http(&daemon)), before);
    assert_eq!(http(&daemon).rows("/v1/periods/current/totals?meter=users").len(), 3);
    daemon.kill().unwrap();
    std::fs::write(&home.place.config, config).unwrap();
    let daemon = home.start();
    assert_eq!(look(&http(&daemon)), before, "and when it is back");
    daemon.stop().unwrap();
    home.verify();
}

#[test]
fn a_change_that_leaves_the_range_of_a_quantity_is_refused() {
    let scene = Scene::start(NOW, SUMS);
    let huge = "170000000000000000000000000";
    scene.accept(vec![event("a", "c", "level", format!("-{huge}"), "2026-11-22T09:10:00Z")], 0);
    scene.advance(Duration::from_secs(4 * 3_600));
    scene.wait_until("it is final", |http| is_final(http, "level"));
    let answer = scene.send(&event("b", "c", "level", huge, "2026-11-22T09:20:00Z"));
    assert_eq!(answer["events"][0]["code"], "quantity_overflow", "{answer}");
    assert!(scene.rows("/v1/adjustments").is_empty());
}
