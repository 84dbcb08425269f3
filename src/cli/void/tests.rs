use clap::Parser;

use super::*;
use crate::cli::evidence::fake::daemon;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn parse(line: &[&str]) -> Option<Args> {
    Cli::try_parse_from(["x"].iter().chain(line)).ok().map(|cli| cli.args)
}

fn answer() -> Value {
    json!({
        "usage_event_id": "e\u{1b}1", "source": "", "seq": 9, "event_seq": 4, "voided_at": "2026-11-05T10:00:00Z",
        "reason": "test", "adjusted": 1,
    })
}

#[test]
fn a_void_needs_an_id_and_a_reason() {
    assert!(parse(&["e1", "--reason", "test", "--source", "s", "--json"]).is_some());
    for line in [&[][..], &["e1"], &["e1", "--reason", ""], &["", "--reason", "test"]] {
        assert!(parse(line).is_none(), "{line:?}");
    }
}

#[test]
fn the_body_names_the_event_the_reason_and_a_replacement() {
    let args = parse(&["e1", "--reason", "test"]).unwrap();
    assert_eq!(body(&args).unwrap(), json!({"usage_event_id": "e1", "reason": "test"}));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("event.json");
    let with = |text: &str| {
        std::fs::write(&path, text).unwrap();
        body(&parse(&["e1", "--source", "s", "--reason", "r", "--replacement", path.to_str().unwrap()]).unwrap())
    };
    let event = json!({"usage_event_id": "e2", "quantity": "1.5"});
    let expected = json!({"usage_event_id": "e1", "source": "s", "reason": "r", "replacement": event});
    assert_eq!(with(&event.to_string()).unwrap(), expected);
    assert!(with("[1]").unwrap_err().to_string().contains("is not an event"));
    assert!(with("{").unwrap_err().to_string().contains("is not JSON"));
    std::fs::remove_file(&path).unwrap();
    let missing = parse(&["e1", "--reason", "r", "--replacement", path.to_str().unwrap()]).unwrap();
    assert!(body(&missing).unwrap_err().chain().any(|cause| cause.is::<std::io::Error>()), "exit code 74");
}

#[test]
fn it_is_posted_and_the_answer_told() {
    let (mut client, asked) = daemon(Box::new(|_, _, _| (200, answer())));
    let answered = void(&mut client, &json!({"usage_event_id": "e1", "reason": "test"})).unwrap();
    assert_eq!(asked.lock()[0].1, "/v1/events:void");
    let expected = "e\\u{1b}1 (record 4) is taken back: record 9, 2026-11-05T10:00:00Z, test\n\
                    1 window was final: it has an adjustment.\n";
    assert_eq!(text(&answered), expected);
    let mut again = answer();
    again["already_voided"] = true.into();
    again["adjusted"] = 0.into();
    again["replacement"] = json!({"outcome": "accepted", "seq": 10});
    let told = text(&again);
    assert!(
        told.contains(" was taken back: ") && told.ends_with("The replacement is accepted: record 10.\n"),
        "{told}"
    );
}

#[test]
fn what_is_refused_is_told() {
    let (mut client, _) =
        daemon(Box::new(|_, _, _| (404, json!({"detail": "no such event", "code": "unknown_event"}))));
    let error = void(&mut client, &json!({})).unwrap_err().to_string();
    assert_eq!(error, "POST /v1/events:void was answered 404: no such event");
}
