//! Random histories, replayed: unchanged, with a new meter, in part, and with everything queued again.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::*;
use crate::engine::corrections::{Cause, Change, Remains, Retraction, VoidCause, WindowChange};
use crate::engine::key;
use crate::engine::record::{self, CorrectionRecord, SinkRecord};
use crate::engine::state::tests::fixture::{self, DAY, HOUR, Log, NewEvent, NewFeed, TENANT, definition, time};
use crate::engine::state::{State, decode_counter, decode_window};
use crate::engine::verify;
use crate::env::SimDisk;
use crate::journal::{Compression, Journal, StoreId};
use crate::meter::{Aggregation, Late};
use crate::model::{Duration, EventKey, OutboxPosition, Quantity, RowKinds, TenantId};
use crate::store::{MemStore, Table};

const JOURNAL: journal::Options = journal::Options { segment_bytes: 64 << 10, compression: Compression::None };
const START: &str = "2026-10-26T09:30:00Z";

/// An event that counts.
#[derive(Clone, Debug)]
struct Counted {
    seq: Seq,
    customer: String,
    at: Timestamp,
    voided: bool,
}

struct History {
    log: Log,
    events: Vec<Counted>,
}

fn definitions() -> Vec<Definition> {
    let mut all: Vec<Definition> = Aggregation::ALL.iter().map(|kind| definition(kind.as_str(), *kind)).collect();
    all[1].dimensions = vec![("model".into(), "$.model".parse().unwrap())];
    all[2] = Definition { window: "1d".parse().unwrap(), grace: Duration::ZERO, ..all[2].clone() };
    all
}

impl History {
    fn new(seed: u64, steps: u32) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut history = Self { log: Log::new(&definitions(), time(START)), events: Vec::new() };
        history.log.write(|out| record::put_sink(out, &SinkRecord::Defined { name: "old", kinds: RowKinds::ALL }));
        let anchored = r#"{"plan":null,"schedule":{"eras":[{"from":null,"anchor":29,"time_zone":"Asia/Tokyo"}]}}"#;
        history.log.put_customer(TENANT, "c-0", anchored);
        for _ in 0..steps {
            match rng.u8(..20) {
                0..13 => history.event(&mut rng),
                13..16 => history.pass(&mut rng),
                16 => history.void(&mut rng),
                17 => {
                    history.log.commit();
                    history.log.leave();
                }
                18 => {
                    let customer = format!("c-{}", rng.u8(0..4));
                    let json = format!(
                        r#"{{"plan":null,"schedule":{{"eras":[{{"from":null,"anchor":{},"time_zone":null}}]}}}}"#,
                        rng.u8(1..=28)
                    );
                    let is_new = !history.events.iter().any(|event| event.customer == customer);
                    if is_new {
                        history.log.put_customer(TENANT, &customer, &json);
                    }
                }
                _ => {
                    let tally = record::Tally { duplicate: rng.u64(0..3), capped: 1, ..record::Tally::default() };
                    history.log.write(|out| record::put_tally(out, TENANT, &tally));
                }
            }
        }
        history
    }

    fn event(&mut self, rng: &mut fastrand::Rng) {
        let customer = format!("c-{}", rng.u8(0..4));
        let furthest = if rng.u8(..3) == 0 { 4 * 86_400 } else { 5_400 };
        let back = Duration::from_secs(rng.u64(..furthest));
        let at = self.log.now.saturating_sub(back);
        let mut feeds = Vec::new();
        for meter in 0..7_u16 {
            if rng.u8(..3) == 0 || (meter == 6 && feeds.is_empty()) {
                let number = rng.i64(-5..20);
                let value = if meter == 6 { Value::Member(number as u128) } else { fixture::number(number) };
                let dimensions = if meter == 1 { vec![[None, Some("a"), Some("b")][rng.usize(..3)]] } else { vec![] };
                feeds.push(NewFeed { meter: MeterId(meter), value, dimensions });
            }
        }
        let event = NewEvent { customer: customer.clone(), at, feeds };
        if self.log.events(TENANT, &[event])[0].is_ok() {
            let seq = self.log.state.read().position();
            self.events.push(Counted { seq, customer, at, voided: false });
        }
    }

    fn pass(&mut self, rng: &mut fastrand::Rng) {
        let now = self.log.now.saturating_add(Duration::from_secs(rng.u64(..20_000)));
        self.log.tick(now);
        while rng.u8(..6) > 0 && self.log.close_slice(rng.usize(1..5)) {}
    }

    /// Takes back an event with one feed of a sum, if its window is in memory.
    fn void(&mut self, rng: &mut fastrand::Rng) {
        let place = rng.usize(..self.events.len().max(1));
        let Some(event) = self.events.get(place).filter(|event| !event.voided).cloned() else { return };
        let (_, bytes) = self.log.records.iter().find(|(first, _)| *first == event.seq).unwrap();
        let bytes = bytes.clone();
        let Some(Ok(record::Record::Events(events))) = record::records(&bytes).next() else { return };
        let read = events.iter().next().unwrap().unwrap();
        let mut changes = Vec::new();
        for feed in &read.feeds {
            let quantity = if let Value::Quantity(quantity) = feed.value { quantity } else { Quantity::ZERO };
            let slug = &definitions()[usize::from(feed.meter.0)].slug;
            let series = fixture::series_name(TENANT, &event.customer, slug, feed.dimensions.iter().copied());
            let state = self.log.state.read();
            let Some(known) = state.find_series(&series) else { return };
            let Ok(place) = known.find(feed.window.start) else { return };
            let counter = &known.counters[place];
            let remains = match feed.meter.0 {
                0 | 1 | 4 => Remains::Subtract,
                _ if counter.is_final => return,
                _ => self.left((event.seq, &event.customer), feed),
            };
            let window = WindowChange {
                window: feed.window,
                event_count: counter.event_count,
                is_final: counter.is_final,
                events: 1,
                quantity,
                timestamp: event.at,
                remains,
            };
            let (period, total) = (events.periods[feed.period as usize], Remains::Subtract);
            let (series, meter, windows) = (series.clone(), feed.meter, vec![window]);
            changes.push(Change { series, meter, period, total, total_count: 0, windows });
        }
        let void = VoidCause {
            event: event.seq,
            key: EventKey(read.key.0),
            usage_event_id: format!("e-{}", event.seq),
            source: String::new(),
            customer: event.customer,
            reason: "wrong".into(),
        };
        let basis = crate::engine::Basis { retractions: self.log.state.read().corrections().retractions() };
        let retraction = Retraction { tenant: TenantId::new(TENANT), cause: Cause::Void(void), basis, changes };
        if self.log.state.write().check_retraction(&retraction).unwrap().is_err() {
            return;
        }
        let record = CorrectionRecord::Retracted { at: self.log.now, retraction: Box::new(retraction) };
        self.log.write(|out| record::put_correction(out, &record));
        self.events[place].voided = true;
    }

    /// What remains of the window of a meter that cannot subtract, without this event.
    fn left(&self, (gone, customer): (Seq, &str), feed: &record::FeedRecord<'_>) -> Remains {
        let mut left = crate::meter::Aggregate::new(&definitions()[usize::from(feed.meter.0)]);
        let mut members = Vec::new();
        let others =
            self.events.iter().filter(|event| !event.voided && event.customer == customer && event.seq != gone);
        for event in others {
            let (_, bytes) = self.log.records.iter().find(|(first, _)| *first == event.seq).unwrap();
            let Some(Ok(record::Record::Events(events))) = record::records(bytes).next() else { continue };
            let read = events.iter().next().unwrap().unwrap();
            for other in read.feeds.iter().filter(|other| (other.meter, other.window) == (feed.meter, feed.window)) {
                match other.value {
                    Value::Member(member) => members.push(member),
                    value => drop(left.add(value, event.at, event.seq).unwrap()),
                }
            }
        }
        if let Value::Member(member) = feed.value {
            return Remains::Without([member].into_iter().filter(|member| !members.contains(member)).collect());
        }
        let mut bytes = Vec::new();
        left.encode(&mut bytes);
        Remains::Is(bytes)
    }

    /// As a directory: the journal has everything, the store what it was given last.
    fn source(&self) -> Source {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        let mut journal = Journal::create(disk.clone(), JOURNAL, StoreId(7), Seq(1)).unwrap();
        for frame in self.log.records.chunks(5) {
            let payload: Vec<u8> = frame.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
            journal.append(frame[0].0, frame.len() as u32, &payload).unwrap();
        }
        journal.sync().unwrap();
        Source { disk, store: self.log.store.clone() }
    }
}

/// Feeds every new meter one of each event.
fn ones(meters: Arc<Meters>, _: Hasher) -> Reread {
    Box::new(move |_| {
        let reading = |meter: &crate::meter::Meter| Reading { meter: meter.id, feed: Ok((fixture::number(1), vec![])) };
        meters.iter().map(reading).collect()
    })
}

fn request(definitions: Vec<Definition>) -> Request {
    Request { definitions, store_id: 99, journal: JOURNAL, epoch_ids: 50, ..Request::default() }
}

fn replayed(source: &Source, request: &Request) -> (Source, Replayed) {
    let (disk, store): (Arc<dyn Disk>, Arc<dyn Store>) = (Arc::new(SimDisk::new(2)), Arc::new(MemStore::new()));
    let survey = survey(source, &mut |_| {}).unwrap();
    let done = replay((source, &survey), (disk.clone(), store.clone()), request, &ones, &mut |_| {}).unwrap();
    let verified = verify(&disk, &store, &mut |_| {}).unwrap();
    assert_eq!(verified.differences, [], "what is in the new journal is what is in the new store");
    assert_eq!((verified.position, verified.journal_end), (done.replay, done.replay));
    assert_eq!(store.store_id().unwrap(), Some(99));
    assert!(recovery::restored::read(&*disk).unwrap().is_some(), "it says that it was restored");
    (Source { disk, store }, done)
}

fn compared(source: &Source, replay: &Source, range: Range) -> Compared {
    let (mut ours, mut theirs) = (Side::open(source).unwrap(), Side::open(replay).unwrap());
    compare(&mut ours, &mut theirs, range).unwrap()
}

/// A meter's windows in a store: events by customer and start.
fn windows(store: &dyn Store, meter: &Definition) -> BTreeMap<(String, Timestamp), u64> {
    let mut found = BTreeMap::new();
    for table in [Table::Counters, Table::Windows] {
        let mut visit = |key: &[u8], value: &[u8]| {
            let (series, start) = key::split_start(key).unwrap();
            let (name, _) = key::read_series(series).unwrap();
            if name.meter == meter.slug {
                let decode = if table == Table::Windows { decode_window } else { decode_counter };
                let (counter, _) = decode(start, value, meter).unwrap();
                assert_eq!(counter.value(), Some(Quantity::from_integer(counter.event_count as i64)));
                found.insert((name.customer.to_owned(), start), counter.event_count);
            }
            ControlFlow::Continue(())
        };
        store.scan(table, &[], &mut visit).unwrap();
    }
    found
}

#[test]
fn an_unchanged_replay_is_the_same_in_every_window_and_period() {
    let (mut voids, mut windows) = (0, 0);
    for seed in 0..20 {
        let history = History::new(seed, 400);
        let source = history.source();
        let (replay, done) = replayed(&source, &request(definitions()));
        let compared = compared(&source, &replay, Range::default());
        assert_eq!(compared.differences, [], "seed {seed}");
        assert_eq!((compared.difference_count, compared.only.as_slice()), (0, &[][..]));
        assert_eq!((done.events, done.left_out), (history.events.len() as u64, 0));
        assert_eq!(done.replay.0 + 1, done.source.0, "one record less: the sink's");
        let tenants = |source: &Source| Side::open(source).unwrap().tenants;
        assert_eq!(tenants(&source), tenants(&replay));
        voids += history.events.iter().filter(|event| event.voided).count();
        windows += compared.windows;
    }
    assert!(voids > 20 && windows > 2_000, "{voids} voids, {windows} windows");
}

#[test]
fn a_new_meter_counts_what_an_independent_count_of_the_events_does() {
    let mut late = 0;
    for seed in 0..20 {
        let history = History::new(seed, 400);
        let new = Definition { grace: Duration::from_secs(900), ..definition("new", Aggregation::Sum) };
        let mut all = definitions();
        // The order of the config is not that of the numbers.
        all.insert(2, new.clone());
        let source = history.source();
        let (replay, done) = replayed(&source, &request(all));
        let mut expected = BTreeMap::new();
        for event in history.events.iter().filter(|event| !event.voided) {
            let hour = HOUR.micros();
            let start = Timestamp::from_micros(event.at.micros().div_euclid(hour) * hour).unwrap();
            *expected.entry((event.customer.clone(), start)).or_insert(0) += 1;
        }
        assert_eq!(windows(&*replay.store, &new), expected, "seed {seed}");
        let compared = compared(&source, &replay, Range::default());
        assert_eq!(compared.differences, [], "seed {seed}: the others are as they were");
        let counted = history.events.iter().filter(|event| !event.voided).count() as u64;
        let [only] = &compared.only[..] else { panic!("{:?}", compared.only) };
        assert_eq!((only.meter.as_str(), only.in_replay, only.events), ("new", true, counted));
        assert_eq!((only.windows, only.total), (expected.len() as u64, Some(Quantity::from_integer(counted as i64))));
        assert_eq!((done.meters[0].fed, done.meters[0].unfit), (counted, 0));
        late += done.meters[0].late;
        let closed = State::load(&replay.store, TableHasher::default()).unwrap();
        let now = closed.clock().effective();
        let ended = expected.keys().filter(|(_, start)| start.saturating_add(HOUR).saturating_add(new.grace) <= now);
        let mut open = 0;
        replay
            .store
            .scan(Table::Counters, &[], &mut |key, _| {
                let (series, _) = key::split_start(key).unwrap();
                open += usize::from(key::read_series(series).unwrap().0.meter == "new");
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(open, expected.len() - ended.count(), "what is over is final, and nothing else");
    }
    assert!(late > 100, "{late}");
}

#[test]
fn a_new_meter_that_takes_no_late_usage_says_how_much_it_left() {
    let history = History::new(3, 400);
    let new = Definition { late: Late::Reject, grace: Duration::ZERO, ..definition("new", Aggregation::Count) };
    let (replay, done) = replayed(&history.source(), &request(vec![new.clone()]));
    let (meter, counted) = (&done.meters[0], history.events.iter().filter(|event| !event.voided).count() as u64);
    assert!(meter.too_late > 0 && meter.late == 0 && meter.fed + meter.too_late == counted, "{meter:?}");
    assert_eq!(windows(&*replay.store, &new).values().sum::<u64>(), meter.fed);
}

#[test]
fn a_difference_is_found_and_named() {
    let mut history = History::new(5, 200);
    let (replay, _) = replayed(&history.source(), &request(definitions()));
    let at = history.log.now.to_string();
    assert!(!history.log.add("c-9", 0, &at, fixture::number(1)));
    let compared = compared(&history.source(), &replay, Range::default());
    let whats: Vec<_> = compared.differences.iter().map(|found| found.what.split(' ').next().unwrap()).collect();
    assert_eq!(whats, ["window", "period"], "{:?}", compared.differences);
    assert!(compared.differences[0].what.contains("\"acme\"/\"c-9\"/count"), "{:?}", compared.differences[0]);
    assert_eq!((compared.difference_count, &compared.differences[0].replay), (2, &None));
}

#[test]
fn a_range_holds_the_windows_that_start_in_it_and_no_others() {
    for seed in 0..20 {
        let history = History::new(seed, 400);
        let source = history.source();
        let from = time(START).saturating_add(DAY);
        let range = Range { from: Some(from), to: Some(from.saturating_add(DAY)) };
        let (replay, done) = replayed(&source, &Request { range, ..request(definitions()) });
        let compared = compared(&source, &replay, range);
        assert_eq!(compared.differences, [], "seed {seed}");
        assert!(compared.windows > 0 && compared.periods == 0 && done.left_out > 0, "seed {seed}: {done:?}");
        for meter in definitions().iter().filter(|meter| meter.slug == "count") {
            assert!(windows(&*replay.store, meter).keys().all(|(_, start)| range.contains(*start)));
        }
    }
}

#[test]
fn everything_is_queued_for_a_sink_that_is_sent_to_again_and_nothing_for_others() {
    let history = History::new(7, 400);
    let source = history.source();
    let reissue = vec![SinkDefinition { name: "billing".into(), kinds: RowKinds::ALL }];
    let (replay, _) = replayed(&source, &Request { reissue, ..request(definitions()) });
    let survey = survey(&source, &mut |_| {}).unwrap();
    let count = |store: &dyn Store| {
        let mut rows = 0;
        store
            .scan(Table::Outbox, &[], &mut |_, _| {
                rows += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
        rows
    };
    assert!(survey.rows.windows > 0 && survey.rows.adjustments > 0, "{:?}", survey.rows);
    assert_eq!(count(&*replay.store), survey.rows.windows + survey.rows.adjustments);
    let state = State::load(&replay.store, TableHasher::default()).unwrap();
    let sinks: Vec<_> = state.outbox().sinks().map(|(name, sink)| (name.to_string(), sink.cursors)).collect();
    assert_eq!(sinks.len(), 1, "the source's own sinks are not there");
    assert_eq!(sinks[0].0, "billing");
    assert!(sinks[0].1.iter().all(|cursor| *cursor <= OutboxPosition::new(Seq(20), 0)), "{sinks:?}");
    let (replay, _) = replayed(&source, &request(definitions()));
    assert_eq!(count(&*replay.store), 0);
}

#[test]
fn a_journal_without_its_beginning_is_refused() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let mut journal = Journal::create(disk.clone(), JOURNAL, StoreId(7), Seq(40)).unwrap();
    let mut payload = Vec::new();
    record::put_tick(&mut payload, time(START), Seq::ZERO);
    journal.append(Seq(40), 1, &payload).unwrap();
    journal.sync().unwrap();
    let source = Source { disk, store: Arc::new(MemStore::new()) };
    let error = survey(&source, &mut |_| {}).unwrap_err();
    assert!(matches!(error, ReplayFailed::NoBeginning(Seq(40))), "{error}");
}
