//! The billing periods that the log has named, each by a number.
//!
//! 1. A period is told by its tenant, its name and its bounds: customers with an anchor of their own have other bounds
//!    under the same name.
//! 2. Numbers are given in the order in which the log names periods, so they are the same wherever it is folded.

use std::collections::BTreeMap;

use crate::meter::{BillingPeriod, Period};
use crate::model::{Seq, Timestamp};

/// A billing period's number in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeriodId(pub u32);

/// What is known of a period as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeriodInfo {
    pub tenant: Box<str>,
    pub period: BillingPeriod,
    /// Period counters that are not final.
    pub open: u64,
    /// The record that changed any of its numbers last.
    pub changed: Seq,
}

/// Entries of `changed`, beyond two for each period, before those that are there twice are dropped.
const CHANGED_MAX: usize = 1_000;

/// Name, start, end.
type Place = (Period, Timestamp, Timestamp);

#[derive(Debug, Default)]
pub struct Periods {
    infos: Vec<PeriodInfo>,
    /// By tenant.
    numbers: BTreeMap<Box<str>, BTreeMap<Place, PeriodId>>,
    /// Changed since the store last took over.
    changed: Vec<PeriodId>,
}

impl Periods {
    pub fn get(&self, id: PeriodId) -> &PeriodInfo {
        &self.infos[id.0 as usize]
    }

    pub fn find(&self, tenant: &str, period: &BillingPeriod) -> Option<PeriodId> {
        self.numbers.get(tenant)?.get(&place(period)).copied()
    }

    /// The period's number; a new one if it was not named before.
    pub fn number(&mut self, tenant: &str, period: &BillingPeriod) -> PeriodId {
        if let Some(known) = self.find(tenant, period) {
            return known;
        }
        let id = PeriodId(u32::try_from(self.infos.len()).expect("far fewer periods than 2^32"));
        self.infos.push(PeriodInfo { tenant: tenant.into(), period: *period, open: 0, changed: Seq::ZERO });
        self.numbers.entry(tenant.into()).or_default().insert(place(period), id);
        id
    }

    /// The periods of a tenant under one name: more than one if customers have anchors of their own.
    pub fn named(&self, tenant: &str, label: Period) -> impl Iterator<Item = PeriodId> {
        let first = (label, Timestamp::MIN, Timestamp::MIN);
        let last = (label, Timestamp::MAX, Timestamp::MAX);
        self.numbers.get(tenant).into_iter().flat_map(move |periods| periods.range(first..=last).map(|(_, id)| *id))
    }

    /// Every period of a tenant.
    pub fn of(&self, tenant: &str) -> impl Iterator<Item = &PeriodInfo> {
        self.numbers.get(tenant).into_iter().flat_map(|periods| periods.values().map(|id| self.get(*id)))
    }

    pub fn iter(&self) -> impl Iterator<Item = (PeriodId, &PeriodInfo)> {
        self.infos.iter().enumerate().map(|(number, info)| (PeriodId(number as u32), info))
    }

    /// A counter of this period came or became final, or a number of it changed.
    pub fn change(&mut self, id: PeriodId, open: i64, seq: Seq) {
        let info = &mut self.infos[id.0 as usize];
        info.open = info.open.checked_add_signed(open).expect("what is closed was open");
        if info.changed != seq || open != 0 {
            info.changed = seq;
            if self.changed.last() != Some(&id) {
                self.changed.push(id);
                if self.changed.len() >= self.infos.len() * 2 + CHANGED_MAX {
                    self.changed = self.take_changed();
                }
            }
        }
    }

    /// The periods that changed since the last call.
    pub fn take_changed(&mut self) -> Vec<PeriodId> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    /// Puts back what the store kept; in order of number. None if a number is left out.
    pub fn restore(&mut self, id: PeriodId, info: PeriodInfo) -> Option<()> {
        (id.0 as usize == self.infos.len()).then_some(())?;
        self.numbers.entry(info.tenant.clone()).or_default().insert(place(&info.period), id);
        self.infos.push(info);
        Some(())
    }
}

fn place(period: &BillingPeriod) -> Place {
    (period.label, period.bounds.start, period.bounds.end)
}
