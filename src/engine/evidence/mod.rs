//! Evidence: from what is billed back to the raw events, which the journal holds.
//!
//! | file | role |
//! | --- | --- |
//! | `format` | a sidecar's bytes: pure |
//! | `memory` | the index of one segment in memory |
//! | `sidecar` | the index of a sealed segment, in a file beside it |
//! | `live` | keeps both up with the journal, and makes anew what is missing or damaged |
//! | `query` | a customer's events, merged over the segments |
//! | `scan` | events by their records, from the journal itself |
//! | `fetch` | from the index's places to the events |
//!
//! 1. Whoever asks catches up with what is durable first: an event that was acknowledged before is found.
//! 2. The journal is the evidence; the index only says where to look. It can be deleted at any time.
//! 3. Everything that is read is checked. A damaged index is made anew from the journal; a damaged event is an error that
//!    names file, offset and record, never left out.
//! 4. Segments may be removed at any time: their events are not listed any more, which is no error.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crossbeam_channel::Receiver;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::engine::record::{EventRecord, RecordError};
use crate::env::Disk;
use crate::journal::{self, JournalError, StoreId};
use crate::meter::BillingPeriod;
use crate::model::{MeterId, Seq, Timestamp};

mod fetch;
mod format;
mod live;
mod memory;
mod query;
mod scan;
mod sidecar;
#[cfg(test)]
mod tests;

use live::Live;
use scan::Scan;

/// Whose events, and which of them.
#[derive(Clone, Copy, Debug)]
pub struct EvidenceQuery<'a> {
    pub tenant: &'a str,
    pub customer: &'a str,
    /// Only events that fed this meter.
    pub meter: Option<MeterId>,
    /// Counted at this time or later.
    pub from: Option<Timestamp>,
    /// Counted before this time.
    pub to: Option<Timestamp>,
    /// Only what comes after this event in the listing's order.
    pub after: Option<(Timestamp, Seq)>,
}

/// An accepted event as the journal holds it.
#[derive(Clone, Debug)]
pub struct EvidenceEvent<'a> {
    pub seq: Seq,
    pub tenant: &'a str,
    pub received_at: Timestamp,
    /// Its timestamp, within its first feed's window.
    pub counted_at: Timestamp,
    pub event: EventRecord<'a>,
    /// What its feeds' `period` points into.
    pub periods: &'a [BillingPeriod],
    pub backfill: Option<u32>,
}

/// Whether a record is an event that can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Yes,
    /// There is no such record, or it is no event.
    No,
    /// Its segment was removed.
    Expired,
}

#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The journal cannot be read, or its bytes are not what was written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A record does not decode.
    #[error("{file} at byte {offset}: {source}")]
    Record { file: String, offset: u64, source: RecordError },
    /// A sidecar does not check although it was just made.
    #[error("the sidecar of segment {segment} cannot be used: {why}")]
    Sidecar { segment: Seq, why: String },
}

impl EvidenceError {
    fn record(segment: Seq, offset: u64, source: RecordError) -> Self {
        Self::Record { file: journal::segment_display(segment), offset, source }
    }
}

/// The way to the events; clones share it.
#[derive(Clone)]
pub struct Evidence(Arc<Inner>);

struct Inner {
    disk: Arc<dyn Disk>,
    store_id: StoreId,
    durable: watch::Receiver<Seq>,
    /// Sidecars leave so much of the disk free.
    reserve_bytes: u64,
    live: Mutex<Live>,
    /// Held while a sidecar is made: one at a time.
    writing: Mutex<()>,
    /// Readers that wait for that.
    waiting: AtomicUsize,
    /// Sealed segments whose sidecars were found to be theirs.
    checked: Mutex<BTreeSet<Seq>>,
}

impl Evidence {
    /// Without a thread of its own: indexes what is asked for. Sidecars are written whatever room there is.
    pub fn open(disk: Arc<dyn Disk>, store_id: StoreId, durable: watch::Receiver<Seq>) -> Self {
        Self::open_leaving(disk, store_id, durable, 0)
    }

    /// The same; sidecars leave so many bytes of the disk free, all of it with `u64::MAX`: then none is written.
    pub fn open_leaving(
        disk: Arc<dyn Disk>,
        store_id: StoreId,
        durable: watch::Receiver<Seq>,
        reserve_bytes: u64,
    ) -> Self {
        let (live, writing, waiting) = (Mutex::default(), Mutex::default(), AtomicUsize::new(0));
        let checked = Mutex::default();
        Self(Arc::new(Inner { disk, store_id, durable, reserve_bytes, live, writing, waiting, checked }))
    }

    /// The thread's work: indexes ahead of who asks, until the other end of `stop` is gone.
    pub fn run(&self, stop: &Receiver<()>) {
        self.0.run(stop);
    }

    /// A customer's events in the order of (counted time, seq).
    pub fn events(
        &self,
        query: &EvidenceQuery<'_>,
        visit: &mut dyn FnMut(&EvidenceEvent<'_>) -> ControlFlow<()>,
    ) -> Result<(), EvidenceError> {
        self.0.list(query, visit)
    }

    /// One event by its record.
    pub fn event(&self, seq: Seq, visit: &mut dyn FnMut(&EvidenceEvent<'_>)) -> Result<Found, EvidenceError> {
        self.0.one(seq, visit)
    }

    /// Events in log order from `after` (exclusive) through `to`, of one tenant or of all, reading about `bytes` of the
    /// journal at most. Answers with the record to go on after; none at the end.
    pub fn scan(
        &self,
        tenant: Option<&str>,
        after: Seq,
        to: Seq,
        bytes: u64,
        visit: &mut dyn FnMut(&EvidenceEvent<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Seq>, EvidenceError> {
        self.0.scan(&Scan { tenant, after, to, bytes }, visit)
    }

    /// The first record whose segment is still there.
    pub fn oldest(&self) -> Result<Seq, EvidenceError> {
        self.0.oldest()
    }

    /// When the oldest event that is kept was received, if older segments were removed.
    pub fn kept_from(&self) -> Result<Option<Timestamp>, EvidenceError> {
        self.0.kept_from()
    }
}
