//! Pages of totals: in order, whole, and right wherever a row's numbers are.

use std::collections::BTreeMap;

use super::*;
use crate::engine::state::tests::fixture::{NewEvent, NewFeed, TENANT, definition, number, time};
use crate::meter::{Aggregation, Definition, PeriodKind, Value};
use crate::model::{Duration, Quantity};

fn named(label: &str) -> TotalsQuery {
    let period = PeriodChoice::Named(label.parse().unwrap());
    TotalsQuery {
        tenant: TenantId::new(TENANT),
        period,
        at: None,
        meter: None,
        customer: None,
        state: None,
        after: None,
        limit: 10_000,
    }
}

/// Customer, meter, dimensions, period's name: value, original, event count, adjustments, revision, state.
type Shown = (String, u16, Vec<Option<String>>, String, Option<Quantity>, Option<Quantity>, u64, u64, u32, WindowState);

fn shown(row: &PeriodTotal) -> Shown {
    let PeriodTotal { customer, meter, dimensions, period, value, original, .. } = row.clone();
    (customer, meter.0, dimensions, period, value, original, row.event_count, row.adjustments, row.revision, row.state)
}

fn whole(view: &View, query: &TotalsQuery) -> Vec<Shown> {
    let page = view.totals(query).unwrap();
    assert!(!page.more && page.rows.is_sorted_by(|one, next| one.key < next.key));
    page.rows.iter().map(shown).collect()
}

fn paged(view: &View, query: &TotalsQuery) -> Vec<Shown> {
    let (mut all, mut query) = (Vec::new(), query.clone());
    loop {
        let page = view.totals(&query).unwrap();
        assert!(page.rows.len() <= query.limit);
        all.extend(page.rows.iter().map(shown));
        if !page.more {
            return all;
        }
        assert_eq!(page.rows.len(), query.limit, "a page that is not the last one is full");
        query.after = page.rows.last().map(|row| row.key.clone());
    }
}

fn add(log: &mut Log, customer: &str, meter: u16, at: &str, model: Option<&'static str>, value: Value) -> bool {
    let dimensions = if meter == 1 { vec![model] } else { vec![] };
    let feeds = vec![NewFeed { meter: MeterId(meter), value, dimensions }];
    log.events(TENANT, &[NewEvent { customer: customer.into(), at: time(at), feeds }])[0].clone().unwrap()[0]
}

fn quantity(value: i64) -> Option<Quantity> {
    Some(Quantity::from_integer(value))
}

/// Customers whose period rows are: final and stored; called back; final and not stored; stored open; and new.
fn everywhere() -> Log {
    let mut by_model = definition("by_model", Aggregation::Sum);
    by_model.dimensions = vec![("model".into(), "$.model".parse().unwrap())];
    let meters = [definition("tokens", Aggregation::Sum), by_model, definition("people", Aggregation::Unique)];
    let mut log = Log::new(&meters, time("2026-10-15T10:30:00Z"));
    for (customer, value) in [("gone", 1), ("back", 2), ("z", 3)] {
        add(&mut log, customer, 0, "2026-10-15T10:00:00Z", None, number(value));
        add(&mut log, customer, 1, "2026-10-15T10:00:00Z", Some("b"), number(value));
        add(&mut log, customer, 1, "2026-10-15T10:00:00Z", None, number(value));
        for member in [1, 2] {
            add(&mut log, customer, 2, "2026-10-15T10:00:00Z", None, Value::Member(member << 64));
        }
    }
    log.close_all("2026-11-02T00:00:00Z");
    log.commit();
    log.leave();
    assert_eq!((log.state.read().counters(), log.state.read().new_periods().count()), (0, 0));
    assert!(add(&mut log, "back", 0, "2026-10-15T11:00:00Z", None, number(10)));
    assert!(add(&mut log, "back", 2, "2026-10-15T10:00:00Z", None, Value::Member(3 << 64)));
    for customer in ["gone", "new", "a"] {
        add(&mut log, customer, 0, "2026-11-02T00:10:00Z", None, number(5));
    }
    log.commit();
    add(&mut log, "a", 0, "2026-11-02T00:20:00Z", None, number(6));
    add(&mut log, "new", 1, "2026-11-02T00:20:00Z", Some(""), number(7));
    assert!(add(&mut log, "latecomer", 0, "2026-10-20T00:20:00Z", None, number(8)));
    log
}

#[test]
fn a_row_is_right_wherever_its_numbers_are() {
    let log = everywhere();
    let view = view(&log);
    let (done, open) = (WindowState::Finalized, WindowState::Open);
    let row =
        |customer: &str, meter, dimensions: &[Option<&str>], (value, original), counts: (u64, u64, u32), state| {
            let dimensions = dimensions.iter().map(|value| value.map(str::to_owned)).collect();
            let (events, late, revision) = counts;
            let label = if state == open { "2026-11" } else { "2026-10" }.to_owned();
            (
                customer.to_owned(),
                meter,
                dimensions,
                label,
                quantity(value),
                quantity(original),
                events,
                late,
                revision,
                state,
            )
        };
    let october = [
        row("z", 2, &[], (2, 2), (2, 0, 1), done),
        row("z", 0, &[], (3, 3), (1, 0, 1), done),
        row("z", 1, &[None], (3, 3), (1, 0, 1), done),
        row("z", 1, &[Some("b")], (3, 3), (1, 0, 1), done),
        row("back", 2, &[], (3, 2), (3, 1, 2), done),
        row("back", 0, &[], (12, 2), (2, 1, 2), done),
        row("back", 1, &[None], (2, 2), (1, 0, 1), done),
        row("back", 1, &[Some("b")], (2, 2), (1, 0, 1), done),
        row("gone", 2, &[], (2, 2), (2, 0, 1), done),
        row("gone", 0, &[], (1, 1), (1, 0, 1), done),
        row("gone", 1, &[None], (1, 1), (1, 0, 1), done),
        row("gone", 1, &[Some("b")], (1, 1), (1, 0, 1), done),
        row("latecomer", 0, &[], (8, 0), (1, 1, 1), done),
    ];
    let mut found = whole(&view, &named("2026-10"));
    let mut wanted = october.to_vec();
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
    let november = [
        row("a", 0, &[], (11, 11), (2, 0, 0), open),
        row("new", 0, &[], (5, 5), (1, 0, 0), open),
        row("new", 1, &[Some("")], (7, 7), (1, 0, 0), open),
        row("gone", 0, &[], (5, 5), (1, 0, 0), open),
    ];
    let mut found = whole(&view, &named("2026-11"));
    let mut wanted = november.to_vec();
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
    assert!(whole(&view, &named("2026-12")).is_empty() && whole(&view, &named("2026-11-02")).is_empty());
    let choose = |period| whole(&view, &TotalsQuery { period, ..named("2026-11") });
    assert_eq!(choose(PeriodChoice::Current), whole(&view, &named("2026-11")));
    assert_eq!(choose(PeriodChoice::Previous), whole(&view, &named("2026-10")));
}

#[test]
fn pages_of_every_length_come_to_the_whole_also_when_filtered() {
    let log = everywhere();
    let view = view(&log);
    let previous = TotalsQuery { period: PeriodChoice::Previous, ..named("2026-10") };
    let current = TotalsQuery { period: PeriodChoice::Current, ..previous.clone() };
    for query in [named("2026-10"), named("2026-11"), previous, current] {
        let all = whole(&view, &query);
        assert!(all.len() >= 4);
        for limit in 1..=all.len() + 1 {
            assert_eq!(paged(&view, &TotalsQuery { limit, ..query.clone() }), all, "limit {limit}");
            for (meter, customer) in [(0, "back"), (1, "new"), (2, "gone"), (0, "bac"), (1, "z")] {
                let by_meter = TotalsQuery { limit, meter: Some(MeterId(meter)), ..query.clone() };
                assert!(paged(&view, &by_meter).iter().eq(all.iter().filter(|row| row.1 == meter)));
                let by_customer = TotalsQuery { limit, customer: Some(customer.into()), ..query.clone() };
                assert!(paged(&view, &by_customer).iter().eq(all.iter().filter(|row| row.0 == customer)));
                let both = TotalsQuery { meter: Some(MeterId(meter)), ..by_customer };
                assert!(paged(&view, &both).iter().eq(all.iter().filter(|row| (row.1, &*row.0) == (meter, customer))));
            }
            for state in WindowState::ALL {
                let by_state = TotalsQuery { limit, state: Some(state), ..query.clone() };
                assert!(paged(&view, &by_state).iter().eq(all.iter().filter(|row| row.9 == state)));
            }
        }
    }
}

#[test]
fn a_final_row_keeps_its_hash_and_time_when_it_leaves_and_returns() {
    let mut log = everywhere();
    let view = view(&log);
    let rows = |view: &View| {
        let rows = view.totals(&named("2026-10")).unwrap().rows;
        let rows = rows.into_iter().filter(|row| row.state == WindowState::Finalized);
        rows.map(|row| ((row.key, row.revision), (row.hash, row.as_of, row.incarnation))).collect::<BTreeMap<_, _>>()
    };
    let before = rows(&view);
    log.commit();
    log.leave();
    assert_eq!(rows(&view), before);
    let changed = ("gone", "2026-10-15T10:00:00Z");
    assert!(add(&mut log, changed.0, 0, changed.1, None, number(0)));
    let after = rows(&view);
    let differ = before.iter().filter(|(place, row)| after.get(*place) != Some(row)).count();
    assert_eq!((after.len(), differ), (before.len(), 1), "a new revision has a hash of its own");
}

#[test]
fn customers_with_an_anchor_of_their_own_share_a_name_but_not_the_bounds() {
    let mut log = Log::new(&[definition("tokens", Aggregation::Sum)], time("2026-11-10T00:00:00Z"));
    let anchored = r#"{"plan":null,"schedule":{"eras":[{"from":null,"anchor":20,"time_zone":null}]}}"#;
    log.put_customer(TENANT, "anchored", anchored);
    for (customer, at) in
        [("anchored", "2026-11-10T00:00:00Z"), ("plain", "2026-11-10T00:00:00Z"), ("plain", "2026-10-25T00:00:00Z")]
    {
        add(&mut log, customer, 0, at, None, number(1));
    }
    let view = view(&log);
    let names = |query: &TotalsQuery| {
        let found = paged(&view, query).into_iter().map(|row| (row.0, row.3));
        found.collect::<std::collections::BTreeSet<_>>()
    };
    let row = |customer: &str, label: &str| (customer.to_owned(), label.to_owned());
    for limit in [1, 10] {
        let query = TotalsQuery { limit, ..named("2026-10") };
        assert_eq!(names(&query), [row("anchored", "2026-10"), row("plain", "2026-10")].into());
        let current = TotalsQuery { period: PeriodChoice::Current, ..query.clone() };
        assert_eq!(names(&current), [row("anchored", "2026-10"), row("plain", "2026-11")].into());
        let previous = TotalsQuery { period: PeriodChoice::Previous, ..query };
        assert_eq!(names(&previous), [row("plain", "2026-10")].into());
    }
    log.tick(time("2026-11-20T00:00:00Z"));
    let previous = TotalsQuery { period: PeriodChoice::Previous, ..named("2026-10") };
    assert_eq!(names(&previous), [row("anchored", "2026-10"), row("plain", "2026-10")].into());
}

#[test]
fn a_period_is_final_once_it_is_over_closed_and_has_a_version_once_the_store_has_it() {
    let mut log = Log::new(&[definition("tokens", Aggregation::Sum)], time("2026-11-10T00:00:00Z"));
    let view = view(&log);
    let finality = || {
        let page = view.totals(&named("2026-11")).unwrap();
        (page.is_final, page.version)
    };
    assert_eq!(finality(), (false, None), "nobody has used it, but somebody may");
    add(&mut log, "c-1", 0, "2026-11-10T00:00:00Z", None, number(1));
    log.tick(time("2026-12-01T00:59:59Z"));
    assert_eq!(finality(), (false, None));
    log.tick(time("2026-12-01T01:00:00Z"));
    assert_eq!(finality(), (false, None), "over, but not closed");
    log.close_all("2026-12-01T01:00:00Z");
    assert_eq!(finality(), (true, None), "not in the store");
    log.commit();
    let (is_final, first) = finality();
    assert!(is_final && first.is_some());
    add(&mut log, "c-1", 0, "2026-12-01T00:30:00Z", None, number(1));
    log.commit();
    assert_eq!(finality(), (true, first), "another period changes nothing");
    add(&mut log, "c-1", 0, "2026-11-10T00:00:00Z", None, number(1));
    assert_eq!(finality(), (true, None), "an adjustment that the store does not have");
    log.commit();
    log.leave();
    let (is_final, second) = finality();
    assert!(is_final && second > first);
    add(&mut log, "c-2", 0, "2026-11-10T00:00:00Z", None, number(1));
    assert_eq!(finality(), (true, None), "a customer nobody knew has a row that the store does not have");
    log.close_all("2026-12-01T01:00:01Z");
    log.commit();
    let (is_final, third) = finality();
    assert!(is_final && third > second);
}

#[test]
fn an_unused_period_is_final_when_nobody_can_be_in_it_any_more() {
    let mut log = Log::new(&[definition("tokens", Aggregation::Sum)], time("2026-12-01T00:59:59Z"));
    assert!(!view(&log).totals(&named("2026-11")).unwrap().is_final);
    log.tick(time("2026-12-01T01:00:00Z"));
    assert!(view(&log).totals(&named("2026-11")).unwrap().is_final);
    let anchored = r#"{"plan":null,"schedule":{"eras":[{"from":null,"anchor":31,"time_zone":"Pacific/Honolulu"}]}}"#;
    log.put_customer(TENANT, "anchored", anchored);
    assert!(!view(&log).totals(&named("2026-11")).unwrap().is_final, "November is what begins on its last day");
    let grown = Definition {
        grace: Duration::from_secs(3_600 * 24 * 90),
        ..log.meters.get(MeterId(0)).unwrap().definition.clone()
    };
    log.tick(time("2027-01-10T00:00:00Z"));
    assert!(view(&log).totals(&named("2026-11")).unwrap().is_final);
    log.define(MeterId(0), &grown);
    assert!(!view(&log).totals(&named("2026-11")).unwrap().is_final);
}

#[test]
fn rows_that_close_leave_and_return_between_lookups_are_all_there() {
    let day = Definition { billing_period: PeriodKind::Day, ..definition("tokens", Aggregation::Sum) };
    let mut log = Log::new(&[day], time("2026-11-10T00:30:00Z"));
    let customers: Vec<String> = (0..600).map(|number| format!("c-{number:03}")).collect();
    for (place, customer) in customers.iter().enumerate() {
        add(&mut log, customer, 0, "2026-11-10T00:00:00Z", None, number(7));
        if place == 300 {
            log.commit();
        }
    }
    let view = view(&log);
    let done = std::sync::atomic::AtomicBool::new(false);
    let (begin, begun) = std::sync::mpsc::sync_channel(0);
    std::thread::scope(|scope| {
        let (customers, done, log) = (&customers, &done, &mut log);
        scope.spawn(move || {
            begun.recv().unwrap();
            let mut rng = fastrand::Rng::with_seed(1);
            log.now = time("2026-11-11T02:00:00Z");
            while log.close_slice(40) {
                log.commit();
                log.leave();
            }
            for _ in 0..40 {
                // It adds nothing, so that every total stays as it is.
                let customer = &customers[rng.usize(..customers.len())];
                assert!(add(log, customer, 0, "2026-11-10T00:00:00Z", None, number(0)));
                log.commit();
                log.leave();
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        begin.send(()).unwrap();
        loop {
            let is_last = done.load(std::sync::atomic::Ordering::Acquire);
            for limit in [10_000, 90] {
                let rows = paged(&view, &TotalsQuery { limit, ..named("2026-11-10") });
                assert!(rows.iter().map(|row| &row.0).eq(customers.iter()), "every row, once");
                assert!(rows.iter().all(|row| (row.4, row.5) == (quantity(7), quantity(7))));
            }
            if is_last {
                break;
            }
        }
    });
    assert_eq!(log.state.read().counters(), 0);
}
