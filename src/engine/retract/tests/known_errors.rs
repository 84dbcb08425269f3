//! What cannot be taken back, and what must not be taken for something else.

use std::ops::ControlFlow;

use super::house::*;
use crate::engine::corrections::{Cause, Remains, RetractionRefused};
use crate::engine::evidence::{EvidenceError, EvidenceEvent, EvidenceQuery, Found};
use crate::engine::outbox::Done;
use crate::engine::retract::plan::{Slice, Whose};
use crate::engine::retract::remains::Reread;
use crate::engine::retract::revert::{Revert, RevertError, Target};
use crate::engine::retract::{PlanError, Planner, Source};
use crate::engine::writer::Operation;
use crate::meter::Value;
use crate::model::{MeterId, Quantity, Seq, TenantId};

/// A journal without its records before this one; or one that lost some without a trace.
struct Shortened {
    whole: Box<dyn Source>,
    from: Seq,
    says: Seq,
}

impl Source for Shortened {
    fn wait_for(&self, seq: Seq) -> bool {
        self.whole.wait_for(seq)
    }

    fn event(&self, seq: Seq, visit: &mut dyn FnMut(&EvidenceEvent<'_>)) -> Result<Found, EvidenceError> {
        if seq < self.from { Ok(Found::Expired) } else { self.whole.event(seq, visit) }
    }

    fn events(
        &self,
        query: &EvidenceQuery<'_>,
        visit: &mut dyn FnMut(&EvidenceEvent<'_>) -> ControlFlow<()>,
    ) -> Result<(), EvidenceError> {
        let kept = |event: &EvidenceEvent<'_>| event.seq >= self.from;
        self.whole.events(query, &mut |event| if kept(event) { visit(event) } else { ControlFlow::Continue(()) })
    }

    fn scan(
        &self,
        tenant: &str,
        records: (Seq, Seq),
        visit: &mut dyn FnMut(&EvidenceEvent<'_>) -> ControlFlow<()>,
    ) -> Result<(), EvidenceError> {
        let kept = |event: &EvidenceEvent<'_>| event.seq >= self.from;
        let mut visit = |event: &EvidenceEvent<'_>| if kept(event) { visit(event) } else { ControlFlow::Continue(()) };
        self.whole.scan(tenant, records, &mut visit)
    }

    fn oldest(&self) -> Result<Seq, EvidenceError> {
        Ok(self.says)
    }
}

fn shortened(house: &House, from: Seq, says: Seq) -> Planner {
    Planner::new(house.view.clone(), Box::new(Shortened { whole: house.source(), from, says }))
}

fn refused<T: std::fmt::Debug>(planned: Result<T, PlanError>) -> RetractionRefused {
    match planned {
        Err(PlanError::Refused(refused)) => refused,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_event_is_taken_back_once_and_what_is_none_never() {
    let mut house = House::new("2026-11-03T10:30:00Z");
    let event = house.send(Event::new("a", house.now(), 5, 1));
    assert_eq!(refused(house.plan(Seq(1))), RetractionRefused::UnknownEvent);
    assert_eq!(refused(house.plan(Seq(1_000))), RetractionRefused::UnknownEvent);
    let other = house.planner().void(&TenantId::new("other"), "", "e", event, "tested");
    assert_eq!(refused(other), RetractionRefused::UnknownEvent);
    house.void(event);
    let position = house.view.state().read().position();
    assert_eq!(refused(house.plan(event)), RetractionRefused::AlreadyVoided(position.min(voided(&house, event))));
    let number = house.open_backfill("old");
    let history = house.send(Event { backfill: Some(number), ..Event::new("a", house.now(), 5, 1) });
    house.begin_revert("old");
    assert_eq!(refused(house.plan(history)), RetractionRefused::Reverted("old".to_owned()));
}

fn voided(house: &House, event: Seq) -> Seq {
    house.view.state().read().corrections().voided(event).unwrap()
}

#[test]
fn without_the_events_that_are_left_a_greatest_value_is_not_guessed() {
    let mut house = House::new("2026-11-03T10:30:00Z");
    let first = house.send(Event::new("a", house.now(), 1, 1));
    let most = house.send(Event::new("a", house.now(), 9, 2));
    let expired = shortened(&house, most, most).void(&tenant(), "", "e", most, "tested");
    assert_eq!(refused(expired), RetractionRefused::EvidenceExpired);
    let itself = shortened(&house, most, most).void(&tenant(), "", "e", first, "tested");
    assert_eq!(refused(itself), RetractionRefused::EvidenceExpired);
    let lost = shortened(&house, most, Seq(1)).void(&tenant(), "", "e", most, "tested");
    let Err(PlanError::Differs(differs)) = lost else { panic!("{lost:?}") };
    assert_eq!((differs.expected, differs.found), (1, 0));
    assert!(differs.to_string().contains("a/"), "{differs}");
    house.check();
}

#[test]
fn a_revert_without_all_of_its_events_takes_nothing_back() {
    struct Never;
    impl Target for Never {
        fn retract(&mut self, _: crate::engine::corrections::Retraction) -> Result<Done, RevertError> {
            panic!("nothing is to be taken back")
        }
        fn finish(&mut self, _: u32) -> Result<Done, RevertError> {
            panic!("it is not finished")
        }
        fn is_stopped(&self) -> bool {
            false
        }
    }
    let mut house = House::new("2026-11-03T10:30:00Z");
    let number = house.open_backfill("old");
    let first = house.send(Event { backfill: Some(number), ..Event::new("a", house.now(), 5, 1) });
    let second = house.send(Event { backfill: Some(number), ..Event::new("a", house.now(), 6, 1) });
    let backfill = house.begin_revert("old");
    let planner = shortened(&house, second, second);
    let reverted = Revert::new(&planner, &backfill, usize::MAX).run(&mut Never);
    assert!(matches!(reverted, Err(RevertError::Refused(RetractionRefused::EvidenceExpired))), "{reverted:?}");
    assert!(first < second);
    house.check();
}

#[test]
fn a_set_that_would_lose_too_many_members_at_once_becomes_an_estimate() {
    let mut house = House::new("2026-11-03T10:30:00Z");
    let number = house.open_backfill("old");
    let at = house.now();
    for member in 0..9 {
        let backfill = Some(number).filter(|_| member >= 3);
        house.send(Event { backfill, ..Event::new("a", at, 1, member) });
    }
    house.pass(5 * HOUR);
    let backfill = house.begin_revert("old");
    let mut planner = house.planner();
    planner.leaving_max = 5;
    struct Direct<'a>(&'a mut House);
    impl Target for Direct<'_> {
        fn retract(&mut self, retraction: crate::engine::corrections::Retraction) -> Result<Done, RevertError> {
            let sets = retraction.changes.iter().filter(|change| change.meter.0 == 6);
            sets.for_each(|change| assert!(matches!(change.total, Remains::Is(_)), "{change:?}"));
            Ok(self.0.operate(Operation::Retract { retraction, replacement: None }))
        }
        fn finish(&mut self, number: u32) -> Result<Done, RevertError> {
            Ok(self.0.operate(Operation::FinishRevert { number }))
        }
        fn is_stopped(&self) -> bool {
            false
        }
    }
    Revert::new(&planner, &backfill, usize::MAX).run(&mut Direct(&mut house)).unwrap();
    house.forget(number);
    house.verify();
    house.send(Event::new("a", at, 1, 77));
    house.verify();
}

#[test]
fn what_comes_after_the_counter_was_read_is_not_of_it() {
    let mut house = House::new("2026-11-03T10:30:00Z");
    let at = house.now();
    let first = house.send(Event::new("a", at, 1, 1));
    house.send(Event::new("a", at, 9, 2));
    let planner = house.planner();
    let definition = house.definitions[3].clone();
    let tenant = tenant();
    let whose = Whose { tenant: tenant.as_str(), meter: MeterId(3), definition: &definition };
    let name = house.events[0].counters[3].clone();
    let window = house.counter(&name).unwrap().window;
    let cause = Cause::Revert { backfill: 1 };
    let slice = Slice::new(&planner, &cause, house.view.basis());
    let reread = Reread { name: &name, window, expected: 1, as_of: first, taking: false };
    let read = slice.reread(whose, &reread, &Vec::new, &mut |values, value, _| {
        values.push(value);
        ControlFlow::Continue(())
    });
    assert_eq!(read.unwrap(), [Value::Quantity(Quantity::from_integer(1))]);
}
