//! What goes out: rows, plans, attempts, dead letters, and what the store keeps of them.

use super::super::*;
use super::fixture::*;
use crate::engine::caps::{Alert, AlertState};
use crate::engine::outbox::{DELIVERED_KEPT, DeliveryState, PauseCause, Plan, UsageChange};
use crate::engine::record::{self, AttemptRecord, DeliveryRecord, SinkRecord};
use crate::meter::{Aggregation, Amount, Cap, CapPeriod, OnHardCap, Threshold};
use crate::model::{Duration, OutboxPosition, Quantity, RowKind, RowKinds, Window};
use crate::store::Table;

const NOON: &str = "2026-11-01T12:00:00Z";
const BOTH: RowKinds = RowKinds::ALL;

fn log() -> Log {
    Log::new(&[definition("sum", Aggregation::Sum)], time("2026-11-01T10:00:00Z"))
}

fn sink(log: &mut Log, record: &SinkRecord<'_>) {
    log.write(|out| record::put_sink(out, record));
}

/// Writes a delivery's record; answers with its seq.
fn delivery(log: &mut Log, record: &DeliveryRecord<'_>) -> Seq {
    log.write(|out| record::put_delivery(out, record));
    log.state.read().position()
}

fn define(log: &mut Log, name: &str, kinds: RowKinds) {
    sink(log, &SinkRecord::Defined { name, kinds });
}

/// Usage of these customers in the hour from ten, which is then closed.
fn close_hour(log: &mut Log, customers: &[&str]) {
    for customer in customers {
        log.add(customer, 0, "2026-11-01T10:30:00Z", number(5));
    }
    log.close_all(NOON);
}

fn plan_of(positions: &[OutboxPosition], kind: RowKind) -> Plan {
    Plan { kind, first: positions[0], last: *positions.last().unwrap(), rows: positions.len() as u32 }
}

fn plan(log: &mut Log, name: &str, plan: Plan) -> Seq {
    delivery(log, &DeliveryRecord::Planned { sink: name, plan, at: time(NOON) })
}

fn attempt(error: &str) -> AttemptRecord<'_> {
    AttemptRecord { at: time(NOON), took: Duration::from_millis(5), status: Some(500), error, answer: "no" }
}

/// Commits, and answers with the outbox's rows of a kind.
fn stored(log: &mut Log, kind: RowKind) -> Vec<OutboxPosition> {
    log.commit();
    let mut positions = Vec::new();
    log.store
        .scan(Table::Outbox, &[kind as u8], &mut |key, _| {
            positions.push(split_outbox_key(key).unwrap().1);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    positions
}

/// What the store holds must be what a fold from the first record writes, and what a reloaded state goes on from.
fn check(log: &mut Log) {
    log.commit();
    assert_eq!(dump(&*log.store), written_out(folded(&log.records)));
    let store: Arc<dyn Store> = log.store.clone();
    let loaded = State::load(&store, log.hasher.clone()).unwrap();
    let known = |state: &State| -> Vec<_> { state.outbox().deliveries(None).map(|(_, known)| known.clone()).collect() };
    assert_eq!(known(&loaded), known(&log.state.read()));
    assert_eq!(format!("{:?}", loaded.outbox().sink("a")), format!("{:?}", log.state.read().outbox().sink("a")));
}

#[test]
fn windows_and_adjustments_become_rows_only_while_a_sink_wants_their_kind() {
    let mut log = log();
    close_hour(&mut log, &["before"]);
    define(&mut log, "a", RowKinds::NONE.with(RowKind::Adjustments));
    assert!(log.add("before", 0, "2026-11-01T10:40:00Z", number(2)), "late");
    log.add("c", 0, "2026-11-01T12:10:00Z", number(1));
    log.close_all("2026-11-01T14:00:00Z");
    assert_eq!(stored(&mut log, RowKind::Windows), []);
    let adjustments = stored(&mut log, RowKind::Adjustments);
    assert_eq!(adjustments.len(), 1);
    let value = log.store.get(Table::Outbox, &outbox_key(RowKind::Adjustments, adjustments[0])).unwrap().unwrap();
    let Some(StoredRow::Usage(row)) = decode_outbox(RowKind::Adjustments, &value) else { panic!("{value:?}") };
    let delta = Some(Quantity::from_integer(2));
    assert_eq!((row.value, row.change), (Some(Quantity::from_integer(7)), UsageChange::Adjusted { delta }));
    assert_eq!((row.event_count, row.revision, row.incarnation), (2, 2, Incarnation(1)));
    assert_eq!(row.series, log.series(0, "before"));
    check(&mut log);
}

fn alert(state: AlertState) -> Alert {
    let cap = Cap {
        id: "default".into(),
        period: CapPeriod::Billing,
        hard: Some(Quantity::from_integer(10)),
        soft: Vec::new(),
        on_hard_cap: OnHardCap::Reject,
        grace: Amount::NOTHING,
        enforce: true,
    };
    Alert {
        state,
        tenant: "default".into(),
        customer: "c-1".into(),
        meter: "sum".into(),
        cap,
        threshold: Threshold::Hard,
        amount: Quantity::from_integer(10),
        period: Some("2026-11".into()),
        bounds: Window { start: time("2026-11-01T00:00:00Z"), end: time("2026-12-01T00:00:00Z") },
        generation: 1,
        used: Quantity::from_integer(10),
        event: None,
        late: false,
        at: time(NOON),
    }
}

#[test]
fn alerts_become_rows_of_their_own_kind_only_while_a_sink_wants_them() {
    let mut log = log();
    let put = |log: &mut Log, seq: u64, alert: &Alert| {
        let state = &mut *log.state.write();
        state.outbox.put_alert(&mut state.epoch, OutboxPosition::new(Seq(seq), 0), alert);
    };
    define(&mut log, "a", RowKinds::NONE.with(RowKind::Windows));
    put(&mut log, 100, &alert(AlertState::Triggered));
    assert_eq!(stored(&mut log, RowKind::Alerts), []);
    define(&mut log, "a", RowKinds::NONE.with(RowKind::Alerts));
    for (seq, state) in [(101, AlertState::Triggered), (102, AlertState::Recovered)] {
        put(&mut log, seq, &alert(state));
        let position = OutboxPosition::new(Seq(seq), 0);
        assert_eq!(stored(&mut log, RowKind::Alerts).last(), Some(&position));
        let value = log.store.get(Table::Outbox, &outbox_key(RowKind::Alerts, position)).unwrap().unwrap();
        let row = decode_outbox(RowKind::Alerts, &value).unwrap();
        assert_eq!((row.at(), row), (time(NOON), StoredRow::Alert(Box::new(alert(state)))));
        assert_eq!(decode_outbox(RowKind::Alerts, &value[..value.len() - 1]), None);
    }
}

#[test]
fn a_slice_of_windows_becomes_one_row_each_under_one_record() {
    let mut log = log();
    define(&mut log, "a", BOTH);
    close_hour(&mut log, &["c-1", "c-2", "c-3"]);
    let rows = stored(&mut log, RowKind::Windows);
    assert_eq!(rows.iter().map(|row| row.index).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(rows.iter().all(|row| row.seq == rows[0].seq));
    check(&mut log);
}

#[test]
fn rows_stay_until_every_sink_is_done_with_them() {
    let mut log = log();
    define(&mut log, "a", BOTH);
    define(&mut log, "b", BOTH);
    close_hour(&mut log, &["c-1", "c-2", "c-3"]);
    let rows = stored(&mut log, RowKind::Windows);
    let first = plan(&mut log, "a", plan_of(&rows[..2], RowKind::Windows));
    delivery(&mut log, &DeliveryRecord::Delivered { delivery: first, attempt: attempt("") });
    assert_eq!(stored(&mut log, RowKind::Windows), rows, "b has not planned them");
    let other = plan(&mut log, "b", plan_of(&rows, RowKind::Windows));
    assert_eq!(stored(&mut log, RowKind::Windows), rows, "b's are pending");
    delivery(&mut log, &DeliveryRecord::Delivered { delivery: other, attempt: attempt("") });
    assert_eq!(stored(&mut log, RowKind::Windows), rows[2..], "a has not planned the last");
    let last = plan(&mut log, "a", plan_of(&rows[2..], RowKind::Windows));
    delivery(&mut log, &DeliveryRecord::Delivered { delivery: last, attempt: attempt("") });
    assert_eq!(stored(&mut log, RowKind::Windows), []);
    check(&mut log);
}

#[test]
fn a_dead_letter_keeps_its_rows_and_the_outbox_need_not() {
    let mut log = log();
    define(&mut log, "a", BOTH);
    close_hour(&mut log, &["c-1", "c-2"]);
    let rows = stored(&mut log, RowKind::Windows);
    let value = |row| log.store.get(Table::Outbox, &outbox_key(RowKind::Windows, row)).unwrap().unwrap();
    let values: Vec<_> = rows.iter().map(|row| value(*row)).collect();
    let copies = || rows.iter().copied().zip(values.iter().map(Vec::as_slice)).collect();
    let planned = plan(&mut log, "a", plan_of(&rows, RowKind::Windows));
    let due = time("2026-11-01T12:00:05Z");
    delivery(&mut log, &DeliveryRecord::Failed { delivery: planned, due, attempt: attempt("timed out") });
    assert_eq!(log.state.read().outbox().delivery(planned).unwrap().delivery.state, DeliveryState::Pending { due });
    delivery(&mut log, &DeliveryRecord::Dead { delivery: planned, attempt: attempt("gone"), rows: copies() });
    assert_eq!(stored(&mut log, RowKind::Windows), [], "the dead letter has them");
    check(&mut log);
    let replay = DeliveryRecord::ReplayRequested { at: due, key: Some(("key", 7)), deliveries: vec![planned] };
    delivery(&mut log, &replay);
    assert_eq!(log.state.read().outbox().request("key"), Some((7, 1)));
    delivery(&mut log, &DeliveryRecord::Dead { delivery: planned, attempt: attempt("again"), rows: vec![] });
    check(&mut log);
    delivery(&mut log, &DeliveryRecord::ReplayRequested { at: due, key: None, deliveries: vec![planned] });
    delivery(&mut log, &DeliveryRecord::Delivered { delivery: planned, attempt: attempt("") });
    check(&mut log);
    let known = log.state.read().outbox().delivery(planned).unwrap().delivery.clone();
    assert_eq!((known.failures, known.attempts, known.replays), (0, 4, 2));
    assert!(!dump(&*log.store).keys().any(|(table, _)| *table == Table::DeadLetters));
}

#[test]
fn no_row_is_planned_twice_and_nothing_happens_to_what_is_done() {
    let mut log = log();
    define(&mut log, "a", BOTH);
    close_hour(&mut log, &["c-1", "c-2"]);
    let rows = stored(&mut log, RowKind::Windows);
    let planned = plan(&mut log, "a", plan_of(&rows[..1], RowKind::Windows));
    delivery(&mut log, &DeliveryRecord::Delivered { delivery: planned, attempt: attempt("") });
    let refused = |record: &DeliveryRecord<'_>| {
        let mut state = log.state.write();
        let next = state.position().next();
        matches!(state.apply(next, &Record::Delivery(record.clone()), &mut |_, _| {}), Err(FoldError::DoesNotFit(_)))
    };
    let at = time(NOON);
    assert!(refused(&DeliveryRecord::Planned { sink: "a", plan: plan_of(&rows, RowKind::Windows), at }));
    assert!(refused(&DeliveryRecord::Planned { sink: "b", plan: plan_of(&rows[1..], RowKind::Windows), at }));
    assert!(refused(&DeliveryRecord::Delivered { delivery: planned, attempt: attempt("") }));
    assert!(refused(&DeliveryRecord::Failed { delivery: planned, due: at, attempt: attempt("x") }));
    assert!(refused(&DeliveryRecord::ReplayRequested { at, key: None, deliveries: vec![planned] }));
}

#[test]
fn a_kind_that_a_sink_comes_to_want_begins_there() {
    let mut log = log();
    define(&mut log, "a", RowKinds::NONE.with(RowKind::Windows));
    define(&mut log, "b", BOTH);
    close_hour(&mut log, &["c-1"]);
    log.add("c-1", 0, "2026-11-01T10:40:00Z", number(2));
    let windows_cursor = log.state.read().outbox().sink("a").unwrap().cursors[RowKind::Windows as usize];
    define(&mut log, "a", BOTH);
    let state = log.state.read();
    let cursors = state.outbox().sink("a").unwrap().cursors;
    assert_eq!(cursors[RowKind::Windows as usize], windows_cursor);
    assert_eq!(cursors[RowKind::Adjustments as usize], OutboxPosition::new(state.position(), 0));
    drop(state);
    check(&mut log);
}

#[test]
fn a_forgotten_sink_leaves_nothing_behind() {
    let mut log = log();
    define(&mut log, "a", BOTH);
    close_hour(&mut log, &["c-1", "c-2", "c-3"]);
    let rows = stored(&mut log, RowKind::Windows);
    let dead = plan(&mut log, "a", plan_of(&rows[..1], RowKind::Windows));
    let copies = vec![(rows[0], &b"row"[..])];
    delivery(&mut log, &DeliveryRecord::Dead { delivery: dead, attempt: attempt("gone"), rows: copies });
    plan(&mut log, "a", plan_of(&rows[1..2], RowKind::Windows));
    log.commit();
    sink(&mut log, &SinkRecord::Forgotten { name: "a", reason: "old", at: time(NOON) });
    check(&mut log);
    let left = [Table::Outbox, Table::Deliveries, Table::Attempts, Table::DeadLetters];
    assert!(!dump(&*log.store).keys().any(|(table, _)| left.contains(table)));
}

#[test]
fn only_the_newest_that_were_delivered_are_remembered() {
    let mut log = log();
    define(&mut log, "a", BOTH);
    let mut planned = Vec::new();
    for number in 0..DELIVERED_KEPT as u64 + 5 {
        let at = OutboxPosition::new(Seq(1_000 + number), 0);
        planned.push(plan(&mut log, "a", Plan { kind: RowKind::Windows, first: at, last: at, rows: 1 }));
        let newest = *planned.last().unwrap();
        delivery(&mut log, &DeliveryRecord::Delivered { delivery: newest, attempt: attempt("") });
    }
    check(&mut log);
    let kept: Vec<Seq> = log.state.read().outbox().deliveries(None).map(|(seq, _)| seq).collect();
    assert_eq!(kept, planned[5..]);
}

#[test]
fn a_restored_directory_begins_an_incarnation_with_every_sink_paused() {
    let mut log = log();
    define(&mut log, "a", BOTH);
    close_hour(&mut log, &["c-1", "c-2"]);
    log.commit();
    // Changed since the last epoch, and to be written as of the old incarnation, though it is copied later.
    log.add("c-1", 0, "2026-11-01T10:40:00Z", number(2));
    log.add("open", 0, "2026-11-01T12:10:00Z", number(1));
    log.write(|out| record::put_incarnation(out, Incarnation(2), "from Tuesday's backup"));
    let pause = log.state.read().outbox().sink("a").unwrap().pause.clone().unwrap();
    assert_eq!((pause.cause, pause.reason.as_str()), (PauseCause::Restored, "from Tuesday's backup"));
    check(&mut log);
    log.add("c-2", 0, "2026-11-01T10:41:00Z", number(3));
    log.close_all("2026-11-01T14:00:00Z");
    check(&mut log);
    sink(&mut log, &SinkRecord::Resumed { name: "a", reason: "checked", at: time(NOON) });
    assert_eq!(log.state.read().outbox().sink("a").unwrap().pause, None);
    check(&mut log);
    let incarnations: Vec<u32> = stored(&mut log, RowKind::Adjustments)
        .into_iter()
        .map(|row| {
            let value = log.store.get(Table::Outbox, &outbox_key(RowKind::Adjustments, row)).unwrap().unwrap();
            let Some(StoredRow::Usage(row)) = decode_outbox(RowKind::Adjustments, &value) else { panic!("{value:?}") };
            row.incarnation.0
        })
        .collect();
    assert_eq!(incarnations, [1, 2]);
}

#[test]
fn a_dead_letter_that_is_delivered_after_a_replay_is_the_newest_of_those_remembered() {
    let mut log = log();
    define(&mut log, "a", BOTH);
    let at = |number: usize| OutboxPosition::new(Seq(1_000 + number as u64), 0);
    let one = |number| Plan { kind: RowKind::Windows, first: at(number), last: at(number), rows: 1 };
    let dead = plan(&mut log, "a", one(0));
    let rows = vec![(at(0), &b"row"[..])];
    delivery(&mut log, &DeliveryRecord::Dead { delivery: dead, attempt: attempt("gone"), rows });
    for number in 1..=DELIVERED_KEPT {
        let planned = plan(&mut log, "a", one(number));
        delivery(&mut log, &DeliveryRecord::Delivered { delivery: planned, attempt: attempt("") });
    }
    delivery(&mut log, &DeliveryRecord::ReplayRequested { at: time(NOON), key: None, deliveries: vec![dead] });
    delivery(&mut log, &DeliveryRecord::Delivered { delivery: dead, attempt: attempt("") });
    assert!(log.state.read().outbox().delivery(dead).is_some());
    assert_eq!(log.state.read().outbox().deliveries(None).count(), DELIVERED_KEPT);
    check(&mut log);
}
