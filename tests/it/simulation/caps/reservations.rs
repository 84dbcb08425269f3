//! What is held, and what became of it.

use meterd::engine::{Reservation, ReservationState};
use meterd::meter::BillingPeriod;
use meterd::model::{MeterId, Quantity, Seq, Timestamp, Window};

use super::{Account, Known, Place, Stretch};
use crate::simulation::model::Model;
use crate::simulation::node::{reservation_id, tenant};

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub id: u8,
    pub account: Account,
    pub quantity: i128,
    pub lifetime_micros: i64,
}

#[derive(Clone, Debug)]
pub struct Held {
    pub account: Account,
    pub quantity: i128,
    pub lifetime_micros: i64,
    pub place: Place,
    pub made_at: i64,
    pub expires_at: i64,
    pub state: ReservationState,
    /// The record that made it.
    pub seq: Seq,
}

impl Held {
    pub fn is_open(&self) -> bool {
        self.state == ReservationState::Held
    }

    pub fn says(&self, wanted: &Wanted) -> bool {
        (self.account, self.quantity, self.lifetime_micros) == (wanted.account, wanted.quantity, wanted.lifetime_micros)
    }

    /// As the engine ought to show it.
    pub fn reservation(&self, id: u8, meter: MeterId) -> Reservation {
        let at = |micros| Timestamp::from_micros(micros).expect("in range");
        let bounds = |(start, end)| Window { start: at(start), end: at(end) };
        let label = self.place.label.0.parse().expect("a period's name");
        let billing = bounds(Stretch::Billing(self.place.label.clone()).bounds());
        Reservation {
            tenant: tenant(),
            id: reservation_id(id),
            customer: format!("customer-{}", self.account.0),
            meter,
            quantity: Quantity::from_scaled(self.quantity),
            period: BillingPeriod { label, bounds: billing },
            window: bounds(Stretch::Hour(self.place.hour).bounds()),
            made_at: at(self.made_at),
            expires_at: at(self.expires_at),
            state: self.state.clone(),
        }
    }
}

impl Place {
    /// Its stretch of the same kind.
    pub fn stretch_like(&self, stretch: &Stretch) -> Stretch {
        match stretch {
            Stretch::Billing(_) => Stretch::Billing(self.label.clone()),
            Stretch::Hour(_) => Stretch::Hour(self.hour),
        }
    }
}

/// What is right for a release.
#[derive(Debug, PartialEq, Eq)]
pub enum Released {
    Unknown,
    Committed(Seq),
    Already,
    Now,
}

impl Known {
    pub fn open(&self) -> usize {
        self.reservations.values().filter(|held| held.is_open()).count()
    }

    /// Something is held for a customer.
    pub fn holds_for(&self, customer: u8) -> bool {
        self.reservations.values().any(|held| held.is_open() && held.account.0 == customer)
    }

    /// Effective time has come to this; answers how many have expired.
    pub fn tick(&mut self, effective: Timestamp) -> u64 {
        let mut expired = 0;
        let due = |held: &&mut Held| held.is_open() && held.expires_at <= effective.micros();
        for held in self.reservations.values_mut().filter(due) {
            held.state = ReservationState::Expired { at: effective };
            expired += 1;
        }
        expired
    }

    /// Where in time something is that happens now.
    pub fn place_at(&self, model: &Model, (customer, _): Account, at: Timestamp) -> Place {
        Place { label: model.label(customer, at), hour: super::hour_of(at), late: false }
    }

    pub fn release(&self, id: u8) -> Released {
        match self.reservations.get(&id).map(|held| &held.state) {
            None => Released::Unknown,
            Some(ReservationState::Held) => Released::Now,
            Some(ReservationState::Committed { seq, .. }) => Released::Committed(*seq),
            Some(ReservationState::Released { .. } | ReservationState::Expired { .. }) => Released::Already,
        }
    }
}
