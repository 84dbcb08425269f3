//! What a newcomer does first: a cap, a stream of events, an alert that arrives, a stop, a raise, a retry.

use serde_json::json;

use super::scene::{self, Scene, alerts, cap, event, expect, metric, put_caps, used, wait_until};
use crate::harness::receiver::Receiver;

#[test]
fn a_soft_alert_arrives_signed_the_hard_cap_stops_the_next_event_and_a_raise_lets_the_same_id_in() {
    let receiver = Receiver::willing();
    let scene = Scene::start(&(scene::meter("tokens", "") + &scene::webhook(&receiver.url())));
    let stored = put_caps(&scene, "acme", "tokens", &json!({"hard": 100, "soft": "80%"}));
    assert_eq!((&stored["customer"], &stored["meter"]), (&json!("acme"), &json!("tokens")), "{stored}");
    assert_eq!((&stored["source"], &stored["caps"][0]["hard"]), (&json!("customer"), &json!("100")), "{stored}");
    for n in 0..10 {
        expect(&scene, &event(&format!("job-{n}"), "acme", "tokens", 8), "accepted");
    }
    wait_until("the soft alert arrives", || receiver.count() > 0);
    let requests = receiver.requests(); // each signature was verified
    let alert = requests[0].alert().expect("an alert").clone();
    println!("the receiver got {}", requests[0].body);
    let names = ["customer", "meter", "cap", "threshold", "amount", "used", "hard", "tenant"];
    let due = ["acme", "tokens", "default", "80%", "80", "80", "100", "default"];
    assert_eq!(names.map(|name| alert[name].clone()), due.map(|text| json!(text)), "{alert}");
    assert_eq!(requests[0].body["type"], "alert.triggered");
    assert_eq!((&alert["event"]["usage_event_id"], &alert["soft"]), (&json!("job-9"), &json!(["80%"])), "{alert}");
    assert_eq!((&alert["generation"], &alert["late"], &alert["enforce"]), (&json!(1), &json!(false), &json!(true)));

    expect(&scene, &event("job-10", "acme", "tokens", 20), "accepted");
    let stopped = expect(&scene, &event("job-11", "acme", "tokens", 1), "capped");
    println!("the hard cap said {stopped}");
    assert_eq!(used(&scene, "acme", "tokens"), scene::quantity(&json!("100")));
    wait_until("the hard alert arrives", || receiver.count() > 1);
    put_caps(&scene, "acme", "tokens", &json!({"hard": 200, "soft": "80%"}));
    expect(&scene, &event("job-11", "acme", "tokens", 1), "accepted");
    assert_eq!(cap(&scene, "acme", "tokens")["remaining"], "99");
    wait_until("the raise is told of", || receiver.count() > 3);
    let told = receiver.requests();
    let told = told.iter().map(|request| {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        (text(&request.body["type"]), text(&request.alert().unwrap()["threshold"]))
    });
    let mut told = told.collect::<Vec<_>>();
    told.sort();
    let due = [
        ("alert.recovered", "80%"),
        ("alert.recovered", "hard"),
        ("alert.triggered", "80%"),
        ("alert.triggered", "hard"),
    ];
    assert_eq!(told, due.map(|(kind, threshold)| (kind.to_owned(), threshold.to_owned())));
    let listed = alerts(&scene, "customer=acme");
    assert!(listed.iter().all(|alert| alert["state"] == "recovered" && alert["recovered_used"] == "100"), "{listed:?}");
    println!("GET /v1/alerts: {}", listed[0]);
    metrics(&scene);
    scene.verify();
}

fn metrics(scene: &Scene) {
    let sample =
        |text: &str| metric(scene, text).unwrap_or_else(|| panic!("no {text} in {}", scene.get("/metrics").text));
    assert_eq!(sample("meterd_events_capped_total{meter=\"tokens\"}"), "1");
    assert_eq!(sample("meterd_thresholds_crossed_total{meter=\"tokens\",threshold=\"hard\"}"), "1");
    assert_eq!(sample("meterd_thresholds_crossed_total{meter=\"tokens\",threshold=\"80%\"}"), "1");
    assert_eq!(sample("meterd_thresholds_recovered_total{meter=\"tokens\",threshold=\"hard\"}"), "1");
    wait_until("no cap is exceeded", || sample("meterd_caps_exceeded{meter=\"tokens\"}") == "0");
    let crossed = sample("meterd_threshold_crossed_timestamp_seconds{meter=\"tokens\",threshold=\"hard\"}");
    assert!(crossed.parse::<f64>().is_ok_and(|seconds| seconds > 1.7e9), "{crossed}");
    let text = scene.get("/metrics").text;
    assert!(!text.contains("acme"), "no metric names a customer unless asked to");
}
