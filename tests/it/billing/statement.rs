//! `meterd statement` against a running daemon: its numbers are the totals', in every format, and its exit codes.

use std::process::{Command, Output};

use meterd::cli::daemon::Daemon;
use serde_json::{Value, json};

use crate::billing::restarts::{CUSTOMERS, fill, home, http, last_month};
use crate::billing::scene::csv;
use crate::harness::METERD;

fn statement(url: &str, period: &str, customer: &str, flags: &[&str]) -> Output {
    let mut command = Command::new(METERD);
    command.args(["statement", "--url", url, "--period", period, "--customer", customer]).args(flags);
    command.output().unwrap()
}

fn url(daemon: &Daemon) -> String {
    format!("http://{}", daemon.target().unwrap())
}

fn written(output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

const SHARED: [&str; 14] = [
    "meter",
    "dimensions",
    "period",
    "period_start",
    "period_end",
    "original_value",
    "adjustment",
    "value",
    "overage",
    "event_count",
    "adjustments",
    "state",
    "revision",
    "hash",
];

/// The statement as JSON has the daemon's rows, its adjustments, and sums per meter.
fn check_json(text: &str, totals: &[Value], adjustments: &[Value]) {
    let statement: Value = serde_json::from_str(text).unwrap();
    let lines = statement["totals"].as_array().unwrap();
    assert_eq!(lines.len(), totals.len());
    for (line, total) in lines.iter().zip(totals) {
        SHARED.iter().for_each(|name| assert_eq!(line[*name], total[*name], "{name}"));
    }
    let rows = statement["adjustments"].as_array().unwrap();
    assert_eq!(rows.len(), adjustments.len());
    for (row, adjustment) in rows.iter().zip(adjustments) {
        for name in ["id", "meter", "dimensions", "delta", "window_start", "window_end", "timestamp"] {
            assert_eq!(row[name], adjustment[name], "{name}");
        }
    }
    let of_meters = statement["meters"].as_array().unwrap();
    let events = |rows: &[Value]| rows.iter().map(|row| row["event_count"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(events(of_meters), events(totals));
    for meter in of_meters {
        let own = totals.iter().filter(|total| total["meter"] == meter["meter"]).collect::<Vec<_>>();
        assert_eq!(meter["lines"], own.len());
        if own.len() == 1 {
            assert_eq!((&meter["value"], &meter["adjustment"]), (&own[0]["value"], &own[0]["adjustment"]));
        }
    }
}

fn check_csv(text: &str, totals: &[Value], adjustments: &[Value]) {
    let records = csv(text);
    let cell = |record: &[(String, String)], name: &str| {
        record.iter().find(|(column, _)| column == name).unwrap_or_else(|| panic!("no {name}")).1.clone()
    };
    let of_kind = |kind: &str| records.iter().filter(|record| cell(record, "line") == kind).collect::<Vec<_>>();
    let plain = |value: &Value| {
        value.as_str().map_or_else(|| if value.is_null() { String::new() } else { value.to_string() }, str::to_owned)
    };
    assert_eq!((of_kind("total").len(), of_kind("adjustment").len()), (totals.len(), adjustments.len()));
    for (record, total) in of_kind("total").into_iter().zip(totals) {
        for name in ["meter", "period", "original_value", "adjustment", "value", "event_count", "state"] {
            assert_eq!(cell(record, name), plain(&total[name]), "{name}");
        }
        assert_eq!(
            [cell(record, "from"), cell(record, "until")],
            [&total["period_start"], &total["period_end"]].map(plain)
        );
        let customer = cell(record, "customer");
        assert_eq!(customer.strip_prefix('\'').unwrap_or(&customer), total["customer"]);
    }
    for (record, adjustment) in of_kind("adjustment").into_iter().zip(adjustments) {
        assert_eq!(cell(record, "adjustment_id"), plain(&adjustment["id"]));
        assert_eq!(cell(record, "adjustment"), plain(&adjustment["delta"]));
        assert_eq!(cell(record, "usage_timestamp"), plain(&adjustment["timestamp"]));
    }
}

/// Every line of usage is a row of the table with the daemon's numbers in its cells.
fn check_table(text: &str, totals: &[Value], adjustments: &[Value]) {
    let rows = text.lines().filter(|line| line.starts_with('|'));
    let rows = rows.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>()).collect::<Vec<_>>();
    for total in totals {
        let number = |name: &str| total[name].as_str().unwrap_or("-").to_owned();
        let expected = [
            total["meter"].as_str().unwrap().to_owned(),
            number("original_value"),
            number("adjustment"),
            number("value"),
            total["event_count"].to_string(),
        ];
        let is_it =
            |cells: &Vec<&str>| cells.len() > 6 && expected.iter().eq([1, 3, 4, 5, 6].map(|at| cells[at]).iter());
        assert!(rows.iter().any(is_it), "{expected:?} is not in\n{text}");
    }
    for adjustment in adjustments {
        let (id, delta) = (adjustment["id"].as_str().unwrap(), adjustment["delta"].as_str().unwrap());
        let is_it = |cells: &Vec<&str>| cells.contains(&id) && cells.contains(&delta);
        assert!(rows.iter().any(is_it), "{id} is not in\n{text}");
    }
}

#[test]
fn statements_in_every_format_have_the_numbers_of_the_totals() {
    let home = home();
    let daemon = home.start();
    let client = http(&daemon);
    fill(&client, "first");
    assert_eq!(
        client.put("/v1/customers/anna", json!({"plan": "pro", "time_zone": "Asia/Tokyo"}).to_string()).status,
        200
    );
    for customer in CUSTOMERS {
        let name = meterd::cli::client::percent_encode(customer);
        for period in [&last_month()[..7], "current", "previous"] {
            let totals = client.rows(&format!("/v1/periods/{period}/totals?customer={name}"));
            let all = client.rows(&format!("/v1/adjustments?customer={name}"));
            let labels = totals.iter().map(|row| &row["period"]).collect::<Vec<_>>();
            let adjustments = all.into_iter().filter(|row| labels.contains(&&row["period"])).collect::<Vec<_>>();
            assert!(!totals.is_empty() && !adjustments.is_empty(), "{customer} {period}");
            let text = |format: &str| written(statement(&url(&daemon), period, customer, &["--format", format]));
            check_json(&text("json"), &totals, &adjustments);
            check_csv(&text("csv"), &totals, &adjustments);
            check_table(&text("table"), &totals, &adjustments);
        }
    }
    let table = written(statement(&url(&daemon), &last_month()[..7], "anna", &[]));
    for said in ["anna", "pro", "Asia/Tokyo", "FINAL as of"] {
        assert!(table.contains(said), "{said} is not in\n{table}");
    }
    assert!(written(statement(&url(&daemon), "current", "anna", &[])).contains("NOT FINAL"));
    daemon.stop().unwrap();
}

#[test]
fn exit_codes_tell_a_missing_daemon_an_unknown_period_and_a_bad_file_apart() {
    let home = home();
    let daemon = home.start();
    let url = url(&daemon);
    let code = |url: &str, period: &str, flags: &[&str]| {
        let output = statement(url, period, "anna", flags);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), said.is_empty(), "{said}");
        (output.status.code(), said)
    };
    assert_eq!(code(&url, "current", &[]).0, Some(0));
    let nothing = written(statement(&url, "2026-11", "nobody", &[]));
    assert!(nothing.contains("Nothing was used"), "{nothing}");
    let (unbilled, said) = code(&url, "2026-W48", &[]);
    assert!(unbilled == Some(1) && said.contains("no meter is billed by the week"), "{unbilled:?} {said}");
    for period in ["2026-13", "nonsense", "", "2026-11-31", "2026-W60"] {
        let (unknown, said) = code(&url, period, &[]);
        assert!(unknown == Some(2) && said.contains("--period"), "{period}: {unknown:?} {said}");
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("missing/statement.csv");
    assert_eq!(code(&url, "current", &["--output", file.to_str().unwrap()]).0, Some(74));
    let file = directory.path().join("statement.json");
    assert_eq!(code(&url, "current", &["--format", "json", "--output", file.to_str().unwrap()]).0, Some(0));
    let statement: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!((&statement["customer"], &statement["totals"]), (&json!("anna"), &json!([])));
    daemon.stop().unwrap();
    let (gone, said) = code(&url, "current", &[]);
    assert!(gone == Some(1) && said.contains("cannot connect"), "{gone:?} {said}");
}
