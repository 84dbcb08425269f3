//! Journal retention: old segments go, a base checkpoint stays, and nothing that counts is lost by it. And `meterd inspect`,
//! which shows what is left.
//!
//! `METERD_RETENTION_SEED=<seed>` draws the same events and the same pauses again.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fastrand::Rng;
use meterd::cli::daemon::Daemon;
use serde_json::Value;

use crate::harness::sender::Sender;
use crate::harness::{Home, METERS, SMALL, client, post, seed};

const EXIT_IO: Option<i32> = Some(74);
const ROUNDS: u64 = 6;
/// How long segments may take to fill, be covered by a base, and go.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keeps two segments beside the one in use.
fn home() -> Home {
    let kept = SMALL.replace("segment = \"1MiB\"\n", "segment = \"1MiB\"\nretention_bytes = \"2MiB\"\n");
    assert_ne!(kept, SMALL);
    Home::new(&format!("{kept}{METERS}"))
}

fn first_record(home: &Home) -> u64 {
    home.segments()[0].file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

fn bases(home: &Home) -> Vec<PathBuf> {
    let entries = fs::read_dir(&home.place.data_dir).unwrap().map(|entry| entry.unwrap().path());
    let mut bases: Vec<_> =
        entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("base")).collect();
    bases.sort();
    bases
}

/// Sends until segments after record `after` have gone.
fn send_until_removed(home: &Home, daemon: &Daemon, sender: &Sender, after: u64) {
    let deadline = Instant::now() + PATIENCE;
    while first_record(home) <= after {
        assert!(Instant::now() < deadline, "nothing is removed; {} segments", home.segments().len());
        sender.send_while(daemon, || std::thread::sleep(Duration::from_millis(200)));
    }
}

/// A directory whose journal has lost its beginning, and the sender that knows what was in it.
fn cut() -> (Home, Sender) {
    let (home, sender) = (home(), Sender::new(3));
    let daemon = home.start();
    send_until_removed(&home, &daemon, &sender, 1);
    sender.settle(&mut client(&daemon)).unwrap();
    daemon.stop().unwrap();
    (home, sender)
}

fn verified(home: &Home) -> Value {
    let output = home.run("verify", &["--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn old_segments_go_and_nothing_acknowledged_is_missing_after_sigkill() {
    let seed = seed("METERD_RETENTION_SEED");
    let mut rng = Rng::with_seed(seed);
    let (home, sender) = (home(), Sender::new(seed));
    let mut daemon = home.start();
    let mut first = 1;
    for round in 0..ROUNDS {
        if round % 2 == 0 {
            send_until_removed(&home, &daemon, &sender, first);
            first = first_record(&home);
        }
        let target = daemon.target().unwrap();
        let pause = Duration::from_millis(rng.u64(5..600));
        sender.send_to(&target, move || {
            std::thread::sleep(pause);
            daemon.kill().unwrap();
        });
        daemon = home.start();
        let mut client = client(&daemon);
        sender.check_after_crash(&mut client).unwrap_or_else(|wrong| panic!("after round {round}: {wrong}"));
        sender.settle(&mut client).unwrap_or_else(|wrong| panic!("after the retries of round {round}: {wrong}"));
    }
    let metrics = String::from_utf8(client(&daemon).get("/metrics").unwrap().body.to_vec()).unwrap();
    for name in ["meterd_journal_segments_removed_total", "meterd_journal_oldest_seq", "meterd_base_position"] {
        assert!(metrics.lines().any(|line| line.starts_with(name)), "{name} is missing");
    }
    sender.check_seqs();
    daemon.stop().unwrap();
    assert!(home.log().contains("old journal segment removed"));
    let [base] = &bases(&home)[..] else { panic!("one base and nothing half made: {:?}", bases(&home)) };
    let position: u64 = base.file_name().unwrap().to_str().unwrap().strip_prefix("base-").unwrap().parse().unwrap();
    let verified = verified(&home);
    assert_eq!((&verified["base"], &verified["rebuildable_from"]), (&position.into(), &(position + 1).into()));
    assert!(first_record(&home) <= position + 1 && first_record(&home) > 1);
    let said = home.run("verify", &[]);
    assert!(String::from_utf8_lossy(&said.stdout).contains(&format!("rebuildable from record {}", position + 1)));
}

#[test]
fn a_store_that_is_lost_is_made_again_from_the_base_and_what_the_journal_has_behind_it() {
    let (home, sender) = cut();
    let before = verified(&home);
    fs::remove_dir_all(home.store()).unwrap();
    let daemon = home.start();
    sender.check_after_crash(&mut client(&daemon)).unwrap();
    sender.settle(&mut client(&daemon)).unwrap();
    daemon.stop().unwrap();
    let after = verified(&home);
    assert_eq!((&after["ids"], &after["base"]), (&before["ids"], &before["base"]), "an id from before is known still");
    assert!(home.log().contains("made again from the base checkpoint"));
}

#[test]
fn without_its_base_a_cut_journal_is_not_called_equal_and_the_next_run_makes_one() {
    let (home, sender) = cut();
    bases(&home).iter().for_each(|base| fs::remove_dir_all(base).unwrap());
    let output = home.run("verify", &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), EXIT_IO, "{said}");
    assert!(said.contains("begins with record") && said.contains("no base checkpoint"), "{said}");
    let daemon = home.start();
    let deadline = Instant::now() + PATIENCE;
    while bases(&home).iter().all(|base| base.extension().is_some()) {
        assert!(Instant::now() < deadline, "no base is made: {:?}", bases(&home));
        std::thread::sleep(Duration::from_millis(20));
    }
    sender.settle(&mut client(&daemon)).unwrap();
    daemon.stop().unwrap();
    assert!(verified(&home)["base"].is_u64());
}

fn inspect(home: &Home, arguments: &[&str]) -> Value {
    let table = home.run("inspect", arguments);
    let said = String::from_utf8_lossy(&table.stdout).into_owned();
    assert_eq!(table.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&table.stderr));
    assert!(said.lines().count() >= 2, "{said}");
    let json = home.run("inspect", &[arguments, &["--format", "json"]].concat());
    serde_json::from_slice(&json.stdout).unwrap()
}

#[test]
fn inspect_shows_segments_frames_ids_and_windows_beside_a_running_daemon() {
    let (home, _sender) = cut();
    let daemon = home.start();
    let at = "2026-01-01T00:00:00Z";
    let event = serde_json::json!({"usage_event_id": "looked-for", "source": "api", "customer": "c-look", "meter": "tokens",
        "quantity": "2.5", "dimensions": {"model": "large"}});
    assert_eq!(post(&mut client(&daemon), "/v1/events", &event).0, 200);
    let usage: Value = client(&daemon).get_json("/v1/meters/tokens/usage?customer=c-look").unwrap();
    let start = usage["data"][0]["window_start"].as_str().unwrap().to_owned();
    let id = ["id", "looked-for", "--source", "api"];
    let found = inspect(&home, &id);
    let seq = found["entry"]["seq"].as_u64().expect("found in the journal's tail, or in the store");
    assert!(found["entry"]["event"]["text"].as_str().unwrap().contains("looked-for"), "{found}");
    daemon.stop().unwrap();
    assert_eq!(inspect(&home, &id)["entry"], found["entry"], "in the store it is the same");

    let segments = inspect(&home, &["segments"]);
    let listed = segments["segments"].as_array().unwrap();
    assert_eq!(listed[0]["first_seq"], first_record(&home));
    assert_eq!(listed.len(), home.segments().len());
    assert!(listed.windows(2).all(|pair| pair[0]["last_seq"].as_u64().unwrap() + 1 == pair[1]["first_seq"]));
    assert!(listed.iter().all(|segment| segment["damage"].is_null() && segment["frames"].as_u64().unwrap() > 0));
    assert!(segments["base"]["position"].as_u64().unwrap() + 1 >= first_record(&home));

    let segment = found["entry"]["segment"].as_u64().unwrap().to_string();
    let frames = inspect(&home, &["frames", &segment, "--records"]);
    let mut records =
        frames["frames"].as_array().unwrap().iter().flat_map(|frame| frame["records"].as_array().unwrap());
    let record = records.find(|record| record["seq"] == seq).unwrap();
    assert_eq!((&record["kind"], &record["text"]), (&"Event".into(), &found["entry"]["event"]["text"]));
    let said = home.run("inspect", &["frames", &first_record(&home).to_string(), "--records"]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("  Event  ") && said.contains("frame at byte 64: "), "{said}");

    let window = inspect(&home, &["window", "c-look", "tokens", &start]);
    let row = &window["rows"][0];
    assert_eq!(
        (&row["value"], &row["event_count"], &row["dimensions"]["model"]),
        (&"2.5".into(), &1.into(), &"large".into())
    );
    assert_eq!((&row["table"], &row["state"]), (&"counters".into(), &"open".into()));
    let nothing = home.run("inspect", &["window", "c-look", "tokens", at]);
    assert_eq!(nothing.status.code(), Some(1), "there is no such window");
    assert_eq!(home.run("inspect", &["id", "never-sent"]).status.code(), Some(1));
}
