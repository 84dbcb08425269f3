//! Accounts: a customer's usage of one meter, over all dimensions, beside the caps on it.
//!
//! | part | comes from |
//! | --- | --- |
//! | `caps` | what the log says of plans and customers, resolved |
//! | `fired` | alerts: part of the fold, rows of the store |
//! | `holds` | reservations that are held: part of the fold |
//! | `totals` | the series' counters, added up when someone asks first, then kept up with every event |
//!
//! 1. A total is exactly the sum of the counters that bill, as long as it is there; it can be dropped and added up again.
//! 2. An account stays while it has a series, an alert that may matter, or a hold.
//! 3. Its number never changes meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::meter::{Cap, CapPeriod, Threshold};
use crate::model::{MeterId, Quantity, Seq, Window};

/// No account.
pub const NONE: u32 = u32::MAX;
/// Totals of one account: the present one of each kind, and some that late events go to.
const TOTALS_MAX: usize = 8;

/// An event asks for its totals alone, as a rule: they are what the first two cache lines hold.
#[derive(Debug)]
#[repr(align(64))]
pub struct Account {
    /// Tenant, customer and meter: the beginning of its series' names.
    pub name: Box<[u8]>,
    hash: u64,
    pub meter: MeterId,
    pub caps: Arc<[Cap]>,
    pub totals: SmallVec<[Total; 1]>,
    pub fired: Vec<Fired>,
    /// By the reservation's name.
    pub holds: BTreeMap<Box<[u8]>, Hold>,
    pub series: u32,
}

/// What an account has come to in one stretch of time.
#[derive(Clone, Copy, Debug)]
pub struct Total {
    pub kind: CapPeriod,
    /// No cap of the account is for another kind.
    sole: bool,
    pub bounds: Window,
    /// All scaled as in `Quantity`.
    pub used: i128,
    pub held: i128,
    /// What usage must not exceed.
    limit: i128,
    /// The lowest threshold that has not fired.
    next: i128,
    /// The highest that has.
    floor: i128,
    /// An alert has fired although usage has not reached its threshold.
    refused: bool,
}

/// An alert that was raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    pub kind: CapPeriod,
    pub bounds: Window,
    pub cap: Box<str>,
    pub threshold: Threshold,
    pub generation: u32,
    /// It has not recovered.
    pub active: bool,
    /// It was raised by an event that was refused.
    pub refused: bool,
    /// The record that raised it.
    pub seq: Seq,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    pub quantity: Quantity,
    pub billing: Window,
    pub window: Window,
}

impl Hold {
    pub fn bounds(&self, kind: CapPeriod) -> Window {
        match kind {
            CapPeriod::Billing => self.billing,
            CapPeriod::Window => self.window,
        }
    }
}

impl Fired {
    pub fn is_of(&self, cap: &Cap, bounds: Window) -> bool {
        self.kind == cap.period && self.bounds == bounds && *self.cap == *cap.id
    }
}

impl Total {
    /// Whether this much more would exceed any limit. What was set aside for it is there for it, and what goes beyond that
    /// must fit.
    pub fn exceeds(&self, quantity: i128, hold: Option<&Hold>) -> bool {
        self.would_exceed((quantity, hold), self.limit)
    }

    /// The same for one limit.
    pub fn would_exceed(&self, (quantity, hold): (i128, Option<&Hold>), limit: i128) -> bool {
        let own = hold.map_or(0, |hold| hold.quantity.scaled());
        let own_here = if hold.is_some_and(|hold| hold.bounds(self.kind) == self.bounds) { own } else { 0 };
        let taken = self.used.saturating_add(self.held).saturating_sub(own_here);
        quantity > own && quantity > 0 && taken.saturating_add(quantity) > limit
    }

    /// Whether alerts may be due, now that usage has changed by this much.
    pub fn is_crossed(&self, change: i128) -> bool {
        self.used >= self.next || self.used < self.floor || (self.refused && change < 0)
    }
}

impl Account {
    pub fn has_kind(&self, kind: CapPeriod) -> bool {
        self.caps.iter().any(|cap| cap.period == kind)
    }

    pub fn total(&self, kind: CapPeriod, bounds: Window) -> Option<&Total> {
        self.totals.iter().find(|total| total.kind == kind && total.bounds == bounds)
    }

    /// Whether it is plain from the totals alone that they are kept up for these stretches: most events get no further.
    pub fn is_kept_up(&self, billing: Window, window: Window) -> bool {
        let is_it = |total: &&Total| match total.kind {
            CapPeriod::Billing => total.bounds == billing,
            CapPeriod::Window => total.bounds == window,
        };
        self.totals.iter().find(is_it).is_some_and(|total| total.sole)
    }

    /// Held in a stretch of time.
    pub fn held(&self, kind: CapPeriod, bounds: Window) -> i128 {
        let holds = self.holds.values().filter(|hold| hold.bounds(kind) == bounds);
        holds.fold(0, |sum, hold| sum.saturating_add(hold.quantity.scaled()))
    }

    /// A total that was added up. If there are many, in place of the one that has been there the longest, but for those that are
    /// needed beside it.
    pub fn put_total(&mut self, kind: CapPeriod, bounds: Window, used: i128, needed: &[(CapPeriod, Window)]) {
        let needless = |total: &Total| !needed.contains(&(total.kind, total.bounds));
        if self.totals.len() >= TOTALS_MAX
            && let Some(place) = self.totals.iter().position(needless)
        {
            self.totals.remove(place);
        }
        let held = self.held(kind, bounds);
        let total = Total { kind, sole: false, bounds, used, held, limit: 0, next: 0, floor: 0, refused: false };
        self.totals.push(total);
        self.refresh();
    }

    pub fn put_hold(&mut self, name: &[u8], hold: Hold) {
        self.change_held(&hold, hold.quantity.scaled());
        self.holds.insert(name.into(), hold);
    }

    pub fn end_hold(&mut self, name: &[u8]) -> Option<Hold> {
        let hold = self.holds.remove(name)?;
        self.change_held(&hold, -hold.quantity.scaled());
        Some(hold)
    }

    fn change_held(&mut self, hold: &Hold, change: i128) {
        for total in self.totals.iter_mut().filter(|total| hold.bounds(total.kind) == total.bounds) {
            total.held = total.held.saturating_add(change);
        }
    }

    /// Brings limits and thresholds of all totals up to date: caps or alerts have changed.
    pub fn refresh(&mut self) {
        let mut totals = std::mem::take(&mut self.totals);
        for total in &mut totals {
            (total.limit, total.next, total.floor, total.refused) = (i128::MAX, i128::MAX, i128::MIN, false);
            total.sole = self.caps.iter().all(|cap| cap.period == total.kind);
            for cap in self.caps.iter().filter(|cap| cap.period == total.kind) {
                total.limit = total.limit.min(cap.limit().map_or(i128::MAX, Quantity::scaled));
                for (threshold, amount) in cap.thresholds() {
                    match self.active(cap, total.bounds, threshold) {
                        Some(fired) if fired.refused => total.refused = true,
                        Some(_) => total.floor = total.floor.max(amount.scaled()),
                        None => total.next = total.next.min(amount.scaled()),
                    }
                }
            }
        }
        self.totals = totals;
    }

    pub fn active(&self, cap: &Cap, bounds: Window, threshold: Threshold) -> Option<&Fired> {
        let is_it = |fired: &&Fired| fired.active && fired.threshold == threshold && fired.is_of(cap, bounds);
        self.fired.iter().find(is_it)
    }

    /// Reads what an event asks of an account, so that it is near when the event comes. What it answers means nothing.
    pub fn touch(&self) -> usize {
        self.totals.last().map_or(0, |total| (total.used as usize).wrapping_add(usize::from(total.sole)))
    }

    fn is_needed(&self) -> bool {
        self.series > 0 || !self.fired.is_empty() || !self.holds.is_empty()
    }
}

#[derive(Debug, Default)]
pub struct Accounts {
    by_name: HashTable<u32>,
    slab: Vec<Option<Box<Account>>>,
    free: Vec<u32>,
    /// By meter: how many there are.
    by_meter: BTreeMap<MeterId, u64>,
}

impl Accounts {
    pub fn find(&self, hash: u64, name: &[u8]) -> Option<u32> {
        self.by_name.find(hash, |number| *self.get(*number).name == *name).copied()
    }

    pub fn get(&self, number: u32) -> &Account {
        self.slab[number as usize].as_deref().expect("whoever has its number keeps it")
    }

    pub fn get_mut(&mut self, number: u32) -> &mut Account {
        self.slab[number as usize].as_deref_mut().expect("whoever has its number keeps it")
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Account)> {
        let numbered = self.slab.iter().enumerate();
        numbered.filter_map(|(number, account)| Some((number as u32, account.as_deref()?)))
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// One more than the highest number.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    pub fn at(&self, number: u32) -> Option<&Account> {
        self.slab.get(number as usize)?.as_deref()
    }

    pub fn any_of(&self, meter: MeterId) -> bool {
        self.by_meter.get(&meter).is_some_and(|count| *count > 0)
    }

    /// An account that is not there yet.
    pub fn insert(&mut self, hash: u64, name: &[u8], meter: MeterId, caps: Arc<[Cap]>) -> u32 {
        let (totals, fired) = (SmallVec::new(), Vec::new());
        let (holds, series, name) = (BTreeMap::new(), 0, name.into());
        let account = Some(Box::new(Account { name, hash, meter, caps, totals, fired, holds, series }));
        let number = match self.free.pop() {
            Some(number) => {
                self.slab[number as usize] = account;
                number
            }
            None => {
                self.slab.push(account);
                (self.slab.len() - 1) as u32
            }
        };
        let Self { by_name, slab, .. } = self;
        let hash_of = |number: &u32| slab[*number as usize].as_ref().map_or(0, |account| account.hash);
        by_name.insert_unique(hash, number, hash_of);
        *self.by_meter.entry(meter).or_default() += 1;
        number
    }

    /// Lets an account go that nothing needs any more.
    pub fn release(&mut self, number: u32) {
        let account = self.get(number);
        if account.is_needed() {
            return;
        }
        let (hash, meter) = (account.hash, account.meter);
        if let Ok(entry) = self.by_name.find_entry(hash, |other| *other == number) {
            entry.remove();
        }
        self.slab[number as usize] = None;
        self.free.push(number);
        self.by_meter.entry(meter).and_modify(|count| *count -= 1);
    }
}
