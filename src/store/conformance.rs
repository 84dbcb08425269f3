//! What every `Store` must do; each implementation runs all of it (`conformance::suite!`).

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::{Commit, META_STORE_ID, Store, StoreError, Table};
use crate::model::{EventKey, Fingerprint, IdEntry, Seq};

mod ranges;
mod snapshots;

pub use ranges::*;
pub use snapshots::*;

/// From this many ids a commit counts as bulk in stores made by a `Bench`.
pub const BULK_IDS_MIN: usize = 8;

/// A store under test that can lose power.
pub trait Bench {
    /// A fresh, empty store whose `bulk_ids_min` is `BULK_IDS_MIN`.
    fn new() -> Self;
    fn store(&self) -> &dyn Store;
    /// The store as found after a crash at this moment.
    fn crash(self) -> Self;
    /// Closed in order and opened again.
    fn reopen(self) -> Self;
    /// Everything that compaction can drop is dropped.
    fn compact(&self);
    /// A directory for a checkpoint, which does not exist.
    fn checkpoint_path(&self) -> PathBuf;
    fn open_checkpoint(&self, directory: &Path) -> Box<dyn Store>;
}

pub fn key(number: u64) -> EventKey {
    EventKey(u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

pub fn entry(seq: u64) -> IdEntry {
    IdEntry { seq: Seq(seq), fingerprint: Fingerprint(seq as u32 ^ 0xffff_0000) }
}

/// Ids `first..=last`, accepted by the records of the same numbers, and a row that says so.
pub fn commit(first: u64, last: u64) -> Commit {
    let mut commit = Commit { position: Seq(last), ..Commit::default() };
    commit.ids = (first..=last).map(|number| (key(number), entry(number))).collect();
    commit.rows.put(Table::Counters, b"last", &last.to_le_bytes());
    commit
}

fn lookup(store: &dyn Store, numbers: impl IntoIterator<Item = u64>) -> Vec<Option<u64>> {
    let keys: Vec<_> = numbers.into_iter().map(key).collect();
    let mut found = vec![Some(entry(77)); 3];
    store.lookup(&keys, &mut found).unwrap();
    found.into_iter().map(|found| found.map(|found| found.seq.0)).collect()
}

fn scan(store: &dyn Store, table: Table, prefix: &str) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut rows = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        rows.push((text(key), text(value)));
        ControlFlow::Continue(())
    };
    store.scan(table, prefix.as_bytes(), &mut visit).unwrap();
    rows
}

fn last(store: &dyn Store) -> Option<u64> {
    let value = store.get(Table::Counters, b"last").unwrap()?;
    Some(u64::from_le_bytes(value.try_into().unwrap()))
}

pub fn a_fresh_store_is_empty_and_stands_at_zero<B: Bench>() {
    let bench = B::new();
    let store = bench.store();
    assert_eq!((store.position(), store.persisted()), (Seq::ZERO, Seq::ZERO));
    assert_eq!(lookup(store, [1, 2]), [None, None]);
    assert_eq!(lookup(store, []), []);
    assert_eq!(store.get(Table::Counters, b"x").unwrap(), None);
    assert_eq!(scan(store, Table::Members, ""), []);
    assert_eq!(store.store_id().unwrap(), None);
    store.scan_ids(&mut |_, _| panic!("no ids yet")).unwrap();
    assert_eq!(store.persist().unwrap(), Seq::ZERO);
}

pub fn a_commit_is_seen_at_once_whether_its_ids_are_few_or_many<B: Bench>() {
    for ids in [1, BULK_IDS_MIN as u64 - 1, BULK_IDS_MIN as u64, 1_000] {
        let bench = B::new();
        let store = bench.store();
        store.commit(&commit(1, ids)).unwrap();
        assert_eq!(store.position(), Seq(ids));
        assert_eq!(last(store), Some(ids));
        assert_eq!(lookup(store, 1..=ids), (1..=ids).map(Some).collect::<Vec<_>>());
        assert_eq!(lookup(store, [ids + 1, 1, ids + 2, 1]), [None, Some(1), None, Some(1)]);
        let mut found = Vec::new();
        store.lookup(&[key(1)], &mut found).unwrap();
        assert_eq!(found, [Some(entry(1))], "with its fingerprint");
    }
}

pub fn rows_are_put_overwritten_deleted_and_scanned_by_prefix_in_key_order<B: Bench>() {
    let bench = B::new();
    let store = bench.store();
    let mut first = Commit { position: Seq(1), ..Commit::default() };
    for key in ["b/2", "a/1", "b/1", "c"] {
        first.rows.put(Table::Counters, key.as_bytes(), b"old");
    }
    first.rows.put(Table::Counters, &[b'b', 0xff, 0xff], b"raw");
    first.rows.put(Table::Members, b"b/1", b"other table");
    store.commit(&first).unwrap();
    let mut second = Commit { position: Seq(2), ..Commit::default() };
    second.rows.put(Table::Counters, b"b/1", b"new");
    second.rows.delete(Table::Counters, b"b/2");
    second.rows.delete(Table::Counters, b"never there");
    second.rows.delete(Table::Counters, b"b/3");
    second.rows.put(Table::Counters, b"b/3", b"after its deletion");
    second.rows.put(Table::Counters, b"b/", b"");
    store.commit(&second).unwrap();
    let row = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let expected = [row("b/", ""), row("b/1", "new"), row("b/3", "after its deletion")];
    assert_eq!(scan(store, Table::Counters, "b/"), expected);
    assert_eq!(scan(store, Table::Members, ""), [row("b/1", "other table")]);
    let mut seen = 0;
    let mut visit = |_: &[u8], _: &[u8]| {
        seen += 1;
        if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    store.scan(Table::Counters, b"", &mut visit).unwrap();
    assert_eq!(seen, 2, "the visitor said stop");
    let mut highest = Vec::new();
    let mut visit = |key: &[u8], _: &[u8]| {
        highest = key.to_vec();
        ControlFlow::Continue(())
    };
    store.scan(Table::Counters, &[b'b', 0xff], &mut visit).unwrap();
    assert_eq!(highest, [b'b', 0xff, 0xff]);
}

pub fn the_position_never_goes_back_but_may_stand_still<B: Bench>() {
    let bench = B::new();
    let store = bench.store();
    store.commit(&commit(1, 5)).unwrap();
    let error = store.commit(&commit(3, 4)).unwrap_err();
    assert!(matches!(error, StoreError::Backwards { wanted: Seq(4), applied: Seq(5) }), "{error}");
    assert_eq!(last(store), Some(5));
    let mut again = Commit { position: Seq(5), ..Commit::default() };
    again.rows.put(Table::Meta, META_STORE_ID, &7u128.to_le_bytes());
    store.commit(&again).unwrap();
    assert_eq!((store.position(), store.store_id().unwrap()), (Seq(5), Some(7)));
}

pub fn of_two_entries_for_one_id_the_newer_counts<B: Bench>() {
    for filler in [0, BULK_IDS_MIN as u64] {
        let bench = B::new();
        let store = bench.store();
        let mut both = commit(100, 100 + filler);
        both.ids.push((key(1), entry(99)));
        both.ids.push((key(1), entry(98)));
        store.commit(&both).unwrap();
        assert_eq!(lookup(store, [1]), [Some(99)]);
        let mut later = commit(200, 200 + filler);
        later.ids.push((key(1), entry(201 + filler)));
        later.position = Seq(201 + filler);
        store.commit(&later).unwrap();
        assert_eq!(lookup(store, [1]), [Some(201 + filler)]);
        let bench = bench.reopen();
        assert_eq!(lookup(bench.store(), [1]), [Some(201 + filler)]);
    }
}

pub fn ids_below_the_horizon_are_absent_before_and_after_compaction<B: Bench>() {
    let bench = B::new();
    let store = bench.store();
    store.commit(&commit(1, 5)).unwrap();
    store.commit(&commit(6, 60)).unwrap();
    store.persist().unwrap();
    let ids = |store: &dyn Store| {
        let mut seqs = Vec::new();
        store
            .scan_ids(&mut |id, entry| {
                assert_eq!(id, key(entry.seq.0));
                seqs.push(entry.seq.0);
            })
            .unwrap();
        seqs.sort_unstable();
        seqs
    };
    store.set_horizon(Seq(10));
    store.set_horizon(Seq(3));
    let check = |store: &dyn Store| {
        assert_eq!(lookup(store, [1, 9, 10, 60]), [None, None, Some(10), Some(60)]);
        assert_eq!(ids(store), (10..=60).collect::<Vec<_>>());
    };
    check(store);
    bench.compact();
    check(store);
    assert_eq!(store.stats().ids_estimate, 51);
    let bench = bench.reopen();
    assert_eq!(ids(bench.store()), (10..=60).collect::<Vec<_>>(), "dropped for good");
}

pub fn scan_ids_goes_in_key_order<B: Bench>() {
    let bench = B::new();
    bench.store().commit(&commit(1, 5)).unwrap();
    bench.store().commit(&commit(6, 40)).unwrap();
    bench.store().commit(&commit(41, 43)).unwrap();
    let mut keys = Vec::new();
    bench.store().scan_ids(&mut |key, _| keys.push(key)).unwrap();
    assert_eq!(keys.len(), 43);
    assert!(keys.is_sorted());
}

pub fn a_crash_keeps_what_was_persisted_and_nothing_half<B: Bench>() {
    let bench = B::new();
    let store = bench.store();
    store.commit(&commit(1, 3)).unwrap();
    assert_eq!(store.persist().unwrap(), Seq(3));
    assert_eq!(store.persisted(), Seq(3));
    store.commit(&commit(4, 6)).unwrap();
    store.commit(&commit(7, 9)).unwrap();
    assert_eq!(store.persisted(), Seq(3));
    let bench = bench.crash();
    let store = bench.store();
    let position = store.position().0;
    assert!([3, 6, 9].contains(&position), "the state after some commit, and none before the persisted one");
    assert_eq!(store.persisted(), Seq(position));
    assert_eq!(last(store), Some(position));
    let expected: Vec<_> = (1..=9).map(|number| (number <= position).then_some(number)).collect();
    assert_eq!(lookup(store, 1..=9), expected);
}

pub fn bulk_ids_may_run_ahead_of_the_position_and_never_fall_behind<B: Bench>() {
    let bench = B::new();
    let store = bench.store();
    store.commit(&commit(1, 3)).unwrap();
    store.commit(&commit(4, 50)).unwrap();
    store.commit(&commit(51, 53)).unwrap();
    store.commit(&commit(54, 90)).unwrap();
    let bench = bench.crash();
    let store = bench.store();
    let position = store.position().0;
    assert!([0, 3, 50, 53, 90].contains(&position), "{position}");
    assert_eq!(last(store), (position > 0).then_some(position));
    let found = lookup(store, 1..=90);
    for (number, found) in (1..=90).zip(found) {
        assert!(found.is_none_or(|found| found == number));
        let bulk = (4..=50).contains(&number) || number >= 54;
        assert!(found.is_some() || (number > position && !bulk), "id {number} is missing at position {position}");
    }
    // Replay: the same records again, from the position on.
    for (first, last) in [(1, 3), (4, 50), (51, 53), (54, 90)].into_iter().filter(|(_, last)| *last > position) {
        store.commit(&commit(first, last)).unwrap();
    }
    assert_eq!(lookup(store, 1..=90), (1..=90).map(Some).collect::<Vec<_>>());
    assert_eq!((store.persist().unwrap(), last(store)), (Seq(90), Some(90)));
}

pub fn an_orderly_restart_loses_nothing_that_was_persisted<B: Bench>() {
    let bench = B::new();
    bench.store().commit(&commit(1, 40)).unwrap();
    bench.store().commit(&commit(41, 43)).unwrap();
    bench.store().persist().unwrap();
    let bench = bench.reopen();
    let store = bench.store();
    assert_eq!((store.position(), store.persisted(), last(store)), (Seq(43), Seq(43), Some(43)));
    assert_eq!(lookup(store, 1..=44), (1..=44).map(|number| (number < 44).then_some(number)).collect::<Vec<_>>());
}

pub fn a_checkpoint_is_the_store_as_it_was_whatever_comes_later<B: Bench>() {
    let bench = B::new();
    bench.store().commit(&commit(1, 40)).unwrap();
    bench.store().persist().unwrap();
    bench.store().commit(&commit(41, 43)).unwrap();
    let path = bench.checkpoint_path();
    assert_eq!(bench.store().checkpoint(&path).unwrap(), Seq(43));
    assert_eq!(bench.store().persisted(), Seq(43), "what is copied is durable");
    assert!(bench.store().checkpoint(&path).is_err(), "a checkpoint is never overwritten");
    bench.store().commit(&commit(44, 60)).unwrap();
    let check = |copy: &dyn Store| {
        assert_eq!((copy.position(), copy.persisted(), last(copy)), (Seq(43), Seq(43), Some(43)));
        let expected: Vec<_> = (1..=60).map(|number| (number <= 43).then_some(number)).collect();
        assert_eq!(lookup(copy, 1..=60), expected);
    };
    check(&*bench.open_checkpoint(&path));
    let bench = bench.crash();
    assert!(bench.store().position() >= Seq(43));
    bench.compact();
    check(&*bench.open_checkpoint(&path));
}

pub fn readers_see_every_id_up_to_the_position_they_read_before<B: Bench + Sync>() {
    let bench = B::new();
    let total = 4_000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut first = 1;
            for step in (3..).step_by(4) {
                if first > total {
                    break;
                }
                bench.store().commit(&commit(first, first + step)).unwrap();
                first += step + 1;
                if step % 3 == 0 {
                    bench.store().persist().unwrap();
                }
            }
        });
        loop {
            let position = bench.store().position().0;
            let found = lookup(bench.store(), (position / 2).max(1)..=position);
            assert!(found.iter().all(Option::is_some), "an id at or below {position} is missing");
            if position >= total {
                break;
            }
        }
    });
}

/// Makes each conformance function a test of the bench named.
macro_rules! suite {
    ($bench:ty) => {
        $crate::store::conformance::suite!(
            $bench:
            a_fresh_store_is_empty_and_stands_at_zero,
            a_commit_is_seen_at_once_whether_its_ids_are_few_or_many,
            rows_are_put_overwritten_deleted_and_scanned_by_prefix_in_key_order,
            the_position_never_goes_back_but_may_stand_still,
            of_two_entries_for_one_id_the_newer_counts,
            ids_below_the_horizon_are_absent_before_and_after_compaction,
            scan_ids_goes_in_key_order,
            a_crash_keeps_what_was_persisted_and_nothing_half,
            bulk_ids_may_run_ahead_of_the_position_and_never_fall_behind,
            an_orderly_restart_loses_nothing_that_was_persisted,
            a_checkpoint_is_the_store_as_it_was_whatever_comes_later,
            readers_see_every_id_up_to_the_position_they_read_before,
            a_snapshot_answers_the_same_whatever_is_committed_later,
            a_cursor_seeks_and_advances_in_key_order,
            a_cursor_over_an_empty_table_finds_nothing,
            cursors_of_one_snapshot_do_not_disturb_each_other,
            cursors_pass_over_what_was_deleted_in_memory_and_on_disk,
            rows_of_every_table_live_and_die_with_the_position,
            snapshots_agree_with_a_model_through_random_commits,
            a_range_is_deleted_after_every_put_of_its_commit_and_no_key_beyond_it,
            a_range_that_holds_nothing_deletes_nothing,
            snapshots_and_cursors_from_before_a_range_still_see_its_rows,
            a_deleted_range_lives_and_dies_with_the_position,
            a_queue_that_moves_on_has_only_what_is_behind_its_front,
        );
    };
    ($bench:ty: $($name:ident,)*) => {
        $(
            #[test]
            fn $name() {
                $crate::store::conformance::$name::<$bench>();
            }
        )*
    };
}
pub(super) use suite;
