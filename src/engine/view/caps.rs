//! What readers may know of caps: checks, the caps of a customer, alerts, reservations.
//!
//! 1. A check sees every event that was acknowledged, and some that are about to be. As a rule it reads what its account has
//!    posted, and waits for nobody; else it reads the state. Only where the clock was set back into a closed stretch is the
//!    store asked.
//! 2. An alert is in the store, among the newest in memory, or for a moment in both.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{ReadError, View};
use crate::engine::caps::{
    Alert, AlertState, AlertsPage, AlertsQuery, CapStatus, ListedAlert, MeterCaps, Recovered, Reservation, Verdict,
};
use crate::engine::key;
use crate::engine::state::caps::{Account, Usage, codec, decide, reservation_name};
use crate::engine::state::{LoadError, State};
use crate::meter::caps::can_be_capped;
use crate::meter::{Cap, CapPeriod};
use crate::model::{MeterId, Quantity, Seq, TenantId};
use crate::store::{Snapshot, Table};

impl View {
    /// Whether a customer may use so much more of a meter now. None: the meter cannot have caps.
    pub fn check(&self, tenant: &TenantId, customer: &str, meter: MeterId, quantity: Quantity) -> Option<Verdict> {
        let slug = self.slug_of(meter)?;
        let name = key::account_name(tenant.as_str(), customer, &slug);
        if let Some(verdict) = self.check_posted((&name, meter), quantity) {
            return Some(verdict);
        }
        let state = self.state.read();
        let found = state.find_account(&name).map(|number| state.caps().account(number));
        if found.is_some_and(|account| !account.is_posted()) {
            self.board.ask(&name);
        }
        let usage = self.present(&state, (&name, meter), found);
        Some(match found {
            Some(account) => decide(&account.caps, quantity, usage),
            None => decide(&state.caps_of(&name, meter), quantity, usage),
        })
    }

    /// A check that needs no more than what its account has posted.
    fn check_posted(&self, (name, meter): (&[u8], MeterId), quantity: Quantity) -> Option<Verdict> {
        let posted = self.board.find(name)?;
        let (period, window) = self.batches.place_of(name, meter, self.board.now());
        let bounds = |kind| if kind == CapPeriod::Billing { period.bounds } else { window };
        let shown = posted.lock();
        let usage = |kind| shown.usage(kind, bounds(kind)).expect("of a cap, and complete");
        shown.is_complete(bounds).then(|| decide(shown.caps(), quantity, usage))
    }

    /// The slug of a meter that can have caps.
    fn slug_of(&self, meter: MeterId) -> Option<String> {
        let meters = self.batches.0.meters.get(meter)?;
        can_be_capped(&meters.definition).then(|| meters.definition.slug.clone())
    }

    /// What an account has come to in the present stretch of each kind.
    fn present<'a>(
        &'a self,
        state: &'a State,
        (name, meter): (&'a [u8], MeterId),
        account: Option<&'a Account>,
    ) -> impl Fn(CapPeriod) -> Usage + 'a {
        let now = state.now();
        move |kind| {
            let (period, window) = self.batches.place_of(name, meter, now);
            let bounds = if kind == CapPeriod::Billing { period.bounds } else { window };
            if let Some(total) = account.and_then(|account| account.total(kind, bounds)) {
                return Usage { bounds: total.bounds, used: total.used, held: total.held };
            }
            let used = state.used_at_present((name, meter), kind, (&period, window)).unwrap_or_default();
            Usage { bounds, used, held: account.map_or(0, |account| account.held(kind, bounds)) }
        }
    }

    /// The caps of a customer, one entry for each meter that can have any and is in use; and the record they are as of.
    pub fn caps(&self, tenant: &TenantId, customer: &str) -> (Vec<MeterCaps>, Seq) {
        let meters = self.batches.meters();
        let state = self.state.read();
        let capable = meters.iter().filter(|meter| !meter.retired && can_be_capped(&meter.definition));
        let shown = capable.map(|meter| {
            let name = key::account_name(tenant.as_str(), customer, &meter.definition.slug);
            let account = state.find_account(&name).map(|number| state.caps().account(number));
            let usage = self.present(&state, (&name, meter.id), account);
            let caps = state.caps_of(&name, meter.id);
            let caps = caps.iter().map(|cap| status(cap, account, usage(cap.period))).collect();
            MeterCaps { meter: meter.id, own: state.caps().own(&name).is_some(), caps }
        });
        (shown.collect(), state.position())
    }

    /// A reservation, and the record it is as of.
    pub fn reservation(&self, tenant: &TenantId, id: &str) -> (Option<Reservation>, Seq) {
        let state = self.state.read();
        let name = reservation_name(tenant.as_str(), id);
        (state.caps().reservations().get(&name).cloned(), state.position())
    }

    /// Reservations that are held, in order of id, at most so many after an id; and the record they are as of.
    pub fn held(&self, tenant: &TenantId, after: Option<&str>, limit: usize) -> (Vec<Reservation>, Seq) {
        let state = self.state.read();
        let held = state.caps().reservations().held_by(tenant.as_str(), after);
        (held.take(limit).cloned().collect(), state.position())
    }

    /// A page of alerts, oldest first. Blocks.
    pub fn alerts(&self, query: &AlertsQuery) -> Result<AlertsPage, ReadError> {
        let tenant = query.tenant.as_str();
        let (snapshot_of, newer, seq) = {
            let state = self.state.read();
            let newer = state.caps().recent_alerts().filter(|(_, _, alert)| alert.tenant == tenant);
            let newer: Vec<(Seq, Seq, Arc<Alert>)> = newer.map(|(seq, of, alert)| (seq, of, alert.clone())).collect();
            (state.store().clone(), newer, state.position())
        };
        // What was recent then may be in the store by now as well: the newest word on each is the same.
        let snapshot = snapshot_of.snapshot();
        let ended = newer.iter().filter(|(_, _, alert)| alert.state == AlertState::Recovered);
        let ended: BTreeMap<Seq, Recovered> =
            ended.map(|(seq, of, alert)| (*of, Recovered { seq: *seq, at: alert.at, used: alert.used })).collect();
        let mut page = Page { query, ended: &ended, alerts: Vec::new() };
        stored(&*snapshot, &mut page)?;
        let last = page.alerts.last().map(|alert| alert.seq);
        for (seq, _, alert) in newer.iter().filter(|(seq, _, alert)| {
            alert.state == AlertState::Triggered && Some(*seq) > last && Some(*seq) > query.after
        }) {
            page.offer(*seq, alert, None);
        }
        let Page { mut alerts, .. } = page;
        let more = alerts.len() > query.limit;
        alerts.truncate(query.limit);
        Ok(AlertsPage { alerts, more, seq })
    }
}

fn status(cap: &Cap, account: Option<&Account>, usage: Usage) -> CapStatus {
    let crossed = |threshold| account.is_some_and(|account| account.active(cap, usage.bounds, threshold).is_some());
    CapStatus {
        cap: cap.clone(),
        bounds: usage.bounds,
        used: Quantity::from_scaled(usage.used),
        held: Quantity::from_scaled(usage.held),
        thresholds: cap.thresholds().map(|(threshold, amount)| (threshold, amount, crossed(threshold))).collect(),
    }
}

struct Page<'a> {
    query: &'a AlertsQuery,
    /// What the store may not have yet of how alerts ended, by the record that raised them.
    ended: &'a BTreeMap<Seq, Recovered>,
    alerts: Vec<ListedAlert>,
}

impl Page<'_> {
    fn is_full(&self) -> bool {
        self.alerts.len() > self.query.limit
    }

    fn offer(&mut self, seq: Seq, alert: &Alert, recovered: Option<Recovered>) {
        let recovered = self.ended.get(&seq).copied().or(recovered);
        let state = if recovered.is_some() { AlertState::Recovered } else { AlertState::Triggered };
        let AlertsQuery { customer, meter, state: wanted, .. } = self.query;
        let is_wanted = wanted.is_none_or(|wanted| wanted == state)
            && customer.as_ref().is_none_or(|customer| *customer == alert.customer)
            && meter.as_ref().is_none_or(|meter| *meter == alert.meter);
        if is_wanted && !self.is_full() {
            self.alerts.push(ListedAlert { seq, alert: alert.clone(), recovered });
        }
    }
}

/// The store's alerts after the query's, until the page is full.
fn stored(snapshot: &dyn Snapshot, page: &mut Page<'_>) -> Result<(), ReadError> {
    let (tenant, query) = (page.query.tenant.as_str(), page.query);
    let after = query.after.map_or(Seq::ZERO, Seq::next);
    let (prefix, from) = match &query.customer {
        Some(customer) => {
            let prefix = codec::customer_alert_prefix(tenant, customer);
            (prefix, codec::customer_alert_key(tenant, customer, after))
        }
        None => (codec::alert_prefix(tenant), codec::alert_key(tenant, after)),
    };
    let mut cursor = snapshot.cursor(Table::Alerts)?;
    cursor.seek(&from)?;
    while let Some((key, value)) = cursor.row().filter(|(key, _)| key.starts_with(&prefix) && !page.is_full()) {
        let damaged = || LoadError::Damaged { table: Table::Alerts, key: key.to_vec() };
        let seq = codec::split_alert_seq(key).ok_or_else(damaged)?;
        let row = match query.customer {
            Some(_) => snapshot.get(Table::Alerts, &codec::alert_key(tenant, seq))?.ok_or_else(damaged)?,
            None => value.to_vec(),
        };
        let alert = codec::decode_alert(&row).ok_or_else(damaged)?;
        let recovered = snapshot.get(Table::Alerts, &codec::recovered_key(tenant, seq))?;
        let recovered = recovered.map(|row| codec::decode_recovered(&row).ok_or_else(damaged)).transpose()?;
        page.offer(seq, &alert, recovered);
        cursor.advance()?;
    }
    Ok(())
}
