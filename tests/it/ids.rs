//! An id that was accepted is known ever after: across restarts, and when the index has to be made again.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Home, METERS, SMALL, client, post};

fn event(id: &str, quantity: u64) -> Value {
    json!({"usage_event_id": id, "customer": "c", "meter": "tokens", "quantity": quantity, "source": "s"})
}

/// The outcomes of a batch with their seqs.
fn outcomes(home: &Home, events: &[Value], stop: impl FnOnce(meterd::cli::daemon::Daemon)) -> Vec<(String, Value)> {
    let daemon = home.start();
    let (status, answer) = post(&mut client(&daemon), "/v1/events?results=all", &Value::from(events));
    assert!(matches!(status, 200 | 207), "{status} {answer}");
    stop(daemon);
    let events = answer["events"].as_array().unwrap();
    events.iter().map(|event| (event["outcome"].as_str().unwrap().to_owned(), event["seq"].clone())).collect()
}

#[test]
fn duplicates_and_conflicts_name_the_original_record_after_every_kind_of_restart() {
    let home = Home::small();
    let kill = |daemon: meterd::cli::daemon::Daemon| daemon.kill().unwrap();
    let stop = |daemon: meterd::cli::daemon::Daemon| daemon.stop().unwrap();
    let first = outcomes(&home, &[event("a", 1), event("b", 2)], kill);
    assert_eq!(first.iter().map(|(outcome, _)| outcome.as_str()).collect::<Vec<_>>(), ["accepted"; 2]);
    assert_ne!(first[0].1, first[1].1, "two events, two records");

    let due = |outcome: &str, n: usize| (outcome.to_owned(), first[n].1.clone());
    let again = [event("a", 1), event("b", 3), event("b", 2)];
    let expected = [due("duplicate", 0), due("conflict", 1), due("duplicate", 1)];
    assert_eq!(outcomes(&home, &again, kill), expected, "from the journal, after SIGKILL");
    assert_eq!(outcomes(&home, &again, stop), expected, "from the journal, again");
    assert_eq!(outcomes(&home, &again, stop), expected, "from the store, after an orderly end");
    fs::remove_dir_all(home.store()).unwrap();
    assert_eq!(outcomes(&home, &again, stop), expected, "from the journal, the store being deleted");
    home.verify();

    let daemon = home.start();
    let usage: Value = client(&daemon).get_json("/v1/meters/tokens/usage").unwrap();
    let counted = usage["data"].as_array().unwrap().iter().map(|row| (&row["value"], &row["event_count"]));
    assert_eq!(counted.collect::<Vec<_>>(), [(&json!("3"), &json!(2))], "{usage}");
}

#[test]
fn an_id_belongs_to_its_source() {
    let home = Home::small();
    let other = json!({"usage_event_id": "a", "customer": "c", "meter": "tokens", "quantity": 1, "source": "t"});
    let none = json!({"usage_event_id": "a", "customer": "c", "meter": "tokens", "quantity": 1});
    let found = outcomes(&home, &[event("a", 1), other, none.clone(), none], |daemon| daemon.stop().unwrap());
    let found = found.iter().map(|(outcome, _)| outcome.as_str()).collect::<Vec<_>>();
    assert_eq!(found, ["accepted", "accepted", "accepted", "duplicate"]);
}

/// Meters whose events may come without an id: `calls` by the hour, `bytes` by the minute; `llm` feeds both, `mixed` also one
/// that needs them.
const WEAK: &str = "
[[meter]]
slug = \"calls\"
event_type = \"llm\"
aggregation = \"count\"
derive_id = \"1h\"
[[meter]]
slug = \"volume\"
event_type = \"llm\"
value = \"$.bytes\"
derive_id = \"1m\"
[[meter]]
slug = \"weak\"
event_type = \"mixed\"
derive_id = \"1m\"
[[meter]]
slug = \"strict\"
event_type = \"mixed\"
";

/// An hour's start, a while ago, in ms.
fn hour() -> i64 {
    let now = jiff::Timestamp::now().as_millisecond();
    now - now.rem_euclid(3_600_000) - 7_200_000
}

fn calls(customer: &str, at: i64) -> Value {
    json!({"customer": customer, "meter": "calls", "quantity": 1, "timestamp": at})
}

fn told(answer: &Value, member: &str) -> Vec<Value> {
    answer["events"].as_array().unwrap().iter().map(|event| event[member].clone()).collect()
}

#[test]
fn equal_events_without_an_id_are_one_within_a_bucket_also_after_a_crash() {
    let home = Home::new(&format!("{SMALL}{METERS}{WEAK}"));
    let hour = hour();
    let later = json!({"timestamp": hour + 3_599_999, "quantity": "1.0", "meter": "calls", "customer": "c"});
    let untimed = json!({"customer": "u", "meter": "calls"});
    let events = [calls("c", hour), later.clone(), calls("c", hour + 3_600_000), calls("d", hour)];
    let events = Value::from_iter(events.into_iter().chain([untimed.clone(), untimed]));

    let daemon = home.start();
    let (status, answer) = post(&mut client(&daemon), "/v1/events?results=all", &events);
    assert_eq!(status, 200, "{answer}");
    let (a, d) = ("accepted", "duplicate");
    assert_eq!(Value::from(told(&answer, "outcome")), json!([a, d, a, a, a, d]));
    let (ids, seqs) = (told(&answer, "usage_event_id"), told(&answer, "seq"));
    assert!(ids.iter().all(|id| id.as_str().unwrap().strip_prefix("derived:").is_some_and(|hex| hex.len() == 32)));
    let different = ids.iter().collect::<std::collections::HashSet<_>>();
    assert_eq!((&ids[0], &ids[4], different.len()), (&ids[1], &ids[5], 4), "{ids:?}");
    assert_eq!((&seqs[0], &seqs[4]), (&seqs[1], &seqs[5]), "a duplicate names the original");
    daemon.kill().unwrap();

    for _ in 0..2 {
        let daemon = home.start();
        let (status, answer) = post(&mut client(&daemon), "/v1/events", &Value::from(vec![later.clone()]));
        assert_eq!((status, &answer["duplicate"]), (200, &json!(1)), "{answer}");
        assert_eq!(
            (told(&answer, "usage_event_id"), told(&answer, "seq")),
            (vec![ids[0].clone()], vec![seqs[0].clone()])
        );
        let named = json!({"usage_event_id": ids[0], "customer": "other", "meter": "calls"});
        let (_, answer) = post(&mut client(&daemon), "/v1/events", &named);
        assert_eq!(told(&answer, "code"), [json!("id_conflict")], "an id is an id, whoever made it: {answer}");
        daemon.stop().unwrap();
    }
    home.verify();
    let daemon = home.start();
    let usage: Value = client(&daemon).get_json("/v1/meters/calls/usage?group_by=customer&window=1mo").unwrap();
    let mut counted = std::collections::BTreeMap::<String, u64>::new();
    for row in usage["data"].as_array().unwrap() {
        *counted.entry(row["customer"].as_str().unwrap().to_owned()).or_default() +=
            row["event_count"].as_u64().unwrap();
    }
    assert_eq!(serde_json::to_value(&counted).unwrap(), json!({"c": 2, "d": 1, "u": 1}), "{usage}");
}

#[test]
fn a_cloudevent_without_an_id_needs_every_meter_it_feeds_to_allow_it() {
    let home = Home::new(&format!("{SMALL}{METERS}{WEAK}"));
    let at = |micros: i64| jiff::Timestamp::from_millisecond(micros).unwrap().to_string();
    let event = |kind: &str, millis: i64| json!({"specversion": "1.0", "source": "s", "type": kind, "subject": "c", "time": at(millis), "data": {"bytes": 5}});
    let hour = hour();
    let events = [event("llm", hour), event("llm", hour + 59_999), event("llm", hour + 60_000), event("mixed", hour)];
    let daemon = home.start();
    let body = serde_json::to_vec(&events).unwrap().into();
    let batch = "application/cloudevents-batch+json";
    let reply = client(&daemon).post("/v1/events?results=all", batch, body).unwrap();
    let answer: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(reply.status, 207, "{answer}");
    let outcomes = Value::from(told(&answer, "outcome"));
    assert_eq!(outcomes, json!(["accepted", "duplicate", "accepted", "rejected"]), "{answer}");
    let refused = &answer["events"][3];
    assert_eq!((&refused["code"], &refused["usage_event_id"]), (&json!("missing_field"), &Value::Null), "{answer}");
    assert_eq!(refused["detail"], "/id is missing, and meter \"strict\" has no derive_id to make one by");
}

#[test]
fn an_id_that_was_derived_is_shown_with_its_event_and_leads_back_to_it() {
    let home = Home::new(&format!("{SMALL}{WEAK}"));
    let daemon = home.start();
    let mut client = client(&daemon);
    let event = json!([{"customer": "c", "meter": "calls", "source": "s"}]);
    let (_, answer) = post(&mut client, "/v1/events?results=all", &event);
    let id = answer["events"][0]["usage_event_id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("derived:"), "{answer}");
    let listed: Value = client.get_json("/v1/events?customer=c").unwrap();
    assert_eq!((&listed["data"][0]["usage_event_id"], &listed["data"][0]["seq"]), (&json!(id), &answer["seq"]));
    let found: Value = client.get_json(&format!("/v1/events?id={id}&source=s")).unwrap();
    assert_eq!(found["data"], listed["data"]);
    let (status, voided) =
        post(&mut client, "/v1/events:void", &json!({"usage_event_id": id, "source": "s", "reason": "a test"}));
    assert_eq!((status, &voided["event_seq"]), (200, &answer["seq"]), "{voided}");
}
