use serde_json::json;

use super::*;
use crate::engine::{
    Alert, AlertState, Attempt, Delivery, DeliveryFilter, DeliveryState, OutboxRow, RowContent, UsageChange, UsageRow,
};
use crate::meter::{Amount, Cap, CapPeriod, OnHardCap, Threshold};
use crate::model::{Duration, Incarnation, OutboxPosition, Quantity, RowKind, Timestamp, Window};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000).unwrap()
}

fn id() -> DeliveryId {
    DeliveryId { store: 0xabc, incarnation: Incarnation(1), seq: Seq(9) }
}

fn attempt(seconds: i64) -> Attempt {
    Attempt {
        at: at(seconds),
        took: Duration::from_millis(1_234),
        status: Some(500),
        error: "answered 500".into(),
        answer: "oh no".into(),
    }
}

fn delivery() -> Delivery {
    Delivery {
        id: id(),
        sink: "billing".into(),
        kind: RowKind::Adjustments,
        first: OutboxPosition::new(Seq(7), 0),
        last: OutboxPosition::new(Seq(8), 3),
        rows: 5,
        planned_at: at(1),
        state: DeliveryState::Pending { due: at(9) },
        failures: 1,
        attempts: 2,
        replays: 1,
        last_attempt: Some(attempt(4)),
    }
}

fn row(change: UsageChange) -> OutboxRow {
    let usage = UsageRow {
        change,
        tenant: "default".into(),
        customer: "acme".into(),
        meter: "tokens".into(),
        dimensions: vec![("model".into(), Some("a".into())), ("region".into(), None)],
        window: Window { start: at(0), end: at(60) },
        value: Some(Quantity::from_integer(12)),
        event_count: 4,
        revision: 2,
        incarnation: Incarnation(1),
        hash: [0xab; 32],
        at: at(61),
    };
    OutboxRow { position: OutboxPosition::new(Seq(7), 0), content: RowContent::Usage(usage) }
}

fn alert() -> OutboxRow {
    let cap = Cap {
        id: "default".into(),
        period: CapPeriod::Window,
        hard: Some(Quantity::from_integer(12)),
        soft: vec!["80%".parse().unwrap()],
        on_hard_cap: OnHardCap::Reject,
        grace: Amount::NOTHING,
        enforce: true,
    };
    let alert = Alert {
        state: AlertState::Recovered,
        tenant: "default".into(),
        customer: "acme".into(),
        meter: "tokens".into(),
        cap,
        threshold: Threshold::Hard,
        amount: Quantity::from_integer(12),
        period: None,
        bounds: Window { start: at(0), end: at(60) },
        generation: 2,
        used: Quantity::from_integer(9),
        event: None,
        late: false,
        at: at(61),
    };
    OutboxRow { position: OutboxPosition::new(Seq(8), 0), content: RowContent::Alert(Box::new(alert)) }
}

fn shown(delivery: &Delivery) -> serde_json::Value {
    serde_json::to_value(DeliveryShown::new(delivery)).unwrap()
}

#[test]
fn a_delivery_says_what_became_of_it_and_what_comes_next() {
    let last_attempt = json!({
        "at": "1970-01-01T00:00:04Z", "took_ms": 1_234, "status": 500, "error": "answered 500", "answer": "oh no",
    });
    assert_eq!(
        shown(&delivery()),
        json!({
            "id": "msg_00000abc_1_9", "sink": "billing", "kind": "adjustments", "state": "retrying", "rows": 5,
            "first": "7.0", "last": "8.3", "planned_at": "1970-01-01T00:00:01Z", "attempts": 2, "failures": 1,
            "replays": 1, "next_attempt_at": "1970-01-01T00:00:09Z", "last_attempt": last_attempt,
        })
    );
}

#[test]
fn each_state_has_its_word_and_its_time() {
    for (state, failures, word, time) in [
        (DeliveryState::Pending { due: at(9) }, 0, "pending", "next_attempt_at"),
        (DeliveryState::Pending { due: at(9) }, 3, "retrying", "next_attempt_at"),
        (DeliveryState::Delivered { at: at(9) }, 3, "delivered", "finished_at"),
        (DeliveryState::Dead { at: at(9) }, 3, "dead_letter", "finished_at"),
    ] {
        let json = shown(&Delivery { state, failures, last_attempt: None, ..delivery() });
        assert_eq!((&json["state"], &json[time]), (&json!(word), &json!("1970-01-01T00:00:09Z")));
        let times =
            ["next_attempt_at", "finished_at", "last_attempt"].into_iter().filter(|key| json.get(key).is_some());
        assert_eq!(times.collect::<Vec<_>>(), [time]);
    }
}

#[test]
fn one_delivery_comes_with_every_attempt_once_and_with_its_rows() {
    let delta = Some(Quantity::from_integer(-3));
    let rows = vec![row(UsageChange::Adjusted { delta }), row(UsageChange::Final)];
    let json = |attempts, rows| serde_json::to_value(DeliveryDetails::new(&delivery(), attempts, rows)).unwrap();
    let details = json(vec![attempt(2)], Some(rows));
    let times: Vec<_> = details["attempts_log"].as_array().unwrap().iter().map(|attempt| &attempt["at"]).collect();
    assert_eq!(times, ["1970-01-01T00:00:02Z", "1970-01-01T00:00:04Z"]);
    assert_eq!((&details["id"], details.get("payload_note")), (&json!("msg_00000abc_1_9"), None));
    assert_eq!(
        details["payload"]["rows"][0],
        json!({
            "tenant": "default", "customer": "acme", "meter": "tokens", "dimensions": {"model": "a", "region": null},
            "window_start": "1970-01-01T00:00:00Z", "window_end": "1970-01-01T00:01:00Z", "value": "12",
            "event_count": 4, "revision": 2, "incarnation": 1, "delta": "-3", "hash": "ab".repeat(32),
        })
    );
    assert_eq!(details["payload"]["rows"][1].get("delta"), None);
    let alerts = json(vec![], Some(vec![alert()]));
    assert_eq!(
        alerts["payload"]["rows"][0],
        json!({
            "type": "alert.recovered", "alert_id": alert().alert().unwrap().id().to_string(), "tenant": "default",
            "customer": "acme", "meter": "tokens", "cap": "default", "threshold": "hard", "amount": "12", "used": "9",
            "hard": "12", "soft": ["80%"], "period": null, "period_start": "1970-01-01T00:00:00Z",
            "period_end": "1970-01-01T00:01:00Z", "generation": 2, "enforce": true, "event": null, "late": false,
            "at": "1970-01-01T00:01:01Z",
        })
    );
    assert_eq!(json(vec![attempt(2), attempt(4)], None)["attempts_log"].as_array().unwrap().len(), 2);
}

#[test]
fn without_rows_the_payload_is_null_and_says_why() {
    for (state, why) in [
        (DeliveryState::Delivered { at: at(9) }, "rows are not kept once every sink has them"),
        (DeliveryState::Pending { due: at(9) }, "the rows are on their way to the store: ask again in a moment"),
    ] {
        for rows in [None, Some(vec![])] {
            let details = DeliveryDetails::new(&Delivery { state, ..delivery() }, vec![], rows);
            let json = serde_json::to_value(details).unwrap();
            assert_eq!((&json["payload"], &json["payload_note"]), (&json!(null), &json!(why)));
        }
    }
}

#[test]
fn a_list_is_filtered_by_sink_kind_and_state_and_goes_on_behind_an_id() {
    let query = |pairs: &[(&str, &str)]| request::query(Params::of(pairs));
    let all = query(&[]).unwrap();
    assert_eq!((all.sink, all.state, all.kind, all.after, all.limit), (None, None, None, None, 100));
    let some = query(&[
        ("state", "dead"),
        ("sink", "billing"),
        ("kind", "windows"),
        ("limit", "7"),
        ("cursor", "msg_00000abc_1_9"),
    ])
    .unwrap();
    assert_eq!((some.sink.as_deref(), some.state), (Some("billing"), Some(DeliveryFilter::Dead)));
    assert_eq!((some.kind, some.after, some.limit), (Some(RowKind::Windows), Some(Seq(9)), 7));
    for (name, value) in
        [("state", "lost"), ("kind", "window"), ("cursor", "9"), ("limit", "1001"), ("sinks", "x"), ("cursor", "")]
    {
        let problem = query(&[(name, value)]).unwrap_err();
        assert!(matches!(problem, Problem::Parameter { name: named, .. } if named == name), "{name}={value}");
    }
}

#[test]
fn a_replay_is_filtered_by_the_query_or_the_body() {
    let filter = |pairs: &[(&str, &str)], body: &str| request::filter(Params::of(pairs), body.as_bytes());
    assert_eq!(filter(&[], "").unwrap(), ReplayFilter::default());
    let expected = ReplayFilter { delivery: None, sink: Some("b".into()), kind: Some(RowKind::Alerts) };
    assert_eq!(filter(&[("sink", "b"), ("kind", "alerts"), ("state", "dead")], "{}").unwrap(), expected);
    let body = r#"{"sink":"b","kind":"alerts","state":"dead_letter"}"#;
    assert_eq!(filter(&[], body).unwrap(), expected);
    assert_eq!(filter(&[("sink", "b")], r#"{"kind":"alerts","sink":null}"#).unwrap(), expected);
    for (body, pointer) in [
        (r#"{"kind":"all"}"#, "/kind"),
        (r#"{"state":"pending"}"#, "/state"),
        (r#"{"sink":1}"#, "/sink"),
        (r#"{"id":"x"}"#, "/id"),
        ("[]", ""),
    ] {
        let problem = filter(&[], body).unwrap_err();
        assert!(matches!(problem, Problem::Member { pointer: at, .. } if at == pointer), "{body}");
    }
    let twice = filter(&[("sink", "b")], r#"{"sink":"b"}"#).unwrap_err();
    assert!(matches!(twice, Problem::Member { pointer, .. } if pointer == "/sink"));
    let pending = filter(&[("state", "pending")], "").unwrap_err();
    assert!(matches!(pending, Problem::Parameter { name, .. } if name == "state"));
}

#[test]
fn a_replay_says_how_many_and_whether_there_may_be_more() {
    let json = |count| serde_json::to_value(Replayed::new(&Done::Replayed(count))).unwrap();
    assert_eq!(json(3), json!({"replayed": 3, "more": false}));
    assert_eq!(json(10_000), json!({"replayed": 10_000, "more": true}));
}

#[test]
fn what_is_no_id_is_no_delivery() {
    assert_eq!(parse_id("msg_00000abc_1_9").unwrap(), id());
    for text in ["", "9", "msg_abc_1_9", "msg_00000abc_1_09"] {
        assert_eq!(parse_id(text).unwrap_err().status(), 404, "{text}");
    }
    assert!(document::no_members(b"").is_ok() && document::no_members(b"{}").is_ok());
    assert!(document::no_members(br#"{"sink":"b"}"#).is_err());
}
