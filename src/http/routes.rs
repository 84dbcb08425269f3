//! Which path leads where. Routing costs a fraction of a microsecond a request: nothing beside a batch.

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use metrics::Counter;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;

use crate::engine::Engine;
use crate::http::adjustments;
use crate::http::alerts;
use crate::http::audit;
use crate::http::backfills;
use crate::http::caps;
use crate::http::check::{self, Desk};
use crate::http::clock;
use crate::http::customers;
use crate::http::deliveries;
use crate::http::events;
use crate::http::health;
use crate::http::ingest;
use crate::http::instruments::Instruments;
use crate::http::nearest::Nearest;
use crate::http::options::Options;
use crate::http::parsers::Parsers;
use crate::http::problem::Problem;
use crate::http::query;
use crate::http::reservations;
use crate::http::sinks;
use crate::http::totals::{self, STREAMS_MAX};
use crate::metrics::HTTP_REQUESTS;
use crate::model::TenantId;

/// Whose events are taken while no API keys are configured.
const DEFAULT_TENANT: &str = "default";
/// Reads that fold windows at the same time; each holds at most one page of rows.
const READS_MAX: usize = 8;

/// What every request handler needs.
pub struct App {
    pub engine: Engine,
    pub options: Options,
    pub tenant: TenantId,
    pub prometheus: PrometheusHandle,
    pub instruments: Instruments,
    pub checks: Desk,
    pub nearest: Nearest,
    pub parsers: Parsers,
    pub reads: Arc<Semaphore>,
    /// Bodies that are being streamed.
    pub streams: Arc<Semaphore>,
}

impl App {
    pub fn new(engine: Engine, options: Options, prometheus: PrometheusHandle) -> Self {
        Self {
            checks: Desk::new(&engine),
            nearest: Nearest::default(),
            parsers: Parsers::start(options.max_connections),
            engine,
            options,
            tenant: TenantId::new(DEFAULT_TENANT),
            prometheus,
            instruments: Instruments::new(),
            reads: Arc::new(Semaphore::new(READS_MAX)),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        }
    }
}

/// Every route of the edge.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/events", get(events::list_events).post(ingest::post_events))
        .route("/v1/events:void", post(events::void_event))
        .route("/v1/backfills", get(backfills::list_backfills))
        .route("/v1/backfills/{backfill}", get(backfills::get_backfill).post(backfills::post_backfill))
        .route("/v1/audit", get(audit::list_audit))
        .route("/v1/meters", get(query::list_meters))
        .route("/v1/meters/{meter}", get(query::get_meter))
        .route("/v1/meters/{meter}/usage", get(query::meter_usage))
        .route("/v1/customers/{customer}", get(customers::get_customer).put(customers::put_customer))
        .route("/v1/customers/{customer}/usage", get(query::customer_usage))
        .route("/v1/customers/{customer}/caps", get(caps::list_caps))
        .route(
            "/v1/customers/{customer}/caps/{meter}",
            get(caps::get_caps).put(caps::put_caps).delete(caps::delete_caps),
        )
        .route("/v1/periods/{period}/totals", get(totals::period_totals))
        .route("/v1/adjustments", get(adjustments::list_adjustments))
        .route("/v1/alerts", get(alerts::list_alerts))
        .route("/v1/clock", get(clock::get_clock))
        .route("/v1/clock:reset", post(clock::reset_clock))
        .route("/v1/deliveries", get(deliveries::list_deliveries))
        .route("/v1/deliveries:replay", post(deliveries::replay_deliveries))
        .route("/v1/deliveries/{delivery}", get(deliveries::get_delivery).post(deliveries::post_delivery))
        .route("/v1/sinks", get(sinks::list_sinks))
        .route("/v1/sinks/{sink}", get(sinks::get_sink).post(sinks::post_sink))
        .route("/v1/reservations", get(reservations::list_reservations).post(reservations::post_reservations))
        .route(
            "/v1/reservations/{reservation}",
            get(reservations::get_reservation).post(reservations::post_reservation),
        )
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/healthz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .fallback(async || Problem::NoRoute)
        .method_not_allowed_fallback(async || Problem::NoMethod)
        .layer(middleware::from_fn(count_request))
        // Behind the layer, which costs as much as a check: it counts its requests itself.
        .route(check::PATH, post(check::post_check).fallback(check::no_method))
        .with_state(app)
}

/// Counts requests by route, method and status: labels with few values, whatever clients send.
async fn count_request(matched: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let route = matched.as_ref().map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let method = method_label(request.method());
    let response = next.run(request).await;
    request_counter(route, method, response.status()).increment(1);
    response
}

/// The counter of a route's requests.
pub fn request_counter(route: String, method: &'static str, status: StatusCode) -> Counter {
    metrics::counter!(HTTP_REQUESTS, "route" => route, "method" => method, "status" => status.as_u16().to_string())
}

pub fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        _ => "other",
    }
}
