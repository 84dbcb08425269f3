use serde_json::json;

use super::*;
use crate::engine::CapStatus;
use crate::http::totals::test_meters;
use crate::meter::caps::{CAPS_MAX, SOFT_MAX};
use crate::meter::{Aggregation, Amount, CapPeriod, OnHardCap, PeriodKind};
use crate::model::{MeterId, Quantity, Timestamp, Window};

fn quantity(text: &str) -> Quantity {
    Quantity::parse(text).unwrap()
}

fn caps(text: &str) -> Vec<Cap> {
    body::read(text.as_bytes(), PeriodKind::Month).unwrap_or_else(|problem| panic!("{text}: {problem}"))
}

fn one(text: &str) -> Cap {
    let [cap] = <[Cap; 1]>::try_from(caps(text)).unwrap();
    cap
}

/// The code and the pointer.
fn fault(text: &str) -> (&'static str, String) {
    match body::read(text.as_bytes(), PeriodKind::Month) {
        Err(Problem::Coded { code, pointer: Some(pointer), detail, .. }) => {
            let at = if pointer.is_empty() { "the body" } else { &pointer };
            assert!(detail.starts_with(at), "{detail}");
            (code, pointer)
        }
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn members_are_optional_and_null_is_left_out() {
    let expected = Cap {
        id: "default".into(),
        period: CapPeriod::Billing,
        hard: Some(quantity("1000")),
        soft: vec![],
        on_hard_cap: OnHardCap::Reject,
        grace: Amount::NOTHING,
        enforce: true,
    };
    assert_eq!(one(r#"{"hard":1000}"#), expected);
    let nulls = r#"{"id":null,"hard":"1000","soft":null,"on_hard_cap":null,"period":null,"grace":null,"enforce":null}"#;
    assert_eq!(one(nulls), expected);
}

#[test]
fn every_member_can_be_set_and_thresholds_come_in_order() {
    let cap = one(
        r#"{"id":"burst","hard":"1e3","soft":[950.5,"80%","900"],"on_hard_cap":"allow","period":"window","grace":"10%",
            "enforce":false}"#,
    );
    assert_eq!((cap.id.as_str(), cap.period, cap.hard), ("burst", CapPeriod::Window, Some(quantity("1000"))));
    assert_eq!(cap.soft.iter().map(ToString::to_string).collect::<Vec<_>>(), ["80%", "900", "950.5"]);
    assert_eq!((cap.on_hard_cap, cap.grace.to_string(), cap.enforce), (OnHardCap::Allow, "10%".to_owned(), false));
    assert_eq!(one(r#"{"soft":5}"#).soft, one(r#"{"soft":["5"]}"#).soft);
    assert_eq!(one(r#"{"hard":"0","grace":7.5}"#).grace, Amount::Absolute(quantity("7.5")));
}

#[test]
fn numbers_are_taken_as_they_are_written() {
    for text in ["0.1", "9007199254740993", "123456789012345.123456789012", "0.000000000001"] {
        assert_eq!(one(&format!(r#"{{"hard":{text}}}"#)).hard, Some(quantity(text)));
        assert_eq!(one(&format!(r#"{{"hard":"{text}"}}"#)).hard, Some(quantity(text)));
        assert_eq!(one(&format!(r#"{{"soft":{text}}}"#)).soft, [Amount::Absolute(quantity(text))]);
    }
}

#[test]
fn several_caps_come_in_order_of_id_and_none_is_a_choice_too() {
    let several = caps(r#"[{"id":"b","hard":1},{"hard":2},{"id":"a","soft":"3"}]"#);
    assert_eq!(several.iter().map(|cap| cap.id.as_str()).collect::<Vec<_>>(), ["a", "b", "default"]);
    assert_eq!(caps("[]"), []);
    let most: Vec<_> = (0..CAPS_MAX).map(|n| json!({"id": n.to_string(), "hard": n})).collect();
    assert_eq!(caps(&json!(most).to_string()).len(), CAPS_MAX);
}

#[test]
fn the_billing_period_has_the_name_that_the_meter_gives_it() {
    for (kind, name) in [(PeriodKind::Month, "month"), (PeriodKind::Week, "week"), (PeriodKind::Day, "day")] {
        let read = |name: &str| body::read(json!({"hard": 1, "period": name}).to_string().as_bytes(), kind);
        assert_eq!(read(name).unwrap()[0].period, CapPeriod::Billing);
        assert_eq!(read("window").unwrap()[0].period, CapPeriod::Window);
        for other in ["month", "week", "day", "billing", ""].into_iter().filter(|other| *other != name) {
            let problem = read(other).unwrap_err();
            assert!(problem.to_string().contains(&format!("must be {name:?}")), "{problem}");
        }
    }
}

#[test]
fn what_is_no_quantity_is_pointed_at_and_has_its_code() {
    for (text, pointer) in [
        (r#"{"hard":-1}"#, "/hard"),
        (r#"{"hard":"-0.5"}"#, "/hard"),
        (r#"{"hard":"many"}"#, "/hard"),
        (r#"{"hard":"80%"}"#, "/hard"),
        (r#"{"hard":""}"#, "/hard"),
        (r#"{"hard":"0x10"}"#, "/hard"),
        (r#"{"hard":"1,000"}"#, "/hard"),
        (r#"{"hard":0.0000000000001}"#, "/hard"),
        (r#"{"hard":true}"#, "/hard"),
        (r#"{"hard":{}}"#, "/hard"),
        (r#"{"hard":10,"soft":-1}"#, "/soft"),
        (r#"{"hard":10,"soft":["50%","-80%"]}"#, "/soft/1"),
        (r#"{"hard":10,"soft":["80 %"]}"#, "/soft/0"),
        (r#"{"hard":10,"soft":["%"]}"#, "/soft/0"),
        (r#"{"hard":10,"soft":[null]}"#, "/soft/0"),
        (r#"{"hard":10,"soft":[["5"]]}"#, "/soft/0"),
        (r#"{"hard":10,"soft":{"at":"5"}}"#, "/soft"),
        (r#"{"hard":10,"on_hard_cap":"allow","soft":["100001%"]}"#, "/soft/0"),
        (r#"{"hard":10,"grace":"-1%"}"#, "/grace"),
        (r#"{"hard":10,"grace":[]}"#, "/grace"),
        (r#"[{"hard":1},{"id":"b","hard":10,"soft":["5",true]}]"#, "/1/soft/1"),
    ] {
        assert_eq!(fault(text), ("invalid_quantity", pointer.to_owned()), "{text}");
    }
    for (text, pointer) in [(r#"{"hard":1e30}"#, "/hard"), (r#"[{"soft":["1e30"]}]"#, "/0/soft/0")] {
        assert_eq!(fault(text), ("quantity_overflow", pointer.to_owned()), "{text}");
    }
}

#[test]
fn what_makes_no_sense_as_a_cap_is_pointed_at() {
    let too_many = json!({"soft": (1..=SOFT_MAX + 3).collect::<Vec<_>>()}).to_string();
    let crowd = json!((0..=CAPS_MAX).map(|n| json!({"id": n.to_string(), "hard": n})).collect::<Vec<_>>()).to_string();
    let long_id = json!({"id": "x".repeat(257), "hard": 1}).to_string();
    for (text, pointer) in [
        ("{}", "/hard"),
        ("[{}]", "/0/hard"),
        (r#"{"hard":10,"soft":["11"]}"#, "/soft/0"),
        (r#"{"hard":10,"soft":"110%"}"#, "/soft"),
        (r#"[{"hard":10,"soft":["50%","11"]}]"#, "/0/soft/1"),
        (r#"{"soft":["80%"]}"#, "/soft/0"),
        (r#"{"hard":10,"soft":["8","8.0"]}"#, "/soft/1"),
        (r#"{"hard":10,"soft":["0%"]}"#, "/soft/0"),
        (r#"{"soft":5,"grace":"10%"}"#, "/grace"),
        (r#"{"soft":5,"grace":"1"}"#, "/grace"),
        (r#"{"hard":10,"on_hard_cap":"Reject"}"#, "/on_hard_cap"),
        (r#"{"hard":10,"on_hard_cap":true}"#, "/on_hard_cap"),
        (r#"{"hard":10,"period":1}"#, "/period"),
        (r#"{"hard":10,"enforce":"yes"}"#, "/enforce"),
        (r#"{"hard":10,"id":""}"#, "/id"),
        (r#"{"hard":10,"id":"a\nb"}"#, "/id"),
        (r#"{"hard":10,"id":7}"#, "/id"),
        (&long_id, "/id"),
        (r#"{"hard":10,"hart":10}"#, "/hart"),
        (r#"[{"hard":10},{"id":"b","so/ft":10}]"#, "/1/so~1ft"),
        (r#"[{"hard":1},{"hard":2}]"#, "/1/id"),
        (r#"[{"hard":1},7]"#, "/1"),
        (r#"[[]]"#, "/0"),
        ("null", ""),
        ("1000", ""),
        (r#""1000""#, ""),
        (&too_many, "/soft/16"),
        (&crowd, "/16"),
    ] {
        assert_eq!(fault(text), ("invalid_field", pointer.to_owned()), "{text}");
    }
}

#[test]
fn what_is_no_json_is_unreadable() {
    for text in ["", "{", r#"{"hard":1}{}"#, r#"{"hard":1,"hard":2}"#, r#"{"hard":+1}"#, r#"{"hard":01}"#] {
        let read = body::read(text.as_bytes(), PeriodKind::Month);
        assert!(matches!(read, Err(Problem::Unreadable(_))), "{text}: {read:?}");
    }
}

#[test]
fn caps_are_for_meters_whose_values_add_up() {
    let meters = test_meters();
    let meter = meters.by_slug("monthly").unwrap();
    assert!(cappable(meter).is_ok());
    for aggregation in Aggregation::ALL {
        let mut meter = meter.clone();
        meter.definition.aggregation = aggregation;
        let adds_up = matches!(aggregation, Aggregation::Count | Aggregation::Sum);
        match cappable(&meter) {
            Ok(_) => assert!(adds_up, "{aggregation:?}"),
            Err(Problem::Coded { code, pointer, detail, .. }) => {
                assert_eq!((adds_up, code, pointer.as_deref()), (false, "invalid_field", Some("")));
                assert!(detail.contains("\"count\" and \"sum\""), "{detail}");
            }
            Err(other) => panic!("{other}"),
        }
    }
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

fn status(body: &str, used: &str, held: &str) -> CapStatus {
    let cap = one(body);
    let used = quantity(used);
    CapStatus {
        thresholds: cap.thresholds().map(|(threshold, amount)| (threshold, amount, used >= amount)).collect(),
        bounds: Window { start: at("2026-11-01T00:00:00Z"), end: at("2026-12-01T00:00:00Z") },
        used,
        held: quantity(held),
        cap,
    }
}

fn shown(own: bool, slug: &str, caps: Vec<CapStatus>) -> serde_json::Value {
    let meters = test_meters();
    let caps = MeterCaps { meter: MeterId(0), own, caps };
    let caps = MeterCapsShown::new(&caps, &meters.by_slug(slug).unwrap().definition);
    serde_json::to_value(OneMetersCaps { customer: "acme".into(), caps }).unwrap()
}

#[test]
fn a_cap_shows_what_was_set_and_what_it_has_come_to() {
    let cap = status(r#"{"hard":1000,"soft":["900","80%"],"grace":"10%"}"#, "812.5", "100");
    let expected = json!({
        "customer": "acme", "meter": "monthly", "source": "customer",
        "caps": [{
            "id": "default", "hard": "1000", "soft": ["80%", "900"], "on_hard_cap": "reject", "period": "month",
            "grace": "10%", "enforce": true, "period_start": "2026-11-01T00:00:00Z",
            "period_end": "2026-12-01T00:00:00Z", "used": "812.5", "held": "100", "remaining": "87.5", "overage": "0",
            "thresholds": [
                {"threshold": "80%", "amount": "800", "crossed": true},
                {"threshold": "900", "amount": "900", "crossed": false},
                {"threshold": "hard", "amount": "1000", "crossed": false},
            ],
        }],
    });
    assert_eq!(shown(true, "monthly", vec![cap]), expected);
    let none = json!({"customer": "acme", "meter": "weekly", "source": "config", "caps": []});
    assert_eq!(shown(false, "weekly", vec![]), none);
}

#[test]
fn what_remains_is_never_negative_and_what_is_over_is_used_not_held() {
    for (body, used, held, remaining, overage) in [
        (r#"{"hard":10,"on_hard_cap":"allow"}"#, "12.5", "4", json!("0"), "2.5"),
        (r#"{"hard":10}"#, "8", "4", json!("0"), "0"),
        (r#"{"hard":10}"#, "10", "0", json!("0"), "0"),
        (r#"{"hard":10}"#, "-5", "0", json!("15"), "0"),
        (r#"{"soft":10}"#, "12", "0", json!(null), "0"),
    ] {
        let shown = shown(false, "monthly", vec![status(body, used, held)]);
        let cap = &shown["caps"][0];
        assert_eq!((&cap["remaining"], &cap["overage"]), (&remaining, &json!(overage)), "{body} {used}");
    }
}

#[test]
fn what_is_shown_can_be_put_back() {
    let set = ["id", "hard", "soft", "on_hard_cap", "period", "grace", "enforce"];
    for (slug, kind, body) in [
        ("monthly", PeriodKind::Month, r#"[{"hard":1000,"soft":["900","80%"],"grace":"10%"},{"id":"s","soft":0.5}]"#),
        (
            "weekly",
            PeriodKind::Week,
            r#"[{"hard":1,"period":"week"},{"id":"w","hard":2,"period":"window","enforce":false}]"#,
        ),
    ] {
        let caps = body::read(body.as_bytes(), kind).unwrap();
        let bounds = Window { start: at("2026-11-01T00:00:00Z"), end: at("2026-12-01T00:00:00Z") };
        let nothing = (Quantity::ZERO, Quantity::ZERO);
        let statuses = caps.iter().map(|cap| CapStatus {
            cap: cap.clone(),
            bounds,
            used: nothing.0,
            held: nothing.1,
            thresholds: vec![],
        });
        let mut again = shown(true, slug, statuses.collect())["caps"].take();
        for cap in again.as_array_mut().unwrap() {
            cap.as_object_mut().unwrap().retain(|name, _| set.contains(&name.as_str()));
        }
        assert_eq!(body::read(again.to_string().as_bytes(), kind).unwrap(), caps);
    }
}
