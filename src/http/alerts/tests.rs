use serde_json::json;

use super::*;
use crate::engine::{Alert, AlertEvent, AlertState, ListedAlert, Recovered};
use crate::http::totals::test_meters;
use crate::meter::{Amount, Cap, CapPeriod, OnHardCap, Threshold};
use crate::model::{Quantity, Timestamp, Window};

fn quantity(text: &str) -> Quantity {
    Quantity::parse(text).unwrap()
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

fn listed() -> ListedAlert {
    let eighty: Amount = "80%".parse().unwrap();
    let cap = Cap {
        id: "default".into(),
        period: CapPeriod::Billing,
        hard: Some(quantity("1000")),
        soft: vec![eighty, "900".parse().unwrap()],
        on_hard_cap: OnHardCap::Reject,
        grace: Amount::NOTHING,
        enforce: true,
    };
    let alert = Alert {
        state: AlertState::Triggered,
        tenant: "default".into(),
        customer: "acme".into(),
        meter: "monthly".into(),
        cap,
        threshold: Threshold::Soft(eighty),
        amount: quantity("800"),
        period: Some("2026-11".into()),
        bounds: Window { start: at("2026-11-01T00:00:00Z"), end: at("2026-12-01T00:00:00Z") },
        generation: 1,
        used: quantity("812.5"),
        event: Some(AlertEvent { usage_event_id: "evt-7".into(), seq: Some(Seq(41)) }),
        late: false,
        at: at("2026-11-22T10:00:00Z"),
    };
    ListedAlert { seq: Seq(42), alert, recovered: None }
}

fn shown(listed: &ListedAlert) -> serde_json::Value {
    serde_json::to_value(AlertShown::new(listed)).unwrap()
}

#[test]
fn an_alert_names_the_threshold_the_usage_the_period_and_the_event() {
    let expected = json!({
        "alert_id": listed().alert.id().to_string(), "seq": 42, "state": "triggered", "customer": "acme",
        "meter": "monthly", "cap": "default", "threshold": "80%", "amount": "800", "used": "812.5", "hard": "1000",
        "soft": ["80%", "900"], "period": "2026-11", "period_start": "2026-11-01T00:00:00Z",
        "period_end": "2026-12-01T00:00:00Z", "generation": 1, "late": false, "enforce": true,
        "event": {"usage_event_id": "evt-7", "seq": 41}, "triggered_at": "2026-11-22T10:00:00Z",
        "recovered_at": null, "recovered_used": null,
    });
    assert_eq!(shown(&listed()), expected);
}

#[test]
fn one_that_ended_says_when_and_at_what_and_keeps_how_it_began() {
    let mut ended = listed();
    ended.recovered = Some(Recovered { seq: Seq(50), at: at("2026-11-23T00:00:00Z"), used: quantity("700") });
    let (began, ended) = (shown(&listed()), shown(&ended));
    assert_eq!(
        (&ended["state"], &ended["recovered_at"], &ended["recovered_used"]),
        (&json!("recovered"), &json!("2026-11-23T00:00:00Z"), &json!("700"))
    );
    for name in ["alert_id", "seq", "used", "event", "triggered_at"] {
        assert_eq!(ended[name], began[name], "{name}");
    }
}

#[test]
fn a_hard_cap_of_a_window_may_have_no_event_that_counted_and_no_name_of_a_period() {
    let mut hard = listed();
    hard.alert.threshold = Threshold::Hard;
    hard.alert.period = None;
    hard.alert.event = Some(AlertEvent { usage_event_id: "evt-8".into(), seq: None });
    let hard = shown(&hard);
    assert_eq!((&hard["threshold"], &hard["period"]), (&json!("hard"), &json!(null)));
    assert_eq!(hard["event"], json!({"usage_event_id": "evt-8", "seq": null}));
    let mut silent = listed();
    silent.alert.event = None;
    assert_eq!(shown(&silent)["event"], json!(null));
}

#[test]
fn a_list_is_filtered_and_goes_on_behind_a_seq() {
    let query = |pairs: &[(&str, &str)]| read_query(Params::of(pairs), &TenantId::new("acme"), &test_meters());
    let all = query(&[]).unwrap();
    assert_eq!((all.customer, all.meter, all.state, all.after, all.limit), (None, None, None, None, 1_000));
    let some = query(&[
        ("customer", "c"),
        ("meter", "weekly"),
        ("state", "recovered"),
        ("since", "5"),
        ("cursor", "9"),
        ("limit", "10000"),
    ])
    .unwrap();
    assert_eq!((some.customer.as_deref(), some.meter.as_deref()), (Some("c"), Some("weekly")));
    assert_eq!((some.state, some.after, some.limit), (Some(AlertState::Recovered), Some(Seq(9)), 10_000));
    assert_eq!(query(&[("since", "0")]).unwrap().after, None);
    assert_eq!(query(&[("since", "18446744073709551615")]).unwrap().after, Some(Seq(u64::MAX)));
    for (name, value) in [
        ("customer", ""),
        ("meter", "nope"),
        ("state", "active"),
        ("since", "-1"),
        ("since", "+1"),
        ("since", ""),
        ("since", "18446744073709551616"),
        ("since", "2026-11-22T00:00:00Z"),
        ("cursor", "x"),
        ("limit", "10001"),
        ("limit", "0"),
        ("sort", "seq"),
    ] {
        let problem = query(&[(name, value)]).unwrap_err();
        assert!(matches!(problem, Problem::Parameter { name: named, .. } if named == name), "{name}={value}");
    }
}
