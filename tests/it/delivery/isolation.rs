//! One sink that hangs, or cannot take rows as they are, costs the others nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::delivery::scene::{PATIENT, Scene, taken, webhook};
use crate::harness::postgres;
use crate::harness::receiver::{Answer, Receiver};

const SINKS: usize = 10;
const FEEDS: usize = 80;
const BETWEEN: Duration = Duration::from_millis(25);
/// What two equal runs may differ by on a busy machine.
const NOISE: Duration = Duration::from_millis(250);

/// Feeds row by row; returns how long each took to each receiver, in order.
fn latencies(scene: &mut Scene, receivers: &[Receiver]) -> Vec<Duration> {
    let before = scene.customers();
    let mut fed = BTreeMap::<String, Instant>::new();
    for _ in 0..FEEDS {
        let known = scene.customers();
        scene.feed(1);
        let now = Instant::now();
        fed.extend(scene.customers().difference(&known).map(|customer| (customer.clone(), now)));
        std::thread::sleep(BETWEEN);
    }
    let mut took = Vec::new();
    for receiver in receivers {
        scene.wait_until_all_arrived(receiver);
        let mut seen = before.clone();
        for request in receiver.requests().iter().filter(|request| request.is_taken()) {
            let customers = request.rows().iter().map(|row| row["customer"].as_str().unwrap().to_owned());
            let new = customers.filter(|customer| seen.insert(customer.clone())).collect::<BTreeSet<_>>();
            took.extend(new.iter().map(|customer| request.at.saturating_duration_since(fed[customer])));
        }
    }
    took.sort();
    took
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

#[test]
fn a_hanging_sink_among_ten_leaves_the_others_as_fast_as_they_were() {
    let receivers = [(); SINKS].map(|()| Receiver::willing());
    let sinks = receivers.iter().enumerate().map(|(n, receiver)| webhook(&format!("s{n}"), &receiver.url(), PATIENT));
    let mut scene = Scene::start(&sinks.collect::<String>());
    let (hanging, others) = receivers.split_first().unwrap();
    let without = latencies(&mut scene, others);
    scene.wait_until_all_arrived(hanging);
    hanging.answer(|_| Answer::Hang);
    let with = latencies(&mut scene, others);
    let [without, with] = [without, with].map(|took| (percentile(&took, 50), percentile(&took, 99)));
    println!("p50 and p99 of nine sinks: {without:?}; beside a hanging one: {with:?}");
    assert!(with.1 <= 2 * without.1 + NOISE, "p99 {:?} was {:?} without the hanging sink", with.1, without.1);
    assert!(scene.sink("s0")["pending"].as_u64().unwrap() > 0, "it hangs: {}", scene.sink("s0"));
    hanging.answer(|_| Answer::Status(200));
    let began = Instant::now();
    scene.stop();
    assert!(began.elapsed() < Duration::from_secs(20), "a stop does not wait for a receiver that hangs");
}

#[test]
fn a_table_that_does_not_fit_pauses_its_sink_alone_and_nothing_is_lost() {
    let Some(postgres) = postgres::start() else { return };
    postgres.query("CREATE TABLE usage (customer text PRIMARY KEY, value integer)");
    let well = Receiver::willing();
    let table = format!(
        "[[sink]]\nname = \"table\"\nkind = \"postgres\"\nurl = \"{}\"\ntable = \"usage\"\nsend = [\"adjustments\"]\n{PATIENT}",
        postgres.url()
    );
    let mut scene = Scene::start(&(webhook("well", &well.url(), PATIENT) + &table));
    scene.feed(3);
    scene.wait_until_all_arrived(&well);
    scene.wait_until_sink("table", "paused", |sink| sink["paused"]["cause"] == "misfit");
    let reason = scene.sink("table")["paused"]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("usage"), "the table is named: {reason}");
    assert!(scene.get("/readyz?verbose").text.contains("table"));
    assert!(scene.home.log().contains("table"), "and logged");
    scene.feed(2);
    scene.wait_until_all_arrived(&well);
    assert_eq!(taken(&well).len(), 5);
    postgres.query("DROP TABLE usage");
    scene.resume("table");
    let rows = || postgres.try_query("SELECT customer FROM usage").unwrap_or_default();
    scene.wait_until("all rows are in the table", || rows().len() == 5);
    scene.wait_until_sink("table", "done", |sink| sink["pending"] == 0);
}
