//! Deliveries to sinks, and the replay of dead letters.
//!
//! | route | does |
//! | --- | --- |
//! | `GET /v1/deliveries?state=&sink=&kind=&limit=&cursor=` | lists them, in the order they were planned |
//! | `GET /v1/deliveries/{id}` | one of them, with its attempts and its rows |
//! | `POST /v1/deliveries/{id}:replay` | a dead letter is tried again, from now |
//! | `POST /v1/deliveries:replay` | so are all that a filter names |
//!
//! 1. What is shown is durable, and so is what is asked for before it is answered.
//! 2. With an `Idempotency-Key` a repeated request has one effect and one answer; the key with another request is refused.
//! 3. A replayed delivery keeps its id: a receiver that took it after all knows it.

mod request;
mod shown;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use serde::Serialize;

use crate::engine::outbox::REPLAYS_MAX;
use crate::engine::{DeliveryId, DeliveryOperation, Done, ReplayFilter, View};
use crate::http::document;
use crate::http::idempotency::request_key;
use crate::http::params::{Params, PathName};
use crate::http::problem::Problem;
use crate::http::query::Page;
use crate::http::read::read;
use crate::http::routes::App;
use crate::model::Seq;

use shown::{DeliveryDetails, DeliveryShown};

/// Asks the engine for something that becomes a record, and waits until it has.
pub async fn deliver(app: &App, operation: DeliveryOperation) -> Result<Done, Problem> {
    let answered = app.engine.deliver(operation).map_err(Problem::Refused)?;
    match answered.await.map_err(|_| Problem::EngineFailed)?.done {
        Done::Refused(refused) => Err(Problem::Undone(refused)),
        done => Ok(done),
    }
}

pub async fn list_deliveries(
    State(app): State<Arc<App>>,
    params: Params,
) -> Result<Json<Page<DeliveryShown>>, Problem> {
    let query = request::query(params)?;
    let page = read(&app, move |view| {
        if let Some(sink) = &query.sink {
            check_sink(view, sink)?;
        }
        let page = view.deliveries(&query);
        let data: Vec<DeliveryShown> = page.deliveries.iter().map(DeliveryShown::new).collect();
        let next_cursor = data.last().filter(|_| page.more).map(|last| last.id.clone());
        Ok((Page { data, next_cursor }, page.seq))
    })
    .await?;
    Ok(Json(page))
}

fn check_sink(view: &View, name: &str) -> Result<(), Problem> {
    let known = view.sink_work(name, 0).is_some();
    let unknown = || Problem::parameter("sink", format!("parameter \"sink\": there is no sink {name:?}"));
    known.then_some(()).ok_or_else(unknown)
}

pub async fn get_delivery(
    State(app): State<Arc<App>>,
    PathName(id): PathName,
    params: Params,
) -> Result<Json<DeliveryDetails>, Problem> {
    params.finish()?;
    let id = parse_id(&id)?;
    let details = read(&app, move |view| details(view, id)).await?;
    Ok(Json(details))
}

fn details(view: &View, id: DeliveryId) -> Result<(DeliveryDetails, Seq), Problem> {
    let (delivery, seq) = view.delivery(id);
    let delivery = delivery.ok_or_else(|| absent(&id.to_string()))?;
    let attempts = view.attempts(id)?;
    let rows = view.payload(&delivery)?;
    Ok((DeliveryDetails::new(&delivery, attempts, rows), seq))
}

fn absent(id: &str) -> Problem {
    Problem::Absent { name: "delivery", detail: format!("there is no delivery {id:?}, or no longer") }
}

fn parse_id(text: &str) -> Result<DeliveryId, Problem> {
    text.parse().map_err(|()| absent(text))
}

/// What a replay came to.
#[derive(Debug, Serialize)]
pub struct Replayed {
    replayed: u32,
    /// As many as one request replays: there may be more.
    more: bool,
}

impl Replayed {
    fn new(done: &Done) -> Self {
        let replayed = if let Done::Replayed(count) = done { *count } else { 0 };
        Self { replayed, more: replayed as usize >= REPLAYS_MAX }
    }
}

/// `{id}:replay`.
pub async fn post_delivery(
    State(app): State<Arc<App>>,
    PathName(name): PathName,
    params: Params,
    request: Request,
) -> Result<Json<Replayed>, Problem> {
    params.finish()?;
    let (id, action) = name.rsplit_once(':').ok_or(Problem::NoMethod)?;
    if action != "replay" {
        return Err(Problem::NoRoute);
    }
    let id = parse_id(id)?;
    let key = request_key(request.headers(), &[Some("POST"), Some("/v1/deliveries/{id}:replay"), Some(&name)])?;
    let body = document::receive(&app, request).await?;
    document::no_members(&body)?;
    let filter = ReplayFilter { delivery: Some(id), ..ReplayFilter::default() };
    let at = app.engine.believed_now();
    let done = deliver(&app, DeliveryOperation::Replay { filter, key, at }).await?;
    Ok(Json(Replayed::new(&done)))
}

pub async fn replay_deliveries(
    State(app): State<Arc<App>>,
    params: Params,
    request: Request,
) -> Result<Json<Replayed>, Problem> {
    let headers = request.headers().clone();
    let body = document::receive(&app, request).await?;
    let filter = request::filter(params, &body)?;
    let (sink, kind) = (filter.sink.as_deref(), filter.kind.map(|kind| kind.as_str()));
    let key = request_key(&headers, &[Some("POST"), Some("/v1/deliveries:replay"), sink, kind])?;
    let at = app.engine.believed_now();
    let done = deliver(&app, DeliveryOperation::Replay { filter, key, at }).await?;
    Ok(Json(Replayed::new(&done)))
}

#[cfg(test)]
mod tests;
