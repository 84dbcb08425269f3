use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use clap::Parser;

use super::*;
use crate::cli::client::Target;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn parse(line: &[&str]) -> Option<Action> {
    let line = ["x"].into_iter().chain(line.iter().copied());
    Cli::try_parse_from(line).ok().map(|cli| cli.args.action)
}

fn delivery() -> Value {
    json!({
        "id": "msg_00000abc_1_9", "sink": "billing", "kind": "windows", "state": "dead_letter", "rows": 1, "attempts": 2,
        "replays": 0, "planned_at": "2026-01-01T00:00:00Z", "finished_at": "2026-01-04T00:00:00Z",
        "last_attempt": {"at": "2026-01-01T00:00:00Z", "error": "x".repeat(70)},
        "attempts_log": [
            {"at": "2026-01-01T00:00:00Z", "took_ms": 12, "status": 500, "error": "answered 500", "answer": "oh\u{1b}"},
            {"at": "2026-01-01T00:00:05Z", "took_ms": 3},
        ],
        "payload": {"rows": [{
            "customer": "acme", "meter": "tokens", "dimensions": {"model": "a"}, "window_start": "2026-01-01T00:00:00Z",
            "value": "12.5", "event_count": 4, "revision": 0,
        }]},
    })
}

#[test]
fn a_delivery_is_a_line_of_a_list() {
    let text = text::list(&json!([delivery()]), true);
    assert!(text.contains("| msg_00000abc_1_9 | billing | windows | dead_letter |    1 |        2 |"), "{text}");
    assert!(text.contains(&format!("| {}… |", "x".repeat(60))), "{text}");
    assert!(text.ends_with("There are more: ask for them with --limit.\n"));
    assert_eq!(text::list(&json!([]), false), "No deliveries.\n");
}

#[test]
fn one_delivery_is_shown_with_its_attempts_and_rows() {
    let text = text::details(&delivery());
    for part in [
        "Delivery:   msg_00000abc_1_9\n",
        "State:      dead_letter\n",
        "| 2026-01-01T00:00:00Z | 12 |    500 | answered 500 | oh\\u{1b} |",
        "| 2026-01-01T00:00:05Z |  3 |      - | delivered    | -",
        "| acme     | tokens | {\"model\":\"a\"} | 2026-01-01T00:00:00Z |  12.5 |     - |      4 |        0 |",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("Next try"), "{text}");
    let alert = json!({
        "type": "alert.triggered", "customer": "acme", "meter": "tokens", "cap": "default", "threshold": "80%",
        "amount": "800", "used": "812.5", "period_start": "2026-01-01T00:00:00Z", "at": "2026-01-20T00:00:00Z",
        "event": {"usage_event_id": "e\u{1b}1", "seq": 7},
    });
    let text = text::details(&json!({"id": "m", "kind": "alerts", "payload": {"rows": [alert]}}));
    for part in [
        "| type            | customer | meter  | cap     | threshold | amount |  used |",
        "| alert.triggered | acme     | tokens | default |       80% |    800 | 812.5 | 2026-01-01T00:00:00Z | e\\u{1b}1 |",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let without = json!({"id": "m", "payload": null, "payload_note": "not kept"});
    assert!(text::details(&without).ends_with("\nNo rows: not kept\n"));
}

#[test]
fn a_replay_needs_an_id_a_sink_or_all_of_them() {
    for line in [
        &["replay", "msg_1"][..],
        &["replay", "--sink", "a"],
        &["replay", "--sink", "a", "--kind", "windows"],
        &["replay", "--all", "--kind", "alerts", "--json"],
    ] {
        assert!(matches!(parse(line), Some(Action::Replay(_))), "{line:?}");
    }
    for line in [
        &["replay"][..],
        &["replay", "--kind", "windows"],
        &["replay", "msg_1", "--all"],
        &["replay", "msg_1", "--sink", "a"],
        &["replay", "--all", "--kind", "all"],
        &["list", "--state", "lost"],
        &["list", "--limit", "0"],
        &["show"],
    ] {
        assert!(parse(line).is_none(), "{line:?}");
    }
}

#[test]
fn a_list_is_asked_for_by_state_sink_and_kind() {
    assert_eq!(list_path(None, &Of::default()), "/v1/deliveries?");
    let of = Of { sink: Some("a b".into()), kind: Some("windows".into()) };
    assert_eq!(list_path(Some("dead"), &of), "/v1/deliveries?state=dead&sink=a%20b&kind=windows&");
}

/// Request line, key, body.
type Seen = (String, String, String);

/// A daemon that gives these answers in turn; what it was sent comes back.
fn daemon(answers: Vec<(u16, Value)>) -> (Client, std::thread::JoinHandle<Vec<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::parse(&listener.local_addr().unwrap().to_string()).unwrap();
    let serve = move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut seen = Vec::new();
        for (status, answer) in answers {
            let (mut request, mut key, mut length) = (String::new(), String::new(), 0);
            reader.read_line(&mut request).unwrap();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                match line.trim_end().split_once(": ") {
                    Some(("idempotency-key", value)) => key = value.to_owned(),
                    Some(("content-length", value)) => length = value.parse().unwrap(),
                    Some(_) => {}
                    None => break,
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            seen.push((request.trim_end().to_owned(), key, String::from_utf8(body).unwrap()));
            let answer = answer.to_string();
            write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{answer}", answer.len()).unwrap();
        }
        seen
    };
    let thread = std::thread::Builder::new().spawn(serve).unwrap();
    (Client::new(&target, Duration::from_secs(5)).unwrap(), thread)
}

#[test]
fn all_are_replayed_in_as_many_requests_as_it_takes_each_with_its_own_key() {
    let Some(Action::Replay(replay)) = parse(&["replay", "--sink", "a"]) else { panic!() };
    let answers = [json!({"replayed": 10_000, "more": true}), json!({"replayed": 5, "more": false})];
    let (mut client, seen) = daemon(answers.map(|answer| (200, answer)).to_vec());
    let answer = replay_until_done(&mut client, &replay, "k").unwrap();
    assert_eq!(text::replayed(&answer), "10005 dead letters are tried again.\n");
    let seen = seen.join().unwrap();
    let body = r#"{"kind":null,"sink":"a","state":"dead_letter"}"#;
    let line = "POST /v1/deliveries:replay HTTP/1.1";
    let expected = ["k-0", "k-1"].map(|key| (line.to_owned(), key.to_owned(), body.to_owned()));
    assert_eq!(seen, expected);
}

#[test]
fn one_is_replayed_by_its_id_and_what_is_refused_is_told() {
    let Some(Action::Replay(replay)) = parse(&["replay", "msg_1"]) else { panic!() };
    let (mut client, seen) = daemon(vec![(409, json!({"detail": "the delivery is no dead letter"}))]);
    let error = replay_until_done(&mut client, &replay, "k").unwrap_err();
    assert_eq!(error.to_string(), "POST /v1/deliveries/msg_1:replay was answered 409: the delivery is no dead letter");
    assert_eq!(seen.join().unwrap()[0].1, "k");
    assert_ne!(operator::new_key(), operator::new_key());
}

#[test]
fn a_list_is_read_page_by_page_up_to_what_was_asked_for() {
    let page = |next: Value| (200, json!({"data": [{"id": "a"}], "next_cursor": next}));
    let (mut client, seen) = daemon(vec![page(json!("c/1")), page(json!("c2"))]);
    let (rows, more) = operator::list(&mut client, "/v1/deliveries?", 2).unwrap();
    assert_eq!((rows.len(), more), (2, true));
    let seen = seen.join().unwrap();
    assert_eq!(seen[0].0, "GET /v1/deliveries?limit=2 HTTP/1.1");
    assert_eq!(seen[1].0, "GET /v1/deliveries?limit=1&cursor=c%2F1 HTTP/1.1");
}
