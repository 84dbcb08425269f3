//! What is asked of the daemon: the meter, the period's totals, usage by window.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::cli::client::{Client, percent_encode};
use crate::cli::evidence::{Dimensions, instant};
use crate::cli::listing::{Listing, PAGE_ROWS};
use crate::meter::{Aggregation, WindowLength, Windows, Zone};
use crate::model::{Timestamp, Window};

/// A definition, as far as it is needed here.
#[derive(Clone, Debug, Deserialize)]
pub struct Meter {
    pub slug: String,
    pub aggregation: Aggregation,
    #[serde(default)]
    pub dimensions: BTreeMap<String, serde_json::Value>,
    pub window: WindowLength,
    pub time_zone: String,
}

impl Meter {
    pub fn ask(client: &mut Client, slug: &str) -> anyhow::Result<Self> {
        Ok(client.get_json(&format!("/v1/meters/{}", percent_encode(slug)))?)
    }

    pub fn windows(&self) -> anyhow::Result<Windows> {
        Ok(Windows::new(self.window, Zone::named(&self.time_zone)?))
    }
}

/// A billing period's total for one set of dimensions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Total {
    pub customer: String,
    pub meter: String,
    pub dimensions: Dimensions,
    pub period: String,
    pub period_start: String,
    pub period_end: String,
    pub value: Option<String>,
    #[serde(default)]
    pub original_value: Option<String>,
    #[serde(default)]
    pub adjustment: Option<String>,
    pub event_count: u64,
    #[serde(default)]
    pub adjustments: u64,
    pub state: String,
    pub revision: u64,
    #[serde(default)]
    pub approximate: bool,
}

impl Total {
    /// The period's bounds.
    pub fn bounds(&self) -> anyhow::Result<Window> {
        Ok(Window { start: instant(&self.period_start)?, end: instant(&self.period_end)? })
    }
}

/// Totals of a period: of one customer, or of all; of one meter, or of all.
pub fn totals(period: &str, customer: Option<&str>, meter: Option<&str>) -> Listing<Total> {
    let mut path = format!("/v1/periods/{}/totals?format=json&", percent_encode(period));
    for (name, value) in [("customer", customer), ("meter", meter)] {
        if let Some(value) = value {
            path.push_str(&format!("{name}={}&", percent_encode(value)));
        }
    }
    Listing::new(path, PAGE_ROWS)
}

/// A window's value for one set of dimensions.
#[derive(Clone, Debug, Deserialize)]
pub struct UsageRow {
    pub window_start: String,
    pub dimensions: Dimensions,
    pub value: Option<String>,
    pub event_count: u64,
    pub state: String,
    pub revision: u64,
    #[serde(default)]
    pub approximate: bool,
}

/// A customer's windows that start from `from` on and before `to`.
pub fn usage(meter: &Meter, customer: &str, from: Timestamp, to: Timestamp) -> Listing<UsageRow> {
    let names: Vec<&str> = meter.dimensions.keys().map(String::as_str).collect();
    let group_by =
        if names.is_empty() { String::new() } else { format!("group_by={}&", percent_encode(&names.join(","))) };
    let [slug, customer, from, to] = [&meter.slug, customer, &from.to_string(), &to.to_string()].map(percent_encode);
    let path = format!("/v1/meters/{slug}/usage?customer={customer}&from={from}&to={to}&{group_by}");
    Listing::new(path, PAGE_ROWS)
}
