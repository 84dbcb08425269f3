//! Attempts under way: a task each, so that one that panics or hangs harms nobody else.
//!
//! 1. An attempt ends within `time_out`, reading its rows aside.
//! 2. A panic is a failure of the sink like any other, and is logged as what it is.
//! 3. When this is dropped, what is under way is cut off.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::{Id, JoinError, JoinSet, spawn_blocking};

use super::log::Log;
use crate::delivery::transport::{Failure, Message, Sent, Transport};
use crate::engine::{Delivery, OutboxRow};
use crate::model::{Duration, Timestamp};

pub struct Attempts {
    log: Arc<dyn Log>,
    transport: Arc<dyn Transport>,
    time_out: Duration,
    tasks: JoinSet<(End, Duration)>,
    begun: HashMap<Id, Begun>,
}

struct Begun {
    delivery: Delivery,
    at: Timestamp,
    mono: Duration,
}

pub enum End {
    Sent(Sent),
    /// The rows are not there, or cannot be read: the sink has no part in it.
    NoRows,
}

pub struct Ended {
    pub delivery: Delivery,
    pub began: Timestamp,
    pub took: Duration,
    pub end: End,
}

type Joined = Result<(Id, (End, Duration)), JoinError>;

impl Attempts {
    pub fn new(log: Arc<dyn Log>, transport: Arc<dyn Transport>, time_out: Duration) -> Self {
        Self { log, transport, time_out, tasks: JoinSet::new(), begun: HashMap::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.begun.is_empty()
    }

    /// `rows`: the delivery's, if they are at hand.
    pub fn begin(&mut self, delivery: Delivery, rows: Option<Vec<OutboxRow>>, now: Timestamp) {
        let begun = Begun { delivery: delivery.clone(), at: now, mono: self.log.monotonic() };
        let (log, transport, time_out) = (self.log.clone(), self.transport.clone(), self.time_out);
        let task = self.tasks.spawn(async move {
            let rows = match rows {
                Some(rows) => Some(rows),
                None => read(&log, &delivery).await,
            };
            let Some(rows) = rows.filter(|rows| !rows.is_empty()) else { return (End::NoRows, Duration::ZERO) };
            let (id, kind, planned_at) = (delivery.id, delivery.kind, delivery.planned_at);
            let message = Message { id, kind, planned_at, now: log.wall(), rows };
            let began = log.monotonic();
            let sent = send(&*transport, &message, time_out).await;
            (End::Sent(sent), log.monotonic().saturating_sub(began))
        });
        self.begun.insert(task.id(), begun);
    }

    /// Waits for the next attempt to end; for ever, if none is under way. May be dropped without loss.
    pub async fn next(&mut self) -> Ended {
        loop {
            let Some(joined) = self.tasks.join_next_with_id().await else { return std::future::pending().await };
            if let Some(ended) = self.ended(joined) {
                return ended;
            }
        }
    }

    /// The next one that has ended already.
    pub fn try_next(&mut self) -> Option<Ended> {
        while let Some(joined) = self.tasks.try_join_next_with_id() {
            if let Some(ended) = self.ended(joined) {
                return Some(ended);
            }
        }
        None
    }

    fn ended(&mut self, joined: Joined) -> Option<Ended> {
        let id = joined.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Begun { delivery, at: began, mono } = self.begun.remove(&id)?;
        let (end, took) = joined.map(|(_, end)| end).unwrap_or_else(|error| {
            tracing::error!(sink = &*delivery.sink, delivery = %delivery.id, %error, "an attempt broke down");
            let sent = Sent::failed(Failure::Unavailable, "the attempt broke down inside meterd");
            (End::Sent(sent), self.log.monotonic().saturating_sub(mono))
        });
        Some(Ended { delivery, began, took, end })
    }
}

async fn send(transport: &dyn Transport, message: &Message, time_out: Duration) -> Sent {
    tokio::time::timeout(time_out.to_std(), transport.send(message)).await.unwrap_or_else(|_| {
        Sent::failed(Failure::Unavailable, format!("timed out after {} s", time_out.to_std().as_secs_f64()))
    })
}

async fn read(log: &Arc<dyn Log>, delivery: &Delivery) -> Option<Vec<OutboxRow>> {
    let (log, wanted) = (log.clone(), delivery.clone());
    match spawn_blocking(move || log.payload(&wanted)).await {
        Ok(Ok(rows)) => rows,
        Ok(Err(error)) => {
            tracing::error!(sink = &*delivery.sink, delivery = %delivery.id, %error, "its rows cannot be read");
            None
        }
        Err(error) => {
            tracing::error!(sink = &*delivery.sink, delivery = %delivery.id, %error, "its rows cannot be read");
            None
        }
    }
}
