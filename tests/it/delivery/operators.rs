//! What operators do to sinks: pause and resume them, add and take them away; nothing of it is forgotten in a crash.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use crate::delivery::scene::{PATIENT, Scene, arrived, webhook};
use crate::harness::receiver::Receiver;

const LOOK_AWAY: Duration = Duration::from_millis(1_500);

#[test]
fn a_paused_sink_is_sent_nothing_until_it_is_resumed_and_both_survive_a_sigkill() {
    let receivers = [(); 2].map(|()| Receiver::willing());
    let sinks = webhook("a", &receivers[0].url(), PATIENT) + &webhook("b", &receivers[1].url(), PATIENT);
    let mut scene = Scene::start(&sinks);
    scene.feed(1);
    scene.wait_until_all_arrived(&receivers[0]);
    scene.pause("a");
    scene.kill(); // the answer was durable
    scene.start_again();
    let pause = scene.sink("a")["paused"].clone();
    assert_eq!((&pause["cause"], &pause["reason"]), (&json!("operator"), &json!("maintenance")), "{pause}");
    for _ in 0..3 {
        scene.feed(2);
        scene.wait_until_all_arrived(&receivers[1]);
    }
    std::thread::sleep(LOOK_AWAY);
    assert_eq!(receivers[0].count(), 1, "nothing is sent to a paused sink");
    assert!(scene.sink("a")["oldest_at"].is_string(), "what waits has an age: {}", scene.sink("a"));
    scene.resume("a");
    scene.kill();
    scene.start_again();
    assert!(scene.sink("a")["paused"].is_null(), "{}", scene.sink("a"));
    scene.wait_until_all_arrived(&receivers[0]);
    scene.stop();
    scene.home.verify();
}

#[test]
fn a_new_sink_gets_what_comes_after_it_and_a_sink_gone_from_the_config_keeps_its_rows_until_forgotten() {
    let (old, new) = (Receiver::willing(), Receiver::willing());
    let (first, second) = (webhook("old", &old.url(), PATIENT), webhook("new", &new.url(), PATIENT));
    let mut scene = Scene::start(&first);
    scene.feed(2);
    scene.wait_until_all_arrived(&old);
    let before = scene.customers();
    assert_eq!(scene.post("/v1/sinks/old:forget", &json!({"reason": "x"}), None).0, 409, "it is configured");
    scene.stop();
    scene.configure(&second);
    scene.start_again();
    assert!(scene.home.log().contains("old"), "a sink that is gone is told of");
    scene.feed(2);
    let after = scene.customers().difference(&before).cloned().collect::<BTreeSet<_>>();
    scene.wait_until_arrived(&new, &after);
    assert_eq!(arrived(&old), before);
    assert_eq!(scene.sink("old")["configured"], false, "{}", scene.sink("old"));

    scene.stop();
    scene.configure(&(first + &second));
    scene.start_again();
    scene.wait_until_all_arrived(&old);
    scene.stop();
    scene.configure(&second);
    scene.start_again();
    scene.feed(1);
    scene.operate("/v1/sinks/old:forget", &json!({"reason": "replaced"}));
    scene.kill();
    scene.start_again();
    assert!(scene.rows("/v1/sinks").iter().all(|sink| sink["name"] != "old"), "forgotten");
    let reply = scene.post("/v1/sinks/old:resume", &json!({"reason": "x"}), None);
    assert_eq!(reply.0, 404, "{reply:?}");
    scene.stop();
    scene.home.verify();
}
