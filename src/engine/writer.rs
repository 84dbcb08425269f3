//! The one place where it is decided what becomes of an event. No I/O, no thread, no clock of its own.
//!
//! Decide → record → apply. What is decided goes into the open group; once the group is durable its answers may go out.
//!
//! 1. A batch is decided whole, in order, against the state that all batches before it left.
//! 2. An answer waits for its group: for what it wrote, and for what it rests on (a duplicate's original, a counter's limit).
//! 3. State runs ahead of durability; nobody is told of it before the group is durable.
//! 4. An epoch is closed only between groups, so the store's position is always a frame's end.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use smallvec::SmallVec;

use crate::engine::Options;
use crate::engine::batch::{Batch, Feed as BatchFeed, Item, Slot};
use crate::engine::dedupe::{Generation, Index, Recent};
use crate::engine::record::{self, EventsWriter, Record, Tally};
use crate::engine::state::{Feed, Located, State, StateLimits};
use crate::model::{Code, Duration, IdEntry, Outcome, Seq, TenantId, Timestamp};
use crate::store::{Commit, StoreError};

/// A group takes no further batch from this size on.
pub const GROUP_BYTES: usize = 4 << 20;
/// Past so many times the ids of an epoch the store is waited for.
const EPOCHS_BEHIND_MAX: usize = 2;
/// Counters copied out between two batches: well under a millisecond.
const DRAIN_SLICE: usize = 2_000;

/// What became of a request's events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// One per event, in the request's order.
    pub outcomes: Vec<Outcome>,
    /// The newest record the answer rests on.
    pub seq: Seq,
    /// Accepted events that became adjustments.
    pub late: u32,
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
    index: Arc<Index>,
    recent: Recent,
    payload: Vec<u8>,
    first: Seq,
    answers: Vec<(R, Answer)>,
    tallies: BTreeMap<TenantId, Tally>,
    handover: Handover,
    epoch_opened: Duration,
    epoch_position: Seq,
    rechecks: metrics::Counter,
}

impl<R> Writer<R> {
    pub fn new(options: Options, state: Arc<RwLock<State>>, index: Arc<Index>, recent: Recent) -> Self {
        let position = state.read().position();
        // A replayed tail is an epoch like any other: the store gets it without waiting for new events.
        let epoch_position = recent.opened_after();
        Self {
            options,
            state,
            index,
            recent,
            payload: Vec::new(),
            first: position.next(),
            answers: Vec::new(),
            tallies: BTreeMap::new(),
            handover: Handover::Idle,
            epoch_opened: Duration::ZERO,
            epoch_position,
            rechecks: metrics::counter!(crate::metrics::INDEX_RECHECKS),
        }
    }

    pub fn state(&self) -> &Arc<RwLock<State>> {
        &self.state
    }

    pub fn position(&self) -> Seq {
        self.state.read().position()
    }

    /// Effective time: the greatest that a record carried.
    pub fn effective(&self) -> Timestamp {
        self.state.read().clock().effective()
    }

    /// What was decided last and has not left with its group.
    pub fn newest_answer(&self) -> Option<&Answer> {
        self.answers.last().map(|(_, answer)| answer)
    }

    /// Decides a batch; its answer waits in the open group.
    pub fn take(&mut self, mut batch: Batch, reply: R) -> Result<(), StoreError> {
        if batch.index_position < self.recent.floor() {
            self.rechecks.increment(1);
            batch.look_up(&self.index)?;
        }
        let answer = self.decide(&batch);
        let mut tally = Tally::default();
        for outcome in &answer.outcomes {
            match outcome {
                Outcome::Accepted(_) => {}
                Outcome::Duplicate(_) => tally.duplicate += 1,
                Outcome::Conflict(_) => tally.conflict += 1,
                Outcome::Rejected(..) => tally.rejected += 1,
            }
        }
        if !tally.is_empty() {
            self.tallies.entry(batch.tenant).or_default().add(&tally);
        }
        self.answers.push((reply, answer));
        Ok(())
    }

    fn decide(&mut self, batch: &Batch) -> Answer {
        let state = self.state.clone();
        let mut state = state.write();
        let now = state.clock().effective().max(batch.received_at);
        let mut events = EventsWriter::start(&mut self.payload, batch.tenant.as_str(), batch.received_at);
        let mut last = state.position();
        let mut outcomes = Vec::with_capacity(batch.slots.len());
        let mut found = Found::look(&state, &self.recent, batch);
        for slot in &batch.slots {
            outcomes.push(match slot {
                Slot::Rejected(code, detail) => Outcome::Rejected(*code, detail.clone()),
                Slot::Event(item) => match self.judge(&state, batch, item, &mut found, now) {
                    Err(outcome) => outcome,
                    Ok(feeds) => {
                        if last == state.position() {
                            state.begin_events(last.next(), batch.received_at);
                        }
                        last = last.next();
                        for (feed, located) in feeds {
                            let applied = state.apply_feed((item.timestamp, last), &feed, located);
                            applied.expect("judged applicable against this very state");
                        }
                        self.recent.insert(item.key, IdEntry { seq: last, fingerprint: item.fingerprint });
                        events.push(&mut self.payload, &batch.encoded[item.record.clone()]);
                        Outcome::Accepted(last)
                    }
                },
            });
        }
        events.finish(&mut self.payload);
        let count = last.0 - state.position().0;
        if count > 0 {
            state.end_events(batch.tenant.as_str(), count, last);
        }
        Answer { outcomes, seq: last, late: 0 }
    }

    /// Whether an event is to be counted, and where.
    fn judge<'b>(
        &self,
        state: &State,
        batch: &'b Batch,
        item: &Item,
        found: &mut Found,
        now: Timestamp,
    ) -> Result<SmallVec<[(Feed<'b>, Located); 2]>, Outcome> {
        let horizon = state.clock().horizon();
        let remembered = |entry: &IdEntry| entry.seq >= horizon;
        let before = found.next_id();
        let in_batch = || self.recent.get_open(item.key);
        let known =
            [item.indexed, before].into_iter().flatten().find(remembered).or_else(|| in_batch().filter(remembered));
        if let Some(entry) = known {
            let same = entry.fingerprint == item.fingerprint;
            return Err(if same { Outcome::Duplicate(entry.seq) } else { Outcome::Conflict(entry.seq) });
        }
        self.check_time(item.timestamp, now, state.clock().forgotten())?;
        let feeds: SmallVec<[(Feed<'b>, Located); 2]> = batch.feeds[item.feeds.clone()]
            .iter()
            .zip(&found.counters[item.feeds.clone()])
            .map(|(feed, before)| {
                let feed = borrow_feed(batch, feed);
                (feed, state.locate_again(&feed, *before))
            })
            .collect();
        let refused = |(code, detail): (Code, String)| Outcome::Rejected(code, detail.into());
        let limits = StateLimits {
            open_counters_max: self.options.open_counters_max,
            unique_members_max: self.options.unique_members_max,
        };
        state.check(feeds.iter().copied(), &limits).map_err(refused)?;
        Ok(feeds)
    }

    fn check_time(&self, timestamp: Timestamp, now: Timestamp, forgotten: Option<Timestamp>) -> Result<(), Outcome> {
        if Some(timestamp) <= forgotten {
            let detail =
                format!("{timestamp} lies where ids are forgotten by now (dedupe.retention): it may have counted");
            return Err(Outcome::Rejected(Code::TooLate, detail.into()));
        }
        if timestamp < now.saturating_sub(self.options.accept_past) {
            let detail = format!("{timestamp} is further back from {now} than ingest.accept_past");
            return Err(Outcome::Rejected(Code::TooLate, detail.into()));
        }
        if timestamp > now.saturating_add(self.options.accept_future) {
            let detail = format!("{timestamp} is further ahead of {now} than ingest.accept_future");
            return Err(Outcome::Rejected(Code::TooEarly, detail.into()));
        }
        Ok(())
    }

    pub fn group_bytes(&self) -> usize {
        self.payload.len()
    }

    /// Someone waits for an answer from the open group, or something was decided without a request.
    pub fn has_group(&self) -> bool {
        !self.answers.is_empty() || !self.payload.is_empty()
    }

    /// Records what time alone decides: that ids have outlived their retention, and how many events were not taken.
    pub fn tick(&mut self, now: Timestamp) {
        let state = self.state.clone();
        let mut state = state.write();
        let effective = state.clock().effective().max(now);
        if let Some(horizon) = state.clock().horizon_due(effective, self.options.dedupe_retention) {
            record::put_tick(&mut self.payload, effective, horizon);
            apply_own(&mut state, &Record::Tick { effective, horizon });
        }
        self.put_tallies(&mut state);
    }

    fn put_tallies(&mut self, state: &mut State) {
        for (tenant, tally) in std::mem::take(&mut self.tallies) {
            record::put_tally(&mut self.payload, tenant.as_str(), &tally);
            apply_own(state, &Record::Tally { tenant: tenant.as_str(), tally });
        }
    }

    /// Closes the open group; `buffer` becomes the next one's.
    pub fn seal(&mut self, mut buffer: Vec<u8>) -> Group<R> {
        let state = self.state.clone();
        let mut state = state.write();
        if !self.payload.is_empty() {
            self.put_tallies(&mut state);
        }
        let position = state.position();
        let count = u32::try_from(position.next().0 - self.first.0).expect("a group is far smaller than 2^32 records");
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
        let changed = self.position() > self.epoch_position;
        changed && (finish || aged || self.recent.open_ids() >= self.options.epoch_ids)
    }

    /// Counters of a closed epoch wait to be copied.
    pub fn is_draining(&self) -> bool {
        matches!(self.handover, Handover::Draining { .. })
    }

    /// The store has everything that was decided.
    pub fn is_handed_over(&self) -> bool {
        matches!(self.handover, Handover::Idle) && self.position() == self.epoch_position
    }

    /// Ids pile up because the store is behind: take no batch before it answers.
    pub fn must_wait_for_store(&self) -> bool {
        self.recent.open_ids() >= self.options.epoch_ids * EPOCHS_BEHIND_MAX
    }

    /// The store and the index have everything up to `position`.
    pub fn committed(&mut self, position: Seq) {
        self.recent.published(position);
        self.handover = Handover::Idle;
    }
}

/// What a batch's ids and counters come to before its first event is decided.
///
/// Each answer is a chain of cache misses. Asked for one after another in a loop of their own, they overlap; asked for
/// between decisions, they would not.
struct Found {
    ids: std::vec::IntoIter<Option<IdEntry>>,
    /// By feed.
    counters: Vec<Located>,
}

impl Found {
    fn look(state: &State, recent: &Recent, batch: &Batch) -> Self {
        let ids: Vec<_> = batch.items().map(|item| recent.get(item.key, batch.index_position)).collect();
        let counters = batch.feeds.iter().map(|feed| state.locate(&borrow_feed(batch, feed))).collect();
        Self { ids: ids.into_iter(), counters }
    }

    /// The entry of the next event, in order.
    fn next_id(&mut self) -> Option<IdEntry> {
        self.ids.next().flatten()
    }
}

fn apply_own(state: &mut State, record: &Record<'_>) {
    let next = state.position().next();
    state.apply(next, record, &mut |_, _| {}).expect("a tick or tally fits any state");
}

fn borrow_feed<'b>(batch: &'b Batch, feed: &BatchFeed) -> Feed<'b> {
    Feed {
        meter: feed.meter,
        window: feed.window,
        value: feed.value,
        key: &batch.keys[feed.key.clone()],
        hash: feed.hash,
    }
}
