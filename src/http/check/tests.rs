use serde_json::{Value, json};

use super::*;
use crate::engine::Verdict;
use crate::http::check::answer::Tally;
use crate::http::ingest::door::Fault;
use crate::http::totals::test_meters;
use crate::model::{Code, Quantity, Seq, Timestamp, Window};

fn read(body: &str) -> Result<Checks<'_>, Problem> {
    Checks::read(body, &test_meters())
}

fn coded(problem: Option<Problem>) -> (&'static str, String) {
    match problem {
        Some(Problem::Coded { code, pointer, detail, .. }) => {
            let pointer = pointer.unwrap_or_default();
            assert!(detail.starts_with(&pointer), "{detail}");
            (code, pointer)
        }
        other => panic!("{other:?}"),
    }
}

fn quantity(text: &str) -> Quantity {
    Quantity::parse(text).unwrap()
}

/// Of 1,000, of which 990.5 are used, so that up to 9.5 are allowed.
fn verdict(asked: Quantity) -> Verdict {
    let at = |millis| Timestamp::from_millis(millis).unwrap();
    Verdict {
        allowed: asked <= quantity("9.5"),
        used: quantity("990.5"),
        held: Quantity::ZERO,
        cap: Some("default".into()),
        soft: Some(quantity("800")),
        hard: Some(quantity("1000")),
        remaining: Some(quantity("9.5")),
        overage: Quantity::ZERO,
        bounds: Window { start: at(0), end: at(86_400_000) },
    }
}

fn answered(body: &str, outcomes: &[Outcome]) -> Result<(Value, Tally), Problem> {
    let meters = test_meters();
    let checks = Checks::read(body, &meters).unwrap();
    // One meter has no total that could be told.
    let verdict = |_: &str, meter: crate::model::MeterId, asked| (meter.0 == 0).then(|| verdict(asked));
    let (body, tally) = answer::render(&checks, outcomes, &meters, verdict)?;
    Ok((serde_json::from_slice(&body).unwrap(), tally))
}

#[test]
fn a_check_asks_for_one_unless_it_says_how_much() {
    let checks = read(r#" {"customer":"a\"b","meter":"monthly"} "#).unwrap();
    assert!(!checks.many && checks.events.is_empty());
    let check = &checks.items[0];
    assert_eq!((check.customer.as_ref(), check.meter.0, check.quantity), ("a\"b", 0, Quantity::ONE));
    let checks = read(r#"[{"customer":"a","meter":"weekly","quantity":"1.50","mode":"check"}]"#).unwrap();
    assert!(checks.many);
    assert_eq!((checks.items[0].meter.0, checks.items[0].quantity), (1, quantity("1.5")));
    assert!(read("[]").unwrap().items.is_empty());
}

#[test]
fn what_is_consumed_is_written_down_as_it_was_sent() {
    let one = r#"{"mode":"consume","dimensions":{"model":"x","n":1.0},"usage_event_id":"e","customer":"c","meter":"monthly","quantity":2.50}"#;
    let event =
        r#"{"usage_event_id":"e","customer":"c","meter":"monthly","quantity":2.50,"dimensions":{"model":"x","n":1.0}}"#;
    assert_eq!(read(one).unwrap().events, event);
    let all = format!(r#"[{{"customer":"c","meter":"monthly"}},{one},{one}]"#);
    let checks = read(&all).unwrap();
    assert_eq!(checks.events, format!("[{event},{event}]"));
    assert_eq!(checks.items.iter().map(|check| check.event).collect::<Vec<_>>(), [None, Some(0), Some(1)]);
    let fault = Fault { index: 1, code: Code::InvalidField, detail: "/dimensions/model must be a string".into() };
    assert_eq!(coded(Some(checks.refused(&fault, &test_meters()))), ("invalid_field", "/2/dimensions/model".into()));
}

#[test]
fn faults_have_a_code_and_are_pointed_at() {
    for (members, code, pointer) in [
        (r#""meter":"monthly""#, "missing_field", "/customer"),
        (r#""customer":"","meter":"monthly""#, "missing_field", "/customer"),
        (r#""customer":1,"meter":"monthly""#, "invalid_field", "/customer"),
        (r#""customer":"c""#, "missing_field", "/meter"),
        (r#""customer":"c","meter":"nope""#, "unknown_meter", "/meter"),
        (r#""customer":"c","meter":"monthly","quantity":null"#, "invalid_quantity", "/quantity"),
        (r#""customer":"c","meter":"monthly","quantity":"a lot""#, "invalid_quantity", "/quantity"),
        (r#""customer":"c","meter":"monthly","quantity":-1"#, "invalid_quantity", "/quantity"),
        (r#""customer":"c","meter":"monthly","quantity":1e30"#, "quantity_overflow", "/quantity"),
        (r#""customer":"c","meter":"monthly","mode":"reserve""#, "invalid_field", "/mode"),
        (r#""customer":"c","meter":"monthly","mode":null"#, "invalid_field", "/mode"),
        (r#""customer":"c","meter":"monthly","usage_event_id":"e""#, "invalid_field", "/usage_event_id"),
        (r#""customer":"c","meter":"monthly","dimensions":{}"#, "invalid_field", "/dimensions"),
        (r#""customer":"c","meter":"monthly","quanity":1"#, "invalid_field", "/quanity"),
        (r#""customer":"c","meter":"monthly","a/b":1"#, "invalid_field", "/a~1b"),
    ] {
        assert_eq!(coded(read(&format!("{{{members}}}")).err()), (code, pointer.to_owned()), "{members}");
        let second = format!(r#"[{{"customer":"c","meter":"monthly"}},{{{members}}},7]"#);
        assert_eq!(coded(read(&second).err()), (code, format!("/1{pointer}")), "{members}");
    }
    assert_eq!(coded(read("[7]").err()), ("invalid_field", "/0".to_owned()));
    assert_eq!(coded(read("7").err()), ("invalid_field", String::new()));
}

#[test]
fn a_body_that_is_no_json_or_holds_too_many_is_refused_whole() {
    for (body, status) in [("", 400), (r#"{"customer":"c","customer":"d"}"#, 400), (r#"{"customer":"c"} x"#, 400)] {
        assert_eq!(read(body).err().map(|problem| problem.status().as_u16()), Some(status), "{body}");
    }
    let many = |count| format!("[{}]", vec![r#"{"customer":"c","meter":"monthly"}"#; count].join(","));
    assert_eq!(read(&many(request::CHECKS_MAX)).unwrap().items.len(), request::CHECKS_MAX);
    let problem = read(&many(request::CHECKS_MAX + 1)).err().unwrap();
    assert_eq!((problem.status().as_u16(), problem.to_string().contains("1000 checks")), (413, true));
}

#[test]
fn a_meter_that_does_not_add_up_cannot_be_checked() {
    let mut meters = Meters::new();
    let mut definition = test_meters().by_slug("monthly").unwrap().definition.clone();
    definition.aggregation = crate::meter::Aggregation::Max;
    meters.put(crate::model::MeterId(0), definition).unwrap();
    let problem = Checks::read(r#"{"customer":"c","meter":"monthly"}"#, &meters).err();
    assert_eq!(coded(problem), ("invalid_field", "/meter".to_owned()));
}

#[test]
fn one_check_is_answered_with_its_verdict() {
    let (body, tally) = answered(r#"{"customer":"c","meter":"monthly","quantity":9.5}"#, &[]).unwrap();
    let expected = json!({
        "allowed": true, "used": "990.5", "held": "0", "soft_cap": "800", "hard_cap": "1000", "remaining": "9.5",
        "overage": "0", "period_end": "1970-01-02T00:00:00Z", "cap": "default",
    });
    assert_eq!((body, tally), (expected.clone(), Tally { allowed: 1, denied: 0 }));
    let (body, tally) = answered(r#"{"customer":"c","meter":"monthly","quantity":9.6}"#, &[]).unwrap();
    let mut denied = expected;
    (denied["allowed"], denied["reason"]) = (false.into(), "hard_cap".into());
    assert_eq!((body, tally), (denied, Tally { allowed: 0, denied: 1 }));
    assert_eq!(coded(answered(r#"{"customer":"c","meter":"weekly"}"#, &[]).err()).0, "quantity_overflow");
}

#[test]
fn what_was_consumed_is_allowed_and_what_was_capped_is_not() {
    let body = r#"{"customer":"c","meter":"monthly","quantity":100,"mode":"consume","usage_event_id":"e"}"#;
    for (outcome, allowed, seq) in [
        (Outcome::Accepted(Seq(7)), true, json!(7)),
        (Outcome::Duplicate(Seq(3)), true, json!(3)),
        (Outcome::Capped("full".into()), false, Value::Null),
    ] {
        let (body, _) = answered(body, std::slice::from_ref(&outcome)).unwrap();
        assert_eq!((&body["allowed"], &body["outcome"]), (&allowed.into(), &outcome.as_str().into()));
        assert_eq!((&body["seq"], body.get("reason").is_some()), (&seq, !allowed), "{outcome:?}");
    }
    for (outcome, status) in [(Outcome::Conflict(Seq(3)), 409), (Outcome::Rejected(Code::TooLate, "old".into()), 400)] {
        assert_eq!(answered(body, &[outcome]).unwrap_err().status(), status);
    }
}

#[test]
fn in_an_array_every_check_has_an_answer_of_its_own() {
    let consume = |id| format!(r#"{{"customer":"c","meter":"monthly","mode":"consume","usage_event_id":"{id}"}}"#);
    let (one, two) = (consume("1"), consume("2"));
    let body = format!(r#"[{one},{{"customer":"d","meter":"monthly"}},{{"customer":"e","meter":"weekly"}},{two}]"#);
    let outcomes = [Outcome::Conflict(Seq(3)), Outcome::Rejected(Code::TooLate, "old".into())];
    let (body, tally) = answered(&body, &outcomes).unwrap();
    let data = body["data"].as_array().unwrap();
    let conflict = json!({
        "customer": "c", "meter": "monthly", "allowed": false, "outcome": "conflict", "code": "id_conflict",
        "detail": "the id was accepted before with another payload",
    });
    assert_eq!(data[0], conflict);
    assert_eq!((&data[1]["customer"], &data[1]["allowed"]), (&"d".into(), &true.into()));
    assert_eq!((&data[2]["code"], data[2].get("outcome")), (&"quantity_overflow".into(), None));
    assert_eq!((&data[3]["outcome"], &data[3]["code"]), (&"rejected".into(), &"too_late".into()));
    assert_eq!(tally, Tally { allowed: 1, denied: 3 });
}
