//! The body of a PUT: `{"anchor","time_zone","plan"}`, each optional.
//!
//! | member | takes |
//! | --- | --- |
//! | `anchor` | the day of the month that periods start on, 1 to 31; or a date, or an instant (RFC 3339), of which the day of the month counts: an instant's is that of its local day in the time zone |
//! | `time_zone` | an IANA name; unset: each meter's own |
//! | `plan` | a name; where the config's caps are for certain plans, one that the config knows: a slip would leave the customer without caps |
//!
//! An anchor means something for meters that are billed by the month only; where there is none it is refused.

use crate::engine::CustomerSettings;
use crate::http::document::{members, unknown_member};
use crate::http::ingest::json::Value;
use crate::http::problem::Problem;
use crate::meter::calendar::ANCHORS;
use crate::meter::{Meter, Meters, Period, PeriodKind, Zone};
use crate::model::Timestamp;
use crate::model::id::NAME_BYTES_MAX;

/// Plans that an answer names.
const PLANS_NAMED_MAX: usize = 32;

/// `plans`: those there are; none: any.
pub fn read(body: &[u8], meters: &Meters, plans: Option<&[String]>) -> Result<CustomerSettings, Problem> {
    let (mut anchor, mut zone, mut settings) = (None, None, CustomerSettings::default());
    members(body, |name, member| {
        match (name, member.value()) {
            ("anchor" | "time_zone" | "plan", Value::Null) => {}
            ("anchor", value) => anchor = Some(read_anchor(value)?),
            ("time_zone", Value::Text(text)) => {
                zone = Some(Zone::named(text).map_err(|error| Problem::member(name, format_args!(": {error}")))?);
                settings.time_zone = Some(text.to_string());
            }
            ("plan", Value::Text(text)) => settings.plan = Some(read_plan(text, plans)?),
            ("time_zone" | "plan", _) => return Err(Problem::member(name, "must be a string or null")),
            _ => return Err(unknown_member(name)),
        }
        Ok(())
    })?;
    if let Some(anchor) = anchor {
        let monthly = billed_by_month(meters)
            .ok_or_else(|| Problem::member("anchor", "means nothing here: no meter is billed by the month"))?;
        settings.anchor = Some(anchor.day(zone.as_ref().unwrap_or(&monthly.billing_zone)));
    }
    Ok(settings)
}

/// A meter in use that is billed by the month.
pub fn billed_by_month(meters: &Meters) -> Option<&Meter> {
    meters.iter().find(|meter| !meter.retired && meter.definition.billing_period == PeriodKind::Month)
}

/// As written: the day of an instant is known once the zone is.
enum Anchor {
    Day(u8),
    Instant(Timestamp),
}

impl Anchor {
    fn day(self, zone: &Zone) -> u8 {
        match self {
            Anchor::Day(day) => day,
            Anchor::Instant(at) => zone.day(at).0.day().unsigned_abs(),
        }
    }
}

fn read_anchor(value: &Value<'_>) -> Result<Anchor, Problem> {
    let anchor = match value {
        Value::Number(digits) => digits.parse().ok().filter(|day| ANCHORS.contains(day)).map(Anchor::Day),
        Value::Text(text) => read_date(text).or_else(|| Timestamp::parse_rfc3339(text).ok().map(Anchor::Instant)),
        _ => None,
    };
    let fault = "must be a day of the month from 1 to 31, a date like \"2026-01-31\" or an RFC 3339 time";
    anchor.ok_or_else(|| Problem::member("anchor", fault))
}

/// `2026-01-31`: the 31st.
fn read_date(text: &str) -> Option<Anchor> {
    let date: Period = text.parse().ok()?;
    let (_, day) = text.rsplit_once('-').filter(|_| date.kind() == PeriodKind::Day)?;
    day.parse().ok().map(Anchor::Day)
}

fn read_plan(text: &str, plans: Option<&[String]>) -> Result<String, Problem> {
    if !(1..=NAME_BYTES_MAX).contains(&text.len()) || text.chars().any(char::is_control) {
        return Err(Problem::member("plan", "must have 1 to 256 bytes and no control characters"));
    }
    match plans {
        Some(plans) if !plans.iter().any(|plan| plan == text) => Err(unknown_plan(text, plans)),
        _ => Ok(text.to_owned()),
    }
}

fn unknown_plan(text: &str, plans: &[String]) -> Problem {
    let named: Vec<String> = plans.iter().take(PLANS_NAMED_MAX).map(|plan| format!("{plan:?}")).collect();
    let more = if plans.len() > named.len() { ", …" } else { "" };
    let known = if named.is_empty() { "none".to_owned() } else { named.join(", ") };
    Problem::at("unknown_plan", "/plan", format_args!("{text:?} is no plan of the config; it knows {known}{more}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::totals::test_meters;

    fn settings(body: &str) -> Result<CustomerSettings, Problem> {
        read(body.as_bytes(), &test_meters(), None)
    }

    fn anchor(body: &str) -> Option<u8> {
        settings(body).unwrap().anchor
    }

    #[test]
    fn members_are_optional_and_null_unsets() {
        let all = settings(r#"{"anchor":15,"time_zone":"Europe/Berlin","plan":"pro"}"#).unwrap();
        assert_eq!(
            (all.anchor, all.time_zone.as_deref(), all.plan.as_deref()),
            (Some(15), Some("Europe/Berlin"), Some("pro"))
        );
        for body in ["{}", r#"{"anchor":null,"time_zone":null,"plan":null}"#] {
            let none = settings(body).unwrap();
            assert_eq!((none.anchor, none.time_zone, none.plan), (None, None, None));
        }
    }

    #[test]
    fn an_anchor_is_a_day_a_date_or_an_instants_day_in_the_zone() {
        for (body, day) in [
            (r#"{"anchor":1}"#, 1),
            (r#"{"anchor":31}"#, 31),
            (r#"{"anchor":"2026-01-31"}"#, 31),
            (r#"{"anchor":"2024-02-29"}"#, 29),
            (r#"{"anchor":"2026-01-31T23:30:00Z"}"#, 31),
            (r#"{"anchor":"2026-01-31T23:30:00Z","time_zone":"Europe/Berlin"}"#, 1),
            (r#"{"time_zone":"America/New_York","anchor":"2026-01-01T04:59:59Z"}"#, 31),
            (r#"{"anchor":"2026-01-01T00:30:00+02:00"}"#, 31),
        ] {
            assert_eq!(anchor(body), Some(day), "{body}");
        }
    }

    #[test]
    fn faults_are_pointed_at() {
        let long = format!(r#"{{"plan":"{}"}}"#, "x".repeat(257));
        for (body, expected) in [
            (r#"{"anchor":0}"#, "/anchor"),
            (r#"{"anchor":32}"#, "/anchor"),
            (r#"{"anchor":1.5}"#, "/anchor"),
            (r#"{"anchor":-1}"#, "/anchor"),
            (r#"{"anchor":1e1}"#, "/anchor"),
            (r#"{"anchor":"15"}"#, "/anchor"),
            (r#"{"anchor":"2026-02-30"}"#, "/anchor"),
            (r#"{"anchor":"2026-02"}"#, "/anchor"),
            (r#"{"anchor":"2026-W05"}"#, "/anchor"),
            (r#"{"anchor":true}"#, "/anchor"),
            (r#"{"anchor":{}}"#, "/anchor"),
            (r#"{"time_zone":"Europe/Atlantis"}"#, "/time_zone"),
            (r#"{"time_zone":""}"#, "/time_zone"),
            (r#"{"time_zone":1}"#, "/time_zone"),
            (r#"{"plan":""}"#, "/plan"),
            (r#"{"plan":"a\nb"}"#, "/plan"),
            (r#"{"plan":["pro"]}"#, "/plan"),
            (&long, "/plan"),
            (r#"{"ancor":1}"#, "/ancor"),
            ("[]", ""),
        ] {
            match settings(body) {
                Err(Problem::Member { pointer, .. }) => assert_eq!(pointer, expected, "{body}"),
                other => panic!("{body}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_anchor_needs_a_meter_that_is_billed_by_the_month() {
        let mut meters = test_meters();
        meters.retire(|meter| meter.billing_period == PeriodKind::Month);
        assert!(
            matches!(read(br#"{"anchor":1}"#, &meters, None), Err(Problem::Member { pointer, .. }) if pointer == "/anchor")
        );
        assert!(read(br#"{"anchor":null,"plan":"pro"}"#, &meters, None).is_ok());
    }

    #[test]
    fn a_plan_is_one_that_the_config_knows_if_it_names_any_and_the_answer_lists_them() {
        let plan = |text: &str, plans: &[String]| {
            let body = serde_json::json!({"plan": text}).to_string();
            read(body.as_bytes(), &test_meters(), Some(plans)).map(|settings| settings.plan)
        };
        let plans = ["free".to_owned(), "pro".to_owned()];
        assert_eq!(plan("pro", &plans).unwrap().as_deref(), Some("pro"));
        assert_eq!(read(br#"{"plan":null}"#, &test_meters(), Some(&plans)).unwrap().plan, None);
        let many: Vec<String> = (0..PLANS_NAMED_MAX + 1).map(|n| format!("p{n:02}")).collect();
        for (plans, known) in
            [(&plans[..], r#"it knows "free", "pro""#), (&[], "it knows none"), (&many, r#""p30", "p31", …"#)]
        {
            let problem = plan("Pro", plans).unwrap_err();
            assert!(problem.to_string().ends_with(known), "{problem}");
            let Problem::Coded { code, pointer, .. } = problem else { panic!("{known}") };
            assert_eq!((code, pointer.as_deref()), ("unknown_plan", Some("/plan")));
        }
    }
}
