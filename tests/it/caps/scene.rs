//! A daemon with caps, and what tests ask of it in the words of its API.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use meterd::cli::client::percent_encode;
use meterd::cli::daemon::Daemon;
use meterd::model::Quantity;
use serde_json::{Value, json};

use crate::billing::scene::{Http, Reply};
use crate::harness::receiver::SECRET;
use crate::harness::{Home, SMALL};

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);
/// Failed attempts are tried again soon and for long, and nothing becomes a dead letter.
const SCHEDULE: &str = "schedule = [\"0s\", \"100ms\", \"200ms\", \"500ms\", \"1s\", \"1s\", \"1s\", \"1s\", \"1s\", \"1s\", \
     \"1s\", \"1s\", \"1s\", \"1s\", \"1s\", \"1s\"]\ntimeout = \"5s\"\nbreaker_failures = 1000\n";

/// A meter of sums.
pub fn meter(slug: &str, more: &str) -> String {
    format!("[[meter]]\nslug = \"{slug}\"\naggregation = \"sum\"\n{more}")
}

/// A webhook that is sent alerts.
pub fn webhook(url: &str) -> String {
    format!(
        "[[sink]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{url}\"\nsecret = \"{SECRET}\"\n\
         allow_private_addresses = true\nsend = [\"alerts\"]\n{SCHEDULE}"
    )
}

/// A directory that is sent alerts.
pub fn files(path: &std::path::Path) -> String {
    format!(
        "[[sink]]\nname = \"files\"\nkind = \"file\"\npath = \"{}\"\nformat = \"ndjson\"\nsend = [\"alerts\"]\n{SCHEDULE}",
        path.display()
    )
}

/// Also when the test fails meanwhile: a scope waits for its threads.
pub struct StopWhenDropped<'a>(pub &'a AtomicBool);

impl Drop for StopWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub struct Scene {
    pub home: Home,
    /// None only between two daemons.
    daemon: Option<Daemon>,
    http: Http,
}

impl Deref for Scene {
    type Target = Http;

    fn deref(&self) -> &Http {
        &self.http
    }
}

impl Scene {
    /// `config` is added to that of a small daemon.
    pub fn start(config: &str) -> Self {
        let home = Home::new(&format!("{SMALL}{config}"));
        let daemon = home.start();
        let http = Http::to(daemon.target().unwrap());
        Self { home, daemon: Some(daemon), http }
    }

    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("a daemon")
    }

    /// SIGKILL, and a new daemon.
    pub fn kill(&mut self) {
        self.end(true);
        self.start_again();
    }

    /// An orderly stop, and a new daemon.
    pub fn restart(&mut self) {
        self.end(false);
        self.start_again();
    }

    /// By SIGKILL or in order.
    pub fn end(&mut self, kill: bool) {
        let daemon = self.daemon.take().expect("a daemon");
        if kill { daemon.kill().unwrap() } else { daemon.stop().unwrap() }
    }

    pub fn start_again(&mut self) {
        let daemon = self.home.start();
        self.http = Http::to(daemon.target().unwrap());
        self.daemon = Some(daemon);
    }

    /// Ends all, and expects the store to be what the journal says.
    pub fn verify(mut self) {
        self.end(false);
        self.home.verify();
    }

    /// Waits until the store has everything and no sink has anything to do.
    pub fn wait_until_drained(&self) {
        let began = Instant::now();
        wait_until("all is delivered", || {
            let verbose = self.get("/readyz?verbose").text;
            let seq = |name| verbose.lines().find_map(|line: &str| line.strip_prefix(name)).expect("a line of it");
            let sinks = self.rows("/v1/sinks");
            assert!(sinks.iter().all(|sink| sink["dead_letters"] == 0), "nothing becomes a dead letter: {sinks:?}");
            let is_idle = |sink: &Value| sink["pending"] == 0 && sink["oldest_at"].is_null();
            seq("durable_seq ") == seq("indexed_seq ") && sinks.iter().all(is_idle)
        });
        println!("drained after {:?}", began.elapsed());
    }
}

pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "it never came to be that {what}");
        std::thread::sleep(LOOK);
    }
}

pub fn caps_path(customer: &str, meter: &str) -> String {
    format!("/v1/customers/{}/caps/{meter}", percent_encode(customer))
}

/// Sets caps, which must be taken.
pub fn put_caps(http: &Http, customer: &str, meter: &str, caps: &Value) -> Value {
    let reply = http.put(&caps_path(customer, meter), caps.to_string());
    assert_eq!(reply.status, 200, "{caps}: {}", reply.text);
    reply.json
}

/// The one cap that a customer has there, as it stands.
pub fn cap(http: &Http, customer: &str, meter: &str) -> Value {
    let caps = http.json(&caps_path(customer, meter));
    assert_eq!(caps["caps"].as_array().map(Vec::len), Some(1), "{caps}");
    caps["caps"][0].clone()
}

pub fn post(http: &Http, path: &str, body: &Value) -> Reply {
    http.call("POST", path, &[("content-type", "application/json")], body.to_string())
}

/// An event that happens now.
pub fn event(id: &str, customer: &str, meter: &str, quantity: impl Into<Value>) -> Value {
    json!({"usage_event_id": id, "customer": customer, "meter": meter, "quantity": quantity.into()})
}

/// Sends one event: what became of it.
pub fn send(http: &Http, event: &Value) -> Value {
    let path = "/v1/events?results=all";
    let reply = post(http, path, event);
    assert!([200, 207].contains(&reply.status), "{}", reply.text);
    let events = reply.json["events"].as_array().unwrap_or_else(|| panic!("no events in {}", reply.text)).clone();
    assert_eq!(events.len(), 1, "{}", reply.text);
    let outcome = events[0]["outcome"].as_str().unwrap();
    assert_eq!(reply.json[outcome], 1, "counted as what it is: {}", reply.text);
    events[0].clone()
}

/// Sends one event, of which exactly this must become.
pub fn expect(http: &Http, event: &Value, outcome: &str) -> Value {
    let result = send(http, event);
    assert_eq!(result["outcome"], outcome, "{event}: {result}");
    if outcome == "capped" {
        assert_eq!(result["code"], "hard_cap", "{result}");
        assert!(result.get("seq").is_none() && result["detail"].is_string(), "{result}");
    }
    result
}

pub fn check(http: &Http, customer: &str, meter: &str, quantity: impl Into<Value>) -> Value {
    let reply = post(http, "/v1/check", &json!({"customer": customer, "meter": meter, "quantity": quantity.into()}));
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json
}

/// Decides and counts in one step.
pub fn consume(http: &Http, event: &Value) -> Reply {
    let mut body = event.clone();
    body["mode"] = "consume".into();
    post(http, "/v1/check", &body)
}

/// All alerts, oldest first.
pub fn alerts(http: &Http, query: &str) -> Vec<Value> {
    http.pages(&format!("/v1/alerts?limit=50&{query}"))
}

/// What a customer has used of a meter in this period: usage, totals, check and caps must all say the same.
pub fn used(http: &Http, customer: &str, meter: &str) -> Quantity {
    let name = percent_encode(customer);
    let rows = http.rows(&format!("/v1/customers/{name}/usage"));
    let row = rows.iter().find(|row| row["meter"] == meter);
    let usage = row.map_or_else(|| json!("0"), |row| row["value"].clone());
    let totals = http.rows(&format!("/v1/periods/current/totals?customer={name}&meter={meter}"));
    assert!(totals.len() < 2, "{totals:?}");
    let total = totals.first().map_or_else(|| json!("0"), |row| row["value"].clone());
    let checked = check(http, customer, meter, 1);
    assert_eq!([&usage, &total], [&checked["used"]; 2], "usage, total and check differ: {checked}");
    let caps = http.json(&caps_path(customer, meter));
    let caps = caps["caps"].as_array().unwrap();
    for cap in caps.iter().filter(|cap| cap["period"] != "window") {
        assert_eq!(cap["used"], usage, "{cap}");
    }
    let shown = row.and_then(|row| row["caps"].as_array());
    assert!(caps.is_empty() || row.is_none() || shown == Some(caps), "usage shows {shown:?}, not {caps:?}");
    quantity(&usage)
}

/// A decimal string.
pub fn quantity(value: &Value) -> Quantity {
    let text = value.as_str().unwrap_or_else(|| panic!("no decimal string: {value}"));
    Quantity::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A problem with this status and code; an empty code: it has none.
pub fn refused(reply: &Reply, status: u16, code: &str, what: impl std::fmt::Display) {
    assert_eq!(reply.status, status, "{what}: {}", reply.text);
    assert_eq!(reply.headers["content-type"], "application/problem+json", "{what}");
    assert_eq!(reply.json["status"], status, "{what}: {}", reply.text);
    assert!(reply.json["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{what}: {}", reply.text);
    if !code.is_empty() {
        assert_eq!(reply.json["code"], code, "{what}: {}", reply.text);
    }
}

/// A metric's sample; none: it is not there.
pub fn metric(http: &Http, sample: &str) -> Option<String> {
    let text = http.get("/metrics").text;
    let line = text.lines().find(|line| line.strip_prefix(sample).is_some_and(|rest| rest.starts_with(' ')));
    line.and_then(|line| line.rsplit(' ').next()).map(str::to_owned)
}
