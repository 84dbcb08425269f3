//! Errors that were made once in the fold: each test failed before it was mended.

use super::super::*;
use super::fixture::*;
use crate::meter::{Aggregation, PeriodKind, Value};
use crate::model::{Duration, Quantity};

const START: &str = "2026-11-10T10:00:00Z";

fn restart(log: &mut Log) {
    log.closed_at = None;
    let store: Arc<dyn Store> = log.store.clone();
    let mut state = State::load(&store, log.hasher.clone()).unwrap();
    replay(&mut state, &log.records);
    *log.state.write() = state;
}

#[test]
fn a_series_that_got_the_number_of_one_closed_in_the_replay_is_closed_once() {
    let day = Definition { billing_period: PeriodKind::Day, ..definition("sum", Aggregation::Sum) };
    let mut log = Log::new(std::slice::from_ref(&day), time("2026-11-10T10:30:00Z"));
    log.add("c-1", 0, START, number(1));
    log.commit();
    log.close_all("2026-11-11T02:00:00Z");
    restart(&mut log);
    log.define(MeterId(0), &Definition { grace: Duration::from_secs(10 * 86_400), ..day });
    log.commit();
    log.leave();
    assert!(!log.add("c-2", 0, START, number(1)));
    log.close_all("2026-11-30T00:00:00Z");
}

#[test]
fn a_new_limit_holds_for_a_period_as_it_would_once_reloaded() {
    let small = definition("unique", Aggregation::Unique);
    let mut log = Log::new(std::slice::from_ref(&small), time("2026-11-10T10:30:00Z"));
    let member = |number: u128| {
        Value::Member(
            ((number * 0x9E37_79B9_7F4A_7C15) << 64) | ((number * 0x9E37_79B9_7F4A_7C15) & 0xFFFF_FFFF_FFFF_FFFF),
        )
    };
    log.add("c-1", 0, START, member(1));
    log.close_all("2026-11-10T13:00:00Z");
    log.define(MeterId(0), &Definition { unique_members_max: 400_000, ..small });
    for number in 2..262_200 {
        log.add("c-1", 0, "2026-11-10T13:00:00Z", member(number));
    }
    log.commit();
    let kept = log.state.read().position();
    let mut other = {
        let store: Arc<dyn Store> = log.store.clone();
        State::load(&store, log.hasher.clone()).unwrap()
    };
    assert_eq!(kept, other.position());
    log.close_all("2026-11-10T16:00:00Z");
    replay(&mut other, &log.records);
    let series = other.find_series(&log.series(0, "c-1")).unwrap();
    let reloaded = series.periods[0].base.as_ref().unwrap().aggregate.is_approximate();
    let kept = log.period(0, "c-1", "2026-11").unwrap().base.unwrap().aggregate.is_approximate();
    assert_eq!(kept, reloaded);
}

#[test]
fn the_original_of_a_period_stays_in_range_too() {
    let mut log = Log::new(&[definition("sum", Aggregation::Sum)], time("2026-11-10T00:30:00Z"));
    let large = i128::MAX / 4 - 1;
    for hour in 0..6 {
        let at = time("2026-11-10T00:00:00Z").saturating_add(Duration::from_secs(hour * 3 * 3_600));
        let now = at.saturating_add(Duration::from_secs(2 * 3_600));
        for sign in [1, -1] {
            let feeds = vec![NewFeed {
                meter: MeterId(0),
                value: Value::Quantity(Quantity::from_scaled(large * sign)),
                dimensions: vec![],
            }];
            let taken = log.events(TENANT, &[NewEvent { customer: "c-1".into(), at, feeds }]);
            eprintln!("{taken:?}");
            log.close_all(&now.to_string());
        }
    }
}

#[test]
fn the_first_value_of_a_window_may_be_as_large_as_the_next() {
    let mut log = Log::new(&[definition("max", Aggregation::Max)], time("2026-11-10T10:30:00Z"));
    let large = Value::Quantity(Quantity::from_scaled(i128::MAX / 3));
    let event = |at: &str| NewEvent {
        customer: "c-1".into(),
        at: time(at),
        feeds: vec![NewFeed { meter: MeterId(0), value: large, dimensions: vec![] }],
    };
    log.add("c-1", 0, START, number(1));
    assert_eq!(log.events(TENANT, &[event(START)]), [Ok(vec![false])]);
    assert_eq!(log.events(TENANT, &[event("2026-11-10T11:00:00Z")]), [Ok(vec![false])]);
}
