use clap::Parser;
use serde_json::json;

use super::*;
use crate::cli::audit::Args;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    _audit: Args,
}

#[derive(Parser)]
struct Trail {
    #[arg(long)]
    trail: bool,
    #[command(flatten)]
    args: TrailArgs,
}

#[test]
fn the_trail_is_asked_for_by_name() {
    for line in [&["x", "--trail"][..], &["x", "--trail", "--since", "4", "--format", "json", "--action", "a"]] {
        assert!(Cli::try_parse_from(line).is_ok(), "{line:?}");
    }
    for line in [&["x"][..], &["x", "--since", "4"], &["x", "--trail", "--format", "csv"]] {
        assert!(Cli::try_parse_from(line).is_err(), "{line:?}");
    }
}

#[test]
fn the_path_has_what_was_asked_for() {
    let of = |line: &[&str]| {
        let cli = Trail::try_parse_from(["x", "--trail"].iter().chain(line)).unwrap();
        assert!(cli.trail);
        path(&cli.args)
    };
    assert_eq!(of(&[]), "/v1/audit?");
    assert_eq!(of(&["--since", "47", "--action", "a b"]), "/v1/audit?since=47&action=a%20b&");
}

#[test]
fn an_entry_is_a_line_with_what_was_and_what_is() {
    let entry = json!({
        "id": "47", "at": "2026-11-05T10:00:00Z", "by": null, "action": "caps.set", "target": "ac\u{1b}me/tokens",
        "before": {"hard": "1"}, "after": "x".repeat(70),
    });
    let text = trail(&[entry], true);
    let line = "| 47 | 2026-11-05T10:00:00Z | -  | caps.set | ac\\u{1b}me/tokens | {\"hard\":\"1\"} | ";
    assert!(text.contains(line), "{text}");
    assert!(text.contains(&format!("{}…", "x".repeat(60))), "{text}");
    assert!(text.ends_with("There are more: ask for them with --since 47.\n"));
    assert_eq!(trail(&[], false), "Nothing was changed.\n");
}
