//! The HTTP edge: one listener, the `/v1` API, health and metrics.
//!
//! | file | does |
//! | --- | --- |
//! | `server` | accepts connections; time-outs, connection limit, graceful shutdown |
//! | `watched` | which phase a connection is in, and since when |
//! | `routes` | which path leads where; counts requests |
//! | `problem` | every error a client can get, and its status |
//! | `body`, `params` | reads bodies and query strings within their limits |
//! | `ingest` | `POST /v1/events`: bytes to batches, outcomes to answers |
//! | `query` | `GET /v1/meters…`, `GET /v1/customers/…`: windows to rows |
//! | `health` | `/livez`, `/readyz`, `/healthz`, `/metrics` |
//!
//! 1. Whatever a client sends, it holds a bounded amount of memory for a bounded time.
//! 2. A 2xx for events leaves only once the engine says that they are durable; so does a total that rests on them.
//! 3. Every error body is `application/problem+json`. Retry-After goes with 503 only.

mod body;
mod health;
mod ingest;
mod instruments;
pub mod options;
mod params;
mod problem;
mod query;
mod routes;
mod server;
mod watched;

pub use options::Options;
pub use server::serve;
