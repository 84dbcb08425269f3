use clap::Parser;

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn sink() -> Value {
    json!({
        "name": "billing", "configured": true, "kinds": ["windows", "alerts"], "state": "paused",
        "paused": {"cause": "gone", "reason": "410\u{1b}[2J", "at": "2026-01-01T00:00:00Z"}, "breaker": "open",
        "retry_at": "2026-01-01T00:01:00Z", "in_flight": 0, "pending": 3, "dead_letters": 1, "lag_seconds": 60,
        "last_error": {"at": "2026-01-01T00:00:00Z", "error": "gone"},
    })
}

#[test]
fn a_sink_is_a_line_of_a_list() {
    let text = list(&json!([sink()]));
    assert!(text.contains("| billing | paused (gone) | open    |       3 |            1 | 60 s | -"), "{text}");
    assert!(list(&json!([])).starts_with("No sinks"));
    let gone = json!({"name": "old", "configured": false, "state": "running"});
    assert!(list(&json!([gone])).contains("| old  | not configured |"));
}

#[test]
fn one_sink_is_shown_with_all_that_is_known_and_cannot_command_a_terminal() {
    assert_eq!(
        details(&sink()),
        "Sink:         billing
Gets:         windows, alerts
State:        paused (gone)
Since:        2026-01-01T00:00:00Z 410\\u{1b}[2J
Breaker:      open until 2026-01-01T00:01:00Z
In flight:    0
Pending:      3
Dead letters: 1
Lag:          60 s
Last success: -
Last error:   2026-01-01T00:00:00Z gone
"
    );
}

#[test]
fn actions_take_a_name_and_perhaps_a_reason() {
    for line in [
        &["x", "list"][..],
        &["x", "show", "a"],
        &["x", "pause", "a", "--reason", "why", "--url", "127.0.0.1:1"],
        &["x", "resume", "a", "--json"],
        &["x", "forget", "a"],
    ] {
        assert!(Cli::try_parse_from(line).is_ok_and(|cli| cli.args.daemon.timeout == 30), "{line:?}");
    }
    for line in [&["x"][..], &["x", "pause"], &["x", "show"], &["x", "list", "a"]] {
        assert!(Cli::try_parse_from(line).is_err(), "{line:?}");
    }
}
