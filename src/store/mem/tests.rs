use super::*;
use crate::store::conformance::{self, Bench, commit, key};

struct MemBench(MemStore);

impl Bench for MemBench {
    fn new() -> Self {
        Self(MemStore::with_bulk_ids_min(conformance::BULK_IDS_MIN))
    }

    fn store(&self) -> &dyn Store {
        &self.0
    }

    fn crash(self) -> Self {
        Self(self.0.crash())
    }

    fn reopen(self) -> Self {
        self.0.persist().unwrap();
        Self(self.0.crash())
    }

    fn compact(&self) {
        let mut inner = self.0.inner.write();
        let Inner { applied, persisted, horizon, .. } = &mut *inner;
        applied.ids.retain(|_, entry| entry.seq >= *horizon);
        persisted.ids.retain(|_, entry| entry.seq >= *horizon);
    }

    fn checkpoint_path(&self) -> PathBuf {
        PathBuf::from("copy")
    }

    fn open_checkpoint(&self, directory: &Path) -> Box<dyn Store> {
        Box::new(self.0.open_checkpoint(directory).unwrap())
    }
}

conformance::suite!(MemBench);

fn seqs(store: &MemStore, numbers: [u64; 3]) -> [bool; 3] {
    let mut found = Vec::new();
    store.lookup(&numbers.map(key), &mut found).unwrap();
    [found[0].is_some(), found[1].is_some(), found[2].is_some()]
}

#[test]
fn a_crash_may_keep_any_number_of_whole_commits() {
    let store = MemStore::with_bulk_ids_min(8);
    store.commit(&commit(1, 2)).unwrap();
    store.commit(&commit(3, 30)).unwrap();
    store.commit(&commit(31, 32)).unwrap();
    assert_eq!(store.unpersisted_commits(), 3);
    for (kept, position, found) in [
        (0, 0, [false, true, false]),
        (1, 2, [true, true, false]),
        (2, 30, [true, true, false]),
        (3, 32, [true, true, true]),
    ] {
        let after = store.crash_keeping(kept);
        assert_eq!((after.position(), after.persisted()), (Seq(position), Seq(position)));
        assert_eq!(seqs(&after, [1, 3, 31]), found, "{kept} commits kept");
    }
}

#[test]
fn a_crash_between_bulk_ids_and_rows_leaves_the_ids_alone() {
    let store = MemStore::with_bulk_ids_min(8);
    store.commit(&commit(1, 2)).unwrap();
    store.persist().unwrap();
    assert!(!store.commit_only_bulk_ids(&commit(3, 4)), "too few to be a file");
    assert!(store.commit_only_bulk_ids(&commit(3, 30)));
    let after = store.crash();
    assert_eq!(after.position(), Seq(2));
    assert_eq!(seqs(&after, [2, 3, 30]), [true, true, true]);
    assert_eq!(after.get(Table::Counters, b"last").unwrap(), Some(2u64.to_le_bytes().to_vec()));
}
