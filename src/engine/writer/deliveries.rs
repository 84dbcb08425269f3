//! What delivery and operators ask for becomes a record, if it fits what the log says by now.

use super::operations::json;
use super::{Writer, apply_own};
use crate::engine::outbox::{
    Attempt, DEAD_LETTERS_MAX, Delivery, DeliveryId, DeliveryOperation, DeliveryState, Done, ERROR_BYTES_MAX,
    PauseCause, Plan, REPLAYS_MAX, ROWS_MAX, Refused, ReplayFilter, RequestKey, SinkPause,
};
use crate::engine::record::{self, DeliveryRecord, Record, SinkRecord};
use crate::engine::state::{State, outbox_key, split_outbox_key};
use crate::model::{OutboxPosition, Seq, Timestamp};
use crate::store::{StoreError, Table};

/// A row of the outbox, as the store has it.
type StoredRow = (OutboxPosition, Vec<u8>);

impl<R> Writer<R> {
    /// Decides an operation. What is refused changes nothing.
    pub(super) fn deliver(&mut self, state: &mut State, operation: DeliveryOperation) -> Result<Done, StoreError> {
        let done = match operation {
            DeliveryOperation::Plan { sink, plans, at } => self.plan(state, &sink, &plans, at),
            DeliveryOperation::Failed { delivery, attempt, due } => {
                let attempt = attempt.shortened();
                pending(state, delivery).map(|delivery| {
                    let attempt = (&attempt).into();
                    self.put_delivery(state, &DeliveryRecord::Failed { delivery, due, attempt });
                    Done::Done
                })
            }
            DeliveryOperation::Delivered { delivery, attempt } => {
                let attempt = attempt.shortened();
                pending(state, delivery).map(|delivery| {
                    let attempt = (&attempt).into();
                    self.put_delivery(state, &DeliveryRecord::Delivered { delivery, attempt });
                    Done::Done
                })
            }
            DeliveryOperation::Dead { delivery, attempt } => return self.bury(state, delivery, attempt),
            DeliveryOperation::Replay { filter, key, at } => self.replay(state, &filter, key.as_ref(), at),
            DeliveryOperation::Pause { sink, pause } => {
                let (name, reason) = (sink.as_str(), cut(&pause.reason, ERROR_BYTES_MAX));
                let record = SinkRecord::Paused { name, cause: pause.cause, reason, at: pause.at };
                // An operator's word stands above a pause that came by itself: who ends that must not end this.
                let is_operator = |cause| cause == PauseCause::Operator;
                let outranks = |before: &SinkPause| is_operator(pause.cause) && !is_operator(before.cause);
                self.change_sink(state, name, |before| before.is_none_or(outranks), &record)
            }
            DeliveryOperation::Resume { sink, reason, at } => {
                let record = SinkRecord::Resumed { name: &sink, reason: cut(&reason, ERROR_BYTES_MAX), at };
                self.change_sink(state, &sink, |paused| paused.is_some(), &record)
            }
            DeliveryOperation::Forget { sink, reason, at } if self.is_configured(&sink) => {
                tracing::warn!(sink, reason, %at, "a sink that is configured cannot be forgotten");
                Err(Refused::StillConfigured)
            }
            DeliveryOperation::Forget { sink, reason, at } => {
                let record = SinkRecord::Forgotten { name: &sink, reason: cut(&reason, ERROR_BYTES_MAX), at };
                self.change_sink(state, &sink, |_| true, &record)
            }
        };
        Ok(done.unwrap_or_else(Done::Refused))
    }

    fn is_configured(&self, sink: &str) -> bool {
        self.options.sinks.iter().any(|configured| configured.name == sink)
    }

    fn put_delivery(&mut self, state: &mut State, record: &DeliveryRecord<'_>) {
        record::put_delivery(&mut self.payload, record);
        apply_own(state, &Record::Delivery(record.clone()));
    }

    /// Records a change of a sink, unless it is that way already.
    fn change_sink(
        &mut self,
        state: &mut State,
        name: &str,
        changes: impl Fn(Option<&SinkPause>) -> bool,
        record: &SinkRecord<'_>,
    ) -> Result<Done, Refused> {
        let sink = state.outbox().sink(name).ok_or(Refused::UnknownSink)?;
        if changes(sink.pause.as_ref()) {
            let before = sink.pause.as_ref().map(|pause| json(&serde_json::json!({"paused": pause.reason})));
            record::put_sink(&mut self.payload, record);
            apply_own(state, &Record::Sink(*record));
            log_change(record);
            if let Some((action, reason, at)) = action_of(record) {
                let after = json(&serde_json::json!({"reason": reason}));
                self.put_trail(state, (None, at), (action, name), (before, Some(after)));
            }
        }
        Ok(Done::Done)
    }

    fn plan(&mut self, state: &mut State, sink: &str, plans: &[Plan], at: Timestamp) -> Result<Done, Refused> {
        let committed = state.store().position();
        let mut cursors = state.outbox().sink(sink).ok_or(Refused::UnknownSink)?.cursors;
        for plan in plans {
            let cursor = &mut cursors[plan.kind as usize];
            let fits = *cursor <= plan.first && plan.first <= plan.last && plan.last.seq <= committed;
            if !fits || plan.rows == 0 || plan.rows as usize > ROWS_MAX {
                return Err(Refused::OutOfPlace);
            }
            *cursor = plan.last.next();
        }
        let planned = plans.iter().map(|plan| {
            self.put_delivery(state, &DeliveryRecord::Planned { sink, plan: *plan, at });
            state.outbox().delivery(state.position()).expect("just planned").delivery.id
        });
        Ok(Done::Planned(planned.collect()))
    }

    /// Makes a dead letter of a delivery, with its rows.
    fn bury(&mut self, state: &mut State, delivery: DeliveryId, attempt: Attempt) -> Result<Done, StoreError> {
        let seq = match pending(state, delivery) {
            Ok(seq) => seq,
            Err(refused) => return Ok(Done::Refused(refused)),
        };
        let known = state.outbox().delivery(seq).expect("it is pending");
        if known.copied_at.is_none() && state.store().position() < known.delivery.last.seq {
            return Ok(Done::Refused(Refused::NotCommitted));
        }
        let rows = if known.copied_at.is_some() { Vec::new() } else { rows_of(state, &known.delivery)? };
        if known.copied_at.is_none() && rows.len() != known.delivery.rows as usize {
            tracing::error!(%delivery, "the store does not have its rows: it stays pending. Check with meterd verify");
            return Ok(Done::Refused(Refused::NotCommitted));
        }
        let attempt = attempt.shortened();
        let rows = rows.iter().map(|(position, value)| (*position, value.as_slice())).collect();
        self.put_delivery(state, &DeliveryRecord::Dead { delivery: seq, attempt: (&attempt).into(), rows });
        self.pause_if_too_many(state, seq, attempt.at);
        Ok(Done::Done)
    }

    /// Whose dead letters pile up is sent nothing more: something is wrong with all of them.
    fn pause_if_too_many(&mut self, state: &mut State, newest: Seq, at: Timestamp) {
        let Some(known) = state.outbox().delivery(newest) else { return };
        let name = known.delivery.sink.clone();
        let too_many = state.outbox().sink(&name).is_some_and(|sink| sink.dead().len() >= DEAD_LETTERS_MAX);
        if too_many {
            let (cause, reason) = (PauseCause::DeadLetters, "it has as many dead letters as a sink may have");
            let record = SinkRecord::Paused { name: &name, cause, reason, at };
            // The sink is there: the delivery is one of its own.
            let _ = self.change_sink(state, &name, |before| before.is_none(), &record);
        }
    }

    fn replay(
        &mut self,
        state: &mut State,
        filter: &ReplayFilter,
        key: Option<&RequestKey>,
        at: Timestamp,
    ) -> Result<Done, Refused> {
        if let Some(key) = key
            && let Some((request, count)) = state.outbox().request(&key.key)
        {
            return if request == key.request { Ok(Done::Replayed(count)) } else { Err(Refused::KeyReused) };
        }
        let deliveries = dead_letters(state, filter)?;
        let count = deliveries.len() as u32;
        if count > 0 || key.is_some() {
            let key = key.map(|key| (key.key.as_str(), key.request));
            self.put_delivery(state, &DeliveryRecord::ReplayRequested { at, key, deliveries });
            let sink = filter.sink.as_deref();
            let after = json(&serde_json::json!({
                "deliveries": count, "sink": sink, "delivery": filter.delivery.map(|id| id.to_string()),
                "kind": filter.kind.map(|kind| kind.as_str()),
            }));
            self.put_trail(state, (None, at), ("deliveries.replay", sink.unwrap_or("*")), (None, Some(after)));
            let delivery = filter.delivery.map(tracing::field::display);
            tracing::warn!(count, sink, delivery, "dead letters are to be sent again");
        }
        Ok(Done::Replayed(count))
    }
}

/// What an operator did to a sink: name, reason, time. None: it came by itself, or by the config.
fn action_of<'a>(record: &SinkRecord<'a>) -> Option<(&'static str, &'a str, Timestamp)> {
    match *record {
        SinkRecord::Paused { cause: PauseCause::Operator, reason, at, .. } => Some(("sink.pause", reason, at)),
        SinkRecord::Resumed { reason, at, .. } => Some(("sink.resume", reason, at)),
        SinkRecord::Forgotten { reason, at, .. } => Some(("sink.forget", reason, at)),
        SinkRecord::Paused { .. } | SinkRecord::Defined { .. } => None,
    }
}

fn log_change(record: &SinkRecord<'_>) {
    match record {
        SinkRecord::Defined { .. } => {}
        SinkRecord::Paused { name, cause, reason, .. } => {
            tracing::warn!(sink = name, cause = cause.as_str(), reason, "the sink is paused: nothing is sent to it");
        }
        SinkRecord::Resumed { name, reason, .. } => tracing::warn!(sink = name, reason, "the sink is resumed"),
        SinkRecord::Forgotten { name, reason, .. } => {
            tracing::warn!(sink = name, reason, "the sink is forgotten, with everything that waited for it");
        }
    }
}

/// Which dead letters a filter means, at most `REPLAYS_MAX`.
fn dead_letters(state: &State, filter: &ReplayFilter) -> Result<Vec<Seq>, Refused> {
    let outbox = state.outbox();
    if let Some(id) = filter.delivery {
        let known = outbox.delivery(id.seq).filter(|known| known.delivery.id == id).ok_or(Refused::UnknownDelivery)?;
        let is_dead = matches!(known.delivery.state, DeliveryState::Dead { .. });
        return if is_dead { Ok(vec![id.seq]) } else { Err(Refused::NotDead) };
    }
    if filter.sink.as_ref().is_some_and(|name| outbox.sink(name).is_none()) {
        return Err(Refused::UnknownSink);
    }
    let sinks = outbox.sinks().filter(|(name, _)| filter.sink.as_ref().is_none_or(|wanted| **wanted == ***name));
    let is_of_kind = |seq: &Seq| {
        filter.kind.is_none_or(|kind| outbox.delivery(*seq).is_some_and(|known| known.delivery.kind == kind))
    };
    Ok(sinks.flat_map(|(_, sink)| sink.dead()).filter(is_of_kind).take(REPLAYS_MAX).collect())
}

fn pending(state: &State, id: DeliveryId) -> Result<Seq, Refused> {
    let known = state.outbox().delivery(id.seq).filter(|known| known.delivery.id == id);
    match known.ok_or(Refused::UnknownDelivery)?.delivery.state {
        DeliveryState::Pending { .. } => Ok(id.seq),
        DeliveryState::Delivered { .. } | DeliveryState::Dead { .. } => Err(Refused::NotPending),
    }
}

/// A delivery's rows, from a store that has them: they stay until it is done.
fn rows_of(state: &State, delivery: &Delivery) -> Result<Vec<StoredRow>, StoreError> {
    let snapshot = state.store().snapshot();
    let mut cursor = snapshot.cursor(Table::Outbox)?;
    cursor.seek(&outbox_key(delivery.kind, delivery.first))?;
    let mut rows = Vec::with_capacity(delivery.rows as usize);
    while let Some((key, value)) = cursor.row() {
        match split_outbox_key(key) {
            Some((kind, position)) if kind == delivery.kind && position <= delivery.last => {
                rows.push((position, value.to_vec()));
            }
            _ => break,
        }
        cursor.advance()?;
    }
    Ok(rows)
}

/// The beginning of a text, in whole characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
