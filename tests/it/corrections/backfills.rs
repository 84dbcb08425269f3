//! A hundred thousand events of 2023: loaded twice, taken back, loaded again.

use std::fs;
use std::process::Command;
use std::time::Duration;

use fastrand::Rng;
use meterd::cli::client::Client;
use meterd::cli::daemon::Daemon;
use serde_json::{Value, json};

use super::model::{Event, Meters, check, config, get};
use crate::harness::{Home, METERD, client, number, post, seed};

const METERS: Meters<'static> =
    &[("history_sum", "sum", 86_400), ("history_max", "max", 86_400), ("history_unique", "unique", 86_400)];
const EVENTS: u64 = 100_000;
const CUSTOMERS: u32 = 40;
/// 2023-01-01T00:00:00Z.
const YEAR_MS: i64 = 1_672_531_200_000;
const DAYS: i64 = 365;
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn a_backfill_of_2023_counts_once_is_taken_back_whole_and_can_be_loaded_again() {
    let mut rng = Rng::with_seed(seed("METERD_BACKFILL_SEED"));
    let home = Home::new(&format!("[log]\nformat = \"text\"\n{}", config(METERS)));
    let sent = events(&mut rng);
    let file = home.place.config.with_file_name("history.ndjson");
    let lines: String = sent.iter().map(|event| format!("{}\n", event.as_json())).collect();
    fs::write(&file, lines).unwrap();
    let mut daemon = home.start();
    let refused = json!([sent[0].as_json()]);
    let reply = client(&daemon).post("/v1/events", "application/cloudevents-batch+json", refused.to_string().into());
    let answer: Value = serde_json::from_slice(&reply.unwrap().body).unwrap();
    assert_eq!(answer["events"][0]["code"], "too_late", "without a backfill: {answer}");

    load(&daemon, &file, 0);
    check(&mut client(&daemon), METERS, (&sent, &|_| true));
    daemon.kill().unwrap();
    daemon = home.start();
    load(&daemon, &file, sent.len());
    check(&mut client(&daemon), METERS, (&sent, &|_| true));

    let (status, answer) = post(&mut client(&daemon), "/v1/backfills/y2023:revert", &json!({"reason": "wrong file"}));
    assert!([200, 202].contains(&status), "{answer}");
    std::thread::sleep(Duration::from_millis(rng.u64(20..400)));
    daemon.kill().unwrap();
    daemon = home.start();
    wait_until_reverted(&mut client(&daemon));
    check(&mut client(&daemon), METERS, (&sent, &|_| false));

    load(&daemon, &file, 0);
    check(&mut client(&daemon), METERS, (&sent, &|_| true));
    daemon.stop().unwrap();
    home.verify();
}

fn events(rng: &mut Rng) -> Vec<Event> {
    let count = number("METERD_BACKFILL_EVENTS").unwrap_or(EVENTS) as usize;
    let event = |number: usize| Event {
        id: format!("h{number}"),
        customer: format!("c{}", rng.u32(..CUSTOMERS)),
        at_ms: YEAR_MS + rng.i64(0..DAYS * 86_400_000),
        thousandths: rng.i64(1..1_000_000),
        user: rng.u32(..50),
        number,
    };
    (0..count).map(event).collect()
}

/// Sends the file with the command for it; so many of its events are there already.
fn load(daemon: &Daemon, file: &std::path::Path, duplicates: usize) {
    let url = format!("http://{}", daemon.target().unwrap());
    let mut send = Command::new(METERD);
    send.args(["send", "--url", &url, "--backfill", "y2023", "--cloudevents"]).arg(file);
    let output = send.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    println!("{}", said.trim());
    let backfill = get(&mut client(daemon), "/v1/backfills/y2023");
    assert_eq!(backfill["state"], "open", "{backfill}");
    assert!(duplicates == 0 || said.contains(&duplicates.to_string()), "{said}");
}

fn wait_until_reverted(client: &mut Client) {
    let began = std::time::Instant::now();
    loop {
        let backfill = get(client, "/v1/backfills/y2023");
        if backfill["state"] == "reverted" {
            println!("reverted {:?} after the restart: {backfill}", began.elapsed());
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{backfill}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
