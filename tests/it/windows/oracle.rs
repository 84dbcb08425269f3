//! What was sent, and what became of it: the log of several senders, who remember every event and every answer.
//!
//! 1. An event's fate is settled by its first answer. Every later answer must say the same: the same record if it
//!    counts, refused again if not.
//! 2. `late` of an answer counts the events that this very request made adjustments. If the answer that accepted an
//!    event never arrived, nobody knows whether it was late: those are counted apart.

use std::collections::BTreeSet;

use bytes::Bytes;
use fastrand::Rng;
use meterd::cli::client::Reply;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::windows::billing::{Cell, DIMENSION, WINDOW_MS, month};
use crate::windows::checks::Expected;

/// An event this old when it is first sent is late, however slow the daemon's clock ticks.
const SURELY_LATE_MS: i64 = 20_000;
/// What a quantity's thousandth is, scaled as totals are.
const THOUSANDTH: i128 = 1_000_000_000;
/// Events sent again are mostly young: the answered, the unanswered, and those under way on another connection.
const RECENT: usize = 300;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Late {
    Adjusts,
    IsRefused,
}

/// A meter, and how the log predicts it.
pub struct Kind {
    pub slug: &'static str,
    /// Counts events, whatever their quantity.
    pub counts: bool,
    pub late: Late,
}

pub const KINDS: [Kind; 3] = [
    Kind { slug: "spend", counts: false, late: Late::Adjusts },
    Kind { slug: "calls", counts: true, late: Late::Adjusts },
    Kind { slug: "strict", counts: false, late: Late::IsRefused },
];
const CUSTOMERS: [&str; 5] = ["anna", "bert & co", "čeněk", "=d/e", "f,\"g\""];
const MODELS: [Option<&str>; 3] = [None, Some("large"), Some("small, \"new\"")];

struct Event {
    kind: usize,
    customer: usize,
    model: usize,
    timestamp_ms: i64,
    thousandths: u64,
    surely_late: bool,
    fate: Fate,
    /// Some answer said so: no other may.
    accepted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Unknown,
    Counts { seq: u64 },
    Refused,
}

/// The numbers of the events in one request, in order.
pub struct Batch(Vec<usize>);

#[derive(Default)]
pub struct Oracle {
    events: Vec<Event>,
    /// Answers that broke a promise.
    wrong: Vec<String>,
    answers: u64,
    /// The sum of `late` over all answers.
    late: u64,
    duplicates: u64,
}

#[derive(Deserialize)]
struct Answer {
    late: u64,
    events: Vec<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    outcome: String,
    seq: Option<u64>,
    code: Option<String>,
}

impl Event {
    fn cell(&self) -> Cell {
        Cell {
            meter: KINDS[self.kind].slug.to_owned(),
            customer: CUSTOMERS[self.customer].to_owned(),
            model: MODELS[self.model].map(str::to_owned),
            start_ms: self.timestamp_ms.div_euclid(WINDOW_MS) * WINDOW_MS,
        }
    }

    fn scaled(&self) -> i128 {
        if KINDS[self.kind].counts { Event::ONE } else { i128::from(self.thousandths) * THOUSANDTH }
    }

    const ONE: i128 = 1_000 * THOUSANDTH;

    fn draw(rng: &mut Rng, now_ms: i64) -> Self {
        let age_ms = match rng.u8(0..100) {
            0..55 => rng.i64(0..300),
            55..82 => rng.i64(1_000..3_000),
            82..97 => rng.i64(4_000..120_000),
            _ => -rng.i64(0..2_500),
        };
        Self {
            kind: rng.usize(0..KINDS.len()),
            customer: rng.usize(0..CUSTOMERS.len()),
            model: rng.usize(0..MODELS.len()),
            timestamp_ms: now_ms - age_ms,
            thousandths: rng.u64(1..5_000),
            surely_late: age_ms >= SURELY_LATE_MS,
            fate: Fate::Unknown,
            accepted: false,
        }
    }

    fn adjusts(&self) -> bool {
        KINDS[self.kind].late == Late::Adjusts
    }

    fn counts(&self) -> bool {
        matches!(self.fate, Fate::Counts { .. })
    }

    fn to_json(&self, number: usize) -> Value {
        let (whole, part) = (self.thousandths / 1_000, self.thousandths % 1_000);
        let mut event = json!({
            "usage_event_id": format!("e{number}"), "customer": CUSTOMERS[self.customer],
            "meter": KINDS[self.kind].slug, "quantity": format!("{whole}.{part:03}"), "timestamp": self.timestamp_ms,
        });
        if let Some(model) = MODELS[self.model] {
            event["dimensions"] = json!({ DIMENSION: model });
        }
        event
    }
}

impl Oracle {
    /// New events, and some that were sent before.
    pub fn draw(&mut self, rng: &mut Rng, now_ms: i64) -> Batch {
        let first = self.events.len();
        self.events.extend((0..rng.usize(1..=10)).map(|_| Event::draw(rng, now_ms)));
        let mut numbers = (first..self.events.len()).collect::<Vec<_>>();
        if first > 0 && rng.u8(0..4) == 0 {
            let oldest = if rng.bool() { first.saturating_sub(RECENT) } else { 0 };
            numbers.extend((0..3).map(|_| rng.usize(oldest..first)));
        }
        Batch(numbers)
    }

    pub fn encode(&self, batch: &Batch) -> Bytes {
        batch.0.iter().map(|&number| self.events[number].to_json(number)).collect::<Value>().to_string().into()
    }

    pub fn note(&mut self, batch: &Batch, reply: &Reply) {
        self.answers += 1;
        let text = || format!("{}: {}", reply.status, String::from_utf8_lossy(&reply.body));
        let Ok(Answer { late, events }) = serde_json::from_slice(&reply.body) else {
            return self.wrong.push(text());
        };
        let all_taken = events.iter().all(|event| event.outcome != "rejected");
        if events.len() != batch.0.len() || reply.status != if all_taken { 200 } else { 207 } {
            return self.wrong.push(text());
        }
        let accepted = batch.0.iter().zip(&events).filter(|(_, event)| event.outcome == "accepted");
        let accepted = accepted.map(|(&number, _)| &self.events[number]).filter(|event| event.adjusts());
        let (must, may) = (accepted.clone().filter(|event| event.surely_late).count() as u64, accepted.count() as u64);
        if !(must..=may).contains(&late) {
            self.wrong.push(format!("{late} late where {must} to {may} may be: {}", text()));
        }
        self.late += late;
        for (&number, outcome) in batch.0.iter().zip(&events) {
            self.note_event(number, outcome);
        }
    }

    fn note_event(&mut self, number: usize, answer: &Outcome) {
        let event = &mut self.events[number];
        let fate = match (answer.outcome.as_str(), answer.seq, answer.code.as_deref()) {
            ("accepted" | "duplicate", Some(seq), None) => Fate::Counts { seq },
            ("rejected", None, Some("late_rejected")) if !event.adjusts() => Fate::Refused,
            other => return self.wrong.push(format!("event {number} was answered {other:?}")),
        };
        let accepted = answer.outcome == "accepted";
        let as_before = event.fate == Fate::Unknown || event.fate == fate;
        let as_due = event.adjusts() || !event.surely_late || fate == Fate::Refused;
        if !as_before || !as_due || (accepted && event.accepted) {
            self.wrong.push(format!("event {number} was {:?}, and answered {} {fate:?}", event.fate, answer.outcome));
        }
        event.fate = fate;
        event.accepted |= accepted;
        self.duplicates += u64::from(answer.outcome == "duplicate");
    }

    fn count(&self, which: impl Fn(&Event) -> bool) -> u64 {
        self.events.iter().filter(|event| which(event)).count() as u64
    }

    /// Events of which no answer tells whether they were late: known as duplicates only.
    fn maybe_late(&self) -> u64 {
        self.count(|event| event.adjusts() && event.counts() && !event.accepted)
    }

    fn surely_late(&self) -> u64 {
        self.count(|event| event.adjusts() && event.counts() && event.surely_late)
    }

    fn refused(&self) -> u64 {
        self.count(|event| event.fate == Fate::Refused)
    }

    /// What each window must hold, all events having their answers.
    pub fn expected(&self) -> Expected {
        let mut expected = Expected::new();
        for event in self.events.iter().filter(|event| event.counts()) {
            expected.entry(event.cell()).or_default().add(event.scaled(), 1);
        }
        expected
    }

    /// Holds the answers against each other, and against the number of adjustments there are.
    pub fn check_answers(&self, adjustments: usize) -> Result<(), String> {
        let open = self.count(|event| event.fate == Fate::Unknown);
        if open > 0 || !self.wrong.is_empty() {
            let first = &self.wrong[..self.wrong.len().min(3)];
            return Err(format!("{open} events have no answer, {} answers are wrong: {first:?}", self.wrong.len()));
        }
        let fewest = self.late.max(self.surely_late());
        if !(fewest..=self.late + self.maybe_late()).contains(&(adjustments as u64)) {
            return Err(format!("{adjustments} adjustments, where {}", self.summary()));
        }
        Ok(())
    }

    /// Whether everything that was to happen did; a test of nothing proves nothing.
    pub fn check_coverage(&self) -> Result<(), String> {
        let seen = [self.late, self.surely_late(), self.refused(), self.duplicates];
        if seen.contains(&0) { Err(format!("too little happened: {}", self.summary())) } else { Ok(()) }
    }

    pub fn summary(&self) -> String {
        format!(
            "{} events in {} answers: {} late and {} perhaps ({} surely), {} refused, {} duplicates",
            self.events.len(),
            self.answers,
            self.late,
            self.maybe_late(),
            self.surely_late(),
            self.refused(),
            self.duplicates
        )
    }

    /// The months of all events.
    pub fn periods(&self) -> BTreeSet<String> {
        self.events.iter().map(|event| month(event.timestamp_ms)).collect()
    }

    pub fn meters() -> [&'static str; KINDS.len()] {
        KINDS.map(|kind| kind.slug)
    }

    pub fn customers() -> Vec<String> {
        CUSTOMERS.map(str::to_owned).to_vec()
    }
}

/// An answer that contradicts another, or what is known of the event, must not go unnoticed.
#[test]
fn contradicting_answers_are_noticed() {
    let event = |kind, age_ms| Event { kind, surely_late: age_ms > 0, ..Event::draw(&mut Rng::with_seed(1), 0) };
    let reply = |late: u64, outcome: Value| {
        let refused = outcome["outcome"] == "rejected";
        let body = json!({"late": late, "events": [outcome]}).to_string().into();
        Reply { status: if refused { 207 } else { 200 }, retry_after: None, body }
    };
    let accepted = |late, seq: u64| reply(late, json!({"outcome": "accepted", "seq": seq}));
    let duplicate = |seq: u64| reply(0, json!({"outcome": "duplicate", "seq": seq}));
    let refused = || reply(0, json!({"outcome": "rejected", "code": "late_rejected"}));
    let wrong_after = |kind, age_ms, replies: Vec<Reply>| {
        let mut oracle = Oracle { events: vec![event(kind, age_ms)], ..Oracle::default() };
        replies.iter().for_each(|reply| oracle.note(&Batch(vec![0]), reply));
        oracle.wrong.len()
    };
    let (adjusts, refuses) = (0, 2);
    assert_eq!(wrong_after(adjusts, 0, vec![accepted(0, 7), duplicate(7), duplicate(7)]), 0);
    assert_eq!(wrong_after(adjusts, 0, vec![duplicate(7), accepted(1, 7)]), 0, "overtaken on another connection");
    assert_eq!(wrong_after(refuses, 1, vec![refused(), refused()]), 0);
    assert_eq!(wrong_after(adjusts, 0, vec![accepted(0, 7), duplicate(8)]), 1);
    assert_eq!(wrong_after(adjusts, 0, vec![accepted(0, 7), accepted(0, 7)]), 1, "accepted twice");
    assert_eq!(wrong_after(adjusts, 1, vec![accepted(0, 7)]), 1, "late, and not called so");
    assert_eq!(wrong_after(adjusts, 0, vec![refused()]), 1);
    assert_eq!(wrong_after(refuses, 1, vec![accepted(0, 7)]), 1);
    assert_eq!(wrong_after(refuses, 0, vec![accepted(0, 7), refused()]), 1);
    assert_eq!(wrong_after(refuses, 0, vec![refused(), accepted(0, 7)]), 1);
}
