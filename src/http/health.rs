//! Whether the daemon lives, whether it serves, and its metrics.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use tokio::task::spawn_blocking;

use crate::http::params::Params;
use crate::http::problem::Problem;
use crate::http::routes::App;
use crate::http::sinks;

const TEXT: &str = "text/plain; charset=utf-8";
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

fn text(content_type: &'static str, body: String) -> Response {
    ([(CONTENT_TYPE, content_type)], body).into_response()
}

/// 200 as long as requests are answered at all; `?verbose` says more.
pub async fn livez(State(app): State<Arc<App>>, mut params: Params) -> Result<Response, Problem> {
    let verbose = params.take("verbose")?.is_some();
    params.finish()?;
    Ok(text(TEXT, if verbose { report(&app) } else { "ok\n".to_owned() }))
}

/// 200 if events are taken and totals answered, 503 with the reason if not; `?verbose` says more.
/// Sinks do not count: what is not delivered is kept.
pub async fn readyz(State(app): State<Arc<App>>, mut params: Params) -> Result<Response, Problem> {
    let verbose = params.take("verbose")?.is_some();
    params.finish()?;
    let health = app.engine.health();
    if !health.ready {
        return Err(Problem::NotReady(health.reason.unwrap_or_else(|| "starting".to_owned())));
    }
    if !verbose {
        return Ok(text(TEXT, "ok\n".to_owned()));
    }
    let view = app.engine.view();
    let sinks = spawn_blocking(move || view.sinks().0).await.map_err(|_| Problem::EngineFailed)?;
    let lines = sinks.iter().map(|sink| sinks::health_line(sink, &sinks::context(&app, &sink.name)));
    Ok(text(TEXT, report(&app) + &lines.collect::<String>()))
}

fn report(app: &App) -> String {
    let health = app.engine.health();
    let engine = match health.reason {
        _ if health.ready => "ok".to_owned(),
        Some(reason) => format!("not ready: {reason}"),
        None => "not ready".to_owned(),
    };
    format!(
        "engine {engine}\nversion {}\ntime {}\nmeters {}\ndurable_seq {}\nindexed_seq {}\n",
        env!("CARGO_PKG_VERSION"),
        app.engine.now(),
        app.engine.meters().len(),
        health.durable,
        health.indexed,
    )
}

/// Every metric, as Prometheus reads them.
pub async fn metrics(State(app): State<Arc<App>>, params: Params) -> Result<Response, Problem> {
    params.finish()?;
    let nearest = app.nearest.lines(&app.engine, app.options.top_customers).await?;
    Ok(text(EXPOSITION, app.prometheus.render() + &nearest))
}
