//! A delivery's rows as its receiver is told them.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::engine::OutboxRow;
use crate::model::{RowKind, hex};

#[derive(Debug, Serialize)]
pub struct RowShown {
    tenant: String,
    customer: String,
    meter: String,
    dimensions: Map<String, Value>,
    window_start: String,
    window_end: String,
    /// Absolute, adjustments included.
    value: Option<String>,
    event_count: u64,
    revision: u32,
    incarnation: u32,
    /// Of adjustments; null inside: it leaves the range.
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<Option<String>>,
    hash: String,
}

impl RowShown {
    pub fn new(row: &OutboxRow) -> Self {
        Self {
            tenant: row.tenant.clone(),
            customer: row.customer.clone(),
            meter: row.meter.clone(),
            dimensions: row.dimensions.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect(),
            window_start: row.window.start.to_string(),
            window_end: row.window.end.to_string(),
            value: row.value.map(|value| value.to_string()),
            event_count: row.event_count,
            revision: row.revision,
            incarnation: row.incarnation.0,
            delta: (row.kind == RowKind::Adjustments).then(|| row.delta.map(|delta| delta.to_string())),
            hash: hex::encode(&row.hash),
        }
    }
}
