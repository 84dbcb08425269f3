//! Rows as clients see them.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::engine::{CapStatus, MeterTotal};
use crate::http::caps::CapShown;
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
    /// What the customer may use of the meter, if anything limits or watches it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    caps: Vec<CapShown>,
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
    pub fn new(meter: &Definition, total: &MeterTotal, caps: &[CapStatus]) -> Self {
        Self {
            meter: meter.slug.clone(),
            period: total.period.clone(),
            period_start: written(total.bounds.start),
            period_end: written(total.bounds.end),
            value: total.value.map(|value| value.to_string()),
            event_count: total.event_count,
            approximate: total.approximate,
            caps: caps.iter().map(|status| CapShown::new(status, meter)).collect(),
        }
    }
}

fn written(at: Timestamp) -> String {
    at.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::totals::test_meters;
    use crate::meter::{Amount, Cap, CapPeriod, OnHardCap};
    use crate::model::{MeterId, Quantity, Window};

    #[test]
    fn a_meters_row_has_its_caps_and_no_such_member_where_there_are_none() {
        let at = |text| Timestamp::parse_rfc3339(text).unwrap();
        let bounds = Window { start: at("2026-11-01T00:00:00Z"), end: at("2026-12-01T00:00:00Z") };
        let used = Quantity::from_integer(7);
        let period = "2026-11".to_owned();
        let total =
            MeterTotal { meter: MeterId(0), period, bounds, value: Some(used), event_count: 2, approximate: false };
        let cap = Cap {
            id: "default".to_owned(),
            period: CapPeriod::Billing,
            hard: Some(Quantity::from_integer(10)),
            soft: vec![],
            on_hard_cap: OnHardCap::Reject,
            grace: Amount::NOTHING,
            enforce: true,
        };
        let status = CapStatus { cap, bounds, used, held: Quantity::ZERO, thresholds: vec![] };
        let meters = test_meters();
        let meter = &meters.by_slug("monthly").unwrap().definition;
        let row = |caps: &[CapStatus]| serde_json::to_value(PeriodRow::new(meter, &total, caps)).unwrap();
        let mut expected = serde_json::json!({
            "meter": "monthly", "period": "2026-11", "period_start": "2026-11-01T00:00:00Z",
            "period_end": "2026-12-01T00:00:00Z", "value": "7", "event_count": 2,
        });
        assert_eq!(row(&[]), expected);
        let with_caps = row(std::slice::from_ref(&status));
        expected["caps"] = serde_json::json!([CapShown::new(&status, meter)]);
        assert_eq!((&with_caps, &with_caps["caps"][0]["remaining"]), (&expected, &"3".into()));
    }
}
