//! A daemon with sinks, usage of which every event makes one row at once, and what the API says of deliveries.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Deref;
use std::time::{Duration, Instant};

use meterd::cli::daemon::Daemon;
use meterd::env::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::billing::scene::{Http, event};
use crate::delivery::rows::{Effects, effects};
use crate::harness::receiver::{Receiver, SECRET};
use crate::harness::{Home, SMALL};

/// What comes late to this meter is an adjustment, and so a row, at once.
const METER: &str = "
[[meter]]
slug = \"calls\"
aggregation = \"count\"
dimensions = { model = \"$.model\" }
window = \"1s\"
grace = \"1s\"
late = \"adjust\"
";
/// Failures are over soon, and no breaker opens.
pub const QUICK: &str = "schedule = [\"0s\", \"200ms\", \"300ms\"]\ntimeout = \"500ms\"\nbreaker_failures = 1000\n";
/// Tried again soon and for long, and no breaker opens.
pub const PATIENT: &str = "schedule = [\"0s\", \"100ms\", \"200ms\", \"300ms\", \"300ms\", \"300ms\", \"300ms\", \
     \"300ms\", \"300ms\", \"300ms\"]\ntimeout = \"2s\"\nbreaker_failures = 1000\n";
/// Far above what anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);
const HOUR: meterd::model::Duration = meterd::model::Duration::from_secs(3_600);

/// The config of a webhook for adjustments.
pub fn webhook(name: &str, url: &str, more: &str) -> String {
    format!(
        "[[sink]]\nname = \"{name}\"\nkind = \"webhook\"\nurl = \"{url}\"\nsecret = \"{SECRET}\"\n\
         allow_private_addresses = true\nsend = [\"adjustments\"]\n{more}"
    )
}

pub fn config(sinks: &str) -> String {
    format!("{SMALL}{METER}{sinks}")
}

pub struct Scene {
    pub home: Home,
    /// None only between two daemons.
    daemon: Option<Daemon>,
    http: Http,
    /// Events so far; each has a customer of its own.
    sent: usize,
}

impl Deref for Scene {
    type Target = Http;

    fn deref(&self) -> &Http {
        &self.http
    }
}

impl Scene {
    pub fn start(sinks: &str) -> Self {
        let home = Home::new(&config(sinks));
        let daemon = home.start();
        let http = Http::to(daemon.target().unwrap());
        Self { home, daemon: Some(daemon), http, sent: 0 }
    }

    /// Where the daemon listens, for commands.
    pub fn target(&self) -> String {
        format!("http://{}", self.daemon.as_ref().expect("a daemon").address())
    }

    pub fn kill(&mut self) {
        self.daemon.take().unwrap().kill().unwrap();
    }

    pub fn stop(&mut self) {
        self.daemon.take().unwrap().stop().unwrap();
    }

    /// After `kill` or `stop`.
    pub fn start_again(&mut self) {
        let daemon = self.home.start();
        self.http = Http::to(daemon.target().unwrap());
        self.daemon = Some(daemon);
    }

    /// Other sinks, from the next start on.
    pub fn configure(&self, sinks: &str) {
        fs::write(&self.home.place.config, config(sinks)).unwrap();
    }

    /// Sends so many late events in one request, each of a new customer: so many rows.
    pub fn feed(&mut self, events: usize) {
        let at = SystemClock::new().now().saturating_sub(HOUR).to_string();
        let numbers = self.sent..self.sent + events;
        let batch = numbers.map(|n| event(&format!("e{n}"), &customer(n), "calls", 1, &at)).collect();
        self.accept(batch, events);
        self.sent += events;
    }

    /// The customers of all rows so far.
    pub fn customers(&self) -> BTreeSet<String> {
        (0..self.sent).map(customer).collect()
    }

    /// Waits until a receiver has taken every row, and none twice.
    pub fn wait_until_all_arrived(&self, receiver: &Receiver) {
        self.wait_until_arrived(receiver, &self.customers());
    }

    /// Waits until a receiver has taken the rows of these customers; others must not be there.
    pub fn wait_until_arrived(&self, receiver: &Receiver, due: &BTreeSet<String>) {
        self.wait_until(&format!("{} rows arrive", due.len()), || arrived(receiver) == *due);
    }

    pub fn wait_until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let began = Instant::now();
        while !is_so() {
            let sinks = || self.get("/v1/sinks").text;
            assert!(began.elapsed() < PATIENCE, "it never came to be that {what}: {}", sinks());
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until the API says that of a sink.
    pub fn wait_until_sink(&self, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) {
        self.wait_until(&format!("{name} is {what}"), || is_so(&self.sink(name)));
    }

    pub fn sink(&self, name: &str) -> Value {
        let sinks = self.rows("/v1/sinks");
        let found = sinks.iter().find(|sink| sink["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {sinks:?}")).clone()
    }

    /// All pages of deliveries in a state to a sink.
    pub fn deliveries(&self, sink: &str, state: &str) -> Vec<Value> {
        self.pages(&format!("/v1/deliveries?sink={sink}&state={state}&limit=2"))
    }

    pub fn wait_until_dead(&self, sink: &str, count: usize) -> Vec<Value> {
        self.wait_until(&format!("{sink} has {count} dead letters"), || self.deliveries(sink, "dead").len() == count);
        self.deliveries(sink, "dead")
    }

    pub fn delivery(&self, id: &str) -> Value {
        self.json(&format!("/v1/deliveries/{id}"))
    }

    /// One delivery once the store has all of its rows and attempts, which it is handed once a second.
    pub fn stored_delivery(&self, id: &str) -> Value {
        let is_whole = |shown: &Value| {
            let log = shown["attempts_log"].as_array().map(Vec::len);
            shown["payload"].is_object() && log.map(|length| length as u64) == shown["attempts"].as_u64()
        };
        self.wait_until(&format!("all of {id} is shown"), || is_whole(&self.delivery(id)));
        self.delivery(id)
    }

    /// An operator's request, which must succeed.
    pub fn operate(&self, path: &str, body: &Value) -> Value {
        let reply = self.post(path, body, None);
        assert_eq!(reply.0, 200, "{path}: {}", reply.1);
        reply.1
    }

    /// An operator's request, and what it is answered.
    pub fn post(&self, path: &str, body: &Value, key: Option<&str>) -> (u16, Value) {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(key.map(|key| ("idempotency-key", key)));
        let reply = self.call("POST", path, &headers, body.to_string());
        (reply.status, reply.json)
    }

    pub fn pause(&self, sink: &str) {
        self.operate(&format!("/v1/sinks/{sink}:pause"), &json!({"reason": "maintenance"}));
    }

    pub fn resume(&self, sink: &str) {
        self.operate(&format!("/v1/sinks/{sink}:resume"), &json!({"reason": "all is well"}));
    }

    /// The value of a metric for a sink; none: it is not there.
    pub fn metric(&self, name: &str, sink: &str) -> Option<String> {
        let (text, label) = (self.get("/metrics").text, format!("sink=\"{sink}\""));
        let line = text.lines().find(|line| line.starts_with(&format!("{name}{{")) && line.contains(&label));
        line.and_then(|line| line.rsplit(' ').next()).map(str::to_owned)
    }
}

fn customer(number: usize) -> String {
    format!("c{number}")
}

/// The customers whose rows a receiver took. Panics if a row is under two ids, or an id has two bodies.
pub fn arrived(receiver: &Receiver) -> BTreeSet<String> {
    taken(receiver).into_keys().map(|key| key.cell.customer).collect()
}

pub fn taken(receiver: &Receiver) -> Effects {
    effects(&receiver.requests()).unwrap_or_else(|wrong| panic!("{wrong}"))
}
