use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rocksdb::{DB, WriteBatch};
use tempfile::TempDir;

use super::{DEDUPE, Options, RocksStore};
use crate::model::Seq;
use crate::store::conformance::{self, BULK_IDS_MIN, Bench, commit, key};
use crate::store::{Commit, Snapshot, Store, StoreError, Table, codec};

struct RocksBench {
    directory: TempDir,
    store: Option<RocksStore>,
    /// Where checkpoints go: kept through a crash.
    beside: TempDir,
}

fn options() -> Options {
    Options { block_cache_bytes: 1 << 20, bulk_ids_min: BULK_IDS_MIN }
}

impl RocksBench {
    fn open(directory: TempDir, beside: TempDir) -> Self {
        let store = Some(RocksStore::open(directory.path(), &options()).unwrap());
        Self { directory, store, beside }
    }

    fn rocks(&self) -> &RocksStore {
        self.store.as_ref().unwrap()
    }
}

impl Bench for RocksBench {
    fn new() -> Self {
        Self::open(TempDir::new().unwrap(), TempDir::new().unwrap())
    }

    fn store(&self) -> &dyn Store {
        self.rocks()
    }

    /// The files as they are now, without a chance to flush: what `kill -9` leaves.
    fn crash(self) -> Self {
        let image = TempDir::new().unwrap();
        copy(self.directory.path(), image.path());
        Self::open(image, self.beside)
    }

    fn reopen(mut self) -> Self {
        drop(self.store.take());
        Self::open(self.directory, self.beside)
    }

    fn compact(&self) {
        self.rocks().db.compact_range_cf(self.rocks().column_family(DEDUPE), None::<&[u8]>, None::<&[u8]>);
    }

    fn checkpoint_path(&self) -> PathBuf {
        self.beside.path().join("copy")
    }

    fn open_checkpoint(&self, directory: &Path) -> Box<dyn Store> {
        Box::new(RocksStore::open_read_only(directory).unwrap())
    }
}

/// Copies a directory that is in use. RocksDB adds and removes files when it likes; so it is copied again until it held still.
fn copy(from: &Path, to: &Path) {
    loop {
        let copied = files(from).and_then(|before| {
            for file in &before {
                let target = to.join(file);
                fs::create_dir_all(target.parent().unwrap())?;
                fs::copy(from.join(file), target)?;
            }
            Ok(files(from)? == before)
        });
        match copied {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
        }
        fs::remove_dir_all(to).unwrap();
        fs::create_dir(to).unwrap();
    }
}

/// The files below a directory but for locks, in order.
fn files(root: &Path) -> std::io::Result<BTreeSet<PathBuf>> {
    let (mut found, mut directories) = (BTreeSet::new(), vec![root.to_owned()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                directories.push(entry.path());
            } else if entry.file_name() != "LOCK" {
                found.insert(entry.path().strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    Ok(found)
}

conformance::suite!(RocksBench);

#[test]
fn a_second_open_says_that_the_directory_is_locked() {
    let bench = RocksBench::new();
    let error = RocksStore::open(bench.directory.path(), &options()).map(|_| ()).unwrap_err();
    assert!(matches!(&error, StoreError::Locked { path } if path == bench.directory.path()), "{error}");
    let bench = bench.reopen();
    assert_eq!(bench.store().position(), Seq::ZERO);
}

#[test]
fn a_look_from_outside_sees_what_was_persisted_and_changes_nothing() {
    let bench = RocksBench::new();
    bench.store().commit(&commit(1, 40)).unwrap();
    bench.store().persist().unwrap();
    bench.store().commit(&commit(41, 44)).unwrap();
    let files = || {
        let names = fs::read_dir(bench.directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };
    let before = files();
    let outside = RocksStore::open_read_only(bench.directory.path()).unwrap();
    assert_eq!((outside.position(), outside.persisted()), (Seq(40), Seq(40)));
    let mut found = Vec::new();
    outside.lookup(&[key(40), key(41)], &mut found).unwrap();
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false]);
    assert!(matches!(outside.commit(&commit(41, 42)), Err(StoreError::ReadOnly)));
    assert!(matches!(outside.persist(), Err(StoreError::ReadOnly)));
    assert_eq!(files(), before);
    // Files that compaction takes away stay readable for the one who holds them open.
    bench.store().persist().unwrap();
    bench.compact();
    outside.lookup(&[key(1)], &mut found).unwrap();
    assert!(found[0].is_some());
}

#[test]
fn a_look_at_nothing_says_so_and_creates_nothing() {
    let directory = TempDir::new().unwrap();
    let nowhere = directory.path().join("store");
    for path in [nowhere.as_path(), directory.path()] {
        let error = RocksStore::open_read_only(path).map(|_| ()).unwrap_err();
        assert!(matches!(error, StoreError::Missing { .. }), "{error}");
    }
    assert!(!nowhere.exists());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_newer_format_is_refused_even_if_it_has_column_families_nobody_knows() {
    let bench = RocksBench::new();
    {
        let meta = bench.rocks().table(Table::Meta);
        let mut batch = WriteBatch::default();
        batch.put_cf(meta, codec::META_FORMAT_VERSION, codec::encode_format_version(3));
        bench.rocks().db.write_without_wal(batch).unwrap();
    }
    let directory = bench.directory;
    drop(bench.store);
    let refused = || {
        for opened in [RocksStore::open(directory.path(), &options()), RocksStore::open_read_only(directory.path())] {
            let error = opened.map(|_| ()).unwrap_err();
            assert!(matches!(error, StoreError::OtherFormat { found: 3, supported: 2 }), "{error}");
        }
    };
    refused();
    let names = DB::list_cf(&rocksdb::Options::default(), directory.path()).unwrap();
    let mut db = DB::open_cf(&rocksdb::Options::default(), directory.path(), names).unwrap();
    db.create_cf("of_tomorrow", &rocksdb::Options::default()).unwrap();
    drop(db);
    refused();
}

#[test]
fn leftovers_of_an_interrupted_bulk_commit_are_removed_but_not_those_of_a_running_one() {
    let bench = RocksBench::new();
    let leftover = bench.directory.path().join("bulk/17.sst");
    fs::write(&leftover, b"half a file").unwrap();
    assert!(RocksStore::open(bench.directory.path(), &options()).is_err());
    assert!(leftover.exists());
    let bench = bench.reopen();
    assert!(!leftover.exists());
    bench.store().commit(&commit(1, 100)).unwrap();
    assert_eq!(fs::read_dir(bench.directory.path().join("bulk")).unwrap().count(), 0);
}

#[test]
fn nothing_is_written_after_a_failed_commit() {
    let bench = RocksBench::new();
    bench.store().commit(&commit(1, 3)).unwrap();
    let obstacle = bench.directory.path().join("bulk/1.sst");
    fs::create_dir(&obstacle).unwrap();
    for first in [4, 40, 41] {
        let error = bench.store().commit(&commit(first, 60)).unwrap_err();
        assert!(matches!(error, StoreError::Io { .. }), "{error}");
    }
    assert!(bench.store().persist().is_err());
    assert_eq!(bench.store().position(), Seq(3));
    fs::remove_dir(&obstacle).unwrap();
    let bench = bench.crash();
    assert_eq!(bench.store().position(), Seq::ZERO);
    bench.store().commit(&commit(1, 60)).unwrap();
    assert_eq!(bench.store().persist().unwrap(), Seq(60));
}

#[test]
fn a_bulk_commit_over_ids_in_memory_puts_rows_and_position_on_disk_together() {
    let bench = RocksBench::new();
    bench.store().commit(&commit(1, 3)).unwrap();
    bench.store().commit(&commit(4, 6)).unwrap();
    assert_eq!(bench.rocks().read_persisted().unwrap(), Seq::ZERO);
    bench.store().commit(&commit(7, 90)).unwrap();
    assert_eq!(
        bench.rocks().read_persisted().unwrap(),
        Seq(6),
        "the ingestion flushed every column family at one point"
    );
    let bench = bench.crash();
    assert_eq!(bench.store().position(), Seq(6));
    assert_eq!(bench.store().get(Table::Counters, b"last").unwrap(), Some(6u64.to_le_bytes().to_vec()));
    let mut found = Vec::new();
    bench.store().lookup(&[key(1), key(90)], &mut found).unwrap();
    assert!(found.iter().all(Option::is_some), "ids ahead of the position, none behind");
}

#[test]
fn a_bulk_commit_beside_rows_in_memory_flushes_nothing() {
    let bench = RocksBench::new();
    bench.store().commit(&commit(1, 90)).unwrap();
    bench.store().commit(&commit(91, 180)).unwrap();
    assert_eq!(bench.rocks().read_persisted().unwrap(), Seq::ZERO);
    let stats = bench.store().stats();
    assert_eq!((stats.id_runs, stats.ids_estimate), (2, 180));
    assert!(stats.memtable_bytes > 0 && stats.file_bytes > 0);
}

#[test]
fn a_full_memtable_flushes_all_column_families_at_one_point() {
    let bench = RocksBench::new();
    let value = vec![7; 1 << 20];
    let mut position = 0;
    while bench.rocks().read_persisted().unwrap() == Seq::ZERO {
        position += 1;
        assert!(position < 1_000, "no memtable ever got full");
        let mut commit = Commit { position: Seq(position), ..commit(position, position) };
        commit.rows.put(Table::Members, &position.to_be_bytes(), &value);
        bench.store().commit(&commit).unwrap();
    }
    let bench = bench.crash();
    let found = bench.store().position().0;
    assert!((1..=position).contains(&found));
    assert_eq!(bench.store().get(Table::Counters, b"last").unwrap(), Some(found.to_le_bytes().to_vec()));
    assert!(bench.store().get(Table::Members, &found.to_be_bytes()).unwrap().is_some());
    assert!(bench.store().get(Table::Members, &(found + 1).to_be_bytes()).unwrap().is_none());
}

#[test]
fn damage_is_reported_as_corruption() {
    let bench = RocksBench::new();
    bench.store().commit(&commit(1, 500)).unwrap();
    bench.store().persist().unwrap();
    let directory = bench.directory;
    drop(bench.store);
    let tables = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
    for table in tables.filter(|path| path.extension().is_some_and(|extension| extension == "sst")) {
        let mut bytes = fs::read(&table).unwrap();
        bytes[20] ^= 1;
        fs::write(&table, bytes).unwrap();
    }
    let opened = RocksStore::open(directory.path(), &options());
    let error = match opened {
        Err(error) => error,
        Ok(store) => store.lookup(&[key(1), key(500)], &mut Vec::new()).unwrap_err(),
    };
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    fs::remove_file(directory.path().join("CURRENT")).unwrap();
    let error = RocksStore::open_read_only(directory.path()).map(|_| ()).unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }), "{error}");
}

fn rows(snapshot: &dyn Snapshot, table: Table) -> Result<usize, StoreError> {
    let mut cursor = snapshot.cursor(table)?;
    let mut count = 0;
    cursor.seek(b"")?;
    while cursor.row().is_some() {
        count += 1;
        cursor.advance()?;
    }
    Ok(count)
}

#[test]
fn a_cursor_tells_damage_from_the_end_of_the_table() {
    let bench = RocksBench::new();
    let mut random = fastrand::Rng::with_seed(3);
    let mut commit = Commit { position: Seq(1), ..Commit::default() };
    for number in 0..500_u32 {
        let value: Vec<_> = std::iter::repeat_with(|| random.u8(..)).take(1_000).collect();
        commit.rows.put(Table::Windows, &number.to_be_bytes(), &value);
    }
    bench.store().commit(&commit).unwrap();
    bench.store().persist().unwrap();
    assert_eq!(rows(&*bench.store().snapshot(), Table::Windows).unwrap(), 500);
    let directory = bench.directory;
    drop(bench.store);
    let files = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let file = files.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let store = RocksStore::open(directory.path(), &options()).unwrap();
    let snapshot = store.snapshot();
    let error = rows(&*snapshot, Table::Windows).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    let mut cursor = snapshot.cursor(Table::Windows).unwrap();
    assert!(cursor.seek(&250_u32.to_be_bytes()).is_err());
    assert_eq!(cursor.row(), None);
    assert!(cursor.advance().is_err(), "it does not become the end by going on");
    cursor.seek(&499_u32.to_be_bytes()).unwrap();
    assert!(cursor.row().is_some());
}

#[test]
fn a_store_that_lacks_the_later_tables_is_read_as_it_is_and_gets_them_when_written() {
    let bench = RocksBench::new();
    bench.store().commit(&commit(1, 3)).unwrap();
    bench.store().persist().unwrap();
    let directory = bench.directory;
    drop(bench.store);
    let names = || DB::list_cf(&rocksdb::Options::default(), directory.path()).unwrap();
    let mut db = DB::open_cf(&rocksdb::Options::default(), directory.path(), names()).unwrap();
    let first = [Table::Meta, Table::Counters, Table::Members];
    let later = Table::ALL.into_iter().filter(|table| !first.contains(table)).collect::<Vec<_>>();
    later.iter().for_each(|table| db.drop_cf(table.name()).unwrap());
    drop(db);
    let looked = RocksStore::open_read_only(directory.path()).unwrap();
    assert_eq!(looked.position(), Seq(3));
    for &table in &later {
        assert_eq!(looked.get(table, b"last").unwrap(), None);
        assert_eq!(rows(&*looked.snapshot(), table).unwrap(), 0);
    }
    assert_eq!(rows(&*looked.snapshot(), Table::Counters).unwrap(), 1);
    assert_eq!(names().len(), 5, "a look makes nothing");
    drop(looked);
    let bench = RocksBench::open(directory, TempDir::new().unwrap());
    let mut commit = Commit { position: Seq(4), ..Commit::default() };
    later.iter().for_each(|table| commit.rows.put(*table, b"row", b"value"));
    bench.store().commit(&commit).unwrap();
    bench.store().persist().unwrap();
    let looked = RocksStore::open_read_only(bench.directory.path()).unwrap();
    for table in later {
        assert_eq!(rows(&*looked.snapshot(), table).unwrap(), 1);
        assert_eq!(looked.get(table, b"row").unwrap().as_deref(), Some(&b"value"[..]));
    }
}

#[test]
fn a_store_from_before_there_was_delivery_keeps_its_rows_and_gets_an_outbox() {
    keeps_its_rows_and_gets(&[Table::Outbox, Table::Deliveries, Table::Attempts, Table::DeadLetters]);
}

#[test]
fn a_store_from_before_there_were_caps_keeps_its_rows_and_gets_alerts_thresholds_and_reservations() {
    keeps_its_rows_and_gets(&[Table::Alerts, Table::Thresholds, Table::Reservations]);
}

#[test]
fn a_store_from_before_events_were_taken_back_keeps_its_rows_and_gets_voids_and_a_trail() {
    keeps_its_rows_and_gets(&[Table::Voids, Table::BackfillIds, Table::Trail]);
}

/// Opens a store that was written without these tables.
fn keeps_its_rows_and_gets(new: &[Table]) {
    let bench = RocksBench::new();
    let mut before = commit(1, 3);
    before.rows.put(Table::Adjustments, b"late", b"row");
    bench.store().commit(&before).unwrap();
    bench.store().persist().unwrap();
    let directory = bench.directory;
    drop(bench.store);
    let names = || DB::list_cf(&rocksdb::Options::default(), directory.path()).unwrap();
    let mut db = DB::open_cf(&rocksdb::Options::default(), directory.path(), names()).unwrap();
    new.iter().for_each(|table| db.drop_cf(table.name()).unwrap());
    drop(db);
    let bench = RocksBench::open(directory, TempDir::new().unwrap());
    assert_eq!((bench.store().position(), bench.store().persisted()), (Seq(3), Seq(3)));
    assert_eq!(rows(&*bench.store().snapshot(), Table::Adjustments).unwrap(), 1);
    let mut after = Commit { position: Seq(4), ..Commit::default() };
    new.iter().for_each(|table| after.rows.put(*table, b"a", b""));
    new.iter().for_each(|table| after.rows.put(*table, b"b", b""));
    new.iter().for_each(|table| after.rows.delete_range(*table, b"a", b"b"));
    bench.store().commit(&after).unwrap();
    bench.store().persist().unwrap();
    let bench = bench.reopen();
    new.iter().for_each(|table| assert_eq!(rows(&*bench.store().snapshot(), *table).unwrap(), 1, "{table:?}"));
    assert_eq!(rows(&*bench.store().snapshot(), Table::Adjustments).unwrap(), 1);
}

#[test]
fn what_left_the_front_of_a_queue_leaves_the_disk_without_being_asked() {
    let bench = RocksBench::new();
    let store = bench.store();
    let mut random = fastrand::Rng::with_seed(4);
    for step in 0..40_u32 {
        let mut commit = Commit { position: Seq(u64::from(step) + 1), ..Commit::default() };
        for number in step * 500..(step + 1) * 500 {
            let value: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(200).collect();
            commit.rows.put(Table::Outbox, &number.to_be_bytes(), &value);
        }
        let front = |step: u32| (step.saturating_sub(2) * 500).to_be_bytes();
        commit.rows.delete_range(Table::Outbox, &front(step.saturating_sub(1)), &front(step));
        store.commit(&commit).unwrap();
        store.persist().unwrap();
    }
    assert_eq!(rows(&*store.snapshot(), Table::Outbox).unwrap(), 3 * 500);
    // Of 4 MB that were written.
    let compacted = (0..1_000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        bytes_on_disk(bench.rocks(), Table::Outbox) < 1_500_000
    });
    assert!(compacted, "{} bytes are still there after ten seconds", bytes_on_disk(bench.rocks(), Table::Outbox));
}

fn bytes_on_disk(store: &RocksStore, table: Table) -> u64 {
    let property = rocksdb::properties::TOTAL_SST_FILES_SIZE;
    store.db.property_int_value_cf(store.table(table), property).unwrap().unwrap()
}

#[test]
fn the_rows_of_many_closed_windows_are_compacted_away_without_being_asked_also_if_a_snapshot_held_them() {
    const COUNTERS: u32 = 60_000;
    let pause = |milliseconds| std::thread::sleep(std::time::Duration::from_millis(milliseconds));
    for held in [false, true] {
        let bench = RocksBench::new();
        let key = |number: u32| format!("tenant/customer-{:08}/meter/window", number.wrapping_mul(0x9e37_79b9));
        let mut opened = Commit { position: Seq(1), ..Commit::default() };
        (0..COUNTERS).for_each(|number| opened.rows.put(Table::Counters, key(number).as_bytes(), &[7; 40]));
        bench.store().commit(&opened).unwrap();
        bench.store().persist().unwrap();
        let snapshot = held.then(|| bench.store().snapshot());
        let mut closed = Commit { position: Seq(2), ..Commit::default() };
        (0..COUNTERS).for_each(|number| closed.rows.delete(Table::Counters, key(number).as_bytes()));
        bench.store().commit(&closed).unwrap();
        bench.store().persist().unwrap();
        if let Some(snapshot) = snapshot {
            pause(500);
            assert_eq!(rows(&*snapshot, Table::Counters).unwrap(), COUNTERS as usize);
        }
        let compacted = (0..1_000).any(|_| {
            pause(10);
            bytes_on_disk(bench.rocks(), Table::Counters) == 0
        });
        assert!(compacted, "deleted counters are still there after ten seconds (held by a snapshot: {held})");
    }
}
