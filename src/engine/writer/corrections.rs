//! Taking back: voids and amends, backfills and their reverts.
//!
//! 1. What a retraction was computed against is checked in the step that applies it: an outdated one changes nothing.
//! 2. An amend is one group: what is taken back and what counts instead are durable together. A replacement that cannot be
//!    taken leaves the event as it is. Caps do not refuse it, nor does its age: it says what was used.
//! 3. A revert goes by slices, each a record; until the last the backfill takes nothing, and its ids stay taken.

use super::time::ANY_LAG;
use super::{Answer, Writer, WriterError, apply_own};
use crate::engine::batch::{Batch, Slot};
use crate::engine::corrections::{
    BackfillRefused, BackfillState, Cause, Change, Retraction, RetractionRefused, VoidCause, WindowChange,
};
use crate::engine::outbox::Done;
use crate::engine::record::{self, CorrectionRecord, Record};
use crate::engine::state::State;
use crate::engine::state::caps::accounts::{Hold, NONE};
use crate::model::{EventKey, IdEntry, Outcome, Quantity, Seq, TenantId, Timestamp, Window};
use crate::store::StoreError;

/// An id that is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Lookup {
    pub key: EventKey,
    /// What the index held at `index_position`.
    pub indexed: Option<IdEntry>,
    pub index_position: Seq,
}

/// As if all there is had been set aside for it: no cap refuses it.
fn unlimited() -> Hold {
    let nowhere = Window { start: Timestamp::MIN, end: Timestamp::MIN };
    Hold { quantity: Quantity::from_scaled(i128::MAX), billing: nowhere, window: nowhere }
}

impl<R> Writer<R> {
    /// The record of an accepted event, whether it was taken back since or not.
    pub(super) fn find(&self, state: &State, lookup: &Lookup) -> Result<Done, StoreError> {
        let (horizon, corrections) = (state.clock().horizon(), state.corrections());
        let (mut position, mut indexed) = (lookup.index_position, lookup.indexed);
        if position < self.recent.floor() {
            // What came to the index since the look-up is recent no more.
            let mut found = Vec::new();
            position = self.index.position();
            self.index.look_up(&[lookup.key], &mut found)?;
            indexed = found.pop().flatten();
        }
        let recent = self.recent.get(lookup.key, position).or_else(|| self.recent.get_open(lookup.key));
        let is_known = |entry: &IdEntry| entry.seq >= horizon && !corrections.is_reverted(entry.seq);
        if let Some(entry) = recent.or(indexed).filter(is_known) {
            return Ok(Done::Found(Some(entry.seq)));
        }
        // A backfill knows its ids for as long as it is there.
        for backfill in corrections.backfills().iter().filter(|backfill| backfill.state == BackfillState::Open) {
            if let Some(entry) = self.index.look_up_backfilled(backfill.number, lookup.key)? {
                return Ok(Done::Found(Some(entry.seq)));
            }
        }
        Ok(Done::Found(None))
    }

    /// Takes back what a retraction says; `replacement` holds the one event that counts instead.
    pub(super) fn retract(
        &mut self,
        state: &mut State,
        retraction: Retraction,
        replacement: Option<Batch>,
        at: Timestamp,
    ) -> Result<Answer, WriterError> {
        self.put_time(state, ANY_LAG);
        self.expire(state);
        let refused = match &retraction.cause {
            Cause::Void(void) => refuse_void(state, void),
            Cause::Revert { backfill } => match state.corrections().backfill(*backfill) {
                Some(known) if known.state == BackfillState::Reverting => None,
                _ => Some(RetractionRefused::Outdated),
            },
        };
        if let Some(refused) = refused {
            return Ok(answer(state, Done::RetractionRefused(refused)));
        }
        if let Err(refused) = state.check_retraction(&retraction)? {
            return Ok(answer(state, Done::RetractionRefused(refused)));
        }
        let replacement = match replacement.map(|batch| self.fresh(batch)).transpose()? {
            Some(batch) => match self.cannot_replace(state, &batch)? {
                Some(outcome) => return Ok(Answer { outcomes: vec![outcome], ..answer(state, Done::Done) }),
                None => Some(batch),
            },
            None => None,
        };
        self.take_back(state, &retraction, at)?;
        let done = Done::Retracted(state.position());
        self.settle_retraction(state, &retraction, at)?;
        self.trail_of_retraction(state, &retraction, at);
        let Some(batch) = replacement else { return Ok(answer(state, done)) };
        let decided = self.decide(state, &batch, Some(&unlimited()))?;
        Ok(Answer { done, seq: state.position(), ..decided })
    }

    fn fresh(&self, mut batch: Batch) -> Result<Batch, WriterError> {
        if batch.calendars_version != self.batches.0.calendars.version() {
            batch = self.batches.cut_again(batch);
        }
        if batch.index_position < self.recent.floor() {
            batch.look_up(&self.index)?;
        }
        batch.corrects = true;
        Ok(batch)
    }

    /// What would become of a replacement that is not taken.
    fn cannot_replace(&self, state: &mut State, batch: &Batch) -> Result<Option<Outcome>, WriterError> {
        let now = self.believed(state);
        let mut found = super::Found::look(state, &self.recent, batch);
        for slot in &batch.slots {
            let item = match slot {
                Slot::Rejected(code, detail) => return Ok(Some(Outcome::Rejected(*code, detail.clone()))),
                Slot::Event(item) => item,
            };
            if let Err(outcome) = self.judge(state, (batch, item), &mut found, (now, true))? {
                return Ok(Some(outcome));
            }
        }
        Ok(None)
    }

    /// Records the retraction. Accounts that it changes are kept up from before, so that alerts can be told.
    fn take_back(&mut self, state: &mut State, retraction: &Retraction, at: Timestamp) -> Result<(), WriterError> {
        for (change, window) in windows(retraction) {
            if let Some(account) = state.account_for(&change.series, change.meter) {
                state.keep_up(account, (&change.period, window.window))?;
            }
        }
        let record = CorrectionRecord::Retracted { at, retraction: Box::new(retraction.clone()) };
        self.put_correction(state, &record);
        metrics::counter!(crate::metrics::EVENTS_RETRACTED).increment(match retraction.cause {
            Cause::Void(_) => 1,
            Cause::Revert { .. } => windows(retraction).map(|(_, window)| window.events).sum(),
        });
        Ok(())
    }

    /// The alerts that end, or begin, because usage is less, or more.
    fn settle_retraction(
        &mut self,
        state: &mut State,
        retraction: &Retraction,
        at: Timestamp,
    ) -> Result<(), WriterError> {
        let event = match &retraction.cause {
            Cause::Void(void) => Some((void.usage_event_id.as_str(), void.event)),
            Cause::Revert { .. } => None,
        };
        for (change, window) in windows(retraction) {
            let Some(account) = state.account_for(&change.series, change.meter) else { continue };
            if account == NONE {
                continue;
            }
            let less = -state.retracted_from(change, window);
            let place = (&change.period, window.window);
            self.settle_account(state, account, place, (less, window.is_final), (event, at));
            state.release_account(account);
        }
        Ok(())
    }

    fn trail_of_retraction(&mut self, state: &mut State, retraction: &Retraction, at: Timestamp) {
        let Cause::Void(void) = &retraction.cause else { return };
        let after = serde_json::json!({"reason": void.reason, "event_seq": void.event.0, "source": void.source});
        let target = format!("{}/{}", void.customer, void.usage_event_id);
        let tenant = Some(retraction.tenant.as_str());
        self.put_trail(state, (tenant, at), ("event.void", &target), (None, Some(after.to_string())));
    }

    pub(super) fn open_backfill(&mut self, state: &mut State, tenant: &TenantId, id: &str, at: Timestamp) -> Done {
        match state.corrections().named(tenant, id) {
            Some(known) if known.state == BackfillState::Open => return Done::Backfill(Box::new(known.clone())),
            Some(known) if known.state == BackfillState::Reverting => {
                return Done::BackfillRefused(BackfillRefused::Reverting);
            }
            _ => {}
        }
        let number = state.corrections().backfills().len() as u32 + 1;
        let opened = CorrectionRecord::BackfillOpened { tenant: tenant.as_str(), id, number, at };
        self.put_correction(state, &opened);
        self.put_trail(state, (Some(tenant.as_str()), at), ("backfill.open", id), (None, None));
        backfill(state, number)
    }

    /// Begins to take back all of a backfill.
    pub(super) fn revert_backfill(
        &mut self,
        state: &mut State,
        (tenant, id): (&TenantId, &str),
        reason: &str,
        at: Timestamp,
    ) -> Done {
        let Some(known) = state.corrections().named(tenant, id) else {
            return Done::BackfillRefused(BackfillRefused::Unknown);
        };
        let (number, events) = (known.number, known.events);
        if known.state == BackfillState::Open {
            self.put_correction(state, &CorrectionRecord::BackfillReverting { number, at, reason });
            let before = serde_json::json!({"state": "open", "events": events});
            let after = serde_json::json!({"state": "reverting", "reason": reason});
            let change = (Some(before.to_string()), Some(after.to_string()));
            self.put_trail(state, (Some(tenant.as_str()), at), ("backfill.revert", id), change);
            tracing::warn!(backfill = id, events, reason, "a backfill is taken back");
        }
        backfill(state, number)
    }

    /// All of a backfill is taken back.
    pub(super) fn finish_revert(&mut self, state: &mut State, number: u32, at: Timestamp) -> Done {
        if state.corrections().backfill(number).is_some_and(|known| known.state == BackfillState::Reverting) {
            self.put_correction(state, &CorrectionRecord::BackfillReverted { number, at });
            tracing::warn!(number, "the backfill is taken back: its ids are free");
        }
        backfill(state, number)
    }

    /// A batch for a backfill that takes no events: nothing of it is taken.
    pub(super) fn refused_backfill(&self, state: &State, batch: &Batch) -> Option<Answer> {
        let number = batch.backfill?;
        let refused = match state.corrections().backfill(number) {
            Some(known) if known.state == BackfillState::Open => return None,
            Some(known) if known.state == BackfillState::Reverting => BackfillRefused::Reverting,
            _ => BackfillRefused::Unknown,
        };
        Some(answer(state, Done::BackfillRefused(refused)))
    }

    fn put_correction(&mut self, state: &mut State, record: &CorrectionRecord<'_>) {
        record::put_correction(&mut self.payload, record);
        apply_own(state, &Record::Correction(record.clone()));
    }
}

/// Why an event cannot be taken back, if so.
fn refuse_void(state: &State, void: &VoidCause) -> Option<RetractionRefused> {
    let corrections = state.corrections();
    if let Some(by) = corrections.voided(void.event) {
        return Some(RetractionRefused::AlreadyVoided(by));
    }
    let backfill = corrections.backfill_of(void.event).filter(|backfill| backfill.state != BackfillState::Open);
    backfill.map(|backfill| RetractionRefused::Reverted(backfill.id.clone()))
}

fn windows(retraction: &Retraction) -> impl Iterator<Item = (&Change, &WindowChange)> {
    retraction.changes.iter().flat_map(|change| change.windows.iter().map(move |window| (change, window)))
}

fn answer(state: &State, done: Done) -> Answer {
    Answer { outcomes: Vec::new(), seq: state.position(), late: Vec::new(), done }
}

fn backfill(state: &State, number: u32) -> Done {
    let known = state.corrections().backfill(number).cloned();
    known.map_or(Done::BackfillRefused(BackfillRefused::Unknown), |known| Done::Backfill(Box::new(known)))
}
