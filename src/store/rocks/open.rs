//! Opening: who holds the directory, which format it has, what an interrupted process left behind.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use rocksdb::{Cache, ColumnFamilyDescriptor, DB, WriteBatch};

use super::bulk::BulkLoader;
use super::error::{failed, io_failed, open_failed};
use super::{DEDUPE, Options, RocksStore, Writer, options};
use crate::model::Seq;
use crate::store::codec::{self, FORMAT_VERSION, META_FORMAT_VERSION, META_POSITION};
use crate::store::{StoreError, Table};

/// Every RocksDB directory has this file from its creation on.
const CURRENT: &str = "CURRENT";
/// A running daemon may compact files away between the reading of the manifest and their opening.
const READ_ONLY_ATTEMPTS_MAX: u32 = 10;
/// Every store has these. The others may be missing from a store that an earlier version wrote: opening it for writing
/// makes them, and a look reads them as empty.
const FIRST_TABLES: [Table; 3] = [Table::Meta, Table::Counters, Table::Members];
/// Enough for the files that hold one meta row.
const PEEK_OPEN_FILES: i32 = 16;

pub fn read_write(path: &Path, settings: &Options) -> Result<RocksStore, StoreError> {
    create_directory(path).map_err(|error| io_failed(path, &error))?;
    refuse_other_format(path)?;
    let horizon = Arc::new(AtomicU64::new(0));
    let cache = Cache::new_lru_cache(settings.block_cache_bytes);
    let mut column_families = vec![ColumnFamilyDescriptor::new(DEDUPE, options::dedupe(&cache, &horizon))];
    column_families.extend(Table::ALL.map(|table| ColumnFamilyDescriptor::new(table.name(), options::rows(&cache))));
    let db = DB::open_cf_descriptors(&options::database()?, path, column_families)
        .map_err(|error| open_failed(path, error))?;
    let bulk = BulkLoader::create(path, options::dedupe(&cache, &horizon))?;
    let store = RocksStore {
        db,
        horizon,
        applied: AtomicU64::new(0),
        persisted: AtomicU64::new(0),
        writer: Some(Mutex::new(Writer { bulk, failed: false })),
        bulk_ids_min: settings.bulk_ids_min,
    };
    if store.db.latest_sequence_number() == 0 {
        initialize(&store)?;
    }
    with_position(store)
}

pub fn read_only(path: &Path) -> Result<RocksStore, StoreError> {
    if !path.join(CURRENT).is_file() {
        return Err(StoreError::Missing { path: path.to_owned() });
    }
    let mut attempts = 1;
    let db = loop {
        match open_as_found(path, -1) {
            Ok(db) => break db,
            Err(_) if attempts < READ_ONLY_ATTEMPTS_MAX => attempts += 1,
            Err(error) => return Err(failed(error)),
        }
    };
    check_format(&db)?;
    for name in [DEDUPE].into_iter().chain(FIRST_TABLES.map(Table::name)) {
        if db.cf_handle(name).is_none() {
            return Err(StoreError::Corrupt { detail: format!("the column family {name} is missing") });
        }
    }
    with_position(RocksStore {
        db,
        horizon: Arc::new(AtomicU64::new(0)),
        applied: AtomicU64::new(0),
        persisted: AtomicU64::new(0),
        writer: None,
        bulk_ids_min: usize::MAX,
    })
}

/// RocksDB syncs what is inside the directory; that the directory itself is there is for its parent to remember.
fn create_directory(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(path)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// A fresh store says which format it has before it holds anything else.
fn initialize(store: &RocksStore) -> Result<(), StoreError> {
    let meta = store.table(Table::Meta);
    let mut batch = WriteBatch::default();
    batch.put_cf(meta, META_FORMAT_VERSION, codec::encode_format_version(FORMAT_VERSION));
    batch.put_cf(meta, META_POSITION, codec::encode_position(Seq::ZERO));
    store.db.write_without_wal(batch).map_err(failed)?;
    store.flush()
}

/// What is found at open is on disk, so it is applied and persisted alike.
fn with_position(mut store: RocksStore) -> Result<RocksStore, StoreError> {
    check_format(&store.db)?;
    let value = store.db.get_pinned_cf(store.table(Table::Meta), META_POSITION).map_err(failed)?;
    let value = value.ok_or_else(|| StoreError::Corrupt { detail: "the position is missing".to_owned() })?;
    let position = codec::decode_position(&value)?;
    drop(value);
    store.applied = AtomicU64::new(position.0);
    store.persisted = AtomicU64::new(position.0);
    Ok(store)
}

/// Looks before RocksDB may change anything: another format may have column families that this version cannot name.
/// Any other trouble is left to the open proper, which knows whether the directory is in use.
fn refuse_other_format(path: &Path) -> Result<(), StoreError> {
    if !path.join(CURRENT).is_file() {
        return Ok(());
    }
    match open_as_found(path, PEEK_OPEN_FILES).map_err(failed).and_then(|db| check_format(&db)) {
        Err(other @ StoreError::OtherFormat { .. }) => Err(other),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn check_format(db: &DB) -> Result<(), StoreError> {
    let missing = || StoreError::Corrupt { detail: "the format version is missing".to_owned() };
    let meta = db.cf_handle(Table::Meta.name()).ok_or_else(missing)?;
    let value = db.get_pinned_cf(meta, META_FORMAT_VERSION).map_err(failed)?.ok_or_else(missing)?;
    let found = codec::decode_format_version(&value)?;
    if found != FORMAT_VERSION {
        return Err(StoreError::OtherFormat { found, supported: FORMAT_VERSION });
    }
    Ok(())
}

/// Read-only, with whatever column families there are.
fn open_as_found(path: &Path, open_files_max: i32) -> Result<DB, rocksdb::Error> {
    let options = options::database_read_only(open_files_max);
    let names = DB::list_cf(&options, path)?;
    DB::open_cf_for_read_only(&options, path, names, false)
}
