use super::*;
use crate::model::Seq;

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

fn genesis() -> Genesis {
    Genesis { store_id: 0x0102, dedupe_key: [7; 16], incarnation: Incarnation(1), created_at: at(5) }
}

/// One event that feeds two meters, as it stands in an Events record.
fn event_bytes() -> Vec<u8> {
    let mut out = Vec::new();
    let window = Window { start: at(0), end: at(3_600_000_000) };
    let identity = (EventKey(0xAB), Fingerprint(0xCD));
    let mut encoder = EventEncoder::start(&mut out, identity, at(1_000_000), "c-1", b"{\"a\":1}");
    encoder.feed(MeterId(0), window, Value::Quantity(Quantity::from_integer(3)), [Some("gpt"), None].into_iter());
    encoder.feed(MeterId(1), window, Value::Member(9), [].into_iter());
    encoder.finish();
    out
}

fn payload() -> Vec<u8> {
    let mut out = Vec::new();
    put_genesis(&mut out, &genesis());
    let mut events = EventsWriter::start(&mut out, "acme", at(2_000_000));
    events.push(&mut out, &event_bytes());
    events.finish(&mut out);
    put_tick(&mut out, at(9), Seq(4));
    put_tally(&mut out, "acme", &Tally { duplicate: 1, conflict: 2, rejected: 3, capped: 4 });
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn writes_the_golden_bytes() {
    let golden = include_str!("../../../tests/golden/records_v1.hex");
    let golden: String = golden.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace).collect();
    assert_eq!(hex(&payload()), golden);
}

#[test]
fn reads_back_every_record_with_its_seqs() {
    let payload = payload();
    let records: Vec<Record<'_>> = records(&payload).collect::<Result<_, _>>().unwrap();
    assert_eq!(records.iter().map(Record::seqs).collect::<Vec<_>>(), [1, 1, 1, 1]);
    assert_eq!(records[0], Record::Genesis(genesis()));
    assert_eq!(records[2], Record::Tick { effective: at(9), horizon: Seq(4) });
    let tally = Tally { duplicate: 1, conflict: 2, rejected: 3, capped: 4 };
    assert_eq!(records[3], Record::Tally { tenant: "acme", tally });
    let Record::Events(events) = &records[1] else { panic!("not events") };
    assert_eq!((events.tenant, events.received_at), ("acme", at(2_000_000)));
    let events: Vec<EventRecord<'_>> = events.iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].customer, events[0].raw), ("c-1", b"{\"a\":1}".as_slice()));
    assert_eq!((events[0].key, events[0].timestamp), (EventKey(0xAB), at(1_000_000)));
    assert_eq!(events[0].feeds[0].dimensions.as_slice(), [Some("gpt"), None]);
    assert_eq!(events[0].feeds[0].value, Value::Quantity(Quantity::from_integer(3)));
    assert_eq!(events[0].feeds[1].value, Value::Member(9));
}

#[test]
fn an_events_record_that_stayed_empty_is_taken_back() {
    let mut out = vec![1, 2];
    EventsWriter::start(&mut out, "acme", at(0)).finish(&mut out);
    assert_eq!(out, [1, 2]);
}

#[test]
fn refuses_every_truncation_and_an_unknown_kind() {
    let payload = payload();
    let read = |bytes: &[u8]| -> Result<usize, RecordError> {
        records(bytes).try_fold(0, |count, record| {
            let record = record?;
            if let Record::Events(events) = &record {
                events.iter().try_for_each(|event| event.map(drop))?;
            }
            Ok(count + 1)
        })
    };
    let whole = read(&payload).unwrap();
    for end in 0..payload.len() {
        assert!(read(&payload[..end]).is_err() || read(&payload[..end]).unwrap() < whole, "cut at {end}");
    }
    let mut unknown = payload.clone();
    unknown[0] = 99;
    assert_eq!(read(&unknown), Err(RecordError::UnknownKind { kind: 99, at: 0 }));
}

#[test]
fn an_events_record_with_a_wrong_count_is_refused() {
    let mut out = Vec::new();
    let mut events = EventsWriter::start(&mut out, "acme", at(0));
    events.push(&mut out, &event_bytes());
    let count_at = events.count_at;
    events.finish(&mut out);
    for wrong in [0u32, 2] {
        out[count_at..count_at + 4].copy_from_slice(&wrong.to_le_bytes());
        let record = records(&out).next().unwrap().unwrap();
        let Record::Events(events) = record else { panic!("not events") };
        assert!(events.iter().any(|event| event.is_err()), "count {wrong}");
    }
}

#[test]
fn genesis_keeps_its_key_out_of_debug() {
    assert!(!format!("{:?}", genesis()).contains("7, 7"));
}
