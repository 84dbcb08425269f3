//! What operators and back offices change: each becomes a record, and is answered once that is durable.

use std::sync::Arc;

use super::time::ANY_LAG;
use super::{Answer, Lookup, Writer, WriterError, apply_own};
use crate::engine::batch::Batch;
use crate::engine::caps::{CapsChange, Reserve};
use crate::engine::corrections::Retraction;
use crate::engine::key;
use crate::engine::outbox::{DeliveryOperation, Done};
use crate::engine::record::{self, Record};
use crate::engine::state::State;
use crate::meter::{Cap, Customer, Zone};
use crate::metrics::CLOCK_PAUSED;
use crate::model::{Duration, MeterId, TenantId, Timestamp};
use crate::store::{StoreError, Table};

/// A change that is no event.
pub enum Operation {
    /// Replaces what was set for a customer.
    PutCustomer {
        tenant: TenantId,
        customer: String,
        settings: CustomerSettings,
    },
    /// The wall clock is right, whatever was believed before.
    ResetClock {
        reason: String,
    },
    PutCaps(CapsChange),
    Reserve(Reserve),
    Release {
        tenant: TenantId,
        id: String,
    },
    /// A step of a delivery, or a change of a sink.
    Deliver(DeliveryOperation),
    /// The record of an accepted event.
    Find(Lookup),
    Retract {
        retraction: Retraction,
        replacement: Option<Box<Batch>>,
    },
    /// Makes sure that the backfill takes events.
    OpenBackfill {
        tenant: TenantId,
        id: String,
    },
    RevertBackfill {
        tenant: TenantId,
        id: String,
        reason: String,
    },
    FinishRevert {
        number: u32,
    },
}

/// What can be set for a customer; the door has checked it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CustomerSettings {
    /// The day of the month their billing periods start on: 1 to 31. None: the first.
    pub anchor: Option<u8>,
    /// IANA name. None: the zone of each meter's calendar.
    pub time_zone: Option<String>,
    pub plan: Option<String>,
}

impl<R> Writer<R> {
    /// Decides an operation; its answer waits in the open group.
    pub fn operate(
        &mut self,
        operation: Operation,
        (wall, monotonic): (Timestamp, Duration),
        reply: R,
    ) -> Result<(), WriterError> {
        let state = self.state.clone();
        let mut state = state.write();
        let mut done = Done::Done;
        match operation {
            Operation::PutCustomer { tenant, customer, settings } => {
                self.put_customer(&mut state, (tenant.as_str(), &customer), settings, wall)?;
            }
            Operation::ResetClock { reason } => {
                let before = state.clock().effective();
                self.clock.reset(wall, monotonic);
                (self.latest, self.paused) = (wall, false);
                state.set_now(wall);
                record::put_clock_reset(&mut self.payload, wall, &reason);
                apply_own(&mut state, &Record::ClockReset { effective: wall, reason: &reason });
                let change = (
                    Some(json(&serde_json::json!({"effective": before.to_string()}))),
                    Some(json(&serde_json::json!({"effective": wall.to_string(), "reason": reason}))),
                );
                self.put_trail(&mut state, (None, wall), ("clock.reset", "clock"), change);
                metrics::gauge!(CLOCK_PAUSED).set(0.0);
                tracing::warn!(%wall, reason, "the clock was reset by an operator");
            }
            Operation::PutCaps(change) => self.change_caps(&mut state, change, wall),
            Operation::Reserve(reserve) => done = self.reserve(&mut state, reserve)?,
            Operation::Release { tenant, id } => done = self.release(&mut state, &tenant, &id),
            Operation::Deliver(operation) => done = self.deliver(&mut state, operation)?,
            Operation::Find(lookup) => done = self.find(&state, &lookup)?,
            Operation::Retract { retraction, replacement } => {
                let answer = self.retract(&mut state, retraction, replacement.map(|batch| *batch), wall)?;
                self.answers.push((reply, answer));
                return Ok(());
            }
            Operation::OpenBackfill { tenant, id } => done = self.open_backfill(&mut state, &tenant, &id, wall),
            Operation::RevertBackfill { tenant, id, reason } => {
                done = self.revert_backfill(&mut state, (&tenant, &id), &reason, wall);
            }
            Operation::FinishRevert { number } => done = self.finish_revert(&mut state, number, wall),
        }
        let answer = Answer { outcomes: Vec::new(), seq: state.position(), late: Vec::new(), done };
        self.answers.push((reply, answer));
        Ok(())
    }

    fn put_customer(
        &mut self,
        state: &mut State,
        (tenant, name): (&str, &str),
        settings: CustomerSettings,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let CustomerSettings { anchor, time_zone, plan } = settings;
        let before = state.customer(tenant, name).map(|customer| (**customer).clone()).unwrap_or_default();
        // A period that has usage already does not move, even if it has not begun by the time that is believed.
        let now = self.believed(state).max(state.clock().newest_event().unwrap_or(Timestamp::MIN));
        let used = state.newest_series_of(tenant, name).is_some()
            || state.has_holds(tenant, name)
            || state.has_windows(tenant, name)?;
        // Of the meters' calendars, the one whose month is the latest: no period that has begun is changed.
        let meters = self.batches.meters();
        let zones = meters.iter().map(|meter| &meter.billing_zone);
        let utc = Zone::utc();
        let latest = zones.max_by_key(|zone| zone.day(now).0).unwrap_or(&utc);
        let schedule = before.schedule.changed(anchor, time_zone, now, latest, used);
        let settings = Customer { plan, schedule };
        let capped = if before.plan == settings.plan { Vec::new() } else { capped_accounts(state, tenant, name) };
        if !capped.is_empty() {
            self.put_time(state, ANY_LAG);
        }
        record::put_customer_changed(&mut self.payload, tenant, name, &settings);
        let changed = Record::CustomerChanged { tenant, customer: name, settings: Box::new(settings.clone()) };
        apply_own(state, &changed);
        for (account, meter, before) in capped {
            self.reassess(state, (&account, meter), &before, at);
        }
        if settings != before {
            let change = (Some(json(&before)), Some(json(&settings)));
            self.put_trail(state, (Some(tenant), at), ("customer.put", name), change);
        }
        let mut prefix = Vec::with_capacity(64);
        key::put_customer(&mut prefix, tenant, name);
        if settings.schedule != before.schedule {
            self.batches.0.calendars.set(&prefix, &settings);
        }
        Ok(())
    }
}

pub(super) fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("texts, numbers and lists")
}

/// A customer's accounts that the config's caps may be on, with the caps they have now.
fn capped_accounts(state: &State, tenant: &str, customer: &str) -> Vec<(Vec<u8>, MeterId, Arc<[Cap]>)> {
    let meters = state.caps().defined().map(|meter| {
        let slug = &state.definitions()[usize::from(meter.0)].slug;
        let account = key::account_name(tenant, customer, slug);
        let caps = state.caps_of(&account, meter);
        (account, meter, caps)
    });
    meters.collect()
}

impl State {
    /// Whether the store has any final window of a customer.
    fn has_windows(&self, tenant: &str, customer: &str) -> Result<bool, StoreError> {
        let mut prefix = Vec::with_capacity(64);
        key::put_customer(&mut prefix, tenant, customer);
        let mut found = false;
        self.store().scan(Table::Windows, &prefix, &mut |_, _| {
            found = true;
            std::ops::ControlFlow::Break(())
        })?;
        Ok(found)
    }
}
