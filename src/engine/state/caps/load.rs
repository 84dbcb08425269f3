//! Caps, thresholds and reservations from the store's rows.

use super::{Caps, codec};
use crate::engine::caps::ReservationState;
use crate::engine::key;
use crate::engine::state::rows::{LoadError, load_table};
use crate::engine::state::{FoldError, State};
use crate::model::{MeterId, Seq};
use crate::store::{Store, Table};

impl Caps {
    /// What the log says of plans and customers, before any series is there.
    pub fn load(store: &dyn Store, definitions: &[crate::meter::Definition]) -> Result<Self, LoadError> {
        let mut caps = Self::default();
        load_table(store, Table::Meta, codec::CAPS, |key, value| {
            let meter = codec::split_caps_key(key)?;
            caps.defaults.insert(meter, codec::decode_caps(value)?);
            Some(())
        })?;
        load_table(store, Table::Meta, codec::CUSTOMER_CAPS, |key, value| {
            let name = codec::split_customer_caps_key(key)?;
            let (_, _, slug) = key::split_account(name)?;
            let meter = definitions.iter().position(|definition| definition.slug == slug)?;
            caps.set_own(name, MeterId(meter as u16), Some(codec::decode_customer_caps(value)?));
            Some(())
        })?;
        Ok(caps)
    }
}

impl State {
    /// What has fired and what is held, once the series are there.
    pub(in crate::engine::state) fn load_caps(&mut self, store: &dyn Store) -> Result<(), LoadError> {
        load_table(store, Table::Thresholds, &[], |key, value| {
            let (name, fired) = codec::decode_threshold(key, value)?;
            let (_, _, slug) = key::split_account(&name)?;
            let meter = self.definitions.iter().position(|definition| definition.slug == slug)?;
            let number = self.account_named(&name, MeterId(meter as u16));
            self.caps.note_exceeded(MeterId(meter as u16), &name, &fired);
            self.caps.expiries.insert((fired.bounds.end, name));
            self.caps.accounts.get_mut(number).fired.push(fired);
            Some(())
        })?;
        let accounts: Vec<u32> = self.caps.accounts.iter().map(|(number, _)| number).collect();
        accounts.into_iter().for_each(|number| self.caps.accounts.get_mut(number).refresh());
        load_table(store, Table::Reservations, &[], |name, value| {
            let reservation = codec::decode_reservation(name, value)?;
            if reservation.state == ReservationState::Held {
                let put: Result<(), FoldError> = self.put_hold(Seq::ZERO, name, &reservation);
                put.ok()?;
            }
            self.caps.reservations.insert(name, reservation);
            Some(())
        })
    }
}
