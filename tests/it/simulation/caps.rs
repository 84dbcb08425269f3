//! Caps, alerts and reservations as they ought to be, as plainly as can be: sums over the accepted events, and a list of
//! alerts. In whole numbers of its own (10^-12), with nothing of `meter::caps` but the words.
//!
//! 1. What is used is summed up anew from the events, whenever it is asked for.
//! 2. What the log has lost is forgotten by going back to how things were at the last record that it has.

use std::collections::{BTreeMap, BTreeSet};

use meterd::model::{Seq, Timestamp};

use super::model::{Accepted, CUSTOMERS, HOUR_MICROS, Label, METERS, Model, Sent, hour_of};

mod alerts;
mod limits;
mod reservations;

pub use alerts::Raised;
pub use limits::{Limits, config, draw_caps};
pub use reservations::{Held, Released, Wanted};

/// The meters that can have caps.
pub const CAPPED: [usize; 2] = [0, 1];
pub const PLANS: [&str; 2] = ["free", "pro"];
pub const ONE: i128 = 1_000_000_000_000;

/// Customer and meter.
pub type Account = (u8, usize);

/// A stretch of time that a cap counts in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stretch {
    Billing(Label),
    Hour(i64),
}

impl Stretch {
    pub fn bounds(&self) -> (i64, i64) {
        match self {
            Stretch::Billing((_, start, end)) => (*start, *end),
            Stretch::Hour(start) => (*start, start + HOUR_MICROS),
        }
    }
}

/// An event's place in time, for one meter.
#[derive(Clone, Debug)]
pub struct Place {
    pub label: Label,
    pub hour: i64,
    /// Its window is final.
    pub late: bool,
}

impl Place {
    pub fn stretch(&self, cap: &Limits) -> Stretch {
        if cap.hourly { Stretch::Hour(self.hour) } else { Stretch::Billing(self.label.clone()) }
    }
}

/// What an event or a reservation would break: the account's caps, by their places, and when.
#[derive(Clone, Debug)]
pub struct Broken {
    pub account: Account,
    pub caps: Vec<Limits>,
    pub place: Place,
}

#[derive(Clone, Debug, Default)]
pub struct Known {
    /// What the newest Tick said: effective time, horizon.
    pub ticked: Option<(Timestamp, Seq)>,
    /// By plan (none: all) and meter, as the config has it.
    pub config: Vec<(Option<&'static str>, usize, Limits)>,
    pub own: BTreeMap<Account, Vec<Limits>>,
    /// By the record from which on the account's caps were what they are.
    pub since: BTreeMap<Account, Seq>,
    pub alerts: Vec<Raised>,
    pub reservations: BTreeMap<u8, Held>,
    /// Commits: by event, the reservation.
    pub commits: BTreeMap<Seq, Held>,
    /// Events that were taken past a cap, as nothing may refuse them, by meter: what they add proves nothing.
    pub exempt: BTreeSet<(Seq, usize)>,
}

/// What is known, and what was.
#[derive(Default)]
pub struct Book {
    pub known: Known,
    before: Vec<(Seq, Known)>,
}

impl Book {
    /// All that is known is so as of this record.
    pub fn keep(&mut self, position: Seq) {
        self.before.push((position, self.known.clone()));
    }

    /// Only records up to `last` survived.
    pub fn forget_after(&mut self, last: Seq) {
        while self.before.pop_if(|(seq, _)| *seq > last).is_some() {}
        self.known = self.before.last().map(|(_, known)| known.clone()).unwrap_or_default();
    }
}

/// What a quantity comes to at a meter.
pub fn worth(meter: usize, quantity: i64) -> i128 {
    match METERS[meter] {
        "count" => ONE,
        "sum" => i128::from(quantity) * ONE,
        other => panic!("{other} cannot have caps"),
    }
}

/// What an account's events come to in a stretch of time.
pub fn used(model: &Model, (customer, meter): Account, stretch: &Stretch) -> i128 {
    events_in(model, (customer, meter), stretch).map(|event| worth(meter, event.sent.quantity)).sum()
}

/// An account's events in a stretch of time.
pub fn events_in<'a>(
    model: &'a Model,
    (customer, meter): Account,
    stretch: &'a Stretch,
) -> impl Iterator<Item = &'a Accepted> {
    model.accepted.iter().filter(move |event| {
        let feed = event.feeds.iter().find(|(fed, ..)| *fed == meter);
        event.sent.customer == customer
            && feed.is_some_and(|(.., label)| match stretch {
                Stretch::Billing(wanted) => wanted == label,
                Stretch::Hour(hour) => hour_of(event.counted) == *hour,
            })
    })
}

impl Known {
    /// The caps of an account: its own, or the config's: of two with one id the one that names the plan.
    pub fn caps(&self, model: &Model, account: Account) -> Vec<Limits> {
        if let Some(own) = self.own.get(&account) {
            return own.clone();
        }
        let plan = model.settings(account.0).plan;
        let mut caps: BTreeMap<&str, &Limits> = BTreeMap::new();
        let of = |wanted: Option<&str>| {
            let all = self.config.iter().filter(move |(_, meter, _)| *meter == account.1);
            all.filter(move |(plan, ..)| *plan == wanted).map(|(.., cap)| (cap.id, cap)).collect::<Vec<_>>()
        };
        caps.extend(of(None));
        if plan.is_some() {
            caps.extend(of(plan.as_deref()));
        }
        caps.into_values().cloned().collect()
    }

    /// What reservations hold of an account.
    pub fn held(&self, account: Account, stretch: &Stretch) -> i128 {
        let open = self.reservations.values().filter(|held| held.is_open() && held.account == account);
        open.filter(|held| held.place.stretch_like(stretch) == *stretch).map(|held| held.quantity).sum()
    }

    /// The caps that so much more would break.
    pub fn broken(&self, model: &Model, account: Account, place: &Place, more: i128, now: Option<i64>) -> Vec<Limits> {
        if more <= 0 {
            return Vec::new();
        }
        let breaks = |cap: &Limits| {
            let stretch = place.stretch(cap);
            let is_over = place.late && now.is_some_and(|now| stretch.bounds().1 <= now);
            let total = || used(model, account, &stretch) + self.held(account, &stretch) + more;
            !is_over && cap.limit().is_some_and(|limit| total() > limit)
        };
        self.caps(model, account).into_iter().filter(breaks).collect()
    }

    /// What an event would break, by its meters.
    pub fn judge(&self, model: &Model, sent: &Sent, at: Timestamp, late: &[usize], now: i64) -> Vec<Broken> {
        let mut all = Vec::new();
        for meter in sent.meters.iter().filter(|meter| CAPPED.contains(meter)) {
            let account = (sent.customer, *meter);
            if self.caps(model, account).is_empty() {
                continue;
            }
            let label = model.label_of(sent, *meter, at, None);
            let place = Place { label, hour: hour_of(at), late: late.contains(meter) };
            let caps = self.broken(model, account, &place, worth(*meter, sent.quantity), Some(now));
            if !caps.is_empty() {
                all.push(Broken { account, caps, place });
            }
        }
        all
    }

    /// The accounts whose caps are others than before.
    pub fn changed(&self, model: &Model, before: &BTreeMap<Account, Vec<Limits>>) -> Vec<Account> {
        let now = self.all_caps(model);
        now.into_iter()
            .filter(|(account, caps)| before.get(account) != Some(caps))
            .map(|(account, _)| account)
            .collect()
    }

    /// The caps of every account there can be.
    pub fn all_caps(&self, model: &Model) -> BTreeMap<Account, Vec<Limits>> {
        let accounts = (0..CUSTOMERS).flat_map(|customer| CAPPED.map(|meter| (customer, meter)));
        accounts.map(|account| (account, self.caps(model, account))).collect()
    }
}
