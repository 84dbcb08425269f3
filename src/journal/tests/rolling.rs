use super::*;
use crate::env::OsDisk;

#[test]
fn rolls_into_a_prepared_segment_or_a_fresh_one_with_the_same_frames() {
    let run = |prepare: bool| {
        let disk = SimDisk::new(1);
        let mut journal = create(&disk, options(16_384));
        let mut preparer = journal.preparer(0);
        let mut lengths = Vec::new();
        for number in 0..20u8 {
            if prepare {
                preparer.prepare().unwrap();
                preparer.prepare().unwrap();
            }
            append(&mut journal, 1, &[number; 3_200]);
            let newest = *journal.segments().last().unwrap();
            lengths.push(disk.contents(&segment_path(newest.first_seq.0)).unwrap().len() as u64 - newest.bytes);
        }
        journal.sync().unwrap();
        let segments = journal.segments();
        assert!(names(&disk).iter().filter(|name| name.ends_with(".tmp")).count() <= 1);
        drop((journal, preparer));
        let (journal, recovered, frames) = recover(&disk, options(16_384), Start::default()).unwrap();
        assert_eq!((journal.segments(), recovered.cut), (segments.clone(), None));
        assert!(names(&disk).iter().all(|name| name.ends_with(".log")));
        (segments, frames, lengths)
    };
    let (prepared, fresh) = (run(true), run(false));
    assert_eq!((&prepared.0, &prepared.1), (&fresh.0, &fresh.1));
    assert_eq!((prepared.0.len(), prepared.1.len()), (4, 20));
    assert!(prepared.2[5..].iter().any(|ahead| *ahead > 8_192), "zeros written ahead");
    assert!(fresh.2[5..].iter().all(|ahead| *ahead < 4_096), "grows as it is written, by whole pages");
    for (segment, next) in prepared.0.iter().zip(&prepared.0[1..]) {
        assert_eq!((segment.last_seq.next(), segment.bytes <= 16_384), (next.first_seq, true));
    }
}

#[test]
fn a_frame_longer_than_a_segment_gets_one_of_its_own() {
    for prepare in [true, false] {
        let disk = SimDisk::new(1);
        let mut journal = create(&disk, options(512));
        let mut preparer = journal.preparer(0);
        let mut frames = Vec::new();
        for len in [10, 5000, 10, 3000, 3000, 512 - 128] {
            if prepare {
                preparer.prepare().unwrap();
            }
            frames.push(append(&mut journal, 2, &vec![7; len]));
        }
        journal.append_watermark().unwrap();
        let bytes: Vec<u64> = journal.segments().iter().map(|segment| segment.bytes).collect();
        assert_eq!(bytes, [144, 5128, 144, 3128, 3128, 512 + 64], "an empty frame goes past the limit");
        drop(journal);
        assert_eq!(recover_all(&disk).unwrap().2, frames);
    }
}

#[test]
fn removes_whole_segments_below_a_position_but_never_the_newest() {
    let disk = SimDisk::new(1);
    let mut journal = create(&disk, options(512));
    for _ in 0..10 {
        append(&mut journal, 10, &[1; 100]);
    }
    journal.sync().unwrap();
    let segments = journal.segments();
    assert_eq!(segments.len(), 5);
    assert_eq!(journal.remove_below(Seq(segments[1].last_seq.0 - 1)).unwrap(), segments[0].bytes);
    assert_eq!(journal.segments(), segments[1..]);
    assert_eq!(
        journal.remove_below(Seq(1000)).unwrap(),
        segments[1..4].iter().map(|segment| segment.bytes).sum::<u64>()
    );
    assert_eq!(journal.segments(), segments[4..]);
    assert_eq!(names(&disk).len(), 1);
    let (journal, ..) = recover(&disk, options(512), after(segments[3].last_seq.0)).unwrap();
    assert_eq!(journal.last(), Seq(100));
}

#[test]
fn a_watermark_frame_is_written_once_and_takes_no_seq() {
    let disk = SimDisk::new(1);
    let mut journal = create(&disk, options(4096));
    journal.append_watermark().unwrap();
    assert_eq!(journal.segments()[0].bytes, 64, "the segment header says the same");
    append(&mut journal, 3, b"x");
    assert_eq!((journal.last(), journal.durable()), (Seq(3), Seq(0)));
    journal.append_watermark().unwrap();
    journal.append_watermark().unwrap();
    assert_eq!((journal.last(), journal.durable(), journal.segments()[0].bytes), (Seq(3), Seq(3), 64 + 72 + 64));
    drop(journal);
    let (mut journal, recovered, frames) = recover_all(&disk).unwrap();
    assert_eq!((recovered.frames, frames.len()), (1, 1));
    journal.append_watermark().unwrap();
    assert_eq!(journal.segments()[0].bytes, 64 + 72 + 64);
}

#[test]
fn a_failed_write_sync_or_directory_sync_poisons_and_nothing_is_tried_again() {
    type Plan = fn(&SimDisk);
    let plans: [(Plan, bool); 4] = [
        (|disk| disk.fail_write_in(1), false),
        (|disk| disk.fail_sync_data_in(1), false),
        (|disk| disk.fail_sync_dir_in(1), true),
        (|disk| disk.set_capacity_bytes(1024), true),
    ];
    for (plan, needs_roll) in plans {
        let disk = SimDisk::new(1);
        let mut journal = create(&disk, options(1024));
        append(&mut journal, 1, b"good");
        journal.sync().unwrap();
        plan(&disk);
        let payload = vec![1; if needs_roll { 1000 } else { 10 }];
        let failed = journal.append(Seq(2), 1, &payload).map(drop).and_then(|()| journal.sync().map(drop));
        assert!(matches!(failed, Err(JournalError::Io { .. })));
        let changes = disk.changes();
        assert!(matches!(journal.append(Seq(2), 1, b""), Err(JournalError::Poisoned)));
        assert!(matches!(journal.sync(), Err(JournalError::Poisoned)));
        assert!(matches!(journal.append_watermark(), Err(JournalError::Poisoned)));
        assert!(matches!(journal.remove_below(Seq(1)), Err(JournalError::Poisoned)));
        assert_eq!((disk.changes(), journal.durable()), (changes, Seq(1)));
        drop(journal);
        let (_, recovered, frames) = recover_all(&disk.restart()).unwrap();
        assert!(frames[0].payload == b"good" && recovered.last <= Seq(2));
    }
}

#[test]
fn the_callers_mistakes_write_nothing_and_do_not_poison() {
    let disk = SimDisk::new(1);
    let mut journal = create(&disk, options(1024));
    let changes = disk.changes();
    assert!(matches!(journal.append(Seq(2), 1, b""), Err(JournalError::OutOfOrder { .. })));
    assert!(matches!(journal.append(Seq(1), 0, b""), Err(JournalError::OutOfOrder { .. })));
    let long = vec![0; crate::journal::PAYLOAD_BYTES_MAX + 1];
    assert!(matches!(journal.append(Seq(1), 1, &long), Err(JournalError::PayloadTooLarge { .. })));
    assert_eq!(disk.changes(), changes);
    append(&mut journal, 1, &long[1..]);
    journal.sync().unwrap();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    assert!(matches!(Journal::create(shared, options(1024), STORE_ID, Seq(1)), Err(JournalError::Exists)));
    assert!(Journal::create(Arc::new(SimDisk::new(1)), options(1024), STORE_ID, Seq(0)).is_err());
}

#[test]
fn a_full_disk_stops_the_preparer_and_not_the_journal() {
    let disk = SimDisk::new(1);
    let mut journal = create(&disk, options(1024));
    disk.set_capacity_bytes(1800);
    let mut preparer = journal.preparer(0);
    preparer.prepare().unwrap();
    assert_eq!(names(&disk), ["00000000000000000001.log"], "no room, no segment");
    disk.set_capacity_bytes(1 << 20);
    journal.preparer(1 << 20).prepare().unwrap();
    assert_eq!(names(&disk), ["00000000000000000001.log"], "what is reserved stays free");
    disk.fail_sync_data_in(1);
    assert!(matches!(preparer.prepare(), Err(JournalError::Io { .. })));
    assert_eq!(names(&disk), ["00000000000000000001.log"], "the half-made file is gone");
    for _ in 0..8 {
        append(&mut journal, 1, &[1; 300]);
    }
    journal.sync().unwrap();
}

#[test]
fn compresses_and_reads_frames_of_either_kind() {
    let disk = SimDisk::new(1);
    let lz4 = Options { segment_bytes: 4096, compression: Compression::Lz4 };
    let mut journal = create(&disk, lz4);
    let mut frames = vec![append(&mut journal, 1, &[5; 100_000]), append(&mut journal, 1, b"short")];
    journal.sync().unwrap();
    assert!(journal.segments()[0].bytes < 1000);
    drop(journal);
    let (mut journal, ..) = recover_all(&disk).unwrap();
    frames.push(append(&mut journal, 1, &[6; 1000]));
    journal.sync().unwrap();
    drop(journal);
    assert_eq!(recover(&disk, lz4, Start::default()).unwrap().2, frames);
}

#[test]
fn a_preparer_on_its_own_thread_works_beside_the_appends_and_ends_with_the_journal() {
    let directory = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::create(directory.path().join("data")).unwrap());
    let options = options(256 << 10);
    let mut journal = Journal::create(Arc::clone(&disk), options, STORE_ID, Seq(1)).unwrap();
    let preparer = journal.preparer(0);
    let thread = std::thread::Builder::new().spawn(move || preparer.run(&mut |error| panic!("{error}"))).unwrap();
    for number in 0..100u8 {
        append(&mut journal, 1, &vec![number; 50_000]);
        journal.sync().unwrap();
    }
    let segments = journal.segments();
    drop(journal);
    thread.join().unwrap();
    let mut numbers = Vec::new();
    let result = Journal::recover(disk, options, Start::default(), &mut |view| -> Result<(), Infallible> {
        numbers.push(view.payload[0]);
        Ok(())
    });
    let (journal, recovered) = result.unwrap();
    assert!(numbers.into_iter().eq(0..100));
    assert_eq!((recovered.last, journal.segments()), (Seq(100), segments));
}
