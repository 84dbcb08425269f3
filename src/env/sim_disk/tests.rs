use std::collections::BTreeSet;

use super::*;
use crate::env::Disk;

const FILE: &str = "journal/a";

fn path(name: &str) -> &Path {
    Path::new(name)
}

/// A disk with `journal/a` of 8 sectors of `old`, all durable.
fn disk(seed: u64, old: u8) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.set_contents(path(FILE), &[old; 8 * SECTOR_BYTES]);
    disk
}

#[test]
fn keeps_what_was_synced_and_any_part_of_what_was_not() {
    let mut kept_some = false;
    for seed in 0..200 {
        let before = disk(seed, 1);
        let file = before.open(path(FILE)).unwrap();
        file.write_all_at(0, &[2; SECTOR_BYTES]).unwrap();
        file.sync_data().unwrap();
        file.write_all_at(SECTOR_BYTES as u64, &[3; 7 * SECTOR_BYTES]).unwrap();
        let bytes = before.crash().contents(path(FILE)).unwrap();
        let sectors: Vec<&[u8]> = bytes.chunks(SECTOR_BYTES).collect();
        assert!(sectors[0].iter().all(|byte| *byte == 2));
        assert!(sectors.iter().all(|sector| sector.iter().all(|byte| *byte == sector[0])), "a sector is torn");
        let kept = sectors[1..].iter().filter(|sector| sector[0] == 3).count();
        assert!(sectors[1..].iter().all(|sector| [1, 3].contains(&sector[0])));
        // A later sector without an earlier one: writes are reordered.
        kept_some |= kept > 0 && kept < 7 && sectors[1][0] == 1;
    }
    assert!(kept_some);
}

#[test]
fn is_the_same_for_the_same_seed() {
    let run = |seed| {
        let before = disk(seed, 0);
        let file = before.open(path(FILE)).unwrap();
        file.write_all_at(100, &[7; 3000]).unwrap();
        file.set_len(5000).unwrap();
        before.create(path("journal/b")).unwrap();
        let after = before.crash();
        (after.contents(path(FILE)).unwrap(), after.list(path("journal")).unwrap())
    };
    assert_eq!(run(5), run(5));
    assert!((0..20).any(|seed| run(seed) != run(5)));
}

#[test]
fn loses_names_whose_directory_was_not_synced() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let before = disk(seed, 1);
        before.rename(path(FILE), path("journal/b")).unwrap();
        let names = before.crash().list(path("journal")).unwrap();
        assert_eq!(names.len(), 1, "a rename is atomic");
        seen.extend(names);
        let before = disk(seed, 1);
        before.rename(path(FILE), path("journal/b")).unwrap();
        before.sync_dir(path("journal")).unwrap();
        assert_eq!(before.crash().list(path("journal")).unwrap(), ["b"]);
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn loses_a_directory_with_all_it_holds_until_its_parent_is_synced() {
    let lost = (0..50).filter(|seed| {
        let disk = SimDisk::new(*seed);
        disk.create_dir_all(path("journal")).unwrap();
        disk.create(path(FILE)).unwrap().sync_data().unwrap();
        disk.sync_dir(path("journal")).unwrap();
        disk.crash().open(path(FILE)).is_err()
    });
    assert!((1..50).contains(&lost.count()));
}

#[test]
fn a_failed_sync_reports_once_and_the_dropped_pages_never_come_back() {
    let lost = (0..50).filter(|seed| {
        let disk = disk(*seed, 1);
        let file = disk.open(path(FILE)).unwrap();
        file.write_all_at(0, &[2; 8 * SECTOR_BYTES]).unwrap();
        disk.fail_sync_data_in(1);
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        assert_eq!(disk.contents(path(FILE)).unwrap(), [2; 8 * SECTOR_BYTES], "the cache still shows them");
        disk.crash().contents(path(FILE)).unwrap() != [2; 8 * SECTOR_BYTES]
    });
    assert!(lost.count() > 10);
}

#[test]
fn lies_when_told_to() {
    let lost = |lie: &dyn Fn(&SimDisk)| {
        let lost = (0..50).filter(|seed| {
            let disk = disk(*seed, 1);
            lie(&disk);
            let file = disk.create(path("journal/b")).unwrap();
            file.write_all_at(0, &[2; 600]).unwrap();
            file.sync_data().unwrap();
            disk.sync_dir(path("journal")).unwrap();
            disk.crash().contents(path("journal/b")).ok() != Some(vec![2; 600])
        });
        lost.count()
    };
    assert_eq!(lost(&|_| {}), 0);
    assert!(lost(&|disk| disk.lie_on_sync_data(true)) > 10);
    assert!(lost(&|disk| disk.lie_on_sync_dir(true)) > 10);
}

#[test]
fn handles_and_locks_end_with_their_epoch() {
    let before = disk(1, 1);
    let file = before.open(path(FILE)).unwrap();
    let lock = before.lock(path("LOCK")).unwrap();
    assert_eq!(before.lock(path("LOCK")).err().unwrap().kind(), io::ErrorKind::WouldBlock);
    let after = before.restart();
    assert!(file.read_at(0, &mut [0]).is_err() && before.list(path("journal")).is_err());
    let newer = after.lock(path("LOCK")).unwrap();
    drop(lock);
    assert!(after.lock(path("LOCK")).is_err(), "an old guard does not free the new lock");
    drop(newer);
    after.lock(path("LOCK")).unwrap();
}

#[test]
fn fills_up_at_its_capacity_and_writes_what_fits() {
    let disk = disk(1, 1);
    disk.set_capacity_bytes(8 * SECTOR_BYTES as u64 + 10);
    assert_eq!(disk.available_bytes().unwrap(), 10);
    let file = disk.create(path("journal/b")).unwrap();
    assert_eq!(file.write_all_at(0, &[1; 11]).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!((file.len().unwrap(), disk.available_bytes().unwrap()), (10, 0));
    disk.open(path(FILE)).unwrap().write_all_at(0, &[3; 100]).unwrap();
}

#[test]
fn strikes_the_planned_call_and_no_other() {
    let disk = disk(1, 1);
    let file = disk.open(path(FILE)).unwrap();
    disk.fail_write_in(2);
    file.write_all_at(0, &[2; 10]).unwrap();
    assert!(file.write_all_at(0, &[2; 10]).is_err());
    file.write_all_at(0, &[2; 10]).unwrap();
    disk.fail_sync_dir_in(1);
    assert!(disk.sync_dir(path("journal")).is_err());
    disk.sync_dir(path("journal")).unwrap();
    let changes = disk.changes();
    disk.power_off_in(2);
    file.write_all_at(0, &[3; 10]).unwrap();
    assert!(file.sync_data().is_err());
    assert!(file.sync_data().is_err() && disk.list(path("journal")).is_err());
    assert_eq!(disk.changes(), changes + 2);
    assert!(disk.flip_bit(path(FILE), 9) && !disk.flip_bit(path(FILE), 8 * 8 * SECTOR_BYTES));
    let after = disk.crash();
    assert_eq!(after.contents(path(FILE)).unwrap().len(), 8 * SECTOR_BYTES);
    assert_eq!(disk.changes(), changes + 2);
}
