//! The words of caps: who may use how much, what was crossed, what is held.
//!
//! | word | means |
//! | --- | --- |
//! | account | a customer's usage of one meter, over all dimensions: what caps count |
//! | used | what an account's events came to in a period: the same counters that bill |
//! | held | what open reservations set aside of it |
//! | threshold | a soft one, or the hard cap itself |
//! | alert | a threshold was crossed; it names the event, and may recover |
//! | check | may this customer use so much more? Changes nothing |
//! | reservation | quota set aside for work whose size is known only afterwards |
//!
//! 1. Usage is at most the limit (hard cap and grace) of every cap that rejects, held quota included.
//! 2. An alert has one id per (account, cap, period, threshold, generation): it is made once, and the same id is the same alert.
//! 3. A generation ends with `recovered`.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::meter::{Cap, CapPeriod, Threshold};
use crate::model::{MeterId, Quantity, Seq, TenantId, Timestamp, Window, hex};

/// The longest id of a reservation, in bytes.
pub const RESERVATION_ID_BYTES_MAX: usize = 256;

/// A change of a customer's caps on a meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapsChange {
    pub tenant: TenantId,
    pub customer: String,
    pub meter: MeterId,
    /// Checked by `Cap::check`, in order of id, no two of one. None: those of the config again.
    pub caps: Option<Vec<Cap>>,
}

/// An alert's name to the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AlertId(pub u128);

impl AlertId {
    /// The first 16 bytes of the SHA-256 of these parts as a JSON array: tenant, customer, meter, cap, period kind, start and
    /// end (µs), threshold, generation.
    pub fn new(
        (tenant, customer, meter): (&str, &str, &str),
        (cap, period, bounds): (&str, CapPeriod, Window),
        threshold: Threshold,
        generation: u32,
    ) -> Self {
        let bounds = (bounds.start.micros(), bounds.end.micros());
        let parts = (tenant, customer, meter, cap, period, bounds.0, bounds.1, threshold.to_string(), generation);
        let digest = Sha256::digest(serde_json::to_vec(&parts).expect("texts and numbers"));
        Self(digest.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte)))
    }
}

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "alert_{}", hex::encode(&self.0.to_be_bytes()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlertState {
    Triggered,
    Recovered,
}

impl AlertState {
    pub const ALL: [AlertState; 2] = [AlertState::Triggered, AlertState::Recovered];

    pub fn as_str(self) -> &'static str {
        match self {
            AlertState::Triggered => "triggered",
            AlertState::Recovered => "recovered",
        }
    }
}

impl FromStr for AlertState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}

/// What an alert says, when it is made and when it recovers: one record, one row of the outbox, one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    pub state: AlertState,
    pub tenant: String,
    pub customer: String,
    pub meter: String,
    /// As it was then.
    pub cap: Cap,
    pub threshold: Threshold,
    /// What the threshold came to.
    pub amount: Quantity,
    /// The billing period's name; none for a window.
    pub period: Option<String>,
    pub bounds: Window,
    pub generation: u32,
    pub used: Quantity,
    /// The event that crossed it, or the first that was refused. None: it recovered by a change of caps.
    pub event: Option<AlertEvent>,
    /// The event came for a window that was final.
    pub late: bool,
    pub at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertEvent {
    pub usage_event_id: String,
    /// None: it was refused by the hard cap.
    pub seq: Option<Seq>,
}

impl Alert {
    pub fn id(&self) -> AlertId {
        let account = (self.tenant.as_str(), self.customer.as_str(), self.meter.as_str());
        AlertId::new(account, (&self.cap.id, self.cap.period, self.bounds), self.threshold, self.generation)
    }
}

/// An alert in a list: as it was made, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedAlert {
    /// The record that made it.
    pub seq: Seq,
    /// As it was made: its state is `Triggered`.
    pub alert: Alert,
    pub recovered: Option<Recovered>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    pub seq: Seq,
    pub at: Timestamp,
    pub used: Quantity,
}

/// Which alerts are listed, oldest first.
#[derive(Clone, Debug)]
pub struct AlertsQuery {
    pub tenant: TenantId,
    pub customer: Option<String>,
    pub meter: Option<String>,
    pub state: Option<AlertState>,
    /// Alerts made after this record.
    pub after: Option<Seq>,
    pub limit: usize,
}

#[derive(Clone, Debug)]
pub struct AlertsPage {
    pub alerts: Vec<ListedAlert>,
    pub more: bool,
    /// Nothing may leave before this record is durable.
    pub seq: Seq,
}

/// Whether a customer may use so much more, by the cap that leaves the least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub allowed: bool,
    pub used: Quantity,
    pub held: Quantity,
    /// Of the deciding cap. None: there is no cap with such a member.
    pub cap: Option<String>,
    /// The lowest soft threshold that usage has not reached; the highest once it has reached all.
    pub soft: Option<Quantity>,
    pub hard: Option<Quantity>,
    /// What is left up to the hard cap, never negative. None: no hard cap.
    pub remaining: Option<Quantity>,
    /// What is used past the hard cap.
    pub overage: Quantity,
    /// The deciding cap's period, or the billing period where there is no cap.
    pub bounds: Window,
}

/// The caps of one customer on one meter, each with what it has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterCaps {
    pub meter: MeterId,
    /// The customer has caps of their own there, which stand in for those of the config.
    pub own: bool,
    pub caps: Vec<CapStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapStatus {
    pub cap: Cap,
    /// The present period.
    pub bounds: Window,
    pub used: Quantity,
    pub held: Quantity,
    /// Those of the cap, ascending; true: crossed, and not recovered.
    pub thresholds: Vec<(Threshold, Quantity, bool)>,
}

/// Quota that is to be set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserve {
    pub tenant: TenantId,
    pub id: String,
    pub customer: String,
    pub meter: MeterId,
    /// More than 0.
    pub quantity: Quantity,
    /// From when it is recorded.
    pub expires_in: crate::model::Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    pub tenant: TenantId,
    pub id: String,
    pub customer: String,
    pub meter: MeterId,
    pub quantity: Quantity,
    /// The billing period it was made in: its name and bounds.
    pub period: crate::meter::BillingPeriod,
    /// The window it was made in.
    pub window: Window,
    pub made_at: Timestamp,
    pub expires_at: Timestamp,
    pub state: ReservationState,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReservationState {
    Held,
    /// By this event, with what was used in the end.
    Committed {
        seq: Seq,
        quantity: Quantity,
        at: Timestamp,
    },
    Released {
        at: Timestamp,
    },
    Expired {
        at: Timestamp,
    },
}

impl ReservationState {
    pub fn as_str(&self) -> &'static str {
        match self {
            ReservationState::Held => "held",
            ReservationState::Committed { .. } => "committed",
            ReservationState::Released { .. } => "released",
            ReservationState::Expired { .. } => "expired",
        }
    }
}

/// Why a reservation was not made or not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReservationRefused {
    #[error("there is no such reservation, or it ended long ago")]
    Unknown,
    #[error("it expired at {0}")]
    Expired(Timestamp),
    #[error("it was released at {0}")]
    Released(Timestamp),
    #[error("it is committed already, by record {0}")]
    Committed(Seq),
    /// The id has another customer, meter, quantity or lifetime.
    #[error("a reservation with this id was made before, and says otherwise")]
    Differs,
    #[error("the hard cap leaves {} of {}", .0.remaining.unwrap_or_default(), .0.hard.unwrap_or_default())]
    Capped(Box<Verdict>),
    #[error("limits.reservations = {0} are held already")]
    TooMany(usize),
}
