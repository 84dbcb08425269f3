//! Reads over a socket: usage by window, paging, a customer's month, meters, health, and their errors.

use serde_json::{Value, json};

use crate::http_daemon::{Daemon, event};

/// 100 events, every third of customer `a`, the others of `b/c`; quantities 0 to 99.
async fn filled() -> Daemon {
    let daemon = Daemon::start().await;
    let customer = |index: usize| if index.is_multiple_of(3) { "a" } else { "b/c" };
    let events: Vec<String> = (0..100).map(|index| event(index, customer(index), index)).collect();
    let reply = daemon.post("application/json", format!("[{}]", events.join(","))).await;
    assert_eq!(reply.json["accepted"], 100, "{}", reply.text);
    daemon
}

fn sum_of(rows: &[Value]) -> u64 {
    rows.iter().map(|row| row["value"].as_str().expect("a decimal string").parse::<u64>().expect("whole")).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_merge_over_what_is_not_grouped_by() {
    let daemon = filled().await;
    let hours = daemon.rows("/v1/meters/tokens/usage").await;
    assert_eq!((hours.len(), sum_of(&hours)), (10, 4_950));
    let expected = json!({
        "window_start": "2026-11-22T00:00:00Z", "window_end": "2026-11-22T01:00:00Z", "dimensions": {},
        "value": "450", "event_count": 10, "state": hours[0]["state"], "revision": 0,
    });
    assert_eq!(hours[0], expected);
    for (query, rows) in [
        ("window=1d", 1),
        ("window=1mo&group_by=customer", 2),
        ("window=1d&group_by=model", 2),
        ("window=1w&group_by=customer,model", 4),
        ("window=1d&group_by=model&group_by=customer", 4),
        ("group_by=customer", 20),
    ] {
        let found = daemon.rows(&format!("/v1/meters/tokens/usage?{query}")).await;
        assert_eq!((found.len(), sum_of(&found)), (rows, 4_950), "{query}");
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_by_customer_and_time() {
    let daemon = filled().await;
    let path = "/v1/meters/tokens/usage?customer=b%2Fc&from=2026-11-22T03:00:00Z&to=2026-11-22T05:00:00Z";
    let found = daemon.rows(path).await;
    let starts: Vec<_> = found.iter().map(|row| row["window_start"].as_str().expect("a time")).collect();
    assert_eq!(starts, ["2026-11-22T03:00:00Z", "2026-11-22T04:00:00Z"]);
    assert!(found.iter().all(|row| row["customer"] == "b/c"));
    assert_eq!(daemon.rows("/v1/meters/tokens/usage?customer=nobody").await.len(), 0);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_put_together_are_the_whole_in_order() {
    let daemon = filled().await;
    let whole = daemon.rows("/v1/meters/tokens/usage?group_by=customer,model").await;
    let (mut pages, mut cursor) = (Vec::new(), String::new());
    loop {
        let reply = daemon.get(&format!("/v1/meters/tokens/usage?group_by=customer,model&limit=3{cursor}")).await;
        pages.extend(reply.json["data"].as_array().expect("data").iter().cloned());
        match reply.json["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(pages, whole);
    let key = |row: &Value| {
        let model = row["dimensions"]["model"].as_str().map(str::to_owned);
        (row["window_start"].to_string(), row["customer"].to_string(), model)
    };
    assert!(whole.is_sorted_by_key(key));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customers_month_names_every_meter() {
    let daemon = filled().await;
    let reply = daemon.get("/v1/customers/b%2Fc/usage").await;
    assert_eq!((reply.status, &reply.json["customer"]), (200, &json!("b/c")), "{}", reply.text);
    let meters = |name: &str| {
        reply.json["data"].as_array().expect("data").iter().map(|row| row[name].clone()).collect::<Value>()
    };
    assert_eq!(meters("meter"), json!(["tokens", "requests", "users", "low/est"]));
    assert_eq!(meters("value"), json!(["3267", "0", "0", null]));
    assert_eq!(meters("period_start")[0], "2026-11-01T00:00:00Z");
    assert_eq!(meters("period_end")[0], "2026-12-01T00:00:00Z");
    assert_eq!(daemon.get("/v1/customers/nobody/usage").await.json["data"][0]["value"], "0");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn meters_are_listed_by_slug_and_found_by_an_escaped_one() {
    let daemon = Daemon::start().await;
    let first = daemon.get("/v1/meters?limit=3").await;
    let slugs: Vec<_> =
        first.json["data"].as_array().expect("data").iter().map(|meter| meter["slug"].clone()).collect();
    assert_eq!(json!(slugs), json!(["low/est", "requests", "tokens"]));
    let cursor = first.json["next_cursor"].as_str().expect("more");
    let rest = daemon.rows(&format!("/v1/meters?limit=3&cursor={cursor}")).await;
    assert_eq!((rest.len(), &rest[0]["slug"]), (1, &json!("users")));
    assert_eq!(daemon.get("/v1/meters/low%2Fest").await.json["aggregation"], "min");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_is_a_problem_with_its_status() {
    let daemon = Daemon::start().await;
    for (method, path, status, parameter) in [
        ("GET", "/nope", 404, Value::Null),
        ("GET", "/v1/meters/nope", 404, Value::Null),
        ("GET", "/v1/meters/nope/usage", 404, Value::Null),
        ("GET", "/v1/meters/%ff", 400, Value::Null),
        ("PUT", "/v1/events", 405, Value::Null),
        ("DELETE", "/v1/meters", 405, Value::Null),
        ("GET", "/v1/meters?verbose", 400, json!("verbose")),
        ("GET", "/v1/meters/tokens/usage?form=1", 400, json!("form")),
        ("GET", "/v1/meters/tokens/usage?window=30m", 400, json!("window")),
        ("GET", "/v1/meters/tokens/usage?group_by=colour", 400, json!("group_by")),
        ("GET", "/v1/meters/tokens/usage?from=2&to=1", 400, json!("to")),
        ("GET", "/v1/meters/tokens/usage?limit=10001", 400, json!("limit")),
        ("GET", "/v1/meters/tokens/usage?cursor=00", 400, json!("cursor")),
        ("GET", "/v1/meters/tokens/usage?from=253402207200500", 400, json!("from")),
    ] {
        let reply = daemon.call(method, path, &[], "").await;
        assert_eq!(reply.status, status, "{path}: {}", reply.text);
        assert_eq!(reply.headers["content-type"], "application/problem+json", "{path}");
        assert_eq!((&reply.json["status"], &reply.json["parameter"]), (&json!(status), &parameter), "{path}");
        assert!(!reply.headers.contains_key("retry-after"), "{path}");
        assert_eq!(reply.headers.contains_key("allow"), status == 405, "{path}");
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_follows_the_engine() {
    let daemon = Daemon::start().await;
    for path in ["/livez", "/readyz", "/healthz", "/readyz?verbose", "/metrics"] {
        assert_eq!(daemon.get(path).await.status, 200, "{path}");
    }
    assert!(daemon.get("/livez?verbose").await.text.contains("durable_seq "));
    daemon.engine.close();
    assert_eq!(daemon.get("/readyz").await.status, 503);
    assert_eq!(daemon.get("/livez").await.status, 200);
    daemon.stop().await;
}
