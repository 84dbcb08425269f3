use serde_json::json;

use super::*;
use crate::model::{TenantId, Timestamp};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000).unwrap()
}

fn opened() -> Backfill {
    Backfill {
        tenant: TenantId::new("t"),
        id: "2023".into(),
        number: 3,
        opened_at: at(1),
        state: BackfillState::Open,
        events: 0,
        first_seq: Seq::ZERO,
        last_seq: Seq::ZERO,
        reverted_feeds: 0,
        reverted_to: None,
        reverting_at: None,
        reverted_at: None,
        reason: String::new(),
    }
}

#[test]
fn a_name_is_1_to_128_plain_characters() {
    let take = |text: &str| take_id(&mut Params::of(&[("backfill", text)]));
    let long = "x".repeat(128);
    for name in ["a", "2023-05_v1.2", "...", &long] {
        assert_eq!(take(name).unwrap().as_deref(), Some(name));
    }
    assert_eq!(take_id(&mut Params::of(&[])).unwrap(), None);
    for name in ["", ".", "..", "a b", "a/b", "é", "a:revert", &format!("{long}x")] {
        assert!(matches!(take(name), Err(Problem::Parameter { name, .. }) if name == "backfill"), "{name}");
    }
    let mut twice = Params::of(&[("backfill", "a"), ("backfill", "a")]);
    assert!(take_id(&mut twice).is_err());
}

#[test]
fn a_backfill_says_how_it_fares() {
    let shown = |backfill: &Backfill| serde_json::to_value(BackfillShown::new(backfill)).unwrap();
    let mut expected = json!({
        "id": "2023", "state": "open", "events": 0, "reverted_feeds": 0, "opened_at": "1970-01-01T00:00:01Z",
        "reverting_at": null, "reverted_at": null, "reason": null, "first_seq": null, "last_seq": null,
    });
    assert_eq!(shown(&opened()), expected);
    let reverted = Backfill {
        state: BackfillState::Reverted,
        events: 10,
        reverted_feeds: 20,
        first_seq: Seq(5),
        last_seq: Seq(14),
        reverting_at: Some(at(2)),
        reverted_at: Some(at(3)),
        reason: "wrong file".into(),
        ..opened()
    };
    for (member, value) in [
        ("state", json!("reverted")),
        ("events", json!(10)),
        ("reverted_feeds", json!(20)),
        ("first_seq", json!(5)),
        ("last_seq", json!(14)),
        ("reverting_at", json!("1970-01-01T00:00:02Z")),
        ("reverted_at", json!("1970-01-01T00:00:03Z")),
        ("reason", json!("wrong file")),
    ] {
        expected[member] = value;
    }
    assert_eq!(shown(&reverted), expected);
}

#[test]
fn refusals_and_cursors_of_other_lists_are_told() {
    for (why, expected, name) in
        [(BackfillRefused::Unknown, 404, "unknown_backfill"), (BackfillRefused::Reverting, 409, "backfill_reverting")]
    {
        match refused(&why) {
            Problem::Coded { status, code, .. } => assert_eq!((status.as_u16(), code), (expected, name)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(decode_cursor(&encode_text("12")).unwrap(), 12);
    for text in ["", "12", "zz", &encode_text("x"), &encode_text("-1")] {
        assert!(matches!(decode_cursor(text), Err(Problem::Parameter { name, .. }) if name == "cursor"), "{text}");
    }
}
