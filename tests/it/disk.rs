//! A disk that is nearly full: events are refused before a write could fail, and reads go on.

use std::time::{Duration, Instant};

use meterd::cli::daemon::Daemon;
use meterd::env::{Disk, OsDisk};
use serde_json::json;

use crate::harness::{ANYWHERE, Home, METERS, client, post, skip};

const TIB: u64 = 1 << 40;

#[test]
fn below_the_reserve_events_get_507_and_reads_are_answered() {
    let home = Home::new(&format!("[journal]\nsegment = \"1MiB\"\n[storage]\nreserve = \"1TiB\"\n{METERS}"));
    let available = OsDisk::new(std::env::temp_dir()).available_bytes().unwrap();
    if available >= TIB {
        return skip("the disk reserve: a tebibyte is free here, the largest reserve");
    }
    let daemon = Daemon::spawn(&home.place, ANYWHERE).unwrap();
    let mut client = client(&daemon);
    let deadline = Instant::now() + Duration::from_secs(20);
    while client.get("/readyz").unwrap().status == 200 {
        assert!(Instant::now() < deadline, "it never noticed that {available} bytes are less than its reserve");
        std::thread::sleep(Duration::from_millis(5));
    }
    let event = json!({"usage_event_id": "a", "customer": "c", "meter": "requests"});
    let (status, problem) = post(&mut client, "/v1/events", &event);
    assert_eq!((status, &problem["status"]), (507, &json!(507)), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("nearly full"), "{problem}");
    for path in ["/v1/meters", "/v1/meters/requests/usage", "/v1/customers/c/usage", "/livez", "/metrics"] {
        assert_eq!(client.get(path).unwrap().status, 200, "{path}");
    }
    let usage: serde_json::Value = client.get_json("/v1/meters/requests/usage").unwrap();
    assert_eq!(usage["data"], json!([]), "nothing of the refused request counts");
    daemon.stop().unwrap();
}
