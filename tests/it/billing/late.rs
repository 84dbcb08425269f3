//! Late usage: an adjustment or a refusal, told in the answer, in the window, in the period and in the list.

use meterd::model::Duration;
use serde_json::{Value, json};

use crate::billing::scene::{HOUR, Http, NOW, Scene, event, hash};

/// `spend` and `calls` are adjusted, `strict` refuses; `llm` feeds the first two, `mixed` one of each, `slow` stays open
/// for a day.
const METERS: &str = "
[[meter]]
slug = \"spend\"
event_type = \"llm\"
aggregation = \"sum\"
value = \"$.cost\"
allow_negative = true
[[meter]]
slug = \"calls\"
event_type = \"llm\"
aggregation = \"count\"
[[meter]]
slug = \"strict\"
aggregation = \"sum\"
late = \"reject\"
[[meter]]
slug = \"lenient_of_mixed\"
event_type = \"mixed\"
aggregation = \"count\"
[[meter]]
slug = \"strict_of_mixed\"
event_type = \"mixed\"
aggregation = \"count\"
late = \"reject\"
[[meter]]
slug = \"slow\"
event_type = \"uneven\"
aggregation = \"count\"
grace = \"2d\"
[[meter]]
slug = \"quick\"
event_type = \"uneven\"
aggregation = \"count\"
";
/// From `NOW`; an hour and a half after it the windows of `ON_TIME` are final.
const TWO_HOURS: Duration = Duration::from_secs(7_200);
const ON_TIME: &str = "2026-11-22T10:15:00Z";

fn cloud_event(id: &str, kind: &str, cost: i64, at: &str) -> Value {
    json!([{"specversion": "1.0", "id": id, "source": "s", "type": kind, "subject": "c", "time": at, "data": {"cost": cost}}])
}

fn send_cloud(http: &Http, id: &str, kind: &str, cost: i64, at: &str) -> Value {
    http.send_as("application/cloudevents-batch+json", &cloud_event(id, kind, cost, at))
}

fn counts(answer: &Value) -> [u64; 5] {
    ["accepted", "duplicate", "conflict", "rejected", "late"].map(|name| answer[name].as_u64().unwrap())
}

/// One event of every kind at 10:15, and the time when its window is final.
fn filled() -> Scene {
    let scene = Scene::start(NOW, METERS);
    for (kind, cost) in [("llm", 5), ("mixed", 1), ("uneven", 1)] {
        assert_eq!(counts(&send_cloud(&scene, kind, kind, cost, ON_TIME)), [1, 0, 0, 0, 0]);
    }
    scene.accept(vec![event("strict", "c", "strict", 3, ON_TIME)], 0);
    scene.advance(TWO_HOURS);
    scene.wait_until("the windows are final", |http| {
        let window = |meter: &str| http.rows(&format!("/v1/meters/{meter}/usage"))[0]["state"].clone();
        ["spend", "calls", "strict", "quick"].iter().all(|meter| window(meter) == "finalized")
            && window("slow") == "grace"
    });
    scene
}

fn window(http: &Http, meter: &str) -> (Value, u64, String, u64) {
    let rows = http.rows(&format!("/v1/meters/{meter}/usage?customer=c"));
    assert_eq!(rows.len(), 1, "{rows:?}");
    let text = |name: &str| rows[0][name].as_str().unwrap().to_owned();
    let number = |name: &str| rows[0][name].as_u64().unwrap();
    (rows[0]["value"].clone(), number("event_count"), text("state"), number("revision"))
}

fn total(http: &Http, meter: &str) -> Value {
    let rows = http.rows(&format!("/v1/periods/2026-11/totals?customer=c&meter={meter}"));
    assert_eq!((rows.len(), &rows[0]["hash"]), (1, &json!(hash(&rows[0]))), "{rows:?}");
    rows[0].clone()
}

fn is(total: &Value, value: &str, original: &str, adjustment: &str, events: u64, adjustments: u64) {
    let found = ["value", "original_value", "adjustment", "event_count", "adjustments"].map(|name| total[name].clone());
    assert_eq!(found, [json!(value), json!(original), json!(adjustment), json!(events), json!(adjustments)]);
}

#[test]
fn a_late_event_is_an_adjustment_with_a_signed_delta_of_its_window_and_its_period() {
    let scene = filled();
    let answer = scene.send(&event("late", "c", "spend", "-7.5", "2026-11-22T10:59:59.999999Z"));
    assert_eq!(counts(&answer), [1, 0, 0, 0, 1], "{answer}");
    let rows = scene.rows("/v1/adjustments");
    let expected = json!({
        "id": format!("1.{}.0", answer["seq"]), "customer": "c", "meter": "spend", "dimensions": {},
        "window_start": "2026-11-22T10:00:00Z", "window_end": "2026-11-22T11:00:00Z", "period": "2026-11",
        "delta": "-7.5", "value": "-2.5", "event_count": 2, "revision": 2, "incarnation": 1,
        "timestamp": "2026-11-22T10:59:59.999999Z", "recorded_at": scene.json("/v1/clock")["wall"], "seq": answer["seq"],
    });
    assert_eq!(rows, [expected]);
    assert_eq!(window(&scene, "spend"), (json!("-2.5"), 2, "finalized".into(), 2));
    assert_eq!(window(&scene, "calls"), (json!("1"), 1, "finalized".into(), 1), "a native event is for one meter");
    is(&total(&scene, "spend"), "-2.5", "5", "-7.5", 2, 1);
    is(&total(&scene, "calls"), "1", "1", "0", 1, 0);
    assert_eq!(total(&scene, "spend")["state"], "open", "the month goes on");
}

#[test]
fn a_retry_of_a_late_event_is_a_duplicate_and_another_payload_a_conflict_and_neither_adjusts() {
    let scene = filled();
    let late = event("late", "c", "spend", 2, ON_TIME);
    assert_eq!(counts(&scene.send(&late)), [1, 0, 0, 0, 1]);
    let look = |scene: &Scene| {
        ["/v1/adjustments", "/v1/meters/spend/usage", "/v1/periods/2026-11/totals"].map(|path| scene.rows(path))
    };
    let before = look(&scene);
    assert_eq!(counts(&scene.send(&late)), [0, 1, 0, 0, 0]);
    assert_eq!(counts(&scene.send(&json!([late, late]))), [0, 2, 0, 0, 0]);
    assert_eq!(counts(&scene.send(&event("late", "c", "spend", 3, ON_TIME))), [0, 0, 1, 0, 0]);
    assert_eq!(counts(&send_cloud(&scene, "llm", "llm", 5, ON_TIME)), [0, 1, 0, 0, 0], "one that came in time, too");
    assert_eq!(look(&scene), before);
    let both = event("twice", "c", "spend", 1, ON_TIME);
    assert_eq!(counts(&scene.send(&json!([both, both]))), [1, 1, 0, 0, 1], "twice in one request");
}

#[test]
fn a_refused_late_event_takes_nothing_and_leaves_its_id_free() {
    let scene = filled();
    let answer = scene.send(&event("again", "c", "strict", 4, ON_TIME));
    assert_eq!(counts(&answer), [0, 0, 0, 1, 0]);
    assert_eq!(
        (&answer["events"][0]["outcome"], &answer["events"][0]["code"]),
        (&json!("rejected"), &json!("late_rejected"))
    );
    assert_eq!(answer["events"][0]["usage_event_id"], "again");
    assert_eq!(scene.rows("/v1/adjustments"), [0; 0]);
    assert_eq!(window(&scene, "strict"), (json!("3"), 1, "finalized".into(), 1));
    let accepted = scene.send(&event("again", "c", "strict", 4, "2026-11-22T12:29:00Z"));
    assert_eq!(counts(&accepted), [1, 0, 0, 0, 0], "{accepted}");
    assert_eq!(counts(&scene.send(&event("again", "c", "strict", 4, ON_TIME))), [0, 0, 1, 0, 0], "now it is taken");
    is(&total(&scene, "strict"), "7", "7", "0", 2, 0);
    let duplicate = scene.send(&event("strict", "c", "strict", 3, ON_TIME));
    assert_eq!(counts(&duplicate), [0, 1, 0, 0, 0], "a retry of what came in time is no late event");
}

#[test]
fn an_event_in_grace_is_in_time_up_to_the_last_instant() {
    let scene = Scene::start("2026-11-22T11:59:59.999Z", METERS);
    let send = |customer: &str, meter: &str, at: &str| {
        counts(&scene.send(&event(&format!("{customer} {meter}"), customer, meter, 1, at)))
    };
    let window = "2026-11-22T10:00:00Z";
    assert_eq!(send("a", "strict", window), [1, 0, 0, 0, 0]);
    assert_eq!(send("a", "spend", window), [1, 0, 0, 0, 0]);
    scene.pass(Duration::from_micros(1_000));
    assert_eq!(send("b", "strict", window), [0, 0, 0, 1, 0]);
    assert_eq!(send("b", "spend", window), [1, 0, 0, 0, 1]);
    assert_eq!(send("b", "strict", "2026-11-22T11:00:00Z"), [1, 0, 0, 0, 0], "its id is free");
}

#[test]
fn an_event_that_feeds_two_meters_adjusts_both_and_is_one_late_event() {
    let scene = filled();
    let answer = send_cloud(&scene, "late", "llm", 4, ON_TIME);
    assert_eq!(counts(&answer), [1, 0, 0, 0, 1]);
    let rows = scene.rows("/v1/adjustments");
    let told =
        rows.iter().map(|row| ["id", "meter", "delta", "value"].map(|name| row[name].as_str().unwrap().to_owned()));
    let seq = &answer["seq"];
    let expected = [[&format!("1.{seq}.0"), "spend", "4", "9"], [&format!("1.{seq}.1"), "calls", "1", "2"]];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    is(&total(&scene, "spend"), "9", "5", "4", 2, 1);
    is(&total(&scene, "calls"), "2", "1", "1", 2, 1);
}

#[test]
fn an_event_that_one_of_its_meters_refuses_is_refused_whole() {
    let scene = filled();
    let answer = send_cloud(&scene, "late", "mixed", 1, ON_TIME);
    assert_eq!((counts(&answer), &answer["events"][0]["code"]), ([0, 0, 0, 1, 0], &json!("late_rejected")));
    for meter in ["lenient_of_mixed", "strict_of_mixed"] {
        assert_eq!(window(&scene, meter), (json!("1"), 1, "finalized".into(), 1), "{meter}");
    }
    assert_eq!(scene.rows("/v1/adjustments"), [0; 0]);
}

#[test]
fn an_event_may_be_late_for_one_meter_and_in_time_for_the_other() {
    let scene = filled();
    assert_eq!(counts(&send_cloud(&scene, "late", "uneven", 1, ON_TIME)), [1, 0, 0, 0, 1]);
    assert_eq!(window(&scene, "slow"), (json!("2"), 2, "grace".into(), 0));
    assert_eq!(window(&scene, "quick"), (json!("2"), 2, "finalized".into(), 2));
    let rows = scene.rows("/v1/adjustments");
    assert_eq!((rows.len(), &rows[0]["meter"]), (1, &json!("quick")), "{rows:?}");
    is(&total(&scene, "slow"), "2", "2", "0", 2, 0);
}

#[test]
fn an_adjustment_to_a_final_period_is_a_new_revision_with_a_new_hash_and_the_same_original() {
    let scene = filled();
    scene.advance_to("2026-12-05T00:00:00Z");
    scene.wait_until_final("2026-11");
    let before = total(&scene, "spend");
    assert_eq!((&before["revision"], &before["final"]), (&json!(1), &json!(true)));
    let mut hashes = vec![before["hash"].clone()];
    for n in 1..=3 {
        let answer = scene.send(&event(&format!("late {n}"), "c", "spend", n, ON_TIME));
        assert_eq!(counts(&answer), [1, 0, 0, 0, 1]);
        let after = total(&scene, "spend");
        let value = 5 + n * (n + 1) / 2;
        is(&after, &value.to_string(), "5", &(value - 5).to_string(), 1 + n, n);
        assert_eq!((&after["revision"], &after["final"]), (&json!(1 + n), &json!(true)));
        assert!(!hashes.contains(&after["hash"]), "every revision has a hash of its own");
        hashes.push(after["hash"].clone());
    }
    let unused = event("never used before", "c", "spend", 8, "2026-11-20T05:00:00Z");
    assert_eq!(counts(&scene.send(&unused)), [1, 0, 0, 0, 1]);
    let row = scene.rows("/v1/adjustments").pop().unwrap();
    let told = ["revision", "event_count", "value", "delta"].map(|name| row[name].clone());
    assert_eq!(told, [json!(1), json!(1), json!("8"), json!("8")], "a window that nobody had used starts at 1");
    is(&total(&scene, "spend"), "19", "5", "14", 5, 4);
    let new = event("new", "new customer", "spend", 8, "2026-11-20T05:00:00Z");
    assert_eq!(counts(&scene.send(&new)), [1, 0, 0, 0, 1]);
    scene.wait_until_final("2026-11");
    let rows = scene.rows("/v1/periods/2026-11/totals?customer=new%20customer");
    is(&rows[0], "8", "0", "8", 1, 1);
    assert_eq!((&rows[0]["state"], &rows[0]["hash"]), (&json!("finalized"), &json!(hash(&rows[0]))));
}

#[test]
fn adjustments_are_listed_once_each_from_any_of_them_on_and_in_pages_of_every_length() {
    let scene = filled();
    for n in 0..5 {
        send_cloud(&scene, &format!("late {n}"), "llm", n, ON_TIME);
        let late = event(&format!("d{n}"), "d", "spend", n, ON_TIME);
        scene.accept(
            vec![late, event(&format!("in time {n}"), "d", "calls", 1, &format!("2026-11-22T{}:29:00Z", 12 + n))],
            1,
        );
        scene.advance(HOUR); // some are in the store, some not yet
    }
    let whole = scene.rows("/v1/adjustments");
    let id = |row: &Value| row["id"].as_str().unwrap().to_owned();
    assert_eq!(whole.len(), 15);
    assert!(whole.is_sorted_by_key(|row| row["seq"].as_u64().unwrap()));
    assert_eq!(scene.rows("/v1/adjustments?since=0"), whole);
    for limit in 1..=16 {
        assert_eq!(scene.pages(&format!("/v1/adjustments?limit={limit}")), whole, "limit {limit}");
    }
    for (at, row) in whole.iter().enumerate() {
        let since = format!("/v1/adjustments?since={}", id(row));
        assert_eq!(scene.rows(&since), whole[at + 1..], "{since}");
        assert_eq!(scene.pages(&format!("{since}&limit=2")), whole[at + 1..], "{since} in pages");
        let (_, place) = id(row).split_once('.').map(|(first, rest)| (first.to_owned(), rest.to_owned())).unwrap();
        assert_eq!(
            scene.rows(&format!("/v1/adjustments?since=9.{place}")),
            whole[at + 1..],
            "whatever the incarnation"
        );
    }
    for (query, name, value) in
        [("customer=d", "customer", "d"), ("meter=calls", "meter", "calls"), ("customer=x", "customer", "x")]
    {
        let expected = whole.iter().filter(|row| row[name] == value).cloned().collect::<Vec<_>>();
        assert_eq!(scene.rows(&format!("/v1/adjustments?{query}")), expected, "{query}");
        assert_eq!(scene.pages(&format!("/v1/adjustments?{query}&limit=1")), expected, "{query} one by one");
    }
}
