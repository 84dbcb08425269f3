//! Loads of history, each under a name of its own, and the way to take one back.
//!
//! | route | does |
//! | --- | --- |
//! | `POST /v1/events?backfill=ID` | loads events under it; see `ingest` |
//! | `GET /v1/backfills?limit=&cursor=` | lists them, in the order in which they were opened |
//! | `GET /v1/backfills/{id}` | the newest of this name |
//! | `POST /v1/backfills/{id}:revert` | takes all of its events back; body `{"reason"}` |
//!
//! `{"id","state","events","reverted_feeds","opened_at","reverting_at","reverted_at","reason","first_seq","last_seq"}`. An event
//! that feeds two meters has two feeds; those that were voided before are not among `reverted_feeds`.
//!
//! 1. A revert is durable before it is answered, with 202: it goes on by itself, through crashes. Repeating it changes
//!    nothing more; once all is taken back the answer is 200.
//! 2. A name that was reverted may be used again; it is another backfill then.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::oneshot;

use crate::engine::{Answer, Backfill, BackfillRefused, BackfillState, Done, Refusal};
use crate::http::document;
use crate::http::fields;
use crate::http::idempotency::request_key;
use crate::http::params::{Params, PathName};
use crate::http::problem::Problem;
use crate::http::query::{Page, decode_text, encode_text};
use crate::http::read::read;
use crate::http::routes::App;
use crate::model::Seq;

/// Entries of a page unless the client says otherwise.
const PAGE_DEFAULT: usize = 100;
/// The largest page.
const PAGE_MAX: usize = 1_000;
/// The longest name, in bytes.
const ID_BYTES_MAX: usize = 128;

#[derive(Debug, Serialize)]
pub struct BackfillShown {
    id: String,
    state: &'static str,
    events: u64,
    reverted_feeds: u64,
    opened_at: String,
    reverting_at: Option<String>,
    reverted_at: Option<String>,
    reason: Option<String>,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
}

impl BackfillShown {
    fn new(backfill: &Backfill) -> Self {
        let seq = |seq: Seq| (seq != Seq::ZERO).then_some(seq.0);
        Self {
            id: backfill.id.clone(),
            state: backfill.state.as_str(),
            events: backfill.events,
            reverted_feeds: backfill.reverted_feeds,
            opened_at: backfill.opened_at.to_string(),
            reverting_at: backfill.reverting_at.map(|at| at.to_string()),
            reverted_at: backfill.reverted_at.map(|at| at.to_string()),
            reason: backfill.reverting_at.map(|_| backfill.reason.clone()),
            first_seq: seq(backfill.first_seq),
            last_seq: seq(backfill.last_seq),
        }
    }
}

pub async fn list_backfills(
    State(app): State<Arc<App>>,
    mut params: Params,
) -> Result<Json<Page<BackfillShown>>, Problem> {
    let limit = params.take_limit(PAGE_DEFAULT, PAGE_MAX)?;
    let cursor = params.take("cursor")?;
    params.finish()?;
    let after = cursor.map(|text| decode_cursor(&text)).transpose()?.unwrap_or_default();
    let tenant = app.tenant.clone();
    let mut found = read(&app, move |view| Ok(view.backfills(&tenant))).await?;
    found.retain(|backfill| backfill.number > after);
    let more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = found.last().filter(|_| more).map(|last| encode_text(&last.number.to_string()));
    Ok(Json(Page { data: found.iter().map(BackfillShown::new).collect(), next_cursor }))
}

fn decode_cursor(text: &str) -> Result<u32, Problem> {
    let foreign = || Problem::parameter("cursor", "parameter \"cursor\" is none that a list of backfills gave");
    decode_text(text)?.parse().map_err(|_| foreign())
}

pub async fn get_backfill(
    State(app): State<Arc<App>>,
    PathName(id): PathName,
    params: Params,
) -> Result<Json<BackfillShown>, Problem> {
    params.finish()?;
    let tenant = app.tenant.clone();
    let found = read(&app, move |view| Ok(view.backfills(&tenant))).await?;
    let newest = found.iter().rev().find(|backfill| backfill.id == id);
    newest.map(|newest| Json(BackfillShown::new(newest))).ok_or_else(|| refused(&BackfillRefused::Unknown))
}

/// `{id}:revert`.
pub async fn post_backfill(
    State(app): State<Arc<App>>,
    PathName(name): PathName,
    params: Params,
    request: Request,
) -> Result<Response, Problem> {
    params.finish()?;
    let (id, action) = name.rsplit_once(':').ok_or(Problem::NoMethod)?;
    if action != "revert" {
        return Err(Problem::NoRoute);
    }
    // Checked, and not needed: doing it twice is doing it once.
    request_key(request.headers(), &[])?;
    let body = document::receive(&app, request).await?;
    let reason = document::object(&body, |root| {
        let [reason] = fields::members(root, "", &["reason"])?;
        fields::reason(reason).map(str::to_owned)
    })?;
    let backfill = settled(app.engine.revert_backfill(&app.tenant, id, &reason)).await?;
    let is_done = backfill.state == BackfillState::Reverted;
    let status = if is_done { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(BackfillShown::new(&backfill))).into_response())
}

/// The number of the backfill that takes events under this name; it is opened if need be.
pub async fn open(app: &App, id: &str) -> Result<u32, Problem> {
    settled(app.engine.open_backfill(&app.tenant, id)).await.map(|backfill| backfill.number)
}

async fn settled(answered: Result<oneshot::Receiver<Answer>, Refusal>) -> Result<Backfill, Problem> {
    let answer = answered.map_err(Problem::Refused)?.await.map_err(|_| Problem::EngineFailed)?;
    match answer.done {
        Done::Backfill(backfill) => Ok(*backfill),
        Done::BackfillRefused(why) => Err(refused(&why)),
        _ => Err(Problem::EngineFailed),
    }
}

/// The name of the backfill that events belong to: 1 to 128 of `A-Z a-z 0-9 . _ -`.
pub fn take_id(params: &mut Params) -> Result<Option<String>, Problem> {
    let Some(id) = params.take("backfill")? else { return Ok(None) };
    let is_name = (1..=ID_BYTES_MAX).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    // No path can name those.
    if !is_name || id == "." || id == ".." {
        let detail = "parameter \"backfill\" must be 1 to 128 of A-Z, a-z, 0-9, \".\", \"_\" and \"-\", and neither \".\" nor \"..\"";
        return Err(Problem::parameter("backfill", detail));
    }
    Ok(Some(id))
}

/// Why nothing was taken, or nothing is reverted.
pub fn refused(why: &BackfillRefused) -> Problem {
    match why {
        BackfillRefused::Unknown => Problem::absent("unknown_backfill", why.to_string()),
        BackfillRefused::Reverting => Problem::conflict("backfill_reverting", why.to_string()),
    }
}

#[cfg(test)]
mod tests;
