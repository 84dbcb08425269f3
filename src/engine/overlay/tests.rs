use super::*;
use crate::model::Seq;
use crate::store::{Commit, MemStore, Store};

fn read(snapshot: &dyn Snapshot, table: Table, from: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut cursor = snapshot.cursor(table).unwrap();
    assert_eq!(cursor.row(), None, "it stands nowhere yet");
    cursor.advance().unwrap();
    assert_eq!(cursor.row(), None);
    cursor.seek(from).unwrap();
    let mut found = Vec::new();
    while let Some((key, value)) = cursor.row() {
        found.push((key.to_vec(), value.to_vec()));
        cursor.advance().unwrap();
    }
    cursor.advance().unwrap();
    assert_eq!(cursor.row(), None, "past the end it stays there");
    found
}

#[test]
fn over_nothing_it_is_the_last_of_each_key_without_the_ranges_that_were_deleted() {
    let mut rows = Rows::default();
    for number in 0..10_u8 {
        rows.put(Table::Outbox, &[number], &[]);
        rows.put(Table::Attempts, &[number], &[]);
    }
    rows.delete_range(Table::Outbox, &[0], &[4]);
    rows.delete_range(Table::Attempts, &[5], &[6]);
    rows.delete_range(Table::Outbox, &[7], &[8]);
    rows.delete(Table::Outbox, &[9]);
    rows.put(Table::Attempts, &[2], &[2]);
    let overlay = Changes::of(&mut rows).over(None);
    let keys = |table| read(&overlay, table, &[]).into_iter().map(|(key, _)| key[0]).collect::<Vec<_>>();
    assert_eq!((keys(Table::Outbox), keys(Table::Attempts)), (vec![4, 5, 6, 8], vec![0, 1, 2, 3, 4, 6, 7, 8, 9]));
    assert_eq!(overlay.get(Table::Attempts, &[2]).unwrap(), Some(vec![2]));
    assert_eq!(overlay.get(Table::Attempts, &[5]).unwrap(), None);
    assert_eq!(overlay.get(Table::Meta, &[5]).unwrap(), None);
}

/// A random commit: few keys, so that they meet often.
fn commit(rng: &mut fastrand::Rng, position: u64) -> Commit {
    let mut commit = Commit { position: Seq(position), ..Commit::default() };
    for _ in 0..rng.usize(0..30) {
        let table = [Table::Counters, Table::Outbox, Table::Reservations][rng.usize(0..3)];
        let key = [rng.u8(0..6), rng.u8(0..6)];
        match rng.u8(0..5) {
            0 => commit.rows.delete(table, &key),
            1 if rng.u8(0..4) == 0 => commit.rows.delete_range(table, &key, &[key[0] + rng.u8(0..2), rng.u8(0..6)]),
            _ => commit.rows.put(table, &key, &[rng.u8(..)]),
        }
    }
    commit
}

#[test]
fn it_reads_as_a_store_that_was_given_the_changes() {
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (below, all) = (MemStore::new(), MemStore::new());
        let first = commit(&mut rng, 1);
        below.commit(&first).unwrap();
        all.commit(&first).unwrap();
        let mut changes = commit(&mut rng, 2);
        all.commit(&changes).unwrap();
        let (below, expected) = (below.snapshot(), all.snapshot());
        let overlay = Changes::of(&mut changes.rows).over(Some(&*below));
        for table in [Table::Counters, Table::Outbox, Table::Reservations] {
            for from in [vec![], vec![2], vec![3, 3], vec![9]] {
                let (found, expected) = (read(&overlay, table, &from), read(&*expected, table, &from));
                assert_eq!(found, expected, "seed {seed}, {table:?} from {from:?}");
            }
            for key in (0..36).map(|number| [number / 6, number % 6]) {
                let (found, expected) = (overlay.get(table, &key).unwrap(), expected.get(table, &key).unwrap());
                assert_eq!(found, expected, "seed {seed}, {table:?} {key:?}");
            }
        }
    }
}
