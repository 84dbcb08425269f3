//! What is asked for: which events are listed, and from where on.
//!
//! A cursor is opaque to clients: hex of a version byte and a place. 1: counted time (µs, i64 BE) · seq (u64 BE), in a
//! customer's events. 2: seq (u64 BE), in the log. Form and length of a page may change from page to page.

use crate::http::params::{Params, PathName};
use crate::http::problem::Problem;
use crate::meter::Meters;
use crate::model::id::NAME_BYTES_MAX;
use crate::model::{MeterId, Seq, Timestamp, hex};

/// Entries of a page unless the client says otherwise.
const PAGE_DEFAULT: usize = 1_000;
/// The largest page.
const PAGE_MAX: usize = 10_000;
const BY_TIME: u8 = 1;
const BY_LOG: u8 = 2;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub which: Which,
    /// Only events that fed this meter.
    pub meter: Option<MeterId>,
    pub limit: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one with this id.
    Named { usage_event_id: String, source: String },
    /// A customer's, by (counted time, seq).
    OfCustomer { customer: String, span: Span, after: Option<(Timestamp, Seq)> },
    /// All of the tenant's, in the order of the log.
    Logged { span: Span, after: Seq },
}

/// Counted times: `from` inclusive, `to` exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
}

impl Span {
    pub fn contains(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| at >= from) && self.to.is_none_or(|to| at < to)
    }
}

impl Asked {
    pub fn read(mut params: Params, meters: &Meters) -> Result<Self, Problem> {
        let customer = params.take_customer()?;
        let (from, to) = (params.take_instant("from")?, params.take_instant("to")?);
        let (id, source) = (params.take("id")?, params.take("source")?);
        let cursor = params.take("cursor")?;
        let meter = params.take_meter(meters)?.map(|meter| meter.id);
        let limit = params.take_limit(PAGE_DEFAULT, PAGE_MAX)?;
        params.finish()?;
        let which = match (id, customer) {
            (Some(usage_event_id), customer) => {
                PathName::check_length("id", &usage_event_id)?;
                let others = [
                    ("customer", customer.is_some()),
                    ("from", from.is_some()),
                    ("to", to.is_some()),
                    ("cursor", cursor.is_some()),
                ];
                if let Some((name, _)) = others.into_iter().find(|(_, given)| *given) {
                    let detail = format!("parameter {name:?} does not go with \"id\", which names one event");
                    return Err(Problem::parameter(name, detail));
                }
                Which::Named { usage_event_id, source: checked_source(source)? }
            }
            (None, _) if source.is_some() => {
                return Err(Problem::parameter("source", "parameter \"source\" goes with \"id\" only"));
            }
            (None, customer) => {
                let (span, cursor) = (span(from, to)?, cursor.as_deref());
                match customer {
                    Some(customer) => {
                        let after = cursor.map(|text| decode_time(text).ok_or_else(foreign)).transpose()?;
                        Which::OfCustomer { customer, span, after }
                    }
                    None => {
                        let after = cursor.map(|text| decode_log(text).ok_or_else(foreign)).transpose()?;
                        Which::Logged { span, after: after.unwrap_or(Seq::ZERO) }
                    }
                }
            }
        };
        Ok(Self { which, meter, limit })
    }
}

fn span(from: Option<Timestamp>, to: Option<Timestamp>) -> Result<Span, Problem> {
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        return Err(Problem::parameter("to", "parameter \"to\" must be later than \"from\""));
    }
    Ok(Span { from, to })
}

/// May be empty: that is the source of events that name none.
fn checked_source(source: Option<String>) -> Result<String, Problem> {
    let source = source.unwrap_or_default();
    if source.len() > NAME_BYTES_MAX {
        return Err(Problem::parameter("source", "parameter \"source\" must have at most 256 bytes"));
    }
    Ok(source)
}

/// A cursor for what follows in a customer's events.
pub fn encode_time(at: Timestamp, seq: Seq) -> String {
    let mut bytes = vec![BY_TIME];
    bytes.extend(at.micros().to_be_bytes());
    bytes.extend(seq.0.to_be_bytes());
    hex::encode(&bytes)
}

fn decode_time(text: &str) -> Option<(Timestamp, Seq)> {
    let bytes = hex::decode(text)?;
    let (&BY_TIME, rest) = bytes.split_first()? else { return None };
    let (at, seq) = rest.split_first_chunk::<8>()?;
    let at = Timestamp::from_micros(i64::from_be_bytes(*at)).ok()?;
    Some((at, Seq(u64::from_be_bytes(seq.try_into().ok()?))))
}

/// A cursor for what follows in the log.
pub fn encode_log(seq: Seq) -> String {
    let mut bytes = vec![BY_LOG];
    bytes.extend(seq.0.to_be_bytes());
    hex::encode(&bytes)
}

fn decode_log(text: &str) -> Option<Seq> {
    let bytes = hex::decode(text)?;
    let (&BY_LOG, seq) = bytes.split_first()? else { return None };
    Some(Seq(u64::from_be_bytes(seq.try_into().ok()?)))
}

fn foreign() -> Problem {
    Problem::parameter("cursor", "parameter \"cursor\" does not come from an answer to this query")
}
