//! Rows as clients see them.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::engine::MeterTotal;
use crate::http::query::fold::{RowKey, Total};
use crate::meter::Definition;
use crate::model::Timestamp;

/// A row of a meter's usage.
#[derive(Debug, Serialize)]
pub struct UsageRow {
    window_start: String,
    window_end: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer: Option<String>,
    dimensions: Dimensions,
    /// A decimal string; null for a least, greatest, average or latest value of no events.
    value: Option<String>,
    event_count: u64,
    state: &'static str,
    revision: u64,
    #[serde(skip_serializing_if = "is_false")]
    approximate: bool,
}

/// A meter's total for one customer, from the start of the billing period to now.
#[derive(Debug, Serialize)]
pub struct PeriodRow {
    meter: String,
    period: String,
    period_start: String,
    period_end: String,
    value: Option<String>,
    event_count: u64,
    #[serde(skip_serializing_if = "is_false")]
    approximate: bool,
}

#[derive(Debug)]
struct Dimensions(Vec<(String, Option<Box<str>>)>);

impl Serialize for Dimensions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl UsageRow {
    /// `by_dimensions` are the indices of the key's dimensions; `customer` the one that was asked for.
    pub fn new(
        key: RowKey,
        total: &Total,
        meter: &Definition,
        by_dimensions: &[usize],
        customer: Option<&str>,
    ) -> Self {
        let names = by_dimensions.iter().map(|&at| meter.dimensions[at].0.clone());
        Self {
            window_start: written(key.window_start),
            window_end: written(total.window_end),
            customer: key.customer.as_deref().or(customer).map(str::to_owned),
            dimensions: Dimensions(names.zip(key.dimensions).collect()),
            value: total.aggregate.value(total.event_count).map(|value| value.to_string()),
            event_count: total.event_count,
            state: total.state.as_str(),
            revision: total.revision,
            approximate: total.aggregate.is_approximate(),
        }
    }
}

impl PeriodRow {
    pub fn new(meter: &Definition, total: &MeterTotal) -> Self {
        Self {
            meter: meter.slug.clone(),
            period: total.period.clone(),
            period_start: written(total.bounds.start),
            period_end: written(total.bounds.end),
            value: total.value.map(|value| value.to_string()),
            event_count: total.event_count,
            approximate: total.approximate,
        }
    }
}

fn written(at: Timestamp) -> String {
    at.to_string()
}
