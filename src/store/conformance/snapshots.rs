//! What every `Snapshot` and `Cursor` must do, and the tables they read.

use std::collections::BTreeMap;

use super::{Bench, commit, scan};
use crate::model::Seq;
use crate::store::{Commit, Cursor, Snapshot, Store, Table};

const NEXT: u64 = 1 << 20;

pub(super) fn put(store: &dyn Store, table: Table, rows: &[(&str, &str)]) {
    let mut commit = Commit { position: store.position().next(), ..Commit::default() };
    rows.iter().for_each(|(key, value)| commit.rows.put(table, key.as_bytes(), value.as_bytes()));
    store.commit(&commit).unwrap();
}

fn delete(store: &dyn Store, table: Table, keys: &[&str]) {
    let mut commit = Commit { position: store.position().next(), ..Commit::default() };
    keys.iter().for_each(|key| commit.rows.delete(table, key.as_bytes()));
    store.commit(&commit).unwrap();
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn key_of(cursor: &dyn Cursor) -> Option<String> {
    cursor.row().map(|(key, _)| text(key))
}

/// All rows from `from` on.
pub(super) fn walk(snapshot: &dyn Snapshot, table: Table, from: &str) -> Vec<(String, String)> {
    let mut cursor = snapshot.cursor(table).unwrap();
    cursor.seek(from.as_bytes()).unwrap();
    rest(&mut *cursor)
}

pub(super) fn rest(cursor: &mut dyn Cursor) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    while let Some((key, value)) = cursor.row() {
        rows.push((text(key), text(value)));
        cursor.advance().unwrap();
    }
    rows
}

pub(super) fn get(snapshot: &dyn Snapshot, table: Table, key: &str) -> Option<String> {
    snapshot.get(table, key.as_bytes()).unwrap().map(|value| text(&value))
}

pub(super) fn pairs(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub fn a_snapshot_answers_the_same_whatever_is_committed_later<B: Bench>() {
    let bench = B::new();
    let store = bench.store();
    put(store, Table::Windows, &[("a", "1"), ("b", "1"), ("c", "1")]);
    let first = store.snapshot();
    let mut early = first.cursor(Table::Windows).unwrap();
    early.seek(b"a").unwrap();
    put(store, Table::Windows, &[("a", "2"), ("aa", "2")]);
    put(store, Table::Periods, &[("p", "2")]);
    delete(store, Table::Windows, &["b"]);
    let second = store.snapshot();
    store.persist().unwrap();
    put(store, Table::Windows, &[("b", "3"), ("d", "3")]);
    store.commit(&commit(NEXT, NEXT + 50)).unwrap();
    store.persist().unwrap();
    bench.compact();
    assert_eq!(rest(&mut *early), pairs(&[("a", "1"), ("b", "1"), ("c", "1")]), "opened before, read after");
    assert_eq!(walk(&*first, Table::Windows, ""), pairs(&[("a", "1"), ("b", "1"), ("c", "1")]));
    assert_eq!(walk(&*first, Table::Periods, ""), []);
    assert_eq!(walk(&*second, Table::Windows, ""), pairs(&[("a", "2"), ("aa", "2"), ("c", "1")]));
    let found = |snapshot: &dyn Snapshot| {
        ["a", "b", "d"].map(|key| get(snapshot, Table::Windows, key).unwrap_or_else(|| "-".to_owned()))
    };
    assert_eq!(found(&*first), ["1", "1", "-"]);
    assert_eq!(found(&*second), ["2", "-", "-"]);
    assert_eq!((get(&*first, Table::Periods, "p"), get(&*second, Table::Periods, "p")), (None, Some("2".to_owned())));
    drop(early);
    drop((first, second));
    let now = store.snapshot();
    assert_eq!(walk(&*now, Table::Windows, ""), scan(store, Table::Windows, ""));
    assert_eq!(found(&*now), ["2", "3", "3"]);
}

pub fn a_cursor_seeks_and_advances_in_key_order<B: Bench>() {
    let bench = B::new();
    let store = bench.store();
    put(store, Table::Windows, &[("d", "4"), ("b", "2")]);
    store.persist().unwrap();
    put(store, Table::Windows, &[("f", "6"), ("b", "2+")]);
    put(store, Table::Counters, &[("a", ""), ("z", "")]);
    put(store, Table::Periods, &[("a", ""), ("z", "")]);
    let snapshot = store.snapshot();
    let mut cursor = snapshot.cursor(Table::Windows).unwrap();
    assert_eq!(cursor.row(), None, "it stands nowhere yet");
    cursor.advance().unwrap();
    assert_eq!(cursor.row(), None);
    let found = [("", "b"), ("b", "b"), ("c", "d"), ("d", "d"), ("d\0", "f"), ("f", "f"), ("a", "b"), ("e", "f")];
    for (from, expected) in found {
        cursor.seek(from.as_bytes()).unwrap();
        assert_eq!(key_of(&*cursor).as_deref(), Some(expected), "from {from:?}");
    }
    for beyond in ["f\0", "g", "zz"] {
        cursor.seek(beyond.as_bytes()).unwrap();
        assert_eq!(cursor.row(), None, "from {beyond:?}");
        cursor.advance().unwrap();
        assert_eq!(cursor.row(), None);
    }
    cursor.seek(b"b").unwrap();
    assert_eq!(cursor.row(), Some((&b"b"[..], &b"2+"[..])));
    cursor.advance().unwrap();
    assert_eq!(cursor.row(), Some((&b"d"[..], &b"4"[..])));
    assert_eq!(rest(&mut *cursor), pairs(&[("d", "4"), ("f", "6")]));
    cursor.advance().unwrap();
    assert_eq!(cursor.row(), None, "past the end it stays past the end");
    cursor.seek(b"c").unwrap();
    assert_eq!(key_of(&*cursor).as_deref(), Some("d"), "and can be sent back");
}

pub fn a_cursor_over_an_empty_table_finds_nothing<B: Bench>() {
    let bench = B::new();
    put(bench.store(), Table::Windows, &[("a", "")]);
    let snapshot = bench.store().snapshot();
    for table in Table::ALL.into_iter().filter(|table| ![Table::Meta, Table::Windows].contains(table)) {
        let mut cursor = snapshot.cursor(table).unwrap();
        cursor.seek(b"").unwrap();
        assert_eq!(cursor.row(), None);
        cursor.advance().unwrap();
        assert_eq!(cursor.row(), None);
    }
}

pub fn cursors_of_one_snapshot_do_not_disturb_each_other<B: Bench>() {
    let bench = B::new();
    let store = bench.store();
    put(store, Table::Windows, &[("a", "1"), ("b", "2"), ("c", "3")]);
    put(store, Table::Periods, &[("b", "p"), ("d", "p")]);
    let snapshot = store.snapshot();
    let open = |table| snapshot.cursor(table).unwrap();
    let (mut ahead, mut behind, mut other) = (open(Table::Windows), open(Table::Windows), open(Table::Periods));
    ahead.seek(b"b").unwrap();
    behind.seek(b"").unwrap();
    other.seek(b"a").unwrap();
    ahead.advance().unwrap();
    let keys = |cursors: [&dyn Cursor; 3]| cursors.map(|cursor| key_of(cursor).unwrap());
    assert_eq!(keys([&*ahead, &*behind, &*other]), ["c", "a", "b"]);
    assert_eq!(get(&*snapshot, Table::Windows, "b").as_deref(), Some("2"));
    behind.advance().unwrap();
    other.advance().unwrap();
    assert_eq!(keys([&*ahead, &*behind, &*other]), ["c", "b", "d"]);
    ahead.advance().unwrap();
    assert_eq!((ahead.row(), key_of(&*behind).as_deref()), (None, Some("b")));
}

pub fn cursors_pass_over_what_was_deleted_in_memory_and_on_disk<B: Bench>() {
    let bench = B::new();
    let store = bench.store();
    let numbered = |number: u32| format!("{number:05}");
    let mut rows = Commit { position: Seq(1), ..Commit::default() };
    (0..5_000).for_each(|number| rows.rows.put(Table::Counters, numbered(number).as_bytes(), b"open"));
    store.commit(&rows).unwrap();
    store.persist().unwrap();
    let mut closes = Commit { position: Seq(2), ..Commit::default() };
    for number in (0..5_000).filter(|number| number % 1_000 != 7) {
        closes.rows.delete(Table::Counters, numbered(number).as_bytes());
    }
    store.commit(&closes).unwrap();
    let check = |store: &dyn Store| {
        let snapshot = store.snapshot();
        let left: Vec<_> = walk(&*snapshot, Table::Counters, "").into_iter().map(|(key, _)| key).collect();
        assert_eq!(left, ["00007", "01007", "02007", "03007", "04007"]);
        assert_eq!(walk(&*snapshot, Table::Counters, "04008"), []);
        assert_eq!(get(&*snapshot, Table::Counters, "00008"), None);
        assert_eq!(scan(store, Table::Counters, "01"), pairs(&[("01007", "open")]));
    };
    check(store);
    store.persist().unwrap();
    check(store);
    check(bench.reopen().store());
}

pub fn rows_of_every_table_live_and_die_with_the_position<B: Bench>() {
    let bench = B::new();
    let write = |store: &dyn Store, number: u64| {
        let mut commit = Commit { position: Seq(number), ..Commit::default() };
        for table in Table::ALL {
            commit.rows.put(table, b"row", number.to_string().as_bytes());
            commit.rows.delete(table, (number - 1).to_string().as_bytes());
            commit.rows.put(table, number.to_string().as_bytes(), table.name().as_bytes());
        }
        store.commit(&commit).unwrap();
    };
    let check = |store: &dyn Store, number: u64| {
        let snapshot = store.snapshot();
        for table in Table::ALL {
            let number = number.to_string();
            assert_eq!(store.get(table, b"row").unwrap().map(|value| text(&value)), Some(number.clone()));
            let numbered: Vec<_> =
                walk(&*snapshot, table, "").into_iter().filter(|(key, _)| key.parse::<u64>().is_ok()).collect();
            assert_eq!(numbered, pairs(&[(&number, table.name())]));
        }
    };
    (1..=3).for_each(|number| write(bench.store(), number));
    assert_eq!(bench.store().persist().unwrap(), Seq(3));
    (4..=6).for_each(|number| write(bench.store(), number));
    check(bench.store(), 6);
    let bench = bench.crash();
    let position = bench.store().position().0;
    assert!((3..=6).contains(&position), "{position}");
    check(bench.store(), position);
    write(bench.store(), position + 1);
    bench.store().persist().unwrap();
    check(bench.reopen().store(), position + 1);
}

type Model = BTreeMap<(Table, String), String>;

pub fn snapshots_agree_with_a_model_through_random_commits<B: Bench>() {
    let bench = B::new();
    let store = bench.store();
    let mut random = fastrand::Rng::with_seed(0x5eed);
    let mut model = Model::new();
    let mut held: Vec<(Box<dyn Snapshot + '_>, Model)> = Vec::new();
    for position in 1..=120 {
        let mut commit = Commit { position: Seq(position), ..Commit::default() };
        for _ in 0..random.usize(..20) {
            let table = Table::ALL[random.usize(1..Table::ALL.len())];
            let key = format!("{:02}", random.u32(..40));
            if random.u32(..3) == 0 {
                commit.rows.delete(table, key.as_bytes());
                model.remove(&(table, key));
            } else {
                let value = format!("{position}");
                commit.rows.put(table, key.as_bytes(), value.as_bytes());
                model.insert((table, key), value);
            }
        }
        if random.u32(..4) == 0 {
            let table = Table::ALL[random.usize(1..Table::ALL.len())];
            let (from, to) = (format!("{:02}", random.u32(..40)), format!("{:02}", random.u32(..40)));
            commit.rows.delete_range(table, from.as_bytes(), to.as_bytes());
            model.retain(|(t, key), _| *t != table || *key < from || *key >= to);
        }
        store.commit(&commit).unwrap();
        if random.u32(..8) == 0 {
            store.persist().unwrap();
        }
        held.push((store.snapshot(), model.clone()));
        if held.len() > 6 {
            held.swap_remove(random.usize(..held.len()));
        }
        let (snapshot, model) = &held[random.usize(..held.len())];
        let table = Table::ALL[random.usize(1..Table::ALL.len())];
        let from = format!("{:02}", random.u32(..42));
        let rows = model.iter().filter(|((t, key), _)| *t == table && *key >= from);
        let expected: Vec<_> = rows.map(|((_, key), value)| (key.clone(), value.clone())).collect();
        assert_eq!(walk(&**snapshot, table, &from), expected, "at position {position}");
        assert_eq!(get(&**snapshot, table, &from), model.get(&(table, from)).cloned(), "at position {position}");
    }
}
