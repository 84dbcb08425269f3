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
//! A reservation expires by the first Tick whose effective time has reached `expires at`: there is no record of its own.

use crate::engine::caps::{Alert, Reservation};
use crate::meter::{Cap, PlanCap};
use crate::model::{MeterId, Quantity, Seq, Timestamp};

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
