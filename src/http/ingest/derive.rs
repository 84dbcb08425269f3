//! The id of an event that comes without one, for meters that allow it (`derive_id = "5m"`).
//!
//! It is `derived:` and 32 hex digits: a keyed 128-bit hash of
//!
//! | part | native event | CloudEvent |
//! | --- | --- | --- |
//! | names, each with its length before it | `source`, `customer`, `meter` | `source`, `subject`, `type` |
//! | content: the sum that the fingerprint is made of | all but id, source and `timestamp` | all but id, source and `time` |
//! | bucket | its start, in µs | the same, by the smallest `derive_id` of the meters it feeds |
//!
//! 1. Buckets are multiples of `derive_id` since 1970; an event without a time falls into that of its receipt.
//! 2. Equal events in one bucket are one. So their time within it is left out of the fingerprint too: it is no conflict.
//! 3. All meters that the event feeds must allow it, or it is refused as ever: none of them may count what another would
//!    take for a retry.
//! 4. Nothing here runs for an event with an id. One that names a derived id as its own is an event with an id.
//!
//! It is a compromise: usage that happens twice within a bucket is lost, a retry past its edge counts twice.

use std::fmt::{self, Display};

use crate::engine::Hasher;
use crate::http::ingest::cloudevent::CloudEvent;
use crate::http::ingest::fingerprint::Fingerprinter;
use crate::http::ingest::ids::Ids;
use crate::http::ingest::json::{Item, Scanner, Tape, Value};
use crate::http::ingest::native::NativeEvent;
use crate::http::ingest::rejection::Rejection;
use crate::meter::Meters;
use crate::model::{Code, Duration, Timestamp};

/// What an event is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventId<'t> {
    /// By its sender.
    Given(&'t str),
    /// By what it holds, and when: equal ones within so long a bucket of time are one.
    Derived(Duration),
}

impl<'t> EventId<'t> {
    /// The id as the answer and the journal's key have it; a derived one is kept among `ids`, as the last event's.
    #[inline]
    pub fn text<'s>(self, ids: &'s mut Ids, make: impl FnOnce(Duration) -> DerivedId) -> &'s str
    where
        't: 's,
    {
        match self {
            EventId::Given(id) => id,
            EventId::Derived(bucket) => ids.derived(make(bucket)),
        }
    }

    pub fn is_derived(self) -> bool {
        matches!(self, EventId::Derived(_))
    }

    /// What is made of the bucket, if the id is to be derived.
    fn derived<T>(self, make: impl FnOnce(Duration) -> T) -> Option<T> {
        match self {
            EventId::Given(_) => None,
            EventId::Derived(bucket) => Some(make(bucket)),
        }
    }
}

/// An id made of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DerivedId(u128);

impl Display for DerivedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "derived:{:032x}", self.0)
    }
}

/// The id of the event of these names whose members were added to the fingerprint, and which happened at `at`.
pub fn id(members: &mut Fingerprinter, names: [&str; 3], at: Timestamp, bucket: Duration) -> DerivedId {
    let bucket_start = at.micros().div_euclid(bucket.micros()) * bucket.micros();
    DerivedId(members.derive(names, bucket_start))
}

/// The bucket of a native event without an id.
#[cold]
pub fn native_bucket(meter: Option<Item<'_, '_>>, meters: &Meters) -> Result<Duration, Rejection> {
    let missing = || Rejection::missing("/usage_event_id");
    let Some(Value::Text(slug)) = meter.map(Item::value) else { return Err(missing()) };
    let meter = meters.by_slug(slug).filter(|meter| !meter.retired).ok_or_else(missing)?;
    meter.definition.derive_id.ok_or_else(|| {
        let detail = format_args!("/usage_event_id is missing, and meter {slug:?} has no derive_id to make one by");
        Rejection::new(Code::MissingField, detail)
    })
}

/// The bucket of a CloudEvent without an id: the smallest of its meters.
#[cold]
pub fn cloudevent_bucket(event_type: Option<Item<'_, '_>>, meters: &Meters) -> Result<Duration, Rejection> {
    let missing = || Rejection::missing("/id");
    let Some(Value::Text(event_type)) = event_type.map(Item::value) else { return Err(missing()) };
    let mut smallest = None;
    for meter in meters.by_event_type(event_type).iter().filter_map(|id| meters.get(*id)) {
        let bucket = meter.definition.derive_id.ok_or_else(|| {
            let slug = &meter.definition.slug;
            let detail = format_args!("/id is missing, and meter {slug:?} has no derive_id to make one by");
            Rejection::new(Code::MissingField, detail)
        })?;
        smallest = Some(smallest.map_or(bucket, |smallest: Duration| smallest.min(bucket)));
    }
    smallest.ok_or_else(missing)
}

/// The id of an accepted event that came without one: from its evidence, and the time in its record (for an event that named
/// none, that of its receipt). `is_it` knows the right one by the key in the record.
///
/// `None`: its meters make ids by other buckets now, or none.
pub fn again(
    raw: &str,
    at: Timestamp,
    meters: &Meters,
    hasher: Hasher,
    is_it: impl Fn(&str) -> bool,
) -> Option<String> {
    let mut tape = Tape::default();
    Scanner::new(raw).value(&mut tape, 0).ok()?;
    let event = tape.root();
    let mut members = Fingerprinter::new(hasher);
    if let Ok(event) = NativeEvent::read(event, meters) {
        event.fingerprint(&mut members);
        let made = event.id.derived(|bucket| id(&mut members, event.names(), at, bucket).to_string());
        if let Some(id) = made.filter(|id| is_it(id)) {
            return Some(id);
        }
    }
    members.clear();
    let event = CloudEvent::read(event, meters).ok()?;
    event.fingerprint(&mut members);
    let made = event.id.derived(|bucket| id(&mut members, event.names(), at, bucket).to_string());
    made.filter(|id| is_it(id))
}

#[cfg(test)]
mod tests;
