//! Accounts: a customer's usage of one meter, over all dimensions, beside the caps on it.
//!
//! | part | comes from |
//! | --- | --- |
//! | `caps` | what the log says of plans and customers, resolved |
//! | `fired` | alerts: part of the fold, rows of the store |
//! | `holds` | reservations that are held: part of the fold |
//! | `totals` | the series' counters, added up when someone asks first, then kept up with every event |
//!
//! Most events change one total, which is far from anything that it could exceed or cross: that takes one cache line of an
//! account, and the writer asks no more.
//!
//! 1. A total is exactly the sum of the counters that bill, as long as it is there; it can be dropped and added up again.
//! 2. An account stays while it has a series, an alert that may matter, or a hold.
//! 3. Its number never changes meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashTable;

use super::Usage;
use super::board::{Board, Posted};
use crate::meter::{Cap, CapPeriod, Threshold};
use crate::model::{MeterId, Quantity, Seq, Window};

/// No account.
pub const NONE: u32 = u32::MAX;
/// Totals of one account: the present one of each kind, and some that late events go to.
const TOTALS_MAX: usize = 8;
const CHUNK: usize = 1 << 10;

#[derive(Debug)]
#[repr(C, align(64))]
pub struct Account {
    pub totals: Totals,
    /// What checks see of it, from the first one on.
    posted: Option<Posted>,
    /// It may have changed since.
    is_stale: bool,
    /// Tenant, customer and meter: the beginning of its series' names. Empty: nobody has this number.
    pub name: Box<[u8]>,
    hash: u64,
    pub meter: MeterId,
    pub caps: Arc<[Cap]>,
    pub fired: Vec<Fired>,
    /// By the reservation's name.
    pub holds: BTreeMap<Box<[u8]>, Hold>,
    pub series: u32,
}

/// An account's totals. The one of the latest stretch stands apart, where the account begins.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub struct Totals {
    latest: Option<Total>,
    /// Those of earlier stretches and of the other kind, oldest first.
    rest: Vec<Total>,
}

/// What an account has come to in one stretch of time. Quantities are scaled as in `Quantity`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Total {
    pub used: i128,
    /// Usage below this is neither refused nor crosses a threshold upwards.
    quiet: i128,
    pub bounds: Window,
    pub kind: CapPeriod,
    /// No cap of the account is for another kind.
    sole: bool,
    /// An alert has fired although usage has not reached its threshold.
    refused: bool,
    pub held: i128,
    /// What usage must not exceed.
    limit: i128,
    /// The lowest threshold that has not fired.
    next: i128,
    /// The highest that has.
    floor: i128,
}

impl Totals {
    pub fn iter(&self) -> impl Iterator<Item = &Total> {
        self.latest.iter().chain(&self.rest)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Total> {
        self.latest.iter_mut().chain(&mut self.rest)
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// If there are many, in place of the one that has been there the longest, but for those that are needed beside it.
    fn push(&mut self, total: Total, needed: &[(CapPeriod, Window)]) {
        let needless = |total: &Total| !needed.contains(&(total.kind, total.bounds));
        if self.rest.len() + 1 >= TOTALS_MAX
            && let Some(place) = self.rest.iter().position(needless)
        {
            self.rest.remove(place);
        }
        let is_latest = self.latest.is_none_or(|latest| latest.bounds.end <= total.bounds.end);
        let other = if is_latest { self.latest.replace(total) } else { Some(total) };
        self.rest.extend(other);
    }
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

    /// What was derived from limits, thresholds and holds, anew.
    fn settle(&mut self) {
        self.quiet = self.next.min(self.limit.saturating_sub(self.held).saturating_add(1));
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

    /// Whether it is plain from the latest total alone that nothing comes of this change but the change: it is kept up, no cap
    /// refuses it, and no alert is due. Most events get no further.
    pub fn is_quiet(&self, (billing, window): (Window, Window), change: i128) -> bool {
        self.totals.latest.as_ref().is_some_and(|total| {
            let bounds = if total.kind == CapPeriod::Billing { billing } else { window };
            total.sole && total.bounds == bounds && change >= 0 && total.used.saturating_add(change) < total.quiet
        })
    }

    /// Held in a stretch of time.
    pub fn held(&self, kind: CapPeriod, bounds: Window) -> i128 {
        let holds = self.holds.values().filter(|hold| hold.bounds(kind) == bounds);
        holds.fold(0, |sum, hold| sum.saturating_add(hold.quantity.scaled()))
    }

    /// A total that was added up; `needed` are the stretches that are asked for together with it.
    pub fn put_total(&mut self, kind: CapPeriod, bounds: Window, used: i128, needed: &[(CapPeriod, Window)]) {
        let (held, sole, refused) = (self.held(kind, bounds), false, false);
        let total = Total { used, quiet: 0, bounds, kind, sole, refused, held, limit: 0, next: 0, floor: 0 };
        self.totals.push(total, needed);
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
            total.settle();
        }
    }

    /// Brings limits and thresholds of all totals up to date: caps or alerts have changed.
    pub fn refresh(&mut self) {
        let mut totals = std::mem::take(&mut self.totals);
        for total in totals.iter_mut() {
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
            total.settle();
        }
        self.totals = totals;
    }

    pub fn active(&self, cap: &Cap, bounds: Window, threshold: Threshold) -> Option<&Fired> {
        let is_it = |fired: &&Fired| fired.active && fired.threshold == threshold && fired.is_of(cap, bounds);
        self.fired.iter().find(is_it)
    }

    /// Reads what an event asks of an account, so that it is near when the event comes. What it answers means nothing.
    pub fn touch(&self) -> usize {
        self.totals.latest.as_ref().map_or(0, |total| total.used as usize)
    }

    pub fn is_posted(&self) -> bool {
        self.posted.is_some()
    }

    fn post(&mut self) {
        self.is_stale = false;
        if let Some(posted) = &self.posted {
            let usage =
                |total: &Total| (total.kind, Usage { bounds: total.bounds, used: total.used, held: total.held });
            posted.lock().set(self.totals.iter().map(usage), &self.caps);
        }
    }

    fn is_needed(&self) -> bool {
        self.series > 0 || !self.fired.is_empty() || !self.holds.is_empty()
    }
}

#[derive(Debug, Default)]
pub struct Accounts {
    by_name: HashTable<u32>,
    /// Grown by chunks: an account is never moved.
    chunks: Vec<Vec<Account>>,
    free: Vec<u32>,
    /// Those that may have changed since they were posted.
    stale: Vec<u32>,
    board: Arc<Board>,
    /// By meter: how many there are.
    by_meter: BTreeMap<MeterId, u64>,
}

impl Accounts {
    pub fn find(&self, hash: u64, name: &[u8]) -> Option<u32> {
        self.by_name.find(hash, |number| *self.get(*number).name == *name).copied()
    }

    /// Whoever has its number keeps it.
    pub fn get(&self, number: u32) -> &Account {
        at(&self.chunks, number)
    }

    /// Whatever changes an account comes by here.
    pub fn get_mut(&mut self, number: u32) -> &mut Account {
        let account = at_mut(&mut self.chunks, number);
        if account.posted.is_some() && !std::mem::replace(&mut account.is_stale, true) {
            self.stale.push(number);
        }
        account
    }

    /// From here on checks see what the account comes to.
    pub fn begin_posting(&mut self, number: u32) {
        let account = at_mut(&mut self.chunks, number);
        if account.posted.is_none() {
            self.board.post(&account.name, account.posted.insert(Posted::default()).clone());
            account.post();
        }
    }

    /// Lets checks see what has changed.
    pub fn post(&mut self) {
        for number in self.stale.drain(..) {
            at_mut(&mut self.chunks, number).post();
        }
    }

    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Account)> {
        (0..self.len() as u32).filter_map(|number| Some((number, self.at(number)?)))
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// One more than the highest number.
    pub fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    /// None: nobody has this number.
    pub fn at(&self, number: u32) -> Option<&Account> {
        let account = self.chunks.get(number as usize / CHUNK)?.get(number as usize % CHUNK)?;
        (!account.name.is_empty()).then_some(account)
    }

    pub fn any_of(&self, meter: MeterId) -> bool {
        self.by_meter.get(&meter).is_some_and(|count| *count > 0)
    }

    /// An account that is not there yet.
    pub fn insert(&mut self, hash: u64, name: &[u8], meter: MeterId, caps: Arc<[Cap]>) -> u32 {
        let (totals, fired) = (Totals::default(), Vec::new());
        let (holds, series, name) = (BTreeMap::new(), 0, name.into());
        let (posted, is_stale) = (None, false);
        let account = Account { totals, is_stale, posted, name, hash, meter, caps, fired, holds, series };
        let number = match self.free.pop() {
            Some(number) => {
                *self.get_mut(number) = account;
                number
            }
            None => {
                let number = self.len() as u32;
                if self.chunks.last().is_none_or(|last| last.len() == CHUNK) {
                    self.chunks.push(Vec::with_capacity(CHUNK));
                }
                self.chunks.last_mut().expect("just pushed").push(account);
                number
            }
        };
        let Self { by_name, chunks, .. } = self;
        by_name.insert_unique(hash, number, |&other| at(chunks, other).hash);
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
        let account = self.get_mut(number);
        let name = std::mem::take(&mut account.name);
        (account.posted, account.caps) = (None, Arc::default());
        account.totals.clear();
        self.board.remove(&name);
        self.free.push(number);
        self.by_meter.entry(meter).and_modify(|count| *count -= 1);
    }
}

fn at_mut(chunks: &mut [Vec<Account>], number: u32) -> &mut Account {
    &mut chunks[number as usize / CHUNK][number as usize % CHUNK]
}

fn at(chunks: &[Vec<Account>], number: u32) -> &Account {
    &chunks[number as usize / CHUNK][number as usize % CHUNK]
}
