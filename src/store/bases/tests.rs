use tempfile::TempDir;

use super::*;
use crate::store::conformance::commit;
use crate::store::{Options, RocksStore};

fn open(home: &TempDir) -> RocksStore {
    let options = Options { block_cache_bytes: 1 << 20, bulk_ids_min: 8 };
    RocksStore::open(&home.path().join("store"), &options).unwrap()
}

fn names(home: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.filter(|name| name != "store").collect();
    names.sort();
    names
}

#[test]
fn a_new_base_takes_the_place_of_the_old_one_and_can_be_read() {
    let home = TempDir::new().unwrap();
    let (store, bases) = (open(&home), Bases::new(home.path()));
    assert_eq!(bases.newest().unwrap(), None);
    for last in [40, 43] {
        store.commit(&commit(last - 2, last)).unwrap();
        let base = bases.take(&store).unwrap();
        assert_eq!((base.position, store.persisted()), (Seq(last), Seq(last)));
        assert_eq!(names(&home), [format!("base-{last:020}")]);
        assert_eq!(bases.newest().unwrap().as_ref(), Some(&base));
        assert_eq!(bases.take(&store).unwrap(), base, "nothing has changed since");
        assert_eq!(RocksStore::open_read_only(&base.path).unwrap().position(), Seq(last));
    }
}

#[test]
fn whatever_a_crash_leaves_is_tidied_up_and_the_newest_base_stays() {
    let home = TempDir::new().unwrap();
    let (store, bases) = (open(&home), Bases::new(home.path()));
    store.commit(&commit(1, 3)).unwrap();
    let first = bases.take(&store).unwrap();
    let half = |name: &str| {
        fs::create_dir(home.path().join(name)).unwrap();
        fs::write(home.path().join(name).join("CURRENT"), "half").unwrap();
    };
    half("base.tmp");
    half("base.tmp.tmp");
    fs::write(home.path().join("base-1"), "no base").unwrap();
    assert_eq!(bases.newest().unwrap(), Some(first.clone()), "before it is tidied up, too");
    assert_eq!(bases.tidy().unwrap(), Some(first.clone()));
    assert_eq!(names(&home), ["base-00000000000000000003", "base-1"]);
    store.commit(&commit(4, 6)).unwrap();
    store.checkpoint(&home.path().join("base-00000000000000000006")).unwrap();
    half("base.tmp");
    assert_eq!(bases.tidy().unwrap().map(|base| base.position), Some(Seq(6)));
    assert_eq!(names(&home), ["base-00000000000000000006", "base-1"]);
}

#[test]
fn a_store_that_is_lost_is_made_again_from_the_base_which_stays_as_it_is() {
    let home = TempDir::new().unwrap();
    let (store, bases) = (open(&home), Bases::new(home.path()));
    store.commit(&commit(1, 60)).unwrap();
    let base = bases.take(&store).unwrap();
    store.commit(&commit(61, 70)).unwrap();
    drop(store);
    fs::remove_dir_all(home.path().join("store")).unwrap();
    fs::create_dir(home.path().join("store.tmp")).unwrap();
    for _ in 0..2 {
        bases.restore(&base, "store").unwrap();
        assert_eq!(names(&home), ["base-00000000000000000060"]);
        let store = open(&home);
        assert_eq!(store.position(), Seq(60));
        store.commit(&commit(61, 80)).unwrap();
        store.persist().unwrap();
        assert_eq!(RocksStore::open_read_only(&base.path).unwrap().position(), Seq(60));
    }
}
