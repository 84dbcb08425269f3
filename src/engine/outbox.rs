//! The words of delivery: what waits to go out, what is under way, what became of it, and what may be asked for.
//!
//! | word | means |
//! | --- | --- |
//! | row | a final window, an adjustment or an alert, as it was when it came about |
//! | sink | who gets rows; its cursors say how far each kind's rows are planned |
//! | delivery | a stretch of one kind's rows for one sink under one id: the same id, the same bytes, at every attempt |
//! | dead letter | a delivery that is not tried again by itself; it keeps its rows |
//!
//! 1. Every step is a record: planned, attempt failed, delivered, dead-lettered, replay requested, sink paused, resumed.
//! 2. What is planned is committed in the store already, and is sent once the plan is durable.
//! 3. No row is in two deliveries to one sink.

use std::fmt;
use std::sync::Arc;

use crate::engine::caps::{Reservation, ReservationRefused};
use crate::engine::corrections::{Backfill, BackfillRefused, RetractionRefused};
use crate::model::{Duration, Incarnation, OutboxPosition, RowKind, RowKinds, Seq, Timestamp};

mod json;
mod row;

pub use json::{DimensionsJson, Members, SoftJson, Typed};
pub use row::{OutboxRow, RowContent, UsageChange, UsageRow};

/// The longest error text that is kept of an attempt, in bytes.
pub const ERROR_BYTES_MAX: usize = 500;
/// The most that is kept of what a receiver answered, in bytes.
pub const ANSWER_BYTES_MAX: usize = 1_000;
/// The most rows one delivery may have.
pub const ROWS_MAX: usize = 5_000;
/// Delivered ones that are remembered, by sink: the newest.
pub const DELIVERED_KEPT: usize = 1_000;
/// With so many dead letters a sink is paused.
pub const DEAD_LETTERS_MAX: usize = 10_000;
/// The most deliveries one request replays.
pub const REPLAYS_MAX: usize = 10_000;

/// A sink as the config has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkDefinition {
    pub name: String,
    pub kinds: RowKinds,
}

/// A delivery's name to the outside: the same at every attempt and replay, and of no other delivery of any store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryId {
    /// The first four bytes of the store's id.
    pub store: u32,
    pub incarnation: Incarnation,
    /// The record that planned it.
    pub seq: Seq,
}

impl fmt::Display for DeliveryId {
    /// No full stop: Standard Webhooks signs `id.timestamp.body`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "msg_{:08x}_{}_{}", self.store, self.incarnation.0, self.seq)
    }
}

impl std::str::FromStr for DeliveryId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.strip_prefix("msg_").ok_or(())?.split('_');
        let mut part = || parts.next().ok_or(());
        let store = u32::from_str_radix(part()?, 16).map_err(|_| ())?;
        let incarnation = Incarnation(part()?.parse().map_err(|_| ())?);
        let id = Self { store, incarnation, seq: Seq(part()?.parse().map_err(|_| ())?) };
        // Only the one way to write it.
        (id.to_string() == text).then_some(id).ok_or(())
    }
}

/// One delivery, as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub id: DeliveryId,
    pub sink: Arc<str>,
    pub kind: RowKind,
    pub first: OutboxPosition,
    pub last: OutboxPosition,
    pub rows: u32,
    pub planned_at: Timestamp,
    pub state: DeliveryState,
    /// Failed attempts since it was planned, or last replayed.
    pub failures: u32,
    /// All attempts that were recorded.
    pub attempts: u32,
    pub replays: u32,
    pub last_attempt: Option<Attempt>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// To be tried at this time.
    Pending {
        due: Timestamp,
    },
    Delivered {
        at: Timestamp,
    },
    /// A dead letter.
    Dead {
        at: Timestamp,
    },
}

impl Delivery {
    /// Before its first attempt, which is due at once.
    pub fn planned(id: DeliveryId, sink: Arc<str>, plan: &Plan, at: Timestamp) -> Self {
        Self {
            id,
            sink,
            kind: plan.kind,
            first: plan.first,
            last: plan.last,
            rows: plan.rows,
            planned_at: at,
            state: DeliveryState::Pending { due: at },
            failures: 0,
            attempts: 0,
            replays: 0,
            last_attempt: None,
        }
    }
}

/// What one attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub at: Timestamp,
    pub took: Duration,
    /// HTTP status, where there was one.
    pub status: Option<u16>,
    /// Empty: it succeeded. At most [`ERROR_BYTES_MAX`].
    pub error: String,
    /// The beginning of what the receiver answered, at most [`ANSWER_BYTES_MAX`].
    pub answer: String,
}

impl Attempt {
    /// With as much of its texts as is kept.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        self.error.truncate(self.error.floor_char_boundary(ERROR_BYTES_MAX));
        self.answer.truncate(self.answer.floor_char_boundary(ANSWER_BYTES_MAX));
        self
    }
}

/// Why a sink is sent nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkPause {
    pub cause: PauseCause,
    pub reason: String,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseCause {
    Operator,
    /// It answered 410.
    Gone,
    /// It can't take rows as they are: a table that does not fit.
    Misfit,
    /// The directory was restored or repaired.
    Restored,
    /// It has [`DEAD_LETTERS_MAX`] dead letters.
    DeadLetters,
}

impl PauseCause {
    /// Each at the place of its discriminant.
    pub const ALL: [PauseCause; 5] =
        [PauseCause::Operator, PauseCause::Gone, PauseCause::Misfit, PauseCause::Restored, PauseCause::DeadLetters];

    pub fn as_str(self) -> &'static str {
        match self {
            PauseCause::Operator => "operator",
            PauseCause::Gone => "gone",
            PauseCause::Misfit => "misfit",
            PauseCause::Restored => "restored",
            PauseCause::DeadLetters => "dead_letters",
        }
    }
}

/// A stretch of a kind's rows that one delivery is to carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub kind: RowKind,
    pub first: OutboxPosition,
    pub last: OutboxPosition,
    /// How many rows there are from `first` to `last`.
    pub rows: u32,
}

/// What delivery and operators ask of the writer; each becomes a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryOperation {
    /// In order of position, of any kinds. Answer: the ids, in order.
    Plan {
        sink: String,
        plans: Vec<Plan>,
        at: Timestamp,
    },
    Failed {
        delivery: DeliveryId,
        attempt: Attempt,
        due: Timestamp,
    },
    Delivered {
        delivery: DeliveryId,
        attempt: Attempt,
    },
    /// The last attempt failed. The writer adds the rows.
    Dead {
        delivery: DeliveryId,
        attempt: Attempt,
    },
    /// Dead letters are pending again, due at once. Answer: how many.
    Replay {
        filter: ReplayFilter,
        key: Option<RequestKey>,
        at: Timestamp,
    },
    Pause {
        sink: String,
        pause: SinkPause,
    },
    Resume {
        sink: String,
        reason: String,
        at: Timestamp,
    },
    /// A sink that is not configured any more, its deliveries and cursors.
    Forget {
        sink: String,
        reason: String,
        at: Timestamp,
    },
}

impl DeliveryOperation {
    /// It may give a sink's worker something to do that the worker has not asked for itself.
    pub fn wakes_delivery(&self) -> bool {
        match self {
            Self::Replay { .. } | Self::Pause { .. } | Self::Resume { .. } | Self::Forget { .. } => true,
            Self::Plan { .. } | Self::Failed { .. } | Self::Delivered { .. } | Self::Dead { .. } => false,
        }
    }
}

/// Which dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayFilter {
    pub delivery: Option<DeliveryId>,
    pub sink: Option<String>,
    pub kind: Option<RowKind>,
}

/// An `Idempotency-Key` and a digest of the request it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    pub key: String,
    pub request: u64,
}

/// What an operation came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Done {
    #[default]
    Done,
    Planned(Vec<DeliveryId>),
    Replayed(u32),
    Refused(Refused),
    /// As it is now.
    Reserved(Box<Reservation>),
    ReservationRefused(ReservationRefused),
    /// The record of an accepted event; None: no id of an event that counts, or once did, is known like this.
    Found(Option<Seq>),
    /// By this record.
    Retracted(Seq),
    RetractionRefused(RetractionRefused),
    /// As it is now.
    Backfill(Box<Backfill>),
    BackfillRefused(BackfillRefused),
}

/// Why an operation changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("there is no such sink")]
    UnknownSink,
    #[error("there is no such delivery")]
    UnknownDelivery,
    /// It is delivered already, or a dead letter, or was replayed meanwhile.
    #[error("the delivery is not pending")]
    NotPending,
    #[error("the delivery is no dead letter")]
    NotDead,
    /// Planned by someone else meanwhile, or not committed yet.
    #[error("the rows do not follow the sink's cursor")]
    OutOfPlace,
    /// After a crash the store may be behind the plan for a while.
    #[error("the delivery's rows are not committed again yet")]
    NotCommitted,
    #[error("the sink is still configured")]
    StillConfigured,
    #[error("this Idempotency-Key came with another request before")]
    KeyReused,
}

/// What a sink has to do, as of `seq`. Nothing of it may be acted upon before that is durable.
#[derive(Clone, Debug)]
pub struct SinkWork {
    pub seq: Seq,
    pub pause: Option<SinkPause>,
    /// Where the rows begin that are not planned, by kind that the sink gets.
    pub cursors: Vec<(RowKind, OutboxPosition)>,
    /// The pending deliveries that are due first, in order of due time.
    pub pending: Vec<Delivery>,
    /// All that are pending.
    pub pending_total: usize,
}

/// A sink as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkStatus {
    pub name: Arc<str>,
    pub kinds: RowKinds,
    pub pause: Option<SinkPause>,
    pub pending: u64,
    pub dead: u64,
    /// When the oldest row came about that is neither delivered nor a dead letter.
    pub oldest: Option<Timestamp>,
}

/// Which deliveries are listed.
#[derive(Clone, Debug, Default)]
pub struct DeliveriesQuery {
    pub sink: Option<String>,
    pub state: Option<DeliveryFilter>,
    pub kind: Option<RowKind>,
    /// Deliveries after this one, in order of planning.
    pub after: Option<Seq>,
    pub limit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryFilter {
    /// Pending, no attempt has failed.
    Pending,
    /// Pending, after failed attempts.
    Retrying,
    Delivered,
    Dead,
}

#[derive(Clone, Debug)]
pub struct DeliveriesPage {
    pub deliveries: Vec<Delivery>,
    pub more: bool,
    pub seq: Seq,
}

/// What the process knows of a sink beyond the log; gone with a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkHealth {
    pub breaker: BreakerState,
    /// Attempts under way.
    pub in_flight: usize,
    pub last_success: Option<Timestamp>,
    pub last_error: Option<(Timestamp, String)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BreakerState {
    /// Attempts are made.
    #[default]
    Closed,
    /// One attempt is under way, to see.
    HalfOpen,
    /// No attempt is made before `until`.
    Open { until: Timestamp },
}
