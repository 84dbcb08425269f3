//! Reservations: each step survives a SIGKILL, each retry is answered as the first time, and what is held is neither lost
//! nor used twice.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use meterd::cli::client::{Client, Target};
use meterd::cli::retry::is_retryable;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::scene::{
    self, Scene, StopWhenDropped, alerts, check, event, expect, post, put_caps, refused, used, wait_until,
};
use crate::billing::scene::{Http, Reply};
use crate::harness::seed;

fn scene(hard: u64) -> Scene {
    let scene = Scene::start(&scene::meter("calls", "dimensions = { model = \"$.model\" }\n"));
    put_caps(&scene, "c", "calls", &json!({"hard": hard}));
    scene
}

fn reserve(http: &Http, id: &str, quantity: u64, expires_in: impl Into<Value>) -> Reply {
    let body =
        json!({"id": id, "customer": "c", "meter": "calls", "quantity": quantity, "expires_in": expires_in.into()});
    post(http, "/v1/reservations", &body)
}

fn commit(http: &Http, id: &str, quantity: u64, event: &str) -> Reply {
    let body = json!({"quantity": quantity, "usage_event_id": event});
    post(http, &format!("/v1/reservations/{id}:commit"), &body)
}

fn release(http: &Http, id: &str) -> Reply {
    post(http, &format!("/v1/reservations/{id}:release"), &json!({}))
}

/// State, committed quantity.
fn state(reply: &Reply, status: u16) -> (Value, Value) {
    assert_eq!(reply.status, status, "{}", reply.text);
    (reply.json["state"].clone(), reply.json["committed_quantity"].clone())
}

fn look(http: &Http, id: &str) -> Value {
    http.json(&format!("/v1/reservations/{id}"))
}

/// Used, held, remaining.
fn status(http: &Http) -> [u64; 3] {
    let status = check(http, "c", "calls", 1);
    ["used", "held", "remaining"].map(|name| status[name].as_str().unwrap().parse().unwrap())
}

#[test]
fn quota_is_held_committed_and_freed_with_a_sigkill_between_all_steps() {
    let mut scene = scene(100);
    assert_eq!(state(&reserve(&scene, "r", 40, "1h"), 201).0, "held");
    scene.kill();
    let before = look(&scene, "r");
    let found = ["id", "customer", "meter", "quantity", "state"].map(|name| before[name].clone());
    assert_eq!(found, ["r", "c", "calls", "40", "held"].map(|text| json!(text)), "{before}");
    assert_eq!(status(&scene), [0, 40, 60]);
    let again = reserve(&scene, "r", 40, "1h");
    assert_eq!((again.status, &again.json), (200, &before), "the same again");
    refused(&reserve(&scene, "r", 41, "1h"), 409, "reservation_conflict", "the id says otherwise");
    expect(&scene, &event("over", "c", "calls", 61), "capped");
    expect(&scene, &event("fills", "c", "calls", 60), "accepted");
    assert_eq!(status(&scene), [60, 40, 0]);
    expect(&scene, &event("none left", "c", "calls", 1), "capped");
    scene.kill();

    // The cap is full: what was held can be committed all the same, and not one unit more.
    refused(&commit(&scene, "r", 41, "used"), 409, "hard_cap", "41 of 40 held");
    assert_eq!((status(&scene), look(&scene, "r")), ([60, 40, 0], before), "a refusal leaves everything");
    let committed = commit(&scene, "r", 40, "used");
    assert_eq!(state(&committed, 200), (json!("committed"), json!("40")));
    assert_eq!(committed.json["outcome"], "accepted", "{}", committed.text);
    scene.kill();
    assert_eq!(status(&scene), [100, 0, 0]);
    let again = commit(&scene, "r", 40, "used");
    assert_eq!(
        (again.status, &again.json["outcome"], &again.json["seq"]),
        (200, &json!("duplicate"), &committed.json["seq"])
    );
    refused(&commit(&scene, "r", 40, "other"), 409, "reservation_committed", "by another event");
    refused(&release(&scene, "r"), 409, "reservation_committed", "what is committed is not released");
    assert_eq!(status(&scene), [100, 0, 0]);
    let dup = expect(&scene, &event("used", "c", "calls", 40), "duplicate");
    assert_eq!(dup["seq"], committed.json["seq"], "a commit is an event like any other");
    println!("full at {:?}; {}", status(&scene), committed.text);
    scene.verify();
}

#[test]
fn less_than_held_frees_the_rest_a_release_frees_all_and_more_takes_what_is_free() {
    let mut scene = scene(100);
    for id in ["less", "more", "freed"] {
        assert_eq!(reserve(&scene, id, 30, 3_600).status, 201);
    }
    let capped = reserve(&scene, "none", 11, "1h");
    refused(&capped, 409, "hard_cap", "10 are left");
    assert!(capped.json["detail"].as_str().unwrap().contains("10"), "{}", capped.text);
    assert_eq!(state(&commit(&scene, "less", 5, "five"), 200), (json!("committed"), json!("5")));
    assert_eq!(status(&scene), [5, 60, 35]);
    assert_eq!(reserve(&scene, "none", 11, "1h").status, 201, "the id was free, and the quota is");
    refused(&commit(&scene, "more", 55, "fifty-five"), 409, "hard_cap", "5 + 41 held + 55");
    assert_eq!(state(&commit(&scene, "more", 54, "fifty-four"), 200), (json!("committed"), json!("54")));
    assert_eq!(status(&scene), [59, 41, 0]);
    assert_eq!(state(&release(&scene, "freed"), 200).0, "released");
    scene.kill();
    assert_eq!(state(&release(&scene, "freed"), 200).0, "released", "again");
    assert_eq!(status(&scene), [59, 11, 30]);
    refused(&commit(&scene, "freed", 1, "late"), 409, "reservation_released", "what was released");
    assert_eq!(state(&commit(&scene, "none", 0, "nothing"), 200).1, "0", "work that came to nothing");
    assert_eq!(used(&scene, "c", "calls").to_string(), "59");
    println!("after a commit of less, one of more, one of nothing and a release: {:?}", status(&scene));
    scene.verify();
}

#[test]
fn leaked_reservations_expire_through_a_sigkill_and_free_their_quota() {
    let mut scene = scene(10);
    for (id, expires_in) in [("leaked", json!("1s")), ("lost", json!(2)), ("kept", json!("1h"))] {
        assert_eq!(reserve(&scene, id, 3, expires_in).status, 201);
    }
    let began = Instant::now();
    expect(&scene, &event("two", "c", "calls", 2), "capped");
    scene.end(true);
    std::thread::sleep(Duration::from_millis(1_200));
    scene.start_again();
    wait_until("both expire", || ["leaked", "lost"].iter().all(|id| look(&scene, id)["state"] == "expired"));
    println!("expired after {:?}", began.elapsed());
    refused(&commit(&scene, "leaked", 1, "late"), 409, "reservation_expired", "a commit");
    scene.kill();
    refused(&commit(&scene, "lost", 1, "late"), 409, "reservation_expired", "a commit after a SIGKILL");
    assert_eq!(state(&release(&scene, "lost"), 200).0, "expired", "there is nothing left to give back");
    assert_eq!(status(&scene), [0, 3, 7]);
    expect(&scene, &event("two", "c", "calls", 7), "accepted");
    expect(&scene, &event("more", "c", "calls", 1), "capped");
    assert_eq!(commit(&scene, "kept", 3, "kept").status, 200);
    assert_eq!(used(&scene, "c", "calls").to_string(), "10");
    scene.verify();
}

#[test]
fn open_reservations_are_listed_in_pages_and_limited() {
    let config = scene::meter("calls", "") + "[limits]\nreservations = 5\n";
    let mut scene = Scene::start(&config);
    for n in 0..5 {
        assert_eq!(reserve(&scene, &format!("r{n}"), 1, "1h").status, 201);
    }
    let full = reserve(&scene, "r5", 1, "1h");
    refused(&full, 503, "", "more than limits.reservations");
    assert_eq!(reserve(&scene, "r4", 1, "1h").status, 200, "one that is there already");
    assert_eq!(release(&scene, "r2").status, 200);
    assert_eq!(commit(&scene, "r3", 1, "used").status, 200);
    assert_eq!(reserve(&scene, "r5", 1, "1h").status, 201);
    scene.kill();
    let listed = scene.pages("/v1/reservations?limit=2");
    let mut ids = listed.iter().map(|row| row["id"].as_str().unwrap()).collect::<Vec<_>>();
    ids.sort_unstable();
    assert_eq!(ids, ["r0", "r1", "r4", "r5"], "{listed:?}");
    assert!(listed.iter().all(|row| row["state"] == "held"), "{listed:?}");
    let of_another = json!({"id": "r", "customer": "d", "meter": "calls", "quantity": 1, "expires_in": "1h"});
    assert_eq!(post(&scene, "/v1/reservations", &of_another).status, 201);
    scene.verify();
}

/// Of the race below.
const RACERS: u64 = 16;
const HARD: u64 = 800;
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// What came of the race, as its racers know it.
#[derive(Default)]
struct Ends {
    committed: AtomicU64,
    commits: AtomicU64,
    releases: AtomicU64,
    capped: AtomicU64,
    unanswered: AtomicU64,
}

struct Racer<'a> {
    target: &'a Mutex<Target>,
    open: Option<(Target, Client)>,
    ends: &'a Ends,
    rng: Rng,
}

impl Racer<'_> {
    /// Asks until there is an answer.
    fn ask(&mut self, path: &str, body: &Value) -> (u16, Value) {
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < ANSWER_MAX, "no answer to {path}");
            let target = self.target.lock().clone();
            let (_, client) = match self.open.take().filter(|(known, _)| *known == target) {
                Some(known) => self.open.insert(known),
                None => self.open.insert((target.clone(), Client::new(&target, Duration::from_secs(20)).unwrap())),
            };
            match client.post(path, "application/json", body.to_string().into()) {
                Ok(reply) if !is_retryable(reply.status) => {
                    return (reply.status, serde_json::from_slice(&reply.body).unwrap_or_default());
                }
                _ => self.ends.unanswered.fetch_add(1, Ordering::Relaxed),
            };
            std::thread::sleep(Duration::from_millis(self.rng.u64(1..20)));
        }
    }

    /// Reserves, and then uses some of it, or nothing at all.
    fn work(mut self, name: &str, stop: &AtomicBool) {
        for n in 0_u64.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let (id, held) = (format!("{name} {n}").replace(' ', "-"), self.rng.u64(1..=60));
            let body = json!({"id": id, "customer": "c", "meter": "calls", "quantity": held, "expires_in": "1h"});
            let (status, answer) = self.ask("/v1/reservations", &body);
            if status == 409 {
                assert_eq!(answer["code"], "hard_cap", "{answer}");
                self.ends.capped.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
            assert!([200, 201].contains(&status), "{answer}");
            let used = if self.rng.u8(0..3) == 0 { 0 } else { self.rng.u64(0..=held / 4) };
            let (path, body) = match used {
                0 => (format!("/v1/reservations/{id}:release"), json!({})),
                _ => (format!("/v1/reservations/{id}:commit"), json!({"quantity": used, "usage_event_id": id})),
            };
            let (status, answer) = self.ask(&path, &body);
            assert_eq!(status, 200, "up to what was held is never refused: {path} {body} {answer}");
            let count = if used == 0 { &self.ends.releases } else { &self.ends.commits };
            count.fetch_add(1, Ordering::Relaxed);
            self.ends.committed.fetch_add(used, Ordering::Relaxed);
        }
    }
}

#[test]
fn racers_who_reserve_never_use_more_than_the_cap_and_lose_nothing_through_sigkills() {
    let mut scene = scene(HARD);
    let mut rng = Rng::with_seed(seed("METERD_RESERVE_SEED"));
    let (target, ends, stop) = (Mutex::new(scene.daemon().target().unwrap()), Ends::default(), AtomicBool::new(false));
    let mut looks = 0;
    std::thread::scope(|threads| {
        let _stop = StopWhenDropped(&stop);
        for number in 0..RACERS {
            let racer = Racer { target: &target, open: None, ends: &ends, rng: rng.fork() };
            let (name, stop) = (format!("racer-{number}"), &stop);
            let builder = std::thread::Builder::new().name(name.clone());
            builder.spawn_scoped(threads, move || racer.work(&name, stop)).unwrap();
        }
        for round in 0..4 {
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(300) {
                let [used, held, remaining] = status(&scene);
                assert!(
                    used + held <= HARD && remaining == HARD - used - held,
                    "{used} used, {held} held, {remaining} left"
                );
                looks += 1;
            }
            if round < 3 {
                scene.kill();
                *target.lock() = scene.daemon().target().unwrap();
            }
        }
    });
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let (committed, held) = (count(&ends.committed), scene.pages("/v1/reservations?limit=100").len());
    println!(
        "{} commits of {committed} units, {} releases, {} capped, {} unanswered; {looks} looks",
        count(&ends.commits),
        count(&ends.releases),
        count(&ends.capped),
        count(&ends.unanswered)
    );
    assert!(count(&ends.capped) > 0, "the cap was never met, so nothing was shown");
    assert_eq!((status(&scene)[0], held), (committed, 0), "used is what was committed, and nothing is held");
    assert!(alerts(&scene, "customer=c").iter().all(|alert| alert["threshold"] == "hard"));
    scene.verify();
}
