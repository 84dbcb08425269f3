//! A sink that fails is cut off, probed, and caught up with; whoever watches sees it.

use std::time::Duration;

use crate::delivery::scene::{PATIENT, Scene, webhook};
use crate::harness::receiver::{Answer, Receiver};

/// Three quick attempts, and then none for longer than the test takes: what arrives was sent because the breaker closed.
const OPENS: &str = "schedule = [\"0s\", \"100ms\", \"100ms\", \"10m\", \"10m\", \"10m\"]\ntimeout = \"500ms\"\n\
                     breaker_failures = 3\nbreaker_cool_down = \"2s\"\n";

#[test]
fn a_breaker_opens_fails_fast_probes_and_catches_up_and_everyone_can_see_it() {
    let broken = Receiver::start(|_| Answer::Status(500));
    let well = Receiver::willing();
    let mut scene = Scene::start(&(webhook("broken", &broken.url(), OPENS) + &webhook("well", &well.url(), PATIENT)));
    assert_eq!(scene.sink("broken")["breaker"], "closed");
    scene.feed(1);
    scene.wait_until_sink("broken", "cut off", |sink| sink["breaker"] == "open");
    let attempts = broken.count();
    assert_eq!(attempts, 3, "it opens with the third failure");
    let verbose = scene.get("/readyz?verbose");
    assert_eq!(verbose.status, 200, "a sink does not make the daemon unready: {}", verbose.text);
    assert!(verbose.text.contains("broken") && verbose.text.contains("open"), "{}", verbose.text);
    let metric = |sink: &str| scene.metric("meterd_sink_breaker", sink);
    scene.wait_until("the metrics say so", || [metric("broken"), metric("well")] == ["2", "0"].map(|n| Some(n.into())));

    scene.feed(1);
    scene.wait_until_all_arrived(&well);
    let failing_fast = |scene: &Scene| {
        let retrying = scene.deliveries("broken", "retrying");
        let fast = retrying.iter().filter(|delivery| delivery["last_attempt"]["status"].is_null());
        (retrying.len(), fast.count())
    };
    scene.wait_until("the other fails fast", || failing_fast(&scene) == (2, 1));
    assert_eq!(broken.count(), attempts, "nothing is sent while the breaker is open");

    broken.answer(|_| Answer::Status(200));
    std::thread::sleep(Duration::from_millis(2_500));
    scene.feed(1);
    scene.wait_until_all_arrived(&broken);
    scene.wait_until_sink("broken", "well", |sink| sink["breaker"] == "closed");
    let probe = &broken.requests()[attempts];
    assert_eq!(probe.status, Some(200));
    assert!(scene.deliveries("broken", "dead").is_empty());
}

#[test]
fn a_sink_that_is_unreachable_at_the_start_gets_everything_once_it_is_there() {
    let address = Receiver::nobody();
    // Failing fast uses up attempts, so there are many.
    let often = format!(
        "schedule = [\"0s\"{}]\ntimeout = \"2s\"\nbreaker_failures = 2\nbreaker_cool_down = \"500ms\"\n",
        ", \"500ms\"".repeat(40)
    );
    let mut scene = Scene::start(&webhook("away", &crate::harness::receiver::url(address), &often));
    assert_eq!(scene.get("/readyz").status, 200);
    scene.feed(3);
    scene.wait_until_sink("away", "cut off", |sink| sink["breaker"] == "open");
    assert!(scene.get("/readyz?verbose").text.contains("away"));
    let receiver = Receiver::start_at(address, |_| Answer::Status(200));
    scene.feed(1);
    scene.wait_until_all_arrived(&receiver);
    scene.wait_until_sink("away", "well", |sink| sink["breaker"] == "closed" && sink["pending"] == 0);
}
