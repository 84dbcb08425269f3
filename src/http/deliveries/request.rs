//! What is asked for: which deliveries are listed, which dead letters are replayed.

use crate::engine::{DeliveriesQuery, DeliveryFilter, DeliveryId, ReplayFilter};
use crate::http::document::{members, unknown_member};
use crate::http::ingest::json::Value;
use crate::http::params::Params;
use crate::http::problem::Problem;
use crate::model::{RowKind, Seq};

/// Entries of a page unless the client says otherwise.
const PAGE_DEFAULT: usize = 100;
/// The largest page.
const PAGE_MAX: usize = 1_000;
const KINDS: &str = "must be \"windows\", \"adjustments\" or \"alerts\"";
const STATES: &str = "must be \"pending\", \"retrying\", \"delivered\" or \"dead_letter\"";
const DEAD_ONLY: &str = "must be \"dead_letter\": only dead letters are replayed";

pub fn query(mut params: Params) -> Result<DeliveriesQuery, Problem> {
    let refuse = |name: &str, rule: &str| Problem::parameter(name, format!("parameter {name:?} {rule}"));
    let state = params.take("state")?;
    let kind = params.take("kind")?;
    let cursor = params.take("cursor")?;
    let query = DeliveriesQuery {
        sink: params.take("sink")?,
        state: state.map(|text| state_of(&text).ok_or_else(|| refuse("state", STATES))).transpose()?,
        kind: kind.map(|text| text.parse().map_err(|()| refuse("kind", KINDS))).transpose()?,
        after: cursor
            .map(|text| seq_of(&text).ok_or_else(|| refuse("cursor", "is none that a list of deliveries gave")))
            .transpose()?,
        limit: params.take_limit(PAGE_DEFAULT, PAGE_MAX)?,
    };
    params.finish()?;
    Ok(query)
}

fn state_of(text: &str) -> Option<DeliveryFilter> {
    match text {
        "pending" => Some(DeliveryFilter::Pending),
        "retrying" => Some(DeliveryFilter::Retrying),
        "delivered" => Some(DeliveryFilter::Delivered),
        "dead_letter" | "dead" => Some(DeliveryFilter::Dead),
        _ => None,
    }
}

/// A cursor is the id of the last delivery of the page before.
fn seq_of(text: &str) -> Option<Seq> {
    text.parse::<DeliveryId>().ok().map(|id| id.seq)
}

/// From the query string or the body; what stands in both is refused.
pub fn filter(mut params: Params, body: &[u8]) -> Result<ReplayFilter, Problem> {
    let mut given = [("sink", params.take("sink")?), ("kind", params.take("kind")?), ("state", params.take("state")?)];
    params.finish()?;
    let in_query = given.each_ref().map(|(_, value)| value.is_some());
    let refuse = |at: usize, name: &'static str, rule: &str| match in_query[at] {
        true => Problem::parameter(name, format!("parameter {name:?} {rule}")),
        false => Problem::member(name, rule),
    };
    if !body.is_empty() {
        members(body, |name, value| {
            let Some(at) = given.iter().position(|(known, _)| *known == name) else { return Err(unknown_member(name)) };
            match value.value() {
                Value::Null => {}
                Value::Text(_) if in_query[at] => return Err(Problem::member(name, "is given in the query too")),
                Value::Text(text) => given[at].1 = Some(text.to_string()),
                _ => return Err(Problem::member(name, "must be a string or null")),
            }
            Ok(())
        })?;
    }
    let [(_, sink), (_, kind), (_, state)] = given;
    let kind: Option<RowKind> = kind.map(|text| text.parse().map_err(|()| refuse(1, "kind", KINDS))).transpose()?;
    if state.is_some_and(|state| state_of(&state) != Some(DeliveryFilter::Dead)) {
        return Err(refuse(2, "state", DEAD_ONLY));
    }
    Ok(ReplayFilter { delivery: None, sink, kind })
}
