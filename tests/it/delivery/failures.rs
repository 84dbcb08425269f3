//! Receivers that fail in every way there is: tried by the schedule, or not, and each ends where it should.

use std::time::Duration;

use serde_json::json;

use crate::delivery::scene::{PATIENT, QUICK, Scene, arrived, webhook};
use crate::harness::receiver::{Answer, Receiver};

const ATTEMPTS: usize = 3;
/// The delays of `QUICK`, and a fifth less for what chance may take off.
const GAPS: [Duration; ATTEMPTS - 1] = [Duration::from_millis(160), Duration::from_millis(240)];

#[test]
fn receivers_that_fail_are_tried_by_the_schedule_and_their_dead_letters_say_why() {
    let elsewhere = Receiver::willing();
    let moved = Answer::Says(301, "location", elsewhere.url(), "");
    let broken = Answer::Says(500, "x-trouble", "1".into(), "out of order");
    let failures = [
        ("broken", broken, Some(500), "500"),
        ("hanging", Answer::Hang, None, "time"),
        ("resetting", Answer::Reset, None, ""),
        ("moved", moved, Some(301), "301"),
        ("strict", Answer::Status(404), Some(404), "404"),
        ("slow", Answer::Late(Duration::from_secs(2), 200), None, "time"),
    ];
    let receivers = failures.clone().map(|(_, answer, ..)| Receiver::start(move |_| answer.clone()));
    let sinks = failures.iter().zip(&receivers).map(|((name, ..), receiver)| webhook(name, &receiver.url(), QUICK));
    let mut scene = Scene::start(&sinks.collect::<String>());
    scene.feed(2);
    for ((name, _, status, error), receiver) in failures.iter().zip(&receivers) {
        let dead = scene.wait_until_dead(name, 1);
        let requests = receiver.requests();
        assert_eq!(requests.len(), ATTEMPTS, "{name}");
        assert!(requests.iter().all(|request| request.id == requests[0].id), "{name}: one id");
        let gaps = requests.windows(2).map(|pair| pair[1].at - pair[0].at).collect::<Vec<_>>();
        assert!(gaps.iter().zip(GAPS).all(|(gap, least)| *gap >= least), "{name}: {gaps:?}");

        let shown = scene.stored_delivery(&requests[0].id);
        assert_eq!((&dead[0]["id"], &dead[0]["sink"]), (&json!(requests[0].id), &json!(name)), "{dead:?}");
        assert_eq!(shown["payload"]["rows"].as_array().unwrap(), requests[0].rows(), "{name}: what was sent is shown");
        let attempts = shown["attempts_log"].as_array().unwrap();
        assert_eq!(attempts.len(), ATTEMPTS, "{shown}");
        for attempt in attempts {
            assert_eq!(attempt["status"].as_u64(), *status, "{name}: {attempt}");
            let told = attempt["error"].as_str().unwrap();
            assert!(!told.is_empty() && told.contains(error), "{name}: {attempt}");
        }
        if *name == "broken" {
            assert_eq!(attempts[0]["answer"], "out of order", "{attempts:?}");
        }
    }
    assert_eq!(elsewhere.connects(), 0, "no redirect is followed");
    for ((name, ..), receiver) in failures.iter().zip(&receivers) {
        let before = receiver.requests()[0].id.clone();
        receiver.answer(|_| Answer::Status(200));
        scene.operate(&format!("/v1/deliveries/{before}:replay"), &json!({}));
        scene.wait_until_all_arrived(receiver);
        scene.wait_until(&format!("{name} has it"), || scene.delivery(&before)["state"] == "delivered");
        assert!(receiver.requests().iter().all(|request| request.id == before), "a replay has the same webhook-id");
    }
}

#[test]
fn a_receiver_that_answers_413_gets_the_message_once_and_it_is_a_dead_letter() {
    let receiver = Receiver::start(|request| Answer::Status(if request.message == 0 { 413 } else { 200 }));
    let mut scene = Scene::start(&webhook("small", &receiver.url(), PATIENT));
    scene.feed(1);
    let dead = scene.wait_until_dead("small", 1);
    assert_eq!(dead[0]["last_attempt"]["status"], 413, "{dead:?}");
    scene.feed(1);
    scene.wait_until("the next one arrives", || arrived(&receiver).contains("c1"));
    assert_eq!(receiver.requests().iter().filter(|request| request.message == 0).count(), 1);
}

#[test]
fn a_receiver_that_answers_410_gets_no_more_until_an_operator_resumes() {
    let receiver = Receiver::start(|_| Answer::Status(410));
    let mut scene = Scene::start(&webhook("gone", &receiver.url(), PATIENT));
    scene.feed(1);
    scene.wait_until_sink("gone", "paused", |sink| sink["paused"]["cause"] == "gone");
    scene.feed(1);
    scene.kill();
    scene.start_again();
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(receiver.count(), 1, "a paused sink is sent nothing, not after a restart either");
    assert_eq!(scene.sink("gone")["paused"]["cause"], "gone");
    receiver.answer(|_| Answer::Status(200));
    scene.resume("gone");
    scene.wait_until_all_arrived(&receiver);
    assert!(scene.sink("gone")["paused"].is_null(), "{}", scene.sink("gone"));
}

#[test]
fn a_receiver_that_asks_for_time_gets_it() {
    let wait = Duration::from_secs(2);
    let receiver = Receiver::start(|request| match request.message {
        0 if request.attempt == 0 => Answer::Says(429, "retry-after", "2".into(), "slower"),
        _ => Answer::Status(200),
    });
    let mut scene = Scene::start(&webhook("busy", &receiver.url(), PATIENT));
    scene.feed(1);
    scene.wait_until("it is asked", || receiver.count() == 1);
    scene.feed(1);
    scene.wait_until_all_arrived(&receiver);
    let requests = receiver.requests();
    assert_eq!(requests.len(), 3);
    // A tenth of a second for what is measured on two clocks.
    let least = wait - Duration::from_millis(100);
    let after = requests[1..].iter().map(|request| request.at - requests[0].at).collect::<Vec<_>>();
    assert!(after.iter().all(|after| *after >= least), "other messages wait as well: {after:?}");
}
