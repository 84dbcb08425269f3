//! Which alerts there ought to be, and when each ends.

use std::collections::BTreeSet;

use meterd::engine::{Alert, AlertEvent, AlertState};
use meterd::meter::Threshold;
use meterd::model::{Quantity, Seq, Timestamp, Window};

use super::limits::{Line, all_lines};
use super::{Account, Broken, Known, Limits, Place, Stretch, used};
use crate::simulation::model::{Accepted, METERS, Model, Sent};

/// An alert, from when it was raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raised {
    /// Its record; 0 until it was looked at.
    pub seq: Seq,
    pub at: Timestamp,
    pub account: Account,
    /// As it was then.
    pub cap: Limits,
    pub stretch: Stretch,
    pub threshold: String,
    pub amount: i128,
    pub generation: u32,
    pub used: i128,
    /// The event's id; and its record, unless it was refused.
    pub event: (u64, Option<Seq>),
    pub late: bool,
    pub recovered: Option<Recovery>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    pub seq: Seq,
    pub at: Timestamp,
    pub used: i128,
    /// As it was then, and what the threshold came to.
    pub cap: Limits,
    pub amount: i128,
    pub event: Option<(u64, Option<Seq>)>,
    pub late: bool,
}

impl Raised {
    fn is(&self, account: Account, cap: &Limits, stretch: &Stretch, threshold: &str) -> bool {
        self.account == account && self.cap.id == cap.id && self.stretch == *stretch && self.threshold == threshold
    }

    /// What the engine ought to say as it ends.
    pub fn ended(&self) -> Option<Alert> {
        let recovery = self.recovered.as_ref()?;
        Some(Alert {
            state: AlertState::Recovered,
            cap: recovery.cap.cap(),
            amount: Quantity::from_scaled(recovery.amount),
            used: Quantity::from_scaled(recovery.used),
            event: recovery.event.map(alert_event),
            late: recovery.late,
            at: recovery.at,
            ..self.alert()
        })
    }

    /// What the engine ought to say of it.
    pub fn alert(&self) -> Alert {
        let (start, end) = self.stretch.bounds();
        let micros = |micros| Timestamp::from_micros(micros).expect("in range");
        Alert {
            state: AlertState::Triggered,
            tenant: "default".to_owned(),
            customer: format!("customer-{}", self.account.0),
            meter: METERS[self.account.1].to_owned(),
            cap: self.cap.cap(),
            threshold: self.threshold.parse::<Threshold>().expect("a threshold"),
            amount: Quantity::from_scaled(self.amount),
            period: match &self.stretch {
                Stretch::Billing((name, ..)) => Some(name.clone()),
                Stretch::Hour(_) => None,
            },
            bounds: Window { start: micros(start), end: micros(end) },
            generation: self.generation,
            used: Quantity::from_scaled(self.used),
            event: Some(alert_event(self.event)),
            late: self.late,
            at: self.at,
        }
    }
}

fn alert_event((id, seq): (u64, Option<Seq>)) -> AlertEvent {
    AlertEvent { usage_event_id: format!("event-{id}"), seq }
}

impl Known {
    fn is_active(&self, account: Account, cap: &Limits, stretch: &Stretch, threshold: &str) -> bool {
        self.alerts.iter().any(|alert| alert.recovered.is_none() && alert.is(account, cap, stretch, threshold))
    }

    /// What receivers are told, in order.
    pub fn told(&self) -> Vec<(Seq, Alert)> {
        let raised = self.alerts.iter().map(|alert| (alert.seq, alert.alert()));
        let ended = self.alerts.iter().filter_map(|alert| Some((alert.recovered.as_ref()?.seq, alert.ended()?)));
        let mut told: Vec<(Seq, Alert)> = raised.chain(ended).collect();
        told.sort_by_key(|(seq, _)| *seq);
        told
    }

    /// Those of a cap that are active, by their texts.
    pub fn active(&self, account: Account, cap: &Limits, stretch: &Stretch) -> BTreeSet<String> {
        let of_cap = |alert: &&Raised| alert.recovered.is_none() && alert.is(account, cap, stretch, &alert.threshold);
        self.alerts.iter().filter(of_cap).map(|alert| alert.threshold.clone()).collect()
    }

    fn raise(&mut self, raised: Raised) {
        let Raised { account, cap, stretch, threshold, .. } = &raised;
        let before = self.alerts.iter().filter(|alert| alert.is(*account, cap, stretch, threshold)).count() as u32;
        self.alerts.push(Raised { generation: before + 1, ..raised });
    }

    /// An event was counted, which was received at this time; answers how many alerts it raises.
    pub fn counted(&mut self, model: &Model, event: &Accepted, received_at: Timestamp) -> usize {
        let before = self.alerts.len();
        for (meter, late, label) in event.feeds.iter().filter(|(meter, ..)| super::CAPPED.contains(meter)) {
            let account = (event.sent.customer, *meter);
            let place = Place { label: label.clone(), hour: super::hour_of(event.counted), late: *late };
            let lines = all_lines(&self.caps(model, account));
            let mentioned = (event.sent.id, Some(event.seq));
            let falls = super::worth(*meter, event.sent.quantity) < 0;
            for line in lines {
                let stretch = place.stretch(&line.cap);
                let used = used(model, account, &stretch);
                let is_it = |alert: &&mut Raised| {
                    alert.recovered.is_none() && alert.is(account, &line.cap, &stretch, &line.text)
                };
                let (seq, at, Line { cap, text, amount }) = (Seq::ZERO, received_at, line.clone());
                match self.alerts.iter_mut().find(is_it) {
                    // Whoever was stopped stays stopped until usage falls or the caps change.
                    Some(alert) if used < amount && (falls || alert.event.1.is_some()) => {
                        let event = Some(mentioned);
                        alert.recovered = Some(Recovery { seq, at, used, cap, amount, event, late: *late });
                    }
                    None if used >= amount => self.raise(Raised {
                        seq,
                        account,
                        cap,
                        stretch,
                        threshold: text,
                        amount,
                        generation: 0,
                        used,
                        event: mentioned,
                        late: *late,
                        at,
                        recovered: None,
                    }),
                    _ => {}
                }
            }
        }
        self.alerts.len() - before
    }

    /// An event was refused: the first time, whoever is stopped is heard of.
    pub fn refused(&mut self, model: &Model, sent: &Sent, broken: &Broken, received_at: Timestamp) {
        let Broken { account, caps, place } = broken;
        let mut caps: Vec<&Limits> = caps.iter().collect();
        caps.sort_by_key(|cap| (cap.hard, cap.id));
        for cap in caps {
            let stretch = place.stretch(cap);
            if self.is_active(*account, cap, &stretch, "hard") {
                continue;
            }
            self.raise(Raised {
                seq: Seq::ZERO,
                account: *account,
                cap: cap.clone(),
                threshold: "hard".to_owned(),
                amount: cap.hard.expect("it refuses"),
                generation: 0,
                used: used(model, *account, &stretch),
                event: (sent.id, None),
                late: place.late,
                at: received_at,
                stretch,
                recovered: None,
            });
        }
    }

    /// An account's caps have changed at a time that is believed to be `now`: alerts of stretches that are not over end at
    /// once if usage is below what their threshold comes to by now, or if there is no such threshold any more.
    pub fn caps_changed(&mut self, model: &Model, account: Account, before: &[Limits], (now, at): (i64, Timestamp)) {
        let after = self.caps(model, account);
        let line_in = |caps: &[Limits], alert: &Raised| {
            all_lines(caps).into_iter().find(|line| {
                let is_hourly = matches!(alert.stretch, Stretch::Hour(_));
                (line.cap.id, line.cap.hourly, &line.text) == (alert.cap.id, is_hourly, &alert.threshold)
            })
        };
        for alert in self.alerts.iter_mut().filter(|alert| alert.recovered.is_none() && alert.account == account) {
            // What was closed before the clock was set back is left alone, too.
            if alert.stretch.bounds().1 <= now.max(model.closed_to(account.1)) {
                continue;
            }
            let used = used(model, account, &alert.stretch);
            let (was, is) = (line_in(before, alert), line_in(&after, alert));
            let limit = |line: &Option<Line>| line.as_ref().and_then(|line| line.cap.limit());
            let is_like_before = was.is_some() && is.is_some() && limit(&was) == limit(&is);
            let was_refused = alert.event.1.is_none();
            let stays = is.as_ref().is_some_and(|is| used >= is.amount || (was_refused && is_like_before));
            if let (false, Some(Line { cap, amount, .. })) = (stays, is.or(was)) {
                alert.recovered = Some(Recovery { seq: Seq::ZERO, at, used, cap, amount, event: None, late: false });
            }
        }
    }
}
