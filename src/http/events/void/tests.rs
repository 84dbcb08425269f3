use super::*;
use crate::http::totals::test_meters;
use crate::model::Timestamp;

fn coded(problem: Option<Problem>) -> (u16, &'static str, String) {
    match problem {
        Some(Problem::Coded { status, code, pointer, detail }) => {
            assert!(!detail.is_empty());
            (status.as_u16(), code, pointer.unwrap_or_default())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_body_names_the_event_and_the_reason_and_may_hold_what_counts_instead() {
    let plain = Void::read(br#"{"usage_event_id":"e","reason":"test traffic"}"#).unwrap();
    let expected =
        Void { usage_event_id: "e".into(), source: "".into(), reason: "test traffic".into(), replacement: None };
    assert_eq!(plain, expected);
    let event = r#"{"usage_event_id":"f","source":"s2","customer":"c","meter":"monthly","quantity":1.50,"note":[1e3]}"#;
    let body = format!(r#"{{"usage_event_id":"e","source":"s","reason":"r","replacement": {event} }}"#);
    let replacement = Void::read(body.as_bytes()).unwrap().replacement.unwrap();
    let named = (replacement.usage_event_id.as_str(), replacement.source.as_str(), replacement.meter.as_deref());
    assert_eq!(named, ("f", "s2", Some("monthly")));
    assert_eq!(replacement.event, event, "numbers keep their digits");
}

#[test]
fn faults_of_the_body_have_a_code_and_are_pointed_at() {
    let long = "x".repeat(501);
    let reason = |text: &str| format!(r#"{{"usage_event_id":"e","reason":{text}}}"#);
    let replacement = |text: &str| format!(r#"{{"usage_event_id":"e","reason":"r","replacement":{text}}}"#);
    for (body, code, pointer) in [
        ("{}".to_owned(), "missing_field", "/usage_event_id"),
        (r#"{"usage_event_id":"","reason":"r"}"#.to_owned(), "missing_field", "/usage_event_id"),
        (r#"{"usage_event_id":5,"reason":"r"}"#.to_owned(), "invalid_field", "/usage_event_id"),
        (r#"{"usage_event_id":"e","source":null,"reason":"r"}"#.to_owned(), "invalid_field", "/source"),
        (r#"{"usage_event_id":"e"}"#.to_owned(), "missing_field", "/reason"),
        (reason("null"), "missing_field", "/reason"),
        (reason(r#""""#), "missing_field", "/reason"),
        (reason("[]"), "invalid_field", "/reason"),
        (reason(&format!("\"{long}\"")), "invalid_field", "/reason"),
        (reason(r#""r","force":true"#), "invalid_field", "/force"),
        (replacement("null"), "invalid_field", "/replacement"),
        (replacement("[]"), "invalid_field", "/replacement"),
        (replacement("{}"), "missing_field", "/replacement/usage_event_id"),
        (replacement(r#"{"usage_event_id":1}"#), "invalid_field", "/replacement/usage_event_id"),
        (replacement(r#"{"usage_event_id":"f","source":1}"#), "invalid_field", "/replacement/source"),
    ] {
        assert_eq!(coded(Void::read(body.as_bytes()).err()), (400, code, pointer.to_owned()), "{body}");
    }
    assert!(Void::read(reason(&format!("\"{}\"", &long[1..])).as_bytes()).is_ok());
    assert!(matches!(Void::read(b"[]"), Err(Problem::Member { pointer, .. }) if pointer.is_empty()));
    assert!(matches!(Void::read(b""), Err(Problem::Unreadable(_))));
}

#[test]
fn a_replacement_that_is_no_event_is_pointed_at_where_it_stands() {
    let replacement = |meter: Option<&str>| Replacement {
        usage_event_id: "f".into(),
        source: String::new(),
        meter: meter.map(str::to_owned),
        event: String::new(),
    };
    let refused = |meter, code, detail: &str| {
        let fault = Fault { index: 0, code, detail: detail.into() };
        coded(Some(replacement(meter).faulty(&fault, &test_meters())))
    };
    for (meter, code, detail, pointer) in [
        (Some("monthly"), Code::InvalidField, "/dimensions/model must be a string", "/replacement/dimensions/model"),
        (Some("monthly"), Code::InvalidQuantity, "/quantity is no number", "/replacement/quantity"),
        (Some("monthly"), Code::InvalidField, "/quantty is not a field of an event", "/replacement/quantty"),
        (Some("nope"), Code::UnknownMeter, "/meter \"nope\" feeds no meter", "/replacement/meter"),
        (None, Code::MissingField, "/meter is missing", "/replacement/meter"),
        (None, Code::MissingField, "/customer is missing", "/replacement/customer"),
        (None, Code::InvalidField, "an event must be a JSON object", "/replacement"),
    ] {
        assert_eq!(refused(meter, code, detail), (400, code.as_str(), pointer.to_owned()), "{detail}");
    }
}

#[test]
fn what_becomes_of_a_replacement_that_is_not_taken() {
    for (outcome, status, code) in [
        (Outcome::Duplicate(Seq(3)), 409, "duplicate_replacement"),
        (Outcome::Voided(Seq(3)), 409, "duplicate_replacement"),
        (Outcome::Conflict(Seq(3)), 409, "id_conflict"),
        (Outcome::Capped("full".into()), 409, "hard_cap"),
        (Outcome::Rejected(Code::TooEarly, "of tomorrow".into()), 400, "too_early"),
    ] {
        assert_eq!(coded(Some(not_replaced(&outcome))), (status, code, REPLACEMENT.to_owned()), "{outcome:?}");
    }
}

#[test]
fn every_refusal_has_its_status_and_code() {
    for (why, status, code) in [
        (RetractionRefused::UnknownEvent, 404, "unknown_event"),
        (RetractionRefused::EvidenceExpired, 409, "evidence_expired"),
        (RetractionRefused::Reverted("b".into()), 409, "reverted"),
        (RetractionRefused::AlreadyVoided(Seq(1)), 409, "already_voided"),
    ] {
        assert_eq!(coded(Some(refused(&why))), (status, code, String::new()));
    }
}

#[test]
fn a_void_says_what_it_did_and_the_same_when_it_is_repeated() {
    let void = Void { usage_event_id: "e".into(), source: "s".into(), reason: "again".into(), replacement: None };
    let at = Timestamp::from_millis(1_000).unwrap();
    let voided = Voided { seq: Seq(9), at, adjusted: 2, reason: "first".into() };
    let first = VoidShown::new(&void, Seq(7), voided, None);
    let mut expected = serde_json::json!({
        "usage_event_id": "e", "source": "s", "seq": 9, "event_seq": 7, "voided_at": "1970-01-01T00:00:01Z",
        "reason": "first", "adjusted": 2,
    });
    assert_eq!(serde_json::to_value(&first).unwrap(), expected);
    let replacement = Some(ReplacementShown { outcome: "duplicate", seq: 10 });
    let again = VoidShown { already_voided: true, replacement, ..first };
    expected["already_voided"] = true.into();
    expected["replacement"] = serde_json::json!({"outcome": "duplicate", "seq": 10});
    assert_eq!(serde_json::to_value(&again).unwrap(), expected);
}
