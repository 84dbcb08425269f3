//! Durations and sizes as text: a whole number and one unit.
//!
//! | kind | units | examples |
//! | --- | --- | --- |
//! | duration | `ms` `s` `m` `h` `d` (24 h) `w` (7 d) | `"250ms"`, `"5m"`, `"32d"` |
//! | size | `B` `KiB` `MiB` `GiB` `TiB`, or bytes as a plain number | `"8MiB"`, `1048576` |
//!
//! 1. One number, one unit, no fraction: there is one way to read it.
//! 2. `shown` forms can be written back into the file and mean the same.

use crate::model::Duration;

const DURATION_UNITS_MS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZE_UNITS_BYTES: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// What is wrong with a duration's or a size's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitError {
    /// It does not start with a digit (after a `-`), or has a fraction.
    NotANumber,
    Negative,
    MissingUnit,
    UnknownUnit,
    TooLarge,
}

/// Reads `"250ms"`, `"10s"`, `"32d"`.
pub fn duration(text: &str) -> Result<Duration, UnitError> {
    let millis = number_with_unit(text, &DURATION_UNITS_MS)?;
    if i64::try_from(millis.saturating_mul(1_000)).is_err() {
        return Err(UnitError::TooLarge);
    }
    Ok(Duration::from_millis(millis))
}

/// Reads `"8MiB"`, `"4096"`. Bytes.
pub fn size(text: &str) -> Result<u64, UnitError> {
    match number_with_unit(text, &SIZE_UNITS_BYTES) {
        Err(UnitError::MissingUnit) => text.trim().parse().map_err(|_| UnitError::TooLarge),
        read => read,
    }
}

fn number_with_unit(text: &str, units: &[(&str, u64)]) -> Result<u64, UnitError> {
    let text = text.trim();
    let (negative, magnitude) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let end = magnitude.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(magnitude.len());
    let (digits, unit) = magnitude.split_at(end);
    if digits.is_empty() || unit.starts_with(['.', ',']) {
        return Err(UnitError::NotANumber);
    }
    if negative {
        return Err(UnitError::Negative);
    }
    let unit = unit.trim_start();
    if unit.is_empty() {
        return Err(UnitError::MissingUnit);
    }
    let (_, factor) = units.iter().find(|(name, _)| *name == unit).ok_or(UnitError::UnknownUnit)?;
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor)).ok_or(UnitError::TooLarge)
}

/// A duration in the largest unit that divides it: `"50405m"`, `"1h"`.
pub fn shown_duration(duration: Duration) -> String {
    shown(duration.micros().unsigned_abs() / 1_000, &DURATION_UNITS_MS[1..], "ms")
}

/// A duration in parts, for reading only: `35d 5m`.
pub fn spelled_duration(duration: Duration) -> String {
    let mut rest = duration.micros().unsigned_abs() / 1_000;
    let mut parts = Vec::new();
    for (unit, factor) in &DURATION_UNITS_MS[1..] {
        if rest >= *factor {
            parts.push(format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    if parts.is_empty() { "0ms".to_owned() } else { parts.join(" ") }
}

/// The shortest round duration that is no less: whole days from a day on, whole hours from an hour on, else itself.
pub fn rounded_up(duration: Duration) -> Duration {
    let millis = duration.micros().unsigned_abs().div_ceil(1_000);
    let step = [86_400_000, 3_600_000].into_iter().find(|step| millis >= *step).unwrap_or(1);
    Duration::from_millis(millis.div_ceil(step).saturating_mul(step))
}

/// A size in the largest unit that divides it: `"8MiB"`.
pub fn shown_size(bytes: u64) -> String {
    shown(bytes, &SIZE_UNITS_BYTES, "B")
}

fn shown(number: u64, units: &[(&str, u64)], smallest: &str) -> String {
    let unit = units.iter().find(|(_, factor)| number >= *factor && number.is_multiple_of(*factor));
    unit.map_or_else(|| format!("{number}{smallest}"), |(name, factor)| format!("{}{name}", number / factor))
}
