//! Caps as JSON: what was set, and what it has come to in the present period.
//!
//! 1. Quantities are decimal strings. `remaining` is what neither usage nor reservations have taken of the hard cap, null
//!    without one; `overage` is what is used above it.
//! 2. The members that can be set are as a PUT takes them.

use serde::Serialize;

use crate::engine::{CapStatus, MeterCaps};
use crate::meter::{CapPeriod, Definition};
use crate::model::Quantity;

#[derive(Debug, Serialize)]
pub struct MeterCapsShown {
    pub meter: String,
    /// Whose the caps are.
    source: &'static str,
    caps: Vec<CapShown>,
}

#[derive(Debug, Serialize)]
pub struct CapShown {
    id: String,
    hard: Option<String>,
    soft: Vec<String>,
    on_hard_cap: &'static str,
    period: &'static str,
    grace: String,
    enforce: bool,
    period_start: String,
    period_end: String,
    used: String,
    held: String,
    remaining: Option<String>,
    overage: String,
    thresholds: Vec<ThresholdShown>,
}

#[derive(Debug, Serialize)]
struct ThresholdShown {
    threshold: String,
    amount: String,
    crossed: bool,
}

impl MeterCapsShown {
    pub fn new(caps: &MeterCaps, meter: &Definition) -> Self {
        Self {
            meter: meter.slug.clone(),
            source: if caps.own { "customer" } else { "config" },
            caps: caps.caps.iter().map(|status| CapShown::new(status, meter)).collect(),
        }
    }
}

impl CapShown {
    pub fn new(status: &CapStatus, meter: &Definition) -> Self {
        let CapStatus { cap, bounds, used, held, thresholds } = status;
        let positive = |quantity: Quantity| quantity.max(Quantity::ZERO).to_string();
        let thresholds = thresholds.iter().map(|(threshold, amount, crossed)| ThresholdShown {
            threshold: threshold.to_string(),
            amount: amount.to_string(),
            crossed: *crossed,
        });
        Self {
            id: cap.id.clone(),
            hard: cap.hard.map(|hard| hard.to_string()),
            soft: cap.soft.iter().map(ToString::to_string).collect(),
            on_hard_cap: cap.on_hard_cap.as_str(),
            period: match cap.period {
                CapPeriod::Billing => meter.billing_period.as_str(),
                CapPeriod::Window => "window",
            },
            grace: cap.grace.to_string(),
            enforce: cap.enforce,
            period_start: bounds.start.to_string(),
            period_end: bounds.end.to_string(),
            used: used.to_string(),
            held: held.to_string(),
            remaining: cap.hard.map(|hard| positive(hard.saturating_sub(*used).saturating_sub(*held))),
            overage: positive(cap.hard.map_or(Quantity::ZERO, |hard| used.saturating_sub(hard))),
            thresholds: thresholds.collect(),
        }
    }
}
