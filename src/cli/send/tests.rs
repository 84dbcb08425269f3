use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;

/// A stand-in for the daemon: remembers ids, refuses bodies that hold `poison`, and hangs up every third time.
#[derive(Default)]
struct Fake {
    ids: HashMap<String, Value>,
    requests: u64,
    /// Request lines, each once.
    lines: std::collections::BTreeSet<String>,
    hangs_up: bool,
    status: Option<u16>,
}

fn serve(fake: Fake) -> (Target, Arc<Mutex<Fake>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::parse(&listener.local_addr().unwrap().to_string()).unwrap();
    let fake = Arc::new(Mutex::new(fake));
    let shared = fake.clone();
    let accept = move || {
        for stream in listener.incoming() {
            let shared = shared.clone();
            let talk = move || converse(stream.unwrap(), &shared);
            thread::Builder::new().spawn(talk).unwrap();
        }
    };
    thread::Builder::new().spawn(accept).unwrap();
    (target, fake)
}

fn converse(stream: TcpStream, fake: &Mutex<Fake>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line.starts_with("POST ") {
                fake.lock().lines.insert(line.trim_end().to_owned());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let Some((status, answer)) = fake.lock().answer(&String::from_utf8(body).unwrap()) else { return };
        let text = answer.to_string();
        write!(writer, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{text}", text.len()).unwrap();
    }
}

impl Fake {
    fn answer(&mut self, body: &str) -> Option<(u16, Value)> {
        self.requests += 1;
        if let Some(status) = self.status {
            return Some((status, json!({"detail": "not for you"})));
        }
        if body.contains("poison") {
            return Some((400, json!({"detail": "poison at byte 1"})));
        }
        let parsed: Vec<Value> = match body.starts_with('[') {
            true => serde_json::from_str(body).unwrap(),
            false => body.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        };
        let mut counts = HashMap::from([("accepted", 0), ("duplicate", 0), ("conflict", 0), ("rejected", 0)]);
        let mut events = Vec::new();
        for (index, event) in parsed.into_iter().enumerate() {
            let id = event["id"].as_str().unwrap_or_default().to_owned();
            let outcome = match self.ids.get(&id) {
                _ if id.is_empty() => "rejected",
                None => "accepted",
                Some(first) if *first == event => "duplicate",
                Some(_) => "conflict",
            };
            *counts.get_mut(outcome).unwrap() += 1;
            if outcome != "accepted" {
                events.push(
                    json!({"index": index, "usage_event_id": id, "outcome": outcome, "code": "c", "detail": "d"}),
                );
            }
            self.ids.entry(id).or_insert(event);
        }
        // Counted, but the answer is lost: the sender must come again.
        if self.hangs_up && self.requests.is_multiple_of(3) {
            return None;
        }
        let mut answer = json!(counts);
        answer["events"] = json!(events);
        Some((200, answer))
    }
}

fn args(url: Target, file: &Path) -> Args {
    Args {
        file: file.into(),
        url,
        cloudevents: false,
        backfill: None,
        batch: 10,
        connections: 3,
        give_up_after: 5,
        timeout: 5,
        rejects: None,
        show: 3,
        json: true,
    }
}

fn sent(args: &Args) -> Summary {
    let (reader, _) = open(&args.file).unwrap();
    let rejects = args.rejects.as_deref().map(|path| create(path).unwrap());
    let mut summary = Summary::new(args.show, rejects);
    summary.backfill.clone_from(&args.backfill);
    send(args, reader, &ProgressBar::hidden(), &mut summary).unwrap();
    summary.finish().unwrap();
    summary
}

fn json_of(summary: &Summary) -> Value {
    let mut out = Vec::new();
    summary.write_json(&mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

fn file(directory: &Path, lines: impl Iterator<Item = String>) -> PathBuf {
    let path = directory.join("events.ndjson");
    std::fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
    path
}

#[test]
fn lost_answers_are_retried_and_nothing_counts_twice() {
    let directory = tempfile::tempdir().unwrap();
    let (url, fake) = serve(Fake { hangs_up: true, ..Fake::default() });
    let path = file(directory.path(), (0..500).map(|n| format!("{{\"id\":\"e{n}\",\"v\":{n}}}")));
    for cloudevents in [false, true] {
        let summary = sent(&Args { cloudevents, ..args(url.clone(), &path) });
        assert!(summary.is_success(), "{}", json_of(&summary));
        assert_eq!(summary.counts.total(), 500);
    }
    assert_eq!(fake.lock().ids.len(), 500);
}

#[test]
fn every_event_that_was_not_taken_is_named_by_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let (url, _fake) = serve(Fake::default());
    let line = |n| match n {
        6 => "{\"id\":\"poison\"}".to_owned(),
        7 => "no json".to_owned(),
        12 => "{\"v\":1}".to_owned(),
        30 => "{\"id\":\"e1\",\"v\":9}".to_owned(),
        n => format!("{{\"id\":\"e{n}\",\"v\":0}}"),
    };
    let path = file(directory.path(), (1..=40).map(line));
    let rejects = directory.path().join("rejects.ndjson");
    let summary = sent(&Args { rejects: Some(rejects.clone()), connections: 1, ..args(url, &path) });
    assert!(!summary.is_success());
    let all = std::fs::read_to_string(&rejects).unwrap();
    let found = all.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>();
    let mut named =
        found.iter().map(|r| (r["line"].as_u64().unwrap(), r["code"].as_str().unwrap())).collect::<Vec<_>>();
    named.sort_unstable();
    assert_eq!(named, [(6, "unreadable"), (7, "invalid_json"), (12, "c"), (30, "c")]);
    let json = json_of(&summary);
    assert_eq!(
        (json["accepted"].as_u64(), json["conflict"].as_u64(), json["rejected"].as_u64()),
        (Some(36), Some(1), Some(3))
    );
    assert_eq!(json["not_taken"].as_array().unwrap().len(), 3);
    let mut text = Vec::new();
    summary.write_text(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("line 6: rejected (unreadable) poison at byte 1") && text.contains("… and 1 more"), "{text}");
}

#[test]
fn a_refusal_that_is_not_about_events_stops_the_sending() {
    let directory = tempfile::tempdir().unwrap();
    let (url, fake) = serve(Fake { status: Some(401), ..Fake::default() });
    let path = file(directory.path(), (0..5_000).map(|n| format!("{{\"id\":\"e{n}\"}}")));
    let summary = sent(&args(url, &path));
    assert!(!summary.is_success());
    let json = json_of(&summary);
    assert_eq!(json["stopped_by"], "the daemon answered 401: not for you");
    assert_eq!((json["complete"].as_bool(), json["events"].as_u64()), (Some(false), Some(0)));
    assert!(fake.lock().requests <= 3, "each connection asks once");
}

#[test]
fn gives_up_on_a_daemon_that_stays_away_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let (url, _fake) = serve(Fake { status: Some(503), ..Fake::default() });
    let path = file(directory.path(), (0..10).map(|n| format!("{{\"id\":\"e{n}\"}}")));
    let summary = sent(&Args { give_up_after: 0, ..args(url, &path) });
    let json = json_of(&summary);
    assert!(json["stopped_by"].as_str().unwrap().starts_with("gave up after 1 attempts"), "{json}");
    assert_eq!(json["unanswered"].as_u64(), Some(10));
}

#[test]
fn events_of_a_backfill_go_under_its_name_and_the_summary_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let (url, fake) = serve(Fake::default());
    let path = file(directory.path(), (0..25).map(|n| format!("{{\"id\":\"e{n}\"}}")));
    let plain = sent(&args(url.clone(), &path));
    assert_eq!(json_of(&plain)["backfill"], Value::Null);
    let summary = sent(&Args { backfill: Some("import-2025".into()), ..args(url, &path) });
    assert_eq!(json_of(&summary)["backfill"], "import-2025");
    let mut text = Vec::new();
    summary.write_text(&mut text).unwrap();
    assert!(String::from_utf8(text).unwrap().contains("\nbackfill   import-2025\n"));
    let lines: Vec<String> = fake.lock().lines.iter().cloned().collect();
    assert_eq!(lines, ["POST /v1/events HTTP/1.1", "POST /v1/events?backfill=import-2025 HTTP/1.1"]);
}
