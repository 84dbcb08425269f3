use super::*;
use crate::journal::{Followed, Follower, SegmentFile, segments, sidecar_paths};

/// What a follower yields next.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Frame(Frame, bool),
    /// Last seq and bytes.
    Sealed(Seq, u64),
    UpToDate,
}

fn next(follower: &mut Follower, durable: u64) -> Seen {
    match follower.next(Seq(durable)).unwrap() {
        Followed::Frame { frame, is_packed } => {
            let (first_seq, count) = (frame.first_seq, frame.count);
            Seen::Frame(Frame { first_seq, count, payload: frame.payload.to_vec() }, is_packed)
        }
        Followed::Sealed { segment, mark } => {
            assert!(mark.is_some());
            Seen::Sealed(segment.last_seq, segment.bytes)
        }
        Followed::UpToDate => Seen::UpToDate,
    }
}

fn follow(disk: &SimDisk, segment: u64) -> Follower {
    Follower::open(Arc::new(disk.clone()), STORE_ID, Seq(segment)).unwrap().unwrap()
}

#[test]
fn follows_a_writer_from_segment_to_segment_and_never_past_what_is_durable() {
    for (prepare, compression) in [(true, Compression::None), (false, Compression::None), (true, Compression::Lz4)] {
        let disk = SimDisk::new(1);
        let mut journal = create(&disk, Options { segment_bytes: 1_024, compression });
        let mut preparer = journal.preparer(0);
        let mut follower = follow(&disk, 1);
        assert_eq!(next(&mut follower, 0), Seen::UpToDate);
        let mut sealed = Vec::new();
        for number in 0..40_u8 {
            if prepare {
                preparer.prepare().unwrap();
            }
            let durable = journal.durable().0;
            let frame = append(&mut journal, 1 + u32::from(number % 3), &[number; 200]);
            assert_eq!(next(&mut follower, durable), Seen::UpToDate, "it is not durable yet");
            journal.sync().unwrap();
            if number % 4 == 0 {
                journal.append_watermark().unwrap();
            }
            let durable = journal.durable().0;
            let mut seen = next(&mut follower, durable);
            if let Seen::Sealed(last, bytes) = seen {
                sealed.push((last, bytes));
                seen = next(&mut follower, durable);
            }
            assert_eq!(seen, Seen::Frame(frame, compression == Compression::Lz4));
            assert_eq!(next(&mut follower, durable), Seen::UpToDate);
        }
        let mut all = journal.segments();
        all.pop();
        assert_eq!(sealed, all.iter().map(|segment| (segment.last_seq, segment.bytes)).collect::<Vec<_>>());
        assert!(sealed.len() >= 3);
    }
}

#[test]
fn damage_below_what_is_durable_is_corruption_and_names_the_place() {
    let disk = SimDisk::new(1);
    let mut journal = create(&disk, options(4_096));
    append(&mut journal, 1, b"good");
    append(&mut journal, 1, b"damaged");
    journal.sync().unwrap();
    disk.flip_bit(&segment_path(1), 8 * (64 + 72 + 66));
    let mut follower = follow(&disk, 1);
    assert!(matches!(next(&mut follower, 2), Seen::Frame(..)));
    let error = follower.next(Seq(2)).err().unwrap().to_string();
    let place = "the journal is corrupt: journal/00000000000000000001.log at byte 136, record 2";
    assert_eq!(error, format!("{place}: the payload's checksum is wrong"));
}

#[test]
fn segments_that_are_removed_meanwhile_are_passed_over_and_take_their_sidecars_along() {
    let disk = SimDisk::new(1);
    let mut journal = create(&disk, options(512));
    let mut follower = follow(&disk, 1);
    let frames: Vec<Frame> = (0..10).map(|_| append(&mut journal, 10, &[1; 100])).collect();
    journal.sync().unwrap();
    for segment in segments(&disk).unwrap() {
        disk.set_contents(&sidecar_paths(segment).0, b"index");
        disk.set_contents(&sidecar_paths(segment).1, b"index");
    }
    let sealed: Vec<Seq> = journal.segments().iter().map(|segment| segment.first_seq).collect();
    assert_eq!(next(&mut follower, 100), Seen::Frame(frames[0].clone(), false));
    journal.remove_below(Seq(1_000)).unwrap();
    assert_eq!(segments(&disk).unwrap(), sealed[4..]);
    assert!(disk.contents(&sidecar_paths(sealed[3]).0).is_err() && disk.contents(&sidecar_paths(sealed[4]).0).is_ok());
    assert_eq!(next(&mut follower, 100), Seen::Frame(frames[1].clone(), false), "a file that is open can be read");
    assert!(matches!(next(&mut follower, 100), Seen::Sealed(Seq(20), _)));
    assert_eq!(next(&mut follower, 100), Seen::Frame(frames[8].clone(), false));
    assert!(Follower::open(Arc::new(disk.clone()), STORE_ID, Seq(1)).unwrap().is_none());
    drop(journal);
    recover(&disk, options(512), after(80)).unwrap();
    let left: Vec<String> = names(&disk);
    assert_eq!(left, ["00000000000000000081.idx", "00000000000000000081.log"], "temporaries go, sidecars stay");
}

#[test]
fn frames_and_pieces_are_read_at_will() {
    let disk = SimDisk::new(1);
    let mut journal = create(&disk, options(4_096));
    append(&mut journal, 2, b"hello, journal");
    append(&mut journal, 1, b"more");
    journal.sync().unwrap();
    let file = SegmentFile::open(&disk, STORE_ID, Seq(1)).unwrap().unwrap();
    let first = file.frame(SegmentFile::frames_start()).unwrap();
    assert_eq!((first.first_seq, first.count, first.at.bytes), (Seq(1), 2, 80));
    let second = file.frame(first.at.offset + first.at.bytes).unwrap();
    let (mut stored, mut payload) = (Vec::new(), Vec::new());
    assert_eq!(file.payload(&second, &mut stored, &mut payload).unwrap(), b"more");
    let mut piece = [0; 7];
    file.piece(first.at.offset, 7, &mut piece).unwrap();
    assert_eq!(&piece, b"journal");
    assert!(matches!(file.frame(72), Err(JournalError::Corrupt { offset: 72, .. })));
    assert!(SegmentFile::open(&disk, STORE_ID, Seq(2)).unwrap().is_none());
    assert!(matches!(SegmentFile::open(&disk, StoreId(1), Seq(1)), Err(JournalError::WrongStore { .. })));
}
