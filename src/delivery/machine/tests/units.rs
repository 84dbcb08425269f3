//! Single steps.

use super::*;
use crate::engine::outbox::{ANSWER_BYTES_MAX, ERROR_BYTES_MAX};

fn steps(world: &mut World) -> Steps {
    let work = world.log.work(world.machine.wants_pending());
    world.machine.step(world.now, &work)
}

/// Some deliveries, planned now.
fn planned(policy: Policy, deliveries: u32) -> World {
    let mut world = World::with_rows(policy, always(Sent::delivered()), deliveries);
    while world.plan(&world.log.work(0), usize::MAX) {}
    world
}

fn finish(world: &mut World, delivery: &Delivery, sent: Sent) -> DeliveryOperation {
    world.machine.finished(world.now, delivery, sent, world.now, Duration::ZERO).unwrap()
}

#[test]
fn a_paused_sink_has_no_steps() {
    let mut world = planned(policy(), 3);
    world.log.pause = Some(SinkPause { cause: PauseCause::Restored, reason: String::new(), at: world.now });
    let steps = steps(&mut world);
    assert_eq!((steps.send.len(), steps.failures.len(), steps.plan, steps.wake), (0, 0, 0, None));
}

#[test]
fn what_is_busy_is_not_given_out_again() {
    let mut world = planned(policy(), 6);
    assert_eq!(steps(&mut world).send.len(), 4);
    assert_eq!(steps(&mut world).send.len(), 0);
    assert_eq!(world.machine.health().in_flight, 4);
}

#[test]
fn nothing_more_is_planned_while_enough_is_ready_unless_the_breaker_is_open() {
    let mut world = planned(policy(), READY_ENOUGH as u32 - 1);
    assert_eq!(steps(&mut world).plan, PLANS_MAX);
    let mut world = planned(policy(), READY_ENOUGH as u32);
    assert_eq!(steps(&mut world).plan, 0);
    (0..5).for_each(|_| world.machine.learn_failure(world.now, Failure::Unavailable, "down"));
    assert_eq!(steps(&mut world).plan, PLANS_MAX);
    let mut world = planned(Policy { max_pending: 10, ..policy() }, 8);
    assert_eq!(steps(&mut world).plan, 2, "up to max_pending");
}

#[test]
fn fast_failures_come_a_few_at_a_time() {
    let mut world = planned(policy(), FAST_FAILURES_MAX as u32 + 10);
    (0..5).for_each(|_| world.machine.learn_failure(world.now, Failure::Unavailable, "down"));
    for expected in [FAST_FAILURES_MAX, 10, 0] {
        let steps = steps(&mut world);
        assert_eq!((steps.failures.len(), steps.send.len()), (expected, 0));
        steps.failures.into_iter().for_each(|operation| drop(world.log.apply(operation)));
    }
    assert_eq!(world.machine.health().last_error.unwrap().1, "down", "a fast failure says nothing new");
}

#[test]
fn a_delivery_whose_rows_cannot_be_had_is_left_for_a_second_or_until_the_outbox_changes() {
    let mut world = planned(policy(), 1);
    let delivery = steps(&mut world).send.remove(0);
    world.machine.postpone(world.now, delivery.id);
    let later = steps(&mut world);
    assert_eq!((later.send.len(), later.wake), (0, Some(at(1))));
    world.machine.outbox_changed();
    assert_eq!(steps(&mut world).send.len(), 1);
    world.machine.postpone(world.now, delivery.id);
    world.now = at(1);
    assert_eq!(steps(&mut world).send.len(), 1);
    assert_eq!(world.machine.health(), SinkHealth { in_flight: 1, ..SinkHealth::default() }, "no failure");
}

#[test]
fn a_probe_whose_rows_cannot_be_had_leaves_its_place_to_another() {
    let mut world = planned(policy(), 2);
    (0..5).for_each(|_| world.machine.learn_failure(world.now, Failure::Unavailable, "down"));
    world.now = at(30);
    let probe = steps(&mut world).send.remove(0);
    assert_eq!(steps(&mut world).send.len(), 0, "half-open");
    world.machine.postpone(world.now, probe.id);
    let other = steps(&mut world).send.remove(0);
    assert_ne!(other.id, probe.id);
}

#[test]
fn the_first_attempt_waits_for_its_delay_and_a_replay_does_not() {
    let schedule = vec![secs(10), secs(20)];
    let mut world = planned(Policy { schedule, ..policy() }, 1);
    let before = steps(&mut world);
    assert_eq!((before.send.len(), before.wake), (0, Some(at(10))));
    let id = *world.log.deliveries.keys().next().unwrap();
    world.log.deliveries.get_mut(&id).unwrap().replays = 1;
    assert_eq!(steps(&mut world).send.len(), 1);
}

#[test]
fn after_the_clock_went_back_by_days_what_is_due_far_ahead_is_sent_now() {
    let mut world = World::with_rows(policy(), always(unavailable()), 1);
    world.run(secs(1));
    world.now = at(0).saturating_sub(secs(30 * 86_400));
    assert_eq!(steps(&mut world).send.len(), 1);
}

#[test]
fn what_is_kept_of_an_answer_is_cut_between_characters() {
    let mut world = planned(policy(), 1);
    let delivery = steps(&mut world).send.remove(0);
    let text = "ä".repeat(ANSWER_BYTES_MAX);
    let sent = Sent { answer: format!("x{text}"), ..Sent::failed(Failure::Refused, format!("x{text}")) };
    let DeliveryOperation::Failed { attempt, .. } = finish(&mut world, &delivery, sent) else { panic!() };
    assert_eq!((attempt.error.len(), attempt.answer.len()), (ERROR_BYTES_MAX - 1, ANSWER_BYTES_MAX - 1));
}

#[test]
fn a_failure_always_has_an_error_and_a_success_has_none() {
    let mut world = planned(policy(), 2);
    let send = steps(&mut world).send;
    let DeliveryOperation::Failed { attempt, .. } = finish(&mut world, &send[0], Sent::failed(Failure::Refused, ""))
    else {
        panic!()
    };
    assert_eq!(attempt.error, "no reason was given");
    let sent = Sent { status: Some(202), answer: "thanks".into(), ..Sent::delivered() };
    let DeliveryOperation::Delivered { attempt, .. } = finish(&mut world, &send[1], sent) else { panic!() };
    assert_eq!((attempt.error.as_str(), attempt.status, attempt.answer.as_str()), ("", Some(202), "thanks"));
}
