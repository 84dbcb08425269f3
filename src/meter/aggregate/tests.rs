use super::*;
use crate::meter::definition::Late;
use crate::meter::period::PeriodKind;
use crate::meter::window::WindowLength;
use crate::model::Duration;

fn definition(aggregation: Aggregation) -> Definition {
    Definition {
        slug: "m".to_owned(),
        event_type: "m".to_owned(),
        aggregation,
        value: None,
        dimensions: vec![],
        window: WindowLength::Day,
        time_zone: "UTC".to_owned(),
        grace: Duration::ZERO,
        late: Late::Adjust,
        allow_negative: true,
        unique_members_max: 100,
        approximate: false,
        billing_period: PeriodKind::Month,
        billing_time_zone: None,
        derive_id: None,
    }
}

fn new(aggregation: Aggregation) -> Aggregate {
    Aggregate::new(&definition(aggregation))
}

fn quantity(text: &str) -> Quantity {
    Quantity::parse(text).unwrap()
}

fn micros(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

/// An event: a value that fits the aggregation, a time that often repeats.
fn event(aggregation: Aggregation, rng: &mut fastrand::Rng) -> (Value, Timestamp) {
    let value = match aggregation {
        Aggregation::Unique => Value::Member(u128::from(rng.u8(..60)) << 120 | 7),
        _ => Value::Quantity(Quantity::from_scaled(rng.i128(-1_000_000..1_000_000))),
    };
    (value, micros(rng.i64(-5..5)))
}

#[test]
fn an_aggregate_takes_at_most_48_bytes() {
    assert!(size_of::<Aggregate>() <= 48, "{}", size_of::<Aggregate>());
    assert!(size_of::<Value>() <= 32);
}

#[test]
fn each_aggregation_has_its_value() {
    for (aggregation, empty, expected) in [
        (Aggregation::Count, Some("0"), "4"),
        (Aggregation::Sum, Some("0"), "6.5"),
        (Aggregation::Min, None, "-1"),
        (Aggregation::Max, None, "4"),
        (Aggregation::Avg, None, "1.625"),
        (Aggregation::Latest, None, "2.5"),
    ] {
        let mut aggregate = new(aggregation);
        assert_eq!(aggregate.value(0), empty.map(quantity), "{aggregation:?}");
        for (seq, (text, at)) in [("1", 10), ("4", 30), ("2.5", 30), ("-1", 20)].into_iter().enumerate() {
            let added = aggregate.add(Value::Quantity(quantity(text)), micros(at), Seq(seq as u64 + 1));
            assert_eq!(added, Ok(Added::default()));
        }
        assert_eq!(aggregate.value(4), Some(quantity(expected)), "{aggregation:?}");
        assert!(!aggregate.is_approximate());
    }
}

#[test]
fn latest_takes_the_newest_time_then_the_highest_seq_even_at_the_lowest_time() {
    let mut latest = new(Aggregation::Latest);
    latest.add(Value::Quantity(quantity("1")), Timestamp::MIN, Seq(1)).unwrap();
    assert_eq!(latest.value(1), Some(quantity("1")));
    latest.add(Value::Quantity(quantity("2")), micros(5), Seq(2)).unwrap();
    latest.add(Value::Quantity(quantity("3")), micros(4), Seq(3)).unwrap();
    assert_eq!(latest.value(3), Some(quantity("2")));
    latest.add(Value::Quantity(quantity("4")), micros(5), Seq(4)).unwrap();
    assert_eq!(latest.value(4), Some(quantity("4")));
    latest.add(Value::Quantity(quantity("5")), micros(5), Seq(3)).unwrap();
    assert_eq!(latest.value(5), Some(quantity("4")));
}

#[test]
fn the_most_of_negative_quantities_is_negative_and_the_least_of_positive_ones_positive() {
    for (aggregation, text) in [(Aggregation::Max, "-2"), (Aggregation::Min, "170141183460469231731687303")] {
        let mut aggregate = new(aggregation);
        aggregate.add(Value::Quantity(quantity(text)), micros(0), Seq(1)).unwrap();
        assert_eq!(aggregate.value(1), Some(quantity(text)));
    }
}

#[test]
fn check_sees_an_overflow_and_a_refused_add_changes_nothing() {
    for aggregation in [Aggregation::Sum, Aggregation::Avg] {
        for (full, more) in [(i128::MAX, 1), (i128::MIN, -1)] {
            let mut aggregate = new(aggregation);
            aggregate.add(Value::Quantity(Quantity::from_scaled(full)), micros(0), Seq(1)).unwrap();
            let before = aggregate.clone();
            let value = Value::Quantity(Quantity::from_scaled(more));
            assert_eq!(aggregate.check(value), Err(Refusal::Overflow));
            assert_eq!(aggregate.add(value, micros(0), Seq(2)), Err(Refusal::Overflow));
            assert_eq!(aggregate, before);
            let mut one = new(aggregation);
            one.add(value, micros(0), Seq(3)).unwrap();
            assert_eq!(aggregate.merge(&one), Err(Refusal::Overflow));
            assert_eq!(aggregate, before);
        }
    }
}

#[test]
fn check_refuses_exactly_what_add_refuses() {
    for seed in 0..400 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let aggregation = Aggregation::ALL[rng.usize(..7)];
        let approximate = rng.bool();
        let limits = Definition { unique_members_max: rng.u32(1..40), approximate, ..definition(aggregation) };
        let mut aggregate = Aggregate::new(&limits);
        for seq in 0..200 {
            let (mut value, at) = event(Aggregation::ALL[rng.usize(..7)], &mut rng);
            if rng.u8(..10) == 0 {
                value = Value::Quantity(Quantity::from_scaled(rng.i128(i128::MIN..i128::MAX)));
            }
            let before = aggregate.clone();
            let checked = aggregate.check(value);
            assert_eq!(aggregate.add(value, at, Seq(seq)).map(drop), checked, "seed {seed} {value:?}");
            if checked.is_err() {
                assert_eq!(aggregate, before, "seed {seed}");
            }
        }
    }
}

#[test]
fn merging_parts_is_adding_everything() {
    for seed in 0..500 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let aggregation = Aggregation::ALL[seed as usize % 7];
        let mut all = new(aggregation);
        let mut parts: Vec<Aggregate> = (0..rng.usize(1..5)).map(|_| new(aggregation)).collect();
        let count = rng.u64(..100);
        for seq in 0..count {
            let (value, at) = event(aggregation, &mut rng);
            all.add(value, at, Seq(seq)).unwrap();
            let part = rng.usize(..parts.len());
            parts[part].add(value, at, Seq(seq)).unwrap();
        }
        rng.shuffle(&mut parts);
        let mut merged = new(aggregation);
        parts.iter().for_each(|part| merged.merge(part).unwrap());
        assert_eq!(merged, all, "seed {seed}");
        assert_eq!(merged.value(count), all.value(count), "seed {seed}");
    }
}

#[test]
fn different_aggregations_do_not_merge_and_values_must_fit() {
    for a in Aggregation::ALL {
        for b in Aggregation::ALL {
            assert_eq!(new(a).merge(&new(b)).is_ok(), a == b, "{a:?} {b:?}");
        }
        let member_fits = matches!(a, Aggregation::Unique | Aggregation::Count);
        assert_eq!(new(a).check(Value::Member(1)).is_ok(), member_fits, "{a:?}");
        assert_eq!(new(a).check(Value::Quantity(Quantity::ONE)).is_ok(), a != Aggregation::Unique, "{a:?}");
    }
}

#[test]
fn writes_and_reads_the_golden_bytes() {
    let tokens = 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10;
    let le: Vec<u8> = (1..=16).rev().collect();
    let quantity = Quantity::from_scaled(tokens);
    for (aggregate, expected) in [
        (Aggregate::Count, vec![1, 1]),
        (Aggregate::Sum(quantity), [&[1, 2], &le[..]].concat()),
        (Aggregate::Sum(Quantity::from_scaled(-2)), [&[1, 2, 0xfe][..], &[0xff; 15]].concat()),
        (Aggregate::Min(quantity), [&[1, 3], &le[..]].concat()),
        (Aggregate::Max(quantity), [&[1, 4], &le[..]].concat()),
        (Aggregate::Avg(quantity), [&[1, 5], &le[..]].concat()),
        (
            Aggregate::Latest { value: quantity, at: micros(-2), seq: Seq(0x0102) },
            [&[1, 6], &le[..], &[0xfe], &[0xff; 7], &[2, 1, 0, 0, 0, 0, 0, 0]].concat(),
        ),
    ] {
        let mut bytes = Vec::new();
        aggregate.encode(&mut bytes);
        assert_eq!(bytes, expected);
        let definition = definition(Aggregation::ALL[usize::from(bytes[1]) - 1]);
        assert_eq!(Aggregate::decode(&bytes, &definition), Ok((aggregate, 0)));
    }
}

#[test]
fn an_exact_set_is_stored_as_its_count_and_gets_its_members_back() {
    let mut aggregate = new(Aggregation::Unique);
    (1..=3).for_each(|n| assert!(aggregate.add(Value::Member(n << 64), micros(0), Seq(1)).is_ok()));
    let mut bytes = Vec::new();
    aggregate.encode(&mut bytes);
    assert_eq!(bytes, [1, 7, 3, 0, 0, 0]);
    let (mut read, members) = Aggregate::decode(&bytes, &definition(Aggregation::Unique)).unwrap();
    assert_eq!(members, 3);
    assert!(aggregate.members().all(|member| read.insert_member(member)));
    assert_eq!(read, aggregate);
    assert!(!read.insert_member(1 << 64));
    assert!(!new(Aggregation::Sum).insert_member(1));
    assert_eq!(new(Aggregation::Sum).members().count(), 0);
}

#[test]
fn an_estimate_is_stored_as_its_registers() {
    let limits = Definition { unique_members_max: 1, approximate: true, ..definition(Aggregation::Unique) };
    let mut aggregate = Aggregate::new(&limits);
    aggregate.add(Value::Member(1 << 114), micros(0), Seq(1)).unwrap();
    let added = aggregate.add(Value::Member(u128::MAX), micros(0), Seq(2)).unwrap();
    assert!(added.became_approximate && aggregate.is_approximate());
    let mut bytes = Vec::new();
    aggregate.encode(&mut bytes);
    let mut expected = vec![0; 10 + REGISTERS];
    expected[..10].copy_from_slice(&[1, 8, 2, 0, 0, 0, 0, 0, 0, 0]);
    (expected[10 + 1], expected[10 + REGISTERS - 1]) = (51, 1);
    assert!(bytes == expected);
    assert!(Aggregate::decode(&bytes, &limits) == Ok((aggregate, 0)));
    bytes[10] = 52;
    assert!(Aggregate::decode(&bytes, &limits) == Err(DecodeError::Malformed));
}

#[test]
fn a_set_that_is_made_an_estimate_stays_one_however_few_members_it_has() {
    for count in [0, 1, 3] {
        let mut aggregate = new(Aggregation::Unique);
        let members = (1..=count).map(|n: u128| n << 100);
        members.for_each(|member| assert!(aggregate.add(Value::Member(member), micros(0), Seq(1)).is_ok()));
        let exact = aggregate.value(1);
        aggregate.make_approximate();
        assert!(aggregate.is_approximate() && aggregate.value(1) == exact, "{count}");
        let mut bytes = Vec::new();
        aggregate.encode(&mut bytes);
        assert!(Aggregate::decode(&bytes, &definition(Aggregation::Unique)) == Ok((aggregate.clone(), 0)));
        let before = aggregate.clone();
        aggregate.make_approximate();
        assert!(aggregate == before);
    }
    let mut sum = new(Aggregation::Sum);
    sum.make_approximate();
    assert_eq!(sum, new(Aggregation::Sum));
}

#[test]
fn refuses_other_versions_other_kinds_and_every_wrong_length() {
    for (aggregation, other) in [(Aggregation::Sum, Aggregation::Avg), (Aggregation::Latest, Aggregation::Unique)] {
        let mut bytes = Vec::new();
        new(aggregation).encode(&mut bytes);
        let decode = |bytes: &[u8], aggregation| Aggregate::decode(bytes, &definition(aggregation)).map(drop);
        assert_eq!(decode(&bytes, aggregation), Ok(()));
        assert_eq!(decode(&bytes, other), Err(DecodeError::OtherAggregation));
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length], aggregation), Err(DecodeError::Malformed), "{length}");
        }
        assert_eq!(decode(&[&bytes[..], &[0]].concat(), aggregation), Err(DecodeError::Malformed));
        bytes[0] = 2;
        assert_eq!(decode(&bytes, aggregation), Err(DecodeError::Version(2)));
    }
}
