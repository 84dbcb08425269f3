//! One row of a period's totals, borrowed, as JSON. `csv` writes the same members in the same order.
//!
//! 1. Values are decimal strings. `original_value` + `adjustment` = `value`, where null counts as 0.
//! 2. `value` is null for a least, greatest, average or latest value of no events, as is `original_value` where all
//!    events came late. `adjustment` is null only if the difference leaves the range of a quantity.
//! 3. `overage` is what lies above the hard cap of the billing period, 0 without one. It is null where the meter has dimensions and
//!    there is such a cap: a row is a part of what that counts. The hash is not of it.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::engine::{PeriodTotal, WindowState};
use crate::meter::Definition;
use crate::model::{Quantity, Timestamp, hex};

#[derive(Serialize)]
pub struct TotalRow<'a> {
    pub customer: &'a str,
    pub meter: &'a str,
    pub dimensions: Dimensions<'a>,
    pub period: &'a str,
    pub period_start: &'a str,
    pub period_end: &'a str,
    pub value: Option<Decimal>,
    pub original_value: Option<Decimal>,
    pub adjustment: Option<Decimal>,
    pub overage: Option<Decimal>,
    pub event_count: u64,
    pub adjustments: u64,
    pub state: &'static str,
    pub revision: u32,
    pub incarnation: u32,
    pub hash: String,
    pub as_of: &'a str,
    #[serde(rename = "final")]
    pub is_final: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub approximate: bool,
}

/// The texts of the instants that rows share, so that each is written once for many rows.
#[derive(Default)]
pub struct Instants {
    start: Written,
    end: Written,
    as_of: Written,
}

#[derive(Default)]
struct Written {
    of: Option<Timestamp>,
    text: String,
}

impl Written {
    fn get(&mut self, at: Timestamp) -> &str {
        if self.of != Some(at) {
            (self.of, self.text) = (Some(at), at.to_string());
        }
        &self.text
    }
}

impl<'a> TotalRow<'a> {
    pub fn new(total: &'a PeriodTotal, meter: &'a Definition, instants: &'a mut Instants) -> Self {
        Self {
            customer: &total.customer,
            meter: &meter.slug,
            dimensions: Dimensions { meter, values: &total.dimensions },
            period: &total.period,
            period_start: instants.start.get(total.bounds.start),
            period_end: instants.end.get(total.bounds.end),
            value: total.value.map(Decimal),
            original_value: total.original.map(Decimal),
            adjustment: adjustment(total).map(Decimal),
            overage: total.overage.map(Decimal),
            event_count: total.event_count,
            adjustments: total.adjustments,
            state: total.state.as_str(),
            revision: total.revision,
            incarnation: total.incarnation,
            hash: hex::encode(&total.hash),
            as_of: instants.as_of.get(total.as_of),
            is_final: total.state == WindowState::Finalized,
            approximate: total.approximate,
        }
    }
}

fn adjustment(total: &PeriodTotal) -> Option<Quantity> {
    total.value.unwrap_or_default().checked_sub(total.original.unwrap_or_default())
}

/// A quantity as a decimal string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal(pub Quantity);

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// An object from each of the meter's dimensions to its value; null if the events named none.
pub struct Dimensions<'a> {
    pub meter: &'a Definition,
    pub values: &'a [Option<String>],
}

impl Serialize for Dimensions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.values.len()))?;
        for ((name, _), value) in self.meter.dimensions.iter().zip(self.values) {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}
