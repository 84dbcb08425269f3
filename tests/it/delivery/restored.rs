//! A directory that was restored sends nothing before an operator has seen it, and what it sends then wins over what its
//! other life sent.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::billing::scene::event;
use crate::delivery::rows::Key;
use crate::delivery::scene::{PATIENT, Scene, taken, webhook};
use crate::harness::postgres;
use crate::harness::receiver::Receiver;

const MARKER: &str = "RESTORED";
const REASON: &str = "the backup of Monday";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// One more event of customer `a` for one and the same window: one more revision.
fn revise(scene: &Scene, id: &str, at: &str) {
    scene.accept(vec![event(id, "a", "calls", 1, at)], 1);
}

fn versions(receiver: &Receiver) -> Vec<(u64, u64, u64)> {
    taken(receiver)
        .iter()
        .map(|(Key { incarnation, revision, .. }, said)| (*incarnation, *revision, said.sum.events))
        .collect()
}

#[test]
fn a_restored_directory_starts_paused_under_a_new_incarnation_that_wins() {
    let postgres = postgres::start();
    let receiver = Receiver::willing();
    let mut sinks = webhook("hook", &receiver.url(), PATIENT);
    if let Some(postgres) = &postgres {
        sinks += &format!(
            "[[sink]]\nname = \"table\"\nkind = \"postgres\"\nurl = \"{}\"\ntable = \"usage\"\nsend = [\"adjustments\"]\n{PATIENT}",
            postgres.url()
        );
    }
    let mut scene = Scene::start(&sinks);
    let clock = scene.json("/v1/clock")["wall"].as_str().unwrap().to_owned();
    let at = format!("{}T00:00:00Z", &clock[..10]); // some time today, or this very second, which is soon over
    std::thread::sleep(Duration::from_millis(if clock.contains("T00:00:0") { 5_000 } else { 0 }));
    revise(&scene, "first", &at);
    let in_table = |due: &str| {
        let rows = postgres.as_ref().map(|postgres| {
            postgres
                .try_query("SELECT concat_ws(' ', incarnation, revision, event_count) FROM usage")
                .unwrap_or_default()
        });
        rows.is_none_or(|rows| rows == [[Some(due.to_owned())]])
    };
    let is_drained =
        |scene: &Scene| scene.rows("/v1/sinks").iter().all(|sink| sink["pending"] == 0 && sink["oldest_at"].is_null());
    scene.wait_until("the first is everywhere", || versions(&receiver).len() == 1 && in_table("1 1 1"));
    scene.wait_until("that is known", || is_drained(&scene));
    scene.stop();
    let backup = scene.home.place.data_dir.with_file_name("backup");
    copy(&scene.home.place.data_dir, &backup);
    scene.start_again();
    for (id, due) in [("second", "1 2 2"), ("third", "1 3 3")] {
        revise(&scene, id, &at);
        scene.wait_until("it is in the table", || in_table(due));
    }
    scene.wait_until("they are at the receiver", || versions(&receiver).len() == 3);
    scene.kill();

    fs::remove_dir_all(&scene.home.place.data_dir).unwrap();
    copy(&backup, &scene.home.place.data_dir);
    fs::write(scene.home.place.data_dir.join(MARKER), REASON).unwrap();
    scene.start_again();
    assert!(!scene.home.place.data_dir.join(MARKER).exists(), "what it says is in the log now");
    for sink in scene.rows("/v1/sinks") {
        let pause = &sink["paused"];
        assert_eq!((&pause["cause"], &pause["reason"]), (&json!("restored"), &json!(REASON)), "{sink}");
    }
    revise(&scene, "another", &at);
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(receiver.count(), 3, "nothing is sent before an operator says so");
    scene.kill();
    scene.start_again();
    assert!(scene.rows("/v1/sinks").iter().all(|sink| sink["paused"]["cause"] == "restored"), "nor after a crash");
    scene.rows("/v1/sinks").iter().for_each(|sink| scene.resume(sink["name"].as_str().unwrap()));
    scene.wait_until("the new life's row is at the receiver", || versions(&receiver).len() == 4);
    let (incarnation, revision, events) = versions(&receiver)[3];
    assert_eq!(versions(&receiver)[..3], [(1, 1, 1), (1, 2, 2), (1, 3, 3)]);
    assert!(
        incarnation > 1_700_000_000,
        "a time, so that the same backup restored twice begins another one: {incarnation}"
    );
    assert_eq!((revision, events), (2, 2));
    let newest = format!("{incarnation} 2 2");
    scene.wait_until("it is in the table", || in_table(&newest));
    scene.wait_until("all is delivered", || is_drained(&scene));
    assert!(in_table(&newest), "the older incarnation's third revision does not win");
    scene.stop();
    scene.home.verify();
}
