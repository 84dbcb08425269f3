//! Backfills are taken back: whole, bit by bit, and while others use the same windows.

use fastrand::Rng;

use super::house::*;
use crate::engine::corrections::{Backfill, Retraction};
use crate::engine::outbox::Done;
use crate::engine::retract::revert::{Revert, RevertError, Target};
use crate::engine::writer::Operation;
use crate::model::Duration;

/// So that a pass holds a few windows.
const FEW: usize = 3_000;

/// Ends after so many slices.
struct Steps<'a> {
    house: &'a mut House,
    slices: usize,
    left: usize,
    /// Sends events before a slice now and then.
    busy: Option<&'a mut Rng>,
}

impl Target for Steps<'_> {
    fn retract(&mut self, retraction: Retraction) -> Result<Done, RevertError> {
        if let Some(rng) = &mut self.busy
            && rng.u8(..2) == 0
        {
            let back = Duration::from_secs(rng.u64(..50 * HOUR));
            let at = self.house.now().saturating_sub(back);
            self.house.send(Event::new("a", at, rng.i64(-4..6), rng.u64(..8)));
            let live = self.house.events.iter().filter(|event| !event.gone && event.backfill.is_none());
            let live: Vec<_> = live.map(|event| event.seq).collect();
            if rng.u8(..3) > 0 {
                self.house.void(live[rng.usize(..live.len())]);
            }
        }
        self.slices += 1;
        self.left -= 1;
        Ok(self.house.operate(Operation::Retract { retraction, replacement: None }))
    }

    fn finish(&mut self, number: u32) -> Result<Done, RevertError> {
        Ok(self.house.operate(Operation::FinishRevert { number }))
    }

    fn is_stopped(&self) -> bool {
        self.left == 0
    }
}

fn steps(house: &mut House, left: usize) -> Steps<'_> {
    Steps { house, slices: 0, left, busy: None }
}

/// Usage, some of it by a backfill, some of it final, some voided.
fn loaded(seed: u64) -> (House, Rng) {
    let (mut house, mut rng) = (House::new("2026-11-03T10:30:00Z"), Rng::with_seed(seed));
    for day in 0..2 {
        if day == 1 {
            house.put_anchor("a", Some(2));
        }
        let number = house.open_backfill("old");
        for _ in 0..20 {
            let back = Duration::from_secs(rng.u64(..30 * HOUR));
            let at = house.now().saturating_sub(back);
            let model = MODELS[rng.usize(..2)];
            let customer = CUSTOMERS[rng.usize(..2)];
            let event = Event { model, ..Event::new(customer, at, rng.i64(-4..6), rng.u64(..8)) };
            let history =
                Event { backfill: Some(number), at: at.saturating_sub(Duration::from_secs(60)), ..event.clone() };
            house.send(event);
            house.send(history);
        }
        let events: Vec<_> = house.events.iter().filter(|event| !event.gone).map(|event| event.seq).collect();
        (0..2).for_each(|_| {
            let event = events[rng.usize(..events.len())];
            if house.events.iter().any(|known| known.seq == event && !known.gone) {
                house.void(event);
            }
        });
        house.pass(20 * HOUR);
        if rng.bool() {
            house.commit();
        }
    }
    house.check();
    (house, rng)
}

fn revert(house: &mut House, backfill: &Backfill, pass_bytes: usize) -> usize {
    let planner = house.planner();
    let mut target = steps(house, usize::MAX);
    Revert::new(&planner, backfill, pass_bytes).run(&mut target).unwrap();
    let slices = target.slices;
    house.forget(backfill.number);
    slices
}

#[test]
fn a_reverted_backfill_leaves_what_would_be_there_without_it() {
    for seed in 0..10 {
        println!("seed {seed}");
        let (mut house, _) = loaded(seed);
        let backfill = house.begin_revert("old");
        let slices = revert(&mut house, &backfill, if seed % 2 == 0 { usize::MAX } else { FEW });
        assert!(slices > if seed % 2 == 0 { 0 } else { 10 }, "{slices}");
        house.verify();
        house.restart();
        house.verify();
        assert!(house.view.reverting_backfills().is_empty());
    }
}

#[test]
fn a_revert_goes_on_where_it_was_interrupted_whatever_comes_between() {
    let mut rounds = 0;
    for seed in 10..40 {
        println!("seed {seed}");
        let (mut house, mut rng) = loaded(seed);
        house.begin_revert("old");
        while let Some(backfill) = house.view.reverting_backfills().pop() {
            rounds += 1;
            let planner = house.planner();
            let pass_bytes = [FEW, FEW, 10 * FEW][rng.usize(..3)];
            let left = rng.usize(1..3);
            let mut target = Steps { busy: Some(&mut rng), ..steps(&mut house, left) };
            match Revert::new(&planner, &backfill, pass_bytes).run(&mut target) {
                Ok(()) => house.forget(backfill.number),
                Err(error) => assert!(matches!(error, RevertError::Stopped), "{error}"),
            }
            match rng.u8(..3) {
                0 => house.restart(),
                1 => house.pass(rng.u64(..3 * HOUR)),
                _ => house.commit(),
            }
        }
        house.verify();
    }
    assert!(rounds > 100, "{rounds}");
}

#[test]
fn a_name_that_is_used_again_is_another_backfill() {
    let mut house = House::new("2026-11-03T10:30:00Z");
    let at = house.now();
    for round in 1..=3 {
        let number = house.open_backfill("old");
        assert_eq!(number, round);
        house.send(Event { backfill: Some(number), ..Event::new("a", at, 5, 1) });
        house.check();
        let backfill = house.begin_revert("old");
        revert(&mut house, &backfill, FEW);
        house.verify();
    }
    house.open_backfill("empty");
    let empty = house.begin_revert("empty");
    assert_eq!(revert(&mut house, &empty, FEW), 0);
}

#[test]
fn a_slice_is_not_taken_back_twice() {
    struct Twice<'a>(Steps<'a>);
    impl Target for Twice<'_> {
        fn retract(&mut self, retraction: Retraction) -> Result<Done, RevertError> {
            let done = self.0.retract(retraction.clone())?;
            let again = self.0.retract(retraction)?;
            assert!(is_outdated(&Ok(again)));
            Ok(done)
        }
        fn finish(&mut self, number: u32) -> Result<Done, RevertError> {
            self.0.finish(number)
        }
        fn is_stopped(&self) -> bool {
            false
        }
    }
    let mut house = House::new("2026-11-03T10:30:00Z");
    let number = house.open_backfill("old");
    let at = house.now();
    (1..=3).for_each(|quantity| {
        house.send(Event::new("a", at, quantity, 1));
        house.send(Event { backfill: Some(number), ..Event::new("a", at, quantity, 2) });
    });
    let backfill = house.begin_revert("old");
    // A slice is one window, also of those that are only subtracted from.
    Revert::new(&house.planner(), &backfill, 1).run(&mut Twice(steps(&mut house, usize::MAX))).unwrap();
    house.forget(number);
    house.verify();
}
