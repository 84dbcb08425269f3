use super::*;

/// Three segments, as files and as frames. In the newest one, up to `witnessed` bytes are called durable by a header
/// that begins at `witness` (and by none behind it); what follows was written, and is at its place.
struct Sample {
    files: Vec<(PathBuf, Vec<u8>)>,
    frames: Vec<Frame>,
    witness: usize,
    witnessed: usize,
    end: usize,
}

const SEGMENT_BYTES: u64 = 512;

fn sample() -> Sample {
    let disk = SimDisk::new(1);
    let mut journal = create(&disk, options(SEGMENT_BYTES));
    let mut frames = Vec::new();
    for number in 0..7u8 {
        frames.push(append(&mut journal, 1 + u32::from(number), &[number; 80]));
        journal.sync().unwrap();
    }
    journal.append_watermark().unwrap();
    let witnessed = usize::try_from(journal.segments()[2].bytes).unwrap();
    frames.push(append(&mut journal, 5, b"the witness"));
    frames.push(append(&mut journal, 1, b"written by the same sync"));
    let witness = witnessed + 64 + 16;
    let segments = journal.segments();
    assert_eq!(segments.len(), 3);
    let files = segments.iter().map(|segment| segment_path(segment.first_seq.0));
    let files = files.map(|path| (path.clone(), disk.contents(&path).unwrap())).collect();
    Sample { files, frames, witness, witnessed, end: usize::try_from(segments[2].bytes).unwrap() }
}

impl Sample {
    fn disk(&self) -> SimDisk {
        let disk = SimDisk::new(1);
        for (path, bytes) in &self.files {
            disk.set_contents(path, bytes);
        }
        disk
    }

    fn name(&self, index: usize) -> String {
        self.files[index].0.to_str().unwrap().to_owned()
    }

    /// Recovers with one file changed.
    fn recover_with(
        &self,
        index: usize,
        bytes: &[u8],
        start: Start,
    ) -> Result<(Journal, Recovered, Vec<Frame>), JournalError> {
        let disk = self.disk();
        disk.set_contents(&self.files[index].0, bytes);
        recover(&disk, options(SEGMENT_BYTES), start)
    }
}

fn corrupt_file(error: &JournalError) -> &str {
    match error {
        JournalError::Corrupt { file, .. } | JournalError::MissingSegment { file, .. } => file,
        other => panic!("not named as damage: {other}"),
    }
}

#[test]
fn the_undamaged_sample_is_read_whole() {
    let sample = sample();
    let (_, recovered, frames) = recover(&sample.disk(), options(SEGMENT_BYTES), Start::default()).unwrap();
    assert_eq!((frames, recovered.cut), (sample.frames, None));
}

#[test]
fn refuses_every_bit_flip_in_a_sealed_segment_and_names_file_offset_and_seq() {
    let sample = sample();
    for index in 0..2 {
        let bytes = &sample.files[index].1;
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = sample.recover_with(index, &flipped, Start::default()).err().unwrap();
            let JournalError::Corrupt { file, offset, seq, .. } = error else { panic!("bit {bit}: {error}") };
            assert_eq!(file, sample.name(index));
            assert!(usize::try_from(offset).unwrap() <= bit / 8 && seq <= sample.frames[6].last_seq());
        }
    }
}

#[test]
fn refuses_every_bit_flip_below_the_watermark_and_reports_every_one_above_it() {
    let sample = sample();
    let bytes = &sample.files[2].1;
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let result = sample.recover_with(2, &flipped, Start::default());
        if bit / 8 < sample.witnessed {
            assert_eq!(corrupt_file(&result.err().unwrap()), sample.name(2), "bit {bit}");
            continue;
        }
        let (_, recovered, frames) = result.unwrap();
        let cut = recovered.cut.unwrap_or_else(|| panic!("bit {bit} was accepted in silence"));
        assert!(sample.frames.starts_with(&frames) && frames.len() >= 7);
        assert!(usize::try_from(cut.offset).unwrap() <= bit / 8);
        assert!(usize::try_from(cut.offset + cut.bytes).unwrap() > bit / 8 || bit / 8 < sample.end);
    }
}

#[test]
fn the_stores_position_is_a_watermark_too() {
    let sample = sample();
    let last = sample.frames.last().unwrap().last_seq();
    let bytes = &sample.files[2].1;
    for bit in 0..sample.end * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        for after in [0, last.0] {
            let start = Start { after: Seq(after), floor: last, store_id: None };
            let error = sample.recover_with(2, &flipped, start).err().unwrap();
            assert_eq!(corrupt_file(&error), sample.name(2), "bit {bit}");
        }
    }
    let beyond = Start { after: Seq(0), floor: last.next(), store_id: None };
    let error = recover(&sample.disk(), options(SEGMENT_BYTES), beyond).err().unwrap();
    assert!(matches!(error, JournalError::Corrupt { seq, .. } if seq == last.next()), "{error}");
}

#[test]
fn a_second_damage_does_not_hide_the_first_as_long_as_one_witness_is_left() {
    let sample = sample();
    let mut bytes = sample.files[2].1.clone();
    bytes[sample.witnessed + 64] ^= 1;
    bytes[80] ^= 1;
    assert!(sample.recover_with(2, &bytes, Start::default()).is_err(), "the last frame is a witness too");
    bytes[sample.witness + 10] ^= 1;
    assert!(sample.recover_with(2, &bytes, Start::default()).is_err(), "so is the first one's own header");
}

#[test]
fn refuses_every_truncation_of_a_sealed_segment() {
    let sample = sample();
    for index in 0..2 {
        for len in 0..sample.files[index].1.len() {
            let error = sample.recover_with(index, &sample.files[index].1[..len], Start::default()).err().unwrap();
            assert!(corrupt_file(&error).starts_with("journal/"));
        }
        let mut longer = sample.files[index].1.clone();
        longer.extend([0; 8]);
        assert!(sample.recover_with(index, &longer, Start::default()).is_err());
    }
}

#[test]
fn reads_every_truncation_of_the_newest_segment_as_far_as_whole_frames_go() {
    let sample = sample();
    let bytes = &sample.files[2].1;
    for len in 0..bytes.len() {
        let result = sample.recover_with(2, &bytes[..len], Start::default());
        if len < 64 {
            assert_eq!(corrupt_file(&result.err().unwrap()), sample.name(2));
            continue;
        }
        let (mut journal, recovered, mut frames) = result.unwrap();
        assert!(sample.frames.starts_with(&frames));
        assert_eq!(recovered.last, frames.last().unwrap().last_seq());
        frames.push(append(&mut journal, 1, b"goes on"));
        let last = journal.sync().unwrap();
        assert_eq!(last, frames.last().unwrap().last_seq());
    }
}

#[test]
fn refuses_a_sector_of_zeros_below_the_watermark() {
    let sample = sample();
    for start in (64..sample.witnessed).step_by(8) {
        let mut bytes = sample.files[2].1.clone();
        bytes[start..sample.witnessed].fill(0);
        assert_eq!(corrupt_file(&sample.recover_with(2, &bytes, Start::default()).err().unwrap()), sample.name(2));
    }
}

#[test]
fn refuses_segments_that_are_missing_or_in_the_wrong_order() {
    let sample = sample();
    for missing in [0, 1] {
        let disk = sample.disk();
        disk.remove(&sample.files[missing].0).unwrap();
        let error = recover_all(&disk).err().unwrap();
        assert!(matches!(error, JournalError::MissingSegment { .. }), "{error}");
    }
    let disk = sample.disk();
    disk.set_contents(&sample.files[0].0, &sample.files[1].1);
    disk.set_contents(&sample.files[1].0, &sample.files[0].1);
    assert!(matches!(recover_all(&disk), Err(JournalError::Corrupt { offset: 0, .. })));
    let disk = sample.disk();
    for (path, _) in &sample.files {
        disk.remove(path).unwrap();
    }
    assert!(matches!(recover_all(&disk), Err(JournalError::NoJournal)));
    assert!(matches!(recover_all(&SimDisk::new(1)), Err(JournalError::NoJournal)));
    assert!(!Journal::exists(&SimDisk::new(1)).unwrap() && !Journal::exists(&disk).unwrap());
}

#[test]
fn refuses_a_segment_of_another_store_or_of_another_past() {
    let sample = sample();
    let other = StoreId(7);
    let start = Start { store_id: Some(other), ..Start::default() };
    assert!(matches!(recover(&sample.disk(), options(512), start), Err(JournalError::WrongStore { .. })));

    for (store_id, payload) in [(other, 1), (STORE_ID, 99)] {
        let disk = SimDisk::new(1);
        let mut journal = Journal::create(Arc::new(disk.clone()), options(SEGMENT_BYTES), store_id, Seq(1)).unwrap();
        for frame in &sample.frames[..4] {
            append(&mut journal, frame.count, &[payload; 80]);
        }
        let first_seq = journal.segments()[1].first_seq;
        assert_eq!(segment_path(first_seq.0), sample.files[1].0);
        let bytes = disk.contents(&sample.files[1].0).unwrap();
        let error = sample.recover_with(1, &bytes, Start::default()).err().unwrap();
        match error {
            JournalError::WrongStore { .. } => assert_eq!(store_id, other),
            JournalError::Corrupt { offset: 0, .. } => assert_eq!(store_id, STORE_ID),
            error => panic!("{error}"),
        }
    }
}

#[test]
fn a_torn_frame_is_cut_to_zeros_and_never_comes_back() {
    let sample = sample();
    let mut bytes = sample.files[2].1.clone();
    bytes[sample.witnessed + 70] ^= 1;
    let disk = sample.disk();
    disk.set_contents(&sample.files[2].0, &bytes);
    let (mut journal, recovered, frames) = recover_all(&disk).unwrap();
    let cut = recovered.cut.unwrap();
    assert_eq!((cut.file.as_str(), cut.offset), (sample.name(2).as_str(), sample.witnessed as u64));
    assert!((sample.end - 8..=sample.end).contains(&usize::try_from(cut.offset + cut.bytes).unwrap()));
    assert_eq!(frames, sample.frames[..7]);
    // As long as the frame that was cut, so that the stale one behind it would be in reach.
    let new = append(&mut journal, 5, b"THE WITNESS");
    journal.sync().unwrap();
    drop(journal);
    let (_, recovered, frames) = recover_all(&disk).unwrap();
    assert_eq!((recovered.cut, &frames[7..]), (None, &[new][..]));
}

#[test]
fn skips_segments_below_the_start_and_visits_whole_frames_after_it() {
    let sample = sample();
    let disk = sample.disk();
    disk.remove(&sample.files[0].0).unwrap();
    for known in 0..=sample.frames.last().unwrap().last_seq().0 {
        let result = recover(&disk, options(SEGMENT_BYTES), after(known));
        if known < sample.frames[2].last_seq().0 {
            assert!(matches!(result, Err(JournalError::MissingSegment { .. })));
            continue;
        }
        let (journal, recovered, frames) = result.unwrap();
        let expected: Vec<Frame> = sample.frames.iter().filter(|frame| frame.last_seq().0 > known).cloned().collect();
        assert_eq!((recovered.frames, &frames), (expected.len() as u64, &expected));
        assert_eq!((journal.segments().len(), recovered.last), (2, sample.frames.last().unwrap().last_seq()));
    }
}

#[test]
fn reading_for_verify_changes_nothing_and_a_visitors_error_ends_it() {
    let sample = sample();
    let mut bytes = sample.files[2].1.clone();
    bytes[sample.witnessed + 70] ^= 1;
    let disk = sample.disk();
    disk.set_contents(&sample.files[2].0, &bytes);
    let changes = disk.changes();
    let read = crate::journal::read(&disk, Start::default(), &mut |_| -> Result<(), Infallible> { Ok(()) }).unwrap();
    assert_eq!((read.frames, read.cut.is_some(), disk.changes()), (7, true, changes));
    assert_eq!(disk.contents(&sample.files[2].0).unwrap(), bytes);
    let result = crate::journal::read(&disk, Start::default(), &mut |view| {
        if view.first_seq.0 > 3 { Err("stop") } else { Ok(()) }
    });
    assert!(matches!(result, Err(ReplayError::Visit("stop"))));
}

#[test]
fn a_frame_of_another_past_does_not_follow_though_all_its_checksums_are_right() {
    let bytes_after = |payload: &[u8]| {
        let disk = SimDisk::new(1);
        let mut journal = create(&disk, options(4096));
        for payload in [payload, b"second", b"third"] {
            append(&mut journal, 1, payload);
            journal.sync().unwrap();
        }
        disk.contents(&segment_path(1)).unwrap()
    };
    let (ours, theirs) = (bytes_after(b"first"), bytes_after(b"FIRST"));
    let (second, third) = (64 + 72, 64 + 2 * 72);
    let recover_spliced = |range: std::ops::Range<usize>| {
        let disk = SimDisk::new(1);
        let mut bytes = ours.clone();
        bytes[range.clone()].copy_from_slice(&theirs[range]);
        disk.set_contents(&segment_path(1), &bytes);
        recover_all(&disk)
    };
    let error = recover_spliced(second..third).err().unwrap();
    assert!(matches!(error, JournalError::Corrupt { offset: 136, seq: Seq(2), .. }), "{error}");
    let (_, recovered, frames) = recover_spliced(third..third + 72).unwrap();
    assert_eq!((frames.len(), recovered.cut.unwrap().offset), (2, 208));
}

#[test]
fn reading_for_verify_follows_what_a_daemon_appends_meanwhile() {
    let disk = SimDisk::new(1);
    let mut journal = create(&disk, options(4 << 20));
    append(&mut journal, 1, b"first");
    journal.sync().unwrap();
    let mut visited = Vec::new();
    let result = crate::journal::read(&disk, Start::default(), &mut |view| -> Result<(), Infallible> {
        visited.push(view.first_seq.0);
        if view.first_seq == Seq(1) {
            // Longer than the reader's window, so that it sees the next frame but not this one.
            append(&mut journal, 1, &vec![7; 3 << 19]);
            journal.sync().unwrap();
            append(&mut journal, 1, b"third");
        }
        Ok(())
    });
    assert_eq!((result.unwrap().last, visited), (Seq(3), vec![1, 2, 3]));
}
