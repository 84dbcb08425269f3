//! What the store gets of an epoch, while the writer goes on.

use std::collections::BTreeMap;

use super::super::*;
use super::fixture::*;
use crate::meter::Aggregation;
use crate::model::Quantity;
use crate::store::Table;

const START: &str = "2026-11-10T10:00:00Z";

fn log() -> Log {
    Log::new(&[definition("sum", Aggregation::Sum)], time("2026-11-10T10:30:00Z"))
}

/// The changes of the epoch that was closed, but for those of the meta table.
fn changes(log: &Log) -> Vec<(Table, Vec<u8>, bool)> {
    let mut state = log.state.write();
    while !state.drain_epoch(1) {}
    let rows = state.epoch.take();
    let rows = rows.iter().filter(|row| row.table != Table::Meta);
    rows.map(|row| (row.table, row.key.to_vec(), row.value.is_some())).collect()
}

fn window_key(log: &Log, customer: &str) -> Vec<u8> {
    let mut key = Vec::new();
    counter_key(&mut key, &log.series(0, customer), time(START));
    key
}

fn of_table(changes: &[(Table, Vec<u8>, bool)], table: Table) -> Vec<(Vec<u8>, bool)> {
    let of_table = changes.iter().filter(|(other, ..)| *other == table);
    of_table.map(|(_, key, is_put)| (key.clone(), *is_put)).collect()
}

#[test]
fn a_window_that_closes_goes_from_one_table_to_the_other_in_one_epoch() {
    let mut log = log();
    log.add("c-1", 0, START, number(1));
    log.commit();
    let key = window_key(&log, "c-1");
    assert!(dump(&*log.store).contains_key(&(Table::Counters, key.clone())));
    log.close_all("2026-11-10T13:00:00Z");
    log.close_epoch();
    let changes = changes(&log);
    assert_eq!(of_table(&changes, Table::Counters), [(key.clone(), false)]);
    assert_eq!(of_table(&changes, Table::Windows), [(key, true)]);
    assert_eq!(of_table(&changes, Table::Periods).len(), 1);
}

#[test]
fn a_window_that_opened_and_closed_in_one_epoch_is_never_an_open_row() {
    let mut log = log();
    log.add("c-1", 0, START, number(1));
    log.close_all("2026-11-10T13:00:00Z");
    log.close_epoch();
    let changes = changes(&log);
    assert_eq!(of_table(&changes, Table::Counters), []);
    assert_eq!(of_table(&changes, Table::Windows), [(window_key(&log, "c-1"), true)]);
}

#[test]
fn a_window_that_closes_while_its_open_row_waits_is_copied_as_it_was() {
    let mut log = log();
    log.add("c-1", 0, START, number(1));
    log.add("c-2", 0, START, number(2));
    log.close_epoch();
    log.state.write().drain_epoch(1);
    log.close_all("2026-11-10T13:00:00Z");
    log.add("c-1", 0, START, number(5));
    let both = [(window_key(&log, "c-1"), true), (window_key(&log, "c-2"), true)];
    let mut first = changes(&log);
    first.sort();
    assert_eq!(of_table(&first, Table::Counters), both, "as they were when the epoch ended");
    assert_eq!(of_table(&first, Table::Windows), []);
    assert_eq!(of_table(&first, Table::Adjustments), []);
    let closed_at = log.closed_at.take().unwrap();
    log.state.write().committed(closed_at);
    log.close_epoch();
    let mut second = changes(&log);
    second.sort();
    let gone = both.clone().map(|(key, _)| (key, false));
    assert_eq!((of_table(&second, Table::Counters), of_table(&second, Table::Windows)), (gone.to_vec(), both.to_vec()));
    assert_eq!(of_table(&second, Table::Adjustments).len(), 1);
}

#[test]
fn the_store_gets_the_values_of_the_moment_an_epoch_ended() {
    let mut log = log();
    let customers: Vec<String> = (0..50).map(|number| format!("c-{number:02}")).collect();
    for customer in &customers {
        log.add(customer, 0, START, number(1));
    }
    log.close_epoch();
    let expected = written_out(folded(&log.records));
    let mut rng = fastrand::Rng::with_seed(7);
    while !log.state.write().drain_epoch(3) {
        for _ in 0..5 {
            let customer = &customers[rng.usize(..customers.len())];
            log.add(customer, 0, START, number(1));
        }
    }
    log.commit_drained();
    assert!(dump(&*log.store) == expected);
    log.commit();
    assert!(dump(&*log.store) == written_out(folded(&log.records)));
}

#[test]
fn final_counters_leave_once_the_store_has_them_and_no_reader_is_older() {
    let mut log = log();
    log.add("c-1", 0, START, number(1));
    log.add("c-2", 0, "2026-11-10T10:20:00Z", number(1));
    log.close_all("2026-11-10T13:00:00Z");
    log.leave();
    assert!(log.window(0, "c-1", START).is_some(), "the store does not have it");
    let early = log.state.read().pin();
    log.commit();
    let late = log.state.read().pin();
    log.leave();
    assert!(log.window(0, "c-1", START).is_some(), "a reader may need it");
    assert!(!log.state.read().is_leaving());
    drop(early);
    assert!(log.state.read().is_leaving());
    log.leave();
    assert!(log.window(0, "c-1", START).is_none());
    assert!(log.period(0, "c-1", "2026-11").is_some(), "its period is open");
    assert_eq!(log.state.read().counters(), 0);
    drop(late);
}

#[test]
fn what_is_called_back_stays_until_the_store_has_the_change() {
    let mut log = log();
    log.add("c-1", 0, START, number(1));
    log.close_all("2026-12-05T00:00:00Z");
    log.commit();
    log.leave();
    assert!(log.state.read().find_series(&log.series(0, "c-1")).is_none(), "all of the series has left");
    assert!(log.add("c-1", 0, START, number(2)));
    let window = log.window(0, "c-1", START).unwrap();
    assert_eq!((window.revision, window.value()), (2, Some(Quantity::from_integer(3))));
    assert_eq!(log.period(0, "c-1", "2026-11").unwrap().revision, 2);
    log.leave();
    assert!(log.window(0, "c-1", START).is_some());
    log.commit();
    log.leave();
    assert!(log.window(0, "c-1", START).is_none());
    assert!(dump(&*log.store) == written_out(folded(&log.records)));
}

#[test]
fn a_counter_that_was_adjusted_while_it_waited_to_leave_leaves_with_the_later_epoch() {
    let mut log = log();
    log.add("c-1", 0, START, number(1));
    log.close_all("2026-12-05T00:00:00Z");
    log.commit();
    assert!(log.add("c-1", 0, START, number(2)));
    log.leave();
    assert_eq!(log.window(0, "c-1", START).unwrap().revision, 2, "the store has only revision 1");
    log.commit();
    log.leave();
    assert!(log.window(0, "c-1", START).is_none());
    assert!(dump(&*log.store) == written_out(folded(&log.records)));
}

#[test]
fn new_periods_are_listed_until_the_store_has_their_rows() {
    let mut log = log();
    log.add("c-1", 0, START, number(1));
    let listed = |log: &Log| -> BTreeMap<Vec<u8>, PeriodId> {
        let state = log.state.read();
        state.new_periods().map(|(number, id)| (state.series(number).key.to_vec(), id)).collect()
    };
    log.close_epoch();
    log.add("c-2", 0, START, number(1));
    while !log.state.write().drain_epoch(1) {}
    assert_eq!(listed(&log).len(), 2);
    log.commit_drained();
    assert_eq!(listed(&log).into_keys().collect::<Vec<_>>(), [log.series(0, "c-2")]);
    log.commit();
    assert!(listed(&log).is_empty());
}
