use std::collections::BTreeMap;

use clap::Parser;
use serde_json::{Value, json};

use super::*;
use crate::cli::evidence::fake::{daemon, page, parameter, unknown};
use crate::model::Quantity;
use crate::model::csv::Rows;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn args(line: &[&str]) -> Args {
    let line = ["x", "--period", "2026-11", "--against", "totals.csv"].iter().chain(line);
    Cli::try_parse_from(line).unwrap().args
}

fn total(customer: &str, meter: &str, model: Option<&str>, value: &str, event_count: u64) -> Value {
    json!({
        "customer": customer, "meter": meter, "dimensions": {"model": model}, "period": "2026-11",
        "period_start": "2026-11-01T00:00:00Z", "period_end": "2026-12-01T00:00:00Z", "value": value,
        "original_value": value, "adjustment": "0", "overage": "0", "event_count": event_count, "adjustments": 0,
        "state": "finalized", "revision": 1, "incarnation": 1, "hash": "00", "as_of": "2026-12-02T00:00:00Z", "final": true,
    })
}

fn event(seq: u64, model: &str, value: &str, late: bool) -> Value {
    let at = format!("2026-11-05T10:00:{seq:02}Z");
    json!({
        "seq": seq, "usage_event_id": format!("e{seq}"), "source": "", "customer": "acme", "timestamp": at,
        "received_at": "2026-12-01T00:00:00Z", "outcome": "accepted", "backfill": null, "voided": null,
        "windows": [{
            "meter": "tokens", "window_start": "2026-11-05T10:00:00Z", "window_end": "2026-11-05T11:00:00Z",
            "period": "2026-11", "value": value, "member": null, "dimensions": {"model": model}, "late": late,
        }],
        "event": {"quantity": value},
    })
}

fn adjustment(id: &str, model: &str, delta: &str) -> Value {
    json!({
        "id": id, "customer": "acme", "meter": "tokens", "dimensions": {"model": model}, "period": "2026-11",
        "delta": delta, "recorded_at": "2026-12-01T00:00:00Z",
    })
}

#[derive(Default, Clone)]
struct Held {
    totals: Vec<Value>,
    events: Vec<Value>,
    adjustments: Vec<Value>,
}

fn answer(held: &Held, path: &str) -> (u16, Value) {
    let meter = |slug: &str, aggregation: &str| json!({"slug": slug, "aggregation": aggregation, "window": "1h", "time_zone": "UTC"});
    match path.split('?').next().unwrap() {
        "/v1/meters" => page(path, &[meter("peak", "max"), meter("tokens", "sum")]),
        "/v1/periods/2026-11/totals" => {
            let wanted = parameter(path, "meter");
            let is_wanted = |row: &&Value| wanted.as_deref().is_none_or(|meter| row["meter"] == meter);
            let rows: Vec<Value> = held.totals.iter().filter(is_wanted).cloned().collect();
            let (status, mut answer) = page(path, &rows);
            answer["final"] = true.into();
            (status, answer)
        }
        "/v1/events" => {
            let customer = parameter(path, "customer").unwrap();
            let of_customer = |event: &&Value| event["customer"] == *customer;
            let events: Vec<Value> = held.events.iter().filter(of_customer).cloned().collect();
            page(path, &events)
        }
        "/v1/adjustments" => page(path, &held.adjustments),
        path => unknown(path),
    }
}

fn reconciled(held: Held, file: &str, line: &[&str]) -> anyhow::Result<(bool, String)> {
    let args = args(line);
    let claims = Claims::read("totals.csv", file.as_bytes(), args.meter.as_deref())?;
    let (mut client, _) = daemon(Box::new(move |_, path, _| answer(&held, path)));
    let mut out = Vec::new();
    let is_equal = reconcile(&mut client, &args, claims, &mut out)?;
    Ok((is_equal, String::from_utf8(out).unwrap()))
}

fn json_of(held: Held, file: &str, line: &[&str]) -> (bool, Value) {
    let (is_equal, text) = reconciled(held, file, &[&["--format", "json"], line].concat()).unwrap();
    (is_equal, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

/// 12,000 rows, and a file that says the same.
fn many() -> (Vec<Value>, Vec<[String; 5]>) {
    let (mut totals, mut lines) = (Vec::new(), Vec::new());
    for n in 0..6_000 {
        for (model, value) in [("large", format!("{n}.5")), ("small", format!("0.{n:012}"))] {
            let (customer, count) = (format!("c{n:05}"), n % 7 + 1);
            totals.push(total(&customer, "tokens", Some(model), &value, count));
            let dimensions = format!("{{\"model\":\"{model}\"}}");
            lines.push([customer, "tokens".into(), dimensions, value, count.to_string()]);
        }
    }
    (totals, lines)
}

fn file_of(lines: &[[String; 5]]) -> String {
    let mut out = b"customer,meter,dimensions,value,event_count\r\n".to_vec();
    for line in lines {
        let mut record = crate::model::csv::Record::new(&mut out);
        line.iter().for_each(|field| record.text(field));
        record.end();
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn twenty_planted_differences_of_all_kinds_are_found_and_no_other() {
    let (mut totals, mut lines) = many();
    let mut planted = BTreeMap::new();
    for n in 0..5 {
        let place = 37 + n * 1_201;
        let value = Quantity::parse(&lines[place][3]).unwrap();
        lines[place][3] = value.checked_add(Quantity::from_scaled(1)).unwrap().to_string();
        planted.insert((lines[place][0].clone(), lines[place][2].clone()), ("value", "-0.000000000001"));
        let place = place + 100;
        lines[place][4] = "99".to_owned();
        planted.insert((lines[place][0].clone(), lines[place][2].clone()), ("event_count", "0"));
        let place = place + 100;
        let (customer, value) = (format!("x{n}"), "7");
        planted.insert((lines[place][0].clone(), lines[place][2].clone()), ("missing_in_file", ""));
        lines[place] = [customer.clone(), "tokens".into(), "{\"model\":\"large\"}".into(), value.into(), "1".into()];
        planted.insert((customer, lines[place][2].clone()), ("missing_in_meterd", "-7"));
    }
    fastrand::Rng::with_seed(4).shuffle(&mut lines);
    totals.sort_by_key(|row| row["customer"].as_str().map(str::to_owned));
    let (is_equal, json) = json_of(Held { totals, ..Held::default() }, &file_of(&lines), &[]);
    let found = json["differences"].as_array().unwrap();
    assert_eq!((is_equal, found.len(), &json["count"]), (false, 20, &json!(20)));
    for difference in found {
        let key = (difference["customer"].as_str().unwrap().to_owned(), difference["dimensions"].to_string());
        let (kind, delta) = planted.remove(&key).unwrap_or_else(|| panic!("not planted: {difference}"));
        assert_eq!(difference["kind"], *kind, "{difference}");
        assert!(delta.is_empty() || difference["delta"] == *delta, "{difference}");
    }
    assert_eq!(planted.len(), 0);
    let kinds = json!({"value": 5, "event_count": 5, "missing_in_file": 5, "missing_in_meterd": 5});
    assert_eq!((&json["kinds"], &json["rows_meterd"], &json["rows_file"]), (&kinds, &json!(12_000), &json!(12_000)));
}

#[test]
fn equal_files_have_no_differences_however_they_are_written() {
    let held = Held {
        totals: vec![
            total("=acme", "peak", None, "3", 2),
            total("acme", "tokens", Some("large"), "10", 2),
            total("acme", "tokens", Some("small"), "0.5", 1),
        ],
        ..Held::default()
    };
    for file in [
        "customer,meter,dimensions,value\n'=acme,peak,\"{\"\"model\"\":null}\",3\nacme,tokens,\"{\"\"model\"\":\"\"large\"\"}\",\
         10.000\nacme,tokens,\"{\"\"model\"\":\"\"small\"\"}\",5e-1\n",
        "\u{feff}value,meter,dim:model,customer,event_count\r\n3,peak,,=acme,2\r\n10,tokens,large,acme,\r\n0.50,tokens,small,\
         acme,1\r\n",
        "customer,meter,value,event_count\n=acme,peak,3,2\nacme,tokens,10.5,3",
        "customer,meter,value,dim:region\n=acme,peak,3,\nacme,tokens,10.5,",
    ] {
        let (is_equal, text) = reconciled(held.clone(), file, &[]).unwrap();
        assert!(is_equal && text.contains("No differences: "), "{file}\n{text}");
    }
}

#[test]
fn a_file_without_dimensions_cannot_hold_several_totals_of_a_meter_that_does_not_add_up() {
    let rows = vec![total("acme", "peak", Some("a"), "3", 2), total("acme", "peak", Some("b"), "4", 2)];
    let held = Held { totals: rows, ..Held::default() };
    let error = reconciled(held.clone(), "customer,meter,value\nacme,peak,4\n", &[]).unwrap_err().to_string();
    assert!(error.contains("peak (max), whose totals cannot be added up"), "{error}");
    let by_model = "customer,meter,dim:model,value\nacme,peak,a,3\nacme,peak,b,4\n";
    assert!(reconciled(held, by_model, &[]).unwrap().0);
}

#[test]
fn a_difference_is_told_with_its_numbers_its_events_and_what_comes_to_it() {
    let mut total = total("acme", "tokens", Some("large"), "10", 4);
    total["adjustments"] = 3.into();
    let mut voided = event(5, "large", "9", false);
    voided["voided"] = json!({"seq": 8, "at": "2026-12-01T00:00:00Z", "reason": "test"});
    let held = Held {
        totals: vec![total],
        events: vec![
            event(1, "large", "6", false),
            event(2, "small", "3", false),
            event(3, "large", "1", true),
            event(4, "large", "2", true),
            voided,
            event(6, "large", "1", true),
        ],
        adjustments: vec![
            adjustment("1.3.0", "large", "1"),
            adjustment("1.2.0", "small", "2"),
            adjustment("1.4.0", "large", "2"),
            adjustment("1.6.0", "large", "1"),
        ],
    };
    let file = "customer,meter,dim:model,value,event_count,owner\nacme,tokens,large,7,2,x\n";
    let (is_equal, text) = reconciled(held.clone(), file, &["--events", "4"]).unwrap();
    assert!(!is_equal);
    for part in [
        "acme  tokens  model=large: value differs  (line 2)\n",
        "    meterd 10 (4 events)  file 7 (2 events)  delta 3\n",
        "    4 events: first 2026-11-05T10:00:01Z e1, last 2026-11-05T10:00:06Z e6; 1 taken back\n",
        "    hint: 2 late events = delta: adjustments 1.4.0 to 1.6.0, recorded ",
        "e3  late, received 2026-12-01T00:00:00Z\n",
        "e5  voided\n",
        "1 differences in 1 rows of the file and 1 of meterd: 1 in value, 0 in event_count,",
        "Note: ignored columns: owner\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("NOT FINAL") && !text.contains("e1  \n"), "{text}");
    let (_, csv) = reconciled(held.clone(), file, &["--format", "csv"]).unwrap();
    let rows: Vec<_> = Rows::new(&csv).map(Result::unwrap).collect();
    assert_eq!((rows.len(), rows[0].fields.len()), (2, rows[1].fields.len()));
    assert_eq!((&*rows[1].fields[0], &*rows[1].fields[7], &*rows[1].fields[11]), ("value", "3", "e1"));

    let (_, json) = json_of(held, "customer,meter,dim:model,value\nacme,tokens,large,4\n", &[]);
    let difference = &json["differences"][0];
    assert_eq!((&difference["delta"], &difference["file"]["line"]), (&json!("6"), &json!(2)));
    assert_eq!(difference["hints"], json!(["1 event has the delta as value"]));
    let shown = difference["events"]["shown"].as_array().unwrap();
    assert_eq!((shown.len(), &shown[0]["is_delta"], &shown[0]["event"]["seq"]), (5, &json!(true), &json!(1)));
}

#[test]
fn late_events_explain_a_missing_count_and_a_backfill_a_missing_sum() {
    let mut row = total("acme", "tokens", Some("large"), "7", 2);
    row["adjustments"] = 1.into();
    let mut late = event(2, "large", "0", true);
    late["backfill"] = "b1".into();
    let held = Held {
        totals: vec![row],
        events: vec![event(1, "large", "7", false), late],
        adjustments: vec![adjustment("1.2.0", "large", "0")],
    };
    let (_, json) = json_of(held, "customer,meter,value,event_count\nacme,tokens,7,1\n", &[]);
    assert_eq!(
        (&json["differences"][0]["kind"], &json["differences"][0]["delta"]),
        (&json!("event_count"), &json!("0"))
    );
    assert!(json["differences"][0]["hints"][0].as_str().unwrap().starts_with("1 late event = delta: adjustment 1.2.0"));
    let backfilled = |seq| {
        let mut event = event(seq, "large", "2", false);
        event["backfill"] = "b1".into();
        event
    };
    let held = Held {
        totals: vec![total("acme", "tokens", Some("large"), "11", 3)],
        events: vec![event(1, "large", "7", false), backfilled(2), backfilled(3)],
        adjustments: vec![],
    };
    let (_, json) = json_of(held, "customer,meter,value\nacme,tokens,7\n", &[]);
    assert_eq!(json["differences"][0]["hints"], json!(["2 events of backfill \"b1\" = delta"]));
}

#[test]
fn what_meterd_has_not_is_told_with_the_line_and_a_hint_where_there_is_one() {
    let file = "customer,meter,value\nacme,tokens,7\nacme,tokenz,8\n";
    let (is_equal, text) = reconciled(Held::default(), file, &[]).unwrap();
    assert!(!is_equal);
    for part in [
        "acme  tokens  -: missing in meterd  (line 2)\n    meterd -  file 7  delta -7\n    no events\n",
        "acme  tokenz  -: missing in meterd  (line 3)\n",
        "hint: meterd has no meter \"tokenz\"\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn one_meter_can_be_compared_alone() {
    let held = Held {
        totals: vec![total("acme", "peak", None, "3", 2), total("acme", "tokens", None, "10", 2)],
        ..Held::default()
    };
    let file = "customer,meter,value\nacme,tokens,10\nacme,peak,99\n";
    let (is_equal, text) = reconciled(held, file, &["--meter", "tokens"]).unwrap();
    assert!(is_equal && text.contains("Note: ignored rows of other meters: 1\n"), "{text}");
}

#[test]
fn errors_of_the_file_name_the_file_and_the_line() {
    for (file, error) in [
        ("", "totals.csv, line 1: there is no header"),
        ("customer,meter\n", "totals.csv, line 1: there is no column \"value\""),
        ("customer,meter,value,value\n", "totals.csv, line 1: there are two columns \"value\""),
        ("customer,meter,value,dimensions,dim:a\n", "totals.csv, line 1: there are dimensions and dim: columns"),
        ("customer,meter,value\na,b,1\n\na,b,1,000\n", "totals.csv, line 4: 4 fields, and the header has 3"),
        ("customer,meter,value\na,b,1.0.0\n", "totals.csv, line 2: value \"1.0.0\": is not a decimal number"),
        (
            "customer,meter,value\na,b,0.0000000000001\n",
            "totals.csv, line 2: value \"0.0000000000001\": has more than 12",
        ),
        ("customer,meter,value\n,b,1\n", "totals.csv, line 2: customer is empty"),
        ("customer,meter,value,event_count\na,b,1,x\n", "totals.csv, line 2: event_count \"x\" is no whole number"),
        ("customer,meter,value,dimensions\na,b,1,[]\n", "totals.csv, line 2: dimensions \"[]\" is not a JSON object"),
        (
            "customer,meter,value\na,b,1\nc,b,1\na,b,1\n",
            "totals.csv, line 4: customer, meter and dimensions are those of line 2",
        ),
        ("customer,meter,value\n\"a,b,1\n", "totals.csv, line 2: a quoted field has no closing quote"),
    ] {
        let found = format!("{:#}", Claims::read("totals.csv", file.as_bytes(), None).unwrap_err());
        assert!(found.starts_with(error), "{file:?}: {found}");
    }
    let found = Claims::read("t", b"customer,meter,value\n\xff,b,1\n", None).unwrap_err().to_string();
    assert_eq!(found, "t, line 2: the text is not UTF-8");
}
