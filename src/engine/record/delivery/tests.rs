use super::*;
use crate::engine::record::{HEADER_BYTES, Record, RecordError, put_incarnation, records};
use crate::model::Incarnation;

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

fn position(seq: u64, index: u32) -> OutboxPosition {
    OutboxPosition::new(Seq(seq), index)
}

fn attempt<'a>(micros: i64, took: u64, status: Option<u16>, error: &'a str, answer: &'a str) -> AttemptRecord<'a> {
    AttemptRecord { at: at(micros), took: Duration::from_micros(took), status, error, answer }
}

fn sinks() -> [SinkRecord<'static>; 4] {
    let kinds = [RowKind::Windows, RowKind::Alerts].into_iter().collect();
    [
        SinkRecord::Defined { name: "crm", kinds },
        SinkRecord::Paused { name: "crm", cause: PauseCause::Misfit, reason: "no column é", at: at(7) },
        SinkRecord::Resumed { name: "crm", reason: "", at: at(-1) },
        SinkRecord::Forgotten { name: "crm", reason: "moved", at: at(1 << 40) },
    ]
}

fn deliveries() -> [DeliveryRecord<'static>; 7] {
    let (first, last) = (position(0x0102, 3), position(1 << 33, u32::MAX));
    let plan = Plan { kind: RowKind::Adjustments, first, last, rows: 5_000 };
    let delivery = Seq(0x0A0B);
    let answered = attempt(1_000_001, 20_000_000, Some(503), "it answered 503", "try\nlater");
    let rows = vec![(position(0x0102, 0), b"\x00\xffz".as_slice()), (position(0x0102, 1), b"")];
    [
        DeliveryRecord::Planned { sink: "crm", plan, at: at(1_000_000) },
        DeliveryRecord::Failed { delivery, due: at(6_000_000), attempt: answered },
        DeliveryRecord::Failed { delivery, due: at(5), attempt: attempt(-5, 0, None, "timed out", "") },
        DeliveryRecord::Delivered { delivery, attempt: attempt(6_000_000, 12_345, Some(204), "", "") },
        DeliveryRecord::Dead { delivery: Seq(0x0A0C), attempt: attempt(9, 1, Some(410), "gone", "{}"), rows },
        DeliveryRecord::ReplayRequested {
            at: at(11),
            key: Some(("k-1", u64::MAX - 1)),
            deliveries: vec![Seq(0x0A0C), Seq(0x0A0D)],
        },
        DeliveryRecord::ReplayRequested { at: at(12), key: None, deliveries: Vec::new() },
    ]
}

fn payload() -> Vec<u8> {
    let mut out = Vec::new();
    put_incarnation(&mut out, Incarnation(2), "restored from a backup");
    sinks().iter().for_each(|record| put_sink(&mut out, record));
    deliveries().iter().for_each(|record| put_delivery(&mut out, record));
    out
}

/// Each record's bytes.
fn split(payload: &[u8]) -> Vec<Vec<u8>> {
    let (mut split, mut rest) = (Vec::new(), payload);
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest[1..HEADER_BYTES].try_into().unwrap());
        let (record, behind) = rest.split_at(HEADER_BYTES + length as usize);
        split.push(record.to_vec());
        rest = behind;
    }
    split
}

fn read(bytes: &[u8]) -> Result<usize, RecordError> {
    records(bytes).try_fold(0, |count, record| record.map(|_| count + 1))
}

/// The record with another byte at a place of its body.
fn with(record: &[u8], place: usize, byte: u8) -> Result<usize, RecordError> {
    let mut changed = record.to_vec();
    changed[HEADER_BYTES + place] = byte;
    read(&changed)
}

const MALFORMED: Result<usize, RecordError> = Err(RecordError::Malformed(0));

#[test]
fn writes_the_golden_bytes_of_every_record_of_delivery() {
    let golden = include_str!("../../../../tests/golden/delivery_v2.hex");
    let golden: String = golden.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace).collect();
    let hex: String = payload().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden);
}

#[test]
fn reads_back_every_record_of_delivery_each_with_one_seq() {
    let payload = payload();
    let read: Vec<Record<'_>> = records(&payload).collect::<Result<_, _>>().unwrap();
    let incarnation = Record::Incarnation { incarnation: Incarnation(2), reason: "restored from a backup" };
    let sinks = sinks().map(Record::Sink);
    let written: Vec<Record<'_>> =
        [incarnation].into_iter().chain(sinks).chain(deliveries().map(Record::Delivery)).collect();
    assert_eq!(read, written);
    assert!(read.iter().all(|record| record.seqs() == 1));
}

#[test]
fn refuses_every_truncation_of_a_payload_but_those_between_records() {
    let payload = payload();
    let ends: Vec<usize> = split(&payload)
        .iter()
        .scan(0, |end, record| {
            *end += record.len();
            Some(*end)
        })
        .collect();
    for end in 1..=payload.len() {
        match ends.iter().position(|whole| *whole == end) {
            Some(place) => assert_eq!(read(&payload[..end]), Ok(place + 1)),
            None => assert!(read(&payload[..end]).is_err(), "cut at {end}"),
        }
    }
}

#[test]
fn refuses_a_body_that_is_shorter_or_longer_than_what_it_says() {
    for record in split(&payload()) {
        assert_eq!(read(&record), Ok(1));
        for length in HEADER_BYTES..=record.len() + 9 {
            let mut changed = record.clone();
            changed.resize(length, 0);
            changed[1..HEADER_BYTES].copy_from_slice(&((length - HEADER_BYTES) as u32).to_le_bytes());
            let is_whole = length == record.len();
            assert_eq!(read(&changed), if is_whole { Ok(1) } else { MALFORMED }, "kind {} to {length}", record[0]);
        }
    }
}

#[test]
fn refuses_kinds_and_causes_that_nobody_knows() {
    let records = split(&payload());
    let after_name = 2 + "crm".len();
    let (defined, paused, planned) = (&records[1], &records[2], &records[5]);
    assert_eq!((defined[0], paused[0], planned[0]), (10, 11, 14));
    for kinds in 0..=u8::MAX {
        assert_eq!(with(defined, after_name, kinds), if kinds < 8 { Ok(1) } else { MALFORMED }, "kinds {kinds:08b}");
    }
    for number in 0..=u8::MAX {
        let cause = if number < 5 { Ok(1) } else { MALFORMED };
        assert_eq!(with(paused, after_name, number), cause, "cause {number}");
        let kind = if number < 3 { Ok(1) } else { MALFORMED };
        assert_eq!(with(planned, after_name, number), kind, "kind {number}");
    }
}

#[test]
fn refuses_texts_times_and_spans_that_cannot_be() {
    let records = split(&payload());
    for record in &records[1..=5] {
        assert_eq!(with(record, 2, 0xff), MALFORMED, "kind {}: a name that is not UTF-8", record[0]);
        let mut absent = record.clone();
        absent[HEADER_BYTES..HEADER_BYTES + 2].copy_from_slice(&[0xff; 2]);
        assert_eq!(read(&absent), MALFORMED, "kind {}: a name that is not given", record[0]);
    }
    let failed = &records[6];
    assert_eq!(failed[0], 15);
    let (due, at, took) = (8, 16, 24);
    for (place, what) in [(due, "due in the year 290,000"), (at, "at the same"), (took, "took less than nothing")] {
        assert_eq!(with(failed, place + 7, if place == took { 0x80 } else { 0x7f }), MALFORMED, "{what}");
    }
    assert_eq!(with(failed, took + 7, 0x7f), Ok(1), "the longest span is one");
    let keyless = records.last().unwrap();
    assert_eq!(with(keyless, 8 + 2, 1), MALFORMED, "a digest of no request");
}

#[test]
fn refuses_counts_that_do_not_fit_what_follows() {
    let records = split(&payload());
    let (dead, replay) = (&records[9], &records[10]);
    assert_eq!((dead[0], replay[0]), (17, 18));
    let rows = 8 + 8 + 8 + 2 + (2 + "gone".len()) + (2 + "{}".len());
    let deliveries = 8 + (2 + "k-1".len()) + 8;
    for (record, place) in [(dead, rows), (replay, deliveries)] {
        let count = HEADER_BYTES + place..HEADER_BYTES + place + 4;
        assert_eq!(record[count.clone()], [2, 0, 0, 0]);
        for wrong in [0, 1, 3, u32::MAX] {
            let mut changed = record.clone();
            changed[count.clone()].copy_from_slice(&wrong.to_le_bytes());
            assert_eq!(read(&changed), MALFORMED, "count {wrong} in kind {}", record[0]);
        }
    }
    for wrong in [0, 2, 4, 0xff] {
        assert_eq!(with(dead, rows + 4 + 12, wrong), MALFORMED, "a value of {wrong} bytes");
    }
}

#[test]
fn an_attempt_is_the_same_after_it_went_through_a_record() {
    let attempt = Attempt {
        at: at(3),
        took: Duration::from_secs(20),
        status: None,
        error: "timed out".to_owned(),
        answer: String::new(),
    };
    let mut bytes = Vec::new();
    put_attempt(&mut bytes, &AttemptRecord::from(&attempt));
    let mut cursor = Cursor(&bytes);
    let read = read_attempt(&mut cursor).expect("an attempt");
    assert_eq!((Attempt::from(read), cursor.0.len()), (attempt, 0));
}
