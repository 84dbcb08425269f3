//! Sinks, and the kill switch.
//!
//! | route | does |
//! | --- | --- |
//! | `GET /v1/sinks`, `GET /v1/sinks/{name}` | how they fare |
//! | `POST /v1/sinks/{name}:pause` | it is sent nothing, and nothing is planned for it, until it is resumed; its rows are kept |
//! | `POST /v1/sinks/{name}:resume` | goes on, whatever it was paused for |
//! | `POST /v1/sinks/{name}:forget` | drops the rows, deliveries and dead letters of a sink that is not configured any more |
//!
//! The body of a POST is empty or `{"reason"}`; the log keeps it. Repeating one changes nothing more, with an
//! `Idempotency-Key` or without. What came about within the last second or so is not counted yet: it is seen once the store
//! has it.

mod shown;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::engine::{DeliveryOperation, PauseCause, SinkPause, SinkStatus};
use crate::http::deliveries::deliver;
use crate::http::document;
use crate::http::idempotency::request_key;
use crate::http::params::{Params, PathName};
use crate::http::problem::Problem;
use crate::http::query::Page;
use crate::http::read::read;
use crate::http::routes::App;

pub use shown::health_line;
use shown::{SinkContext, SinkShown};

pub async fn list_sinks(State(app): State<Arc<App>>, params: Params) -> Result<Json<Page<SinkShown>>, Problem> {
    params.finish()?;
    let sinks = read(&app, |view| Ok(view.sinks())).await?;
    let data = sinks.iter().map(|sink| show(&app, sink)).collect();
    Ok(Json(Page { data, next_cursor: None }))
}

pub async fn get_sink(
    State(app): State<Arc<App>>,
    PathName(name): PathName,
    params: Params,
) -> Result<Json<SinkShown>, Problem> {
    params.finish()?;
    one(&app, name).await.map(Json)
}

async fn one(app: &App, name: String) -> Result<SinkShown, Problem> {
    let sinks = read(app, |view| Ok(view.sinks())).await?;
    let sink = sinks.iter().find(|sink| *sink.name == *name);
    let absent = || Problem::Absent { name: "sink", detail: format!("there is no sink {name:?}") };
    sink.map(|sink| show(app, sink)).ok_or_else(absent)
}

/// With what only the process knows.
pub fn context(app: &App, name: &str) -> SinkContext {
    SinkContext {
        configured: app.engine.configured_sinks().iter().any(|sink| sink.name == name),
        health: app.engine.sink_health(name).unwrap_or_default(),
        now: app.engine.believed_now(),
    }
}

fn show(app: &App, sink: &SinkStatus) -> SinkShown {
    SinkShown::new(sink, &context(app, &sink.name))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Pause,
    Resume,
    Forget,
}

/// The name and what is to be done, from `{name}:{action}`.
fn parse(text: &str) -> Result<(&str, Action), Problem> {
    let (name, action) = text.rsplit_once(':').ok_or(Problem::NoMethod)?;
    match action {
        "pause" => Ok((name, Action::Pause)),
        "resume" => Ok((name, Action::Resume)),
        "forget" => Ok((name, Action::Forget)),
        _ => Err(Problem::NoRoute),
    }
}

/// A sink that is no more.
#[derive(Serialize)]
struct Forgotten {
    name: String,
    forgotten: bool,
}

pub async fn post_sink(
    State(app): State<Arc<App>>,
    PathName(text): PathName,
    params: Params,
    request: Request,
) -> Result<Response, Problem> {
    params.finish()?;
    let (name, action) = parse(&text)?;
    // Checked, and not needed: doing it twice is doing it once.
    request_key(request.headers(), &[])?;
    let body = document::receive(&app, request).await?;
    let (sink, reason, at) = (name.to_owned(), document::reason(&body)?, app.engine.believed_now());
    let operation = match action {
        Action::Pause => {
            DeliveryOperation::Pause { sink, pause: SinkPause { cause: PauseCause::Operator, reason, at } }
        }
        Action::Resume => DeliveryOperation::Resume { sink, reason, at },
        Action::Forget => DeliveryOperation::Forget { sink, reason, at },
    };
    deliver(&app, operation).await?;
    match action {
        Action::Forget => Ok(Json(Forgotten { name: name.to_owned(), forgotten: true }).into_response()),
        Action::Pause | Action::Resume => Ok(Json(one(&app, name.to_owned()).await?).into_response()),
    }
}

#[cfg(test)]
mod tests;
