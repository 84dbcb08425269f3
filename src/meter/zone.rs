//! A time zone's calendar days as instants, from the tz database that is compiled in.
//!
//! A local day D begins at the first instant whose local time is D 00:00 or later:
//!
//! | clock at midnight | the day begins |
//! | --- | --- |
//! | runs on | at 00:00 |
//! | skips 00:00 (summer time starts at midnight; a day left out at the date line) | at the change |
//! | shows 00:00 twice (set back over midnight) | at the first 00:00 |
//!
//! 1. Days tile time: each ends where the next begins. A day the zone left out is empty.
//! 2. An instant after a clock was set back over midnight belongs to the new day, though the clock shows the old date.
//! 3. No file of the machine is read, so that two machines come to the same bounds.

use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};

use crate::model::{Timestamp, Window};

/// A named time zone.
#[derive(Clone, Debug)]
pub struct Zone {
    tz: TimeZone,
    utc: bool,
}

/// The name is in no tz database that this build carries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown time zone {0:?}: use an IANA name like \"Europe/Berlin\" or \"UTC\"")]
pub struct UnknownZone(pub String);

impl Zone {
    /// Looks up an IANA name (in any case).
    pub fn named(name: &str) -> Result<Self, UnknownZone> {
        if name.eq_ignore_ascii_case("UTC") {
            return Ok(Self::utc());
        }
        let tz = TimeZoneDatabase::bundled().get(name).map_err(|_| UnknownZone(name.to_owned()))?;
        Ok(Self { utc: matches!(name, "Etc/UTC" | "Etc/UCT" | "Zulu"), tz })
    }

    /// Coordinated Universal Time.
    pub fn utc() -> Self {
        Self { tz: TimeZone::UTC, utc: true }
    }

    /// True if local time is UTC, so that windows are plain arithmetic.
    pub fn is_utc(&self) -> bool {
        self.utc
    }

    /// The first instant of a local day, kept within the range of `Timestamp`.
    pub fn first_instant(&self, date: Date) -> Timestamp {
        let midnight = date.to_datetime(Time::midnight());
        let ambiguous = self.tz.to_ambiguous_timestamp(midnight);
        let AmbiguousOffset::Gap { before, .. } = ambiguous.offset() else {
            return ambiguous.earlier().map_or(Timestamp::MAX, from_jiff);
        };
        // By the old offset, midnight would come at the change or, if the gap began earlier, some time after it.
        let Ok(after_change) = before.to_timestamp(midnight) else { return Timestamp::MAX };
        let change = self.tz.preceding(just_after(after_change)).next();
        from_jiff(change.map_or(after_change, |change| change.timestamp()))
    }

    /// The local day an instant belongs to, and that day's bounds.
    pub fn day(&self, at: Timestamp) -> (Date, Window) {
        let mut date = self.tz.to_datetime(to_jiff(at)).date();
        loop {
            let Ok(tomorrow) = date.tomorrow() else {
                return (date, Window { start: self.first_instant(date), end: Timestamp::MAX });
            };
            let end = self.first_instant(tomorrow);
            // At the end of the range every bound is MAX: the last day keeps what is left.
            if at < end || end == Timestamp::MAX {
                return (date, Window { start: self.first_instant(date), end });
            }
            date = tomorrow;
        }
    }
}

fn just_after(instant: jiff::Timestamp) -> jiff::Timestamp {
    instant.saturating_add(jiff::SignedDuration::from_nanos(1)).unwrap_or(instant)
}

/// jiff's range ends 26 hours before that of `Timestamp`; what lies beyond is brought to its end.
fn to_jiff(at: Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(at.micros()).unwrap_or(jiff::Timestamp::MAX)
}

fn from_jiff(instant: jiff::Timestamp) -> Timestamp {
    let limit = if instant < jiff::Timestamp::UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_micros(instant.as_microsecond()).unwrap_or(limit)
}

#[cfg(test)]
mod tests;
