//! `POST /v1/events` over a socket: content types, encodings, outcomes, and what is refused whole.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use meterd::engine;
use meterd::http::Options;
use meterd::model::Duration;
use serde_json::json;

use crate::http_daemon::{Daemon, event};

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_content_type_is_taken_and_counted_once() {
    let daemon = Daemon::start().await;
    let cloudevent = |id: &str| {
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"llm","subject":"c","time":"2026-11-22T10:00:00Z","data":{{"tokens":2}}}}"#
        )
    };
    for (content_type, body, accepted) in [
        ("application/json; charset=utf-8", event(0, "c", 1), 1),
        ("application/json", format!("[{},{}]", event(1, "c", 1), event(2, "c", 1)), 2),
        ("application/x-ndjson", format!("{}\n\n{}\r\n", event(3, "c", 1), event(4, "c", 1)), 2),
        ("application/cloudevents+json", cloudevent("1"), 1),
        ("application/cloudevents-batch+json", format!("[{},{}]", cloudevent("2"), cloudevent("3")), 2),
    ] {
        for (accepted, duplicate) in [(accepted, 0), (0, accepted)] {
            let reply = daemon.post(content_type, body.clone()).await;
            assert_eq!(reply.status, 200, "{content_type}: {}", reply.text);
            assert_eq!(reply.json["accepted"], accepted, "{content_type}: {}", reply.text);
            assert_eq!(reply.json["duplicate"], duplicate, "{content_type}: {}", reply.text);
        }
    }
    let total = daemon.rows("/v1/meters/tokens/usage?window=1d").await;
    assert_eq!((&total[0]["value"], &total[0]["event_count"]), (&json!("11"), &json!(8)));
    let total = daemon.rows("/v1/meters/requests/usage?window=1d").await;
    assert_eq!(total[0]["value"], "3");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_bodies_count_and_damaged_or_swollen_ones_do_not() {
    let options = Options { max_decoded_body_bytes: 300_000, ..Options::default() };
    let daemon = Daemon::start_with(options, engine::Options::default()).await;
    let members = [gzip("["), gzip(&event(0, "c", 1)), gzip("]")].concat();
    let frame = zstd::encode_all(event(1, "c", 1).as_bytes(), 3).expect("memory");
    let bomb = zstd::encode_all(&vec![b' '; 10 << 20][..], 3).expect("memory");
    for (encoding, body, status) in [
        ("gzip", members.clone(), 200),
        ("zstd", frame.clone(), 200),
        ("identity", event(2, "c", 1).into_bytes(), 200),
        ("gzip", members[..members.len() - 4].to_vec(), 400),
        ("zstd", frame[..frame.len() - 2].to_vec(), 400),
        ("gzip", b"junk".to_vec(), 400),
        ("zstd", bomb, 413),
        ("gzip", gzip(&" ".repeat(10 << 20)), 413),
        ("br", frame, 415),
    ] {
        let headers = [("content-type", "application/json"), ("content-encoding", encoding)];
        let reply = daemon.call("POST", "/v1/events", &headers, body).await;
        assert_eq!(reply.status, status, "{encoding}: {}", reply.text);
    }
    assert_eq!(daemon.rows("/v1/meters/tokens/usage?window=1d").await[0]["value"], "3");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_has_its_outcome_and_the_rest_of_a_batch_is_taken() {
    let daemon = Daemon::start().await;
    daemon.post("application/json", event(0, "c", 1)).await;
    let other_payload = event(0, "c", 2);
    let old = r#"{"usage_event_id":"old","customer":"c","meter":"tokens","timestamp":0}"#;
    let body =
        format!(r#"[{},{other_payload},{old},{{"usage_event_id":"x"}},5,{}]"#, event(0, "c", 1), event(1, "c", 1));
    let reply = daemon.post("application/json", body).await;
    assert_eq!(reply.status, 207, "{}", reply.text);
    let counts =
        ["accepted", "duplicate", "conflict", "rejected", "capped", "late"].map(|name| reply.json[name].as_u64());
    assert_eq!(counts, [1, 1, 1, 3, 0, 0].map(Some));
    let listed: Vec<_> = reply.json["events"].as_array().expect("events").iter().collect();
    let fields = |name: &str| listed.iter().map(|event| event[name].clone()).collect::<Vec<_>>();
    assert_eq!(json!(fields("index")), json!([0, 1, 2, 3, 4]));
    assert_eq!(json!(fields("usage_event_id")), json!(["e0", "e0", "old", "x", null]));
    assert_eq!(json!(fields("code")), json!([null, "id_conflict", "too_late", "missing_field", "invalid_field"]));
    let all =
        daemon.call("POST", "/v1/events?results=all", &[("content-type", "application/json")], event(9, "c", 1)).await;
    assert_eq!(all.json["events"][0]["outcome"], "accepted", "{}", all.text);
    assert_eq!(all.json["events"][0]["seq"], all.json["seq"]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_body_is_refused_whole_and_says_where() {
    let daemon = Daemon::start().await;
    let good = event(0, "c", 1);
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    for (content_type, body, at) in [
        ("application/json", format!("[{good},]"), json!([good.len() + 2, null])),
        ("application/json", format!("{good}{good}"), json!([good.len(), null])),
        ("application/json", format!(r#"[{good},{{"a":1,"\u0061":2}}]"#), json!([good.len() + 2, null])),
        ("application/x-ndjson", format!("{good}\n{{\"a\":NaN}}"), json!([good.len() + 6, 2])),
        ("application/cloudevents+json", format!("[{good}]"), json!([0, null])),
        ("application/json", deep, json!([64, null])),
        ("application/json", String::new(), json!([0, null])),
    ] {
        let reply = daemon.post(content_type, body.clone()).await;
        assert_eq!(reply.status, 400, "{body}: {}", reply.text);
        assert_eq!(reply.headers["content-type"], "application/problem+json");
        assert_eq!(json!([reply.json["offset"], reply.json["line"]]), at, "{body}: {}", reply.text);
    }
    let reply = daemon.post("application/json", [b"[\"".as_slice(), b"\xff\"]"].concat()).await;
    assert_eq!((reply.status, reply.json["offset"].as_u64()), (400, Some(2)));
    assert_eq!(daemon.rows("/v1/meters/tokens/usage").await, [] as [serde_json::Value; 0]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_past_a_limit_are_refused_before_they_cost_anything() {
    let options = Options { max_body_bytes: 10_000, max_events_per_request: 20, ..Options::default() };
    let daemon = Daemon::start_with(options, engine::Options::default()).await;
    assert_eq!(daemon.post("application/json", vec![b' '; 10_001]).await.status, 413);
    assert_eq!(daemon.post("application/json", format!("[{}]", vec!["{}"; 21].join(","))).await.status, 413);
    assert_eq!(daemon.post("application/json", format!("[{}]", vec!["{}"; 20].join(","))).await.status, 207);
    assert_eq!(daemon.post("application/json", "[]").await.status, 200);
    assert_eq!(daemon.post("text/plain", "[]").await.status, 415);
    let reply = daemon.call("POST", "/v1/events", &[], "[]").await;
    assert_eq!(reply.status, 415, "a missing content type: {}", reply.text);
    let reply = daemon.call("POST", "/v1/events?result=all", &[("content-type", "application/json")], "[]").await;
    assert_eq!((reply.status, reply.json["parameter"].as_str()), (400, Some("result")));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_503_with_retry_after_and_frees_again() {
    let engine_options = engine::Options { queue_bytes: 4_096, ..engine::Options::default() };
    let daemon = Daemon::start_with(Options::default(), engine_options).await;
    let held = daemon.engine.admit(4_096).expect("room");
    let reply = daemon.post("application/json", event(0, "c", 1)).await;
    assert_eq!((reply.status, reply.headers["retry-after"].to_str().ok()), (503, Some("1")), "{}", reply.text);
    drop(held);
    let reply = daemon.post("application/json", event(0, "c", 1)).await;
    assert_eq!((reply.status, reply.json["accepted"].as_u64()), (200, Some(1)), "{}", reply.text);
    daemon.engine.close();
    let reply = daemon.post("application/json", event(1, "c", 1)).await;
    assert_eq!((reply.status, reply.headers.contains_key("retry-after")), (503, true), "{}", reply.text);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_ends_is_408_and_holds_no_room() {
    let options = Options { body_timeout: Duration::from_millis(300), ..Options::default() };
    let daemon = Daemon::start_with(options, engine::Options::default()).await;
    let head = "POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    for length in ["Content-Length: 10\r\n\r\n[", "Transfer-Encoding: chunked\r\n\r\n1\r\n[\r\n"] {
        let (address, request) = (daemon.address, format!("{head}{length}"));
        let answer = tokio::task::spawn_blocking(move || {
            let mut stream = std::net::TcpStream::connect(address).expect("it listens");
            stream.write_all(request.as_bytes()).expect("it reads");
            let mut answer = Vec::new();
            let _ = std::io::Read::read_to_end(&mut stream, &mut answer);
            String::from_utf8(answer).expect("text")
        });
        let answer = answer.await.expect("no panic");
        assert!(answer.starts_with("HTTP/1.1 408 "), "{length}: {answer}");
    }
    assert_eq!(daemon.engine.health().queue_bytes, 0);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_at_the_edges_of_the_calendar_are_answered_like_any_other() {
    let daemon = Daemon::start().await;
    let times = [
        "253402207200500",
        "253402207200000",
        "253402300799999",
        "9223372036854775807",
        "1e300",
        "-62135596800000",
        "-62135596800001",
        "\"9999-12-31T23:59:59.999999999Z\"",
        "\"9999-12-30T22:00:00.5Z\"",
        "\"9999-12-30T21:59:59Z\"",
        "\"0001-01-01T00:00:00Z\"",
        "\"0001-01-01T00:00:00+12:00\"",
    ];
    for time in times {
        let body = format!(r#"{{"usage_event_id":"e","customer":"c","meter":"tokens","timestamp":{time}}}"#);
        let reply = daemon.post("application/json", body).await;
        assert_eq!(reply.status, 207, "{time}: {}", reply.text);
        let code = reply.json["events"][0]["code"].as_str().unwrap_or_default();
        assert!(["too_late", "too_early", "invalid_timestamp"].contains(&code), "{time}: {}", reply.text);
        let path = format!("/v1/meters/tokens/usage?window=1mo&to={}", time.trim_matches('"'));
        let status = daemon.get(&path).await.status;
        assert!([200, 400].contains(&status), "{path}: {status}");
    }
    assert_eq!(daemon.post("application/json", event(0, "c", 1)).await.status, 200);
    daemon.stop().await;
}
