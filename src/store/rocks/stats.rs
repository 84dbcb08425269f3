//! RocksDB's own gauges, as `StoreStats`.

use rocksdb::DB;
use rocksdb::properties::{self, PropName};

use super::{DEDUPE, column_family_names};
use crate::store::StoreStats;

/// RocksDB's default.
const LEVELS: usize = 7;

pub fn read(db: &DB) -> StoreStats {
    let sum = |property| column_family_names().map(|name| gauge(db, name, property)).sum();
    // Of the database as a whole; any column family answers for it.
    let whole = |property| gauge(db, DEDUPE, property);
    StoreStats {
        compaction_pending_bytes: sum(properties::ESTIMATE_PENDING_COMPACTION_BYTES),
        compactions_running: whole(properties::NUM_RUNNING_COMPACTIONS),
        writes_stopped: whole(properties::IS_WRITE_STOPPED) != 0,
        write_delay_bytes_per_second: whole(properties::ACTUAL_DELAYED_WRITE_RATE),
        memtable_bytes: sum(properties::SIZE_ALL_MEM_TABLES),
        block_cache_bytes: whole(properties::BLOCK_CACHE_USAGE),
        table_reader_bytes: sum(properties::ESTIMATE_TABLE_READERS_MEM),
        file_bytes: sum(properties::TOTAL_SST_FILES_SIZE),
        id_runs: id_runs(db),
        ids_estimate: whole(properties::ESTIMATE_NUM_KEYS),
    }
}

/// Files of level 0 are a run each, every deeper level is one.
fn id_runs(db: &DB) -> u64 {
    let files = |level| files_at_level(db, level).unwrap_or(0);
    files(0) + (1..LEVELS).map(|level| files(level).min(1)).sum::<u64>()
}

fn files_at_level(db: &DB, level: usize) -> Option<u64> {
    let dedupe = db.cf_handle(DEDUPE)?;
    let text = db.property_value_cf(dedupe, properties::num_files_at_level(level)).ok()??;
    text.parse().ok()
}

fn gauge(db: &DB, column_family: &str, property: &PropName) -> u64 {
    let column_family = db.cf_handle(column_family);
    column_family.and_then(|cf| db.property_int_value_cf(cf, property).ok().flatten()).unwrap_or(0)
}
