//! The events that count, folded anew: what every window and period must come to.

use std::collections::{BTreeMap, BTreeSet};

use meterd::cli::client::Client;
use meterd::model::{Quantity, Timestamp};
use serde_json::{Value, json};

/// Slug and aggregation of meters that one event type feeds.
pub type Meters<'a> = &'a [(&'a str, &'a str, i64)];

/// Whether an event still counts.
type IsLeft<'a> = &'a dyn Fn(&Event) -> bool;

/// One event that was sent.
#[derive(Clone, Debug)]
pub struct Event {
    pub id: String,
    pub customer: String,
    pub at_ms: i64,
    /// In thousandths.
    pub thousandths: i64,
    pub user: u32,
    /// In the order of acceptance.
    pub number: usize,
}

impl Event {
    pub fn quantity(&self) -> Quantity {
        Quantity::from_scaled(i128::from(self.thousandths) * 1_000_000_000)
    }

    pub fn as_json(&self) -> Value {
        json!({
            "specversion": "1.0", "id": self.id, "source": "tests", "type": "use", "subject": self.customer,
            "time": Timestamp::from_millis(self.at_ms).unwrap().to_string(),
            "data": {"v": self.quantity().to_string(), "user": format!("user {}", self.user)},
        })
    }
}

/// The config of these meters: slug, aggregation, window in seconds.
pub fn config(meters: Meters<'_>) -> String {
    let meter = |(slug, aggregation, seconds): &(&str, &str, i64)| {
        let value = match *aggregation {
            "count" => "",
            "unique" => "value = \"$.user\"\n",
            _ => "value = \"$.v\"\n",
        };
        let window = if *seconds == 86_400 { "1d".to_owned() } else { format!("{seconds}s") };
        format!(
            "[[meter]]\nslug = \"{slug}\"\nevent_type = \"use\"\naggregation = \"{aggregation}\"\nwindow = \"{window}\"\n\
             grace = \"1ms\"\n{value}"
        )
    };
    meters.iter().map(meter).collect()
}

/// What these events come to: value, count.
fn fold(aggregation: &str, events: &[&Event]) -> (Option<String>, u64) {
    let quantities = || events.iter().map(|event| event.quantity());
    let sum = || quantities().fold(Quantity::ZERO, |sum, quantity| sum.checked_add(quantity).unwrap());
    let count = events.len() as u64;
    let value = match aggregation {
        "count" => Some(Quantity::from_integer(count as i64)),
        "sum" => Some(sum()),
        "avg" => sum().divided_by(count),
        "min" => quantities().min(),
        "max" => quantities().max(),
        "latest" => events.iter().max_by_key(|event| (event.at_ms, event.number)).map(|event| event.quantity()),
        "unique" => {
            let users: BTreeSet<u32> = events.iter().map(|event| event.user).collect();
            Some(Quantity::from_integer(users.len() as i64))
        }
        other => panic!("no aggregation {other}"),
    };
    (value.map(|value| value.to_string()), count)
}

/// Compares every window that events were ever sent for, and every customer's periods together.
pub fn check(client: &mut Client, meters: Meters<'_>, (sent, is_left): (&[Event], IsLeft<'_>)) {
    for (slug, aggregation, seconds) in meters {
        let mut windows: BTreeMap<(String, i64), Vec<&Event>> = BTreeMap::new();
        for event in sent {
            let start = event.at_ms.div_euclid(seconds * 1_000) * seconds * 1_000;
            let window = windows.entry((event.customer.clone(), start)).or_default();
            window.extend(Some(event).filter(|event| is_left(event)));
        }
        let found = usage(client, slug);
        let mut wrong = Vec::new();
        for (place, events) in &windows {
            let expected = fold(aggregation, events);
            let found = found.get(place).cloned().unwrap_or((None, 0));
            let is_nothing = events.is_empty() && found.1 == 0;
            if found != expected && !is_nothing {
                wrong.push(format!("{slug} {place:?}: {found:?}, expected {expected:?}"));
            }
        }
        let unknown = found.keys().filter(|place| !windows.contains_key(place)).count();
        assert!(
            wrong.is_empty() && unknown == 0,
            "{} wrong, {unknown} unknown: {:#?}",
            wrong.len(),
            &wrong[..wrong.len().min(10)]
        );
    }
}

/// Value and count of every window of a meter, by customer and start.
fn usage(client: &mut Client, slug: &str) -> BTreeMap<(String, i64), (Option<String>, u64)> {
    let mut cells = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/meters/{slug}/usage?group_by=customer&limit=10000{cursor}");
        let page = get(client, &path);
        for row in page["data"].as_array().unwrap() {
            let start = Timestamp::parse_rfc3339(row["window_start"].as_str().unwrap()).unwrap();
            let customer = row["customer"].as_str().unwrap().to_owned();
            let value = row["value"].as_str().map(str::to_owned);
            let cell = (value, row["event_count"].as_u64().unwrap());
            assert_eq!(cells.insert((customer, start.micros() / 1_000), cell), None, "each window once");
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={}", meterd::cli::client::percent_encode(next)),
            None => return cells,
        }
    }
}

/// Compares the totals of the billing periods that events were sent for.
pub fn check_totals(client: &mut Client, meters: Meters<'_>, (sent, is_left): (&[Event], IsLeft<'_>)) {
    for name in months(sent) {
        let totals = get(client, &format!("/v1/periods/{name}/totals?limit=10000"));
        let rows = totals["data"].as_array().unwrap();
        for (slug, aggregation, _) in meters {
            let customers: BTreeSet<&String> = sent.iter().map(|event| &event.customer).collect();
            for customer in customers {
                let theirs = |event: &&Event| event.customer == *customer && month(event) == name;
                if !sent.iter().any(|event| theirs(&event)) {
                    continue;
                }
                let left: Vec<&Event> = sent.iter().filter(theirs).filter(|event| is_left(event)).collect();
                let row = rows.iter().find(|row| row["meter"] == **slug && row["customer"] == **customer);
                let row = row.unwrap_or_else(|| panic!("{name} has no total of {customer} {slug}: {totals}"));
                let found = (row["value"].as_str().map(str::to_owned), row["event_count"].as_u64().unwrap());
                assert_eq!(found, fold(aggregation, &left), "{name} {customer} {slug}: {row}");
            }
        }
    }
}

/// Each total says how many adjustments its windows have: as many as are listed, of late usage and of what was taken back.
pub fn check_adjustments(client: &mut Client, sent: &[Event]) {
    let name =
        |row: &Value| [&row["period"], &row["customer"], &row["meter"]].map(|name| name.as_str().unwrap().to_owned());
    let page = get(client, "/v1/adjustments?since=0&limit=10000");
    assert_eq!(page["next_cursor"], Value::Null, "one page has them all");
    let mut listed: BTreeMap<[String; 3], u64> = BTreeMap::new();
    page["data"].as_array().unwrap().iter().for_each(|row| *listed.entry(name(row)).or_default() += 1);
    let mut said = BTreeMap::new();
    for period in months(sent) {
        let totals = get(client, &format!("/v1/periods/{period}/totals?limit=10000"));
        let rows = totals["data"].as_array().unwrap().iter();
        said.extend(rows.map(|row| (name(row), row["adjustments"].as_u64().unwrap())).filter(|(_, count)| *count > 0));
    }
    assert_eq!(said, listed);
}

fn month(event: &Event) -> String {
    Timestamp::from_millis(event.at_ms).unwrap().to_string()[..7].to_owned()
}

/// The billing periods that events were sent for.
fn months(sent: &[Event]) -> BTreeSet<String> {
    sent.iter().map(month).collect()
}

pub fn get(client: &mut Client, path: &str) -> Value {
    let reply = client.get(path).unwrap();
    assert_eq!(reply.status, 200, "{path}: {}", String::from_utf8_lossy(&reply.body));
    serde_json::from_slice(&reply.body).unwrap()
}
