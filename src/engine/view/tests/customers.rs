//! What one customer comes to in the present periods.

use super::*;
use crate::engine::state::tests::fixture::{NewEvent, NewFeed, TENANT, definition, number, time};
use crate::meter::{Aggregation, PeriodKind, Value};
use crate::model::Quantity;

fn quantity(value: i64) -> Option<Quantity> {
    Some(Quantity::from_integer(value))
}

/// Per meter: period's name, value, event count.
fn usage(view: &View, customer: &str) -> Vec<(String, Option<Quantity>, u64)> {
    let page = view.customer_usage(&TenantId::new(TENANT), customer).unwrap();
    assert!(page.rows.iter().enumerate().all(|(place, row)| usize::from(row.meter.0) == place));
    page.rows.into_iter().map(|row| (row.period, row.value, row.event_count)).collect()
}

fn add(log: &mut Log, customer: &str, model: &'static str, at: &str, value: i64) {
    let feed = |meter, value, dimensions| NewFeed { meter: MeterId(meter), value, dimensions };
    let member = Value::Member((value as u128) << 64);
    let feeds =
        vec![feed(0, number(value), vec![Some(model)]), feed(1, member, vec![]), feed(2, number(value), vec![])];
    let event = NewEvent { customer: customer.into(), at: time(at), feeds };
    assert!(log.events(TENANT, &[event])[0].is_ok());
}

#[test]
fn a_customers_usage_is_open_and_final_windows_of_the_present_period_over_all_dimensions() {
    let mut tokens = definition("tokens", Aggregation::Sum);
    tokens.dimensions = vec![("model".into(), "$.model".parse().unwrap())];
    let most = definition("most", Aggregation::Max);
    let daily = crate::meter::Definition { billing_period: PeriodKind::Day, ..most };
    let meters = [tokens, definition("people", Aggregation::Unique), daily];
    let mut log = Log::new(&meters, time("2026-10-31T10:00:00Z"));
    add(&mut log, "c-1", "a", "2026-10-31T10:00:00Z", 100);
    log.close_all("2026-11-10T12:30:00Z");
    log.commit();
    log.leave();
    add(&mut log, "c-1", "a", "2026-11-10T11:00:00Z", 4);
    add(&mut log, "c-1", "b", "2026-11-10T11:00:00Z", 5);
    add(&mut log, "c-2", "b", "2026-11-10T11:00:00Z", 50);
    log.close_all("2026-11-10T13:30:00Z");
    log.commit();
    log.leave();
    add(&mut log, "c-1", "b", "2026-11-10T13:00:00Z", 5);
    add(&mut log, "c-1", "a", "2026-11-10T11:00:00Z", 6);
    add(&mut log, "c-1", "a", "2026-11-09T11:00:00Z", 90);
    let view = view(&log);
    let expected = [("2026-11", quantity(110), 5), ("2026-11", quantity(4), 5), ("2026-11-10", quantity(6), 4)];
    assert_eq!(usage(&view, "c-1"), expected.map(|(period, value, count)| (period.to_owned(), value, count)));
    let nobody = [("2026-11", quantity(0), 0), ("2026-11", quantity(0), 0), ("2026-11-10", None, 0)];
    assert_eq!(usage(&view, "c-9"), nobody.map(|(period, value, count)| (period.to_owned(), value, count)));
    log.tick(time("2026-12-01T00:00:00Z"));
    let expected = [("2026-12", quantity(0), 0), ("2026-12", quantity(0), 0), ("2026-12-01", None, 0)];
    assert_eq!(usage(&view, "c-1"), expected.map(|(period, value, count)| (period.to_owned(), value, count)));
}

#[test]
fn a_customers_settings_decide_what_the_present_period_is() {
    let mut log = Log::new(&[definition("tokens", Aggregation::Sum)], time("2026-11-10T10:00:00Z"));
    let anchored = r#"{"plan":"pro","schedule":{"eras":[{"from":null,"anchor":20,"time_zone":null}]}}"#;
    log.put_customer(TENANT, "anchored", anchored);
    for at in ["2026-11-10T10:00:00Z", "2026-10-25T10:00:00Z", "2026-10-15T10:00:00Z"] {
        log.add("anchored", 0, at, number(1));
        log.add("plain", 0, at, number(1));
    }
    let view = view(&log);
    assert_eq!(usage(&view, "anchored"), [("2026-10".to_owned(), quantity(2), 2)]);
    assert_eq!(usage(&view, "plain"), [("2026-11".to_owned(), quantity(1), 1)]);
    let (settings, seq) = view.customer(&TenantId::new(TENANT), "anchored");
    assert_eq!(settings.unwrap().plan.as_deref(), Some("pro"));
    assert_eq!(seq, log.state.read().position());
    assert!(view.customer(&TenantId::new("other"), "anchored").0.is_none());
}
