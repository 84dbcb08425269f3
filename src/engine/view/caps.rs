//! What readers may know of caps: checks, the caps of a customer, alerts, reservations.

use super::{ReadError, View};
use crate::engine::caps::{AlertsPage, AlertsQuery, MeterCaps, Reservation, Verdict};
use crate::model::{MeterId, Quantity, Seq, TenantId};

impl View {
    /// Whether a customer may use so much more of a meter now. Quick: no store, no waiting. It sees every event that was
    /// acknowledged, and some that are about to be. None: the meter cannot have caps, or the total leaves the range.
    pub fn check(&self, tenant: &TenantId, customer: &str, meter: MeterId, quantity: Quantity) -> Option<Verdict> {
        let _ = (tenant, customer, meter, quantity);
        None
    }

    /// The caps of a customer, one entry for each meter that can have any; and the record they are as of.
    pub fn caps(&self, tenant: &TenantId, customer: &str) -> (Vec<MeterCaps>, Seq) {
        let _ = (tenant, customer);
        (Vec::new(), Seq::ZERO)
    }

    /// A page of alerts, oldest first. Blocks.
    pub fn alerts(&self, query: &AlertsQuery) -> Result<AlertsPage, ReadError> {
        let _ = query;
        Ok(AlertsPage { alerts: Vec::new(), more: false, seq: Seq::ZERO })
    }

    /// A reservation, and the record it is as of.
    pub fn reservation(&self, tenant: &TenantId, id: &str) -> (Option<Reservation>, Seq) {
        let _ = (tenant, id);
        (None, Seq::ZERO)
    }

    /// Reservations that are held, in order of id, at most so many after an id; and the record they are as of.
    pub fn held(&self, tenant: &TenantId, after: Option<&str>, limit: usize) -> (Vec<Reservation>, Seq) {
        let _ = (tenant, after, limit);
        (Vec::new(), Seq::ZERO)
    }
}
