//! Events behind the numbers, over HTTP: listing them, taking them back, loads of history, and who did it.

mod backfills;
mod bad_input;
mod lists;
mod voids;

use meterd::cli::client::percent_encode;
use serde_json::{Value, json};

use crate::billing::scene::{Http, Reply};

const METERS: &str = "
[[meter]]
slug = \"tokens\"
aggregation = \"sum\"
dimensions = { model = \"$.model\" }
[[meter]]
slug = \"calls\"
event_type = \"call\"
aggregation = \"count\"
late = \"reject\"
[[meter]]
slug = \"callers\"
event_type = \"call\"
aggregation = \"unique\"
value = \"$.user\"
[[meter]]
slug = \"peak\"
aggregation = \"max\"
";

/// POSTs a JSON body.
fn post(http: &Http, path: &str, body: &Value) -> Reply {
    http.call("POST", path, &[("content-type", "application/json")], body.to_string())
}

fn void(http: &Http, id: &str, reason: &str) -> Reply {
    post(http, "/v1/events:void", &json!({"usage_event_id": id, "reason": reason}))
}

/// A problem with this status and code.
fn assert_problem(reply: &Reply, status: u16, code: &str) {
    assert_eq!((reply.status, &reply.json["code"]), (status, &json!(code)), "{}", reply.text);
    assert_eq!(reply.headers["content-type"], "application/problem+json");
}

/// What a customer has come to in all windows of a meter.
fn used(http: &Http, customer: &str, meter: &str) -> Vec<Value> {
    let rows = http.rows(&format!("/v1/meters/{meter}/usage?customer={}", percent_encode(customer)));
    rows.into_iter().map(|row| row["value"].clone()).collect()
}

fn ids(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["usage_event_id"].as_str().expect("an id")).collect()
}
