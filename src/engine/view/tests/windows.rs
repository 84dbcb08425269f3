//! Every window exactly once, wherever it is and whatever happens meanwhile.

use std::collections::BTreeMap;
use std::sync::mpsc::sync_channel;

use super::*;
use crate::engine::state::tests::fixture::{HOUR, NewEvent, NewFeed, TENANT, definition, number, time};
use crate::meter::{Aggregation, Definition};

/// Customer, meter, start: event count, state, revision.
type Rows = BTreeMap<(String, u16, Timestamp), (u64, WindowState, u32)>;

fn first() -> Timestamp {
    time("2026-11-01T00:00:00Z")
}

fn hour(number: u64) -> Timestamp {
    first().saturating_add(crate::model::Duration::from_secs(number * 3_600))
}

fn all() -> WindowQuery<'static> {
    static ACME: std::sync::OnceLock<TenantId> = std::sync::OnceLock::new();
    let tenant = ACME.get_or_init(|| TenantId::new(TENANT));
    WindowQuery { tenant, meter: None, customer: None, from: None, to: None }
}

fn read(view: &View, query: &WindowQuery<'_>) -> Rows {
    let mut rows = Rows::new();
    view.windows(query, &mut |row| take(&mut rows, row)).unwrap();
    rows
}

fn take(rows: &mut Rows, row: WindowRow<'_>) {
    let place = (row.customer.to_owned(), row.meter.0, row.window.start);
    assert_eq!(row.window.end, row.window.start.saturating_add(HOUR));
    let twice = rows.insert(place.clone(), (row.event_count, row.state, row.revision));
    assert_eq!(twice, None, "{place:?} was visited twice");
}

fn log() -> Log {
    let meters = [definition("tokens", Aggregation::Sum), definition("people", Aggregation::Unique)];
    Log::new(&meters, first())
}

/// One event an hour for each of so many customers.
fn use_hours(log: &mut Log, customers: u64, hours: std::ops::Range<u64>) {
    for (customer, at) in hours.flat_map(|at| (0..customers).map(move |customer| (customer, at))) {
        log.add(&format!("c-{customer}"), 0, &hour(at).to_string(), number(1));
    }
}

/// Windows of every kind: in the store alone, there and in memory, called back, closed just now, open.
fn everywhere(customers: u64) -> Log {
    let mut log = log();
    log.now = hour(500);
    let mut longer = log.meters.get(MeterId(0)).unwrap().definition.clone();
    longer.grace = crate::model::Duration::from_secs(3_600 * 600);
    log.define(MeterId(0), &longer);
    use_hours(&mut log, customers, 0..50);
    longer.grace = HOUR;
    log.define(MeterId(0), &longer);
    for to in [20, 30, 40] {
        log.now = hour(to + 1);
        log.write(|out| crate::engine::record::put_clock_reset(out, hour(to + 1), "step by step"));
        log.close_all(&hour(to + 1).to_string());
        match to {
            20 => {
                log.commit();
                log.leave();
            }
            30 => log.commit(),
            _ => {}
        }
    }
    assert!(log.add("c-0", 0, &hour(3).to_string(), number(1)), "called back");
    assert!(log.add("c-1", 0, &hour(25).to_string(), number(1)), "adjusted before it left");
    log
}

fn expected(customers: u64) -> Rows {
    let mut rows = Rows::new();
    for (customer, at) in (0..50).flat_map(|at| (0..customers).map(move |customer| (customer, at))) {
        let adjusted = matches!((customer, at), (0, 3) | (1, 25));
        let row = match at {
            0..40 if adjusted => (2, WindowState::Finalized, 2),
            0..40 => (1, WindowState::Finalized, 1),
            40 => (1, WindowState::Grace, 0),
            _ => (1, WindowState::Open, 0),
        };
        rows.insert((format!("c-{customer}"), 0, hour(at)), row);
    }
    rows
}

#[test]
fn visits_every_window_once_whether_open_leaving_stored_or_called_back() {
    let log = everywhere(7);
    let (view, expected) = (view(&log), expected(7));
    assert_eq!(read(&view, &all()), expected);
    let one = read(&view, &WindowQuery { customer: Some("c-1"), ..all() });
    assert!(one.iter().eq(expected.iter().filter(|((customer, ..), _)| customer == "c-1")));
    for (from, to) in [(5, 45), (0, 20), (19, 21), (29, 50), (49, 50), (50, 60), (10, 10), (12, 4)] {
        let found = read(&view, &WindowQuery { from: Some(hour(from)), to: Some(hour(to)), ..all() });
        let wanted = expected.iter().filter(|((.., start), _)| (hour(from)..hour(to)).contains(start));
        assert!(found.iter().eq(wanted), "{from} to {to}");
    }
    log.leave();
    assert_eq!(read(&view, &all()), expected, "after more has left");
}

#[test]
fn visits_nothing_of_another_tenant_meter_or_customer() {
    let mut log = everywhere(3);
    let feeds = vec![NewFeed { meter: MeterId(0), value: number(1), dimensions: vec![] }];
    log.events("acm", &[NewEvent { customer: "c-0".into(), at: hour(41), feeds: feeds.clone() }]);
    log.events("other", &[NewEvent { customer: "c-0".into(), at: hour(2), feeds }]);
    let view = view(&log);
    assert_eq!(read(&view, &all()).len(), 150);
    assert_eq!(read(&view, &WindowQuery { meter: Some(MeterId(0)), ..all() }).len(), 150);
    assert!(read(&view, &WindowQuery { meter: Some(MeterId(1)), ..all() }).is_empty());
    assert!(read(&view, &WindowQuery { customer: Some("c-9"), ..all() }).is_empty());
    assert!(read(&view, &WindowQuery { customer: Some("c-"), ..all() }).is_empty(), "no customer by part of a name");
    let other = TenantId::new("other");
    assert_eq!(read(&view, &WindowQuery { tenant: &other, ..all() }).len(), 1);
}

#[test]
fn a_stored_set_has_its_members() {
    let mut log = log();
    for member in 0..40u128 {
        log.add("c-0", 1, &hour(0).to_string(), crate::meter::Value::Member(member << 64));
    }
    log.close_all(&hour(5).to_string());
    log.commit();
    log.leave();
    assert_eq!(log.state.read().counters(), 0);
    let mut values = Vec::new();
    view(&log).windows(&all(), &mut |row| values.push(row.aggregate.value(row.event_count))).unwrap();
    assert_eq!(values, [Some(crate::model::Quantity::from_integer(40))]);
}

/// Walks while another thread works on the log, which it does at the latest between the first two slices.
fn walk_while(log: &mut Log, query: &WindowQuery<'_>, work: impl FnOnce(&mut Log) + Send) -> Rows {
    let view = view(log);
    let (begin, begun) = sync_channel(1);
    let mut rows = Rows::new();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            begun.recv().unwrap();
            work(log);
        });
        view.windows(query, &mut |row| {
            if rows.is_empty() {
                begin.send(()).unwrap();
            }
            if rows.len().is_multiple_of(400) {
                // Long enough for the writer to wait for the lock.
                std::thread::sleep(std::time::Duration::from_millis(3));
            }
            take(&mut rows, row);
        })
        .unwrap();
    });
    rows
}

fn places(rows: &Rows) -> Vec<(String, u16, Timestamp)> {
    rows.keys().cloned().collect()
}

#[test]
fn windows_that_close_and_leave_during_a_walk_are_visited_once() {
    let mut log = log();
    log.now = hour(1_500);
    let mut longer = log.meters.get(MeterId(0)).unwrap().definition.clone();
    longer.grace = crate::model::Duration::from_secs(3_600 * 3_000);
    log.define(MeterId(0), &longer);
    use_hours(&mut log, 3, 0..1_500);
    log.define(MeterId(0), &Definition { grace: HOUR, ..longer });
    let wanted = places(&read(&view(&log), &all()));
    assert_eq!(wanted.len(), 4_500);
    let during = |log: &mut Log| {
        while log.close_slice(500) {}
        log.commit();
        log.leave();
    };
    let rows = walk_while(&mut log, &all(), during);
    assert_eq!(places(&rows), wanted);
    log.leave();
    assert!(log.state.read().counters() < 10, "they could leave once the walk had ended");
    assert_eq!(places(&read(&view(&log), &all())), wanted);
    let rows = walk_while(&mut log, &all(), |log| {
        for at in (0..1_400).step_by(7) {
            assert!(log.add("c-1", 0, &hour(at).to_string(), number(1)), "called back");
        }
        log.commit();
        log.leave();
    });
    assert_eq!(places(&rows), wanted);
}

#[test]
fn windows_that_waited_to_leave_before_a_walk_are_visited_once() {
    let mut log = log();
    log.now = hour(600);
    let mut longer = log.meters.get(MeterId(0)).unwrap().definition.clone();
    longer.grace = crate::model::Duration::from_secs(3_600 * 3_000);
    log.define(MeterId(0), &longer);
    use_hours(&mut log, 5, 0..600);
    log.define(MeterId(0), &Definition { grace: HOUR, ..longer });
    while log.close_slice(1_000) {}
    log.commit();
    let wanted = places(&read(&view(&log), &all()));
    assert_eq!(wanted.len(), 3_000);
    let rows = walk_while(&mut log, &all(), |log| log.leave());
    assert_eq!(places(&rows), wanted);
}
