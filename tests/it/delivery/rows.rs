//! What a sink got, held against what it had to get. Pure: each check answers in words what is wrong.
//!
//! 1. Every (window, incarnation, revision) arrives, with the value it had then; nothing else does.
//! 2. An id has one body for ever; a row is under one id only. So a receiver that remembers ids counts each row once.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::receiver::Request;
use crate::windows::billing::{Books, Cell, Dimensions, Sum, millis, model, scaled};
use crate::windows::checks::by_cell;

/// A row as any sink shows it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Row {
    pub tenant: String,
    pub customer: String,
    pub meter: String,
    pub dimensions: Dimensions,
    pub window_start: String,
    pub window_end: String,
    pub value: Option<String>,
    pub event_count: u64,
    pub revision: u64,
    pub incarnation: u64,
    pub delta: Option<String>,
    pub hash: String,
}

/// What a row is: of a window, and of which of its revisions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub cell: Cell,
    pub incarnation: u64,
    pub revision: u64,
}

/// What a row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub sum: Sum,
    /// Of adjustments.
    pub delta: Option<i128>,
}

pub type Effects = BTreeMap<Key, Said>;

impl Row {
    pub fn read(value: &Value) -> Self {
        let row = Self::deserialize(value).unwrap_or_else(|error| panic!("{error}: {value}"));
        assert_eq!(row.hash, row.content_hash(), "the hash of {value}");
        row
    }

    pub fn key(&self) -> Key {
        let cell = Cell {
            meter: self.meter.clone(),
            customer: self.customer.clone(),
            model: model(&self.dimensions),
            start_ms: millis(&self.window_start),
        };
        Key { cell, incarnation: self.incarnation, revision: self.revision }
    }

    pub fn said(&self) -> Said {
        Said {
            sum: Sum { scaled: scaled(self.value.as_deref()), events: self.event_count },
            delta: self.delta.as_deref().map(|delta| scaled(Some(delta))),
        }
    }

    /// By the recipe that the documentation gives.
    fn content_hash(&self) -> String {
        let content = json!([
            self.tenant,
            self.customer,
            self.meter,
            self.dimensions,
            self.window_start,
            self.window_end,
            self.value,
            self.event_count,
            self.revision,
            self.incarnation
        ]);
        Sha256::digest(content.to_string()).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Every row that a daemon's books speak of, by window and revision: the final windows, and each of their adjustments.
/// Those of other incarnations than the books' own are not among them.
pub fn expected(books: &Books, incarnation: u64) -> Effects {
    let mut expected = Effects::new();
    let adjustments = by_cell(&books.adjustments);
    for (cell, row) in &books.windows {
        let adjusted = adjustments.get(cell).map(Vec::as_slice).unwrap_or_default();
        let key = |revision| Key { cell: cell.clone(), incarnation, revision };
        let mut finalized = row.sum;
        for adjustment in adjusted {
            let delta = scaled(Some(&adjustment.delta));
            let sum = Sum { scaled: scaled(adjustment.value.as_deref()), events: adjustment.event_count };
            expected.insert(key(adjustment.revision), Said { sum, delta: Some(delta) });
            finalized = Sum { scaled: finalized.scaled - delta, events: finalized.events - 1 };
        }
        if finalized.events > 0 && row.state == "finalized" {
            expected.insert(key(1), Said { sum: finalized, delta: None });
        }
    }
    expected
}

/// What requests came to at a receiver that remembers ids: the rows of the first one of each that it took.
pub fn effects(requests: &[Request]) -> Result<Effects, String> {
    let mut bodies = HashMap::<&str, [u8; 32]>::new();
    let mut homes = BTreeMap::<Key, &str>::new();
    let mut effects = Effects::new();
    for request in requests {
        if *bodies.entry(&request.id).or_insert(request.digest) != request.digest {
            return Err(format!("{} had two bodies", request.id));
        }
        for row in request.rows().iter().map(Row::read) {
            let (key, said) = (row.key(), row.said());
            let home = *homes.entry(key.clone()).or_insert(&request.id);
            if home != request.id {
                return Err(format!("{key:?} is under {home} and {}", request.id));
            }
            if request.is_taken() {
                effects.insert(key, said);
            }
        }
    }
    Ok(effects)
}

/// Whether what was to arrive is what did.
pub fn compare(sink: &str, expected: &Effects, found: &Effects) -> Result<(), String> {
    let missing = expected.keys().filter(|key| !found.contains_key(key)).map(|key| format!("{key:?} is missing"));
    let wrong = found.iter().filter_map(|(key, said)| match expected.get(key) {
        None => Some(format!("{key:?} says {said:?}, and nobody sent that")),
        Some(due) => (due != said).then(|| format!("{key:?} says {said:?}, not {due:?}")),
    });
    let wrong = missing.chain(wrong).collect::<Vec<_>>();
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!("{sink}: {} of {} rows are wrong: {:?}", wrong.len(), expected.len(), &wrong[..1])),
    }
}

/// The newest of each window: what billing goes by.
pub fn newest(effects: &Effects) -> BTreeMap<Cell, (u64, u64, Sum)> {
    let newest = effects.iter().map(|(key, said)| (key.cell.clone(), (key.incarnation, key.revision, said.sum)));
    newest.collect() // in the order of keys: the last one stays
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn row(revision: u64, value: &str) -> Value {
        let mut row = json!({
            "tenant": "default", "customer": "c", "meter": "m", "dimensions": {"model": null},
            "window_start": "1970-01-01T00:00:02Z", "window_end": "1970-01-01T00:00:04Z", "value": value,
            "event_count": 1, "revision": revision, "incarnation": 1, "delta": null, "hash": "",
        });
        let hash = Row::deserialize(&row).unwrap().content_hash();
        row["hash"] = hash.into();
        row
    }

    fn request(id: &str, digest: u8, status: u16, rows: Vec<Value>) -> Request {
        Request {
            at: Instant::now(),
            id: id.into(),
            attempt: 0,
            message: 0,
            digest: [digest; 32],
            body: json!({"data": {"rows": rows}}),
            status: Some(status),
        }
    }

    #[test]
    fn an_id_with_two_bodies_and_a_row_under_two_ids_are_noticed() {
        let requests = [
            request("a", 1, 500, vec![row(1, "1")]),
            request("a", 1, 200, vec![row(1, "1")]),
            request("a", 1, 204, vec![row(1, "1")]),
            request("b", 2, 500, vec![row(2, "3")]),
        ];
        let effects = |requests: &[Request]| effects(requests).map(|effects| effects.len());
        assert_eq!(effects(&requests), Ok(1), "what was refused has no effect");
        let two_bodies = [requests.as_slice(), &[request("b", 3, 200, vec![row(2, "3")])]].concat();
        assert!(effects(&two_bodies).unwrap_err().contains("two bodies"));
        let two_ids = [requests.as_slice(), &[request("c", 3, 200, vec![row(2, "3")])]].concat();
        assert!(effects(&two_ids).unwrap_err().contains("under b and c"));
    }

    #[test]
    fn a_missing_row_an_extra_one_and_another_value_are_noticed() {
        let effects = |rows: Vec<Value>| effects(&[request("a", 1, 200, rows)]).unwrap();
        let expected = effects(vec![row(1, "1"), row(2, "3")]);
        assert_eq!(compare("", &expected, &expected), Ok(()));
        for wrong in [vec![row(1, "1")], vec![row(1, "1"), row(2, "4")], vec![row(1, "1"), row(2, "3"), row(3, "4")]] {
            assert!(compare("", &expected, &effects(wrong.clone())).is_err(), "{wrong:?}");
        }
    }
}
