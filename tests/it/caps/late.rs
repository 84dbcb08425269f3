//! Late usage: what belongs to a period that is over is never refused, and its alerts say that it is late.

use meterd::env::{Clock, SystemClock};
use serde_json::{Value, json};

use super::scene::{self, Scene, alerts, check, event, expect, put_caps, send, wait_until};
use crate::billing::scene::{NOW, Scene as Turned};

const HOUR_MS: i64 = 3_600_000;

fn at(id: &str, customer: &str, quantity: u64, ms: i64) -> Value {
    let mut event = event(id, customer, "calls", quantity);
    event["timestamp"] = ms.into();
    event
}

fn told(alerts: &[Value]) -> Vec<Value> {
    let names = ["threshold", "used", "late", "generation", "state"];
    alerts.iter().map(|alert| names.map(|name| alert[name].clone()).to_vec().into()).collect()
}

#[test]
fn late_usage_of_a_window_that_is_over_is_taken_past_its_cap_and_its_alerts_say_late() {
    let cap = "[[cap]]\nmeter = \"calls\"\nperiod = \"window\"\nhard = \"10\"\nsoft = [\"50%\"]\n";
    let mut scene = Scene::start(&(scene::meter("calls", "window = \"1s\"\ngrace = \"1s\"\n") + cap));
    // Ahead, so that the window is open for a while.
    let ahead = SystemClock::new().now().millis().div_euclid(1_000) * 1_000 + 5_000;
    expect(&scene, &at("ten", "c", 10, ahead), "accepted");
    expect(&scene, &at("one", "c", 1, ahead + 999), "capped");
    expect(&scene, &at("next", "c", 1, ahead + 1_000), "accepted");
    let over = ahead - HOUR_MS;
    let taken = expect(&scene, &at("late", "c", 15, over), "accepted");
    assert_eq!(taken["late"], true, "{taken}");
    let late = || alerts(&scene, "customer=c").into_iter().filter(|alert| alert["late"] == true).collect::<Vec<_>>();
    let due = [json!(["50%", "15", true, 1, "triggered"]), json!(["hard", "15", true, 1, "triggered"])];
    assert_eq!(told(&late()), due);
    expect(&scene, &at("later", "c", 5, over), "accepted");
    assert_eq!(told(&late()), due, "each once");
    let other = [json!(["50%", "10", false, 1, "triggered"]), json!(["hard", "10", false, 1, "triggered"])];
    assert_eq!(told(&alerts(&scene, "customer=c"))[..2], other);
    wait_until("the window that was full is over", || {
        let windows = scene.rows("/v1/meters/calls/usage?customer=c");
        windows.iter().all(|window| window["state"] == "finalized")
    });
    let freed = expect(&scene, &at("one", "c", 1, ahead + 999), "accepted");
    assert_eq!(freed["late"], true, "{freed}");
    let all = alerts(&scene, "");
    println!("late alerts: {:?}", late());
    scene.kill();
    assert_eq!(alerts(&scene, ""), all);
    scene.verify();
}

#[test]
fn late_usage_of_an_earlier_billing_period_is_taken_and_late_usage_of_this_one_is_not() {
    let scene = Turned::start(NOW, &scene::meter("calls", ""));
    put_caps(&scene, "c", "calls", &json!({"hard": 100, "soft": ["50%"]}));
    let moment = |text: &str| meterd::model::Timestamp::parse_rfc3339(text).unwrap().millis();
    expect(&scene, &at("all", "c", 100, moment(NOW)), "accepted");
    let today = send(&scene, &at("earlier", "c", 1, moment("2026-11-22T07:00:00Z")));
    assert_eq!(today["outcome"], "capped", "its window is final, its period is not over: {today}");
    let taken = expect(&scene, &at("october", "c", 150, moment("2026-10-25T12:00:00Z")), "accepted");
    assert_eq!(taken["late"], true, "{taken}");
    expect(&scene, &at("october again", "c", 1, moment("2026-10-25T12:00:00Z")), "accepted");
    let of = |period: &str| {
        let all = alerts(&scene, "customer=c");
        told(&all.into_iter().filter(|alert| alert["period"] == period).collect::<Vec<_>>())
    };
    assert_eq!(
        of("2026-10"),
        [json!(["50%", "150", true, 1, "triggered"]), json!(["hard", "150", true, 1, "triggered"])]
    );
    assert_eq!(
        of("2026-11"),
        [json!(["50%", "100", false, 1, "triggered"]), json!(["hard", "100", false, 1, "triggered"])]
    );
    assert_eq!(check(&scene, "c", "calls", 1)["used"], "100", "October is not November");
    println!("alerts: {:?}, {:?}", of("2026-10"), of("2026-11"));
}
