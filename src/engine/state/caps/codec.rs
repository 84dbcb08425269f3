//! Caps, alerts, thresholds and reservations as rows of the store, and back.
//!
//! | table, key | value |
//! | --- | --- |
//! | meta: `caps/` meter u16 | JSON array of plans' caps: what the config says of the meter |
//! | meta: `customer_caps/` account | JSON array of caps: a customer's own on the meter |
//! | alerts: 0 u8 · tenant · seq u64 | the body of the AlertRaised record with that seq |
//! | alerts: 1 u8 · tenant · seq u64 | how that alert recovered: seq u64 · at i64 · used i128 |
//! | alerts: 2 u8 · tenant · customer · seq u64 | empty: a customer's alerts |
//! | thresholds: account · period kind u8 · start, end · cap's id · threshold | generation u32 · flags u8 (1 has not recovered, 2 raised by a refused event) · seq u64 of the AlertRaised record |
//! | reservations: tenant · id to the end | the body of its ReservationHeld record from the customer on · state u8 (0 held, 1 committed, 2 released, 3 expired) · committed: seq u64, quantity i128 · not held: at i64 |
//! | outbox, alerts | state u8 (0 triggered, 1 recovered) · the body of the alert's record |
//!
//! Integers in keys are big-endian, in values little-endian; times in keys sort. Texts in keys, and accounts (tenant, customer,
//! meter), are as in [`key`].
//!
//! 1. An alert's seq is that of its AlertRaised record, also where it has recovered: a tenant's alerts are in order of time.
//! 2. What does not decode to its last byte is damage.

use crate::engine::caps::{Alert, AlertState, Recovered, Reservation, ReservationState};
use crate::engine::key;
use crate::engine::record::bytes::{Cursor, put_time};
use crate::engine::record::caps::{put_alert, put_hold, read_alert, read_hold};
use crate::engine::state::caps::accounts::Fired;
use crate::meter::{Cap, CapPeriod, PlanCap};
use crate::model::{MeterId, Quantity, Seq, TenantId};

pub const CAPS: &[u8] = b"caps/";
pub const CUSTOMER_CAPS: &[u8] = b"customer_caps/";
const RAISED: u8 = 0;
const RECOVERED: u8 = 1;
const BY_CUSTOMER: u8 = 2;
const ACTIVE: u8 = 1;
const REFUSED: u8 = 2;

/// What the keys of a tenant's alerts begin with.
pub fn alert_prefix(tenant: &str) -> Vec<u8> {
    prefix(RAISED, &[tenant])
}

pub fn alert_key(tenant: &str, seq: Seq) -> Vec<u8> {
    with_seq(alert_prefix(tenant), seq)
}

/// What the keys of a tenant's recoveries begin with.
pub fn recovered_prefix(tenant: &str) -> Vec<u8> {
    prefix(RECOVERED, &[tenant])
}

/// `seq` is that of the alert as it was raised.
pub fn recovered_key(tenant: &str, seq: Seq) -> Vec<u8> {
    with_seq(recovered_prefix(tenant), seq)
}

/// What the index of a customer's alerts begins with.
pub fn customer_alert_prefix(tenant: &str, customer: &str) -> Vec<u8> {
    prefix(BY_CUSTOMER, &[tenant, customer])
}

pub fn customer_alert_key(tenant: &str, customer: &str, seq: Seq) -> Vec<u8> {
    with_seq(customer_alert_prefix(tenant, customer), seq)
}

/// The seq that every key of `alerts` ends with.
pub fn split_alert_seq(key: &[u8]) -> Option<Seq> {
    key.last_chunk().map(|seq| Seq(u64::from_be_bytes(*seq)))
}

fn prefix(kind: u8, names: &[&str]) -> Vec<u8> {
    let mut out = vec![kind];
    names.iter().for_each(|name| key::put_text(&mut out, name));
    out
}

fn with_seq(mut key: Vec<u8>, seq: Seq) -> Vec<u8> {
    key.extend_from_slice(&seq.0.to_be_bytes());
    key
}

/// An alert as it was raised.
pub fn encode_alert(alert: &Alert) -> Vec<u8> {
    let mut out = Vec::with_capacity(384);
    put_alert(&mut out, alert);
    out
}

pub fn decode_alert(value: &[u8]) -> Option<Alert> {
    whole(value, |cursor| read_alert(AlertState::Triggered, cursor))
}

/// An alert as it waits to go out: raised or recovered.
pub fn encode_outbox_alert(alert: &Alert) -> Vec<u8> {
    let mut out = Vec::with_capacity(384);
    out.push(alert.state as u8);
    put_alert(&mut out, alert);
    out
}

pub fn decode_outbox_alert(value: &[u8]) -> Option<Alert> {
    whole(value, |cursor| {
        let state = *AlertState::ALL.get(usize::from(cursor.u8()?))?;
        read_alert(state, cursor)
    })
}

pub fn encode_recovered(recovered: &Recovered) -> Vec<u8> {
    let mut out = recovered.seq.0.to_le_bytes().to_vec();
    put_time(&mut out, recovered.at);
    out.extend_from_slice(&recovered.used.scaled().to_le_bytes());
    out
}

pub fn decode_recovered(value: &[u8]) -> Option<Recovered> {
    whole(value, |cursor| {
        Some(Recovered { seq: Seq(cursor.u64()?), at: cursor.time()?, used: Quantity::from_scaled(cursor.i128()?) })
    })
}

/// An account's thresholds have its name as their prefix.
pub fn threshold_key(account: &[u8], fired: &Fired) -> Vec<u8> {
    let mut out = account.to_vec();
    out.push(fired.kind as u8);
    key::put_bounds(&mut out, fired.bounds);
    key::put_text(&mut out, &fired.cap);
    key::put_text(&mut out, &fired.threshold.to_string());
    out
}

pub fn encode_threshold(fired: &Fired) -> Vec<u8> {
    let mut out = fired.generation.to_le_bytes().to_vec();
    out.push(if fired.active { ACTIVE } else { 0 } | if fired.refused { REFUSED } else { 0 });
    out.extend_from_slice(&fired.seq.0.to_le_bytes());
    out
}

/// The account's name, and what has fired.
pub fn decode_threshold(key: &[u8], value: &[u8]) -> Option<(Box<[u8]>, Fired)> {
    let mut rest = key;
    key::read_account(&mut rest)?;
    let account = key[..key.len() - rest.len()].into();
    let (kind, after) = rest.split_first()?;
    rest = after;
    let kind = match kind {
        0 => CapPeriod::Billing,
        1 => CapPeriod::Window,
        _ => return None,
    };
    let bounds = key::read_bounds(&mut rest)?;
    let (cap, threshold) = (key::read_text(&mut rest)?.into(), key::read_text(&mut rest)?.parse().ok()?);
    if !rest.is_empty() {
        return None;
    }
    whole(value, |cursor| {
        let (generation, flags) = (cursor.u32()?, cursor.u8()?);
        let (active, refused) = (flags & ACTIVE != 0, flags & REFUSED != 0);
        let fired = Fired { kind, bounds, cap, threshold, generation, active, refused, seq: Seq(cursor.u64()?) };
        (flags & !(ACTIVE | REFUSED) == 0).then_some((account, fired))
    })
}

/// What the keys of a tenant's reservations begin with.
pub fn reservation_prefix(tenant: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + tenant.len());
    key::put_text(&mut out, tenant);
    out
}

pub fn reservation_key(tenant: &str, id: &str) -> Vec<u8> {
    [&reservation_prefix(tenant), id.as_bytes()].concat()
}

pub fn encode_reservation(reservation: &Reservation) -> Vec<u8> {
    let mut out = Vec::with_capacity(128 + reservation.customer.len());
    put_hold(&mut out, reservation);
    match &reservation.state {
        ReservationState::Held => out.push(0),
        ReservationState::Committed { seq, quantity, at } => {
            out.push(1);
            out.extend_from_slice(&seq.0.to_le_bytes());
            out.extend_from_slice(&quantity.scaled().to_le_bytes());
            put_time(&mut out, *at);
        }
        ReservationState::Released { at } => {
            out.push(2);
            put_time(&mut out, *at);
        }
        ReservationState::Expired { at } => {
            out.push(3);
            put_time(&mut out, *at);
        }
    }
    out
}

pub fn decode_reservation(key: &[u8], value: &[u8]) -> Option<Reservation> {
    let (tenant, id) = key::split_tenant(key)?;
    let id = std::str::from_utf8(id).ok()?;
    whole(value, |cursor| {
        let held = read_hold(TenantId::new(tenant), id, cursor)?;
        let state = match cursor.u8()? {
            0 => ReservationState::Held,
            1 => ReservationState::Committed {
                seq: Seq(cursor.u64()?),
                quantity: Quantity::from_scaled(cursor.i128()?),
                at: cursor.time()?,
            },
            2 => ReservationState::Released { at: cursor.time()? },
            3 => ReservationState::Expired { at: cursor.time()? },
            _ => return None,
        };
        Some(Reservation { state, ..held })
    })
}

pub fn caps_key(meter: MeterId) -> Vec<u8> {
    [CAPS, &meter.0.to_be_bytes()].concat()
}

pub fn split_caps_key(key: &[u8]) -> Option<MeterId> {
    let meter = key.strip_prefix(CAPS)?.try_into().ok()?;
    Some(MeterId(u16::from_be_bytes(meter)))
}

pub fn encode_caps(caps: &[PlanCap]) -> Vec<u8> {
    serde_json::to_vec(caps).expect("caps hold only texts, flags and lists")
}

pub fn decode_caps(value: &[u8]) -> Option<Vec<PlanCap>> {
    serde_json::from_slice(value).ok()
}

pub fn customer_caps_key(account: &[u8]) -> Vec<u8> {
    [CUSTOMER_CAPS, account].concat()
}

/// The account's name.
pub fn split_customer_caps_key(key: &[u8]) -> Option<&[u8]> {
    let account = key.strip_prefix(CUSTOMER_CAPS)?;
    key::split_account(account).map(|_| account)
}

pub fn encode_customer_caps(caps: &[Cap]) -> Vec<u8> {
    serde_json::to_vec(caps).expect("caps hold only texts, flags and lists")
}

pub fn decode_customer_caps(value: &[u8]) -> Option<Vec<Cap>> {
    serde_json::from_slice(value).ok()
}

/// What is read of a value, if that is all of it.
fn whole<'a, T>(value: &'a [u8], read: impl FnOnce(&mut Cursor<'a>) -> Option<T>) -> Option<T> {
    let mut cursor = Cursor(value);
    let read = read(&mut cursor)?;
    cursor.0.is_empty().then_some(read)
}

#[cfg(test)]
mod tests;
