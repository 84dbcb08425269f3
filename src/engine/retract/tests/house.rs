//! An engine that is driven step by step, with a meter of every aggregation that every event feeds, and a model beside it:
//! the list of all events, and which of them are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use fastrand::Rng;
use tokio::sync::watch;

use crate::engine::batch::{NewEvent, NewFeed};
use crate::engine::corrections::{Backfill, Retraction, RetractionRefused};
use crate::engine::evidence::Evidence;
use crate::engine::outbox::Done;
use crate::engine::recovery::{self, Entropy, Parts, Running};
use crate::engine::retract::plan::name_of;
use crate::engine::retract::source::Journaled;
use crate::engine::retract::{PlanError, Planner, Source};
use crate::engine::state::tests::caps::assert_consistent;
use crate::engine::state::{
    Counter, IN_TOTAL, PeriodId, decode_adjustment, decode_period, decode_window, load_members, period_key,
};
use crate::engine::view::View;
use crate::engine::writer::{CustomerSettings, Operation};
use crate::engine::{Options, key, verify};
use crate::env::{Clock, Disk, ManualClock, SimDisk};
use crate::journal::{self, Compression};
use crate::meter::{Aggregate, Aggregation, Definition, Late, Value};
use crate::model::{Duration, Fingerprint, MeterId, Outcome, Quantity, Seq, TenantId, Timestamp};
use crate::store::{MemStore, Store, Table};

pub const CUSTOMERS: [&str; 2] = ["a", "b"];
pub const MODELS: [Option<&str>; 2] = [None, Some("m")];
pub const HOUR: u64 = 3_600;
pub const DAY: u64 = 86_400;
/// Each aggregation, the estimate, and a sum by days.
const SLUGS: [&str; 9] = ["count", "sum", "min", "max", "avg", "latest", "unique", "estimate", "daily"];

pub fn time(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

pub fn tenant() -> TenantId {
    TenantId::new("default")
}

/// Spread like a keyed hash.
pub fn member(number: u64) -> u128 {
    Rng::with_seed(number).u128(..)
}

fn definitions() -> Vec<Definition> {
    let of = |(number, slug): (usize, &&str)| {
        let aggregation = Aggregation::ALL.get(number).copied();
        let aggregation = aggregation.unwrap_or(if *slug == "daily" { Aggregation::Max } else { Aggregation::Unique });
        Definition {
            slug: (*slug).into(),
            event_type: (*slug).into(),
            aggregation,
            value: (aggregation == Aggregation::Unique).then(|| "$.user".parse().unwrap()),
            dimensions: if number % 2 == 1 { vec![("model".into(), "$.model".parse().unwrap())] } else { vec![] },
            window: if *slug == "daily" { "1d" } else { "1h" }.parse().unwrap(),
            time_zone: "UTC".into(),
            grace: Duration::from_secs(HOUR),
            late: Late::Adjust,
            allow_negative: true,
            unique_members_max: if *slug == "estimate" { 3 } else { 1_000 },
            approximate: *slug == "estimate",
            billing_period: Default::default(),
            // So that days are cut where periods begin.
            billing_time_zone: (*slug == "daily").then(|| "America/New_York".into()),
            derive_id: None,
        }
    };
    SLUGS.iter().enumerate().map(of).collect()
}

/// An event as the model has it.
#[derive(Clone, Debug)]
pub struct Event {
    pub seq: Seq,
    pub id: String,
    pub customer: &'static str,
    pub model: Option<&'static str>,
    pub at: Timestamp,
    pub quantity: i64,
    pub member: u64,
    pub backfill: Option<u32>,
    pub gone: bool,
    /// The names of its windows' counters, by meter: what the log says.
    pub counters: Vec<Vec<u8>>,
}

impl Event {
    pub fn new(customer: &'static str, at: Timestamp, quantity: i64, member: u64) -> Self {
        let (seq, id, model, counters) = (Seq::ZERO, String::new(), None, Vec::new());
        Self { seq, id, customer, model, at, quantity, member, backfill: None, gone: false, counters }
    }

    fn value(&self, definition: &Definition) -> Value {
        match definition.aggregation {
            Aggregation::Unique => Value::Member(member(self.member)),
            _ => Value::Quantity(Quantity::from_integer(self.quantity)),
        }
    }

    /// The name of its window's counter.
    fn counter(&self, definition: &Definition) -> &Vec<u8> {
        &self.counters[SLUGS.iter().position(|slug| *slug == definition.slug).unwrap()]
    }
}

pub struct House {
    disk: SimDisk,
    pub store: Arc<MemStore>,
    pub clock: Arc<ManualClock>,
    running: Option<Running<()>>,
    pub view: View,
    durable: watch::Sender<Seq>,
    pub definitions: Vec<Definition>,
    pub events: Vec<Event>,
    ids: u64,
}

impl House {
    pub fn new(now: &str) -> Self {
        let (disk, store) = (SimDisk::new(1), Arc::new(MemStore::new()));
        let clock = Arc::new(ManualClock::new(time(now)));
        let durable = watch::Sender::new(Seq::ZERO);
        let (running, view) = open(&disk, &store, &clock, &durable);
        let (running, definitions) = (Some(running), definitions());
        let mut house = Self { disk, store, clock, running, view, durable, definitions, events: Vec::new(), ids: 0 };
        house.pass(0);
        house
    }

    fn running(&mut self) -> &mut Running<()> {
        self.running.as_mut().unwrap()
    }

    /// Ends the process and starts it again.
    pub fn restart(&mut self) {
        self.running = None;
        self.disk = self.disk.restart();
        let (running, view) = open(&self.disk, &self.store, &self.clock, &self.durable);
        (self.running, self.view) = (Some(running), view);
        self.pass(0);
    }

    pub fn planner(&self) -> Planner {
        Planner::new(self.view.clone(), self.source())
    }

    pub fn source(&self) -> Box<dyn Source> {
        let store_id = self.running.as_ref().unwrap().journal.store_id();
        let durable = self.durable.subscribe();
        let evidence = Evidence::open(Arc::new(self.disk.clone()), store_id, durable.clone());
        Box::new(Journaled { evidence, durable, failure: None })
    }

    /// Makes the open group durable.
    fn settle(&mut self) -> Option<crate::engine::writer::Answer> {
        let running = self.running();
        let group = running.writer.seal(Vec::new());
        if group.count > 0 {
            running.journal.append(group.first, group.count, &group.payload).unwrap();
            running.journal.sync().unwrap();
            let last = Seq(group.first.0 + u64::from(group.count) - 1);
            self.durable.send_replace(last);
        }
        group.answers.into_iter().next_back().map(|(_, answer)| answer)
    }

    fn observe(&mut self) -> (Timestamp, Duration) {
        let now = (self.clock.now(), self.clock.monotonic());
        self.running().writer.observe(now.0, now.1);
        now
    }

    /// Lets time pass, and closes what is due.
    pub fn pass(&mut self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
        self.observe();
        for _ in 0..1_000 {
            let before = self.running().writer.position();
            self.running().writer.tick();
            self.running().writer.close_due();
            self.settle();
            if self.running().writer.position() == before {
                return;
            }
        }
    }

    /// Brings the store up to date; what is final leaves memory.
    pub fn commit(&mut self) {
        let monotonic = self.clock.monotonic();
        self.running.as_mut().unwrap().commit_to(&*self.store, monotonic);
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn send(&mut self, mut event: Event) -> Seq {
        let (now, _) = self.observe();
        self.ids += 1;
        event.id = format!("e-{}", self.ids);
        let mut builder = self.running.as_ref().unwrap().batches.start(&tenant(), now);
        event.backfill.iter().for_each(|number| builder.backfills(*number));
        let dimensions = [event.model.map(Into::into)];
        let feeds = self.definitions.iter().enumerate().map(|(number, definition)| NewFeed {
            meter: MeterId(number as u16),
            value: event.value(definition),
            dimensions: if definition.dimensions.is_empty() { &[] } else { &dimensions[..] },
        });
        let feeds: Vec<NewFeed<'_>> = feeds.collect();
        builder.push(&NewEvent {
            usage_event_id: &event.id,
            source: "",
            customer: event.customer,
            timestamp: Some(event.at),
            fingerprint: Fingerprint(1),
            raw: b"{}",
            feeds: &feeds,
        });
        let batch = builder.finish().unwrap();
        self.running().writer.take(batch, ()).unwrap();
        let answer = self.settle().unwrap();
        let Outcome::Accepted(seq) = answer.outcomes[0] else { panic!("{:?} of {event:?}", answer.outcomes) };
        event.seq = seq;
        let planner = self.planner();
        let mut feeds = Vec::new();
        planner.source.event(seq, &mut |event| feeds = planner.feeds_of(event)).unwrap();
        event.counters = feeds.into_iter().map(|feed| name_of(&(feed.series, feed.window.start))).collect();
        self.events.push(event);
        seq
    }

    pub fn operate(&mut self, operation: Operation) -> Done {
        let now = self.observe();
        self.running().writer.operate(operation, now, ()).unwrap();
        self.settle().unwrap().done
    }

    pub fn put_anchor(&mut self, customer: &str, anchor: Option<u8>) {
        let settings = CustomerSettings { anchor, ..CustomerSettings::default() };
        self.operate(Operation::PutCustomer { tenant: tenant(), customer: customer.to_owned(), settings });
    }

    pub fn plan(&self, event: Seq) -> Result<Retraction, PlanError> {
        self.planner().void(&tenant(), "", "e", event, "tested")
    }

    /// Takes an event back. The final windows that it was in have adjustments that say by how much they changed.
    pub fn void(&mut self, event: Seq) {
        let place = self.events.iter().position(|known| known.seq == event).unwrap();
        let names: Vec<Vec<u8>> =
            self.definitions.iter().map(|definition| self.events[place].counter(definition).clone()).collect();
        let before: Vec<_> = names.iter().map(|name| self.counter(name).unwrap()).collect();
        let retraction = self.plan(event).unwrap();
        let done = self.operate(Operation::Retract { retraction, replacement: None });
        let Done::Retracted(seq) = done else { panic!("{done:?}") };
        self.events[place].gone = true;
        for (name, before) in names.iter().zip(before) {
            let after = self.counter(name).unwrap();
            let delta = after.value().unwrap_or_default().saturating_sub(before.value().unwrap_or_default());
            let deltas = self.deltas(seq, name);
            assert_eq!(deltas, if before.is_final { vec![delta] } else { vec![] }, "{}", name.escape_ascii());
            assert_eq!(after.revision, before.revision + u32::from(before.is_final));
        }
    }

    /// The adjustments of a record to a window.
    fn deltas(&self, seq: Seq, name: &[u8]) -> Vec<Quantity> {
        let (series, start) = key::split_start(name).unwrap();
        let state = self.view.state().read();
        let is_it = |key: &[u8]| key[key.len() - 9..key.len() - 1] == seq.0.to_be_bytes();
        let mut rows: Vec<_> =
            state.recent_adjustments().filter(|(key, _)| is_it(key)).map(|(_, row)| row.clone()).collect();
        self.store
            .scan(Table::Adjustments, &[], &mut |key, row| {
                rows.extend(is_it(key).then(|| decode_adjustment(row).unwrap()));
                ControlFlow::Continue(())
            })
            .unwrap();
        rows.retain(|row| row.series == series && row.window.start == start);
        rows.iter().map(|row| row.delta).collect()
    }

    fn definition_of(&self, series: &[u8]) -> &Definition {
        let (name, _) = key::read_series(series).unwrap();
        self.definitions.iter().find(|definition| definition.slug == name.meter).unwrap()
    }

    /// A counter wherever it is.
    pub fn counter(&self, name: &[u8]) -> Option<Counter> {
        let (series, start) = key::split_start(name).unwrap();
        let state = self.view.state().read();
        let known = state.find_series(series);
        if let Some(counter) = known.and_then(|known| Some(&known.counters[known.find(start).ok()?])) {
            return Some(counter.clone());
        }
        let row = self.store.get(Table::Windows, name).unwrap()?;
        let (mut counter, members) = decode_window(start, &row, self.definition_of(series)).unwrap();
        let found =
            load_members(&*self.store.snapshot(), Table::Members, name, (&mut counter.aggregate, u64::MAX)).unwrap();
        assert_eq!(found, u64::from(members));
        Some(counter)
    }

    /// The total of a period's final windows, and their events.
    fn total(&self, series: &[u8], id: PeriodId) -> Option<(Aggregate, u64)> {
        let state = self.view.state().read();
        let known = state.find_series(series).and_then(|series| series.period(id));
        if let Some(known) = known {
            return known.base.as_ref().map(|base| (base.aggregate.clone(), base.event_count));
        }
        let (period, mut name) = (state.periods().get(id).period, Vec::new());
        period_key(&mut name, series, &period.label.to_string(), period.bounds);
        let row = self.store.get(Table::Periods, &name).unwrap()?;
        let row = decode_period(period.bounds.start, &row, self.definition_of(series)).unwrap();
        let members = row.members;
        let mut base = row.counter.base?;
        name.push(IN_TOTAL);
        let found = load_members(&*self.store.snapshot(), Table::PeriodMembers, &name, (&mut base.aggregate, u64::MAX))
            .unwrap();
        assert_eq!(found, u64::from(members[0]));
        Some((base.aggregate, base.event_count))
    }

    /// Every counter and total is what the events that are left come to.
    pub fn check(&self) {
        assert_consistent(&mut self.running.as_ref().unwrap().writer.state().write());
        type Totals = BTreeMap<(Vec<u8>, PeriodId), (Aggregate, u64)>;
        let mut totals = Totals::new();
        for definition in &self.definitions {
            let limits = Definition { unique_members_max: 1_000, ..definition.clone() };
            let names: BTreeSet<Vec<u8>> = self.events.iter().map(|event| event.counter(definition).clone()).collect();
            for name in names {
                let counter = self.counter(&name).unwrap();
                let (mut expected, mut count) = (Aggregate::new(&limits), 0);
                for event in self.events.iter().filter(|event| !event.gone && *event.counter(definition) == name) {
                    expected.add(event.value(definition), event.at, event.seq).unwrap();
                    count += 1;
                }
                assert_eq!(counter.event_count, count, "{}", name.escape_ascii());
                assert_same(&counter.aggregate, &expected, count, &name);
                let (series, _) = key::split_start(&name).unwrap();
                if counter.is_final {
                    let new = || (Aggregate::new(&limits), 0);
                    let total = totals.entry((series.to_vec(), counter.period)).or_insert_with(new);
                    total.0.merge(&expected).unwrap();
                    total.1 += count;
                }
            }
        }
        for ((series, period), (expected, count)) in totals {
            let (total, events) = self.total(&series, period).unwrap();
            assert_eq!(events, count, "{} {period:?}", series.escape_ascii());
            assert_same(&total, &expected, count, &series);
        }
    }

    /// The same, and the store's rows are those of a refold.
    pub fn verify(&mut self) {
        self.check();
        self.commit();
        self.check();
        let (disk, store): (Arc<dyn Disk>, Arc<dyn Store>) = (Arc::new(self.disk.clone()), self.store.clone());
        let verified = verify(&disk, &store, &mut |_| {}).unwrap();
        assert_eq!(verified.differences, []);
    }

    pub fn open_backfill(&mut self, id: &str) -> u32 {
        let done = self.operate(Operation::OpenBackfill { tenant: tenant(), id: id.to_owned() });
        let Done::Backfill(backfill) = done else { panic!("{done:?}") };
        backfill.number
    }

    pub fn begin_revert(&mut self, id: &str) -> Backfill {
        let (id, reason) = (id.to_owned(), "tested".to_owned());
        let done = self.operate(Operation::RevertBackfill { tenant: tenant(), id, reason });
        let Done::Backfill(backfill) = done else { panic!("{done:?}") };
        *backfill
    }

    pub fn forget(&mut self, backfill: u32) {
        let theirs = self.events.iter_mut().filter(|event| event.backfill == Some(backfill));
        theirs.for_each(|event| event.gone = true);
    }
}

/// Of estimates what they say is compared.
fn assert_same(known: &Aggregate, expected: &Aggregate, count: u64, name: &[u8]) {
    if known.is_approximate() {
        let value = |aggregate: &Aggregate| aggregate.value(count).unwrap().scaled() / Quantity::ONE.scaled();
        let difference = (value(known) - value(expected)).abs();
        assert!(difference <= 1, "{}: {} {}", name.escape_ascii(), value(known), value(expected));
    } else {
        assert!(known == expected, "{}: {known:?} {expected:?}", name.escape_ascii());
    }
}

/// Whether a plan or its retraction is to be made again.
pub fn is_outdated(done: &Result<Done, PlanError>) -> bool {
    use RetractionRefused::Outdated;
    matches!(done, Ok(Done::RetractionRefused(Outdated)) | Err(PlanError::Refused(Outdated)))
}

fn open(
    disk: &SimDisk,
    store: &Arc<MemStore>,
    clock: &Arc<ManualClock>,
    durable: &watch::Sender<Seq>,
) -> (Running<()>, View) {
    let lock = recovery::lock(disk).unwrap();
    let parts = Parts { lock, disk: Arc::new(disk.clone()), clock: clock.clone(), store: store.clone() };
    // So that windows can be used out of order while a customer's calendar changes.
    let options = Options { accept_future: Duration::from_secs(DAY), ..Options::default() };
    let journal_options = journal::Options { segment_bytes: 64 << 10, compression: Compression::None };
    let entropy = Entropy { store_id: 7, dedupe_key: [9; 16] };
    let running = recovery::open(&parts, &options, journal_options, &definitions(), entropy).unwrap().run(&options);
    durable.send_replace(running.journal.durable());
    let view = View::new(running.writer.state().clone(), running.batches.clone(), durable.subscribe());
    (running, view)
}
