//! The directory that is filled: a journal that is appended to, the fold over it, and the store that follows.
//!
//! 1. What is put is encoded and applied in one step: the journal says what the state is.
//! 2. The store gets an epoch only once the journal has it, on disk.
//! 3. Memory is bounded as in a running daemon: counters leave it once they are final and the store has them.

use std::sync::Arc;

use crate::engine::dedupe::Recent;
use crate::engine::hash::TableHasher;
use crate::engine::record::caps::put_caps;
use crate::engine::record::{self, Record};
use crate::engine::recovery::OpenError;
use crate::engine::state::{FoldError, State};
use crate::engine::writer::CommitJob;
use crate::env::Disk;
use crate::journal::{self, Journal, StoreId};
use crate::model::Seq;
use crate::store::{Store, StoreError};

/// A frame ends once it has so much: one event is read with all of its frame. In tests frames, and so epochs, are many.
const FRAME_BYTES: usize = if cfg!(test) { 2 << 10 } else { 256 << 10 };
/// The journal is synced after so much.
const SYNC_BYTES: usize = 64 << 20;
/// An epoch ends with so many final counters, or adjustments, in memory.
const CHANGES_PER_EPOCH: usize = 200_000;

pub struct Target {
    pub journal: Journal,
    pub state: State,
    pub recent: Recent,
    /// Records that are folded in and not yet in the journal.
    pub payload: Vec<u8>,
    /// The first of them.
    first: Seq,
    store: Arc<dyn Store>,
    epoch_ids: usize,
    unsynced: usize,
}

impl Target {
    pub fn create(
        disk: Arc<dyn Disk>,
        store: Arc<dyn Store>,
        (options, store_id): (journal::Options, u128),
        (hasher, epoch_ids): (TableHasher, usize),
    ) -> Result<Self, OpenError> {
        let journal = Journal::create(disk, options, StoreId(store_id), Seq(1))?;
        let (state, recent) = (State::new(hasher, store.clone()), Recent::new(Seq::ZERO));
        Ok(Self { journal, state, recent, payload: Vec::new(), first: Seq(1), store, epoch_ids, unsynced: 0 })
    }

    /// The number that the next record gets.
    pub fn next(&self) -> Seq {
        self.state.position().next()
    }

    /// Writes a record and folds it in. Events are not written here.
    pub fn put(&mut self, record: &Record<'_>) -> Result<(), FoldError> {
        let next = self.next();
        encode(&mut self.payload, record).ok_or(FoldError::OutOfPlace(next))?;
        let recent = &mut self.recent;
        self.state.apply(next, record, &mut |key, entry| recent.insert(key, entry))
    }

    /// Ends the frame if it is long enough, and the epoch.
    pub fn breathe(&mut self) -> Result<(), OpenError> {
        if self.payload.len() >= FRAME_BYTES {
            self.flush()?;
            let changes = self.state.leaving_len().max(self.state.adjustments_len());
            if self.recent.open_ids() >= self.epoch_ids || changes >= CHANGES_PER_EPOCH {
                self.commit()?;
            }
        }
        Ok(())
    }

    /// Ends the frame if it is long enough, within a record that is written in parts.
    pub fn flush_if_long(&mut self) -> Result<(), OpenError> {
        if self.payload.len() >= FRAME_BYTES { self.flush() } else { Ok(()) }
    }

    /// The journal was appended to by someone else, who has applied that too.
    pub fn caught_up(&mut self) {
        self.first = self.next();
    }

    /// What was put is in the journal.
    pub fn flush(&mut self) -> Result<(), OpenError> {
        let next = self.next();
        if !self.payload.is_empty() {
            let count = u32::try_from(next.0 - self.first.0).expect("a frame holds far fewer records");
            self.journal.append(self.first, count, &self.payload)?;
            self.unsynced += self.payload.len();
            self.payload.clear();
        }
        self.first = next;
        if self.unsynced >= SYNC_BYTES {
            self.journal.sync()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Everything is on disk.
    pub fn finish(&mut self) -> Result<(), OpenError> {
        self.flush()?;
        self.journal.append_watermark()?;
        self.commit()
    }

    fn commit(&mut self) -> Result<(), OpenError> {
        self.journal.sync()?;
        self.unsynced = 0;
        Ok(self.hand_over()?)
    }

    fn hand_over(&mut self) -> Result<(), StoreError> {
        let position = self.state.position();
        self.state.close_epoch();
        while !self.state.drain_epoch(usize::MAX) {}
        let generation = self.recent.close(position);
        let (horizon, rows) = (self.state.clock().horizon(), self.state.take_epoch());
        self.store.commit(&CommitJob { position, horizon, generation, rows }.into_commit())?;
        self.store.persist()?;
        self.store.set_horizon(horizon);
        self.recent.published(position);
        self.state.committed(position);
        self.state.leave(usize::MAX);
        Ok(())
    }
}

/// None for events, which are written one by one.
fn encode(out: &mut Vec<u8>, record: &Record<'_>) -> Option<()> {
    match record {
        Record::Events(_) => return None,
        Record::Genesis(genesis) => record::put_genesis(out, genesis),
        Record::MeterVersion(meter, definition) => record::put_meter_version(out, *meter, definition),
        Record::Tick { effective, horizon } => record::put_tick(out, *effective, *horizon),
        Record::Tally { tenant, tally } => record::put_tally(out, tenant, tally),
        Record::Closed(closed) => record::put_closed(out, closed),
        Record::CustomerChanged { tenant, customer, settings } => {
            record::put_customer_changed(out, tenant, customer, settings);
        }
        Record::ClockReset { effective, reason } => record::put_clock_reset(out, *effective, reason),
        Record::Incarnation { incarnation, reason } => record::put_incarnation(out, *incarnation, reason),
        Record::Sink(sink) => record::put_sink(out, sink),
        Record::Delivery(delivery) => record::put_delivery(out, delivery),
        Record::Caps(caps) => put_caps(out, caps),
        Record::Correction(correction) => record::put_correction(out, correction),
    }
    Some(())
}
