//! Caps, checks, alerts and reservations as readers see them, compared with what they ought to be.

use std::collections::BTreeMap;

use meterd::engine::{AlertState, AlertsQuery, Done, ListedAlert, Recovered};
use meterd::model::{MeterId, Quantity, Seq, Timestamp};

use super::super::super::caps::{Account, CAPPED, Limits, ONE, Raised, Stretch, events_in, used};
use super::super::super::model::{CUSTOMERS, METERS};
use super::super::super::node::{reservation_id, tenant};
use super::super::{Sabotage, World};
use super::RESERVATIONS;

impl World {
    pub(in super::super) fn check_reservation(&self, id: u8, done: &Done) {
        let Done::Reserved(reservation) = done else { panic!("reservation {id}: {done:?}") };
        assert_eq!(**reservation, self.desk.book.known.reservations[&id].reservation(id, self.meter_of(id)));
    }

    fn meter_of(&self, id: u8) -> MeterId {
        self.meter_id(self.desk.book.known.reservations[&id].account.1)
    }

    /// Every alert as a reader sees it, page by page.
    fn alerts(&mut self, query: &AlertsQuery) -> Vec<ListedAlert> {
        let (mut alerts, mut after) = (Vec::new(), None);
        loop {
            let limit = self.rng.usize(1..8);
            let query = AlertsQuery { after, limit, ..query.clone() };
            let page = self.node.view.alerts(&query).expect("the store in memory answers");
            assert!(page.alerts.len() <= limit);
            after = page.alerts.last().map(|listed| listed.seq);
            alerts.extend(page.alerts);
            if !page.more {
                break;
            }
        }
        if self.sabotage == Sabotage::AlertTwice {
            alerts.extend(alerts.last().cloned());
        }
        alerts
    }

    /// The alerts are those that there ought to be; notes the records of new ones.
    pub(super) fn check_alerts(&mut self) {
        let query = AlertsQuery { tenant: tenant(), customer: None, meter: None, state: None, after: None, limit: 0 };
        let listed = self.alerts(&query);
        let position = self.node.running.writer.position();
        let mut newest = Seq::ZERO;
        assert_eq!(
            listed.len(),
            self.desk.book.known.alerts.len(),
            "{listed:#?}, expected {:#?}",
            self.desk.book.known
        );
        for (listed, known) in listed.iter().zip(&mut self.desk.book.known.alerts) {
            assert!(listed.seq > newest && listed.seq <= position, "alerts are in order: {listed:?}");
            newest = listed.seq;
            if known.seq == Seq::ZERO {
                known.seq = listed.seq;
                assert!(known.event.1.is_none_or(|event| event < known.seq), "an alert follows its event: {listed:?}");
                let seen = &mut self.seen;
                seen.alerts += 1;
                seen.alerts_of_refusals += u64::from(known.event.1.is_none());
                seen.late_alerts += u64::from(known.late);
                seen.hourly_alerts += u64::from(known.cap.hourly);
                seen.shadow_alerts += u64::from(!known.cap.enforced);
                seen.generations += u64::from(known.generation > 1);
            }
            if let (Some(recovery), Some(told)) = (&mut known.recovered, &listed.recovered)
                && recovery.seq == Seq::ZERO
            {
                recovery.seq = told.seq;
                assert!(told.seq > known.seq && told.seq <= position, "{listed:?}");
                self.seen.recovered += 1;
                self.seen.recovered_by_usage += u64::from(recovery.event.is_some());
            }
            let recovered = known.recovered.as_ref();
            let recovered =
                recovered.map(|it| Recovered { seq: it.seq, at: it.at, used: Quantity::from_scaled(it.used) });
            let expected = ListedAlert { seq: known.seq, alert: known.alert(), recovered };
            assert_eq!(*listed, expected, "{:?}, then {:?}", known.cap, known.recovered);
        }
    }

    /// Caps, checks, alerts and reservations as readers see them.
    pub(in super::super) fn compare_caps(&mut self) {
        if !self.desk.is_open {
            return;
        }
        self.check_alerts();
        self.check_lists();
        self.check_reservations();
        self.check_conservation();
        let writer = &self.node.running.writer;
        if writer.has_group() {
            // The model knows of what is in the open group; checks see it once that is sealed.
            writer.state().write().post();
        }
        let now = writer.state().read().now();
        for customer in 0..CUSTOMERS {
            self.check_status(customer, now);
            for meter in CAPPED {
                self.check_check((customer, meter), now);
            }
        }
    }

    /// Alerts by customer, meter and state.
    fn check_lists(&mut self) {
        let customer = self.rng.bool().then(|| self.rng.u8(..CUSTOMERS));
        let meter = self.rng.bool().then(|| CAPPED[self.rng.usize(..CAPPED.len())]);
        let state = [None, Some(AlertState::Triggered), Some(AlertState::Recovered)][self.rng.usize(..3)];
        let query = AlertsQuery {
            tenant: tenant(),
            customer: customer.map(|customer| format!("customer-{customer}")),
            meter: meter.map(|meter| METERS[meter].to_owned()),
            state,
            after: None,
            limit: 0,
        };
        let is_it = |alert: &&Raised| {
            customer.is_none_or(|customer| customer == alert.account.0)
                && meter.is_none_or(|meter| meter == alert.account.1)
                && state.is_none_or(|state| (state == AlertState::Recovered) == alert.recovered.is_some())
        };
        let expected: Vec<Seq> = self.desk.book.known.alerts.iter().filter(is_it).map(|alert| alert.seq).collect();
        let got: Vec<Seq> = self.alerts(&query).iter().map(|listed| listed.seq).collect();
        if self.sabotage != Sabotage::AlertTwice {
            assert_eq!(got, expected, "{query:?}");
        }
    }

    fn check_reservations(&mut self) {
        let (known, view) = (&self.desk.book.known, &self.node.view);
        for id in 0..RESERVATIONS {
            let expected = known.reservations.get(&id).map(|held| held.reservation(id, self.meter_of(id)));
            assert_eq!(view.reservation(&tenant(), &reservation_id(id)).0, expected);
        }
        let held = known.reservations.iter().filter(|(_, held)| held.is_open());
        let held: Vec<String> = held.map(|(id, _)| reservation_id(*id)).collect();
        let (mut got, mut after): (Vec<String>, Option<String>) = (Vec::new(), None);
        loop {
            let page = view.held(&tenant(), after.as_deref(), self.rng.usize(1..4)).0;
            got.extend(page.into_iter().map(|reservation| reservation.id));
            if got.last() == after.as_ref() {
                break;
            }
            after = got.last().cloned();
        }
        assert_eq!(got, held, "reservations that are held");
    }

    fn check_status(&self, customer: u8, now: Timestamp) {
        let (known, name) = (&self.desk.book.known, format!("customer-{customer}"));
        let (mut meters, seq) = self.node.view.caps(&tenant(), &name);
        assert!(seq <= self.node.running.writer.position());
        for meter in CAPPED {
            let account = (customer, meter);
            let (id, caps) = (self.meter_id(meter), known.caps(&self.model, account));
            let place = meters.iter().position(|status| status.meter == id);
            let place = place.unwrap_or_else(|| panic!("{name} has no entry for {}", METERS[meter]));
            let status = meters.swap_remove(place);
            assert_eq!(status.own, known.own.contains_key(&account), "{account:?}");
            assert_eq!(status.caps.len(), caps.len(), "{account:?}: {caps:?}");
            let place = known.place_at(&self.model, account, now);
            for (status, cap) in status.caps.iter().zip(&caps) {
                let stretch = place.stretch(cap);
                let told = (status.bounds.start.micros(), status.bounds.end.micros());
                assert_eq!((&status.cap, told), (&self.setup.caps.cap(cap), stretch.bounds()), "{account:?}");
                let told = (status.used.scaled(), status.held.scaled());
                let expected = (used(&self.model, account, &stretch), known.held(account, &stretch));
                assert_eq!(told, expected, "used and held of {account:?} {stretch:?}");
                let active = known.active(account, cap, &stretch);
                let lines = cap.lines().into_iter().map(|line| (line.amount, active.contains(&line.text), line.text));
                let told = status.thresholds.iter();
                let told = told.map(|(text, amount, crossed)| (amount.scaled(), *crossed, text.to_string()));
                assert!(
                    told.clone().eq(lines.clone()),
                    "{:?}: {:?}",
                    told.collect::<Vec<_>>(),
                    lines.collect::<Vec<_>>()
                );
            }
        }
        assert!(meters.iter().all(|status| status.caps.is_empty()), "{meters:?}");
    }

    /// Whether so much more may be used.
    fn check_check(&mut self, account: Account, now: Timestamp) {
        let most = if account.1 == 0 { 6 } else { 1_500 };
        let quantity = ONE * i128::from(self.rng.i64(0..most));
        let (customer, meter) = (format!("customer-{}", account.0), self.meter_id(account.1));
        let verdict = self.node.view.check(&tenant(), &customer, meter, Quantity::from_scaled(quantity));
        let verdict = verdict.expect("the meter can have caps");
        let known = &self.desk.book.known;
        let (caps, place) = (known.caps(&self.model, account), known.place_at(&self.model, account, now));
        let broken = known.broken(&self.model, account, &place, quantity, None);
        assert_eq!(verdict.allowed, broken.is_empty(), "{quantity} more of {account:?}: {verdict:?}, {broken:?}");
        self.seen.checks += 1;
        self.seen.denied += u64::from(!verdict.allowed);
        let cap = verdict.cap.as_ref().map(|id| caps.iter().find(|cap| cap.id == *id).expect("one of the caps"));
        assert_eq!(cap.is_none(), caps.is_empty(), "{verdict:?}");
        let stretch = cap.map_or(Stretch::Billing(place.label.clone()), |cap| place.stretch(cap));
        let (used, held) = (used(&self.model, account, &stretch), known.held(account, &stretch));
        assert_eq!((verdict.used.scaled(), verdict.held.scaled()), (used, held), "{account:?} {stretch:?}");
        assert_eq!((verdict.bounds.start.micros(), verdict.bounds.end.micros()), stretch.bounds());
        let hard = cap.and_then(|cap| cap.hard);
        assert_eq!(verdict.hard.map(Quantity::scaled), hard);
        assert_eq!(
            verdict.remaining.map(Quantity::scaled),
            hard.map(|hard| (hard - used - held).max(0)),
            "{verdict:?}"
        );
        assert_eq!(verdict.overage.scaled(), hard.map_or(0, |hard| (used - hard).max(0)), "{verdict:?}");
        assert!(verdict.allowed || broken.iter().any(|broken| Some(broken.id) == verdict.cap.as_deref()));
    }

    /// What was used of an account is at most what a rejecting cap allows that was in force throughout.
    fn check_conservation(&mut self) {
        for (account, caps) in self.desk.book.known.all_caps(&self.model) {
            for cap in caps.iter().filter(|cap| cap.limit().is_some()) {
                let totals = if cap.hourly { self.hourly_totals(account) } else { self.billed_totals(account) };
                for (stretch, total) in totals {
                    self.check_total(account, cap, (&stretch, total));
                }
            }
        }
    }

    fn hourly_totals(&self, account: Account) -> BTreeMap<Stretch, i128> {
        let mut totals = BTreeMap::new();
        for (name, window) in self.node.windows().iter().filter(|(name, _)| (name.0, name.1) == account) {
            *totals.entry(Stretch::Hour(name.3)).or_default() += window.value.scaled();
        }
        totals
    }

    fn billed_totals(&mut self, account: Account) -> BTreeMap<Stretch, i128> {
        let mut totals = BTreeMap::new();
        for (name, period) in self.periods().iter().filter(|(name, _)| (name.0, name.1) == account) {
            *totals.entry(Stretch::Billing(name.3.clone())).or_default() += period.value.scaled();
        }
        totals
    }

    fn check_total(&mut self, account: Account, cap: &Limits, (stretch, total): (&Stretch, i128)) {
        let known = &self.desk.book.known;
        let since = known.since.get(&account).copied().unwrap_or(Seq::ZERO);
        let proves_nothing = events_in(&self.model, account, stretch).any(|event| {
            event.seq < since
                || known.exempt.contains(&(event.seq, account.1))
                || known.commits.get(&event.seq).is_some_and(|held| held.seq < since)
        });
        if proves_nothing {
            return;
        }
        let limit = cap.limit().expect("it was asked for");
        assert!(total <= limit, "{account:?} used {total} of {limit} in {stretch:?}: {cap:?}");
        self.seen.conserved += 1;
        self.seen.used_up += u64::from(total == limit);
    }
}
