//! What a worker needs of the engine, and no more: tests put a plain log in its place.

use tokio::sync::{oneshot, watch};

use crate::engine::{
    Answer, Delivery, DeliveryOperation, Engine, Failure, OutboxRow, ReadError, Refusal, SinkHealth, SinkWork,
};
use crate::model::{Duration, OutboxPosition, RowKind, Seq, Timestamp};

pub trait Log: Send + Sync + 'static {
    /// What a sink has to do; nothing of it may be acted upon before its seq is durable. `None`: there is no such sink.
    fn work(&self, sink: &str, pending: usize) -> Option<SinkWork>;

    /// Committed rows of a kind, from a place on. Blocks.
    fn outbox(&self, kind: RowKind, from: OutboxPosition, limit: usize) -> Result<Vec<OutboxRow>, ReadError>;

    /// A delivery's rows; `None`: they are not committed yet. Blocks.
    fn payload(&self, delivery: &Delivery) -> Result<Option<Vec<OutboxRow>>, ReadError>;

    /// Answered once it is durable; if the sender is dropped, the engine has ended.
    fn record(&self, operation: DeliveryOperation) -> Result<oneshot::Receiver<Answer>, Refusal>;

    /// Ticks when there may be more to do than was seen.
    fn changed(&self) -> watch::Receiver<u64>;

    fn durable(&self) -> watch::Receiver<Seq>;

    fn failure(&self) -> watch::Receiver<Option<Failure>>;

    /// The time that schedules go by.
    fn now(&self) -> Timestamp;

    /// What the machine's clock shows: receivers compare it with theirs.
    fn wall(&self) -> Timestamp;

    /// The time that attempts are measured by.
    fn monotonic(&self) -> Duration;

    fn set_health(&self, sink: &str, health: SinkHealth);
}

impl Log for Engine {
    fn work(&self, sink: &str, pending: usize) -> Option<SinkWork> {
        self.view().sink_work(sink, pending)
    }

    fn outbox(&self, kind: RowKind, from: OutboxPosition, limit: usize) -> Result<Vec<OutboxRow>, ReadError> {
        self.view().outbox(kind, from, limit)
    }

    fn payload(&self, delivery: &Delivery) -> Result<Option<Vec<OutboxRow>>, ReadError> {
        self.view().payload(delivery)
    }

    fn record(&self, operation: DeliveryOperation) -> Result<oneshot::Receiver<Answer>, Refusal> {
        self.deliver(operation)
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.outbox_changed()
    }

    fn durable(&self) -> watch::Receiver<Seq> {
        self.view().durable()
    }

    fn failure(&self) -> watch::Receiver<Option<Failure>> {
        Engine::failure(self)
    }

    fn now(&self) -> Timestamp {
        self.believed_now()
    }

    fn wall(&self) -> Timestamp {
        Engine::now(self)
    }

    fn monotonic(&self) -> Duration {
        Engine::monotonic(self)
    }

    fn set_health(&self, sink: &str, health: SinkHealth) {
        self.set_sink_health(sink, health);
    }
}
