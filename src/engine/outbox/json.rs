//! A row as a JSON object: the same wherever it is shown, and the same bytes for the same row.
//!
//! 1. A row of usage has no `type` among its members: whoever sends many says it once for all of them.
//! 2. An alert begins with its `type`, which says its state; a webhook, which says it before, leaves it out.

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use super::row::{OutboxRow, RowContent, UsageChange, UsageRow};
use crate::engine::caps::{Alert, AlertEvent};
use crate::model::hex;

impl Serialize for OutboxRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.content {
            RowContent::Usage(_) => Members(self).serialize(serializer),
            RowContent::Alert(_) => Typed(self).serialize(serializer),
        }
    }
}

/// Its members, without the type.
pub struct Members<'a>(pub &'a OutboxRow);

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        put_members(&mut map, self.0)?;
        map.end()
    }
}

/// The type, then its members.
pub struct Typed<'a>(pub &'a OutboxRow);

impl Serialize for Typed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", self.0.type_name())?;
        put_members(&mut map, self.0)?;
        map.end()
    }
}

fn put_members<M: SerializeMap>(map: &mut M, row: &OutboxRow) -> Result<(), M::Error> {
    match &row.content {
        RowContent::Usage(row) => put_usage(map, row),
        RowContent::Alert(alert) => put_alert(map, alert),
    }
}

fn put_usage<M: SerializeMap>(map: &mut M, row: &UsageRow) -> Result<(), M::Error> {
    map.serialize_entry("tenant", &row.tenant)?;
    map.serialize_entry("customer", &row.customer)?;
    map.serialize_entry("meter", &row.meter)?;
    map.serialize_entry("dimensions", &DimensionsJson(&row.dimensions))?;
    map.serialize_entry("window_start", &Shown(row.window.start))?;
    map.serialize_entry("window_end", &Shown(row.window.end))?;
    map.serialize_entry("value", &row.value.map(Shown))?;
    map.serialize_entry("event_count", &row.event_count)?;
    map.serialize_entry("revision", &row.revision)?;
    map.serialize_entry("incarnation", &row.incarnation.0)?;
    if let UsageChange::Adjusted { delta } = row.change {
        map.serialize_entry("delta", &delta.map(Shown))?;
    }
    map.serialize_entry("hash", &hex::encode(&row.hash))
}

fn put_alert<M: SerializeMap>(map: &mut M, alert: &Alert) -> Result<(), M::Error> {
    map.serialize_entry("alert_id", &Shown(alert.id()))?;
    map.serialize_entry("tenant", &alert.tenant)?;
    map.serialize_entry("customer", &alert.customer)?;
    map.serialize_entry("meter", &alert.meter)?;
    map.serialize_entry("cap", &alert.cap.id)?;
    map.serialize_entry("threshold", &Shown(alert.threshold))?;
    map.serialize_entry("amount", &Shown(alert.amount))?;
    map.serialize_entry("used", &Shown(alert.used))?;
    map.serialize_entry("hard", &alert.cap.hard.map(Shown))?;
    map.serialize_entry("soft", &SoftJson(alert))?;
    map.serialize_entry("period", &alert.period)?;
    map.serialize_entry("period_start", &Shown(alert.bounds.start))?;
    map.serialize_entry("period_end", &Shown(alert.bounds.end))?;
    map.serialize_entry("generation", &alert.generation)?;
    map.serialize_entry("enforce", &alert.cap.enforce)?;
    map.serialize_entry("event", &alert.event.as_ref().map(EventJson))?;
    map.serialize_entry("late", &alert.late)?;
    map.serialize_entry("at", &Shown(alert.at))
}

/// An object from each dimension to its value.
pub struct DimensionsJson<'a>(pub &'a [(String, Option<String>)]);

impl Serialize for DimensionsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// The soft thresholds of an alert's cap, as they were written.
pub struct SoftJson<'a>(pub &'a Alert);

impl Serialize for SoftJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let soft = &self.0.cap.soft;
        let mut list = serializer.serialize_seq(Some(soft.len()))?;
        for amount in soft {
            list.serialize_element(&Shown(amount))?;
        }
        list.end()
    }
}

struct EventJson<'a>(&'a AlertEvent);

impl Serialize for EventJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("usage_event_id", &self.0.usage_event_id)?;
        map.serialize_entry("seq", &self.0.seq.map(|seq| seq.0))?;
        map.end()
    }
}

/// A quantity, an instant or a name as text.
struct Shown<T>(T);

impl<T: std::fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
