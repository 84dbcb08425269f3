use clap::Parser;
use serde_json::{Value, json};

use super::*;
use crate::cli::evidence::fake::{daemon, page, parameter, unknown};
use crate::model::csv::Rows;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn args(line: &[&str]) -> Args {
    Cli::try_parse_from(["x", "acme", "tokens_in", "2026-11"].iter().chain(line)).unwrap().args
}

/// What the fake daemon holds: one meter, by model, in hours.
#[derive(Clone)]
struct Held {
    totals: Vec<Value>,
    /// From the second answer on.
    totals_later: Option<Vec<Value>>,
    usage: Vec<Value>,
    events: Vec<Value>,
    backfills: Vec<Value>,
    evidence_from: Option<&'static str>,
}

fn total(model: &str, value: &str, event_count: u64) -> Value {
    json!({
        "customer": "acme", "meter": "tokens_in", "dimensions": {"model": model}, "period": "2026-11",
        "period_start": "2026-11-01T00:00:00Z", "period_end": "2026-12-01T00:00:00Z", "value": value,
        "original_value": value, "adjustment": "0", "overage": "0", "event_count": event_count, "adjustments": 0,
        "state": "finalized", "revision": 1, "incarnation": 1, "hash": "00", "as_of": "2026-12-02T00:00:00Z", "final": true,
    })
}

fn row(hour: u32, model: &str, value: &str, event_count: u64) -> Value {
    json!({
        "window_start": format!("2026-11-05T{hour:02}:00:00Z"), "window_end": format!("2026-11-05T{:02}:00:00Z", hour + 1),
        "customer": "acme", "dimensions": {"model": model}, "value": value, "event_count": event_count,
        "state": "finalized", "revision": 1,
    })
}

fn event(seq: u64, hour: u32, second: u64, model: &str, value: &str) -> Value {
    let at = format!("2026-11-05T{hour:02}:{:02}:{:02}Z", second / 60, second % 60);
    json!({
        "seq": seq, "usage_event_id": format!("e{seq}"), "source": "", "customer": "acme", "timestamp": at,
        "received_at": at, "outcome": "accepted", "backfill": null, "voided": null,
        "windows": [{
            "meter": "tokens_in", "window_start": format!("2026-11-05T{hour:02}:00:00Z"),
            "window_end": format!("2026-11-05T{:02}:00:00Z", hour + 1), "period": "2026-11", "value": value, "member": null,
            "dimensions": {"model": model}, "late": false,
        }],
        "event": {"usage_event_id": format!("e{seq}"), "quantity": value},
    })
}

fn held() -> Held {
    let mut voided = event(4, 10, 3, "large", "99");
    voided["voided"] = json!({"seq": 8, "at": "2026-11-06T00:00:00Z", "reason": "te\u{1b}st"});
    let mut reverted = event(5, 11, 1, "large", "50");
    reverted["backfill"] = "old".into();
    Held {
        totals: vec![total("large", "12.5", 3), total("small", "0.25", 1)],
        totals_later: None,
        usage: vec![row(10, "large", "10", 2), row(10, "small", "0.25", 1), row(11, "large", "2.5", 1)],
        events: vec![
            event(1, 10, 1, "large", "4"),
            event(2, 10, 2, "small", "0.25"),
            voided,
            event(3, 10, 4, "large", "6"),
            reverted,
            event(7, 11, 2, "large", "2.5"),
        ],
        backfills: vec![json!({"id": "old", "state": "reverted", "first_seq": 5, "last_seq": 5})],
        evidence_from: None,
    }
}

fn answer(held: &mut Held, path: &str) -> (u16, Value) {
    let (from, to) = (parameter(path, "from"), parameter(path, "to"));
    let within = |value: &&Value, start: &str| {
        let at = instant(value[start].as_str().unwrap()).unwrap();
        from.as_deref().is_none_or(|from| at >= instant(from).unwrap())
            && to.as_deref().is_none_or(|to| at < instant(to).unwrap())
    };
    match path.split('?').next().unwrap() {
        "/v1/meters/tokens_in" => {
            let meter = json!({
                "slug": "tokens_in", "event_type": "t", "aggregation": "sum", "value": null, "dimensions": {"model": "$.m"},
                "window": "1h", "time_zone": "UTC", "grace_ms": 0, "late": "adjust",
            });
            (200, meter)
        }
        "/v1/meters/tokens_in/usage" => {
            assert_eq!(parameter(path, "group_by").as_deref(), Some("model"));
            let rows: Vec<Value> = held.usage.iter().filter(|row| within(row, "window_start")).cloned().collect();
            page(path, &rows)
        }
        "/v1/periods/2026-11/totals" => {
            let answer = page(path, &held.totals);
            held.totals = held.totals_later.take().unwrap_or_else(|| held.totals.clone());
            answer
        }
        "/v1/events" => {
            let events: Vec<Value> = held.events.iter().filter(|event| within(event, "timestamp")).cloned().collect();
            let mut answer = page(path, &events);
            answer.1["evidence_from"] = held.evidence_from.into();
            answer
        }
        "/v1/backfills/old" => (200, held.backfills[0].clone()),
        path => unknown(path),
    }
}

fn explained(mut held: Held, line: &[&str]) -> (bool, String) {
    let (mut client, _) = daemon(Box::new(move |_, path, _| answer(&mut held, path)));
    let mut out = Vec::new();
    let is_well = explain(&mut client, &args(line), &mut out).unwrap();
    (is_well, String::from_utf8(out).unwrap())
}

fn json_of(held: Held, line: &[&str]) -> (bool, Value) {
    let (is_well, text) = explained(held, &[&["--format", "json"], line].concat());
    (is_well, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

#[test]
fn every_step_from_the_total_to_the_events_is_shown_and_matches() {
    let (is_well, text) = explained(held(), &["--events"]);
    assert!(is_well, "{text}");
    for part in [
        "Meter:     tokens_in (sum)\n",
        "Total:     12.5, 3 events, finalized  model=large\n",
        "2026-11-05T10:00:00Z                     10         2        1  finalized  = matches   model=large\n",
        "2026-11-05T11:00:00Z                    2.5         1        1  finalized  = matches   model=large\n",
        "NOT COUNTED: voided 2026-11-06T00:00:00Z: te\\u{1b}st\n",
        "backfill old  NOT COUNTED: reverted\n",
        "Total:  12.5  = matches  2 windows, 3 events  model=large\n",
        "Total:  0.25  = matches  1 windows, 1 events  model=small\n",
        "3 windows, 4 events: 3 match\n2 events were taken back and do not count\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!explained(held(), &[]).1.contains("e1  "), "events are shown when asked for");
}

#[test]
fn json_has_windows_with_rows_and_events_and_says_what_came_of_it() {
    let (is_well, json) = json_of(held(), &[]);
    assert!(is_well);
    assert_eq!((&json["matches"], &json["complete"], &json["taken_back"]), (&json!(true), &json!(true), &json!(2)));
    assert_eq!(json["windows"].as_array().unwrap().len(), 2);
    assert_eq!(json["windows"][0]["rows"][0]["folded_value"], "10");
    let events = json["windows"][0]["events"].as_array().unwrap();
    assert_eq!(events.len(), 4);
    assert_eq!((&events[2]["counts"], &events[2]["voided"]["seq"]), (&json!(false), &json!(8)));
    assert_eq!((&events[0]["counts"], &events[0]["event"]["quantity"]), (&json!(true), &json!("4")));
    assert_eq!((&json["totals"][0]["check"], &json["totals"][0]["windows"]), (&json!("matches"), &json!(2)));
}

#[test]
fn csv_has_a_record_of_one_width_for_each_window_event_and_total() {
    let (_, text) = explained(held(), &["--format", "csv"]);
    let rows: Vec<_> = Rows::new(&text).map(Result::unwrap).collect();
    assert!(rows.iter().all(|row| row.fields.len() == rows[0].fields.len()), "{text}");
    let kinds: Vec<&str> = rows.iter().map(|row| &*row.fields[0]).collect();
    let expected = "line window window event event event event window event event total total";
    assert_eq!(kinds.join(" "), expected);
}

#[test]
fn what_does_not_match_is_told_with_the_difference() {
    let mut wrong_window = held();
    wrong_window.usage[0]["value"] = "11".into();
    wrong_window.totals[0]["value"] = "13.5".into();
    let (is_well, text) = explained(wrong_window, &[]);
    assert!(!is_well);
    assert!(text.contains("≠ DIFFERS   model=large\n    its 2 events come to 10, difference 1\n"), "{text}");
    assert!(text.contains("Total:  13.5  = matches"), "the total is that of its windows: {text}");

    let mut missing_event = held();
    missing_event.events.remove(0);
    assert_eq!(json_of(missing_event, &[]).1["checks"]["differs"], 1);

    let mut missing_row = held();
    missing_row.usage.remove(2);
    let (is_well, json) = json_of(missing_row, &[]);
    assert_eq!(
        (is_well, &json["checks"]["differs"], &json["totals"][0]["check"]),
        (false, &json!(1), &json!("differs"))
    );

    let mut wrong_total = held();
    wrong_total.totals[1]["value"] = "0.26".into();
    let (is_well, text) = explained(wrong_total, &[]);
    assert!(!is_well && text.contains("windows come to 0.25, difference 0.01"), "{text}");
}

#[test]
fn a_total_that_changes_while_it_is_read_is_unsettled() {
    let mut moving = held();
    moving.totals[0]["value"] = "10".into();
    moving.totals_later = Some(held().totals);
    let (is_well, text) = explained(moving, &[]);
    assert!(!is_well && text.contains("? unsettled") && text.contains("ask again"), "{text}");
}

#[test]
fn events_past_retention_are_told_and_no_error() {
    let mut expired = held();
    expired.events.drain(..4);
    expired.evidence_from = Some("2026-11-05T11:00:00Z");
    let (is_well, text) = explained(expired.clone(), &[]);
    assert!(is_well, "{text}");
    for part in [
        "? expired   model=large\n    0 of its 2 events are kept\n",
        "Events received before 2026-11-05T11:00:00Z are past journal.retention: it can be explained from then on.\n",
        "Not explained: windows from 2026-11-05T10:00:00Z to 2026-11-05T10:00:00Z\n",
        "Total:  12.5  = matches",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let json = json_of(expired, &[]).1;
    assert_eq!((&json["complete"], &json["evidence_from"]), (&json!(false), &json!("2026-11-05T11:00:00Z")));
}

#[test]
fn one_window_can_be_asked_for_by_any_time_in_it() {
    let (is_well, text) = explained(held(), &["--window", "2026-11-05T11:59:00Z"]);
    assert!(is_well && text.contains("e7  model=large") && !text.contains("\n2026-11-05T10:00:00Z"), "{text}");
    let mut held = held();
    let (mut client, _) = daemon(Box::new(move |_, path, _| answer(&mut held, path)));
    let other = explain(&mut client, &args(&["--window", "2026-10-05T11:59:00Z"]), &mut Vec::new());
    assert!(other.unwrap_err().to_string().contains("is not of 2026-11"));
}

#[test]
fn a_window_of_many_events_is_read_page_by_page_and_shown_whole() {
    let mut many = held();
    many.events = (0..2_500).map(|n| event(n, 10, n, "large", "1")).collect();
    many.usage = vec![row(10, "large", "2500", 2_500)];
    many.totals = vec![total("large", "2500", 2_500)];
    let (is_well, json) = json_of(many.clone(), &[]);
    assert_eq!((is_well, json["windows"][0]["events"].as_array().unwrap().len()), (true, 2_500));
    let (_, json) = json_of(many.clone(), &["--events-max", "3"]);
    let window = &json["windows"][0];
    assert_eq!((window["events"].as_array().unwrap().len(), &window["events_not_shown"]), (3, &json!(2_497)));
    let (_, text) = explained(many, &["--events", "--events-max", "2"]);
    assert!(text.contains("    … and 2498 more: --events-max shows them\n"), "{text}");
}

#[test]
fn nothing_used_is_said_and_an_unknown_meter_is_an_error() {
    let nothing = Held { totals: vec![], ..held() };
    assert_eq!(explained(nothing.clone(), &[]).1, "acme has no total of tokens_in in 2026-11: nothing was used.\n");
    assert_eq!(json_of(nothing, &[]).1["matches"], true);
    let (mut client, _) = daemon(Box::new(|_, path, _| unknown(path)));
    assert!(explain(&mut client, &args(&[]), &mut Vec::new()).unwrap_err().to_string().contains("404"));
}

#[test]
fn a_list_that_does_not_go_on_is_an_error() {
    let (mut client, _) = daemon(Box::new(|_, _, _| (200, json!({"data": [], "next_cursor": "same"}))));
    assert!(totals("2026-11", None, None).all(&mut client).unwrap_err().to_string().contains("does not go on"));
}

#[test]
fn an_event_of_a_reverted_backfill_whose_name_is_in_use_again_does_not_count() {
    let mut reused = held();
    reused.backfills = vec![json!({"id": "old", "state": "open", "first_seq": 7, "last_seq": 9})];
    assert!(explained(reused, &[]).0);
    let mut stamped = held();
    stamped.backfills.clear();
    stamped.events[4]["reverted_at"] = "2026-11-07T00:00:00Z".into();
    assert!(explained(stamped, &[]).0, "it says so itself: nobody else is asked");
    let mut reverting = held();
    reverting.backfills[0]["state"] = "reverting".into();
    let (is_well, text) = explained(reverting, &[]);
    assert!(!is_well && text.contains("1 events are of a backfill that is being reverted"), "{text}");
}

#[test]
fn a_window_that_only_touches_the_period_is_left_out_unless_it_is_asked_for() {
    let mut touching = held();
    for total in &mut touching.totals {
        total["period_start"] = "2026-11-05T10:30:00Z".into();
    }
    for event in &mut touching.events[..4] {
        event["windows"][0]["period"] = "2026-10".into();
    }
    touching.totals = vec![touching.totals[0].clone()];
    (touching.totals[0]["value"], touching.totals[0]["event_count"]) = ("2.5".into(), 1.into());
    let (is_well, text) = explained(touching.clone(), &[]);
    assert!(is_well && !text.contains("\n2026-11-05T10:00:00Z"), "{text}");
    let (is_well, text) = explained(touching, &["--window", "2026-11-05T10:00:00Z"]);
    assert!(
        is_well && text.contains("of 2026-11 are 0 of its events, 0: the window reaches over the period's end"),
        "{text}"
    );
}
