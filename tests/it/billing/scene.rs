//! A daemon in this process whose clock the test turns, and a client that sees heads as well as bodies.

use std::fmt::Display;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use meterd::cli::client::percent_encode;
use meterd::config::{Config, Source};
use meterd::engine::{self, Engine, Entropy, Parts};
use meterd::env::{Clock, ManualClock, SimDisk};
use meterd::http;
use meterd::journal::{self, Compression};
use meterd::model::{Duration, Timestamp};
use meterd::store::MemStore;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use crate::http_daemon::Reply;

/// What the daemon's clock shows at first.
pub const NOW: &str = "2026-11-22T10:30:00Z";
pub const HOUR: Duration = Duration::from_secs(3_600);
pub const DAY: Duration = Duration::from_secs(86_400);
/// Far above the few ticks that anything here takes.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
const LOOK: std::time::Duration = std::time::Duration::from_millis(20);

/// A client.
pub struct Http {
    base: String,
    runtime: Runtime,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Http {
    /// Talks to `host:port`.
    pub fn to(target: impl Display) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { base: format!("http://{target}"), runtime, client }
    }

    pub fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
        self.try_call(method, path, headers, body).unwrap_or_else(|| panic!("{method} {path}: no answer"))
    }

    /// None: there was no whole answer in time.
    pub fn try_call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Option<Reply> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("a request");
        self.runtime.block_on(async {
            let answer = tokio::time::timeout(PATIENCE, self.client.request(request)).await;
            let (parts, body) = answer.ok()?.ok()?.into_parts();
            let body = body.collect().await.ok()?.to_bytes();
            Some(Reply {
                status: parts.status.as_u16(),
                headers: parts.headers,
                text: String::from_utf8(body.to_vec()).expect("UTF-8"),
                json: serde_json::from_slice(&body).unwrap_or_default(),
            })
        })
    }

    pub fn get(&self, path: &str) -> Reply {
        self.call("GET", path, &[], "")
    }

    /// A document that must be there.
    pub fn json(&self, path: &str) -> Value {
        let reply = self.get(path);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        reply.json
    }

    /// The `data` of one page.
    pub fn rows(&self, path: &str) -> Vec<Value> {
        self.json(path)["data"].as_array().expect("data").clone()
    }

    /// The `data` of every page; `path` has a query already.
    pub fn pages(&self, path: &str) -> Vec<Value> {
        let (mut rows, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.json(&format!("{path}{cursor}"));
            rows.extend(page["data"].as_array().expect("data").clone());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={}", percent_encode(next)),
                None => return rows,
            }
        }
    }

    pub fn put(&self, path: &str, body: impl Into<Bytes>) -> Reply {
        self.call("PUT", path, &[("content-type", "application/json")], body)
    }

    /// Sends native events and returns the answer, whatever became of them.
    pub fn send(&self, events: &Value) -> Value {
        self.send_as("application/json", events)
    }

    pub fn send_as(&self, content_type: &str, events: &Value) -> Value {
        let reply = self.call("POST", "/v1/events", &[("content-type", content_type)], events.to_string());
        assert!([200, 207].contains(&reply.status), "{}", reply.text);
        reply.json
    }

    /// Sends events of which every one must be accepted; `late` of them late.
    pub fn accept(&self, events: Vec<Value>, late: usize) {
        let count = events.len();
        let answer = self.send(&events.into());
        let found = (&answer["accepted"], &answer["late"]);
        assert_eq!(found, (&json!(count), &json!(late)), "{answer}");
    }
}

/// See the module.
pub struct Scene {
    http: Http,
    clock: Arc<ManualClock>,
    engine: Engine,
    shutdown: CancellationToken,
    serving: Option<JoinHandle<()>>,
}

impl Deref for Scene {
    type Target = Http;

    fn deref(&self) -> &Http {
        &self.http
    }
}

impl Scene {
    pub fn start(now: &str, config: &str) -> Self {
        let source = Source::new("test.toml", config);
        let config = Config::parse(&source).unwrap_or_else(|_| panic!("the config is refused: {config}"));
        let disk = SimDisk::new(1);
        let clock = Arc::new(ManualClock::new(Timestamp::parse_rfc3339(now).unwrap()));
        let parts = Parts {
            lock: engine::lock(&disk).unwrap(),
            disk: Arc::new(disk),
            clock: clock.clone(),
            store: Arc::new(MemStore::new()),
        };
        let journal_options = journal::Options { segment_bytes: 1 << 20, compression: Compression::None };
        let entropy = Entropy { store_id: 7, dedupe_key: [9; 16] };
        let engine = Engine::open(&parts, &config.engine, journal_options, &config.meters, entropy).unwrap();
        let mut http = Http::to("");
        let listener = http.runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        http.base.push_str(&listener.local_addr().unwrap().to_string());
        let prometheus = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle();
        let shutdown = CancellationToken::new();
        let serve = http::serve(listener, config.http, engine.clone(), prometheus, shutdown.clone());
        let serving = Some(http.runtime.spawn(serve));
        Self { http, clock, engine, shutdown, serving }
    }

    /// Lets time pass; the daemon looks at its clock with the next request, or every 250 ms of it.
    pub fn pass(&self, span: Duration) {
        self.clock.advance(span);
    }

    /// Lets so much time pass that the daemon looks at its clock by itself, and waits until it has.
    pub fn advance(&self, span: Duration) {
        self.pass(span);
        let now = self.clock.now().to_string();
        self.wait_until("the daemon sees the time", |http| {
            let clock = http.json("/v1/clock");
            clock["effective"] == now && clock["paused"] == false
        });
    }

    /// Lets time pass up to an instant.
    pub fn advance_to(&self, at: &str) {
        let span = Timestamp::parse_rfc3339(at).unwrap().micros() - self.clock.now().micros();
        self.advance(Duration::from_micros(u64::try_from(span).expect("time does not go back")));
    }

    pub fn wait_until(&self, what: &str, mut is_so: impl FnMut(&Http) -> bool) {
        let began = Instant::now();
        while !is_so(&self.http) {
            assert!(began.elapsed() < PATIENCE, "{what}: not so after {PATIENCE:?}");
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until a period is final and the store has all of it.
    pub fn wait_until_final(&self, period: &str) {
        self.wait_until(&format!("{period} is final"), |http| {
            self.pass(Duration::from_secs(2)); // the store is handed things once a second
            http.get(&format!("/v1/periods/{period}/totals?format=ndjson")).headers.contains_key("etag")
        });
        let page = self.json(&format!("/v1/periods/{period}/totals"));
        assert_eq!(page["final"], true, "{page}");
    }
}

impl Drop for Scene {
    /// Ends the edge first, then the engine; of a test that failed neither is waited for.
    fn drop(&mut self) {
        self.shutdown.cancel();
        if std::thread::panicking() {
            return;
        }
        if let Some(serving) = self.serving.take() {
            self.http.runtime.block_on(serving).expect("the edge ends by itself");
        }
        self.engine.stop();
    }
}

/// A native event.
pub fn event(id: &str, customer: &str, meter: &str, quantity: impl Into<Value>, timestamp: &str) -> Value {
    json!({
        "usage_event_id": id, "customer": customer, "meter": meter, "quantity": quantity.into(), "timestamp": timestamp,
    })
}

/// The hash that a row of totals must have, by the recipe that the documentation gives.
pub fn hash(row: &Value) -> String {
    let content = json!([
        "default",
        row["customer"],
        row["meter"],
        row["dimensions"],
        row["period_start"],
        row["period_end"],
        row["value"],
        row["event_count"],
        row["revision"],
        row["incarnation"]
    ]);
    Sha256::digest(content.to_string()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Records of RFC 4180 by the names in the header, line breaks in fields included.
pub fn csv(text: &str) -> Vec<Vec<(String, String)>> {
    let mut records = vec![vec![String::new()]];
    let (mut quoted, mut rest) = (false, text.chars().peekable());
    while let Some(next) = rest.next() {
        let record = records.last_mut().unwrap();
        match next {
            '"' if quoted && rest.peek() == Some(&'"') => record.last_mut().unwrap().extend(rest.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(String::new()),
            '\r' if !quoted => {
                assert_eq!(rest.next(), Some('\n'), "records end with CRLF");
                records.push(vec![String::new()]);
            }
            other => record.last_mut().unwrap().push(other),
        }
    }
    assert_eq!(records.pop().unwrap(), [""], "the last record ends with CRLF, too");
    let header = records.remove(0);
    let named = |record: Vec<String>| {
        assert_eq!(record.len(), header.len(), "{record:?}");
        header.iter().cloned().zip(record).collect()
    };
    records.into_iter().map(named).collect()
}

/// A record of totals is this row of JSON, member by member.
pub fn assert_record_is(record: &[(String, String)], row: &Value) {
    for (column, cell) in record {
        let expected = match &row[column] {
            Value::Null if column == "approximate" => "false".to_owned(),
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let cell = match column.as_str() {
            "customer" | "meter" => cell.strip_prefix('\'').unwrap_or(cell),
            _ => cell,
        };
        assert_eq!(*cell, expected, "{column} of {row}");
    }
    let columns = record.iter().map(|(column, _)| column.as_str()).collect::<Vec<_>>();
    let missing = row.as_object().unwrap().keys().find(|name| !columns.contains(&name.as_str()));
    assert_eq!(missing, None, "a member without a column");
}
