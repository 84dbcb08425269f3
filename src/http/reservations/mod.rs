//! Reservations: quota set aside for work whose size is known only afterwards.
//!
//! | route | does |
//! | --- | --- |
//! | `POST /v1/reservations` | `{"id","customer","meter","quantity","expires_in"?}`: sets quota aside |
//! | `GET /v1/reservations?limit=&cursor=` | lists those that are held, in order of id |
//! | `GET /v1/reservations/{id}` | one of them, also one that ended not long ago |
//! | `POST /v1/reservations/{id}:commit` | `{"quantity","usage_event_id","dimensions"?,"source"?}`: what was used in the end, as a usage event |
//! | `POST /v1/reservations/{id}:release` | gives the quota back |
//!
//! 1. Every change is durable before it is answered, and repeating one has no further effect.
//! 2. The event of a commit is one like any other: it has its id, feeds the reservation's meter, and names the reservation in
//!    its evidence. Sent to `/v1/events` too it is a duplicate.
//! 3. A refusal leaves everything as it was, and has a code of its own.

mod request;
mod shown;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::sync::oneshot;

use crate::engine::{Answer, Done, Refusal, Reservation, ReservationRefused, ReservationState};
use crate::http::document;
use crate::http::ingest::door;
use crate::http::params::{Params, PathName};
use crate::http::problem::Problem;
use crate::http::query::{Page, decode_text, encode_text};
use crate::http::read::read;
use crate::http::routes::App;
use crate::model::Code;

use shown::{Committed, Shown};

/// Entries of a page unless the client says otherwise.
const PAGE_DEFAULT: usize = 100;
/// The largest page.
const PAGE_MAX: usize = 1_000;

pub async fn list_reservations(State(app): State<Arc<App>>, mut params: Params) -> Result<Json<Page<Shown>>, Problem> {
    let limit = params.take_limit(PAGE_DEFAULT, PAGE_MAX)?;
    let after = params.take("cursor")?.map(|text| decode_text(&text)).transpose()?;
    params.finish()?;
    let tenant = app.tenant.clone();
    let mut held = read(&app, move |view| Ok(view.held(&tenant, after.as_deref(), limit + 1))).await?;
    let more = held.len() > limit;
    held.truncate(limit);
    let meters = app.engine.meters();
    let next_cursor = held.last().filter(|_| more).map(|last| encode_text(&last.id));
    Ok(Json(Page { data: held.iter().map(|held| Shown::new(held, &meters)).collect(), next_cursor }))
}

pub async fn get_reservation(
    State(app): State<Arc<App>>,
    PathName(id): PathName,
    params: Params,
) -> Result<Json<Shown>, Problem> {
    params.finish()?;
    let tenant = app.tenant.clone();
    let found = read(&app, move |view| Ok(view.reservation(&tenant, &id))).await?;
    let found = found.ok_or_else(|| refused(&ReservationRefused::Unknown))?;
    Ok(Json(Shown::new(&found, &app.engine.meters())))
}

/// 201 if it is made now.
pub async fn post_reservations(
    State(app): State<Arc<App>>,
    params: Params,
    request: Request,
) -> Result<Response, Problem> {
    params.finish()?;
    let body = document::receive(&app, request).await?;
    let meters = app.engine.meters();
    let reserve = request::reserve(&body, &app.tenant, &meters)?;
    let was_there = app.engine.view().reservation(&app.tenant, &reserve.id).0.is_some();
    let made = settled(app.engine.reserve(reserve)).await?;
    let is_new = !was_there && made.state == ReservationState::Held;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Shown::new(&made, &meters))).into_response())
}

/// `{id}:commit` and `{id}:release`.
pub async fn post_reservation(
    State(app): State<Arc<App>>,
    PathName(name): PathName,
    params: Params,
    request: Request,
) -> Result<Response, Problem> {
    params.finish()?;
    // An id may hold colons itself: the last one is the action's.
    let (id, action) = name.rsplit_once(':').ok_or(Problem::NoMethod)?;
    let body = match action {
        "commit" | "release" => document::receive(&app, request).await?,
        _ => return Err(Problem::NoRoute),
    };
    if action == "commit" {
        return commit(&app, id, &body).await.map(|committed| Json(committed).into_response());
    }
    document::no_members(&body)?;
    let released = settled(app.engine.release(&app.tenant, id)).await?;
    Ok(Json(Shown::new(&released, &app.engine.meters())).into_response())
}

/// The reservation, once what was asked for is durable.
async fn settled(answered: Result<oneshot::Receiver<Answer>, Refusal>) -> Result<Reservation, Problem> {
    let answer = answered.map_err(Problem::Refused)?.await.map_err(|_| Problem::EngineFailed)?;
    reservation(answer.done)
}

fn reservation(done: Done) -> Result<Reservation, Problem> {
    match done {
        Done::Reserved(reservation) => Ok(*reservation),
        Done::ReservationRefused(why) => Err(refused(&why)),
        _ => Err(Problem::EngineFailed),
    }
}

async fn commit(app: &Arc<App>, id: &str, body: &[u8]) -> Result<Committed, Problem> {
    let meters = app.engine.meters();
    let (held, _) = app.engine.view().reservation(&app.tenant, id);
    let event = request::commit(body, held.as_ref(), &meters)?;
    let held = held.ok_or_else(|| refused(&ReservationRefused::Unknown))?;
    let answer = door::submit(app, event, Some(id.to_owned())).await.map_err(|error| match error {
        door::Refused::Problem(problem) => problem,
        door::Refused::Fault(fault) => request::refused_event(&fault, &held, &meters),
    })?;
    let outcome = answer.outcomes.first();
    // An event that was not taken says more than what it was to change.
    if let Some(problem) = outcome.and_then(door::not_taken) {
        return Err(problem);
    }
    let reservation = reservation(answer.done)?;
    let outcome = outcome.ok_or(Problem::EngineFailed)?.as_str();
    Ok(Committed { reservation: Shown::new(&reservation, &meters), outcome })
}

fn refused(why: &ReservationRefused) -> Problem {
    let detail = why.to_string();
    let (status, code) = match why {
        ReservationRefused::Unknown => (StatusCode::NOT_FOUND, "unknown_reservation"),
        ReservationRefused::Expired(_) => (StatusCode::CONFLICT, "reservation_expired"),
        ReservationRefused::Released(_) => (StatusCode::CONFLICT, "reservation_released"),
        ReservationRefused::Committed(_) => (StatusCode::CONFLICT, "reservation_committed"),
        ReservationRefused::Differs => (StatusCode::CONFLICT, "reservation_conflict"),
        ReservationRefused::Capped(verdict) => {
            let (hard, remaining) = (verdict.hard.unwrap_or_default(), verdict.remaining.unwrap_or_default());
            let (used, held) = (verdict.used, verdict.held);
            let state = format!("used {used}, held {held}, hard_cap {hard}, remaining {remaining}");
            return Problem::conflict(Code::HardCap.as_str(), format!("{detail}: {state}"));
        }
        ReservationRefused::TooMany(_) => (StatusCode::SERVICE_UNAVAILABLE, "too_many_reservations"),
    };
    Problem::Coded { status, code, pointer: None, detail }
}

#[cfg(test)]
mod tests;
