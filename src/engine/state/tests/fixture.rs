//! A log in memory, with a state over a store: decides as the writer does, writes with the encoders, folds what it reads.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use parking_lot::RwLock;

use super::super::*;
use crate::engine::record::{self, EventEncoder, EventsWriter};
use crate::meter::{Aggregation, BillingPeriod, Late, Meters, ResolvedSchedule, Value};
use crate::model::{Code, Duration, Fingerprint, Quantity, Window};
use crate::store::{Commit, META_OWN, MemStore, Table};

pub const TENANT: &str = "acme";
pub const HOUR: Duration = Duration::from_secs(3_600);
pub const DAY: Duration = Duration::from_secs(86_400);
pub const UNLIMITED: StateLimits = StateLimits { open_counters_max: u64::MAX, unique_members_max: u64::MAX };

pub fn time(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

pub fn definition(slug: &str, aggregation: Aggregation) -> Definition {
    Definition {
        slug: slug.into(),
        event_type: slug.into(),
        aggregation,
        value: (aggregation == Aggregation::Unique).then(|| "$.user".parse().unwrap()),
        dimensions: vec![],
        window: "1h".parse().unwrap(),
        time_zone: "UTC".into(),
        grace: HOUR,
        late: Late::Adjust,
        allow_negative: true,
        unique_members_max: 1_000,
        approximate: false,
        billing_period: Default::default(),
        billing_time_zone: None,
        derive_id: None,
    }
}

pub fn number(value: i64) -> Value {
    Value::Quantity(Quantity::from_integer(value))
}

/// What an event adds to one meter.
#[derive(Clone)]
pub struct NewFeed {
    pub meter: MeterId,
    pub value: Value,
    pub dimensions: Vec<Option<&'static str>>,
}

#[derive(Clone)]
pub struct NewEvent {
    pub customer: String,
    pub at: Timestamp,
    pub feeds: Vec<NewFeed>,
}

/// A feed with what is known of it at the door, and whether it is late.
struct Placed {
    feed: NewFeed,
    window: Window,
    period: BillingPeriod,
    place: u32,
    name: Vec<u8>,
    late: bool,
}

pub struct Log {
    pub state: Arc<RwLock<State>>,
    pub store: Arc<MemStore>,
    pub hasher: TableHasher,
    pub meters: Meters,
    pub schedules: BTreeMap<String, ResolvedSchedule>,
    /// What is believed.
    pub now: Timestamp,
    /// Every record, with its first seq.
    pub records: Vec<(Seq, Vec<u8>)>,
    /// Folds the same, and nothing ever leaves its memory.
    pub reference: State,
    /// Where the epoch ends that is on its way.
    pub closed_at: Option<Seq>,
}

impl Log {
    /// A log with these meters at an effective time.
    pub fn new(definitions: &[Definition], now: Timestamp) -> Self {
        let (hasher, store) = (TableHasher::default(), Arc::new(MemStore::new()));
        let reference = State::new(hasher.clone(), Arc::new(MemStore::new()));
        let state = Arc::new(RwLock::new(State::new(hasher.clone(), store.clone())));
        let (schedules, records) = (BTreeMap::new(), Vec::new());
        let meters = Meters::new();
        let mut log = Self { state, store, hasher, meters, schedules, now, records, reference, closed_at: None };
        let genesis = Genesis { store_id: 7, dedupe_key: [3; 16], incarnation: Incarnation(1), created_at: now };
        log.write(|out| record::put_genesis(out, &genesis));
        for (number, definition) in definitions.iter().enumerate() {
            log.define(MeterId(number as u16), definition);
        }
        log
    }

    pub fn define(&mut self, meter: MeterId, definition: &Definition) {
        self.meters.put(meter, definition.clone()).unwrap();
        self.write(|out| record::put_meter_version(out, meter, definition));
    }

    /// Writes one record and folds it, as read back.
    pub fn write(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        let mut payload = Vec::new();
        put(&mut payload);
        let first = self.state.read().position().next();
        let record = record::records(&payload).next().unwrap().unwrap();
        self.state.write().apply(first, &record, &mut |_, _| {}).unwrap();
        self.reference.apply(first, &record, &mut |_, _| {}).unwrap();
        self.records.push((first, payload));
    }

    pub fn tick(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.write(|out| record::put_tick(out, now, Seq::ZERO));
    }

    pub fn put_customer(&mut self, tenant: &str, customer: &str, json: &str) {
        let settings: Customer = serde_json::from_str(json).unwrap();
        self.schedules.insert(customer.into(), ResolvedSchedule::new(&settings.schedule).unwrap());
        self.write(|out| record::put_customer_changed(out, tenant, customer, &settings));
    }

    /// One event of the usual tenant with one feed without dimensions; whether it is late.
    pub fn add(&mut self, customer: &str, meter: u16, at: &str, value: Value) -> bool {
        let feeds = vec![NewFeed { meter: MeterId(meter), value, dimensions: vec![] }];
        let event = NewEvent { customer: customer.into(), at: time(at), feeds };
        self.events(TENANT, &[event])[0].clone().unwrap()[0]
    }

    /// Decides events one by one and writes a record of each that can be taken; of each of its feeds whether it is late.
    pub fn events(&mut self, tenant: &str, events: &[NewEvent]) -> Vec<Result<Vec<bool>, Code>> {
        events.iter().map(|event| self.event(tenant, event)).collect()
    }

    fn event(&mut self, tenant: &str, event: &NewEvent) -> Result<Vec<bool>, Code> {
        let (mut placed, periods) = self.place(tenant, event);
        self.decide(&mut placed)?;
        let mut bytes = Vec::new();
        let identity = (EventKey(self.records.len() as u128), Fingerprint(0));
        let mut encoder = EventEncoder::start(&mut bytes, identity, event.at, &event.customer, b"{}");
        let mut late_at = Vec::new();
        for Placed { feed, window, place, late, .. } in &placed {
            let at = encoder.feed(feed.meter, (*window, *place), feed.value, feed.dimensions.iter().copied());
            late_at.extend(late.then_some(at));
        }
        encoder.finish();
        let received_at = self.now;
        self.write(|out| {
            let mut events = EventsWriter::start(out, (tenant, None), received_at, &periods);
            events.push(out, &bytes, late_at.into_iter());
            events.finish(out);
        });
        Ok(placed.iter().map(|placed| placed.late).collect())
    }

    fn place(&self, tenant: &str, event: &NewEvent) -> (Vec<Placed>, Vec<BillingPeriod>) {
        let mut periods = Vec::new();
        let placed = event.feeds.iter().map(|feed| {
            let meter = self.meters.get(feed.meter).unwrap();
            let period = meter.calendar(self.schedules.get(&event.customer)).period_at(event.at);
            let window = meter.windows.window(event.at);
            let (start, end) = (window.start.max(period.bounds.start), window.end.min(period.bounds.end));
            let place = periods.iter().position(|known| *known == period).unwrap_or_else(|| {
                periods.push(period);
                periods.len() - 1
            });
            let dimensions = feed.dimensions.iter().copied();
            let name = series_name(tenant, &event.customer, &meter.definition.slug, dimensions);
            let window = Window { start, end };
            Placed { feed: feed.clone(), window, period, place: place as u32, name, late: false }
        });
        (placed.collect(), periods)
    }

    /// As the writer decides; what has left memory must make no difference.
    fn decide(&mut self, placed: &mut [Placed]) -> Result<(), Code> {
        let mut state = self.state.write();
        let now = self.now.max(state.clock().effective());
        for (number, placed) in placed.iter_mut().enumerate() {
            let feed = borrow(placed, number, &self.hasher);
            let (mut located, mut expected) = (state.locate(&feed), self.reference.locate(&feed));
            let late = state.is_late(&feed, &mut located, now).unwrap();
            let expected = self.reference.is_late(&feed, &mut expected, now).unwrap();
            assert_eq!(late, expected, "{:?} at {now}", placed.window);
            placed.late = late;
            if late {
                state.recall(&borrow(placed, number, &self.hasher)).unwrap();
            }
        }
        let feeds: Vec<Feed<'_>> =
            placed.iter().enumerate().map(|(number, placed)| borrow(placed, number, &self.hasher)).collect();
        let checked = state.check(feeds.iter().map(|feed| (*feed, state.locate(feed))), &UNLIMITED);
        let reference = &self.reference;
        let expected = reference.check(feeds.iter().map(|feed| (*feed, reference.locate(feed))), &UNLIMITED);
        assert_eq!(checked, expected);
        checked.map_err(|(code, _)| code)
    }

    /// Closes a slice of what is due; false if nothing is.
    pub fn close_slice(&mut self, limit: usize) -> bool {
        let now = self.now;
        if self.state.read().clock().effective() < now {
            self.tick(now);
        }
        let state = self.state.clone();
        let Some(slice) = state.write().next_slice(now, limit) else { return false };
        let mut payload = Vec::new();
        record::put_closed(&mut payload, &state.read().closed_record(&slice));
        self.write(|out| out.extend(payload));
        true
    }

    /// Closes what is due at this time.
    pub fn close_all(&mut self, now: &str) {
        self.tick(time(now));
        while self.close_slice(1_000) {}
    }

    /// Brings an epoch to the store, in one go; or finishes one that is on its way.
    pub fn commit(&mut self) {
        self.close_epoch();
        while !self.state.write().drain_epoch(usize::MAX) {}
        self.commit_drained();
    }

    pub fn close_epoch(&mut self) {
        if self.closed_at.is_none() {
            let mut state = self.state.write();
            self.closed_at = Some(state.position());
            state.close_epoch();
        }
    }

    pub fn commit_drained(&mut self) {
        let mut rows = self.state.write().take_epoch();
        rows.sort();
        let position = self.closed_at.take().unwrap();
        self.store.commit(&Commit { position, ids: Vec::new(), rows }).unwrap();
        self.state.write().committed(position);
    }

    pub fn leave(&self) {
        self.state.write().leave(usize::MAX);
    }

    pub fn series(&self, meter: u16, customer: &str) -> Vec<u8> {
        series_name(TENANT, customer, &self.meters.get(MeterId(meter)).unwrap().definition.slug, [].into_iter())
    }

    /// A window's counter in memory.
    pub fn window(&self, meter: u16, customer: &str, start: &str) -> Option<Counter> {
        let state = self.state.read();
        let series = state.find_series(&self.series(meter, customer))?;
        series.find(time(start)).ok().map(|place| series.counters[place].clone())
    }

    /// A period's counter in memory.
    pub fn period(&self, meter: u16, customer: &str, label: &str) -> Option<PeriodCounter> {
        let state = self.state.read();
        let series = state.find_series(&self.series(meter, customer))?;
        let is_it =
            |counter: &&PeriodCounter| state.periods().get(counter.period).period.label == label.parse().unwrap();
        series.periods.iter().find(is_it).cloned()
    }
}

fn borrow<'a>(placed: &'a Placed, number: usize, hasher: &TableHasher) -> Feed<'a> {
    Feed {
        number: number as u8,
        meter: placed.feed.meter,
        late: placed.late,
        window: placed.window,
        period: &placed.period,
        value: placed.feed.value,
        key: &placed.name,
        hash: hasher.hash(&placed.name),
    }
}

pub fn series_name<'a>(
    tenant: &str,
    customer: &str,
    slug: &str,
    dimensions: impl ExactSizeIterator<Item = Option<&'a str>>,
) -> Vec<u8> {
    let mut name = Vec::new();
    key::put_customer(&mut name, tenant, customer);
    key::put_meter(&mut name, slug, dimensions);
    name
}

pub type Dump = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// Every row that the engine has put there.
pub fn dump(store: &dyn Store) -> Dump {
    let mut rows = Dump::new();
    for table in Table::ALL {
        let mut visit = |key: &[u8], value: &[u8]| {
            if table != Table::Meta || !META_OWN.contains(&key) {
                rows.insert((table, key.to_vec()), value.to_vec());
            }
            ControlFlow::Continue(())
        };
        store.scan(table, &[], &mut visit).unwrap();
    }
    rows
}

/// A state that never wrote anything, written out whole.
pub fn written_out(mut state: State) -> Dump {
    state.close_epoch();
    while !state.drain_epoch(usize::MAX) {}
    let store = MemStore::new();
    store.commit(&Commit { position: state.position(), ids: Vec::new(), rows: state.take_epoch() }).unwrap();
    dump(&store)
}

/// The fold of records from the first on, with nothing ever leaving memory.
pub fn folded(records: &[(Seq, Vec<u8>)]) -> State {
    let mut state = State::new(TableHasher::default(), Arc::new(MemStore::new()));
    replay(&mut state, records);
    state
}

/// Folds the records that a state does not have yet.
pub fn replay(state: &mut State, records: &[(Seq, Vec<u8>)]) {
    let from = records.partition_point(|(first, _)| *first <= state.position());
    for (first, payload) in &records[from..] {
        let record = record::records(payload).next().unwrap().unwrap();
        state.apply(*first, &record, &mut |_, _| {}).unwrap();
    }
}
