//! The events that are read again, and the seam for tests.

use std::ops::ControlFlow;
use std::time::Duration as StdDuration;

use tokio::sync::watch;

use crate::engine::committer::Failure;
use crate::engine::evidence::{Evidence, EvidenceError, EvidenceEvent, EvidenceQuery, Found};
use crate::model::Seq;

/// How often and how long it is looked whether a record is durable.
const LOOK: StdDuration = StdDuration::from_millis(1);
const LOOKS: u32 = 10_000;
/// What one step of a scan reads.
const STEP_BYTES: u64 = 64 << 20;

/// Where events are read from.
pub trait Source: Send + Sync {
    /// Waits until everything up to this record can be read; false if that takes too long.
    fn wait_for(&self, seq: Seq) -> bool;

    /// One event by its record.
    fn event(&self, seq: Seq, visit: &mut dyn FnMut(&EvidenceEvent<'_>)) -> Result<Found, EvidenceError>;

    /// A customer's events in the order of (counted time, seq).
    fn events(
        &self,
        query: &EvidenceQuery<'_>,
        visit: &mut dyn FnMut(&EvidenceEvent<'_>) -> ControlFlow<()>,
    ) -> Result<(), EvidenceError>;

    /// A tenant's events from `first` through `last`, in the order of the log.
    fn scan(
        &self,
        tenant: &str,
        records: (Seq, Seq),
        visit: &mut dyn FnMut(&EvidenceEvent<'_>) -> ControlFlow<()>,
    ) -> Result<(), EvidenceError>;

    /// The first record that is still there.
    fn oldest(&self) -> Result<Seq, EvidenceError>;
}

/// The journal.
pub struct Journaled {
    pub evidence: Evidence,
    pub durable: watch::Receiver<Seq>,
    /// After one nothing is made durable any more.
    pub failure: Option<watch::Receiver<Option<Failure>>>,
}

impl Source for Journaled {
    fn wait_for(&self, seq: Seq) -> bool {
        for _ in 0..LOOKS {
            if *self.durable.borrow() >= seq {
                return true;
            }
            if self.failure.as_ref().is_some_and(|failure| failure.borrow().is_some()) {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        false
    }

    fn event(&self, seq: Seq, visit: &mut dyn FnMut(&EvidenceEvent<'_>)) -> Result<Found, EvidenceError> {
        self.evidence.event(seq, visit)
    }

    fn events(
        &self,
        query: &EvidenceQuery<'_>,
        visit: &mut dyn FnMut(&EvidenceEvent<'_>) -> ControlFlow<()>,
    ) -> Result<(), EvidenceError> {
        self.evidence.events(query, visit)
    }

    fn scan(
        &self,
        tenant: &str,
        (first, last): (Seq, Seq),
        visit: &mut dyn FnMut(&EvidenceEvent<'_>) -> ControlFlow<()>,
    ) -> Result<(), EvidenceError> {
        let (mut after, mut stopped) = (Some(Seq(first.0.saturating_sub(1))), false);
        while let Some(from) = after.filter(|_| !stopped) {
            after = self.evidence.scan(Some(tenant), from, last, STEP_BYTES, &mut |event| {
                let flow = visit(event);
                stopped = flow.is_break();
                flow
            })?;
        }
        Ok(())
    }

    fn oldest(&self) -> Result<Seq, EvidenceError> {
        self.evidence.oldest()
    }
}
