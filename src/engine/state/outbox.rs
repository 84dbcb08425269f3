//! What goes out: the outbox's rows, sinks with their cursors, deliveries and dead letters.
//!
//! | record | what it changes |
//! | --- | --- |
//! | Closed, a late event, AlertRaised, AlertRecovered | rows of the outbox, if a sink wants their kind |
//! | SinkDefined, Paused, Resumed, Forgotten | the sink; forgotten: and its deliveries |
//! | DeliveryPlanned | a pending delivery; the sink's cursor stands behind its last row |
//! | AttemptFailed | due again later |
//! | Delivered | done: remembered among the sink's newest |
//! | DeadLettered | a dead letter, with its rows |
//! | ReplayRequested | dead letters that are pending again |
//!
//! 1. A row stays until it is planned for every sink that wants its kind, and each delivery that has it is done or has a copy.
//!    What may go is a function of the log alone: everything before [`Outbox::needed`].
//! 2. All deliveries that are known are in memory: pending ones and dead letters, and `DELIVERED_KEPT` of each sink.
//! 3. No row is in two deliveries to one sink: a plan begins at or behind the cursor.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::engine::caps::Alert;
use crate::engine::outbox::{
    DELIVERED_KEPT, Delivery, DeliveryId, DeliveryState, PauseCause, Plan, RequestKey, SinkPause,
};
use crate::engine::record::{AttemptRecord, DeliveryRecord, SinkRecord};
use crate::engine::state::caps::codec::encode_outbox_alert;
use crate::engine::state::epoch::Epoch;
use crate::engine::state::{FoldError, State};
use crate::model::{OutboxPosition, RowKind, RowKinds, Seq, Timestamp};
use crate::store::{Rows, Table};

mod codec;
mod load;

pub use codec::{
    OutboxContent, StoredRow, decode_attempt, decode_outbox, outbox_key, split_dead_key, split_outbox_key,
};

/// Requests for a replay that are remembered by their `Idempotency-Key`: the newest.
const REQUESTS_KEPT: usize = 1_000;
const KINDS: usize = RowKind::ALL.len();

#[derive(Debug, Default)]
pub struct Outbox {
    sinks: BTreeMap<Arc<str>, Sink>,
    deliveries: BTreeMap<Seq, Known>,
    requests: VecDeque<Request>,
    /// By kind: where pending deliveries begin whose rows are in the outbox.
    firsts: [BTreeSet<(OutboxPosition, Seq)>; KINDS],
    /// By kind: where the newest row is that there can be.
    newest: [OutboxPosition; KINDS],
    /// By kind: rows before this are gone.
    trimmed: [OutboxPosition; KINDS],
    sinks_changed: BTreeSet<Arc<str>>,
    deliveries_changed: BTreeSet<Seq>,
}

#[derive(Debug, Default)]
pub struct Sink {
    pub kinds: RowKinds,
    /// By kind: where the rows begin that are not planned.
    pub cursors: [OutboxPosition; KINDS],
    pub pause: Option<SinkPause>,
    /// By due time.
    pending: BTreeSet<(Timestamp, Seq)>,
    /// By the record that said so.
    delivered: BTreeSet<(Seq, Seq)>,
    dead: BTreeSet<Seq>,
}

/// A delivery, and what only the fold needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub delivery: Delivery,
    /// The record that brought its rows, once it was a dead letter. Before that they are in the outbox.
    pub copied_at: Option<Seq>,
    /// The record that says that it was delivered.
    pub delivered_at: Option<Seq>,
}

/// A replay that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Request {
    seq: Seq,
    key: RequestKey,
    count: u32,
}

impl Sink {
    pub fn pending(&self) -> impl ExactSizeIterator<Item = Seq> {
        self.pending.iter().map(|(_, seq)| *seq)
    }

    pub fn dead(&self) -> impl ExactSizeIterator<Item = Seq> {
        self.dead.iter().copied()
    }
}

impl Outbox {
    pub fn sinks(&self) -> impl Iterator<Item = (&Arc<str>, &Sink)> {
        self.sinks.iter()
    }

    pub fn sink(&self, name: &str) -> Option<&Sink> {
        self.sinks.get(name)
    }

    /// In order of planning, after `after`.
    pub fn deliveries(&self, after: Option<Seq>) -> impl Iterator<Item = (Seq, &Known)> {
        let first = after.map_or(Seq::ZERO, Seq::next);
        self.deliveries.range(first..).map(|(seq, known)| (*seq, known))
    }

    pub fn delivery(&self, seq: Seq) -> Option<&Known> {
        self.deliveries.get(&seq)
    }

    /// What a request with this key came to before: the digest of the request, and the count it was answered with.
    pub fn request(&self, key: &str) -> Option<(u64, u32)> {
        let known = self.requests.iter().find(|request| request.key.key == key)?;
        Some((known.key.request, known.count))
    }

    pub fn wants(&self, kind: RowKind) -> bool {
        self.sinks.values().any(|sink| sink.kinds.contains(kind))
    }

    /// A row of usage for every sink that wants its kind.
    pub fn put(&mut self, epoch: &mut Epoch, position: OutboxPosition, content: &OutboxContent<'_>) {
        self.put_row(epoch, (content.change.kind(), position), || codec::encode_usage(content));
    }

    /// An alert for every sink that wants alerts.
    pub fn put_alert(&mut self, epoch: &mut Epoch, position: OutboxPosition, alert: &Alert) {
        self.put_row(epoch, (RowKind::Alerts, position), || encode_outbox_alert(alert));
    }

    fn put_row(
        &mut self,
        epoch: &mut Epoch,
        (kind, position): (RowKind, OutboxPosition),
        value: impl FnOnce() -> Vec<u8>,
    ) {
        if self.wants(kind) {
            epoch.add_row(Table::Outbox, &outbox_key(kind, position), &value());
            self.newest[kind as usize] = position;
        }
    }

    /// Every row before this may go.
    fn needed(&self, kind: RowKind) -> OutboxPosition {
        let cursors =
            self.sinks.values().filter(|sink| sink.kinds.contains(kind)).map(|sink| sink.cursors[kind as usize]);
        let pending = self.firsts[kind as usize].first().map(|(first, _)| *first);
        cursors.chain(pending).min().unwrap_or(self.newest[kind as usize].next())
    }

    /// What changed since the last call, as rows.
    pub fn put_changes(&mut self, rows: &mut Rows) {
        for kind in RowKind::ALL {
            let (needed, at) = (self.needed(kind), kind as usize);
            if self.trimmed[at] < needed && self.trimmed[at] <= self.newest[at] {
                rows.delete_range(Table::Outbox, &outbox_key(kind, self.trimmed[at]), &outbox_key(kind, needed));
                self.trimmed[at] = needed;
            }
        }
        for name in std::mem::take(&mut self.sinks_changed) {
            match self.sinks.get(&name) {
                Some(sink) => rows.put(Table::Meta, &codec::sink_key(&name), &codec::encode_sink(sink)),
                None => rows.delete(Table::Meta, &codec::sink_key(&name)),
            }
        }
        for seq in std::mem::take(&mut self.deliveries_changed) {
            match self.deliveries.get(&seq) {
                Some(known) => rows.put(Table::Deliveries, &codec::delivery_key(seq), &codec::encode_delivery(known)),
                None => rows.delete(Table::Deliveries, &codec::delivery_key(seq)),
            }
        }
    }

    fn sink_mut(&mut self, seq: Seq, name: &str) -> Result<&mut Sink, FoldError> {
        let (name, _) = self.sinks.get_key_value(name).ok_or(FoldError::DoesNotFit(seq))?;
        let name = name.clone();
        self.sinks_changed.insert(name.clone());
        self.sinks.get_mut(&name).ok_or(FoldError::DoesNotFit(seq))
    }

    /// Its rows are not needed in the outbox any more.
    fn let_go(&mut self, seq: Seq, (kind, first): (RowKind, OutboxPosition)) {
        self.firsts[kind as usize].remove(&(first, seq));
    }

    /// A delivery that is pending, taken out of its sink's list; whoever takes it puts it back or says what became of it.
    fn take_pending(&mut self, seq: Seq, delivery: Seq) -> Result<(&mut Known, &mut Sink), FoldError> {
        let known = self.deliveries.get_mut(&delivery).ok_or(FoldError::DoesNotFit(seq))?;
        let DeliveryState::Pending { due } = known.delivery.state else { return Err(FoldError::DoesNotFit(seq)) };
        let sink = self.sinks.get_mut(&known.delivery.sink).ok_or(FoldError::DoesNotFit(seq))?;
        sink.pending.remove(&(due, delivery));
        self.deliveries_changed.insert(delivery);
        Ok((known, sink))
    }

    fn define(&mut self, seq: Seq, name: &str, kinds: RowKinds) {
        let name: Arc<str> = name.into();
        let sink = self.sinks.entry(name.clone()).or_default();
        for kind in kinds.iter().filter(|kind| !sink.kinds.contains(*kind)) {
            sink.cursors[kind as usize] = OutboxPosition::new(seq, 0);
        }
        sink.kinds = kinds;
        self.sinks_changed.insert(name);
    }

    /// The rows of a directory that was restored may have gone out already.
    fn pause_all(&mut self, pause: &SinkPause) {
        for (name, sink) in &mut self.sinks {
            sink.pause = Some(pause.clone());
            self.sinks_changed.insert(name.clone());
        }
    }
}

impl State {
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub(super) fn pause_after_restore(&mut self, reason: &str) {
        let (cause, at) = (PauseCause::Restored, self.clock.effective());
        self.outbox.pause_all(&SinkPause { cause, reason: reason.to_owned(), at });
    }

    pub(super) fn apply_sink(&mut self, seq: Seq, record: &SinkRecord<'_>) -> Result<(), FoldError> {
        match *record {
            SinkRecord::Defined { name, kinds } => self.outbox.define(seq, name, kinds),
            SinkRecord::Paused { name, cause, reason, at } => {
                self.outbox.sink_mut(seq, name)?.pause = Some(SinkPause { cause, reason: reason.to_owned(), at });
            }
            SinkRecord::Resumed { name, .. } => self.outbox.sink_mut(seq, name)?.pause = None,
            SinkRecord::Forgotten { name, .. } => self.forget_sink(seq, name)?,
        }
        Ok(())
    }

    fn forget_sink(&mut self, seq: Seq, name: &str) -> Result<(), FoldError> {
        self.outbox.sink_mut(seq, name)?;
        let sink = self.outbox.sinks.remove(name).ok_or(FoldError::DoesNotFit(seq))?;
        let delivered = sink.delivered.iter().map(|(_, delivery)| *delivery);
        let deliveries = sink.pending().chain(sink.dead()).chain(delivered);
        deliveries.for_each(|delivery| self.forget_delivery(delivery));
        Ok(())
    }

    fn forget_delivery(&mut self, seq: Seq) {
        self.outbox.deliveries_changed.insert(seq);
        let Some(known) = self.outbox.deliveries.remove(&seq) else { return };
        self.outbox.let_go(seq, (known.delivery.kind, known.delivery.first));
        for number in 1..=known.delivery.attempts {
            self.epoch.delete_row(Table::Attempts, &codec::attempt_key(seq, number));
        }
        self.drop_copy(seq, known.copied_at);
    }

    /// A copy's rows are written once, so that they can be deleted as a range.
    fn drop_copy(&mut self, delivery: Seq, copied_at: Option<Seq>) {
        if copied_at.is_some() {
            let (from, to) = (codec::delivery_key(delivery), codec::delivery_key(delivery.next()));
            self.epoch.delete_range(Table::DeadLetters, &from, &to);
        }
    }

    pub(super) fn apply_delivery(&mut self, seq: Seq, record: &DeliveryRecord<'_>) -> Result<(), FoldError> {
        match record {
            DeliveryRecord::Planned { sink, plan, at } => self.plan(seq, sink, *plan, *at)?,
            DeliveryRecord::Failed { delivery, due, attempt } => {
                let (known, sink) = self.outbox.take_pending(seq, *delivery)?;
                known.delivery.state = DeliveryState::Pending { due: *due };
                known.delivery.failures += 1;
                sink.pending.insert((*due, *delivery));
                self.note_attempt(*delivery, attempt);
            }
            DeliveryRecord::Delivered { delivery, attempt } => self.deliver(seq, *delivery, attempt)?,
            DeliveryRecord::Dead { delivery, attempt, rows } => self.bury(seq, *delivery, attempt, rows)?,
            DeliveryRecord::ReplayRequested { at, key, deliveries } => {
                self.replay(seq, *at, deliveries)?;
                if let Some((key, request)) = *key {
                    let key = RequestKey { key: key.to_owned(), request };
                    self.remember_request(Request { seq, key, count: deliveries.len() as u32 });
                }
            }
        }
        Ok(())
    }

    fn plan(&mut self, seq: Seq, sink: &str, plan: Plan, at: Timestamp) -> Result<(), FoldError> {
        let genesis = self.genesis.as_ref().ok_or(FoldError::OutOfPlace(seq))?;
        let id = DeliveryId { store: (genesis.store_id >> 96) as u32, incarnation: genesis.incarnation, seq };
        let planned = self.outbox.sink_mut(seq, sink)?;
        let cursor = &mut planned.cursors[plan.kind as usize];
        if plan.first < *cursor || plan.last < plan.first {
            return Err(FoldError::DoesNotFit(seq));
        }
        *cursor = plan.last.next();
        planned.pending.insert((at, seq));
        let (name, _) = self.outbox.sinks.get_key_value(sink).ok_or(FoldError::DoesNotFit(seq))?;
        let delivery = Delivery::planned(id, name.clone(), &plan, at);
        self.outbox.firsts[plan.kind as usize].insert((plan.first, seq));
        self.outbox.deliveries.insert(seq, Known { delivery, copied_at: None, delivered_at: None });
        self.outbox.deliveries_changed.insert(seq);
        Ok(())
    }

    fn deliver(&mut self, seq: Seq, delivery: Seq, attempt: &AttemptRecord<'_>) -> Result<(), FoldError> {
        let (known, sink) = self.outbox.take_pending(seq, delivery)?;
        known.delivery.state = DeliveryState::Delivered { at: attempt.at.saturating_add(attempt.took) };
        known.delivered_at = Some(seq);
        let copied_at = known.copied_at.take();
        let place = (known.delivery.kind, known.delivery.first);
        sink.delivered.insert((seq, delivery));
        let oldest = if sink.delivered.len() > DELIVERED_KEPT { sink.delivered.pop_first() } else { None };
        self.outbox.let_go(delivery, place);
        self.note_attempt(delivery, attempt);
        self.drop_copy(delivery, copied_at);
        if let Some((_, oldest)) = oldest {
            self.forget_delivery(oldest);
        }
        Ok(())
    }

    fn bury(
        &mut self,
        seq: Seq,
        delivery: Seq,
        attempt: &AttemptRecord<'_>,
        rows: &[(OutboxPosition, &[u8])],
    ) -> Result<(), FoldError> {
        let (known, sink) = self.outbox.take_pending(seq, delivery)?;
        known.delivery.state = DeliveryState::Dead { at: attempt.at.saturating_add(attempt.took) };
        known.delivery.failures += 1;
        sink.dead.insert(delivery);
        let place = (known.delivery.kind, known.delivery.first);
        // A second death brings no rows: the copy is still there.
        if known.copied_at.is_none() {
            known.copied_at = Some(seq);
            for (position, row) in rows {
                self.epoch.add_row(Table::DeadLetters, &codec::dead_key(delivery, *position), row);
            }
        }
        self.outbox.let_go(delivery, place);
        self.note_attempt(delivery, attempt);
        Ok(())
    }

    fn note_attempt(&mut self, delivery: Seq, attempt: &AttemptRecord<'_>) {
        let Some(known) = self.outbox.deliveries.get_mut(&delivery) else { return };
        known.delivery.attempts += 1;
        known.delivery.last_attempt = Some((*attempt).into());
        let key = codec::attempt_key(delivery, known.delivery.attempts);
        self.epoch.add_row(Table::Attempts, &key, &codec::encode_attempt(attempt));
    }

    fn replay(&mut self, seq: Seq, at: Timestamp, deliveries: &[Seq]) -> Result<(), FoldError> {
        for delivery in deliveries {
            let known = self.outbox.deliveries.get_mut(delivery).ok_or(FoldError::DoesNotFit(seq))?;
            let sink = self.outbox.sinks.get_mut(&known.delivery.sink).ok_or(FoldError::DoesNotFit(seq))?;
            if !sink.dead.remove(delivery) {
                return Err(FoldError::DoesNotFit(seq));
            }
            known.delivery.state = DeliveryState::Pending { due: at };
            known.delivery.failures = 0;
            known.delivery.replays += 1;
            sink.pending.insert((at, *delivery));
            self.outbox.deliveries_changed.insert(*delivery);
        }
        Ok(())
    }

    fn remember_request(&mut self, request: Request) {
        self.epoch.add_row(Table::Meta, &codec::request_key(request.seq), &codec::encode_request(&request));
        self.outbox.requests.push_back(request);
        if self.outbox.requests.len() > REQUESTS_KEPT
            && let Some(oldest) = self.outbox.requests.pop_front()
        {
            self.epoch.delete_row(Table::Meta, &codec::request_key(oldest.seq));
        }
    }
}
