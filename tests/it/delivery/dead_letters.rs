//! Dead letters: listed with all there is to know, replayed one by one or by filter, with the ids they had.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::delivery::scene::{QUICK, Scene, arrived, webhook};
use crate::harness::receiver::{Answer, Receiver};

/// One attempt only.
const ONCE: &str = "schedule = [\"0s\"]\ntimeout = \"500ms\"\nbreaker_failures = 1000\n";

/// So many dead letters of one row each, to every sink.
fn bury(scene: &mut Scene, sinks: &[&str], count: usize) {
    let before = scene.deliveries(sinks[0], "dead").len();
    for n in 1..=count {
        scene.feed(1);
        for sink in sinks {
            scene.wait_until_dead(sink, before + n);
        }
    }
}

fn ids(receiver: &Receiver) -> BTreeSet<String> {
    receiver.requests().into_iter().map(|request| request.id).collect()
}

fn replayed(answer: &(u16, Value)) -> u64 {
    assert_eq!(answer.0, 200, "{}", answer.1);
    answer.1["replayed"].as_u64().unwrap_or_else(|| panic!("no count in {}", answer.1))
}

#[test]
fn a_replay_by_filter_delivers_every_dead_letter_of_that_sink_under_its_id() {
    let receivers = [(); 2].map(|()| Receiver::start(|_| Answer::Status(500)));
    let sinks = webhook("a", &receivers[0].url(), ONCE) + &webhook("b", &receivers[1].url(), ONCE);
    let mut scene = Scene::start(&sinks);
    bury(&mut scene, &["a", "b"], 5);
    scene.kill();
    scene.start_again();
    let dead = scene.deliveries("a", "dead");
    assert_eq!(dead.len(), 5, "dead letters survive");
    let ids_before = ids(&receivers[0]);
    receivers.iter().for_each(|receiver| receiver.answer(|_| Answer::Status(200)));

    let answer = scene.post("/v1/deliveries:replay", &json!({"sink": "a"}), Some("key-1"));
    assert_eq!(replayed(&answer), 5);
    scene.wait_until_all_arrived(&receivers[0]);
    assert_eq!(ids(&receivers[0]), ids_before, "the ids they had");
    let again = scene.post("/v1/deliveries:replay", &json!({"sink": "a"}), Some("key-1"));
    assert_eq!(again, answer, "the same key, the same answer");
    let other = scene.post("/v1/deliveries:replay", &json!({"sink": "b"}), Some("key-1"));
    assert!([409, 422].contains(&other.0), "a key of another request: {other:?}");
    assert_eq!(replayed(&scene.post("/v1/deliveries:replay", &json!({"sink": "a"}), None)), 0, "nothing is left");
    assert_eq!(receivers[0].count(), 10, "each was sent twice: once in vain, once replayed");
    assert_eq!(receivers[1].count(), 5, "the other sink's stay");
    assert_eq!(scene.deliveries("b", "dead").len(), 5);
    scene.wait_until("all of them are delivered", || scene.deliveries("a", "delivered").len() == 5);
}

#[test]
fn an_idempotency_key_is_remembered_through_a_sigkill() {
    let receiver = Receiver::start(|_| Answer::Status(500));
    let mut scene = Scene::start(&webhook("a", &receiver.url(), ONCE));
    bury(&mut scene, &["a"], 2);
    let answer = scene.post("/v1/deliveries:replay", &json!({"sink": "a"}), Some("once"));
    assert_eq!(replayed(&answer), 2);
    scene.wait_until("both fail again", || receiver.count() == 4);
    scene.wait_until_dead("a", 2);
    scene.kill();
    scene.start_again();
    assert_eq!(scene.post("/v1/deliveries:replay", &json!({"sink": "a"}), Some("once")), answer);
    assert_eq!(scene.deliveries("a", "dead").len(), 2, "asked twice with one key, done once");
    assert_eq!(receiver.count(), 4);
    let shown = scene.stored_delivery(scene.deliveries("a", "dead")[0]["id"].as_str().unwrap());
    assert_eq!((&shown["replays"], shown["attempts_log"].as_array().unwrap().len()), (&json!(1), 2), "{shown}");
}

#[test]
fn what_cannot_be_replayed_is_refused_in_words() {
    let receiver = Receiver::willing();
    let mut scene = Scene::start(&webhook("a", &receiver.url(), QUICK));
    scene.feed(1);
    scene.wait_until_all_arrived(&receiver);
    let id = receiver.requests()[0].id.clone();
    scene.wait_until("it is delivered", || scene.delivery(&id)["state"] == "delivered");
    let delivered = scene.post(&format!("/v1/deliveries/{id}:replay"), &json!({}), None);
    assert_eq!(delivered.0, 409, "{delivered:?}");
    let (stem, _) = id.rsplit_once('_').unwrap();
    for unknown in [format!("{stem}_999999"), "msg_1".to_owned(), "x".to_owned()] {
        let answer = scene.post(&format!("/v1/deliveries/{unknown}:replay"), &json!({}), None);
        assert!([400, 404].contains(&answer.0), "{unknown}: {answer:?}");
        assert!([400, 404].contains(&scene.get(&format!("/v1/deliveries/{unknown}")).status), "{unknown}");
    }
    for wrong in ["/v1/deliveries?state=lost", "/v1/deliveries?limit=0", "/v1/deliveries?cursor=x"] {
        assert_eq!(scene.get(wrong).status, 400, "{wrong}");
    }
    assert_eq!(receiver.count(), 1);
    assert_eq!(arrived(&receiver), scene.customers());
}
