//! The HTTP edge: one listener, the `/v1` API, health and metrics.
//!
//! | file | does |
//! | --- | --- |
//! | `server` | accepts connections; time-outs, connection limit, graceful shutdown |
//! | `watched` | which phase a connection is in, and since when |
//! | `routes` | which path leads where; counts requests |
//! | `problem` | every error a client can get, and its status |
//! | `body`, `params`, `document` | reads bodies, paths, query strings and small JSON documents within their limits |
//! | `parsers` | threads that parse large bodies |
//! | `fields` | the members that several routes share |
//! | `read` | runs reads where blocking is allowed, and waits until what they saw is durable |
//! | `ingest` | `POST /v1/events`: bytes to batches, outcomes to answers |
//! | `events` | `GET /v1/events`, `POST /v1/events:void`: the events behind the numbers, and the way to take one back |
//! | `backfills` | `/v1/backfills`: loads of history |
//! | `audit` | `GET /v1/audit`: who changed what |
//! | `query` | `GET /v1/meters…`, `GET /v1/customers/{customer}/usage`: windows to rows |
//! | `totals`, `adjustments` | `GET /v1/periods/{period}/totals`, `GET /v1/adjustments`: what billing pulls |
//! | `check` | `POST /v1/check`: may a customer use so much more? |
//! | `reservations` | `/v1/reservations`: quota set aside for work whose size is known only afterwards |
//! | `customers` | `GET` and `PUT /v1/customers/{customer}`: anchors, time zones, plans |
//! | `caps` | `/v1/customers/{customer}/caps`: how much a customer may use |
//! | `alerts` | `GET /v1/alerts`: thresholds that were crossed |
//! | `deliveries`, `sinks` | `/v1/deliveries`, `/v1/sinks`: what goes out, dead letters and their replay, the kill switch |
//! | `idempotency` | the `Idempotency-Key` header |
//! | `clock` | `GET /v1/clock`, `POST /v1/clock:reset` |
//! | `health` | `/livez`, `/readyz`, `/healthz`, `/metrics` |
//!
//! 1. Whatever a client sends, it holds a bounded amount of memory for a bounded time.
//! 2. A 2xx for events leaves only once the engine says that they are durable; so does a total that rests on them.
//! 3. Every error body is `application/problem+json`. Retry-After goes with 503 only.

mod adjustments;
mod alerts;
mod audit;
mod backfills;
mod body;
mod caps;
mod check;
mod clock;
mod customers;
mod deliveries;
mod document;
mod events;
mod fields;
mod health;
mod idempotency;
mod ingest;
mod instruments;
mod nearest;
pub mod options;
mod params;
mod parsers;
mod problem;
mod query;
mod read;
mod reservations;
mod routes;
mod server;
mod sinks;
mod totals;
mod watched;

pub use ingest::again::Again;
pub use options::Options;
pub use server::serve;
