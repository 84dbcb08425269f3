//! The engine against a plain model, under random operations and crashes on a simulated disk.
//!
//! A schedule is a seed: it draws operations (events old and new, duplicates, conflicts, late and early times, slow requests,
//! clock steps, closing windows, anchors, caps, reservations, deliveries, commits, persists, failing syncs, power cuts, reopens) and compares
//! every answer, every reopened state and, at the end, the store with the model, and what receivers got with the windows.
//!
//! A failing seed prints itself; `METERD_SIM_SEED=<seed>` replays that one alone, `METERD_SIM_SCHEDULES=<n>` runs more.

mod ahead;
mod caps;
mod clock;
mod ledger;
mod model;
mod node;
mod receiver;
mod schedule;
mod seen;

use std::panic::{AssertUnwindSafe, catch_unwind};

use schedule::{Sabotage, run_schedule};

const SCHEDULES: u64 = 12_000;
/// Schedules within which every sabotage must have been noticed.
const SABOTAGED_SCHEDULES: u64 = 1_500;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn no_schedule_of_faults_loses_or_doubles_an_event() {
    let seeds = match number("METERD_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("METERD_SIM_SCHEDULES").unwrap_or(SCHEDULES),
    };
    let mut seen = schedule::Seen::default();
    for seed in seeds.clone() {
        match catch_unwind(AssertUnwindSafe(|| run_schedule(seed, Sabotage::None))) {
            Ok(ran) => seen.add(&ran),
            Err(panic) => {
                eprintln!("schedule {seed} failed; replay it with METERD_SIM_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{} schedules: {seen:?}", seeds.end - seeds.start);
    if seeds.end - seeds.start > 1_000 {
        seen.assert_that_everything_happened();
    }
}

/// The harness must notice what it is there for: each of these breaks one promise on purpose.
fn is_noticed(sabotage: Sabotage) {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let noticed =
        (0..SABOTAGED_SCHEDULES).find(|seed| catch_unwind(AssertUnwindSafe(|| run_schedule(*seed, sabotage))).is_err());
    std::panic::set_hook(quiet);
    let seed = noticed.unwrap_or_else(|| panic!("{sabotage:?} went unnoticed in {SABOTAGED_SCHEDULES} schedules"));
    println!("{sabotage:?} was noticed in schedule {seed}");
}

#[test]
fn acknowledging_before_the_sync_is_noticed() {
    is_noticed(Sabotage::AcknowledgeBeforeSync);
}

#[test]
fn leaving_out_the_directory_sync_is_noticed() {
    is_noticed(Sabotage::NoDirectorySync);
}

#[test]
fn a_dedupe_entry_without_its_counter_is_noticed() {
    is_noticed(Sabotage::IdsWithoutCounters);
}

#[test]
fn a_counter_without_its_dedupe_entry_is_noticed() {
    is_noticed(Sabotage::CountersWithoutIds);
}

#[test]
fn a_store_ahead_of_the_journal_is_noticed() {
    is_noticed(Sabotage::StoreAheadOfJournal);
}

#[test]
fn final_windows_that_the_store_does_not_get_are_noticed() {
    is_noticed(Sabotage::WindowsNotStored);
}

#[test]
fn billing_periods_that_the_store_does_not_get_are_noticed() {
    is_noticed(Sabotage::PeriodsNotStored);
}

#[test]
fn adjustments_that_the_store_does_not_get_are_noticed() {
    is_noticed(Sabotage::AdjustmentsNotStored);
}

#[test]
fn a_delivery_that_is_sent_before_its_plan_is_durable_is_noticed() {
    is_noticed(Sabotage::SendBeforeSync);
}

#[test]
fn outbox_rows_that_the_store_does_not_get_are_noticed() {
    is_noticed(Sabotage::OutboxNotStored);
}

#[test]
fn deliveries_that_the_store_does_not_get_are_noticed() {
    is_noticed(Sabotage::DeliveriesNotStored);
}

#[test]
fn dead_letters_that_the_store_does_not_get_are_noticed() {
    is_noticed(Sabotage::DeadLettersNotStored);
}

#[test]
fn events_that_count_although_a_cap_refuses_them_are_noticed() {
    is_noticed(Sabotage::CapsNotEnforced);
}

#[test]
fn customers_caps_that_the_store_does_not_get_are_noticed() {
    is_noticed(Sabotage::CapsNotStored);
}

#[test]
fn alerts_that_the_store_does_not_get_are_noticed() {
    is_noticed(Sabotage::AlertsNotStored);
}

#[test]
fn thresholds_that_fire_twice_because_the_store_does_not_get_them_are_noticed() {
    is_noticed(Sabotage::ThresholdsNotStored);
}

#[test]
fn an_alert_that_is_listed_twice_is_noticed() {
    is_noticed(Sabotage::AlertTwice);
}

#[test]
fn held_quota_that_the_store_does_not_get_is_noticed() {
    is_noticed(Sabotage::ReservationsNotStored);
}

#[test]
fn a_lying_fdatasync_is_noticed() {
    is_noticed(Sabotage::LyingSync);
}
