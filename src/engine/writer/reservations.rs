//! Reservations: made if they fit, committed by a usage event, released, expired.
//!
//! 1. What is held counts against every limit like usage, from the record on that made it.
//! 2. A commit counts its event and ends the hold in one group; up to what was held it is never refused by a cap.
//! 3. Whoever asks again is told what became of it.

use super::time::ANY_LAG;
use super::{Answer, Writer, WriterError};
use crate::engine::batch::Batch;
use crate::engine::caps::{Reservation, ReservationRefused, ReservationState, Reserve, Verdict};
use crate::engine::key;
use crate::engine::outbox::Done;
use crate::engine::record::CapsRecord;
use crate::engine::state::State;
use crate::engine::state::caps::accounts::Hold;
use crate::engine::state::caps::{reservation_name, verdict};
use crate::meter::CapPeriod;
use crate::model::{Outcome, Quantity, Seq, TenantId};

impl<R> Writer<R> {
    /// Ends what has expired by now.
    pub(super) fn expire(&mut self, state: &mut State) {
        let due = state.caps().reservations().next_expiry();
        if due.is_some_and(|due| due <= self.believed(state)) && !self.paused {
            self.put_time(state, ANY_LAG);
        }
    }

    pub(super) fn reserve(&mut self, state: &mut State, reserve: Reserve) -> Result<Done, WriterError> {
        self.put_time(state, super::BUSY_TICK);
        self.expire(state);
        let name = reservation_name(reserve.tenant.as_str(), &reserve.id);
        if let Some(known) = state.caps().reservations().get(&name) {
            let says_the_same = known.customer == reserve.customer
                && (known.meter, known.quantity) == (reserve.meter, reserve.quantity)
                && known.expires_at == known.made_at.saturating_add(reserve.expires_in);
            return Ok(match says_the_same {
                true => Done::Reserved(Box::new(known.clone())),
                false => Done::ReservationRefused(ReservationRefused::Differs),
            });
        }
        let max = self.options.reservations_max;
        if state.caps().reservations().held_len() >= max {
            return Ok(Done::ReservationRefused(ReservationRefused::TooMany(max)));
        }
        let reservation = self.hold(state, reserve);
        if let Some(verdict) = self.is_too_much(state, &reservation)? {
            return Ok(Done::ReservationRefused(ReservationRefused::Capped(Box::new(verdict))));
        }
        self.put_caps(state, &CapsRecord::Held(Box::new(reservation.clone())));
        Ok(Done::Reserved(Box::new(reservation)))
    }

    /// A reservation as it would be made now.
    fn hold(&self, state: &State, reserve: Reserve) -> Reservation {
        let Reserve { tenant, id, customer, meter, quantity, expires_in } = reserve;
        let made_at = self.believed(state);
        let (period, window) = self.batches.place(tenant.as_str(), &customer, meter, made_at);
        let (expires_at, state) = (made_at.saturating_add(expires_in), ReservationState::Held);
        Reservation { tenant, id, customer, meter, quantity, period, window, made_at, expires_at, state }
    }

    /// The verdict of the cap that it does not fit into.
    fn is_too_much(&self, state: &mut State, wanted: &Reservation) -> Result<Option<Verdict>, WriterError> {
        let name = account_of(state, wanted);
        if state.caps_of(&name, wanted.meter).is_empty() {
            return Ok(None);
        }
        let account = state.account_named(&name, wanted.meter);
        state.keep_up(account, (&wanted.period, wanted.window))?;
        let verdict = verdict(state.caps().account(account), wanted.quantity, |kind| match kind {
            CapPeriod::Billing => wanted.period.bounds,
            CapPeriod::Window => wanted.window,
        });
        state.release_account(account);
        Ok((!verdict.allowed).then_some(verdict))
    }

    pub(super) fn release(&mut self, state: &mut State, tenant: &TenantId, id: &str) -> Done {
        self.put_time(state, super::BUSY_TICK);
        self.expire(state);
        let name = reservation_name(tenant.as_str(), id);
        let Some(known) = state.caps().reservations().get(&name) else {
            return Done::ReservationRefused(ReservationRefused::Unknown);
        };
        match known.state {
            ReservationState::Held => {
                let at = self.believed(state);
                self.put_caps(state, &CapsRecord::Released { tenant: tenant.as_str(), id, at });
                self.crossings.ended("released");
                as_it_is(state, &name)
            }
            ReservationState::Committed { seq, .. } => Done::ReservationRefused(ReservationRefused::Committed(seq)),
            ReservationState::Released { .. } | ReservationState::Expired { .. } => as_it_is(state, &name),
        }
    }

    /// Decides an event that commits a reservation.
    pub(super) fn commit(&mut self, state: &mut State, batch: Batch, id: &str) -> Result<Answer, WriterError> {
        let name = reservation_name(batch.tenant.as_str(), id);
        self.put_time(state, super::BUSY_TICK);
        self.expire(state);
        let Some(reservation) = state.caps().reservations().get(&name).cloned() else {
            return Ok(refusal(state, ReservationRefused::Unknown));
        };
        let hold = match reservation.state {
            ReservationState::Held => {
                Hold { quantity: reservation.quantity, billing: reservation.period.bounds, window: reservation.window }
            }
            ReservationState::Released { at } => return Ok(refusal(state, ReservationRefused::Released(at))),
            ReservationState::Expired { .. } => {
                return Ok(refusal(state, ReservationRefused::Expired(reservation.expires_at)));
            }
            ReservationState::Committed { seq, .. } => return Ok(self.commit_again(state, &batch, (&name, seq))),
        };
        // The door has read the reservation before: it may be another one by now.
        let account = account_of(state, &reservation);
        if batch.feeds.iter().any(|feed| !batch.keys[feed.key.clone()].starts_with(&account)) {
            return Ok(refusal(state, ReservationRefused::Differs));
        }
        let window = is_capped_by_window(state, &reservation).then_some(reservation.window);
        let batch = self.batches.cut_into(batch, reservation.period, window);
        let answer = self.decide(state, &batch, Some(&hold))?;
        let [Outcome::Accepted(seq) | Outcome::Duplicate(seq)] = answer.outcomes[..] else { return Ok(answer) };
        let quantity = quantity_of(state, &batch);
        let (tenant, at) = (reservation.tenant.as_str(), self.believed(state));
        self.put_caps(state, &CapsRecord::Committed { tenant, id, seq, quantity, at });
        self.crossings.ended("committed");
        Ok(Answer { seq: state.position(), done: as_it_is(state, &name), ..answer })
    }

    /// The same event again is a duplicate; another one is refused.
    fn commit_again(&self, state: &State, batch: &Batch, (name, seq): (&[u8], Seq)) -> Answer {
        let entry = batch.items().next().and_then(|item| {
            let recent = self.recent.get(item.key, batch.index_position).or_else(|| self.recent.get_open(item.key));
            recent.or(item.indexed).map(|entry| (entry, item.fingerprint))
        });
        match entry {
            Some((entry, fingerprint)) if entry.seq == seq && entry.fingerprint == fingerprint => {
                let (outcomes, late, done) = (vec![Outcome::Duplicate(seq)], Vec::new(), as_it_is(state, name));
                Answer { outcomes, seq: state.position(), late, done }
            }
            _ => refusal(state, ReservationRefused::Committed(seq)),
        }
    }
}

fn refusal(state: &State, refused: ReservationRefused) -> Answer {
    let (outcomes, late, done) = (Vec::new(), Vec::new(), Done::ReservationRefused(refused));
    Answer { outcomes, seq: state.position(), late, done }
}

fn as_it_is(state: &State, name: &[u8]) -> Done {
    let known = state.caps().reservations().get(name);
    known.map_or(Done::ReservationRefused(ReservationRefused::Unknown), |known| Done::Reserved(Box::new(known.clone())))
}

/// The name of the account that a reservation is of.
fn account_of(state: &State, reservation: &Reservation) -> Vec<u8> {
    let slug = &state.definitions()[usize::from(reservation.meter.0)].slug;
    key::account_name(reservation.tenant.as_str(), &reservation.customer, slug)
}

/// Whether windows limit the reservation's account: then its usage counts in the window that it was set aside in.
fn is_capped_by_window(state: &State, reservation: &Reservation) -> bool {
    state.caps_of(&account_of(state, reservation), reservation.meter).iter().any(|cap| cap.period == CapPeriod::Window)
}

/// What the one event of a batch counts.
fn quantity_of(state: &State, batch: &Batch) -> Quantity {
    let feed = batch.items().next().and_then(|item| batch.feeds.get(item.feeds.start));
    feed.map_or(Quantity::ZERO, |feed| Quantity::from_scaled(state.change_by(feed.meter, feed.value)))
}
