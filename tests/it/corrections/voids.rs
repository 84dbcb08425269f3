//! Voids of every aggregation, with SIGKILLs in between.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use meterd::cli::daemon::Daemon;
use meterd::env::{Clock, SystemClock};
use serde_json::{Value, json};

use super::model::{Event, Meters, check, check_adjustments, check_totals, config, get};
use crate::harness::{Home, SMALL, client, post, seed};

/// Days are not over while the test runs, as a rule; seconds are.
const METERS: Meters<'static> = &[
    ("day_count", "count", 86_400),
    ("day_sum", "sum", 86_400),
    ("day_min", "min", 86_400),
    ("day_max", "max", 86_400),
    ("day_avg", "avg", 86_400),
    ("day_latest", "latest", 86_400),
    ("day_unique", "unique", 86_400),
    ("second_count", "count", 1),
    ("second_sum", "sum", 1),
    ("second_min", "min", 1),
    ("second_max", "max", 1),
    ("second_avg", "avg", 1),
    ("second_latest", "latest", 1),
    ("second_unique", "unique", 1),
];
const CUSTOMERS: u32 = 4;
const EVENTS: usize = 400;
const VOIDS: usize = 120;
const JSON: &str = "application/cloudevents-batch+json";

#[test]
fn voids_before_and_after_windows_are_final_and_across_sigkill_come_to_what_is_left() {
    let mut rng = Rng::with_seed(seed("METERD_VOID_SEED"));
    let home = Home::new(&format!("{SMALL}{}", config(METERS)));
    let mut daemon = home.start();
    let sent = events(&mut rng);
    for batch in sent.chunks(50) {
        accept(&daemon, batch);
        std::thread::sleep(Duration::from_millis(200));
    }
    wait_until_seconds_are_final(&daemon);
    check(&mut client(&daemon), METERS, (&sent, &|_| true));
    let mut victims: Vec<&Event> = sent.iter().collect();
    rng.shuffle(&mut victims);
    victims.truncate(VOIDS);
    let mut voided: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut kills, mut doubtful) = (0, 0);
    while voided.len() < VOIDS {
        let waiting: Vec<&Event> =
            victims.iter().copied().filter(|event| !voided.contains_key(event.id.as_str())).collect();
        let pause = Duration::from_millis(rng.u64(5..120));
        let target = daemon.target().unwrap();
        let answers = std::thread::scope(|scope| {
            let sender = std::thread::Builder::new().name("voids".into());
            let sender = sender.spawn_scoped(scope, || void_until_gone(&target, &waiting)).unwrap();
            std::thread::sleep(pause);
            daemon.kill().unwrap();
            sender.join().unwrap()
        });
        kills += 1;
        doubtful += u64::from(answers.len() < waiting.len());
        for (event, seq) in waiting.iter().zip(&answers) {
            assert_eq!(voided.insert(&event.id, *seq), None);
        }
        daemon = home.start();
    }
    println!(
        "{VOIDS} events taken back across {kills} kills; {doubtful} voids had no answer before they were repeated"
    );
    let ids: BTreeSet<String> = voided.keys().map(|id| (*id).to_owned()).collect();
    let is_left = |event: &Event| !ids.contains(&event.id);
    for round in 0..2 {
        check(&mut client(&daemon), METERS, (&sent, &is_left));
        check_totals(&mut client(&daemon), METERS, (&sent, &is_left));
        check_adjustments(&mut client(&daemon), &sent);
        if round == 0 {
            repeat(&daemon, &voided, &sent);
            daemon.stop().unwrap();
            home.verify();
            daemon = home.start();
        }
    }
    daemon.stop().unwrap();
    home.verify();
}

/// Some of now, whose seconds will be closed, and some of an hour ago, whose seconds are over: late usage.
fn events(rng: &mut Rng) -> Vec<Event> {
    let now = SystemClock::new().now().micros() / 1_000;
    let event = |number: usize| Event {
        id: format!("e{number}"),
        customer: format!("c{}", rng.u32(..CUSTOMERS)),
        at_ms: if rng.bool() { now + rng.i64(0..1_500) } else { now - 3_600_000 + rng.i64(0..1_500) },
        thousandths: rng.i64(1..5_000),
        user: rng.u32(..6),
        number,
    };
    (0..EVENTS).map(event).collect()
}

fn accept(daemon: &Daemon, events: &[Event]) {
    let body: Value = events.iter().map(Event::as_json).collect();
    let reply = client(daemon).post("/v1/events", JSON, body.to_string().into()).unwrap();
    let answer: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(answer["accepted"], events.len(), "{answer}");
}

fn wait_until_seconds_are_final(daemon: &Daemon) {
    let mut client = client(daemon);
    for _ in 0..200 {
        let rows = get(&mut client, "/v1/meters/second_sum/usage?limit=10000");
        if rows["data"].as_array().unwrap().iter().all(|row| row["state"] == "finalized") {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("windows of a second are not final after 20 s");
}

fn request(event: &Event) -> Value {
    json!({"usage_event_id": event.id, "source": "tests", "reason": format!("wrong: {}", event.id)})
}

/// The records that took these back, in order, as far as the daemon lived to say so.
fn void_until_gone(target: &meterd::cli::client::Target, events: &[&Event]) -> Vec<u64> {
    let Ok(mut client) = meterd::cli::client::Client::new(target, Duration::from_secs(20)) else { return Vec::new() };
    let mut seqs = Vec::new();
    for event in events {
        let body = request(event).to_string();
        let Ok(reply) = client.post("/v1/events:void", "application/json", body.into()) else { break };
        let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        assert_eq!(reply.status, 200, "{event:?}: {answer}");
        seqs.push(answer["seq"].as_u64().unwrap());
    }
    seqs
}

/// A void again is answered like the first; the event again is a duplicate, and says why.
fn repeat(daemon: &Daemon, voided: &BTreeMap<&str, u64>, sent: &[Event]) {
    let mut client = client(daemon);
    for event in sent.iter().filter(|event| voided.contains_key(event.id.as_str())).step_by(5) {
        let (status, answer) = post(&mut client, "/v1/events:void", &request(event));
        assert_eq!((status, &answer["already_voided"]), (200, &json!(true)), "{answer}");
        assert_eq!(answer["seq"], voided[event.id.as_str()], "{answer}");
        let body: Value = json!([event.as_json()]);
        let reply = client.post("/v1/events", JSON, body.to_string().into()).unwrap();
        let answer: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!((&answer["duplicate"], &answer["events"][0]["code"]), (&json!(1), &json!("voided")), "{answer}");
    }
}
