//! Every adjustment once, oldest first, whatever the store has of them already.

use super::*;
use crate::engine::state::tests::fixture::{NewEvent, NewFeed, TENANT, definition, number, time};
use crate::meter::Aggregation;
use crate::model::Quantity;

const START: &str = "2026-11-10T10:00:00Z";

fn log() -> Log {
    let meters = [definition("tokens", Aggregation::Sum), definition("calls", Aggregation::Count)];
    let mut log = Log::new(&meters, time("2026-11-10T10:30:00Z"));
    log.add("c-1", 0, START, number(1));
    log.close_all("2026-11-10T14:00:00Z");
    log
}

/// A late event that feeds both meters.
fn adjust(log: &mut Log, tenant: &str, customer: &str) {
    let feed = |meter| NewFeed { meter: MeterId(meter), value: number(2), dimensions: vec![] };
    let event = NewEvent { customer: customer.into(), at: time(START), feeds: vec![feed(0), feed(1)] };
    assert_eq!(log.events(tenant, &[event]), [Ok(vec![true, true])]);
}

fn query() -> AdjustmentsQuery {
    AdjustmentsQuery { tenant: TenantId::new(TENANT), since: None, customer: None, meter: None, limit: 100 }
}

type Places = Vec<(Seq, u8)>;

fn places(rows: &[Adjustment]) -> Places {
    rows.iter().map(|row| (row.seq, row.feed)).collect()
}

/// All pages of this length, one after the other.
fn paged(view: &View, query: &AdjustmentsQuery) -> Places {
    let (mut all, mut query) = (Places::new(), query.clone());
    loop {
        let page = view.adjustments(&query).unwrap();
        assert!(page.rows.len() <= query.limit);
        all.extend(places(&page.rows));
        if !page.more {
            return all;
        }
        assert_eq!(page.rows.len(), query.limit, "a page that is not the last one is full");
        query.since = all.last().copied();
    }
}

#[test]
fn an_adjustment_says_what_it_changed() {
    let mut log = log();
    adjust(&mut log, TENANT, "c-1");
    let page = view(&log).adjustments(&query()).unwrap();
    assert_eq!((page.rows.len(), page.more, page.seq), (2, false, log.state.read().position()));
    let row = &page.rows[0];
    assert_eq!((row.customer.as_str(), row.meter, row.period.as_str()), ("c-1", MeterId(0), "2026-11"));
    assert_eq!((row.delta, row.value), (Quantity::from_integer(2), Some(Quantity::from_integer(3))));
    assert_eq!((row.event_count, row.revision, row.incarnation, row.feed), (2, 2, 1, 0));
    assert_eq!((row.window.start, row.timestamp, row.recorded_at), (time(START), time(START), log.now));
    assert_eq!((page.rows[1].meter, page.rows[1].feed, page.rows[1].revision), (MeterId(1), 1, 1));
}

#[test]
fn stored_and_new_adjustments_are_one_list_without_gap_or_double() {
    let mut log = log();
    let view = view(&log);
    let mut expected = Places::new();
    for step in 0..24 {
        adjust(&mut log, TENANT, if step % 3 == 0 { "c-1" } else { "c-2" });
        let seq = log.state.read().position();
        expected.extend([(seq, 0), (seq, 1)]);
        adjust(&mut log, "other", "c-1");
        match step % 8 {
            2 => log.close_epoch(),
            // In the store, and not yet forgotten in memory.
            4 => {
                while !log.state.write().drain_epoch(1) {}
                let rows = log.state.write().take_epoch();
                let position = log.closed_at.unwrap();
                crate::store::Store::commit(&*log.store, &crate::store::Commit { position, ids: Vec::new(), rows })
                    .unwrap();
            }
            6 => log.state.write().committed(log.closed_at.take().unwrap()),
            _ => {}
        }
        for limit in [1, 2, 3, 7, 100] {
            assert_eq!(paged(&view, &AdjustmentsQuery { limit, ..query() }), expected, "step {step}, limit {limit}");
        }
        for since in 0..expected.len() {
            let page = view.adjustments(&AdjustmentsQuery { since: Some(expected[since]), ..query() }).unwrap();
            assert_eq!(places(&page.rows), expected[since + 1..]);
        }
    }
}

#[test]
fn adjustments_are_found_by_customer_and_meter() {
    let mut log = log();
    for step in 0..9 {
        adjust(&mut log, TENANT, if step % 3 == 0 { "c-1" } else { "c-2" });
        if step == 4 {
            log.commit();
            log.leave();
        }
    }
    let view = view(&log);
    for limit in [1, 2, 50] {
        let by_customer =
            |name: &str| paged(&view, &AdjustmentsQuery { customer: Some(name.into()), limit, ..query() });
        assert_eq!((by_customer("c-1").len(), by_customer("c-2").len(), by_customer("c").len()), (6, 12, 0));
        let of_meter = paged(&view, &AdjustmentsQuery { meter: Some(MeterId(1)), limit, ..query() });
        assert!(of_meter.len() == 9 && of_meter.iter().all(|(_, feed)| *feed == 1));
    }
}
