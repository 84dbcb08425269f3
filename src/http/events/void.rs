//! Takes an event back, and counts another one instead if that is asked for.
//!
//! Body: `{"usage_event_id","source"?,"reason","replacement"?}`. Answer: `{"usage_event_id","source","seq","event_seq","voided_at",
//! "reason","adjusted","already_voided"?,"replacement"?:{"outcome","seq"}}`.
//!
//! 1. What is to be taken back is computed beside the writer and taken only if nothing has changed since; else it is computed
//!    again, a few times.
//! 2. An event is taken back once. Who asks again is told how it was, `already_voided`. A replacement counts with the void or
//!    not at all: one that does not exist by then is not taken any more.
//! 3. It goes on when the client has gone away.

use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;
use serde::Serialize;
use tokio::task::spawn_blocking;

use crate::engine::{Answer, Batch, Done, PlanError, Retraction, RetractionRefused, Voided};
use crate::http::body::Room;
use crate::http::document;
use crate::http::events::find;
use crate::http::fields;
use crate::http::ingest::door::{self, Fault};
use crate::http::ingest::json::{Item, Value};
use crate::http::ingest::{compose, rejection};
use crate::http::instruments::Tally;
use crate::http::problem::Problem;
use crate::http::routes::App;
use crate::meter::Meters;
use crate::model::{Code, Outcome, Seq};

/// How often it is computed before the client is asked to come back.
const ATTEMPTS_MAX: usize = 10;
const REPLACEMENT: &str = "/replacement";

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Void {
    pub usage_event_id: String,
    pub source: String,
    pub reason: String,
    pub replacement: Option<Replacement>,
}

/// A native event that counts instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    pub usage_event_id: String,
    pub source: String,
    /// Its meter's name, if it has one.
    pub meter: Option<String>,
    /// The whole of it.
    pub event: String,
}

impl Void {
    pub fn read(body: &[u8]) -> Result<Self, Problem> {
        const NAMES: [&str; 4] = ["usage_event_id", "source", "reason", "replacement"];
        document::object(body, |root| {
            let [id, source, reason, replacement] = fields::members(root, "", &NAMES)?;
            Ok(Self {
                usage_event_id: fields::name(id, "", "/usage_event_id")?.to_owned(),
                source: source_of(source, "")?,
                reason: fields::reason(reason)?.to_owned(),
                replacement: replacement.map(Replacement::read).transpose()?,
            })
        })
    }
}

fn source_of(source: Option<Item<'_, '_>>, place: &str) -> Result<String, Problem> {
    const FIELD: &str = "/source";
    let read = rejection::optional_name(FIELD, source);
    read.map(str::to_owned).map_err(|rejection| fields::refused(place, FIELD, &rejection))
}

impl Replacement {
    fn read(item: Item<'_, '_>) -> Result<Self, Problem> {
        if !item.is_object() {
            return Err(fields::invalid("", REPLACEMENT, Code::InvalidField, "must be an event: a JSON object"));
        }
        let text = |name| match item.member(name).map(Item::value) {
            Some(Value::Text(text)) => Some(text.to_string()),
            _ => None,
        };
        Ok(Self {
            usage_event_id: fields::name(item.member("usage_event_id"), REPLACEMENT, "/usage_event_id")?.to_owned(),
            source: source_of(item.member("source"), REPLACEMENT)?,
            meter: text("meter"),
            event: compose::whole(item),
        })
    }

    /// The problem of a replacement that is no event that could be taken.
    fn faulty(&self, fault: &Fault, meters: &Meters) -> Problem {
        let known = self.meter.as_deref().and_then(|slug| meters.by_slug(slug));
        let pointer = known.map(|meter| fault.pointer(&meter.definition)).filter(|pointer| !pointer.is_empty());
        // Without a meter only the event's own members can be at fault, whose names hold no blanks.
        let first = fault.detail.split(' ').next().filter(|word| word.starts_with('/'));
        let pointer = pointer.or_else(|| first.map(str::to_owned)).unwrap_or_default();
        Problem::coded(fault.code, format!("{REPLACEMENT}{pointer}"), format!("{REPLACEMENT}{}", place(&fault.detail)))
    }
}

/// A detail that goes on after a pointer: those that name no place begin a sentence of their own.
fn place(detail: &str) -> String {
    if detail.starts_with('/') { detail.to_owned() } else { format!(": {detail}") }
}

/// How an event left.
#[derive(Debug, Serialize)]
pub struct VoidShown {
    usage_event_id: String,
    source: String,
    seq: u64,
    event_seq: u64,
    voided_at: String,
    reason: String,
    adjusted: u32,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    already_voided: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    replacement: Option<ReplacementShown>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct ReplacementShown {
    outcome: &'static str,
    seq: u64,
}

impl VoidShown {
    fn new(void: &Void, event: Seq, voided: Voided, replacement: Option<ReplacementShown>) -> Self {
        Self {
            usage_event_id: void.usage_event_id.clone(),
            source: void.source.clone(),
            seq: voided.seq.0,
            event_seq: event.0,
            voided_at: voided.at.to_string(),
            reason: voided.reason,
            adjusted: voided.adjusted,
            already_voided: false,
            replacement,
        }
    }
}

/// Takes it back; answers once that is durable.
pub async fn void(app: Arc<App>, void: Void, mut room: Room) -> Result<VoidShown, Problem> {
    let unknown = "no accepted event has this usage_event_id and source, or it was received longer ago than \
                   dedupe.retention: ids that are forgotten cannot be named any more";
    for _ in 0..ATTEMPTS_MAX {
        let event = find(&app, &void.source, &void.usage_event_id).await?;
        let event = event.ok_or_else(|| Problem::absent("unknown_event", unknown))?;
        if let Some(voided) = voided(&app, event).await? {
            return repeated(&app, &void, event, voided, room).await;
        }
        let retraction = match plan(&app, &void, event).await? {
            Ok(retraction) => retraction,
            Err(RetractionRefused::Outdated | RetractionRefused::AlreadyVoided(_)) => continue,
            Err(why) => return Err(refused(&why)),
        };
        let batch;
        (batch, room) = prepare(&app, &void, room).await?;
        let arrived = Instant::now();
        let answered = app.engine.retract(retraction, batch).map_err(Problem::Refused)?;
        let answer = answered.await.map_err(|_| Problem::EngineFailed)?;
        match &answer.done {
            Done::Retracted(_) => {
                record(&app, &answer, arrived);
                let voided = voided(&app, event).await?.ok_or(Problem::EngineFailed)?;
                return Ok(VoidShown::new(&void, event, voided, taken(&answer)?));
            }
            // The next round tells by whom.
            Done::RetractionRefused(RetractionRefused::Outdated | RetractionRefused::AlreadyVoided(_)) => {}
            Done::RetractionRefused(why) => return Err(refused(why)),
            _ => return Err(answer.outcomes.first().map_or(Problem::EngineFailed, not_replaced)),
        }
    }
    let detail = "usage kept changing while what remains was computed; nothing was taken back";
    let status = StatusCode::SERVICE_UNAVAILABLE;
    Err(Problem::Coded { status, code: "usage_changing", pointer: None, detail: detail.to_owned() })
}

/// How the event left, if it has.
async fn voided(app: &App, event: Seq) -> Result<Option<Voided>, Problem> {
    let tenant = app.tenant.clone();
    crate::http::read::read(app, move |view| {
        let voided = view.voided(&tenant, event)?;
        let seq = voided.as_ref().map_or(Seq::ZERO, |voided| voided.seq);
        Ok((voided, seq))
    })
    .await
}

/// What is to be taken back, as usage is now.
async fn plan(app: &App, void: &Void, event: Seq) -> Result<Result<Retraction, RetractionRefused>, Problem> {
    let turn = app.reads.clone().acquire_owned().await.map_err(|_| Problem::EngineFailed)?;
    let (planner, tenant, void) = (app.engine.planner(), app.tenant.clone(), void.clone());
    let planned = spawn_blocking(move || {
        let _turn = turn; // as in `read`
        planner.void(&tenant, &void.source, &void.usage_event_id, event, &void.reason)
    });
    match planned.await.map_err(|_| Problem::EngineFailed)? {
        Ok(retraction) => Ok(Ok(retraction)),
        Err(PlanError::Refused(why)) => Ok(Err(why)),
        Err(PlanError::Evidence(error)) => Err(error.into()),
        Err(PlanError::Read(error)) => Err(error.into()),
        Err(error @ PlanError::TooMuch) => Err(Problem::conflict("too_many_windows", error.to_string())),
        Err(error) => {
            tracing::error!(%error, event = event.0, "an event cannot be taken back");
            Err(Problem::StoreUnreadable)
        }
    }
}

/// The replacement as a batch of its own.
async fn prepare(app: &Arc<App>, void: &Void, room: Room) -> Result<(Option<Batch>, Room), Problem> {
    let Some(replacement) = void.replacement.clone() else { return Ok((None, room)) };
    let work = {
        let (app, event) = (app.clone(), replacement.event.clone());
        move || door::read(&app, &event, None, room)
    };
    match app.parsers.run(work).await? {
        Ok((batch, room)) => Ok((Some(batch), room)),
        Err(door::Refused::Problem(problem)) => Err(problem),
        Err(door::Refused::Fault(fault)) => Err(replacement.faulty(&fault, &app.engine.meters())),
    }
}

/// The answer about an event that was taken back before. Its replacement is known by now, or is not taken.
async fn repeated(app: &Arc<App>, void: &Void, event: Seq, voided: Voided, room: Room) -> Result<VoidShown, Problem> {
    let mut shown = None;
    if let Some(replacement) = &void.replacement {
        if find(app, &replacement.source, &replacement.usage_event_id).await?.is_none() {
            let detail = "the event was taken back before, without this replacement: send that to /v1/events";
            return Err(Problem::conflict("already_voided", detail));
        }
        let (batch, room) = prepare(app, void, room).await?;
        let arrived = Instant::now();
        let batch = batch.ok_or(Problem::EngineFailed)?;
        let answered = app.engine.submit(batch, room.into_permit()).map_err(Problem::from)?;
        let answer = answered.await.map_err(|_| Problem::EngineFailed)?;
        record(app, &answer, arrived);
        shown = taken(&answer)?;
    }
    Ok(VoidShown { already_voided: true, ..VoidShown::new(void, event, voided, shown) })
}

/// Replacements are events like any other; a void by itself is none.
fn record(app: &App, answer: &Answer, arrived: Instant) {
    if !answer.outcomes.is_empty() {
        app.instruments.record(&Tally::of(answer), arrived.elapsed());
    }
}

/// What became of the replacement, if there is one.
fn taken(answer: &Answer) -> Result<Option<ReplacementShown>, Problem> {
    answer.outcomes.first().map_or(Ok(None), |outcome| match outcome {
        Outcome::Accepted(seq) | Outcome::Duplicate(seq) | Outcome::Voided(seq) => {
            Ok(Some(ReplacementShown { outcome: outcome.as_str(), seq: seq.0 }))
        }
        Outcome::Conflict(_) | Outcome::Rejected(..) | Outcome::Capped(_) => Err(not_replaced(outcome)),
    })
}

/// Why a replacement is not taken; then nothing is taken back.
fn not_replaced(outcome: &Outcome) -> Problem {
    let pointer = Some(REPLACEMENT.to_owned());
    match (outcome, door::not_taken(outcome)) {
        (_, Some(Problem::Coded { status, code, detail, .. })) => {
            Problem::Coded { status, code, pointer, detail: format!("{REPLACEMENT} {detail}") }
        }
        (Outcome::Duplicate(seq) | Outcome::Voided(seq), _) => {
            let (status, code) = (StatusCode::CONFLICT, "duplicate_replacement");
            let detail = format!("{REPLACEMENT} was accepted before, as record {seq}: its id must be new");
            Problem::Coded { status, code, pointer, detail }
        }
        _ => Problem::EngineFailed,
    }
}

fn refused(why: &RetractionRefused) -> Problem {
    let detail = why.to_string();
    match why {
        RetractionRefused::UnknownEvent => Problem::absent("unknown_event", detail),
        RetractionRefused::EvidenceExpired => Problem::conflict("evidence_expired", detail),
        RetractionRefused::Reverted(_) => Problem::conflict("reverted", detail),
        RetractionRefused::AlreadyVoided(_) => Problem::conflict("already_voided", detail),
        RetractionRefused::Outdated => Problem::EngineFailed,
    }
}

#[cfg(test)]
mod tests;
