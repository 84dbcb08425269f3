//! Who is nearest to a hard cap: for the few time series that name customers.
//!
//! 1. All accounts are walked, a slice under each hold of the lock: it is never held for longer than about a millisecond.
//! 2. What comes and goes meanwhile may be missed; no account is named twice.
//! 3. An account without an event since the start whose customer has very many series is left out until its next event.

use super::View;
use crate::engine::key;
use crate::engine::state::State;
use crate::engine::state::caps::Account;
use crate::meter::CapPeriod;
use crate::model::Timestamp;

/// Accounts and series that are looked at under one hold of the lock.
const SLICE: usize = 2_000;
/// What it costs to find an account's present period, in accounts.
const PLACE_COST: usize = 20;
/// Series that one account is added up from, at most.
const SERIES_MAX: usize = 1_000;

/// An account, and which part of a hard cap it has used in the present period.
#[derive(Clone, Debug, PartialEq)]
pub struct NearCap {
    pub tenant: String,
    pub customer: String,
    pub meter: String,
    /// Of several hard caps the greatest.
    pub ratio: f64,
}

/// The accounts nearest to their hard caps, nearest first, and the greatest ratio of all others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NearestCaps {
    pub top: Vec<NearCap>,
    pub other: Option<f64>,
}

impl View {
    /// The `limit` accounts that have used the greatest part of a hard cap in its present period. Takes as long as a walk over all
    /// accounts: not for the request path.
    pub fn nearest_caps(&self, limit: usize) -> NearestCaps {
        let (mut nearest, mut next) = (NearestCaps::default(), 0);
        loop {
            let state = self.state.read();
            let (accounts, now, mut left) = (state.caps().accounts(), state.now(), SLICE);
            while left > 0 && next < accounts.len() as u32 {
                left -= 1;
                if let Some(account) = accounts.at(next)
                    && let Some(ratio) = self.ratio(&state, account, (now, &mut left))
                {
                    nearest.offer(account, ratio, limit);
                }
                next += 1;
            }
            if next >= accounts.len() as u32 {
                return nearest;
            }
        }
    }

    /// None: it has no hard cap, or is left out. `left`: what may still be looked at.
    fn ratio(&self, state: &State, account: &Account, (now, left): (Timestamp, &mut usize)) -> Option<f64> {
        self.batches.0.meters.get(account.meter).filter(|meter| !meter.retired)?;
        let mut known: [Option<i128>; 2] = [None; 2];
        let mut greatest: Option<f64> = None;
        for cap in account.caps.iter() {
            let Some(hard) = cap.hard.map(|hard| hard.scaled()).filter(|hard| *hard > 0) else { continue };
            let known = &mut known[cap.period as usize];
            if known.is_none() {
                *known = self.used(state, account, (cap.period, now), left);
            }
            let ratio = (*known)?.max(0) as f64 / hard as f64;
            greatest = Some(greatest.map_or(ratio, |greatest| greatest.max(ratio)));
        }
        greatest
    }

    fn used(
        &self,
        state: &State,
        account: &Account,
        (kind, now): (CapPeriod, Timestamp),
        left: &mut usize,
    ) -> Option<i128> {
        let kept = account.totals.iter().find(|total| total.kind == kind && total.bounds.contains(now));
        if let Some(total) = kept {
            return Some(total.used);
        }
        let series = state.series_up_to((&account.name, account.meter), SERIES_MAX);
        *left = left.saturating_sub(series.as_ref().map_or(SERIES_MAX, Vec::len).max(PLACE_COST));
        let (period, window) = self.batches.place_of(&account.name, account.meter, now);
        let bounds = if kind == CapPeriod::Billing { period.bounds } else { window };
        Some(state.used_of(&series?, kind, bounds))
    }
}

impl NearestCaps {
    fn offer(&mut self, account: &Account, ratio: f64, limit: usize) {
        let is_full = self.top.len() == limit;
        let is_near = self.top.last().is_none_or(|last| ratio > last.ratio);
        if limit == 0 || (is_full && !is_near) {
            self.pass_over(ratio);
            return;
        }
        let Some((tenant, customer, meter)) = key::split_account(&account.name) else { return };
        let is_it = |near: &NearCap| near.customer == customer && near.meter == meter && near.tenant == tenant;
        // It went and came back with another number while the walk was under way.
        if let Some(place) = self.top.iter().position(is_it) {
            self.top.remove(place);
        }
        let place = self.top.partition_point(|near| near.ratio >= ratio);
        let (tenant, customer, meter) = (tenant.to_owned(), customer.to_owned(), meter.to_owned());
        self.top.insert(place, NearCap { tenant, customer, meter, ratio });
        if self.top.len() > limit
            && let Some(last) = self.top.pop()
        {
            self.pass_over(last.ratio);
        }
    }

    fn pass_over(&mut self, ratio: f64) {
        self.other = Some(self.other.map_or(ratio, |other| other.max(ratio)));
    }
}
