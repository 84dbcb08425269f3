//! Windows of two seconds in real time, fed out of order, late and twice through three SIGKILLs: what was finalized and
//! what was adjusted since is what was sent, to the unit, through usage, adjustments and totals.
//!
//! `METERD_WINDOWS_SECONDS=60` feeds for a minute, `METERD_WINDOWS_SEED=<seed>` draws the same events again.

pub mod billing;
pub mod checks;
pub mod faked;
pub mod oracle;
pub mod senders;

use std::time::{Duration, Instant};

use fastrand::Rng;
use meterd::cli::client::Client;
use meterd::cli::daemon::Daemon;

use crate::harness::{Home, SMALL, client, number, seed};
use billing::{Adjustment, Books, WINDOW_MS, usage};
use oracle::{KINDS, Late, Oracle};
use senders::Senders;

const SECONDS: u64 = 20;
const KILLS: u64 = 3;
/// The youngest event lies a few seconds ahead; the rest is time for a machine under load.
const FINAL_WITHIN: Duration = Duration::from_secs(60);

pub fn config() -> String {
    let meters = KINDS.map(|kind| {
        let aggregation = if kind.counts { "count" } else { "sum" };
        let late = if kind.late == Late::Adjusts { "adjust" } else { "reject" };
        format!(
            "[[meter]]\nslug = \"{}\"\naggregation = \"{aggregation}\"\ndimensions = {{ {} = \"$.model\" }}\n\
             window = \"{}s\"\ngrace = \"1s\"\nlate = \"{late}\"\n",
            kind.slug,
            billing::DIMENSION,
            WINDOW_MS / 1_000
        )
    });
    format!("{SMALL}{}", meters.concat())
}

#[test]
fn finalized_windows_and_adjustments_equal_what_was_sent_through_three_sigkills() {
    let seconds = number("METERD_WINDOWS_SECONDS").unwrap_or(SECONDS).max(4);
    let seed = seed("METERD_WINDOWS_SEED");
    let home = Home::new(&config());
    let daemon = home.start();
    let senders = Senders::new(seed, &daemon);
    let (daemon, followed) = senders.send_while(|| {
        let mut daemon = daemon;
        let mut rng = Rng::with_seed(seed);
        for _ in 0..KILLS {
            pause(seconds, &mut rng);
            daemon.kill().unwrap();
            daemon = home.start();
            senders.redirect(&daemon);
        }
        pause(seconds, &mut rng);
        daemon
    });
    let oracle = senders.oracle.lock();
    println!("{}; {} requests had no answer", oracle.summary(), senders.unanswered());
    wait_until_all_is_final(&mut client(&daemon));
    let books = read(&daemon, &oracle);
    check(&oracle, &books, &followed).unwrap_or_else(|wrong| panic!("{wrong}"));
    daemon.stop().unwrap();
    let daemon = home.start();
    assert!(read(&daemon, &oracle) == books, "the books after a restart are not those before it");
    daemon.stop().unwrap();
    home.verify();
}

/// A part of the whole run, of an uneven length.
fn pause(seconds: u64, rng: &mut Rng) {
    let millis = seconds * 1_000 / (KILLS + 1);
    std::thread::sleep(Duration::from_millis(rng.u64(millis * 3 / 4..=millis * 5 / 4)));
}

pub fn wait_until_all_is_final(client: &mut Client) {
    let began = Instant::now();
    loop {
        let rows = Oracle::meters().map(|meter| usage(client, meter, "group_by=customer,model"));
        let open = rows.iter().flat_map(|rows| rows.iter().filter(|(_, row)| row.state != "finalized"));
        let open = open.map(|(cell, row)| format!("{cell:?} {row:?}")).collect::<Vec<_>>();
        if open.is_empty() {
            return println!("final after {:?}", began.elapsed());
        }
        assert!(began.elapsed() < FINAL_WITHIN, "{} windows do not close, one is {}", open.len(), open[0]);
        std::thread::sleep(Duration::from_millis(250));
    }
}

pub fn read(daemon: &Daemon, oracle: &Oracle) -> Books {
    Books::read(&mut client(daemon), &Oracle::meters(), &Oracle::customers(), &oracle.periods())
}

fn check(oracle: &Oracle, books: &Books, followed: &[Adjustment]) -> Result<(), String> {
    oracle.check_coverage()?;
    oracle.check_answers(books.adjustments.len())?;
    checks::all(&oracle.expected(), books)?;
    match books.adjustments.starts_with(followed) && !followed.is_empty() {
        true => Ok(()),
        false => Err(format!("{} adjustments were seen that are others by now", followed.len())),
    }
}
