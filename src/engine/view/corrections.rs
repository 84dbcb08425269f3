//! What was taken back, loads of history, and who changed what, as readers see it.

use super::{ReadError, View};
use crate::engine::corrections::{Backfill, Basis, TrailEntry, Voided};
use crate::engine::state::LoadError;
use crate::engine::state::corrections::codec::{decode_trail, decode_void, void_key};
use crate::model::{Seq, TenantId, Timestamp};
use crate::store::{Store, Table};

#[derive(Clone, Debug)]
pub struct TrailQuery {
    pub tenant: TenantId,
    /// Entries after this record.
    pub since: Seq,
    /// Only actions that begin like this.
    pub action: Option<String>,
    pub limit: usize,
}

/// What became of an event since it was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// It was taken back by itself.
    pub voided: Option<Voided>,
    /// The name of the backfill that brought it.
    pub backfill: Option<String>,
    /// It went with its backfill, at this time.
    pub reverted_at: Option<Timestamp>,
}

#[derive(Debug)]
pub struct TrailPage {
    /// Oldest first: the tenant's own, and those that concern all tenants.
    pub rows: Vec<TrailEntry>,
    pub more: bool,
    /// Nothing may leave before this record is durable.
    pub seq: Seq,
}

impl View {
    /// A tenant's backfills, oldest first; and the record that they are as of.
    pub fn backfills(&self, tenant: &TenantId) -> (Vec<Backfill>, Seq) {
        let state = self.state.read();
        let theirs = state.corrections().backfills().iter().filter(|backfill| backfill.tenant == *tenant);
        (theirs.cloned().collect(), state.position())
    }

    /// Every backfill of any tenant that is being reverted.
    pub fn reverting_backfills(&self) -> Vec<Backfill> {
        use crate::engine::corrections::BackfillState::Reverting;
        let state = self.state.read();
        state.corrections().backfills().iter().filter(|backfill| backfill.state == Reverting).cloned().collect()
    }

    /// The name of the backfill that brought an event.
    pub fn backfill_of(&self, event: Seq) -> Option<Backfill> {
        self.state.read().corrections().backfill_of(event).cloned()
    }

    /// How an event left, if it was taken back by itself.
    pub fn voided(&self, tenant: &TenantId, event: Seq) -> Result<Option<Voided>, ReadError> {
        let state = self.state.read();
        if state.corrections().voided(event).is_none() {
            return Ok(None);
        }
        if let Some(recent) = state.corrections().recent_void(event) {
            return Ok(Some(recent.clone()));
        }
        let store = state.store().clone();
        drop(state);
        stored_void(&*store, tenant, event)
    }

    /// What became of events, in their order, and the record that this is as of. A few thousand at most: the writer waits
    /// meanwhile.
    pub fn standings(&self, tenant: &TenantId, events: &[Seq]) -> Result<(Vec<Standing>, Seq), ReadError> {
        let mut stored = Vec::new();
        let state = self.state.read();
        let corrections = state.corrections();
        let mut standings: Vec<Standing> = events
            .iter()
            .enumerate()
            .map(|(place, event)| {
                let voided = corrections.voided(*event).and_then(|_| {
                    let recent = corrections.recent_void(*event).cloned();
                    if recent.is_none() {
                        stored.push((place, *event));
                    }
                    recent
                });
                let backfill = corrections.backfill_of(*event);
                let reverted_at = backfill.and_then(|backfill| backfill.reverted_at);
                Standing { voided, backfill: backfill.map(|backfill| backfill.id.clone()), reverted_at }
            })
            .collect();
        let (store, seq) = (state.store().clone(), state.position());
        drop(state);
        for (place, event) in stored {
            standings[place].voided = stored_void(&*store, tenant, event)?;
        }
        Ok((standings, seq))
    }

    /// Whether an event does not count any more: it was taken back by itself, or went with its backfill.
    ///
    /// While a backfill is being reverted its events count as far as the revert has not come to them: then this says that
    /// they do, and `Retraction::basis` tells whether that still holds.
    pub fn is_taken_back(&self, event: Seq) -> bool {
        let state = self.state.read();
        state.corrections().voided(event).is_some() || state.corrections().is_reverted(event)
    }

    /// What a retraction that is computed from now on is computed against.
    pub fn basis(&self) -> Basis {
        Basis { retractions: self.state.read().corrections().retractions() }
    }

    /// A page of the trail.
    pub fn trail(&self, query: &TrailQuery) -> Result<TrailPage, ReadError> {
        let wanted = |entry: &TrailEntry| {
            entry.seq > query.since
                && entry.tenant.as_deref().is_none_or(|tenant| tenant == query.tenant.as_str())
                && query.action.as_deref().is_none_or(|action| entry.action.starts_with(action))
        };
        let state = self.state.read();
        let store = state.store().clone();
        let snapshot = store.snapshot();
        let newer: Vec<TrailEntry> =
            state.corrections().recent_trail().filter(|entry| wanted(entry)).cloned().collect();
        let seq = state.position();
        drop(state);
        let mut rows: Vec<TrailEntry> = Vec::new();
        let mut cursor = snapshot.cursor(Table::Trail)?;
        cursor.seek(&query.since.next().0.to_be_bytes())?;
        while let (Some((key, value)), true) = (cursor.row(), rows.len() <= query.limit) {
            let damaged = || LoadError::Damaged { table: Table::Trail, key: key.to_vec() };
            let at = key.try_into().map(|key| Seq(u64::from_be_bytes(key))).map_err(|_| damaged())?;
            let entry = decode_trail(at, value).ok_or_else(damaged)?;
            if wanted(&entry) {
                rows.push(entry);
            }
            cursor.advance()?;
        }
        let last = rows.last().map_or(Seq::ZERO, |entry| entry.seq);
        rows.extend(newer.into_iter().filter(|entry| entry.seq > last));
        let more = rows.len() > query.limit;
        rows.truncate(query.limit);
        Ok(TrailPage { rows, more, seq })
    }
}

fn stored_void(store: &dyn Store, tenant: &TenantId, event: Seq) -> Result<Option<Voided>, ReadError> {
    let mut name = Vec::with_capacity(64);
    void_key(&mut name, tenant.as_str(), event);
    let damaged = || LoadError::Damaged { table: Table::Voids, key: name.clone() };
    let row = store.get(Table::Voids, &name)?;
    Ok(row.map(|row| decode_void(&row).ok_or_else(damaged)).transpose()?)
}
