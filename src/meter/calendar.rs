//! Which billing period holds an instant, by a meter's calendar and a customer's settings.
//!
//! | kind | a period starts with the local day that is … |
//! | --- | --- |
//! | month | the anchor of its month, or the month's last day if that comes before the anchor |
//! | week | a Monday (ISO) |
//! | day | any |
//!
//! A customer's settings are a `Schedule`, a list of eras. An era is in force for the periods whose month (a week's:
//! that of the Monday before it) is `from` or later, up to the next era; before the first one, anchor 1 and the meter's
//! zone are.
//! JSON, with these names for good:
//!
//! ```text
//! {"eras":[{"from":null,"anchor":15,"time_zone":null},{"from":"2026-11","anchor":31,"time_zone":"Asia/Tokyo"}]}
//! ```
//!
//! 1. Periods tile time: one starts where the one before it ends, and is the answer for each of its instants.
//! 2. One period starts each month. Where the zone changes, its start may come before that of the month before (by two
//!    hours at most: zones differ by up to 26); then it waits for that, and the month before has an empty period.
//! 3. A later change never moves a bound up to the end of the present period: usage keeps the period it was counted in.
//! 4. Bounds are kept within the range of `Timestamp`: the first period begins and the last one ends with it.
//! 5. Only the first era is without a `from`, the others' ascend: at most one for each month.

use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::Offset;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::meter::period::{Period, PeriodKind};
use crate::meter::zone::{UnknownZone, Zone};
use crate::model::{Duration, Timestamp, Window};

/// The anchors there are: days of a month.
pub const ANCHORS: std::ops::RangeInclusive<u8> = 1..=31;
const ANCHOR_DEFAULT: u8 = 1;
/// No clock is ahead of this one: zones of the tz database are within 16 hours of UTC, in all of history.
const FURTHEST_AHEAD: Offset = Offset::constant(16);

/// A billing period and the time it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BillingPeriod {
    pub label: Period,
    pub bounds: Window,
}

/// What is known about a customer, as a `CustomerChanged` record holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Customer {
    pub plan: Option<String>,
    pub schedule: Schedule,
}

/// When a customer's billing periods start. Without eras: as each meter's calendar says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    #[serde(deserialize_with = "in_order")]
    eras: Vec<Era>,
}

/// Settings, and from when on they are in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Era {
    /// The first month. None: always.
    pub from: Option<Period>,
    /// The day of the month a month's period starts on. None: the first.
    pub anchor: Option<u8>,
    /// IANA name. None: the zone of the meter's calendar.
    pub time_zone: Option<String>,
}

impl Era {
    fn is_default(&self) -> bool {
        self.anchor.unwrap_or(ANCHOR_DEFAULT) == ANCHOR_DEFAULT && self.time_zone.is_none()
    }

    fn has_settings_of(&self, other: &Era) -> bool {
        let anchor = |era: &Era| era.anchor.unwrap_or(ANCHOR_DEFAULT);
        let same_zone = match (&self.time_zone, &other.time_zone) {
            (Some(zone), Some(other)) => zone.eq_ignore_ascii_case(other),
            (zone, other) => zone == other,
        };
        anchor(self) == anchor(other) && same_zone
    }
}

impl Schedule {
    /// Its eras, oldest first.
    pub fn eras(&self) -> &[Era] {
        &self.eras
    }

    /// The settings that were made last, whether in force already or not; None: the defaults.
    pub fn newest(&self) -> Option<&Era> {
        self.eras.last()
    }

    /// The schedule once these settings replace the present ones.
    ///
    /// For a customer without usage (`used` is false) they hold at once and for all time. Else the present period keeps
    /// its end and the next one its start: the settings are in force from the period after that, so that exactly one
    /// starts each month, and the next one is shorter or longer than a month. Settings that still wait are replaced.
    ///
    /// `default_zone` is the meter's calendar: of several, the one where the present month is latest.
    pub fn changed(
        &self,
        anchor: Option<u8>,
        time_zone: Option<String>,
        now: Timestamp,
        default_zone: &Zone,
        used: bool,
    ) -> Schedule {
        let wanted = Era { from: None, anchor, time_zone };
        if !used {
            let says_something = |era: &Era| era.anchor.is_some() || era.time_zone.is_some();
            return Schedule { eras: Some(wanted).filter(says_something).into_iter().collect() };
        }
        let equals = |era: Option<&Era>| era.map_or(wanted.is_default(), |era| era.has_settings_of(&wanted));
        let resolved = ResolvedSchedule::new(self).ok();
        let calendar = Calendar { kind: PeriodKind::Month, zone: default_zone, schedule: resolved.as_ref() };
        // In the last months of year 9999 there is no period left to change.
        let Some(next) = calendar.period_at(now).label.next() else { return self.clone() };
        if equals(self.newest()) {
            return self.clone();
        }
        let mut eras = self.eras.clone();
        eras.retain(|era| era.from.is_none_or(|from| from <= next));
        if let (false, Some(from)) = (equals(eras.last()), next.next()) {
            eras.push(Era { from: Some(from), ..wanted });
        }
        Schedule { eras }
    }
}

fn in_order<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Era>, D::Error> {
    let eras = Vec::<Era>::deserialize(deserializer)?;
    let is_month = |from: Period| from.kind() == PeriodKind::Month;
    if !eras.iter().all(|era| era.from.is_none_or(is_month) && era.anchor.is_none_or(|day| ANCHORS.contains(&day))) {
        return Err(D::Error::custom("an era starts with a month, and its anchor lies between 1 and 31"));
    }
    // None comes before every month.
    if !eras.is_sorted_by(|a, b| a.from < b.from) {
        return Err(D::Error::custom("eras must be sorted by `from`, each month once"));
    }
    Ok(eras)
}

/// A schedule with its zones looked up.
#[derive(Clone, Debug, Default)]
pub struct ResolvedSchedule {
    eras: Box<[ResolvedEra]>,
}

#[derive(Clone, Debug)]
struct ResolvedEra {
    /// The first of its first month.
    from: Option<Date>,
    anchor: u8,
    zone: Option<Zone>,
}

impl ResolvedSchedule {
    /// Looks up the zones.
    pub fn new(schedule: &Schedule) -> Result<Self, UnknownZone> {
        let resolve = |era: &Era| {
            Ok(ResolvedEra {
                from: era.from.map(|month| month.first()),
                anchor: era.anchor.unwrap_or(ANCHOR_DEFAULT),
                zone: era.time_zone.as_deref().map(Zone::named).transpose()?,
            })
        };
        Ok(Self { eras: schedule.eras.iter().map(resolve).collect::<Result<_, UnknownZone>>()? })
    }
}

/// The billing periods of one meter and one customer.
#[derive(Clone, Copy, Debug)]
pub struct Calendar<'a> {
    pub kind: PeriodKind,
    /// The meter's billing zone.
    pub zone: &'a Zone,
    /// The customer's.
    pub schedule: Option<&'a ResolvedSchedule>,
}

impl Calendar<'_> {
    /// The period that holds `at`.
    pub fn period_at(&self, at: Timestamp) -> BillingPeriod {
        // No stretch holds its end: the last instant there is belongs to the period that ends with it.
        let at = at.min(Timestamp::MAX.saturating_sub(Duration::from_micros(1)));
        let mut label = Period::of(self.kind, FURTHEST_AHEAD.to_datetime(at.to_jiff()).date());
        let mut bounds = Window { start: self.start(label), end: self.end(label) };
        while let (true, Some(before)) = (bounds.start > at, label.previous()) {
            label = before;
            bounds = Window { start: self.start(label), end: bounds.start };
        }
        BillingPeriod { label, bounds }
    }

    /// The time that a period covers; None if it is of another kind.
    ///
    /// Empty if no instant lies in it: a day that the zone left out, or what a change of zone has left nothing of.
    pub fn bounds(&self, label: &Period) -> Option<Window> {
        (label.kind() == self.kind).then(|| Window { start: self.start(*label), end: self.end(*label) })
    }

    fn end(&self, label: Period) -> Timestamp {
        label.next().map_or(Timestamp::MAX, |next| self.start(next))
    }

    /// A start of its own, or that of the period before if the zones of two eras made it the later one. Two periods
    /// before cannot be later: days begin at most 32 hours apart around the world.
    fn start(&self, label: Period) -> Timestamp {
        let Some(before) = label.previous() else { return Timestamp::MIN };
        let (era, era_before) = (self.era(label), self.era(before));
        let start = self.start_in(era, label);
        if era == era_before { start } else { start.max(self.start_in(era_before, before)) }
    }

    /// The era in force for a period, as an index; None before the first.
    ///
    /// A week follows the Monday before it, so that the week in which a month's last day changes a schedule keeps its
    /// end, too.
    fn era(&self, label: Period) -> Option<usize> {
        let eras = &self.schedule?.eras;
        let decides = match self.kind {
            PeriodKind::Week => label.first().saturating_sub(1.week()),
            PeriodKind::Month | PeriodKind::Day => label.first(),
        };
        eras.iter().rposition(|era| era.from.is_none_or(|from| from <= decides))
    }

    fn start_in(&self, era: Option<usize>, label: Period) -> Timestamp {
        let era = era.and_then(|index| self.schedule?.eras.get(index));
        let zone = era.and_then(|era| era.zone.as_ref()).unwrap_or(self.zone);
        let (first, anchor) = (label.first(), era.map_or(ANCHOR_DEFAULT, |era| era.anchor));
        match self.kind {
            PeriodKind::Month => zone.first_instant(day_of_month(first, anchor)),
            PeriodKind::Week | PeriodKind::Day => zone.first_instant(first),
        }
    }
}

/// That day of the month that starts with `first`, or its last.
fn day_of_month(first: Date, day: u8) -> Date {
    let day = day.clamp(*ANCHORS.start(), *ANCHORS.end()).min(first.days_in_month().unsigned_abs());
    first.saturating_add(i64::from(day - 1).days())
}

#[cfg(test)]
mod tests;
