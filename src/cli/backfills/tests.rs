use clap::Parser;

use super::*;
use crate::cli::evidence::fake::daemon;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn backfill(state: &str, opened_at: &str) -> Value {
    json!({
        "id": "b1", "state": state, "events": 4, "reverted_feeds": 3, "opened_at": opened_at, "reverting_at": null,
        "reverted_at": null, "reason": "un\u{1b}its", "first_seq": 1, "last_seq": 9,
    })
}

#[test]
fn names_are_checked_before_anyone_is_asked() {
    for name in ["a", "import-2025_v1.2", &"x".repeat(128)] {
        assert_eq!(parse_id(name).as_deref(), Ok(name));
    }
    assert!(["", ".", "..", "a b", "ä", "a/b", &"x".repeat(129)].iter().all(|name| parse_id(name).is_err()));
}

#[test]
fn actions_take_a_name_and_a_revert_a_reason() {
    for line in [
        &["x", "list"][..],
        &["x", "show", "b1", "--json"],
        &["x", "revert", "b1", "--reason", "why", "--wait"],
        &["x", "revert", "b1", "--reason", "why", "--url", "127.0.0.1:1"],
    ] {
        assert!(Cli::try_parse_from(line).is_ok(), "{line:?}");
    }
    for line in [
        &["x"][..],
        &["x", "show"],
        &["x", "revert", "b1"],
        &["x", "revert", "b1", "--reason", ""],
        &["x", "show", "a b"],
    ] {
        assert!(Cli::try_parse_from(line).is_err(), "{line:?}");
    }
}

#[test]
fn backfills_are_listed_and_shown_and_cannot_command_a_terminal() {
    let text = list(&json!([backfill("open", "2026-01-01T00:00:00Z")]), true);
    assert!(
        text.contains("| b1 | open  |      4 |          3 | 2026-01-01T00:00:00Z | -        | un\\u{1b}its |"),
        "{text}"
    );
    assert!(text.ends_with("There are more: ask for them with --limit.\n"));
    assert_eq!(list(&json!([]), false), "No backfills.\n");
    let text = details(&backfill("open", "2026-01-01T00:00:00Z"));
    assert!(
        text.starts_with("Backfill:     b1\nState:        open\nEvents:       4\n") && !text.contains("Reverted:"),
        "{text}"
    );
}

#[test]
fn a_revert_is_posted_with_its_reason_and_waited_for() {
    let mut looks = 0;
    let (mut client, asked) = daemon(Box::new(move |method, _, _| {
        looks += 1;
        let state = if looks < 4 { "reverting" } else { "reverted" };
        (if method == "POST" { 202 } else { 200 }, backfill(state, "2026-01-01T00:00:00Z"))
    }));
    let begun = revert(&mut client, "b1", "wrong units").unwrap();
    assert_eq!(begun["state"], "reverting");
    let done = wait_for(&mut client, "b1", begun, Duration::from_millis(1)).unwrap();
    assert_eq!(done["state"], "reverted");
    let asked = asked.lock();
    assert_eq!((&*asked[0].0, &*asked[0].1), ("POST", "/v1/backfills/b1:revert"));
    assert_eq!(asked[0].2, r#"{"reason":"wrong units"}"#);
    assert_eq!((asked.len(), &*asked[3].1), (4, "/v1/backfills/b1"));
}

#[test]
fn a_name_that_is_used_again_does_not_keep_one_waiting() {
    let (mut client, _) = daemon(Box::new(|_, _, _| (200, backfill("open", "2026-02-02T00:00:00Z"))));
    let begun = backfill("reverting", "2026-01-01T00:00:00Z");
    let done = wait_for(&mut client, "b1", begun, Duration::from_millis(1)).unwrap();
    assert_eq!((&done["state"], &done["opened_at"]), (&json!("reverted"), &json!("2026-01-01T00:00:00Z")));
}

#[test]
fn what_is_refused_is_told() {
    let (mut client, _) = daemon(Box::new(|_, _, _| (409, json!({"detail": "it is being reverted"}))));
    let error = revert(&mut client, "b1", "r").unwrap_err().to_string();
    assert_eq!(error, "POST /v1/backfills/b1:revert was answered 409: it is being reverted");
}
