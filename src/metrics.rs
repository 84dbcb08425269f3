//! Every metric's name, unit and help in one place. Recording is the one global that is allowed.
//!
//! Names follow Prometheus: prefix `meterd_`, base units, `_total` for counters. Labels are bounded: never a customer, but
//! for the few of `meterd_cap_used_ratio`.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub const BUILD_INFO: &str = "meterd_build_info";
pub const EVENTS_RECEIVED: &str = "meterd_events_received_total";
pub const EVENTS: &str = "meterd_events_total";
pub const EVENTS_REJECTED: &str = "meterd_events_rejected_total";
pub const ACK_SECONDS: &str = "meterd_ack_seconds";
pub const HTTP_REQUESTS: &str = "meterd_http_requests_total";
pub const HTTP_CONNECTIONS: &str = "meterd_http_connections";
pub const HTTP_CONNECTIONS_REFUSED: &str = "meterd_http_connections_refused_total";
pub const CHECKS: &str = "meterd_checks_total";
pub const INGEST_REFUSED: &str = "meterd_ingest_refused_total";
pub const QUEUE_BYTES: &str = "meterd_queue_bytes";
pub const GROUP_RECORDS: &str = "meterd_group_records";
pub const JOURNAL_BYTES: &str = "meterd_journal_bytes_total";
pub const JOURNAL_SEGMENTS_REMOVED: &str = "meterd_journal_segments_removed_total";
pub const JOURNAL_BYTES_REMOVED: &str = "meterd_journal_bytes_removed_total";
pub const JOURNAL_OLDEST_SEQ: &str = "meterd_journal_oldest_seq";
pub const BASE_POSITION: &str = "meterd_base_position";
pub const JOURNAL_SYNC_SECONDS: &str = "meterd_journal_sync_seconds";
pub const STORE_COMMIT_SECONDS: &str = "meterd_store_commit_seconds";
pub const STORE_POSITION: &str = "meterd_store_position";
pub const STORE_PERSISTED: &str = "meterd_store_persisted_position";
pub const DURABLE_SEQ: &str = "meterd_durable_seq";
pub const INDEX_LOOKUPS: &str = "meterd_index_lookups_total";
pub const INDEX_FALSE_POSITIVES: &str = "meterd_index_false_positives_total";
pub const INDEX_RECHECKS: &str = "meterd_index_rechecks_total";
pub const OPEN_COUNTERS: &str = "meterd_open_counters";
pub const WINDOWS_FINALIZED: &str = "meterd_windows_finalized_total";
pub const PERIODS_FINALIZED: &str = "meterd_periods_finalized_total";
pub const ADJUSTMENTS: &str = "meterd_adjustments_total";
pub const EVENTS_RETRACTED: &str = "meterd_events_retracted_total";
pub const BACKFILLS_REVERTING: &str = "meterd_backfills_reverting";
pub const CLOCK_PAUSED: &str = "meterd_clock_paused";
pub const CLOCK_JUMPS: &str = "meterd_clock_jumps_total";
pub const CLOSE_LAG_SECONDS: &str = "meterd_close_lag_seconds";
pub const COMPACTION_PENDING_BYTES: &str = "meterd_store_compaction_pending_bytes";
pub const STORE_BYTES: &str = "meterd_store_bytes";
pub const STORE_MEMORY_BYTES: &str = "meterd_store_memory_bytes";
pub const INDEX_RUNS: &str = "meterd_index_runs";
pub const INDEX_IDS: &str = "meterd_index_ids";
pub const DISK_AVAILABLE_BYTES: &str = "meterd_disk_available_bytes";

pub const EVENTS_CAPPED: &str = "meterd_events_capped_total";
pub const THRESHOLDS_CROSSED: &str = "meterd_thresholds_crossed_total";
pub const THRESHOLDS_RECOVERED: &str = "meterd_thresholds_recovered_total";
pub const THRESHOLD_CROSSED_TIMESTAMP: &str = "meterd_threshold_crossed_timestamp_seconds";
pub const CAPS_EXCEEDED: &str = "meterd_caps_exceeded";
/// Rendered by the edge itself, since its labels come and go; bounded by `metrics.top_customers`.
pub const CAP_USED_RATIO: &str = "meterd_cap_used_ratio";
pub const RESERVATIONS_HELD: &str = "meterd_reservations_held";
pub const RESERVATIONS: &str = "meterd_reservations_total";

pub const DELIVERY_ATTEMPTS: &str = "meterd_delivery_attempts_total";
pub const DELIVERY_ROWS: &str = "meterd_delivery_rows_total";
pub const DELIVERY_SECONDS: &str = "meterd_delivery_seconds";
pub const DEAD_LETTERS: &str = "meterd_dead_letters_total";
pub const DELIVERIES_PENDING: &str = "meterd_deliveries_pending";
pub const SINK_BREAKER: &str = "meterd_sink_breaker";
pub const DEAD_LETTERS_WAITING: &str = "meterd_dead_letters";
pub const OUTBOX_AGE_SECONDS: &str = "meterd_outbox_age_seconds";
pub const SINK_PAUSED: &str = "meterd_sink_paused";

/// Registers unit and help of every metric; called once the recorder is installed.
pub fn describe() {
    describe_gauge!(BUILD_INFO, "Always 1; the labels name the version that runs.");
    describe_counter!(EVENTS_RECEIVED, "Events that arrived in a readable body.");
    describe_counter!(EVENTS, "Events by outcome: accepted, duplicate, conflict, rejected, capped.");
    describe_counter!(EVENTS_REJECTED, "Rejected events by code.");
    describe_histogram!(ACK_SECONDS, Unit::Seconds, "From a whole body to a durable answer.");
    describe_counter!(HTTP_REQUESTS, "Requests by route, method and status.");
    describe_gauge!(HTTP_CONNECTIONS, "Open connections.");
    describe_counter!(HTTP_CONNECTIONS_REFUSED, "Connections closed at the connection limit.");
    describe_counter!(INGEST_REFUSED, "Ingest requests refused whole, by reason: overloaded, disk_full, stopping.");
    describe_counter!(CHECKS, "Checks by result: allowed, denied; also those that consume.");
    describe_gauge!(QUEUE_BYTES, Unit::Bytes, "Decoded bodies between arrival and answer.");
    describe_histogram!(GROUP_RECORDS, "Records in one group commit.");
    describe_counter!(JOURNAL_BYTES, Unit::Bytes, "Bytes appended to the journal.");
    describe_counter!(JOURNAL_SEGMENTS_REMOVED, "Journal segments that retention has removed.");
    describe_counter!(JOURNAL_BYTES_REMOVED, Unit::Bytes, "Bytes of them.");
    describe_gauge!(JOURNAL_OLDEST_SEQ, "The oldest record that the journal holds.");
    describe_gauge!(BASE_POSITION, "The record of the base checkpoint; 0: none, the journal is whole.");
    describe_histogram!(JOURNAL_SYNC_SECONDS, Unit::Seconds, "One fdatasync of the journal.");
    describe_histogram!(STORE_COMMIT_SECONDS, Unit::Seconds, "One commit of rows and ids to the store.");
    describe_gauge!(STORE_POSITION, "The newest record the store has applied.");
    describe_gauge!(STORE_PERSISTED, "The newest record the store would have after a crash.");
    describe_gauge!(DURABLE_SEQ, "The newest record known to be durable in the journal.");
    describe_counter!(INDEX_LOOKUPS, "Ids that the filter could not rule out and that were looked up in the index.");
    describe_counter!(INDEX_FALSE_POSITIVES, "Looked-up ids that the index did not hold.");
    describe_counter!(INDEX_RECHECKS, "Batches looked up again by the writer because they waited too long.");
    describe_gauge!(OPEN_COUNTERS, "Counters in memory: one per meter, customer, dimensions and window.");
    describe_counter!(WINDOWS_FINALIZED, "Windows that became final, one for each series.");
    describe_counter!(PERIODS_FINALIZED, "Billing periods that became final, one for each series.");
    describe_counter!(
        EVENTS_RETRACTED,
        "Events taken back: by a void, or with their backfill (once for each meter fed)."
    );
    describe_counter!(ADJUSTMENTS, "Adjustments: late events, once for each final window that they changed.");
    describe_gauge!(BACKFILLS_REVERTING, "Backfills that are being taken back.");
    describe_gauge!(CLOCK_PAUSED, "1 while the clock has jumped ahead and nothing is closed or forgotten.");
    describe_counter!(CLOCK_JUMPS, "Jumps of the clock by more than clock.max_step ahead.");
    describe_gauge!(
        CLOSE_LAG_SECONDS,
        Unit::Seconds,
        "How long the oldest window that is due has waited to be closed."
    );
    describe_gauge!(
        COMPACTION_PENDING_BYTES,
        Unit::Bytes,
        "What the store still has to rewrite, as RocksDB estimates it."
    );
    describe_gauge!(STORE_BYTES, Unit::Bytes, "The store's files.");
    describe_gauge!(STORE_MEMORY_BYTES, Unit::Bytes, "The store's write buffers, block cache, filters and indexes.");
    describe_gauge!(INDEX_RUNS, "Sorted runs that the lookup of an id may have to probe.");
    describe_gauge!(INDEX_IDS, "Ids in the index, estimated; expired ones until compaction meets them.");
    describe_gauge!(DISK_AVAILABLE_BYTES, Unit::Bytes, "Free space of the data directory's file system.");
    describe_delivery();
    describe_caps();
}

fn describe_caps() {
    describe_counter!(EVENTS_CAPPED, "Events that a hard cap refused, by the meter whose cap it is.");
    describe_counter!(
        THRESHOLDS_CROSSED,
        "Alerts by meter and threshold; amounts that only customers' own caps name are other."
    );
    describe_counter!(THRESHOLDS_RECOVERED, "Alerts that recovered, by meter and threshold.");
    describe_gauge!(
        THRESHOLD_CROSSED_TIMESTAMP,
        Unit::Seconds,
        "When a threshold of this meter was crossed last, since 1970; none since the start: absent."
    );
    describe_gauge!(CAPS_EXCEEDED, "Hard caps of present periods that are reached or have refused an event, by meter.");
    // Its values are rendered by the edge, and its help with them: said here too for whoever lists all metrics.
    describe_gauge!(
        CAP_USED_RATIO,
        "Used part of the hard cap in the present period: of the accounts nearest to theirs, and the greatest of all others."
    );
    describe_gauge!(RESERVATIONS_HELD, "Reservations that hold quota.");
    describe_counter!(RESERVATIONS, "Reservations that ended: committed, released, expired.");
}

fn describe_delivery() {
    describe_counter!(
        DELIVERY_ATTEMPTS,
        "Attempts at deliveries by sink and outcome: delivered, failed, circuit_open."
    );
    describe_counter!(DELIVERY_ROWS, "Rows that a sink took, replays included.");
    describe_histogram!(
        DELIVERY_SECONDS,
        Unit::Seconds,
        "One attempt, from first byte to answer, failed ones included."
    );
    describe_counter!(DEAD_LETTERS, "Deliveries that became dead letters.");
    describe_gauge!(DELIVERIES_PENDING, "Deliveries that are neither delivered nor dead letters.");
    describe_gauge!(DEAD_LETTERS_WAITING, "Dead letters that wait for an operator.");
    describe_gauge!(
        OUTBOX_AGE_SECONDS,
        Unit::Seconds,
        "How long the oldest row has waited that is neither delivered nor in a dead letter."
    );
    describe_gauge!(SINK_BREAKER, "A sink's circuit breaker: 0 closed, 1 half-open, 2 open.");
    describe_gauge!(SINK_PAUSED, "1 while a sink is paused.");
}
