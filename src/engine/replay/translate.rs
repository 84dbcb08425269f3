//! Record by record: what each becomes.
//!
//! 1. New meters have the first numbers, so that they are there before the first event; those of the source follow.
//! 2. Every seq that a record names is the one that the named record has here.

use std::sync::Arc;

use super::events::Feeder;
use super::seqs::SeqMap;
use super::target::Target;
use super::{NewMeter, Replayed, Request, Reread, Survey};
use crate::engine::calendars::Calendars;
use crate::engine::corrections::{Cause, Remains, Retraction, TrailEntry};
use crate::engine::hash::TableHasher;
use crate::engine::key;
use crate::engine::record::{self, CapsRecord, Closed, CorrectionRecord, Genesis, Record, SinkRecord};
use crate::engine::recovery::OpenError;
use crate::engine::state::FoldError;
use crate::meter::{Aggregate, Definition, Meters};
use crate::model::{MeterId, Seq};

/// Counters that one Closed record of a new meter closes at most.
const CLOSE_SLICE: usize = 1_000;

/// Why a record cannot be translated.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    #[error(transparent)]
    Fold(#[from] FoldError),
    #[error(transparent)]
    Open(#[from] OpenError),
}

pub struct Translation<'a> {
    pub(super) survey: &'a Survey,
    pub(super) request: &'a Request,
    pub(super) target: Target,
    pub(super) seqs: SeqMap,
    pub(super) calendars: Calendars,
    pub(super) feeder: Feeder,
    pub(super) done: Replayed,
}

impl<'a> Translation<'a> {
    pub fn new(
        survey: &'a Survey,
        request: &'a Request,
        (meters, reread, hasher): (Arc<Meters>, Reread, TableHasher),
        target: Target,
    ) -> Self {
        let slugs = meters.iter().map(|meter| meter.definition.slug.clone());
        let new = slugs.map(|slug| NewMeter { slug, ..NewMeter::default() }).collect();
        let done = Replayed { meters: new, ..Replayed::default() };
        let feeder = Feeder::new(meters, reread, hasher);
        Self { survey, request, target, seqs: SeqMap::default(), calendars: Calendars::default(), feeder, done }
    }

    /// The number here of a meter of the source.
    pub(super) fn meter(&self, source: MeterId) -> MeterId {
        MeterId(source.0.saturating_add(self.new_meters()))
    }

    fn new_meters(&self) -> u16 {
        self.done.meters.len() as u16
    }

    /// Translates the source's record `seq`.
    pub fn take(&mut self, seq: Seq, record: &Record<'_>) -> Result<(), Stopped> {
        if let Record::Events(events) = record {
            return self.take_events(seq, events);
        }
        Ok(self.take_other(seq, record)?)
    }

    fn take_other(&mut self, seq: Seq, record: &Record<'_>) -> Result<(), FoldError> {
        match record {
            Record::Events(_) => Ok(()),
            Record::Sink(_) | Record::Delivery(_) => Ok(()),
            Record::Genesis(genesis) => self.take_genesis(seq, genesis),
            Record::MeterVersion(meter, definition) => {
                self.put(seq, &Record::MeterVersion(self.meter(*meter), definition.clone()))
            }
            Record::Tick { effective, horizon } => {
                let horizon = self.seqs.at_or_after(*horizon, self.target.next());
                self.put(seq, &Record::Tick { effective: *effective, horizon })?;
                self.close_due()
            }
            Record::Closed(closed) => self.take_closed(seq, closed),
            Record::CustomerChanged { tenant, customer, settings } => {
                let mut name = Vec::with_capacity(64);
                key::put_customer(&mut name, tenant, customer);
                self.calendars.set(&name, settings);
                self.put(seq, record)
            }
            Record::Caps(_) if !self.request.range.is_all() => Ok(()),
            Record::Caps(caps) => {
                let caps = self.caps(caps);
                self.put(seq, &Record::Caps(caps))
            }
            Record::Correction(correction) => match self.correction(seq, correction)? {
                Some(correction) => self.put(seq, &Record::Correction(correction)),
                None => Ok(()),
            },
            Record::Tally { .. } | Record::ClockReset { .. } | Record::Incarnation { .. } => self.put(seq, record),
        }
    }

    fn put(&mut self, source: Seq, record: &Record<'_>) -> Result<(), FoldError> {
        self.seqs.push(source, self.target.next());
        self.target.put(record)
    }

    fn take_genesis(&mut self, seq: Seq, genesis: &Genesis) -> Result<(), FoldError> {
        self.put(seq, &Record::Genesis(Genesis { store_id: self.request.store_id, ..*genesis }))?;
        let meters = self.feeder.meters.clone();
        for meter in meters.iter() {
            self.target.put(&Record::MeterVersion(meter.id, Box::new(meter.definition.clone())))?;
        }
        for sink in &self.request.reissue {
            self.target.put(&Record::Sink(SinkRecord::Defined { name: &sink.name, kinds: sink.kinds }))?;
        }
        Ok(())
    }

    /// Closes what is due of new meters.
    fn close_due(&mut self) -> Result<(), FoldError> {
        let state = &mut self.target.state;
        let now = state.clock().effective();
        while let Some(slice) = state.next_slice_of(0..self.done.meters.len(), now, CLOSE_SLICE) {
            let mut bytes = Vec::new();
            record::put_closed(&mut bytes, &state.closed_record(&slice));
            let record = record::records(&bytes).next().and_then(Result::ok).expect("just encoded");
            let next = state.position().next();
            state.apply(next, &record, &mut |_, _| {})?;
            self.target.payload.extend_from_slice(&bytes);
        }
        Ok(())
    }

    fn take_closed(&mut self, seq: Seq, closed: &Closed<'_>) -> Result<(), FoldError> {
        let mut closed = Closed { meter: self.meter(closed.meter), ..closed.clone() };
        if !self.request.range.is_all() {
            self.reduce_closed(&mut closed);
            if closed.series.is_empty() {
                return Ok(());
            }
        }
        self.put(seq, &Record::Closed(closed))
    }

    fn caps<'r>(&self, record: &CapsRecord<'r>) -> CapsRecord<'r> {
        let mut record = record.clone();
        match &mut record {
            CapsRecord::Defined { meter, .. } | CapsRecord::Changed { meter, .. } => *meter = self.meter(*meter),
            CapsRecord::Alert(alert) => {
                let seq = alert.event.as_mut().and_then(|event| event.seq.as_mut());
                seq.into_iter().for_each(|seq| *seq = self.seq(*seq));
            }
            CapsRecord::Held(reservation) => reservation.meter = self.meter(reservation.meter),
            CapsRecord::Committed { seq, .. } => *seq = self.seq(*seq),
            CapsRecord::Released { .. } => {}
        }
        record
    }

    /// What the record has become here, or the next one that is here.
    fn seq(&self, source: Seq) -> Seq {
        self.seqs.at_or_after(source, self.target.next())
    }

    /// None: it is left out.
    fn correction<'r>(
        &mut self,
        seq: Seq,
        record: &CorrectionRecord<'r>,
    ) -> Result<Option<CorrectionRecord<'r>>, FoldError> {
        let mut record = record.clone();
        match &mut record {
            CorrectionRecord::Retracted { retraction, .. } => {
                self.carry_over(retraction);
                if !self.request.range.is_all() && !self.reduce_retraction(retraction)? {
                    return Ok(None);
                }
                if let Cause::Void(void) = &mut retraction.cause {
                    void.event = self.seq(void.event);
                }
            }
            CorrectionRecord::Action(entry) => self.carry_over_entry(seq, entry),
            CorrectionRecord::BackfillOpened { .. }
            | CorrectionRecord::BackfillReverting { .. }
            | CorrectionRecord::BackfillReverted { .. } => {}
        }
        Ok(Some(record))
    }

    /// The meters' numbers, and the seqs within what remains.
    fn carry_over(&self, retraction: &mut Retraction) {
        for change in &mut retraction.changes {
            change.meter = self.meter(change.meter);
            let Some(definition) = self.target.state.definitions().get(usize::from(change.meter.0)) else { continue };
            let remains = change.windows.iter_mut().map(|window| &mut window.remains).chain([&mut change.total]);
            remains.for_each(|remains| self.carry_over_remains(remains, definition));
        }
    }

    fn carry_over_remains(&self, remains: &mut Remains, definition: &Definition) {
        let Remains::Is(bytes) = remains else { return };
        if let Ok((Aggregate::Latest { value, at, seq }, _)) = Aggregate::decode(bytes, definition) {
            bytes.clear();
            Aggregate::Latest { value, at, seq: self.seq(seq) }.encode(bytes);
        }
    }

    /// Entries of voids name the event's record.
    fn carry_over_entry(&self, seq: Seq, entry: &mut TrailEntry) {
        debug_assert!(seq > entry.seq, "an entry's own number is not in its record");
        for json in [&mut entry.before, &mut entry.after].into_iter().flatten() {
            let Ok(serde_json::Value::Object(mut object)) = serde_json::from_str(json) else { continue };
            if let Some(event) = object.get("event_seq").and_then(serde_json::Value::as_u64) {
                object.insert("event_seq".to_owned(), self.seq(Seq(event)).0.into());
                *json = serde_json::Value::Object(object).to_string();
            }
        }
    }
}
