//! One sink's task: looks at the log, does what the machine says, and records what came of it.
//!
//! A round: what has ended is recorded → the sink's work is looked at, and waited for until it is durable → the machine
//! decides → failures and plans are recorded, attempts begin → rest, until an attempt ends, the outbox changes, it is
//! time, or the daemon stops.
//!
//! 1. Nothing is acted upon that is not durable: neither what was seen nor what was recorded.
//! 2. Every operation is answered before the next look, so that the log and the machine agree on what is pending.
//! 3. An engine that takes nothing at present is asked again each second; one that has ended ends the worker.
//! 4. On shutdown nothing is started, and what is under way has `ENDS_WITHIN` to end and be recorded. What is cut off
//!    is sent again after the restart, under the same id.
//! 5. Memory holds the rows of what is under way, and `ROWS_KEPT_MAX` rows of what was planned last; other rows are read
//!    when they are sent.

use std::sync::Arc;
use std::time::Duration as StdDuration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::delivery::machine::{Machine, Steps};
use crate::delivery::transport::Outcome;
use crate::delivery::{Policy, Transport};
use crate::engine::{BreakerState, DeliveryOperation, Done, Failure, Refused, SinkHealth, SinkWork};
use crate::model::{Duration, Seq, Timestamp};

mod attempts;
mod fill;
pub mod log;
mod meters;
mod plan;
#[cfg(test)]
mod tests;

use attempts::{Attempts, End, Ended};
use log::Log;
use meters::Meters;
use plan::Kept;

/// What is under way at shutdown may take so long.
pub const ENDS_WITHIN: StdDuration = StdDuration::from_secs(2);
/// An engine that took nothing, and rows that could not be read or planned, are tried again after this.
const RETRY: Duration = Duration::from_secs(1);
/// The longest rest while something is due later: the clock that schedules go by may be set meanwhile.
const REST_MAX: StdDuration = StdDuration::from_secs(1);
/// The longest rest while nothing is.
const IDLE_MAX: StdDuration = StdDuration::from_secs(10);

pub struct Worker {
    sink: Arc<str>,
    log: Arc<dyn Log>,
    transport: Arc<dyn Transport>,
    machine: Machine,
    attempts: Attempts,
    kept: Kept,
    /// There may be rows that are not planned.
    rows_wait: bool,
    changed: watch::Receiver<u64>,
    durable: watch::Receiver<Seq>,
    failure: watch::Receiver<Option<Failure>>,
    meters: Meters,
    shown: Option<SinkHealth>,
    shutdown: CancellationToken,
}

/// The engine has ended, and answers nothing any more.
#[derive(Debug)]
struct EngineEnded;

enum Next {
    Again,
    /// Until then, or until something happens.
    Rest(Option<Timestamp>),
}

impl Worker {
    pub fn new(
        sink: Arc<str>,
        policy: Policy,
        transport: Arc<dyn Transport>,
        log: Arc<dyn Log>,
        rng: fastrand::Rng,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            attempts: Attempts::new(log.clone(), transport.clone(), policy.time_out),
            machine: Machine::new(policy, rng),
            kept: Kept::default(),
            rows_wait: true,
            changed: log.changed(),
            durable: log.durable(),
            failure: log.failure(),
            meters: Meters::new(&sink),
            shown: None,
            sink,
            log,
            transport,
            shutdown,
        }
    }

    /// Returns after a shutdown, or when the engine has ended.
    pub async fn run(mut self) {
        let (sink, shutdown) = (self.sink.clone(), self.shutdown.clone());
        let too_late = async {
            shutdown.cancelled().await;
            tokio::time::sleep(ENDS_WITHIN).await;
        };
        tokio::select! {
            biased;
            ended = self.work() => if ended.is_err() {
                tracing::debug!(sink = &*sink, "delivery ends: the engine has ended");
            },
            () = too_late => tracing::warn!(
                sink = &*sink,
                "attempts were still under way at shutdown; they will be made again, under the same ids"
            ),
        }
    }

    async fn work(&mut self) -> Result<(), EngineEnded> {
        while !self.shutdown.is_cancelled() {
            if let Next::Rest(wake) = self.round().await? {
                self.rest(wake).await?;
            }
        }
        while !self.attempts.is_empty() {
            let ended = self.attempts.next().await;
            self.finish(Some(ended)).await?;
        }
        Ok(())
    }

    async fn round(&mut self) -> Result<Next, EngineEnded> {
        self.finish(None).await?;
        if self.changed.has_changed().map_err(|_| EngineEnded)? {
            self.note_change();
        }
        let Some(work) = self.log.work(&self.sink, self.machine.wants_pending()) else {
            tracing::error!(sink = &*self.sink, "the log does not know this sink");
            return Ok(Next::Rest(None));
        };
        self.wait_durable(work.seq).await?;
        // A pause that came meanwhile holds from now on.
        let is_paused = |work: &SinkWork| work.pause.is_some();
        if self.shutdown.is_cancelled()
            || self.log.work(&self.sink, 0).is_some_and(|now| is_paused(&now) != is_paused(&work))
        {
            return Ok(Next::Again);
        }
        let breaker = self.machine.health().breaker;
        let now = self.log.now();
        let steps = self.machine.step(now, &work);
        self.note_breaker(breaker);
        self.show(&work);
        self.take(steps, &work, now).await
    }

    async fn take(&mut self, steps: Steps, work: &SinkWork, now: Timestamp) -> Result<Next, EngineEnded> {
        let acted = !steps.failures.is_empty();
        for delivery in steps.send {
            let rows = self.kept.take(delivery.id);
            self.attempts.begin(delivery, rows, now);
        }
        self.meters.failed_fast(steps.failures.len());
        self.record(steps.failures).await?;
        if steps.plan == 0 || !self.rows_wait {
            return Ok(if acted { Next::Again } else { Next::Rest(steps.wake) });
        }
        let planned = self.plan(work, steps.plan).await?;
        // Rows that still wait could not be read or planned.
        let retry = self.rows_wait.then(|| now.saturating_add(RETRY));
        let wake = steps.wake.into_iter().chain(retry).min();
        Ok(if acted || planned { Next::Again } else { Next::Rest(wake) })
    }

    async fn rest(&mut self, wake: Option<Timestamp>) -> Result<(), EngineEnded> {
        let now = self.log.now();
        let until =
            |wake: Timestamp| StdDuration::from_micros(wake.micros().saturating_sub(now.micros()).max(0) as u64);
        let longest = wake.map_or(IDLE_MAX, |wake| until(wake).min(REST_MAX));
        let ended = tokio::select! {
            changed = self.changed.changed() => {
                changed.map_err(|_| EngineEnded)?;
                self.note_change();
                None
            }
            ended = self.attempts.next() => Some(ended),
            () = tokio::time::sleep(longest) => None,
            () = self.shutdown.cancelled() => None,
        };
        self.finish(ended).await
    }

    fn note_change(&mut self) {
        self.changed.mark_unchanged();
        self.machine.outbox_changed();
        self.rows_wait = true;
    }

    /// Records what became of this attempt, and of all others that have ended by now.
    async fn finish(&mut self, first: Option<Ended>) -> Result<(), EngineEnded> {
        let (mut next, mut operations) = (first.or_else(|| self.attempts.try_next()), Vec::new());
        while let Some(ended) = next {
            operations.extend(self.learn(ended));
            next = self.attempts.try_next();
        }
        self.record(operations).await?;
        Ok(())
    }

    /// What is to be recorded of an attempt.
    fn learn(&mut self, ended: Ended) -> Option<DeliveryOperation> {
        let Ended { delivery, began, took, end } = ended;
        let now = self.log.now();
        let End::Sent(sent) = end else {
            self.machine.postpone(now, delivery.id);
            return None;
        };
        tracing::debug!(sink = &*self.sink, delivery = %delivery.id, ?sent.outcome, sent.status, "an attempt ended");
        let delivered_rows = (sent.outcome == Outcome::Delivered).then_some(delivery.rows);
        self.meters.attempted(delivered_rows, took);
        let breaker = self.machine.health().breaker;
        let operation = self.machine.finished(now, &delivery, sent, began, took);
        self.note_breaker(breaker);
        operation
    }

    /// Has operations made durable, in order. Answers with what each came to.
    async fn record(&mut self, operations: Vec<DeliveryOperation>) -> Result<Vec<Done>, EngineEnded> {
        let mut answers = Vec::with_capacity(operations.len());
        for operation in &operations {
            answers.push(self.hand_over(operation).await?);
        }
        let mut all = Vec::with_capacity(operations.len());
        for (answer, operation) in answers.into_iter().zip(&operations) {
            let done = answer.await.map_err(|_| EngineEnded)?.done;
            self.note_done(operation, &done);
            all.push(done);
        }
        Ok(all)
    }

    async fn hand_over(
        &mut self,
        operation: &DeliveryOperation,
    ) -> Result<tokio::sync::oneshot::Receiver<crate::engine::Answer>, EngineEnded> {
        loop {
            match self.log.record(operation.clone()) {
                Ok(answer) => return Ok(answer),
                Err(refusal) => tracing::debug!(sink = &*self.sink, %refusal, "an operation has to wait"),
            }
            if self.failure.borrow().is_some() {
                return Err(EngineEnded);
            }
            tokio::time::sleep(RETRY.to_std()).await;
        }
    }

    async fn wait_durable(&mut self, seq: Seq) -> Result<(), EngineEnded> {
        tokio::select! {
            reached = self.durable.wait_for(|durable| *durable >= seq) => reached.map(drop).map_err(|_| EngineEnded),
            _ = self.failure.wait_for(Option::is_some) => Err(EngineEnded),
        }
    }

    fn show(&mut self, work: &SinkWork) {
        let health = self.machine.health();
        self.meters.show(work, &health);
        if self.shown.as_ref() != Some(&health) {
            self.log.set_health(&self.sink, health.clone());
            self.shown = Some(health);
        }
    }

    fn note_done(&mut self, operation: &DeliveryOperation, done: &Done) {
        let sink = &*self.sink;
        match (operation, done) {
            (DeliveryOperation::Dead { delivery, .. }, Done::Refused(Refused::NotCommitted)) => {
                self.machine.postpone(self.log.now(), *delivery);
            }
            (_, Done::Refused(refused)) => {
                // An operator was faster.
                tracing::debug!(sink, %refused, ?operation, "an operation changed nothing");
            }
            (DeliveryOperation::Dead { delivery, attempt }, _) => {
                self.meters.died();
                self.kept.take(*delivery);
                tracing::warn!(sink, %delivery, error = attempt.error, status = attempt.status, "a delivery is a dead letter");
            }
            (DeliveryOperation::Failed { delivery, .. }, _) => drop(self.kept.take(*delivery)),
            // That a sink is paused is logged by the writer, once.
            _ => {}
        }
    }

    fn note_breaker(&self, before: BreakerState) {
        let (sink, health) = (&*self.sink, self.machine.health());
        let error = health.last_error.map_or(String::new(), |(_, error)| error);
        match (before, health.breaker) {
            (BreakerState::Closed, BreakerState::Open { until }) => {
                tracing::warn!(sink, %until, error, "the sink is cut off: too many failures in a row");
            }
            (BreakerState::HalfOpen | BreakerState::Open { .. }, BreakerState::Closed) => {
                tracing::info!(sink, "the sink is back");
            }
            _ => {}
        }
    }
}
