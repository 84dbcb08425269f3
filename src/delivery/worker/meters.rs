//! What a sink's worker counts, and its gauges.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::engine::{BreakerState, SinkHealth, SinkWork};
use crate::metrics as names;
use crate::model::Duration;

pub struct Meters {
    delivered: Counter,
    failed: Counter,
    circuit_open: Counter,
    rows: Counter,
    dead: Counter,
    seconds: Histogram,
    pending: Gauge,
    breaker: Gauge,
    paused: Gauge,
}

impl Meters {
    pub fn new(sink: &str) -> Self {
        let attempts = |outcome: &'static str| {
            let counter = counter!(names::DELIVERY_ATTEMPTS, "sink" => sink.to_owned(), "outcome" => outcome);
            counter.increment(0);
            counter
        };
        let counter = |name: &'static str| {
            let counter = counter!(name, "sink" => sink.to_owned());
            counter.increment(0);
            counter
        };
        let gauge = |name: &'static str| gauge!(name, "sink" => sink.to_owned());
        Self {
            delivered: attempts("delivered"),
            failed: attempts("failed"),
            circuit_open: attempts("circuit_open"),
            rows: counter(names::DELIVERY_ROWS),
            dead: counter(names::DEAD_LETTERS),
            seconds: histogram!(names::DELIVERY_SECONDS, "sink" => sink.to_owned()),
            pending: gauge(names::DELIVERIES_PENDING),
            breaker: gauge(names::SINK_BREAKER),
            paused: gauge(names::SINK_PAUSED),
        }
    }

    pub fn attempted(&self, delivered_rows: Option<u32>, took: Duration) {
        match delivered_rows {
            Some(rows) => {
                self.delivered.increment(1);
                self.rows.increment(u64::from(rows));
            }
            None => self.failed.increment(1),
        }
        self.seconds.record(took.to_std().as_secs_f64());
    }

    pub fn failed_fast(&self, attempts: usize) {
        self.circuit_open.increment(attempts as u64);
    }

    pub fn died(&self) {
        self.dead.increment(1);
    }

    pub fn show(&self, work: &SinkWork, health: &SinkHealth) {
        self.pending.set(work.pending_total as f64);
        self.paused.set(if work.pause.is_some() { 1.0 } else { 0.0 });
        self.breaker.set(match health.breaker {
            BreakerState::Closed => 0.0,
            BreakerState::HalfOpen => 1.0,
            BreakerState::Open { .. } => 2.0,
        });
    }
}
