//! What a start found changed in the config, for the trail. What a new log begins with is no change.

use serde_json::json;

use crate::engine::SinkDefinition;
use crate::engine::corrections::TrailEntry;
use crate::engine::record::{CorrectionRecord, put_correction};
use crate::meter::{Definition, PlanCap};
use crate::model::{RowKind, Seq, Timestamp};

/// By whom such changes are.
const CONFIG: &str = "config";

pub struct Trail {
    is_new: bool,
    at: Timestamp,
}

impl Trail {
    pub fn new(is_new: bool, at: Timestamp) -> Self {
        Self { is_new, at }
    }

    pub fn meter(&self, payload: &mut Vec<u8>, before: Option<&Definition>, after: &Definition) {
        let action = if before.is_some() { "meter.changed" } else { "meter.defined" };
        let texts = (before.map(text), Some(text(after)));
        self.put(payload, action, &after.slug, texts);
    }

    pub fn sink(&self, payload: &mut Vec<u8>, sink: &SinkDefinition) {
        let kinds: Vec<&str> = sink.kinds.iter().map(RowKind::as_str).collect();
        self.put(payload, "sink.defined", &sink.name, (None, Some(json!({ "send": kinds }).to_string())));
    }

    pub fn restored(&self, payload: &mut Vec<u8>, reason: &str) {
        self.put(payload, "directory.restored", "", (None, Some(json!({ "reason": reason }).to_string())));
    }

    pub fn caps(&self, (meter, before): (&str, &[PlanCap]), after: &[PlanCap]) -> Option<CorrectionRecord<'static>> {
        let some = |caps: &[PlanCap]| (!caps.is_empty()).then(|| text(caps));
        self.entry("caps.configured", meter, (some(before), some(after)))
    }

    fn put(&self, payload: &mut Vec<u8>, action: &str, target: &str, change: (Option<String>, Option<String>)) {
        if let Some(record) = self.entry(action, target, change) {
            put_correction(payload, &record);
        }
    }

    fn entry(
        &self,
        action: &str,
        target: &str,
        (before, after): (Option<String>, Option<String>),
    ) -> Option<CorrectionRecord<'static>> {
        let entry = TrailEntry {
            seq: Seq::ZERO,
            tenant: None,
            at: self.at,
            by: Some(CONFIG.to_owned()),
            action: action.to_owned(),
            target: target.to_owned(),
            before,
            after,
        };
        (!self.is_new).then(|| CorrectionRecord::Action(Box::new(entry)))
    }
}

fn text<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("texts, numbers and lists")
}
