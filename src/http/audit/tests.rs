use serde_json::json;

use super::*;
use crate::model::Timestamp;

#[test]
fn an_entry_says_who_did_what_to_what() {
    let entry = TrailEntry {
        seq: Seq(12),
        tenant: Some("t".into()),
        at: Timestamp::from_millis(1_000).unwrap(),
        by: None,
        action: "caps.put".into(),
        target: "c/tokens".into(),
        before: None,
        after: Some(r#"[{"hard":"1e3"}]"#.into()),
    };
    let expected = json!({
        "id": "12", "at": "1970-01-01T00:00:01Z", "by": null, "action": "caps.put", "target": "c/tokens",
        "before": null, "after": [{"hard": "1e3"}],
    });
    assert_eq!(serde_json::to_value(EntryShown::new(entry.clone())).unwrap(), expected);
    let odd = TrailEntry { by: Some("key-1".into()), after: Some("no JSON".into()), ..entry };
    let shown = serde_json::to_value(EntryShown::new(odd)).unwrap();
    assert_eq!((&shown["by"], &shown["after"]), (&json!("key-1"), &json!("no JSON")), "nothing is dropped");
}

#[test]
fn since_and_cursor_are_ids() {
    let take = |text: &str| take_id(&mut Params::of(&[("since", text)]), "since");
    assert_eq!(take("0").unwrap(), Seq::ZERO);
    assert_eq!(take("18446744073709551615").unwrap(), Seq(u64::MAX));
    assert_eq!(take_id(&mut Params::of(&[]), "since").unwrap(), Seq::ZERO);
    for text in ["", "+1", "-1", "1.0", "x", "18446744073709551616"] {
        assert!(matches!(take(text), Err(Problem::Parameter { name, .. }) if name == "since"), "{text}");
    }
}
