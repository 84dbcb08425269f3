//! An id that was accepted is known ever after: across restarts, and when the index has to be made again.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Home, client, post};

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
