//! A whole engine with its threads: the reverter takes back what it is asked to, and what was left.

use std::sync::Arc;
use std::time::Duration as StdDuration;

use super::house::{HOUR, tenant, time};
use crate::engine::corrections::BackfillState;
use crate::engine::outbox::Done;
use crate::engine::retract::Reverter;
use crate::engine::{Answer, Engine, Entropy, NewEvent, NewFeed, Options, Parts, WindowQuery, lock};
use crate::env::{ManualClock, SimDisk};
use crate::journal::{self, Compression};
use crate::meter::{Aggregation, Definition, Late, Value};
use crate::model::{Duration, Fingerprint, MeterId, Outcome, Quantity, Seq};
use crate::store::MemStore;

fn definition() -> Definition {
    Definition {
        slug: "peak".into(),
        event_type: "peak".into(),
        aggregation: Aggregation::Max,
        value: None,
        dimensions: vec![],
        window: "1h".parse().unwrap(),
        time_zone: "UTC".into(),
        grace: Duration::from_secs(HOUR),
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
    let parts =
        Parts { lock: lock(disk).unwrap(), disk: Arc::new(disk.clone()), clock: clock.clone(), store: store.clone() };
    let options = Options { disk_reserve_bytes: 0, ..Options::default() };
    let journal_options = journal::Options { segment_bytes: 8_192, compression: Compression::Lz4 };
    let entropy = Entropy { store_id: 7, dedupe_key: [9; 16] };
    Engine::open(&parts, &options, journal_options, &[definition()], entropy).unwrap()
}

/// Sends an event, by a backfill or not.
fn send(engine: &Engine, id: &str, quantity: i64, backfill: Option<u32>) -> Answer {
    let mut builder = engine.batch(&tenant());
    backfill.iter().for_each(|number| builder.backfills(*number));
    let feed = NewFeed { meter: MeterId(0), value: Value::Quantity(Quantity::from_integer(quantity)), dimensions: &[] };
    builder.push(&NewEvent {
        usage_event_id: id,
        source: "",
        customer: "a",
        timestamp: None,
        fingerprint: Fingerprint(1),
        raw: b"{}",
        feeds: &[feed],
    });
    let permit = engine.admit(100).unwrap();
    engine.submit(builder.finish().unwrap(), permit).unwrap().blocking_recv().unwrap()
}

fn seq_of(answer: &Answer) -> Seq {
    let Outcome::Accepted(seq) = answer.outcomes[0] else { panic!("{answer:?}") };
    seq
}

fn most(engine: &Engine) -> Option<Quantity> {
    let tenant = tenant();
    let query = WindowQuery { tenant: &tenant, meter: None, customer: None, from: None, to: None };
    let mut value = None;
    engine.view().windows(&query, &mut |row| value = row.aggregate.value(row.event_count)).unwrap();
    value
}

fn open(engine: &Engine, id: &str) -> u32 {
    let done = engine.open_backfill(&tenant(), id).unwrap().blocking_recv().unwrap().done;
    let Done::Backfill(backfill) = done else { panic!("{done:?}") };
    assert_eq!(backfill.state, BackfillState::Open);
    backfill.number
}

fn wait_until_reverted(engine: &Engine) {
    for _ in 0..1_000 {
        if engine.view().reverting_backfills().is_empty() {
            return;
        }
        std::thread::sleep(StdDuration::from_millis(10));
    }
    panic!("it was not reverted within 10 s");
}

#[test]
fn the_reverter_takes_back_what_it_is_asked_to_and_what_an_earlier_process_has_left() {
    let (disk, store) = (SimDisk::new(1), Arc::new(MemStore::new()));
    let clock = Arc::new(ManualClock::new(time("2026-11-03T10:30:00Z")));
    let engine = start(&disk, &store, &clock);
    let number = open(&engine, "old");
    seq_of(&send(&engine, "e-1", 5, None));
    for event in 0..200 {
        seq_of(&send(&engine, &format!("h-{event}"), 6 + event, Some(number)));
    }
    assert_eq!(most(&engine), Some(Quantity::from_integer(205)));
    engine.revert_backfill(&tenant(), "old", "tested").unwrap().blocking_recv().unwrap();
    engine.stop();
    let disk = disk.restart();
    let engine = start(&disk, &store, &clock);
    assert_eq!(engine.view().reverting_backfills().len(), 1);
    let reverter = Reverter::start(&engine).unwrap();
    wait_until_reverted(&engine);
    assert_eq!(most(&engine), Some(Quantity::from_integer(5)));
    // Its ids are free, and its name is another backfill's.
    let number = open(&engine, "old");
    let again = seq_of(&send(&engine, "h-1", 7, Some(number)));
    assert_eq!(most(&engine), Some(Quantity::from_integer(7)));
    let planned = engine.planner().void(&tenant(), "", "h-1", again, "tested").unwrap();
    let done = engine.retract(planned, None).unwrap().blocking_recv().unwrap().done;
    assert!(matches!(done, Done::Retracted(_)), "{done:?}");
    assert_eq!(most(&engine), Some(Quantity::from_integer(5)));
    seq_of(&send(&engine, "h-2", 8, Some(number)));
    engine.revert_backfill(&tenant(), "old", "tested").unwrap().blocking_recv().unwrap();
    wait_until_reverted(&engine);
    assert_eq!(most(&engine), Some(Quantity::from_integer(5)));
    reverter.stop();
    engine.stop();
}
