//! Which window holds an instant.
//!
//! | length | window |
//! | --- | --- |
//! | `1s` … `12h` | n-th stretch of elapsed time since the local day began, the last one cut where the day ends |
//! | `1d` | local day: 23 or 25 hours long when the clock changes |
//! | `1w` | Monday to Monday (ISO), cut in two where a month begins |
//! | `1mo` | calendar month |
//!
//! 1. Windows tile time: one starts where the one before it ends, whatever the clock does.
//! 2. No window reaches over the end of a calendar month of its zone: a billing period is a sum of whole windows.
//! 3. In UTC, windows of a day or less cost a division: this is on every event's way.
//! 4. Bounds are kept within the range of `Timestamp`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::meter::period::Period;
use crate::meter::zone::Zone;
use crate::model::{Duration, Timestamp, Window};

const DAY_SECS: u32 = 86_400;
const DAY_MICROS: i64 = DAY_SECS as i64 * 1_000_000;

/// How long a meter's windows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum WindowLength {
    /// `1s` to `12h`.
    Fixed(SubDay),
    Day,
    Week,
    Month,
}

/// Whole seconds that divide a day and are less than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubDay {
    secs: u32,
}

/// Why a text is no window length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowLengthError {
    #[error("a window is written like \"90s\", \"15m\", \"1h\", \"1d\", \"1w\" or \"1mo\"")]
    Syntax,
    #[error("a window of seconds, minutes or hours must divide a day and be shorter than one; write \"1d\" for a day")]
    DoesNotDivideADay,
    #[error("the only windows of a day or more are \"1d\", \"1w\" and \"1mo\"")]
    TooLong,
}

impl SubDay {
    /// Refuses what does not divide a day, and a day itself.
    pub fn from_secs(secs: u32) -> Result<Self, WindowLengthError> {
        let fits = (1..DAY_SECS).contains(&secs) && DAY_SECS.is_multiple_of(secs);
        if fits { Ok(Self { secs }) } else { Err(WindowLengthError::DoesNotDivideADay) }
    }

    /// Its length.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.secs.into())
    }

    fn micros(self) -> i64 {
        i64::from(self.secs) * 1_000_000
    }
}

impl FromStr for WindowLength {
    type Err = WindowLengthError;

    fn from_str(text: &str) -> Result<Self, WindowLengthError> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (count, unit) = text.split_at(digits);
        let count: u32 = count.parse().map_err(|_| WindowLengthError::Syntax)?;
        let unit_secs = match (unit, count) {
            ("s", _) => 1,
            ("m", _) => 60,
            ("h", _) => 3_600,
            ("d", 1) => return Ok(WindowLength::Day),
            ("w", 1) => return Ok(WindowLength::Week),
            ("mo", 1) => return Ok(WindowLength::Month),
            ("d" | "w" | "mo", _) => return Err(WindowLengthError::TooLong),
            _ => return Err(WindowLengthError::Syntax),
        };
        let secs = count.checked_mul(unit_secs).ok_or(WindowLengthError::DoesNotDivideADay)?;
        SubDay::from_secs(secs).map(WindowLength::Fixed)
    }
}

/// The shortest text: `1h`, never `60m`.
impl fmt::Display for WindowLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WindowLength::Fixed(SubDay { secs }) if secs.is_multiple_of(3_600) => write!(f, "{}h", secs / 3_600),
            WindowLength::Fixed(SubDay { secs }) if secs.is_multiple_of(60) => write!(f, "{}m", secs / 60),
            WindowLength::Fixed(SubDay { secs }) => write!(f, "{secs}s"),
            WindowLength::Day => f.write_str("1d"),
            WindowLength::Week => f.write_str("1w"),
            WindowLength::Month => f.write_str("1mo"),
        }
    }
}

impl TryFrom<String> for WindowLength {
    type Error = WindowLengthError;

    fn try_from(text: String) -> Result<Self, WindowLengthError> {
        text.parse()
    }
}

impl From<WindowLength> for String {
    fn from(length: WindowLength) -> Self {
        length.to_string()
    }
}

/// The windows of one meter: a length in a zone.
#[derive(Clone, Debug)]
pub struct Windows {
    /// Set where windows are plain arithmetic: UTC, a day or less.
    step_micros: Option<i64>,
    length: WindowLength,
    zone: Zone,
}

impl Windows {
    /// Windows of this length, aligned to the calendar of this zone.
    pub fn new(length: WindowLength, zone: Zone) -> Self {
        let step_micros = match length {
            WindowLength::Fixed(length) => Some(length.micros()),
            WindowLength::Day => Some(DAY_MICROS),
            WindowLength::Week | WindowLength::Month => None,
        };
        Self { step_micros: step_micros.filter(|_| zone.is_utc()), length, zone }
    }

    /// The length they were made with.
    pub fn length(&self) -> WindowLength {
        self.length
    }

    /// The zone they are aligned to.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The window that holds `at`.
    pub fn window(&self, at: Timestamp) -> Window {
        match self.step_micros {
            Some(step) => step_of(Timestamp::EPOCH, at, step),
            None => self.calendar_window(at),
        }
    }

    /// The same, asking the calendar only when `at` lies outside the last answer, which the caller keeps per meter.
    pub fn window_cached(&self, at: Timestamp, last: &mut Option<Window>) -> Window {
        if let Some(step) = self.step_micros {
            return step_of(Timestamp::EPOCH, at, step);
        }
        match *last {
            Some(window) if window.contains(at) => window,
            _ => *last.insert(self.calendar_window(at)),
        }
    }

    fn calendar_window(&self, at: Timestamp) -> Window {
        let (date, day) = self.zone.day(at);
        match self.length {
            WindowLength::Fixed(length) => {
                let step = step_of(day.start, at, length.micros());
                Window { start: step.start, end: step.end.min(day.end) }
            }
            WindowLength::Day => day,
            WindowLength::Month => Period::month_of(date).bounds(&self.zone),
            WindowLength::Week => {
                let (week, month) =
                    (Period::week_of(date).bounds(&self.zone), Period::month_of(date).bounds(&self.zone));
                Window { start: week.start.max(month.start), end: week.end.min(month.end) }
            }
        }
    }
}

/// The stretch of `step` microseconds, counted from `origin`, that holds `at`.
#[inline]
fn step_of(origin: Timestamp, at: Timestamp, step: i64) -> Window {
    let start = at.micros() - (at.micros() - origin.micros()).rem_euclid(step);
    Window {
        start: Timestamp::from_micros(start).unwrap_or(Timestamp::MIN),
        end: Timestamp::from_micros(start + step).unwrap_or(Timestamp::MAX),
    }
}

#[cfg(test)]
mod tests;
