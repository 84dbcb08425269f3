//! Verdicts and outcomes as JSON.
//!
//! | check | members |
//! | --- | --- |
//! | any | `allowed`, `used`, `held`, `soft_cap`, `hard_cap`, `remaining`, `overage`, `period_end`, `cap`, and `reason` if it is not allowed |
//! | that consumed | also `outcome` (`accepted`, `duplicate`, `capped`), `seq`; `allowed` says whether the usage counts |
//! | in an array | also `customer`, `meter`, in front |
//! | in an array, rejected or in conflict | `customer`, `meter`, `allowed`, `outcome`, `code`, `detail` |
//!
//! Alone, one that is rejected or in conflict is a problem.

use std::fmt::Display;

use serde::{Serialize, Serializer};

use crate::engine::Verdict;
use crate::http::check::request::{Check, Checks};
use crate::http::ingest::door;
use crate::http::problem::Problem;
use crate::meter::Meters;
use crate::model::{Code, MeterId, Outcome, Quantity, Timestamp};

/// What an answer to one check takes, roughly.
const CHECK_BYTES: usize = 256;
const OVERFLOW: &str = "the total would leave the range of about ±1.7e26";

/// How many checks came to which end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub allowed: u64,
    pub denied: u64,
}

/// Something that is written as its text.
struct Text<T>(T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Shown<'a> {
    Decided(Decided<'a>),
    Refused(Refused<'a>),
}

#[derive(Serialize)]
struct Decided<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    customer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meter: Option<&'a str>,
    allowed: bool,
    used: Text<Quantity>,
    held: Text<Quantity>,
    soft_cap: Option<Text<Quantity>>,
    hard_cap: Option<Text<Quantity>>,
    remaining: Option<Text<Quantity>>,
    overage: Text<Quantity>,
    period_end: Text<Timestamp>,
    cap: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
}

#[derive(Serialize)]
struct Refused<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    customer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meter: Option<&'a str>,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    code: &'static str,
    detail: &'a str,
}

#[derive(Serialize)]
struct Page<'a> {
    data: Vec<Shown<'a>>,
}

/// Answers every check, and counts. `outcomes`: those of the checks that consumed. `verdict`: may this customer use so much
/// more of this meter?
pub fn render(
    checks: &Checks<'_>,
    outcomes: &[Outcome],
    meters: &Meters,
    verdict: impl Fn(&str, MeterId, Quantity) -> Option<Verdict>,
) -> Result<(Vec<u8>, Tally), Problem> {
    let show = |check| show(check, check.event.and_then(|event| outcomes.get(event)), &verdict);
    let mut tally = Tally::default();
    let mut body = Vec::with_capacity(CHECK_BYTES * checks.items.len());
    let written = match &checks.items[..] {
        [only] if !checks.many => {
            let outcome = only.event.and_then(|event| outcomes.get(event));
            serde_json::to_writer(&mut body, &show(only).counted(&mut tally).alone(outcome)?)
        }
        all => {
            let data = all.iter().map(|check| show(check).counted(&mut tally).named(check, meters));
            serde_json::to_writer(&mut body, &Page { data: data.collect() })
        }
    };
    written.expect("strings and numbers are JSON, and a Vec takes any bytes");
    Ok((body, tally))
}

fn show<'a>(
    check: &Check<'_>,
    outcome: Option<&'a Outcome>,
    verdict: impl Fn(&str, MeterId, Quantity) -> Option<Verdict>,
) -> Shown<'a> {
    let refused = |allowed, code: Code, detail| {
        let outcome = outcome.map(Outcome::as_str);
        Shown::Refused(Refused { customer: None, meter: None, allowed, outcome, code: code.as_str(), detail })
    };
    // What was counted is part of what is used by now: no more of it is asked for.
    let (asked, counted, seq) = match outcome {
        None => (check.quantity, None, None),
        Some(Outcome::Accepted(seq) | Outcome::Duplicate(seq) | Outcome::Voided(seq)) => {
            (Quantity::ZERO, Some(true), Some(seq.0))
        }
        Some(Outcome::Capped(_)) => (check.quantity, Some(false), None),
        Some(Outcome::Conflict(_)) => return refused(false, Code::IdConflict, door::CONFLICT),
        Some(Outcome::Rejected(code, detail)) => return refused(false, *code, detail),
    };
    let Some(verdict) = verdict(&check.customer, check.meter, asked) else {
        return refused(counted.unwrap_or(false), Code::QuantityOverflow, OVERFLOW);
    };
    let allowed = counted.unwrap_or(verdict.allowed);
    Shown::Decided(Decided {
        customer: None,
        meter: None,
        allowed,
        used: Text(verdict.used),
        held: Text(verdict.held),
        soft_cap: verdict.soft.map(Text),
        hard_cap: verdict.hard.map(Text),
        remaining: verdict.remaining.map(Text),
        overage: Text(verdict.overage),
        period_end: Text(verdict.bounds.end),
        cap: verdict.cap,
        reason: (!allowed).then_some(Code::HardCap.as_str()),
        outcome: outcome.map(Outcome::as_str),
        seq,
    })
}

impl<'a> Shown<'a> {
    fn counted(self, tally: &mut Tally) -> Self {
        let (Shown::Decided(Decided { allowed, .. }) | Shown::Refused(Refused { allowed, .. })) = &self;
        *if *allowed { &mut tally.allowed } else { &mut tally.denied } += 1;
        self
    }

    fn named(mut self, check: &'a Check<'_>, meters: &'a Meters) -> Self {
        let (Shown::Decided(Decided { customer, meter, .. }) | Shown::Refused(Refused { customer, meter, .. })) =
            &mut self;
        *customer = Some(&check.customer);
        *meter = meters.get(check.meter).map(|meter| meter.definition.slug.as_str());
        self
    }

    /// As the whole answer. `outcome`: what became of it, if it was to be consumed.
    fn alone(self, outcome: Option<&Outcome>) -> Result<Self, Problem> {
        let detail = match &self {
            Shown::Refused(refused) if !refused.allowed => refused.detail,
            _ => return Ok(self),
        };
        Err(match outcome {
            Some(outcome) => door::not_taken(outcome).unwrap_or(Problem::EngineFailed),
            None => Problem::coded(Code::QuantityOverflow, "/quantity".to_owned(), format!("/quantity: {detail}")),
        })
    }
}
