//! A day of real usage: the trace of an LLM service (Azure, 2023), sent as CloudEvents that feed three meters.
//!
//! The trace is no part of the repository: `METERD_TRACE=<file>` names it, else it is looked for in `../shared/data/`;
//! skipped aloud without. `METERD_TRACE_SEED=<seed>` shuffles the same way again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fastrand::Rng;
use meterd::cli::answer::Counts;
use meterd::cli::client::{Client, Target};
use meterd::cli::totals;

use crate::harness::{Home, client, seed, skip};

const CONFIG: &str = "
[ingest]
accept_past = \"36000d\"
[dedupe]
retention = \"36100d\"
[storage]
reserve = \"1MiB\"
[journal]
segment = \"4MiB\"
[[meter]]
slug = \"requests\"
event_type = \"llm.completion\"
aggregation = \"count\"
[[meter]]
slug = \"context_tokens\"
event_type = \"llm.completion\"
value = \"$.context_tokens\"
[[meter]]
slug = \"generated_tokens\"
event_type = \"llm.completion\"
value = \"$.generated_tokens\"
";
const TOTALS: [(&str, u64); 3] = [("requests", 8_819), ("context_tokens", 18_059_974), ("generated_tokens", 245_896)];
const CONNECTIONS: usize = 8;
const TIMES: usize = 3;

fn trace() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/azure_llm_inference_code.csv");
    let path = std::env::var_os("METERD_TRACE").map_or(beside, PathBuf::from);
    if !path.exists() {
        skip("the real trace: set METERD_TRACE to azure_llm_inference_code.csv");
        return None;
    }
    Some(path)
}

/// One CloudEvent for each line after the header; ten subjects take turns.
fn events(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let event = |(n, line): (usize, &str)| {
        let [at, context, generated] = line.split(',').collect::<Vec<_>>()[..] else { panic!("line {n}: {line}") };
        serde_json::json!({
            "specversion": "1.0", "id": format!("azure-{n}"), "source": "azure/code", "type": "llm.completion",
            "subject": format!("customer-{}", n % 10), "time": format!("{}Z", at.replace(' ', "T")),
            "data": {
                "context_tokens": context.parse::<u64>().unwrap(),
                "generated_tokens": generated.parse::<u64>().unwrap(),
            },
        })
        .to_string()
    };
    text.lines().skip(1).filter(|line| !line.is_empty()).enumerate().map(event).collect()
}

fn send(client: &mut Client, events: &[String]) -> Counts {
    let body = format!("[{}]", events.join(","));
    let reply = client.post("/v1/events", "application/cloudevents-batch+json", body.into()).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.problem());
    serde_json::from_slice(&reply.body).unwrap()
}

/// Sends from several connections at once, in batches of many sizes.
fn send_shuffled(target: &Target, events: &[String], rng: &mut Rng) -> Counts {
    std::thread::scope(|scope| {
        let share = events.len().div_ceil(CONNECTIONS);
        let senders = events.chunks(share).map(|mut events| {
            let mut rng = rng.fork();
            let sending = move || {
                let mut client = Client::new(target, Duration::from_secs(30)).unwrap();
                let mut counts = Counts::default();
                while !events.is_empty() {
                    let (batch, rest) = events.split_at(rng.usize(1..=300).min(events.len()));
                    counts.add(&send(&mut client, batch));
                    events = rest;
                }
                counts
            };
            std::thread::Builder::new().name("trace".into()).spawn_scoped(scope, sending).unwrap()
        });
        let senders = senders.collect::<Vec<_>>();
        senders.into_iter().fold(Counts::default(), |mut all, sender| {
            all.add(&sender.join().unwrap());
            all
        })
    })
}

fn check_totals(client: &mut Client) {
    for (meter, total) in TOTALS {
        let by_customer = totals::fetch(client, meter).unwrap();
        assert_eq!(by_customer.len(), 10, "customers of {meter}");
        assert_eq!(totals::sum(&by_customer).to_string(), total.to_string(), "{meter}");
    }
}

#[test]
fn the_trace_counts_exactly_and_the_same_when_sent_three_times_over_shuffled() {
    let Some(path) = trace() else { return };
    let mut rng = Rng::with_seed(seed("METERD_TRACE_SEED"));
    let once = events(&path);
    assert_eq!(once.len(), 8_819);

    let home = Home::new(CONFIG);
    let daemon = home.start();
    let mut one = client(&daemon);
    let accepted: u64 = once.chunks(1_000).map(|batch| send(&mut one, batch).accepted).sum();
    assert_eq!(accepted, 8_819);
    check_totals(&mut one);
    daemon.stop().unwrap();

    let mut thrice = once.iter().cycle().take(TIMES * once.len()).cloned().collect::<Vec<_>>();
    rng.shuffle(&mut thrice);
    let home = Home::new(CONFIG);
    let daemon = home.start();
    let counts = send_shuffled(&daemon.target().unwrap(), &thrice, &mut rng);
    assert_eq!((counts.accepted, counts.duplicate), (8_819, 2 * 8_819));
    check_totals(&mut client(&daemon));
    daemon.stop().unwrap();
    home.verify();
    check_totals(&mut client(&home.start()));
}
