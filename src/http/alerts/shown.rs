//! Alerts as JSON: what a sink is told when one is made, and how it ended.

use serde::Serialize;

use crate::engine::{AlertEvent, AlertState, ListedAlert};

#[derive(Debug, Serialize)]
pub struct AlertShown {
    alert_id: String,
    seq: u64,
    state: &'static str,
    customer: String,
    meter: String,
    cap: String,
    /// As it is written in the cap, or `hard`.
    threshold: String,
    /// What the threshold came to.
    amount: String,
    used: String,
    hard: Option<String>,
    soft: Vec<String>,
    /// The billing period's name; null for a window.
    period: Option<String>,
    period_start: String,
    period_end: String,
    generation: u32,
    late: bool,
    enforce: bool,
    event: Option<EventShown>,
    triggered_at: String,
    recovered_at: Option<String>,
    recovered_used: Option<String>,
}

#[derive(Debug, Serialize)]
struct EventShown {
    usage_event_id: String,
    /// Null: the hard cap refused it.
    seq: Option<u64>,
}

impl EventShown {
    fn new(event: &AlertEvent) -> Self {
        Self { usage_event_id: event.usage_event_id.clone(), seq: event.seq.map(|seq| seq.0) }
    }
}

impl AlertShown {
    pub fn new(listed: &ListedAlert) -> Self {
        let (alert, recovered) = (&listed.alert, listed.recovered);
        let state = if recovered.is_some() { AlertState::Recovered } else { AlertState::Triggered };
        Self {
            alert_id: alert.id().to_string(),
            seq: listed.seq.0,
            state: state.as_str(),
            customer: alert.customer.clone(),
            meter: alert.meter.clone(),
            cap: alert.cap.id.clone(),
            threshold: alert.threshold.to_string(),
            amount: alert.amount.to_string(),
            used: alert.used.to_string(),
            hard: alert.cap.hard.map(|hard| hard.to_string()),
            soft: alert.cap.soft.iter().map(ToString::to_string).collect(),
            period: alert.period.clone(),
            period_start: alert.bounds.start.to_string(),
            period_end: alert.bounds.end.to_string(),
            generation: alert.generation,
            late: alert.late,
            enforce: alert.cap.enforce,
            event: alert.event.as_ref().map(EventShown::new),
            triggered_at: alert.at.to_string(),
            recovered_at: recovered.map(|end| end.at.to_string()),
            recovered_used: recovered.map(|end| end.used.to_string()),
        }
    }
}
