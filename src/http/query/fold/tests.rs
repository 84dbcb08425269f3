use super::*;
use crate::meter::{Aggregation, Definition, Late, Value};
use crate::model::{Duration, MeterId, Quantity, Seq};

fn definition(aggregation: Aggregation) -> Definition {
    Definition {
        slug: "m".to_owned(),
        event_type: "m".to_owned(),
        aggregation,
        value: None,
        dimensions: Vec::new(),
        window: "1h".parse().unwrap(),
        time_zone: "UTC".to_owned(),
        grace: Duration::ZERO,
        late: Late::Adjust,
        allow_negative: false,
        unique_members_max: 1_000,
        approximate: false,
        billing_period: Default::default(),
        billing_time_zone: None,
        derive_id: None,
    }
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

fn key(start: i64, customer: &str) -> RowKey {
    RowKey { window_start: at(start), customer: Some(customer.into()), dimensions: SmallVec::new() }
}

fn add(fold: &mut Fold, key: &RowKey, aggregate: &Aggregate, state: WindowState) {
    let window = Window { start: key.window_start, end: at(key.window_start.micros() + 10) };
    let row = WindowRow {
        meter: MeterId(0),
        customer: "c",
        dimensions: &[],
        window,
        aggregate,
        event_count: 2,
        state,
        revision: 3,
    };
    fold.add(key.clone(), window, &row);
}

fn sum(value: i64) -> Aggregate {
    Aggregate::Sum(Quantity::from_integer(value))
}

fn set(members: std::ops::Range<u128>) -> Aggregate {
    let mut aggregate = Aggregate::new(&definition(Aggregation::Unique));
    for member in members {
        aggregate.add(Value::Member(member << 64), at(0), Seq(1)).unwrap();
    }
    aggregate
}

#[test]
fn merges_windows_of_one_row_to_the_least_final_state_and_the_sum_of_revisions() {
    let mut fold = Fold::new(10, None);
    add(&mut fold, &key(0, "a"), &sum(5), WindowState::Grace);
    add(&mut fold, &key(0, "a"), &sum(7), WindowState::Open);
    add(&mut fold, &key(0, "b"), &sum(1), WindowState::Grace);
    let folded = fold.finish().unwrap();
    assert!(!folded.has_more);
    let (_, total) = &folded.rows[0];
    assert_eq!((&total.aggregate, total.event_count, total.state, total.revision), (&sum(12), 4, WindowState::Open, 6));
    assert_eq!(folded.rows[1].1.state, WindowState::Grace);
}

#[test]
fn pages_put_together_are_the_whole_whatever_order_windows_come_in() {
    let seed = 7;
    let mut rng = fastrand::Rng::with_seed(seed);
    for round in 0..200 {
        let mut windows: Vec<(RowKey, i64)> =
            (0..rng.i64(0..60)).map(|i| (key(rng.i64(0..6), ["a", "b", "c"][rng.usize(..3)]), i)).collect();
        let mut expected: BTreeMap<RowKey, i64> = BTreeMap::new();
        windows.iter().for_each(|(key, value)| *expected.entry(key.clone()).or_default() += value);
        let (limit, mut after, mut got) = (rng.usize(1..8), None, Vec::new());
        loop {
            rng.shuffle(&mut windows);
            let mut fold = Fold::new(limit, after.take());
            windows.iter().for_each(|(key, value)| add(&mut fold, key, &sum(*value), WindowState::Open));
            let folded = fold.finish().unwrap();
            assert!(folded.rows.len() <= limit);
            got.extend(folded.rows.iter().map(|(key, total)| (key.clone(), total.aggregate.clone())));
            if !folded.has_more {
                break;
            }
            after = folded.rows.last().map(|(key, _)| key.clone());
        }
        let expected: Vec<(RowKey, Aggregate)> = expected.into_iter().map(|(key, value)| (key, sum(value))).collect();
        assert_eq!(got, expected, "seed {seed}, round {round}");
    }
}

#[test]
fn a_page_of_large_sets_is_cut_short_but_never_empty_and_stays_exact() {
    let mut fold = Fold::new(100, None);
    fold.member_bytes_max = set(0..500).heap_bytes();
    for start in [3, 1, 2, 1, 3] {
        add(&mut fold, &key(start, "a"), &set(0..400), WindowState::Open);
    }
    let folded = fold.finish().unwrap();
    assert!(folded.has_more);
    let starts: Vec<i64> = folded.rows.iter().map(|(key, _)| key.window_start.micros()).collect();
    assert_eq!(starts, [1]);
    assert_eq!(
        (folded.rows[0].1.event_count, folded.rows[0].1.aggregate.value(4)),
        (4, Some(Quantity::from_integer(400)))
    );
}

#[test]
fn a_total_out_of_range_is_refused_not_wrapped() {
    let mut fold = Fold::new(10, None);
    let most = Aggregate::Sum(Quantity::from_scaled(i128::MAX));
    add(&mut fold, &key(0, "a"), &most, WindowState::Open);
    add(&mut fold, &key(0, "a"), &most, WindowState::Open);
    assert_eq!(fold.finish().unwrap_err(), Refusal::Overflow);
}
