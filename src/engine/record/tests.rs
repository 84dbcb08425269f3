use super::*;
use crate::meter::{BillingPeriod, Value};
use crate::model::{EventKey, Fingerprint, Quantity, hex};

const HOUR: i64 = 3_600_000_000;

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

fn window(start: i64, end: i64) -> Window {
    Window { start: at(start), end: at(end) }
}

fn genesis() -> Genesis {
    Genesis { store_id: 0x0102, dedupe_key: [7; 16], incarnation: Incarnation(1), created_at: at(5) }
}

fn periods() -> [BillingPeriod; 2] {
    let period = |label: &str, start, end| BillingPeriod { label: label.parse().unwrap(), bounds: window(start, end) };
    [period("1970-01", 0, 744 * HOUR), period("1970-02", 744 * HOUR, 1_416 * HOUR)]
}

/// One event that feeds two meters, as it stands in an Events record, and the places of its `late` bytes.
fn first_event() -> (Vec<u8>, Vec<u32>) {
    let mut out = Vec::new();
    let place = (window(0, HOUR), 0);
    let identity = (EventKey(0xAB), Fingerprint(0xCD));
    let mut encoder = EventEncoder::start(&mut out, identity, at(1_000_000), "c-1", b"{\"a\":1}");
    let three = Value::Quantity(Quantity::from_integer(3));
    let late = vec![
        encoder.feed(MeterId(0), place, three, [Some("gpt"), None].into_iter()),
        encoder.feed(MeterId(1), place, Value::Member(9), [].into_iter()),
    ];
    encoder.finish();
    (out, late)
}

/// Another one; it comes too late for the second window.
fn second_event() -> (Vec<u8>, Vec<u32>) {
    // Where an event begins in its buffer is no matter to the places it answers with.
    let mut out = vec![0xEE; 3];
    let identity = (EventKey(0xAC), Fingerprint(0xCE));
    let mut encoder = EventEncoder::start(&mut out, identity, at(744 * HOUR), "c-2", b"{}");
    let least = Value::Quantity(Quantity::from_scaled(1));
    let half = Value::Quantity(Quantity::parse("-0.5").unwrap());
    let in_time = (window(744 * HOUR, 745 * HOUR), 1);
    let late = vec![
        encoder.feed(MeterId(0), in_time, least, [Some(""), Some("x")].into_iter()),
        encoder.feed(MeterId(1), (window(-HOUR, 0), 0), half, [].into_iter()),
    ];
    let range = encoder.finish();
    assert_eq!(range.start, 3);
    (out[range].to_vec(), late)
}

fn settings() -> Customer {
    let json = r#"{"plan":"pro","schedule":{"eras":[{"from":null,"anchor":15,"time_zone":null},
        {"from":"2026-11","anchor":31,"time_zone":"Asia/Tokyo"}]}}"#;
    serde_json::from_str(json).unwrap()
}

fn closed() -> [Closed<'static>; 2] {
    let windows = Closed {
        kind: ClosedKind::Windows,
        meter: MeterId(1),
        bounds: window(0, HOUR),
        series: vec![b"one".as_slice(), b""],
    };
    let periods = Closed {
        kind: ClosedKind::Periods,
        meter: MeterId(0),
        bounds: window(0, 744 * HOUR),
        series: vec![b"\x00\xff".as_slice()],
    };
    [windows, periods]
}

const TALLY: Tally = Tally { duplicate: 1, conflict: 2, rejected: 3, capped: 4 };

fn payload() -> Vec<u8> {
    let mut out = Vec::new();
    put_genesis(&mut out, &genesis());
    let mut events = EventsWriter::start(&mut out, ("acme", None), at(2_000_000), &periods());
    events.push(&mut out, &first_event().0, [].into_iter());
    let (second, late) = second_event();
    events.push(&mut out, &second, [late[1]].into_iter());
    events.finish(&mut out);
    put_tick(&mut out, at(9), Seq(4));
    put_tally(&mut out, "acme", &TALLY);
    closed().iter().for_each(|closed| put_closed(&mut out, closed));
    put_customer_changed(&mut out, "acme", "c-1", &settings());
    put_clock_reset(&mut out, at(-1), "it jumped");
    out
}

/// Reads all of it, events included; answers with the number of records.
fn read(bytes: &[u8]) -> Result<usize, RecordError> {
    records(bytes).try_fold(0, |count, record| {
        let record = record?;
        if let Record::Events(events) = &record {
            events.iter().try_for_each(|event| event.map(drop))?;
        }
        Ok(count + 1)
    })
}

/// Where each record begins, and where the last one ends.
fn starts(payload: &[u8]) -> Vec<usize> {
    let mut starts = vec![0];
    while *starts.last().unwrap() < payload.len() {
        let start = *starts.last().unwrap();
        let length = u32::from_le_bytes(payload[start + 1..start + HEADER_BYTES].try_into().unwrap());
        starts.push(start + HEADER_BYTES + length as usize);
    }
    starts
}

#[test]
fn writes_the_golden_bytes() {
    let golden = include_str!("../../../tests/golden/records_v2.hex");
    let golden: String = golden.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace).collect();
    assert_eq!(hex::encode(&payload()), golden);
}

#[test]
fn reads_back_every_record_with_its_seqs() {
    let payload = payload();
    let records: Vec<Record<'_>> = records(&payload).collect::<Result<_, _>>().unwrap();
    assert_eq!(records.iter().map(Record::seqs).collect::<Vec<_>>(), [1, 2, 1, 1, 1, 1, 1, 1]);
    assert_eq!(records[0], Record::Genesis(genesis()));
    assert_eq!(records[2], Record::Tick { effective: at(9), horizon: Seq(4) });
    assert_eq!(records[3], Record::Tally { tenant: "acme", tally: TALLY });
    let [windows, periods] = closed();
    assert_eq!((&records[4], &records[5]), (&Record::Closed(windows), &Record::Closed(periods)));
    let settings = Box::new(settings());
    assert_eq!(records[6], Record::CustomerChanged { tenant: "acme", customer: "c-1", settings });
    assert_eq!(records[7], Record::ClockReset { effective: at(-1), reason: "it jumped" });
}

#[test]
fn reads_back_events_with_their_periods_and_what_came_late() {
    let payload = payload();
    let Record::Events(events) = records(&payload).nth(1).unwrap().unwrap() else { panic!("not events") };
    assert_eq!((events.tenant, events.received_at, events.count), ("acme", at(2_000_000), 2));
    assert_eq!(events.periods, periods());
    let events: Vec<EventRecord<'_>> = events.iter().collect::<Result<_, _>>().unwrap();
    assert_eq!((events[0].customer, events[0].raw), ("c-1", b"{\"a\":1}".as_slice()));
    assert_eq!((events[0].key, events[0].fingerprint), (EventKey(0xAB), Fingerprint(0xCD)));
    assert_eq!(events[0].timestamp, at(1_000_000));
    assert_eq!(events[0].feeds[0].dimensions.as_slice(), [Some("gpt"), None]);
    assert_eq!(events[0].feeds[0].value, Value::Quantity(Quantity::from_integer(3)));
    assert_eq!(events[0].feeds[1].value, Value::Member(9));
    assert_eq!(events[1].feeds[0].dimensions.as_slice(), [Some(""), Some("x")]);
    assert_eq!(events[1].feeds[1].window, window(-HOUR, 0));
    let feeds = events.iter().flat_map(|event| &event.feeds);
    let decided: Vec<_> = feeds.map(|feed| (feed.meter, feed.late, feed.period)).collect();
    assert_eq!(
        decided,
        [(MeterId(0), false, 0), (MeterId(1), false, 0), (MeterId(0), false, 1), (MeterId(1), true, 0)]
    );
}

#[test]
fn pushing_an_event_sets_exactly_its_late_bytes() {
    let (event, places) = first_event();
    for chosen in [vec![], vec![0], vec![1], vec![0, 1]] {
        let mut out = Vec::new();
        let mut events = EventsWriter::start(&mut out, ("acme", None), at(0), &periods());
        events.push(&mut out, &second_event().0, [].into_iter());
        let start = out.len();
        events.push(&mut out, &event, chosen.iter().map(|feed: &usize| places[*feed]));
        let end = out.len();
        events.finish(&mut out);
        let differ: Vec<usize> = (start..end).filter(|at| out[*at] != event[at - start]).map(|at| at - start).collect();
        let wanted: Vec<usize> = chosen.iter().map(|feed| places[*feed] as usize).collect();
        assert_eq!(differ, wanted);
        let Record::Events(events) = records(&out).next().unwrap().unwrap() else { panic!("not events") };
        let read: Vec<EventRecord<'_>> = events.iter().collect::<Result<_, _>>().unwrap();
        assert!(read[0].feeds.iter().all(|feed| !feed.late), "of the event before it, nothing changes");
        let late: Vec<usize> = (0..2).filter(|feed| read[1].feeds[*feed].late).collect();
        assert_eq!(late, chosen);
    }
}

#[test]
fn an_encoded_event_is_read_without_its_record() {
    let (event, _) = second_event();
    let read = EventRecord::read(&event).expect("a whole event");
    assert_eq!((read.customer, read.feeds.len()), ("c-2", 2));
    assert!((0..event.len()).all(|end| EventRecord::read(&event[..end]).is_none()), "every truncation is noticed");
    assert_eq!(EventRecord::read(&[&event[..], &[0]].concat()), None, "nothing may follow");
}

#[test]
fn an_events_record_that_stayed_empty_is_taken_back() {
    let mut out = vec![1, 2];
    EventsWriter::start(&mut out, ("acme", None), at(0), &periods()).finish(&mut out);
    assert_eq!(out, [1, 2]);
}

#[test]
fn refuses_every_truncation_but_those_between_records() {
    let payload = payload();
    let starts = starts(&payload);
    assert_eq!(read(&payload), Ok(8));
    for end in 0..payload.len() {
        match starts.iter().position(|start| *start == end) {
            Some(whole) => assert_eq!(read(&payload[..end]), Ok(whole)),
            None => assert!(read(&payload[..end]).is_err(), "cut at {end}"),
        }
    }
}

#[test]
fn refuses_a_record_whose_body_is_too_short_or_too_long_for_what_it_says() {
    let payload = payload();
    for range in starts(&payload).windows(2) {
        let record = &payload[range[0]..range[1]];
        assert_eq!(read(record), Ok(1));
        for length in HEADER_BYTES..=record.len() + 1 {
            let mut changed = record.to_vec();
            changed.resize(length, 0);
            let body = (length - HEADER_BYTES) as u32;
            changed[1..HEADER_BYTES].copy_from_slice(&body.to_le_bytes());
            let is_whole = length == record.len();
            assert_eq!(read(&changed).is_ok(), is_whole, "kind {} with {body} bytes", record[0]);
        }
    }
}

#[test]
fn refuses_unknown_kinds_and_impossible_bytes() {
    let payload = payload();
    let starts = starts(&payload);
    let with = |at: usize, byte: u8| {
        let mut changed = payload.clone();
        changed[at] = byte;
        read(&changed)
    };
    for kind in [0, 32, 99, 255] {
        assert_eq!(with(0, kind), Err(RecordError::UnknownKind { kind, at: 0 }));
        assert_eq!(with(starts[3], kind), Err(RecordError::UnknownKind { kind, at: starts[3] }));
    }
    assert_eq!(with(HEADER_BYTES, 1), Err(RecordError::Format { found: 1 }), "the format before this one");
    let closed = starts[4] + HEADER_BYTES;
    assert_eq!(with(closed, 2), Err(RecordError::Malformed(starts[4])), "neither windows nor periods");
    let late = payload.windows(8).position(|bytes| bytes == [0, 0, 0, 0, 1, 9, 0, 0]).expect("the member's feed") - 17;
    assert_eq!(payload[late - 2..late], [1, 0], "its meter");
    assert!(with(late, 1).is_ok() && with(late, 2).is_err(), "a feed is late or not");
    let text = payload.windows(4).position(|bytes| bytes == b"acme").unwrap();
    assert!(with(text, 0xFF).is_err(), "not UTF-8");
    let label = payload.windows(7).position(|bytes| bytes == b"1970-02").unwrap();
    assert!(with(label + 4, b'x').is_err(), "no period's name");
}

#[test]
fn an_events_record_with_a_wrong_count_is_refused() {
    let mut out = Vec::new();
    let mut events = EventsWriter::start(&mut out, ("acme", None), at(0), &periods());
    events.push(&mut out, &first_event().0, [].into_iter());
    let count_at = events.count_at;
    events.finish(&mut out);
    for wrong in [0u32, 2, u32::MAX] {
        out[count_at..count_at + 4].copy_from_slice(&wrong.to_le_bytes());
        let record = records(&out).next().unwrap().unwrap();
        let Record::Events(events) = record else { panic!("not events") };
        assert!(events.iter().any(|event| event.is_err()), "count {wrong}");
    }
}

#[test]
fn a_closed_record_or_a_period_table_with_a_wrong_count_is_refused() {
    let payload = payload();
    let starts = starts(&payload);
    let series = starts[4] + HEADER_BYTES + 1 + 2 + 16;
    let periods = starts[1] + HEADER_BYTES + 2 + 4 + 8 + 4;
    for (place, is) in [(series, 2), (periods, 2)] {
        assert_eq!(payload[place..place + 4], [is, 0, 0, 0]);
        for wrong in [0, 1, 3, u32::MAX] {
            let mut changed = payload.clone();
            changed[place..place + 4].copy_from_slice(&wrong.to_le_bytes());
            assert!(read(&changed).is_err(), "count {wrong} at {place}");
        }
    }
}

#[test]
fn genesis_keeps_its_key_out_of_debug() {
    assert!(!format!("{:?}", genesis()).contains("7, 7"));
}
