use super::*;
use crate::delivery::testing;
use crate::env::SimDisk;
use crate::model::RowKind;

fn message(rows: u32) -> Message {
    testing::message(7, (0..rows).map(testing::row).collect())
}

const NAME: &str = "windows-msg_00000abc_1_7.ndjson";
const MANIFEST: &str = "windows-msg_00000abc_1_7.ndjson.manifest.json";

fn read(disk: &SimDisk, name: &str) -> String {
    String::from_utf8(disk.contents(Path::new(name)).unwrap()).unwrap()
}

/// Rule of the consumer: with the manifest there is the whole file.
fn check(disk: &SimDisk, files: &Files) {
    if let Ok(manifest) = disk.contents(Path::new(MANIFEST)) {
        assert_eq!(manifest, files.manifest);
        assert_eq!(disk.contents(Path::new(NAME)).unwrap(), files.rows);
    }
}

#[test]
fn a_delivery_is_one_file_and_a_manifest_that_tells_its_digest() {
    let disk = SimDisk::new(1);
    Files::of(Format::Ndjson, &message(2)).put(&disk).unwrap();
    assert_eq!(disk.list(Path::new(HERE)).unwrap(), [NAME, MANIFEST]);
    let rows = read(&disk, NAME);
    assert_eq!(rows.lines().count(), 2);
    assert!(rows.ends_with('\n'));
    let digest = hex::encode(&Sha256::digest(rows.as_bytes()));
    let expected = format!(
        "{{\"file\":\"{NAME}\",\"delivery\":\"msg_00000abc_1_7\",\"kind\":\"windows\",\"rows\":2,\"bytes\":{},\
         \"sha256\":\"{digest}\",\"first\":\"100.0\",\"last\":\"100.1\",\"planned_at\":\"2026-10-01T02:00:01Z\"}}\n",
        rows.len()
    );
    assert_eq!(read(&disk, MANIFEST), expected);
}

#[test]
fn a_csv_file_begins_with_its_header() {
    let disk = SimDisk::new(1);
    Files::of(Format::Csv, &message(2)).put(&disk).unwrap();
    let rows = read(&disk, "windows-msg_00000abc_1_7.csv");
    assert!(rows.starts_with(row::csv_header(RowKind::Windows)));
    assert_eq!(rows.matches("\r\n").count(), 3);
}

#[test]
fn alerts_have_files_of_their_own_with_columns_of_their_own_and_many_go_in_one() {
    let disk = SimDisk::new(1);
    let alerts = testing::message(7, vec![testing::alert(1), testing::alert(2)]);
    for format in Format::ALL {
        Files::of(format, &alerts).put(&disk).unwrap();
    }
    let lines = read(&disk, "alerts-msg_00000abc_1_7.ndjson");
    assert!(
        lines.lines().all(|line| line.starts_with("{\"type\":\"alert.triggered\",\"alert_id\":\"alert_")),
        "{lines}"
    );
    let records = read(&disk, "alerts-msg_00000abc_1_7.csv");
    assert!(records.starts_with(row::csv_header(RowKind::Alerts)));
    assert_eq!((lines.lines().count(), records.matches("\r\n").count()), (2, 3));
    let manifest = read(&disk, "alerts-msg_00000abc_1_7.csv.manifest.json");
    assert!(manifest.contains("\"kind\":\"alerts\",\"rows\":2,"), "{manifest}");
    assert!(manifest.contains("\"first\":\"201.0\",\"last\":\"202.0\""), "{manifest}");
}

#[test]
fn when_it_is_tried_does_not_change_a_byte() {
    let disk = SimDisk::new(1);
    let first = message(3);
    Files::of(Format::Ndjson, &first).put(&disk).unwrap();
    let before = (read(&disk, NAME), read(&disk, MANIFEST), disk.changes());
    Files::of(Format::Ndjson, &Message { now: testing::at("2027-01-01T00:00:00Z"), ..first }).put(&disk).unwrap();
    assert_eq!((read(&disk, NAME), read(&disk, MANIFEST)), (before.0, before.1));
    assert_eq!(disk.changes(), before.2 + 2, "both names are made durable once more, and nothing is written");
}

#[test]
fn after_a_power_loss_at_any_step_another_attempt_leaves_exactly_one_whole_file_and_its_manifest() {
    let files = Files::of(Format::Ndjson, &message(30));
    let steps = {
        let disk = SimDisk::new(0);
        files.put(&disk).unwrap();
        disk.changes()
    };
    assert!(steps >= 10, "{steps} steps: create, write, sync, rename, sync the directory, twice");
    for seed in 0..100 {
        for step in 1..=steps {
            let disk = SimDisk::new(seed);
            disk.power_off_in(step);
            assert!(files.put(&disk).is_err());
            let disk = disk.crash();
            check(&disk, &files);
            // The power goes in the second attempt as well, somewhere.
            disk.power_off_in(1 + seed % steps);
            let again = files.put(&disk);
            let disk = disk.crash();
            check(&disk, &files);
            if again.is_err() {
                files.put(&disk).unwrap();
            }
            let disk = disk.crash();
            assert_eq!(disk.list(Path::new(HERE)).unwrap(), [NAME, MANIFEST], "seed {seed}, step {step}");
            check(&disk, &files);
        }
    }
}

#[test]
fn what_succeeded_survives_a_power_loss() {
    let files = Files::of(Format::Ndjson, &message(30));
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        files.put(&disk).unwrap();
        let disk = disk.crash();
        assert_eq!(disk.list(Path::new(HERE)).unwrap(), [NAME, MANIFEST]);
        check(&disk, &files);
    }
}

#[test]
fn a_failed_call_is_an_error_and_another_attempt_mends_it() {
    let files = Files::of(Format::Ndjson, &message(30));
    type Fail = fn(&SimDisk, u64);
    let faults: [(&str, Fail, u64); 3] = [
        ("write", SimDisk::fail_write_in, 2),
        ("fdatasync", SimDisk::fail_sync_data_in, 2),
        ("fsync of the directory", SimDisk::fail_sync_dir_in, 2),
    ];
    for (name, fail, calls) in faults {
        for (seed, call) in (0..40).flat_map(|seed| (1..=calls).map(move |call| (seed, call))) {
            let disk = SimDisk::new(seed);
            fail(&disk, call);
            assert!(files.put(&disk).is_err(), "{name} {call}");
            files.put(&disk).unwrap();
            let disk = disk.crash();
            assert_eq!(disk.list(Path::new(HERE)).unwrap(), [NAME, MANIFEST], "{name} {call}, seed {seed}");
            check(&disk, &files);
        }
    }
}

#[test]
fn on_a_full_disk_it_names_the_file_and_leaves_nothing_behind() {
    let disk = SimDisk::new(1);
    disk.set_capacity_bytes(1_000);
    let files = Files::of(Format::Ndjson, &message(30));
    let (name, error) = files.put(&disk).unwrap_err();
    assert_eq!((name.as_str(), error.kind()), (NAME, io::ErrorKind::StorageFull));
    assert!(disk.list(Path::new(HERE)).unwrap().is_empty());
    disk.set_capacity_bytes(1 << 20);
    files.put(&disk).unwrap();
    check(&disk, &files);
}

#[test]
fn a_file_that_rotted_or_was_taken_away_is_written_again() {
    let files = Files::of(Format::Ndjson, &message(3));
    let disk = SimDisk::new(1);
    files.put(&disk).unwrap();
    assert!(disk.flip_bit(Path::new(NAME), 99));
    files.put(&disk).unwrap();
    check(&disk, &files);
    disk.remove(Path::new(NAME)).unwrap();
    files.put(&disk).unwrap();
    check(&disk, &files);
}
