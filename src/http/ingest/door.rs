//! Native events that come by another door than `POST /v1/events`: checks that consume, commits of reservations, what counts
//! instead of an event that is taken back.
//!
//! 1. They are read by the reader that reads all events, so an id that comes by both doors is a duplicate.
//! 2. All are taken into the batch or none: the first that cannot be is the answer.
//! 3. They need an id, also where the meter would derive one.

use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;
use tokio::sync::oneshot;

use crate::engine::{Answer, Batch, Hasher, NewEvent};
use crate::http::body::Room;
pub use crate::http::ingest::answer::CONFLICT;
use crate::http::ingest::framing::Form;
use crate::http::ingest::reader::{self, Limits};
use crate::http::ingest::rejection::Pointer;
use crate::http::ingest::sink::Sink;
use crate::http::ingest::{compose, native, parse, refused_batch, settle};
use crate::http::problem::Problem;
use crate::http::routes::App;
use crate::meter::{Definition, Meters, Value};
use crate::model::{Code, Outcome, Timestamp};

/// The member that leads from an event to the reservation it commits. It is evidence only: the event's fingerprint is that
/// of the event without it.
const RESERVATION: &str = "reservation";

/// Why an event cannot be taken.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which of the events it is.
    pub index: usize,
    pub code: Code,
    pub detail: Box<str>,
}

impl Fault {
    /// Where in the event the fault is; empty if it is nowhere in particular. Details begin with the place they speak of.
    pub fn pointer(&self, meter: &Definition) -> String {
        let looked_up = meter.value.iter().chain(meter.dimensions.iter().map(|(_, path)| path));
        let looked_up = looked_up.map(|path| Pointer { root: "/dimensions", segments: path.segments() }.to_string());
        let named = native::NAMES.iter().map(|name| format!("/{name}")).chain(looked_up);
        let is_meant = |place: &String| self.detail.strip_prefix(place).is_some_and(|fault| fault.starts_with(' '));
        named.filter(is_meant).max_by_key(String::len).unwrap_or_default()
    }
}

/// Why nothing was taken.
#[derive(Debug)]
pub enum Refused {
    Fault(Fault),
    Problem(Problem),
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Refused::Problem(problem)
    }
}

/// Hands events to the engine; the answer is durable.
///
/// `events`: native events as JSON, one or an array. `reservation`: the one that the only event commits.
pub async fn submit(app: &Arc<App>, events: String, reservation: Option<String>) -> Result<Answer, Refused> {
    let arrived = Instant::now();
    let room = Room::new(&app.engine)?;
    let read = parse(app, events.len(), {
        let app = app.clone();
        move || read(&app, &events, reservation.as_deref(), room)
    });
    let (batch, room) = read.await??;
    let answered = app.engine.submit(batch, room.into_permit()).map_err(Problem::from)?;
    recorded(app, answered, arrived).await.map_err(Refused::from)
}

/// Makes a batch of events; the room covers it then.
pub fn read(app: &App, events: &str, reservation: Option<&str>, mut room: Room) -> Result<(Batch, Room), Refused> {
    let mut builder = app.engine.batch(&app.tenant);
    // What a reservation commits happens when it is committed.
    let require_timestamp = app.options.require_timestamp && reservation.is_none();
    let limits = Limits { events_max: usize::MAX, require_timestamp };
    push(events, limits, reservation, &mut builder)?;
    if let Some(reservation) = reservation {
        builder.commits(reservation);
    }
    room.cover(events.len() + builder.memory_bytes())?;
    Ok((builder.finish().map_err(refused_batch)?, room))
}

/// The problem of an event that does not count.
pub fn not_taken(outcome: &Outcome) -> Option<Problem> {
    match outcome {
        Outcome::Accepted(_) | Outcome::Duplicate(_) | Outcome::Voided(_) => None,
        Outcome::Conflict(_) => Some(Problem::conflict(Code::IdConflict.as_str(), CONFLICT)),
        Outcome::Capped(detail) => Some(Problem::conflict(Code::HardCap.as_str(), detail.as_ref())),
        Outcome::Rejected(code, detail) => Some(Problem::Coded {
            status: StatusCode::BAD_REQUEST,
            code: code.as_str(),
            pointer: None,
            detail: detail.to_string(),
        }),
    }
}

/// The answer, once it is durable and recorded.
pub async fn recorded(
    app: &Arc<App>,
    answered: oneshot::Receiver<Answer>,
    arrived: Instant,
) -> Result<Answer, Problem> {
    let settled = tokio::spawn(settle(app.clone(), answered, arrived)).await;
    settled.map_err(|_| Problem::EngineFailed)?.map(|(answer, _)| answer)
}

fn push<S: Sink>(events: &str, limits: Limits, reservation: Option<&str>, inner: &mut S) -> Result<(), Refused> {
    let mut strict = Strict { inner, reservation, seen: 0, first: None };
    reader::read(events, Form::Json, limits, &mut strict).map_err(Problem::from)?;
    strict.first.map_or(Ok(()), |fault| Err(Refused::Fault(fault)))
}

/// Passes events on, and notes the first that is rejected.
struct Strict<'b, S> {
    inner: &'b mut S,
    reservation: Option<&'b str>,
    seen: usize,
    first: Option<Fault>,
}

impl<S: Sink> Sink for Strict<'_, S> {
    fn meters(&self) -> Arc<Meters> {
        self.inner.meters()
    }

    fn hasher(&self) -> Hasher {
        self.inner.hasher()
    }

    fn received_at(&self) -> Timestamp {
        self.inner.received_at()
    }

    /// Whoever asks for leave to use something must not be taken for a retry of who asked before.
    fn derives_ids(&self) -> bool {
        false
    }

    fn member(&self, text: &str) -> Value {
        self.inner.member(text)
    }

    fn reserve(&mut self, events: usize, bytes: usize) {
        self.inner.reserve(events, bytes);
    }

    fn push(&mut self, event: &NewEvent<'_>) {
        self.seen += 1;
        match self.reservation {
            None => self.inner.push(event),
            Some(id) => {
                let raw = String::from_utf8_lossy(event.raw);
                let raw = compose::extend(&raw, RESERVATION, id);
                self.inner.push(&NewEvent { raw: raw.as_bytes(), ..*event });
            }
        }
    }

    fn reject(&mut self, code: Code, detail: Box<str>) {
        let index = self.seen;
        self.seen += 1;
        self.first.get_or_insert(Fault { index, code, detail });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::ingest::reader::tests::{Notes, Taken, meters};

    fn pushed(events: &str, reservation: Option<&str>) -> Result<Vec<Taken>, Refused> {
        let mut notes = Notes::new(meters());
        let limits = Limits { events_max: 10, require_timestamp: false };
        push(events, limits, reservation, &mut notes)?;
        Ok(notes.events.into_iter().map(Result::unwrap).collect())
    }

    const EVENT: &str = r#"{"usage_event_id":"e","customer":"c","meter":"tokens","quantity":1.50,"source":"s"}"#;

    #[test]
    fn an_event_is_the_same_by_every_door() {
        let mut notes = Notes::new(meters());
        let limits = Limits { events_max: 10, require_timestamp: false };
        reader::read(EVENT, Form::Json, limits, &mut notes).unwrap();
        let direct = notes.events.remove(0).unwrap();
        assert_eq!(pushed(EVENT, None).unwrap(), std::slice::from_ref(&direct));
        let mut committed = pushed(EVENT, Some("r\"1")).unwrap().remove(0);
        let named = format!(r#"{},"reservation":"r\"1"}}"#, EVENT.strip_suffix('}').unwrap());
        assert_eq!(committed.raw, named, "the evidence leads to the reservation");
        committed.raw.clone_from(&direct.raw);
        assert_eq!(committed, direct, "and is all that differs");
    }

    #[test]
    fn the_first_fault_is_told_with_its_place() {
        let meters = meters();
        let tokens = &meters.by_slug("tokens").unwrap().definition;
        for (members, code, pointer) in [
            (r#""quantity":-1"#, Code::InvalidQuantity, "/quantity"),
            (r#""quantity":"x""#, Code::InvalidQuantity, "/quantity"),
            (r#""timestamp":"now""#, Code::InvalidTimestamp, "/timestamp"),
            (r#""dimensions":{"model":[]}"#, Code::InvalidField, "/dimensions/model"),
            (r#""dimensions":{"usage":{"tokens":"x"}}"#, Code::InvalidQuantity, "/dimensions/usage/tokens"),
            (r#""dimensions":[]"#, Code::InvalidField, "/dimensions"),
            (r#""source":1"#, Code::InvalidField, "/source"),
        ] {
            let bad = format!(r#"{{"usage_event_id":"f","customer":"c","meter":"tokens",{members}}}"#);
            let events = format!("[{EVENT},{bad},{bad}]");
            match pushed(&events, None) {
                Err(Refused::Fault(fault)) => {
                    assert_eq!((fault.index, fault.code, fault.pointer(tokens).as_str()), (1, code, pointer), "{bad}");
                }
                other => panic!("{bad}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_event_needs_an_id_here_also_if_its_meter_would_derive_one() {
        use crate::http::ingest::reader::tests::definition;
        use crate::meter::Aggregation;
        use crate::model::{Duration, MeterId};
        let derive_id = Some(Duration::from_secs(60));
        let weak = Definition { derive_id, ..definition("tokens", "llm", Aggregation::Sum, None) };
        let mut meters = Meters::new();
        meters.put(MeterId(0), weak.clone()).unwrap();
        let mut notes = Notes::new(Arc::new(meters));
        let limits = Limits { events_max: 10, require_timestamp: false };
        let event = r#"{"customer":"c","meter":"tokens"}"#;
        match push(event, limits, None, &mut notes) {
            Err(Refused::Fault(fault)) => {
                assert_eq!((fault.code, fault.pointer(&weak).as_str()), (Code::MissingField, "/usage_event_id"));
            }
            other => panic!("{other:?}"),
        }
        reader::read(event, Form::Json, limits, &mut notes).unwrap();
        assert!(notes.events.remove(0).is_ok(), "it is taken by the other door");
    }

    #[test]
    fn what_does_not_count_is_a_problem_with_a_code() {
        use crate::model::Seq;
        assert!(not_taken(&Outcome::Accepted(Seq(1))).is_none() && not_taken(&Outcome::Duplicate(Seq(1))).is_none());
        for (outcome, status, name) in [
            (Outcome::Conflict(Seq(1)), 409, "id_conflict"),
            (Outcome::Capped("full".into()), 409, "hard_cap"),
            (Outcome::Rejected(Code::TooLate, "old".into()), 400, "too_late"),
        ] {
            match not_taken(&outcome) {
                Some(Problem::Coded { status: found, code, .. }) => assert_eq!((found.as_u16(), code), (status, name)),
                other => panic!("{outcome:?}: {other:?}"),
            }
        }
    }
}
