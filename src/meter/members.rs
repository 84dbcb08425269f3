//! The different members of a `unique` window: each of them up to a limit, then an estimate if the meter allows it.
//!
//! ```text
//! exact ──(a new member past the limit)──▶ approximate   if the meter allows it
//!                                      └─▶ refused       otherwise
//! ```
//!
//! 1. Members are keyed 128-bit hashes, spread evenly: their own bits place them, and two never collide in practice.
//! 2. An estimate never falls below what was counted exactly before.
//! 3. Never back from approximate to exact.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::meter::aggregate::{Added, Refusal};
use crate::meter::hll::{Hll, REGISTERS};

/// A merged set stays exact up to this many members (about 8 MB) or the meter's own limit, if that is higher.
pub const MERGED_EXACT_MAX: u32 = 262_144;

/// A set of members with its limit.
#[derive(Clone, Debug)]
pub struct Members {
    exact_max: u32,
    may_approximate: bool,
    set: Set,
}

#[derive(Clone, Debug)]
enum Set {
    Exact(HashTable<u128>),
    Approximate { at_least: u64, sketch: Box<Hll> },
}

impl Members {
    /// An empty set that is exact up to `exact_max` members.
    pub fn new(exact_max: u32, may_approximate: bool) -> Self {
        Self { exact_max, may_approximate, set: Set::Exact(HashTable::new()) }
    }

    /// Takes over the limits of a meter's new version. Members already there stay, even above the limit.
    pub fn set_limits(&mut self, exact_max: u32, may_approximate: bool) {
        (self.exact_max, self.may_approximate) = (exact_max, may_approximate);
    }

    /// Whether `add` would take this member.
    pub fn check(&self, member: u128) -> Result<(), Refusal> {
        match &self.set {
            Set::Exact(set) if !self.may_approximate && self.is_full(set) => {
                if contains(set, member) {
                    Ok(())
                } else {
                    Err(Refusal::UniqueLimit)
                }
            }
            _ => Ok(()),
        }
    }

    /// Adds a member. On an error nothing has changed.
    pub fn add(&mut self, member: u128) -> Result<Added, Refusal> {
        self.check(member)?;
        let full = matches!(&self.set, Set::Exact(set) if self.is_full(set) && !contains(set, member));
        if full {
            self.approximate();
        }
        let new_member = match &mut self.set {
            Set::Exact(set) => insert(set, member),
            Set::Approximate { at_least, sketch } => {
                sketch.insert(member);
                *at_least += u64::from(full);
                false
            }
        };
        Ok(Added { new_member, became_approximate: full })
    }

    /// Adds every member of `other`, past the meter's limit if need be: exactly up to `MERGED_EXACT_MAX`.
    pub fn merge(&mut self, other: &Members) {
        let exact_max = self.exact_max.max(MERGED_EXACT_MAX) as usize;
        if let (Set::Exact(set), Set::Exact(more)) = (&mut self.set, &other.set) {
            let mut more = more.iter();
            while set.len() < exact_max {
                let Some(member) = more.next() else { return };
                insert(set, *member);
            }
            if more.all(|member| contains(set, *member)) {
                return;
            }
        }
        self.merge_as_estimate(other);
    }

    fn merge_as_estimate(&mut self, other: &Members) {
        let floor = self.floor().max(other.floor());
        let (at_least, sketch) = self.approximate();
        *at_least = floor;
        match &other.set {
            Set::Exact(more) => more.iter().for_each(|member| sketch.insert(*member)),
            Set::Approximate { sketch: more, .. } => sketch.merge(more),
        }
    }

    /// How many different members there are, exactly or as an estimate.
    pub fn count(&self) -> u64 {
        match &self.set {
            Set::Exact(set) => set.len() as u64,
            Set::Approximate { at_least, sketch } => sketch.estimate().max(*at_least),
        }
    }

    /// True once the set is an estimate.
    pub fn is_approximate(&self) -> bool {
        matches!(self.set, Set::Approximate { .. })
    }

    /// The members of an exact set, in no particular order; nothing of an estimate.
    pub fn iter(&self) -> impl Iterator<Item = u128> + '_ {
        let set = if let Set::Exact(set) = &self.set { Some(set) } else { None };
        set.into_iter().flatten().copied()
    }

    /// Whether an exact set would grow by this member; false for an estimate.
    pub(super) fn lacks(&self, member: u128) -> bool {
        matches!(&self.set, Set::Exact(set) if !contains(set, member))
    }

    /// Heap bytes, this struct's own (it lives in a box) included.
    pub fn heap_bytes(&self) -> usize {
        let set = match &self.set {
            Set::Exact(set) => set.allocation_size(),
            Set::Approximate { .. } => REGISTERS,
        };
        set + size_of::<Self>()
    }

    /// The members counted exactly; 0 for an estimate.
    pub(super) fn exact_len(&self) -> u32 {
        if let Set::Exact(set) = &self.set { u32::try_from(set.len()).unwrap_or(u32::MAX) } else { 0 }
    }

    pub(super) fn sketch(&self) -> Option<(u64, &Hll)> {
        match &self.set {
            Set::Exact(_) => None,
            Set::Approximate { at_least, sketch } => Some((*at_least, sketch)),
        }
    }

    /// Puts back a stored member, whatever the limit is now. True if it was not there yet.
    pub(super) fn restore(&mut self, member: u128) -> bool {
        if let Set::Exact(set) = &mut self.set { insert(set, member) } else { false }
    }

    /// Takes a member out of an exact set; true if it was there.
    pub(super) fn remove(&mut self, member: u128) -> bool {
        let Set::Exact(set) = &mut self.set else { return false };
        match set.find_entry(place(&member), |known| *known == member) {
            Ok(found) => found.remove().0 == member,
            Err(_) => false,
        }
    }

    pub(super) fn restore_sketch(&mut self, at_least: u64, sketch: Hll) {
        self.set = Set::Approximate { at_least, sketch: Box::new(sketch) };
    }

    fn is_full(&self, set: &HashTable<u128>) -> bool {
        set.len() >= self.exact_max as usize
    }

    /// A number of members that are there for certain.
    fn floor(&self) -> u64 {
        match &self.set {
            Set::Exact(set) => set.len() as u64,
            Set::Approximate { at_least, .. } => *at_least,
        }
    }

    /// Makes the set an estimate, if it is not one yet.
    pub(super) fn make_approximate(&mut self) {
        self.approximate();
    }

    fn approximate(&mut self) -> (&mut u64, &mut Hll) {
        if let Set::Exact(set) = &self.set {
            let mut sketch = Box::new(Hll::new());
            set.iter().for_each(|member| sketch.insert(*member));
            self.set = Set::Approximate { at_least: set.len() as u64, sketch };
        }
        match &mut self.set {
            Set::Approximate { at_least, sketch } => (at_least, sketch),
            Set::Exact(_) => unreachable!("made approximate above"),
        }
    }
}

/// The same members, or the same estimate; limits are the meter's and do not count.
impl PartialEq for Members {
    fn eq(&self, other: &Self) -> bool {
        match (&self.set, &other.set) {
            (Set::Exact(a), Set::Exact(b)) => a.len() == b.len() && a.iter().all(|member| contains(b, *member)),
            (Set::Approximate { at_least: a, sketch: x }, Set::Approximate { at_least: b, sketch: y }) => {
                a == b && x == y
            }
            _ => false,
        }
    }
}

/// A member is a hash already: its low half places it.
#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
fn place(member: &u128) -> u64 {
    *member as u64
}

fn contains(set: &HashTable<u128>, member: u128) -> bool {
    set.find(place(&member), |known| *known == member).is_some()
}

fn insert(set: &mut HashTable<u128>, member: u128) -> bool {
    match set.entry(place(&member), |known| *known == member, place) {
        Entry::Occupied(_) => false,
        Entry::Vacant(vacant) => {
            vacant.insert(member);
            true
        }
    }
}

#[cfg(test)]
mod tests;
