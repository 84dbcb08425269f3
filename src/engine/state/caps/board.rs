//! What checks read, so that they need not wait for the state's lock: the caps and totals of accounts, and the time it is.
//!
//! 1. The writer posts what has changed before a group goes to the journal: a check sees every event that was acknowledged.
//! 2. Each account has a lock of its own, held for as long as it takes to copy its totals, or to decide.
//! 3. What is not here (an account that nobody has checked so far, a stretch that was not added up) is asked of the state.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use dashmap::DashMap;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::Usage;
use crate::meter::{Cap, CapPeriod};
use crate::model::{Timestamp, Window};

/// Accounts that wait to be posted, at most: whoever finds no room asks again with the next check.
const ASKED_MAX: usize = 1 << 16;

/// Shared by an account and by whoever checks it.
pub type Posted = Arc<Mutex<Shown>>;

/// An account as of the newest group.
#[derive(Debug, Default)]
pub struct Shown {
    totals: SmallVec<[(CapPeriod, Usage); 1]>,
    caps: Arc<[Cap]>,
}

#[derive(Debug)]
pub struct Board {
    /// By the account's name.
    accounts: DashMap<Box<[u8]>, Posted>,
    /// The names of accounts that somebody has checked.
    asked: Mutex<HashSet<Box<[u8]>>>,
    now: AtomicI64,
}

impl Default for Board {
    fn default() -> Self {
        Self { accounts: DashMap::new(), asked: Mutex::default(), now: AtomicI64::new(Timestamp::MIN.micros()) }
    }
}

impl Board {
    pub fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now.load(Ordering::Acquire)).unwrap_or(Timestamp::MIN)
    }

    pub fn set_now(&self, now: Timestamp) {
        self.now.store(now.micros(), Ordering::Release);
    }

    pub fn find(&self, name: &[u8]) -> Option<Posted> {
        self.accounts.get(name).map(|found| found.clone())
    }

    /// Has the account posted from the next group on.
    pub fn ask(&self, name: &[u8]) {
        let mut asked = self.asked.lock();
        if asked.len() < ASKED_MAX && !asked.contains(name) {
            asked.insert(name.into());
        }
    }

    /// Up to `limit` of the accounts that were asked for.
    pub fn take_asked(&self, limit: usize) -> Vec<Box<[u8]>> {
        self.asked.lock().extract_if(|_| true).take(limit).collect()
    }

    pub fn post(&self, name: &[u8], posted: Posted) {
        self.accounts.insert(name.into(), posted);
    }

    pub fn remove(&self, name: &[u8]) {
        self.accounts.remove(name);
    }
}

impl Shown {
    pub fn set(&mut self, totals: impl Iterator<Item = (CapPeriod, Usage)>, caps: &Arc<[Cap]>) {
        self.totals.clear();
        self.totals.extend(totals);
        if !Arc::ptr_eq(&self.caps, caps) {
            self.caps = caps.clone();
        }
    }

    pub fn caps(&self) -> &[Cap] {
        &self.caps
    }

    pub fn usage(&self, kind: CapPeriod, bounds: Window) -> Option<Usage> {
        self.totals.iter().find(|(of, usage)| *of == kind && usage.bounds == bounds).map(|(_, usage)| *usage)
    }

    /// Whether all its caps can be decided for these stretches by what is here.
    pub fn is_complete(&self, bounds: impl Fn(CapPeriod) -> Window) -> bool {
        let is_known = |cap: &Cap| self.usage(cap.period, bounds(cap.period)).is_some();
        !self.caps.is_empty() && self.caps.iter().all(is_known)
    }
}
