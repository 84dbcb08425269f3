//! What is told of crossings as they happen: metrics and the log. A replay tells nothing.

use std::collections::{BTreeMap, HashSet};

use crate::engine::caps::{Alert, AlertState};
use crate::engine::state::State;
use crate::meter::{Amount, PlanCap, Threshold};
use crate::metrics::{
    CAPS_EXCEEDED, EVENTS_CAPPED, RESERVATIONS, RESERVATIONS_HELD, THRESHOLD_CROSSED_TIMESTAMP, THRESHOLDS_CROSSED,
    THRESHOLDS_RECOVERED,
};
use crate::model::{Quantity, Timestamp};

/// The label of all other thresholds: there may be any number of them.
const OTHER: &str = "other";
/// The greatest whole percentage that has a label of its own.
const PERCENT_MAX: i64 = 200;

pub struct Crossings {
    /// Meter and threshold as the config has them: these have labels of their own, too.
    named: HashSet<(String, String)>,
}

impl Crossings {
    /// With metrics that say that nothing has happened yet.
    pub fn new(caps: &BTreeMap<String, Vec<PlanCap>>) -> Self {
        let mut named = HashSet::new();
        for (meter, caps) in caps {
            for (threshold, _) in caps.iter().flat_map(|default| default.cap.thresholds()) {
                metrics::counter!(THRESHOLDS_CROSSED, "meter" => meter.clone(), "threshold" => threshold.to_string())
                    .increment(0);
                named.insert((meter.clone(), threshold.to_string()));
            }
            metrics::counter!(EVENTS_CAPPED, "meter" => meter.clone()).increment(0);
            metrics::gauge!(CAPS_EXCEEDED, "meter" => meter.clone()).set(0.0);
        }
        for end in ["committed", "released", "expired"] {
            metrics::counter!(RESERVATIONS, "end" => end).increment(0);
        }
        Self { named }
    }

    /// An alert was made.
    pub fn note(&self, alert: &Alert) {
        let meter = alert.meter.clone();
        let threshold = alert.threshold.to_string();
        let is_named = is_common(alert.threshold) || self.named.contains(&(meter.clone(), threshold.clone()));
        let label = if is_named { threshold } else { OTHER.to_owned() };
        let (id, used, cap) = (alert.id(), alert.used, alert.cap.id.as_str());
        let (tenant, customer, threshold) = (&alert.tenant, &alert.customer, alert.threshold);
        match alert.state {
            AlertState::Triggered => {
                metrics::counter!(THRESHOLDS_CROSSED, "meter" => meter.clone(), "threshold" => label.clone())
                    .increment(1);
                metrics::gauge!(THRESHOLD_CROSSED_TIMESTAMP, "meter" => meter.clone(), "threshold" => label)
                    .set(alert.at.micros() as f64 / 1e6);
                let is_refusal = alert.event.as_ref().is_some_and(|event| event.seq.is_none());
                let what = if is_refusal { "a hard cap has refused an event" } else { "usage has crossed a threshold" };
                tracing::info!(%id, tenant, customer, meter, cap, %threshold, %used, "{what}");
            }
            AlertState::Recovered => {
                metrics::counter!(THRESHOLDS_RECOVERED, "meter" => meter.clone(), "threshold" => label).increment(1);
                tracing::info!(%id, tenant, customer, meter, cap, %threshold, %used, "an alert has recovered");
            }
        }
    }

    /// What is held and exceeded at this time.
    pub fn gauge(&self, state: &State, now: Timestamp) {
        metrics::gauge!(RESERVATIONS_HELD).set(state.caps().reservations().held_len() as f64);
        for (meter, exceeded) in state.caps().exceeded(now) {
            let meter = state.definitions()[usize::from(meter.0)].slug.clone();
            metrics::gauge!(CAPS_EXCEEDED, "meter" => meter).set(exceeded as f64);
        }
    }

    pub fn expired(&self, reservations: usize) {
        if reservations > 0 {
            metrics::counter!(RESERVATIONS, "end" => "expired").increment(reservations as u64);
            tracing::info!(reservations, "reservations have expired");
        }
    }

    /// A reservation ended before its time.
    pub fn ended(&self, how: &'static str) {
        metrics::counter!(RESERVATIONS, "end" => how).increment(1);
    }

    /// An event was refused by a cap on this meter.
    pub fn refused(&self, meter: &str) {
        metrics::counter!(EVENTS_CAPPED, "meter" => meter.to_owned()).increment(1);
    }
}

/// One of a bounded number of thresholds, each with a label of its own whoever has it: the hard cap, and whole percentages.
fn is_common(threshold: Threshold) -> bool {
    match threshold {
        Threshold::Hard => true,
        Threshold::Soft(Amount::Percent(percent)) => {
            percent.scaled() % Quantity::ONE.scaled() == 0 && percent <= Quantity::from_integer(PERCENT_MAX)
        }
        Threshold::Soft(Amount::Absolute(_)) => false,
    }
}
