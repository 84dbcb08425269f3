//! What was taken back, loads of history, and who changed what, in the fold.
//!
//! | record | what it changes |
//! | --- | --- |
//! | Retracted | windows and periods (see [`retract`]); a void's row; how far a revert is |
//! | BackfilledEvents | as Events; the ids in the backfill's own table; which records are its own |
//! | BackfillOpened, BackfillReverting, BackfillReverted | the backfill; once it is reverted its ids are free |
//! | OperatorAction | a row of the trail |
//!
//! | table, key | value |
//! | --- | --- |
//! | voids: tenant (u16 BE length, text) · event's seq u64 BE | void's seq u64 · at i64 · final windows u32 · reason text |
//! | backfill_ids: backfill u32 BE · event key u128 BE | seq u64 · fingerprint u32 |
//! | trail: seq u64 BE | the OperatorAction record's body |
//! | meta `backfill/` + number u32 BE | see [`codec`] |
//! | meta `run/` + first seq u64 BE | last seq u64 · backfill u32 |
//! | meta `retractions` | u64 |
//!
//! 1. An id is free if the record that took it belongs to a backfill that was reverted: runs tell which records those are.
//! 2. Backfills have numbers from 1 in the order in which the log opens them; at most one of a name is not reverted.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::{FoldError, State};
use crate::engine::corrections::{Backfill, BackfillState, Cause, Retraction, TrailEntry, VoidCause, Voided};
use crate::engine::record::CorrectionRecord;
use crate::model::{EventKey, IdEntry, Seq, TenantId, Timestamp};
use crate::store::{Rows, Table};

pub mod codec;
mod retract;

/// Records of one backfill without another's between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub last: Seq,
    pub backfill: u32,
}

#[derive(Debug, Default)]
pub struct Corrections {
    /// Retractions that the log holds.
    retractions: u64,
    /// Events that were taken back one by one, and the records that did it.
    voided: HashMap<Seq, Seq>,
    /// Voids that the store may not have yet: event, tenant, what is said of it.
    recent_voids: VecDeque<(Seq, TenantId, Voided)>,
    /// By number, from 1.
    backfills: Vec<Backfill>,
    /// The newest backfill of each name.
    by_name: BTreeMap<(TenantId, Box<str>), u32>,
    /// By first record.
    runs: BTreeMap<Seq, Run>,
    /// How many backfills are reverted.
    reverted: usize,
    /// Entries of the trail that the store may not have yet.
    recent_trail: VecDeque<TrailEntry>,
    backfills_changed: BTreeSet<u32>,
    runs_changed: BTreeSet<Seq>,
    retractions_changed: bool,
    /// The backfill of the events that are being applied.
    open: Option<u32>,
}

impl Corrections {
    pub fn retractions(&self) -> u64 {
        self.retractions
    }

    /// The record that took an event back by itself.
    pub fn voided(&self, event: Seq) -> Option<Seq> {
        self.voided.get(&event).copied()
    }

    /// What is known of a void that the store may not have yet.
    pub fn recent_void(&self, event: Seq) -> Option<&Voided> {
        self.recent_voids.iter().find(|(seq, ..)| *seq == event).map(|(.., voided)| voided)
    }

    /// Every backfill of all tenants, in order of number.
    pub fn backfills(&self) -> &[Backfill] {
        &self.backfills
    }

    pub fn backfill(&self, number: u32) -> Option<&Backfill> {
        self.backfills.get((number as usize).checked_sub(1)?)
    }

    /// The newest backfill of this name.
    pub fn named(&self, tenant: &TenantId, id: &str) -> Option<&Backfill> {
        self.backfill(*self.by_name.get(&(tenant.clone(), id.into()))?)
    }

    /// The backfill that brought an event.
    pub fn backfill_of(&self, event: Seq) -> Option<&Backfill> {
        let (_, run) = self.runs.range(..=event).next_back()?;
        if event <= run.last { self.backfill(run.backfill) } else { None }
    }

    /// Whether the event went with its backfill, so that its id is free.
    #[inline]
    pub fn is_reverted(&self, event: Seq) -> bool {
        self.reverted > 0 && self.backfill_of(event).is_some_and(|backfill| backfill.state == BackfillState::Reverted)
    }

    /// Entries of the trail that the store may not have yet, oldest first.
    pub fn recent_trail(&self) -> impl Iterator<Item = &TrailEntry> {
        self.recent_trail.iter()
    }

    /// The store has everything up to `position`.
    pub fn committed(&mut self, position: Seq) {
        while self.recent_voids.pop_front_if(|(.., voided)| voided.seq <= position).is_some() {}
        while self.recent_trail.pop_front_if(|entry| entry.seq <= position).is_some() {}
    }

    /// The changes since the last call, as rows.
    pub fn put_changes(&mut self, rows: &mut Rows) {
        for number in std::mem::take(&mut self.backfills_changed) {
            if let Some(backfill) = self.backfill(number) {
                rows.put(Table::Meta, &codec::backfill_key(number), &codec::encode_backfill(backfill));
            }
        }
        for first in std::mem::take(&mut self.runs_changed) {
            rows.put(Table::Meta, &codec::run_key(first), &codec::encode_run(&self.runs[&first]));
        }
        if std::mem::take(&mut self.retractions_changed) {
            rows.put(Table::Meta, codec::RETRACTIONS, &self.retractions.to_le_bytes());
        }
    }

    /// Puts back what the store kept.
    pub(super) fn restore_backfill(&mut self, number: u32, backfill: Backfill) -> Option<()> {
        (number as usize == self.backfills.len() + 1).then_some(())?;
        self.by_name.insert((backfill.tenant.clone(), backfill.id.as_str().into()), number);
        self.reverted += usize::from(backfill.state == BackfillState::Reverted);
        self.backfills.push(backfill);
        Some(())
    }

    pub(super) fn restore_run(&mut self, first: Seq, run: Run) {
        self.runs.insert(first, run);
    }

    pub(super) fn restore_void(&mut self, event: Seq, void: Seq) {
        self.voided.insert(event, void);
    }

    pub(super) fn restore_retractions(&mut self, retractions: u64) {
        self.retractions = retractions;
    }

    fn changed(&mut self, number: u32) -> Option<&mut Backfill> {
        self.backfills_changed.insert(number);
        self.backfills.get_mut((number as usize).checked_sub(1)?)
    }

    /// Records `first` to `last` belong to a backfill.
    fn extend_run(&mut self, backfill: u32, (first, last): (Seq, Seq)) {
        let newest = self.runs.iter_mut().next_back();
        let start = match newest {
            Some((start, run)) if run.backfill == backfill && run.last.next() == first => {
                run.last = last;
                *start
            }
            _ => {
                self.runs.insert(first, Run { last, backfill });
                first
            }
        };
        self.runs_changed.insert(start);
    }
}

impl State {
    pub fn corrections(&self) -> &Corrections {
        &self.corrections
    }

    /// The events that are applied next belong to this backfill.
    pub(super) fn begin_backfilled(&mut self, backfill: Option<u32>) {
        self.corrections.open = backfill;
    }

    /// An event was taken, and with it its id.
    pub fn take_id(&mut self, key: EventKey, entry: IdEntry) {
        if let Some(backfill) = self.corrections.open {
            self.epoch.add_row(Table::BackfillIds, &codec::id_key(backfill, key), &codec::encode_id(entry));
        }
    }

    /// So many events of the open backfill were applied, up to this record.
    pub(super) fn end_backfilled(&mut self, count: u64, last: Seq) -> Result<(), FoldError> {
        let Some(number) = self.corrections.open else { return Ok(()) };
        let first = Seq(last.0 + 1 - count);
        let backfill = self.corrections.changed(number).ok_or(FoldError::DoesNotFit(last))?;
        backfill.events += count;
        backfill.last_seq = last;
        if backfill.first_seq == Seq::ZERO {
            backfill.first_seq = first;
        }
        self.corrections.extend_run(number, (first, last));
        Ok(())
    }

    pub(super) fn apply_correction(&mut self, seq: Seq, record: &CorrectionRecord<'_>) -> Result<(), FoldError> {
        match record {
            CorrectionRecord::Retracted { at, retraction } => self.apply_retraction(seq, *at, retraction)?,
            CorrectionRecord::BackfillOpened { tenant, id, number, at } => {
                let backfill = Backfill {
                    tenant: TenantId::new(tenant),
                    id: (*id).to_owned(),
                    number: *number,
                    opened_at: *at,
                    state: BackfillState::Open,
                    events: 0,
                    first_seq: Seq::ZERO,
                    last_seq: Seq::ZERO,
                    reverted_feeds: 0,
                    reverted_to: None,
                    reverting_at: None,
                    reverted_at: None,
                    reason: String::new(),
                };
                self.corrections.restore_backfill(*number, backfill).ok_or(FoldError::OutOfPlace(seq))?;
                self.corrections.backfills_changed.insert(*number);
            }
            CorrectionRecord::BackfillReverting { number, at, reason } => {
                let backfill = self.corrections.changed(*number).ok_or(FoldError::OutOfPlace(seq))?;
                backfill.state = BackfillState::Reverting;
                backfill.reverting_at = Some(*at);
                backfill.reason = (*reason).to_owned();
            }
            CorrectionRecord::BackfillReverted { number, at } => {
                let backfill = self.corrections.changed(*number).ok_or(FoldError::OutOfPlace(seq))?;
                backfill.state = BackfillState::Reverted;
                backfill.reverted_at = Some(*at);
                self.corrections.reverted += 1;
                let (from, to) = (number.to_be_bytes(), number.saturating_add(1).to_be_bytes());
                self.epoch.delete_range(Table::BackfillIds, &from, &to);
            }
            CorrectionRecord::Action(entry) => {
                let entry = TrailEntry { seq, ..(**entry).clone() };
                self.epoch.add_row(Table::Trail, &seq.0.to_be_bytes(), &codec::encode_trail(&entry));
                self.corrections.recent_trail.push_back(entry);
            }
        }
        Ok(())
    }

    fn apply_retraction(&mut self, seq: Seq, at: Timestamp, retraction: &Retraction) -> Result<(), FoldError> {
        let taken = self.retract(seq, at, retraction)?;
        self.corrections.retractions += 1;
        self.corrections.retractions_changed = true;
        match &retraction.cause {
            Cause::Void(void) => self.note_void(seq, at, (&retraction.tenant, void), taken.adjusted),
            Cause::Revert { backfill } => {
                let backfill = self.corrections.changed(*backfill).ok_or(FoldError::OutOfPlace(seq))?;
                backfill.reverted_feeds += taken.feeds;
                let last = retraction.changes.last();
                let place = last.and_then(|change| Some((change.series.clone(), change.windows.last()?.window.start)));
                backfill.reverted_to = place.or(backfill.reverted_to.take());
            }
        }
        Ok(())
    }

    fn note_void(&mut self, seq: Seq, at: Timestamp, (tenant, void): (&TenantId, &VoidCause), adjusted: u32) {
        let voided = Voided { seq, at, adjusted, reason: void.reason.clone() };
        let mut name = Vec::with_capacity(64);
        codec::void_key(&mut name, tenant.as_str(), void.event);
        self.epoch.add_row(Table::Voids, &name, &codec::encode_void(&voided));
        self.corrections.voided.insert(void.event, seq);
        self.corrections.recent_voids.push_back((void.event, tenant.clone(), voided));
    }
}
