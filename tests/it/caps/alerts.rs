//! Alerts through SIGKILLs, restarts with the same config, raised, lowered and removed caps, negative usage and new periods:
//! each fires once, in order, and all who tell of alerts tell the same: the API, the webhook's receiver, the files, and a
//! model that knows only what was sent and answered.
//!
//! `METERD_ALERT_ROUNDS=100` kills as often as the issue asks, `METERD_ALERT_SEED=<seed>` draws the same again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use meterd::cli::client::Target;
use meterd::cli::retry::is_retryable;
use meterd::env::{Clock, SystemClock};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::book::{Book, Cap, Counted, Told, members};
use super::scene::{self, Scene, StopWhenDropped, alerts, caps_path};
use crate::billing::scene::{Http, Reply};
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::{number, seed};

const ROUNDS: u64 = 6;
const DRIVERS: u64 = 4;
/// Steps of one customer.
const STEPS: u64 = 16;
const PAUSE_MS: u64 = 30;
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Whoever is told something again is told within that: rows go out every second.
const LOOK_AWAY: Duration = Duration::from_millis(2_500);
const HARDS: [i64; 6] = [500, 1_000, 1_500, 2_000, 3_000, 5_000];
const CALLS: &str = "calls";
const BURSTS: &str = "bursts";

/// No two of its thresholds and of any [`drawn`] cap come to the same.
fn shadow() -> Cap {
    Cap { id: "shadow", by_window: false, hard: 630, soft: vec!["50%"], enforce: false }
}

fn defaults() -> BTreeMap<&'static str, Vec<Cap>> {
    let soft = vec!["50%", "80%", "90%", "100%", "120%"];
    let calls = Cap { id: "default", by_window: false, hard: 1_000, soft, enforce: true };
    let bursts = Cap { id: "burst", by_window: true, hard: 20, soft: vec!["8", "50%"], enforce: true };
    BTreeMap::from([(CALLS, vec![calls, shadow()]), (BURSTS, vec![bursts])])
}

fn drawn(rng: &mut Rng) -> Vec<Cap> {
    let mut soft = vec!["50%", "80%", "100%", "120%", "140%"];
    soft.retain(|_| rng.u8(0..4) > 0);
    let default = Cap { id: "default", by_window: false, hard: *rng.choice(&HARDS).unwrap(), soft, enforce: true };
    if rng.bool() { vec![default] } else { vec![default, shadow()] }
}

fn config() -> String {
    let caps = defaults();
    let caps = caps.iter().flat_map(|(meter, caps)| caps.iter().map(move |cap| cap.toml(meter)));
    scene::meter(CALLS, "allow_negative = true\n")
        + &scene::meter(BURSTS, "window = \"2s\"\n")
        + &caps.collect::<String>()
}

struct Drive {
    target: Mutex<Target>,
    stop: AtomicBool,
    requests: AtomicU64,
    unanswered: AtomicU64,
}

/// One who sends for its customers, one thing after the other.
struct Driver<'a> {
    drive: &'a Drive,
    open: Option<(Target, Http)>,
    rng: Rng,
    name: String,
    events: u64,
    /// What was sent last, and how many events it held.
    last: Option<(Value, usize)>,
}

#[test]
fn every_alert_is_raised_once_and_told_once_through_sigkills_reloads_and_changes() {
    let rounds = number("METERD_ALERT_ROUNDS").unwrap_or(ROUNDS);
    let seed = seed("METERD_ALERT_SEED");
    let receiver = Receiver::start(|request| match (request.message * 7 + request.attempt) % 17 {
        0 => Answer::Reset,
        1 => Answer::Late(Duration::from_millis(5), 503),
        n => Answer::Late(Duration::from_millis(n as u64), 204),
    });
    let directory = tempfile::tempdir().unwrap();
    let mut scene = Scene::start(&(config() + &scene::webhook(&receiver.url()) + &scene::files(directory.path())));
    let drive = Drive {
        target: Mutex::new(scene.daemon().target().unwrap()),
        stop: AtomicBool::new(false),
        requests: AtomicU64::new(0),
        unanswered: AtomicU64::new(0),
    };
    let books = drive.through(seed, || kill_again_and_again(&mut scene, &drive, rounds, seed));
    let unanswered = drive.unanswered.load(Ordering::Relaxed);
    println!("{rounds} kills; {} requests, {unanswered} without an answer", drive.requests.load(Ordering::Relaxed));
    assert!(unanswered > 0, "no kill met a request under way, so nothing was shown");
    scene.wait_until_drained();
    let told = everybody_agrees(&scene, &books, &receiver, directory.path());
    nothing_is_raised_again(scene, &books, &told, &receiver, directory.path());
}

fn kill_again_and_again(scene: &mut Scene, drive: &Drive, rounds: u64, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    for round in 0..rounds {
        std::thread::sleep(Duration::from_millis(rng.u64(100..700)));
        // Every fourth time also in order, with nothing changed in the config.
        scene.kill();
        if round % 4 == 3 {
            scene.restart();
        }
        *drive.target.lock() = scene.daemon().target().unwrap();
    }
    std::thread::sleep(Duration::from_millis(300));
}

impl Drive {
    /// Drives while `meanwhile` runs: what every customer came to.
    fn through(&self, seed: u64, meanwhile: impl FnOnce()) -> Vec<Book> {
        std::thread::scope(|scope| {
            let drivers = (0..DRIVERS).map(|number| {
                let builder = std::thread::Builder::new().name(format!("driver-{number}"));
                builder.spawn_scoped(scope, move || Driver::new(self, number, seed).drive()).unwrap()
            });
            let drivers = drivers.collect::<Vec<_>>();
            let stop = StopWhenDropped(&self.stop);
            meanwhile();
            drop(stop);
            drivers.into_iter().flat_map(|driver| driver.join().expect("a driver does not panic")).collect()
        })
    }
}

impl<'a> Driver<'a> {
    fn new(drive: &'a Drive, number: u64, seed: u64) -> Self {
        let rng = Rng::with_seed(seed ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self { drive, open: None, rng, name: format!("d{number}"), events: 0, last: None }
    }

    fn drive(mut self) -> Vec<Book> {
        let mut books = Vec::new();
        while !self.drive.stop.load(Ordering::Relaxed) {
            let mut book = Book::new(format!("{} {}", self.name, books.len()), defaults());
            if self.rng.bool() {
                self.set_caps(&mut book);
            }
            // From 0 to 140 % at once.
            let hard = book.caps(CALLS)[0].hard;
            self.send(&mut book, &[(CALLS, hard * 14 / 10)]);
            for _ in 0..STEPS {
                self.step(&mut book);
                std::thread::sleep(Duration::from_millis(self.rng.u64(0..PAUSE_MS)));
            }
            books.push(book);
        }
        books
    }

    fn step(&mut self, book: &mut Book) {
        match self.rng.u8(0..10) {
            0..=2 => {
                let some = self.rng.i64(1..=700);
                self.send(book, &[(CALLS, some)]);
            }
            3 => {
                let drop = -self.rng.i64(1..=book.used(CALLS).max(0) + 1);
                self.send(book, &[(CALLS, drop)]);
            }
            4 => {
                let some = self.rng.i64(1..=25);
                self.send(book, &[(BURSTS, some)]);
            }
            5 | 6 => {
                let count = self.rng.usize(2..=5);
                let rng = &mut self.rng;
                let mut one = || if rng.bool() { (CALLS, rng.i64(-200..=500)) } else { (BURSTS, rng.i64(1..=9)) };
                let events = (0..count).map(|_| one()).collect::<Vec<_>>();
                self.send(book, &events);
            }
            7 => self.set_caps(book),
            8 => {
                let reply = self.ask("DELETE", &caps_path(&book.customer, CALLS), &Value::Null);
                assert_eq!((reply.status, &reply.json["source"]), (200, &json!("config")), "{}", reply.text);
                book.change(CALLS, defaults().remove(CALLS).unwrap());
            }
            _ => self.repeat(),
        }
    }

    /// Twice in every other case, which changes nothing.
    fn set_caps(&mut self, book: &mut Book) {
        let caps = drawn(&mut self.rng);
        let body = caps.iter().map(Cap::json).collect::<Vec<_>>().into();
        for _ in 0..self.rng.u8(1..=2) {
            let reply = self.ask("PUT", &caps_path(&book.customer, CALLS), &body);
            assert_eq!(reply.status, 200, "{}", reply.text);
        }
        book.change(CALLS, caps);
    }

    fn send(&mut self, book: &mut Book, events: &[(&'static str, i64)]) {
        let at_ms = SystemClock::new().now().millis();
        let mut body = Vec::new();
        for (meter, quantity) in events {
            self.events += 1;
            let mut event = scene::event(&format!("{} {}", self.name, self.events), &book.customer, meter, *quantity);
            event["timestamp"] = json!(at_ms);
            body.push(event);
        }
        let body = Value::Array(body);
        let reply = self.ask("POST", "/v1/events?results=all", &body);
        assert_eq!((reply.status, &reply.json["late"]), (200, &json!(0)), "{}", reply.text);
        let results = reply.json["events"].as_array().unwrap().clone();
        assert_eq!(results.len(), events.len(), "{}", reply.text);
        for ((meter, quantity), result) in events.iter().zip(&results) {
            let (id, seq) = (result["usage_event_id"].as_str().unwrap().to_owned(), result["seq"].as_u64().unwrap());
            book.count(&Counted { id, seq, meter, quantity: *quantity, at_ms });
        }
        self.last = Some((body, events.len()));
    }

    /// What was sent before is a duplicate, and raises nothing.
    fn repeat(&mut self) {
        let Some((body, events)) = self.last.clone() else { return };
        let reply = self.ask("POST", "/v1/events", &body);
        assert_eq!((reply.status, &reply.json["duplicate"]), (200, &json!(events)), "{}", reply.text);
    }

    /// Asks until there is an answer.
    fn ask(&mut self, method: &str, path: &str, body: &Value) -> Reply {
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < ANSWER_MAX, "no answer to {method} {path}");
            let target = self.drive.target.lock().clone();
            let (_, http) = match self.open.take().filter(|(known, _)| *known == target) {
                Some(known) => self.open.insert(known),
                None => self.open.insert((target.clone(), Http::to(target))),
            };
            let json = [("content-type", "application/json")];
            let (headers, body) =
                if body.is_null() { (&json[..0], String::new()) } else { (&json[..], body.to_string()) };
            self.drive.requests.fetch_add(1, Ordering::Relaxed);
            if let Some(reply) = http.try_call(method, path, headers, body).filter(|reply| !is_retryable(reply.status))
            {
                return reply;
            }
            self.drive.unanswered.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(self.rng.u64(1..20)));
        }
    }
}

/// The list against the model, and both sinks against both.
fn everybody_agrees(scene: &Scene, books: &[Book], receiver: &Receiver, directory: &Path) -> Told {
    let all = alerts(scene, "");
    let seqs = all.iter().map(|row| row["seq"].as_u64().unwrap()).collect::<Vec<_>>();
    assert!(seqs.is_sorted_by(|one, next| one < next), "oldest first, each with a record of its own");
    let mut by_customer = HashMap::<&str, Vec<Value>>::new();
    all.iter().for_each(|row| by_customer.entry(row["customer"].as_str().unwrap()).or_default().push(row.clone()));
    let mut told = Told::new();
    for book in books {
        let listed = by_customer.remove(book.customer.as_str()).unwrap_or_default();
        book.check(&listed).unwrap_or_else(|wrong| panic!("{wrong}"));
        told.extend(book.told(&listed));
    }
    assert!(by_customer.is_empty(), "alerts of nobody: {by_customer:?}");
    lists_by_state(scene, &all);
    compare("webhook", &told, &messages(receiver));
    compare("files", &told, &lines(directory));
    let due = || books.iter().flat_map(|book| &book.due);
    let again = due().filter(|due| due.generation > 1).count();
    let recovered = due().filter(|due| due.recovered.is_some()).count();
    let windows = all.iter().filter(|row| row["period"].is_null()).map(|row| row["period_start"].as_str());
    let windows = windows.collect::<BTreeSet<_>>().len();
    println!(
        "{} customers, {} alerts, {again} of them again, {recovered} recovered, {windows} windows",
        books.len(),
        all.len()
    );
    assert!(again > 0 && recovered > 0 && windows > 1, "all of it came about");
    told
}

fn lists_by_state(scene: &Scene, all: &[Value]) {
    for state in ["triggered", "recovered"] {
        let due = all.iter().filter(|row| row["state"] == state).collect::<Vec<_>>();
        assert_eq!(
            alerts(scene, &format!("state={state}&meter={CALLS}")).len(),
            due.iter().filter(|row| row["meter"] == CALLS).count()
        );
        assert_eq!(alerts(scene, &format!("state={state}")).iter().collect::<Vec<_>>(), due, "{state}");
    }
}

fn compare(sink: &str, due: &Told, found: &Told) {
    let missing = due.keys().find(|key| !found.contains_key(*key));
    let strange = found.iter().find(|(key, said)| due.get(*key) != Some(*said));
    let was_due = strange.and_then(|(key, _)| due.get(key));
    assert!(missing.is_none(), "{sink}: {missing:?} of {} is missing, {} are there", due.len(), found.len());
    assert!(strange.is_none(), "{sink}: {strange:?} where {was_due:?} was due");
}

/// What the receiver was told: an id has one body, and an alert's state one id.
fn messages(receiver: &Receiver) -> Told {
    let (mut told, mut bodies, mut homes) = (Told::new(), HashMap::new(), HashMap::new());
    let requests = receiver.requests();
    for request in &requests {
        assert_eq!(
            *bodies.entry(&request.id).or_insert(request.digest),
            request.digest,
            "{} had two bodies",
            request.id
        );
        let alert = request.alert().unwrap_or_else(|| panic!("no alert: {}", request.body));
        let key = (request.body["type"].as_str().unwrap().to_owned(), alert["alert_id"].to_string());
        let home = *homes.entry(key.clone()).or_insert(&request.id);
        assert_eq!(home, &request.id, "{key:?} is under two ids");
        if request.is_taken() {
            told.insert(key, members(alert));
        }
    }
    println!("webhook: {} requests, {} messages, {} taken", requests.len(), bodies.len(), told.len());
    told
}

/// What the files say, each of which has its manifest, and no alert's state twice.
fn lines(directory: &Path) -> Told {
    let mut told = Told::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let Some(manifest) = path.to_str().filter(|path| path.ends_with(".manifest.json")) else { continue };
        let manifest: Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
        assert_eq!(manifest["kind"], "alerts", "{manifest}");
        let text = std::fs::read_to_string(directory.join(manifest["file"].as_str().unwrap())).unwrap();
        assert_eq!(manifest["rows"], text.lines().count(), "{manifest}");
        for line in text.lines() {
            assert!(line.starts_with("{\"type\":"), "{line}");
            let line: Value = serde_json::from_str(line).unwrap();
            let key = (line["type"].as_str().unwrap().to_owned(), line["alert_id"].to_string());
            let before = told.insert(key, members(&line));
            assert_eq!(before, None, "{line} is in two files");
        }
    }
    told
}

/// A restart, a store folded again from the journal, and `verify` raise no alert, and send none.
fn nothing_is_raised_again(mut scene: Scene, books: &[Book], told: &Told, receiver: &Receiver, directory: &Path) {
    let before = (alerts(&scene, ""), receiver.count());
    for how in ["a restart", "a SIGKILL", "a refold of the journal"] {
        scene.end(how == "a SIGKILL");
        scene.home.verify();
        if how == "a refold of the journal" {
            std::fs::remove_dir_all(scene.home.store()).unwrap();
        }
        scene.start_again();
        std::thread::sleep(LOOK_AWAY);
        scene.wait_until_drained();
        assert_eq!(receiver.count(), before.1, "{how} sends nothing again");
        assert!(alerts(&scene, "") == before.0, "{how} changes no alert");
        compare("files", told, &lines(directory));
    }
    one_more_of_each_is_not_raised(&scene, books);
    scene.verify();
}

/// What is crossed stays silent with the customer's next event, after all that.
fn one_more_of_each_is_not_raised(scene: &Scene, books: &[Book]) {
    let still = |book: &&Book| {
        let hard = book.caps(CALLS).iter().map(|cap| cap.hard).max().unwrap();
        book.used(CALLS) > 2 * hard
    };
    let mut silent = 0;
    for book in books.iter().filter(still) {
        let count = |scene: &Scene| alerts(scene, &format!("customer={}", book.customer.replace(' ', "%20"))).len();
        // Thresholds that a change of caps left behind fire with the first of these two, and not again with the second.
        let send = |n: u8| {
            scene::expect(scene, &scene::event(&format!("{} {n}", book.customer), &book.customer, CALLS, 1), "accepted")
        };
        send(1);
        let before = count(scene);
        send(2);
        assert_eq!(count(scene), before, "{}", book.customer);
        silent += 1;
    }
    println!("{silent} customers far above their caps were silent");
}
