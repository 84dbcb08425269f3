//! A statement: the daemon's rows, put together for one customer and period.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::Quantity;

/// As JSON, the statement itself: what the daemon said, UTC, and totals per meter.
#[derive(Debug, Serialize)]
pub struct Statement {
    pub customer: String,
    pub plan: Option<String>,
    /// As it was asked for.
    pub period: String,
    pub as_of: String,
    #[serde(rename = "final")]
    pub is_final: bool,
    /// The customer's; null: each meter's own.
    pub time_zone: Option<String>,
    pub totals: Vec<Line>,
    pub adjustments: Vec<Adjustment>,
    pub meters: Vec<MeterTotal>,
}

/// A meter's total for one set of dimensions.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Line {
    pub meter: String,
    pub dimensions: Map<String, Value>,
    pub period: String,
    pub period_start: String,
    pub period_end: String,
    pub original_value: Option<String>,
    pub adjustment: Option<String>,
    pub value: Option<String>,
    /// Above the hard cap; null where there is none.
    pub overage: Option<String>,
    pub event_count: u64,
    pub adjustments: u64,
    pub state: String,
    pub revision: u32,
    pub incarnation: u32,
    pub hash: String,
    pub as_of: String,
    #[serde(rename = "final")]
    pub is_final: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approximate: bool,
    /// Where local time is told; not the daemon's.
    #[serde(default, skip_deserializing)]
    pub time_zone: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Adjustment {
    pub id: String,
    pub meter: String,
    pub dimensions: Map<String, Value>,
    pub window_start: String,
    pub window_end: String,
    pub period: String,
    pub delta: String,
    /// The window's value since.
    pub value: Option<String>,
    pub event_count: u64,
    pub revision: u32,
    pub incarnation: u32,
    pub timestamp: String,
    pub recorded_at: String,
    #[serde(default, skip_deserializing)]
    pub time_zone: String,
}

/// A meter's lines added up; no value where values of different dimensions cannot be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MeterTotal {
    pub meter: String,
    pub lines: usize,
    pub original_value: Option<String>,
    pub adjustment: Option<String>,
    pub value: Option<String>,
    pub event_count: u64,
}

impl Line {
    /// What was used above the hard cap, if anything was.
    pub fn over(&self) -> Option<&str> {
        self.overage.as_deref().filter(|overage| Quantity::parse(overage) != Ok(Quantity::ZERO))
    }
}

/// A definition, as far as a statement needs it.
#[derive(Debug, Default, Deserialize)]
pub struct Meter {
    pub slug: String,
    pub aggregation: String,
    pub time_zone: String,
    #[serde(default)]
    pub billing_time_zone: Option<String>,
}

impl Statement {
    /// Adds up what the daemon gave. The caller fills in what it knows of the customer and the read.
    pub fn new(
        customer: &str,
        period: &str,
        mut totals: Vec<Line>,
        mut adjustments: Vec<Adjustment>,
        meters: &HashMap<String, Meter>,
    ) -> Self {
        let zone = |slug: &str| {
            let meter = meters.get(slug)?;
            Some(meter.billing_time_zone.clone().unwrap_or_else(|| meter.time_zone.clone()))
        };
        totals.iter_mut().for_each(|line| line.time_zone = zone(&line.meter).unwrap_or_default());
        adjustments.iter_mut().for_each(|row| row.time_zone = zone(&row.meter).unwrap_or_default());
        let is_additive = |slug: &str| meters.get(slug).is_some_and(|m| matches!(&*m.aggregation, "sum" | "count"));
        Self {
            customer: customer.to_owned(),
            plan: None,
            period: period.to_owned(),
            as_of: String::new(),
            is_final: false,
            time_zone: None,
            meters: meter_totals(&totals, is_additive),
            totals,
            adjustments,
        }
    }

    /// Whether each line's adjustments are all there, and none too many.
    pub fn is_complete(&self) -> bool {
        let mut missing: HashMap<_, i128> = HashMap::new();
        for line in &self.totals {
            let name = (&line.meter, line.period.as_str(), Value::Object(line.dimensions.clone()).to_string());
            *missing.entry(name).or_default() += i128::from(line.adjustments);
        }
        for row in &self.adjustments {
            let name = (&row.meter, row.period.as_str(), Value::Object(row.dimensions.clone()).to_string());
            *missing.entry(name).or_default() -= 1;
        }
        missing.values().all(|missing| *missing == 0)
    }
}

/// In the order of the lines, which come sorted by meter.
fn meter_totals(lines: &[Line], is_additive: impl Fn(&str) -> bool) -> Vec<MeterTotal> {
    let of_meter = lines.chunk_by(|a, b| a.meter == b.meter);
    let total = |lines: &[Line]| {
        let meter = lines[0].meter.clone();
        let can_add = lines.len() == 1 || is_additive(&meter);
        let sum = |value: fn(&Line) -> Option<&str>| if can_add { sum(lines.iter().map(value)) } else { None };
        MeterTotal {
            original_value: sum(|line| line.original_value.as_deref()),
            adjustment: sum(|line| line.adjustment.as_deref()),
            value: sum(|line| line.value.as_deref()),
            event_count: lines.iter().map(|line| line.event_count).sum(),
            lines: lines.len(),
            meter,
        }
    };
    of_meter.map(total).collect()
}

/// None where nothing is to be added, or something is no decimal or out of range.
fn sum<'a>(values: impl Iterator<Item = Option<&'a str>>) -> Option<String> {
    let add = |sum: Option<Quantity>, value: &str| {
        let value = Quantity::parse(value).ok()?;
        Some(Some(sum.unwrap_or_default().checked_add(value)?))
    };
    let total = values.flatten().try_fold(None, add)?;
    total.map(|total| total.to_string())
}
