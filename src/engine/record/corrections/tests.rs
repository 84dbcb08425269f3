use fastrand::Rng;

use super::*;
use crate::engine::record::caps::tests::{random_text, random_window};
use crate::engine::record::{EventEncoder, EventsWriter, HEADER_BYTES, Record, RecordError, records};
use crate::meter::Value;
use crate::model::{Fingerprint, Window};

const HOUR: i64 = 3_600_000_000;

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

fn window(start: i64, end: i64) -> Window {
    Window { start: at(start), end: at(end) }
}

fn january() -> BillingPeriod {
    BillingPeriod { label: "1970-01".parse().unwrap(), bounds: window(0, 744 * HOUR) }
}

fn void() -> Retraction {
    let changed = |start: i64, remains| WindowChange {
        window: window(start * HOUR, (start + 1) * HOUR),
        event_count: 7,
        is_final: start > 0,
        events: 1,
        quantity: Quantity::parse("-2.5").unwrap(),
        timestamp: at(start * HOUR + 5),
        remains,
    };
    let change = |meter, total, windows| Change {
        series: b"\x00\x04acme\x00\x03c-1".to_vec(),
        meter: MeterId(meter),
        period: january(),
        total,
        total_count: 9,
        windows,
    };
    Retraction {
        tenant: TenantId::new("acmé"),
        cause: Cause::Void(VoidCause {
            event: Seq(0x0102_0304_0506),
            key: EventKey(0x0f0e << 64),
            usage_event_id: "e-1".to_owned(),
            source: String::new(),
            customer: "c-1".to_owned(),
            reason: "sent twice under two ids".to_owned(),
        }),
        basis: Basis { retractions: 3 },
        changes: vec![
            change(0, Remains::Subtract, vec![changed(0, Remains::Subtract)]),
            change(1, Remains::Is(vec![1, 3, 9]), vec![changed(1, Remains::Is(vec![1, 3, 8]))]),
            change(2, Remains::Without(vec![5]), vec![changed(2, Remains::Without(vec![5, 1 << 127]))]),
        ],
    }
}

fn action() -> TrailEntry {
    TrailEntry {
        seq: Seq::ZERO,
        tenant: Some("acme".to_owned()),
        at: at(77),
        by: Some("ops-1".to_owned()),
        action: "caps.put".to_owned(),
        target: "c-1/tokens".to_owned(),
        before: None,
        after: Some("[]".to_owned()),
    }
}

fn written() -> Vec<CorrectionRecord<'static>> {
    let revert = Retraction {
        tenant: TenantId::new("acme"),
        cause: Cause::Revert { backfill: 2 },
        basis: Basis { retractions: 0 },
        changes: Vec::new(),
    };
    let unnamed = TrailEntry { tenant: None, by: None, before: Some("{}".to_owned()), after: None, ..action() };
    vec![
        CorrectionRecord::Retracted { at: at(12), retraction: Box::new(void()) },
        CorrectionRecord::Retracted { at: at(13), retraction: Box::new(revert) },
        CorrectionRecord::BackfillOpened { tenant: "acme", id: "2023", number: 1, at: at(-1) },
        CorrectionRecord::BackfillReverting { number: 1, at: at(2), reason: "wrong file" },
        CorrectionRecord::BackfillReverted { number: 1, at: at(3) },
        CorrectionRecord::Action(Box::new(action())),
        CorrectionRecord::Action(Box::new(unnamed)),
    ]
}

/// One event of backfill 9, and every other record.
fn payload() -> Vec<u8> {
    let mut out = Vec::new();
    let mut event = Vec::new();
    let mut encoder =
        EventEncoder::start(&mut event, (EventKey(1), Fingerprint(2)), at(3), "c-1", br#"{"usage_event_id":"e"}"#);
    let dimensions: [Option<&str>; 0] = [];
    encoder.feed(MeterId(4), (window(0, HOUR), 0), Value::Quantity(Quantity::ONE), dimensions.into_iter());
    encoder.finish();
    let mut events = EventsWriter::start(&mut out, ("acme", Some(9)), at(5), &[january()]);
    events.push(&mut out, &event, std::iter::empty());
    events.finish(&mut out);
    written().iter().for_each(|record| put_correction(&mut out, record));
    out
}

#[test]
fn writes_the_golden_bytes_of_every_record_of_corrections() {
    let golden = include_str!("../../../../tests/golden/corrections_v2.hex");
    let golden: String = golden.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace).collect();
    let hex: String = payload().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden);
}

#[test]
fn reads_back_every_record_of_corrections_each_with_one_seq() {
    let payload = payload();
    let mut read: Vec<Record<'_>> = records(&payload).collect::<Result<_, _>>().unwrap();
    let Record::Events(events) = read.remove(0) else { panic!("the first are events") };
    assert_eq!((events.tenant, events.backfill, events.count), ("acme", Some(9), 1));
    assert_eq!(events.iter().next().unwrap().unwrap().customer, "c-1");
    assert!(read.iter().all(|record| record.seqs() == 1));
    assert_eq!(read, written().into_iter().map(Record::Correction).collect::<Vec<_>>());
}

#[test]
fn refuses_every_truncation_of_a_record() {
    for written in written() {
        let mut whole = Vec::new();
        put_correction(&mut whole, &written);
        for length in 0..whole.len() - HEADER_BYTES {
            let body = &whole[HEADER_BYTES..HEADER_BYTES + length];
            let cut = [&whole[..1], &(length as u32).to_le_bytes()[..], body].concat();
            let read = records(&cut).next().unwrap();
            assert_eq!(read, Err(RecordError::Malformed(0)), "kind {} cut to {length}", whole[0]);
        }
        let length = whole.len() - HEADER_BYTES + 1;
        let longer = [&whole[..1], &(length as u32).to_le_bytes()[..], &whole[HEADER_BYTES..], &[0]].concat();
        assert_eq!(records(&longer).next().unwrap(), Err(RecordError::Malformed(0)));
    }
}

#[test]
fn reads_back_whatever_it_wrote() {
    let mut random = Rng::with_seed(6);
    for _ in 0..2_000 {
        let written = CorrectionRecord::Retracted { at: at(1), retraction: Box::new(random_retraction(&mut random)) };
        let mut bytes = Vec::new();
        put_correction(&mut bytes, &written);
        let read: Vec<Record<'_>> = records(&bytes).collect::<Result<_, _>>().unwrap();
        assert_eq!(read, [Record::Correction(written)]);
    }
}

fn random_retraction(random: &mut Rng) -> Retraction {
    let cause = match random.bool() {
        true => Cause::Revert { backfill: random.u32(..) },
        false => Cause::Void(VoidCause {
            event: Seq(random.u64(..)),
            key: EventKey(random.u128(..)),
            usage_event_id: random_text(random),
            source: random_text(random),
            customer: random_text(random),
            reason: random_text(random),
        }),
    };
    Retraction {
        tenant: TenantId::new(&random_text(random)),
        cause,
        basis: Basis { retractions: random.u64(..) },
        changes: (0..random.usize(..4)).map(|_| random_change(random)).collect(),
    }
}

fn random_change(random: &mut Rng) -> Change {
    Change {
        series: random_text(random).into_bytes(),
        meter: MeterId(random.u16(..)),
        period: BillingPeriod { label: "2026-11".parse().unwrap(), bounds: random_window(random) },
        total: random_remains(random),
        total_count: random.u64(..),
        windows: (0..random.usize(..4))
            .map(|_| WindowChange {
                window: random_window(random),
                event_count: random.u64(..),
                is_final: random.bool(),
                events: random.u64(..),
                quantity: Quantity::from_scaled(random.i128(..)),
                timestamp: random_window(random).start,
                remains: random_remains(random),
            })
            .collect(),
    }
}

fn random_remains(random: &mut Rng) -> Remains {
    match random.u8(..3) {
        0 => Remains::Subtract,
        1 => Remains::Is((0..random.usize(..40)).map(|_| random.u8(..)).collect()),
        _ => Remains::Without((0..random.usize(..4)).map(|_| random.u128(..)).collect()),
    }
}
