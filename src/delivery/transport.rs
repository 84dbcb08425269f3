//! What every sink can do: take one message, and say what became of it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration as StdDuration;

use crate::engine::{DeliveryId, OutboxRow};
use crate::model::{RowKind, Timestamp};

pub type Sending<'a> = Pin<Box<dyn Future<Output = Sent> + Send + 'a>>;

/// A way out. One value serves one sink; `send` may be called several times at once.
pub trait Transport: Send + Sync + 'static {
    /// What one message of such rows may hold.
    fn limits(&self, kind: RowKind) -> Limits;

    /// What a row adds to a message, in bytes. The same for the same row, always.
    fn row_bytes(&self, row: &OutboxRow) -> usize;

    /// Sends a message, once. Sending the same one again changes nothing at the receiver. The caller limits the time and
    /// may drop the future at any moment.
    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a>;
}

/// A message is filled with rows up to both limits; one row that is too large by itself goes alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub rows: usize,
    pub bytes: usize,
}

/// The rows of one delivery: the same at every attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub id: DeliveryId,
    pub kind: RowKind,
    pub planned_at: Timestamp,
    /// When this attempt begins, by the wall clock.
    pub now: Timestamp,
    /// In order of position; never empty.
    pub rows: Vec<OutboxRow>,
}

/// What one attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub outcome: Outcome,
    /// HTTP status, where there was one.
    pub status: Option<u16>,
    /// The beginning of the receiver's answer; without secrets and control characters.
    pub answer: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Delivered,
    /// Why not, in one line, without secrets.
    Failed(Failure, String),
}

/// What a failure asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The receiver cannot be reached, timed out, or failed itself: by the schedule; counts for the breaker.
    Unavailable,
    /// It asks for less (429, 502, 504), and perhaps says when to come back.
    SlowDown { retry_after: Option<StdDuration> },
    /// It is there and refuses this message (400, 401, 404 …): by the schedule; does not count for the breaker.
    Refused,
    /// It will never take this message (413): a dead letter at once.
    Never,
    /// It wants nothing any more (410): the sink is paused; the message stays pending.
    Gone,
    /// It can't take rows as they are (a table of another shape): the sink is paused; the message stays pending.
    Misfit,
}

impl Sent {
    pub fn delivered() -> Self {
        Self { outcome: Outcome::Delivered, status: None, answer: String::new() }
    }

    pub fn failed(failure: Failure, error: impl Into<String>) -> Self {
        Self { outcome: Outcome::Failed(failure, error.into()), status: None, answer: String::new() }
    }
}

/// Text in one line of at most so many bytes: what steers a terminal or a log is a space.
pub fn one_line(text: &str, bytes_max: usize) -> String {
    let mut line: String = text.chars().map(|char| if is_steering(char) { ' ' } else { char }).collect();
    line.truncate(line.floor_char_boundary(bytes_max));
    line.truncate(line.trim_end().len());
    line
}

/// Control characters, line and paragraph separators, and what turns the direction of writing.
fn is_steering(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
