//! A daemon's directory replayed by the real program: nothing differs, a new meter counts what its events say, nobody hears
//! of it, and what is sent again is sent because somebody said so.
//!
//! `METERD_REPLAY_EVENTS=1000000` for the long run, `METERD_REPLAY_SEED=<seed>` draws the same again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use fastrand::Rng;
use meterd::cli::client::Client;
use meterd::cli::daemon::{Daemon, Place};
use serde_json::{Value, json};

use crate::billing::scene::Http;
use crate::harness::receiver::{Receiver, SECRET};
use crate::harness::{ANYWHERE, Home, METERD, SMALL, client, number, post, seed, skip};

const METERS: &str = "
[ingest]
accept_past = \"36000d\"
[dedupe]
retention = \"36100d\"
[[meter]]
slug = \"calls\"
event_type = \"llm\"
aggregation = \"count\"
window = \"1s\"
grace = \"100ms\"
[[meter]]
slug = \"tokens\"
event_type = \"llm\"
value = \"$.tokens\"
window = \"1h\"
dimensions = { model = \"$.model\" }
[[meter]]
slug = \"newest\"
event_type = \"llm\"
value = \"$.tokens\"
aggregation = \"latest\"
window = \"1d\"
[[meter]]
slug = \"people\"
event_type = \"llm\"
value = \"$.user\"
aggregation = \"unique\"
window = \"1d\"
[[meter]]
slug = \"seconds\"
[[cap]]
meter = \"tokens\"
hard = 4000
soft = [\"50%\"]
on_hard_cap = \"allow\"
[[cap]]
meter = \"seconds\"
hard = 1000
";
const NEW_METERS: &str = "
[[meter]]
slug = \"tokens_by_user\"
event_type = \"llm\"
value = \"$.tokens\"
window = \"1h\"
dimensions = { user = \"$.user\" }
[[meter]]
slug = \"seconds_by_room\"
dimensions = { room = \"$.room\" }
";
const BATCH: usize = 500;

struct Scene {
    home: Home,
    receiver: Receiver,
    /// Tokens of all accepted events, and their number.
    tokens: u64,
    events: u64,
    seconds: u64,
}

fn sink(url: &str) -> String {
    format!(
        "[[sink]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{url}\"\nsecret = \"{SECRET}\"\n\
         allow_private_addresses = true\nsend = [\"windows\", \"adjustments\", \"alerts\"]\n"
    )
}

impl Scene {
    /// A history that ends with SIGKILL, its newest records only in the journal.
    fn new() -> Self {
        let receiver = Receiver::willing();
        let home = Home::new(&format!("{SMALL}{METERS}{}", sink(&receiver.url())));
        let mut scene = Self { home, receiver, tokens: 0, events: 0, seconds: 0 };
        let mut rng = Rng::with_seed(seed("METERD_REPLAY_SEED"));
        let daemon = scene.home.start();
        let mut client = client(&daemon);
        let settings = json!({"anchor": 15, "time_zone": "Asia/Tokyo"}).to_string();
        let reply = Http::to(daemon.target().unwrap()).put("/v1/customers/c-1", settings);
        assert_eq!(reply.status, 200, "{}", reply.text);
        let total = number("METERD_REPLAY_EVENTS").unwrap_or(5_000) as usize;
        for batch in 0..total.div_ceil(BATCH) {
            scene.send(&mut client, &mut rng, batch * BATCH);
        }
        scene.natives(&mut client, &mut rng);
        // Windows of a second close, and are delivered.
        std::thread::sleep(Duration::from_millis(2_500));
        scene.send(&mut client, &mut rng, total.next_multiple_of(BATCH));
        daemon.kill().unwrap();
        std::thread::sleep(Duration::from_millis(200));
        scene
    }

    fn send(&mut self, client: &mut Client, rng: &mut Rng, first: usize) {
        let mut event = |id: usize| {
            let tokens = rng.u64(1..9);
            self.tokens += tokens;
            self.events += 1;
            let model = ["a", "b"][rng.usize(..2)];
            let mut event = json!({
                "specversion": "1.0", "id": format!("e-{id}"), "source": "test", "type": "llm",
                "subject": format!("c-{}", rng.u8(0..6)),
                "data": {"tokens": tokens, "user": format!("u-{}", rng.u8(0..20)), "model": model},
            });
            if rng.u8(..3) == 0 {
                let day = rng.u8(1..29);
                event["time"] = json!(format!("2025-{:02}-{day:02}T{:02}:30:00Z", rng.u8(6..10), rng.u8(0..24)));
            }
            event
        };
        let events: Vec<Value> = (first..first + BATCH).map(&mut event).collect();
        let body = Value::from(events).to_string();
        let reply = client.post("/v1/events", "application/cloudevents-batch+json", body.into()).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.problem());
    }

    /// Native events, some refused by a cap, some by a reservation's commit.
    fn natives(&mut self, client: &mut Client, rng: &mut Rng) {
        for id in 0..60 {
            let quantity = rng.u64(1..60);
            let event = json!({
                "usage_event_id": format!("n-{id}"), "customer": "c-9", "meter": "seconds", "quantity": quantity,
                "dimensions": {"room": format!("r-{}", id % 3)},
            });
            let (_, answer) = post(client, "/v1/events", &event);
            self.seconds += quantity * answer["accepted"].as_u64().unwrap();
        }
        let held = json!({"customer": "c-8", "meter": "seconds", "quantity": 30, "id": "held", "expires_in": "1h"});
        let (status, answer) = post(client, "/v1/reservations", &held);
        assert!(status < 300, "{answer}");
        let commit = json!({"usage_event_id": "commit", "quantity": 12});
        let (status, answer) = post(client, "/v1/reservations/held:commit", &commit);
        assert!(status < 300, "{answer}");
        self.seconds += 12;
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.home.place.data_dir.with_file_name(name)
    }

    fn replay(&self, into: &Path, flags: &[&str]) -> Output {
        self.home.run("replay", &[&["--into", into.to_str().unwrap()], flags].concat())
    }

    /// The config with more meters.
    fn next_config(&self) -> PathBuf {
        let path = self.beside("next.toml");
        let text = fs::read_to_string(&self.home.place.config).unwrap();
        fs::write(&path, format!("{text}{NEW_METERS}")).unwrap();
        path
    }

    fn run_on(&self, data_dir: &Path, config: &Path) -> Daemon {
        let place = Place { data_dir: data_dir.to_owned(), config: config.to_owned(), ..self.home.place.clone() };
        Daemon::start(&place, ANYWHERE).unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(output)))
}

#[test]
fn an_unchanged_replay_differs_in_nothing_and_nobody_hears_of_it() {
    let scene = Scene::new();
    let (into, heard) = (scene.beside("again"), scene.receiver.connects());
    let output = scene.replay(&into, &["--diff", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let diff = &json_of(&output)["diff"];
    assert_eq!((&diff["difference_count"], &diff["only"]), (&json!(0), &json!([])), "{diff}");
    assert!(diff["windows"].as_u64().unwrap() > 1_000 && diff["periods"].as_u64().unwrap() > 20, "{diff}");
    let output = scene.replay(&into, &[]);
    assert_eq!(output.status.code(), Some(2), "it is not filled twice: {}", said(&output));
    let output = scene.replay(&into, &["--diff"]);
    assert_eq!(output.status.code(), Some(0), "it is compared as often as one likes: {}", said(&output));
    assert!(said(&output).contains("equal: "), "{}", said(&output));
    let verified = Command::new(METERD)
        .args(["verify", "--config"])
        .arg(&scene.home.place.config)
        .arg("--data-dir")
        .arg(&into)
        .output()
        .unwrap();
    assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
    assert_eq!(scene.receiver.connects(), heard, "the receiver hears nothing of a replay");

    let daemon = scene.home.start();
    assert_eq!(scene.replay(&scene.beside("busy"), &[]).status.code(), Some(75), "the source is in use");
    let late = json!({"usage_event_id": "late", "customer": "c-1", "meter": "seconds", "quantity": 1});
    assert_eq!(post(&mut client(&daemon), "/v1/events", &late).1["accepted"], 1);
    daemon.stop().unwrap();
    let output = scene.replay(&into, &["--diff"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("\"c-1\"/seconds"), "{}", said(&output));
    let audited = scene.home.run("audit", &["--format", "json"]);
    assert_eq!(audited.status.code(), Some(0), "{}", said(&audited));
    let tenant = &json_of(&audited)["tenants"][0];
    let count = |name: &str| tenant[name].as_u64().unwrap();
    let others = ["duplicate", "conflict", "rejected", "capped"].map(count).iter().sum::<u64>();
    assert_eq!((count("received"), &tenant["holds"]), (count("accepted") + others, &json!(true)), "{tenant}");
    assert!(count("capped") > 0 && count("accepted") > scene.events, "{tenant}");
}

#[test]
fn a_replay_makes_no_system_call_of_the_network() {
    let scene = Scene::new();
    let can = Command::new("strace").args(["-f", "-o", "/dev/null", "-e", "trace=network", "true"]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        skip("a replay under strace: it cannot be used here");
        return;
    }
    let (trace, into) = (scene.beside("trace"), scene.beside("traced"));
    let mut replay = Command::new("strace");
    replay.args(["-f", "-qq", "-e", "trace=network", "-e", "signal=none", "-o"]).arg(&trace).arg(METERD).arg("replay");
    replay.arg("--config").arg(&scene.home.place.config).arg("--data-dir").arg(&scene.home.place.data_dir);
    let output = replay.arg("--diff").arg("--into").arg(&into).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let calls = fs::read_to_string(&trace).unwrap();
    let calls: Vec<&str> = calls.lines().filter(|line| line.contains('(')).collect();
    assert_eq!(calls, [""; 0]);
}

#[test]
fn new_meters_count_what_their_events_say_and_a_daemon_serves_them() {
    let scene = Scene::new();
    let (into, next) = (scene.beside("next"), scene.next_config());
    let flags = ["--new-config", next.to_str().unwrap(), "--fill", "seconds_by_room=seconds", "--diff", "--json"];
    let output = scene.replay(&into, &flags);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let answer = json_of(&output);
    let only = answer["diff"]["only"].as_array().unwrap();
    let of = |meter: &str| only.iter().find(|only| only["meter"] == meter).unwrap_or_else(|| panic!("{answer}"));
    let tokens = of("tokens_by_user");
    assert_eq!((&tokens["events"], &tokens["total"]), (&json!(scene.events), &json!(scene.tokens.to_string())));
    assert_eq!(of("seconds_by_room")["total"], scene.seconds.to_string());
    assert_eq!(only.len(), 2, "{answer}");

    let heard = scene.receiver.connects();
    let daemon = scene.run_on(&into, &next);
    let mut client = client(&daemon);
    let usage: Value = client
        .get_json("/v1/meters/tokens_by_user/usage?from=2020-01-01T00:00:00Z&to=2100-01-01T00:00:00Z&limit=10000")
        .unwrap();
    let total: u64 = usage["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["value"].as_str().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(total, scene.tokens);
    let sinks: Value = client.get_json("/v1/sinks").unwrap();
    assert_eq!(sinks["data"][0]["paused"]["cause"], "restored", "{sinks}");
    let again = json!({"specversion": "1.0", "id": "e-0", "source": "test", "type": "llm", "subject": "c-0", "data": {"tokens": 1}});
    let reply = client.post("/v1/events", "application/cloudevents+json", again.to_string().into()).unwrap();
    let outcome: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(outcome["accepted"], 0, "ids are known as before: {outcome}");
    daemon.stop().unwrap();
    assert_eq!(scene.receiver.connects(), heard);
}

#[test]
fn usage_is_sent_again_only_when_somebody_says_so_twice() {
    let scene = Scene::new();
    let into = scene.beside("reissued");
    let output = scene.replay(&into, &["--reissue", "hook"]);
    assert_eq!(output.status.code(), Some(2), "there is no terminal to ask on: {}", said(&output));
    assert!(said(&output).contains("--yes") && !into.exists(), "{}", said(&output));
    assert_eq!(scene.replay(&into, &["--reissue", "nobody", "--yes"]).status.code(), Some(2), "no such sink");
    let output = scene.replay(&into, &["--reissue", "hook", "--yes"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let heard = scene.receiver.count();
    let daemon = scene.run_on(&into, &scene.home.place.config);
    let mut client = client(&daemon);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(scene.receiver.count(), heard, "it is queued, not sent");
    let (status, answer) = post(&mut client, "/v1/sinks/hook:resume", &json!({"reason": "checked"}));
    assert_eq!(status, 200, "{answer}");
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while scene.receiver.count() == heard && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(scene.receiver.count() > heard, "once the sink is resumed it goes out");
    daemon.stop().unwrap();
}

#[test]
fn a_part_of_history_is_compared_window_by_window_and_what_was_left_behind_is_not_used() {
    let scene = Scene::new();
    let into = scene.beside("part");
    let range = ["--from", "2025-07-01T00:00:00Z", "--to", "2025-08-01T00:00:00Z", "--diff", "--json"];
    let partial = scene.beside("part.partial");
    fs::create_dir(&partial).unwrap();
    let output = scene.replay(&into, &range);
    assert_eq!(output.status.code(), Some(74), "{}", said(&output));
    assert!(said(&output).contains("remove it"), "{}", said(&output));
    fs::remove_dir(&partial).unwrap();
    let output = scene.replay(&into, &range);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let answer = json_of(&output);
    assert!(answer["diff"]["windows"].as_u64().unwrap() > 100, "{answer}");
    assert!(answer["replay"]["left_out"].as_u64().unwrap() > 0 && answer["diff"]["periods"] == 0, "{answer}");
    let mut inside = range.to_vec();
    inside.truncate(4);
    let output = scene.replay(&scene.home.place.data_dir.join("inside"), &inside);
    assert_eq!(output.status.code(), Some(2), "not within the source: {}", said(&output));
}
