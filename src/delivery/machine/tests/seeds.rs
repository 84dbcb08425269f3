//! Random receivers, policies, pauses and replays: `World` checks each attempt, and in the end nothing is left.

use super::*;

const SEEDS: u64 = 150;

fn random_policy(rng: &mut fastrand::Rng) -> Policy {
    let mut schedule = vec![Duration::ZERO];
    schedule.extend((0..rng.usize(0..6)).map(|_| Duration::from_millis(rng.u64(0..600_000))));
    let mut policy = Policy {
        schedule,
        jitter_percent: rng.u8(0..=100),
        retry_after_max: secs(rng.u64(0..3_600)),
        hold_max: secs(rng.u64(0..300)),
        max_in_flight: rng.usize(1..6),
        max_pending: rng.usize(1..200),
        ..Policy::default()
    };
    policy.breaker.failures = rng.u32(1..6);
    policy.breaker.cool_down = Duration::from_millis(rng.u64(1..60_000));
    policy
}

fn random_failure(rng: &mut fastrand::Rng) -> Failure {
    let retry_after = rng.bool().then(|| std::time::Duration::from_secs(rng.u64(0..10_000)));
    match rng.u8(0..100) {
        0 => Failure::Gone,
        1 => Failure::Misfit,
        2..5 => Failure::Never,
        5..25 => Failure::Refused,
        25..45 => Failure::SlowDown { retry_after },
        _ => Failure::Unavailable,
    }
}

/// Up and down for minutes at a time, and moody while it is up.
fn random_receiver(mut rng: fastrand::Rng) -> Receiver {
    let (mut is_up, mut until) = (true, sim::start());
    Box::new(move |now, _| {
        if now >= until {
            (is_up, until) = (rng.bool(), now.saturating_add(secs(rng.u64(1..600))));
        }
        let fails = if is_up { rng.u8(0..10) == 0 } else { true };
        let sent = if fails { Sent::failed(random_failure(&mut rng), "moody") } else { Sent::delivered() };
        (sent, Duration::from_micros(rng.u64(1..25_000_000)))
    })
}

fn disturb(world: &mut World, rng: &mut fastrand::Rng) {
    match rng.u8(0..10) {
        0 => {
            let pause = SinkPause { cause: PauseCause::Operator, reason: "maintenance".into(), at: world.now };
            world.log.apply(DeliveryOperation::Pause { sink: sim::SINK.into(), pause });
        }
        1 | 2 => world.resume(),
        3 => world.replay(),
        4 => {
            // A restart: nothing of the process is left but the log.
            world.machine = Machine::new(world.machine.policy().clone(), rng.fork());
            world.under_way.clear();
            world.note_state();
            world.closed = None;
        }
        _ => world.log.add_rows(RowKind::ALL[rng.usize(0..3)], rng.u32(1..30)),
    }
}

fn run(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let policy = random_policy(&mut rng);
    let attempts_max = policy.schedule.len();
    let mut world = World::new(policy, random_receiver(rng.fork()));
    world.rows_per_delivery = rng.u32(1..8);
    for _ in 0..60 {
        disturb(&mut world, &mut rng);
        let span = Duration::from_millis(rng.u64(1..200_000));
        world.run(span);
    }
    assert!(world.log.deliveries.values().all(|delivery| delivery.failures as usize <= attempts_max));
    // In the end the receiver is well, and an operator has set everything going again.
    world.receiver = always(Sent::delivered());
    world.run(secs(86_400));
    world.resume();
    world.run(secs(7 * 86_400));
    world.replay();
    world.run(secs(7 * 86_400));
    let rows = world.log.deliveries.values().map(|delivery| delivery.rows as usize).sum::<usize>();
    assert_eq!(rows, world.log.rows.len(), "every row is in one delivery");
    assert_eq!(world.log.delivered(), world.log.deliveries.len(), "every delivery arrived");
}

#[test]
fn nothing_is_lost_nor_hurried_whatever_receivers_and_operators_do() {
    for seed in 0..SEEDS {
        let result = std::panic::catch_unwind(|| run(seed));
        assert!(result.is_ok(), "seed {seed}");
    }
}
