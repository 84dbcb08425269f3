//! What an account's caps say of so much more usage. Pure.
//!
//! | decides | if |
//! | --- | --- |
//! | the rejecting cap that leaves the least up to its limit | there is one |
//! | the cap that leaves the least up to its hard cap | nothing rejects |
//! | the first cap | none has a hard cap |

use std::cell::OnceCell;

use crate::engine::caps::Verdict;
use crate::engine::state::caps::Account;
use crate::meter::{Cap, CapPeriod};
use crate::model::{Quantity, Window};

/// The totals must be kept up for these stretches; what is not known counts as nothing.
pub fn verdict(account: &Account, quantity: Quantity, bounds: impl Fn(CapPeriod) -> Window) -> Verdict {
    let total = |kind| {
        let bounds = bounds(kind);
        let used = account.total(kind, bounds).map_or(0, |total| total.used);
        Usage { bounds, used, held: account.held(kind, bounds) }
    };
    decide(&account.caps, quantity, total)
}

/// What was used and is held in a stretch of time. Scaled.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub bounds: Window,
    pub used: i128,
    pub held: i128,
}

impl Usage {
    fn taken(&self) -> i128 {
        self.used.saturating_add(self.held)
    }
}

/// `usage`: in the present stretch of each kind.
pub fn decide(caps: &[Cap], quantity: Quantity, usage: impl Fn(CapPeriod) -> Usage) -> Verdict {
    // To find the present period takes longer than all the rest.
    let known: [OnceCell<Usage>; 2] = Default::default();
    let usage = |kind: CapPeriod| *known[kind as usize].get_or_init(|| usage(kind));
    let left = |cap: &Cap, up_to: Quantity| up_to.scaled().saturating_sub(usage(cap.period).taken());
    let rejecting = caps.iter().filter_map(|cap| Some((left(cap, cap.limit()?), cap)));
    let tightest = rejecting.min_by(|(one, a), (other, b)| (one, &a.id).cmp(&(other, &b.id)));
    let allowed = tightest.is_none_or(|(left, _)| quantity <= Quantity::ZERO || quantity.scaled() <= left);
    let with_hard = caps.iter().filter_map(|cap| Some((left(cap, cap.hard?), cap)));
    let least = || with_hard.min_by(|(one, a), (other, b)| (one, &a.id).cmp(&(other, &b.id)));
    let cap = tightest.or_else(least).map(|(_, cap)| cap).or(caps.first());
    let usage = usage(cap.map_or(CapPeriod::Billing, |cap| cap.period));
    let hard = cap.and_then(|cap| cap.hard);
    let soft = cap.into_iter().flat_map(|cap| cap.soft.iter().filter_map(|amount| amount.of(cap.hard)));
    let used = Quantity::from_scaled(usage.used);
    let (soft_ahead, soft_last) = (soft.clone().filter(|amount| *amount > used).min(), soft.max());
    Verdict {
        allowed,
        used,
        held: Quantity::from_scaled(usage.held),
        cap: cap.map(|cap| cap.id.clone()),
        soft: soft_ahead.or(soft_last),
        hard,
        remaining: hard.map(|hard| Quantity::from_scaled(hard.scaled().saturating_sub(usage.taken()).max(0))),
        overage: hard.map_or(Quantity::ZERO, |hard| used.saturating_sub(hard).max(Quantity::ZERO)),
        bounds: usage.bounds,
    }
}
