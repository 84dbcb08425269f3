//! The running value of one counter: a meter's aggregation over the events of one window.
//!
//! Stored form, little-endian:
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 1 | format version, 1 |
//! | 1 | 1 | kind: 1 count, 2 sum, 3 min, 4 max, 5 avg, 6 latest, 7 unique exact, 8 unique approximate |
//! | 2 | … | by kind |
//!
//! | kind | fields (size) |
//! | --- | --- |
//! | count | none |
//! | sum, min, max, avg | scaled quantity (16) |
//! | latest | scaled quantity (16), µs since 1970 (8), seq (8) |
//! | unique exact | member count (4); the members are rows of their own |
//! | unique approximate | lower bound of the count (8), registers (16,384) |
//!
//! 1. `check` refuses exactly what `add` refuses, and a refused `add` changes nothing: an event that feeds several
//!    meters is checked against all of them, then added to all.
//! 2. The number of events is kept beside the aggregate by the caller. Nothing was added if it is 0.
//! 3. Before anything was added an aggregate is the neutral element of `merge`.

use crate::meter::definition::{Aggregation, Definition};
use crate::meter::hll::{Hll, REGISTERS};
use crate::meter::members::Members;
use crate::model::{Quantity, Seq, Timestamp};

const VERSION: u8 = 1;

/// What one event brings to one meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// For every aggregation but `unique`; `count` ignores it.
    Quantity(Quantity),
    /// For `unique`: a keyed 128-bit hash, spread evenly.
    Member(u128),
}

/// A counter's running value, at most 48 bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Aggregate {
    /// The event count beside it is the value.
    Count,
    Sum(Quantity),
    Min(Quantity),
    Max(Quantity),
    /// The sum; divided by the event count when read.
    Avg(Quantity),
    /// The quantity with the latest time; of equal times, the highest seq.
    Latest {
        value: Quantity,
        at: Timestamp,
        seq: Seq,
    },
    Unique(Box<Members>),
}

/// Why a value cannot be added, or two aggregates cannot be merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the total would leave the range of about ±1.7e26")]
    Overflow,
    #[error("the window already holds as many different members as the meter allows")]
    UniqueLimit,
    /// A quantity for a `unique` meter or a member for another one; or a merge of different aggregations.
    #[error("the value does not fit the meter's aggregation")]
    WrongKind,
}

/// What `add` did beyond the aggregate's own fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// The exact set of a `unique` window grew by this member: it needs a stored row.
    pub new_member: bool,
    /// The exact set became an estimate: its members' stored rows are not needed any more.
    pub became_approximate: bool,
}

/// Why stored bytes are not an aggregate of this meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("aggregate has format version {0}, this build reads 1")]
    Version(u8),
    #[error("aggregate has the wrong length or an impossible field")]
    Malformed,
    #[error("aggregate belongs to another aggregation than its meter's")]
    OtherAggregation,
}

impl Aggregate {
    /// An aggregate that nothing was added to.
    pub fn new(definition: &Definition) -> Self {
        match definition.aggregation {
            Aggregation::Count => Aggregate::Count,
            Aggregation::Sum => Aggregate::Sum(Quantity::ZERO),
            Aggregation::Min => Aggregate::Min(Quantity::from_scaled(i128::MAX)),
            Aggregation::Max => Aggregate::Max(Quantity::from_scaled(i128::MIN)),
            Aggregation::Avg => Aggregate::Avg(Quantity::ZERO),
            Aggregation::Latest => Aggregate::Latest { value: Quantity::ZERO, at: Timestamp::MIN, seq: Seq::ZERO },
            Aggregation::Unique => {
                Aggregate::Unique(Box::new(Members::new(definition.unique_members_max, definition.approximate)))
            }
        }
    }

    /// Takes over the limits of the meter's new version: to be called for every open counter when that is applied, so
    /// that a counter kept in memory and one read back from the store go on alike.
    pub fn set_limits(&mut self, definition: &Definition) {
        if let Aggregate::Unique(members) = self {
            members.set_limits(definition.unique_members_max, definition.approximate);
        }
    }

    /// Whether `add` would take this value.
    #[inline]
    pub fn check(&self, value: Value) -> Result<(), Refusal> {
        match (self, value) {
            (Aggregate::Sum(total) | Aggregate::Avg(total), Value::Quantity(quantity)) => {
                total.checked_add(quantity).map(drop).ok_or(Refusal::Overflow)
            }
            (Aggregate::Unique(members), Value::Member(member)) => members.check(member),
            (Aggregate::Unique(_), Value::Quantity(_)) => Err(Refusal::WrongKind),
            (Aggregate::Count, _) => Ok(()),
            (_, Value::Quantity(_)) => Ok(()),
            (_, Value::Member(_)) => Err(Refusal::WrongKind),
        }
    }

    /// Adds one event that happened at `at` and is recorded as `seq`. On an error nothing has changed.
    #[inline]
    pub fn add(&mut self, value: Value, at: Timestamp, seq: Seq) -> Result<Added, Refusal> {
        match (self, value) {
            (Aggregate::Count, _) => {}
            (Aggregate::Sum(total) | Aggregate::Avg(total), Value::Quantity(quantity)) => {
                *total = total.checked_add(quantity).ok_or(Refusal::Overflow)?;
            }
            (Aggregate::Min(least), Value::Quantity(quantity)) => *least = quantity.min(*least),
            (Aggregate::Max(most), Value::Quantity(quantity)) => *most = quantity.max(*most),
            (Aggregate::Latest { value, at: newest, seq: last }, Value::Quantity(quantity)) => {
                if (at, seq) >= (*newest, *last) {
                    (*value, *newest, *last) = (quantity, at, seq);
                }
            }
            (Aggregate::Unique(members), Value::Member(member)) => return members.add(member),
            (_, _) => return Err(Refusal::WrongKind),
        }
        Ok(Added::default())
    }

    /// Adds all that was added to `other`, to answer for several counters at once. On an error nothing has changed.
    ///
    /// Sets merge past the meter's limit: exactly up to a bound, as an estimate above it.
    pub fn merge(&mut self, other: &Aggregate) -> Result<(), Refusal> {
        match (self, other) {
            (Aggregate::Count, Aggregate::Count) => {}
            (Aggregate::Sum(total), Aggregate::Sum(more)) | (Aggregate::Avg(total), Aggregate::Avg(more)) => {
                *total = total.checked_add(*more).ok_or(Refusal::Overflow)?;
            }
            (Aggregate::Min(least), Aggregate::Min(other)) => *least = (*least).min(*other),
            (Aggregate::Max(most), Aggregate::Max(other)) => *most = (*most).max(*other),
            (Aggregate::Latest { value, at, seq }, Aggregate::Latest { value: value2, at: at2, seq: seq2 }) => {
                if (*at2, *seq2) >= (*at, *seq) {
                    (*value, *at, *seq) = (*value2, *at2, *seq2);
                }
            }
            (Aggregate::Unique(members), Aggregate::Unique(other)) => members.merge(other),
            (_, _) => return Err(Refusal::WrongKind),
        }
        Ok(())
    }

    /// Whether `subtract` would take this back.
    pub fn can_subtract(&self, quantity: Quantity) -> bool {
        match self {
            Aggregate::Count => true,
            Aggregate::Sum(total) | Aggregate::Avg(total) => total.checked_sub(quantity).is_some(),
            _ => false,
        }
    }

    /// Takes back what events have added that came to `quantity` together: of counts, sums and averages. None, and nothing has
    /// changed, if that cannot be told from the running value or it would leave the range.
    pub fn subtract(&mut self, quantity: Quantity) -> Option<()> {
        match self {
            Aggregate::Count => Some(()),
            Aggregate::Sum(total) | Aggregate::Avg(total) => {
                *total = total.checked_sub(quantity)?;
                Some(())
            }
            _ => None,
        }
    }

    /// The value after `event_count` events; None before the first, except that counts, sums and sets are then 0.
    pub fn value(&self, event_count: u64) -> Option<Quantity> {
        match self {
            Aggregate::Count => Some(whole(event_count)),
            Aggregate::Sum(total) => Some(*total),
            Aggregate::Unique(members) => Some(whole(members.count())),
            Aggregate::Min(value) | Aggregate::Max(value) | Aggregate::Latest { value, .. } => {
                (event_count > 0).then_some(*value)
            }
            Aggregate::Avg(total) => total.divided_by(event_count),
        }
    }

    /// True for a set that has become an estimate.
    pub fn is_approximate(&self) -> bool {
        matches!(self, Aggregate::Unique(members) if members.is_approximate())
    }

    /// Makes a set an estimate, if it is not one yet: what became an estimate once is one for good, however few remain.
    pub fn make_approximate(&mut self) {
        if let Aggregate::Unique(members) = self {
            members.make_approximate();
        }
    }

    /// The members of an exact set, in no particular order; nothing for anything else.
    pub fn members(&self) -> impl Iterator<Item = u128> + '_ {
        let members = if let Aggregate::Unique(members) = self { Some(members) } else { None };
        members.into_iter().flat_map(|members| members.iter())
    }

    /// True for an exact set, whose members are rows of their own.
    pub fn takes_members(&self) -> bool {
        matches!(self, Aggregate::Unique(members) if !members.is_approximate())
    }

    /// How many members an exact set has; 0 for anything else.
    pub fn exact_members(&self) -> i64 {
        if let Aggregate::Unique(members) = self { members.exact_len().into() } else { 0 }
    }

    /// Whether an exact set would grow by this member.
    pub fn lacks_member(&self, member: u128) -> bool {
        matches!(self, Aggregate::Unique(members) if members.lacks(member))
    }

    /// Whether an exact set has this member.
    pub fn has_member(&self, member: u128) -> bool {
        matches!(self, Aggregate::Unique(members) if !members.is_approximate() && !members.lacks(member))
    }

    /// Takes a member out of an exact set. True if it was there.
    pub fn remove_member(&mut self, member: u128) -> bool {
        if let Aggregate::Unique(members) = self { members.remove(member) } else { false }
    }

    /// Puts back a stored member after `decode`. True if it was not there yet.
    pub fn insert_member(&mut self, member: u128) -> bool {
        if let Aggregate::Unique(members) = self { members.restore(member) } else { false }
    }

    /// Heap bytes behind this aggregate.
    pub fn heap_bytes(&self) -> usize {
        if let Aggregate::Unique(members) = self { members.heap_bytes() } else { 0 }
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let kind = self.kind();
        out.extend([VERSION, kind as u8]);
        match self {
            Aggregate::Count => {}
            Aggregate::Sum(value) | Aggregate::Min(value) | Aggregate::Max(value) | Aggregate::Avg(value) => {
                out.extend(value.scaled().to_le_bytes());
            }
            Aggregate::Latest { value, at, seq } => {
                out.extend(value.scaled().to_le_bytes());
                out.extend(at.micros().to_le_bytes());
                out.extend(seq.0.to_le_bytes());
            }
            Aggregate::Unique(members) => match members.sketch() {
                None => out.extend(members.exact_len().to_le_bytes()),
                Some((at_least, sketch)) => {
                    out.extend(at_least.to_le_bytes());
                    out.extend(sketch.registers());
                }
            },
        }
    }

    /// Reads the stored form of a counter of this meter. Also returns how many members the caller has to put back with
    /// `insert_member` before the aggregate is whole.
    pub fn decode(bytes: &[u8], definition: &Definition) -> Result<(Self, u32), DecodeError> {
        let (version, kind, body) = match bytes {
            [version, kind, body @ ..] => (*version, *kind, body),
            _ => return Err(DecodeError::Malformed),
        };
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let mut aggregate = Aggregate::new(definition);
        let fits = kind == aggregate.kind() as u8
            || (kind == Kind::UniqueApproximate as u8 && definition.aggregation == Aggregation::Unique);
        if !fits {
            return Err(DecodeError::OtherAggregation);
        }
        let members = aggregate.fill(body, kind == Kind::UniqueApproximate as u8).ok_or(DecodeError::Malformed)?;
        Ok((aggregate, members))
    }

    fn fill(&mut self, body: &[u8], approximate: bool) -> Option<u32> {
        match self {
            Aggregate::Count => body.is_empty().then_some(())?,
            Aggregate::Sum(value) | Aggregate::Min(value) | Aggregate::Max(value) | Aggregate::Avg(value) => {
                *value = quantity_from(body)?;
            }
            Aggregate::Latest { value, at, seq } => {
                let (quantity, rest) = body.split_at_checked(16)?;
                let (micros, last) = rest.split_at_checked(8)?;
                *value = quantity_from(quantity)?;
                *at = Timestamp::from_micros(i64::from_le_bytes(micros.try_into().ok()?)).ok()?;
                *seq = Seq(u64::from_le_bytes(last.try_into().ok()?));
            }
            Aggregate::Unique(members) if approximate => {
                let (at_least, registers) = body.split_at_checked(8)?;
                let registers: &[u8; REGISTERS] = registers.try_into().ok()?;
                let at_least = u64::from_le_bytes(at_least.try_into().ok()?);
                members.restore_sketch(at_least, Hll::from_registers(registers)?);
            }
            Aggregate::Unique(_) => return Some(u32::from_le_bytes(body.try_into().ok()?)),
        }
        Some(0)
    }

    fn kind(&self) -> Kind {
        match self {
            Aggregate::Count => Kind::Count,
            Aggregate::Sum(_) => Kind::Sum,
            Aggregate::Min(_) => Kind::Min,
            Aggregate::Max(_) => Kind::Max,
            Aggregate::Avg(_) => Kind::Avg,
            Aggregate::Latest { .. } => Kind::Latest,
            Aggregate::Unique(members) if members.is_approximate() => Kind::UniqueApproximate,
            Aggregate::Unique(_) => Kind::UniqueExact,
        }
    }
}

/// The stored form's second byte.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    Count = 1,
    Sum = 2,
    Min = 3,
    Max = 4,
    Avg = 5,
    Latest = 6,
    UniqueExact = 7,
    UniqueApproximate = 8,
}

fn quantity_from(bytes: &[u8]) -> Option<Quantity> {
    Some(Quantity::from_scaled(i128::from_le_bytes(bytes.try_into().ok()?)))
}

fn whole(count: u64) -> Quantity {
    Quantity::from_scaled(i128::from(count) * Quantity::ONE.scaled())
}

#[cfg(test)]
mod tests;
