//! What a billing job sees of a daemon: windows, adjustments, and a period's totals in three formats.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use meterd::cli::client::{Client, percent_encode};
use meterd::model::{Quantity, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The one dimension of every meter here.
pub const DIMENSION: &str = "model";
pub const WINDOW_MS: i64 = 2_000;
/// Small, so that a period takes many pages.
const TOTALS_PAGE: usize = 7;
const ADJUSTMENTS_PAGE: usize = 500;

/// A window of one meter, customer and dimension; what a counter is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    pub meter: String,
    pub customer: String,
    pub model: Option<String>,
    pub start_ms: i64,
}

/// Events, and their value scaled to a whole number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub scaled: i128,
    pub events: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub sum: Sum,
    pub state: String,
    pub revision: u64,
}

pub type Dimensions = BTreeMap<String, Option<String>>;

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Adjustment {
    pub id: String,
    pub customer: String,
    pub meter: String,
    pub dimensions: Dimensions,
    pub window_start: String,
    pub window_end: String,
    pub period: String,
    pub delta: String,
    pub value: Option<String>,
    pub event_count: u64,
    pub revision: u64,
    pub timestamp: String,
    pub recorded_at: String,
}

/// A row of a period's totals; every field as text that CSV has as text too.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Total {
    pub customer: String,
    pub meter: String,
    pub dimensions: Dimensions,
    pub period: String,
    pub period_start: String,
    pub period_end: String,
    pub value: Option<String>,
    pub original_value: Option<String>,
    pub adjustment: Option<String>,
    pub event_count: u64,
    pub adjustments: u64,
    pub state: String,
    pub revision: u64,
    pub incarnation: u64,
    pub hash: String,
}

/// Everything at once, of a daemon that is fed no more.
#[derive(Clone, Debug, PartialEq)]
pub struct Books {
    pub windows: BTreeMap<Cell, Row>,
    pub adjustments: Vec<Adjustment>,
    /// Of every period that was asked for.
    pub totals: Vec<Total>,
}

impl Books {
    pub fn read(client: &mut Client, meters: &[&str], customers: &[String], periods: &BTreeSet<String>) -> Self {
        if periods.len() > 1 {
            // One of them may have just ended; it closes a moment after its last window.
            std::thread::sleep(Duration::from_secs(1));
        }
        let mut windows = BTreeMap::new();
        for meter in meters {
            for customer in customers {
                let only = format!("customer={}&group_by={DIMENSION}", percent_encode(customer));
                windows.extend(usage(client, meter, &only));
            }
        }
        let totals = periods.iter().flat_map(|period| totals(client, period)).collect::<Vec<_>>();
        let current: Value = client.get_json("/v1/periods/current/totals").unwrap();
        let label = current["period"].as_str().unwrap_or_else(|| panic!("no period in {current}")).to_owned();
        if periods.contains(&label) {
            let named = totals.iter().filter(|total| total.period == label).cloned().collect::<Vec<_>>();
            assert_eq!(self::totals(client, "current"), named, "current is not what {label} is");
        }
        Self { windows, adjustments: adjustments(client, "0"), totals }
    }
}

/// A meter's windows by customer and dimension. Panics if one appears twice.
pub fn usage(client: &mut Client, meter: &str, query: &str) -> BTreeMap<Cell, Row> {
    #[derive(Deserialize)]
    struct Listed {
        window_start: String,
        window_end: String,
        customer: String,
        dimensions: Dimensions,
        value: Option<String>,
        event_count: u64,
        state: String,
        revision: u64,
    }
    let mut windows = BTreeMap::new();
    let path = format!("/v1/meters/{meter}/usage?{query}&limit=5000");
    for row in pages::<Listed>(client, &path) {
        let cell = Cell {
            meter: meter.to_owned(),
            customer: row.customer,
            model: model(&row.dimensions),
            start_ms: millis(&row.window_start),
        };
        assert_eq!(millis(&row.window_end) - cell.start_ms, WINDOW_MS, "{cell:?}");
        let sum = Sum { scaled: scaled(row.value.as_deref()), events: row.event_count };
        let before = windows.insert(cell.clone(), Row { sum, state: row.state, revision: row.revision });
        assert!(before.is_none(), "{cell:?} is listed twice");
    }
    windows
}

/// Every adjustment after `since`, in order.
pub fn adjustments(client: &mut Client, since: &str) -> Vec<Adjustment> {
    let mut found = Vec::new();
    let mut since = since.to_owned();
    loop {
        let page = adjustments_page(client, &since).unwrap_or_else(|wrong| panic!("{wrong}"));
        let Some(last) = page.last() else { return found };
        since.clone_from(&last.id);
        found.extend(page);
    }
}

/// The next adjustments after `since`; an error if the daemon is gone.
pub fn adjustments_page(client: &mut Client, since: &str) -> Result<Vec<Adjustment>, String> {
    let path = format!("/v1/adjustments?since={}&limit={ADJUSTMENTS_PAGE}", percent_encode(since));
    let page: Value = client.get_json(&path).map_err(|error| error.to_string())?;
    Ok(read(page["data"].clone()))
}

/// A period's totals: page by page, as lines and as CSV, which must all say the same.
fn totals(client: &mut Client, period: &str) -> Vec<Total> {
    let path = format!("/v1/periods/{period}/totals");
    let paged = pages::<Total>(client, &format!("{path}?limit={TOTALS_PAGE}"));
    let lines = body(client, &format!("{path}?format=ndjson"));
    let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")));
    assert_eq!(lines.collect::<Vec<Total>>(), paged, "NDJSON and JSON differ");
    assert_eq!(read_csv(&body(client, &format!("{path}?format=csv"))), paged, "CSV and JSON differ");
    paged
}

/// The `data` of every page.
fn pages<T: DeserializeOwned>(client: &mut Client, path: &str) -> Vec<T> {
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let page: Value = client.get_json(&format!("{path}{cursor}")).unwrap_or_else(|error| panic!("{error}"));
        rows.extend(read::<Vec<T>>(page["data"].clone()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={}", percent_encode(next)),
            None => return rows,
        }
    }
}

fn read<T: DeserializeOwned>(value: Value) -> T {
    T::deserialize(&value).unwrap_or_else(|error| panic!("{error}: {value:.2000}"))
}

fn body(client: &mut Client, path: &str) -> String {
    let reply = client.get(path).unwrap();
    assert_eq!(reply.status, 200, "{path}: {}", reply.problem());
    String::from_utf8(Bytes::into(reply.body)).unwrap()
}

/// Rows of CSV by the names in its header.
fn read_csv(text: &str) -> Vec<Total> {
    let mut records = text.lines().map(csv_fields);
    let header = records.next().expect("a header");
    let rows = records.map(|record| {
        assert_eq!(record.len(), header.len(), "{record:?}");
        csv_total(&header.iter().map(String::as_str).zip(record.iter().map(String::as_str)).collect())
    });
    rows.collect()
}

fn csv_total(fields: &BTreeMap<&str, &str>) -> Total {
    let text = |name: &str| (*fields.get(name).unwrap_or_else(|| panic!("no column {name} in {fields:?}"))).to_owned();
    let some = |name: &str| Some(text(name)).filter(|text| !text.is_empty());
    let number = |name: &str| text(name).parse::<u64>().unwrap_or_else(|error| panic!("{name}: {error}"));
    // An apostrophe keeps a spreadsheet from running a name as a formula.
    let name = |column: &str| text(column).strip_prefix('\'').map_or_else(|| text(column), str::to_owned);
    Total {
        customer: name("customer"),
        meter: name("meter"),
        dimensions: serde_json::from_str(&text("dimensions")).expect("an object of dimensions"),
        period: text("period"),
        period_start: text("period_start"),
        period_end: text("period_end"),
        value: some("value"),
        original_value: some("original_value"),
        adjustment: some("adjustment"),
        event_count: number("event_count"),
        adjustments: number("adjustments"),
        state: text("state"),
        revision: number("revision"),
        incarnation: number("incarnation"),
        hash: text("hash"),
    }
}

/// The fields of a record of RFC 4180, without line breaks in them.
fn csv_fields(line: &str) -> Vec<String> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    let mut rest = line.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '"' if quoted && rest.peek() == Some(&'"') => fields.last_mut().unwrap().extend(rest.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => fields.last_mut().unwrap().push(other),
        }
    }
    fields
}

#[test]
fn csv_fields_are_read_with_quotes_and_commas() {
    assert_eq!(csv_fields(r#"a,"b,""c""",,"{""m"":null}""#), ["a", r#"b,"c""#, "", r#"{"m":null}"#]);
}

impl Adjustment {
    pub fn cell(&self) -> Cell {
        Cell {
            meter: self.meter.clone(),
            customer: self.customer.clone(),
            model: model(&self.dimensions),
            start_ms: millis(&self.window_start),
        }
    }
}

/// The label of the calendar month, in UTC, that a window belongs to.
pub fn month(start_ms: i64) -> String {
    Timestamp::from_millis(start_ms).unwrap().to_string()[..7].to_owned()
}

pub fn model(dimensions: &Dimensions) -> Option<String> {
    dimensions.get(DIMENSION).cloned().flatten()
}

pub fn millis(rfc3339: &str) -> i64 {
    Timestamp::parse_rfc3339(rfc3339).unwrap_or_else(|error| panic!("{rfc3339} {error}")).millis()
}

/// A decimal as a whole number; absent, it is none.
pub fn scaled(decimal: Option<&str>) -> i128 {
    decimal.map_or(0, |text| Quantity::parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}")).scaled())
}
