use super::*;
use crate::engine::Hasher;
use crate::http::ingest::json::Fault;
use crate::meter::{Aggregation, Definition, Late};
use crate::model::{Duration, Fingerprint, Quantity, Timestamp};

/// Writes down what it is handed.
pub struct Notes {
    meters: Arc<Meters>,
    received_at: Timestamp,
    pub events: Vec<Result<Taken, (Code, String)>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    pub id: String,
    pub source: String,
    customer: String,
    pub timestamp: Option<Timestamp>,
    pub fingerprint: Fingerprint,
    pub raw: String,
    feeds: Vec<(u16, Value, Vec<Option<String>>)>,
}

impl Notes {
    pub fn new(meters: Arc<Meters>) -> Self {
        Self { meters, received_at: Timestamp::EPOCH, events: Vec::new() }
    }

    pub fn received_at(self, received_at: Timestamp) -> Self {
        Self { received_at, ..self }
    }
}

impl Sink for Notes {
    fn meters(&self) -> Arc<Meters> {
        self.meters.clone()
    }

    fn hasher(&self) -> Hasher {
        Hasher::new(b"0123456789abcdef")
    }

    fn received_at(&self) -> Timestamp {
        self.received_at
    }

    fn member(&self, text: &str) -> Value {
        Value::Member(self.hasher().hash128(text.as_bytes()))
    }

    fn reserve(&mut self, _events: usize, _bytes: usize) {}

    fn push(&mut self, event: &NewEvent<'_>) {
        let dimensions = |feed: &NewFeed<'_>| feed.dimensions.iter().map(|d| d.as_deref().map(str::to_owned)).collect();
        self.events.push(Ok(Taken {
            id: event.usage_event_id.to_owned(),
            source: event.source.to_owned(),
            customer: event.customer.to_owned(),
            timestamp: event.timestamp,
            fingerprint: event.fingerprint,
            raw: String::from_utf8(event.raw.to_vec()).unwrap(),
            feeds: event.feeds.iter().map(|feed| (feed.meter.0, feed.value, dimensions(feed))).collect(),
        }));
    }

    fn reject(&mut self, code: Code, detail: Box<str>) {
        self.events.push(Err((code, detail.into())));
    }
}

pub fn definition(slug: &str, event_type: &str, aggregation: Aggregation, value: Option<&str>) -> Definition {
    Definition {
        slug: slug.to_owned(),
        event_type: event_type.to_owned(),
        aggregation,
        value: value.map(|path| path.parse().unwrap()),
        dimensions: vec![("model".to_owned(), "$.model".parse().unwrap())],
        window: "1h".parse().unwrap(),
        time_zone: "UTC".to_owned(),
        grace: Duration::from_secs(3_600),
        late: Late::Adjust,
        allow_negative: slug == "credit",
        unique_members_max: 100,
        approximate: false,
        billing_period: Default::default(),
        billing_time_zone: None,
        derive_id: None,
    }
}

/// tokens 0, requests 1, users 2, credit 3
pub fn meters() -> Arc<Meters> {
    let mut meters = Meters::new();
    for (id, definition) in [
        definition("tokens", "llm", Aggregation::Sum, Some("$.usage.tokens")),
        definition("requests", "llm", Aggregation::Count, None),
        definition("users", "login", Aggregation::Unique, Some("$.user")),
        definition("credit", "refund", Aggregation::Sum, None),
    ]
    .into_iter()
    .enumerate()
    {
        meters.put(MeterId(id as u16), definition).unwrap();
    }
    Arc::new(meters)
}

fn read_body(form: Form, body: &str, require_timestamp: bool) -> Result<(Notes, Ids), FramingError> {
    let mut notes = Notes::new(meters());
    let ids = read(body, form, Limits { events_max: 100, require_timestamp }, &mut notes)?;
    assert_eq!(ids.len(), notes.events.len());
    Ok((notes, ids))
}

fn native(members: &str) -> Result<Taken, (Code, String)> {
    read_body(Form::Json, &format!("{{{members}}}"), false).unwrap().0.events.remove(0)
}

fn tokens(members: &str) -> Result<Taken, (Code, String)> {
    native(&format!(r#""usage_event_id":"e","customer":"c","meter":"tokens"{members}"#))
}

fn cloudevent(event_type: &str, members: &str) -> Result<Taken, (Code, String)> {
    let body = format!(r#"{{"specversion":"1.0","id":"e","source":"s","subject":"c","type":"{event_type}"{members}}}"#);
    read_body(Form::CloudEvent, &body, false).unwrap().0.events.remove(0)
}

fn quantity(text: &str) -> Value {
    Value::Quantity(Quantity::parse(text).unwrap())
}

#[test]
fn a_native_event_feeds_its_meter_with_quantity_value_or_one() {
    let value = |members: &str| tokens(members).unwrap().feeds[0].1;
    assert_eq!(value(""), quantity("1"));
    assert_eq!(value(r#","quantity":2.5"#), quantity("2.5"));
    assert_eq!(value(r#","quantity":"1e3""#), quantity("1000"));
    assert_eq!(value(r#","dimensions":{"usage":{"tokens":"7"}}"#), quantity("7"));
    assert_eq!(value(r#","quantity":3,"dimensions":{"usage":{"tokens":7}}"#), quantity("3"));
    assert_eq!(value(r#","dimensions":{"usage":{"tokens":null}}"#), quantity("1"));
    assert_eq!(value(r#","dimensions":{"usage":"none"}"#), quantity("1"));
}

#[test]
fn a_native_event_arrives_whole() {
    let body = r#"[ {"usage_event_id":"\u0065-1","customer":"größe","meter":"tokens","source":"gw","timestamp":1500,"dimensions":{"model":"gpt"}} ]"#;
    let (notes, ids) = read_body(Form::Json, body, true).unwrap();
    let taken = notes.events[0].clone().unwrap();
    assert_eq!((taken.id.as_str(), taken.source.as_str(), taken.customer.as_str()), ("e-1", "gw", "größe"));
    assert_eq!(taken.timestamp.map(Timestamp::micros), Some(1_500_000));
    assert_eq!(taken.raw, body[2..body.len() - 2]);
    assert_eq!(taken.feeds, [(0, quantity("1"), vec![Some("gpt".to_owned())])]);
    assert_eq!(ids.get(body, 0), Some("e-1"));
}

#[test]
fn bad_native_events_are_rejected_with_code_and_field() {
    use Code::*;
    let long = "x".repeat(257);
    let base = |id: &str, customer: &str, meter: &str| {
        format!(r#""usage_event_id":{id},"customer":{customer},"meter":{meter}"#)
    };
    let ok = base(r#""e""#, r#""c""#, r#""tokens""#);
    for (members, code, field) in [
        (String::new(), MissingField, "/usage_event_id"),
        (r#""usage_event_id":"e""#.to_owned(), MissingField, "/customer"),
        (r#""usage_event_id":"e","customer":"c""#.to_owned(), MissingField, "/meter"),
        (base("null", r#""c""#, r#""tokens""#), MissingField, "/usage_event_id"),
        (base(r#""""#, r#""c""#, r#""tokens""#), MissingField, "/usage_event_id"),
        (base("5", r#""c""#, r#""tokens""#), InvalidField, "/usage_event_id"),
        (base(&format!("\"{long}\""), r#""c""#, r#""tokens""#), InvalidField, "/usage_event_id"),
        (base(r#""a\u0000b""#, r#""c""#, r#""tokens""#), InvalidField, "/usage_event_id"),
        (base(r#""e""#, "\"\u{7f}\"", r#""tokens""#), InvalidField, "/customer"),
        (base(r#""e""#, "\"\u{85}\"", r#""tokens""#), InvalidField, "/customer"),
        (base(r#""e""#, "[]", r#""tokens""#), InvalidField, "/customer"),
        (base(r#""e""#, r#""c""#, r#""nope""#), UnknownMeter, "/meter"),
        (format!(r#"{ok},"source":null"#), InvalidField, "/source"),
        (format!(r#"{ok},"source":"{long}""#), InvalidField, "/source"),
        (format!(r#"{ok},"quantity":null"#), InvalidQuantity, "/quantity"),
        (format!(r#"{ok},"quantity":"NaN""#), InvalidQuantity, "/quantity"),
        (format!(r#"{ok},"quantity":"Infinity""#), InvalidQuantity, "/quantity"),
        (format!(r#"{ok},"quantity":"""#), InvalidQuantity, "/quantity"),
        (format!(r#"{ok},"quantity":true"#), InvalidQuantity, "/quantity"),
        (format!(r#"{ok},"quantity":[1]"#), InvalidQuantity, "/quantity"),
        (format!(r#"{ok},"quantity":0.1234567890123"#), InvalidQuantity, "/quantity"),
        (format!(r#"{ok},"quantity":1e27"#), QuantityOverflow, "/quantity"),
        (format!(r#"{ok},"quantity":-1"#), InvalidQuantity, "/quantity"),
        (format!(r#"{ok},"dimensions":{{"usage":{{"tokens":"many"}}}}"#), InvalidQuantity, "/dimensions/usage/tokens"),
        (format!(r#"{ok},"dimensions":{{"usage":{{"tokens":-1}}}}"#), InvalidQuantity, "/dimensions/usage/tokens"),
        (format!(r#"{ok},"timestamp":null"#), InvalidTimestamp, "/timestamp"),
        (format!(r#"{ok},"timestamp":"yesterday""#), InvalidTimestamp, "/timestamp"),
        (format!(r#"{ok},"timestamp":"2026-01-02T03:04:05""#), InvalidTimestamp, "/timestamp"),
        (format!(r#"{ok},"timestamp":1.5"#), InvalidTimestamp, "/timestamp"),
        (format!(r#"{ok},"timestamp":1e40"#), InvalidTimestamp, "/timestamp"),
        (format!(r#"{ok},"timestamp":true"#), InvalidTimestamp, "/timestamp"),
        (format!(r#"{ok},"dimensions":null"#), InvalidField, "/dimensions"),
        (format!(r#"{ok},"dimensions":[]"#), InvalidField, "/dimensions"),
        (format!(r#"{ok},"dimensions":{{"model":{{}}}}"#), InvalidField, "/dimensions/model"),
        (format!(r#"{ok},"dimensions":{{"model":"{long}"}}"#), InvalidField, "/dimensions/model"),
        (format!(r#"{ok},"quanitity":5"#), InvalidField, "did you mean \"quantity\"?"),
        (format!(r#"{ok},"data":{{}}"#), InvalidField, "did you mean \"dimensions\"?"),
        (format!(r#"{ok},"amount":5"#), InvalidField, "did you mean \"quantity\"?"),
    ] {
        let (got, detail) = native(&members).unwrap_err();
        assert_eq!(got, code, "{members}: {detail}");
        assert!(detail.contains(field), "{members}: {detail}");
    }
}

#[test]
fn a_detail_never_repeats_a_long_name_whole() {
    let (_, detail) =
        native(&format!(r#""usage_event_id":"e","customer":"c","meter":"{}""#, "ä".repeat(100_000))).unwrap_err();
    assert!(detail.len() < 200, "{detail}");
}

#[test]
fn elements_that_are_no_objects_are_rejected_one_by_one() {
    let (notes, ids) =
        read_body(Form::Json, r#"[null,1,"x",[],{"usage_event_id":"e","customer":"c","meter":"tokens"}]"#, false)
            .unwrap();
    assert!(notes.events[..4].iter().all(|event| matches!(event, Err((Code::InvalidField, _)))));
    assert!(notes.events[4].is_ok());
    assert_eq!(ids.get("", 0), None);
}

#[test]
fn an_unreadable_rest_is_the_bodys_fault() {
    let body = r#"{"usage_event_id":"e","customer":"c","meter":"tokens"}
{"usage_event_id":"f","customer":"c","meter":"tokens","dimensions":{"a":1,"a":2}}"#;
    let Err(error) = read_body(Form::Lines, body, false) else { panic!("the second line has a name twice") };
    assert_eq!(error, FramingError::Malformed { offset: 122, line: Some(2), fault: Fault::DuplicateName });
}

#[test]
fn a_cloudevent_feeds_every_meter_of_its_type() {
    let taken = cloudevent("llm", r#","data":{"usage":{"tokens":12},"model":1.0},"ext":"x""#).unwrap();
    let model = vec![Some("1".to_owned())];
    assert_eq!(taken.feeds, [(0, quantity("12"), model.clone()), (1, quantity("1"), model)]);
    assert_eq!((taken.id.as_str(), taken.source.as_str(), taken.customer.as_str()), ("e", "s", "c"));
    assert_eq!(cloudevent("refund", "").unwrap().feeds, [(3, quantity("1"), vec![None])]);
    let negative = native(r#""usage_event_id":"e","customer":"c","meter":"credit","quantity":-2"#).unwrap();
    assert_eq!(negative.feeds, [(3, quantity("-2"), vec![None])]);
}

#[test]
fn bad_cloudevents_are_rejected_with_code_and_field() {
    use Code::*;
    let data = r#","data":{"usage":{"tokens":1}}"#;
    for (event_type, members, code, field) in [
        ("nope", data.to_owned(), UnknownMeter, "/type"),
        ("llm", String::new(), MissingField, "/data/usage/tokens"),
        ("llm", r#","data":null"#.to_owned(), MissingField, "/data/usage/tokens"),
        ("llm", r#","data":{"usage":{}}"#.to_owned(), MissingField, "/data/usage/tokens"),
        ("llm", r#","data":{"usage":{"tokens":null}}"#.to_owned(), MissingField, "/data/usage/tokens"),
        ("llm", r#","data":{"usage":{"tokens":true}}"#.to_owned(), InvalidQuantity, "/data/usage/tokens"),
        ("llm", r#","data":[1]"#.to_owned(), InvalidField, "/data"),
        ("llm", r#","data":"text""#.to_owned(), InvalidField, "/data"),
        ("llm", r#","data_base64":"AAAA""#.to_owned(), InvalidField, "/data_base64"),
        ("llm", format!(r#"{data},"time":"now""#), InvalidTimestamp, "/time"),
        ("login", String::new(), MissingField, "/data/user"),
        ("login", r#","data":{"user":{}}"#.to_owned(), InvalidField, "/data/user"),
    ] {
        let (got, detail) = cloudevent(event_type, &members).unwrap_err();
        assert_eq!(got, code, "{members}: {detail}");
        assert!(detail.contains(field), "{members}: {detail}");
    }
    for (attribute, code, field) in [
        (r#""id":null,"source":"s","subject":"c","specversion":"1.0""#, MissingField, "/id"),
        (r#""id":"e","subject":"c","specversion":"1.0""#, MissingField, "/source"),
        (r#""id":"e","source":"s","specversion":"1.0""#, MissingField, "/subject"),
        (r#""id":"e","source":"s","subject":"c""#, MissingField, "/specversion"),
        (r#""id":"e","source":"s","subject":"c","specversion":"0.3""#, InvalidField, "/specversion"),
    ] {
        let body = format!(r#"{{"type":"llm",{attribute}{data}}}"#);
        let (got, detail) = read_body(Form::CloudEvent, &body, false).unwrap().0.events.remove(0).unwrap_err();
        assert_eq!((got, detail.contains(field)), (code, true), "{attribute}: {detail}");
    }
}

#[test]
fn members_of_a_unique_meter_are_texts_whatever_their_type() {
    let member = |members: &str| native(&format!(r#""usage_event_id":"e","customer":"c","meter":"users"{members}"#));
    let value = |members: &str| member(members).unwrap().feeds[0].1;
    assert_eq!(value(r#","dimensions":{"user":"42"}"#), value(r#","dimensions":{"user":42.0}"#));
    assert_eq!(value(r#","quantity":42"#), value(r#","dimensions":{"user":42}"#));
    assert_ne!(value(r#","dimensions":{"user":"a"}"#), value(r#","dimensions":{"user":"b"}"#));
    assert_eq!(member("").unwrap_err().0, Code::MissingField);
}

#[test]
fn events_without_a_time_are_rejected_where_one_is_required() {
    let body = r#"[{"usage_event_id":"e","customer":"c","meter":"tokens"}]"#;
    let (notes, _) = read_body(Form::Json, body, true).unwrap();
    assert_eq!(notes.events[0], Err((Code::MissingField, "/timestamp is missing".to_owned())));
    let body = r#"{"specversion":"1.0","id":"e","source":"s","subject":"c","type":"refund","time":null}"#;
    let (notes, _) = read_body(Form::CloudEvent, body, true).unwrap();
    assert_eq!(notes.events[0], Err((Code::MissingField, "/time is missing".to_owned())));
}

#[test]
fn a_rejected_event_leaves_no_trace_in_the_next_ones_fingerprint() {
    let good = r#"{"usage_event_id":"e","customer":"c","meter":"tokens","quantity":1}"#;
    let bad = r#"{"usage_event_id":"e","customer":"c","meter":"tokens","dimensions":{"model":[]}}"#;
    let (alone, _) = read_body(Form::Json, good, false).unwrap();
    let (after, _) = read_body(Form::Json, &format!("[{bad},{good}]"), false).unwrap();
    assert_eq!(alone.events[0], after.events[1]);
}
