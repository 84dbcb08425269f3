//! Calendar stretches that people bill by: a month, an ISO week, a day, in a time zone.
//!
//! Text, and JSON string: `2026-11`, `2026-W48`, `2026-11-22`.

use std::fmt;
use std::str::FromStr;

use jiff::ToSpan;
use jiff::civil::{Date, ISOWeekDate, Weekday};
use serde::{Deserialize, Serialize};

use crate::meter::zone::Zone;
use crate::model::{Timestamp, Window};

/// A calendar stretch; which instants it covers depends on a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period {
    kind: PeriodKind,
    first: Date,
}

/// How long periods are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeriodKind {
    #[default]
    Month,
    /// From Monday (ISO).
    Week,
    Day,
}

impl PeriodKind {
    /// Every kind.
    pub const ALL: [PeriodKind; 3] = [PeriodKind::Month, PeriodKind::Week, PeriodKind::Day];

    /// The name in config and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            PeriodKind::Month => "month",
            PeriodKind::Week => "week",
            PeriodKind::Day => "day",
        }
    }
}

/// Why a text is no period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeriodError {
    #[error("a period is written like 2026-11, 2026-W48 or 2026-11-22, in the years 0001 to 9999")]
    Syntax,
}

impl Period {
    /// The period of this kind that a date belongs to.
    pub(crate) fn of(kind: PeriodKind, date: Date) -> Self {
        match kind {
            PeriodKind::Month => Self::month_of(date),
            PeriodKind::Week => Self::week_of(date),
            PeriodKind::Day => Self { kind, first: date },
        }
    }

    pub(crate) fn month_of(date: Date) -> Self {
        Self { kind: PeriodKind::Month, first: date.first_of_month() }
    }

    /// The week from Monday.
    pub(crate) fn week_of(date: Date) -> Self {
        let days = i32::from(date.weekday().to_monday_zero_offset());
        Self { kind: PeriodKind::Week, first: date.saturating_sub(days.days()) }
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
        Self { kind: PeriodKind::Day, first: zone.day(at).0 }
    }

    /// Whether it is a month, a week or a day.
    pub fn kind(&self) -> PeriodKind {
        self.kind
    }

    /// Its first date: the 1st, a Monday, or the day itself.
    pub(crate) fn first(&self) -> Date {
        self.first
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

    /// The period before this one; None before year 1.
    pub fn previous(&self) -> Option<Self> {
        self.moved(-1)
    }

    fn moved(&self, by: i32) -> Option<Self> {
        let span = match self.kind {
            PeriodKind::Month => by.months(),
            PeriodKind::Week => by.weeks(),
            PeriodKind::Day => by.days(),
        };
        let first = self.first.checked_add(span).ok().filter(|first| first.year() > 0)?;
        Some(Self { kind: self.kind, first })
    }
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        parse(text).ok_or(PeriodError::Syntax)
    }
}

impl TryFrom<String> for Period {
    type Error = PeriodError;

    fn try_from(text: String) -> Result<Self, PeriodError> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.to_string()
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
            Some(Period { kind: PeriodKind::Week, first: monday.date() })
        }
        (None, None) => {
            let first = Date::new(year, i8::try_from(number(second, 2)?).ok()?, 1).ok()?;
            Some(Period { kind: PeriodKind::Month, first })
        }
        (None, Some(day)) => {
            let (month, day) = (i8::try_from(number(second, 2)?).ok()?, i8::try_from(number(day, 2)?).ok()?);
            Some(Period { kind: PeriodKind::Day, first: Date::new(year, month, day).ok()? })
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
            PeriodKind::Month => write!(f, "{:04}-{:02}", first.year(), first.month()),
            PeriodKind::Week => {
                let week = first.iso_week_date();
                write!(f, "{:04}-W{:02}", week.year(), week.week())
            }
            PeriodKind::Day => write!(f, "{:04}-{:02}-{:02}", first.year(), first.month(), first.day()),
        }
    }
}

#[cfg(test)]
mod tests;
