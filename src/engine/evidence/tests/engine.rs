//! A whole engine: what its windows say is what their events add up to.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::*;
use crate::engine::{Engine, Entropy, NewEvent, NewFeed, Parts, WindowQuery, lock};
use crate::env::ManualClock;
use crate::meter::{Aggregation, Definition, Late};
use crate::model::{Duration, Outcome, TenantId};
use crate::store::{MemStore, Store};

const CUSTOMERS: [&str; 3] = ["a", "b", "c"];
const DAY: Duration = Duration::from_secs(86_400);

/// Of a meter's customer's dimension in a window: sum and count.
type Sums = BTreeMap<(MeterId, String, Option<String>, i64), (i128, u64)>;

struct Daemon {
    disk: SimDisk,
    store: Arc<MemStore>,
    clock: Arc<ManualClock>,
    engine: Engine,
    ids: u64,
}

fn definition(slug: &str, aggregation: Aggregation) -> Definition {
    Definition {
        slug: slug.into(),
        event_type: slug.into(),
        aggregation,
        value: None,
        dimensions: vec![("model".into(), "$.model".parse().unwrap())],
        window: "1h".parse().unwrap(),
        time_zone: "UTC".into(),
        grace: Duration::from_secs(3_600),
        late: Late::Adjust,
        allow_negative: true,
        unique_members_max: 1_000,
        approximate: false,
        billing_period: Default::default(),
        billing_time_zone: None,
        derive_id: None,
    }
}

fn start(disk: &SimDisk, store: &Arc<MemStore>, clock: &Arc<ManualClock>) -> Engine {
    let lock: Arc<dyn crate::env::DiskLock> = lock(disk).unwrap();
    let store: Arc<dyn Store> = store.clone();
    let parts = Parts { lock, disk: Arc::new(disk.clone()), clock: clock.clone(), store };
    let options = crate::engine::Options { disk_reserve_bytes: 0, ..Default::default() };
    let definitions = [definition("tokens", Aggregation::Sum), definition("calls", Aggregation::Count)];
    let journal_options = Options { segment_bytes: 8_192, compression: Compression::Lz4 };
    let entropy = Entropy { store_id: 7, dedupe_key: [9; 16] };
    Engine::open(&parts, &options, journal_options, &definitions, entropy).unwrap()
}

impl Daemon {
    fn new() -> Self {
        let (disk, store) = (SimDisk::new(1), Arc::new(MemStore::new()));
        let clock = Arc::new(ManualClock::new(Timestamp::parse_rfc3339("2026-10-28T10:30:00Z").unwrap()));
        let engine = start(&disk, &store, &clock);
        Self { disk, store, clock, engine, ids: 0 }
    }

    fn restart(&mut self) {
        self.engine.stop();
        self.disk = self.disk.restart();
        self.engine = start(&self.disk, &self.store, &self.clock);
    }

    /// Sends some events, and waits for the answer.
    fn send(&mut self, rng: &mut Rng) {
        let now = self.engine.now();
        let mut builder = self.engine.batch(&TenantId::new("acme"));
        for _ in 0..rng.usize(1..8) {
            self.ids += 1;
            let value = Value::Quantity(Quantity::from_integer(rng.i64(-4..9)));
            let dimensions = [[None, Some(Cow::Borrowed("x"))][rng.usize(..2)].clone()];
            let feed = |meter| NewFeed { meter: MeterId(meter), value, dimensions: &dimensions };
            let feeds = [feed(0), feed(1)];
            let back = Duration::from_secs(rng.u64(0..3 * 86_400));
            builder.push(&NewEvent {
                usage_event_id: &self.ids.to_string(),
                source: "",
                customer: CUSTOMERS[rng.usize(..3)],
                timestamp: Some(now.saturating_sub(back)),
                fingerprint: Fingerprint(1),
                raw: b"{\"model\":\"x\"}",
                feeds: if rng.bool() { &feeds } else { &feeds[..1] },
            });
        }
        let permit = self.engine.admit(1_000).unwrap();
        let answer = self.engine.submit(builder.finish().unwrap(), permit).unwrap().blocking_recv().unwrap();
        assert!(answer.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Accepted(_))));
    }

    /// What the windows that start in this time say.
    fn stored(&self, meter: MeterId, customer: &str, from: Timestamp, to: Timestamp) -> Sums {
        let tenant = TenantId::new("acme");
        let (meter, customer, from, to) = (Some(meter), Some(customer), Some(from), Some(to));
        let mut sums = Sums::new();
        let visit = &mut |row: crate::engine::WindowRow<'_>| {
            let dimension = row.dimensions[0].map(str::to_owned);
            let value = row.aggregate.value(row.event_count).unwrap();
            let name = (row.meter, row.customer.to_owned(), dimension, row.window.start.micros());
            sums.insert(name, (value.scaled(), row.event_count));
        };
        self.engine.view().windows(&WindowQuery { tenant: &tenant, meter, customer, from, to }, visit).unwrap();
        sums
    }

    /// What the events of this time add up to.
    fn folded(&self, meter: MeterId, customer: &str, from: Timestamp, to: Timestamp) -> Sums {
        let (from, to) = (Some(from), Some(to));
        let query = EvidenceQuery { tenant: "acme", customer, meter: Some(meter), from, to, after: None };
        let mut sums = Sums::new();
        let visit = &mut |event: &EvidenceEvent<'_>| {
            for feed in event.event.feeds.iter().filter(|feed| feed.meter == meter) {
                let dimension = feed.dimensions[0].map(str::to_owned);
                let name = (meter, event.event.customer.to_owned(), dimension, feed.window.start.micros());
                let sum = sums.entry(name).or_default();
                let Value::Quantity(quantity) = feed.value else { panic!("these meters take quantities") };
                sum.0 += if meter == MeterId(0) { quantity.scaled() } else { Quantity::ONE.scaled() };
                sum.1 += 1;
            }
            ControlFlow::Continue(())
        };
        self.engine.evidence().events(&query, visit).unwrap();
        sums
    }

    fn compare(&self, rng: &mut Rng) -> usize {
        let base = Timestamp::parse_rfc3339("2026-10-25T00:00:00Z").unwrap();
        let hours = |hours: u64| base.saturating_add(Duration::from_secs(hours * 3_600));
        let from = rng.u64(0..200);
        let (from, to) = (hours(from), hours(from + rng.u64(1..100)));
        let (meter, customer) = (MeterId(rng.u16(..2)), CUSTOMERS[rng.usize(..3)]);
        let stored = self.stored(meter, customer, from, to);
        assert_eq!(stored, self.folded(meter, customer, from, to), "{meter:?} {customer} {from} {to}");
        stored.len()
    }
}

#[test]
fn random_windows_are_what_their_events_add_up_to() {
    let (mut daemon, mut rng) = (Daemon::new(), Rng::with_seed(21));
    let mut compared = 0;
    for round in 0..12 {
        (0..30).for_each(|_| daemon.send(&mut rng));
        compared += (0..20).map(|_| daemon.compare(&mut rng)).sum::<usize>();
        // Windows become final, and what comes late for them is an adjustment.
        daemon.clock.advance(Duration::from_secs(DAY.micros().unsigned_abs() / 2_000_000));
        if round % 5 == 4 {
            daemon.restart();
        }
    }
    daemon.engine.stop();
    compared += (0..50).map(|_| daemon.compare(&mut rng)).sum::<usize>();
    assert!(compared > 1_000, "{compared}");
    let segments = journal::segments(&daemon.disk).unwrap();
    assert!(segments.len() > 5, "{}", segments.len());
}
