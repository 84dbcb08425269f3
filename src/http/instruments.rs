//! The edge's metrics, looked up once, so that recording is an atomic addition.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

use crate::engine::Answer;
use crate::metrics::{ACK_SECONDS, EVENTS, EVENTS_RECEIVED, EVENTS_REJECTED};
use crate::model::{Code, Outcome};

/// Handles for what every ingest request records.
pub struct Instruments {
    received: Counter,
    accepted: Counter,
    duplicate: Counter,
    conflict: Counter,
    rejected: Counter,
    capped: Counter,
    rejected_by_code: [Counter; Code::ALL.len()],
    ack_seconds: Histogram,
}

/// How many events of a request came to which end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub accepted: u64,
    pub duplicate: u64,
    pub conflict: u64,
    pub rejected: u64,
    pub capped: u64,
    rejected_by_code: [u64; Code::ALL.len()],
}

impl Tally {
    pub fn of(answer: &Answer) -> Self {
        let mut tally = Tally::default();
        for outcome in &answer.outcomes {
            match outcome {
                Outcome::Accepted(_) => tally.accepted += 1,
                Outcome::Duplicate(_) | Outcome::Voided(_) => tally.duplicate += 1,
                Outcome::Conflict(_) => tally.conflict += 1,
                Outcome::Capped(_) => tally.capped += 1,
                Outcome::Rejected(code, _) => {
                    tally.rejected += 1;
                    tally.rejected_by_code[*code as usize] += 1;
                }
            }
        }
        tally
    }

    /// True if every event counts: now, or since it was first sent.
    pub fn all_taken(&self) -> bool {
        self.conflict == 0 && self.rejected == 0 && self.capped == 0
    }
}

impl Instruments {
    /// Looks the handles up in the recorder that is installed by now.
    pub fn new() -> Self {
        let outcome = |outcome: &'static str| counter!(EVENTS, "outcome" => outcome);
        Self {
            received: counter!(EVENTS_RECEIVED),
            accepted: outcome("accepted"),
            duplicate: outcome("duplicate"),
            conflict: outcome("conflict"),
            rejected: outcome("rejected"),
            capped: outcome("capped"),
            rejected_by_code: Code::ALL.map(|code| counter!(EVENTS_REJECTED, "code" => code.as_str())),
            ack_seconds: histogram!(ACK_SECONDS),
        }
    }

    /// Records an answered request; received and outcomes together, so that their sums agree whenever they are read.
    pub fn record(&self, tally: &Tally, took: Duration) {
        self.received.increment(tally.accepted + tally.duplicate + tally.conflict + tally.rejected + tally.capped);
        self.accepted.increment(tally.accepted);
        self.duplicate.increment(tally.duplicate);
        self.conflict.increment(tally.conflict);
        self.rejected.increment(tally.rejected);
        self.capped.increment(tally.capped);
        for (counter, count) in self.rejected_by_code.iter().zip(tally.rejected_by_code) {
            if count > 0 {
                counter.increment(count);
            }
        }
        self.ack_seconds.record(took.as_secs_f64());
    }
}
