//! Accepts connections and serves HTTP/1.1 on each, within limits.
//!
//! | a connection is | for at most | then |
//! | --- | --- | --- |
//! | idle: no byte of a request yet, none of an answer taken | `idle_timeout` | closed, as between requests |
//! | in a head: some bytes, not the whole header | `header_timeout` | closed |
//! | busy: a request is being answered | `body_timeout` for its body | answered with 408 |
//! | draining: to be closed, and no byte of the answer taken | `header_timeout` | cut |
//!
//! 1. At most `max_connections` are open; one more is answered 503 at once, without reading it, and counted.
//! 2. A request names exactly one host. (Of two lengths hyper takes chunked and drops Content-Length, as RFC 9112 says.)
//! 3. On shutdown idle connections close, requests under way are answered, and `serve` returns when none is left.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::http::{Request, Response, Version};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics::{Counter, Gauge, counter, gauge};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::engine::Engine;
use crate::http::options::Options;
use crate::http::problem::Problem;
use crate::http::routes::{self, App};
use crate::http::watched::{State, Watched};
use crate::metrics::{HTTP_CONNECTIONS, HTTP_CONNECTIONS_REFUSED};

/// A request's line and headers together, in bytes.
const HEADER_BYTES_MAX: usize = 32 << 10;
/// A connection's read buffer; bodies pass through it in pieces of up to this size.
const BUFFER_BYTES_MAX: usize = 128 << 10;
/// After a failed accept (out of file descriptors, most likely): let others finish first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
    retry-after: 1\r\nconnection: close\r\ncontent-length: 107\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\"detail\":\"too many connections are open\"}\n";

/// Serves until `shutdown` is cancelled and every request under way is answered. There is no limit to that: a caller
/// that cannot wait drops the future, and connections end with the runtime.
pub async fn serve(
    listener: TcpListener,
    options: Options,
    engine: Engine,
    metrics: PrometheusHandle,
    shutdown: CancellationToken,
) {
    let limits = Limits {
        connections: options.max_connections.min(Semaphore::MAX_PERMITS),
        header: options.header_timeout.to_std(),
        idle: options.idle_timeout.to_std(),
    };
    let router = routes::router(Arc::new(App::new(engine, options, metrics)));
    serve_router(listener, router, limits, shutdown).await;
}

async fn serve_router(listener: TcpListener, router: Router, limits: Limits, shutdown: CancellationToken) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let (open, refused) = (gauge!(HTTP_CONNECTIONS), counter!(HTTP_CONNECTIONS_REFUSED));
    let connections = TaskTracker::new();
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            refuse(&stream, &refused);
            continue;
        };
        let (router, shutdown, open) = (router.clone(), shutdown.clone(), Open::new(open.clone()));
        connections.spawn(async move {
            let _held = (slot, open);
            serve_connection(stream, router, limits, shutdown).await;
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// The gauge of open connections, up by one for as long as this lives.
struct Open(Gauge);

impl Open {
    fn new(gauge: Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Tells a client that there is no room for it, without waiting for it.
fn refuse(stream: &TcpStream, refused: &Counter) {
    refused.increment(1);
    if let Err(error) = stream.try_write(REFUSAL) {
        tracing::debug!(%error, "a refused connection could not be told");
    }
}

#[derive(Clone, Copy)]
struct Limits {
    connections: usize,
    header: Duration,
    idle: Duration,
}

async fn serve_connection(stream: TcpStream, router: Router, limits: Limits, shutdown: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let (io, phase) = Watched::new(stream);
    let service_phase = phase.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (router, phase) = (router.clone(), service_phase.clone());
        async move {
            phase.busy();
            let response = answer(router, request).await;
            phase.idle();
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(None);
    builder.max_buf_size(BUFFER_BYTES_MAX).max_header_size(HEADER_BYTES_MAX);
    let connection = builder.serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let closed = |result: hyper::Result<()>| {
        if let Err(error) = result {
            tracing::debug!(%error, "a connection broke off");
        }
    };
    // In this order: a phase changes only while the connection is polled, and must be seen after that.
    tokio::select! {
        biased;
        result = connection.as_mut() => return closed(result),
        () = shutdown.cancelled() => {}
        () = phase.expired(|state| limit_of(state, limits)) => {}
    }
    connection.as_mut().graceful_shutdown();
    phase.restart();
    tokio::select! {
        biased;
        result = connection.as_mut() => closed(result),
        () = phase.expired(|state| (state != State::Busy).then_some(limits.header)) => tracing::debug!("a connection was too slow to close and was cut"),
    }
}

async fn answer(router: Router, request: Request<Incoming>) -> Response<Body> {
    match check(&request) {
        Ok(()) => match router.oneshot(request.map(Body::new)).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        Err(problem) => problem.into_response(),
    }
}

/// Refuses what hyper lets through: a request for no host or for two.
fn check(request: &Request<Incoming>) -> Result<(), Problem> {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => return Err(Problem::BadRequest("the request has more than one Host header")),
        (Some(host), None) if !is_host(host.as_bytes()) => {
            return Err(Problem::BadRequest("the Host header names no host"));
        }
        (None, _) if request.version() >= Version::HTTP_11 => {
            return Err(Problem::BadRequest("the request has no Host header"));
        }
        _ => {}
    }
    Ok(())
}

/// True for `name`, `name:port`, `[::1]:port`.
fn is_host(value: &[u8]) -> bool {
    Authority::try_from(value).is_ok_and(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'))
}

/// How long each phase of a connection may last.
fn limit_of(state: State, limits: Limits) -> Option<Duration> {
    match state {
        State::Idle => Some(limits.idle),
        State::Head => Some(limits.header),
        State::Busy => None,
    }
}

#[cfg(test)]
mod tests;
