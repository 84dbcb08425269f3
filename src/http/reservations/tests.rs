use serde_json::json;

use super::*;
use crate::engine::Verdict;
use crate::http::totals::test_meters;
use crate::meter::{BillingPeriod, Meters};
use crate::model::{Duration, MeterId, Quantity, Seq, TenantId, Timestamp, Window};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000).unwrap()
}

fn quantity(text: &str) -> Quantity {
    Quantity::parse(text).unwrap()
}

fn held() -> Reservation {
    let bounds = Window { start: at(0), end: at(86_400 * 31) };
    Reservation {
        tenant: TenantId::new("t"),
        id: "r1".into(),
        customer: "c\"1".into(),
        meter: MeterId(0),
        quantity: quantity("500"),
        period: BillingPeriod { label: "1970-01".parse().unwrap(), bounds },
        window: Window { start: at(0), end: at(3_600) },
        made_at: at(1),
        expires_at: at(901),
        state: ReservationState::Held,
    }
}

fn reserve(body: &str) -> Result<crate::engine::Reserve, Problem> {
    request::reserve(body.as_bytes(), &TenantId::new("t"), &test_meters())
}

fn commit_event(body: &str) -> Result<String, Problem> {
    request::commit(body.as_bytes(), Some(&held()), &test_meters())
}

fn coded(problem: Option<Problem>) -> (&'static str, String) {
    match problem {
        Some(Problem::Coded { code, pointer, .. }) => (code, pointer.unwrap_or_default()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn quota_is_held_for_15_minutes_or_as_long_as_is_said() {
    let body = |rest: &str| format!(r#"{{"id":"a:b/c","customer":"c","meter":"weekly","quantity":"1.5"{rest}}}"#);
    let plain = reserve(&body("")).unwrap();
    assert_eq!((plain.id.as_str(), plain.customer.as_str(), plain.meter), ("a:b/c", "c", MeterId(1)));
    assert_eq!((plain.quantity, plain.tenant.as_str()), (quantity("1.5"), "t"));
    for (given, seconds_times_1000) in [
        ("", 900_000),
        (r#","expires_in":null"#, 900_000),
        (r#","expires_in":1"#, 1_000),
        (r#","expires_in":1.5"#, 1_500),
        (r#","expires_in":6.048e5"#, 604_800_000),
        (r#","expires_in":"15m""#, 900_000),
        (r#","expires_in":"7d""#, 604_800_000),
    ] {
        let expected = Duration::from_millis(seconds_times_1000);
        assert_eq!(reserve(&body(given)).unwrap().expires_in, expected, "{given}");
    }
    for bad in
        ["0", "0.999999", "604800.000001", "1.0000001", "-5", "1e30", r#""15""#, r#""8d""#, r#""999ms""#, "[]", "true"]
    {
        let problem = reserve(&body(&format!(r#","expires_in":{bad}"#))).err();
        assert_eq!(coded(problem), ("invalid_field", "/expires_in".into()), "{bad}");
    }
}

#[test]
fn faults_of_a_reservation_have_a_code_and_are_pointed_at() {
    let long = "x".repeat(257);
    for (id, customer, meter, quantity, code, pointer) in [
        ("", "c", "weekly", "1", "missing_field", "/id"),
        (&long[..], "c", "weekly", "1", "invalid_field", "/id"),
        ("a\\nb", "c", "weekly", "1", "invalid_field", "/id"),
        ("a:commit", "c", "weekly", "1", "invalid_field", "/id"),
        (":release", "c", "weekly", "1", "invalid_field", "/id"),
        ("..", "c", "weekly", "1", "invalid_field", "/id"),
        ("r", "", "weekly", "1", "missing_field", "/customer"),
        ("r", "c", "nope", "1", "unknown_meter", "/meter"),
        ("r", "c", "weekly", "0", "invalid_quantity", "/quantity"),
        ("r", "c", "weekly", "-1", "invalid_quantity", "/quantity"),
        ("r", "c", "weekly", "\"x\"", "invalid_quantity", "/quantity"),
        ("r", "c", "weekly", "1,\"ttl\":1", "invalid_field", "/ttl"),
    ] {
        let body = format!(r#"{{"id":"{id}","customer":"{customer}","meter":"{meter}","quantity":{quantity}}}"#);
        assert_eq!(coded(reserve(&body).err()), (code, pointer.to_owned()), "{body}");
    }
    let problem = reserve(r#"{"id":"r","customer":"c","meter":"weekly"}"#).err();
    assert_eq!(coded(problem), ("missing_field", "/quantity".into()));
    assert!(reserve(&format!(r#"{{"id":"{}","customer":"c","meter":"weekly","quantity":1}}"#, &long[1..])).is_ok());
}

#[test]
fn a_commit_is_an_event_of_the_reservations_customer_and_meter() {
    let body = r#"{"source":"s","dimensions":{"model":"m"},"quantity":0,"usage_event_id":"e"}"#;
    let expected = r#"{"usage_event_id":"e","customer":"c\"1","meter":"monthly","quantity":0,"source":"s","dimensions":{"model":"m"}}"#;
    assert_eq!(commit_event(body).unwrap(), expected);
    assert_eq!(request::commit(body.as_bytes(), None, &test_meters()).unwrap(), "");
    for (body, code, pointer) in [
        (r#"{"usage_event_id":"e"}"#, "missing_field", "/quantity"),
        (r#"{"usage_event_id":"e","quantity":-0.1}"#, "invalid_quantity", "/quantity"),
        (r#"{"quantity":1}"#, "missing_field", "/usage_event_id"),
        (r#"{"quantity":1,"usage_event_id":"e","timestamp":1}"#, "invalid_field", "/timestamp"),
        (r#"{"quantity":1,"usage_event_id":"e","customer":"c"}"#, "invalid_field", "/customer"),
    ] {
        assert_eq!(coded(commit_event(body).err()), (code, pointer.to_owned()), "{body}");
    }
}

#[test]
fn an_event_that_cannot_be_taken_is_pointed_at_only_where_the_body_is_at_fault() {
    use crate::http::ingest::door::Fault;
    let fault = |code, detail: &str| Fault { index: 0, code, detail: detail.into() };
    let refused = |fault: &Fault, meters: &Meters| coded(Some(request::refused_event(fault, &held(), meters)));
    let meters = test_meters();
    let model = fault(Code::InvalidField, "/dimensions/model must be a string, a number or a boolean");
    assert_eq!(refused(&model, &meters), ("invalid_field", "/dimensions/model".into()));
    let retired = fault(Code::UnknownMeter, "/meter \"monthly\" feeds no meter");
    assert_eq!(refused(&retired, &meters), ("unknown_meter", String::new()));
}

#[test]
fn every_refusal_has_its_status_and_code() {
    let verdict = Verdict {
        allowed: false,
        used: quantity("900"),
        held: quantity("50"),
        cap: Some("default".into()),
        soft: None,
        hard: Some(quantity("1000")),
        remaining: Some(quantity("50")),
        overage: Quantity::ZERO,
        bounds: Window { start: at(0), end: at(1) },
    };
    for (why, expected, name) in [
        (ReservationRefused::Unknown, 404, "unknown_reservation"),
        (ReservationRefused::Expired(at(1)), 409, "reservation_expired"),
        (ReservationRefused::Released(at(1)), 409, "reservation_released"),
        (ReservationRefused::Committed(Seq(1)), 409, "reservation_committed"),
        (ReservationRefused::Differs, 409, "reservation_conflict"),
        (ReservationRefused::Capped(Box::new(verdict)), 409, "hard_cap"),
        (ReservationRefused::TooMany(5), 503, "too_many_reservations"),
    ] {
        match reservation(Done::ReservationRefused(why)) {
            Err(Problem::Coded { status, code, detail, .. }) => {
                assert_eq!((status.as_u16(), code), (expected, name));
                let numbers = "used 900, held 50, hard_cap 1000, remaining 50";
                assert_eq!(detail.ends_with(numbers), name == "hard_cap", "{detail}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_reservation_says_what_became_of_it() {
    let meters = test_meters();
    let shown = |state| serde_json::to_value(Shown::new(&Reservation { state, ..held() }, &meters)).unwrap();
    let mut expected = json!({
        "id": "r1", "customer": "c\"1", "meter": "monthly", "quantity": "500", "state": "held",
        "expires_at": "1970-01-01T00:15:01Z", "period_end": "1970-02-01T00:00:00Z",
    });
    assert_eq!(shown(ReservationState::Held), expected);
    expected["state"] = "expired".into();
    assert_eq!(shown(ReservationState::Expired { at: at(902) }), expected);
    let state = ReservationState::Committed { seq: Seq(7), quantity: quantity("420.5"), at: at(5) };
    for (name, value) in [("state", json!("committed")), ("committed_quantity", json!("420.5")), ("seq", json!(7))] {
        expected[name] = value;
    }
    assert_eq!(shown(state.clone()), expected);
    let reservation = Shown::new(&Reservation { state, ..held() }, &meters);
    expected["outcome"] = "accepted".into();
    assert_eq!(serde_json::to_value(Committed { reservation, outcome: "accepted" }).unwrap(), expected);
}
