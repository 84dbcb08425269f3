//! RFC 3339 times, quickly where they are written as nearly everyone writes them.
//!
//! `2026-11-22T10:00:00Z` with up to nine fractional digits is read here in a few nanoseconds. Everything else, odd or
//! wrong, is [`Timestamp::parse_rfc3339`]'s to judge; where both read a text they agree.

use crate::model::{Timestamp, TimestampError};

const PREFIX: usize = "2026-11-22T10:00:00".len();

/// Reads an RFC 3339 time to the microsecond.
#[inline]
pub fn parse(text: &str) -> Result<Timestamp, TimestampError> {
    match plain(text.as_bytes()) {
        Some(micros) => Timestamp::from_micros(micros),
        None => Timestamp::parse_rfc3339(text),
    }
}

/// Microseconds since 1970 of a plain UTC time from 1970 on; `None` for anything else.
fn plain(text: &[u8]) -> Option<i64> {
    let (head, tail) = text.split_first_chunk::<PREFIX>()?;
    let separators = [head[4], head[7], head[10], head[13], head[16]];
    if separators != *b"--T::" {
        return None;
    }
    let year = pair(head[0], head[1])? * 100 + pair(head[2], head[3])?;
    let (month, day) = (pair(head[5], head[6])?, pair(head[8], head[9])?);
    let (hour, minute, second) = (pair(head[11], head[12])?, pair(head[14], head[15])?, pair(head[17], head[18])?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year < 1970 || day == 0 || day > month_days || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(seconds * 1_000_000 + fraction_micros(tail)?)
}

/// Reads `Z` or `.123456789Z`; digits past the microsecond are cut off.
fn fraction_micros(tail: &[u8]) -> Option<i64> {
    let digits = match tail {
        b"Z" => return Some(0),
        [b'.', digits @ .., b'Z'] if matches!(digits.len(), 1..=9) => digits,
        _ => return None,
    };
    let mut micros = 0;
    for place in 0..6 {
        micros = micros * 10 + digits.get(place).map_or(Some(0), |&d| digit(d))?;
    }
    digits.iter().all(u8::is_ascii_digit).then_some(micros)
}

/// Days of the proleptic Gregorian calendar (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn pair(tens: u8, ones: u8) -> Option<i64> {
    Some(digit(tens)? * 10 + digit(ones)?)
}

fn digit(byte: u8) -> Option<i64> {
    byte.is_ascii_digit().then(|| i64::from(byte - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_full_parser_on_every_day_and_fraction() {
        for day in 0..60_000i64 {
            let micros = day * 86_400_000_000 + (day * 7_919) % 86_400 * 1_000_000 + (day * 104_729) % 1_000_000;
            let text = Timestamp::from_micros(micros).expect("in range").to_string();
            assert_eq!(plain(text.as_bytes()), Some(micros), "{text}");
        }
        for text in [
            "2026-01-02T03:04:05.1Z",
            "2026-01-02T03:04:05.123456789Z",
            "2024-02-29T23:59:59Z",
            "9999-12-30T21:59:59.999999Z",
        ] {
            assert!(plain(text.as_bytes()).is_some());
            assert_eq!(parse(text), Timestamp::parse_rfc3339(text), "{text}");
        }
    }

    #[test]
    fn leaves_everything_odd_to_the_full_parser() {
        for text in [
            "2026-01-02T03:04:05+00:00",
            "2026-01-02T03:04:05z",
            "2026-01-02 03:04:05Z",
            "2026-02-29T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-01-02T24:00:00Z",
            "2026-01-02T03:04:60Z",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03:04:05.1234567890Z",
            "2026-01-02T03:04:05.12x4567Z",
            "2026-13-02T03:04:05Z",
            "2026-00-02T03:04:05Z",
            "2026-01-00T03:04:05Z",
            "2026-01-02T03:04:05",
            "",
            "2026-01-02T03:04:05ZZ",
            "202x-01-02T03:04:05Z",
        ] {
            assert_eq!(plain(text.as_bytes()), None, "{text}");
            assert_eq!(parse(text), Timestamp::parse_rfc3339(text), "{text}");
        }
    }
}
