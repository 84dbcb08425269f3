//! An event as JSON: `{"seq","usage_event_id","source","customer","timestamp","received_at","outcome","backfill",
//! "reverted_at","voided","windows":[{"meter","window_start","window_end","period","value","member","dimensions","late"}],
//! "event"}`.
//!
//! | member | is |
//! | --- | --- |
//! | `usage_event_id`, `source` | as the event has them; no id: the one that was made of it, or null if its meters make others now; no source: empty |
//! | `outcome` | `accepted`: no others are kept |
//! | `backfill` | the name that it was loaded under, or null |
//! | `reverted_at` | when that backfill was taken back, or null |
//! | `voided` | `{"seq","at","reason"}`: how it was taken back by itself, or null |
//! | `windows` | what it was counted in when it was accepted; `member` (hex) instead of `value` in a meter that counts distinct values |
//! | `event` | as it was sent, byte for byte |
//!
//! An event counts if both `voided` and `reverted_at` are null.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::engine::{EvidenceEvent, FeedRecord, Hasher, Standing, Voided};
use crate::http::ingest::derive;
use crate::meter::{BillingPeriod, Meters, Value};
use crate::model::Seq;

#[derive(Debug, Serialize)]
pub struct EventShown {
    seq: u64,
    usage_event_id: Option<String>,
    source: String,
    customer: String,
    timestamp: String,
    received_at: String,
    outcome: &'static str,
    backfill: Option<String>,
    reverted_at: Option<String>,
    voided: Option<VoidedShown>,
    windows: Vec<WindowShown>,
    event: Box<RawValue>,
}

#[derive(Debug, Serialize)]
struct VoidedShown {
    seq: u64,
    at: String,
    reason: String,
}

#[derive(Debug, Serialize)]
struct WindowShown {
    meter: String,
    window_start: String,
    window_end: String,
    period: Option<String>,
    value: Option<String>,
    member: Option<String>,
    dimensions: BTreeMap<String, Option<String>>,
    late: bool,
}

impl EventShown {
    /// As it was accepted; what became of it since is added by `stands`.
    pub fn new(evidence: &EvidenceEvent<'_>, meters: &Meters, hasher: Hasher) -> Self {
        let event = &evidence.event;
        let mut named = Named::of(event.raw);
        if named.usage_event_id.is_none() {
            named.usage_event_id = derived(evidence, meters, (hasher, named.source.as_deref().unwrap_or_default()));
        }
        Self {
            seq: evidence.seq.0,
            usage_event_id: named.usage_event_id,
            source: named.source.unwrap_or_default(),
            customer: event.customer.to_owned(),
            timestamp: event.timestamp.to_string(),
            received_at: evidence.received_at.to_string(),
            outcome: "accepted",
            backfill: None,
            reverted_at: None,
            voided: None,
            windows: event.feeds.iter().map(|feed| WindowShown::new(feed, evidence.periods, meters)).collect(),
            event: serde_json::from_slice(event.raw).unwrap_or_default(),
        }
    }

    pub fn seq(&self) -> Seq {
        Seq(self.seq)
    }

    pub fn stands(&mut self, standing: Standing) {
        let Standing { voided, backfill, reverted_at } = standing;
        self.backfill = backfill;
        self.reverted_at = reverted_at.map(|at| at.to_string());
        self.voided =
            voided.map(|Voided { seq, at, reason, .. }| VoidedShown { seq: seq.0, at: at.to_string(), reason });
    }
}

/// The id that was made for an event that came without one; None if its meters make ids otherwise by now.
fn derived(evidence: &EvidenceEvent<'_>, meters: &Meters, (hasher, source): (Hasher, &str)) -> Option<String> {
    let event = &evidence.event;
    let raw = std::str::from_utf8(event.raw).ok()?;
    let key = |id: &str| hasher.event_key(&mut Vec::with_capacity(64), evidence.tenant, source, id);
    let is_it = |id: &str| key(id) == event.key;
    derive::again(raw, event.timestamp, meters, hasher, is_it)
}

impl WindowShown {
    fn new(feed: &FeedRecord<'_>, periods: &[BillingPeriod], meters: &Meters) -> Self {
        let meter = meters.get(feed.meter).map(|meter| &meter.definition);
        let (value, member) = match &feed.value {
            Value::Quantity(quantity) => (Some(quantity.to_string()), None),
            Value::Member(member) => (None, Some(format!("{member:032x}"))),
        };
        let names = meter.into_iter().flat_map(|meter| &meter.dimensions).map(|(name, _)| name.clone());
        let values = feed.dimensions.iter().map(|value| value.map(str::to_owned));
        Self {
            meter: meter.map(|meter| meter.slug.clone()).unwrap_or_default(),
            window_start: feed.window.start.to_string(),
            window_end: feed.window.end.to_string(),
            period: periods.get(feed.period as usize).map(|period| period.label.to_string()),
            value,
            member,
            dimensions: names.zip(values).collect(),
            late: feed.late,
        }
    }
}

/// Who an event says it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Named {
    pub usage_event_id: Option<String>,
    pub source: Option<String>,
}

/// The members of a raw event that name it. Only CloudEvents have an `id`: a native event with one is not taken.
#[derive(Default, Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    usage_event_id: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
}

impl Named {
    pub fn of(raw: &[u8]) -> Self {
        let members: Members<'_> = serde_json::from_slice(raw).unwrap_or_default();
        let text = |value: Option<&RawValue>| value.and_then(|value| serde_json::from_str(value.get()).ok());
        Self { usage_event_id: text(members.id.or(members.usage_event_id)), source: text(members.source) }
    }
}
