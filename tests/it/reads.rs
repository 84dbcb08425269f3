//! A long listing beside ingest: the listing is whole, and ingest does not wait for it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use meterd::cli::client::Client;
use serde_json::{Value, json};

use crate::harness::{Home, SMALL, client, post};

/// An hour of windows of a second, for every customer.
const WINDOWS: u64 = 3_600;
const CUSTOMERS: u64 = 20;
/// Far above what a writer that never waits for readers needs, far below what it takes to copy everything out.
const LATENCY_MAX: Duration = Duration::from_millis(750);

fn config() -> String {
    format!("{SMALL}[[meter]]\nslug = \"ticks\"\nwindow = \"1s\"\n[[meter]]\nslug = \"other\"\n")
}

fn fill(client: &mut Client, first: meterd::model::Timestamp) {
    for customer in 0..CUSTOMERS {
        let event = |second: u64| {
            json!({
                "usage_event_id": format!("{customer}-{second}"), "customer": format!("c{customer}"), "meter": "ticks",
                "quantity": second, "timestamp": first.millis() + (second * 1_000) as i64,
            })
        };
        let (status, answer) = post(client, "/v1/events", &(0..WINDOWS).map(event).collect::<Value>());
        assert_eq!((status, &answer["accepted"]), (200, &json!(WINDOWS)), "{answer}");
    }
}

/// Reads every page; returns how many windows there were and their sum.
fn list(client: &mut Client) -> (usize, u64) {
    let (mut seen, mut sum, mut cursor) = (HashSet::new(), 0, String::new());
    loop {
        let page: Value =
            client.get_json(&format!("/v1/meters/ticks/usage?group_by=customer&limit=2000{cursor}")).unwrap();
        for row in page["data"].as_array().unwrap() {
            assert!(seen.insert((row["window_start"].to_string(), row["customer"].to_string())), "twice: {row}");
            sum += row["value"].as_str().unwrap().parse::<u64>().unwrap();
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (seen.len(), sum),
        }
    }
}

#[test]
fn a_listing_of_many_windows_is_whole_and_does_not_hold_up_ingest() {
    let home = Home::new(&config());
    let daemon = home.start();
    let mut reader = client(&daemon);
    let now = meterd::env::Clock::now(&meterd::env::SystemClock::new());
    fill(&mut reader, now.saturating_sub(meterd::model::Duration::from_secs(2 * 3_600)));
    let stop = AtomicBool::new(false);
    let mut latencies = std::thread::scope(|scope| {
        let listing = std::thread::Builder::new().name("listing".into()).spawn_scoped(scope, || {
            let mut lists = 0;
            while !stop.load(Ordering::Relaxed) || lists == 0 {
                let sum = CUSTOMERS * WINDOWS * (WINDOWS - 1) / 2;
                assert_eq!(list(&mut reader), ((CUSTOMERS * WINDOWS) as usize, sum));
                lists += 1;
            }
            lists
        });
        let mut writer = client(&daemon);
        let latencies = (0..150).map(|n| {
            let event = json!({"usage_event_id": format!("e{n}"), "customer": "c0", "meter": "other"});
            let sent = Instant::now();
            assert_eq!(post(&mut writer, "/v1/events", &event).0, 200);
            let took = sent.elapsed();
            std::thread::sleep(Duration::from_millis(10));
            took
        });
        let latencies = latencies.collect::<Vec<_>>();
        stop.store(true, Ordering::Relaxed);
        let lists = listing.unwrap().join().unwrap();
        println!("{lists} listings of {} windows meanwhile", CUSTOMERS * WINDOWS);
        latencies
    });
    latencies.sort_unstable();
    let (median, slowest) = (latencies[latencies.len() / 2], latencies[latencies.len() - 1]);
    println!("an event was acknowledged within {median:?} (median), {slowest:?} (slowest)");
    assert!(slowest < LATENCY_MAX, "an event waited {slowest:?} beside a listing");
    daemon.stop().unwrap();
}
