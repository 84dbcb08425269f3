use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;

use serde_json::json;

use super::*;
use crate::cli::statement::lines::{Adjustment, Line, Meter, MeterTotal};

fn line(meter: &str, model: &str, original: Option<&str>, adjustment: &str, value: Option<&str>, count: u64) -> Line {
    let row = json!({
        "customer": "ac\u{1b}me", "meter": meter, "dimensions": {"model": model}, "period": "2026-11",
        "period_start": "2026-10-31T23:00:00Z", "period_end": "2026-11-30T23:00:00Z", "value": value,
        "original_value": original, "adjustment": adjustment, "overage": "0", "event_count": 3, "adjustments": count,
        "state": "finalized", "revision": 2, "incarnation": 1, "hash": "00", "as_of": "2026-12-02T00:00:00Z", "final": true,
    });
    serde_json::from_value(row).unwrap()
}

fn adjustment(meter: &str, model: &str, delta: &str) -> Adjustment {
    let row = json!({
        "id": "1.9.0", "customer": "acme", "meter": meter, "dimensions": {"model": model}, "period": "2026-11",
        "window_start": "2026-11-05T10:00:00Z", "window_end": "2026-11-05T11:00:00Z", "delta": delta, "value": "3",
        "event_count": 1, "revision": 2, "incarnation": 1, "timestamp": "2026-11-05T10:30:15Z",
        "recorded_at": "2026-12-01T12:00:00.25Z", "seq": 9,
    });
    serde_json::from_value(row).unwrap()
}

fn statement() -> Statement {
    let meter = |slug: &str, aggregation: &str| {
        let (aggregation, time_zone) = (aggregation.to_owned(), "UTC".to_owned());
        (slug.to_owned(), Meter { slug: slug.to_owned(), aggregation, time_zone, billing_time_zone: None })
    };
    let meters = HashMap::from([meter("tokens", "sum"), meter("peak", "max")]);
    let lines = vec![
        line("peak", "a", Some("7"), "0", Some("7"), 0),
        line("peak", "b", None, "0", None, 0),
        line("tokens", "a", Some("10"), "-1.5", Some("8.5"), 1),
        line("tokens", "b", Some("0.5"), "0", Some("0.5"), 0),
    ];
    let mut statement =
        Statement::new("ac\u{1b}me", "2026-11", lines, vec![adjustment("tokens", "a", "-1.5")], &meters);
    statement.as_of = "2026-12-02T00:00:00Z".to_owned();
    statement.is_final = true;
    statement.time_zone = Some("Europe/Berlin".to_owned());
    statement
}

#[test]
fn sums_are_added_up_and_maxima_are_not() {
    let total = |meter: &str, original: Option<&str>, adjustment: Option<&str>, value: Option<&str>| MeterTotal {
        meter: meter.to_owned(),
        lines: 2,
        original_value: original.map(str::to_owned),
        adjustment: adjustment.map(str::to_owned),
        value: value.map(str::to_owned),
        event_count: 6,
    };
    let expected = [total("peak", None, None, None), total("tokens", Some("10.5"), Some("-1.5"), Some("9"))];
    assert_eq!(statement().meters, expected);
}

#[test]
fn a_statement_is_complete_when_every_line_has_its_adjustments() {
    let mut statement = statement();
    assert!(statement.is_complete());
    statement.adjustments.push(adjustment("tokens", "b", "1"));
    assert!(!statement.is_complete(), "one too many");
    statement.adjustments.clear();
    assert!(!statement.is_complete(), "one missing");
    assert!(text::render(&statement).contains("Warning:"));
}

#[test]
fn text_tells_local_times_and_lets_no_name_reach_the_terminal_raw() {
    let text = text::render(&statement());
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text}");
    for part in [
        "Customer:   ac\\u{1b}me\n",
        "Period:     2026-11\n",
        "Time zone:  Europe/Berlin\n",
        "Status:     FINAL as of 2026-12-02 01:00 Europe/Berlin\n",
        "| 2026-11-01 00:00 | 2026-12-01 00:00  |",
        "| tokens | model=a    |       10 |       -1.5 |   8.5 |",
        "| peak   | model=b    |        - |          0 |     - |",
        "| 2026-11-05 11:00 | 2026-11-05 12:00 | 2026-11-05 11:30:15 | 2026-12-01 13:00:00 | 1.9.0",
        "| tokens |     2 |     10.5 |       -1.5 |     9 |      6 |",
        "| peak   |     2 |        - |          - |     - |      6 |",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let mut open = statement();
    (open.is_final, open.time_zone, open.period) = (false, None, "current".to_owned());
    open.totals[0].time_zone = "Asia/Kolkata".to_owned();
    let text = text::render(&open);
    for part in [
        "Period:     current (2026-11)\n",
        "Status:     NOT FINAL: as of 2026-12-02 00:00 UTC, and still changing\n",
        "| 2026-11-01 04:30 Asia/Kolkata |",
        "| 2026-10-31 23:00 UTC ",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn a_period_without_usage_says_so() {
    let statement = Statement::new("c", "2026-11", vec![], vec![], &HashMap::new());
    assert!(text::render(&statement).contains("Nothing was used."));
    assert_eq!(csv::render(&statement), csv::HEADER.as_bytes());
    assert!(statement.is_complete());
}

#[test]
fn csv_has_lines_adjustments_and_meters_of_one_width() {
    let csv = String::from_utf8(csv::render(&Statement { customer: "=acme".into(), ..statement() })).unwrap();
    let lines: Vec<&str> = csv.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 1 + 4 + 1 + 2);
    let dimensions = r#""{""model"":""a""}""#;
    assert_eq!(
        lines[3],
        format!(
            "total,'=acme,tokens,{dimensions},2026-11,2026-10-31T23:00:00Z,2026-11-30T23:00:00Z,10,-1.5,8.5,3,finalized,\
             true,2026-12-02T00:00:00Z,,,"
        )
    );
    assert_eq!(
        lines[5],
        format!(
            "adjustment,'=acme,tokens,{dimensions},2026-11,2026-11-05T10:00:00Z,2026-11-05T11:00:00Z,,-1.5,,,,,\
             2026-12-02T00:00:00Z,1.9.0,2026-11-05T10:30:15Z,2026-12-01T12:00:00.25Z"
        )
    );
    assert_eq!(lines[7], "meter,'=acme,tokens,,2026-11,,,10.5,-1.5,9,6,,true,2026-12-02T00:00:00Z,,,");
    assert!(lines.iter().all(|line| line.matches(',').count() == lines[0].matches(',').count()));
}

#[test]
fn what_is_above_a_hard_cap_is_told_by_itself_and_only_where_there_is_some() {
    let over = |overage: Option<&str>| {
        let mut statement = statement();
        statement.totals[2].overage = overage.map(str::to_owned);
        statement.totals[3].overage = None;
        (text::render(&statement), String::from_utf8(csv::render(&statement)).unwrap())
    };
    let (plain_text, plain_csv) = over(Some("0"));
    assert_eq!(over(None), (plain_text.clone(), plain_csv.clone()));
    let (text, csv) = over(Some("1.25"));
    let section = text.strip_prefix(&plain_text).unwrap();
    assert!(section.starts_with("\nOverage: usage above the hard cap\n\n"), "{section}");
    assert!(section.contains("| tokens | 2026-11 |   8.5 |    1.25 |"), "{section}");
    let expected = "overage,ac\u{1b}me,tokens,\"{\"\"model\"\":\"\"a\"\"}\",2026-11,2026-10-31T23:00:00Z,2026-11-30T23:00:00Z,,,\
                    1.25,,finalized,true,2026-12-02T00:00:00Z,,,\r\n";
    assert_eq!(csv.strip_prefix(&plain_csv), Some(expected));
}

#[test]
fn json_is_what_the_daemon_said_with_totals_per_meter() {
    let json: serde_json::Value = serde_json::from_slice(&render(&statement(), Format::Json).unwrap()).unwrap();
    assert_eq!((&json["final"], &json["totals"][2]["value"]), (&json!(true), &json!("8.5")));
    assert_eq!((&json["adjustments"][0]["delta"], &json["meters"][1]["value"]), (&json!("-1.5"), &json!("9")));
}

#[test]
fn periods_are_checked_before_anyone_is_asked() {
    for text in ["2026-11", "2026-W48", "2026-11-22", "current", "previous"] {
        assert_eq!(parse_period(text).as_deref(), Ok(text));
    }
    assert!(["2026-13", "november", ""].iter().all(|text| parse_period(text).is_err()));
}

/// A daemon that answers each path with its texts in turn, the last one over and over; 404 where it has none.
fn daemon(answers: Vec<(&'static str, Vec<serde_json::Value>)>) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::parse(&format!("127.0.0.1:{}", listener.local_addr().unwrap().port())).unwrap();
    let serve = move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut answers: HashMap<_, _> = answers.into_iter().collect();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
        while let Some(request) = lines.next() {
            lines.by_ref().find(String::is_empty);
            let path = request.split(' ').nth(1).unwrap();
            let (status, body) = match answers.get_mut(path) {
                Some(texts) if texts.len() > 1 => (200, texts.remove(0)),
                Some(texts) => (200, texts[0].clone()),
                None => (404, json!({"detail": format!("no {path}")})),
            };
            let body = body.to_string();
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).unwrap();
        }
    };
    std::thread::Builder::new().spawn(serve).unwrap();
    Client::new(&target, Duration::from_secs(5)).unwrap()
}

const METERS: &str = "/v1/meters?limit=10000";
const TOTALS: &str = "/v1/periods/2026-11/totals?format=json&customer=a%2Fb&limit=10000";
const TOTALS_NEXT: &str = "/v1/periods/2026-11/totals?format=json&customer=a%2Fb&limit=10000&cursor=ff";
const ADJUSTMENTS: &str = "/v1/adjustments?customer=a%2Fb&limit=10000";

fn meters() -> serde_json::Value {
    let meter = json!({"slug": "tokens", "aggregation": "sum", "time_zone": "UTC", "dimensions": {}, "window": "1h"});
    json!({"data": [meter], "next_cursor": null})
}

fn totals(model: &str, value: &str, count: u64, is_final: bool, next_cursor: Option<&str>) -> serde_json::Value {
    let row = line("tokens", model, Some("1"), "0", Some(value), count);
    json!({"period": "2026-11", "as_of": "x", "final": is_final, "data": [row], "next_cursor": next_cursor})
}

#[test]
fn reads_every_page_and_keeps_the_adjustments_of_the_period() {
    let other_period = Adjustment { period: "2026-10".into(), ..adjustment("tokens", "a", "7") };
    let rows = [other_period, adjustment("tokens", "a", "1")];
    let mut client = daemon(vec![
        (METERS, vec![meters()]),
        ("/v1/customers/a%2Fb", vec![json!({"customer": "a/b", "time_zone": "Asia/Tokyo", "plan": "pro"})]),
        (TOTALS, vec![totals("a", "1", 1, true, Some("ff"))]),
        (TOTALS_NEXT, vec![totals("b", "2", 0, false, None)]),
        (ADJUSTMENTS, vec![json!({"data": rows, "next_cursor": null})]),
    ]);
    let statement = fetch::fetch(&mut client, "2026-11", "a/b").unwrap();
    assert_eq!((statement.totals.len(), statement.adjustments.len(), statement.is_final), (2, 1, false));
    assert_eq!((statement.time_zone.as_deref(), statement.plan.as_deref()), (Some("Asia/Tokyo"), Some("pro")));
    assert_eq!((statement.meters[0].value.as_deref(), statement.is_complete()), (Some("3"), true));
}

#[test]
fn reads_again_when_an_adjustment_came_in_between_and_gives_up_in_the_end() {
    let (old, new) = (totals("a", "1", 1, true, None), totals("a", "2", 2, true, None));
    let rows = json!([adjustment("tokens", "a", "1"), adjustment("tokens", "a", "1")]);
    let paths = |totals: Vec<serde_json::Value>| {
        vec![
            (METERS, vec![meters()]),
            (TOTALS, totals),
            (ADJUSTMENTS, vec![json!({"data": rows, "next_cursor": null})]),
        ]
    };
    let statement = fetch::fetch(&mut daemon(paths(vec![old.clone(), new])), "2026-11", "a/b").unwrap();
    assert_eq!((statement.totals[0].value.as_deref(), statement.is_complete()), (Some("2"), true));
    assert_eq!(statement.time_zone, None, "nothing is stored for the customer");
    assert!(!fetch::fetch(&mut daemon(paths(vec![old])), "2026-11", "a/b").unwrap().is_complete());
}

#[test]
fn what_the_daemon_refuses_is_told() {
    let error = fetch::fetch(&mut daemon(vec![(METERS, vec![meters()])]), "2026-11", "a/b").unwrap_err();
    assert!(format!("{error:#}").contains("404"), "{error:#}");
}
