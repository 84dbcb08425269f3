//! What a meter counts, as its `MeterVersion` record holds it.
//!
//! JSON, with these field names for good; a reader refuses a field it does not know, because it would count otherwise:
//!
//! | field | JSON |
//! | --- | --- |
//! | `slug`, `event_type`, `time_zone` | string |
//! | `aggregation` | `"count"`, `"sum"`, `"min"`, `"max"`, `"avg"`, `"latest"`, `"unique"` |
//! | `value` | path as text, or null |
//! | `dimensions` | object, name to path, sorted by name |
//! | `window` | `"90s"`, `"1h"`, `"1d"`, `"1w"`, `"1mo"` |
//! | `grace_ms` | milliseconds, integer |
//! | `late` | `"adjust"`, `"reject"` |
//! | `allow_negative`, `approximate` | boolean |
//! | `unique_members_max` | integer |
//! | `billing_period` | `"month"`, `"week"`, `"day"`; absent in older records: `"month"` |
//! | `billing_time_zone` | string, or null or absent: that of `time_zone` |
//! | `derive_id_ms` | milliseconds, integer; absent: events need an id |

use serde::{Deserialize, Serialize};

use crate::meter::path::Path;
use crate::meter::period::PeriodKind;
use crate::meter::window::{WindowLength, Windows};
use crate::meter::zone::{UnknownZone, Zone};
use crate::model::Duration;
use crate::model::id::NAME_BYTES_MAX;

/// The most dimensions a meter may have.
pub const DIMENSIONS_MAX: usize = 16;
/// Members of one exact unique window unless the meter says otherwise.
pub const UNIQUE_MEMBERS_DEFAULT: u32 = 100_000;
/// The highest bound a meter may set: 16 bytes a member, per window and customer.
pub const UNIQUE_MEMBERS_MAX: u32 = 10_000_000;
/// The shortest and the longest stretch of time in which equal events without an id are one.
pub const DERIVE_ID_MIN: Duration = Duration::from_secs(1);
pub const DERIVE_ID_MAX: Duration = Duration::from_secs(86_400);

/// A meter, as configured. `validate` says whether it can be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// The name in config and API; it never changes.
    pub slug: String,
    /// The CloudEvents `type` that feeds this meter.
    pub event_type: String,
    /// How values become one.
    pub aggregation: Aggregation,
    /// Where the value lies in an event's data. None: the quantity of a native event.
    pub value: Option<Path>,
    /// Name and place of each dimension, sorted by name.
    #[serde(with = "sorted_by_name")]
    pub dimensions: Vec<(String, Path)>,
    /// How long windows are.
    pub window: WindowLength,
    /// IANA name.
    pub time_zone: String,
    /// How long after its end a window stays open to late usage. Whole milliseconds.
    #[serde(rename = "grace_ms", with = "millis")]
    pub grace: Duration,
    /// What becomes of usage for a finalized window.
    pub late: Late,
    /// Whether negative quantities are taken.
    pub allow_negative: bool,
    /// Exact members of one unique window; past it the meter is approximate or refuses.
    pub unique_members_max: u32,
    /// Whether a unique window may go on as an estimate past `unique_members_max`.
    pub approximate: bool,
    /// How long billing periods are.
    #[serde(default)]
    pub billing_period: PeriodKind,
    /// Whose calendar billing periods follow. None: that of `time_zone`.
    #[serde(default)]
    pub billing_time_zone: Option<String>,
    /// Events may come without an id; equal ones within this stretch of time are then one. Whole milliseconds.
    #[serde(rename = "derive_id_ms", with = "optional_millis", default, skip_serializing_if = "Option::is_none")]
    pub derive_id: Option<Duration>,
}

/// How the values of a window become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aggregation {
    /// How many events there were, whatever their values.
    Count,
    Sum,
    Min,
    Max,
    /// The sum divided by the number of events, rounded half to even at the 12th fractional digit.
    Avg,
    /// The value with the latest timestamp; of equal ones, the one recorded last.
    Latest,
    /// How many different values there were.
    Unique,
}

impl Aggregation {
    /// Every aggregation.
    pub const ALL: [Aggregation; 7] = [
        Aggregation::Count,
        Aggregation::Sum,
        Aggregation::Min,
        Aggregation::Max,
        Aggregation::Avg,
        Aggregation::Latest,
        Aggregation::Unique,
    ];

    /// The name in config and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Aggregation::Count => "count",
            Aggregation::Sum => "sum",
            Aggregation::Min => "min",
            Aggregation::Max => "max",
            Aggregation::Avg => "avg",
            Aggregation::Latest => "latest",
            Aggregation::Unique => "unique",
        }
    }
}

/// What becomes of usage that arrives after its window was finalized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Late {
    /// It is counted, as a new revision of the window.
    Adjust,
    Reject,
}

/// What may never change under a slug, because totals already counted would mean something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrozenField {
    Aggregation,
    Value,
    Window,
    Dimensions,
    TimeZone,
    BillingPeriod,
    BillingTimeZone,
}

impl FrozenField {
    /// The field's name in the config.
    pub fn as_str(self) -> &'static str {
        match self {
            FrozenField::Aggregation => "aggregation",
            FrozenField::Value => "value",
            FrozenField::Window => "window",
            FrozenField::Dimensions => "dimensions",
            FrozenField::TimeZone => "time_zone",
            FrozenField::BillingPeriod => "billing.period",
            FrozenField::BillingTimeZone => "billing.time_zone",
        }
    }
}

/// Why a definition cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    #[error("{field} must have 1 to 256 bytes and no control characters")]
    Name { field: &'static str },
    #[error("a meter has at most 16 dimensions")]
    TooManyDimensions,
    #[error("dimensions must be sorted by name, each name once")]
    UnsortedDimensions,
    #[error(transparent)]
    UnknownZone(#[from] UnknownZone),
    #[error("a unique meter needs a value: the path to what is counted once")]
    UniqueWithoutValue,
    #[error("unique_members_max must lie between 1 and 10,000,000")]
    UniqueMembersMax,
    #[error("derive_id must lie between 1s and 1d")]
    DeriveId,
}

impl Definition {
    /// Says why this meter cannot be used, if so.
    pub fn validate(&self) -> Result<(), DefinitionError> {
        for (field, name) in [("slug", &self.slug), ("event_type", &self.event_type)] {
            check_name(field, name)?;
        }
        if self.dimensions.len() > DIMENSIONS_MAX {
            return Err(DefinitionError::TooManyDimensions);
        }
        for (name, _) in &self.dimensions {
            check_name("a dimension's name", name)?;
        }
        if !self.dimensions.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Err(DefinitionError::UnsortedDimensions);
        }
        if self.aggregation == Aggregation::Unique && self.value.is_none() {
            return Err(DefinitionError::UniqueWithoutValue);
        }
        if !(1..=UNIQUE_MEMBERS_MAX).contains(&self.unique_members_max) {
            return Err(DefinitionError::UniqueMembersMax);
        }
        if self.derive_id.is_some_and(|bucket| !(DERIVE_ID_MIN..=DERIVE_ID_MAX).contains(&bucket)) {
            return Err(DefinitionError::DeriveId);
        }
        self.windows()?;
        self.billing_zone()?;
        Ok(())
    }

    /// The windows of this meter, by its length and zone.
    pub fn windows(&self) -> Result<Windows, UnknownZone> {
        Ok(Windows::new(self.window, Zone::named(&self.time_zone)?))
    }

    /// The zone whose calendar billing periods follow, unless a customer has another.
    pub fn billing_zone(&self) -> Result<Zone, UnknownZone> {
        Zone::named(self.billing_zone_name())
    }

    fn billing_zone_name(&self) -> &str {
        self.billing_time_zone.as_deref().unwrap_or(&self.time_zone)
    }

    /// What differs in `other` that may never change under a slug; empty if `other` may replace this definition.
    ///
    /// Naming the zone that billing follows anyway is no difference; where neither names one, `TimeZone` says it all.
    pub fn frozen_difference(&self, other: &Definition) -> Vec<FrozenField> {
        let neither_names = self.billing_time_zone.is_none() && other.billing_time_zone.is_none();
        let same_billing_zone =
            neither_names || self.billing_zone_name().eq_ignore_ascii_case(other.billing_zone_name());
        let fields = [
            (FrozenField::Aggregation, self.aggregation == other.aggregation),
            (FrozenField::Value, self.value == other.value),
            (FrozenField::Window, self.window == other.window),
            (FrozenField::Dimensions, self.dimensions == other.dimensions),
            (FrozenField::TimeZone, self.time_zone.eq_ignore_ascii_case(&other.time_zone)),
            (FrozenField::BillingPeriod, self.billing_period == other.billing_period),
            (FrozenField::BillingTimeZone, same_billing_zone),
        ];
        fields.into_iter().filter(|(_, same)| !same).map(|(field, _)| field).collect()
    }
}

fn check_name(field: &'static str, name: &str) -> Result<(), DefinitionError> {
    let legal = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    if legal { Ok(()) } else { Err(DefinitionError::Name { field }) }
}

mod sorted_by_name {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::meter::path::Path;

    pub fn serialize<S: Serializer>(dimensions: &[(String, Path)], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(dimensions.iter().map(|(name, path)| (name, path)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, Path)>, D::Error> {
        Ok(BTreeMap::<String, Path>::deserialize(deserializer)?.into_iter().collect())
    }
}

mod millis {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::model::Duration;

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(duration.micros() / 1_000)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Ok(Duration::from_millis(u64::deserialize(deserializer)?))
    }
}

mod optional_millis {
    use serde::{Deserializer, Serializer};

    use super::millis;
    use crate::model::Duration;

    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => millis::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        millis::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests;
