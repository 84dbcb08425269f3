//! `POST /v1/events`: bytes to a batch, outcomes to an answer.
//!
//! | step | file |
//! | --- | --- |
//! | media type, encoding | `content` |
//! | decompress, within a limit | `decode` |
//! | body to events | `framing` over `json` over `text` |
//! | event to fields | `native`, `cloudevent`, checked by `rejection`, times by `instant` |
//! | fields to values per meter, fingerprint | `feed`, `fingerprint`, put together in `reader`, which hands them to a `sink` |
//! | the id of an event that came without one | `derive` |
//! | events that other routes put together | `door`, written by `compose` |
//! | accepted events, for meters that are new | `again` |
//! | outcomes to JSON | `answer`, which names events by `ids` |
//!
//! 1. A body is parsed once, borrowing from the received bytes; a large one by `Parsers`.
//! 2. Either the body is readable and every event has an outcome, or nothing of it was taken.
//! 3. With `?backfill=ID` the events belong to that load of history, which is opened if need be. Where it takes none, nothing
//!    of the request is taken.

pub mod again;
mod answer;
mod cloudevent;
pub mod compose;
pub mod content;
pub mod decode;
pub mod derive;
pub mod door;
mod feed;
mod fingerprint;
pub mod framing;
mod ids;
mod instant;
pub mod json;
mod native;
mod reader;
pub mod rejection;
mod sink;
mod text;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use tokio::sync::oneshot;

pub use framing::FramingError;

use crate::engine::{Answer, BackfillRefused, Batch, BatchError, Done};
use crate::http::backfills;
use crate::http::body::{self, Room};
use crate::http::ingest::content::Encoding;
use crate::http::ingest::framing::Form;
use crate::http::ingest::ids::Ids;
use crate::http::ingest::reader::Limits;
use crate::http::instruments::Tally;
use crate::http::params::Params;
use crate::http::problem::Problem;
use crate::http::routes::App;

/// Bodies from this length on are parsed by threads of their own, so that they do not hold up other connections.
const APART_BYTES_MIN: usize = 32 << 10;

/// Takes events; answers once every one that was taken is durable.
pub async fn post_events(
    State(app): State<Arc<App>>,
    mut params: Params,
    request: Request,
) -> Result<Response, Problem> {
    let all_results = take_results(&mut params)?;
    let backfill = backfills::take_id(&mut params)?;
    params.finish()?;
    let (parts, body) = request.into_parts();
    let (form, encoding) = (content::form(&parts.headers)?, content::encoding(&parts.headers)?);
    let (body, room) = receive(&app, &parts.headers, body).await?;
    let arrived = Instant::now();
    let backfill = match backfill {
        Some(id) => Some(backfills::open(&app, &id).await?),
        None => None,
    };
    let prepared = parse(&app, body.len(), {
        let app = app.clone();
        move || prepare(&app, (body, encoding, form), backfill, room)
    });
    let Prepared { body, batch, ids, room } = prepared.await??;
    let answered = app.engine.submit(batch, room.into_permit())?;
    let (answer, tally) =
        tokio::spawn(settle(app.clone(), answered, arrived)).await.map_err(|_| Problem::EngineFailed)??;
    if let Done::BackfillRefused(_) = answer.done {
        // It was open just now: its revert has begun, and may be over already.
        return Err(backfills::refused(&BackfillRefused::Reverting));
    }
    let text = std::str::from_utf8(&body).unwrap_or_default();
    Ok(answer::render(&answer, &tally, &ids, text, all_results))
}

/// Waits for the answer and records it, also when the client has gone away: what it sent counts all the same.
async fn settle(
    app: Arc<App>,
    answered: oneshot::Receiver<Answer>,
    arrived: Instant,
) -> Result<(Answer, Tally), Problem> {
    let answer = answered.await.map_err(|_| Problem::EngineFailed)?;
    let tally = Tally::of(&answer);
    app.instruments.record(&tally, arrived.elapsed());
    Ok((answer, tally))
}

fn take_results(params: &mut Params) -> Result<bool, Problem> {
    match params.take("results")?.as_deref() {
        None => Ok(false),
        Some("all") => Ok(true),
        Some(_) => Err(Problem::parameter("results", "parameter \"results\" can only be \"all\"")),
    }
}

async fn receive(app: &App, headers: &HeaderMap, body: axum::body::Body) -> Result<(Bytes, Room), Problem> {
    let limit = app.options.max_body_bytes;
    let declared = body::declared_length(headers, limit)?;
    let mut room = Room::new(&app.engine)?;
    let body = body::collect(body, declared, limit, app.options.body_timeout.to_std(), &mut room).await?;
    Ok((body, room))
}

/// A batch, and what its answer needs.
struct Prepared {
    body: Bytes,
    batch: Batch,
    ids: Ids,
    room: Room,
}

/// Decompresses, parses and looks up: everything that costs CPU or may read the disk.
fn prepare(
    app: &App,
    (body, encoding, form): (Bytes, Encoding, Form),
    backfill: Option<u32>,
    mut room: Room,
) -> Result<Prepared, Problem> {
    let body = decode::decode(body, encoding, app.options.max_decoded_body_bytes, &mut room)?;
    let mut builder = app.engine.batch(&app.tenant);
    if let Some(backfill) = backfill {
        builder.backfills(backfill);
    }
    let limits =
        Limits { events_max: app.options.max_events_per_request, require_timestamp: app.options.require_timestamp };
    let ids = reader::read(framing::utf8(&body)?, form, limits, &mut builder)?;
    // Many small events weigh more as events than as text.
    room.cover(body.len() + builder.memory_bytes())?;
    let batch = builder.finish().map_err(refused_batch)?;
    Ok(Prepared { body, batch, ids, room })
}

fn refused_batch(error: BatchError) -> Problem {
    match error {
        BatchError::TooLarge { .. } => Problem::BatchTooLarge(error.to_string()),
        BatchError::Store(_) => {
            tracing::error!(%error, "the index of ids cannot be read");
            Problem::IndexUnreadable
        }
    }
}

/// Runs `work` on a body: here if that is quick.
async fn parse<T: Send + 'static>(
    app: &App,
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    if bytes < APART_BYTES_MIN { Ok(work()) } else { app.parsers.run(work).await }
}
