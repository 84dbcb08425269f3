//! Reservations in the fold: quota that is set aside until it is used, given back, or its time has come.
//!
//! 1. All that are held are known, and the newest [`ENDED_KEPT`] that have ended.
//! 2. One expires with the first Tick that has reached its time: the log says when, not the clock.

use std::collections::{BTreeMap, BTreeSet};

use super::codec;
use crate::engine::caps::{Reservation, ReservationState};
use crate::engine::key;
use crate::engine::state::caps::accounts::Hold;
use crate::engine::state::{FoldError, State};
use crate::model::{Quantity, Seq, Timestamp};
use crate::store::Table;

/// Reservations that are remembered once they have ended.
const ENDED_KEPT: usize = 100_000;

#[derive(Debug, Default)]
pub struct Reservations {
    /// By tenant and id.
    all: BTreeMap<Box<[u8]>, Reservation>,
    /// Those that are held, by when they expire.
    held: BTreeSet<(Timestamp, Box<[u8]>)>,
    /// The same by name.
    open: BTreeSet<Box<[u8]>>,
    /// The others, by when they ended.
    ended: BTreeSet<(Timestamp, Box<[u8]>)>,
}

/// A reservation's name: its tenant and id.
pub fn reservation_name(tenant: &str, id: &str) -> Vec<u8> {
    codec::reservation_key(tenant, id)
}

fn ended_at(reservation: &Reservation) -> Option<Timestamp> {
    match reservation.state {
        ReservationState::Held => None,
        ReservationState::Committed { at, .. }
        | ReservationState::Released { at }
        | ReservationState::Expired { at } => Some(at),
    }
}

impl Reservations {
    pub fn get(&self, name: &[u8]) -> Option<&Reservation> {
        self.all.get(name)
    }

    pub fn held_len(&self) -> usize {
        self.held.len()
    }

    /// When the next of them expires.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.held.first().map(|(at, _)| *at)
    }

    /// Those of a tenant that are held, after this id, in order.
    pub fn held_by(&self, tenant: &str, after: Option<&str>) -> impl Iterator<Item = &Reservation> {
        let prefix = reservation_name(tenant, "");
        let first: Box<[u8]> = reservation_name(tenant, after.unwrap_or_default()).into();
        let after = after.map(|_| first.clone());
        let of_tenant = self.open.range(first..).take_while(move |name| name.starts_with(&prefix));
        of_tenant.filter(move |name| after.as_ref() != Some(name)).filter_map(|name| self.all.get(name))
    }

    /// All that are known, by name.
    #[cfg(test)]
    pub fn all(&self) -> impl Iterator<Item = &Reservation> {
        self.all.values()
    }

    pub(super) fn insert(&mut self, name: &[u8], reservation: Reservation) {
        match ended_at(&reservation) {
            None => self.open.insert(name.into()) && self.held.insert((reservation.expires_at, name.into())),
            Some(at) => self.ended.insert((at, name.into())),
        };
        self.all.insert(name.into(), reservation);
    }
}

impl State {
    pub(super) fn hold(&mut self, seq: Seq, reservation: &Reservation) -> Result<(), FoldError> {
        let name = reservation_name(reservation.tenant.as_str(), &reservation.id);
        if self.caps.reservations.all.contains_key(name.as_slice()) {
            return Err(FoldError::DoesNotFit(seq));
        }
        self.put_hold(seq, &name, reservation)?;
        self.epoch.add_row(Table::Reservations, &name, &codec::encode_reservation(reservation));
        self.caps.reservations.insert(&name, reservation.clone());
        Ok(())
    }

    /// Notes in the account what a reservation holds of it.
    pub(super) fn put_hold(&mut self, seq: Seq, name: &[u8], reservation: &Reservation) -> Result<(), FoldError> {
        let account = self.account_of(seq, reservation)?;
        let account = self.caps.accounts.get_mut(account);
        let Reservation { quantity, period, window, .. } = *reservation;
        account.put_hold(name, Hold { quantity, billing: period.bounds, window });
        Ok(())
    }

    fn account_of(&mut self, seq: Seq, reservation: &Reservation) -> Result<u32, FoldError> {
        let meter = reservation.meter;
        let definition = self.definitions.get(usize::from(meter.0)).ok_or(FoldError::UnknownMeter(seq))?;
        let name = key::account_name(reservation.tenant.as_str(), &reservation.customer, &definition.slug);
        Ok(self.account_named(&name, meter))
    }

    pub(super) fn commit_reservation(
        &mut self,
        seq: Seq,
        (tenant, id): (&str, &str),
        (event, quantity, at): (Seq, Quantity, Timestamp),
    ) -> Result<(), FoldError> {
        let state = ReservationState::Committed { seq: event, quantity, at };
        self.end_reservation(seq, &reservation_name(tenant, id), state)
    }

    pub(super) fn release_reservation(
        &mut self,
        seq: Seq,
        (tenant, id): (&str, &str),
        at: Timestamp,
    ) -> Result<(), FoldError> {
        self.end_reservation(seq, &reservation_name(tenant, id), ReservationState::Released { at })
    }

    fn end_reservation(&mut self, seq: Seq, name: &[u8], state: ReservationState) -> Result<(), FoldError> {
        let reservations = &mut self.caps.reservations;
        let mut reservation = reservations.all.remove(name).ok_or(FoldError::DoesNotFit(seq))?;
        if reservation.state != ReservationState::Held {
            return Err(FoldError::DoesNotFit(seq));
        }
        reservations.held.remove(&(reservation.expires_at, name.into()));
        reservations.open.remove(name);
        reservation.state = state;
        let number = self.account_of(seq, &reservation)?;
        let account = self.caps.accounts.get_mut(number);
        let hold = account.end_hold(name).ok_or(FoldError::DoesNotFit(seq))?;
        // They may have waited for this one to be forgotten.
        let fired = account.fired.iter().filter(|fired| fired.bounds == hold.bounds(fired.kind));
        self.caps.expiries.extend(fired.map(|fired| (fired.bounds.end, account.name.clone())));
        self.caps.accounts.release(number);
        self.epoch.add_row(Table::Reservations, name, &codec::encode_reservation(&reservation));
        self.caps.reservations.insert(name, reservation);
        self.forget_reservation();
        Ok(())
    }

    /// The one that ended first, if too many have ended.
    fn forget_reservation(&mut self) {
        let reservations = &mut self.caps.reservations;
        if reservations.ended.len() > ENDED_KEPT
            && let Some((_, name)) = reservations.ended.pop_first()
        {
            reservations.all.remove(&name);
            self.epoch.delete_row(Table::Reservations, &name);
        }
    }

    /// Ends those whose time has come.
    pub(in crate::engine::state) fn expire_reservations(&mut self, seq: Seq) -> Result<(), FoldError> {
        let now = self.clock.effective();
        while let Some((_, name)) = self.caps.reservations.held.first().filter(|(at, _)| *at <= now).cloned() {
            self.end_reservation(seq, &name, ReservationState::Expired { at: now })?;
        }
        Ok(())
    }
}
