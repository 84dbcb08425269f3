//! Events behind the numbers: what was taken, and the way to take it back.
//!
//! | route | does |
//! | --- | --- |
//! | `GET /v1/events?customer=&meter=&from=&to=&limit=&cursor=` | a customer's events in the order of the time they count at |
//! | `GET /v1/events?meter=&from=&to=&limit=&cursor=` | all events in the order of the log |
//! | `GET /v1/events?id=&source=` | the one with this id |
//! | `POST /v1/events:void` | takes one back, once; with a replacement or without |
//!
//! | file | does |
//! | --- | --- |
//! | `request` | parameters and cursors of the list |
//! | `list`, `shown` | a page of events, and one as JSON |
//! | `void` | voids and amends |
//!
//! 1. An event that was acknowledged before the request is listed. What is said of it is durable.
//! 2. A page holds at most so many events and so many bytes, however long the events are; it is short rather than slow.
//! 3. A list goes on at its cursor whatever has arrived since. A late event may stand before it.

mod list;
mod request;
mod shown;
mod void;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use tokio::task::spawn_blocking;

use crate::engine::Done;
use crate::http::body::Room;
use crate::http::document;
use crate::http::idempotency::request_key;
use crate::http::params::Params;
use crate::http::problem::Problem;
use crate::http::read::read;
use crate::http::routes::App;
use crate::model::Seq;

use list::EventsPage;
use request::{Asked, Which};
use void::{Void, VoidShown};

pub async fn list_events(State(app): State<Arc<App>>, params: Params) -> Result<Json<EventsPage>, Problem> {
    let meters = app.engine.meters();
    let asked = Asked::read(params, &meters)?;
    let named = match &asked.which {
        Which::Named { usage_event_id, source } => find(&app, source, usage_event_id).await?,
        Which::OfCustomer { .. } | Which::Logged { .. } => None,
    };
    let (evidence, tenant) = (app.engine.evidence(), app.tenant.clone());
    let hasher = app.engine.batch(&tenant).hasher();
    let page = read(&app, move |view| list::page((&evidence, view), (&tenant, &meters, hasher), &asked, named)).await?;
    Ok(Json(page))
}

/// The record of the event with this id, if it is known and was not freed by a revert.
async fn find(app: &App, source: &str, usage_event_id: &str) -> Result<Option<Seq>, Problem> {
    let turn = app.reads.clone().acquire_owned().await.map_err(|_| Problem::EngineFailed)?;
    let (engine, tenant) = (app.engine.clone(), app.tenant.clone());
    let (source, usage_event_id) = (source.to_owned(), usage_event_id.to_owned());
    let asked = spawn_blocking(move || {
        let _turn = turn; // as in `read`
        engine.find_event(&tenant, &source, &usage_event_id)
    });
    let answered = asked.await.map_err(|_| Problem::EngineFailed)??;
    match answered.await.map_err(|_| Problem::EngineFailed)?.done {
        Done::Found(found) => Ok(found),
        _ => Err(Problem::EngineFailed),
    }
}

/// Takes an event back. Repeating it changes nothing more, with an `Idempotency-Key` or without.
pub async fn void_event(
    State(app): State<Arc<App>>,
    params: Params,
    request: Request,
) -> Result<Json<VoidShown>, Problem> {
    params.finish()?;
    request_key(request.headers(), &[])?;
    let mut room = Room::new(&app.engine)?;
    let body = document::receive_within(&app, request, app.options.max_body_bytes, &mut room).await?;
    let asked = Void::read(&body)?;
    let voided = tokio::spawn(void::void(app, asked, room)).await;
    voided.map_err(|_| Problem::EngineFailed)?.map(Json)
}

#[cfg(test)]
mod tests;
