//! One request's events on their way to the writer: hashed, encoded and looked up off the writer's thread.
//!
//! 1. Everything that needs no decision is done here, in parallel: the id's key, the windows' bounds, the series' names
//!    and hashes, the bytes that the journal will hold.
//! 2. Windows are cut at the bounds of the customer's billing periods, by the calendars as they are at the start.
//! 3. The index is asked here too. Its answer is good up to `index_position`; newer ids are the writer's to check.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::engine::calendars::Calendars;
use crate::engine::dedupe::Index;
use crate::engine::hash::{Hasher, TableHasher};
use crate::engine::key;
use crate::engine::record::{EventEncoder, EventRecord};
use crate::engine::writer::Lookup;
use crate::journal::PAYLOAD_BYTES_MAX;
use crate::meter::{BillingPeriod, Meter, Meters, ResolvedSchedule, Value};
use crate::model::{Code, Duration, EventKey, Fingerprint, IdEntry, MeterId, Seq, TenantId, Timestamp, Window};
use crate::store::StoreError;

/// An event as the door understood it.
#[derive(Clone, Copy, Debug)]
pub struct NewEvent<'a> {
    pub usage_event_id: &'a str,
    /// `""` when none was given.
    pub source: &'a str,
    pub customer: &'a str,
    /// `None`: the time of receipt.
    pub timestamp: Option<Timestamp>,
    pub fingerprint: Fingerprint,
    /// The event's text as it was sent: the evidence.
    pub raw: &'a [u8],
    /// At least one, each for another meter.
    pub feeds: &'a [NewFeed<'a>],
}

/// What an event adds to one meter.
#[derive(Clone, Debug)]
pub struct NewFeed<'a> {
    pub meter: MeterId,
    pub value: Value,
    /// In the order of the definition's dimensions; `None`: not given.
    pub dimensions: &'a [Option<Cow<'a, str>>],
}

/// Events of one request, ready to be decided.
pub struct Batch {
    pub(super) tenant: TenantId,
    pub(super) received_at: Timestamp,
    pub(super) index_position: Seq,
    /// The calendars that its windows were cut by.
    pub(super) calendars_version: u64,
    /// The billing periods that its feeds fall into.
    pub(super) periods: Vec<BillingPeriod>,
    pub(super) slots: Vec<Slot>,
    pub(super) encoded: Vec<u8>,
    pub(super) feeds: Vec<Feed>,
    pub(super) keys: Vec<u8>,
    /// The events' ids, one after the other.
    pub(super) ids: String,
    /// The reservation that its one event commits.
    pub(super) commits: Option<Box<str>>,
    /// The load of history that its events belong to.
    pub(super) backfill: Option<u32>,
    /// Its one event counts instead of one that is taken back.
    pub(super) corrects: bool,
}

/// One event of the request.
pub(super) enum Slot {
    /// Turned away at the door.
    Rejected(Code, Box<str>),
    Event(Item),
}

pub(super) struct Item {
    pub key: EventKey,
    pub fingerprint: Fingerprint,
    pub timestamp: Timestamp,
    /// What the index held at `index_position`.
    pub indexed: Option<IdEntry>,
    /// What its backfill held then, however long ago it was taken.
    pub backfilled: Option<IdEntry>,
    /// Into `Batch::encoded`.
    pub record: Range<usize>,
    /// Into `Batch::feeds`.
    pub feeds: Range<usize>,
    /// Into `Batch::ids`.
    pub id: Range<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Feed {
    pub meter: MeterId,
    pub window: Window,
    /// Into `Batch::periods`.
    pub period: u32,
    pub value: Value,
    /// Where the event's bytes say that the feed is late.
    pub late_at: u32,
    pub hash: u64,
    /// The series' name, into `Batch::keys`.
    pub key: Range<usize>,
}

impl Batch {
    /// How many events the request held.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Looks every id up in the index and notes how far its answer goes.
    pub(super) fn look_up(&mut self, index: &Index) -> Result<(), StoreError> {
        self.index_position = index.position();
        let keys: Vec<EventKey> = self.items().map(|item| item.key).collect();
        let mut found = Vec::new();
        index.look_up(&keys, &mut found)?;
        let backfill = self.backfill;
        let items = self.slots.iter_mut().filter_map(|slot| match slot {
            Slot::Event(item) => Some(item),
            Slot::Rejected(..) => None,
        });
        for (item, entry) in items.zip(found) {
            item.indexed = entry;
            if let Some(backfill) = backfill {
                item.backfilled = index.look_up_backfilled(backfill, item.key)?;
            }
        }
        Ok(())
    }

    pub(super) fn id_of(&self, item: &Item) -> &str {
        &self.ids[item.id.clone()]
    }

    pub(super) fn items(&self) -> impl Iterator<Item = &Item> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Event(item) => Some(item),
            Slot::Rejected(..) => None,
        })
    }
}

/// Why a batch cannot go to the writer. Nothing of it has counted.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "the request's events take {bytes} bytes in the journal, at most {RECORD_BYTES_MAX} fit one group: send fewer at once"
    )]
    TooLarge { bytes: usize },
}

/// What an event's outcome and its part of the answer may take: code, detail, JSON.
const ANSWER_BYTES: usize = 256;
/// What a batch may take in the journal: a group that is nearly full must still hold it.
const RECORD_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - (8 << 20);

/// What every builder of an engine shares.
pub(super) struct Context {
    pub meters: Arc<Meters>,
    pub hasher: Hasher,
    pub table_hasher: TableHasher,
    pub index: Arc<Index>,
    pub calendars: Calendars,
}

/// Starts batches for one engine; clones share it.
#[derive(Clone)]
pub struct Batches(pub(super) Arc<Context>);

impl Batches {
    /// Begins a batch that was received at this time.
    pub fn start(&self, tenant: &TenantId, received_at: Timestamp) -> BatchBuilder {
        BatchBuilder::new(self.0.clone(), tenant.clone(), received_at)
    }

    /// The meters that batches may feed.
    pub fn meters(&self) -> Arc<Meters> {
        self.0.meters.clone()
    }

    pub(super) fn calendars(&self) -> &Calendars {
        &self.0.calendars
    }

    /// The same events, their windows cut by the calendars as they are now.
    pub(super) fn cut_again(&self, batch: Batch) -> Batch {
        self.build_again(batch, None)
    }

    /// The same events, counted in this billing period whatever their time: in this window of it, or else the nearest one.
    pub(super) fn cut_into(&self, batch: Batch, period: BillingPeriod, window: Option<Window>) -> Batch {
        self.build_again(batch, Some((period, window)))
    }

    fn build_again(&self, mut batch: Batch, place: Option<(BillingPeriod, Option<Window>)>) -> Batch {
        let mut builder = BatchBuilder::new(self.0.clone(), batch.tenant.clone(), batch.received_at);
        builder.place = place;
        for slot in std::mem::take(&mut batch.slots) {
            match slot {
                Slot::Rejected(code, detail) => builder.reject(code, detail),
                Slot::Event(item) => {
                    let event = EventRecord::read(&batch.encoded[item.record.clone()]);
                    builder.push_again((&item, batch.id_of(&item)), &event.expect("encoded by this process"));
                }
            }
        }
        Batch {
            index_position: batch.index_position,
            commits: batch.commits,
            backfill: batch.backfill,
            corrects: batch.corrects,
            ..builder.batch
        }
    }

    /// The billing period and the window that usage of a customer falls into.
    pub(super) fn place(&self, tenant: &str, customer: &str, meter: MeterId, at: Timestamp) -> (BillingPeriod, Window) {
        let mut name = Vec::with_capacity(64);
        key::put_customer(&mut name, tenant, customer);
        self.place_by(&name, meter, at)
    }

    /// The same by the name of an account or a series.
    pub(super) fn place_of(&self, name: &[u8], meter: MeterId, at: Timestamp) -> (BillingPeriod, Window) {
        let length = key::customer_prefix_len(name).expect("such names are written by this process");
        self.place_by(&name[..length], meter, at)
    }

    fn place_by(&self, customer: &[u8], meter: MeterId, at: Timestamp) -> (BillingPeriod, Window) {
        let meter = self.0.meters.get(meter).expect("the caller took the number from these very meters");
        let period = period_at(meter, self.0.calendars.get(customer).as_deref(), at);
        let window = meter.windows.window(at);
        (period, Window { start: window.start.max(period.bounds.start), end: window.end.min(period.bounds.end) })
    }

    /// What the index holds of an id.
    pub(super) fn look_up(&self, tenant: &TenantId, source: &str, usage_event_id: &str) -> Result<Lookup, StoreError> {
        let mut scratch = Vec::with_capacity(64);
        let key = self.0.hasher.event_key(&mut scratch, tenant.as_str(), source, usage_event_id);
        let (index_position, mut found) = (self.0.index.position(), Vec::new());
        self.0.index.look_up(&[key], &mut found)?;
        Ok(Lookup { key, indexed: found.pop().flatten(), index_position })
    }

    pub(super) fn index_position(&self) -> Seq {
        self.0.index.position()
    }
}

/// Collects a request's events, in order.
pub struct BatchBuilder {
    context: Arc<Context>,
    batch: Batch,
    windows: Vec<Option<Window>>,
    /// By meter: the period that its last event fell into, of customers without a schedule of their own.
    last_periods: Vec<Option<(Window, u32)>>,
    periods: HashMap<BillingPeriod, u32>,
    /// All events are counted in this period, and in this window of it.
    place: Option<(BillingPeriod, Option<Window>)>,
    scratch: Vec<u8>,
}

impl BatchBuilder {
    fn new(context: Arc<Context>, tenant: TenantId, received_at: Timestamp) -> Self {
        let (windows, last_periods) = (vec![None; context.meters.len()], vec![None; context.meters.len()]);
        let batch = Batch {
            tenant,
            received_at,
            index_position: Seq::ZERO,
            calendars_version: context.calendars.version(),
            periods: Vec::new(),
            slots: Vec::new(),
            encoded: Vec::new(),
            feeds: Vec::new(),
            keys: Vec::new(),
            ids: String::new(),
            commits: None,
            backfill: None,
            corrects: false,
        };
        Self { context, batch, windows, last_periods, periods: HashMap::new(), place: None, scratch: Vec::new() }
    }

    /// Makes room for so many events of so many bytes altogether.
    pub fn reserve(&mut self, events: usize, bytes: usize) {
        self.batch.slots.reserve(events);
        self.batch.feeds.reserve(events);
        self.batch.encoded.reserve(bytes + events * 96);
        self.batch.keys.reserve(events * 64);
        self.batch.ids.reserve(events * 40);
    }

    pub fn received_at(&self) -> Timestamp {
        self.batch.received_at
    }

    /// The meters that may be fed.
    pub fn meters(&self) -> Arc<Meters> {
        self.context.meters.clone()
    }

    pub fn hasher(&self) -> Hasher {
        self.context.hasher
    }

    /// What a `unique` meter counts of a text.
    pub fn member(&self, text: &str) -> Value {
        Value::Member(self.context.hasher.hash128(text.as_bytes()))
    }

    pub fn len(&self) -> usize {
        self.batch.len()
    }

    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Memory that the batch takes, its answer included, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let Batch { slots, encoded, feeds, keys, ids, .. } = &self.batch;
        let slot_bytes = size_of::<Slot>() + ANSWER_BYTES;
        slots.len() * slot_bytes
            + encoded.capacity()
            + feeds.len() * size_of::<Feed>()
            + keys.capacity()
            + ids.capacity()
    }

    /// The next event of the request cannot be taken.
    pub fn reject(&mut self, code: Code, detail: impl Into<Box<str>>) {
        self.batch.slots.push(Slot::Rejected(code, detail.into()));
    }

    /// Its one event, which feeds one meter, commits this reservation: it counts in the reservation's billing period, and the
    /// answer's `done` is `Reserved` or `ReservationRefused`. Unless it is refused, `outcomes` holds what became of the event.
    pub fn commits(&mut self, reservation: &str) {
        self.batch.commits = Some(reservation.into());
    }

    /// Its events belong to this load of history, which takes them however old they are.
    pub fn backfills(&mut self, backfill: u32) {
        self.batch.backfill = Some(backfill);
    }

    /// The next event of the request.
    pub fn push(&mut self, event: &NewEvent<'_>) {
        if self.batch.encoded.len() > RECORD_BYTES_MAX {
            // `finish` will refuse the batch; there is no use in making it larger.
            return;
        }
        let tenant = self.batch.tenant.as_str();
        let key = self.context.hasher.event_key(&mut self.scratch, tenant, event.source, event.usage_event_id);
        let timestamp = event.timestamp.unwrap_or(self.batch.received_at);
        let feeds = event.feeds.iter().map(|feed| {
            let dimensions = feed.dimensions.iter().map(|value| value.as_deref());
            (feed.meter, feed.value, dimensions)
        });
        let (record, feeds) = self.encode((key, event.fingerprint), timestamp, (event.customer, event.raw), feeds);
        let id = self.put_id(event.usage_event_id);
        let item =
            Item { key, fingerprint: event.fingerprint, timestamp, indexed: None, backfilled: None, record, feeds, id };
        self.batch.slots.push(Slot::Event(item));
    }

    fn put_id(&mut self, id: &str) -> Range<usize> {
        let start = self.batch.ids.len();
        self.batch.ids.push_str(id);
        start..self.batch.ids.len()
    }

    /// An event of a batch that was built before.
    fn push_again(&mut self, (item, id): (&Item, &str), event: &EventRecord<'_>) {
        let feeds = event.feeds.iter().map(|feed| (feed.meter, feed.value, feed.dimensions.iter().copied()));
        let (identity, names) = ((item.key, item.fingerprint), (event.customer, event.raw));
        let (record, feeds) = self.encode(identity, item.timestamp, names, feeds);
        let (key, fingerprint) = identity;
        let (timestamp, id) = (item.timestamp, self.put_id(id));
        let (indexed, backfilled) = (item.indexed, item.backfilled);
        self.batch.slots.push(Slot::Event(Item {
            key,
            fingerprint,
            timestamp,
            indexed,
            backfilled,
            record,
            feeds,
            id,
        }));
    }

    /// Encodes an event; answers with where its bytes and its feeds are.
    fn encode<'f, D: ExactSizeIterator<Item = Option<&'f str>> + Clone>(
        &mut self,
        identity: (EventKey, Fingerprint),
        timestamp: Timestamp,
        (customer, raw): (&str, &[u8]),
        feeds: impl Iterator<Item = (MeterId, Value, D)>,
    ) -> (Range<usize>, Range<usize>) {
        let Self { context, batch, windows, last_periods, periods, place, scratch: prefix } = self;
        let only = place.map(|(period, _)| period);
        // Where it is counted.
        let bounds = place.map(|(period, window)| window.unwrap_or(period.bounds));
        let at = bounds.map_or(timestamp, |bounds| timestamp.clamp(bounds.start, last_instant(bounds)));
        let first_feed = batch.feeds.len();
        prefix.clear();
        key::put_customer(prefix, batch.tenant.as_str(), customer);
        let schedule = context.calendars.get(prefix);
        let mut encoder = EventEncoder::start(&mut batch.encoded, identity, timestamp, customer, raw);
        for (id, value, dimensions) in feeds {
            let meter = context.meters.get(id).expect("the caller took the number from these very meters");
            let window = meter.windows.window_cached(at, &mut windows[usize::from(id.0)]);
            let last = &mut last_periods[usize::from(id.0)];
            let last = if schedule.is_none() && only.is_none() { Some(last) } else { None };
            let mut number = |period| number_of(periods, &mut batch.periods, period);
            let (bounds, period) = match &last {
                Some(Some((bounds, number))) if bounds.contains(at) => (*bounds, *number),
                _ => {
                    let period = only.unwrap_or_else(|| period_at(meter, schedule.as_deref(), at));
                    (period.bounds, number(period))
                }
            };
            if let Some(last) = last {
                *last = Some((bounds, period));
            }
            let window = Window { start: window.start.max(bounds.start), end: window.end.min(bounds.end) };
            let late_at = encoder.feed(id, (window, period), value, dimensions.clone());
            let start = batch.keys.len();
            batch.keys.extend_from_slice(prefix);
            key::put_meter(&mut batch.keys, &meter.definition.slug, dimensions);
            let hash = context.table_hasher.hash(&batch.keys[start..]);
            let key = start..batch.keys.len();
            batch.feeds.push(Feed { meter: id, window, period, value, late_at, hash, key });
        }
        (encoder.finish(), first_feed..batch.feeds.len())
    }

    /// Looks the ids up in the index, which may read the disk.
    pub fn finish(self) -> Result<Batch, BatchError> {
        let mut batch = self.batch;
        if batch.encoded.len() > RECORD_BYTES_MAX {
            return Err(BatchError::TooLarge { bytes: batch.encoded.len() });
        }
        batch.look_up(&self.context.index)?;
        Ok(batch)
    }
}

/// The last instant of a stretch of time that is not empty.
fn last_instant(bounds: Window) -> Timestamp {
    bounds.end.saturating_sub(Duration::from_micros(1)).max(bounds.start)
}

fn period_at(meter: &Meter, schedule: Option<&ResolvedSchedule>, at: Timestamp) -> BillingPeriod {
    meter.calendar(schedule).period_at(at)
}

/// A period's place among the batch's.
fn number_of(known: &mut HashMap<BillingPeriod, u32>, periods: &mut Vec<BillingPeriod>, period: BillingPeriod) -> u32 {
    *known.entry(period).or_insert_with(|| {
        periods.push(period);
        u32::try_from(periods.len() - 1).expect("a request has far fewer events than 2^32")
    })
}
