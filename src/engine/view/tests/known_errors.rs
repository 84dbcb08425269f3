//! Errors that were made once in reads: each test failed before it was mended.

use std::sync::mpsc::sync_channel;

use super::*;
use crate::engine::record;
use crate::engine::state::tests::fixture::{TENANT, definition, number, time};
use crate::meter::{Aggregation, Definition, PeriodKind};
use crate::model::{Duration, Quantity};

#[test]
fn a_walk_over_one_customer_never_comes_to_another_whose_series_took_a_number_that_became_free() {
    let first = time("2026-01-01T00:00:00Z");
    let hour = |number: u64| first.saturating_add(Duration::from_secs(number * 3_600));
    let day = Definition { billing_period: PeriodKind::Day, ..definition("tokens", Aggregation::Sum) };
    let mut log = Log::new(std::slice::from_ref(&day), first);
    log.define(MeterId(0), &Definition { grace: Duration::from_secs(3_600 * 9_000), ..day.clone() });
    for at in 0..4_000 {
        log.add("a", 0, &hour(at).to_string(), number(1));
    }
    log.define(MeterId(0), &day);
    log.close_all(&hour(4_500).to_string());
    log.commit();
    let view = view(&log);
    let (begin, begun) = sync_channel(1);
    let tenant = TenantId::new(TENANT);
    let query = WindowQuery { tenant: &tenant, meter: None, customer: Some("a"), from: None, to: None };
    let mut visited = std::collections::BTreeMap::<String, u64>::new();
    std::thread::scope(|scope| {
        let log = &mut log;
        scope.spawn(move || {
            begun.recv().unwrap();
            log.leave();
            log.add("b", 0, &hour(4_500).to_string(), number(1));
        });
        let mut rows = 0;
        view.windows(&query, &mut |row| {
            if rows == 0 {
                begin.send(()).unwrap();
            }
            if rows % 400 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            rows += 1;
            *visited.entry(row.customer.to_owned()).or_default() += 1;
        })
        .unwrap();
    });
    assert_eq!(visited, [("a".to_owned(), 4_000)].into());
}

#[test]
fn a_day_is_not_final_while_a_customer_is_still_in_it() {
    let day = Definition { billing_period: PeriodKind::Day, ..definition("tokens", Aggregation::Sum) };
    let mut log = Log::new(&[day], time("2026-11-11T02:00:00Z"));
    let far = r#"{"plan":null,"schedule":{"eras":[{"from":null,"anchor":null,"time_zone":"Pacific/Honolulu"}]}}"#;
    log.put_customer(TENANT, "far", far);
    let period = PeriodChoice::Named("2026-11-10".parse().unwrap());
    let tenant = TenantId::new(TENANT);
    let query =
        TotalsQuery { tenant, period, at: None, meter: None, customer: None, state: None, after: None, limit: 10 };
    let before = view(&log).totals(&query).unwrap();
    assert!(!log.add("far", 0, "2026-11-11T02:00:00Z", number(1)), "in time");
    let after = view(&log).totals(&query).unwrap();
    assert_eq!((after.rows.len(), after.is_final), (1, false));
    assert!(!before.is_final, "a row came that is no adjustment");
}

#[test]
fn a_customers_usage_has_what_was_closed_by_a_clock_that_was_wrong() {
    let mut log = Log::new(&[definition("tokens", Aggregation::Sum)], time("2026-11-10T10:00:00Z"));
    log.add("c-1", 0, "2026-11-10T10:00:00Z", number(5));
    log.close_all("2027-11-10T10:00:00Z");
    log.commit();
    log.leave();
    let now = time("2026-11-10T10:30:00Z");
    log.now = now;
    log.write(|out| record::put_clock_reset(out, now, "it had jumped"));
    let page = view(&log).customer_usage(&TenantId::new(TENANT), "c-1").unwrap();
    assert_eq!(page.rows[0].value, Some(Quantity::from_integer(5)));
}
