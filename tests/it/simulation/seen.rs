//! What schedules break on purpose, and what they came across.

/// A promise that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    None,
    AcknowledgeBeforeSync,
    NoDirectorySync,
    IdsWithoutCounters,
    CountersWithoutIds,
    StoreAheadOfJournal,
    LyingSync,
    WindowsNotStored,
    PeriodsNotStored,
    AdjustmentsNotStored,
    SendBeforeSync,
    OutboxNotStored,
    DeliveriesNotStored,
    DeadLettersNotStored,
    CapsNotEnforced,
    AlertsNotStored,
    ThresholdsNotStored,
    ReservationsNotStored,
    CapsNotStored,
    AlertTwice,
}

macro_rules! counters {
    ($($name:ident),* $(,)?) => {
        /// How often things happened: a schedule that crashes nothing proves nothing.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Seen {
            $(pub $name: u64,)*
        }

        impl Seen {
            pub fn add(&mut self, other: &Seen) {
                $(self.$name += other.$name;)*
            }

            pub fn assert_that_everything_happened(&self) {
                $(assert!(self.$name > 0, "{} never happened: {self:?}", stringify!($name));)*
            }
        }
    };
}

counters! {
    accepted,
    duplicates,
    conflicts,
    refused,
    forgotten,
    crashes,
    restarts,
    records_lost,
    failed_syncs,
    failed_writes,
    commits,
    persists,
    clock_steps_back,
    clock_jumps,
    clock_resets,
    policy_changes,
    closed,
    closed_periods,
    late,
    late_rejected,
    anchors,
    sinks_changed,
    restored,
    planned,
    sent,
    sent_again,
    not_committed_again,
    delivered,
    failed,
    dead,
    failed_fast,
    lost_answers,
    lost_under_way,
    replayed,
    replayed_by_known_key,
    refused_operations,
    paused,
    resumed,
    sinks_forgotten,
    capped,
    capped_then_taken,
    never_refused,
    caps_put,
    caps_deleted,
    config_caps_changed,
    plans_changed,
    negative,
    alerts,
    alerts_of_refusals,
    alerts_together,
    late_alerts,
    hourly_alerts,
    shadow_alerts,
    generations,
    recovered,
    recovered_by_usage,
    reserved,
    reserved_again,
    reservations_refused,
    too_many_reservations,
    released,
    expired,
    committed,
    committed_again,
    commits_refused,
    commits_capped,
    committed_past_cap,
    held_over_reopen,
    checks,
    denied,
    conserved,
    used_up,
}
