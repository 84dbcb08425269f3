//! Ids and positions, as newtypes that cannot be swapped for one another.

use std::fmt;
use std::sync::Arc;

/// The longest id, customer, source or dimension value that is taken, in bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// The account that owns API keys; every id and number belongs to exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

impl TenantId {
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who is metered: a native event's `customer`, a CloudEvent's `subject`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CustomerName(pub Box<str>);

/// A meter's number in the log: the order in which its `MeterVersion` record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MeterId(pub u16);

/// A record's place in the log. The first record is 1; 0 means "before everything".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seq(pub u64);

impl Seq {
    pub const ZERO: Seq = Seq(0);

    pub fn next(self) -> Seq {
        self.plus(1)
    }

    pub fn plus(self, records: u64) -> Seq {
        Seq(self.0 + records)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// SipHash-1-3-128 of length-prefixed (tenant, source, usage_event_id), keyed by the Genesis record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventKey(pub u128);

/// A 32-bit keyed digest of an event as sent; it tells a retry from a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub u32);

/// What the dedupe index knows of an accepted id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdEntry {
    /// The record that accepted it.
    pub seq: Seq,
    pub fingerprint: Fingerprint,
}

/// Counts restores and repairs, so that an older row never wins over a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation(pub u32);
