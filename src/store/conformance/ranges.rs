//! What every store must do with deleted ranges of rows.

use super::snapshots::{get, pairs, put, rest, text, walk};
use super::{Bench, scan};
use crate::model::Seq;
use crate::store::{Commit, Store, Table};

fn numbered(number: u64) -> String {
    format!("{number:03}")
}

/// The next commit, with rows of these numbers in the outbox.
fn rows(store: &dyn Store, numbers: impl IntoIterator<Item = u64>) -> Commit {
    let mut commit = Commit { position: store.position().next(), ..Commit::default() };
    for number in numbers {
        commit.rows.put(Table::Outbox, numbered(number).as_bytes(), number.to_string().as_bytes());
    }
    commit
}

fn numbers(store: &dyn Store) -> Vec<u64> {
    scan(store, Table::Outbox, "").into_iter().map(|(_, value)| value.parse().unwrap()).collect()
}

/// Of rows 0 to 9, those that are there; asked for in every way there is.
fn left(store: &dyn Store) -> Vec<u64> {
    let found = numbers(store);
    let snapshot = store.snapshot();
    let walked: Vec<_> = walk(&*snapshot, Table::Outbox, "").into_iter().map(|(key, _)| key).collect();
    assert_eq!(walked, found.iter().copied().map(numbered).collect::<Vec<_>>());
    for number in 0..10 {
        let value = found.contains(&number).then(|| number.to_string());
        assert_eq!(get(&*snapshot, Table::Outbox, &numbered(number)), value);
        let got = store.get(Table::Outbox, numbered(number).as_bytes()).unwrap();
        assert_eq!(got.map(|value| text(&value)), value);
        let next = walk(&*snapshot, Table::Outbox, &numbered(number)).into_iter().next().map(|(key, _)| key);
        assert_eq!(next, found.iter().copied().find(|found| *found >= number).map(numbered), "from {number}");
    }
    found
}

pub fn a_range_is_deleted_after_every_put_of_its_commit_and_no_key_beyond_it<B: Bench>() {
    let bench = B::new();
    let store = bench.store();
    store.commit(&rows(store, 0..6)).unwrap();
    put(store, Table::DeadLetters, &[("002", "of another table")]);
    store.persist().unwrap();
    let mut commit = rows(store, []);
    commit.rows.delete_range(Table::Outbox, b"002", b"008");
    commit.rows.append(&rows(store, 6..10).rows);
    commit.rows.delete(Table::Outbox, b"009");
    store.commit(&commit).unwrap();
    assert_eq!(left(store), [0, 1, 8], "002 to 007, wherever they were put");
    assert_eq!(scan(store, Table::DeadLetters, ""), pairs(&[("002", "of another table")]));
    store.persist().unwrap();
    assert_eq!(left(store), [0, 1, 8]);
    store.commit(&rows(store, [9])).unwrap();
    assert_eq!(left(store), [0, 1, 8, 9], "what is put later stays");
    let bench = bench.reopen();
    assert_eq!(left(bench.store()), [0, 1, 8, 9]);
}

pub fn a_range_that_holds_nothing_deletes_nothing<B: Bench>() {
    let bench = B::new();
    let store = bench.store();
    store.commit(&rows(store, 0..4)).unwrap();
    for (from, to) in [("002", "002"), ("003", "001"), ("", ""), ("", "000"), ("001a", "002"), ("004", "zzz")] {
        let mut commit = rows(store, []);
        commit.rows.delete_range(Table::Outbox, from.as_bytes(), to.as_bytes());
        store.commit(&commit).unwrap();
        assert_eq!(left(store), [0, 1, 2, 3], "{from:?} to {to:?}");
    }
    let mut all = rows(store, []);
    all.rows.delete_range(Table::Outbox, b"", b"\xff");
    all.rows.delete_range(Table::Attempts, b"", b"\xff");
    store.commit(&all).unwrap();
    assert!(left(store).is_empty());
}

pub fn snapshots_and_cursors_from_before_a_range_still_see_its_rows<B: Bench>() {
    let bench = B::new();
    let store = bench.store();
    store.commit(&rows(store, 0..3)).unwrap();
    store.persist().unwrap();
    store.commit(&rows(store, 3..6)).unwrap();
    let before = store.snapshot();
    let mut cursor = before.cursor(Table::Outbox).unwrap();
    cursor.seek(b"001").unwrap();
    let mut commit = rows(store, []);
    commit.rows.delete_range(Table::Outbox, b"000", b"005");
    store.commit(&commit).unwrap();
    let after = store.snapshot();
    for _ in 0..2 {
        assert_eq!(walk(&*before, Table::Outbox, "").len(), 6);
        assert_eq!(get(&*before, Table::Outbox, "004").as_deref(), Some("4"));
        assert_eq!(walk(&*after, Table::Outbox, ""), pairs(&[("005", "5")]));
        assert_eq!(get(&*after, Table::Outbox, "004"), None);
        store.persist().unwrap();
        bench.compact();
    }
    assert_eq!(rest(&mut *cursor).len(), 5, "it was opened before");
    assert_eq!(left(store), [5]);
}

pub fn a_deleted_range_lives_and_dies_with_the_position<B: Bench>() {
    let bench = B::new();
    let store = bench.store();
    store.commit(&rows(store, 0..4)).unwrap();
    assert_eq!(store.persist().unwrap(), Seq(1));
    for end in [1, 3] {
        let mut commit = rows(store, [end + 5]);
        commit.rows.delete_range(Table::Outbox, b"000", numbered(end).as_bytes());
        store.commit(&commit).unwrap();
    }
    assert_eq!(left(store), [3, 6, 8]);
    let bench = bench.crash();
    let store = bench.store();
    let expected: &[u64] = match store.position() {
        Seq(1) => &[0, 1, 2, 3],
        Seq(2) => &[1, 2, 3, 6],
        Seq(3) => &[3, 6, 8],
        other => panic!("a crash left position {other}"),
    };
    assert_eq!(left(store), expected);
    let mut commit = rows(store, []);
    commit.rows.delete_range(Table::Outbox, b"000", b"003");
    store.commit(&commit).unwrap();
    let expected: Vec<u64> = expected.iter().copied().filter(|number| *number >= 3).collect();
    assert_eq!(left(store), expected);
    store.persist().unwrap();
    let bench = bench.crash();
    assert_eq!(left(bench.store()), expected, "once it is persisted it is gone for good");
}

pub fn a_queue_that_moves_on_has_only_what_is_behind_its_front<B: Bench>() {
    let mut bench = B::new();
    let (mut front, mut end) = (0, 0);
    for step in 1..=60_u64 {
        let store = bench.store();
        let mut commit = rows(store, end..end + step % 7);
        end += step % 7;
        let next = (front + step % 5).min(end);
        commit.rows.delete_range(Table::Outbox, numbered(front).as_bytes(), numbered(next).as_bytes());
        front = next;
        commit.rows.sort();
        store.commit(&commit).unwrap();
        if step % 4 == 0 {
            store.persist().unwrap();
        }
        assert_eq!(numbers(store), (front..end).collect::<Vec<_>>(), "at step {step}");
        if step % 20 == 0 {
            bench = bench.reopen();
            assert_eq!(numbers(bench.store()), (front..end).collect::<Vec<_>>(), "opened again at step {step}");
        }
    }
}
