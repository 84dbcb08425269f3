//! A new billing period: all is free again, every threshold fires again, and what was reserved before counts where it was
//! reserved.

use meterd::model::Duration;
use serde_json::{Value, json};

use super::scene::{self, alerts, cap, check, event, expect, post, put_caps, refused};
use crate::billing::scene::{HOUR, Http, Scene};

const DAILY: &str = "[billing]\nperiod = \"day\"\n";

fn scene() -> Scene {
    Scene::start("2026-11-22T22:30:00Z", &(DAILY.to_owned() + &scene::meter("calls", "")))
}

#[test]
fn a_new_period_begins_at_nothing_and_every_threshold_fires_again() {
    let scene = scene();
    let stored = put_caps(&scene, "c", "calls", &json!({"hard": 10, "soft": ["50%", "80%"]}));
    assert_eq!(stored["caps"][0]["period"], "day", "{stored}");
    for day in 0..4 {
        let status = check(&scene, "c", "calls", 10);
        assert_eq!((&status["allowed"], &status["used"]), (&json!(true), &json!("0")), "day {day}: {status}");
        assert_eq!(status["period_end"], format!("2026-11-{}T00:00:00Z", 23 + day), "{status}");
        expect(&scene, &event(&format!("all of {day}"), "c", "calls", 10), "accepted");
        expect(&scene, &event(&format!("more on {day}"), "c", "calls", 1), "capped");
        assert_eq!(cap(&scene, "c", "calls")["used"], "10");
        scene.advance(Duration::from_secs(86_400));
    }
    expect(&scene, &event("more on 0", "c", "calls", 1), "accepted");
    let all = alerts(&scene, "customer=c");
    let told = all.iter().map(|alert| {
        let text = |name: &str| alert[name].as_str().unwrap().to_owned();
        assert_eq!((&alert["generation"], &alert["state"]), (&json!(1), &json!("triggered")), "{alert}");
        assert_eq!(alert["alert_id"], super::book::alert_id(alert));
        format!("{} {}", text("period"), text("threshold"))
    });
    let due = (22..26).flat_map(|day| ["50%", "80%", "hard"].map(|threshold| format!("2026-11-{day} {threshold}")));
    assert_eq!(told.collect::<Vec<_>>(), due.collect::<Vec<_>>());
    println!("{} alerts over four days: {}", all.len(), all[0]);
}

fn reserve(http: &Http, id: &str, quantity: u64) -> Value {
    let body = json!({"id": id, "customer": "c", "meter": "calls", "quantity": quantity, "expires_in": "5h"});
    let reply = post(http, "/v1/reservations", &body);
    assert_eq!(reply.status, 201, "{}", reply.text);
    reply.json
}

fn commit(http: &Http, id: &str, quantity: u64) -> crate::billing::scene::Reply {
    let body = json!({"quantity": quantity, "usage_event_id": format!("{id} was used")});
    post(http, &format!("/v1/reservations/{id}:commit"), &body)
}

#[test]
fn a_reservation_counts_in_the_period_it_was_made_in() {
    let scene = scene();
    put_caps(&scene, "c", "calls", &json!({"hard": 100, "soft": ["60%"]}));
    for id in ["a", "b", "never", "more"] {
        assert_eq!(reserve(&scene, id, 25)["period_end"], "2026-11-23T00:00:00Z");
    }
    expect(&scene, &event("full", "c", "calls", 1), "capped");
    scene.advance(HOUR);
    scene.advance(HOUR); // half past midnight
    let status = check(&scene, "c", "calls", 100);
    let found = ["allowed", "used", "held", "remaining"].map(|name| status[name].clone());
    assert_eq!(found, [json!(true), json!("0"), json!("0"), json!("100")], "nothing is held of today: {status}");
    expect(&scene, &event("today", "c", "calls", 100), "accepted");
    for (id, used) in [("a", 25), ("b", 15)] {
        let reply = commit(&scene, id, used);
        assert_eq!((reply.status, &reply.json["outcome"]), (200, &json!("accepted")), "{}", reply.text);
        assert_eq!(
            (&reply.json["state"], &reply.json["committed_quantity"]),
            (&json!("committed"), &json!(used.to_string()))
        );
    }
    refused(&commit(&scene, "more", 61), 409, "hard_cap", "25 + 15 + 25 held + 61 is more than 100 of yesterday");
    let total = |period: &str| {
        let rows = scene.rows(&format!("/v1/periods/{period}/totals?customer=c&meter=calls"));
        rows.first().map(|row| row["value"].clone())
    };
    assert_eq!([total("2026-11-22"), total("2026-11-23")], [Some(json!("40")), Some(json!("100"))]);
    assert_eq!(commit(&scene, "more", 35).status, 200, "with 25 held beside it");
    assert_eq!(total("2026-11-22"), Some(json!("75")));
    let crossed = alerts(&scene, "customer=c");
    let soft = |alert: &&Value| alert["period"] == "2026-11-22" && alert["threshold"] == "60%";
    let yesterday = crossed.iter().find(soft).expect("yesterday's soft alert");
    assert_eq!((&yesterday["used"], &yesterday["event"]["usage_event_id"]), (&json!("75"), &json!("more was used")));
    for _ in 0..4 {
        scene.advance(HOUR);
    }
    refused(&commit(&scene, "never", 1), 409, "reservation_expired", "it lapsed at half past three");
    println!("totals {:?} and {:?}; {yesterday}", total("2026-11-22"), total("2026-11-23"));
}
