//! A machine, a plain log and a receiver under a simulated clock; `World` checks at every attempt what must always hold.

use super::*;
use crate::delivery::sim::{self, SimLog, due};
use crate::engine::{BreakerState, Plan};
use crate::model::{RowKind, RowKinds};

mod dead;
mod receivers;
mod seeds;
mod units;

/// What a receiver answers, and after how long.
type Receiver = Box<dyn FnMut(Timestamp, &Delivery) -> (Sent, Duration)>;

/// Far more than any test does at one moment.
const ROUNDS_AT_ONCE_MAX: usize = 10_000;

struct UnderWay {
    delivery: Delivery,
    sent: Sent,
    began: Timestamp,
    ends: Timestamp,
}

struct World {
    now: Timestamp,
    log: SimLog,
    machine: Machine,
    receiver: Receiver,
    under_way: Vec<UnderWay>,
    /// Attempts that were made: when, of which delivery.
    made: Vec<(Timestamp, Seq)>,
    /// Breaker states, as they changed.
    states: Vec<(Timestamp, BreakerState)>,
    /// When the breaker last closed.
    closed: Option<Timestamp>,
    most_at_once: usize,
    rows_per_delivery: u32,
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn at(from_start_secs: u64) -> Timestamp {
    sim::start().saturating_add(secs(from_start_secs))
}

/// Exact delays.
fn policy() -> Policy {
    Policy { jitter_percent: 0, ..Policy::default() }
}

fn unavailable() -> Sent {
    Sent { status: Some(500), ..Sent::failed(Failure::Unavailable, "it answered 500") }
}

/// Takes a tenth of a second for the same answer every time.
fn always(sent: Sent) -> Receiver {
    Box::new(move |_, _| (sent.clone(), Duration::from_millis(100)))
}

/// Answers 500 until `from`.
fn back_from(from: Timestamp) -> Receiver {
    Box::new(move |now, _| {
        let sent = if now < from { unavailable() } else { Sent::delivered() };
        (sent, Duration::from_millis(100))
    })
}

impl World {
    fn new(policy: Policy, receiver: Receiver) -> Self {
        Self {
            now: sim::start(),
            log: SimLog::new(RowKinds::ALL),
            machine: Machine::new(policy, fastrand::Rng::with_seed(1)),
            receiver,
            under_way: Vec::new(),
            made: Vec::new(),
            states: Vec::new(),
            closed: None,
            most_at_once: 0,
            rows_per_delivery: 1,
        }
    }

    /// With so many rows, each of which becomes a delivery.
    fn with_rows(policy: Policy, receiver: Receiver, rows: u32) -> Self {
        let mut world = Self::new(policy, receiver);
        world.log.add_rows(RowKind::Windows, rows);
        world
    }

    fn run(&mut self, span: Duration) -> &mut Self {
        self.run_until(self.now.saturating_add(span))
    }

    /// Lets everything happen up to and including this moment.
    fn run_until(&mut self, end: Timestamp) -> &mut Self {
        loop {
            let wake = self.settle();
            let ends = self.under_way.iter().map(|attempt| attempt.ends).min();
            let next = wake.into_iter().chain(ends).min().filter(|next| *next <= end);
            let Some(next) = next else {
                self.now = self.now.max(end);
                return self;
            };
            assert!(next > self.now, "the machine wants to be woken at {next}, it is {}", self.now);
            self.now = next;
        }
    }

    /// Does what is to be done now; answers with when there is more.
    fn settle(&mut self) -> Option<Timestamp> {
        for _ in 0..ROUNDS_AT_ONCE_MAX {
            while let Some(place) = self.under_way.iter().position(|attempt| attempt.ends <= self.now) {
                self.finish(place);
            }
            let work = self.log.work(self.machine.wants_pending());
            let steps = self.machine.step(self.now, &work);
            let acted = !steps.failures.is_empty() || !steps.send.is_empty();
            steps.failures.into_iter().for_each(|operation| self.record_fast_failure(operation));
            steps.send.into_iter().for_each(|delivery| self.begin(delivery));
            self.note_state();
            if !self.plan(&work, steps.plan) && !acted {
                return steps.wake;
            }
        }
        panic!("the machine spins");
    }

    fn record_fast_failure(&mut self, operation: DeliveryOperation) {
        let (DeliveryOperation::Failed { attempt, .. } | DeliveryOperation::Dead { attempt, .. }) = &operation else {
            panic!("{operation:?} is no failure");
        };
        assert_eq!(attempt.error, CIRCUIT_OPEN);
        let BreakerState::Open { until } = self.machine.health().breaker else { panic!("the breaker is not open") };
        assert!(self.now < until && self.log.pause.is_none());
        self.log.apply(operation);
    }

    fn begin(&mut self, delivery: Delivery) {
        let policy = self.machine.policy().clone();
        assert_eq!(self.log.pause, None, "an attempt while it is paused");
        assert!(self.under_way.iter().all(|attempt| attempt.delivery.id != delivery.id), "twice at once");
        // When the breaker closed is seen from outside; that it was resumed or takes messages again only the machine says.
        let back = self.closed.max(self.machine.back_since);
        let kicked = back.zip(delivery.last_attempt.as_ref());
        let kicked = kicked.is_some_and(|(closed, last)| last.at.saturating_add(last.took) < closed);
        let is_probe = matches!(self.machine.health().breaker, BreakerState::HalfOpen);
        assert!(due(&delivery) <= self.now || kicked || is_probe, "{} is due at {}", delivery.id, due(&delivery));
        assert!((delivery.failures as usize) < policy.schedule.len());
        let (sent, took) = (self.receiver)(self.now, &delivery);
        let ends = self.now.saturating_add(took);
        self.made.push((self.now, delivery.id.seq));
        self.under_way.push(UnderWay { delivery, sent, began: self.now, ends });
        self.most_at_once = self.most_at_once.max(self.under_way.len());
        assert!(self.under_way.len() <= policy.max_in_flight);
        match self.machine.health().breaker {
            BreakerState::Closed => {}
            BreakerState::HalfOpen => assert_eq!(self.under_way.len(), 1, "the probe is alone"),
            BreakerState::Open { .. } => panic!("an attempt while the breaker is open"),
        }
    }

    fn finish(&mut self, place: usize) {
        let UnderWay { delivery, sent, began, ends } = self.under_way.remove(place);
        let took = Duration::from_micros(ends.micros().abs_diff(began.micros()));
        let operation = self.machine.finished(self.now, &delivery, sent, began, took);
        assert_eq!(self.machine.health().in_flight, self.under_way.len());
        operation.map(|operation| self.log.apply(operation));
        self.note_state();
    }

    fn note_state(&mut self) {
        let state = self.machine.health().breaker;
        let before = self.states.last().map_or(BreakerState::Closed, |(_, state)| *state);
        if state != before {
            self.states.push((self.now, state));
            if state == BreakerState::Closed {
                self.closed = Some(self.now);
            }
        }
    }

    fn plan(&mut self, work: &SinkWork, most: usize) -> bool {
        let mut plans = Vec::new();
        for (kind, from) in &work.cursors {
            let rows = self.log.outbox(*kind, *from, usize::MAX);
            plans.extend(rows.chunks(self.rows_per_delivery as usize).map(|rows| {
                let (first, last) = (rows[0].position, rows[rows.len() - 1].position);
                Plan { kind: *kind, first, last, rows: rows.len() as u32 }
            }));
        }
        plans.sort_by_key(|plan| plan.first);
        plans.truncate(most);
        let some = !plans.is_empty();
        if some {
            assert_eq!(self.log.pause, None, "a plan while it is paused");
            self.log.apply(DeliveryOperation::Plan { sink: sim::SINK.into(), plans, at: self.now });
            assert!(self.log.work(0).pending_total <= self.machine.policy().max_pending);
        }
        some
    }

    /// Seconds from the start at which attempts were made.
    fn made_at(&self) -> Vec<u64> {
        self.made.iter().map(|(at, _)| at.micros().abs_diff(sim::start().micros()) / 1_000_000).collect()
    }

    fn only(&self) -> &Delivery {
        assert_eq!(self.log.deliveries.len(), 1);
        self.log.deliveries.values().next().unwrap()
    }

    fn pause(&mut self) {
        let pause = SinkPause { cause: PauseCause::Operator, reason: "a look".to_owned(), at: self.now };
        self.log.apply(DeliveryOperation::Pause { sink: sim::SINK.into(), pause });
    }

    fn resume(&mut self) {
        let (sink, reason) = (sim::SINK.to_owned(), "repaired".to_owned());
        self.log.apply(DeliveryOperation::Resume { sink, reason, at: self.now });
    }

    fn replay(&mut self) {
        let filter = crate::engine::ReplayFilter::default();
        self.log.apply(DeliveryOperation::Replay { filter, key: None, at: self.now });
    }
}
