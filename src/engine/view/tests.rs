use std::collections::BTreeSet;

use super::*;
use crate::engine::hash::TableHasher;
use crate::engine::record::{self, Record};
use crate::engine::state::Feed;
use crate::meter::{Aggregation, Definition, Late, Value};
use crate::model::{Duration, Quantity};

const HOUR: Duration = Duration::from_secs(3_600);

fn definition() -> Definition {
    Definition {
        slug: "tokens".into(),
        event_type: "tokens".into(),
        aggregation: Aggregation::Sum,
        value: None,
        dimensions: vec![],
        window: "1h".parse().unwrap(),
        time_zone: "UTC".into(),
        grace: Duration::ZERO,
        late: Late::Adjust,
        allow_negative: false,
        unique_members_max: 10,
        approximate: false,
    }
}

/// A state with so many customers, each with so many hours.
fn view(customers: u32, hours: u32) -> View {
    let hasher = TableHasher::default();
    let mut state = State::new(hasher.clone());
    let mut payload = Vec::new();
    record::put_meter_version(&mut payload, MeterId(0), &definition());
    let version: Vec<Record<'_>> = record::records(&payload).collect::<Result<_, _>>().unwrap();
    state.apply(Seq(1), &version[0], &mut |_, _| {}).unwrap();
    for hour in 0..hours {
        let start = Timestamp::from_micros(HOUR.micros() * i64::from(hour)).unwrap();
        for customer in 0..customers {
            let mut name = Vec::new();
            key::put_customer(&mut name, "acme", &format!("c-{customer}"));
            key::put_meter(&mut name, "tokens", [].into_iter());
            let window = Window { start, end: start.saturating_add(HOUR) };
            let value = Value::Quantity(Quantity::ONE);
            let feed = Feed { meter: MeterId(0), window, value, key: &name, hash: hasher.hash(&name) };
            let located = state.locate(&feed);
            state.apply_feed((start, Seq(2)), &feed, located).unwrap();
        }
    }
    View::new(Arc::new(RwLock::new(state)), watch::Sender::new(Seq::ZERO).subscribe())
}

fn rows(view: &View, tenant: &str, customer: Option<&str>, hours: (u32, u32)) -> BTreeSet<(String, Timestamp)> {
    let at = |hour: u32| Timestamp::from_micros(HOUR.micros() * i64::from(hour)).ok();
    let tenant = TenantId::new(tenant);
    let query = WindowQuery { tenant: &tenant, meter: None, customer, from: at(hours.0), to: at(hours.1) };
    let mut seen = BTreeSet::new();
    view.windows(&query, &mut |row| {
        assert!(seen.insert((row.customer.to_owned(), row.window.start)), "visited once");
    });
    seen
}

#[test]
fn visits_every_window_once_over_many_slices() {
    let view = view(7, 2_000);
    assert_eq!(rows(&view, "acme", None, (0, 2_000)).len(), 14_000);
    assert_eq!(rows(&view, "acme", Some("c-3"), (0, 2_000)).len(), 2_000);
    assert_eq!(rows(&view, "acme", None, (500, 1_500)).len(), 7_000);
}

#[test]
fn visits_nothing_of_another_tenant_or_an_unknown_customer() {
    let view = view(3, 2);
    assert!(rows(&view, "other", None, (0, 2)).is_empty());
    assert!(rows(&view, "acme", Some("c-9"), (0, 2)).is_empty());
    assert!(rows(&view, "acme", Some("c-1"), (2, 1)).is_empty(), "an empty range");
}

#[test]
fn the_writer_gets_in_between_two_slices() {
    let view = view(1, 5_000);
    let state = view.state.clone();
    let (mut visited, mut got_in) = (0, 0);
    let tenant = TenantId::new("acme");
    let query = WindowQuery { tenant: &tenant, meter: None, customer: None, from: None, to: None };
    let (begin, begun) = std::sync::mpsc::sync_channel(0);
    let writer = std::thread::Builder::new().spawn(move || {
        begun.recv().unwrap();
        let state = state.write();
        state.series(0).counters.len()
    });
    let writer = writer.unwrap();
    view.windows(&query, &mut |_| {
        if visited == 0 {
            begin.send(()).unwrap();
        }
        visited += 1;
        if visited % 900 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            got_in += usize::from(writer.is_finished());
        }
    });
    assert_eq!((visited, writer.join().unwrap()), (5_000, 5_000));
    assert!(got_in > 0, "a walk of several slices let no writer in");
}
