//! An engine on a simulated disk behind the real HTTP edge, and a client for it.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use meterd::engine::{self, Engine, Entropy, Parts};
use meterd::env::{ManualClock, SimDisk};
use meterd::http;
use meterd::journal::{self, Compression};
use meterd::meter::{Aggregation, Definition, Late};
use meterd::model::{Duration, Timestamp};
use meterd::store::MemStore;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What the daemon's clock shows.
pub const NOW: &str = "2026-11-22T10:30:00Z";

pub struct Daemon {
    pub address: SocketAddr,
    pub engine: Engine,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
    /// Null if the body is not JSON.
    pub json: Value,
}

fn definition(slug: &str, event_type: &str, aggregation: Aggregation, value: Option<&str>) -> Definition {
    Definition {
        slug: slug.to_owned(),
        event_type: event_type.to_owned(),
        aggregation,
        value: value.map(|path| path.parse().expect("a path")),
        dimensions: vec![("model".to_owned(), "$.model".parse().expect("a path"))],
        window: "1h".parse().expect("a length"),
        time_zone: "UTC".to_owned(),
        grace: Duration::from_secs(100 * 365 * 86_400), // nothing becomes final
        late: Late::Adjust,
        allow_negative: false,
        unique_members_max: 100,
        approximate: false,
        billing_period: Default::default(),
        billing_time_zone: None,
        derive_id: None,
    }
}

/// `tokens` sums, `requests` counts, both fed by `llm`; `users` counts different users; one slug needs escapes in a path.
fn definitions() -> Vec<Definition> {
    vec![
        definition("tokens", "llm", Aggregation::Sum, Some("$.tokens")),
        definition("requests", "llm", Aggregation::Count, None),
        definition("users", "login", Aggregation::Unique, Some("$.user")),
        definition("low/est", "probe", Aggregation::Min, None),
    ]
}

impl Daemon {
    pub async fn start() -> Self {
        Self::start_with(http::Options::default(), engine::Options::default()).await
    }

    pub async fn start_with(options: http::Options, engine_options: engine::Options) -> Self {
        let disk = SimDisk::new(1);
        let now = Timestamp::parse_rfc3339(NOW).expect("a time");
        let parts = Parts {
            lock: engine::lock(&disk).expect("a new directory"),
            disk: Arc::new(disk),
            clock: Arc::new(ManualClock::new(now)),
            store: Arc::new(MemStore::new()),
        };
        let journal_options = journal::Options { segment_bytes: 1 << 20, compression: Compression::None };
        let entropy = Entropy { store_id: 7, dedupe_key: [9; 16] };
        let engine = Engine::open(&parts, &engine_options, journal_options, &definitions(), entropy).expect("it opens");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let prometheus = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(http::serve(listener, options, engine.clone(), prometheus, shutdown.clone()));
        Self { address, engine, shutdown, serving }
    }

    pub async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
        let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response =
            client.request(request.body(Full::new(body.into())).expect("a request")).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a whole answer").to_bytes();
        Reply {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8_lossy(&body).into_owned(),
            json: serde_json::from_slice(&body).unwrap_or_default(),
        }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.call("GET", path, &[], "").await
    }

    pub async fn post(&self, content_type: &str, body: impl Into<Bytes>) -> Reply {
        self.call("POST", "/v1/events", &[("content-type", content_type)], body).await
    }

    /// The `data` of a list, which must be there.
    pub async fn rows(&self, path: &str) -> Vec<Value> {
        let reply = self.get(path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        reply.json["data"].as_array().expect("data").clone()
    }

    /// Ends the edge first, then the engine.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.serving.await.expect("the edge ends by itself");
        tokio::task::block_in_place(|| self.engine.stop());
    }
}

/// A native event for `tokens`, `index` hours past midnight (modulo 10), of one of two models.
pub fn event(index: usize, customer: &str, quantity: usize) -> String {
    let (hour, model) = (index % 10, index % 2);
    format!(
        r#"{{"usage_event_id":"e{index}","customer":"{customer}","meter":"tokens","quantity":{quantity},"timestamp":"2026-11-22T{hour:02}:15:00Z","dimensions":{{"model":"m{model}"}}}}"#
    )
}
