//! The words of taking back: what was counted and should not have been, loads of history, and who changed what.
//!
//! | word | means |
//! | --- | --- |
//! | void | one accepted event is taken back, once; its id stays taken |
//! | amend | a void and the event that counts instead, in one step |
//! | backfill | history older than `ingest.accept_past`, loaded under a name of its own; its ids are kept as long as it is |
//! | revert | all events of a backfill are taken back, and their ids are free again |
//! | retraction | what one record takes back from counters, and what remains of them |
//! | trail | who changed what, when, from what to what |
//!
//! 1. Counts, sums and averages are subtracted from. What remains of a least, greatest, latest or of a set cannot be told from
//!    the counter: it is computed from the events that are left, by whoever asks for the retraction, as of `Retraction::basis`.
//!    The writer takes it only if none of its counters has changed since, nor what the period's final windows come to.
//! 2. A window that is not final just changes. A final one gets an adjustment, as by late usage.

use crate::meter::{BillingPeriod, Value};
use crate::model::{EventKey, MeterId, Quantity, Seq, TenantId, Timestamp, Window};

/// Windows that one retraction may change: adjustments of one record are told apart by a byte.
pub const RETRACTED_WINDOWS_MAX: usize = 200;

/// What is to be taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retraction {
    pub tenant: TenantId,
    pub cause: Cause,
    /// What it was computed against.
    pub basis: Basis,
    /// By series and period, each at most once.
    pub changes: Vec<Change>,
}

/// Why it is taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    Void(VoidCause),
    /// A slice of this backfill, by its number. Slices follow each other in the order of (series, window's start).
    Revert {
        backfill: u32,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoidCause {
    pub event: Seq,
    pub key: EventKey,
    pub usage_event_id: String,
    pub source: String,
    pub customer: String,
    pub reason: String,
}

/// The state that a retraction was computed against. With as many retractions as now, event counts only grow: a counter with
/// the same count is the same counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Basis {
    /// Retractions that the log held.
    pub retractions: u64,
}

/// What is taken back from one series in one billing period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The series' name, as rows have it.
    pub series: Vec<u8>,
    pub meter: MeterId,
    /// The billing period of the windows' counters.
    pub period: BillingPeriod,
    /// What remains of the period's final windows; `Subtract` too if none of these windows is final.
    pub total: Remains,
    /// The count of events of the period's final windows that `total` was computed against; of no meaning with `Subtract`.
    pub total_count: u64,
    /// By start.
    pub windows: Vec<WindowChange>,
}

/// What is taken back from one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowChange {
    pub window: Window,
    /// The window's count of events that this was computed against.
    pub event_count: u64,
    /// Whether it was final then.
    pub is_final: bool,
    /// Events taken back.
    pub events: u64,
    /// What they came to together, of sums and averages; 0 of anything else.
    pub quantity: Quantity,
    /// The latest of their times.
    pub timestamp: Timestamp,
    pub remains: Remains,
}

impl Retraction {
    /// Nothing of it was computed from a counter, so that it does not matter which retractions came before.
    pub fn only_subtracts(&self) -> bool {
        let remains = self.changes.iter().flat_map(|change| {
            change.windows.iter().map(|window| &window.remains).chain(std::iter::once(&change.total))
        });
        remains.into_iter().all(|remains| *remains == Remains::Subtract)
    }
}

/// What remains of an aggregate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remains {
    /// Counts, sums, averages: what it was less what is taken back.
    Subtract,
    /// This, in its stored form (`Aggregate::encode`): least, greatest, latest, estimates.
    Is(Vec<u8>),
    /// An exact set: these members leave.
    Without(Vec<u128>),
}

/// One feed of an event that is to be taken back: what the log says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenFeed {
    pub seq: Seq,
    pub timestamp: Timestamp,
    /// The series' name.
    pub series: Vec<u8>,
    pub meter: MeterId,
    pub window: Window,
    pub period: BillingPeriod,
    pub value: Value,
}

/// Why a retraction changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetractionRefused {
    #[error("no accepted event has this id, or it is no longer known")]
    UnknownEvent,
    #[error("the event was taken back before, by record {0}")]
    AlreadyVoided(Seq),
    #[error("the event came with backfill {0:?}, which was reverted")]
    Reverted(String),
    /// A counter has changed since the retraction was computed: compute it again.
    #[error("usage has changed meanwhile")]
    Outdated,
    #[error("the events that are needed to compute what remains are past journal.retention")]
    EvidenceExpired,
}

/// A load of history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backfill {
    pub tenant: TenantId,
    /// What the client calls it.
    pub id: String,
    /// One more for each that was ever opened: a name that is used again after a revert has a new one.
    pub number: u32,
    pub opened_at: Timestamp,
    pub state: BackfillState,
    /// Events that it has brought; those that were taken back by a void are counted too.
    pub events: u64,
    /// Its first and last record with events; 0 before there is one.
    pub first_seq: Seq,
    pub last_seq: Seq,
    /// What its revert has taken back so far, by feed: an event that feeds two meters counts twice.
    pub reverted_feeds: u64,
    /// Where its revert is: the last series and window that it has taken back.
    pub reverted_to: Option<(Vec<u8>, Timestamp)>,
    pub reverting_at: Option<Timestamp>,
    pub reverted_at: Option<Timestamp>,
    /// Of the revert; empty before.
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackfillState {
    /// Takes events.
    Open,
    /// Its events are being taken back.
    Reverting,
    /// All are taken back.
    Reverted,
}

impl BackfillState {
    pub fn as_str(self) -> &'static str {
        match self {
            BackfillState::Open => "open",
            BackfillState::Reverting => "reverting",
            BackfillState::Reverted => "reverted",
        }
    }
}

/// Why a backfill cannot be used so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackfillRefused {
    #[error("there is no backfill of this name")]
    Unknown,
    #[error("the backfill is being reverted: wait until it is")]
    Reverting,
}

/// How an event that was taken back left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voided {
    /// The record that took it back.
    pub seq: Seq,
    pub at: Timestamp,
    /// Windows that were final, so that they were adjusted.
    pub adjusted: u32,
    pub reason: String,
}

/// What an operator, a back office or a changed config did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrailEntry {
    /// Its record; 0 before it is written.
    pub seq: Seq,
    /// None: it concerns all tenants.
    pub tenant: Option<String>,
    pub at: Timestamp,
    /// The id of the API key; `config` for what a start found changed. None: no keys are configured.
    pub by: Option<String>,
    /// Like `caps.put`, `customer.put`, `event.void`, `backfill.revert`, `sink.pause`, `clock.reset`, `meter.changed`.
    pub action: String,
    /// What it was done to, like `acme/c-1/tokens`.
    pub target: String,
    /// JSON; none where there was nothing.
    pub before: Option<String>,
    pub after: Option<String>,
}
