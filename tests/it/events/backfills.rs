//! Loads of history, and taking one back, against the real program.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{METERS, assert_problem, post, void};
use crate::billing::scene::{Http, NOW, event};
use crate::caps::scene::Scene;

const EVENTS: usize = 300;
const PATIENCE: Duration = Duration::from_secs(60);

/// History of 2023, half of it for a meter that takes no late usage.
fn history() -> Vec<Value> {
    let at = |n: usize| format!("2023-05-{:02}T{:02}:00:00Z", n % 28 + 1, n % 24);
    (0..EVENTS)
        .map(|n| event(&format!("h{n}"), &format!("c{}", n % 3), ["tokens", "calls"][n % 2], 2, &at(n)))
        .collect()
}

fn load(http: &Http, id: &str) -> Value {
    let path = format!("/v1/events?backfill={id}");
    let reply = post(http, &path, &history().into());
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json
}

fn totals(http: &Http) -> Value {
    let rows = http.rows("/v1/periods/2023-05/totals");
    let row = |row: &Value| json!([row["customer"], row["meter"], row["value"], row["event_count"]]);
    rows.iter().filter(|row| row["event_count"] != 0).map(row).collect()
}

fn revert(http: &Http, id: &str) -> Value {
    let path = format!("/v1/backfills/{id}:revert");
    let reply = post(http, &path, &json!({"reason": "wrong file"}));
    assert!([200, 202].contains(&reply.status), "{}", reply.text);
    assert_eq!(reply.status == 202, reply.json["state"] == "reverting");
    let began = Instant::now();
    loop {
        let backfill = http.json(&format!("/v1/backfills/{id}"));
        if backfill["state"] == "reverted" {
            return backfill;
        }
        assert!(began.elapsed() < PATIENCE, "{backfill}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn history_is_loaded_once_however_often_it_is_sent_and_only_under_a_backfill() {
    let mut scene = Scene::start(METERS);
    let answer = scene.send(&history().into());
    assert_eq!((&answer["rejected"], &answer["events"][0]["code"]), (&json!(EVENTS), &json!("too_late")));
    assert_eq!(scene.rows("/v1/backfills"), [Value::Null; 0]);
    assert_eq!(load(&scene, "2023")["accepted"], EVENTS);
    let once = totals(&scene);
    assert_eq!(once.as_array().unwrap().len(), 6);
    assert_eq!(load(&scene, "2023")["duplicate"], EVENTS);
    scene.kill();
    assert_eq!(load(&scene, "2023")["duplicate"], EVENTS);
    assert_eq!(totals(&scene), once);
    let backfills = scene.rows("/v1/backfills");
    let found = (backfills.len(), &backfills[0]["id"], &backfills[0]["state"], &backfills[0]["events"]);
    assert_eq!(found, (1, &json!("2023"), &json!("open"), &json!(EVENTS)));
    assert_eq!(scene.json("/v1/backfills/2023"), backfills[0]);
    let rows = scene.pages("/v1/events?customer=c1&limit=7");
    assert_eq!(rows.len(), EVENTS / 3);
    assert!(rows.iter().all(|row| row["backfill"] == "2023" && row["reverted_at"].is_null()));
    let seqs = |name: &str| backfills[0][name].as_u64().unwrap();
    assert_eq!(seqs("last_seq") - seqs("first_seq") + 1, EVENTS as u64);
}

#[test]
fn a_backfill_is_taken_back_as_a_whole_and_may_be_loaded_again() {
    let mut scene = Scene::start(METERS);
    let now = scene.json("/v1/clock")["wall"].as_str().unwrap().to_owned();
    scene.accept(vec![event("own", "c1", "tokens", 1, &now)], 0);
    load(&scene, "2023");
    let loaded = totals(&scene);
    assert_eq!(void(&scene, "h1", "one of it").status, 200, "an event of it can be taken back by itself");
    scene.kill();
    assert_eq!(void(&scene, "h1", "one of it").json["already_voided"], true, "also after SIGKILL");
    let reverted = revert(&scene, "2023");
    assert_eq!((&reverted["reason"], &reverted["events"]), (&json!("wrong file"), &json!(EVENTS)), "{reverted}");
    assert_eq!(reverted["reverted_feeds"], EVENTS - 1);
    assert_eq!(totals(&scene), json!([]));
    assert_eq!(revert(&scene, "2023"), reverted, "once");
    let rows = scene.rows("/v1/events?customer=c0");
    assert!(rows.iter().all(|row| row["backfill"] == "2023" && row["reverted_at"] == reverted["reverted_at"]));
    assert_eq!(scene.rows("/v1/events?id=h0").len(), 0, "the ids are free");
    assert_problem(&void(&scene, "h0", "r"), 404, "unknown_event");
    assert_eq!(load(&scene, "2023")["accepted"], EVENTS);
    assert_eq!(totals(&scene), loaded);
    let backfills = scene.rows("/v1/backfills");
    assert_eq!((backfills.len(), &backfills[0], &backfills[1]["state"]), (2, &reverted, &json!("open")));
    assert_eq!(scene.json("/v1/backfills/2023"), backfills[1], "the newest of a name");
    assert_eq!(scene.pages("/v1/backfills?limit=1"), backfills);
    assert_eq!(scene.rows("/v1/events?id=own").len(), 1, "what came otherwise stays");
    let trail = scene.rows("/v1/audit?action=backfill.");
    let actions: Vec<&str> = trail.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["backfill.open", "backfill.revert", "backfill.open"]);
    assert_eq!(trail[1]["after"]["reason"], "wrong file");
}

#[test]
fn a_backfill_that_is_being_taken_back_takes_nothing() {
    // Nobody takes it back here, so that it stays as it is.
    let scene = crate::billing::scene::Scene::start(NOW, METERS);
    load(&scene, "2023");
    let path = "/v1/backfills/2023:revert";
    let reply = post(&scene, path, &json!({"reason": "wrong file"}));
    assert_eq!((reply.status, &reply.json["state"]), (202, &json!("reverting")));
    let again = post(&scene, path, &json!({"reason": "another"}));
    assert_eq!((again.status, &again.json), (202, &reply.json), "once");
    let before = scene.rows("/v1/events").len();
    let new = json!([event("new", "c1", "tokens", 1, "2023-05-01T00:00:00Z")]);
    assert_problem(&post(&scene, "/v1/events?backfill=2023", &new), 409, "backfill_reverting");
    assert_eq!(scene.rows("/v1/events").len(), before);
    assert_problem(&void(&scene, "h0", "r"), 409, "reverted");
    assert_eq!(post(&scene, "/v1/events?backfill=other", &new).json["accepted"], 1, "another one does");
    let h0 = &scene.rows("/v1/events?id=h0")[0];
    assert_eq!((&h0["backfill"], &h0["reverted_at"]), (&json!("2023"), &Value::Null));
}

#[test]
fn the_trail_is_read_on_from_the_last_entry_that_was_seen() {
    let scene = Scene::start(METERS);
    for id in ["one", "two", "three"] {
        load(&scene, id);
    }
    let trail = scene.pages("/v1/audit?limit=1&action=backfill.open");
    let targets: Vec<&Value> = trail.iter().map(|entry| &entry["target"]).collect();
    assert_eq!(targets, ["one", "two", "three"]);
    assert_eq!(scene.rows("/v1/audit?action=backfill.open"), trail);
    let since = format!("/v1/audit?action=backfill.open&since={}", trail[0]["id"].as_str().unwrap());
    assert_eq!(scene.rows(&since), trail[1..]);
    assert_eq!(scene.rows("/v1/audit?action=nope"), [Value::Null; 0]);
}
