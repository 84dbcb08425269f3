//! Against the model: random histories, random voids.

use fastrand::Rng;

use super::house::*;
use crate::engine::outbox::Done;
use crate::engine::writer::Operation;
use crate::model::{Duration, Seq, Timestamp};

struct Run {
    house: House,
    rng: Rng,
}

impl Run {
    fn new(seed: u64) -> Self {
        // Close to a month's end, so that there are windows of two periods.
        Self { house: House::new("2026-10-30T10:30:00Z"), rng: Rng::with_seed(seed) }
    }

    fn event(&mut self) -> Event {
        let rng = &mut self.rng;
        let back = if rng.u8(..3) == 0 { rng.u64(..2 * DAY) } else { rng.u64(..3 * HOUR) };
        let ahead = if rng.u8(..4) == 0 { rng.u64(..5 * HOUR) } else { 0 };
        let now: Timestamp = self.house.now().saturating_add(Duration::from_secs(ahead));
        let at = now.saturating_sub(Duration::from_secs(back));
        let customer = CUSTOMERS[rng.usize(..CUSTOMERS.len())];
        let model = MODELS[rng.usize(..MODELS.len())];
        Event { model, ..Event::new(customer, at, rng.i64(-4..6), rng.u64(..8)) }
    }

    fn send(&mut self) {
        let event = self.event();
        self.house.send(event);
    }

    fn live(&mut self) -> Option<Seq> {
        let live: Vec<Seq> = self.house.events.iter().filter(|event| !event.gone).map(|event| event.seq).collect();
        (!live.is_empty()).then(|| live[self.rng.usize(..live.len())])
    }

    fn void(&mut self) {
        let Some(event) = self.live() else { return };
        if self.rng.u8(..4) > 0 {
            return self.house.void(event);
        }
        // Usage comes, time passes, others are taken back, after it was planned: it is refused, or right all the same.
        let retraction = self.house.plan(event).unwrap();
        for _ in 0..self.rng.u8(..3) {
            let known = self.house.events.iter().find(|known| known.seq == event).unwrap().clone();
            let (quantity, member) = (self.rng.i64(-9..9), self.rng.u64(..8));
            self.house.send(Event { quantity, member, ..known });
        }
        match self.rng.u8(..3) {
            0 => self.house.pass(self.rng.u64(..5 * HOUR)),
            1 => self.house.commit(),
            _ => {
                let other = self.live().filter(|other| *other != event);
                other.into_iter().for_each(|other| self.house.void(other));
            }
        }
        match self.house.operate(Operation::Retract { retraction, replacement: None }) {
            Done::Retracted(_) => {
                self.house.events.iter_mut().filter(|known| known.seq == event).for_each(|known| known.gone = true);
            }
            done => assert!(is_outdated(&Ok(done))),
        }
    }

    fn step(&mut self) {
        match self.rng.u8(..30) {
            0..12 => self.send(),
            12..20 => self.void(),
            20..23 => self.house.pass(self.rng.u64(..2 * HOUR)),
            23 => self.house.pass(self.rng.u64(..DAY)),
            24 | 25 => self.house.commit(),
            26 => self.house.restart(),
            27 => {
                let anchor = self.rng.bool().then(|| self.rng.u8(1..=28));
                self.house.put_anchor(CUSTOMERS[self.rng.usize(..CUSTOMERS.len())], anchor);
            }
            _ => self.house.check(),
        }
    }
}

#[test]
fn whatever_is_taken_back_the_rest_is_what_the_events_that_are_left_come_to() {
    for seed in 0..40 {
        println!("seed {seed}");
        let mut run = Run::new(seed);
        for _ in 0..120 {
            run.step();
        }
        run.house.verify();
        run.house.restart();
        run.house.verify();
        // All the rest, too.
        while let Some(event) = run.live() {
            run.house.void(event);
        }
        run.house.verify();
        assert!(run.house.events.iter().all(|event| event.gone));
    }
}
