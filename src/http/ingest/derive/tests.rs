use std::sync::Arc;

use super::*;
use crate::http::ingest::framing::Form;
use crate::http::ingest::reader::tests::{Notes, Taken, definition};
use crate::http::ingest::reader::{self, Limits};
use crate::meter::{Aggregation, Definition};
use crate::model::MeterId;

/// 2026-01-02T03:04:05Z, five seconds after the start of a minute, in the five minutes that began at 03:00.
const AT: i64 = 1_767_323_045_000_000;
const MINUTE: i64 = 60_000_000;

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

/// `calls` and `tokens` derive ids by five minutes, `bytes` by one; `strict` needs them. `llm` feeds calls and bytes, `mixed`
/// tokens and strict.
fn meters() -> Arc<Meters> {
    let mut meters = Meters::new();
    let of = [("calls", "llm", 300), ("bytes", "llm", 60), ("tokens", "mixed", 300), ("strict", "mixed", 0)];
    for (id, (slug, event_type, bucket)) in of.into_iter().enumerate() {
        let derive_id = (bucket > 0).then(|| Duration::from_secs(bucket));
        let definition = Definition { derive_id, ..definition(slug, event_type, Aggregation::Sum, None) };
        meters.put(MeterId(id as u16), definition).unwrap();
    }
    Arc::new(meters)
}

fn read(form: Form, body: &str, received_at: i64) -> Result<Taken, (Code, String)> {
    let mut notes = Notes::new(meters()).received_at(at(received_at));
    let ids = reader::read(body, form, Limits { events_max: 9, require_timestamp: false }, &mut notes).unwrap();
    let taken = notes.events.remove(0)?;
    assert_eq!(ids.get(body, 0), Some(taken.id.as_str()), "the answer names what the journal keys");
    Ok(taken)
}

fn native(members: &str) -> Taken {
    native_at(members, AT)
}

fn native_at(members: &str, received_at: i64) -> Taken {
    read(Form::Json, &format!("{{{members}}}"), received_at).unwrap_or_else(|error| panic!("{members}: {error:?}"))
}

fn cloudevent(members: &str, received_at: i64) -> Taken {
    let body = format!(r#"{{"specversion":"1.0","source":"s","subject":"c","type":"llm"{members}}}"#);
    read(Form::CloudEvent, &body, received_at).unwrap_or_else(|error| panic!("{members}: {error:?}"))
}

const EVENT: &str =
    r#""customer":"c","meter":"calls","quantity":1.5,"dimensions":{"model":"m","n":{"a":1,"b":2}},"note":"x""#;

#[test]
fn an_event_has_the_same_id_and_fingerprint_however_it_is_written() {
    let first = native(EVENT);
    for other in [
        r#""note":"x","dimensions":{"n":{"b":2.0,"a":10e-1},"model":"m"},"quantity":"1.50","meter":"calls","customer":"c""#,
        &format!(r#"{EVENT},"usage_event_id":null"#),
        &format!(r#"{EVENT},"usage_event_id":"""#),
        &format!(r#"{EVENT},"source":"""#),
        &format!(r#"{EVENT},"timestamp":"2026-01-02T03:00:00Z""#),
        &format!(r#"{EVENT},"timestamp":"2026-01-02T04:04:59.999999+01:00""#),
    ] {
        let again = native(other);
        assert_eq!((&again.id, again.fingerprint), (&first.id, first.fingerprint), "{other}");
        assert_eq!(again.raw, format!("{{{other}}}"), "the evidence is as it was sent");
    }
    assert_eq!(first.timestamp, None);
}

#[test]
fn the_id_is_a_format_a_retry_across_an_upgrade_rests_on_it() {
    // Computed by another program, from docs/FORMATS.md.
    assert_eq!(native(EVENT).id, "derived:4eb40830e90daf730c7f125b00d1df9f");
    assert_eq!(cloudevent(r#","data":{"n":1}"#, AT).id, "derived:d6fcc324f7f8ccdae8a57bd118ba3965");
}

#[test]
fn any_difference_but_the_time_within_the_bucket_makes_another_id() {
    let mut ids: Vec<String> = [
        EVENT,
        &EVENT.replace("1.5", "1.6"),
        &EVENT.replace(r#""quantity":1.5,"#, ""),
        &EVENT.replace(r#""model":"m""#, r#""model":"n""#),
        &EVENT.replace(r#""a":1"#, r#""a":"1""#),
        &EVENT.replace(r#""note":"x""#, r#""note":"y""#),
        &EVENT.replace(r#""customer":"c""#, r#""customer":"d""#),
        &EVENT.replace("calls", "tokens"),
        &format!(r#"{EVENT},"source":"s""#),
        &format!(r#"{EVENT},"timestamp":"2026-01-02T02:59:59.999999Z""#),
        &format!(r#"{EVENT},"timestamp":"2026-01-02T03:05:00Z""#),
        &format!(r#"{EVENT},"timestamp":"1969-12-31T23:59:59Z""#),
        &format!(r#"{EVENT},"timestamp":"1970-01-01T00:00:00Z""#),
    ]
    .map(|members| native(members).id)
    .to_vec();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
    let plain = |id: &String| {
        let digits = id.strip_prefix("derived:").unwrap_or_default();
        digits.len() == 32 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    };
    assert!(ids.iter().all(plain), "{ids:?}");
}

#[test]
fn only_a_retry_with_its_time_can_cross_the_edge_of_a_bucket() {
    let timed = format!(r#"{EVENT},"timestamp":{}"#, AT / 1_000);
    for (members, later, same) in [
        (EVENT, 54_999_999, true),
        (EVENT, 55_000_000, false),
        (timed.as_str(), 55_000_000, true),
        (timed.as_str(), 3 * 24 * 60 * MINUTE, true),
    ] {
        assert_eq!(native(members).id == native_at(members, AT + later).id, same, "{members} {later} µs later");
    }
}

#[test]
fn an_event_with_an_id_keeps_it_and_its_time_is_part_of_it() {
    let named = format!(r#"{EVENT},"usage_event_id":"e""#);
    assert_eq!(native(&named).id, "e");
    let timed = |millis: i64| native(&format!(r#"{named},"timestamp":{millis}"#)).fingerprint;
    assert_ne!(timed(AT / 1_000), timed(AT / 1_000 + 1));
}

#[test]
fn without_the_option_an_id_is_missing_whatever_else_is_wrong() {
    for (members, detail) in [
        (
            r#""customer":"c","meter":"strict""#,
            "/usage_event_id is missing, and meter \"strict\" has no derive_id to make one by",
        ),
        (
            r#""customer":"c","meter":"strict","quantity":"x""#,
            "/usage_event_id is missing, and meter \"strict\" has no derive_id to make one by",
        ),
        (r#""customer":"c","meter":"nope""#, "/usage_event_id is missing"),
        (r#""customer":"c""#, "/usage_event_id is missing"),
        (r#""customer":"c","meter":7"#, "/usage_event_id is missing"),
        (r#""meter":"calls""#, "/customer is missing"),
    ] {
        let refused = read(Form::Json, &format!("{{{members}}}"), AT);
        assert_eq!(refused.unwrap_err(), (Code::MissingField, detail.to_owned()), "{members}");
    }
    let wrong = read(Form::Json, &format!(r#"{{{EVENT},"usage_event_id":5}}"#), AT);
    assert_eq!(wrong.unwrap_err(), (Code::InvalidField, "/usage_event_id must be a string".to_owned()));
    for (event_type, detail) in
        [("mixed", "/id is missing, and meter \"strict\" has no derive_id to make one by"), ("nope", "/id is missing")]
    {
        let body = format!(r#"{{"specversion":"1.0","source":"s","subject":"c","type":"{event_type}"}}"#);
        let refused = read(Form::CloudEvent, &body, AT);
        assert_eq!(refused.unwrap_err(), (Code::MissingField, detail.to_owned()));
    }
}

#[test]
fn a_cloudevent_is_one_within_the_smallest_bucket_of_its_meters() {
    let first = cloudevent(r#","data":{"n":1,"m":"x"}"#, AT);
    let same = [
        (r#","id":null,"data":{"m":"x","n":1.0},"time":null,"traceparent":"00-1""#, AT + 54_999_999),
        (r#","data":{"n":1,"m":"x"},"time":"2026-01-02T03:04:59Z""#, AT + 9 * MINUTE),
    ];
    for (members, received_at) in same {
        let again = cloudevent(members, received_at);
        assert_eq!((&again.id, again.fingerprint), (&first.id, first.fingerprint), "{members}");
    }
    for (members, received_at) in [
        (r#","data":{"n":1,"m":"x"}"#, AT + 55_000_000),
        (r#","data":{"n":1,"m":"x"}"#, AT - 5_000_001),
        (r#","data":{"n":2,"m":"x"}"#, AT),
        (r#","data":{"n":1,"m":"x"},"ext":1"#, AT),
    ] {
        assert_ne!(cloudevent(members, received_at).id, first.id, "{members}");
    }
}

#[test]
fn evidence_leads_back_to_the_id() {
    let hasher = || Hasher::new(b"0123456789abcdef");
    let timed = format!(r#"{EVENT},"timestamp":{}"#, AT / 1_000);
    let events = [native(EVENT), native(&timed), cloudevent(r#","data":{"n":1}"#, AT)];
    for taken in events {
        let time = taken.timestamp.unwrap_or(at(AT));
        let found = |time, id: &str| again(&taken.raw, time, &meters(), hasher(), |made| made == id);
        assert_eq!(found(time, &taken.id).as_ref(), Some(&taken.id));
        assert_eq!(found(time, "derived:0"), None);
        assert_eq!(found(at(AT + 5 * MINUTE), &taken.id), None);
    }
    assert_eq!(again("{", at(AT), &meters(), hasher(), |_| true), None);
    assert_eq!(
        again(&native(&format!(r#"{EVENT},"usage_event_id":"e""#)).raw, at(AT), &meters(), hasher(), |_| true),
        None
    );
}
