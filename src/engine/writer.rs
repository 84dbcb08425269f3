//! The one place where it is decided what becomes of an event. No I/O, no thread, no clock of its own.
//!
//! Decide → record → apply. What is decided goes into the open group; once the group is durable its answers may go out.
//!
//! 1. A batch is decided whole, in order, against the state that all batches before it left.
//! 2. An answer waits for its group: for what it wrote, and for what it rests on (a duplicate's original, a counter's limit).
//! 3. State runs ahead of durability; nobody is told of it before the group is durable.
//! 4. An epoch is closed only between groups, so the store's position is always a frame's end.
//! 5. Only time that was believed (`clock_guard`) makes a window late, closes one, or forgets an id.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::engine::Options;
use crate::engine::batch::{Batch, Batches, Item, Slot};
use crate::engine::clock_guard::ClockGuard;
use crate::engine::dedupe::{Generation, Index, Recent};
use crate::engine::outbox::Done;
use crate::engine::record::{self, Record, Tally};
use crate::engine::state::caps::accounts::Hold;
use crate::engine::state::{FoldError, LoadError, State};
use crate::journal::PAYLOAD_BYTES_MAX;
use crate::model::{Duration, IdEntry, Outcome, Seq, TenantId, Timestamp};
use crate::store::{Commit, StoreError};
use parking_lot::RwLock;

mod caps;
mod corrections;
mod crossings;
mod deliveries;
mod judge;
mod operations;
mod reservations;
mod time;
mod trail;

pub use caps::recoveries;
pub use corrections::Lookup;
pub use operations::{CustomerSettings, Operation};
pub use time::{ClockStatus, Paused};

use caps::{Feeds, Open};
use crossings::Crossings;
use judge::Found;
use time::BUSY_TICK;

/// A group takes no further batch from this size on.
pub const GROUP_BYTES: usize = 4 << 20;
/// A group is ended from this size on, even within a batch: an event and its alerts still fit.
const GROUP_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - (6 << 20);
/// Past so many times the ids of an epoch the store is waited for.
const EPOCHS_BEHIND_MAX: usize = 2;
/// Counters copied out between two batches: well under a millisecond.
const DRAIN_SLICE: usize = 2_000;
/// Adjustments after which state is handed over: each takes some 300 bytes until the store has it.
const ADJUSTMENTS_PER_EPOCH: usize = 200_000;
/// Counters that leave memory between two batches.
const LEAVE_SLICE: usize = 2_000;

/// What became of a request's events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// One per event, in the request's order.
    pub outcomes: Vec<Outcome>,
    /// The newest record the answer rests on.
    pub seq: Seq,
    /// Accepted events that became adjustments, by their places in the request.
    pub late: Vec<u32>,
    /// What an operation came to.
    pub done: Done,
}

/// Everything decided since the last group was sealed.
pub struct Group<R> {
    pub first: Seq,
    /// Seqs taken; none when every event was a duplicate or refused.
    pub count: u32,
    pub payload: Vec<u8>,
    /// Whom to tell once the group is durable.
    pub answers: Vec<(R, Answer)>,
}

/// An epoch on its way to the store.
pub struct CommitJob {
    pub position: Seq,
    pub horizon: Seq,
    pub generation: Arc<Generation>,
    pub rows: crate::store::Rows,
}

impl CommitJob {
    /// The rows in order: the store takes sorted ones at a fraction of the cost.
    pub fn into_commit(mut self) -> Commit {
        self.rows.sort();
        Commit { position: self.position, ids: self.generation.iter().collect(), rows: self.rows }
    }
}

/// Why the writer cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Fold(#[from] FoldError),
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Where the store is with the epochs.
enum Handover {
    Idle,
    Draining { position: Seq, horizon: Seq, generation: Arc<Generation> },
    AtStore,
}

/// `R`: whatever carries an answer to the one who asked.
pub struct Writer<R> {
    options: Options,
    state: Arc<RwLock<State>>,
    batches: Batches,
    index: Arc<Index>,
    recent: Recent,
    clock: ClockGuard,
    /// The greatest time that was believed; effective time follows it.
    latest: Timestamp,
    /// The clock is not believed at present.
    paused: bool,
    /// More is due than the last tick closed.
    closing: bool,
    payload: Vec<u8>,
    first: Seq,
    answers: Vec<(R, Answer)>,
    /// Groups of their own that one batch has filled, before the open one.
    full: VecDeque<(Seq, u32, Vec<u8>)>,
    tallies: BTreeMap<TenantId, Tally>,
    handover: Handover,
    epoch_opened: Duration,
    epoch_position: Seq,
    rechecks: metrics::Counter,
    adjustments: metrics::Counter,
    crossings: Crossings,
}

impl<R> Writer<R> {
    pub fn new(options: Options, state: Arc<RwLock<State>>, batches: Batches, recent: Recent, now: Duration) -> Self {
        time::zero_metrics();
        let crossings = Crossings::new(&options.caps);
        let (position, effective) = {
            let state = state.read();
            (state.position(), state.clock().row().effective)
        };
        // A replayed tail is an epoch like any other: the store gets it without waiting for new events.
        let epoch_position = recent.opened_after();
        Self {
            clock: ClockGuard::new(options.clock, effective, now),
            latest: effective.unwrap_or(Timestamp::MIN),
            paused: false,
            closing: false,
            index: batches.0.index.clone(),
            options,
            state,
            batches,
            recent,
            payload: Vec::new(),
            first: position.next(),
            answers: Vec::new(),
            full: VecDeque::new(),
            tallies: BTreeMap::new(),
            handover: Handover::Idle,
            epoch_opened: Duration::ZERO,
            epoch_position,
            rechecks: metrics::counter!(crate::metrics::INDEX_RECHECKS),
            adjustments: metrics::counter!(crate::metrics::ADJUSTMENTS),
            crossings,
        }
    }

    pub fn state(&self) -> &Arc<RwLock<State>> {
        &self.state
    }

    pub fn position(&self) -> Seq {
        self.state.read().position()
    }

    /// Effective time: the greatest that a Tick carried.
    pub fn effective(&self) -> Timestamp {
        self.state.read().clock().effective()
    }

    /// What was decided last and has not left with its group.
    pub fn newest_answer(&self) -> Option<&Answer> {
        self.answers.last().map(|(_, answer)| answer)
    }

    /// Decides a batch; its answer waits in the open group.
    pub fn take(&mut self, mut batch: Batch, reply: R) -> Result<(), WriterError> {
        if batch.calendars_version != self.batches.0.calendars.version() {
            batch = self.batches.cut_again(batch);
        }
        if batch.index_position < self.recent.floor() {
            self.rechecks.increment(1);
            batch.look_up(&self.index)?;
        }
        let tenant = batch.tenant.clone();
        let answer = {
            // Nobody sees a batch half decided.
            let state = self.state.clone();
            let mut state = state.write();
            match (self.refused_backfill(&state, &batch), batch.commits.take()) {
                (Some(refused), _) => refused,
                (None, Some(reservation)) => self.commit(&mut state, batch, &reservation)?,
                (None, None) => self.decide(&mut state, &batch, None)?,
            }
        };
        let mut tally = Tally::default();
        for outcome in &answer.outcomes {
            match outcome {
                Outcome::Accepted(_) => {}
                Outcome::Duplicate(_) | Outcome::Voided(_) => tally.duplicate += 1,
                Outcome::Conflict(_) => tally.conflict += 1,
                Outcome::Rejected(..) => tally.rejected += 1,
                Outcome::Capped(_) => tally.capped += 1,
            }
        }
        if !tally.is_empty() {
            self.tallies.entry(tenant).or_default().add(&tally);
        }
        self.answers.push((reply, answer));
        Ok(())
    }

    /// Decides a batch. `hold`: what was set aside for its one event.
    fn decide(&mut self, state: &mut State, batch: &Batch, hold: Option<&Hold>) -> Result<Answer, WriterError> {
        self.put_time(state, BUSY_TICK);
        self.expire(state);
        let now = self.believed(state);
        let mut open = Open::start(&mut self.payload, batch, state.position());
        let (mut late, mut outcomes) = (Vec::new(), Vec::with_capacity(batch.slots.len()));
        let mut found = Found::look(state, &self.recent, batch);
        for slot in &batch.slots {
            let item = match slot {
                Slot::Rejected(code, detail) => {
                    outcomes.push(Outcome::Rejected(*code, detail.clone()));
                    continue;
                }
                Slot::Event(item) => item,
            };
            let feeds = match self.judge(state, (batch, item), &mut found, (now, hold.is_some()))? {
                Ok(feeds) => feeds,
                Err(outcome) => {
                    outcomes.push(outcome);
                    continue;
                }
            };
            let counted = self.counted(state, &feeds)?;
            if let Some(too_much) = self.refused(state, (batch, item), (&feeds, &counted), (now, hold)) {
                if !too_much.alerts.is_empty() {
                    self.put_alerts(state, &mut open, too_much.alerts);
                }
                counted.iter().for_each(|(_, account, _)| state.release_account(*account));
                self.crossings.refused(&state.definitions()[usize::from(too_much.meter.0)].slug);
                outcomes.push(Outcome::Capped(too_much.detail));
                continue;
            }
            if self.count(state, &mut open, item, &feeds)? {
                late.push(outcomes.len() as u32);
            }
            outcomes.push(Outcome::Accepted(open.last));
            let alerts = if counted.is_empty() {
                Vec::new()
            } else {
                Self::due_alerts(state, (batch, item, open.last), (&feeds, &counted))
            };
            if !alerts.is_empty() || self.payload.len() >= GROUP_BYTES_MAX {
                self.put_alerts(state, &mut open, alerts);
            }
        }
        open.finish(&mut self.payload, state);
        Ok(Answer { outcomes, seq: open.last, late, done: Done::Done })
    }

    /// Counts an event that is taken; true if it is an adjustment.
    fn count(
        &mut self,
        state: &mut State,
        open: &mut Open<'_>,
        item: &Item,
        feeds: &Feeds<'_>,
    ) -> Result<bool, WriterError> {
        let batch = open.batch;
        if open.last == state.position() {
            state.begin_events(batch.received_at, batch.backfill);
        }
        open.last = open.last.next();
        for (feed, located) in feeds {
            state.apply_feed((item.timestamp, open.last), feed, *located)?;
        }
        let entry = IdEntry { seq: open.last, fingerprint: item.fingerprint };
        state.take_id(item.key, entry);
        self.recent.insert(item.key, entry);
        let adjusted = feeds.iter().filter(|(feed, _)| feed.late).count();
        if adjusted > 0 {
            self.adjustments.increment(adjusted as u64);
        }
        let marks = feeds.iter().zip(&batch.feeds[item.feeds.clone()]);
        let marks = marks.filter(|((feed, _), _)| feed.late).map(|(_, feed)| feed.late_at);
        open.events.push(&mut self.payload, &batch.encoded[item.record.clone()], marks);
        Ok(adjusted > 0)
    }

    pub fn group_bytes(&self) -> usize {
        self.payload.len() + self.full.iter().map(|(.., payload)| payload.len()).sum::<usize>()
    }

    /// Someone waits for an answer from the open group, or something was decided without a request.
    pub fn has_group(&self) -> bool {
        !self.answers.is_empty() || !self.payload.is_empty() || !self.full.is_empty()
    }

    fn put_tallies(&mut self, state: &mut State) {
        for (tenant, tally) in std::mem::take(&mut self.tallies) {
            record::put_tally(&mut self.payload, tenant.as_str(), &tally);
            apply_own(state, &Record::Tally { tenant: tenant.as_str(), tally });
        }
    }

    /// Ends the group within a batch: with what comes next it may be larger than a frame. What was answered waits for the last
    /// of them.
    fn end_group(&mut self, state: &State) {
        let count = group_count(self.first, state.position());
        self.full.push_back((self.first, count, std::mem::take(&mut self.payload)));
        self.first = state.position().next();
    }

    /// Closes the oldest group; `buffer` becomes the next one's.
    pub fn seal(&mut self, mut buffer: Vec<u8>) -> Group<R> {
        if let Some((first, count, payload)) = self.full.pop_front() {
            return Group { first, count, payload, answers: Vec::new() };
        }
        let state = self.state.clone();
        let mut state = state.write();
        if !self.payload.is_empty() {
            self.put_tallies(&mut state);
        }
        // Before anybody hears that it counts.
        state.post();
        let position = state.position();
        let count = group_count(self.first, position);
        buffer.clear();
        let group = Group {
            first: self.first,
            count,
            payload: std::mem::replace(&mut self.payload, buffer),
            answers: std::mem::take(&mut self.answers),
        };
        self.first = position.next();
        group
    }

    /// Brings the epoch a step further on its way to the store. Call it between groups only; `now` is monotonic.
    pub fn hand_over(&mut self, now: Duration, finish: bool) -> Option<CommitJob> {
        debug_assert!(!self.has_group(), "an epoch ends where a group ends");
        if matches!(self.handover, Handover::Idle) && self.epoch_is_due(now, finish) {
            let mut state = self.state.write();
            let (position, horizon) = (state.position(), state.clock().horizon());
            state.close_epoch();
            let generation = self.recent.close(position);
            (self.epoch_opened, self.epoch_position) = (now, position);
            self.handover = Handover::Draining { position, horizon, generation };
        }
        self.drain()
    }

    /// Copies out a slice of the closed epoch; answers with the epoch once it is whole. Safe at any time.
    pub fn drain(&mut self) -> Option<CommitJob> {
        let Handover::Draining { position, horizon, generation } = &self.handover else { return None };
        let mut state = self.state.write();
        if !state.drain_epoch(DRAIN_SLICE) {
            return None;
        }
        let rows = state.take_epoch();
        drop(state);
        let job = CommitJob { position: *position, horizon: *horizon, generation: generation.clone(), rows };
        self.handover = Handover::AtStore;
        Some(job)
    }

    fn epoch_is_due(&self, now: Duration, finish: bool) -> bool {
        let aged = now >= self.epoch_opened.saturating_add(self.options.commit_interval);
        let (position, closed, adjusted) = {
            let state = self.state.read();
            (state.position(), state.leaving_len(), state.adjustments_len())
        };
        let full = self.recent.open_ids() >= self.options.epoch_ids
            || closed >= time::CLOSES_PER_EPOCH
            || adjusted >= ADJUSTMENTS_PER_EPOCH;
        position > self.epoch_position && (finish || aged || full)
    }

    /// There is work that needs no request: counters wait to be copied, to be closed, or to leave memory.
    pub fn is_busy(&self) -> bool {
        matches!(self.handover, Handover::Draining { .. })
            || (self.closing && !self.paused && self.state.read().leaving_len() < time::CLOSES_PER_EPOCH)
            || self.state.read().is_leaving()
    }

    /// The store has everything that was decided.
    pub fn is_handed_over(&self) -> bool {
        matches!(self.handover, Handover::Idle) && self.position() == self.epoch_position
    }

    /// Ids or adjustments pile up because the store is behind: take no batch before it answers.
    pub fn must_wait_for_store(&self) -> bool {
        self.recent.open_ids() >= self.options.epoch_ids * EPOCHS_BEHIND_MAX
            || self.state.read().adjustments_len() >= ADJUSTMENTS_PER_EPOCH * EPOCHS_BEHIND_MAX
    }

    /// The store and the index have everything up to `position`.
    pub fn committed(&mut self, position: Seq) {
        self.recent.published(position);
        self.state.write().committed(position);
        self.handover = Handover::Idle;
    }

    /// Lets a slice of counters leave memory that the store has.
    pub fn leave(&mut self) {
        if self.state.read().is_leaving() {
            self.state.write().leave(LEAVE_SLICE);
        }
    }
}

fn group_count(first: Seq, last: Seq) -> u32 {
    u32::try_from(last.next().0 - first.0).expect("a group is far smaller than 2^32 records")
}

/// Applies a record of the writer's own.
fn apply_own(state: &mut State, record: &Record<'_>) {
    let next = state.position().next();
    state.apply(next, record, &mut |_, _| {}).expect("decided against this very state");
}

#[cfg(test)]
mod tests;
