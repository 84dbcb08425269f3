//! SIGKILL under load, again and again, in one data directory: what was acknowledged is there, and counts once.
//!
//! `METERD_KILL_ROUNDS=<n>` kills more often, `METERD_KILL_SEED=<seed>` draws the same events and the same pauses again.

use std::time::Duration;

use fastrand::Rng;
use meterd::cli::daemon::Daemon;

use crate::harness::sender::Sender;
use crate::harness::{ANYWHERE, Home, client, number, seed};

const ROUNDS: u64 = 10;
/// Long enough for the store to commit behind the journal, and sometimes to persist.
const LONG_ROUND: Duration = Duration::from_millis(1_500);

#[test]
fn nothing_acknowledged_is_missing_or_counted_twice_after_sigkill_under_load() {
    let rounds = number("METERD_KILL_ROUNDS").unwrap_or(ROUNDS);
    let seed = seed("METERD_KILL_SEED");
    let mut rng = Rng::with_seed(seed);
    let home = Home::small();
    let sender = Sender::new(seed);
    let mut daemon = home.start();
    let mut unanswered = 0;
    for round in 0..rounds {
        let pause = match round % 3 {
            2 => LONG_ROUND,
            _ => Duration::from_millis(rng.u64(5..300)),
        };
        let target = daemon.target().unwrap();
        sender.send_to(&target, move || {
            std::thread::sleep(pause);
            daemon.kill().unwrap();
        });
        unanswered += sender.unanswered_batches();
        if round % 2 == 1 {
            kill_while_it_recovers(&home, Duration::from_millis(rng.u64(1..60)));
        }
        daemon = home.start();
        let mut client = client(&daemon);
        sender.check_after_crash(&mut client).unwrap_or_else(|wrong| panic!("after round {round}: {wrong}"));
        sender.settle(&mut client).unwrap_or_else(|wrong| panic!("after the retries of round {round}: {wrong}"));
    }
    let events = sender.answered_events();
    println!("{rounds} rounds: {events} events counted once, {unanswered} batches had no answer before their retry");
    assert!(unanswered > 0, "no kill met a request under way, so nothing was shown");
    daemon.stop().unwrap();
    home.verify();
}

fn kill_while_it_recovers(home: &Home, after: Duration) {
    let mut child = home.place.command(ANYWHERE).unwrap().spawn().unwrap();
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn sigterm_under_load_exits_0_and_keeps_everything_acknowledged() {
    let home = Home::small();
    let sender = Sender::new(seed("METERD_STOP_SEED"));
    for _ in 0..3 {
        let daemon = home.start();
        let target = daemon.target().unwrap();
        sender.send_to(&target, move || {
            std::thread::sleep(Duration::from_millis(250));
            daemon.stop().unwrap();
        });
        home.verify();
        let daemon = home.start();
        sender.check_after_crash(&mut client(&daemon)).unwrap();
        sender.settle(&mut client(&daemon)).unwrap();
        daemon.stop().unwrap();
    }
    let log = home.log();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains("stopped"), "the last words of an orderly end: {last}");
    assert!(!log.contains("still under way") && !log.contains(" ERROR "), "{log}");
}

#[test]
fn a_full_store_after_sigterm_leaves_nothing_to_replay() {
    let home = Home::small();
    let sender = Sender::new(1);
    let daemon = home.start();
    sender.send_while(&daemon, || std::thread::sleep(Duration::from_millis(300)));
    daemon.stop().unwrap();
    let before = home.log().len();
    let daemon = Daemon::start(&home.place, ANYWHERE).unwrap();
    let recovered = home.log()[before..].lines().find(|line| line.contains("recovered")).unwrap().to_owned();
    assert!(recovered.contains("replayed=0 "), "{recovered}");
    sender.settle(&mut client(&daemon)).unwrap();
}
