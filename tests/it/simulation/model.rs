//! What the engine ought to do, written down as plainly as can be: a list of accepted events and maps over it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use meterd::meter::{Calendar, Customer, PeriodKind, ResolvedSchedule, Zone};
use meterd::model::{Quantity, Seq, Timestamp};

pub const HOUR_MICROS: i64 = 3_600_000_000;
pub const ACCEPT_FUTURE_MICROS: i64 = HOUR_MICROS / 12;

/// So many customers there are.
pub const CUSTOMERS: u8 = 3;
pub const METERS: [&str; 7] = ["count", "sum", "min", "max", "avg", "latest", "unique"];
pub const SUM: usize = 1;
/// The meter that takes nothing for a final window.
pub const REJECTS_LATE: usize = 5;

/// One event as a client would send it.
#[derive(Clone, Debug)]
pub struct Sent {
    pub id: u64,
    pub payload: u32,
    pub customer: u8,
    pub meters: Vec<usize>,
    pub model: Option<u8>,
    pub quantity: i64,
    pub timestamp: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub struct Accepted {
    pub seq: Seq,
    pub sent: Sent,
    pub timestamp: Timestamp,
    /// Where in time it is counted: a commit may come after its reservation's period.
    pub counted: Timestamp,
    /// What was believed to be the time when it was accepted.
    pub now: i64,
    /// The same, whatever the clock was set back to later.
    pub now_then: i64,
    /// Its id was as old as its retention before the clock was set back.
    pub may_be_forgotten: bool,
    /// By meter: whether its window was final, and the billing period of its window.
    pub feeds: Vec<(usize, bool, Label)>,
}

/// What must come of an event. Where an id is as old as its retention either answer will do.
#[derive(Debug, PartialEq, Eq)]
pub enum Expected {
    /// So many of its feeds are adjustments.
    Accepted,
    Duplicate(Seq),
    Conflict(Seq),
    TooLate,
    TooEarly,
    LateRejected,
    Capped,
}

/// A counter's name: customer, meter, model, start of its hour.
pub type CounterName = (u8, usize, Option<u8>, i64);
/// A billing period's name, start and end.
pub type Label = (String, i64, i64);
/// A period counter's name: customer, meter, model, period.
pub type PeriodName = (u8, usize, Option<u8>, Label);

/// What a window is, as readers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowValue {
    pub event_count: u64,
    pub value: Quantity,
    pub revision: u32,
    pub is_final: bool,
}

/// What a billing period is, as readers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeriodValue {
    pub event_count: u64,
    pub value: Quantity,
    /// Without the adjustments; none if there is nothing but them.
    pub original: Option<Quantity>,
    pub adjustments: u64,
    pub revision: u32,
    pub is_final: bool,
}

/// One adjustment: its record, window, change, and the window's revision with it.
pub type Adjusted = (Seq, CounterName, i128, u32);

/// What the config says of old events. It may change whenever the daemon starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub accept_past_micros: i64,
    pub retention_micros: i64,
    pub grace_micros: i64,
}

pub const NARROW: Policy =
    Policy { accept_past_micros: 24 * HOUR_MICROS, retention_micros: 36 * HOUR_MICROS, grace_micros: 0 };
pub const WIDE: Policy =
    Policy { accept_past_micros: 48 * HOUR_MICROS, retention_micros: 60 * HOUR_MICROS, grace_micros: 2 * HOUR_MICROS };

pub struct Model {
    pub policy: Policy,
    /// The shortest retention there was: what is younger is remembered for certain.
    retention_min_micros: i64,
    /// In order of seq.
    pub accepted: Vec<Accepted>,
    by_id: HashMap<u64, Vec<usize>>,
    /// Every record up to here was acknowledged, or rested upon by an acknowledged answer.
    pub acknowledged: Seq,
    /// The windows that were closed, by a record up to this one.
    pub closed: BTreeMap<CounterName, Seq>,
    /// The same for billing periods; and whether that was the first revision. One that late usage has made in a period
    /// that was over for others is final before it has any.
    pub closed_periods: BTreeMap<PeriodName, (Seq, bool)>,
    /// What was set for customers, in order of seq.
    pub customers: Vec<(Seq, u8, Customer)>,
}

impl Model {
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            retention_min_micros: policy.retention_micros,
            accepted: Vec::new(),
            by_id: HashMap::new(),
            acknowledged: Seq::ZERO,
            closed: BTreeMap::new(),
            closed_periods: BTreeMap::new(),
            customers: Vec::new(),
        }
    }

    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
        self.retention_min_micros = self.retention_min_micros.min(policy.retention_micros);
    }

    /// The very same event, told by a timestamp of its own, was accepted before: it must never count again.
    fn was_accepted(&self, sent: &Sent) -> bool {
        // What was stamped ahead of its time, or before the clock was set back, is protected for as long as its id is
        // remembered, and no longer.
        let same = |place: &usize| {
            let event = &self.accepted[*place];
            event.sent.timestamp == sent.timestamp && event.timestamp.micros() <= event.now + HOUR_MICROS / 2
        };
        sent.timestamp.is_some() && self.by_id.get(&sent.id).is_some_and(|all| all.iter().any(same))
    }

    fn newest(&self, id: u64) -> Option<&Accepted> {
        self.by_id.get(&id).and_then(|all| all.last()).map(|place| &self.accepted[*place])
    }

    /// All answers that are right for an event, when it is believed to be `now`.
    pub fn expect(&self, sent: &Sent, received_at: Timestamp, now: i64) -> Vec<Expected> {
        let mut expected = Vec::new();
        if let Some(known) = self.newest(sent.id) {
            let same = known.sent.payload == sent.payload;
            expected.push(if same { Expected::Duplicate(known.seq) } else { Expected::Conflict(known.seq) });
            if !self.is_forgettable(known, now) {
                return expected;
            }
        }
        let Policy { accept_past_micros, .. } = self.policy;
        let timestamp = sent.timestamp.unwrap_or(received_at).micros();
        let latest = now.max(received_at.micros());
        if timestamp < now - accept_past_micros {
            expected.push(Expected::TooLate);
        } else {
            if self.may_be_forgotten(timestamp, now) {
                expected.push(Expected::TooLate);
            }
            if timestamp > latest + ACCEPT_FUTURE_MICROS {
                expected.push(Expected::TooEarly);
            } else if !self.was_accepted(sent) {
                let late = self.late_feeds(sent, sent.timestamp.unwrap_or(received_at), now, None);
                let refused = late.contains(&REJECTS_LATE);
                expected.push(if refused { Expected::LateRejected } else { Expected::Accepted });
            }
        }
        expected
    }

    /// Ids of that time may be forgotten, and then nothing of that time is taken.
    fn may_be_forgotten(&self, timestamp: i64, now: i64) -> bool {
        let mut old = self.accepted.iter().filter(|event| self.is_forgettable(event, now));
        old.any(|event| event.timestamp.micros().min(event.now_then + HOUR_MICROS) >= timestamp)
    }

    fn is_forgettable(&self, event: &Accepted, now: i64) -> bool {
        event.may_be_forgotten || now - event.now >= self.retention_min_micros
    }

    /// The meters for which the event's window is final, if it is counted there: in this billing period, if it is named.
    pub fn late_feeds(&self, sent: &Sent, at: Timestamp, now: i64, label: Option<&Label>) -> Vec<usize> {
        let start = hour_of(at);
        let is_late = |meter: &usize| {
            let name = (sent.customer, *meter, sent.model, start);
            let known = self.accepted.iter().any(|event| event.counters().any(|counter| counter == name));
            if known {
                return self.closed.contains_key(&name) || self.was_never_open(&name);
            }
            let own = || self.label(sent.customer, Timestamp::from_micros(start).expect("in range"));
            let label = label.cloned().unwrap_or_else(own);
            let period = (sent.customer, *meter, sent.model, label);
            start + HOUR_MICROS + self.policy.grace_micros <= now || self.closed_periods.contains_key(&period)
        };
        sent.meters.iter().copied().filter(is_late).collect()
    }

    /// The window's first event was late already.
    fn was_never_open(&self, name: &CounterName) -> bool {
        let mut feeds = self.accepted.iter().flat_map(|event| event.feeds.iter().map(move |feed| (event, feed)));
        feeds.find(|(event, feed)| event.counter(feed.0) == *name).is_some_and(|(_, feed)| feed.1)
    }

    /// The latest end of anything of a meter that was closed.
    pub fn closed_to(&self, meter: usize) -> i64 {
        let windows = self.closed.keys().filter(|name| name.1 == meter).map(|name| name.3 + HOUR_MICROS);
        let periods = self.closed_periods.iter().filter(|(name, (_, first))| name.1 == meter && *first);
        let periods = periods.map(|(name, _)| name.3.2);
        let feeds = self.accepted.iter().flat_map(|event| event.feeds.iter().map(move |feed| (event, feed)));
        let late =
            feeds.filter(|(event, feed)| feed.0 == meter && feed.1 && self.was_never_open(&event.counter(meter)));
        let late = late.map(|(event, _)| hour_of(event.counted) + HOUR_MICROS);
        windows.chain(periods).chain(late).max().unwrap_or(i64::MIN)
    }

    fn calendar_of<T>(&self, customer: u8, ask: impl FnOnce(Calendar<'_>) -> T) -> T {
        let settings = self.customers.iter().rev().find(|(_, known, _)| *known == customer);
        let schedule = settings.map(|(.., settings)| ResolvedSchedule::new(&settings.schedule).expect("known zones"));
        ask(Calendar { kind: PeriodKind::Month, zone: &Zone::utc(), schedule: schedule.as_ref() })
    }

    /// The billing period of a customer's time, as the calendar is now.
    pub fn label(&self, customer: u8, at: Timestamp) -> Label {
        let period = self.calendar_of(customer, |calendar| calendar.period_at(at));
        (period.label.to_string(), period.bounds.start.micros(), period.bounds.end.micros())
    }

    /// The billing period of an event's window: it keeps the one that its first event had. A new one has the one that is
    /// named, if any.
    pub fn label_of(&self, sent: &Sent, meter: usize, at: Timestamp, named: Option<&Label>) -> Label {
        let name = (sent.customer, meter, sent.model, hour_of(at));
        let mut feeds = self.accepted.iter().flat_map(|event| event.feeds.iter().map(move |feed| (event, feed)));
        let first = feeds.find(|(event, feed)| event.counter(feed.0) == name);
        let own = || named.cloned().unwrap_or_else(|| self.label(sent.customer, at));
        first.map_or_else(own, |(_, feed)| feed.2.clone())
    }

    /// What was set for a customer last.
    pub fn settings(&self, customer: u8) -> Customer {
        let known = self.customers.iter().rev().find(|(_, known, _)| *known == customer);
        known.map(|(.., settings)| settings.clone()).unwrap_or_default()
    }

    pub fn accept(&mut self, accepted: Accepted) {
        let feeds = accepted.feeds.iter().filter(|(_, late, _)| *late);
        for (meter, _, label) in feeds.clone() {
            let name = (accepted.sent.customer, *meter, accepted.sent.model, label.clone());
            let before = Seq(accepted.seq.0 - 1);
            let end = hour_of(accepted.counted) + HOUR_MICROS;
            let is_over = name.3.2 <= self.closed_to(*meter).max(end);
            if is_over && !self.periods().contains_key(&name) {
                self.closed_periods.insert(name, (before, false));
            }
        }
        self.by_id.entry(accepted.sent.id).or_default().push(self.accepted.len());
        self.accepted.push(accepted);
    }

    /// An operator said that it is `now`, not `before`: what was accepted at a later time counts as accepted now.
    pub fn reset_clock(&mut self, before: i64, now: i64) {
        for place in 0..self.accepted.len() {
            self.accepted[place].may_be_forgotten = self.is_forgettable(&self.accepted[place], before);
            self.accepted[place].now = self.accepted[place].now.min(now);
        }
    }

    /// After a crash: only records up to `last` survived.
    pub fn forget_after(&mut self, last: Seq) {
        self.accepted.retain(|event| event.seq <= last);
        self.closed.retain(|_, seq| *seq <= last);
        // One that late usage has made stands for the record before that usage, and goes with it.
        self.closed_periods.retain(|_, (seq, first)| if *first { *seq <= last } else { *seq < last });
        self.customers.retain(|(seq, ..)| *seq <= last);
        self.by_id.clear();
        for (place, event) in self.accepted.iter().enumerate() {
            self.by_id.entry(event.sent.id).or_default().push(place);
        }
    }

    /// Every window, computed anew from the events.
    pub fn windows(&self) -> BTreeMap<CounterName, WindowValue> {
        let mut events: BTreeMap<CounterName, Vec<(&Accepted, bool)>> = BTreeMap::new();
        for event in &self.accepted {
            for (meter, late, _) in &event.feeds {
                events.entry(event.counter(*meter)).or_default().push((event, *late));
            }
        }
        let window = |(name, events): (CounterName, Vec<(&Accepted, bool)>)| {
            let late = events.iter().filter(|(_, late)| *late).count() as u32;
            let closed = self.closed.contains_key(&name);
            let all: Vec<&Accepted> = events.iter().map(|(event, _)| *event).collect();
            let value = value(METERS[name.1], &all).expect("a window has events");
            let (event_count, revision) = (all.len() as u64, late + u32::from(closed));
            (name, WindowValue { event_count, value, revision, is_final: closed || late > 0 })
        };
        events.into_iter().map(window).collect()
    }

    /// Every billing period, computed anew from the events.
    pub fn periods(&self) -> BTreeMap<PeriodName, PeriodValue> {
        let mut events: BTreeMap<PeriodName, Vec<(&Accepted, bool)>> = BTreeMap::new();
        for event in &self.accepted {
            for (meter, late, label) in &event.feeds {
                let name = (event.sent.customer, *meter, event.sent.model, label.clone());
                events.entry(name).or_default().push((event, *late));
            }
        }
        let period = |(name, events): (PeriodName, Vec<(&Accepted, bool)>)| {
            let all: Vec<&Accepted> = events.iter().map(|(event, _)| *event).collect();
            let in_time: Vec<&Accepted> = events.iter().filter(|(_, late)| !late).map(|(event, _)| *event).collect();
            let closed = self.closed_periods.get(&name);
            let after = |seq: &Seq| events.iter().filter(|(event, late)| *late && event.seq > *seq).count() as u32;
            let value_of = |events: &[&Accepted]| value(METERS[name.1], events);
            let period = PeriodValue {
                event_count: all.len() as u64,
                value: value_of(&all).expect("a period has events"),
                original: value_of(&in_time),
                adjustments: (all.len() - in_time.len()) as u64,
                revision: closed.map_or(0, |(seq, first)| u32::from(*first) + after(seq)),
                is_final: closed.is_some(),
            };
            (name, period)
        };
        events.into_iter().map(period).collect()
    }

    /// Every adjustment, in order, computed anew from the events.
    pub fn adjustments(&self) -> Vec<Adjusted> {
        let mut windows: HashMap<CounterName, (Vec<&Accepted>, u32)> = HashMap::new();
        let mut adjusted = Vec::new();
        for event in &self.accepted {
            for (meter, late, _) in &event.feeds {
                let name = event.counter(*meter);
                let (events, revision) = windows.entry(name).or_default();
                let of = |events: &[&Accepted]| value(METERS[*meter], events).map_or(0, Quantity::scaled);
                let before = of(events);
                events.push(event);
                if *late {
                    let closed = self.closed.contains_key(&name);
                    *revision += if *revision == 0 && closed { 2 } else { 1 };
                    adjusted.push((event.seq, name, of(events) - before, *revision));
                }
            }
        }
        adjusted
    }
}

impl Accepted {
    fn counter(&self, meter: usize) -> CounterName {
        (self.sent.customer, meter, self.sent.model, hour_of(self.counted))
    }

    fn counters(&self) -> impl Iterator<Item = CounterName> {
        self.feeds.iter().map(|(meter, ..)| self.counter(*meter))
    }
}

pub fn hour_of(at: Timestamp) -> i64 {
    at.micros().div_euclid(HOUR_MICROS) * HOUR_MICROS
}

/// None if there is none without events.
fn value(aggregation: &str, events: &[&Accepted]) -> Option<Quantity> {
    let quantities = || events.iter().map(|event| i128::from(event.sent.quantity));
    let one = Quantity::ONE.scaled();
    let sum: i128 = quantities().sum();
    let whole = match aggregation {
        "count" => events.len() as i128,
        "sum" => sum,
        "min" => quantities().min()?,
        "max" => quantities().max()?,
        "unique" => quantities().collect::<BTreeSet<_>>().len() as i128,
        "latest" => i128::from(events.iter().max_by_key(|event| (event.timestamp, event.seq))?.sent.quantity),
        "avg" => return (!events.is_empty()).then(|| half_even(sum * one, events.len() as i128)),
        other => panic!("no such aggregation: {other}"),
    };
    Some(Quantity::from_scaled(whole * one))
}

fn half_even(dividend: i128, divisor: i128) -> Quantity {
    let (down, rest) = (dividend.div_euclid(divisor), dividend.rem_euclid(divisor) * 2);
    let up = rest > divisor || (rest == divisor && down % 2 != 0);
    Quantity::from_scaled(down + i128::from(up))
}
