//! What the engine ought to do, written down as plainly as can be: a list of accepted events and maps over it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use meterd::model::{Quantity, Seq, Timestamp};

pub const HOUR_MICROS: i64 = 3_600_000_000;
pub const ACCEPT_FUTURE_MICROS: i64 = HOUR_MICROS / 12;

pub const METERS: [&str; 7] = ["count", "sum", "min", "max", "avg", "latest", "unique"];

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
    /// Effective time when it was accepted.
    pub effective: Timestamp,
}

/// What must come of an event. Where an id is as old as its retention either answer will do.
#[derive(Debug, PartialEq, Eq)]
pub enum Expected {
    Accepted,
    Duplicate(Seq),
    Conflict(Seq),
    TooLate,
    TooEarly,
}

/// A counter's name: customer, meter, model, start of its hour.
pub type CounterName = (u8, usize, Option<u8>, i64);
/// Event count and value.
pub type CounterValue = (u64, Quantity);

/// What the config says of old events. It may change whenever the daemon starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub accept_past_micros: i64,
    pub retention_micros: i64,
}

pub const NARROW: Policy = Policy { accept_past_micros: 24 * HOUR_MICROS, retention_micros: 36 * HOUR_MICROS };
pub const WIDE: Policy = Policy { accept_past_micros: 48 * HOUR_MICROS, retention_micros: 60 * HOUR_MICROS };

pub struct Model {
    pub policy: Policy,
    /// The shortest retention there was: what is younger is remembered for certain.
    retention_min_micros: i64,
    /// In order of seq.
    pub accepted: Vec<Accepted>,
    by_id: HashMap<u64, Vec<usize>>,
    /// Every record up to here was acknowledged, or rested upon by an acknowledged answer.
    pub acknowledged: Seq,
}

impl Model {
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            retention_min_micros: policy.retention_micros,
            accepted: Vec::new(),
            by_id: HashMap::new(),
            acknowledged: Seq::ZERO,
        }
    }

    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
        self.retention_min_micros = self.retention_min_micros.min(policy.retention_micros);
    }

    /// The very same event, told by a timestamp of its own, was accepted before: it must never count again.
    fn was_accepted(&self, sent: &Sent) -> bool {
        let same = |place: &usize| self.accepted[*place].sent.timestamp == sent.timestamp;
        sent.timestamp.is_some() && self.by_id.get(&sent.id).is_some_and(|all| all.iter().any(same))
    }

    fn newest(&self, id: u64) -> Option<&Accepted> {
        self.by_id.get(&id).and_then(|all| all.last()).map(|place| &self.accepted[*place])
    }

    /// All answers that are right for an event at this effective time.
    pub fn expect(&self, sent: &Sent, received_at: Timestamp, effective: Timestamp) -> Vec<Expected> {
        let mut expected = Vec::new();
        if let Some(known) = self.newest(sent.id) {
            let age = effective.micros() - known.effective.micros();
            let same = known.sent.payload == sent.payload;
            expected.push(if same { Expected::Duplicate(known.seq) } else { Expected::Conflict(known.seq) });
            if age < self.retention_min_micros {
                return expected;
            }
        }
        let (timestamp, now) = (sent.timestamp.unwrap_or(received_at).micros(), effective.micros());
        if timestamp < now - self.policy.accept_past_micros {
            expected.push(Expected::TooLate);
        } else if timestamp > now + ACCEPT_FUTURE_MICROS {
            expected.push(Expected::TooEarly);
        } else {
            if timestamp <= now - self.retention_min_micros + ACCEPT_FUTURE_MICROS {
                // Ids of that time may be forgotten, and then nothing of that time is taken.
                expected.push(Expected::TooLate);
            }
            if !self.was_accepted(sent) {
                expected.push(Expected::Accepted);
            }
        }
        expected
    }

    pub fn accept(&mut self, accepted: Accepted) {
        self.by_id.entry(accepted.sent.id).or_default().push(self.accepted.len());
        self.accepted.push(accepted);
    }

    /// After a crash: only records up to `last` survived.
    pub fn forget_after(&mut self, last: Seq) {
        self.accepted.retain(|event| event.seq <= last);
        self.by_id.clear();
        for (place, event) in self.accepted.iter().enumerate() {
            self.by_id.entry(event.sent.id).or_default().push(place);
        }
    }

    /// Every counter, computed anew from the events.
    pub fn counters(&self) -> BTreeMap<CounterName, CounterValue> {
        let mut events: BTreeMap<CounterName, Vec<&Accepted>> = BTreeMap::new();
        for event in &self.accepted {
            let start = event.timestamp.micros().div_euclid(HOUR_MICROS) * HOUR_MICROS;
            for meter in &event.sent.meters {
                events.entry((event.sent.customer, *meter, event.sent.model, start)).or_default().push(event);
            }
        }
        events.into_iter().map(|(name, events)| (name, (events.len() as u64, value(METERS[name.1], &events)))).collect()
    }
}

fn value(aggregation: &str, events: &[&Accepted]) -> Quantity {
    let quantities = || events.iter().map(|event| i128::from(event.sent.quantity));
    let one = Quantity::ONE.scaled();
    let sum: i128 = quantities().sum();
    let whole = match aggregation {
        "count" => events.len() as i128,
        "sum" => sum,
        "min" => quantities().min().unwrap_or_default(),
        "max" => quantities().max().unwrap_or_default(),
        "unique" => quantities().collect::<BTreeSet<_>>().len() as i128,
        "latest" => {
            let latest = events.iter().max_by_key(|event| (event.timestamp, event.seq));
            latest.map_or(0, |event| i128::from(event.sent.quantity))
        }
        "avg" => return half_even(sum * one, events.len() as i128),
        other => panic!("no such aggregation: {other}"),
    };
    Quantity::from_scaled(whole * one)
}

fn half_even(dividend: i128, divisor: i128) -> Quantity {
    let (down, rest) = (dividend.div_euclid(divisor), dividend.rem_euclid(divisor) * 2);
    let up = rest > divisor || (rest == divisor && down % 2 != 0);
    Quantity::from_scaled(down + i128::from(up))
}
