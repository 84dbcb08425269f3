//! SIGKILL under load, again and again, in one data directory: what was acknowledged is there, and counts once.
//!
//! `METERD_KILL_ROUNDS=<n>` kills more often, `METERD_KILL_SEED=<seed>` draws the same events and the same pauses again.

use std::time::Duration;

use fastrand::Rng;
use meterd::cli::daemon::Daemon;

use crate::harness::sender::Sender;
use crate::harness::{ANYWHERE, Home, can_inject, client, number, post, seed};

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
        let began = std::time::Instant::now();
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
        let ready = daemon.ready_after;
        println!("round {round}: {:?}, {} events, ready after {ready:?}", began.elapsed(), sender.answered_events());
    }
    let events = sender.answered_events();
    println!("{rounds} rounds: {events} events counted once, {unanswered} batches had no answer before their retry");
    assert!(unanswered > 0, "no kill met a request under way, so nothing was shown");
    sender.check_seqs();
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

#[test]
fn a_start_that_is_killed_at_any_change_to_the_directory_can_be_repeated() {
    if !can_inject("SIGKILL at the system calls of a start") {
        return;
    }
    let mut kills = 0;
    for call in ["mkdir", "rename", "ftruncate", "pwrite64", "fdatasync", "fsync", "unlink"] {
        let (fresh, used) = (Home::small(), Home::small());
        let sender = Sender::new(5).over(2);
        let daemon = used.start();
        sender.send_while(&daemon, || std::thread::sleep(Duration::from_millis(100)));
        sender.settle(&mut client(&daemon)).unwrap();
        daemon.kill().unwrap();
        for (home, fold) in [(&fresh, false), (&used, true)] {
            for nth in 1.. {
                // A refold writes the most, so it has the most places to be killed at.
                let _ = std::fs::remove_dir_all(if fold { home.store() } else { home.place.data_dir.clone() });
                let place = home.traced(&format!("{call}:signal=KILL:when={nth}"));
                let survived = Daemon::start(&place, ANYWHERE).map(|daemon| daemon.kill().unwrap()).is_ok();
                let daemon = home.start();
                if fold {
                    sender.check_after_crash(&mut client(&daemon)).unwrap_or_else(|w| panic!("{call} {nth}: {w}"));
                }
                daemon.kill().unwrap();
                if survived {
                    break;
                }
                kills += 1;
            }
        }
    }
    println!("killed at {kills} system calls");
    assert!(kills > 20, "{kills}");
}

/// The checks of this and other modules must be able to fail.
#[test]
fn one_event_too_many_and_one_too_few_are_noticed() {
    let home = Home::small();
    let daemon = home.start();
    let mut client = client(&daemon);
    let sender = Sender::new(9);
    sender.send_while(&daemon, || std::thread::sleep(Duration::from_millis(100)));
    sender.settle(&mut client).unwrap();
    let event =
        serde_json::json!({"usage_event_id": "extra", "customer": "c00000003", "meter": "bytes", "quantity": "0.01"});
    assert_eq!(post(&mut client, "/v1/events", &event).0, 200);
    let noticed = sender.check_after_crash(&mut client).unwrap_err();
    assert!(noticed.starts_with("1 totals") && noticed.contains("c00000003"), "{noticed}");

    let home = Home::small();
    let daemon = home.start();
    let sender = Sender::new(9);
    sender.send_while(&daemon, || std::thread::sleep(Duration::from_millis(100)));
    sender.claim_one();
    let noticed = sender.settle(&mut crate::harness::client(&daemon)).unwrap_err();
    assert!(noticed.starts_with("1 totals"), "{noticed}");
}
