//! What is to be taken back from one window, summed up: no event is kept.

use std::collections::BTreeSet;

use crate::meter::Value;
use crate::model::{MeterId, Quantity, Seq, Timestamp};

/// What an entry of a map takes beside its name and its members.
const ENTRY_BYTES: usize = 256;
/// What a member takes in a tree.
const MEMBER_BYTES: usize = 24;

#[derive(Clone, Debug)]
pub struct TakenWindow {
    pub meter: MeterId,
    pub events: u64,
    /// None once the sum has left the range.
    pub sum: Option<Quantity>,
    pub least: Quantity,
    pub most: Quantity,
    /// The latest of them.
    pub latest: (Timestamp, Seq),
    pub members: BTreeSet<u128>,
}

impl TakenWindow {
    pub fn new(meter: MeterId) -> Self {
        Self {
            meter,
            events: 0,
            sum: Some(Quantity::ZERO),
            least: Quantity::from_scaled(i128::MAX),
            most: Quantity::from_scaled(i128::MIN),
            latest: (Timestamp::MIN, Seq::ZERO),
            members: BTreeSet::new(),
        }
    }

    /// Answers with how many bytes it takes more.
    pub fn add(&mut self, value: Value, at: (Timestamp, Seq)) -> usize {
        self.events += 1;
        self.latest = self.latest.max(at);
        match value {
            Value::Quantity(quantity) => {
                self.sum = self.sum.and_then(|sum| sum.checked_add(quantity));
                (self.least, self.most) = (self.least.min(quantity), self.most.max(quantity));
                0
            }
            Value::Member(member) => {
                if self.members.insert(member) {
                    MEMBER_BYTES
                } else {
                    0
                }
            }
        }
    }

    /// What it takes in a map under this name.
    pub fn bytes(&self, name: &[u8]) -> usize {
        ENTRY_BYTES + name.len() + self.members.len() * MEMBER_BYTES
    }
}
