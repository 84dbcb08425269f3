//! The heart: one writer that decides, a journal that makes it durable, a store that follows.
//!
//! | file | role |
//! | --- | --- |
//! | `batch` | a request's events: hashed, encoded and looked up before they reach the writer |
//! | `admission` | how much may be under way |
//! | `calendars` | which billing period an event falls into, by its customer's settings |
//! | `clock_guard` | whether the wall clock is believed |
//! | `writer` | decides each event and applies it; pure but for the lookups it may have to repeat |
//! | `committer` | the threads: decide, sync, answer, commit to the store |
//! | `record`, `key`, `hash` | what the log and the store hold, as bytes |
//! | `state` | the fold over the log |
//! | `dedupe` | which ids were accepted before |
//! | `recovery`, `verify` | the fold again: at start, and to compare |
//! | `overlay` | the rows that a fold changed, over those that were there |
//! | `retention` | what of the journal is kept, and from which base the rest can be rebuilt |
//! | `inspect` | what is on disk, for people |
//! | `replay` | the log again, translated into another directory, and the two compared |
//! | `audit` | the conservation law, from the journal alone |
//! | `view` | what readers see |
//! | `evidence` | the events behind it, from the journal |
//! | `retract` | what remains once events are taken back, proposed to the writer |
//!
//! 1. Only `committer` changes durable state.
//! 2. An engine has no globals: many can be open in one process, each on its own directory.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossbeam_channel::{Sender, TrySendError};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::env::DiskLock;
use crate::meter::{Definition, Meters};
use crate::model::{Duration, Seq, TenantId, Timestamp};
use crate::store::{Store, StoreError};

mod admission;
mod audit;
mod batch;
mod calendars;
pub mod caps;
mod clock_guard;
mod committer;
pub mod corrections;
mod dedupe;
mod evidence;
mod hash;
pub mod inspect;
mod key;
mod options;
pub mod outbox;
pub mod overlay;
mod record;
pub mod recovery;
pub mod replay;
mod retention;
mod retract;
mod state;
mod verify;
mod view;
mod writer;

pub use admission::{Gate, Permit, Refusal};
pub use audit::{AuditFailed, Audited, Law, audit};
pub use batch::{Batch, BatchBuilder, BatchError, Batches, NewEvent, NewFeed};
pub use caps::{
    Alert, AlertEvent, AlertId, AlertState, AlertsPage, AlertsQuery, CapStatus, CapsChange, ListedAlert, MeterCaps,
    Recovered, Reservation, ReservationRefused, ReservationState, Reserve, Verdict,
};
pub use clock_guard::ClockOptions;
pub use committer::Failure;
pub use corrections::{
    Backfill, BackfillRefused, BackfillState, Basis, Cause, Change, Remains, Retraction, RetractionRefused, TakenFeed,
    TrailEntry, VoidCause, Voided, WindowChange,
};
pub use dedupe::Index;
pub use evidence::{Evidence, EvidenceError, EvidenceEvent, EvidenceQuery, Found};
pub use hash::Hasher;
pub use options::Options;
pub use outbox::{
    Attempt, BreakerState, DeliveriesPage, DeliveriesQuery, Delivery, DeliveryFilter, DeliveryId, DeliveryOperation,
    DeliveryState, Done, OutboxRow, PauseCause, Plan, Refused, ReplayFilter, RequestKey, RowContent, SinkDefinition,
    SinkHealth, SinkPause, SinkStatus, SinkWork, UsageChange, UsageRow,
};
pub use record::{EventRecord, FeedRecord, RecordError};
pub use recovery::{Entropy, OpenError, Opened, Parts, Report, Running, lock};
pub use retention::{Retention, Rule};
pub use retract::{Differs, PlanError, Planner, RevertError, Reverter, Source, revert};
pub use state::{LoadError, TenantTotals};
pub use verify::{Difference, Verified, VerifyError, verify, verify_from};
pub use view::{
    Adjustment, AdjustmentsPage, AdjustmentsQuery, CustomerUsagePage, MeterTotal, NearCap, NearestCaps, PeriodChoice,
    PeriodTotal, ReadError, Standing, TotalsPage, TotalsQuery, TrailPage, TrailQuery, View, WindowQuery, WindowRow,
    WindowState,
};
pub use writer::{Answer, ClockStatus, CommitJob, CustomerSettings, Group, Operation, Paused, Writer, WriterError};

use committer::{Message, Shared, Threads, Work};
use state::State;

/// A handle on a running engine; clones share it.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    batches: Batches,
    view: View,
    evidence: Evidence,
    requests: Sender<Message>,
    threads: Mutex<Option<Threads>>,
    report: Report,
    sinks: Vec<SinkDefinition>,
    sink_health: Mutex<BTreeMap<String, SinkHealth>>,
    _lock: Arc<dyn DiskLock>,
}

/// Why an id cannot be looked up.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Whether the engine can take events, and how far it is.
#[derive(Clone, Debug)]
pub struct Health {
    pub ready: bool,
    /// Why it is not ready.
    pub reason: Option<String>,
    pub durable: Seq,
    pub indexed: Seq,
    /// Decoded bodies under way, in bytes.
    pub queue_bytes: usize,
}

impl Engine {
    /// Opens the data directory, replays what the store lacks, and starts the threads.
    pub fn open(
        parts: &Parts,
        options: &Options,
        journal_options: crate::journal::Options,
        definitions: &[Definition],
        entropy: Entropy,
    ) -> Result<Self, OpenError> {
        let opened = recovery::open(parts, options, journal_options, definitions, entropy)?;
        Self::start(parts, options, opened).map_err(OpenError::Lock)
    }

    fn start(parts: &Parts, options: &Options, opened: Opened) -> std::io::Result<Self> {
        let report = opened.report.clone();
        let Running { writer, journal, index, batches } = opened.run(options);
        let shared = Shared::new(Gate::new(options.queue_bytes), parts.clock.clone(), journal.durable());
        let view = View::new(writer.state().clone(), batches.clone(), shared.durable());
        let reserve_bytes = options.disk_reserve_bytes;
        let evidence = Evidence::open_leaving(parts.disk.clone(), journal.store_id(), shared.durable(), reserve_bytes);
        let (store, disk) = (parts.store.clone(), parts.disk.clone());
        let work = Work { writer, journal, index, store, disk, evidence: evidence.clone() };
        let (requests, threads) = committer::start(&shared, options, work)?;
        Ok(Self(Arc::new(Inner {
            shared,
            batches,
            view,
            evidence,
            requests,
            threads: Mutex::new(Some(threads)),
            report,
            sinks: options.sinks.clone(),
            sink_health: Mutex::default(),
            _lock: parts.lock.clone(),
        })))
    }

    /// What recovery found.
    pub fn report(&self) -> &Report {
        &self.0.report
    }

    pub fn meters(&self) -> Arc<Meters> {
        self.0.batches.meters()
    }

    /// The wall clock.
    pub fn now(&self) -> Timestamp {
        self.0.shared.clock.now()
    }

    /// Time since some fixed moment; it never goes back.
    pub fn monotonic(&self) -> Duration {
        self.0.shared.clock.monotonic()
    }

    /// Asks for room for a decoded body of so many bytes.
    pub fn admit(&self, bytes: usize) -> Result<Permit, Refusal> {
        self.0.shared.gate.admit(bytes)
    }

    /// Room for a body that changes nothing: it is let in also while the disk is nearly full.
    pub fn pass(&self) -> Permit {
        self.0.shared.gate.pass()
    }

    /// Begins a batch that is received now.
    pub fn batch(&self, tenant: &TenantId) -> BatchBuilder {
        self.0.batches.start(tenant, self.now())
    }

    /// Hands a batch to the writer. The answer comes once it is durable; if the engine fails before, the sender is
    /// dropped, and whether the batch counts is unknown until a retry.
    pub fn submit(&self, batch: Batch, permit: Permit) -> Result<oneshot::Receiver<Answer>, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Batch(Box::new(batch), (reply, permit)))?;
        Ok(answer)
    }

    /// Sets what is known of a customer. The answer comes once that is durable.
    pub fn put_customer(
        &self,
        tenant: &TenantId,
        customer: &str,
        settings: CustomerSettings,
    ) -> Result<oneshot::Receiver<Answer>, Refusal> {
        let (tenant, customer) = (tenant.clone(), customer.to_owned());
        self.operate(Operation::PutCustomer { tenant, customer, settings })
    }

    /// Says that the wall clock is right. The answer comes once that is durable.
    pub fn reset_clock(&self, reason: &str) -> Result<oneshot::Receiver<Answer>, Refusal> {
        self.operate(Operation::ResetClock { reason: reason.to_owned() })
    }

    /// Sets a customer's caps on a meter, or takes them back. The answer comes once that is durable.
    pub fn put_caps(&self, change: CapsChange) -> Result<oneshot::Receiver<Answer>, Refusal> {
        self.operate(Operation::PutCaps(change))
    }

    /// Sets quota aside. The answer's `done` is `Reserved` or `ReservationRefused`, once that is durable. One with the same
    /// content as before is answered with what became of that.
    pub fn reserve(&self, reserve: Reserve) -> Result<oneshot::Receiver<Answer>, Refusal> {
        self.operate(Operation::Reserve(reserve))
    }

    /// Gives quota back. Answers like `reserve`; what was released or has expired already is answered as it is.
    pub fn release(&self, tenant: &TenantId, id: &str) -> Result<oneshot::Receiver<Answer>, Refusal> {
        self.operate(Operation::Release { tenant: tenant.clone(), id: id.to_owned() })
    }

    /// Looks an accepted event up by its id. The answer's `done` is `Found`. Blocks on the index, which may read the disk.
    /// Changes nothing, so it is taken also while the disk is nearly full.
    pub fn find_event(
        &self,
        tenant: &TenantId,
        source: &str,
        usage_event_id: &str,
    ) -> Result<oneshot::Receiver<Answer>, FindError> {
        let lookup = self.0.batches.look_up(tenant, source, usage_event_id)?;
        let (permit, (reply, answer)) = (self.pass(), oneshot::channel());
        self.send(Message::Operation(Box::new(Operation::Find(lookup)), (reply, permit)))?;
        Ok(answer)
    }

    /// Takes back what a retraction says; with the one event of `replacement` counted instead. The answer's `done` is `Retracted`
    /// or `RetractionRefused`; `outcomes` holds what became of the replacement: if that is all there is, nothing was taken back.
    pub fn retract(
        &self,
        retraction: Retraction,
        replacement: Option<Batch>,
    ) -> Result<oneshot::Receiver<Answer>, Refusal> {
        self.operate(Operation::Retract { retraction, replacement: replacement.map(Box::new) })
    }

    /// Makes sure that a backfill of this name takes events. The answer's `done` is `Backfill` or `BackfillRefused`.
    pub fn open_backfill(&self, tenant: &TenantId, id: &str) -> Result<oneshot::Receiver<Answer>, Refusal> {
        self.operate(Operation::OpenBackfill { tenant: tenant.clone(), id: id.to_owned() })
    }

    /// Has all of a backfill taken back, which goes on by itself. Answers like `open_backfill`.
    pub fn revert_backfill(
        &self,
        tenant: &TenantId,
        id: &str,
        reason: &str,
    ) -> Result<oneshot::Receiver<Answer>, Refusal> {
        let (tenant, id, reason) = (tenant.clone(), id.to_owned(), reason.to_owned());
        self.operate(Operation::RevertBackfill { tenant, id, reason })
    }

    /// All of a backfill is taken back. Answers like `open_backfill`.
    pub fn finish_revert(&self, number: u32) -> Result<oneshot::Receiver<Answer>, Refusal> {
        self.operate(Operation::FinishRevert { number })
    }

    fn operate(&self, operation: Operation) -> Result<oneshot::Receiver<Answer>, Refusal> {
        let permit = self.admit(0)?;
        let (reply, answer) = oneshot::channel();
        self.send(Message::Operation(Box::new(operation), (reply, permit)))?;
        Ok(answer)
    }

    fn send(&self, message: Message) -> Result<(), Refusal> {
        self.0.requests.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => Refusal::Overloaded,
            TrySendError::Disconnected(_) => Refusal::Stopping,
        })
    }

    /// Records a step of a delivery, or changes a sink. The answer's `done` says what came of it, once that is durable.
    /// Taken also while the disk is nearly full, and until the engine has ended.
    pub fn deliver(&self, operation: DeliveryOperation) -> Result<oneshot::Receiver<Answer>, Refusal> {
        let (permit, (reply, answer)) = (self.0.shared.gate.pass(), oneshot::channel());
        let operation = Box::new(Operation::Deliver(operation));
        self.send(Message::Operation(operation, (reply, permit)))?;
        Ok(answer)
    }

    /// Changes when delivery may have something to do: the store has committed, or a sink or delivery was changed.
    pub fn outbox_changed(&self) -> watch::Receiver<u64> {
        self.0.shared.outbox()
    }

    /// The time to go by: it stands still while the clock is not believed, and goes back only by a reset.
    pub fn believed_now(&self) -> Timestamp {
        let clock = self.clock();
        match (clock.effective, clock.paused) {
            (Some(effective), Some(_)) => effective,
            (effective, _) => clock.wall.max(effective.unwrap_or(clock.wall)),
        }
    }

    /// The sinks that the config names.
    pub fn configured_sinks(&self) -> &[SinkDefinition] {
        &self.0.sinks
    }

    /// Notes what is known of a sink beyond the log.
    pub fn set_sink_health(&self, sink: &str, health: SinkHealth) {
        self.0.sink_health.lock().insert(sink.to_owned(), health);
    }

    pub fn sink_health(&self, sink: &str) -> Option<SinkHealth> {
        self.0.sink_health.lock().get(sink).cloned()
    }

    /// What the engine makes of the machine's clock.
    pub fn clock(&self) -> ClockStatus {
        let wall = self.now();
        let known = self.0.shared.clock_status();
        known.map_or(ClockStatus { wall, effective: None, paused: None }, |known| ClockStatus { wall, ..known })
    }

    pub fn view(&self) -> View {
        self.0.view.clone()
    }

    /// The way from what is billed back to the events.
    pub fn evidence(&self) -> Evidence {
        self.0.evidence.clone()
    }

    /// Computes what is to be taken back.
    pub fn planner(&self) -> Planner {
        let (evidence, durable, failure) = (self.evidence(), self.0.shared.durable(), Some(self.failure()));
        Planner::new(self.view(), Box::new(retract::Journaled { evidence, durable, failure }))
    }

    pub fn health(&self) -> Health {
        let failure = self.0.shared.failure().borrow().clone();
        let reason = match failure {
            Some(failure) => Some(failure.to_string()),
            None => self.0.shared.gate.admit(0).err().map(|refusal| refusal.to_string()),
        };
        Health {
            ready: reason.is_none(),
            reason,
            durable: *self.0.shared.durable().borrow(),
            indexed: self.0.batches.index_position(),
            queue_bytes: self.0.shared.gate.bytes(),
        }
    }

    /// Resolves to something once the engine has failed; then the process must end.
    pub fn failure(&self) -> watch::Receiver<Option<Failure>> {
        self.0.shared.failure()
    }

    /// Lets nothing in from now on.
    pub fn close(&self) {
        self.0.shared.gate.stop();
    }

    /// Finishes what has arrived, brings the store up to date and ends the threads. Blocks.
    pub fn stop(&self) {
        self.close();
        let Some(threads) = self.0.threads.lock().take() else { return };
        // The writer is gone already if the engine has failed.
        let _ = self.0.requests.send(Message::Stop);
        threads.join();
    }
}

/// The meters that a store knows, in the order of their numbers.
pub fn recorded_meters(store: &dyn Store) -> Result<Vec<Definition>, LoadError> {
    State::load_definitions(store)
}
