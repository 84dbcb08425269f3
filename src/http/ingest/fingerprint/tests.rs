use super::*;
use crate::http::ingest::cloudevent::CloudEvent;
use crate::http::ingest::json::{Scanner, Tape};
use crate::http::ingest::native::NativeEvent;
use crate::meter::Meters;

fn native(text: &str) -> Fingerprint {
    let mut tape = Tape::default();
    Scanner::new(text).value(&mut tape, 0).unwrap();
    let mut fingerprinter = Fingerprinter::new(Hasher::new(b"0123456789abcdef"));
    NativeEvent::read(tape.root(), &Meters::new())
        .unwrap_or_else(|error| panic!("{text}: {error:?}"))
        .fingerprint(&mut fingerprinter);
    fingerprinter.finish()
}

fn cloudevent(members: &str) -> Fingerprint {
    let text = format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"t","subject":"c"{members}}}"#);
    let mut tape = Tape::default();
    Scanner::new(&text).value(&mut tape, 0).unwrap();
    let mut fingerprinter = Fingerprinter::new(Hasher::new(b"0123456789abcdef"));
    CloudEvent::read(tape.root(), &Meters::new())
        .unwrap_or_else(|error| panic!("{text}: {error:?}"))
        .fingerprint(&mut fingerprinter);
    fingerprinter.finish()
}

fn with(members: &str) -> String {
    format!(r#"{{"usage_event_id":"e","customer":"c","meter":"m"{members}}}"#)
}

#[test]
fn members_that_are_only_carried_along_belong_to_the_event() {
    assert_eq!(native(&with(r#","colour":"red""#)), native(&with(r#","colour":"red""#)));
    assert_ne!(native(&with(r#","colour":"red""#)), native(&with(r#","colour":"blue""#)));
    assert_ne!(native(&with(r#","colour":"red""#)), native(&with("")));
}

#[test]
fn the_order_of_members_does_not_matter_at_any_depth() {
    let one = r#"{"usage_event_id":"e","customer":"c","meter":"m","dimensions":{"a":{"x":1,"y":[1,2]},"b":"z"}}"#;
    let other = r#"{"dimensions":{"b":"z","a":{"y":[1,2],"x":1}},"meter":"m","customer":"c","usage_event_id":"e"}"#;
    assert_eq!(native(one), native(other));
}

#[test]
fn equal_numbers_are_equal_however_they_are_written() {
    for text in ["1", "1.0", "1e0", "10e-1", "0.1E1", "1.000000", "\"1\"", "\"1.0\""] {
        assert_eq!(native(&with(&format!(r#","quantity":{text}"#))), native(&with(r#","quantity":1"#)), "{text}");
    }
    for (one, other) in [("100", "1e2"), ("0", "-0.0"), ("0", "0e9"), ("-1.50", "-15e-1"), ("1e-30", "0.1e-29")] {
        let (one, other) = (format!(r#","data":{{"n":{one}}}"#), format!(r#","data":{{"n":{other}}}"#));
        assert_eq!(cloudevent(&one), cloudevent(&other), "{one} {other}");
    }
}

#[test]
fn equal_instants_are_equal_however_they_are_written() {
    let at = |text: &str| native(&with(&format!(r#","timestamp":{text}"#)));
    for text in
        ["\"2026-01-02T05:04:05.5+02:00\"", "1767323045500", "\"2026-01-02T03:04:05.500000Z\"", "1767323045500.0"]
    {
        assert_eq!(at(text), at("\"2026-01-02T03:04:05.5Z\""), "{text}");
    }
}

#[test]
fn the_key_nulls_and_trace_headers_are_left_out() {
    let other_key = r#"{"usage_event_id":"f","source":"s","customer":"c","meter":"m"}"#;
    assert_eq!(native(other_key), native(&with("")));
    let extra = r#","time":null,"datacontenttype":null,"data":null,"traceparent":"00-1-2-3","tracestate":"x=y""#;
    assert_eq!(cloudevent(extra), cloudevent(""));
}

#[test]
fn any_other_difference_shows() {
    let natives = [
        with(""),
        with(r#","quantity":1"#),
        with(r#","quantity":-1"#),
        with(r#","quantity":10"#),
        with(r#","quantity":0.1"#),
        with(r#","timestamp":1"#),
        with(r#","dimensions":{}"#),
        with(r#","dimensions":{"a":null}"#),
        with(r#","dimensions":{"a":"1"}"#),
        with(r#","dimensions":{"a":1}"#),
        with(r#","dimensions":{"a":true}"#),
        with(r#","dimensions":{"a":false}"#),
        with(r#","dimensions":{"a":[]}"#),
        with(r#","dimensions":{"a":{}}"#),
        with(r#","dimensions":{"a":[1,2]}"#),
        with(r#","dimensions":{"a":[2,1]}"#),
        with(r#","dimensions":{"a":[[1],2]}"#),
        with(r#","dimensions":{"a":[[1,2]]}"#),
        with(r#","dimensions":{"a":"b","c":"d"}"#),
        with(r#","dimensions":{"a":"d","c":"b"}"#),
        with(r#","dimensions":{"a":{"c":"d"},"b":{}}"#),
        with(r#","dimensions":{"a":{},"b":{"c":"d"}}"#),
        with(r#","dimensions":{"ab":"c"}"#),
        with(r#","dimensions":{"a":"bc"}"#),
        r#"{"usage_event_id":"e","customer":"m","meter":"c"}"#.to_owned(),
        r#"{"usage_event_id":"e","customer":"c","meter":"m2"}"#.to_owned(),
    ];
    let cloudevents = [
        "",
        r#","data":{}"#,
        r#","ext":"1""#,
        r#","ext":1"#,
        r#","time":"1970-01-01T00:00:00Z""#,
        r#","data":{"n":10}"#,
        r#","data":{"n":100}"#,
    ];
    let mut seen: Vec<u32> = natives.iter().map(|text| native(text).0).collect();
    seen.extend(cloudevents.iter().map(|members| cloudevent(members).0));
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count);
}

#[test]
fn clearing_forgets_a_rejected_event() {
    let mut fingerprinter = Fingerprinter::new(Hasher::new(b"0123456789abcdef"));
    let untouched = fingerprinter.finish();
    fingerprinter.text("customer", "c");
    fingerprinter.clear();
    assert_eq!(fingerprinter.finish(), untouched);
}
