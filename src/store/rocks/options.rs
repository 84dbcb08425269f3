//! How RocksDB is set up. Figures behind the choices: `docs/FORMATS.md` and the benches.
//!
//! | column family | shape of its writes | set up for |
//! | --- | --- | --- |
//! | dedupe | random keys, never changed, dropped by age | ingested files, few rewrites, single reads |
//! | all others | small rows, long keys: open counters change and go, history stays | little space, scans, reads of absent keys |
//!
//! 1. Nothing grows without a limit: memtables, the block cache, RocksDB's own log, the manifest. Filters and indexes of
//!    ids take about 1.5 bytes an id, stay in memory (a filter that has to be read costs more than it saves), and are
//!    reported. Those of rows are read in parts, through the block cache: history has no end, and most of it is never
//!    asked for.
//! 2. Compaction runs at the lowest CPU priority: it yields to whoever answers clients. If it falls too far behind,
//!    commits are slowed down, the engine's queues fill, and clients are told to come back later.
//! 3. The dedupe index is compacted the universal way: a third fewer bytes written than leveled at 80 million ids, and
//!    less with more. The price is space: a merge of everything needs as much again while it runs.
//! 4. A file with many deletions close together is compacted soon (`DELETIONS_MAX`), not only once its level is full:
//!    when windows close, their counters are deleted, up to a million at once, and the next start scans what is left.
//!    A million of them cost a scan 0.2 s and more, and an idle store would keep them for ever; as it is they are gone
//!    within half a second. What a snapshot holds is dropped by the compaction that RocksDB starts when it is
//!    released. Compacting by age would come after the next start, and range deletions do not fit: a window's counters
//!    lie apart, one in each series.
//! 5. A queue is deleted from its front in ranges: one entry, which a read passes in one step and which compaction counts
//!    as all the bytes it covers. Files below it are dropped whole as levels fill, so a queue needs options of no kind of
//!    its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::compaction_filter::Decision;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DBCompressionType, DataBlockIndexType, Env, InfoLogger, LogLevel,
    Options, UniversalCompactOptions,
};

use super::error::failed;
use crate::store::{StoreError, codec};

const MIB: usize = 1 << 20;
/// Bits per key: one absent id in a hundred passes a run's filter.
const FILTER_BITS: f64 = 10.0;
/// The newest table format of this RocksDB that older ones in use still read.
const TABLE_FORMAT: i32 = 6;
const FILE_BYTES: u64 = 64 << 20;
/// A lookup reads a whole block for one id, so they are small; half of this costs more in index than it saves.
const ID_BLOCK_BYTES: usize = 2 << 10;
const ROW_BLOCK_BYTES: usize = 16 << 10;
/// A file of rows is compacted soon if any `DELETIONS_WINDOW` entries in sequence hold this many deletions. Fewer cost a
/// scan some milliseconds, which is less than it costs to rewrite what they lie over.
const DELETIONS_MAX: usize = 16 << 10;
const DELETIONS_WINDOW: usize = 32 << 10;
/// Sorted runs of the dedupe index: merge from, slow commits down from, stop them from. Runs cost lookups time (50 ns
/// each), but a flush waits as long as commits would be slowed down, so that limit is far out: minutes of ingest at
/// full speed.
const ID_RUNS_MERGE: i32 = 12;
const ID_RUNS_SLOW: i32 = 256;
const ID_RUNS_STOP: i32 = 384;
/// A run takes part in a merge if it is up to this much larger than all newer ones together, in percent.
const MERGE_SIZE_RATIO: i32 = 20;
const MERGE_RUNS_MIN: i32 = 4;
/// Memtables per column family, the one being filled included.
const MEMTABLES_MAX: i32 = 3;
/// Flushes and compactions at a time: one flush and two compactions.
const BACKGROUND_JOBS: i32 = 3;

/// Options of the database as a whole, for reading and writing.
pub fn database() -> Result<Options, StoreError> {
    let mut env = Env::new().map_err(failed)?;
    env.lower_thread_pool_cpu_priority();
    let mut options = Options::default();
    options.set_env(&env);
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_atomic_flush(true);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_max_open_files(-1);
    options.set_bytes_per_sync(MIB as u64);
    options.set_max_manifest_file_size(16 * MIB);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(4 * MIB);
    options.set_log_level(LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    Ok(options)
}

/// Options for looking on: no files of its own, not even a log. `open_files_max` -1: every file is held open from the
/// start, so that the daemon's compaction cannot take one away.
pub fn database_read_only(open_files_max: i32) -> Options {
    let mut options = Options::default();
    options.set_max_open_files(open_files_max);
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Fatal, |_, _| {}));
    options
}

/// Options of the dedupe index. Entries whose seq is below `horizon` do not survive compaction.
pub fn dedupe(cache: &Cache, horizon: &Arc<AtomicU64>) -> Options {
    let mut table = blocks(cache);
    table.set_cache_index_and_filter_blocks(false);
    table.set_block_size(ID_BLOCK_BYTES);
    table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    table.set_data_block_hash_ratio(0.75);
    let mut universal = UniversalCompactOptions::default();
    universal.set_size_ratio(MERGE_SIZE_RATIO);
    universal.set_min_merge_width(MERGE_RUNS_MIN);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::None);
    options.set_write_buffer_size(32 * MIB);
    options.set_max_write_buffer_number(MEMTABLES_MAX);
    options.set_memtable_prefix_bloom_ratio(0.05);
    options.set_memtable_whole_key_filtering(true);
    options.set_compaction_style(rocksdb::DBCompactionStyle::Universal);
    options.set_universal_compaction_options(&universal);
    options.set_target_file_size_base(FILE_BYTES);
    options.set_level_zero_file_num_compaction_trigger(ID_RUNS_MERGE);
    options.set_level_zero_slowdown_writes_trigger(ID_RUNS_SLOW);
    options.set_level_zero_stop_writes_trigger(ID_RUNS_STOP);
    let horizon = Arc::clone(horizon);
    options.set_compaction_filter(c"meterd.dedupe.horizon", move |_level, _key, value| {
        match codec::decode_id_value(value) {
            Ok(entry) if entry.seq.0 < horizon.load(Ordering::Relaxed) => Decision::Remove,
            Ok(_) | Err(_) => Decision::Keep,
        }
    });
    options
}

/// Options of a table of rows.
pub fn rows(cache: &Cache) -> Options {
    let mut table = blocks(cache);
    table.set_block_size(ROW_BLOCK_BYTES);
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_pin_top_level_index_and_filter(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(32 * MIB);
    options.set_max_write_buffer_number(MEMTABLES_MAX);
    options.set_target_file_size_base(FILE_BYTES);
    options.add_compact_on_deletion_collector_factory(DELETIONS_WINDOW, DELETIONS_MAX, 0.0);
    options
}

fn blocks(cache: &Cache) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_format_version(TABLE_FORMAT);
    table.set_bloom_filter(FILTER_BITS, false);
    table.set_whole_key_filtering(true);
    table.set_optimize_filters_for_memory(true);
    table
}
