//! Reservations as JSON: `{"id","customer","meter","quantity","state","expires_at","period_end","committed_quantity"?,"seq"?}`.
//!
//! | state | means |
//! | --- | --- |
//! | `held` | its quantity counts against the limits |
//! | `committed` | by the event of record `seq`, which used `committed_quantity` |
//! | `released`, `expired` | the quota was given back |

use serde::Serialize;

use crate::engine::{Reservation, ReservationState};
use crate::meter::Meters;

#[derive(Debug, Serialize)]
pub struct Shown {
    id: String,
    customer: String,
    meter: String,
    quantity: String,
    state: &'static str,
    expires_at: String,
    /// Of the billing period that it was made in, and that a commit counts in.
    period_end: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    committed_quantity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
}

/// What a commit came to.
#[derive(Debug, Serialize)]
pub struct Committed {
    #[serde(flatten)]
    pub reservation: Shown,
    pub outcome: &'static str,
}

impl Shown {
    pub fn new(reservation: &Reservation, meters: &Meters) -> Self {
        let committed = match reservation.state {
            ReservationState::Committed { seq, quantity, .. } => Some((seq, quantity)),
            ReservationState::Held | ReservationState::Released { .. } | ReservationState::Expired { .. } => None,
        };
        Self {
            id: reservation.id.clone(),
            customer: reservation.customer.clone(),
            meter: meters.get(reservation.meter).map(|meter| meter.definition.slug.clone()).unwrap_or_default(),
            quantity: reservation.quantity.to_string(),
            state: reservation.state.as_str(),
            expires_at: reservation.expires_at.to_string(),
            period_end: reservation.period.bounds.end.to_string(),
            committed_quantity: committed.map(|(_, quantity)| quantity.to_string()),
            seq: committed.map(|(seq, _)| seq.0),
        }
    }
}
