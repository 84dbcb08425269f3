use super::*;
use crate::engine::record::{EventEncoder, EventRecord, EventsWriter, put_tick, records};
use crate::meter::Value;
use crate::model::{EventKey, Fingerprint, MeterId, Quantity, Seq};

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

fn received_at() -> Timestamp {
    at(9)
}

fn put_event(out: &mut Vec<u8>, customer: &str, meters: &[u16]) {
    let mut encoder = EventEncoder::start(out, (EventKey(1), Fingerprint(2)), at(50), customer, b"{\"a\":1}");
    for meter in meters {
        let window = Window { start: at(i64::from(*meter)), end: at(100) };
        let value = match meter % 2 {
            0 => Value::Quantity(Quantity::from_integer(3)),
            _ => Value::Member(9),
        };
        encoder.feed(MeterId(*meter), (window, 0), value, [Some("gpt"), None, Some("")].into_iter());
    }
    encoder.finish();
}

/// Tick, two events, Tick, one event.
fn payload() -> Vec<u8> {
    let mut out = Vec::new();
    for events in [&[("c-1", &[7, 64][..]), ("c-2", &[])][..], &[("", &[3])]] {
        put_tick(&mut out, at(1), Seq(1));
        let mut writer = EventsWriter::start(&mut out, ("acme", None), received_at(), &[]);
        for (customer, meters) in events {
            let mut event = Vec::new();
            put_event(&mut event, customer, meters);
            writer.push(&mut out, &event, std::iter::empty());
        }
        writer.finish(&mut out);
    }
    out
}

#[test]
fn finds_what_the_records_hold_where_it_lies() {
    let payload = payload();
    let read = records(&payload).filter_map(|record| match record.unwrap() {
        Record::Events(events) => Some(events),
        _ => None,
    });
    let located: Vec<EventsAt<'_>> = events_at(&payload).collect::<Result<_, _>>().unwrap();
    assert_eq!(located.iter().map(|at| at.first).collect::<Vec<_>>(), [1, 4]);
    for (at, events) in located.iter().zip(read) {
        assert_eq!(at.events, events);
        let mut offset = at.offset + at.header_bytes;
        for (bytes, event) in at.events.slices().zip(events.iter()) {
            let (bytes, event) = (bytes.unwrap(), event.unwrap());
            assert_eq!(&payload[offset..offset + bytes.len()], bytes);
            assert_eq!(EventRecord::read(bytes), Some(event.clone()));
            let meters = event.feeds.iter().fold(0, |meters, feed| meters | 1 << (feed.meter.0 % 64));
            let window = event.feeds.first().map(|feed| feed.window);
            let customer = event.customer.as_bytes();
            assert_eq!(Skim::read(bytes), Some(Skim { timestamp: event.timestamp, customer, window, meters }));
            offset += bytes.len();
        }
        let header = read_events_header(&payload[at.offset..at.offset + at.header_bytes]).unwrap();
        assert_eq!((header.tenant, header.received_at, header.count), ("acme", received_at(), events.count));
    }
}

#[test]
fn every_truncation_is_noticed() {
    let payload = payload();
    let whole: Vec<usize> =
        records(&payload).scan(0, |end, record| record_end(end, &payload, record.is_ok())).collect();
    for end in 1..payload.len() {
        let read = events_at(&payload[..end]).collect::<Result<Vec<_>, _>>();
        assert_eq!(read.is_ok(), whole.contains(&end), "{end} bytes");
    }
    let mut event = Vec::new();
    put_event(&mut event, "c-1", &[1, 2]);
    assert!((0..event.len()).all(|end| Skim::read(&event[..end]).is_none()));
    let mut long = payload.clone();
    let record = events_at(&payload).next().unwrap().unwrap();
    long[record.offset + record.header_bytes - 8] += 1;
    let cut_short = events_at(&long).next().unwrap().unwrap().events.slices().collect::<Result<Vec<_>, _>>();
    assert!(cut_short.is_err(), "a count of more events than there are");
}

fn record_end(end: &mut usize, payload: &[u8], is_ok: bool) -> Option<usize> {
    assert!(is_ok);
    let len = u32::from_le_bytes(payload[*end + 1..*end + 5].try_into().unwrap());
    *end += HEADER_BYTES + len as usize;
    Some(*end)
}
