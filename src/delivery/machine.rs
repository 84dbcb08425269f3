//! What one sink is to do next, and what an attempt's outcome means. Pure: it is told the time and what the log says, and
//! answers with steps that the worker takes.
//!
//! | a delivery is | when |
//! | --- | --- |
//! | busy | an attempt is under way |
//! | postponed | its rows could not be had: for a second, or until the outbox has changed |
//! | ready | it is due, or failed before the receiver was back (the breaker closed, the sink was resumed, it took a message after refusing many in a row): it gets what it missed, at once |
//! | waiting | else |
//!
//! | ready ones, when the breaker is | are |
//! | --- | --- |
//! | closed | sent, up to `max_in_flight`; one at a time from a SlowDown to the next success; none while that holds |
//! | open | recorded as failed attempts, which takes them along the schedule, a few at a time; but while there is one that an operator has just replayed, it is probed with that |
//! | open and cooled down | probed with: the first of them, once nothing else is under way; if none is ready, the first that waits, ahead of its time |
//! | half-open | left until the probe is back |
//!
//! 1. Nothing is started for a paused sink: no attempt, no failure, no plan.
//! 2. Every outcome is one operation: delivered, failed, dead; or the sink is paused, and the delivery stays as it is. Only a
//!    probe ahead of its time that fails is none: it tells of the receiver, and the delivery's schedule goes on as it was.
//! 3. It rests on the log alone: breaker, throttle and what is busy may be forgotten in a restart, and nothing is lost.
//! 4. Nothing is planned while enough is ready: rows that wait fill messages better. A sink that is cut off is planned for
//!    all the same, up to `max_pending`, so that what it misses becomes a dead letter in time.

use std::collections::{HashMap, HashSet};

use crate::delivery::breaker::{Admission, Breaker};
use crate::delivery::policy::Policy;
use crate::delivery::transport::{Failure, Outcome, Sent};
use crate::engine::{
    Attempt, BreakerState, Delivery, DeliveryId, DeliveryOperation, DeliveryState, PauseCause, SinkHealth, SinkPause,
    SinkWork,
};
use crate::model::{Duration, Seq, Timestamp};

#[cfg(test)]
mod tests;
mod throttle;

use throttle::Throttle;

/// Failures that an open breaker causes in one step.
const FAST_FAILURES_MAX: usize = 64;
/// Deliveries planned in one step.
const PLANS_MAX: usize = 16;
/// From so many ready deliveries on no more are planned.
const READY_ENOUGH: usize = 16;
/// For how long a delivery is left alone whose rows could not be had.
const POSTPONED: Duration = Duration::from_secs(1);

pub const CIRCUIT_OPEN: &str = "circuit open: not sent";

/// One sink's.
#[derive(Debug)]
pub struct Machine {
    policy: Policy,
    rng: fastrand::Rng,
    breaker: Breaker,
    throttle: Throttle,
    /// When the breaker closed or the sink was resumed, or it took a message after refusing many; none once it is cut off
    /// again.
    back_since: Option<Timestamp>,
    /// Messages that it has refused since it took one.
    refused: u32,
    was_paused: bool,
    busy: HashSet<Seq>,
    /// The probe under way, if it is ahead of its time.
    early: Option<Seq>,
    /// Until when.
    postponed: HashMap<Seq, Timestamp>,
    last_success: Option<Timestamp>,
    last_error: Option<(Timestamp, String)>,
}

/// What is to be done now.
#[derive(Debug, Default)]
pub struct Steps {
    /// To be recorded; these were not sent.
    pub failures: Vec<DeliveryOperation>,
    /// To be sent; busy from here on, until `finished` or `postpone`.
    pub send: Vec<Delivery>,
    /// So many deliveries may be planned.
    pub plan: usize,
    /// When there will be more to do, if nothing happens before.
    pub wake: Option<Timestamp>,
}

impl Machine {
    pub fn new(policy: Policy, rng: fastrand::Rng) -> Self {
        Self {
            breaker: Breaker::new(policy.breaker),
            throttle: Throttle::new(policy.hold_max),
            policy,
            rng,
            back_since: None,
            refused: 0,
            was_paused: false,
            busy: HashSet::new(),
            early: None,
            postponed: HashMap::new(),
            last_success: None,
            last_error: None,
        }
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    pub fn health(&self) -> SinkHealth {
        SinkHealth {
            breaker: self.breaker.state(),
            in_flight: self.busy.len(),
            last_success: self.last_success,
            last_error: self.last_error.clone(),
        }
    }

    /// How many pending deliveries `step` has to see: those that are busy are among them.
    pub fn wants_pending(&self) -> usize {
        self.busy.len() + self.postponed.len() + self.policy.max_in_flight + FAST_FAILURES_MAX
    }

    /// Decides what to do; `work` knows of every outcome that was given out before.
    pub fn step(&mut self, now: Timestamp, work: &SinkWork) -> Steps {
        // A time further ahead than it was put is from a clock that has gone back.
        self.postponed.retain(|_, until| now < *until && *until <= now.saturating_add(POSTPONED));
        let was_paused = std::mem::replace(&mut self.was_paused, work.pause.is_some());
        if work.pause.is_some() {
            return Steps::default();
        }
        if was_paused {
            self.back_since = Some(now);
        }
        let ready: Vec<&Delivery> = work.pending.iter().filter(|delivery| self.is_ready(delivery, now)).collect();
        let held = self.throttle.held_until(now);
        let mut steps = Steps { plan: self.plans(work, ready.len()), ..Steps::default() };
        let asked_for: Vec<&Delivery> = ready.iter().copied().filter(|delivery| was_just_replayed(delivery)).collect();
        match self.breaker.admission(now) {
            Admission::Refused if !asked_for.is_empty() => {
                if self.busy.is_empty() && held.is_none() {
                    steps.send = self.begin(&asked_for, 1);
                }
            }
            Admission::Refused => {
                let first = ready.iter().take(FAST_FAILURES_MAX);
                steps.failures = first.map(|delivery| self.fail_fast(delivery, now)).collect();
            }
            Admission::Open | Admission::Probe if held.is_some() => {}
            Admission::Open => steps.send = self.begin(&ready, self.room()),
            Admission::Probe if self.busy.is_empty() && ready.is_empty() => steps.send = self.probe_early(work),
            Admission::Probe if self.busy.is_empty() => steps.send = self.begin(&ready, 1),
            Admission::Probe | Admission::Wait => {}
        }
        let held = held.filter(|_| !ready.is_empty() || self.breaker.admission(now) == Admission::Probe);
        steps.wake = held.into_iter().chain(self.next_ready(work, now)).chain(self.next_probe(work, now)).min();
        steps
    }

    /// An attempt that `step` gave out is over. Answers with what is to be recorded of it.
    pub fn finished(
        &mut self,
        now: Timestamp,
        delivery: &Delivery,
        sent: Sent,
        began: Timestamp,
        took: Duration,
    ) -> Option<DeliveryOperation> {
        self.busy.remove(&delivery.id.seq);
        let was_early = self.early.take_if(|early| *early == delivery.id.seq).is_some();
        let attempt = Attempt { at: began, took, status: sent.status, error: String::new(), answer: sent.answer };
        match sent.outcome {
            Outcome::Delivered => {
                self.learn_success(now);
                Some(DeliveryOperation::Delivered { delivery: delivery.id, attempt: attempt.shortened() })
            }
            Outcome::Failed(failure, error) => {
                let error = if error.is_empty() { "no reason was given".to_owned() } else { error };
                let attempt = Attempt { error, ..attempt }.shortened();
                self.learn_failure(now, failure, &attempt.error);
                let is_final = matches!(failure, Failure::Never | Failure::Gone | Failure::Misfit);
                (is_final || !was_early).then(|| self.failure(now, delivery, failure, attempt))
            }
        }
    }

    /// An attempt that `step` gave out was not made: the rows could not be had.
    pub fn postpone(&mut self, now: Timestamp, delivery: DeliveryId) {
        self.busy.remove(&delivery.seq);
        self.early.take_if(|early| *early == delivery.seq);
        self.breaker.abandon(now);
        self.postponed.insert(delivery.seq, now.saturating_add(POSTPONED));
    }

    /// Rows that could not be had may be there now.
    pub fn outbox_changed(&mut self) {
        self.postponed.clear();
    }

    fn is_ready(&self, delivery: &Delivery, now: Timestamp) -> bool {
        let id = delivery.id.seq;
        !self.busy.contains(&id) && !self.postponed.contains_key(&id) && self.is_due(delivery, now)
    }

    fn is_due(&self, delivery: &Delivery, now: Timestamp) -> bool {
        self.policy.is_due(delivery.failures, self.due(delivery), now) || self.failed_before(delivery, now)
    }

    /// Whether it failed last before the receiver was back.
    fn failed_before(&self, delivery: &Delivery, now: Timestamp) -> bool {
        let failed = |attempt: &Attempt| attempt.at.saturating_add(attempt.took);
        let last = delivery.last_attempt.as_ref().map(failed);
        // A time ahead of now is from a clock that has gone back.
        last.is_some_and(|last| self.back_since.is_some_and(|since| last < since && since <= now))
    }

    /// The first attempt has a delay of its own; the log puts it at the time of planning, and a replay at its own time.
    fn due(&self, delivery: &Delivery) -> Timestamp {
        let DeliveryState::Pending { due } = delivery.state else { return Timestamp::MAX };
        let first_delay = self.policy.schedule.first().copied().unwrap_or(Duration::ZERO);
        match delivery.failures == 0 && delivery.replays == 0 {
            true => due.max(delivery.planned_at.saturating_add(first_delay)),
            false => due,
        }
    }

    /// When the first of those that are neither ready nor busy will be.
    fn next_ready(&self, work: &SinkWork, now: Timestamp) -> Option<Timestamp> {
        let waiting = work.pending.iter().filter(|delivery| !self.busy.contains(&delivery.id.seq));
        let at = waiting.filter_map(|delivery| match self.postponed.get(&delivery.id.seq) {
            Some(until) => Some(*until),
            None => Some(self.due(delivery)).filter(|_| !self.is_due(delivery, now)),
        });
        at.min()
    }

    /// When the cool-down ends, if there is something to probe with.
    fn next_probe(&self, work: &SinkWork, now: Timestamp) -> Option<Timestamp> {
        match self.breaker.state() {
            BreakerState::Open { until } if !work.pending.is_empty() => Some(until).filter(|until| now < *until),
            _ => None,
        }
    }

    /// How many more attempts may be under way.
    fn room(&self) -> usize {
        let most = if self.throttle.is_slowed() { 1 } else { self.policy.max_in_flight };
        most.saturating_sub(self.busy.len())
    }

    fn plans(&self, work: &SinkWork, ready: usize) -> usize {
        let is_closed = self.breaker.state() == BreakerState::Closed;
        if is_closed && ready >= READY_ENOUGH {
            return 0;
        }
        self.policy.max_pending.saturating_sub(work.pending_total).min(PLANS_MAX)
    }

    /// Whether the receiver is back is worth knowing before anything is due.
    fn probe_early(&mut self, work: &SinkWork) -> Vec<Delivery> {
        let free = |delivery: &&Delivery| !self.postponed.contains_key(&delivery.id.seq);
        let first: Vec<&Delivery> = work.pending.iter().find(free).into_iter().collect();
        self.early = first.first().map(|delivery| delivery.id.seq);
        self.begin(&first, 1)
    }

    fn begin(&mut self, ready: &[&Delivery], most: usize) -> Vec<Delivery> {
        let first = &ready[..most.min(ready.len())];
        if !first.is_empty() {
            self.breaker.begin();
        }
        self.busy.extend(first.iter().map(|delivery| delivery.id.seq));
        first.iter().copied().cloned().collect()
    }

    fn fail_fast(&mut self, delivery: &Delivery, now: Timestamp) -> DeliveryOperation {
        let (error, answer) = (CIRCUIT_OPEN.to_owned(), String::new());
        let attempt = Attempt { at: now, took: Duration::ZERO, status: None, error, answer };
        self.failed_or_dead(now, delivery, attempt, None)
    }

    fn learn_success(&mut self, now: Timestamp) {
        self.throttle.relax();
        self.last_success = Some(now);
        // One bad message is none of the others' concern; many in a row were the receiver's state, and that is over.
        if std::mem::take(&mut self.refused) >= self.policy.breaker.failures {
            self.back_since = Some(now);
        }
        self.learn_reached(now);
    }

    fn learn_reached(&mut self, now: Timestamp) {
        if self.breaker.reached() {
            self.back_since = Some(now);
        }
    }

    fn learn_failure(&mut self, now: Timestamp, failure: Failure, error: &str) {
        self.last_error = Some((now, error.to_owned()));
        self.refused = self.refused.saturating_add(u32::from(failure == Failure::Refused));
        match failure {
            Failure::Refused | Failure::Never | Failure::Gone | Failure::Misfit => return self.learn_reached(now),
            Failure::SlowDown { retry_after } => self.throttle.slow_down(now, retry_after.map(span)),
            Failure::Unavailable => {}
        }
        if self.breaker.failed(now) {
            self.back_since = None;
        }
    }

    fn failure(&mut self, now: Timestamp, of: &Delivery, failure: Failure, attempt: Attempt) -> DeliveryOperation {
        let retry_after = match failure {
            Failure::Gone => return pause(of, PauseCause::Gone, attempt.error, now),
            Failure::Misfit => return pause(of, PauseCause::Misfit, attempt.error, now),
            Failure::Never => return DeliveryOperation::Dead { delivery: of.id, attempt },
            Failure::SlowDown { retry_after } => retry_after.map(span),
            Failure::Unavailable | Failure::Refused => None,
        };
        self.failed_or_dead(now, of, attempt, retry_after)
    }

    fn failed_or_dead(
        &mut self,
        now: Timestamp,
        of: &Delivery,
        attempt: Attempt,
        retry_after: Option<Duration>,
    ) -> DeliveryOperation {
        let (delivery, failures) = (of.id, of.failures.saturating_add(1));
        match self.policy.next_due(failures, now, retry_after, &mut self.rng) {
            Some(due) => DeliveryOperation::Failed { delivery, attempt, due },
            None => DeliveryOperation::Dead { delivery, attempt },
        }
    }
}

/// Whoever replayed it says that the receiver is back, and wants to see.
fn was_just_replayed(delivery: &Delivery) -> bool {
    delivery.replays > 0 && delivery.failures == 0
}

fn pause(delivery: &Delivery, cause: PauseCause, reason: String, at: Timestamp) -> DeliveryOperation {
    DeliveryOperation::Pause { sink: delivery.sink.to_string(), pause: SinkPause { cause, reason, at } }
}

fn span(span: std::time::Duration) -> Duration {
    Duration::from_micros(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
}
