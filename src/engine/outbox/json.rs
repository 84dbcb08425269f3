//! A row as a JSON object: the same wherever it is shown, and the same bytes for the same row.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::OutboxRow;
use crate::model::{RowKind, hex};

impl Serialize for OutboxRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        put_members(&mut map, self)?;
        map.end()
    }
}

/// A row's members, in order.
pub fn put_members<M: SerializeMap>(map: &mut M, row: &OutboxRow) -> Result<(), M::Error> {
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
    if row.kind == RowKind::Adjustments {
        map.serialize_entry("delta", &row.delta.map(Shown))?;
    }
    map.serialize_entry("hash", &hex::encode(&row.hash))
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

/// A quantity or an instant as text.
struct Shown<T>(T);

impl<T: std::fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
