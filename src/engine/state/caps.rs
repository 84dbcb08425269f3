//! Caps, alerts and reservations in the fold.
//!
//! | record | what it changes |
//! | --- | --- |
//! | CapsDefined | the caps that plans have on a meter |
//! | CustomerCapsChanged, CustomerChanged | a customer's own caps, its plan |
//! | AlertRaised, AlertRecovered | the alert's row, a row of the outbox; the threshold has fired, or is armed again |
//! | ReservationHeld, Committed, Released | the reservation; what its account has held |
//! | Tick | reservations whose time has come expire; thresholds of periods that no event can reach any more are forgotten |
//!
//! 1. Whether an event is taken and what it fires was decided by the writer; the fold only notes it.
//! 2. What accounts have used is no row of its own: it is the counters that bill.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::{FoldError, State};
use crate::engine::caps::{Alert, AlertState, Recovered};
use crate::engine::key;
use crate::engine::record::CapsRecord;
use crate::meter::{Cap, CapPeriod, PlanCap, Threshold, caps};
use crate::model::{MeterId, OutboxPosition, Seq, Timestamp, Window};
use crate::store::{Rows, Table};

pub mod accounts;
pub mod board;
pub mod codec;
mod load;
mod reservations;
mod totals;
mod verdict;

pub use accounts::{Account, Fired, Total};
pub use reservations::{Reservations, reservation_name};
pub use verdict::{Usage, decide, verdict};

use accounts::{Accounts, NONE};

/// Accounts that are posted for the first time under one hold of the lock: well under a millisecond.
const POSTED_AT_ONCE: usize = 1_000;

/// Whose hard cap is crossed, by the end of the period: the account, the cap.
type Exceeded = BTreeMap<Timestamp, BTreeSet<(Box<[u8]>, Box<str>)>>;
/// A meter, and a plan.
type Place = (MeterId, Option<Box<str>>);

#[derive(Debug, Default)]
pub struct Caps {
    /// By meter.
    defaults: BTreeMap<MeterId, Vec<PlanCap>>,
    /// By account's name: what customers have instead.
    own: BTreeMap<Box<[u8]>, Vec<Cap>>,
    /// By meter: how many customers have caps of their own.
    own_counts: BTreeMap<MeterId, u64>,
    /// The caps of a plan on a meter, made once for all who have it.
    resolved: HashMap<Place, Arc<[Cap]>>,
    accounts: Accounts,
    reservations: Reservations,
    /// Accounts with alerts, by the end of their periods.
    expiries: BTreeSet<(Timestamp, Box<[u8]>)>,
    /// By meter: hard caps that are crossed, by the end of their periods.
    exceeded: BTreeMap<MeterId, Exceeded>,
    /// Alerts that the store may not have yet: the record, the one that raised it, and what it says.
    recent: VecDeque<(Seq, Seq, Arc<Alert>)>,
    defaults_changed: BTreeSet<MeterId>,
    own_changed: BTreeSet<Box<[u8]>>,
}

impl Caps {
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    #[cfg(test)]
    pub fn accounts_mut(&mut self) -> &mut Accounts {
        &mut self.accounts
    }

    pub fn account(&self, number: u32) -> &Account {
        self.accounts.get(number)
    }

    pub fn reservations(&self) -> &Reservations {
        &self.reservations
    }

    /// What the config says of a meter.
    pub fn defaults(&self, meter: MeterId) -> &[PlanCap] {
        self.defaults.get(&meter).map_or(&[], Vec::as_slice)
    }

    pub fn defined(&self) -> impl Iterator<Item = MeterId> {
        self.defaults.keys().copied()
    }

    /// A customer's own caps.
    pub fn own(&self, account: &[u8]) -> Option<&[Cap]> {
        self.own.get(account).map(Vec::as_slice)
    }

    /// Alerts that the store may not have yet, oldest first: the record, the one that raised it, and what it says.
    pub fn recent_alerts(&self) -> impl Iterator<Item = (Seq, Seq, &Arc<Alert>)> {
        self.recent.iter().map(|(seq, raised, alert)| (*seq, *raised, alert))
    }

    /// How many hard caps of each meter are crossed, in periods that are not over by `now`.
    pub fn exceeded(&self, now: Timestamp) -> impl Iterator<Item = (MeterId, usize)> {
        let present = move |caps: &Exceeded| {
            caps.iter().rev().take_while(|(end, _)| **end > now).map(|(_, caps)| caps.len()).sum()
        };
        self.exceeded.iter().map(move |(meter, caps)| (*meter, present(caps)))
    }

    fn note_exceeded(&mut self, meter: MeterId, name: &[u8], fired: &Fired) {
        if fired.threshold == Threshold::Hard {
            let place = (name.into(), fired.cap.clone());
            let ends = self.exceeded.entry(meter).or_default();
            let caps = ends.entry(fired.bounds.end).or_default();
            if fired.active {
                caps.insert(place)
            } else {
                caps.remove(&place)
            };
            if caps.is_empty() {
                ends.remove(&fired.bounds.end);
            }
        }
    }

    /// Whether any customer may have a cap on the meter, or something is held of it.
    pub fn may_matter(&self, meter: MeterId) -> bool {
        !self.defaults.is_empty() && !self.defaults(meter).is_empty()
            || self.own_counts.get(&meter).is_some_and(|count| *count > 0)
            || self.accounts.any_of(meter)
    }

    /// The changes since the last call, as rows.
    pub fn put_changes(&mut self, rows: &mut Rows) {
        for meter in std::mem::take(&mut self.defaults_changed) {
            rows.put(Table::Meta, &codec::caps_key(meter), &codec::encode_caps(self.defaults(meter)));
        }
        for name in std::mem::take(&mut self.own_changed) {
            match self.own.get(&name) {
                Some(caps) => {
                    rows.put(Table::Meta, &codec::customer_caps_key(&name), &codec::encode_customer_caps(caps))
                }
                None => rows.delete(Table::Meta, &codec::customer_caps_key(&name)),
            }
        }
    }

    /// The store has everything up to `position`.
    pub fn committed(&mut self, position: Seq) {
        let known = self.recent.iter().take_while(|(seq, ..)| *seq <= position).count();
        self.recent.drain(..known);
    }

    fn set_own(&mut self, name: &[u8], meter: MeterId, caps: Option<Vec<Cap>>) {
        let count = self.own_counts.entry(meter).or_default();
        let before = match caps {
            Some(caps) => {
                *count += 1;
                self.own.insert(name.into(), caps)
            }
            None => self.own.remove(name),
        };
        *count -= u64::from(before.is_some());
    }

    /// Usage of an account has changed.
    pub fn add(&mut self, account: u32, (billing, window): (Window, Window), change: i128) {
        for total in self.accounts.get_mut(account).totals.iter_mut() {
            let bounds = match total.kind {
                CapPeriod::Billing => billing,
                CapPeriod::Window => window,
            };
            if total.bounds == bounds {
                total.used = total.used.saturating_add(change);
            }
        }
    }
}

impl State {
    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    /// What a customer's caps on a meter are, by the name of the account.
    pub fn caps_of(&self, name: &[u8], meter: MeterId) -> Arc<[Cap]> {
        let plan = self.plan_of(name);
        match self.caps.own.get(name) {
            Some(own) => own.as_slice().into(),
            None => caps::effective(self.caps.defaults(meter), None, plan.as_deref()).into(),
        }
    }

    pub fn plan_of(&self, name: &[u8]) -> Option<Box<str>> {
        let length = key::customer_prefix_len(name).expect("account names are written by this process");
        self.customers.get(&name[..length])?.plan.as_deref().map(Into::into)
    }

    fn resolve(&mut self, name: &[u8], meter: MeterId) -> Arc<[Cap]> {
        if self.caps.own.contains_key(name) {
            return self.caps_of(name, meter);
        }
        let defaults = self.caps.defaults(meter);
        // Of plans that no cap names there may be any number.
        let is_named = |plan: &str| defaults.iter().any(|default| default.plan.as_deref() == Some(plan));
        let place = (meter, self.plan_of(name).filter(|plan| is_named(plan)));
        if let Some(known) = self.caps.resolved.get(&place) {
            return known.clone();
        }
        let made: Arc<[Cap]> = caps::effective(defaults, None, place.1.as_deref()).into();
        self.caps.resolved.insert(place, made.clone());
        made
    }

    /// The account of this name, made if need be.
    pub fn account_named(&mut self, name: &[u8], meter: MeterId) -> u32 {
        let hash = self.hasher.hash(name);
        if let Some(number) = self.caps.accounts.find(hash, name) {
            return number;
        }
        let caps = self.resolve(name, meter);
        self.make_account(hash, name, meter, caps)
    }

    /// Every series of an account has its number.
    fn make_account(&mut self, hash: u64, name: &[u8], meter: MeterId, caps: Arc<[Cap]>) -> u32 {
        let number = self.caps.accounts.insert(hash, name, meter, caps);
        for series in self.series_of_account(name, meter) {
            self.table.get_mut(series).account = number;
            self.caps.accounts.get_mut(number).series += 1;
        }
        number
    }

    /// Lets checks see what accounts have come to.
    pub fn post(&mut self) {
        for name in self.caps.accounts.board().take_asked(POSTED_AT_ONCE) {
            if let Some(number) = self.find_account(&name) {
                self.caps.accounts.begin_posting(number);
            }
        }
        self.caps.accounts.post();
    }

    pub fn find_account(&self, name: &[u8]) -> Option<u32> {
        self.caps.accounts.find(self.hasher.hash(name), name)
    }

    /// The account that usage of a series counts in, if it has caps or holds; `series` is a whole name.
    pub fn account_for(&mut self, series: &[u8], meter: MeterId) -> Option<u32> {
        if !self.caps.may_matter(meter) || !caps::can_be_capped(&self.definitions[usize::from(meter.0)]) {
            return None;
        }
        let name = key::account_prefix(series);
        let hash = self.hasher.hash(name);
        if let Some(number) = self.caps.accounts.find(hash, name) {
            return Some(number);
        }
        let caps = self.resolve(name, meter);
        (!caps.is_empty()).then(|| self.make_account(hash, name, meter, caps))
    }

    /// Lets an account go if nothing needs it: it was made for an event that was refused.
    pub fn release_account(&mut self, account: u32) {
        self.caps.accounts.release(account);
    }

    /// Puts a series that is not there yet into the table.
    pub(super) fn insert_series(&mut self, hash: u64, name: &[u8], meter: MeterId) -> u32 {
        let account = self.account_for(name, meter);
        let number = self.table.insert(hash, name, meter);
        self.table.get_mut(number).account = account.unwrap_or(NONE);
        account.into_iter().for_each(|account| self.caps.accounts.get_mut(account).series += 1);
        number
    }

    pub(super) fn remove_series(&mut self, number: u32) {
        let account = std::mem::replace(&mut self.table.get_mut(number).account, NONE);
        self.table.remove(number);
        if account != NONE {
            self.caps.accounts.get_mut(account).series -= 1;
            self.caps.accounts.release(account);
        }
    }

    pub(super) fn apply_caps(&mut self, seq: Seq, record: &CapsRecord<'_>) -> Result<(), FoldError> {
        match record {
            CapsRecord::Defined { meter, caps } => self.define_caps(seq, *meter, caps)?,
            CapsRecord::Changed { tenant, customer, meter, caps, .. } => {
                let definition = self.definitions.get(usize::from(meter.0)).ok_or(FoldError::UnknownMeter(seq))?;
                let name = key::account_name(tenant, customer, &definition.slug);
                self.caps.set_own(&name, *meter, caps.clone());
                self.resolve_again(&name, *meter);
                self.caps.own_changed.insert(name.into());
            }
            CapsRecord::Alert(alert) => self.apply_alert(seq, alert)?,
            CapsRecord::Held(reservation) => self.hold(seq, reservation)?,
            CapsRecord::Committed { tenant, id, seq: event, quantity, at } => {
                self.commit_reservation(seq, (tenant, id), (*event, *quantity, *at))?;
            }
            CapsRecord::Released { tenant, id, at } => self.release_reservation(seq, (tenant, id), *at)?,
        }
        Ok(())
    }

    fn define_caps(&mut self, seq: Seq, meter: MeterId, caps: &[PlanCap]) -> Result<(), FoldError> {
        if usize::from(meter.0) >= self.definitions.len() {
            return Err(FoldError::UnknownMeter(seq));
        }
        if caps.is_empty() {
            self.caps.defaults.remove(&meter)
        } else {
            self.caps.defaults.insert(meter, caps.to_vec())
        };
        self.caps.resolved.retain(|(of, _), _| *of != meter);
        self.caps.defaults_changed.insert(meter);
        let names: Vec<Box<[u8]>> = self
            .caps
            .accounts
            .iter()
            .filter(|(_, account)| account.meter == meter)
            .map(|(_, account)| account.name.clone())
            .collect();
        names.iter().for_each(|name| self.resolve_again(name, meter));
        // Series of customers without an account so far.
        for number in 0..self.table.len() as u32 {
            let series = self.table.get(number);
            if series.meter == meter && series.account == NONE && !series.is_empty() {
                let name = series.key.clone();
                self.account_for(&name, meter);
            }
        }
        Ok(())
    }

    /// A customer's caps on a meter may have changed.
    fn resolve_again(&mut self, name: &[u8], meter: MeterId) {
        let caps = self.resolve(name, meter);
        match self.find_account(name) {
            Some(number) => {
                let account = self.caps.accounts.get_mut(number);
                account.caps = caps;
                account.refresh();
            }
            None if caps.is_empty() => {}
            None => {
                let number = self.make_account(self.hasher.hash(name), name, meter, caps);
                self.caps.accounts.release(number);
            }
        }
    }

    /// The series that an account adds up.
    pub(super) fn series_of_account(&self, name: &[u8], meter: MeterId) -> Vec<u32> {
        self.series_up_to((name, meter), usize::MAX).unwrap_or_default()
    }

    /// The same; none if the customer has more series than `limit`.
    pub fn series_up_to(&self, (name, meter): (&[u8], MeterId), limit: usize) -> Option<Vec<u32>> {
        let length = key::customer_prefix_len(name).expect("account names are written by this process");
        let mut found = Vec::new();
        let (mut next, mut looked_at) = (self.table.newest_of_name(&name[..length]), 0);
        while let Some(number) = next {
            if looked_at == limit {
                return None;
            }
            looked_at += 1;
            if self.table.get(number).meter == meter {
                found.push(number);
            }
            next = self.table.older_of_same_customer(number);
        }
        Some(found)
    }

    /// A customer's plan may be another one.
    pub(super) fn resolve_customer_again(&mut self, tenant: &str, customer: &str) {
        let meters: Vec<(MeterId, String)> = self
            .caps
            .defaults
            .keys()
            .map(|meter| (*meter, self.definitions[usize::from(meter.0)].slug.clone()))
            .collect();
        for (meter, slug) in meters {
            self.resolve_again(&key::account_name(tenant, customer, &slug), meter);
        }
    }

    /// A customer's periods are other ones from now on: what was added up by the old ones would look like the present.
    pub(super) fn drop_totals(&mut self, tenant: &str, customer: &str) {
        for number in 0..self.definitions.len() {
            let name = key::account_name(tenant, customer, &self.definitions[number].slug);
            if let Some(account) = self.find_account(&name) {
                self.caps.accounts.get_mut(account).totals.clear();
            }
        }
    }

    /// Whether any quota is set aside for a customer.
    pub fn has_holds(&self, tenant: &str, customer: &str) -> bool {
        self.definitions.iter().any(|definition| {
            let account = self.find_account(&key::account_name(tenant, customer, &definition.slug));
            account.is_some_and(|account| !self.caps.account(account).holds.is_empty())
        })
    }

    fn apply_alert(&mut self, seq: Seq, alert: &Alert) -> Result<(), FoldError> {
        let meter = self.definitions.iter().position(|definition| definition.slug == alert.meter);
        let meter = MeterId(meter.ok_or(FoldError::UnknownMeter(seq))? as u16);
        let name = key::account_name(&alert.tenant, &alert.customer, &alert.meter);
        let number = self.account_named(&name, meter);
        let account = self.caps.accounts.get_mut(number);
        let is_it = |fired: &Fired| fired.is_of(&alert.cap, alert.bounds) && fired.threshold == alert.threshold;
        let place = account.fired.iter().position(is_it);
        let fired = match (alert.state, place) {
            (AlertState::Triggered, place) => {
                let fired = Fired {
                    kind: alert.cap.period,
                    bounds: alert.bounds,
                    cap: alert.cap.id.as_str().into(),
                    threshold: alert.threshold,
                    generation: alert.generation,
                    active: true,
                    refused: alert.event.as_ref().is_some_and(|event| event.seq.is_none()),
                    seq,
                };
                match place {
                    Some(place) => account.fired[place] = fired.clone(),
                    None => account.fired.push(fired.clone()),
                }
                fired
            }
            (AlertState::Recovered, Some(place)) if account.fired[place].active => {
                account.fired[place].active = false;
                account.fired[place].clone()
            }
            (AlertState::Recovered, _) => return Err(FoldError::DoesNotFit(seq)),
        };
        account.refresh();
        self.caps.note_exceeded(meter, &name, &fired);
        self.put_alert_rows(seq, alert, &fired, &name);
        self.caps.expiries.insert((fired.bounds.end, name.into()));
        self.caps.recent.push_back((seq, fired.seq, Arc::new(alert.clone())));
        self.outbox.put_alert(&mut self.epoch, OutboxPosition::new(seq, 0), alert);
        Ok(())
    }

    fn put_alert_rows(&mut self, seq: Seq, alert: &Alert, fired: &Fired, name: &[u8]) {
        let key = codec::threshold_key(name, fired);
        self.epoch.add_row(Table::Thresholds, &key, &codec::encode_threshold(fired));
        match alert.state {
            AlertState::Triggered => {
                let key = codec::alert_key(&alert.tenant, seq);
                self.epoch.add_row(Table::Alerts, &key, &codec::encode_alert(alert));
                let index = codec::customer_alert_key(&alert.tenant, &alert.customer, seq);
                self.epoch.add_row(Table::Alerts, &index, &[]);
            }
            AlertState::Recovered => {
                let recovered = Recovered { seq, at: alert.at, used: alert.used };
                let key = codec::recovered_key(&alert.tenant, fired.seq);
                self.epoch.add_row(Table::Alerts, &key, &codec::encode_recovered(&recovered));
            }
        }
    }

    /// Forgets the thresholds of periods that no event can reach any more.
    pub(super) fn forget_thresholds(&mut self) {
        let Some(forgotten) = self.clock.forgotten() else { return };
        while self.caps.expiries.first().is_some_and(|(end, _)| *end <= forgotten) {
            let Some((_, name)) = self.caps.expiries.pop_first() else { return };
            let Some(number) = self.find_account(&name) else { continue };
            let account = self.caps.accounts.get_mut(number);
            // A commit of what is held may still count there.
            let holds = &account.holds;
            let is_held = |fired: &Fired| holds.values().any(|hold| hold.bounds(fired.kind) == fired.bounds);
            let is_gone = |fired: &Fired| fired.bounds.end <= forgotten && !is_held(fired);
            let (gone, kept) = account.fired.drain(..).partition(is_gone);
            account.fired = kept;
            account.refresh();
            let (gone, meter): (Vec<Fired>, MeterId) = (gone, account.meter);
            for mut fired in gone {
                fired.active = false;
                self.caps.note_exceeded(meter, &name, &fired);
                self.epoch.delete_row(Table::Thresholds, &codec::threshold_key(&name, &fired));
            }
            self.caps.accounts.release(number);
        }
    }
}
