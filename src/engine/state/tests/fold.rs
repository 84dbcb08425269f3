//! What a record does to counters, billing periods and adjustments.

use super::super::*;
use super::fixture::*;
use crate::engine::record::{self, Closed, ClosedKind};
use crate::meter::{Aggregation, Value};
use crate::model::{Duration, Quantity, Window};

const START: &str = "2026-11-10T10:00:00Z";

fn log(kind: Aggregation) -> Log {
    Log::new(&[definition(kind.as_str(), kind)], time("2026-11-10T10:30:00Z"))
}

fn value(value: i64) -> Option<Quantity> {
    Some(Quantity::from_integer(value))
}

fn of_period(counter: &PeriodCounter) -> (Option<Quantity>, Option<Quantity>, u64, u64) {
    let base = counter.base.as_ref().expect("a final window");
    let original = base
        .original
        .as_ref()
        .map_or(base.aggregate.value(base.event_count), |original| original.value(base.event_count - base.late_count));
    (base.aggregate.value(base.event_count), original, base.event_count, base.late_count)
}

#[test]
fn a_window_opens_closes_and_is_in_its_periods_base() {
    let mut log = log(Aggregation::Sum);
    assert!(!log.add("c-1", 0, "2026-11-10T10:05:00Z", number(3)));
    assert!(!log.add("c-1", 0, "2026-11-10T10:25:00Z", number(4)));
    let open = log.window(0, "c-1", START).unwrap();
    assert_eq!((open.is_final, open.revision, open.event_count, open.value()), (false, 0, 2, value(7)));
    let period = log.period(0, "c-1", "2026-11").unwrap();
    assert!(!period.is_final && period.base.is_none(), "an open window is merged in when it is read");
    log.close_all("2026-11-10T11:59:59Z");
    assert!(!log.window(0, "c-1", START).unwrap().is_final, "its grace is not over");
    log.close_all("2026-11-10T12:00:00Z");
    let closed = log.window(0, "c-1", START).unwrap();
    assert_eq!((closed.is_final, closed.revision, closed.value()), (true, 1, value(7)));
    assert_eq!(closed.changed_at, time("2026-11-10T12:00:00Z"));
    let period = log.period(0, "c-1", "2026-11").unwrap();
    assert_eq!((period.is_final, period.revision), (false, 0));
    assert_eq!(of_period(&period), (value(7), value(7), 2, 0));
    assert!(period.base.unwrap().original.is_none());
}

#[test]
fn usage_within_grace_still_changes_the_window_itself() {
    let mut log = log(Aggregation::Sum);
    log.add("c-1", 0, START, number(1));
    log.tick(time("2026-11-10T11:59:00Z"));
    assert!(!log.add("c-1", 0, START, number(1)));
    assert!(!log.add("c-2", 0, START, number(1)), "also for a customer who had no usage in it");
    log.tick(time("2026-11-10T12:30:00Z"));
    assert!(!log.add("c-1", 0, START, number(1)), "and after it, as long as the window is not closed");
    assert!(log.add("c-3", 0, START, number(1)), "but not where there is no counter");
    assert_eq!(log.window(0, "c-1", START).unwrap().revision, 0);
}

#[test]
fn late_usage_is_a_revision_of_its_window_and_an_adjustment() {
    let mut log = log(Aggregation::Sum);
    log.add("c-1", 0, START, number(5));
    log.close_all("2026-11-10T13:00:00Z");
    log.tick(time("2026-11-10T14:00:00Z"));
    assert!(log.add("c-1", 0, "2026-11-10T10:40:00Z", number(-2)));
    let seq = log.state.read().position();
    let window = log.window(0, "c-1", START).unwrap();
    assert_eq!((window.is_final, window.revision, window.event_count, window.value()), (true, 2, 2, value(3)));
    assert_eq!(window.changed_at, time("2026-11-10T14:00:00Z"));
    let period = log.period(0, "c-1", "2026-11").unwrap();
    assert_eq!((period.is_final, period.revision), (false, 0), "its period is not final yet");
    assert_eq!(of_period(&period), (value(3), value(5), 2, 1));
    let state = log.state.read();
    let (key, row) = state.recent_adjustments().next().expect("one");
    let mut expected = Vec::new();
    adjustment_key(&mut expected, TENANT, seq.0, 0);
    assert_eq!(key, expected);
    assert_eq!((row.delta, row.value, row.event_count), (Quantity::from_integer(-2), value(3), 2));
    assert_eq!((row.revision, row.incarnation, &row.series), (2, Incarnation(1), &log.series(0, "c-1")));
    assert_eq!((row.timestamp, row.received_at), (time("2026-11-10T10:40:00Z"), log.now));
    assert_eq!((row.window, row.period), (window.window, window.period));
    assert_eq!(state.recent_adjustments().count(), 1);
}

#[test]
fn late_usage_for_a_window_nobody_used_is_its_first_revision() {
    let mut log = log(Aggregation::Max);
    log.tick(time("2026-11-20T00:00:00Z"));
    assert!(log.add("c-1", 0, START, number(9)));
    let window = log.window(0, "c-1", START).unwrap();
    assert_eq!((window.is_final, window.revision, window.value()), (true, 1, value(9)));
    let period = log.period(0, "c-1", "2026-11").unwrap();
    assert_eq!((period.is_final, period.revision), (false, 0));
    assert_eq!(of_period(&period), (value(9), None, 1, 1), "without the adjustment there is nothing");
    assert_eq!(log.state.read().recent_adjustments().next().unwrap().1.delta, Quantity::from_integer(9));
}

#[test]
fn late_usage_for_a_final_period_is_a_revision_of_the_period() {
    let mut log = log(Aggregation::Sum);
    log.add("c-1", 0, START, number(5));
    log.close_all("2026-12-01T00:59:59Z");
    assert!(!log.period(0, "c-1", "2026-11").unwrap().is_final);
    let id = log.period(0, "c-1", "2026-11").unwrap().period;
    assert_eq!(log.state.read().periods().get(id).open, 1);
    log.close_all("2026-12-01T01:00:00Z");
    let closed = log.period(0, "c-1", "2026-11").unwrap();
    assert_eq!((closed.is_final, closed.revision), (true, 1));
    let changed = log.state.read().periods().get(id).changed;
    assert_eq!((log.state.read().periods().get(id).open, changed), (0, log.state.read().position()));
    for (late, revision) in [("2026-11-10T10:01:00Z", 2), ("2026-11-02T00:00:00Z", 3)] {
        assert!(log.add("c-1", 0, late, number(1)));
        assert_eq!(log.period(0, "c-1", "2026-11").unwrap().revision, revision);
        assert_eq!(log.state.read().periods().get(id).changed, log.state.read().position());
    }
    assert_eq!(of_period(&log.period(0, "c-1", "2026-11").unwrap()), (value(7), value(5), 3, 2));
    assert!(log.add("c-2", 0, START, number(1)), "a customer whose period nobody has heard of");
    let opened = log.period(0, "c-2", "2026-11").unwrap();
    assert_eq!((opened.is_final, opened.revision), (true, 1), "is final from the start: the period stays so");
    assert_eq!(log.state.read().periods().get(id).open, 0);
    log.close_all("2026-12-01T01:00:01Z");
    assert_eq!(log.period(0, "c-2", "2026-11").unwrap().revision, 1);
}

#[test]
fn every_aggregation_keeps_its_original_beside_its_total() {
    // In time: 4 then 6, at 10:00 and 11:00; late: 2 at 10:30; in time again: 5 at 14:00.
    let expected = [
        (Aggregation::Count, value(4), value(3)),
        (Aggregation::Sum, value(17), value(15)),
        (Aggregation::Min, value(2), value(4)),
        (Aggregation::Max, value(6), value(6)),
        (Aggregation::Avg, Some(Quantity::parse("4.25").unwrap()), value(5)),
        (Aggregation::Latest, value(5), value(5)),
    ];
    for (kind, total, original) in expected {
        let mut log = log(kind);
        log.add("c-1", 0, START, number(4));
        log.add("c-1", 0, "2026-11-10T11:00:00Z", number(6));
        log.close_all("2026-11-10T13:30:00Z");
        assert!(log.add("c-1", 0, "2026-11-10T10:30:00Z", number(2)));
        assert!(!log.add("c-1", 0, "2026-11-10T14:00:00Z", number(5)));
        log.close_all("2026-12-02T00:00:00Z");
        let period = log.period(0, "c-1", "2026-11").unwrap();
        assert_eq!(of_period(&period), (total, original, 4, 1), "{kind:?}");
    }
}

#[test]
fn the_latest_of_a_period_is_late_usage_only_if_it_happened_last() {
    let mut log = log(Aggregation::Latest);
    log.add("c-1", 0, START, number(4));
    log.close_all("2026-11-10T13:30:00Z");
    assert!(log.add("c-1", 0, "2026-11-10T09:00:00Z", number(1)));
    assert_eq!(of_period(&log.period(0, "c-1", "2026-11").unwrap()), (value(4), value(4), 2, 1));
    assert!(log.add("c-1", 0, "2026-11-10T10:59:00Z", number(2)));
    assert_eq!(of_period(&log.period(0, "c-1", "2026-11").unwrap()), (value(2), value(4), 3, 2));
}

#[test]
fn a_period_counts_a_member_once_and_has_rows_of_both_sets() {
    let mut log = log(Aggregation::Unique);
    let member = |number: u128| Value::Member(number << 64 | 5);
    for (at, number) in [(START, 1), (START, 2), ("2026-11-10T11:00:00Z", 2), ("2026-11-10T11:00:00Z", 3)] {
        assert!(!log.add("c-1", 0, at, member(number)));
    }
    log.close_all("2026-11-10T13:00:00Z");
    assert_eq!(of_period(&log.period(0, "c-1", "2026-11").unwrap()), (value(3), value(3), 4, 0));
    for number in [3, 9] {
        assert!(log.add("c-1", 0, START, member(number)));
    }
    assert_eq!(log.window(0, "c-1", START).unwrap().value(), value(4), "the window had no member 3 before");
    assert_eq!(of_period(&log.period(0, "c-1", "2026-11").unwrap()), (value(4), value(3), 6, 2));
    let deltas: Vec<Quantity> = log.state.read().recent_adjustments().map(|(_, row)| row.delta).collect();
    assert_eq!(deltas, [Quantity::ONE, Quantity::ONE]);
    log.commit();
    let mut prefix = Vec::new();
    let month = Window { start: time("2026-11-01T00:00:00Z"), end: time("2026-12-01T00:00:00Z") };
    period_key(&mut prefix, &log.series(0, "c-1"), "2026-11", month);
    let rows = dump(&*log.store);
    let members = rows.keys().filter(|(table, _)| *table == crate::store::Table::PeriodMembers).map(|(_, key)| {
        let (set, member) = key.strip_prefix(&prefix[..]).unwrap().split_first().unwrap();
        (*set, u128::from_be_bytes(member.try_into().unwrap()) >> 64)
    });
    let members: Vec<_> = members.collect();
    let (total, original) =
        ([1, 2, 3, 9].map(|member| (IN_TOTAL, member)), [1, 2, 3].map(|member| (IN_ORIGINAL, member)));
    assert_eq!(members, [&total[..], &original].concat());
}

#[test]
fn a_closed_record_that_names_what_is_not_open_is_refused() {
    let mut log = log(Aggregation::Sum);
    log.add("c-1", 0, START, number(1));
    log.tick(time("2026-11-10T13:00:00Z"));
    let name = log.series(0, "c-1");
    let other = log.series(0, "c-2");
    let hour = Window { start: time(START), end: time(START).saturating_add(HOUR) };
    let longer = Window { end: hour.end.saturating_add(HOUR), ..hour };
    let closed = |meter: u16, kind, bounds, series: Vec<&[u8]>| {
        let mut payload = Vec::new();
        record::put_closed(&mut payload, &Closed { kind, meter: MeterId(meter), bounds, series });
        let mut state = folded(&log.records);
        let record = record::records(&payload).next().unwrap().unwrap();
        state.apply(state.position().next(), &record, &mut |_, _| {})
    };
    let (windows, periods) = (ClosedKind::Windows, ClosedKind::Periods);
    assert!(closed(0, windows, hour, vec![&name]).is_ok());
    assert!(matches!(closed(0, windows, hour, vec![&name, &name]), Err(FoldError::DoesNotFit(_))), "twice");
    assert!(matches!(closed(0, windows, hour, vec![&other]), Err(FoldError::DoesNotFit(_))), "an unknown series");
    assert!(matches!(closed(0, windows, longer, vec![&name]), Err(FoldError::DoesNotFit(_))), "other bounds");
    assert!(matches!(closed(0, periods, hour, vec![&name]), Err(FoldError::DoesNotFit(_))), "no period's bounds");
    assert!(matches!(closed(1, windows, hour, vec![&name]), Err(FoldError::UnknownMeter(_))));
}

#[test]
fn a_reset_clock_goes_back_but_final_windows_stay_final() {
    let mut log = log(Aggregation::Sum);
    log.add("c-1", 0, START, number(1));
    log.close_all("2027-06-01T00:00:00Z");
    let now = time("2026-11-10T10:40:00Z");
    log.now = now;
    log.write(|out| record::put_clock_reset(out, now, "it had jumped"));
    assert_eq!(log.state.read().clock().effective(), now);
    assert!(log.add("c-1", 0, "2026-11-10T10:39:00Z", number(1)));
    assert_eq!(log.window(0, "c-1", START).unwrap().revision, 2);
    assert_eq!(log.period(0, "c-1", "2026-11").unwrap().revision, 2);
}

#[test]
fn new_limits_hold_for_windows_that_are_already_there() {
    let mut log = log(Aggregation::Unique);
    let member = |number: u128| Value::Member(number << 64 | 5);
    log.add("c-1", 0, START, member(1));
    let smaller = Definition { unique_members_max: 1, ..log.meters.get(MeterId(0)).unwrap().definition.clone() };
    log.define(MeterId(0), &smaller);
    let feeds = vec![NewFeed { meter: MeterId(0), value: member(2), dimensions: vec![] }];
    let event = NewEvent { customer: "c-1".into(), at: time(START), feeds };
    assert_eq!(log.events(TENANT, &[event]), [Err(crate::model::Code::UniqueLimit)]);
    log.add("c-1", 0, START, member(1));
}

#[test]
fn a_grace_that_grew_opens_the_windows_of_those_who_were_not_closed() {
    let mut log = log(Aggregation::Sum);
    log.add("c-1", 0, START, number(1));
    log.close_all("2026-11-10T13:00:00Z");
    log.commit();
    log.leave();
    let longer =
        Definition { grace: Duration::from_secs(86_400), ..log.meters.get(MeterId(0)).unwrap().definition.clone() };
    log.define(MeterId(0), &longer);
    assert!(log.add("c-1", 0, START, number(1)), "it is final");
    assert!(!log.add("c-2", 0, START, number(1)));
    assert_eq!(log.window(0, "c-2", START).unwrap().revision, 0);
}
