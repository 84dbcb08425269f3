//! What is under way to a sink is bounded; what does not fit waits, and is not lost.

use std::time::Duration;

use crate::delivery::scene::{PATIENT, Scene, webhook};
use crate::harness::receiver::{Answer, Receiver};

#[test]
fn no_more_deliveries_are_pending_than_allowed_and_the_rest_waits_in_the_outbox() {
    let receiver = Receiver::start(|_| Answer::Status(503));
    let schedule = format!("schedule = [\"0s\"{}]\n", ", \"300ms\"".repeat(40));
    let limits = format!("{schedule}breaker_failures = 1000\nmax_rows = 1\nmax_pending = 3\n");
    let mut scene = Scene::start(&webhook("slow", &receiver.url(), &limits));
    scene.feed(10);
    scene.wait_until_sink("slow", "full", |sink| sink["pending"] == 3);
    scene.kill();
    scene.start_again();
    for _ in 0..30 {
        let sink = scene.sink("slow");
        assert!(sink["pending"].as_u64().unwrap() <= 3, "{sink}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let ids = receiver.requests().iter().filter(|request| request.attempt == 0).count();
    assert_eq!(ids, 3, "what is not planned is not sent");
    receiver.answer(|_| Answer::Status(200));
    scene.wait_until_all_arrived(&receiver);
    scene.wait_until_sink("slow", "done", |sink| sink["pending"] == 0 && sink["oldest_at"].is_null());
}

#[test]
fn no_more_requests_are_under_way_than_allowed() {
    let receiver = Receiver::start(|_| Answer::Late(Duration::from_millis(50), 200));
    let limits = format!("{PATIENT}max_rows = 1\nmax_in_flight = 2\n");
    let mut scene = Scene::start(&webhook("slow", &receiver.url(), &limits));
    scene.feed(12);
    scene.wait_until_all_arrived(&receiver);
    assert_eq!(receiver.at_once(), 2);
}
