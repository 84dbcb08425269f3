//! The real program through restarts and SIGKILLs: what billing has read once it reads again, to the hash.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use meterd::cli::daemon::Daemon;
use meterd::env::{Clock, SystemClock};
use meterd::model::Timestamp;
use serde_json::{Value, json};

use crate::billing::scene::{Http, event, hash};
use crate::harness::{Home, SMALL};

/// Far above what a window of a second and a grace of a second take.
const FINAL_WITHIN: Duration = Duration::from_secs(20);
pub const METERS: &str = "
[ingest]
accept_past = \"40d\"
[dedupe]
retention = \"45d\"
[[meter]]
slug = \"tokens\"
aggregation = \"sum\"
allow_negative = true
window = \"1s\"
grace = \"1s\"
dimensions = { model = \"$.model\" }
[[meter]]
slug = \"users\"
aggregation = \"unique\"
value = \"$.user\"
window = \"1s\"
grace = \"1s\"
[[meter]]
slug = \"level\"
aggregation = \"latest\"
window = \"1s\"
grace = \"1s\"
[[meter]]
slug = \"average\"
aggregation = \"avg\"
window = \"1s\"
grace = \"1s\"
";
const SLUGS: [&str; 4] = ["average", "level", "tokens", "users"];
pub const CUSTOMERS: [&str; 3] = ["anna", "=b,\"c\"", "d/é"];

pub fn home() -> Home {
    Home::new(&format!("{SMALL}{METERS}"))
}

pub fn http(daemon: &Daemon) -> Http {
    Http::to(daemon.target().unwrap())
}

fn now() -> Timestamp {
    SystemClock::new().now()
}

/// In the month before this one, and within what is accepted.
pub fn last_month() -> String {
    now().saturating_sub(meterd::model::Duration::from_secs(31 * 86_400)).to_string()
}

/// An event of every meter and customer.
fn everywhere(id: &str, quantity: i64, at: &str) -> Vec<Value> {
    let one = |customer: &str, slug: &str| {
        let mut event = event(&format!("{id} {customer} {slug}"), customer, slug, quantity.abs(), at);
        if slug == "tokens" {
            event["quantity"] = json!(quantity);
        }
        event["dimensions"] =
            json!({"user": format!("u{}", quantity % 3), "model": (quantity % 2 == 0).then_some("m")});
        if event["dimensions"]["model"].is_null() {
            event["dimensions"].as_object_mut().unwrap().remove("model");
        }
        event
    };
    CUSTOMERS.iter().flat_map(|customer| SLUGS.map(|slug| one(customer, slug))).collect()
}

/// Usage in time and late, of this month and the one before; waits until every window is final.
pub fn fill(http: &Http, round: &str) {
    let now = now().to_string();
    let batch = |n: i64| everywhere(&format!("{round} in time {n}"), n * 7 - 3, &now);
    (0..3).for_each(|n| http.accept(batch(n), 0));
    let late = now_minus(3_600);
    let past = last_month();
    for (n, at) in [&late, &past, &late, &past].into_iter().enumerate() {
        let events = everywhere(&format!("{round} late {n}"), 5 - 4 * n as i64, at);
        let count = events.len();
        http.accept(events, count);
    }
    wait_until_final(http);
}

fn now_minus(seconds: u64) -> String {
    now().saturating_sub(meterd::model::Duration::from_secs(seconds)).to_string()
}

fn wait_until_final(http: &Http) {
    let began = Instant::now();
    let is_final = |slug: &&str| {
        let rows = http.rows(&format!("/v1/meters/{slug}/usage?group_by=customer"));
        rows.iter().all(|row| row["state"] == "finalized")
    };
    while !SLUGS.iter().all(is_final) {
        assert!(began.elapsed() < FINAL_WITHIN, "the windows do not close");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// All that billing can read.
#[derive(Debug, PartialEq)]
struct Books {
    totals: Vec<Value>,
    adjustments: Vec<Value>,
    windows: Vec<Value>,
    customers: Vec<Value>,
}

fn periods() -> BTreeSet<String> {
    [now().to_string(), now_minus(3_600), last_month()].iter().map(|at| at[..7].to_owned()).collect()
}

/// `as_of` of a row that is not final is the time of the look.
fn read(http: &Http, periods: &BTreeSet<String>) -> Books {
    let mut totals = Vec::new();
    for period in periods {
        let rows = http.pages(&format!("/v1/periods/{period}/totals?limit=5"));
        let lines = http.get(&format!("/v1/periods/{period}/totals?format=ndjson")).text;
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>();
        let timeless = |mut row: Value| {
            assert_eq!(row["hash"], hash(&row), "{row}");
            if row["final"] == false {
                row["as_of"].take();
            }
            row
        };
        let rows = rows.into_iter().map(timeless).collect::<Vec<_>>();
        assert_eq!(lines.into_iter().map(timeless).collect::<Vec<_>>(), rows);
        totals.extend(rows);
    }
    let windows =
        SLUGS.iter().flat_map(|slug| http.pages(&format!("/v1/meters/{slug}/usage?group_by=customer&limit=7")));
    let customers = ["anna", "%3Db%2C%22c%22", "anna/usage", "%3Db%2C%22c%22/usage", "d%2F%C3%A9/usage"];
    let customers = customers.map(|path| {
        let mut shown = http.json(&format!("/v1/customers/{path}"));
        shown.as_object_mut().unwrap().remove("as_of");
        shown
    });
    Books {
        totals,
        adjustments: http.pages("/v1/adjustments?limit=5"),
        windows: windows.collect(),
        customers: customers.to_vec(),
    }
}

fn set_customers(http: &Http) {
    for (name, body) in [
        ("anna", json!({"plan": "pro"})),
        ("%3Db%2C%22c%22", json!({"anchor": 31, "time_zone": "Asia/Kolkata", "plan": "ünï"})),
    ] {
        assert_eq!(http.put(&format!("/v1/customers/{name}"), body.to_string()).status, 200);
    }
}

#[test]
fn totals_adjustments_windows_and_customers_are_the_same_after_a_stop_and_after_a_sigkill() {
    let home = home();
    let daemon = home.start();
    fill(&http(&daemon), "first");
    set_customers(&http(&daemon));
    let past = last_month();
    tag_once_stored(&http(&daemon), &format!("/v1/periods/{}/totals?format=csv", &past[..7]));
    http(&daemon).accept(everywhere("after it was final", 6, &past), CUSTOMERS.len() * SLUGS.len());
    let periods = periods();
    let books = read(&http(&daemon), &periods);
    assert_eq!(books.adjustments.len(), 5 * CUSTOMERS.len() * SLUGS.len());
    assert!(books.totals.iter().any(|row| row["final"] == true && row["revision"] == 2), "{books:?}");
    daemon.kill().unwrap();
    let daemon = home.start();
    assert_eq!(read(&http(&daemon), &periods), books, "after a SIGKILL");
    daemon.stop().unwrap();
    let daemon = home.start();
    assert_eq!(read(&http(&daemon), &periods), books, "after a stop");
    daemon.kill().unwrap();
    home.verify();
}

#[test]
fn late_usage_after_a_restart_goes_on_where_the_revisions_were() {
    let home = home();
    let daemon = home.start();
    fill(&http(&daemon), "first");
    let before = http(&daemon).rows("/v1/adjustments");
    daemon.stop().unwrap();
    let daemon = home.start();
    let client = http(&daemon);
    let last = before.iter().rfind(|row| row["meter"] == "users").unwrap();
    let at = last["timestamp"].as_str().unwrap();
    let (customer, revision) = (last["customer"].as_str().unwrap(), last["revision"].as_u64().unwrap());
    let original = |client: &Http| {
        let rows = client.rows(&format!("/v1/periods/{}/totals?meter=users", last["period"].as_str().unwrap()));
        let row = rows.into_iter().find(|row| row["customer"] == customer).unwrap();
        (row["original_value"].clone(), row["revision"].as_u64().unwrap(), row["value"].clone())
    };
    let was = original(&client);
    for (n, user, delta) in [(1, last_user(&before), "0"), (2, "nobody else".to_owned(), "1")] {
        let mut late = event(&format!("after {n}"), customer, "users", 1, at);
        late["dimensions"] = json!({"user": user});
        client.accept(vec![late], 1);
        let row = client.rows("/v1/adjustments").pop().unwrap();
        assert_eq!((&row["delta"], &row["revision"]), (&json!(delta), &json!(revision + n)), "{row}");
    }
    let is = original(&client);
    assert_eq!(is.0, was.0, "the original is what it was");
    assert_eq!(is.1, was.1 + if was.1 > 0 { 2 } else { 0 });
    let since = before.last().unwrap()["id"].as_str().unwrap().to_owned();
    let newer = client.rows(&format!("/v1/adjustments?since={since}"));
    assert_eq!((newer.len(), client.rows("/v1/adjustments").len()), (2, before.len() + 2));
    daemon.stop().unwrap();
    home.verify();
}

/// The user of the last late event: its window knows it.
fn last_user(adjustments: &[Value]) -> String {
    let late = adjustments.len() / (CUSTOMERS.len() * SLUGS.len()) - 1;
    format!("u{}", (5 - 4 * late as i64) % 3)
}

#[test]
fn a_final_streams_tag_survives_restarts_and_sigkill_and_an_adjustment_ends_it() {
    let home = home();
    let daemon = home.start();
    fill(&http(&daemon), "first");
    let path = format!("/v1/periods/{}/totals?format=csv", &last_month()[..7]);
    let tag = tag_once_stored(&http(&daemon), &path);
    let asked = |daemon: &Daemon| http(daemon).call("GET", &path, &[("if-none-match", &tag)], "").status;
    assert_eq!(asked(&daemon), 304);
    daemon.stop().unwrap();
    let daemon = home.start();
    assert_eq!(asked(&daemon), 304, "after a stop");
    daemon.kill().unwrap();
    let daemon = home.start();
    tag_once_stored(&http(&daemon), &path);
    assert_eq!(asked(&daemon), 304, "after a SIGKILL");
    http(&daemon).accept(vec![event("one more", "anna", "tokens", 1, &last_month())], 1);
    assert_eq!(asked(&daemon), 200);
    assert_ne!(tag_once_stored(&http(&daemon), &path), tag);
    daemon.stop().unwrap();
}

/// A period's tag: there is one once the store has all of it.
fn tag_once_stored(http: &Http, path: &str) -> String {
    let began = Instant::now();
    loop {
        if let Some(tag) = http.get(path).headers.get("etag") {
            return tag.to_str().unwrap().to_owned();
        }
        assert!(began.elapsed() < FINAL_WITHIN, "no tag: {path}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_restart_between_the_end_of_a_window_and_its_close_loses_neither() {
    let home = home();
    for round in 0..3 {
        let daemon = home.start();
        http(&daemon).accept(everywhere(&format!("round {round}"), 4, &now().to_string()), 0);
        std::thread::sleep(Duration::from_millis(400 * round));
        daemon.kill().unwrap();
        std::thread::sleep(Duration::from_millis(300));
    }
    let daemon = home.start();
    let client = http(&daemon);
    wait_until_final(&client);
    for slug in SLUGS {
        let rows = client.rows(&format!("/v1/meters/{slug}/usage?group_by=customer"));
        let events = rows.iter().map(|row| row["event_count"].as_u64().unwrap()).sum::<u64>();
        assert_eq!(events, 3 * CUSTOMERS.len() as u64, "{slug}");
        assert!(rows.iter().all(|row| row["revision"] == 1), "{slug}: nothing came late: {rows:?}");
    }
    assert_eq!(client.rows("/v1/adjustments"), [0; 0]);
    daemon.stop().unwrap();
    home.verify();
}
