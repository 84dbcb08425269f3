//! What is stored for a customer, and the billing periods that it leads to.
//!
//! `{"customer","anchor","time_zone","plan","applies_from","period":{"name","start","end"},"next_period":{…}}`: `period`
//! holds the engine's time. It is that of the first meter billed by the month; of the first meter if there is none; null
//! without meters. Meters of other kinds or zones have their own: `/v1/customers/{customer}/usage` lists them.

use serde::Serialize;

use crate::http::customers::settings::billed_by_month;
use crate::http::problem::Problem;
use crate::meter::{BillingPeriod, Customer, Meter, Meters, ResolvedSchedule};
use crate::model::Timestamp;

#[derive(Debug, Serialize)]
pub struct Shown {
    customer: String,
    anchor: Option<u8>,
    time_zone: Option<String>,
    plan: Option<String>,
    /// The first period that anchor and time zone are for; null: all of them.
    applies_from: Option<String>,
    period: Option<ShownPeriod>,
    next_period: Option<ShownPeriod>,
}

#[derive(Debug, Serialize)]
struct ShownPeriod {
    name: String,
    start: String,
    end: String,
}

impl ShownPeriod {
    fn new(period: &BillingPeriod) -> Self {
        Self {
            name: period.label.to_string(),
            start: period.bounds.start.to_string(),
            end: period.bounds.end.to_string(),
        }
    }
}

impl Shown {
    pub fn new(customer: &str, stored: &Customer, meters: &Meters, now: Timestamp) -> Result<Self, Problem> {
        let schedule = ResolvedSchedule::new(&stored.schedule).map_err(|error| {
            tracing::error!(customer, %error, "a stored schedule cannot be read");
            Problem::StoreUnreadable
        })?;
        let meter = billed_by_month(meters).or_else(|| meters.iter().find(|meter| !meter.retired));
        let periods = meter.map(|meter| periods(meter, &schedule, now));
        let newest = stored.schedule.newest();
        Ok(Self {
            customer: customer.to_owned(),
            anchor: newest.and_then(|era| era.anchor),
            time_zone: newest.and_then(|era| era.time_zone.clone()),
            plan: stored.plan.clone(),
            applies_from: newest.and_then(|era| era.from).map(|from| from.to_string()),
            period: periods.as_ref().map(|(period, _)| ShownPeriod::new(period)),
            next_period: periods.and_then(|(_, next)| next.as_ref().map(ShownPeriod::new)),
        })
    }
}

/// The period that holds `now`, and the next one.
fn periods(meter: &Meter, schedule: &ResolvedSchedule, now: Timestamp) -> (BillingPeriod, Option<BillingPeriod>) {
    let calendar = meter.calendar(Some(schedule));
    let period = calendar.period_at(now);
    let next = period.label.next().and_then(|label| Some(BillingPeriod { label, bounds: calendar.bounds(&label)? }));
    (period, next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::totals::test_meters;
    use crate::meter::{Schedule, Zone};

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).unwrap()
    }

    fn shown(schedule: Schedule, now: &str) -> serde_json::Value {
        let stored = Customer { plan: Some("pro".into()), schedule };
        serde_json::to_value(Shown::new("c", &stored, &test_meters(), at(now)).unwrap()).unwrap()
    }

    #[test]
    fn an_anchored_customer_has_its_own_months_in_its_own_zone() {
        let now = at("2026-11-22T00:00:00Z");
        let zone = Some("Europe/Berlin".to_owned());
        let schedule = Schedule::default().changed(Some(31), zone, now, &Zone::utc(), false);
        let expected = serde_json::json!({
            "customer": "c", "anchor": 31, "time_zone": "Europe/Berlin", "plan": "pro", "applies_from": null,
            "period": {"name": "2026-10", "start": "2026-10-30T23:00:00Z", "end": "2026-11-29T23:00:00Z"},
            "next_period": {"name": "2026-11", "start": "2026-11-29T23:00:00Z", "end": "2026-12-30T23:00:00Z"},
        });
        assert_eq!(shown(schedule, "2026-11-22T00:00:00Z"), expected);
    }

    #[test]
    fn a_change_says_from_which_period_on_it_is_in_force() {
        let now = at("2026-11-22T00:00:00Z");
        let schedule = Schedule::default().changed(Some(15), None, now, &Zone::utc(), true);
        let shown = shown(schedule, "2026-11-22T00:00:00Z");
        assert_eq!((&shown["anchor"], &shown["period"]["end"]), (&15.into(), &"2026-12-01T00:00:00Z".into()));
        let from = shown["applies_from"].as_str().unwrap();
        assert!(from > "2026-11", "{from}");
    }

    #[test]
    fn without_meters_there_are_no_periods() {
        let shown = Shown::new("c", &Customer::default(), &Meters::new(), Timestamp::EPOCH).unwrap();
        assert!(shown.period.is_none() && shown.next_period.is_none());
    }
}
