//! Records of caps, alerts and reservations: to bytes and back.
//!
//! | record | body |
//! | --- | --- |
//! | 19 CapsDefined | meter u16 · array of plans' caps as JSON: what the config says of the meter |
//! | 20 CustomerCapsChanged | tenant, customer texts · meter u16 · at i64 · array of caps as JSON, or null |
//! | 21 AlertRaised, 22 AlertRecovered | tenant, customer, meter texts · cap as JSON (u16 length) · threshold text · amount i128 · period text (empty: none) · start, end i64 · generation u32 · used i128 · event u8 (0 none, 1 refused, 2 accepted), id text, seq u64 · late u8 · at i64 |
//! | 23 ReservationHeld | tenant, id, customer texts · meter u16 · quantity i128 · period name text, start, end i64 · window start, end i64 · made at, expires at i64 |
//! | 24 ReservationCommitted | tenant, id texts · event's seq u64 · quantity i128 · at i64 |
//! | 25 ReservationReleased | tenant, id texts · at i64 |
//!
//! JSON that ends a body has no length. An event that is 0 or 1 has seq 0; one that is 0 has an empty id.
//!
//! 1. A reservation expires by the first Tick whose effective time has reached `expires at`: there is no record of its own.
//! 2. An alert has its names and its cap in full: it means the same when the config says otherwise.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bytes::{Cursor, put_bytes, put_text, put_time, put_window};
use super::{Kind, put_record};
use crate::engine::caps::{Alert, AlertEvent, AlertState, Reservation, ReservationState};
use crate::meter::{BillingPeriod, Cap, PlanCap};
use crate::model::{MeterId, Quantity, Seq, TenantId, Timestamp};

const NO_EVENT: u8 = 0;
const REFUSED: u8 = 1;
const ACCEPTED: u8 = 2;

#[derive(Clone, Debug, PartialEq)]
pub enum CapsRecord<'a> {
    Defined {
        meter: MeterId,
        caps: Vec<PlanCap>,
    },
    Changed {
        tenant: &'a str,
        customer: &'a str,
        meter: MeterId,
        at: Timestamp,
        caps: Option<Vec<Cap>>,
    },
    Alert(Box<Alert>),
    /// Its state is `Held`.
    Held(Box<Reservation>),
    Committed {
        tenant: &'a str,
        id: &'a str,
        seq: Seq,
        quantity: Quantity,
        at: Timestamp,
    },
    Released {
        tenant: &'a str,
        id: &'a str,
        at: Timestamp,
    },
}

pub fn put_caps(out: &mut Vec<u8>, record: &CapsRecord<'_>) {
    match record {
        CapsRecord::Defined { meter, caps } => put_record(out, Kind::CapsDefined, |out| {
            put_meter(out, *meter);
            out.extend_from_slice(&json(caps));
        }),
        CapsRecord::Changed { tenant, customer, meter, at, caps } => {
            put_record(out, Kind::CustomerCapsChanged, |out| {
                put_text(out, tenant);
                put_text(out, customer);
                put_meter(out, *meter);
                put_time(out, *at);
                out.extend_from_slice(&json(caps));
            });
        }
        CapsRecord::Alert(alert) => put_record(out, alert_kind(alert.state), |out| put_alert(out, alert)),
        CapsRecord::Held(reservation) => put_record(out, Kind::ReservationHeld, |out| {
            debug_assert_eq!(reservation.state, ReservationState::Held, "a record of what is made");
            put_text(out, reservation.tenant.as_str());
            put_text(out, &reservation.id);
            put_hold(out, reservation);
        }),
        CapsRecord::Committed { tenant, id, seq, quantity, at } => put_record(out, Kind::ReservationCommitted, |out| {
            put_text(out, tenant);
            put_text(out, id);
            out.extend_from_slice(&seq.0.to_le_bytes());
            put_quantity(out, *quantity);
            put_time(out, *at);
        }),
        CapsRecord::Released { tenant, id, at } => put_record(out, Kind::ReservationReleased, |out| {
            put_text(out, tenant);
            put_text(out, id);
            put_time(out, *at);
        }),
    }
}

fn alert_kind(state: AlertState) -> Kind {
    match state {
        AlertState::Triggered => Kind::AlertRaised,
        AlertState::Recovered => Kind::AlertRecovered,
    }
}

/// All of an alert but its state, as it stands in records; also fit for a row of the store.
pub fn put_alert(out: &mut Vec<u8>, alert: &Alert) {
    put_text(out, &alert.tenant);
    put_text(out, &alert.customer);
    put_text(out, &alert.meter);
    put_bytes(out, &json(&alert.cap));
    put_text(out, &alert.threshold.to_string());
    put_quantity(out, alert.amount);
    put_text(out, alert.period.as_deref().unwrap_or_default());
    put_window(out, alert.bounds);
    out.extend_from_slice(&alert.generation.to_le_bytes());
    put_quantity(out, alert.used);
    put_event(out, alert.event.as_ref());
    out.push(u8::from(alert.late));
    put_time(out, alert.at);
}

fn put_event(out: &mut Vec<u8>, event: Option<&AlertEvent>) {
    let (kind, seq) = match event.map(|event| event.seq) {
        None => (NO_EVENT, Seq::ZERO),
        Some(None) => (REFUSED, Seq::ZERO),
        Some(Some(seq)) => (ACCEPTED, seq),
    };
    out.push(kind);
    put_text(out, event.map(|event| event.usage_event_id.as_str()).unwrap_or_default());
    out.extend_from_slice(&seq.0.to_le_bytes());
}

/// All of a reservation but its tenant, id and state, as it stands in records; also fit for a row of the store.
pub fn put_hold(out: &mut Vec<u8>, reservation: &Reservation) {
    put_text(out, &reservation.customer);
    put_meter(out, reservation.meter);
    put_quantity(out, reservation.quantity);
    put_text(out, &reservation.period.label.to_string());
    put_window(out, reservation.period.bounds);
    put_window(out, reservation.window);
    put_time(out, reservation.made_at);
    put_time(out, reservation.expires_at);
}

fn put_meter(out: &mut Vec<u8>, meter: MeterId) {
    out.extend_from_slice(&meter.0.to_le_bytes());
}

fn put_quantity(out: &mut Vec<u8>, quantity: Quantity) {
    out.extend_from_slice(&quantity.scaled().to_le_bytes());
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("caps hold only texts, flags and lists")
}

pub(super) fn read_caps<'a>(kind: u8, cursor: &mut Cursor<'a>) -> Option<CapsRecord<'a>> {
    Some(match kind {
        19 => CapsRecord::Defined { meter: MeterId(cursor.u16()?), caps: read_json(cursor)? },
        20 => CapsRecord::Changed {
            tenant: cursor.text()??,
            customer: cursor.text()??,
            meter: MeterId(cursor.u16()?),
            at: cursor.time()?,
            caps: read_json(cursor)?,
        },
        21 => CapsRecord::Alert(Box::new(read_alert(AlertState::Triggered, cursor)?)),
        22 => CapsRecord::Alert(Box::new(read_alert(AlertState::Recovered, cursor)?)),
        23 => {
            let (tenant, id) = (TenantId::new(cursor.text()??), cursor.text()??);
            CapsRecord::Held(Box::new(read_hold(tenant, id, cursor)?))
        }
        24 => CapsRecord::Committed {
            tenant: cursor.text()??,
            id: cursor.text()??,
            seq: Seq(cursor.u64()?),
            quantity: read_quantity(cursor)?,
            at: cursor.time()?,
        },
        25 => CapsRecord::Released { tenant: cursor.text()??, id: cursor.text()??, at: cursor.time()? },
        _ => return None,
    })
}

/// What [`put_alert`] wrote.
pub fn read_alert(state: AlertState, cursor: &mut Cursor<'_>) -> Option<Alert> {
    Some(Alert {
        state,
        tenant: read_name(cursor)?,
        customer: read_name(cursor)?,
        meter: read_name(cursor)?,
        cap: serde_json::from_slice(cursor.sized()?).ok()?,
        threshold: cursor.text()??.parse().ok()?,
        amount: read_quantity(cursor)?,
        period: Some(read_name(cursor)?).filter(|name| !name.is_empty()),
        bounds: cursor.window()?,
        generation: cursor.u32()?,
        used: read_quantity(cursor)?,
        event: read_event(cursor)?,
        late: match cursor.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        },
        at: cursor.time()?,
    })
}

/// `Some(None)`: there was no event.
fn read_event(cursor: &mut Cursor<'_>) -> Option<Option<AlertEvent>> {
    let (kind, usage_event_id, seq) = (cursor.u8()?, read_name(cursor)?, Seq(cursor.u64()?));
    let is_given = |seq: Seq| seq > Seq::ZERO;
    match kind {
        NO_EVENT if usage_event_id.is_empty() && !is_given(seq) => Some(None),
        REFUSED if !is_given(seq) => Some(Some(AlertEvent { usage_event_id, seq: None })),
        ACCEPTED if is_given(seq) => Some(Some(AlertEvent { usage_event_id, seq: Some(seq) })),
        _ => None,
    }
}

/// What [`put_hold`] wrote; its state is `Held`.
pub fn read_hold(tenant: TenantId, id: &str, cursor: &mut Cursor<'_>) -> Option<Reservation> {
    Some(Reservation {
        tenant,
        id: id.to_owned(),
        customer: read_name(cursor)?,
        meter: MeterId(cursor.u16()?),
        quantity: read_quantity(cursor)?,
        period: BillingPeriod { label: cursor.text()??.parse().ok()?, bounds: cursor.window()? },
        window: cursor.window()?,
        made_at: cursor.time()?,
        expires_at: cursor.time()?,
        state: ReservationState::Held,
    })
}

fn read_name(cursor: &mut Cursor<'_>) -> Option<String> {
    cursor.text()?.map(str::to_owned)
}

fn read_quantity(cursor: &mut Cursor<'_>) -> Option<Quantity> {
    cursor.i128().map(Quantity::from_scaled)
}

/// JSON to the body's end.
fn read_json<T: DeserializeOwned>(cursor: &mut Cursor<'_>) -> Option<T> {
    serde_json::from_slice(std::mem::take(&mut cursor.0)).ok()
}

#[cfg(test)]
pub mod tests;
