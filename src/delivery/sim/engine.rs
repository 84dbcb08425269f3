//! An engine without a journal, and a way out without a receiver: for tests of workers, in real time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration as StdDuration, Instant};

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::{SimLog, start};
use crate::delivery::transport::{Failure, Limits, Message, Sending, Sent, Transport};
use crate::delivery::worker::log::Log;
use crate::engine::{
    Answer, Delivery, DeliveryOperation, Failure as EngineFailure, OutboxRow, ReadError, Refusal, SinkHealth, SinkWork,
};
use crate::model::{Duration, OutboxPosition, RowKind, RowKinds, Seq, Timestamp};

/// Far more than a log gets of records.
const SEQS_PER_SINK: u64 = 1_000_000;

pub struct SimEngine {
    logs: Mutex<Vec<SimLog>>,
    changed: watch::Sender<u64>,
    pub durable: watch::Sender<Seq>,
    pub failure: watch::Sender<Option<EngineFailure>>,
    started: Instant,
    pub refuses: AtomicBool,
    pub drops_answers: AtomicBool,
    pub has_no_rows: AtomicBool,
    health: Mutex<HashMap<String, SinkHealth>>,
}

impl SimEngine {
    /// Everything is durable at once.
    pub fn new(sinks: &[&str], kinds: RowKinds) -> Arc<Self> {
        let logs = sinks.iter().zip(0..).map(|(sink, n)| SimLog::of(sink, Seq(1 + n * SEQS_PER_SINK), kinds));
        Arc::new(Self {
            logs: Mutex::new(logs.collect()),
            changed: watch::Sender::new(0),
            durable: watch::Sender::new(Seq(u64::MAX)),
            failure: watch::Sender::new(None),
            started: Instant::now(),
            refuses: AtomicBool::new(false),
            drops_answers: AtomicBool::new(false),
            has_no_rows: AtomicBool::new(false),
            health: Mutex::new(HashMap::new()),
        })
    }

    /// Looks at, or changes, a sink's log.
    pub fn with<T>(&self, sink: &str, look: impl FnOnce(&mut SimLog) -> T) -> T {
        look(self.logs.lock().iter_mut().find(|log| log.sink == sink).expect("a sink of this engine"))
    }

    pub fn add_rows(&self, sink: &str, kind: RowKind, count: u32) {
        self.with(sink, |log| log.add_rows(kind, count));
        self.tick();
    }

    pub fn tick(&self) {
        self.changed.send_modify(|ticks| *ticks += 1);
    }

    pub fn health(&self, sink: &str) -> Option<SinkHealth> {
        self.health.lock().get(sink).cloned()
    }

    fn apply(&self, operation: DeliveryOperation) -> Answer {
        let mut logs = self.logs.lock();
        let place = match &operation {
            DeliveryOperation::Failed { delivery, .. }
            | DeliveryOperation::Delivered { delivery, .. }
            | DeliveryOperation::Dead { delivery, .. } => usize::try_from(delivery.seq.0 / SEQS_PER_SINK).ok(),
            DeliveryOperation::Plan { sink, .. } | DeliveryOperation::Pause { sink, .. } => {
                logs.iter().position(|log| log.sink == *sink)
            }
            other => panic!("{other:?} is no worker's"),
        };
        let log = &mut logs[place.expect("a sink of this engine")];
        let done = log.apply(operation);
        Answer { outcomes: Vec::new(), seq: log.seq(), late: Vec::new(), done }
    }
}

impl Log for SimEngine {
    fn work(&self, sink: &str, pending: usize) -> Option<SinkWork> {
        self.logs.lock().iter().find(|log| log.sink == sink).map(|log| log.work(pending))
    }

    fn outbox(&self, kind: RowKind, from: OutboxPosition, limit: usize) -> Result<Vec<OutboxRow>, ReadError> {
        let logs = self.logs.lock();
        // Each sink's cursors begin at the first seq of its own log.
        let log = &logs[usize::try_from(from.seq.0 / SEQS_PER_SINK).unwrap_or(0)];
        Ok(log.outbox(kind, from, limit))
    }

    fn payload(&self, delivery: &Delivery) -> Result<Option<Vec<OutboxRow>>, ReadError> {
        let rows = self.with(&delivery.sink, |log| log.payload(delivery));
        Ok((!self.has_no_rows.load(Ordering::SeqCst)).then_some(rows))
    }

    fn record(&self, operation: DeliveryOperation) -> Result<oneshot::Receiver<Answer>, Refusal> {
        if self.refuses.load(Ordering::SeqCst) {
            return Err(Refusal::Overloaded);
        }
        let (reply, answer) = oneshot::channel();
        if !self.drops_answers.load(Ordering::SeqCst) {
            let _ = reply.send(self.apply(operation));
        }
        Ok(answer)
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn durable(&self) -> watch::Receiver<Seq> {
        self.durable.subscribe()
    }

    fn failure(&self) -> watch::Receiver<Option<EngineFailure>> {
        self.failure.subscribe()
    }

    fn now(&self) -> Timestamp {
        start().saturating_add(self.monotonic())
    }

    fn wall(&self) -> Timestamp {
        self.now()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.started.elapsed().as_micros() as u64)
    }

    fn set_health(&self, sink: &str, health: SinkHealth) {
        self.health.lock().insert(sink.to_owned(), health);
    }
}

/// How one attempt goes.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    Delivers,
    Fails(Failure),
    Takes(StdDuration),
    Hangs,
    Panics,
}

type Ways = Box<dyn FnMut(&Message) -> Way + Send>;

/// Remembers what it was to send.
pub struct SimTransport {
    limits: Limits,
    ways: Mutex<Ways>,
    pub sent: Mutex<Vec<Message>>,
    /// Panics that `limits` still has to give.
    pub broken: AtomicUsize,
}

impl SimTransport {
    /// Messages of at most four rows.
    pub fn new(ways: impl FnMut(&Message) -> Way + Send + 'static) -> Arc<Self> {
        let limits = Limits { rows: 4, bytes: 1_000 };
        let (ways, sent): (Mutex<Ways>, _) = (Mutex::new(Box::new(ways)), Mutex::default());
        Arc::new(Self { limits, ways, sent, broken: AtomicUsize::new(0) })
    }

    pub fn attempts(&self) -> usize {
        self.sent.lock().len()
    }
}

impl Transport for SimTransport {
    fn limits(&self, _kind: RowKind) -> Limits {
        let left = self.broken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert!(left.is_err(), "limits are broken");
        self.limits
    }

    fn row_bytes(&self, _row: &OutboxRow) -> usize {
        100
    }

    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        self.sent.lock().push(message.clone());
        let way = (self.ways.lock())(message);
        Box::pin(async move {
            match way {
                Way::Delivers => {}
                Way::Fails(failure) => return Sent::failed(failure, "no"),
                Way::Takes(span) => tokio::time::sleep(span).await,
                Way::Hangs => std::future::pending().await,
                Way::Panics => panic!("this transport is broken"),
            }
            Sent::delivered()
        })
    }
}
