//! Calendar stretches that people bill by: a month, an ISO week, a day, in a time zone.
//!
//! Text: `2026-11`, `2026-W48`, `2026-11-22`.

use std::fmt;
use std::str::FromStr;

use jiff::ToSpan;
use jiff::civil::{Date, ISOWeekDate, Weekday};

use crate::meter::zone::Zone;
use crate::model::{Timestamp, Window};

/// A calendar stretch; which instants it covers depends on a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Period {
    kind: Kind,
    first: Date,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    Month,
    Week,
    Day,
}

/// Why a text is no period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeriodError {
    #[error("a period is written like 2026-11, 2026-W48 or 2026-11-22, in the years 0001 to 9999")]
    Syntax,
}

impl Period {
    pub(crate) fn month_of(date: Date) -> Self {
        Self { kind: Kind::Month, first: date.first_of_month() }
    }

    /// The week from Monday.
    pub(crate) fn week_of(date: Date) -> Self {
        let days = i32::from(date.weekday().to_monday_zero_offset());
        Self { kind: Kind::Week, first: date.saturating_sub(days.days()) }
    }

    /// The calendar month that `at` belongs to in `zone`.
    pub fn month_containing(at: Timestamp, zone: &Zone) -> Self {
        Self::month_of(zone.day(at).0)
    }

    /// The ISO week (Monday to Monday) that `at` belongs to in `zone`.
    pub fn week_containing(at: Timestamp, zone: &Zone) -> Self {
        Self::week_of(zone.day(at).0)
    }

    /// The local day that `at` belongs to in `zone`.
    pub fn day_containing(at: Timestamp, zone: &Zone) -> Self {
        Self { kind: Kind::Day, first: zone.day(at).0 }
    }

    /// From its first instant to that of the next period.
    pub fn bounds(&self, zone: &Zone) -> Window {
        let end = self.next().map_or(Timestamp::MAX, |next| zone.first_instant(next.first));
        Window { start: zone.first_instant(self.first), end }
    }

    /// The period after this one; None past year 9999.
    pub fn next(&self) -> Option<Self> {
        self.moved(1)
    }

    /// The period before this one.
    pub fn previous(&self) -> Option<Self> {
        self.moved(-1)
    }

    fn moved(&self, by: i32) -> Option<Self> {
        let span = match self.kind {
            Kind::Month => by.months(),
            Kind::Week => by.weeks(),
            Kind::Day => by.days(),
        };
        Some(Self { kind: self.kind, first: self.first.checked_add(span).ok()? })
    }
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        parse(text).ok_or(PeriodError::Syntax)
    }
}

fn parse(text: &str) -> Option<Period> {
    let mut parts = text.split('-');
    let year: i16 = number(parts.next()?, 4)?.try_into().ok().filter(|year| *year > 0)?;
    let second = parts.next()?;
    let third = parts.next();
    if parts.next().is_some() {
        return None;
    }
    match (second.strip_prefix('W'), third) {
        (Some(week), None) => {
            let week = i8::try_from(number(week, 2)?).ok()?;
            let monday = ISOWeekDate::new(year, week, Weekday::Monday).ok()?;
            Some(Period { kind: Kind::Week, first: monday.date() })
        }
        (None, None) => {
            let first = Date::new(year, i8::try_from(number(second, 2)?).ok()?, 1).ok()?;
            Some(Period { kind: Kind::Month, first })
        }
        (None, Some(day)) => {
            let (month, day) = (i8::try_from(number(second, 2)?).ok()?, i8::try_from(number(day, 2)?).ok()?);
            Some(Period { kind: Kind::Day, first: Date::new(year, month, day).ok()? })
        }
        (Some(_), Some(_)) => None,
    }
}

/// Exactly `digits` decimal digits.
fn number(text: &str, digits: usize) -> Option<u16> {
    let well_formed = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
    if well_formed { text.parse().ok() } else { None }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.first;
        match self.kind {
            Kind::Month => write!(f, "{:04}-{:02}", first.year(), first.month()),
            Kind::Week => {
                let week = first.iso_week_date();
                write!(f, "{:04}-W{:02}", week.year(), week.week())
            }
            Kind::Day => write!(f, "{:04}-{:02}-{:02}", first.year(), first.month(), first.day()),
        }
    }
}

#[cfg(test)]
mod tests;
