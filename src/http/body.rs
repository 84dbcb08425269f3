//! Reads a request's body within its limits: length, time, and room in the engine's queue.
//!
//! 1. A declared length over the limit is refused before a byte is read.
//! 2. Room is asked for as bytes arrive, before they are kept: who only declares a length holds none.
//! 3. The whole body has one deadline, so that a client cannot hold on by sending a byte at a time.

use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

use crate::engine::{Engine, Permit};
use crate::http::problem::Problem;

/// Room is asked for in multiples of this, in bytes.
const STEP_BYTES: usize = 16 << 10;

/// Room in the engine's queue that grows with what it stands for.
pub struct Room {
    permit: Permit,
    /// Bytes that need no room.
    free: usize,
}

impl Room {
    pub fn new(engine: &Engine) -> Result<Self, Problem> {
        Ok(Self { permit: engine.admit(0)?, free: 0 })
    }

    /// For what changes nothing: also while the disk is full, and small bodies also while the queue is. The latter are no
    /// more than what a connection's own buffer may hold.
    pub fn for_reading(engine: &Engine) -> Self {
        Self { permit: engine.pass(), free: STEP_BYTES }
    }

    /// Makes sure that `bytes` are covered.
    pub fn cover(&mut self, bytes: usize) -> Result<(), Problem> {
        let missing = bytes.saturating_sub(self.free + self.permit.bytes());
        if missing > 0 {
            self.permit.grow(missing.next_multiple_of(STEP_BYTES))?;
        }
        Ok(())
    }

    /// For the engine to hold until the answer.
    pub fn into_permit(self) -> Permit {
        self.permit
    }
}

/// The body's declared length, if it fits the limit; `None` for a chunked body.
pub fn declared_length(headers: &HeaderMap, limit: usize) -> Result<Option<usize>, Problem> {
    let Some(value) = headers.get(CONTENT_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
    let length = length.ok_or(Problem::BadRequest("Content-Length is not a number"))?;
    usize::try_from(length).ok().filter(|length| *length <= limit).map(Some).ok_or(Problem::BodyTooLong { limit })
}

/// Reads the whole body.
pub async fn collect(
    body: Body,
    declared: Option<usize>,
    limit: usize,
    deadline: Duration,
    room: &mut Room,
) -> Result<Bytes, Problem> {
    let collected = tokio::time::timeout(deadline, collect_untimed(body, declared, limit, room)).await;
    collected.unwrap_or(Err(Problem::BodyTimeout { seconds: deadline.as_secs() }))
}

async fn collect_untimed(
    mut body: Body,
    declared: Option<usize>,
    limit: usize,
    room: &mut Room,
) -> Result<Bytes, Problem> {
    let mut first: Option<Bytes> = None;
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Problem::BodyBroken)?.into_data() else { continue };
        let length = whole.len() + first.as_ref().map_or(0, Bytes::len) + data.len();
        if length > limit {
            return Err(Problem::BodyTooLong { limit });
        }
        room.cover(length)?;
        match first.take() {
            None if whole.is_empty() => first = Some(data),
            None => whole.extend_from_slice(&data),
            Some(first) => {
                whole.reserve(declared.unwrap_or(length));
                whole.extend_from_slice(&first);
                whole.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}
