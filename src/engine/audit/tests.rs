use std::sync::Arc;

use super::*;
use crate::engine::corrections::{Retraction, VoidCause};
use crate::engine::record;
use crate::engine::state::tests::fixture::{Log, TENANT, definition, number, time};
use crate::env::{Disk, SimDisk};
use crate::journal::{Compression, Journal, Options, StoreId};
use crate::meter::Aggregation;
use crate::model::{EventKey, TenantId};

const START: &str = "2026-11-10T10:00:00Z";

fn source(log: &Log) -> Source {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let options = Options { segment_bytes: 64 << 10, compression: Compression::None };
    let mut journal = Journal::create(disk.clone(), options, StoreId(7), Seq(1)).unwrap();
    for (first, payload) in &log.records {
        journal.append(*first, 1, payload).unwrap();
    }
    journal.sync().unwrap();
    Source { disk, store: log.store.clone() }
}

fn log() -> Log {
    let mut log = Log::new(&[definition("sum", Aggregation::Sum)], time(START));
    for value in 0..5 {
        log.add("c-1", 0, START, number(value));
    }
    let tally = Tally { duplicate: 3, conflict: 1, rejected: 2, capped: 4 };
    log.write(|out| record::put_tally(out, TENANT, &tally));
    log.commit();
    log.write(|out| record::put_tally(out, "other", &Tally { rejected: 1, ..Tally::default() }));
    let void = VoidCause {
        event: Seq(4),
        key: EventKey(3),
        usage_event_id: "e".into(),
        source: String::new(),
        customer: "c-1".into(),
        reason: "wrong".into(),
    };
    let basis = crate::engine::Basis { retractions: 0 };
    let retraction = Retraction { tenant: TenantId::new(TENANT), cause: Cause::Void(void), basis, changes: vec![] };
    let record = CorrectionRecord::Retracted { at: time(START), retraction: Box::new(retraction) };
    log.write(|out| record::put_correction(out, &record));
    log
}

#[test]
fn every_event_that_arrived_is_accounted_for_also_where_the_store_is_behind() {
    let log = log();
    let audited = audit(&source(&log), &mut |_| {}).unwrap();
    assert!(audited.holds() && audited.store < audited.last, "{audited:?}");
    let law = audited.tenants[TENANT];
    assert_eq!((law.received(), law.accepted, law.voided, law.reverted), (15, 5, 1, 0));
    assert_eq!(audited.tenants["other"].received(), 1);
}

#[test]
fn counters_that_say_otherwise_are_found() {
    let (log, mut other) = (self::log(), self::log());
    other.add("c-1", 0, START, number(1));
    other.write(|out| record::put_tally(out, "third", &Tally { capped: 1, ..Tally::default() }));
    other.commit();
    // The journal goes on beyond the store, with something else than the store holds.
    let mut longer = log;
    (0..4).for_each(|_| longer.tick(time(START)));
    let shorter = Source { store: other.store.clone(), ..source(&longer) };
    let audited = audit(&shorter, &mut |_| {}).unwrap();
    let wrong = audited.tenants.iter().filter(|(_, law)| !law.holds());
    let wrong: Vec<_> = wrong.map(|(tenant, _)| tenant.as_str()).collect();
    assert!(!audited.holds());
    assert_eq!(wrong, [TENANT, "third"]);
}

#[test]
fn a_backfill_that_was_taken_back_is_reverted_events() {
    let mut count = Count::default();
    let at = time(START);
    let opened = CorrectionRecord::BackfillOpened { tenant: TENANT, id: "h", number: 1, at };
    count.take(&Record::Correction(opened)).unwrap();
    count.backfills.get_mut(&1).unwrap().1 = 7;
    let reverted = Record::Correction(CorrectionRecord::BackfillReverted { number: 1, at });
    assert_eq!(count.tenant(TENANT).reverted, 0);
    count.take(&reverted).unwrap();
    assert_eq!(count.tenant(TENANT).reverted, 7);
}
