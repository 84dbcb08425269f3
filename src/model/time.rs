//! Instants and spans in microseconds, and the half-open window between two instants.

use std::fmt;

use jiff::fmt::temporal::DateTimeParser;

/// From the year 0001 to just before 9999-12-30T22:00:00Z: RFC 3339's years, less the margin that jiff keeps for offsets.
const MICROS_MIN: i64 = -62_135_596_800_000_000;
const MICROS_MAX: i64 = 253_402_207_199_999_999;

/// Microseconds since 1970-01-01T00:00:00Z, within the years 0001 to 9999.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    #[error("is not an RFC 3339 time")]
    NotRfc3339,
    #[error("is not a whole number of milliseconds since 1970")]
    NotUnixMillis,
    #[error("lies outside the years 0001 to 9999")]
    OutOfRange,
}

impl Timestamp {
    pub const EPOCH: Timestamp = Timestamp(0);
    pub const MIN: Timestamp = Timestamp(MICROS_MIN);
    pub const MAX: Timestamp = Timestamp(MICROS_MAX);

    pub fn from_micros(micros: i64) -> Result<Self, TimestampError> {
        if (MICROS_MIN..=MICROS_MAX).contains(&micros) { Ok(Self(micros)) } else { Err(TimestampError::OutOfRange) }
    }

    pub fn from_millis(millis: i64) -> Result<Self, TimestampError> {
        millis.checked_mul(1_000).ok_or(TimestampError::OutOfRange).and_then(Self::from_micros)
    }

    pub fn micros(self) -> i64 {
        self.0
    }

    pub fn millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Reads `2026-11-22T10:00:00.123456Z` or with an offset. Digits past the microsecond are cut off.
    pub fn parse_rfc3339(text: &str) -> Result<Self, TimestampError> {
        static PARSER: DateTimeParser = DateTimeParser::new();
        if text.as_bytes().contains(&b'[') {
            return Err(TimestampError::NotRfc3339);
        }
        let instant = PARSER.parse_timestamp(text).map_err(|_| TimestampError::NotRfc3339)?;
        let micros = instant.as_nanosecond().div_euclid(1_000);
        Self::from_micros(i64::try_from(micros).map_err(|_| TimestampError::OutOfRange)?)
    }

    /// Reads a whole number of milliseconds since 1970, as text.
    pub fn parse_unix_millis(text: &str) -> Result<Self, TimestampError> {
        Self::from_millis(text.parse().map_err(|_| TimestampError::NotUnixMillis)?)
    }

    /// `self + span`, kept within the range of the type.
    pub fn saturating_add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.micros()).clamp(MICROS_MIN, MICROS_MAX))
    }

    /// `self - span`, kept within the range of the type.
    pub fn saturating_sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span.micros()).clamp(MICROS_MIN, MICROS_MAX))
    }

    pub fn to_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.0).expect("the range of this type lies within jiff's")
    }
}

/// RFC 3339 in UTC, with as many fractional digits as are needed.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_jiff(), f)
    }
}

/// A span of time that is never negative, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Duration(i64);

impl Duration {
    pub const ZERO: Duration = Duration(0);

    /// Up to about 292,000 years; longer is cut to that.
    pub const fn from_millis(millis: u64) -> Self {
        Self::from_micros(millis.saturating_mul(1_000))
    }

    /// Up to about 292,000 years; longer is cut to that.
    pub const fn from_micros(micros: u64) -> Self {
        Self(if micros > i64::MAX as u64 { i64::MAX } else { micros as i64 })
    }

    pub const fn from_secs(secs: u64) -> Self {
        Self::from_millis(secs.saturating_mul(1_000))
    }

    pub const fn micros(self) -> i64 {
        self.0
    }

    pub fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_micros(self.0.unsigned_abs())
    }

    pub fn saturating_add(self, other: Duration) -> Duration {
        Self(self.0.saturating_add(other.0))
    }

    /// `self - other`, or nothing if that is longer.
    pub fn saturating_sub(self, other: Duration) -> Duration {
        Self(self.0.saturating_sub(other.0).max(0))
    }
}

/// A stretch of time, `start` inclusive, `end` exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Window {
    pub start: Timestamp,
    pub end: Timestamp,
}

impl Window {
    pub fn contains(self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_rfc3339_to_the_microsecond_and_writes_it_back() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-01-02T03:04:05.123456+00:00", 1_767_323_045_123_456),
            ("2026-01-02T05:04:05.1234567+02:00", 1_767_323_045_123_456),
            ("1969-12-31T23:59:59.9999995Z", -1),
        ] {
            assert_eq!(Timestamp::parse_rfc3339(text).map(Timestamp::micros), Ok(micros), "{text}");
        }
        assert_eq!(Timestamp(1_767_323_045_123_456).to_string(), "2026-01-02T03:04:05.123456Z");
    }

    #[test]
    fn refuses_times_without_an_offset_with_a_zone_name_or_out_of_range() {
        for text in
            ["", "2026-01-02", "2026-01-02T03:04:05", "2026-01-02T03:04:05Z[UTC]", "2026-13-02T03:04:05Z", "now"]
        {
            assert_eq!(Timestamp::parse_rfc3339(text), Err(TimestampError::NotRfc3339), "{text}");
        }
        assert_eq!(Timestamp::parse_unix_millis("1.5"), Err(TimestampError::NotUnixMillis));
        assert_eq!(Timestamp::parse_unix_millis("9223372036854775807"), Err(TimestampError::OutOfRange));
        assert_eq!(Timestamp::from_micros(MICROS_MAX + 1), Err(TimestampError::OutOfRange));
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-30T21:59:59.999999Z");
        assert_eq!(Timestamp::MIN.to_string(), "0001-01-01T00:00:00Z");
    }
}
