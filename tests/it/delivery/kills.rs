//! SIGKILL at random moments of delivery, again and again: every row has one effect in every sink, and none is missing.
//!
//! Rows go out once a second, in a burst: a moment that is drawn evenly mostly lies between two. So every other round waits
//! for a request and kills while it is under way.
//!
//! `METERD_DELIVERY_ROUNDS=<n>` kills more often, `METERD_DELIVERY_SEED=<seed>` draws the same events and pauses again.

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::delivery::traffic::{Sinks, settle};
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::{ANYWHERE, Home, number, seed};
use crate::windows::senders::Senders;

const ROUNDS: u64 = 8;
/// A daemon under load on a machine under load.
const REQUEST_WITHIN: Duration = Duration::from_secs(30);

#[test]
fn each_row_has_one_effect_in_every_sink_through_sigkills_at_random_moments_of_delivery() {
    let rounds = number("METERD_DELIVERY_ROUNDS").unwrap_or(ROUNDS);
    let seed = seed("METERD_DELIVERY_SEED");
    // Slow enough that a kill often meets a request under way.
    let sinks = Sinks::new(|request| match (request.message * 7 + request.attempt) % 13 {
        0 => Answer::Reset,
        1 => Answer::Late(Duration::from_millis(5), 503),
        n => Answer::Late(Duration::from_millis(4 * n as u64), 200),
    });
    let home = Home::new(&(crate::windows::config() + &sinks.config()));
    let daemon = home.start();
    let senders = Senders::new(seed, &daemon);
    let (daemon, _) = senders.send_while(|| {
        let (mut daemon, mut rng) = (daemon, Rng::with_seed(seed));
        for round in 0..rounds {
            std::thread::sleep(Duration::from_millis(rng.u64(20..900)));
            if round % 2 == 0 {
                wait_for_a_request(&sinks.receiver);
            }
            match round % 4 {
                3 => daemon.stop().unwrap(),
                _ => daemon.kill().unwrap(),
            }
            if round % 4 == 1 {
                kill_early(&home, Duration::from_millis(rng.u64(20..200)));
            }
            daemon = home.start();
            senders.redirect(&daemon);
        }
        daemon
    });
    settle(&home, daemon, &senders, &sinks);
    let requests = sinks.receiver.requests();
    let taken_again = requests.iter().filter(|request| request.attempt > 0 && request.is_taken());
    let mut ids = std::collections::HashMap::<&str, usize>::new();
    requests.iter().filter(|request| request.is_taken()).for_each(|request| *ids.entry(&request.id).or_default() += 1);
    let twice = ids.values().filter(|count| **count > 1).count();
    println!("{rounds} rounds: {twice} messages were taken more than once, {} after a failure", taken_again.count());
    assert!(twice > 0, "no kill came between a request and its record, so nothing was shown");
}

/// Returns as one arrives, which is milliseconds before it is answered.
fn wait_for_a_request(receiver: &Receiver) {
    let (before, began) = (receiver.count(), Instant::now());
    while receiver.count() == before {
        assert!(began.elapsed() < REQUEST_WITHIN, "no request arrived");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// A start that is killed while it recovers, or soon after.
fn kill_early(home: &Home, after: Duration) {
    let mut child = home.place.command(ANYWHERE).unwrap().spawn().unwrap();
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
}
