//! What is refused and what is told of it: the hard alert of who is stopped below the cap, grace, overage, and edits that
//! never reset what is used.

use meterd::env::{Clock, SystemClock};
use serde_json::{Value, json};

use super::scene::{self, Scene, alerts, cap, check, event, expect, put_caps, quantity, used};

fn scene() -> Scene {
    Scene::start(&scene::meter("calls", ""))
}

/// Threshold, generation, state, used, id and seq of the event.
fn told(scene: &Scene, customer: &str) -> Vec<Value> {
    let alerts = alerts(scene, &format!("customer={customer}"));
    let names = ["threshold", "generation", "state", "used"];
    let told = alerts.iter().map(|alert| {
        let mut told = names.map(|name| alert[name].clone()).to_vec();
        told.extend(["usage_event_id", "seq"].map(|name| alert["event"][name].clone()));
        told.into()
    });
    told.collect()
}

#[test]
fn whoever_is_stopped_below_the_cap_is_heard_of_once_until_a_raise() {
    let mut scene = scene();
    put_caps(&scene, "c", "calls", &json!({"hard": 10, "soft": ["50%"]}));
    let eight = expect(&scene, &event("eight", "c", "calls", 8), "accepted");
    expect(&scene, &event("five", "c", "calls", 5), "capped");
    expect(&scene, &event("three", "c", "calls", 3), "capped");
    let soft = json!(["50%", 1, "triggered", "8", "eight", eight["seq"]]);
    assert_eq!(told(&scene, "c"), [soft.clone(), json!(["hard", 1, "triggered", "8", "five", null])]);
    scene.kill();
    expect(&scene, &event("four", "c", "calls", 4), "capped");
    expect(&scene, &event("two", "c", "calls", 2), "accepted");
    assert_eq!(
        told(&scene, "c")[1..],
        [json!(["hard", 1, "triggered", "8", "five", null])],
        "it is active: once is enough"
    );
    put_caps(&scene, "c", "calls", &json!({"hard": 18, "soft": ["50%"]}));
    assert_eq!(told(&scene, "c")[1..], [json!(["hard", 1, "recovered", "8", "five", null])], "used 10 of 18");
    assert_eq!(alerts(&scene, "customer=c&state=recovered")[0]["recovered_used"], "10");
    assert_eq!(told(&scene, "c")[0], soft, "10 is still half of 18");
    expect(&scene, &event("nine", "c", "calls", 9), "capped");
    expect(&scene, &event("five", "c", "calls", 5), "accepted");
    assert_eq!(told(&scene, "c")[2..], [json!(["hard", 2, "triggered", "10", "nine", null])]);
    println!("alerts of refusals: {:?}", told(&scene, "c"));
    scene.verify();
}

#[test]
fn grace_is_used_up_to_its_last_unit_and_what_is_above_the_cap_is_overage() {
    let scene = scene();
    put_caps(&scene, "c", "calls", &json!({"hard": 100, "grace": "10%"}));
    expect(&scene, &event("a", "c", "calls", 99), "accepted");
    expect(&scene, &event("b", "c", "calls", "11.000000000001"), "capped");
    expect(&scene, &event("c", "c", "calls", 11), "accepted");
    expect(&scene, &event("d", "c", "calls", "0.000000000001"), "capped");
    let status = check(&scene, "c", "calls", 1);
    let found =
        ["allowed", "used", "hard_cap", "remaining", "overage", "reason", "cap"].map(|name| status[name].clone());
    assert_eq!(
        found,
        [json!(false), json!("110"), json!("100"), json!("0"), json!("10"), json!("hard_cap"), json!("default")]
    );
    let total = scene.rows("/v1/periods/current/totals?customer=c&meter=calls")[0].clone();
    assert_eq!((&total["value"], &total["overage"]), (&json!("110"), &json!("10")), "{total}");

    put_caps(&scene, "open", "calls", &json!({"hard": 100, "on_hard_cap": "allow"}));
    for n in 0..3 {
        expect(&scene, &event(&format!("open {n}"), "open", "calls", 60), "accepted");
    }
    let total = scene.rows("/v1/periods/current/totals?customer=open&meter=calls")[0].clone();
    assert_eq!((&total["value"], &total["overage"]), (&json!("180"), &json!("80")), "{total}");
    let status = check(&scene, "open", "calls", 1_000);
    assert_eq!((&status["allowed"], &status["overage"]), (&json!(true), &json!("80")), "{status}");
    assert_eq!(cap(&scene, "open", "calls")["overage"], "80");
    scene.verify();
}

#[test]
fn an_edit_never_resets_what_is_used_and_the_config_comes_back() {
    let toml = "[[cap]]\nmeter = \"calls\"\nhard = \"50\"\n[[cap]]\nmeter = \"calls\"\nplan = \"big\"\nhard = \"70\"\n";
    let mut scene = Scene::start(&(scene::meter("calls", "") + toml));
    expect(&scene, &event("a", "c", "calls", 50), "accepted");
    expect(&scene, &event("b", "c", "calls", 1), "capped");
    let path = scene::caps_path("c", "calls");
    for (hard, outcome) in [(60, "accepted"), (55, "capped"), (60, "capped")] {
        put_caps(&scene, "c", "calls", &json!({"hard": hard}));
        let quantity = if outcome == "accepted" { 8 } else { 3 };
        expect(&scene, &event(&format!("at {hard} {outcome}"), "c", "calls", quantity), outcome);
        assert_eq!(used(&scene, "c", "calls"), quantity_of("58"));
        scene.kill();
        assert_eq!(
            (&cap(&scene, "c", "calls")["used"], &scene.json(&path)["source"]),
            (&json!("58"), &json!("customer"))
        );
    }
    let reply = scene.call("DELETE", &path, &[], "");
    assert_eq!(
        (reply.status, &reply.json["source"], &reply.json["caps"][0]["hard"]),
        (200, &json!("config"), &json!("50"))
    );
    expect(&scene, &event("after", "c", "calls", 1), "capped");
    assert_eq!(scene.put("/v1/customers/c", r#"{"plan":"big"}"#).status, 200);
    assert_eq!((&cap(&scene, "c", "calls")["hard"], &cap(&scene, "c", "calls")["used"]), (&json!("70"), &json!("58")));
    expect(&scene, &event("after", "c", "calls", 1), "accepted");
    put_caps(&scene, "c", "calls", &json!([]));
    expect(&scene, &event("free", "c", "calls", 1_000), "accepted");
    let listed = scene.json("/v1/customers/c/caps");
    assert_eq!(
        (&listed["customer"], &listed["data"][0]["source"]),
        (&json!("c"), &json!("customer")),
        "an empty list is their own"
    );
    scene.restart();
    assert_eq!(scene.json("/v1/customers/c/caps"), listed);
    scene.verify();
}

#[test]
fn a_monthly_cap_stops_everyone_however_many_windows_are_used_beside_it() {
    let scene = Scene::start(&scene::meter("calls", "window = \"1m\"\n"));
    let caps = json!([{"id": "month", "hard": 30, "soft": [25]}, {"id": "minute", "period": "window", "hard": 1_000}]);
    put_caps(&scene, "c", "calls", &caps);
    let now = SystemClock::new().now().millis();
    let mut outcomes = Vec::new();
    for n in 0..40 {
        let mut one = event(&format!("e{n}"), "c", "calls", 1);
        // Each in a window of its own; all of them are open.
        one["timestamp"] = (now - 60_000 * n).into();
        outcomes.push(scene::send(&scene, &one)["outcome"].as_str().unwrap().to_owned());
    }
    let taken = outcomes.iter().filter(|outcome| *outcome == "accepted").count();
    println!("{taken} of 40 units were taken, each in a minute of its own, by a monthly cap of 30");
    assert_eq!(taken, 30, "{outcomes:?}");
    let soft = told(&scene, "c");
    assert_eq!((&soft[0][0], &soft[0][3], &soft[0][4]), (&json!("25"), &json!("25"), &json!("e24")), "{soft:?}");
    assert_eq!(used(&scene, "c", "calls"), quantity_of("30"));
    scene.verify();
}

fn quantity_of(text: &str) -> meterd::model::Quantity {
    quantity(&json!(text))
}
