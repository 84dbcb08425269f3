//! Events in the replay: what was decided of them, and what they add to meters that are new.
//!
//! | a new meter | |
//! | --- | --- |
//! | reads | the event's text, as sent, by the rules of ingest |
//! | window, billing period | its own definition's; the customer's calendar as of then |
//! | late | as the writer decides, at the effective time of the log; with `late = "reject"` it does not count, but in backfills |
//! | cannot read the value, or has no room for it | the event counts as before, and the meter's `unfit` |
//! | the event was taken back later | is not fed |
//!
//! 1. Events keep their order, their ids and the feeds that they had; feeds of new meters come behind those.

use std::ops::Range as Bytes;
use std::sync::Arc;

use smallvec::SmallVec;

use super::translate::{Stopped, Translation};
use super::{Reading, Reread};
use crate::engine::hash::TableHasher;
use crate::engine::key;
use crate::engine::record::{EventEncoder, EventRecord, Events, EventsWriter};
use crate::engine::state::{Feed, FoldError, StateLimits};
use crate::meter::{BillingPeriod, Late, Meters, Value};
use crate::model::{IdEntry, MeterId, Seq, Window};

/// What one record holds at most: far below what a frame may.
const RECORD_BYTES_MAX: usize = 8 << 20;
/// Feeds of one event: their number is a byte.
const FEEDS_MAX: usize = u8::MAX as usize;
/// What was accepted is not refused for want of room.
const UNLIMITED: StateLimits = StateLimits { open_counters_max: u64::MAX, unique_members_max: u64::MAX };

/// New meters, and how they read events.
pub struct Feeder {
    pub meters: Arc<Meters>,
    reread: Reread,
    hasher: TableHasher,
}

/// A feed as it will be written.
struct Placed<'a> {
    meter: MeterId,
    late: bool,
    window: Window,
    /// Into the record's periods.
    period: u32,
    value: Value,
    dimensions: SmallVec<[Option<&'a str>; 4]>,
}

/// Events that are decided, of one record.
struct Open<'e> {
    events: &'e Events<'e>,
    periods: Vec<BillingPeriod>,
    encoded: Vec<u8>,
    places: Vec<(Bytes<usize>, SmallVec<[u32; 2]>)>,
    last: Seq,
}

impl Feeder {
    pub fn new(meters: Arc<Meters>, reread: Reread, hasher: TableHasher) -> Self {
        Self { meters, reread, hasher }
    }
}

impl Translation<'_> {
    pub(super) fn take_events(&mut self, first: Seq, events: &Events<'_>) -> Result<(), Stopped> {
        let last = self.target.state.position();
        let mut open = Open { events, periods: events.periods.clone(), encoded: Vec::new(), places: Vec::new(), last };
        self.target.state.begin_events(events.received_at, events.backfill);
        for (source, event) in (first.0..).map(Seq).zip(events.iter()) {
            let event = event.map_err(FoldError::from)?;
            self.take_event(&mut open, source, &event)?;
            if open.encoded.len() >= RECORD_BYTES_MAX {
                self.finish_events(&mut open)?;
                self.target.state.begin_events(events.received_at, events.backfill);
            }
        }
        self.finish_events(&mut open)
    }

    fn finish_events(&mut self, open: &mut Open<'_>) -> Result<(), Stopped> {
        if open.places.is_empty() {
            return Ok(());
        }
        let (tenant, payload) = (open.events.tenant, &mut self.target.payload);
        let mut writer =
            EventsWriter::start(payload, (tenant, open.events.backfill), open.events.received_at, &open.periods);
        for (bytes, late) in &open.places {
            writer.push(payload, &open.encoded[bytes.clone()], late.iter().copied());
        }
        writer.finish(payload);
        self.target.state.end_events(tenant, open.places.len() as u64, open.last)?;
        open.encoded.clear();
        open.places.clear();
        Ok(self.target.flush_if_long()?)
    }

    fn take_event(&mut self, open: &mut Open<'_>, source: Seq, event: &EventRecord<'_>) -> Result<(), FoldError> {
        let mut name = Vec::with_capacity(128);
        key::put_customer(&mut name, open.events.tenant, event.customer);
        let readings = if self.feeds_new_meters(open.events.backfill, source) {
            (self.feeder.reread)(&String::from_utf8_lossy(event.raw))
        } else {
            Vec::new()
        };
        let mut placed: SmallVec<[Placed<'_>; 4]> = SmallVec::new();
        for feed in event.feeds.iter().filter(|feed| self.request.range.contains(feed.window.start)) {
            let (meter, dimensions) = (self.meter(feed.meter), feed.dimensions.iter().copied().collect());
            let (late, window, period, value) = (feed.late, feed.window, feed.period, feed.value);
            placed.push(Placed { meter, late, window, period, value, dimensions });
        }
        for reading in &readings {
            if placed.len() < FEEDS_MAX {
                let feed = self.place(open, (source, event), &name, reading)?;
                placed.extend(feed);
            }
        }
        if placed.is_empty() {
            self.done.left_out += 1;
            return Ok(());
        }
        self.count(open, (source, event), name, &placed)
    }

    fn feeds_new_meters(&self, backfill: Option<u32>, source: Seq) -> bool {
        let is_reverted = backfill.is_some_and(|backfill| self.survey.reverted.contains(&backfill));
        !self.done.meters.is_empty() && !is_reverted && !self.survey.voided.contains(&source)
    }

    /// Where a new meter counts the event; none if it does not.
    fn place<'r>(
        &mut self,
        open: &mut Open<'_>,
        (source, event): (Seq, &EventRecord<'_>),
        customer: &[u8],
        reading: &'r Reading,
    ) -> Result<Option<Placed<'r>>, FoldError> {
        let id = reading.meter;
        let Some(meter) = self.feeder.meters.get(id) else { return Ok(None) };
        let schedule = self.calendars.get(customer);
        let at = event.timestamp;
        let period = meter.calendar(schedule.as_deref()).period_at(at);
        let window = meter.windows.window(at);
        let window = Window { start: window.start.max(period.bounds.start), end: window.end.min(period.bounds.end) };
        if !self.request.range.contains(window.start) {
            return Ok(None);
        }
        let (value, dimensions) = match &reading.feed {
            Ok((value, dimensions)) => (*value, dimensions),
            Err(why) => {
                self.unfit(id, source, why);
                return Ok(None);
            }
        };
        let mut name = customer.to_vec();
        key::put_meter(&mut name, &meter.definition.slug, dimensions.iter().map(Option::as_deref));
        let (hash, number) = (self.feeder.hasher.hash(&name), 0);
        let mut feed = Feed { number, meter: id, late: false, window, period: &period, value, key: &name, hash };
        let state = &mut self.target.state;
        let (now, mut located) = (state.clock().effective(), state.locate(&feed));
        feed.late = state.is_late(&feed, &mut located, now)?;
        if feed.late {
            if meter.definition.late == Late::Reject && open.events.backfill.is_none() {
                self.done.meters[usize::from(id.0)].too_late += 1;
                return Ok(None);
            }
            state.recall(&feed)?;
            located = state.locate(&feed);
        }
        if let Err((_, why)) = state.check(std::iter::once((feed, located)), &UNLIMITED) {
            self.unfit(id, source, &why);
            return Ok(None);
        }
        let known = open.periods.iter().position(|known| *known == period);
        let number = known.unwrap_or_else(|| {
            open.periods.push(period);
            open.periods.len() - 1
        });
        let new = &mut self.done.meters[usize::from(id.0)];
        new.fed += 1;
        new.late += u64::from(feed.late);
        let (late, dimensions) = (feed.late, dimensions.iter().map(Option::as_deref).collect());
        Ok(Some(Placed { meter: id, late, window, period: number as u32, value, dimensions }))
    }

    fn unfit(&mut self, meter: MeterId, source: Seq, why: &str) {
        let new = &mut self.done.meters[usize::from(meter.0)];
        new.unfit += 1;
        new.first_unfit.get_or_insert_with(|| (source, why.to_owned()));
    }

    /// Writes the event and applies it.
    fn count(
        &mut self,
        open: &mut Open<'_>,
        (source, event): (Seq, &EventRecord<'_>),
        mut name: Vec<u8>,
        placed: &[Placed<'_>],
    ) -> Result<(), FoldError> {
        let seq = open.last.next();
        let identity = (event.key, event.fingerprint);
        let mut encoder = EventEncoder::start(&mut open.encoded, identity, event.timestamp, event.customer, event.raw);
        let (mut lates, customer) = (SmallVec::new(), name.len());
        let state = &mut self.target.state;
        for (number, feed) in placed.iter().enumerate() {
            let Placed { meter, late, window, period, value, dimensions } = feed;
            let late_at = encoder.feed(*meter, (*window, *period), *value, dimensions.iter().copied());
            lates.extend(late.then_some(late_at));
            let definition = state.definitions().get(usize::from(meter.0)).ok_or(FoldError::UnknownMeter(seq))?;
            name.truncate(customer);
            key::put_meter(&mut name, &definition.slug, dimensions.iter().copied());
            let period = open.periods.get(*period as usize).ok_or(FoldError::DoesNotFit(seq))?;
            let (number, hash) = (number as u8, self.feeder.hasher.hash(&name));
            let (meter, late, window, value) = (*meter, *late, *window, *value);
            let feed = Feed { number, meter, late, window, period, value, key: &name, hash };
            if late {
                state.recall(&feed)?;
            }
            let located = state.locate(&feed);
            state.apply_feed((event.timestamp, seq), &feed, located)?;
        }
        let entry = IdEntry { seq, fingerprint: event.fingerprint };
        state.take_id(event.key, entry);
        self.target.recent.insert(event.key, entry);
        open.places.push((encoder.finish(), lates));
        self.seqs.push(source, seq);
        open.last = seq;
        self.done.events += 1;
        Ok(())
    }
}
