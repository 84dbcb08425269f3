use super::*;
use crate::journal::JournalError;

fn segment_path(first_seq: Seq) -> PathBuf {
    PathBuf::from(format!("journal/{:020}.log", first_seq.0))
}

#[test]
fn a_sidecar_that_is_damaged_anywhere_never_changes_an_answer() {
    let mut log = Log::new(11, Compression::None);
    log.grow(40);
    log.assert_lists(5);
    let path = log.sidecars()[1].clone();
    let whole = log.disk.contents(&path).unwrap();
    let queries: Vec<Query> = (0..5).map(|number| Query::everything(&format!("c-{number}"))).collect();
    let mut remade = 0;
    for byte in 0..whole.len() {
        log.disk.flip_bit(&path, byte * 8 + log.rng.usize(..8));
        // As a process that has checked it before, and as one that has not.
        if byte % 2 == 0 {
            log.evidence = open(&log.disk, &log.durable);
        }
        for query in &queries {
            assert_eq!(query.all(&log.evidence).unwrap(), log.expected(query), "byte {byte}");
        }
        for seq in log.sealed()[1].0..log.sealed()[2].0 {
            log.evidence.event(Seq(seq), &mut |event| assert_eq!(event.seq, Seq(seq))).unwrap();
        }
        remade += usize::from(log.disk.contents(&path).unwrap() == whole);
        log.disk.set_contents(&path, &whole);
    }
    assert!(remade * 10 > whole.len() * 4, "what was read was made anew: {remade} of {}", whole.len());
}

#[test]
fn a_sidecar_that_is_cut_short_empty_or_of_another_journal_is_made_anew() {
    let mut other = Log::new(12, Compression::None);
    other.grow(40);
    other.assert_lists(5);
    let mut log = Log::new(13, Compression::None);
    log.grow(40);
    log.assert_lists(5);
    let first = log.sidecars()[0].clone();
    assert_eq!(first, other.sidecars()[0], "named alike");
    let whole = log.disk.contents(&first).unwrap();
    for bytes in [&whole[..whole.len() - 1], &whole[..100], &[], &other.disk.contents(&first).unwrap()] {
        log.disk.set_contents(&first, bytes);
        log.evidence = open(&log.disk, &log.durable);
        for customer in ["c-0", "c-1", "c-2"] {
            let query = Query::everything(customer);
            assert_eq!(query.all(&log.evidence).unwrap(), log.expected(&query));
        }
        assert_eq!(log.disk.contents(&first).unwrap(), whole);
    }
}

#[test]
fn a_damaged_event_is_an_error_that_names_the_place_and_no_other_event_is_lost() {
    for (compression, reason) in [(Compression::None, "checksum is wrong"), (Compression::Lz4, "checksum is wrong")] {
        let mut log = Log::new(14, compression);
        log.grow(40);
        log.assert_lists(5);
        let sealed = log.sealed()[1];
        let bytes = log.disk.contents(&segment_path(sealed)).unwrap().len();
        // In the first frame's payload, behind the header of its first record.
        log.disk.flip_bit(&segment_path(sealed), (bytes / 2) * 8);
        let all = |log: &Log, customer: &str| Query::everything(customer).all(&log.evidence);
        let results: Vec<_> = (0..5).map(|number| all(&log, &format!("c-{number}"))).collect();
        let errors: Vec<String> =
            results.iter().filter_map(|result| Some(result.as_ref().err()?.to_string())).collect();
        let place = format!("the journal is corrupt: journal/{:020}.log at byte ", sealed.0);
        assert!(errors.iter().all(|error| error.starts_with(&place) && error.ends_with(reason)), "{errors:?}");
        let scan = log.evidence.scan(None, Seq::ZERO, Seq(u64::MAX), u64::MAX, &mut |_| ControlFlow::Continue(()));
        assert!(
            matches!(scan, Err(EvidenceError::Journal(JournalError::Corrupt { .. }))),
            "a scan checks whole frames"
        );
        for (number, result) in results.iter().enumerate().filter(|(_, result)| result.is_ok()) {
            let expected = log.expected(&Query::everything(&format!("c-{number}")));
            assert_eq!(result.as_ref().unwrap(), &expected);
        }
    }
}

#[test]
fn a_power_loss_while_sidecars_are_written_costs_nothing() {
    let mut struck = 0;
    for changes in 1..40 {
        let mut log = Log::new(15 + changes, Compression::None);
        log.grow(25);
        log.disk.power_off_in(changes);
        let failed = Query::everything("c-1").all(&log.evidence).is_err();
        struck += u64::from(failed);
        log.journal = None;
        log.disk = log.disk.crash();
        log.recover();
        log.assert_lists(6);
        assert!(log.disk.list(std::path::Path::new("journal")).unwrap().iter().all(|name| !name.ends_with(".tmp")));
    }
    assert!(struck > 5, "{struck}");
}
