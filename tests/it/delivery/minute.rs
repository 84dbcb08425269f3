//! Usage in time, out of order and late reaches every sink, equal to the unit.
//!
//! `METERD_WINDOWS_SECONDS=60` feeds for a minute, `METERD_WINDOWS_SEED=<seed>` draws the same events again.

use std::time::Duration;

use crate::delivery::traffic::{Sinks, settle};
use crate::harness::receiver::Answer;
use crate::harness::{Home, number, seed};
use crate::windows::senders::Senders;

const SECONDS: u64 = 12;

#[test]
fn the_traffic_of_windows_arrives_equal_to_the_unit_in_files_at_a_webhook_that_fails_and_in_postgresql() {
    let seconds = number("METERD_WINDOWS_SECONDS").unwrap_or(SECONDS);
    let sinks = Sinks::new(|request| {
        let fails = request.message % 5 == 4 && request.attempt == 0;
        Answer::Status(if fails { 500 } else { 200 })
    });
    let home = Home::new(&(crate::windows::config() + &sinks.config()));
    let daemon = home.start();
    let senders = Senders::new(seed("METERD_WINDOWS_SEED"), &daemon);
    senders.send_while(|| std::thread::sleep(Duration::from_secs(seconds)));
    senders.oracle.lock().check_coverage().unwrap_or_else(|wrong| panic!("{wrong}"));
    settle(&home, daemon, &senders, &sinks);
    let requests = sinks.receiver.requests();
    let failed = requests.iter().filter(|request| request.status == Some(500)).count();
    let messages = requests.iter().filter(|request| request.attempt == 0).count();
    assert_eq!((failed, requests.len()), (messages / 5, messages + messages / 5), "every fifth, once, and no other");
    assert!(failed > 3, "{failed} failures show nothing");
}
