//! Events behind numbers, as `GET /v1/events` has them, a page at a time.
//!
//! An event counts unless it was voided, or came with a backfill that was reverted: [`Backfills`] knows.

use std::collections::{BTreeMap, HashMap};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::cli::client::{Client, GetError, percent_encode};
use crate::cli::listing::Listing;
use crate::cli::text::{NOTHING, printable};
use crate::meter::Value;
use crate::model::{Quantity, Timestamp};

/// Events per page: as many are held.
pub const PAGE_EVENTS: usize = 1_000;

/// Names of dimensions and their values; none where an event did not give one.
pub type Dimensions = BTreeMap<String, Option<String>>;

/// An accepted event.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Event {
    pub seq: u64,
    /// None: it was sent without one.
    pub usage_event_id: Option<String>,
    #[serde(default)]
    pub source: String,
    pub customer: String,
    pub timestamp: String,
    pub received_at: String,
    #[serde(default)]
    pub outcome: String,
    #[serde(default)]
    pub backfill: Option<String>,
    /// When that backfill was taken back.
    #[serde(default)]
    pub reverted_at: Option<String>,
    #[serde(default)]
    pub voided: Option<Voided>,
    pub windows: Vec<Feed>,
    /// As it was sent.
    #[serde(default)]
    pub event: Option<Box<RawValue>>,
}

/// What took an event back.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Voided {
    pub seq: u64,
    pub at: String,
    #[serde(default)]
    pub reason: Option<String>,
}

/// What an event brought to one meter.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Feed {
    pub meter: String,
    pub window_start: String,
    pub window_end: String,
    pub period: Option<String>,
    /// None for a meter that counts members.
    pub value: Option<String>,
    #[serde(default)]
    pub member: Option<String>,
    #[serde(default)]
    pub dimensions: Dimensions,
    #[serde(default)]
    pub late: bool,
}

impl Event {
    pub fn id(&self) -> &str {
        self.usage_event_id.as_deref().unwrap_or_default()
    }

    /// What it brought to the meter, if it did.
    pub fn feed(&self, meter: &str) -> Option<&Feed> {
        self.windows.iter().find(|feed| feed.meter == meter)
    }
}

impl Feed {
    pub fn window_start(&self) -> anyhow::Result<Timestamp> {
        instant(&self.window_start)
    }

    /// What is to be folded.
    pub fn value(&self) -> anyhow::Result<Value> {
        match (&self.member, &self.value) {
            (Some(member), _) => {
                let hash = u128::from_str_radix(member, 16).with_context(|| format!("{member:?} is no member"))?;
                Ok(Value::Member(hash))
            }
            (None, Some(value)) => Ok(Value::Quantity(quantity(value)?)),
            (None, None) => anyhow::bail!("an event has neither a value nor a member"),
        }
    }

    /// The value, or the member, as it is shown.
    pub fn shown(&self) -> &str {
        self.value.as_deref().or(self.member.as_deref()).unwrap_or_default()
    }
}

/// An instant as the daemon writes it.
pub fn instant(text: &str) -> anyhow::Result<Timestamp> {
    Timestamp::parse_rfc3339(text).with_context(|| format!("{text:?} is no time"))
}

/// A decimal as the daemon writes it.
pub fn quantity(text: &str) -> anyhow::Result<Quantity> {
    Quantity::parse(text).with_context(|| format!("{text:?} is no decimal"))
}

/// `model=gpt region=-`, or `-` where there are none.
pub fn shown(dimensions: &Dimensions) -> String {
    let value = |value: &Option<String>| value.as_deref().map_or_else(|| NOTHING.to_owned(), printable);
    let pairs: Vec<String> =
        dimensions.iter().map(|(name, text)| format!("{}={}", printable(name), value(text))).collect();
    if pairs.is_empty() { NOTHING.to_owned() } else { pairs.join(" ") }
}

/// Dimensions as JSON text.
pub fn json(dimensions: &Dimensions) -> String {
    serde_json::to_string(dimensions).unwrap_or_default()
}

/// A customer's events of one meter, in the order of the time they count at: from `from` on, before `to`.
pub fn events(customer: &str, meter: &str, from: Timestamp, to: Timestamp) -> Listing<Event> {
    let [customer, meter, from, to] = [customer, meter, &from.to_string(), &to.to_string()].map(percent_encode);
    Listing::new(format!("/v1/events?customer={customer}&meter={meter}&from={from}&to={to}&"), PAGE_EVENTS)
}

/// Whether an event counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Counts,
    Voided,
    /// It came with a backfill that was taken back.
    Reverted,
    /// It came with a backfill that is being taken back: it may count still.
    Reverting,
}

impl Standing {
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Counts => "",
            Standing::Voided => "voided",
            Standing::Reverted => "reverted",
            Standing::Reverting => "reverting",
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
struct Backfill {
    state: String,
    #[serde(default)]
    first_seq: Option<u64>,
}

/// What is known of backfills, by id; each is asked for once.
#[derive(Default)]
pub struct Backfills(HashMap<String, Option<Backfill>>);

impl Backfills {
    pub fn standing(&mut self, client: &mut Client, event: &Event) -> anyhow::Result<Standing> {
        if event.voided.is_some() {
            return Ok(Standing::Voided);
        }
        if event.reverted_at.is_some() {
            return Ok(Standing::Reverted);
        }
        let Some(id) = &event.backfill else { return Ok(Standing::Counts) };
        if !self.0.contains_key(id) {
            let path = format!("/v1/backfills/{}", percent_encode(id));
            let found = match client.get_json(&path) {
                Ok(backfill) => Some(backfill),
                Err(GetError::Status { status: 404, .. }) => None,
                Err(error) => return Err(error.into()),
            };
            self.0.insert(id.clone(), found);
        }
        let Some(Some(backfill)) = self.0.get(id) else { return Ok(Standing::Counts) };
        // An id is used again only after a revert: what came before the present one's first event was taken back.
        let is_of_another = backfill.first_seq.is_some_and(|first| event.seq < first);
        Ok(match backfill.state.as_str() {
            _ if is_of_another => Standing::Reverted,
            "reverted" => Standing::Reverted,
            "reverting" => Standing::Reverting,
            _ => Standing::Counts,
        })
    }
}

#[cfg(test)]
pub mod fake;
