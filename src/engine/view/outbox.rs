//! What delivery reads: rows that the store has committed, and what the log says of sinks and deliveries.
//!
//! 1. A row is read only once it is committed: so it is durable, and what it rests on too.
//! 2. What is said of sinks and deliveries is the newest state; nobody acts upon it before the seq it came with is durable.

use super::{ReadError, View};
use crate::engine::key;
use crate::engine::outbox::{
    Attempt, DeliveriesPage, DeliveriesQuery, Delivery, DeliveryFilter, DeliveryId, DeliveryState, OutboxRow,
    RowContent, SinkStatus, SinkWork, UsageRow,
};
use crate::engine::state::{
    Content, LoadError, Outbox, OutboxContent, RowContext, Sink, StoredRow, decode_attempt, decode_outbox, outbox_key,
    split_dead_key, split_outbox_key,
};
use crate::meter::Meters;
use crate::model::{OutboxPosition, RowKind, Seq, Timestamp};
use crate::store::{Snapshot, StoreError, Table};

impl View {
    /// What a sink has to do, with up to `pending` of its deliveries. None: the log knows no such sink.
    pub fn sink_work(&self, sink: &str, pending: usize) -> Option<SinkWork> {
        let state = self.state.read();
        let outbox = state.outbox();
        let sink = outbox.sink(sink)?;
        let deliveries = sink.pending().take(pending).filter_map(|seq| outbox.delivery(seq));
        Some(SinkWork {
            seq: state.position(),
            pause: sink.pause.clone(),
            cursors: sink.kinds.iter().map(|kind| (kind, sink.cursors[kind as usize])).collect(),
            pending: deliveries.map(|known| known.delivery.clone()).collect(),
            pending_total: sink.pending().len(),
        })
    }

    /// Up to `limit` committed rows at or behind `from`, in order. Blocks.
    pub fn outbox(&self, kind: RowKind, from: OutboxPosition, limit: usize) -> Result<Vec<OutboxRow>, ReadError> {
        let store = self.state.read().store().clone();
        let snapshot = store.snapshot();
        let last = OutboxPosition::new(Seq(u64::MAX), u32::MAX);
        self.rows_between(&*snapshot, kind, (from, last), limit)
    }

    /// A delivery's rows. None: they are not committed yet, or are gone because it is delivered. Blocks.
    pub fn payload(&self, delivery: &Delivery) -> Result<Option<Vec<OutboxRow>>, ReadError> {
        let state = self.state.read();
        let Some(known) = state.outbox().delivery(delivery.id.seq) else { return Ok(None) };
        let (copied_at, is_done) = (known.copied_at, matches!(known.delivery.state, DeliveryState::Delivered { .. }));
        let store = state.store().clone();
        drop(state);
        // A crash may have taken rows from the store again that were committed when they were planned.
        if store.position() < copied_at.unwrap_or(delivery.last.seq) {
            return Ok(None);
        }
        let (snapshot, count) = (store.snapshot(), delivery.rows as usize);
        let rows = match copied_at {
            Some(_) => self.copied_rows(&*snapshot, delivery)?,
            None => self.rows_between(&*snapshot, delivery.kind, (delivery.first, delivery.last), count)?,
        };
        match rows.len() == count {
            true => Ok(Some(rows)),
            // It may have been delivered since.
            false if is_done || self.delivery(delivery.id).0.is_none_or(|now| now.state != delivery.state) => Ok(None),
            false => Err(damaged(Table::Outbox, &outbox_key(delivery.kind, delivery.first))),
        }
    }

    fn rows_between(
        &self,
        snapshot: &dyn Snapshot,
        kind: RowKind,
        (first, last): (OutboxPosition, OutboxPosition),
        limit: usize,
    ) -> Result<Vec<OutboxRow>, ReadError> {
        let (meters, mut rows) = (self.batches.meters(), Vec::new());
        let mut cursor = snapshot.cursor(Table::Outbox)?;
        cursor.seek(&outbox_key(kind, first))?;
        while let Some((name, value)) = cursor.row().filter(|_| rows.len() < limit) {
            let (found, position) = split_outbox_key(name).ok_or_else(|| damaged(Table::Outbox, name))?;
            if found != kind || position > last {
                break;
            }
            let row = show(&meters, (kind, position), value).ok_or_else(|| damaged(Table::Outbox, name))?;
            rows.push(row);
            cursor.advance()?;
        }
        Ok(rows)
    }

    fn copied_rows(&self, snapshot: &dyn Snapshot, delivery: &Delivery) -> Result<Vec<OutboxRow>, ReadError> {
        let (meters, mut rows) = (self.batches.meters(), Vec::new());
        let mut cursor = snapshot.cursor(Table::DeadLetters)?;
        cursor.seek(&delivery.id.seq.0.to_be_bytes())?;
        while let Some((name, value)) = cursor.row() {
            let (owner, position) = split_dead_key(name).ok_or_else(|| damaged(Table::DeadLetters, name))?;
            if owner != delivery.id.seq {
                break;
            }
            let row = show(&meters, (delivery.kind, position), value);
            rows.push(row.ok_or_else(|| damaged(Table::DeadLetters, name))?);
            cursor.advance()?;
        }
        Ok(rows)
    }

    /// Every sink, and the record it is as of. Reads one row of the store for each.
    pub fn sinks(&self) -> (Vec<SinkStatus>, Seq) {
        let (mut statuses, firsts, seq, store) = {
            let state = self.state.read();
            let outbox = state.outbox();
            let status = |(name, sink): (&std::sync::Arc<str>, &Sink)| SinkStatus {
                name: name.clone(),
                kinds: sink.kinds,
                pause: sink.pause.clone(),
                pending: sink.pending().len() as u64,
                dead: sink.dead().len() as u64,
                oldest: sink.pending().filter_map(|seq| Some(outbox.delivery(seq)?.delivery.planned_at)).min(),
            };
            let statuses: Vec<_> = outbox.sinks().map(status).collect();
            let firsts: Vec<_> = outbox.sinks().map(|(_, sink)| first_rows(outbox, sink)).collect();
            (statuses, firsts, state.position(), state.store().clone())
        };
        let snapshot = store.snapshot();
        for (status, firsts) in statuses.iter_mut().zip(firsts) {
            let times = firsts.into_iter().filter_map(|(kind, first)| {
                first_time(&*snapshot, kind, first)
                    .inspect_err(|error| tracing::warn!(%error, "cannot read the outbox"))
                    .ok()?
            });
            status.oldest = times.chain(status.oldest).min();
        }
        (statuses, seq)
    }

    /// A page of deliveries, in order of planning, and the record it is as of.
    pub fn deliveries(&self, query: &DeliveriesQuery) -> DeliveriesPage {
        let state = self.state.read();
        let known = state.outbox().deliveries(query.after).map(|(_, known)| &known.delivery);
        let mut wanted = known.filter(|delivery| is_wanted(delivery, query));
        let deliveries = wanted.by_ref().take(query.limit).cloned().collect();
        DeliveriesPage { deliveries, more: wanted.next().is_some(), seq: state.position() }
    }

    /// One delivery, and the record it is as of.
    pub fn delivery(&self, id: DeliveryId) -> (Option<Delivery>, Seq) {
        let state = self.state.read();
        let known = state.outbox().delivery(id.seq).map(|known| &known.delivery).filter(|delivery| delivery.id == id);
        (known.cloned(), state.position())
    }

    /// The attempts at a delivery that the store has, oldest first. Blocks.
    pub fn attempts(&self, id: DeliveryId) -> Result<Vec<Attempt>, ReadError> {
        let store = self.state.read().store().clone();
        let (mut attempts, mut bad) = (Vec::new(), None);
        store.scan(Table::Attempts, &id.seq.0.to_be_bytes(), &mut |key, value| {
            match decode_attempt(value) {
                Some(attempt) => attempts.push(attempt),
                None => bad = Some(damaged(Table::Attempts, key)),
            }
            std::ops::ControlFlow::Continue(())
        })?;
        bad.map_or(Ok(attempts), Err)
    }
}

fn damaged(table: Table, key: &[u8]) -> ReadError {
    LoadError::Damaged { table, key: key.to_vec() }.into()
}

fn is_wanted(delivery: &Delivery, query: &DeliveriesQuery) -> bool {
    let state = match delivery.state {
        DeliveryState::Pending { .. } if delivery.failures == 0 => DeliveryFilter::Pending,
        DeliveryState::Pending { .. } => DeliveryFilter::Retrying,
        DeliveryState::Delivered { .. } => DeliveryFilter::Delivered,
        DeliveryState::Dead { .. } => DeliveryFilter::Dead,
    };
    query.sink.as_ref().is_none_or(|sink| **sink == *delivery.sink)
        && query.state.is_none_or(|wanted| wanted == state)
        && query.kind.is_none_or(|kind| kind == delivery.kind)
}

/// Where a sink's oldest rows are that are not out, by kind: in its first pending delivery, or behind its cursor.
fn first_rows(outbox: &Outbox, sink: &Sink) -> Vec<(RowKind, OutboxPosition)> {
    let pending = |kind| {
        let known = sink.pending().filter_map(|seq| outbox.delivery(seq));
        let of_kind = known.filter(move |known| known.delivery.kind == kind && known.copied_at.is_none());
        of_kind.map(|known| known.delivery.first).min()
    };
    sink.kinds.iter().map(|kind| (kind, pending(kind).unwrap_or(sink.cursors[kind as usize]))).collect()
}

/// When the first row at or behind a position came about.
fn first_time(snapshot: &dyn Snapshot, kind: RowKind, from: OutboxPosition) -> Result<Option<Timestamp>, StoreError> {
    let mut cursor = snapshot.cursor(Table::Outbox)?;
    cursor.seek(&outbox_key(kind, from))?;
    let row = cursor.row().filter(|(key, _)| split_outbox_key(key).is_some_and(|(found, _)| found == kind));
    Ok(row.and_then(|(_, value)| Some(decode_outbox(kind, value)?.at())))
}

/// A stored row with its names.
fn show(meters: &Meters, (kind, position): (RowKind, OutboxPosition), value: &[u8]) -> Option<OutboxRow> {
    let content = match decode_outbox(kind, value)? {
        StoredRow::Usage(content) => RowContent::Usage(show_usage(meters, &content)?),
        StoredRow::Alert(alert) => RowContent::Alert(alert),
    };
    Some(OutboxRow { position, content })
}

fn show_usage(meters: &Meters, content: &OutboxContent<'_>) -> Option<UsageRow> {
    let OutboxContent { at, window, value, change, event_count, revision, incarnation, series } = *content;
    let (name, _) = key::read_series(series)?;
    let definition = &meters.by_slug(name.meter)?.definition;
    let content = Content { name: series, bounds: window, value, event_count, revision };
    let hash = content.hash(RowContext { definition, incarnation });
    let names = definition.dimensions.iter().map(|(name, _)| name.clone());
    let values = name.dimensions.iter().map(|value| value.map(str::to_owned));
    Some(UsageRow {
        change,
        tenant: name.tenant.to_owned(),
        customer: name.customer.to_owned(),
        meter: name.meter.to_owned(),
        dimensions: names.zip(values).collect(),
        window,
        value,
        event_count,
        revision,
        incarnation,
        hash,
        at,
    })
}
