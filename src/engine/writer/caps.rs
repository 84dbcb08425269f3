//! Caps at work: whether an event still fits, which thresholds it crosses, and what a change of caps brings back.
//!
//! 1. Decided in the step that counts the event, against everything that was decided before it: no race, no unit too many.
//! 2. An event's alerts stand right behind it in the log, in the same group: both are durable, or neither is.
//! 3. Lower thresholds fire first; of one amount the soft one before the hard cap. What recovers does so from the top.

use smallvec::SmallVec;

use super::operations::json;
use super::time::ANY_LAG;
use super::{GROUP_BYTES_MAX, Writer, WriterError, apply_own};
use crate::engine::batch::{Batch, Item};
use crate::engine::caps::{Alert, AlertEvent, AlertState, CapsChange};
use crate::engine::key;
use crate::engine::record::caps::put_caps;
use crate::engine::record::{CapsRecord, EventsWriter, Record};
use crate::engine::state::caps::accounts::{Hold, NONE};
use crate::engine::state::caps::{Account, Fired, Total};
use crate::engine::state::{Feed, Located, State};
use crate::meter::{BillingPeriod, Cap, CapPeriod, Threshold};
use crate::model::{MeterId, Quantity, Seq, Timestamp, Window};

/// An Events record that is being written.
pub(super) struct Open<'b> {
    pub batch: &'b Batch,
    pub events: EventsWriter,
    /// The newest event of it.
    pub last: Seq,
}

impl<'b> Open<'b> {
    pub fn start(payload: &mut Vec<u8>, batch: &'b Batch, last: Seq) -> Self {
        let tenant = batch.tenant.as_str();
        let whose = (tenant, batch.backfill);
        Self { batch, events: EventsWriter::start(payload, whose, batch.received_at, &batch.periods), last }
    }

    /// Ends the record, or takes it back if it stayed empty.
    pub fn finish(&self, payload: &mut Vec<u8>, state: &mut State) {
        self.events.finish(payload);
        let count = self.last.0 - state.position().0;
        if count > 0 {
            let ended = state.end_events(self.batch.tenant.as_str(), count, self.last);
            ended.expect("a backfill that takes events is there");
        }
    }
}

/// The accounts that an event's feeds count in: the feed's place, the account, the billing period.
pub(super) type Counted = SmallVec<[(usize, u32, BillingPeriod); 2]>;
/// An event's feeds, and where they go.
pub(super) type Feeds<'b> = SmallVec<[(Feed<'b>, Located); 2]>;

/// Why an event does not fit, and who is to hear of it.
pub(super) struct TooMuch {
    pub detail: Box<str>,
    /// Whose cap it is.
    pub meter: MeterId,
    pub alerts: Vec<Alert>,
}

impl<R> Writer<R> {
    /// Which accounts the feeds count in where more may come of it than the counting; their totals are kept up from here on.
    pub(super) fn counted(&self, state: &mut State, feeds: &Feeds<'_>) -> Result<Counted, WriterError> {
        let mut counted = Counted::new();
        for (place, (feed, located)) in feeds.iter().enumerate() {
            let account = match located.series_number() {
                Some(number) => state.series(number).account,
                None => state.account_for(feed.key, feed.meter).unwrap_or(NONE),
            };
            if account != NONE {
                let period = state.period_of(feed, *located);
                let change = state.change_of(feed);
                if state.caps().account(account).is_quiet((period.bounds, feed.window), change) {
                    continue;
                }
                state.keep_up(account, (&period, feed.window))?;
                counted.push((place, account, period));
            }
        }
        Ok(counted)
    }

    /// Whether a cap refuses the event. `hold`: it was set aside for this very event.
    pub(super) fn refused(
        &self,
        state: &State,
        (batch, item): (&Batch, &Item),
        (feeds, counted): (&Feeds<'_>, &Counted),
        (now, hold): (Timestamp, Option<&Hold>),
    ) -> Option<TooMuch> {
        for (place, account, period) in counted {
            let (feed, _) = &feeds[*place];
            let (account, quantity) = (state.caps().account(*account), state.change_of(feed));
            let totals = totals_of(account, (period.bounds, feed.window))
                .filter(|total| !(feed.late && total.bounds.end <= now));
            let over: Vec<&Total> = totals.filter(|total| total.exceeds(quantity, hold)).collect();
            let Some(total) = over.first() else { continue };
            let said = Said { period, late: feed.late, event: Some((batch.id_of(item), None)), at: batch.received_at };
            let alerts = refusals(account, &over, (quantity, hold), &said);
            let (used, asked) = (Quantity::from_scaled(total.used), Quantity::from_scaled(quantity));
            let cap = account.caps.iter().filter(|cap| cap.period == total.kind && cap.limit().is_some());
            let (_, _, slug) = key::split_account(&account.name).expect("written by this process");
            let cap = cap.min_by_key(|cap| cap.limit()).map(|cap| (cap.id.as_str(), cap.hard.unwrap_or_default()));
            let (id, hard) = cap.unwrap_or_default();
            let held = match Quantity::from_scaled(total.held) {
                Quantity::ZERO => String::new(),
                held => format!(" and {held} are held"),
            };
            let end = total.bounds.end;
            let detail = format!(
                "meter {slug}: {asked} more would exceed cap {id:?}: {used} of {hard} are used{held}, until {end}"
            );
            return Some(TooMuch { detail: detail.into(), meter: account.meter, alerts });
        }
        None
    }

    /// The alerts that an event has made due, now that it is counted.
    pub(super) fn due_alerts(
        state: &State,
        (batch, item, seq): (&Batch, &Item, Seq),
        (feeds, counted): (&Feeds<'_>, &Counted),
    ) -> Vec<Alert> {
        let mut due = Vec::new();
        for (place, account, period) in counted {
            let (feed, _) = &feeds[*place];
            let (account, change) = (state.caps().account(*account), state.change_of(feed));
            let crossed: Vec<&Total> =
                totals_of(account, (period.bounds, feed.window)).filter(|total| total.is_crossed(change)).collect();
            let said =
                Said { period, late: feed.late, event: Some((batch.id_of(item), Some(seq))), at: batch.received_at };
            due.extend(crossings(account, &crossed, change, &said));
        }
        due
    }

    /// The alerts of an account whose usage was taken back from: `less` is the change.
    pub(super) fn settle_account(
        &mut self,
        state: &mut State,
        account: u32,
        (period, window): (&BillingPeriod, Window),
        (less, late): (i128, bool),
        (event, at): (Option<(&str, Seq)>, Timestamp),
    ) {
        let account = state.caps().account(account);
        let totals = totals_of(account, (period.bounds, window));
        let crossed: Vec<&Total> = totals.filter(|total| total.is_crossed(less)).collect();
        let said = Said { period, late, event: event.map(|(id, seq)| (id, Some(seq))), at };
        let alerts = crossings(account, &crossed, less, &said);
        alerts.into_iter().for_each(|alert| self.put_alert(state, alert));
    }

    /// Writes alerts behind what was written last.
    pub(super) fn put_alerts(&mut self, state: &mut State, open: &mut Open<'_>, alerts: Vec<Alert>) {
        open.finish(&mut self.payload, state);
        alerts.into_iter().for_each(|alert| self.put_alert(state, alert));
        if self.payload.len() >= GROUP_BYTES_MAX {
            self.end_group(state);
        }
        *open = Open::start(&mut self.payload, open.batch, state.position());
    }

    pub(super) fn put_alert(&mut self, state: &mut State, alert: Alert) {
        self.crossings.note(&alert);
        self.put_caps(state, &CapsRecord::Alert(Box::new(alert)));
    }

    pub(super) fn put_caps(&mut self, state: &mut State, record: &CapsRecord<'_>) {
        put_caps(&mut self.payload, record);
        apply_own(state, &Record::Caps(record.clone()));
    }

    /// Sets a customer's own caps on a meter, or takes them back.
    pub(super) fn change_caps(&mut self, state: &mut State, change: CapsChange, at: Timestamp) {
        let CapsChange { tenant, customer, meter, caps } = change;
        let slug = state.definitions()[usize::from(meter.0)].slug.clone();
        let name = key::account_name(tenant.as_str(), &customer, &slug);
        if state.caps().own(&name) == caps.as_deref() {
            return;
        }
        // What is present is decided by the log's time: a crash must not take it back.
        self.put_time(state, ANY_LAG);
        let before = state.caps_of(&name, meter);
        let (tenant, customer) = (tenant.as_str(), customer.as_str());
        let (action, target) = (if caps.is_some() { "caps.put" } else { "caps.delete" }, format!("{customer}/{slug}"));
        let change = (state.caps().own(&name).map(json), caps.as_ref().map(json));
        self.put_caps(state, &CapsRecord::Changed { tenant, customer, meter, at, caps });
        self.reassess(state, (&name, meter), &before, at);
        self.put_trail(state, (Some(tenant), at), (action, &target), change);
    }

    /// Brings back what is below its threshold since an account's caps have changed. What is above a new one fires with the
    /// customer's next event.
    pub(super) fn reassess(
        &mut self,
        state: &mut State,
        (name, meter): (&[u8], MeterId),
        before: &[Cap],
        at: Timestamp,
    ) {
        let after = state.caps_of(name, meter);
        if *before == *after {
            return;
        }
        let now = self.believed(state);
        recoveries(state, name, (before, &after), (now, at)).into_iter().for_each(|alert| self.put_alert(state, alert));
    }
}

/// What an alert says beside what its account does.
struct Said<'a> {
    period: &'a BillingPeriod,
    late: bool,
    event: Option<(&'a str, Option<Seq>)>,
    at: Timestamp,
}

/// The account's totals that a feed is part of.
fn totals_of(account: &Account, (billing, window): (Window, Window)) -> impl Iterator<Item = &Total> {
    account.totals.iter().filter(move |total| match total.kind {
        CapPeriod::Billing => total.bounds == billing,
        CapPeriod::Window => total.bounds == window,
    })
}

/// The hard caps that refuse an event, and have not been crossed or heard of so far.
fn refusals(account: &Account, over: &[&Total], asked: (i128, Option<&Hold>), said: &Said<'_>) -> Vec<Alert> {
    let mut alerts = Vec::new();
    for (total, cap) in caps_of(account, over) {
        let refuses = cap.limit().is_some_and(|limit| total.would_exceed(asked, limit.scaled()));
        if let (true, Some(hard)) = (refuses, cap.hard)
            && account.active(cap, total.bounds, Threshold::Hard).is_none()
        {
            alerts.push(raised(account, total, (cap, Threshold::Hard, hard), said));
        }
    }
    alerts.sort_by_key(|alert: &Alert| (alert.amount, alert.cap.id.clone()));
    alerts
}

/// The caps that count in these totals.
fn caps_of<'a>(account: &'a Account, totals: &[&'a Total]) -> impl Iterator<Item = (&'a Total, &'a Cap)> {
    totals.iter().flat_map(|total| account.caps.iter().filter(|cap| cap.period == total.kind).map(|cap| (*total, cap)))
}

/// What usage has crossed, upwards or downwards.
fn crossings(account: &Account, crossed: &[&Total], change: i128, said: &Said<'_>) -> Vec<Alert> {
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for (total, cap) in caps_of(account, crossed) {
        for (threshold, amount) in cap.thresholds() {
            let is_reached = total.used >= amount.scaled();
            match account.active(cap, total.bounds, threshold) {
                None if is_reached => up.push(raised(account, total, (cap, threshold, amount), said)),
                Some(fired) if !is_reached && (!fired.refused || change < 0) => {
                    down.push(said.alert(
                        AlertState::Recovered,
                        account,
                        total,
                        (cap, threshold, amount),
                        fired.generation,
                    ));
                }
                _ => {}
            }
        }
    }
    let place = |alert: &Alert| (alert.amount, alert.cap.id.clone(), alert.threshold == Threshold::Hard);
    up.sort_by_key(place);
    down.sort_by_key(|alert| std::cmp::Reverse(place(alert)));
    down.extend(up);
    down
}

fn raised(account: &Account, total: &Total, crossed: (&Cap, Threshold, Quantity), said: &Said<'_>) -> Alert {
    let is_it = |fired: &&Fired| fired.is_of(crossed.0, total.bounds) && fired.threshold == crossed.1;
    let generation = account.fired.iter().find(is_it).map_or(0, |fired| fired.generation) + 1;
    said.alert(AlertState::Triggered, account, total, crossed, generation)
}

impl Said<'_> {
    fn alert(
        &self,
        state: AlertState,
        account: &Account,
        total: &Total,
        (cap, threshold, amount): (&Cap, Threshold, Quantity),
        generation: u32,
    ) -> Alert {
        let (tenant, customer, meter) = key::split_account(&account.name).expect("written by this process");
        Alert {
            state,
            tenant: tenant.to_owned(),
            customer: customer.to_owned(),
            meter: meter.to_owned(),
            cap: cap.clone(),
            threshold,
            amount,
            period: (total.kind == CapPeriod::Billing).then(|| self.period.label.to_string()),
            bounds: total.bounds,
            generation,
            used: Quantity::from_scaled(total.used),
            event: self.event.map(|(id, seq)| AlertEvent { usage_event_id: id.to_owned(), seq }),
            late: self.late,
            at: self.at,
        }
    }
}

/// Alerts of present periods that end because caps have changed from `before` to `after`: usage is below what the threshold
/// comes to now, or there is no such threshold any more. From the top.
pub fn recoveries(
    state: &State,
    name: &[u8],
    (before, after): (&[Cap], &[Cap]),
    (now, at): (Timestamp, Timestamp),
) -> Vec<Alert> {
    let Some(account) = state.find_account(name).map(|number| state.caps().account(number)) else { return Vec::new() };
    let (tenant, customer, meter) = key::split_account(name).expect("account names are written by this process");
    let mut alerts = Vec::new();
    // What was closed before the clock was set back may have left memory: there only events bring back what they are below.
    let is_present = |fired: &&Fired| fired.bounds.end > now && !state.may_have_left(account.meter, fired.bounds);
    for fired in account.fired.iter().filter(|fired| fired.active).filter(is_present) {
        let amount = |caps: &[Cap]| {
            let cap = caps.iter().find(|cap| fired.is_of(cap, fired.bounds))?;
            let (_, amount) = cap.thresholds().find(|(threshold, _)| *threshold == fired.threshold)?;
            Some((cap.clone(), amount))
        };
        let used = state.used_in_memory((name, account.meter), fired.kind, fired.bounds);
        let (was, is) = (amount(before), amount(after));
        let same = matches!((&was, &is), (Some((was, _)), Some((is, _))) if was.limit() == is.limit());
        let stays = is.as_ref().is_some_and(|(_, amount)| used >= amount.scaled() || (fired.refused && same));
        let Some((cap, amount)) = is.or(was).filter(|_| !stays) else { continue };
        alerts.push(Alert {
            state: AlertState::Recovered,
            tenant: tenant.to_owned(),
            customer: customer.to_owned(),
            meter: meter.to_owned(),
            cap,
            threshold: fired.threshold,
            amount,
            period: state.period_name(tenant, fired),
            bounds: fired.bounds,
            generation: fired.generation,
            used: Quantity::from_scaled(used),
            event: None,
            late: false,
            at,
        });
    }
    let place = |alert: &Alert| (alert.amount, alert.cap.id.clone(), alert.threshold == Threshold::Hard);
    alerts.sort_by_key(|alert| std::cmp::Reverse(place(alert)));
    alerts
}
